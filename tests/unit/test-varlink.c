/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "common/limits.h"
#include "common/varlink.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

struct frame_case {
	const char *bytes;
	size_t size;
	size_t max;
	int outcome;
	size_t message; /* bytes of the message; where there is an outcome */
};

static const struct frame_case frame_cases[] = {
	{BYTES(""), 4, 0, 0},
	{BYTES("abc"), 4, 0, 0},
	{BYTES("abc\0"), 4, 1, 3},
	{BYTES("\0abc"), 4, 1, 0},
	{BYTES("a\0b\0"), 4, 1, 1},
	/* at the limit, and one past it; found or not must not depend on how the bytes came */
	{BYTES("abcd"), 4, 0, 0},
	{BYTES("abcd\0"), 4, 1, 4},
	{BYTES("abcd\0\0\0\0\0"), 4, 1, 4},
	{BYTES("abcde"), 4, -EMSGSIZE, 0},
	{BYTES("abcde\0"), 4, -EMSGSIZE, 0},
	{BYTES("abcdefgh\0"), 4, -EMSGSIZE, 0},
};

static void test_frame(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(frame_cases); i++) {
		const struct frame_case *c = &frame_cases[i];
		_cleanup_(buf_done) struct buf b = {0};
		size_t size = 77;

		assert_int_equal(buf_append(&b, c->bytes, c->size), 0);
		assert_int_equal(varlink_frame(&b, c->max, &size), c->outcome);
		assert_int_equal(size, c->outcome < 0 ? 77 : c->message);
	}
}

/* Three messages that come byte by byte are the same three messages. */
static void test_frame_by_bytes(void **state)
{
	static const char stream[] = "one\0\0three";
	static const char *const expected[] = {"one", "", "three"};
	_cleanup_(buf_done) struct buf b = {0};
	size_t found = 0, size;

	(void)state;
	for (size_t i = 0; i < sizeof(stream); i++) {
		assert_int_equal(buf_put_u8(&b, (uint8_t)stream[i]), 0);
		if (varlink_frame(&b, 5, &size) == 0)
			continue;
		assert_string_equal((const char *)buf_bytes(&b), expected[found++]);
		buf_consume(&b, size + 1);
	}
	assert_int_equal(found, 3);
	assert_int_equal(buf_size(&b), 0);
}

/* A copy without a NUL behind it: a sanitizer sees whoever reads on. */
static char *bare_copy(const char *text, size_t size)
{
	char *copy = malloc(size > 0 ? size : 1);

	assert_non_null(copy);
	memcpy(copy, text, size);
	return copy;
}

struct json_case {
	const char *text;
	size_t size;
	unsigned depth;
	bool good;
};

static const struct json_case json_cases[] = {
	{BYTES("{}"), 1, true},
	{BYTES(" {\"a\" : [ 1, 2.5, \"x\", null, true ] }\n"), 2, true},
	{BYTES("{}"), 0, false},
	{BYTES("{\"a\":{}}"), 1, false},
	{BYTES("{\"a\":[[]]}"), 3, true},
	{BYTES("{\"a\":[[]]}"), 2, false},
	/* depth is depth, not the number of brackets */
	{BYTES("{\"a\":[],\"b\":[],\"c\":{}}"), 2, true},
	/* brackets in strings are text, also behind an escaped quote or backslash */
	{BYTES("{\"[[[[\":\"{{{[\\\"[[[\"}"), 1, true},
	{BYTES("{\"a\":\"\\\\\",\"b\":[[]]}"), 2, false},
	{BYTES("{\"a\":\"\\\\\",\"b\":[[]]}"), 3, true},
	{BYTES(""), 32, false},
	{BYTES(" "), 32, false},
	{BYTES("[]"), 32, false},
	{BYTES("null"), 32, false},
	{BYTES("\"a\""), 32, false},
	{BYTES("{"), 32, false},
	{BYTES("{}}"), 32, false},
	{BYTES("{} {}"), 32, false},
	{BYTES("{}\0"), 32, false},
	{BYTES("{\"a\":1,}"), 32, false},
	{BYTES("{'a':1}"), 32, false},
	{BYTES("{a:1}"), 32, false},
	{BYTES("{\"a\":1,\"a\":1}"), 32, false},
	{BYTES("{\"a\":{\"b\":1,\"b\":2}}"), 32, false},
	{BYTES("{\"a\":1,\"\\u0061\":2}"), 32, false},
	{BYTES("{\"a\":\"\\u0000\"}"), 32, false},
	{BYTES("{\"a\\u0000\":1}"), 32, false},
	{BYTES("{\"a\":\"\0\"}"), 32, false},
	{BYTES("{\"a\":\"\n\"}"), 32, false},
	{BYTES("{\"a\":\"\xff\"}"), 32, false},
	{BYTES("{\"a\":\"\xc0\xaf\"}"), 32, false},
	{BYTES("{\"a\":\"\xed\xa0\x80\"}"), 32, false},
	{BYTES("{\"a\":\"\\ud800\"}"), 32, false},
	{BYTES("{\"a\":\"\\udc00\\ud800\"}"), 32, false},
	{BYTES("{\"a\":\"\\ud83d\\ude00\"}"), 32, true},
	{BYTES("\xef\xbb\xbf{}"), 32, false},
	{BYTES("{\"a\":9223372036854775807}"), 32, true},
	{BYTES("{\"a\":9223372036854775808}"), 32, false},
	{BYTES("{\"a\":-9223372036854775808}"), 32, true},
	{BYTES("{\"a\":1e400}"), 32, false},
	{BYTES("{\"a\":01}"), 32, false},
	{BYTES("{\"a\":NaN}"), 32, false},
	{BYTES("{\"a\":/**/1}"), 32, false},
};

static void test_json(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(json_cases); i++) {
		const struct json_case *c = &json_cases[i];
		_cleanup_(free_p) char *text = bare_copy(c->text, c->size);
		_cleanup_(json_decrefp) json_t *json = NULL;
		int r = json_parse(text, c->size, c->depth, &json);

		if (r != (c->good ? 0 : -EBADMSG))
			fail_msg("'%s': %d", c->text, r);
		assert_int_equal(json_is_object(json), c->good);
	}
}

/* A hundred thousand brackets must not become as many stack frames. */
/* Objects, one in the other: JSON that is right but for its depth. */
static int parse_nested(size_t depth, json_t **ret)
{
	static const char opening[] = "{\"a\":";
	_cleanup_(buf_done) struct buf text = {0};

	for (size_t i = 0; i < depth; i++)
		assert_int_equal(buf_append_string(&text, opening), 0);
	assert_int_equal(buf_append_string(&text, "1"), 0);
	for (size_t i = 0; i < depth; i++)
		assert_int_equal(buf_append_string(&text, "}"), 0);
	return json_parse((const char *)buf_bytes(&text), buf_size(&text), LIMIT_JSON_DEPTH, ret);
}

static void test_json_deep(void **state)
{
	static const size_t too_deep[] = {LIMIT_JSON_DEPTH + 1, 1000, 100000};
	json_t *json = NULL;

	(void)state;
	assert_int_equal(parse_nested(LIMIT_JSON_DEPTH, &json), 0);
	json_decref(json);
	json = NULL;
	for (size_t i = 0; i < ELEMENTSOF(too_deep); i++) {
		assert_int_equal(parse_nested(too_deep[i], &json), -EBADMSG);
		assert_null(json);
	}
}

struct call_case {
	const char *text;
	const char *method; /* NULL: the connection must be closed */
	const char *parameters;
	const char *flag;
};

static const struct call_case call_cases[] = {
	{"{\"method\":\"a.b.C\"}", "a.b.C", "{}", NULL},
	{"{\"method\":\"a.b.C\",\"parameters\":null}", "a.b.C", "{}", NULL},
	{"{\"method\":\"a.b.C\",\"parameters\":{}}", "a.b.C", "{}", NULL},
	{"{\"parameters\":{\"x\":[1]},\"method\":\"a.b.C\"}", "a.b.C", "{\"x\":[1]}", NULL},
	{"{\"method\":\"a.b.C\",\"more\":true}", "a.b.C", "{}", "more"},
	{"{\"method\":\"a.b.C\",\"oneway\":true}", "a.b.C", "{}", "oneway"},
	{"{\"method\":\"a.b.C\",\"upgrade\":true}", "a.b.C", "{}", "upgrade"},
	{"{\"method\":\"a.b.C\",\"more\":false,\"oneway\":false,\"upgrade\":true}", "a.b.C", "{}",
		"upgrade"},
	/* vendors' members, which nobody here knows */
	{"{\"method\":\"a.b.C\",\"org.example\":{\"more\":1}}", "a.b.C", "{}", NULL},
	{"{\"method\":\"a.b.C\",\"org.example\":1}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"org.example\":null}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"example\":{}}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"X-example\":{}}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"More\":true}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"continues\":true}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"\":{}}", NULL, NULL, NULL},
	/* a name that nobody has is for an error reply, not for this layer */
	{"{\"method\":\"\"}", "", "{}", NULL},
	{"{}", NULL, NULL, NULL},
	{"{\"parameters\":{}}", NULL, NULL, NULL},
	{"{\"method\":null}", NULL, NULL, NULL},
	{"{\"method\":1}", NULL, NULL, NULL},
	{"{\"method\":[\"a.b.C\"]}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"method\":\"a.b.C\"}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"parameters\":[]}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"parameters\":\"{}\"}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"parameters\":false}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"more\":null}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"more\":1}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"oneway\":\"true\"}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"upgrade\":{}}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"more\":true,\"oneway\":true}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"more\":true,\"upgrade\":true}", NULL, NULL, NULL},
	{"{\"method\":\"a.b.C\",\"oneway\":true,\"upgrade\":true}", NULL, NULL, NULL},
	{"[{\"method\":\"a.b.C\"}]", NULL, NULL, NULL},
	{"\"a.b.C\"", NULL, NULL, NULL},
	{"", NULL, NULL, NULL},
};

static const char *call_flag(const struct varlink_call *call)
{
	if (call->more)
		return "more";
	if (call->oneway)
		return "oneway";
	return call->upgrade ? "upgrade" : NULL;
}

static void test_parse_call(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(call_cases); i++) {
		const struct call_case *c = &call_cases[i];
		_cleanup_(free_p) char *text = bare_copy(c->text, strlen(c->text));
		_cleanup_(varlink_call_done) struct varlink_call call = {0};
		_cleanup_(free_p) char *parameters = NULL;
		int r = varlink_parse_call(text, strlen(c->text), &call);

		if (r != (c->method ? 0 : -EBADMSG))
			fail_msg("%s: %d", c->text, r);
		if (!c->method) {
			assert_true(!call.method && !call.parameters && !call_flag(&call));
			continue;
		}
		assert_string_equal(call.method, c->method);
		parameters = json_dumps(call.parameters, JSON_COMPACT);
		assert_string_equal(parameters, c->parameters);
		assert_true(streq_null(call_flag(&call), c->flag));
	}
}

/* `levels` of nesting in all: the message, its parameters, and arrays. */
static int parse_nested_call(unsigned levels)
{
	_cleanup_(buf_done) struct buf b = {0};
	_cleanup_(varlink_call_done) struct varlink_call call = {0};

	assert_int_equal(buf_append_string(&b, "{\"method\":\"a.b.C\",\"parameters\":{\"x\":"), 0);
	for (unsigned i = 2; i < levels; i++)
		assert_int_equal(buf_append_string(&b, "["), 0);
	for (unsigned i = 2; i < levels; i++)
		assert_int_equal(buf_append_string(&b, "]"), 0);
	assert_int_equal(buf_append_string(&b, "}}"), 0);
	return varlink_parse_call((const char *)buf_bytes(&b), buf_size(&b), &call);
}

static void test_call_depth(void **state)
{
	(void)state;
	assert_int_equal(parse_nested_call(LIMIT_JSON_DEPTH), 0);
	assert_int_equal(parse_nested_call(LIMIT_JSON_DEPTH + 1), -EBADMSG);
}

struct reply_case {
	const char *text;
	const char *parameters; /* NULL: -EBADMSG */
	const char *error;
	bool continues;
};

static const struct reply_case reply_cases[] = {
	{"{}", "{}", NULL, false},
	{"{\"parameters\":null}", "{}", NULL, false},
	{"{\"parameters\":{\"x\":1},\"continues\":true}", "{\"x\":1}", NULL, true},
	{"{\"continues\":false}", "{}", NULL, false},
	{"{\"error\":\"a.b.C\"}", "{}", "a.b.C", false},
	{"{\"error\":\"a.b.C\",\"parameters\":{\"x\":1},\"continues\":false}", "{\"x\":1}", "a.b.C",
		false},
	{"{\"org.example\":{}}", "{}", NULL, false},
	{"{\"org.example\":[]}", NULL, NULL, false},
	{"{\"surprise\":{}}", NULL, NULL, false},
	{"{\"method\":\"a.b.C\"}", NULL, NULL, false},
	{"{\"error\":\"a.b.C\",\"continues\":true}", NULL, NULL, false},
	{"{\"error\":null}", NULL, NULL, false},
	{"{\"error\":1}", NULL, NULL, false},
	{"{\"continues\":null}", NULL, NULL, false},
	{"{\"continues\":1}", NULL, NULL, false},
	{"{\"parameters\":[]}", NULL, NULL, false},
	{"[]", NULL, NULL, false},
	{"", NULL, NULL, false},
};

static void test_parse_reply(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(reply_cases); i++) {
		const struct reply_case *c = &reply_cases[i];
		_cleanup_(free_p) char *text = bare_copy(c->text, strlen(c->text));
		_cleanup_(varlink_reply_done) struct varlink_reply reply = {0};
		_cleanup_(free_p) char *parameters = NULL;
		int r = varlink_parse_reply(text, strlen(c->text), &reply);

		if (r != (c->parameters ? 0 : -EBADMSG))
			fail_msg("%s: %d", c->text, r);
		if (!c->parameters) {
			assert_true(!reply.parameters && !reply.error && !reply.continues);
			continue;
		}
		parameters = json_dumps(reply.parameters, JSON_COMPACT);
		assert_string_equal(parameters, c->parameters);
		assert_true(streq_null(reply.error, c->error));
		assert_int_equal(reply.continues, c->continues);
	}
}

struct split_case {
	const char *name;
	const char *interface; /* NULL: -EINVAL */
	const char *member;
};

static const struct split_case split_cases[] = {
	{"org.portledger.ledger.Who", "org.portledger.ledger", "Who"},
	{"a.B", "a", "B"},
	{"a..B", "a.", "B"},
	{"Who", NULL, NULL},
	{".Who", NULL, NULL},
	{"org.portledger.", NULL, NULL},
	{".", NULL, NULL},
	{"", NULL, NULL},
};

static void test_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(split_cases); i++) {
		const struct split_case *c = &split_cases[i];
		_cleanup_(free_p) char *interface = NULL;
		const char *member = NULL;
		int r = varlink_split(c->name, &interface, &member);

		assert_int_equal(r, c->interface ? 0 : -EINVAL);
		assert_true(streq_null(interface, c->interface));
		assert_true(streq_null(member, c->member));
	}
}

/* Exactly these bytes, and one NUL. */
static void assert_message(const struct buf *b, const char *expected)
{
	assert_int_equal(buf_size(b), strlen(expected) + 1);
	assert_memory_equal(buf_bytes(b), expected, strlen(expected) + 1);
}

static void test_put_reply(void **state)
{
	_cleanup_(buf_done) struct buf plain = {0}, more = {0}, error = {0}, bare = {0};

	(void)state;
	assert_int_equal(varlink_put_reply(&plain, NULL, false), 0);
	assert_message(&plain, "{\"parameters\":{}}");
	assert_int_equal(varlink_put_reply(&more, "{\"x\":1}", true), 0);
	assert_message(&more, "{\"parameters\":{\"x\":1},\"continues\":true}");
	assert_int_equal(varlink_put_error(&error, "a.b.C", "{\"x\":1}"), 0);
	assert_message(&error, "{\"error\":\"a.b.C\",\"parameters\":{\"x\":1}}");
	assert_int_equal(varlink_put_error(&bare, "a.\"\n", NULL), 0);
	assert_message(&bare, "{\"error\":\"a.\\\"\\u000a\",\"parameters\":{}}");
}

static void test_put_call(void **state)
{
	_cleanup_(buf_done) struct buf plain = {0}, more = {0};
	_cleanup_(json_decrefp) json_t *parameters = json_pack("{s:i}", "port", 60530);

	(void)state;
	assert_int_equal(varlink_put_call(&plain, "a.b.C", NULL, NULL), 0);
	assert_message(&plain, "{\"method\":\"a.b.C\",\"parameters\":{}}");
	assert_int_equal(varlink_put_call(&more, "a.b.C", parameters, "more"), 0);
	assert_message(
		&more, "{\"method\":\"a.b.C\",\"parameters\":{\"port\":60530},\"more\":true}");
}

/* What the server writes is what the client reads, one message after the other from one buffer. */
static void test_replies_parse_again(void **state)
{
	static const struct {
		const char *error, *parameters;
		bool continues;
	} replies[] = {
		{NULL, "{\"claims\":[{\"port\":60530,\"comm\":\"a\\u202eb\",\"pid\":null}]}", true},
		{NULL, NULL, true},
		{NULL, "{\"coverage\":{\"lost\":0,\"complete\":true}}", false},
		{"org.varlink.service.MethodNotFound", "{\"method\":\"\\\"\\\\\"}", false},
		{"a.\x1b\xe2\x80\xae.\"B", NULL, false},
	};
	_cleanup_(buf_done) struct buf b = {0};
	size_t size;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(replies); i++)
		assert_int_equal(replies[i].error ? varlink_put_error(&b, replies[i].error,
							    replies[i].parameters)
						  : varlink_put_reply(&b, replies[i].parameters,
							    replies[i].continues),
			0);
	for (size_t i = 0; i < ELEMENTSOF(replies); i++) {
		_cleanup_(varlink_reply_done) struct varlink_reply reply = {0};
		_cleanup_(json_decrefp) json_t *expected = NULL;
		const char *text = replies[i].parameters ? replies[i].parameters : "{}";

		assert_int_equal(varlink_frame(&b, LIMIT_REPLY_BYTES, &size), 1);
		assert_int_equal(varlink_parse_reply((const char *)buf_bytes(&b), size, &reply), 0);
		assert_int_equal(json_parse(text, strlen(text), LIMIT_JSON_DEPTH, &expected), 0);
		assert_true(json_equal(reply.parameters, expected));
		assert_true(streq_null(reply.error, replies[i].error));
		assert_int_equal(reply.continues, replies[i].continues);
		buf_consume(&b, size + 1);
	}
	assert_int_equal(buf_size(&b), 0);
}

static void test_call_parses_again(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};
	_cleanup_(varlink_call_done) struct varlink_call call = {0};
	_cleanup_(json_decrefp) json_t *parameters =
		json_pack("{s:s, s:[i,i]}", "app", "\n\xe2\x80\xa8\"", "ports", 1, 2);
	size_t size;

	(void)state;
	assert_int_equal(varlink_put_call(&b, "a.b.C", parameters, "oneway"), 0);
	assert_int_equal(varlink_frame(&b, LIMIT_FRAME_BYTES, &size), 1);
	assert_int_equal(varlink_parse_call((const char *)buf_bytes(&b), size, &call), 0);
	assert_string_equal(call.method, "a.b.C");
	assert_true(json_equal(call.parameters, parameters));
	assert_true(call.oneway && !call.more && !call.upgrade);
}

/* Counts down jansson's allocations; the one that reaches 0 fails, and all after it where memory has ended. */
static size_t allocations_left;
static bool memory_ended;

static void *scarce_malloc(size_t size)
{
	if (allocations_left == 0)
		return memory_ended ? NULL : malloc(size);
	return --allocations_left > 0 ? malloc(size) : NULL;
}

/* Memory that ends anywhere, or is refused once, is an error, and nothing is left behind. */
static size_t fail_each(const char *text, const char *expected)
{
	size_t n = 0;
	int r;

	do {
		_cleanup_(varlink_call_done) struct varlink_call call = {0};

		allocations_left = ++n;
		json_set_alloc_funcs(scarce_malloc, free);
		r = varlink_parse_call(text, strlen(text), &call);
		json_set_alloc_funcs(malloc, free);
		assert_true(r == 0 || r == -ENOMEM);
		assert_true((r == 0) == (call.method && call.parameters));
		if (r == 0)
			assert_string_equal(call.method, expected);
	} while (r < 0);
	return n - 1;
}

static void test_no_memory(void **state)
{
	static const char text[] = "{\"method\":\"a.b.C\",\"parameters\":{\"x\":[1,2.5,\"y\"]},"
				   "\"more\":true,\"org.example\":{}}";

	(void)state;
	memory_ended = true;
	assert_true(fail_each(text, "a.b.C") >= 10);
	memory_ended = false;
	assert_true(fail_each(text, "a.b.C") >= 10);
}

/* Whatever byte of a string finds no room: jansson would go on behind it where that is its end. */
static void test_no_memory_for_a_string(void **state)
{
	char method[140] = "", text[200];

	(void)state;
	for (size_t length = 0; length + 1 < sizeof(method); length++) {
		method[length] = 'a';
		(void)snprintf(text, sizeof(text), "{\"method\":\"%s\"}", method);
		memory_ended = false;
		assert_true(fail_each(text, method) >= 5);
		memory_ended = true;
		assert_true(fail_each(text, method) >= 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame),
		cmocka_unit_test(test_frame_by_bytes),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_deep),
		cmocka_unit_test(test_parse_call),
		cmocka_unit_test(test_call_depth),
		cmocka_unit_test(test_parse_reply),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_put_reply),
		cmocka_unit_test(test_put_call),
		cmocka_unit_test(test_replies_parse_again),
		cmocka_unit_test(test_call_parses_again),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_memory_for_a_string),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
