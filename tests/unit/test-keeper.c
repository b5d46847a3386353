/* SPDX-License-Identifier: MIT */

/*
 * Up to when the ledger process says that all is known: what it stores as the session's end, and where a gap begins; and by which
 * clock. The process as it is, but its loop, hears what capture may say.
 */

#include "tests/support/ledger_script.h"

#include <sys/socket.h>

#include "common/stream.h"
#include "daemon/ledger/keeper_private.h"
#include "tests/support/store_fixture.h"

struct keeping {
	struct fixture f; /* its directory */
	struct keeper keeper;
	struct keeper_options options;
	int capture_fd, supervisor_fd;
};

static void tell(struct keeping *g, const struct record *r)
{
	_cleanup_(buf_done) struct buf b = {0};

	assert_int_equal(stream_put(&b, r), 0);
	assert_int_equal(send(g->capture_fd, buf_bytes(&b), buf_size(&b), MSG_NOSIGNAL),
		(ssize_t)buf_size(&b));
	assert_true(event_base_loop(g->keeper.base, EVLOOP_NONBLOCK) >= 0);
	assert_false(event_base_got_break(g->keeper.base));
}

/* In the directory that is there. */
static void begin_at(struct keeping *g, struct now at)
{
	char version[] = "1.2.3";
	const struct record hello = {
		RECORD_HELLO, .hello = {.at = at, .generation = 9, .version = version}};
	int capture[2], supervisor[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, capture), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, supervisor),
		0);
	g->capture_fd = capture[1];
	g->supervisor_fd = supervisor[1];
	g->options = (struct keeper_options){
		.capture_fd = capture[0],
		.supervisor_fd = supervisor[0],
		.state_fd = g->f.dir,
		.state_path = g->f.path,
		.record_fd = -1,
	};
	assert_int_equal(keeper_open(&g->keeper, &g->options), 0);
	tell(g, &hello);
	assert_non_null(g->keeper.store);
}

static void begin(struct keeping *g)
{
	fixture_init(&g->f);
	begin_at(g, (struct now){100, 1000100});
}

/* Capture dies: what it said is kept. */
static void leave(struct keeping *g)
{
	close(g->capture_fd);
	assert_true(event_base_loop(g->keeper.base, EVLOOP_NONBLOCK) >= 0);
	assert_int_equal(g->keeper.store_error, 0);
	keeper_close(&g->keeper);
	close(g->supervisor_fd);
}

static void end(struct keeping *g)
{
	leave(g);
	fixture_done(&g->f);
}

#define EVENTS(...)                                                                                \
	COVERAGE(.protocols = ALL, .rung = SOURCE_EVENTS, .netns_all = true, __VA_ARGS__)
#define WHOLE EVENTS(.udp_connect = true)

static const struct {
	const char *title;
	const struct record *records;
	usec_t until; /* boottime */
} cases[] = {
	{"a sweep knows all that was before it", SCRIPT(WHOLE, SWEEP(1)), 1000},
	{"the ring tells on: all is known up to there",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500)), 1500},
	{"... not before the first sweep", SCRIPT(WHOLE, DRAINED(9, 1, 900)), 100},
	{"... nor where a connect of UDP is found by sweeps",
		SCRIPT(EVENTS(.udp_connect = false), SWEEP(1), DRAINED(9, 1, 1500)), 1000},
	{"... nor where a sweep has missed something, of which the next decides",
		SCRIPT(WHOLE, EVENT(7, 40000, 500), ABSENT(7, 1001, 500), SWEEP(1),
			DRAINED(9, 1, 1500)),
		1000},
	{"... nor where ends were lost, before a sweep shows what they were of",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .lost_ends = 1)), 1000},
	{"... which it has",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .lost_ends = 1), SWEEP(2),
			DRAINED(9, 2, 2500, .lost_ends = 1)),
		2500},
	{"the ring fills: an opening may have had no room, and is told with its end",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .urgent = true)), 1000},
	{"... and so it stays, however often it is read",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .urgent = true), DRAINED(9, 2, 1600),
			DRAINED(9, 3, 1700)),
		1000},
	{"... until a sweep that began after that has shown it",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .urgent = true), DRAINED(9, 2, 1600),
			SWEEP(2), DRAINED(9, 3, 2500)),
		2500},
	{"... after the ring was read last, too: there is room by now, and was none in between",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .urgent = true), SWEEP(2),
			DRAINED(9, 2, 2500), DRAINED(9, 3, 2600)),
		2000},
	{"... not one that had begun before",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .urgent = true), DRAINED(9, 2, 2001),
			SWEEP(2), DRAINED(9, 3, 2500)),
		2000},
	{"... nor one that was aborted",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 1500, .urgent = true), DRAINED(9, 2, 1600),
			PARTIAL(2, 1, 2000, 2010), DRAINED(9, 3, 2500)),
		1000},
};

static void test_until(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct keeping g;

		print_message("  %s\n", cases[i].title);
		begin(&g);
		for (const struct record *r = cases[i].records; r->type != 0; r++)
			tell(&g, r);
		assert_int_equal(g.keeper.until.boot, cases[i].until);
		assert_int_equal(g.keeper.until.wall, cases[i].until + 1000000);
		end(&g);
	}
}

/* The wall clock was set by a minute, as this sweep shows. */
#define SET(n, mask)                                                                               \
	{                                                                                          \
		RECORD_SWEEP, .sweep = {                                                           \
			.number = n,                                                               \
			.begin = (n)*1000,                                                         \
			.end = (n)*1000 + 10,                                                      \
			.now = {(n)*1000 + 10, 61000000 + (n)*1000 + 10},                          \
			.protocols = mask,                                                         \
		}                                                                                  \
	}

static const struct {
	const char *title;
	const struct record *records;
} settings[] = {
	{"a whole sweep shows it", SCRIPT(WHOLE, SWEEP(1), SET(2, ALL))},
	{"one that was aborted, which moves nothing else", SCRIPT(WHOLE, SWEEP(1), SET(2, 0))},
	{"one that began before what the ring has told",
		SCRIPT(WHOLE, SWEEP(1), DRAINED(9, 1, 2005), SET(2, ALL))},
};

/* That the clock was set is written with what says that it is known: once, whoever dies when. */
static void test_clock_that_is_set(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(settings); i++) {
		const struct record whole = WHOLE, swept = SET(3, ALL);
		struct keeping g;

		print_message("  %s\n", settings[i].title);
		begin(&g);
		for (const struct record *r = settings[i].records; r->type != 0; r++)
			tell(&g, r);
		leave(&g);
		assert_rows(&g.f, "SELECT by_usec FROM clock_step", "60000000|\n");
		begin_at(&g, (struct now){2900, 61002900});
		tell(&g, &whole);
		tell(&g, &swept);
		leave(&g);
		assert_rows(&g.f, "SELECT by_usec FROM clock_step", "60000000|\n");
		fixture_done(&g.f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_until),
		cmocka_unit_test(test_clock_that_is_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
