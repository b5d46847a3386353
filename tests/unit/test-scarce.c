/* SPDX-License-Identifier: MIT */

/* Decoders, escape functions and writers while memory is short: the n-th allocation of each fails, for every n, what jansson and
 * printf() allocate too. Each says so, leaves its outputs alone and keeps nothing; a sanitizer sees the latter. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/escape.h"
#include "common/varlink.h"
#include "config/config.h"
#include "tests/support/failing_text.h"
#include "tests/support/failing_works.h"

static bool no_line;

int __real_ini_parse_stream(ini_reader reader, void *stream, ini_handler handler, void *user);
int __wrap_ini_parse_stream(ini_reader reader, void *stream, ini_handler handler, void *user);

int __wrap_ini_parse_stream(ini_reader reader, void *stream, ini_handler handler, void *user)
{
	return no_line ? -2 : __real_ini_parse_stream(reader, stream, handler, user);
}

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

/* What is left out of a message is there, and empty. */
static int work_bare(void)
{
	struct varlink_call call = {0};
	struct varlink_reply reply = {0};
	int r = varlink_parse_call("{\"method\":\"a.b\"}", 16, &call);

	if (r == 0)
		r = varlink_parse_reply("{}", 2, &reply);
	if (r == 0)
		assert_true(json_object_size(call.parameters) == 0 &&
			    json_object_size(reply.parameters) == 0);
	varlink_call_done(&call);
	varlink_reply_done(&reply);
	return r;
}

static int work_null(void)
{
	static const char text[] = "{\"method\":\"a.b\",\"parameters\":null}";
	struct varlink_call call = {0};
	int r = varlink_parse_call(text, sizeof(text) - 1, &call);

	varlink_call_done(&call);
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

static int work_large_config(void)
{
	struct config config = {0};
	char *error = NULL;
	int r = config_parse("name", NULL, LIMIT_CONFIG_BYTES + 1, &config, &error);

	assert_true(r == -EFBIG ? error != NULL : !error);
	free(error);
	return r == -EFBIG ? 0 : r;
}

/* Where the files are. */
static char place[] = "/tmp/portledger-scarce.XXXXXX";

static int work_load(void)
{
	struct config config = {0};
	char *error = NULL, path[64];
	int r;

	(void)snprintf(path, sizeof(path), "%s/main.conf", place);
	r = config_load(path, true, &config, &error);
	assert_null(error);
	if (r == 0)
		assert_int_equal(config.interval_usec, 2 * USEC_PER_SEC);
	assert_int_equal(config.file_count, r == 0 ? 2 : 0);
	config_done(&config);
	return r;
}

/* inih's own memory: it is compiled with its buffer on the stack, or not. */
static int work_no_line(void)
{
	struct config config = {0};
	char *error = NULL;
	int r;

	no_line = failing_now();
	failing_in = UINT_MAX;
	r = config_parse("name", "", 0, &config, &error);
	assert_null(error);
	config_done(&config);
	return r;
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
	work_large_config,
	work_load,
	work_no_line,
	work_bare,
	work_null,
};

static void test_each_allocation_fails_once(void **state)
{
	unsigned all = 0;

	(void)state;
	json_set_alloc_funcs(malloc, free); /* whose malloc() is the one that fails */
	for (size_t i = 0; i < ELEMENTSOF(works); i++)
		all += fail_each(works, i);
	assert_true(all > 100);
}

static void place_path(char path[static 64], const char *name)
{
	assert_true(snprintf(path, 64, "%s/%s", place, name) < 64);
}

static void place_write(const char *name, const char *text)
{
	_cleanup_(close_p) int fd = -1;
	char path[64];

	place_path(path, name);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int setup(void **state)
{
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(place));
	place_path(path, "main.conf.d");
	assert_int_equal(mkdir(path, 0700), 0);
	place_write("main.conf", "[Capture]\nInterval=1s\n");
	place_write("main.conf.d/a.conf", "[Capture]\nInterval=2s\n");
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"main.conf.d/a.conf", "main.conf.d", "main.conf", ""};
	char path[64];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		place_path(path, names[i]);
		assert_int_equal(remove(path), 0);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_allocation_fails_once, setup, teardown)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
