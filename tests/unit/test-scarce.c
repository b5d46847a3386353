/* SPDX-License-Identifier: MIT */

/* Decoders, escape functions and writers while memory is short: the n-th allocation of each fails, for every n, what jansson and
 * printf() allocate too. Each says so, leaves its outputs alone and keeps nothing; a sanitizer sees the latter. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/escape.h"
#include "common/varlink.h"
#include "config/config.h"
#include "tests/support/failing.h"

/* What failing.h does not reach; the second of each is what a build with FORTIFY calls. */
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
int __real_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap___vasprintf_chk(char **ret, int flag, const char *format, va_list arguments);
int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...);

char *__wrap_strdup(const char *text)
{
	return failing_now() ? NULL : __real_strdup(text);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
int __wrap_vasprintf(char **ret, const char *format, va_list arguments)
{
	return failing_now() ? -1 : __real_vasprintf(ret, format, arguments);
}

int __wrap___vasprintf_chk(char **ret, int flag _unused_, const char *format, va_list arguments)
{
	return __wrap_vasprintf(ret, format, arguments);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = __wrap_vasprintf(ret, format, arguments);
	va_end(arguments);
	return n;
}

int __wrap___asprintf_chk(char **ret, int flag _unused_, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = __wrap_vasprintf(ret, format, arguments);
	va_end(arguments);
	return n;
}
#pragma GCC diagnostic pop

/* A piece of work: 0, or -ENOMEM with nothing done. */
typedef int work_fn(void);

static int of_text(char *text)
{
	bool there = text != NULL;

	free(text);
	return there ? 0 : -ENOMEM;
}

static const char HOSTILE[] = "ev\x1b[31mil\x7f\xc2\x9b,\"<&'\xff=\xe2\x80\xae \\";

static int work_store(void)
{
	return of_text(escape_store(HOSTILE, sizeof(HOSTILE), 200));
}

static int work_restore(void)
{
	size_t size;

	return of_text(escape_restore("a\\x1bb\\\\", &size));
}

static int work_terminal(void)
{
	return of_text(escape_terminal(HOSTILE));
}

static int work_csv(void)
{
	return of_text(escape_csv(HOSTILE));
}

static int work_html(void)
{
	return of_text(escape_html(HOSTILE));
}

static int work_json(void)
{
	_cleanup_(buf_done) struct buf b = {0};

	return escape_json(&b, HOSTILE);
}

static const char CALL[] =
	"{\"method\":\"org.portledger.ledger.Claims\",\"parameters\":"
	"{\"filter\":{\"ports\":[60530,1],\"app\":\"x\"},\"newest\":10},\"more\":true}";

static int work_call(void)
{
	struct varlink_call call = {0};
	int r = varlink_parse_call(CALL, sizeof(CALL) - 1, &call);

	/* whole, or not at all */
	assert_true(r == 0 || (!call.method && !call.parameters));
	if (r == 0) {
		const json_t *filter = json_object_get(call.parameters, "filter");

		assert_string_equal(call.method, "org.portledger.ledger.Claims");
		assert_true(call.more && json_object_size(call.parameters) == 2);
		assert_int_equal(
			json_integer_value(json_object_get(call.parameters, "newest")), 10);
		assert_int_equal(json_array_size(json_object_get(filter, "ports")), 2);
		assert_string_equal(json_string_value(json_object_get(filter, "app")), "x");
	}
	varlink_call_done(&call);
	return r;
}

static int work_reply(void)
{
	static const char text[] =
		"{\"parameters\":{\"rows\":[{\"a\":[1.5,null,true]}]},\"continues\":true}";
	struct varlink_reply reply = {0};
	int r = varlink_parse_reply(text, sizeof(text) - 1, &reply);

	assert_true(r == 0 || !reply.parameters);
	varlink_reply_done(&reply);
	return r;
}

static int work_error(void)
{
	static const char text[] =
		"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"x\"}}";
	struct varlink_reply reply = {0};
	int r = varlink_parse_reply(text, sizeof(text) - 1, &reply);

	assert_true(r == 0 || (!reply.parameters && !reply.error));
	varlink_reply_done(&reply);
	return r;
}

static int work_split(void)
{
	const char *member;
	char *interface;
	int r = varlink_split("org.portledger.ledger.Claims", &interface, &member);

	if (r == 0)
		free(interface);
	return r;
}

/* Whole or not at all: half a frame would be the beginning of the next. */
static int whole(const struct buf *b, int r)
{
	assert_true(r == 0 || buf_size(b) == 0);
	return r;
}

static int work_put_reply(void)
{
	_cleanup_(buf_done) struct buf b = {0};

	return whole(&b, varlink_put_reply(&b, "{\"a\":1}", true));
}

static int work_put_error(void)
{
	_cleanup_(buf_done) struct buf b = {0};

	return whole(&b, varlink_put_error(&b, "a.b", "{\"a\":1}"));
}

static int work_put_call(void)
{
	_cleanup_(buf_done) struct buf b = {0};
	json_t *parameters = json_pack("{s:[i,s],s:{s:b}}", "a", 1, "text", "b", "c", 1);
	static const char wanted[] = "{\"method\":\"a.b\",\"parameters\":"
				     "{\"a\":[1,\"text\"],\"b\":{\"c\":true}},\"more\":true}";
	int r = parameters ? varlink_put_call(&b, "a.b", parameters, "more") : -ENOMEM;

	if (r == 0)
		assert_string_equal((const char *)buf_bytes(&b), wanted);
	json_decref(parameters);
	return whole(&b, r);
}

static int load(const char *text)
{
	struct config config = {0};
	char *error = NULL;
	int r = config_parse("name", text, strlen(text), &config, &error);

	if (r == 0)
		r = of_text(config_format(&config));
	for (int id = 0; id < SETTING_COUNT && r == 0; id++)
		r = of_text(config_origin_format(&config, (enum setting_id)id));
	assert_true(r != -ENOMEM || !error);
	free(error);
	config_done(&config);
	return r;
}

static int work_config(void)
{
	return load("[Capture]\nInterval=250ms\nRanges=iana 1000-2000\n[Store]\nMaxAge=10d\n");
}

/* What is wrong with it is said, or that there is no memory to say it. */
static int work_wrong_config(void)
{
	int r = load("[Capture]\nInterval=soon\n");

	return r == -EINVAL ? 0 : r;
}

static work_fn *const works[] = {
	work_store,
	work_restore,
	work_terminal,
	work_csv,
	work_html,
	work_json,
	work_call,
	work_reply,
	work_error,
	work_split,
	work_put_reply,
	work_put_error,
	work_put_call,
	work_config,
	work_wrong_config,
};

static void test_each_allocation_fails_once(void **state)
{
	unsigned all = 0;

	(void)state;
	json_set_alloc_funcs(malloc, free); /* whose malloc() is the one that fails */
	for (size_t i = 0; i < ELEMENTSOF(works); i++) {
		unsigned n = 0;

		do {
			int r;

			failing_hits = 0;
			failing_in = n++;
			r = works[i]();
			failing_in = UINT_MAX;
			if (r != (failing_hits > 0 ? -ENOMEM : 0))
				fail_msg("work %zu, allocation %u: %d", i, n, r);
			all += failing_hits;
		} while (failing_hits > 0);
		assert_true(n > 1); /* one at least was to fail */
	}
	assert_true(all > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation_fails_once)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
