/* SPDX-License-Identifier: MIT */

/* What events and sweeps tell of the same sockets: each claim once, exactly, with its opener, whoever is first. */

#include "tests/support/failing.h"
#include "tests/unit/table-events-script.h"

/* Every kind is told at once, and once; no sweep adds to it, and nobody looks for its holder. */
static void test_claim_and_end(void **state)
{
	const struct {
		struct socket_row row;
		enum role role;
	} cases[] = {
		{client(1), ROLE_CONNECTED},
		{listener(1), ROLE_LISTENING},
		{tcp(1, BOUND_STATE, PORT, 0), ROLE_BOUND},
		{served(1), ROLE_ACCEPTED},
		{udp(1, PORT, 0), ROLE_BOUND},
		{udp(1, PORT, 53), ROLE_CONNECTED},
		{row_of(PROTOCOL_UDPLITE, 1, TCP_CLOSE, PORT, 0), ROLE_BOUND},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct table_socket *wanted[4];
		EXPECTING(w);

		assert_int_equal(claimed(w, cases[i].row, cases[i].role), 1);
		exact(w, 1, cases[i].role);
		begin(w);
		feed(w, cases[i].row);
		assert_int_equal(table_attributable(w->table, wanted, 4), 0);
		assert_int_equal(end(w, ALL), 0);
		assert_int_equal(w->count, 0);
		assert_int_equal(SWEEP(w, cases[i].row), 0);
		assert_int_equal(table_stats(w->table).unattributed, 0);
		assert_int_equal(ended(w, 1, false), 1);
		expect_closed(w, 1, false);
		assert_int_equal(ended(w, 1, false), 0);
		/* it was read before it ended */
		assert_int_equal(SWEEP(w, cases[i].row), 0);
		assert_int_equal(table_stats(w->table).sockets, 0);
		assert_int_equal(NOTHING(w), 0);
		assert_int_equal(NOTHING(w), 0);
		table_event_forget(w->table, w->clock + SHOWN);
		assert_false(table_event_knows(w->table, 1));
	}
}

/* What ended is remembered as long as a sweep may show it, and no longer. */
static void test_forget(void **state)
{
	EXPECTING(w);
	usec_t closed;

	(void)state;
	claimed(w, udp(1, PORT, 0), ROLE_BOUND);
	ended(w, 1, false);
	closed = w->clock;
	table_event_forget(w->table, closed + SHOWN - 1);
	assert_true(table_event_knows(w->table, 1));
	begin(w);
	feed(w, udp(1, PORT, 0));
	table_event_forget(w->table, closed + SHOWN); /* not while a sweep has it in hand */
	assert_true(table_event_knows(w->table, 1));
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
	table_event_forget(w->table, closed + SHOWN);
	assert_false(table_event_knows(w->table, 1));
}

static void test_second_hook(void **state)
{
	EXPECTING(w);
	struct socket_row row = tcp(1, BOUND_STATE, LISTEN_PORT, 0);

	(void)state;
	assert_int_equal(claimed(w, row, ROLE_BOUND), 1);
	assert_int_equal(claimed(w, row, ROLE_BOUND), 0);
	assert_int_equal(claimed(w, listener(1), ROLE_LISTENING), 1);
	exact(w, 1, ROLE_LISTENING);
	/* the first one, told by another processor a moment later */
	assert_int_equal(claimed(w, row, ROLE_BOUND), 0);
	assert_int_equal(SWEEP(w, listener(1)), 0);
	/* bound, then connected to one, then to another */
	claimed(w, udp(2, PORT, 0), ROLE_BOUND);
	assert_int_equal(claimed(w, udp(2, PORT, 53), ROLE_CONNECTED), 1);
	assert_int_equal(exact(w, 2, ROLE_CONNECTED)->remote.port, 53);
	assert_int_equal(claimed(w, udp(2, PORT, 54), ROLE_CONNECTED), 1);
	assert_int_equal(exact(w, 2, ROLE_CONNECTED)->remote.port, 54);
	/* somebody else's call does not make it somebody else's */
	assert_int_equal(
		claim_by(w, event_of(EVENT_CLAIM, udp(2, PORT, 55), ROLE_CONNECTED), 8), 1);
	assert_int_equal(w->got[0].opener, OPENER);
}

/* One UDP socket can have several tenures, of other ports or of the same. */
static void test_tenures(void **state)
{
	EXPECTING(w);
	struct event_seen late = event_of(EVENT_CLAIM, udp(1, PORT, 0), ROLE_BOUND);

	(void)state;
	claimed(w, udp(1, PORT, 53), ROLE_CONNECTED);
	assert_int_equal(claimed(w, udp(1, PORT + 1, 53), ROLE_CONNECTED), 1);
	assert_int_equal(exact(w, 1, ROLE_CONNECTED)->local.port, PORT + 1);
	assert_int_equal(SWEEP(w, udp(1, PORT + 1, 53)), 0);
	late.at = w->clock;
	assert_int_equal(ended(w, 1, false), 1);
	assert_int_equal(claim_by(w, late, OPENER), 0);
	assert_int_equal(claimed(w, udp(1, PORT + 1, 53), ROLE_CONNECTED), 1);
	exact(w, 1, ROLE_CONNECTED);
	/* its first end is not its second's */
	table_event_forget(w->table, w->clock + SHOWN);
	assert_true(table_event_knows(w->table, 1));
	assert_int_equal(SWEEP(w, udp(1, PORT + 1, 53)), 0);
	assert_int_equal(ended(w, 1, false), 1);
}

/* A second ring tells of the same moment again. */
static void test_past(void **state _unused_)
{
	EXPECTING(w);
	struct socket_row row = udp(5, PORT, 53);
	struct event_seen first = event_of(EVENT_CLAIM, row, ROLE_CONNECTED);
	struct event_seen again = first, end = {.kind = EVENT_RELEASE, .cookie = 5};

	first.at = again.at = w->clock + 10;
	w->clock += 20;
	assert_false(table_event_is_past(w->table, &first));
	assert_int_equal(claim_by(w, first, OPENER), 1);
	/* told twice it is one claim in any case */
	assert_false(table_event_is_past(w->table, &again));
	assert_int_equal(claim_by(w, again, OPENER), 0);
	assert_int_equal(ended(w, 5, false), 1);
	end.closed = w->clock;
	assert_true(table_event_is_past(w->table, &again));
	assert_true(table_event_is_past(w->table, &end));
	/* neither the first tenure nor its end are taken for the second one's */
	row.local.port++;
	assert_int_equal(claimed(w, row, ROLE_CONNECTED), 1);
	assert_true(table_event_is_past(w->table, &again));
	assert_true(table_event_is_past(w->table, &end));
	end.closed = ++w->clock;
	assert_false(table_event_is_past(w->table, &end));
}

/* Who seems to linger does, or does not: the next sweep that begins afterwards sees. */
static void test_lingering(void **state)
{
	(void)state;
	for (unsigned remains = 0; remains < 2; remains++) {
		EXPECTING(w);
		usec_t closed;

		claimed(w, client(1), ROLE_CONNECTED);
		begin(w);
		feed(w, client(1));
		assert_int_equal(ended(w, 1, true), 1);
		expect_closed(w, 1, true);
		closed = w->clock;
		w->count = 0;
		assert_int_equal(end(w, ALL), 0);
		assert_int_equal(w->count, 0);
		assert_int_equal(table_event_lingering(w->table), 1);
		assert_false(table_can_keep(w->table));
		assert_int_equal(PART(w, BIT(PROTOCOL_UDP), udp(2, PORT, 53)), 1);
		if (!remains) {
			assert_int_equal(SWEEP(w, udp(2, PORT, 53)), 1);
			expect_released(w, 1, closed);
			assert_false(table_event_knows(w->table, 1));
			continue;
		}
		begin(w);
		feed(w, remainder_of(client(1)));
		feed(w, udp(2, PORT, 53));
		assert_int_equal(end(w, ALL), 0);
		assert_int_equal(w->count, 1);
		expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, true);
		assert_int_equal(w->got[0].expires, w->got[0].at + 60 * USEC_PER_SEC);
		assert_int_equal(table_event_lingering(w->table), 0);
		assert_int_equal(SWEEP(w, remainder_of(client(1)), udp(2, PORT, 53)), 0);
		assert_int_equal(SWEEP(w, udp(2, PORT, 53)), 1);
		assert_int_equal(w->got[0].kind, SIGHTING_ABSENT);
		assert_int_equal(SWEEP(w, udp(2, PORT, 53)), 0);
		assert_false(table_event_knows(w->table, 1));
	}
}

/* A sweep has read it, and then the event comes: before that sweep tells, or after. */
static void test_sweep_is_first(void **state)
{
	(void)state;
	for (unsigned after = 0; after < 2; after++) {
		EXPECTING(w);
		struct table_socket *wanted[4];

		begin(w);
		feed(w, client(1));
		if (!after) {
			assert_int_equal(claimed(w, client(1), ROLE_CONNECTED), 1);
			exact(w, 1, ROLE_CONNECTED);
			w->count = 0;
		}
		assert_int_equal(table_attributable(w->table, wanted, 4), 0);
		assert_int_equal(end(w, ALL), 0);
		assert_int_equal(w->count, 0);
		assert_int_equal(table_stats(w->table).awaited, after);
		if (after) {
			assert_int_equal(claimed(w, client(1), ROLE_CONNECTED), 1);
			exact(w, 1, ROLE_CONNECTED);
		}
		assert_int_equal(SWEEP(w, client(1)), 0);
	}
}

/* Of what no event tells, two sweeps do. */
static void test_found_only_by_sweep(void **state)
{
	EXPECTING(w);
	struct table_socket *wanted[4];
	usec_t first, before;

	(void)state;
	before = w->begin;
	assert_int_equal(SWEEP(w, client(1)), 0);
	assert_false(table_can_keep(w->table));
	first = w->begin + 1;
	begin(w);
	feed(w, client(1));
	assert_int_equal(table_attributable(w->table, wanted, 4), 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->at, first);
	assert_int_equal(w->got[0].source, SOURCE_SWEEP);
	assert_in_range(w->got[0].after, before - USEC_PER_MSEC, before);
	/* the event after all: it is the one that was told, known better */
	assert_int_equal(claimed(w, client(1), ROLE_CONNECTED), 1);
	exact(w, 1, ROLE_CONNECTED);
	/* one that was gone again */
	assert_int_equal(SWEEP(w, client(1), client(2)), 0);
	assert_int_equal(SWEEP(w, client(1)), 0);
	assert_int_equal(SWEEP(w, client(1)), 0);
	assert_int_equal(table_stats(w->table).awaited, 0);
}

/* What is left of a connection that was lost is no claim, however often it is seen; what was there before is one. */
static void test_remainder_of_what_was_lost(void **state)
{
	_cleanup_(world_free) struct world *before = world_new(true);
	EXPECTING(w);

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(SWEEP(w, remainder_of(client(1))), 0);
	assert_int_equal(SWEEP(w, client(2)), 0);
	assert_int_equal(SWEEP(w, client(2)), 1); /* this one is there */

	/* nor is a connection that nobody has any more */
	for (int i = 0; i < 3; i++)
		assert_int_equal(SWEEP(w, client(2), with_inode(client(4), 0)), 0);

	/* the events that waited tell of it after all */
	assert_int_equal(SWEEP(w, client(2), remainder_of(client(3))), 0);
	assert_int_equal(claimed(w, client(3), ROLE_CONNECTED), 1);
	exact(w, 3, ROLE_CONNECTED);
	assert_int_equal(ended(w, 3, true), 1);

	table_expect(before->table, &EXPECTATION);
	assert_int_equal(SWEEP(before, remainder_of(client(1))), 1);
	assert_true(before->got[0].preexisting && before->got[0].time_wait);
}

/* A UDP connect is told by a sweep at once, unless events tell of it at once. */
static void test_udp_connect(void **state)
{
	struct table_expectation expectation = EXPECTATION;

	(void)state;
	for (unsigned told = 0; told < 2; told++) {
		expectation.udp_connect = told;
		_cleanup_(world_free) struct world *w = world_with(&expectation);

		assert_int_equal(SWEEP(w, udp(1, PORT, 53)), !told);
		/* at its end, whole */
		assert_int_equal(
			claim_by(
				w, event_of(EVENT_WHOLE, udp(1, PORT, 53), ROLE_CONNECTED), OPENER),
			1);
		exact(w, 1, ROLE_CONNECTED);
		assert_int_equal(ended(w, 1, false), 1);
	}
}

/* No sweep proves an end where it cannot show the socket. */
static void test_hidden(void **state)
{
	struct table_expectation expectation = EXPECTATION;
	struct event_seen foreign = event_of(EVENT_CLAIM, client(3), ROLE_CONNECTED);
	usec_t opened;

	(void)state;
	expectation.bound_only = false;
	expectation.protocols &= ~BIT(PROTOCOL_UDPLITE);
	_cleanup_(world_free) struct world *w = world_with(&expectation);

	claimed(w, tcp(1, BOUND_STATE, PORT, 0), ROLE_BOUND);
	claimed(w, row_of(PROTOCOL_UDPLITE, 2, TCP_CLOSE, PORT, 0), ROLE_BOUND);
	foreign.netns = OTHER;
	assert_int_equal(claim_by(w, foreign, OPENER), 1);
	assert_int_equal(exact(w, 3, ROLE_CONNECTED)->netns, OTHER);
	w->clock += USEC_PER_SEC;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(NOTHING(w), 0);
	/* made while it was running */
	begin(w);
	assert_int_equal(claimed(w, client(4), ROLE_CONNECTED), 1);
	assert_int_equal(w->got[0].netns, 0);
	opened = w->got[0].at;
	w->count = 0;
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
	assert_int_equal(NOTHING(w), 1);
	assert_int_equal(w->got[0].kind, SIGHTING_ABSENT);
	assert_int_equal(w->got[0].cookie, 4);
	assert_int_equal(w->got[0].after,
		opened); /* no event has told of its end: it is not known, but bounded */
	/* who lingers elsewhere is not seen to */
	assert_int_equal(ended(w, 3, true), 1);
	expect_closed(w, 3, false);
	assert_int_equal(table_event_lingering(w->table), 0);
	table_event_forget(w->table, w->clock + SHOWN);
	assert_false(table_event_knows(w->table, 3));
	assert_int_equal(ended(w, 1, false), 1);
}

/* Before the first whole sweep, the ledger knows claims that the table does not; afterwards nobody does. */
/* What gave its port back before: it was there when a sweep saw it, or when it was opened, or nothing is known. */
static void test_ends_by_then(void **state)
{
	struct event_seen e = {.kind = EVENT_RELEASE, .cookie = 1, .by_then = true};
	usec_t known[3];
	WORLD(first, true);
	EXPECTING(w);

	(void)state;
	table_expect(first->table, &EXPECTATION);
	e.closed = ++first->clock;
	assert_int_equal(table_event_end(first->table, &e, take, first), 0);
	assert_int_equal(first->count, 1);
	assert_int_equal(first->got[0].kind, SIGHTING_CLOSED);
	assert_int_equal(first->got[0].after, 0);

	for (unsigned i = 1; i < ELEMENTSOF(known); i++) {
		assert_int_equal(claimed(w, udp(i, PORT, 53), ROLE_CONNECTED), 1);
		known[i] = w->clock;
		if (i == 2) {
			begin(w);
			known[i] = w->clock;
			feed(w, udp(i, PORT, 53));
			assert_int_equal(end(w, ALL), 0);
		}
		w->clock += 5;
		w->count = 0;
		e.cookie = i;
		e.closed = w->clock;
		assert_int_equal(table_event_end(w->table, &e, take, w), 0);
		assert_int_equal(w->count, 1);
		assert_int_equal(w->got[0].kind, SIGHTING_CLOSED);
		assert_int_equal(w->got[0].at, e.closed);
		assert_int_equal(w->got[0].after, known[i]);
	}
}

static void test_unknown_ends(void **state)
{
	WORLD(w, true);
	usec_t gone, kept;

	(void)state;
	table_expect(w->table, &EXPECTATION);
	assert_int_equal(ended(w, 1, false), 1);
	expect_closed(w, 1, false);
	assert_int_equal(ended(w, 2, true), 1);
	expect_closed(w, 2, true);
	gone = w->clock;
	assert_int_equal(ended(w, 3, true), 1);
	kept = w->clock;
	w->clock++;
	begin(w);
	feed(w, remainder_of(client(3)));
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 2);
	assert_int_equal(w->got[0].kind, SIGHTING_RELEASED);
	assert_int_equal(w->got[0].cookie, 2);
	assert_int_equal(w->got[0].at, gone);
	expect(&w->got[1], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_CONNECTED, true);
	assert_true(w->got[1].at > kept);
	assert_int_equal(ended(w, 4, true), 0);
}

static size_t held(struct world *w, uint64_t cookie, uint32_t ref)
{
	const struct event_seen e = {.kind = EVENT_HOLDER, .cookie = cookie, .at = ++w->clock};

	w->count = 0;
	assert_int_equal(table_event_holder(w->table, &e, ref, take, w), 0);
	return w->count;
}

/* Who accepted a connection is not known when it is made. */
static void test_holder(void **state)
{
	EXPECTING(w);
	struct table_socket *wanted[4];

	(void)state;
	assert_int_equal(claim_by(w, event_of(EVENT_CLAIM, served(1), ROLE_ACCEPTED), NOBODY), 1);
	assert_int_equal(w->got[0].opener, NOBODY);
	begin(w);
	feed(w, served(1));
	assert_int_equal(table_attributable(w->table, wanted, 4), 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(held(w, 1, OPENER), 1);
	exact(w, 1, ROLE_ACCEPTED);
	assert_int_equal(held(w, 1, OPENER), 0);
	assert_int_equal(held(w, 1, 8), 1);
	assert_int_equal(w->got[0].opener, OPENER);
	assert_int_equal(w->got[0].holder_count, 1);
	assert_int_equal(w->got[0].holders[0], 8);
	assert_int_equal(held(w, 1, 8), 0);
	for (uint32_t i = 1; i < LIMIT_HOLDERS; i++)
		assert_int_equal(held(w, 1, 100 + i), 1);
	assert_int_equal(held(w, 1, 99), 0);
	assert_int_equal(held(w, 2, 99), 0);
	ended(w, 1, true);
	assert_int_equal(held(w, 1, 99), 0);
}

/* Accepted connections that are of no interest are recognised, and not told. */
static void test_not_of_interest(void **state)
{
	WORLD(w, false);

	(void)state;
	table_expect(w->table, &EXPECTATION);
	NOTHING(w);
	assert_int_equal(claimed(w, served(1), ROLE_ACCEPTED), 0);
	assert_int_equal(SWEEP(w, served(1)), 0);
	assert_int_equal(SWEEP(w, served(1)), 0);
	assert_int_equal(ended(w, 1, true), 0);
	assert_int_equal(NOTHING(w), 0);
}

/* The ledger was behind: what is open is told again as it was told first. */
static void test_resync(void **state)
{
	EXPECTING(w);
	usec_t opened;

	(void)state;
	claimed(w, client(1), ROLE_CONNECTED);
	opened = w->clock;
	claimed(w, udp(2, PORT, 0), ROLE_BOUND);
	ended(w, 2, false);
	w->count = 0;
	assert_int_equal(table_resync(w->table, SOURCE_SWEEP, take, w), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->at, opened);
	assert_int_equal(w->got[0].after, USEC_UNSET);
	assert_int_equal(w->got[0].source, SOURCE_EVENTS);
}

static int live(struct world *w)
{
	struct event_seen e = event_of(EVENT_CLAIM, client(1), ROLE_CONNECTED);
	struct event_seen over = {
		.kind = EVENT_RELEASE, .cookie = 1, .closed = START + 2, .lingers = true};
	const uint32_t holders[] = {8};
	const struct table_who who = {.attribution = ATTRIBUTION_ITER,
		.opener = OPENER,
		.holders = holders,
		.holder_count = 1};
	int r;

	e.at = START + 1;
	r = try_claim(w, e, OPENER);
	if (r == 0)
		r = table_event_holder(w->table, &e, 9, take, w);
	if (r == 0)
		r = table_event_end(w->table, &over, take, w);
	over.cookie = 5; /* unknown */
	if (r == 0)
		r = table_event_end(w->table, &over, take, w);
	e.cookie = 6;
	return r < 0 ? r : table_event_found(w->table, &e, START + 3, 0, &who, take, w);
}

/* Each allocation fails once: told or not, the table is whole. */
static void test_no_memory(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (unsigned n = 0;; n++) {
		WORLD(w, true);
		int r;

		table_expect(w->table, &EXPECTATION);
		failing_in = n;
		r = live(w);
		if (failing_in != UINT_MAX) {
			failing_in = UINT_MAX;
			assert_int_equal(r, 0);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		failed++;
		w->count = 0;
		assert_int_equal(live(w), 0);
		NOTHING(w);
		NOTHING(w);
	}
	assert_true(failed >= 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claim_and_end),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_second_hook),
		cmocka_unit_test(test_tenures),
		cmocka_unit_test(test_past),
		cmocka_unit_test(test_lingering),
		cmocka_unit_test(test_sweep_is_first),
		cmocka_unit_test(test_found_only_by_sweep),
		cmocka_unit_test(test_remainder_of_what_was_lost),
		cmocka_unit_test(test_udp_connect),
		cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_ends_by_then),
		cmocka_unit_test(test_unknown_ends),
		cmocka_unit_test(test_holder),
		cmocka_unit_test(test_not_of_interest),
		cmocka_unit_test(test_resync),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
