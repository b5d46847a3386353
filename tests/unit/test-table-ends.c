/* SPDX-License-Identifier: MIT */

/* What the kernel says of sockets that went, between scripted sweeps and during them. */

#include "tests/support/failing.h"
#include "tests/unit/ends-script.h"

static void test_brief(void **state)
{
	WORLD(w, true);
	usec_t before, at;

	(void)state;
	NOTHING(w);
	before = w->begin;
	at = hear(w, udp(1, EPHEMERAL, 0), END_UNKNOWN);
	assert_int_equal(table_ends(w->table), 1);
	assert_int_equal(NOTHING(w), 2);
	expect_brief(w, 0, 1, ROLE_BOUND, at, before);
	assert_int_equal(table_ends(w->table), 0);
	assert_int_equal(NOTHING(w), 0);
	before = w->begin;
	at = hear(w, tcp(2, 0, EPHEMERAL, 443), END_ACTIVE);
	assert_int_equal(NOTHING(w), 2);
	expect_brief(w, 0, 2, ROLE_CONNECTED, at, before);
	assert_int_equal(w->got[0].remote.port, 443);
	assert_int_equal(table_stats(w->table).sockets, 0);
}

/* Before the first sweep nobody watched. */
static void test_before_the_first_sweep(void **state)
{
	WORLD(w, true);

	(void)state;
	hear(w, udp(1, EPHEMERAL, 0), END_UNKNOWN);
	assert_int_equal(table_ends(w->table), 0);
	assert_int_equal(NOTHING(w), 0);
}

static void test_known_ends_exactly(void **state)
{
	WORLD(w, true);
	usec_t at;

	(void)state;
	SWEEP(w, client(1), udp(2, EPHEMERAL, 0));
	at = hear(w, client(1), END_ACTIVE);
	hear(w, client(1), END_ACTIVE); /* twice is once */
	assert_int_equal(SWEEP(w, udp(2, EPHEMERAL, 0)), 1);
	expect_closed(&w->got[0], 1, at, false);
	assert_int_equal(w->got[0].source, SOURCE_SWEEP);
	assert_int_equal(table_stats(w->table).sockets, 1);
	assert_int_equal(SWEEP(w, udp(2, EPHEMERAL, 0)), 0);
}

/* A remainder that a sweep knew has the socket's cookie; one of a brief socket another. */
static void test_remainders(void **state)
{
	WORLD(w, true);
	struct socket_row left = remainder_of(tcp(77, 0, EPHEMERAL, SERVER_PORT));
	usec_t known, brief, before;

	(void)state;
	SWEEP(w, client(1));
	before = w->begin;
	known = hear(w, client(1), END_ACTIVE);
	brief = hear(w, tcp(7, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);
	assert_int_equal(SWEEP(w, remainder_of(client(1)), left), 3);
	expect_closed(&w->got[0], 1, known, true);
	assert_int_equal(w->got[0].expires, w->got[0].at + 60000 * USEC_PER_MSEC);
	expect(&w->got[1], SIGHTING_PRESENT, 77, PROTOCOL_TCP, ROLE_CONNECTED, false);
	assert_int_equal(w->got[1].at, brief);
	assert_int_equal(w->got[1].after, before);
	assert_int_equal(w->got[1].source, SOURCE_DESTROY);
	expect_closed(&w->got[2], 77, brief, true);
	assert_int_equal(SWEEP(w, remainder_of(client(1)), left), 0);
	assert_int_equal(NOTHING(w), 2);
	assert_int_equal(w->got[0].kind, SIGHTING_ABSENT);
	assert_int_equal(w->got[1].kind, SIGHTING_ABSENT);
}

/* The sweep sees the remainder before the end is told: it is one claim, bounded by the sweep. */
static void test_told_after_its_remainder(void **state)
{
	WORLD(w, true);
	struct socket_row left = remainder_of(tcp(77, 0, EPHEMERAL, SERVER_PORT));
	struct socket_end late = end_of(tcp(7, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);

	(void)state;
	NOTHING(w);
	hear(w, udp(1, 45000, 0), END_UNKNOWN); /* that ends are told is known by now */
	assert_int_equal(SWEEP(w, left), 3);
	/* who opened it is not decided before */
	expect(&w->got[2], SIGHTING_PRESENT, 77, PROTOCOL_TCP, ROLE_UNKNOWN, true);
	assert_int_equal(SWEEP(w, left), 0);
	assert_true(table_can_keep(w->table));
	late.idle_msec = 2000;
	tell(w, late, true);
	assert_int_equal(table_ends(w->table), 0);
	assert_false(table_can_keep(w->table));
	assert_int_equal(SWEEP(w, left), 1);
	expect(&w->got[0], SIGHTING_PRESENT, 77, PROTOCOL_TCP, ROLE_CONNECTED, true);
	assert_int_equal(SWEEP(w, left), 0);
	/* the next of the same two endpoints is another */
	hear(w, tcp(8, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);
	assert_int_equal(table_ends(w->table), 1);
	assert_int_equal(SWEEP(w, left), 2);
	assert_int_equal(w->got[0].cookie, 8);
	/* a child's is told as accepted, also where its listener was too short for a sweep and its end is told within it */
	begin(w);
	feed(w, remainder_of(tcp(70, 0, LISTEN_PORT, CLIENT_PORT)));
	hear(w, served(71), END_PASSIVE);
	assert_int_equal(end(w, ALL), 0);
	expect(&w->got[0], SIGHTING_PRESENT, 70, PROTOCOL_TCP, ROLE_ACCEPTED, true);
	/* and a sweep later nothing of it is expected any more */
	SWEEP(w, left);
	hear(w, tcp(9, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);
	assert_int_equal(table_ends(w->table), 1);
}

/* Two sockets of the same two endpoints, one after the other: the remainder is the newer's. */
static void test_endpoints_reused(void **state)
{
	WORLD(w, true);
	usec_t first, second;

	(void)state;
	NOTHING(w);
	first = hear(w, tcp(7, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);
	second = hear(w, tcp(8, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);
	assert_int_equal(SWEEP(w, remainder_of(tcp(77, 0, EPHEMERAL, SERVER_PORT))), 4);
	expect_closed(&w->got[1], 7, first, false);
	assert_int_equal(w->got[2].cookie, 77);
	expect_closed(&w->got[3], 77, second, true);
}

/* What is told while a sweep runs is decided by the next: its row may have been read before, or not at all. */
static void test_during_a_sweep(void **state)
{
	WORLD(w, true);
	usec_t at, before;

	(void)state;
	SWEEP(w, client(1));
	before = w->begin;
	begin(w);
	feed(w, client(1));
	at = hear(w, client(1), END_ACTIVE);
	hear(w, tcp(2, 0, EPHEMERAL, 443), END_ACTIVE);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
	assert_int_equal(table_ends(w->table), 2);
	assert_int_equal(NOTHING(w), 3);
	expect_closed(&w->got[0], 1, at, false);
	expect_brief(w, 1, 2, ROLE_CONNECTED, at + 1, before);
}

/* ... but a remainder that this sweep has shown went before its row was read. */
static void test_remainder_during_a_sweep(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, client(1));
	begin(w);
	feed(w, remainder_of(client(1)));
	hear(w, client(1), END_ACTIVE);
	assert_int_equal(end(w, ALL), 0);
	/* the row says it, with the bounds of the sweeps */
	assert_int_equal(w->count, 1);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, true);
	assert_int_equal(table_ends(w->table), 0);
}

static void test_aborted_sweep_decides_nothing(void **state)
{
	WORLD(w, true);

	(void)state;
	NOTHING(w);
	hear(w, tcp(2, 0, EPHEMERAL, 443), END_ACTIVE);
	hear(w, udp(3, EPHEMERAL, 0), END_UNKNOWN);
	assert_int_equal(PART(w, BIT(PROTOCOL_UDP)), 2);
	assert_int_equal(w->got[0].cookie, 3);
	assert_int_equal(NOTHING(w), 2);
	assert_int_equal(w->got[0].cookie, 2);
}

/* A sweep that still has it is believed. */
static void test_still_there(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, client(1));
	hear(w, client(1), END_ACTIVE);
	assert_int_equal(SWEEP(w, client(1)), 0);
	assert_int_equal(table_ends(w->table), 0);
	assert_int_equal(NOTHING(w), 1);
	assert_int_equal(w->got[0].kind, SIGHTING_ABSENT);
}

/* Who opened a connection, by what is left in it and by what is known of its port. */
static void test_roles(void **state)
{
	static const struct {
		enum end_evidence evidence;
		bool listener; /* a sweep has seen one on that port */
		bool unused; /* a socket went there that never sent anything: perhaps a listener */
		enum role role;
	} cases[] = {
		{END_ACTIVE, false, false, ROLE_CONNECTED},
		{END_ACTIVE, true, true, ROLE_CONNECTED},
		{END_ATTEMPT, false, true, ROLE_CONNECTED},
		{END_PASSIVE, false, false, ROLE_ACCEPTED},
		{END_PASSIVE, true, false, ROLE_ACCEPTED},
		{END_UNKNOWN, true, false, ROLE_ACCEPTED},
		{END_UNKNOWN, true, true, ROLE_ACCEPTED},
		{END_UNKNOWN, false, true, ROLE_UNKNOWN},
		{END_UNKNOWN, false, false, ROLE_CONNECTED},
		{END_UNUSED, false, false, ROLE_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		WORLD(w, true);

		if (cases[i].listener)
			SWEEP(w, listener(1));
		else
			NOTHING(w);
		if (cases[i].unused)
			hear(w, tcp(2, 0, LISTEN_PORT, 0), END_UNUSED);
		hear(w, tcp(3, 0, LISTEN_PORT, cases[i].evidence == END_UNUSED ? 0 : 443),
			cases[i].evidence);
		assert_int_equal(
			table_has_new_connections(w->table), cases[i].evidence == END_UNKNOWN);
		w->clock += 200 * USEC_PER_MSEC; /* whatever else is to be told has been */
		if (cases[i].listener)
			SWEEP(w, listener(1));
		else
			NOTHING(w);
		assert_int_equal(w->count, cases[i].unused ? 4 : 2);
		expect(&w->got[w->count - 2], SIGHTING_PRESENT, 3, PROTOCOL_TCP, cases[i].role,
			false);
	}
}

/* A listener is found that came after the sweep before and is there at the next. */
static void test_listener_of_the_next_sweep(void **state)
{
	WORLD(w, true);

	(void)state;
	NOTHING(w);
	hear(w, served(3), END_UNKNOWN);
	assert_int_equal(SWEEP(w, listener(1)), 3);
	expect(&w->got[0], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_ACCEPTED, false);
}

/* A connection outlives the listener that no sweep has seen: unknown, until its own end shows who opened it. */
static void test_child_of_a_short_listener(void **state)
{
	static const struct {
		enum end_evidence evidence;
		enum role role;
	} cases[] = {
		{END_PASSIVE, ROLE_ACCEPTED},
		{END_ACTIVE, ROLE_CONNECTED},
		{END_UNKNOWN, ROLE_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		WORLD(w, true);

		NOTHING(w);
		hear(w, tcp(2, 0, LISTEN_PORT, 0), END_UNUSED);
		assert_int_equal(SWEEP(w, served(3)), 3);
		expect(&w->got[2], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_UNKNOWN, false);
		assert_int_equal(SWEEP(w, served(3)), 0);
		hear(w, served(3), cases[i].evidence);
		NOTHING(w);
		assert_int_equal(w->got[0].role, cases[i].role);
		assert_int_equal(w->count, cases[i].role == ROLE_UNKNOWN ? 1 : 2);
		assert_int_equal(w->got[w->count - 1].kind, SIGHTING_CLOSED);
	}
}

static void test_accepted_are_left_out(void **state)
{
	WORLD(w, false);

	(void)state;
	SWEEP(w, listener(1));
	hear(w, served(3), END_PASSIVE);
	hear(w, tcp(4, 0, LISTEN_PORT, 1000), END_UNKNOWN);
	hear(w, tcp(5, 0, EPHEMERAL, 443), END_ACTIVE);
	assert_int_equal(SWEEP(w, listener(1), remainder_of(served(30))), 2);
	assert_int_equal(w->got[0].cookie, 5);
	assert_int_equal(SWEEP(w, listener(1), remainder_of(served(30))), 0);
}

/* What it became after the last sweep shows when it goes; what was taken from it before stays known. */
static void test_last_moment(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, tcp(1, TCP_CLOSE, EPHEMERAL, 0), udp(2, 45000, 53), udp(3, 46000, 0));
	hear(w, tcp(1, 0, EPHEMERAL, 443), END_ACTIVE);
	hear(w, udp(2, 45000, 0), END_UNKNOWN);
	hear(w, udp(3, 47000, 0), END_UNKNOWN); /* of another port by now: another tenure */
	assert_int_equal(NOTHING(w), 5);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, false);
	assert_int_equal(w->got[0].remote.port, 443);
	assert_int_equal(w->got[1].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[2].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[2].remote.port, 53);
	expect(&w->got[3], SIGHTING_PRESENT, 3, PROTOCOL_UDP, ROLE_BOUND, false);
	assert_int_equal(w->got[3].local.port, 47000);
	assert_int_equal(w->got[4].cookie, 3);
}

static void test_what_is_not_known_of_it(void **state)
{
	WORLD(w, true);
	struct socket_end end = end_of(tcp(1, 0, EPHEMERAL, 0), END_UNUSED);

	(void)state;
	NOTHING(w);
	end.older = true;
	tell(w, end, true);
	end = end_of(tcp(2, 0, EPHEMERAL, 0), END_ATTEMPT);
	end.local_unknown = true;
	tell(w, end, true);
	assert_int_equal(NOTHING(w), 4);
	assert_int_equal(w->got[0].after, 0);
	assert_false(w->got[0].local_unknown);
	assert_int_not_equal(w->got[2].after, 0);
	assert_true(w->got[2].local_unknown);
}

/* The kernel tells of TCP subflows only: an MPTCP socket lives as long as the sweeps say. */
static void test_mptcp_is_swept(void **state)
{
	WORLD(w, true);
	struct socket_row m = row_of(PROTOCOL_MPTCP, 1, TCP_ESTABLISHED, EPHEMERAL, 443);
	struct socket_row flow = with_inode(tcp(2, TCP_ESTABLISHED, EPHEMERAL, 443), m.inode);

	(void)state;
	SWEEP(w, m, flow);
	hear(w, flow, END_ACTIVE);
	assert_int_equal(SWEEP(w, m), 0);
	assert_int_equal(NOTHING(w), 1);
	assert_int_equal(w->got[0].kind, SIGHTING_ABSENT);
}

static void test_limit(void **state)
{
	WORLD(w, true);
	struct socket_end end = end_of(udp(1, EPHEMERAL, 0), END_UNKNOWN);

	(void)state;
	NOTHING(w);
	for (uint64_t i = 0; i < LIMIT_ENDS; i++) {
		end.row.cookie = 1 + i;
		assert_int_equal(table_ended(w->table, &end, w->clock, w->clock, true), 0);
	}
	end.row.cookie = LIMIT_ENDS + 1;
	assert_int_equal(table_ended(w->table, &end, w->clock, w->clock, true), -ENOBUFS);
	assert_int_equal(table_ends(w->table), LIMIT_ENDS);
}

/* Other ports are watched: what was heard of those of before is told all the same, as it ended while they were. What sweeps
 * know is forgotten with them. */
static void test_watch_keeps_what_went(void **state)
{
	WORLD(w, true);
	const struct port_ranges low = {{{1, EPHEMERAL}}, 1}, high = {{{EPHEMERAL + 1, 65535}}, 1};

	(void)state;
	table_watch(w->table, &low, true);
	SWEEP(w, udp(3, 45001, 0));
	hear(w, udp(1, 45000, 0), END_UNKNOWN);
	hear(w, tcp(2, 0, 45000, 443), END_UNKNOWN);
	hear(w, udp(3, 45001, 0), END_UNKNOWN);
	table_watch(w->table, &high, true);
	assert_int_equal(table_ends(w->table), 2);
	assert_int_equal(NOTHING(w), 4);
	assert_int_equal(w->got[0].cookie, 1);
	assert_false(w->got[0].preexisting);
	assert_int_equal(w->got[2].cookie, 2);
	assert_false(table_has_new_connections(w->table));
	assert_int_equal(NOTHING(w), 0);
}

/* A connection that is reset leaves the tables; its socket goes when whoever has it open closes it. That is no second
 * claim; but what the same socket does on another port meanwhile is one. */
static void test_reset_and_closed_later(void **state)
{
	WORLD(w, true);

	(void)state;
	table_hear(w->table);
	SWEEP(w, client(1), tcp(2, TCP_ESTABLISHED, EPHEMERAL, 443));
	NOTHING(w);
	NOTHING(w);
	NOTHING(w);
	hear(w, client(1), END_UNKNOWN);
	hear(w, tcp(2, 0, 45000, 443), END_ACTIVE);
	assert_int_equal(table_ends(w->table), 1);
	assert_int_equal(NOTHING(w), 2);
	assert_int_equal(w->got[0].local.port, 45000);
	/* missed once, told to be gone, and never there again: nothing of it stays */
	SWEEP(w, client(3));
	NOTHING(w);
	hear(w, client(3), END_UNKNOWN);
	assert_int_equal(table_ends(w->table), 0);
	NOTHING(w);
	hear(w, client(3), END_UNKNOWN);
	assert_int_equal(table_ends(w->table), 1);
}

/* ... also where no sweep has seen the connection: then how long ago it was alive bounds it, and who opened it is not to be
 * seen in what its port is now. */
static void test_reset_before_any_sweep_saw_it(void **state)
{
	WORLD(w, true);
	struct socket_end end = end_of(client(1), END_UNKNOWN);
	usec_t first, gone, alive;

	(void)state;
	NOTHING(w);
	first = w->begin;
	alive = w->clock += 500 * USEC_PER_MSEC;
	NOTHING(w); /* it may have been there when this one began */
	NOTHING(w);
	gone = w->end;
	for (unsigned i = 0; i < 3; i++)
		NOTHING(w);
	end.idle_msec = (uint32_t)((w->clock - alive) / USEC_PER_MSEC);
	tell(w, end, true);
	assert_int_equal(NOTHING(w), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_UNKNOWN, false);
	assert_int_equal(w->got[0].after, first);
	assert_int_equal(w->got[1].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[1].at, gone);
	assert_in_range(w->got[1].after, alive - 50 * USEC_PER_MSEC, alive);
	/* it was over before we watched */
	end.idle_msec += 4000;
	tell(w, end, true);
	assert_int_equal(table_ends(w->table), 0);
	/* and this one was alive a moment ago */
	end.idle_msec = 1;
	tell(w, end, true);
	w->clock += 200 * USEC_PER_MSEC;
	assert_int_equal(NOTHING(w), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, false);
	assert_int_equal(w->got[1].after, USEC_UNSET);
}

/* How long ago a connection was alive does not lie, however late the kernel tells. */
static void test_told_late(void **state)
{
	WORLD(w, true);
	struct socket_end end = end_of(tcp(7, 0, EPHEMERAL, SERVER_PORT), END_ACTIVE);
	usec_t before, at;

	(void)state;
	table_hear(w->table);
	NOTHING(w);
	SWEEP(w, udp(5, 45000, 0));
	NOTHING(w);
	before = w->begin;
	SWEEP(w, remainder_of(tcp(77, 0, EPHEMERAL, SERVER_PORT)));
	/* that remainder's own end, half a second late */
	w->clock = w->end + 500 * USEC_PER_MSEC;
	end.idle_msec = 501;
	end.finished = true;
	tell(w, end, true);
	assert_int_equal(table_ends(w->table), 0);
	/* a socket that two sweeps have missed was told by them */
	hear(w, udp(5, 45000, 0), END_UNKNOWN);
	assert_int_equal(table_ends(w->table), 0);
	/* no sweep has seen it, and it may have gone before the last one: its end is that long ago at most */
	end.row.remote.port = 80;
	at = tell(w, end, true);
	assert_int_equal(SWEEP(w, remainder_of(tcp(77, 0, EPHEMERAL, SERVER_PORT))), 3);
	assert_int_equal(w->got[0].after, before);
	assert_int_equal(w->got[1].at, at);
	assert_in_range(w->got[1].after, at - 550 * USEC_PER_MSEC, at - 501 * USEC_PER_MSEC);
}

/* A listener is remembered as long as what it accepted may be seen for the first time, however far apart the sweeps are. */
static void test_listener_between_slow_sweeps(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, listener(1));
	w->clock = w->begin + 50 * USEC_PER_MINUTE;
	hear(w, listener(1), END_UNUSED);
	w->clock += 5 * USEC_PER_MINUTE;
	hear(w, served(3), END_UNKNOWN);
	assert_int_equal(SWEEP(w, with_inode(tcp(4, TCP_ESTABLISHED, LISTEN_PORT, 7), 4)), 4);
	expect(&w->got[1], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_ACCEPTED, false);
	expect(&w->got[3], SIGHTING_PRESENT, 4, PROTOCOL_TCP, ROLE_ACCEPTED, false);
}

/* What was unknown when it was first seen stays so: its port tells nothing of it an hour later. */
static void test_unknown_stays_unknown(void **state)
{
	WORLD(w, true);

	(void)state;
	NOTHING(w);
	hear(w, tcp(2, 0, LISTEN_PORT, 0), END_UNUSED);
	SWEEP(w, served(3));
	for (unsigned i = 0; i < 3; i++) {
		w->clock += 20 * USEC_PER_MINUTE;
		assert_int_equal(SWEEP(w, served(3)), 0);
	}
	hear(w, served(3), END_UNKNOWN);
	assert_int_equal(NOTHING(w), 1);
	assert_int_equal(w->got[0].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[0].role, ROLE_UNKNOWN);
}

/* A short listener's end may be told after the sweep that first saw its child. */
static void test_short_listener_told_late(void **state)
{
	WORLD(w, true);

	(void)state;
	NOTHING(w);
	SWEEP(w, served(3));
	only(w, 3, ROLE_CONNECTED);
	hear(w, tcp(2, 0, LISTEN_PORT, 0), END_UNUSED);
	assert_int_equal(SWEEP(w, served(3)), 3);
	expect(&w->got[2], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_UNKNOWN, false);
	assert_int_equal(SWEEP(w, served(3)), 0);
	/* ... or after several that questions asked for */
	SWEEP(w, served(3), tcp(5, TCP_ESTABLISHED, 45000, 80));
	for (unsigned i = 0; i < 4; i++) {
		w->clock = w->end + USEC_PER_MSEC;
		assert_int_equal(SWEEP(w, served(3), tcp(5, TCP_ESTABLISHED, 45000, 80)), 0);
		assert_false(table_can_keep(w->table));
	}
	w->clock = w->end + USEC_PER_MSEC;
	hear(w, tcp(4, 0, 45000, 0), END_UNUSED);
	assert_int_equal(SWEEP(w, served(3), tcp(5, TCP_ESTABLISHED, 45000, 80)), 3);
	expect(&w->got[2], SIGHTING_PRESENT, 5, PROTOCOL_TCP, ROLE_UNKNOWN, false);
}

/* No allocation may fail without an error, and none loses what was there. */
static void test_every_allocation_may_fail(void **state)
{
	size_t failures = 0;

	(void)state;
	for (unsigned n = 0;; n++) {
		WORLD(w, true);
		struct socket_end known = end_of(client(1), END_ACTIVE),
				  brief = end_of(tcp(2, 0, EPHEMERAL, 443), END_UNUSED);
		int a, b;

		SWEEP(w, client(1));
		failing_in = n;
		a = table_ended(w->table, &known, w->clock, w->clock, true);
		b = table_ended(w->table, &brief, w->clock, w->clock, true);
		if (failing_in != UINT_MAX) {
			failing_in = UINT_MAX;
			break;
		}
		failures++;
		assert_true((a == -ENOMEM) != (b == -ENOMEM));
		NOTHING(w);
		NOTHING(w);
		assert_int_equal(table_stats(w->table).sockets, 0);
	}
	assert_true(failures >= 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_brief),
		cmocka_unit_test(test_before_the_first_sweep),
		cmocka_unit_test(test_known_ends_exactly),
		cmocka_unit_test(test_remainders),
		cmocka_unit_test(test_told_after_its_remainder),
		cmocka_unit_test(test_endpoints_reused),
		cmocka_unit_test(test_during_a_sweep),
		cmocka_unit_test(test_remainder_during_a_sweep),
		cmocka_unit_test(test_aborted_sweep_decides_nothing),
		cmocka_unit_test(test_still_there),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_listener_of_the_next_sweep),
		cmocka_unit_test(test_child_of_a_short_listener),
		cmocka_unit_test(test_accepted_are_left_out),
		cmocka_unit_test(test_last_moment),
		cmocka_unit_test(test_what_is_not_known_of_it),
		cmocka_unit_test(test_mptcp_is_swept),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_watch_keeps_what_went),
		cmocka_unit_test(test_reset_and_closed_later),
		cmocka_unit_test(test_reset_before_any_sweep_saw_it),
		cmocka_unit_test(test_told_late),
		cmocka_unit_test(test_listener_between_slow_sweeps),
		cmocka_unit_test(test_unknown_stays_unknown),
		cmocka_unit_test(test_short_listener_told_late),
		cmocka_unit_test(test_every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
