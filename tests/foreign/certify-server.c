/* SPDX-License-Identifier: MIT */

/*
 * org.varlink.certification, by which implementations of Varlink test each other, on the codec and the server that
 * portledgerd has: only the methods are of this file. A client is given values, and hands each back with the next call;
 * what comes back must be what went out.
 *
 *     certify-server PATH [METHOD]    listens at PATH, says "ready", serves until its standard input ends. METHOD's
 *                                     reply is wrong then: a certification that does not notice is worth nothing.
 */

#include <event2/event.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/escape.h"
#include "common/varlink.h"
#include "daemon/control/server.h"

#define INTERFACE "org.varlink.certification"
#define CLIENT_ID "portledger's certified \\u0001 \\\"client\\\""
#define REPLIES   10 /* of Test10 */

#define OBJECT "{\"method\":\"" INTERFACE ".Test09\",\"deep\":[[[{\"a\":[null,-1,1e300]}]]]}"
#define MYTYPE(enum)                                                                                                   \
	"{\"mytype\":{\"object\":" OBJECT                                                                              \
	",\"enum\":\"" enum "\","                                                                                      \
			    "\"struct\":{\"first\":-9223372036854775808,\"second\":\"2\"},"                            \
			    "\"array\":[\"one\",\"\",\"three\"],"                                                      \
			    "\"dictionary\":{\"foo\":\"Foo\",\"b\\u00e4r\":\"B\\ud83d\\ude00r\"},"                     \
			    "\"stringset\":{\"one\":{},\"two\":{},\"\":{}},"                                           \
			    "\"nullable\":null,\"nullable_array_struct\":null,\"interface\":{"                         \
			    "\"foo\":[null,{\"Foo\":\"foo\",\"Bar\":\"bar\"},null,{\"one\":\"foo\",\"two\":\"bar\"}]," \
			    "\"anon\":{\"foo\":true,\"bar\":false}}}}"

/* What Test04 says, as bytes: the daemon's own writer of strings makes JSON of it. */
#define STRING "ping \" \\ / \x01\x1f\x7f \u202e \u20ac \U0001F600 <&>"

/* Each method's reply is what the next one must be called with. */
static const struct step {
	const char *method;
	const char *reply; /* JSON; NULL: made when it is sent */
	const char *wrong; /* the planted one */
} steps[] = {
	{"Start", "{\"client_id\":\"" CLIENT_ID "\"}", "{\"client_id\":\"\"}"},
	{"Test01", "{\"bool\":true}", "{\"bool\":false}"},
	{"Test02", "{\"int\":9223372036854775807}", "{\"int\":\"9223372036854775807\"}"},
	{"Test03", "{\"float\":-2.5e-7}", "{\"float\":-2.5e-8}"},
	{"Test04", NULL, "{\"string\":\"ping\"}"}, /* STRING */
	{"Test05",
		"{\"bool\":false,\"int\":2,\"float\":3.141592653589793,\"string\":\"a lot of string\"}",
		"{\"bool\":false,\"int\":2,\"float\":3.1415926,\"string\":\"a lot of string\"}"},
	{"Test06",
		"{\"struct\":{\"bool\":false,\"int\":-2,\"float\":3.141592653589793,\"string\":\"\"}}",
		"{\"bool\":false,\"int\":-2,\"float\":3.141592653589793,\"string\":\"\"}"},
	{"Test07", "{\"map\":{\"bar\":\"Bar\",\"foo\":\"Foo\",\"\":\"\"}}",
		"{\"map\":{\"bar\":\"Bar\",\"foo\":\"Foo\"}}"},
	{"Test08", "{\"set\":{\"one\":{},\"two\":{},\"three\":{}}}",
		"{\"set\":[\"one\",\"two\",\"three\"]}"},
	{"Test09", MYTYPE("two"), MYTYPE("three")},
	{"Test10", NULL, NULL}, /* REPLIES of them, each by itself */
	{"Test11", "{}", NULL},
	{"End", "{\"all_ok\":true}", "{\"all_ok\":false}"},
};
#define TEST04 4
#define TEST10 10
#define TEST11 11

struct certification {
	struct event_base *base;
	const char *wrong; /* the method whose reply is; NULL: none */
	size_t next;       /* step */
	unsigned sent;     /* replies of Test10 */
	bool failed;       /* something that had no reply to say so in */
};

static bool is_wrong(const struct certification *k, size_t step)
{
	return k->wrong && streq(k->wrong, steps[step].method);
}

/* Absent and null are the same. */
static void drop_nulls(json_t *value)
{
	json_t *member;
	const char *key;
	void *next;

	json_object_foreach_safe(value, next, key, member)
	{
		if (json_is_null(member))
			(void)json_object_del(value, key);
		else
			drop_nulls(member);
	}
}

static json_t *parse(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	assert(value);
	return value;
}

/* All replies of Test10. */
static json_t *all_replies(void)
{
	json_t *list = json_array();

	for (int i = 1; i <= REPLIES; i++)
		(void)json_array_append_new(list, json_sprintf("Reply number %d", i));
	return json_pack("{s:o}", "last_more_replies", list);
}

/* What the step's call must have, but for the id: what the reply before it said. */
static json_t *wanted(size_t step)
{
	json_t *wants;

	if (step <= 1 || step == TEST11 + 1)
		return json_object();
	if (step == TEST04 + 1)
		return json_pack("{s:s}", "string", STRING);
	if (step == TEST11)
		return all_replies();
	wants = parse(steps[step - 1].reply);
	drop_nulls(wants);
	return wants;
}

static void send_text(struct client *c, const char *error, const char *text, bool continues)
{
	struct buf *out = client_output(c);
	int r = error ? varlink_put_error(out, error, text)
		      : varlink_put_reply(out, text, continues);

	if (r < 0)
		client_drop(c);
	client_sent(c);
}

static void refuse(struct client *c, const json_t *wants, const json_t *got)
{
	_cleanup_(free_p) char *text = NULL;
	json_t *o = json_pack("{s:O,s:O}", "wants", wants, "got", got);

	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	fprintf(stderr, "refused: %s\n", text);
	send_text(c, INTERFACE ".CertificationError", text, false);
}

static void send_reply(struct certification *k, struct client *c, size_t step)
{
	_cleanup_(buf_done) struct buf text = {0};
	bool last = step + 1 == ELEMENTSOF(steps);

	if (is_wrong(k, step) || (last && k->failed)) {
		send_text(c, NULL, steps[step].wrong, false);
	} else if (step != TEST04) {
		send_text(c, NULL, steps[step].reply, false);
	} else if (buf_append_string(&text, "{\"string\":") == 0 &&
		   escape_json(&text, STRING) == 0 && buf_append(&text, "}", sizeof("}")) == 0) {
		send_text(c, NULL, (const char *)buf_bytes(&text), false);
	}
}

/* The parameters as they must be; what is wrong was said to the client. */
static bool is_right(struct certification *k, struct client *c, struct varlink_call *call)
{
	_cleanup_(json_decrefp) json_t *wants = wanted(k->next), *id = NULL, *start = NULL;

	if (k->next > 0) {
		start = parse(steps[0].reply);
		id = json_incref(json_object_get(call->parameters, "client_id"));
		if (!json_equal(id, json_object_get(start, "client_id"))) {
			send_text(c, INTERFACE ".ClientIdError", NULL, false);
			return false;
		}
		(void)json_object_del(call->parameters, "client_id");
	}
	drop_nulls(call->parameters);
	if (json_equal(call->parameters, wants))
		return true;
	if (call->oneway)
		k->failed = true; /* End tells */
	else
		refuse(c, wants, call->parameters);
	return call->oneway;
}

/* Test10, one reply a turn: the server says when there is room. */
static void on_room(void *context, struct client *c)
{
	struct certification *k = context;
	char text[64];

	k->sent++;
	(void)snprintf(text, sizeof(text), "{\"string\":\"Reply number %u\"}",
		is_wrong(k, TEST10) && k->sent == REPLIES / 2 ? 0 : k->sent);
	send_text(c, NULL, text, k->sent < REPLIES);
	if (k->sent < REPLIES)
		client_want_room(c);
	else
		client_done(c);
}

static void answer(struct certification *k, struct client *c, struct varlink_call *call)
{
	if (call->more != (k->next == TEST10) || call->oneway != (k->next == TEST11)) {
		fprintf(stderr, "wrong flags\n");
		client_drop(c);
	} else if (is_right(k, c, call)) {
		k->next++;
		if (call->more) {
			client_want_room(c);
			return;
		}
		if (!call->oneway)
			send_reply(k, c, k->next - 1);
	}
	client_done(c);
}

static void on_call(void *context, struct client *c, const char *text, size_t size)
{
	_cleanup_(varlink_call_done) struct varlink_call call = {0};
	_cleanup_(free_p) char *interface = NULL;
	struct certification *k = context;
	const char *member = NULL;

	if (varlink_parse_call(text, size, &call) < 0 ||
		varlink_split(call.method, &interface, &member) < 0 ||
		!streq(interface, INTERFACE) || k->next == ELEMENTSOF(steps) ||
		!streq(member, steps[k->next].method)) {
		fprintf(stderr, "no such call, now: %.*s\n", (int)size, text);
		client_drop(c);
		client_done(c);
		return;
	}
	answer(k, c, &call);
}

/* A certification is one connection. */
static void on_gone(void *context, struct client *c)
{
	struct certification *k = context;

	(void)c;
	k->next = k->sent = 0;
	k->failed = false;
}

static int on_refuse(void *context, unsigned limit, struct buf *out)
{
	(void)context;
	(void)limit;
	return varlink_put_error(out, INTERFACE ".ClientIdError", NULL);
}

static void on_input(evutil_socket_t fd, short what, void *context)
{
	char byte;

	(void)what;
	if (read(fd, &byte, 1) <= 0)
		event_base_loopbreak(context);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	return bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
			       listen(fd, 8) == 0
		       ? fd
		       : -1;
}

int main(int argc, char **argv)
{
	struct certification k = {.base = event_base_new(), .wrong = argc > 2 ? argv[2] : NULL};
	const struct server_handler handler = {&k, on_call, on_room, on_gone, on_refuse};
	struct event *input =
		event_new(k.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, k.base);
	int fd = argc > 1 ? listen_at(argv[1]) : -1;
	struct server *server = NULL;

	if (fd < 0 || !input || event_add(input, NULL) < 0 ||
		server_new(k.base, fd, &handler, &server) < 0) {
		perror("certify-server");
		return EXIT_FAILURE;
	}
	puts("ready");
	fflush(stdout);
	event_base_dispatch(k.base);
	server_free(server);
	event_free(input);
	event_base_free(k.base);
	(void)close(fd);
	return EXIT_SUCCESS;
}
