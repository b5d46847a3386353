/* SPDX-License-Identifier: MIT */

/*
 * Each allocation of a call's answer fails once, the n-th for every n, and so does each call to SQLite: the client is told, or its
 * connection is closed, or it gets the answer that it would have got. Never a part of it that says it is the whole.
 *
 * Server, methods, queries and link are in one process with their client and their ledger, in turns.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/stream.h"
#include "common/varlink.h"
#include "daemon/control/methods.h"
#include "tests/support/failing_calls.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define LEDGER    "org.portledger.ledger."
#define SERVICE   "org.varlink.service."
#define REPLY_MAX (16u << 20)
#define IDLE      4 /* turns of the loop without anything to read: nothing more comes */

/* SQLite's own memory, of which the n-th piece is refused. A call takes thousands, where the schema is to be read again. */
static sqlite3_mem_methods memory;
static volatile unsigned memory_in = UINT_MAX;

static bool memory_is_short(void)
{
	if (memory_in == UINT_MAX || memory_in-- > 0)
		return false;
	memory_in = UINT_MAX;
	failing_hits++;
	return true;
}

static void *memory_allocate(int size)
{
	return memory_is_short() ? NULL : memory.xMalloc(size);
}

static void *memory_resize(void *old, int size)
{
	return memory_is_short() ? NULL : memory.xRealloc(old, size);
}

static void watch_memory(void)
{
	sqlite3_mem_methods watched;

	assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory), SQLITE_OK);
	watched = memory;
	watched.xMalloc = memory_allocate;
	watched.xRealloc = memory_resize;
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &watched), SQLITE_OK);
	/* no pieces but these */
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
}

/* What is counted down while control works. */
static volatile unsigned *refused_in = &failing_in;

struct world {
	struct fixture f;
	struct process *processes[FIXTURE_PROCESSES];
	struct event_base *base;
	struct query *query;
	struct link *link;
	struct methods *methods;
	struct server *server;
	int listener, client, ledger; /* the test's ends; -1: there is none */
	unsigned hung_up;             /* connections that ended while they were answered */
	struct sockaddr_un address;
	struct buf asked, told; /* what came from control */
};

/* What a call was answered. */
struct answer {
	struct buf text; /* of all replies */
	char error[128]; /* "": none */
	bool closed;     /* the connection */
	bool some;       /* there was a reply */
	bool whole;      /* there was a last reply, and it was no error */
};

static void answer_done(struct answer *a)
{
	buf_done(&a->text);
}

/* The history */

static void put_claims(struct world *w, unsigned count)
{
	struct fixture *f = &w->f;

	for (unsigned i = 0; i < count; i++) {
		struct claim c =
			random_claim(f, w->processes, FIXTURE_PROCESSES, 30 * USEC_PER_SEC);

		c.role = (uint8_t)(i % ROLE_COUNT);
		c.protocol = (uint8_t)(i / ROLE_COUNT % PROTOCOL_COUNT);
		c.local.port = (uint16_t)(40000 + i % 8);
		if (i % 6 == 5) {
			c.closed_boot = c.closed_after_boot = c.released_boot = USEC_UNSET;
			assert_int_equal(store_put_open(f->store, &c), 0);
		} else if (i % 6 == 4) {
			c.closed_boot += 3 * USEC_PER_HOUR;
			c.released_boot = c.closed_boot;
			assert_int_equal(store_put_released(f->store, &c), 0);
		} else {
			assert_int_equal(store_put_released(f->store, &c), 0);
		}
		claim_done(&c);
	}
}

static void put_flood(struct world *w)
{
	for (unsigned i = 0; i < 12; i++) {
		struct claim c = fixture_claim(&w->f, (uint16_t)(40000 + i));

		c.opener = process_ref(w->processes[2]);
		c.opened_after_boot = c.closed_after_boot = USEC_UNSET;
		c.closed_boot = c.released_boot = c.opened_boot + 1000;
		assert_int_equal(store_put_released(w->f.store, &c), 0);
		claim_done(&c);
	}
}

static void put_failures(struct world *w)
{
	for (unsigned i = 0; i < 3; i++) {
		const struct store_failure failure = {
			.at_wall = w->f.now.wall + i,
			.process = w->processes[i],
			.held = i > 0,
			.holder = i > 1 ? w->processes[i + 1] : NULL,
			.holder_opened_wall = w->f.now.wall,
			.failure = {.netns = FIXTURE_NETNS,
				.local = {{FAMILY_IPV4, {127, 0, 0, 1}}, (uint16_t)(40000 + i)},
				.remote = {{FAMILY_IPV4, {192, 0, 2, 1}}, 443},
				.error = i % 2 ? FAILURE_NOT_AVAILABLE : FAILURE_IN_USE,
				.call = i % 2 ? FAILURE_CONNECT : FAILURE_BIND},
		};

		assert_int_equal(store_put_failure(w->f.store, &failure), 0);
	}
	assert_int_equal(store_put_failures_left_out(
				 w->f.store, w->f.now.wall, w->f.now.wall + USEC_PER_SEC, 7),
		0);
}

static const struct settings settings = {
	.max_age_usec = 3650 * USEC_PER_DAY,
	.max_bytes = UINT64_C(1) << 30,
	.remote_addresses = REMOTE_ADDRESSES_TRUNCATED,
	.remote_after_usec = USEC_PER_DAY,
	.activity_hour_usec = 3650 * USEC_PER_DAY,
	.activity_day_usec = 3650 * USEC_PER_DAY,
	.user_share_permille = 500,
	.coalesce_above = 4,
};

static void pass(struct world *w, usec_t usec)
{
	w->f.now.boot += usec;
	w->f.now.wall += usec;
}

/* Two days of it: sealed, coalesced and rolled up, then a little that is not. */
static void fill(struct world *w)
{
	const struct coverage how = {.rung = SOURCE_EVENTS,
		.protocols = 15,
		.ranges = {{{1, UINT16_MAX}}, 1},
		.ephemeral = {32768, 60999},
		.accepted = true,
		.netns_all = true};
	struct fixture *f = &w->f;

	store_settings(f->store, &settings);
	assert_int_equal(store_put_coverage(f->store, &how, f->now.wall - USEC_PER_HOUR), 0);
	for (unsigned day = 0; day < 2; day++) {
		put_claims(w, 30);
		put_flood(w);
		put_failures(w);
		assert_int_equal(store_put_gap(f->store, f->now.wall, f->now.wall + USEC_PER_MINUTE,
					 "ring-lost", 5),
			0);
		assert_int_equal(store_put_clock_step(f->store, f->now.wall, 1000000), 0);
		commit(f);
		pass(w, 25 * USEC_PER_HOUR);
		commit(f);
		maintain(f);
	}
	assert_int_equal(store_put_coverage(f->store, &how, f->now.wall), 0);
	put_claims(w, 12);
	assert_int_equal(sql_exec(f->store,
				 "INSERT INTO known VALUES(1,-1,0,'/usr/bin/program',0,1),(1,0,80,"
				 "NULL,NULL,1);INSERT INTO news SELECT NULL,-(claim%2),claim FROM "
				 "claim_open ORDER BY claim LIMIT 4"),
		0);
	commit(f);
}

/* Control, its client and its ledger */

static void connect_ledger(struct world *w)
{
	int fds[2];

	close_p(&w->ledger);
	buf_done(&w->asked);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	w->ledger = fds[0];
	link_connect(w->link, fds[1]);
	assert_true(link_is_up(w->link));
}

static void connect_client(struct world *w)
{
	close_p(&w->client);
	buf_done(&w->told);
	w->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(w->client >= 0);
	assert_int_equal(connect(w->client, (struct sockaddr *)&w->address, sizeof(w->address)), 0);
}

static void on_committed(void *context)
{
	struct world *w = context;

	methods_committed(w->methods);
}

static void start_control(struct world *w)
{
	const struct link_handler on_link = {.context = w, .committed = on_committed};
	struct server_handler methods;
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", w->f.path, SCHEMA_FILE);
	assert_int_equal(query_new(path, &w->query), 0);
	w->base = event_base_new();
	assert_non_null(w->base);
	assert_int_equal(link_new(w->base, &on_link, &w->link), 0);
	assert_int_equal(methods_new(&(struct methods_options){.link = w->link,
					     .query = w->query,
					     .state_path = w->f.path},
				 &w->methods),
		0);
	w->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(w->address.sun_path, sizeof(w->address.sun_path), "%s/socket", w->f.path);
	w->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&w->address, sizeof(w->address)), 0);
	assert_int_equal(listen(w->listener, 8), 0);
	methods = methods_handler(w->methods);
	assert_int_equal(server_new(w->base, w->listener, &methods, &w->server), 0);
	connect_ledger(w);
	connect_client(w);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	failing_prints = false;
	w->client = w->ledger = -1;
	fixture_init(&w->f);
	fixture_processes(w->processes);
	fixture_open(&w->f);
	fill(w);
	start_control(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	close_p(&w->client);
	close_p(&w->ledger);
	w->server = server_free(w->server);
	w->methods = methods_free(w->methods);
	w->link = link_free(w->link);
	w->query = query_free(w->query);
	event_base_free(w->base);
	close_p(&w->listener);
	buf_done(&w->asked);
	buf_done(&w->told);
	processes_done(w->processes);
	fixture_done(&w->f);
	free(w);
	return 0;
}

/* What is there to read, into `in`. 1: something; 0: nothing; -1: the end. */
static int receive(int fd, struct buf *in)
{
	void *room = buf_reserve(in, 65536);
	ssize_t n;

	assert_non_null(room);
	n = recv(fd, room, 65536, MSG_DONTWAIT);
	if (n > 0)
		buf_grow(in, (size_t)n);
	return n > 0 ? 1 : n == 0 || errno != EAGAIN ? -1 : 0;
}

static void say_committed(struct world *w, uint64_t id)
{
	_cleanup_(buf_done) struct buf out = {0};
	struct record record = {.type = RECORD_COMMITTED};
	struct committed *c = &record.committed;

	c->id = id;
	c->commit = 1;
	c->until_wall = w->f.now.wall;
	c->watching = c->capture_answered = true;
	c->coverage = (struct coverage){.rung = SOURCE_EVENTS,
		.interval_usec = 1000000,
		.ranges = {{{32768, UINT16_MAX}}, 1},
		.foreign_processes = true,
		.ephemeral = {32768, 60999}};
	assert_int_equal(stream_put(&out, &record), 0);
	(void)!send(w->ledger, buf_bytes(&out), buf_size(&out), MSG_NOSIGNAL);
}

/* The ledger answers what it is asked. True: it was. */
static bool answer_link(struct world *w)
{
	bool asked = false;
	struct record record;
	size_t size;

	if (w->ledger < 0)
		return false;
	if (receive(w->ledger, &w->asked) < 0) {
		close_p(&w->ledger);
		w->ledger = -1;
		return true;
	}
	while (stream_get(buf_bytes(&w->asked), buf_size(&w->asked), &record, &size) == 1) {
		buf_consume(&w->asked, size);
		if (record.type == RECORD_SYNC)
			say_committed(w, record.sync);
		record_done(&record);
		asked = true;
	}
	return asked;
}

/* Takes the replies that are there. True: there was one, or the connection is closed. */
static bool take_replies(struct world *w, struct answer *a)
{
	bool some = false;
	size_t size;
	int r = receive(w->client, &w->told);

	while (varlink_frame(&w->told, REPLY_MAX, &size) == 1) {
		struct varlink_reply reply;
		char *text;

		assert_int_equal(
			varlink_parse_reply((const char *)buf_bytes(&w->told), size, &reply), 0);
		buf_consume(&w->told, size + 1);
		/* what they use varies; and what could not be read is null */
		(void)json_object_del(reply.parameters, "processes");
		(void)json_object_del(reply.parameters, "reserved");
		text = json_dumps(reply.parameters, JSON_COMPACT | JSON_SORT_KEYS);
		assert_non_null(text);
		if (reply.error)
			(void)snprintf(a->error, sizeof(a->error), "%s", reply.error);
		else
			assert_int_equal(buf_append_string(&a->text, text), 0);
		a->whole = !reply.error && !reply.continues;
		free(text);
		varlink_reply_done(&reply);
		some = a->some = true;
	}
	a->closed = r < 0;
	return some || r < 0;
}

/* Who hangs up while he is answered is missed within a second; until then he has his place. */
static void let_go(struct world *w)
{
	const struct timeval second = {.tv_sec = 1, .tv_usec = 100000};

	assert_int_equal(event_base_loopexit(w->base, &second), 0);
	(void)event_base_dispatch(w->base);
	w->hung_up = 0;
}

/* Sends a call and gets what it is answered, the n-th call of control's failing. True: one failed. */
static bool ask(struct world *w, const char *call, unsigned n, struct answer *ret)
{
	unsigned in = n;

	*ret = (struct answer){0};
	if (w->client < 0)
		connect_client(w);
	if (!link_is_up(w->link))
		connect_ledger(w);
	assert_int_equal(send(w->client, call, strlen(call) + 1, MSG_NOSIGNAL), strlen(call) + 1);
	failing_hits = 0;
	for (unsigned idle = 0; idle < IDLE && !ret->whole && !ret->closed && !ret->error[0];
		idle++) {
		*refused_in = in;
		/* until there was an answer, something will come: from a timer, if from nothing else */
		(void)event_base_loop(
			w->base, idle > 1 && !ret->some ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
		in = *refused_in;
		*refused_in = UINT_MAX;
		if (answer_link(w))
			idle = 0;
		if (take_replies(w, ret))
			idle = 0;
	}
	assert_int_equal(buf_put_u8(&ret->text, 0), 0);
	if (!ret->whole) { /* what goes on ends with its connection */
		close_p(&w->client);
		w->client = -1;
		for (unsigned i = 0; i < IDLE; i++)
			(void)event_base_loop(w->base, EVLOOP_NONBLOCK);
		if (!ret->error[0] && !ret->closed && ++w->hung_up == LIMIT_CLIENTS - 4)
			let_go(w);
	}
	return failing_hits > 0;
}

/* Times differ from one answer to the next, where they are now's; and in what Doctor says, every number may. */
static const char *text_of(const char *call, struct answer *a)
{
	const size_t least = strstr(call, "Doctor") ? 1 : 16;
	char *text = (char *)a->text.data, *to = text;

	for (const char *from = text; *from;) {
		size_t length = strspn(from, "0123456789");

		if (length >= least)
			*to++ = 'T';
		else
			for (size_t i = 0; i < MAX(length, 1u); i++)
				*to++ = from[i];
		from += MAX(length, 1u);
	}
	*to = '\0';
	return text;
}

/* What is asked. All that is in the past needs no look. */
#define PAST         "\"since_usec\":1699990000000000,\"until_usec\":1700500000000000"
#define CALL(m, ...) "{\"method\":\"" LEDGER m "\",\"parameters\":{" __VA_ARGS__ "}}"
#define MORE(m, ...) "{\"method\":\"" LEDGER m "\",\"more\":true,\"parameters\":{" __VA_ARGS__ "}}"

static const char *const calls[] = {
	"{\"method\":\"" SERVICE "GetInfo\"}",
	"{\"method\":\"" SERVICE
	"GetInterfaceDescription\",\"parameters\":{\"interface\":\"org.portledger.ledger\"}}",
	CALL("Sync"),
	CALL("Status"),
	CALL("Doctor"),
	CALL("Explain", "\"port\":40001"),
	CALL("Explain", "\"port\":40001,\"protocol\":\"udp\",\"netns\":\"4026531840\""),
	CALL("Who",
		"\"port\":40001,\"from_usec\":1699990000000000,\"until_usec\":1700500000000000"),
	CALL("Claims", PAST),
	CALL("Claims", PAST ",\"limit\":7"),
	CALL("Claims", PAST
		",\"filter\":{\"ports\":[40001,40002],\"range\":\"30000-50000\",\"role\":\"connected\","
		"\"protocol\":\"tcp\",\"peer_port\":443}"),
	CALL("Claims",
		PAST ",\"filter\":{\"app\":\"program\",\"uid\":1000,\"unit\":\"user@1000.service\","
		     "\"pid\":102,\"netns\":\"4026531840\"}"),
	MORE("Claims", "\"open\":true"),
	CALL("Released", PAST),
	CALL("Released", "\"since_usec\":1700190000000000"),
	CALL("Audit", PAST),
	CALL("Audit", PAST ",\"by\":\"unit\",\"filter\":{\"app\":\"curl\"}"),
	CALL("Audit", PAST ",\"by\":\"user\",\"filter\":{\"ports\":[40001]}"),
	CALL("Audit", PAST ",\"by\":\"port\""),
	CALL("Audit", PAST ",\"by\":\"hour\""),
	CALL("Audit", PAST ",\"by\":\"netns\""),
	CALL("Audit", "\"since_usec\":1699920000000000,\"until_usec\":1700180000000000"),
	CALL("Listeners", "\"bound_usec\":1"),
	CALL("Listeners", PAST),
	CALL("Pressure", PAST),
	CALL("Pressure", "\"limit\":2"),
	CALL("Apps", PAST),
	CALL("Apps", "\"new\":true"),
	CALL("Apps", PAST ",\"name\":\"program\""),
	CALL("Activity", PAST ",\"step_usec\":7200000000"),
	CALL("Occupancy", PAST ",\"step_usec\":7200000000"),
	CALL("Annotate",
		"\"flows\":[{\"at_usec\":1700000001000000,\"until_usec\":1700000900000000,"
		"\"source\":\"127.0.0.1\",\"source_port\":40001,\"destination\":\"192.0.2.1\","
		"\"destination_port\":443},{\"at_usec\":1700000001000000,\"protocol\":\"tcp\","
		"\"source\":\"192.0.2.1\",\"source_port\":443,\"destination\":\"::1\","
		"\"destination_port\":40002}]"),
	CALL("Receipt", PAST),
	CALL("Failures", PAST),
	CALL("Failures", PAST ",\"limit\":2,\"filter\":{\"app\":\"curl\"}"),
	MORE("Failures", PAST),
	MORE("Follow"),
	MORE("Follow", "\"new\":true"),
	MORE("Follow", "\"filter\":{\"ports\":[40005]}"),
	MORE("Follow", "\"filter\":{\"app\":\"curl\"}"),
	CALL("Nope"),
	CALL("Claims", "\"limit\":0"),
	CALL("Claims", "\"cursor\":\"x\""),
	MORE("Claims", PAST),
};

/* One whose answer goes on as long as there is news has no last reply. */
static bool is_follow(const char *call)
{
	return strstr(call, "Follow") != NULL;
}

/* These say what they could not read, and answer all the same. */
static bool tells_trouble(const char *call, const char *text)
{
	return (strstr(call, "Status") && !strstr(text, "\"degraded\":[]")) ||
	       (strstr(call, "Doctor") && strstr(text, "\"level\":\"failure\""));
}

static void assert_answer(const char *call, unsigned n, struct answer *got, struct answer *whole)
{
	const char *text = text_of(call, got), *expected = text_of(call, whole);
	size_t at = 0;

	if (got->error[0] || got->closed)
		return;
	if (got->whole == whole->whole && streq(text, expected))
		return;
	if (got->whole && tells_trouble(call, text))
		return;
	while (text[at] && text[at] == expected[at])
		at++;
	at -= MIN(at, (size_t)100);
	fail_msg("%s: call %u failed: ...%.200s instead of ...%.200s", call, n, text + at,
		expected + at);
}

/* `every`: of so many, one is tried. */
static unsigned try_call(struct world *w, const char *call, unsigned every)
{
	struct answer whole, again;
	unsigned n = 0, tried = 0;

	(void)ask(w, call, UINT_MAX, &whole);
	answer_done(&whole);
	(void)ask(w, call, UINT_MAX, &whole); /* statements are kept */
	if (!is_follow(call) && !whole.whole && !whole.error[0])
		fail_msg("%s was not answered", call);
	for (bool refused = true; refused; n += stride(every), tried++) {
		struct answer got;

		assert_true(n < 20000 + 2 * every);

		refused = ask(w, call, n, &got);
		assert_answer(call, n, &got, &whole);
		answer_done(&got);
	}
	(void)ask(w, call, UINT_MAX, &again);
	assert_string_equal(text_of(call, &again), text_of(call, &whole));
	assert_string_equal(again.error, whole.error);
	answer_done(&again);
	answer_done(&whole);
	return tried;
}

static void test_each_call(void **state)
{
	const unsigned every = full_or(1, 23);
	unsigned all = 0;

	for (size_t i = 0; i < ELEMENTSOF(calls); i++)
		all += try_call(*state, calls[i], every);
	print_message("  %u calls failed in %zu methods' calls\n", all, ELEMENTSOF(calls));
	assert_true(all > 1000 / every);
}

static void test_sqlite_without_memory(void **state)
{
	unsigned all = 0;

	refused_in = &memory_in;
	for (size_t i = 0; i < ELEMENTSOF(calls); i++)
		all += try_call(*state, calls[i], full_or(397, 2999));
	refused_in = &failing_in;
	print_message("  %u pieces of SQLite's memory were refused\n", all);
	assert_true(all > full_or(150, 20));
}

/* What is asked for must get into the statement: without it, the answer would be one to another question. */
static void test_parameters_without_memory(void **state)
{
	static const char *const asked[] = {
		CALL("Claims", PAST ",\"filter\":{\"app\":\"curl\",\"peer\":\"192.0.2.1\"}"),
		CALL("Claims", PAST ",\"filter\":{\"ports\":[40001,40003]}"),
	};
	struct world *w = *state;
	unsigned refused = 0;

	for (size_t i = 0; i < ELEMENTSOF(asked); i++) {
		struct answer whole, got;

		(void)ask(w, asked[i], UINT_MAX, &whole);
		assert_true(whole.whole);
		for (unsigned n = 0; n < 150; n += stride(full_or(1, 3))) {
			/* its statements are kept, so that few pieces are taken */
			(void)ask(w, asked[i], UINT_MAX, &got);
			answer_done(&got);
			refused_in = &memory_in;
			refused += ask(w, asked[i], n, &got);
			refused_in = &failing_in;
			assert_answer(asked[i], n, &got, &whole);
			answer_done(&got);
		}
		answer_done(&whole);
	}
	assert_true(refused > full_or(100, 20));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sqlite_without_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parameters_without_memory, setup, teardown),
	};

	(void)setenv("TMPDIR", "/dev/shm", 0); /* what a disk does is tried elsewhere */
	watch_memory();
	json_set_alloc_funcs(malloc, free); /* whose malloc() is the one that fails */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
