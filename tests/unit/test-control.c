/* SPDX-License-Identifier: MIT */

/*
 * The control process as its clients meet it: control_run() in a child, a made-up history, and this test in the place
 * of the clients, the supervisor and the ledger, which answers when the test says so. Nothing sleeps: a question
 * over a fresh connection, answered, proves that what was sent before it was read.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/stream.h"
#include "common/varlink.h"
#include "daemon/control/control.h"
#include "daemon/handover.h"
#include "tests/support/history.h"

#define LEDGER    "org.portledger.ledger."
#define SERVICE   "org.varlink.service."
#define PATIENCE  20000 /* ms: past it the test fails */
#define CLAIMS    3000u
#define REPLY_MAX (16u << 20)

struct fixture {
	struct history history;
	char socket_path[108];
	int link, supervisor;
	struct buf from_control;
	pid_t pid;
	uint64_t commits;
};

struct peer {
	int fd;
	struct buf in;
};

static void start_control(struct fixture *f, rlim_t descriptors)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int link[2], supervisor[2], listener;

	(void)snprintf(f->socket_path, sizeof(f->socket_path), "%s/control", f->history.directory);
	memcpy(address.sun_path, f->socket_path, sizeof(f->socket_path));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 128), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, link), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, supervisor), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		const struct control_options options = {.listen_fd = listener,
			.ledger_fd = link[1],
			.supervisor_fd = supervisor[1],
			.state_path = f->history.directory};

		(void)close(link[0]);
		(void)close(supervisor[0]);
		if (descriptors)
			(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){descriptors, descriptors});
		_exit(control_run(&options));
	}
	(void)close(listener);
	(void)close(link[1]);
	(void)close(supervisor[1]);
	f->link = link[0];
	f->supervisor = supervisor[0];
}

static struct fixture *new_fixture(size_t claims)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	history_open(&f->history, "control");
	if (claims)
		history_fill(&f->history, claims, 250);
	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,5,1800000000000000,0,1000000,'32768-65535',32768,"
		"60999,15,1,1,1,1)");
	return f;
}

static int setup_empty(void **state)
{
	struct fixture *f = new_fixture(0);

	start_control(f, 0);
	*state = f;
	return 0;
}

static int setup_history(void **state)
{
	struct fixture *f = new_fixture(CLAIMS);

	start_control(f, 0);
	*state = f;
	return 0;
}

static int setup_few_descriptors(void **state)
{
	struct fixture *f = new_fixture(0);

	start_control(f, 24);
	*state = f;
	return 0;
}

/* Ends control by the supervisor's end: it must go in order. */
static int teardown(void **state)
{
	struct fixture *f = *state;
	int status;

	(void)close(f->supervisor);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	(void)close(f->link);
	buf_done(&f->from_control);
	(void)unlink(f->socket_path);
	history_close(&f->history);
	free(f);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

static void await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, PATIENCE), 1);
}

static struct peer peer_connect(const struct fixture *f)
{
	struct peer p = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, f->socket_path, sizeof(f->socket_path));
	assert_true(p.fd >= 0);
	assert_int_equal(connect(p.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return p;
}

static void peer_close(struct peer *p)
{
	(void)close(p->fd);
	buf_done(&p->in);
}

static void peer_send(const struct peer *p, const void *data, size_t size)
{
	assert_int_equal(send(p->fd, data, size, MSG_NOSIGNAL), size);
}

static void peer_call(const struct peer *p, const char *text)
{
	peer_send(p, text, strlen(text) + 1);
}

/* The next reply; false: the connection was closed instead. */
static bool peer_receive(struct peer *p, struct varlink_reply *ret)
{
	size_t size;

	while (varlink_frame(&p->in, REPLY_MAX, &size) == 0) {
		void *room = buf_reserve(&p->in, 65536);
		ssize_t n;

		await(p->fd);
		n = recv(p->fd, room, 65536, 0);
		if (n <= 0)
			return false;
		buf_grow(&p->in, (size_t)n);
	}
	assert_int_equal(varlink_parse_reply((const char *)buf_bytes(&p->in), size, ret), 0);
	buf_consume(&p->in, size + 1);
	return true;
}

static struct varlink_reply peer_reply(struct peer *p)
{
	struct varlink_reply reply;

	assert_true(peer_receive(p, &reply));
	return reply;
}

static bool peer_is_closed(struct peer *p)
{
	struct varlink_reply reply;

	if (!peer_receive(p, &reply))
		return true;
	varlink_reply_done(&reply);
	return false;
}

static void assert_reply(struct peer *p, const char *expected)
{
	struct varlink_reply reply = peer_reply(p);
	char *text = json_dumps(reply.parameters, JSON_COMPACT | JSON_SORT_KEYS);

	if (reply.error)
		fail_msg("%s %s", reply.error, text);
	assert_string_equal(text, expected);
	free(text);
	varlink_reply_done(&reply);
}

static void assert_error(struct peer *p, const char *error, const char *expected)
{
	struct varlink_reply reply = peer_reply(p);
	char *text = json_dumps(reply.parameters, JSON_COMPACT | JSON_SORT_KEYS);

	assert_non_null(reply.error);
	assert_string_equal(reply.error, error);
	assert_string_equal(text, expected);
	free(text);
	varlink_reply_done(&reply);
}

/* All that was sent before was read. */
static void barrier(const struct fixture *f)
{
	struct peer p = peer_connect(f);
	struct varlink_reply reply;

	peer_call(&p, "{\"method\":\"" SERVICE "GetInfo\"}");
	reply = peer_reply(&p);
	assert_null(reply.error);
	varlink_reply_done(&reply);
	peer_close(&p);
}

/* What control says next to the ledger. */
static struct record next_record(struct fixture *f)
{
	struct record record;
	size_t size;
	int r;

	while ((r = stream_get(buf_bytes(&f->from_control), buf_size(&f->from_control), &record,
			&size)) == 0) {
		void *room = buf_reserve(&f->from_control, 4096);
		ssize_t n;

		await(f->link);
		n = recv(f->link, room, 4096, 0);
		assert_true(n > 0);
		buf_grow(&f->from_control, (size_t)n);
	}
	assert_int_equal(r, 1);
	buf_consume(&f->from_control, size);
	return record;
}

static uint64_t next_sync(struct fixture *f)
{
	struct record record = next_record(f);

	assert_int_equal(record.type, RECORD_SYNC);
	return record.sync;
}

static void assert_quiet(struct fixture *f)
{
	struct pollfd p = {.fd = f->link, .events = POLLIN};

	barrier(f);
	assert_int_equal(buf_size(&f->from_control), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
}

static void commit_until(struct fixture *f, uint64_t id, usec_t until, bool answered)
{
	_cleanup_(buf_done) struct buf out = {0};
	struct record record = {.type = RECORD_COMMITTED};
	struct committed *c = &record.committed;

	c->id = id;
	c->commit = ++f->commits;
	c->until_wall = until;
	c->watching = true;
	c->capture_answered = answered;
	c->coverage.interval_usec = 1000000;
	c->coverage.ranges.count = 1;
	c->coverage.ranges.range[0] = (struct port_range){32768, 65535};
	c->coverage.foreign_processes = true;
	c->coverage.ephemeral = (struct port_range){32768, 60999};
	assert_int_equal(stream_put(&out, &record), 0);
	assert_int_equal(
		send(f->link, buf_bytes(&out), buf_size(&out), MSG_NOSIGNAL), buf_size(&out));
}

static void commit(struct fixture *f, uint64_t id)
{
	commit_until(f, id, clock_now().wall, true);
}

static void test_errors(void **state)
{
	static const struct {
		const char *call, *error, *parameters;
	} cases[] = {
		{"{\"method\":\"foo\"}", SERVICE "InterfaceNotFound", "{\"interface\":\"foo\"}"},
		{"{\"method\":\"a.b.C\"}", SERVICE "InterfaceNotFound", "{\"interface\":\"a.b\"}"},
		{"{\"method\":\"" LEDGER "Nope\"}", SERVICE "MethodNotFound",
			"{\"method\":\"" LEDGER "Nope\"}"},
		{"{\"method\":\"" LEDGER "Status\",\"upgrade\":true}",
			SERVICE "MethodNotImplemented", "{\"method\":\"" LEDGER "Status\"}"},
		{"{\"method\":\"" LEDGER "Status\",\"parameters\":{\"x\":1}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"x\"}"},
		{"{\"method\":\"" LEDGER "Follow\"}", SERVICE "ExpectedMore", "{}"},
		{"{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"interface\"}"},
		{"{\"method\":\"" SERVICE
		 "GetInterfaceDescription\",\"parameters\":{\"interface\":\"x\"}}",
			SERVICE "InterfaceNotFound", "{\"interface\":\"x\"}"},
		{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":0}}",
			LEDGER "InvalidRange", "{\"parameter\":\"port\"}"},
		{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":65536}}",
			LEDGER "InvalidRange", "{\"parameter\":\"port\"}"},
		{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":\"1\"}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"port\"}"},
		{"{\"method\":\"" LEDGER
		 "Explain\",\"parameters\":{\"port\":1,\"protocol\":\"ip\"}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"protocol\"}"},
		{"{\"method\":\"" LEDGER
		 "Audit\",\"parameters\":{\"since_usec\":2,\"until_usec\":1}}",
			LEDGER "InvalidRange", "{\"parameter\":\"since_usec\"}"},
		/* the future */
		{"{\"method\":\"" LEDGER
		 "Who\",\"parameters\":{\"port\":50000,\"from_usec\":9007199254740990,"
		 "\"until_usec\":9007199254740991}}",
			LEDGER "InvalidRange", "{\"parameter\":\"from_usec\"}"},
		{"{\"method\":\"" LEDGER
		 "Audit\",\"parameters\":{\"since_usec\":0,\"until_usec\":9007199254740993}}",
			LEDGER "InvalidRange", "{\"parameter\":\"until_usec\"}"},
		{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"limit\":0}}",
			LEDGER "InvalidRange", "{\"parameter\":\"limit\"}"},
		{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"x\":1}}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"filter.x\"}"},
		{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"ports\":[1,0]}}}",
			LEDGER "InvalidRange", "{\"parameter\":\"filter.ports\"}"},
		{"{\"method\":\"" LEDGER
		 "Claims\",\"parameters\":{\"filter\":{\"range\":\"9-8\"}}}",
			LEDGER "InvalidRange", "{\"parameter\":\"filter.range\"}"},
		{"{\"method\":\"" LEDGER
		 "Claims\",\"parameters\":{\"filter\":{\"range\":\"1- 8\"}}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"filter.range\"}"},
		{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"peer\":\"::g\"}}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"filter.peer\"}"},
		{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"cursor\":\"1.15.0\"}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"cursor\"}"},
		{"{\"method\":\"" LEDGER
		 "Claims\",\"parameters\":{\"cursor\":\"1.15.0.9.1.0.0.0.0.0.012\"}}",
			SERVICE "InvalidParameter", "{\"parameter\":\"cursor\"}"},
	};
	struct fixture *f = *state;
	struct peer p = peer_connect(f);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		peer_call(&p, cases[i].call);
		assert_error(&p, cases[i].error, cases[i].parameters);
	}
	assert_quiet(f); /* and the ledger was not troubled */
	peer_close(&p);
}

static void test_frames(void **state)
{
	static const char call[] = "{\"method\":\"" SERVICE "GetInfo\"}";
	static const char oneway[] = "{\"method\":\"" SERVICE "GetInfo\",\"oneway\":true}";
	static const char *const broken[] = {"x", "[]", "{}", "{\"method\":\"a.B\",\"x\":1}",
		"{\"method\":\"a.B\",\"more\":true,\"oneway\":true}"};
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	char *big = calloc(1, LIMIT_FRAME_BYTES + 1);

	/* more than one turn serves, in one write; those without a reply among them */
	for (unsigned i = 0; i < 3 * LIMIT_CALLS_PER_TURN; i++) {
		memcpy(big + i * (sizeof(call) + sizeof(oneway)), call, sizeof(call));
		memcpy(big + i * (sizeof(call) + sizeof(oneway)) + sizeof(call), oneway,
			sizeof(oneway));
	}
	peer_send(&p, big, 3 * LIMIT_CALLS_PER_TURN * (sizeof(call) + sizeof(oneway)));
	assert_int_equal(shutdown(p.fd, SHUT_WR), 0); /* what was asked is answered all the same */
	for (unsigned i = 0; i < 3 * LIMIT_CALLS_PER_TURN; i++) {
		struct varlink_reply reply = peer_reply(&p);

		assert_null(reply.error);
		varlink_reply_done(&reply);
	}
	assert_true(peer_is_closed(&p));
	peer_close(&p);

	/* as large as a frame may be, and one byte more */
	for (unsigned extra = 0; extra <= 1; extra++) {
		p = peer_connect(f);
		memset(big, ' ', LIMIT_FRAME_BYTES + 1);
		memcpy(big, call, sizeof(call) - 1);
		big[LIMIT_FRAME_BYTES - 1 + extra] = '\0';
		peer_send(&p, big, LIMIT_FRAME_BYTES + extra);
		assert_int_equal(peer_is_closed(&p), extra);
		peer_close(&p);
	}
	free(big);

	for (size_t i = 0; i < ELEMENTSOF(broken); i++) {
		p = peer_connect(f);
		peer_call(&p, broken[i]);
		assert_true(peer_is_closed(&p));
		peer_close(&p);
	}
}

/* Questions that come while a look is under way share the next one; that one does not count for them. */
static void test_shared_look(void **state)
{
	struct fixture *f = *state;
	struct peer p[4];
	char expected[96];
	uint64_t first, second;

	for (size_t i = 0; i < ELEMENTSOF(p); i++)
		p[i] = peer_connect(f);
	peer_call(&p[0], "{\"method\":\"" LEDGER "Sync\"}");
	first = next_sync(f);
	for (size_t i = 1; i < ELEMENTSOF(p); i++)
		peer_call(&p[i], "{\"method\":\"" LEDGER "Sync\"}");
	assert_quiet(f);
	commit_until(f, first, 1000, true);
	assert_reply(&p[0], "{\"commit\":1,\"until_usec\":1000}");
	second = next_sync(f);
	assert_true(second > first);
	assert_quiet(f);
	commit_until(f, second, 2000, true);
	(void)snprintf(expected, sizeof(expected), "{\"commit\":2,\"until_usec\":2000}");
	for (size_t i = 1; i < ELEMENTSOF(p); i++)
		assert_reply(&p[i], expected);
	/* capture did not answer: no look */
	peer_call(&p[0], "{\"method\":\"" LEDGER "Sync\"}");
	commit_until(f, next_sync(f), 3000, false);
	assert_error(&p[0], LEDGER "StoreUnavailable",
		"{\"reason\":\"capture did not answer in time\"}");
	/* what is all in the past needs none */
	peer_call(&p[0],
		"{\"method\":\"" LEDGER
		"Who\",\"parameters\":{\"port\":50000,\"from_usec\":1,\"until_usec\":3000}}");
	assert_reply(&p[0],
		"{\"claims\":[],\"coverage\":{\"complete\":false,\"from_usec\":1,\"gaps\":[],"
		"\"lost\":null,\"stretches\":[{\"from_usec\":5,\"interval_usec\":1000000,"
		"\"source\":\"sweep\",\"until_usec\":3000}],\"until_usec\":3000}}");
	assert_quiet(f);
	peer_call(&p[0],
		"{\"method\":\"" LEDGER
		"Who\",\"parameters\":{\"port\":50000,\"from_usec\":1,\"until_usec\":3001}}");
	commit(f, next_sync(f));
	assert_false(peer_is_closed(&p[0]));
	for (size_t i = 0; i < ELEMENTSOF(p); i++)
		peer_close(&p[i]);
}

static void assert_status(struct peer *p, const char *degraded, bool watching)
{
	struct varlink_reply reply = peer_reply(p);
	const json_t *list = json_object_get(reply.parameters, "degraded");

	assert_null(reply.error);
	assert_int_equal(json_array_size(list), degraded != NULL);
	if (degraded)
		assert_string_equal(json_string_value(json_array_get(list, 0)), degraded);
	assert_int_equal(json_is_true(json_object_get(reply.parameters, "watching")), watching);
	varlink_reply_done(&reply);
}

static void test_ledger_restarts(void **state)
{
	static const char status[] = "{\"method\":\"" LEDGER "Status\"}";
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	int link[2];

	peer_call(&p, status);
	commit(f, next_sync(f));
	assert_status(&p, NULL, true);
	/* it dies with a question in hand; the answer still comes, and says what it is worth */
	peer_call(&p, status);
	(void)next_sync(f);
	(void)close(f->link);
	assert_status(&p, "ledger is restarting", false);
	peer_call(&p, status);
	assert_status(&p, "ledger is restarting", false);
	peer_call(&p, "{\"method\":\"" LEDGER "Sync\"}");
	assert_error(&p, LEDGER "StoreUnavailable", "{\"reason\":\"ledger is restarting\"}");
	/* a new one */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, link), 0);
	assert_int_equal(handover_send(f->supervisor, HANDOVER_LEDGER, link[1]), 0);
	(void)close(link[1]);
	f->link = link[0];
	barrier(f);
	peer_call(&p, status);
	commit(f, next_sync(f));
	assert_status(&p, NULL, true);
	peer_close(&p);
}

/* Rows of one answer, and where each began. */
struct collected {
	size_t count;
	json_int_t opened[CLAIMS];
};

static void collect(struct collected *c, const struct varlink_reply *reply)
{
	const json_t *claims = json_object_get(reply->parameters, "claims");

	assert_null(reply->error);
	assert_true(json_array_size(claims) <= LIMIT_PAGE_ROWS);
	for (size_t i = 0; i < json_array_size(claims); i++) {
		assert_true(c->count < CLAIMS);
		c->opened[c->count++] = json_integer_value(
			json_object_get(json_array_get(claims, i), "opened_usec"));
	}
}

static bool has_coverage(const struct varlink_reply *reply)
{
	return json_is_object(json_object_get(reply->parameters, "coverage"));
}

/* A reader who takes nothing at first holds up nobody, and gets all of it. */
static void test_stream(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	struct collected *all = calloc(1, sizeof(*all)), *newest = calloc(1, sizeof(*newest));
	struct varlink_reply reply;
	bool continues;

	peer_call(&p, "{\"method\":\"" LEDGER "Claims\",\"more\":true}");
	commit(f, next_sync(f));
	barrier(f);
	do {
		reply = peer_reply(&p);
		continues = reply.continues;
		collect(all, &reply);
		assert_int_equal(has_coverage(&reply), !continues);
		varlink_reply_done(&reply);
	} while (continues);
	assert_int_equal(all->count, CLAIMS);
	for (size_t i = 1; i < all->count; i++)
		assert_true(all->opened[i - 1] <= all->opened[i]);
	peer_call(&p,
		"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"limit\":777},\"more\":true}");
	commit(f, next_sync(f));
	do {
		reply = peer_reply(&p);
		continues = reply.continues;
		collect(newest, &reply);
		varlink_reply_done(&reply);
	} while (continues);
	assert_int_equal(newest->count, 777);
	assert_memory_equal(newest->opened, all->opened + CLAIMS - 777, 777 * sizeof(json_int_t));
	free(newest);
	free(all);
	peer_close(&p);
}

/* The same, a page at a time. What was hot is sealed on the way. */
static void test_cursor(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	struct collected *c = calloc(1, sizeof(*c));
	char call[512], *cursor = NULL;
	unsigned pages = 0;

	(void)snprintf(call, sizeof(call),
		"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"limit\":1000,\"filter\":{}}}");
	do {
		struct varlink_reply reply;
		const char *text;

		peer_call(&p, call);
		if (pages++ == 0)
			commit(f, next_sync(f));
		reply = peer_reply(&p);
		collect(c, &reply);
		assert_true(has_coverage(&reply));
		free(cursor);
		text = json_string_value(json_object_get(reply.parameters, "cursor"));
		cursor = text ? strdup(text) : NULL;
		varlink_reply_done(&reply);
		if (cursor)
			(void)snprintf(call, sizeof(call),
				"{\"method\":\"" LEDGER
				"Claims\",\"parameters\":{\"limit\":1000,\"filter\":{},\"cursor\":\"%s\"}}",
				cursor);
		if (pages == 2)
			history_seal(&f->history);
	} while (cursor);
	assert_int_equal(c->count, 1000);
	assert_int_equal(pages, 4);
	for (size_t i = 1; i < c->count; i++)
		assert_true(c->opened[i - 1] <= c->opened[i]);
	assert_quiet(f); /* the window was fixed when asked: no page needed another look */
	free(c);
	peer_close(&p);
}

/* What Explain says of a busy port, against a count by hand. */
static void test_explain(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	struct varlink_reply reply;
	json_int_t before = INT64_MAX;
	const json_t *last;
	size_t now = 0, ever = 0;

	for (size_t i = 0; i < f->history.count; i++) {
		ever += f->history.past[i].port == 32768;
		now += f->history.past[i].port == 32768 && f->history.past[i].in == IN_OPEN;
	}
	assert_true(now > 0 && ever > 100);
	peer_call(&p, "{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":32768}}");
	commit(f, next_sync(f));
	reply = peer_reply(&p);
	assert_null(reply.error);
	assert_int_equal(
		json_integer_value(json_object_get(reply.parameters, "claims_ever")), ever);
	assert_int_equal(json_integer_value(json_object_get(reply.parameters, "claims_now")), now);
	assert_int_equal(json_array_size(json_object_get(reply.parameters, "now")), now);
	assert_true(json_is_true(json_object_get(reply.parameters, "ephemeral")));
	assert_true(json_is_true(json_object_get(reply.parameters, "watched")));
	assert_true(json_is_false(json_object_get(reply.parameters, "dynamic")));
	last = json_object_get(reply.parameters, "last");
	assert_int_equal(json_array_size(last), 10);
	for (size_t i = 0; i < 10; i++) {
		const json_t *claim = json_array_get(last, i);
		json_int_t opened = json_integer_value(json_object_get(claim, "opened_usec"));

		assert_true(json_is_integer(json_object_get(claim, "released_usec")));
		assert_true(opened <= before);
		before = opened;
	}
	varlink_reply_done(&reply);
	peer_close(&p);
}

static void assert_event(struct peer *p, const char *event, const char *ports, int lost)
{
	struct varlink_reply reply = peer_reply(p);
	const json_t *claims = json_object_get(reply.parameters, "claims");
	char got[256] = "";

	assert_null(reply.error);
	assert_true(reply.continues);
	assert_string_equal(json_string_value(json_object_get(reply.parameters, "event")), event);
	for (size_t i = 0; i < json_array_size(claims); i++)
		(void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%d", i ? " " : "",
			(int)json_integer_value(
				json_object_get(json_array_get(claims, i), "port")));
	assert_string_equal(got, ports);
	assert_int_equal(json_integer_value(json_object_get(reply.parameters, "lost")), lost);
	varlink_reply_done(&reply);
}

#define OPEN_ROW(claim, port)                                                                      \
	"INSERT INTO claim_open VALUES(" #claim ",1," #claim "," #port                             \
	",1,0,NULL,NULL,NULL,0,NULL,NULL,NULL);"
#define HOT_ROW(id, claim, port)                                                                   \
	"DELETE FROM claim_open WHERE claim=" #claim ";INSERT INTO claim_hot VALUES(" #id          \
	"," #claim ",0," #port ",1,1,NULL,NULL,NULL,0,NULL,NULL,NULL);"                            \
	"INSERT OR REPLACE INTO counter VALUES('next_hot'," #id "+1);"

static void test_follow(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f), other = peer_connect(f);
	struct record record;

	history_sql(&f->history, OPEN_ROW(1, 40001) OPEN_ROW(2, 40002) HOT_ROW(1, 9, 40009));
	history_sql(&f->history, "DELETE FROM claim_open WHERE claim=9");
	peer_call(&p, "{\"method\":\"" LEDGER "Follow\",\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&p, "open", "40001 40002", 0);
	record = next_record(f);
	assert_int_equal(record.type, RECORD_FOLLOW);
	assert_true(record.follow);
	/* one that matches nothing still gets a first reply */
	peer_call(&other, "{\"method\":\"" LEDGER
			  "Follow\",\"parameters\":{\"filter\":{\"ports\":[1]}},\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&other, "open", "", 0);
	peer_close(&other);

	history_sql(&f->history, OPEN_ROW(10, 40010) HOT_ROW(2, 1, 40001));
	commit(f, 0);
	assert_event(&p, "released", "40001", 0);
	assert_event(&p, "opened", "40010", 0);
	/* came and went between two looks */
	history_sql(&f->history, HOT_ROW(3, 11, 40011) HOT_ROW(4, 2, 40002));
	commit(f, 0);
	assert_event(&p, "opened", "40011", 0);
	assert_event(&p, "released", "40002 40011", 0);
	/* sealed before it was read */
	history_sql(&f->history, "INSERT OR REPLACE INTO counter VALUES('next_hot',8)");
	history_sql(&f->history, "DELETE FROM claim_hot");
	history_sql(&f->history, HOT_ROW(8, 10, 40010));
	commit(f, 0);
	assert_event(&p, "released", "40010", 3);
	peer_close(&p);
	record = next_record(f);
	assert_int_equal(record.type, RECORD_FOLLOW);
	assert_false(record.follow);
}

static void test_too_many_clients(void **state)
{
	struct fixture *f = *state;
	unsigned limit = geteuid() == 0 ? LIMIT_CLIENTS : LIMIT_CLIENTS_PER_UID;
	struct peer *p = calloc(limit + 1, sizeof(*p));
	char expected[32];

	for (unsigned i = 0; i < limit; i++) {
		struct varlink_reply reply;

		p[i] = peer_connect(f);
		peer_call(&p[i], "{\"method\":\"" SERVICE "GetInfo\"}");
		reply = peer_reply(&p[i]);
		assert_null(reply.error);
		varlink_reply_done(&reply);
	}
	p[limit] = peer_connect(f);
	(void)snprintf(expected, sizeof(expected), "{\"limit\":%u}", limit);
	assert_error(&p[limit], LEDGER "TooManyClients", expected);
	assert_true(peer_is_closed(&p[limit]));
	for (unsigned i = 0; i <= limit; i++)
		peer_close(&p[i]);
	free(p);
}

/* Out of descriptors, it turns clients away instead of spinning or leaving them hanging, and recovers. */
static void test_few_descriptors(void **state)
{
	struct fixture *f = *state;
	const char *preload = getenv("LD_PRELOAD");
	struct peer p[32];
	unsigned served = 0;

	if (preload && strstr(preload, "vgpreload")) {
		print_message("cannot run here: valgrind keeps no limit of descriptors\n");
		skip();
	}
	for (size_t i = 0; i < ELEMENTSOF(p); i++) {
		struct varlink_reply reply;

		p[i] = peer_connect(f);
		peer_call(&p[i], "{\"method\":\"" SERVICE "GetInfo\"}");
		if (!peer_receive(&p[i], &reply))
			break;
		varlink_reply_done(&reply);
		served++;
	}
	assert_true(served > 2 && served < 24);
	for (size_t i = 0; i <= served; i++)
		peer_close(&p[i]);
	barrier(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_errors, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_frames, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_shared_look, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_ledger_restarts, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_stream, setup_history, teardown),
		cmocka_unit_test_setup_teardown(test_cursor, setup_history, teardown),
		cmocka_unit_test_setup_teardown(test_explain, setup_history, teardown),
		cmocka_unit_test_setup_teardown(test_follow, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_clients, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(
			test_few_descriptors, setup_few_descriptors, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
