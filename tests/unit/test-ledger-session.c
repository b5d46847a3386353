/* SPDX-License-Identifier: MIT */

/* Around the claims: contradictions, what an earlier session left, and the sums. */

#include "tests/support/ledger_script.h"

#include <malloc.h>

static struct process ann = PERSON(101, 1), bob = PERSON(102, 2), cid = PERSON(103, 3),
		      ann_again = PERSON(101, 1), other_ann = PERSON(101, 9), nobody = PERSON(0, 0);
static const struct coverage everything = {
	.protocols = ALL, .ranges = {{{1, UINT16_MAX}}, 1}, .accepted = true};
static char reason[] = "ring-full";

/* Each must be refused after what is before it, and leave everything as it was. */
static const struct script contradictions[] = {
	{"before the hello", SCRIPT(COVERAGE(.protocols = ALL)), ""},
	{"a sighting before the hello", SCRIPT(PRESENT(7, 40000, 1000, 0)), ""},
	{"a resync before the hello", SCRIPT({RECORD_RESYNC}), ""},
	{"a second hello", SCRIPT(HELLO, HELLO), ""},
	{"an unknown opener", SCRIPT(START, PRESENT(7, 40000, 1000, 0, BY(EVENT, 1))), ""},
	{"an unknown holder",
		SCRIPT(START, PROCESS(1, &ann), PRESENT(7, 40000, 1000, 0, HELD(2, 1, 2))), ""},
	{"an unknown holder of a known claim",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(7, 40000, 2000, 0, HELD(1, 2))),
		OPENED7},
	{"an unknown holder of a claim on another port",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(7, 40001, 2000, 0, HELD(1, 2))),
		OPENED7},
	{"a forgotten opener",
		SCRIPT(START, PROCESS(1, &ann), {RECORD_FORGET, .forget = 1},
			PRESENT(7, 40000, 1000, 0, BY(EVENT, 1))),
		""},
	{"forgetting nobody", SCRIPT(START, {RECORD_FORGET, .forget = 1}), ""},
	{"a ref for another process", SCRIPT(START, PROCESS(1, &ann), PROCESS(1, &other_ann)), ""},
	{"a process with no ref", SCRIPT(START, PROCESS(0, &ann)), ""},
	{"more holders than there can be",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .holder_count = LIMIT_HOLDERS + 1)), ""},
	{"a socket without a port", SCRIPT(START, PRESENT(7, 0, 1000, 0)), ""},
	{"a socket without an address",
		SCRIPT(START, SIGHTING(PRESENT, 7, 1000, 0, .local = {.port = 1})), ""},
	{"a socket without a cookie", SCRIPT(START, PRESENT(0, 40000, 1000, 0)), ""},
	{"a bound past its time", SCRIPT(START, PRESENT(7, 40000, 1000, 1001)), ""},
	{"an absence with a bound past its time", SCRIPT(START, ABSENT(7, 1000, 1001)), ""},
	{"no time", SCRIPT(START, CLOSED(7, USEC_UNSET)), ""},
	{"no kind", SCRIPT(START, {RECORD_SIGHTING, .sighting = {.after = USEC_UNSET}}), ""},
	{"a sweep that ends before it begins", SCRIPT(START, PARTIAL(1, ALL, 1000, 999)), ""},
	{"a sweep told twice", SCRIPT(START, SWEEP(1), PARTIAL(1, ALL, 2000, 2010)), UNTIL1},
	{"a gap that ends before it begins", SCRIPT(START, {RECORD_GAP, .gap = {2, 1, 0, reason}}),
		""},
	{"a gap without a reason", SCRIPT(START, {RECORD_GAP, .gap = {1, 2, 0, NULL}}), ""},
};

static void test_contradictions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(contradictions); i++)
		run_refused(&contradictions[i]);
}

static void test_not_for_the_ledger(void **state)
{
	static const enum record_type types[] = {RECORD_SETTINGS, RECORD_BARRIER, RECORD_BYE,
		RECORD_READY, RECORD_KEPT, RECORD_WAITS, RECORD_SYNC, RECORD_COMMITTED,
		RECORD_FOLLOW, RECORD_OBSTACLE, (enum record_type)99};
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START));
	for (size_t i = 0; i < ELEMENTSOF(types); i++)
		assert_int_equal(ledger_apply(l, &(struct record){types[i]}), -EINVAL);
	assert_string_equal(log.text, "");
}

static struct claim adoptable(uint64_t cookie, uint16_t port, uint8_t protocol)
{
	struct claim c = {
		.id = cookie,
		.cookie = cookie,
		.protocol = protocol,
		.local = LOOPBACK(port),
		.opened_boot = 30,
		.opened_after_boot = 20,
		.opened_wall = 1000030,
		.closed_boot = USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
		.released_boot = USEC_UNSET,
		.attribution = ATTRIBUTION_EVENT,
		.opener = process_ref(&ann),
	};

	c.holders = calloc(1, sizeof(*c.holders));
	assert_non_null(c.holders);
	c.holders[0] = (struct holder){process_ref(&bob), 40, USEC_UNSET};
	c.holder_count = 1;
	return c;
}

#define ADOPTED(c) c " tcp 127.0.0.1:40000 connected (20,30]"
#define BY_BOTH    " event by 101 held 102@40"

static const struct {
	struct script script;
	bool lingers; /* the adopted claim is in TIME_WAIT since 35 */
} adoptions[] = {
	{{"seen again: it goes on, and nobody is said to have let go of it",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .preexisting = true), SWEEP(1), SWEEP(2)),
		UNTIL1 UNTIL2}},
	{{"seen again with a holder who was not known, without one who was",
		SCRIPT(START, PROCESS(1, &ann_again), PROCESS(3, &cid),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 3), .preexisting = true)),
		"changed " ADOPTED("7") " event by 101 held 102@40-1000 held 103@1000\n"}},
	{{"not seen by the first sweep of its protocol",
		SCRIPT(START, PARTIAL(1, ALL & ~1u, 1000, 1010), PARTIAL(2, 1, 2000, 2010)),
		"released " ADOPTED("7") " closed=90 released=90" BY_BOTH " end-unseen\n"}},
	{{"seen on another port: that is a new one",
		SCRIPT(START, PRESENT(7, 40001, 1000, 0, .preexisting = true), SWEEP(1)),
		"released " ADOPTED(
			"7") " closed(20,1000] released=1000" BY_BOTH "\n"
			     "opened 7 tcp 127.0.0.1:40001 connected (90,1000] none preexisting\n" UNTIL1}},
	{{"told by events before the first sweep", SCRIPT(START, CLOSED(7, 500)),
		"released " ADOPTED("7") " closed=500 released=500" BY_BOTH "\n"}},
	{{"in TIME_WAIT now: nobody holds it, and the opener stays",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 1500, .preexisting = true), SWEEP(1)),
		"changed " ADOPTED("7") " closed(20,1000] event by 101 held 102@40-1000\n" UNTIL1}},
	{{"resynced before it was seen", SCRIPT(START, {RECORD_RESYNC}, SWEEP(1)),
		"released " ADOPTED("7") " closed=90 released=90" BY_BOTH " end-unseen\n" UNTIL1}},
	{{"seen once, it is a claim like any other",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .preexisting = true), SWEEP(1),
			PRESENT(7, 40000, 1500, 0), {RECORD_RESYNC}, SWEEP(3)),
		UNTIL1 "changed " ADOPTED("7") " event by 101 held 102@40-1500\nreleased " ADOPTED(
			"7") " closed(1000,3000] released=3000 event by 101 held 102@40-1500\n" UNTIL3}},
	{{"what lingered and is gone was closed before, not unseen", SCRIPT(START, SWEEP(1)),
		 "released " ADOPTED("7") " closed(30,35] released=90" BY_BOTH "\n" UNTIL1},
		true},
};

static void test_adopted(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(adoptions); i++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		struct claim claim = adoptable(7, 40000, PROTOCOL_TCP);

		print_message("  %s\n", adoptions[i].script.title);
		assert_non_null(l);
		if (adoptions[i].lingers) {
			claim.closed_boot = 35;
			claim.closed_after_boot = 30;
		}
		ledger_watched_until(l, (struct now){90, 1000090}, &everything);
		assert_int_equal(ledger_adopt(l, &claim, 90), 0);
		assert_int_equal(ledger_stats(l).open_claims, 1);
		assert_int_equal(ledger_stats(l).unattributed, 0);
		play(l, adoptions[i].script.records);
		assert_string_equal(log.text, adoptions[i].script.log);
	}
	assert_int_equal(ann.references + bob.references + cid.references, 3);
}

/* Two tenures of one socket: where the ring tells of both again, the later is left alone; where it does not, the later is
 * the one that may be there still, and the earlier had ended by then. */
static void test_adopted_twice(void **state)
{
	static const struct drained stored = {.ring = {9, 10}, .at = 90};

	(void)state;
	for (int goes_on = 0; goes_on < 2; goes_on++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		struct claim first = adoptable(7, 40000, PROTOCOL_UDP);
		_cleanup_(claim_done) struct claim second = adoptable(7, 40001, PROTOCOL_UDP);

		second.opened_boot = first.opened_boot + 20;
		second.opened_wall = first.opened_wall + 20;
		assert_non_null(l);
		ledger_ring_before(l, &stored, goes_on == 1, goes_on == 1);
		assert_int_equal(ledger_adopt(l, &first, 90), 0);
		assert_int_equal(ledger_adopt(l, &second, 90), goes_on ? -EEXIST : 0);
		assert_int_equal(ledger_stats(l).open_claims, 1);
		if (goes_on) {
			assert_ptr_equal(second.opener, &ann);
			assert_string_equal(log.text, "");
			continue;
		}
		assert_non_null(strstr(log.text, "released 7 udp 127.0.0.1:40000"));
		assert_non_null(strstr(log.text, "released=50"));
		log.text[0] = '\0';
		assert_int_equal(ledger_each(l, say_each, &log), 0);
		assert_non_null(strstr(log.text, "open 7 udp 127.0.0.1:40001"));
	}
}

/* A first sweep after an earlier session bounds what it finds, but never past its own time. */
static void test_watched_until(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	ledger_watched_until(l, (struct now){500, 1000500}, &everything);
	play(l, SCRIPT(START, PRESENT(1, 1, 1000, 0, .preexisting = true),
			PRESENT(2, 2, 1000, 600, .preexisting = true),
			PRESENT(3, 3, 400, 0, .preexisting = true), PRESENT(4, 4, 1000, 0)));
	assert_string_equal(log.text,
		"opened 1 tcp 127.0.0.1:1 connected (500,1000] none preexisting\n"
		"opened 2 tcp 127.0.0.1:2 connected (600,1000] none preexisting\n"
		"opened 3 tcp 127.0.0.1:3 connected (0,400] none preexisting\n"
		"opened 4 tcp 127.0.0.1:4 connected (0,1000] none\n");
}

/* Between two sessions of one boot: told by the first sweep, which is when it is known for good. */
static void test_clock_set_in_between(void **state)
{
	static const struct {
		struct now seen;
		const char *log;
	} cases[] = {
		{{90, 1000090}, ""},
		{{90, 1400090}, ""}, /* slewed, or read late */
		{{90, 61000090}, "clock 1001010 by -60000000\n"},
		{{90, 100090}, "clock 1001010 by 900000\n"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

		assert_non_null(l);
		ledger_watched_until(l, cases[i].seen, &everything);
		play(l, SCRIPT(HELLO, COVERAGE(.protocols = ALL)));
		assert_string_equal(log.text, "");
		play(l, SCRIPT(PARTIAL(1, 1, 1000, 1010), PARTIAL(2, 1, 2000, 2010)));
		assert_string_equal(log.text, cases[i].log);
	}
}

static void test_stats(void **state)
{
	struct log log = {0}, seen;
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(HELLO, PROCESS(1, &ann), PROCESS(3, &nobody),
			COVERAGE(.protocols = ALL, .rung = SOURCE_EVENTS),
			PRESENT(1, 1, 1000, 0, .preexisting = true), PRESENT(2, 2, 1000, 0),
			PRESENT(3, 3, 1000, USEC_UNSET, .source = SOURCE_EVENTS, BY(EVENT, 1)),
			PRESENT(4, 4, 1000, 0, BY(KERNEL, 0)), PRESENT(5, 5, 1000, 0, BY(UID, 3)),
			PARTIAL(1, 1, 1000, 1010)));
	describe(l, &seen);
	assert_non_null(strstr(seen.text,
		"5 open 0 sweeps 0 usec 3 unattributed 0 gaps 0 lost 2 only by sweep, 0, wall"));
	play(l, SCRIPT(SWEEP(2), PRESENT(2, 2, 1500, 0, BY(PROCFD, 1)), CLOSED(1, 1600),
			COVERAGE(.protocols = ALL, .rung = SOURCE_SWEEP), PRESENT(6, 6, 1700, 0),
			{RECORD_GAP, .gap = {1, 2, 5, reason}},
			{RECORD_GAP, .gap = {1, 2, LOST_UNKNOWN, reason}}));
	describe(l, &seen);
	assert_non_null(strstr(seen.text,
		"5 open 1 sweeps 2 usec 2 unattributed 2 gaps 5 lost 2 only by sweep, 1, wall"));
}

static int stop_at_two(void *context, struct claim *claim)
{
	say(context, "%" PRIu64 " ", claim->cookie);
	return claim->cookie == 2 ? -ECANCELED : 0;
}

static void test_each_in_order(void **state)
{
	struct log log = {0}, visited = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START, PRESENT(9, 9, 1000, 0), PRESENT(5, 5, 1000, 0),
			PRESENT(7, 7, 1000, 0), CLOSED(5, 1100), PRESENT(9, 8, 1200, 0),
			PRESENT(2, 2, 1000, 0), PRESENT(4, 4, 1000, 0)));
	assert_int_equal(ledger_each(l, stop_at_two, &visited), -ECANCELED);
	assert_string_equal(visited.text, "7 9 2 ");
}

/* What 50,000 open claims cost on the heap, holders apart: a promise of DESIGN. */
static void test_memory(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	size_t before = mallinfo2().uordblks, each;
	struct record r = PRESENT(1, 40000, 1000, 0);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START));
	for (r.sighting.cookie = 1; r.sighting.cookie <= 50000; r.sighting.cookie++)
		assert_int_equal(ledger_apply(l, &r), 0);
	each = (mallinfo2().uordblks - before) / 50000; /* 0 under a sanitizer's allocator */
	print_message("  %zu bytes for each open claim\n", each);
	assert_true(each < 300);
	assert_int_equal(ledger_stats(l).open_claims, 50000);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_not_for_the_ledger),
		cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_adopted_twice),
		cmocka_unit_test(test_watched_until),
		cmocka_unit_test(test_clock_set_in_between),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_each_in_order),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
