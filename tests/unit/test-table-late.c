/* SPDX-License-Identifier: MIT */

/* What the kernel says late of sockets that went: never called exact, never bounded too tightly, never another claim. */

#include "tests/unit/ends-script.h"

#define LATE (5 * USEC_PER_SEC)

/* Heard late, it ended at any time since it was last seen. */
static void test_heard_late(void **state)
{
	WORLD(w, true);
	usec_t seen, before;

	(void)state;
	NOTHING(w);
	before = w->begin;
	w->clock += 4 * USEC_PER_SEC;
	SWEEP(w, udp(2, EPHEMERAL, 0));
	seen = w->begin;
	w->clock = w->end; /* right after it */
	tell(w, end_of(udp(2, EPHEMERAL, 0), END_UNKNOWN), false);
	tell(w, end_of(udp(3, EPHEMERAL, 0), END_UNKNOWN), true);
	table_ends_doubt(w->table, w->clock);
	w->clock = seen + USEC_PER_SEC;
	assert_int_equal(NOTHING(w), 3);
	assert_int_equal(w->got[0].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[0].after, seen);
	/* one that no sweep has seen: nor did that which may have run when it was gone already */
	assert_int_equal(w->got[1].after, before);
	assert_int_equal(w->got[2].after, before);
}

/* A TCP socket says how long ago it was alive: it has not ended before that, however late that is heard. */
static void test_idle(void **state)
{
	static const struct {
		uint32_t idle_msec;
		bool finished, prompt, exact;
	} cases[] = {
		{3, true, true, true},
		{3, false, false, true},
		{300, false, true, true}, /* reset after a silence */
		{300, true, true, false}, /* the last thing it heard was its end */
		{300, false, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		WORLD(w, true);
		struct socket_end e = end_of(tcp(1, 0, EPHEMERAL, 443), END_ACTIVE);
		usec_t at, before;

		NOTHING(w);
		before = w->begin;
		e.idle_msec = cases[i].idle_msec;
		e.finished = cases[i].finished;
		at = tell(w, e, cases[i].prompt);
		assert_int_equal(NOTHING(w), 2);
		assert_int_equal(w->got[0].after, before);
		assert_int_equal(w->got[1].at, at);
		assert_int_equal(
			w->got[1].after, cases[i].exact ? USEC_UNSET : at - 320 * USEC_PER_MSEC);
	}
}

/* What went while a sweep was running may have gone before its turn there, however long it had been: only a sweep before
 * proves that it was not there yet. */
static void test_went_during_a_sweep(void **state)
{
	WORLD(w, true);
	struct socket_end e = end_of(udp(1, EPHEMERAL, 0), END_UNKNOWN);
	usec_t first, second;

	(void)state;
	NOTHING(w);
	first = w->begin;
	NOTHING(w);
	second = w->begin;
	w->clock = w->end + 99 * USEC_PER_MSEC - 1;
	tell(w, e, true);
	e.row.cookie = 2;
	w->clock = w->end + 100 * USEC_PER_MSEC;
	tell(w, e, true);
	w->clock = second + USEC_PER_SEC;
	assert_int_equal(NOTHING(w), 4);
	assert_int_equal(w->got[0].after, first);
	assert_int_equal(w->got[2].after, second);
}

/* The listener's own end may be told a moment after its child's: a sweep for which nobody waits leaves that moment. */
static void test_listener_told_after_its_child(void **state)
{
	(void)state;
	for (unsigned patient = 0; patient < 2; patient++) {
		WORLD(w, true);

		NOTHING(w);
		table_be_patient(w->table, patient);
		w->clock -= 1000; /* the next sweep begins right after it */
		hear(w, tcp(3, 0, LISTEN_PORT, 443), END_UNKNOWN);
		assert_int_equal(NOTHING(w), patient ? 0 : 2);
		hear(w, tcp(2, 0, LISTEN_PORT, 0), END_UNUSED);
		assert_int_equal(NOTHING(w), patient ? 4 : 2);
		expect(&w->got[0], SIGHTING_PRESENT, patient ? 3 : 2, PROTOCOL_TCP, ROLE_UNKNOWN,
			false);
	}
}

/* Two sweeps have missed it before its end is told: that is no other claim. */
static void test_told_after_two_misses(void **state)
{
	WORLD(w, true);

	(void)state;
	table_hear(w->table);
	SWEEP(w, client(1), udp(2, EPHEMERAL, 0));
	assert_int_equal(NOTHING(w), 2);
	assert_int_equal(NOTHING(w), 0);
	w->clock += 60 * LATE;
	assert_int_equal(NOTHING(w), 0);
	hear(w, client(1), END_UNKNOWN);
	hear(w, udp(2, EPHEMERAL, 0), END_UNKNOWN);
	assert_int_equal(table_ends(w->table), 0);
	assert_true(table_can_keep(w->table));
	/* the same cookie in a sweep is another claim, as ever */
	assert_int_equal(SWEEP(w, client(1)), 1);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->source, SOURCE_SWEEP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heard_late),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_went_during_a_sweep),
		cmocka_unit_test(test_listener_told_after_its_child),
		cmocka_unit_test(test_told_after_two_misses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
