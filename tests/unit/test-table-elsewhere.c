/* SPDX-License-Identifier: MIT */

/* What events and snapshots tell of sockets that no sweep shows, or not as the event does: in other namespaces, older than the
 * events, MPTCP's. */

#include "tests/unit/table-events-script.h"

/* The one that the event names stands for the MPTCP socket, too. */
static void test_mptcp(void **state)
{
	struct socket_row m = with_inode(
		row_of(PROTOCOL_MPTCP, 1, TCP_ESTABLISHED, CLIENT_PORT, SERVER_PORT), 77);
	struct socket_row s = with_inode(client(2), 77);

	(void)state;
	for (unsigned when = 0; when < 3; when++) {
		EXPECTING(w);
		struct event_seen e = event_of(EVENT_CLAIM, s, ROLE_CONNECTED);

		e.protocol = when == 0 ? PROTOCOL_TCP : PROTOCOL_MPTCP;
		if (when < 2)
			assert_int_equal(claim_by(w, e, OPENER), 1);
		w->count = 0;
		w->begin = w->clock;
		table_begin(w->table, w->clock);
		feed(w, m);
		feed(w, s);
		if (when == 2) {
			e.at = w->begin;
			assert_int_equal(claim_by(w, e, OPENER), 1);
			w->count = 0;
		}
		assert_int_equal(end(w, ALL), 0);
		assert_int_equal(w->count, when == 0);
		if (when == 0)
			expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_MPTCP, ROLE_CONNECTED,
				false);
		assert_int_equal(SWEEP(w, m, s), 0);
		assert_int_equal(table_stats(w->table).sockets, 1);
		assert_int_equal(ended(w, 2, false), 1);
		expect_closed(w, 2, false);
		/* the other half goes later, and silently */
		assert_int_equal(SWEEP(w, m), 0);
		table_event_forget(w->table, w->clock + SHOWN);
		assert_int_equal(SWEEP(w, m), 0);
		assert_int_equal(NOTHING(w), 0);
		assert_int_equal(NOTHING(w), 0);
		table_event_forget(w->table, w->clock + SHOWN);
		assert_false(table_event_knows(w->table, 1));
		assert_false(table_event_knows(w->table, 2));
	}
}

/* A snapshot shows what is open elsewhere since before there were events. */
static void test_found(void **state)
{
	EXPECTING(w);
	struct event_seen e = event_of(EVENT_CLAIM, client(1), ROLE_CONNECTED);
	const uint32_t holders[] = {8, 9};
	const struct table_who who = {.attribution = ATTRIBUTION_ITER,
		.opener = OPENER,
		.holders = holders,
		.holder_count = 2};

	(void)state;
	e.netns = OTHER;
	for (unsigned again = 0; again < 2; again++) {
		w->count = 0;
		assert_int_equal(table_event_found(w->table, &e, 500, 0, &who, take, w), 0);
		assert_int_equal(w->count, !again);
	}
	w->count = 1;
	only(w, 1, ROLE_CONNECTED);
	assert_true(w->got[0].preexisting);
	assert_int_equal(w->got[0].attribution, ATTRIBUTION_ITER);
	assert_int_equal(w->got[0].source, SOURCE_SWEEP);
	assert_int_equal(w->got[0].netns, OTHER);
	assert_int_equal(w->got[0].at, 500);
	assert_int_equal(w->got[0].after, 0);
	assert_int_equal(w->got[0].holder_count, 2);
	assert_int_equal(NOTHING(w), 0);
	assert_int_equal(ended(w, 1, true), 1);
	e.cookie = 2;
	w->count = 0;
	assert_int_equal(table_event_found(w->table, &e, 700, 500, &who, take, w), 0);
	assert_int_equal(w->count, 1);
	assert_int_equal(w->got[0].after, 500);
	assert_false(w->got[0].preexisting);
}

static size_t missed(struct world *w, usec_t at, enum table_untold untold)
{
	w->count = 0;
	assert_int_equal(table_event_missed(w->table, at, untold, take, w), 0);
	return w->count;
}

/* What only snapshots show has ended when one does not; what events told of, only where some of what they told was lost. */
static void test_missed(void **state)
{
	EXPECTING(w);
	struct event_seen found = event_of(EVENT_CLAIM, client(1), ROLE_CONNECTED);
	struct event_seen told = event_of(EVENT_CLAIM, client(2), ROLE_CONNECTED);
	const struct table_who who = {.attribution = ATTRIBUTION_ITER, .opener = OPENER};
	usec_t opened, base = w->clock;

	(void)state;
	found.netns = told.netns = OTHER;
	claimed(w, client(3), ROLE_CONNECTED);
	assert_int_equal(table_event_found(w->table, &found, base, 0, &who, take, w), 0);
	told.at = opened = base + 650;
	claim_by(w, told, OPENER);
	assert_true(table_event_shown(w->table, 1, base + 600));
	assert_false(table_event_shown(w->table, 9, base + 600));
	assert_int_equal(missed(w, base + 600, TABLE_UNTOLD_NONE), 0);
	assert_int_equal(missed(w, base + 700, TABLE_UNTOLD_NONE), 1);
	assert_int_equal(w->got[0].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[0].cookie, 1);
	assert_int_equal(w->got[0].at, base + 700);
	assert_int_equal(w->got[0].after, base + 600);
	assert_false(table_event_knows(w->table, 1));
	/* opened after the snapshot had begun */
	assert_int_equal(missed(w, opened, TABLE_UNTOLD_LOST), 0);
	assert_int_equal(missed(w, opened + 1, TABLE_UNTOLD_LOST), 1);
	assert_int_equal(w->got[0].cookie, 2);
	assert_int_equal(w->got[0].after, opened);
	/* our own is for the sweeps */
	assert_true(table_event_knows(w->table, 3));
}

/* Where an end may have been passed over, it takes two snapshots in a row that do not show a TCP socket. */
static void test_untold(void **state)
{
	EXPECTING(w);
	struct event_seen told = event_of(EVENT_CLAIM, client(1), ROLE_CONNECTED);
	struct event_seen datagrams = event_of(EVENT_CLAIM, udp(2, PORT, 53), ROLE_CONNECTED);
	usec_t base = w->clock;

	(void)state;
	told.netns = datagrams.netns = OTHER;
	told.at = datagrams.at = base + 1;
	claim_by(w, told, OPENER);
	claim_by(w, datagrams, OPENER);
	assert_int_equal(missed(w, base + 100, TABLE_UNTOLD_SOME), 0);
	assert_true(table_event_shown(w->table, 1, base + 200));
	assert_int_equal(missed(w, base + 200, TABLE_UNTOLD_SOME), 0);
	assert_int_equal(missed(w, base + 300, TABLE_UNTOLD_SOME), 0);
	/* not in a row of doubts */
	assert_int_equal(missed(w, base + 400, TABLE_UNTOLD_NONE), 0);
	assert_int_equal(missed(w, base + 500, TABLE_UNTOLD_SOME), 0);
	assert_int_equal(missed(w, base + 600, TABLE_UNTOLD_SOME), 1);
	assert_int_equal(w->got[0].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[0].cookie, 1);
	assert_int_equal(w->got[0].at, base + 600);
	assert_int_equal(w->got[0].after, base + 200);
	/* of UDP's ends all are told */
	assert_true(table_event_knows(w->table, 2));
}

/* An MPTCP socket elsewhere is the one by whose subflow it is known. */
static void test_found_mptcp(void **state)
{
	EXPECTING(w);
	struct event_seen subflow = event_of(EVENT_CLAIM, client(1), ROLE_CONNECTED), m = subflow;
	const struct table_who who = {.attribution = ATTRIBUTION_ITER, .opener = OPENER};

	(void)state;
	subflow.netns = m.netns = OTHER;
	subflow.protocol = m.protocol = PROTOCOL_MPTCP;
	m.cookie = 2;
	claim_by(w, subflow, OPENER);
	w->count = 0;
	assert_int_equal(table_event_found(w->table, &m, w->clock + 500, 0, &who, take, w), 0);
	assert_int_equal(w->count, 0);
	/* which has not ended while its MPTCP socket is shown */
	assert_int_equal(missed(w, w->clock + 500, TABLE_UNTOLD_LOST), 0);
	m.local.port++;
	assert_int_equal(table_event_found(w->table, &m, 500, 0, &who, take, w), 0);
	assert_int_equal(w->count, 1);
}

/* A socket that is older than the hooks is told by its end, unless a sweep has shown it. */
static void test_undated(void **state)
{
	EXPECTING(w);
	struct event_seen e = event_of(EVENT_WHOLE, udp(1, PORT, 53), ROLE_CONNECTED);

	(void)state;
	e.at = USEC_UNSET;
	e.closed = w->clock += 5;
	e.netns = OTHER;
	w->count = 0;
	assert_int_equal(try_claim(w, e, NOBODY), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->at, e.closed);
	assert_int_equal(w->got[0].after, 0);
	assert_true(w->got[0].preexisting);
	SWEEP(w, udp(2, PORT + 1, 53));
	e = event_of(EVENT_WHOLE, udp(2, PORT + 1, 53), ROLE_CONNECTED);
	e.at = USEC_UNSET;
	e.closed = w->clock += 5;
	w->count = 0;
	assert_int_equal(try_claim(w, e, NOBODY), 0);
	assert_int_equal(w->count, 0);
	assert_int_equal(ended(w, 2, false), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mptcp),
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_missed),
		cmocka_unit_test(test_untold),
		cmocka_unit_test(test_found_mptcp),
		cmocka_unit_test(test_undated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
