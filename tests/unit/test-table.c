/* SPDX-License-Identifier: MIT */

/* Scripted sweeps, and what the table must say of them. */

#include "tests/support/failing.h"
#include "tests/unit/table-script.h"

/* ---- presence ---- */

static void test_first_sweep_is_preexisting(void **state)
{
	WORLD(w, true);

	(void)state;
	assert_int_equal(SWEEP(w, client(1), udp(2, 41000, 0)), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, false);
	expect(&w->got[1], SIGHTING_PRESENT, 2, PROTOCOL_UDP, ROLE_BOUND, false);
	for (size_t i = 0; i < 2; i++) {
		assert_true(w->got[i].preexisting);
		assert_int_equal(w->got[i].after, 0);
		assert_int_equal(w->got[i].at, START + i + 1);
		assert_int_equal(w->got[i].expires, USEC_UNSET);
		assert_int_equal(w->got[i].source, SOURCE_SWEEP);
	}
	assert_int_equal(w->got[0].local.port, CLIENT_PORT);
	assert_int_equal(w->got[0].remote.port, SERVER_PORT);
	assert_int_equal(w->got[1].remote.address.family, FAMILY_NONE);
	assert_int_equal(SWEEP(w, client(1), udp(2, 41000, 0)), 0);
	assert_int_equal(table_stats(w->table).sockets, 2);
}

static void test_new_has_its_bound(void **state)
{
	WORLD(w, true);
	usec_t first;

	(void)state;
	NOTHING(w);
	first = w->begin;
	assert_int_equal(SWEEP(w, client(1)), 1);
	assert_int_equal(w->got[0].after, first);
	assert_false(w->got[0].preexisting);
}

static void test_absent_then_dropped(void **state)
{
	WORLD(w, true);
	usec_t seen;

	(void)state;
	SWEEP(w, client(1));
	SWEEP(w, client(1));
	seen = w->begin;
	assert_int_equal(NOTHING(w), 1);
	expect_absent(w, 0, 1, seen);
	assert_int_equal(table_stats(w->table).sockets, 0);
	assert_int_equal(NOTHING(w), 0);
	seen = w->begin;
	/* forgotten: the same cookie is another claim */
	assert_int_equal(SWEEP(w, client(1)), 1);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->after, seen);
	assert_false(w->got[0].preexisting);
}

static void test_absent_comes_back(void **state)
{
	WORLD(w, true);
	usec_t missed;

	(void)state;
	SWEEP(w, client(1));
	assert_int_equal(NOTHING(w), 1);
	missed = w->begin;
	SWEEP(w, client(1));
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->after, missed);
	assert_true(w->got[0].preexisting);
	assert_int_equal(SWEEP(w, client(1)), 0);
	missed = w->begin;
	assert_int_equal(NOTHING(w), 1);
	expect_absent(w, 0, 1, missed);
}

static void test_aborted_sweep_proves_nothing(void **state)
{
	WORLD(w, true);
	usec_t whole, aborted;

	(void)state;
	SWEEP(w, client(1), udp(2, 41000, 0));
	whole = w->begin;
	/* TCP was not read to the end, UDP was */
	assert_int_equal(PART(w, ALL & ~BIT(PROTOCOL_TCP), tcp(3, TCP_ESTABLISHED, 51000, 80)), 2);
	aborted = w->begin;
	expect(&w->got[0], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_CONNECTED, false);
	assert_int_equal(w->got[0].after, whole);
	expect_absent(w, 1, 2, whole);
	assert_int_equal(sweep_of(w, 0, NULL, 0), 0);
	/* now it is proven; the one had last been seen by the aborted sweep */
	assert_int_equal(NOTHING(w), 2);
	expect_absent(w, 0, 1, whole);
	expect_absent(w, 1, 3, aborted);
	/* and what UDP socket 2 needed for its second miss was this sweep */
	assert_int_equal(SWEEP(w, udp(2, 41000, 0)), 1);
	assert_false(w->got[0].preexisting);
}

static void test_preexisting_until_a_whole_sweep(void **state)
{
	WORLD(w, true);

	(void)state;
	assert_int_equal(PART(w, BIT(PROTOCOL_UDP), client(1)), 1);
	assert_true(w->got[0].preexisting);
	assert_int_equal(
		SWEEP(w, client(1), tcp(2, TCP_ESTABLISHED, 51000, 80), udp(3, 41000, 0)), 2);
	assert_int_equal(w->got[0].cookie, 2);
	assert_true(w->got[0].preexisting);
	assert_int_equal(w->got[0].after, 0);
	assert_false(w->got[1].preexisting); /* UDP had been read whole */
}

static void test_seen_twice_in_a_sweep(void **state)
{
	WORLD(w, true);

	(void)state;
	assert_int_equal(SWEEP(w, listener(1), client(2), listener(1)), 2);
	assert_int_equal(w->got[0].cookie, 1);
	assert_int_equal(w->got[1].cookie, 2);
}

/* ---- roles ---- */

static void test_accepted_in_any_order(void **state)
{
	WORLD(w, true);

	(void)state;
	assert_int_equal(SWEEP(w, served(2), listener(1), client(3)), 3);
	expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_ACCEPTED, false);
	expect(&w->got[1], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_LISTENING, false);
	expect(&w->got[2], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_CONNECTED, false);
	/* it outlives its listener, and stays what it was told to be */
	assert_int_equal(SWEEP(w, served(2), client(3)), 1);
	w->clock += USEC_PER_HOUR;
	assert_int_equal(SWEEP(w, served(2), client(3)), 0);
}

static void test_second_look_for_listeners(void **state)
{
	WORLD(w, true);

	(void)state;
	begin(w);
	assert_false(table_has_new_connections(w->table));
	feed(w, listener(9));
	assert_false(table_has_new_connections(w->table));
	feed(w, tcp(2, TCP_ESTABLISHED, 45000, 80));
	assert_true(table_has_new_connections(w->table));
	feed(w, tcp(3, TCP_LISTEN, 45000, 0));
	assert_int_equal(end(w, ALL), 0);
	expect(&w->got[1], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_ACCEPTED, false);
	begin(w);
	feed(w, tcp(2, TCP_ESTABLISHED, 45000, 80));
	assert_false(table_has_new_connections(w->table));
	assert_int_equal(end(w, ALL), 0);
}

static void test_connected_turns_accepted_only_at_once(void **state)
{
	WORLD(w, true);
	usec_t before;

	(void)state;
	SWEEP(w, served(1));
	only(w, 1, ROLE_CONNECTED);
	before = w->begin;
	assert_int_equal(SWEEP(w, listener(2), served(1)), 2);
	expect(&w->got[1], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_ACCEPTED, false);
	assert_int_equal(w->got[1].after, before);

	SWEEP(w, tcp(5, TCP_ESTABLISHED, 45000, 80));
	SWEEP(w, tcp(5, TCP_ESTABLISHED, 45000, 80));
	assert_int_equal(
		SWEEP(w, tcp(5, TCP_ESTABLISHED, 45000, 80), tcp(6, TCP_LISTEN, 45000, 0)), 1);
	assert_int_equal(w->got[0].cookie, 6);
}

static void test_listener_is_remembered_two_minutes(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, listener(1));
	NOTHING(w);
	w->clock = START + USEC_PER_MINUTE;
	SWEEP(w, served(2));
	only(w, 2, ROLE_ACCEPTED);
	w->clock = START + 2 * USEC_PER_MINUTE + USEC_PER_SEC;
	SWEEP(w, served(2), tcp(3, TCP_ESTABLISHED, LISTEN_PORT, 7));
	only(w, 3, ROLE_CONNECTED);
}

static void test_bound_first_is_never_accepted(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, tcp(1, BOUND_STATE, LISTEN_PORT, 0));
	only(w, 1, ROLE_BOUND);
	assert_int_equal(SWEEP(w, listener(2), tcp(1, TCP_SYN_SENT, LISTEN_PORT, 80)), 2);
	expect(&w->got[1], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, false);
	assert_int_equal(w->got[1].remote.port, 80);
	assert_int_equal(SWEEP(w, listener(2), tcp(1, TCP_ESTABLISHED, LISTEN_PORT, 80)), 0);
	/* refused, but still bound: what it was stays; then it listens itself */
	assert_int_equal(SWEEP(w, listener(2), tcp(1, BOUND_STATE, LISTEN_PORT, 0)), 1);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_CONNECTED, false);
	assert_int_equal(SWEEP(w, listener(2), tcp(1, TCP_LISTEN, LISTEN_PORT, 0)), 1);
	only(w, 1, ROLE_LISTENING);
	assert_int_equal(SWEEP(w, listener(2), tcp(1, BOUND_STATE, LISTEN_PORT, 0)), 1);
	only(w, 1, ROLE_BOUND);
}

static void test_udp_roles(void **state)
{
	WORLD(w, true);
	struct socket_row lite = udp(9, 42000, 0);

	(void)state;
	SWEEP(w, udp(1, 41000, 0));
	only(w, 1, ROLE_BOUND);
	SWEEP(w, udp(1, 41000, 53));
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->remote.port, 53);
	SWEEP(w, udp(1, 41000, 54));
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->remote.port, 54);
	SWEEP(w, udp(1, 41000, 0));
	assert_int_equal(only(w, 1, ROLE_BOUND)->remote.address.family, FAMILY_NONE);
	lite.protocol = PROTOCOL_UDPLITE;
	SWEEP(w, udp(1, 41000, 0), lite);
	assert_int_equal(only(w, 9, ROLE_BOUND)->protocol, PROTOCOL_UDPLITE);
	/* a port of UDP says nothing about one of TCP */
	SWEEP(w, udp(1, 41000, 0), lite, tcp(3, TCP_ESTABLISHED, 41000, 80));
	only(w, 3, ROLE_CONNECTED);
}

static void test_another_port_is_another_tenure(void **state)
{
	WORLD(w, true);
	usec_t before;

	(void)state;
	SWEEP(w, udp(1, 41000, 0), tcp(2, TCP_SYN_SENT, CLIENT_PORT, 80));
	before = w->begin;
	assert_int_equal(SWEEP(w, udp(1, 41001, 0), tcp(2, TCP_SYN_SENT, CLIENT_PORT + 1, 80)), 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(w->got[i].kind, SIGHTING_PRESENT);
		assert_int_equal(w->got[i].after, before);
		assert_false(w->got[i].preexisting);
	}
	assert_int_equal(w->got[0].local.port, 41001);
	assert_int_equal(w->got[1].local.port, CLIENT_PORT + 1);
	w->count = 0;
	assert_int_equal(table_resync(w->table, SOURCE_SWEEP, take, w), 0);
	assert_int_equal(w->got[0].at, w->begin + 1);
	/* what it was on its old port does not count */
	assert_int_equal(SWEEP(w, udp(1, 41001, 0), tcp(2, BOUND_STATE, 51000, 0)), 1);
	only(w, 2, ROLE_BOUND);
}

static void test_what_a_connection_leaves_is_bound(void **state)
{
	WORLD(w, true);

	(void)state;
	/* reset, but its port was bound by hand: the kernel still has the remote end in its bytes */
	SWEEP(w, listener(1), tcp(2, BOUND_STATE, CLIENT_PORT, 80));
	expect(&w->got[1], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_BOUND, false);
}

static void test_time_wait(void **state)
{
	WORLD(w, true);
	usec_t before;

	(void)state;
	SWEEP(w, listener(1), served(2), client(3));
	before = w->begin;
	assert_int_equal(
		SWEEP(w, listener(1), remainder_of(served(2)), remainder_of(client(3))), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_ACCEPTED, true);
	expect(&w->got[1], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_CONNECTED, true);
	assert_int_equal(w->got[0].after, before);
	assert_int_equal(w->got[0].expires, w->got[0].at + 60 * USEC_PER_SEC);
	assert_int_equal(
		SWEEP(w, listener(1), remainder_of(served(2)), remainder_of(client(3))), 0);
	/* first seen as a remainder */
	assert_int_equal(SWEEP(w, listener(1), remainder_of(served(2)), remainder_of(client(3)),
				 remainder_of(tcp(4, 6, LISTEN_PORT, 5)),
				 remainder_of(tcp(5, 6, 51000, 80))),
		2);
	expect(&w->got[0], SIGHTING_PRESENT, 4, PROTOCOL_TCP, ROLE_ACCEPTED, true);
	expect(&w->got[1], SIGHTING_PRESENT, 5, PROTOCOL_TCP, ROLE_CONNECTED, true);
	assert_int_equal(SWEEP(w, listener(1)), 4);
}

static void test_accepted_not_wanted(void **state)
{
	struct table_socket *wanted[4];
	WORLD(w, false);

	(void)state;
	begin(w);
	feed(w, listener(1));
	feed(w, served(2));
	assert_int_equal(table_attributable(w->table, wanted, 4), 1);
	assert_int_equal(wanted[0]->row.cookie, 1);
	assert_int_equal(end(w, ALL), 0);
	only(w, 1, ROLE_LISTENING);
	assert_int_equal(table_stats(w->table).unattributed, 1);
	/* remembered as accepted, long after the listener went */
	assert_int_equal(SWEEP(w, served(2)), 1);
	w->clock += USEC_PER_HOUR;
	assert_int_equal(SWEEP(w, remainder_of(served(2))), 0);
	assert_int_equal(NOTHING(w), 0);
	/* one that was told before its listener was known is told to its end */
	SWEEP(w, tcp(5, TCP_ESTABLISHED, 45000, 80));
	only(w, 5, ROLE_CONNECTED);
	assert_int_equal(
		SWEEP(w, tcp(6, TCP_LISTEN, 45000, 0), tcp(5, TCP_ESTABLISHED, 45000, 80)), 2);
	expect(&w->got[1], SIGHTING_PRESENT, 5, PROTOCOL_TCP, ROLE_ACCEPTED, false);
	assert_int_equal(SWEEP(w, tcp(6, TCP_LISTEN, 45000, 0)), 1);
	expect_absent(w, 0, 5, w->begin - USEC_PER_SEC);
}

/* ---- holders ---- */

static struct table_socket *wanted_one(struct world *w, uint64_t cookie)
{
	struct table_socket *wanted[2];

	assert_int_equal(table_attributable(w->table, wanted, 2), 1);
	assert_int_equal(wanted[0]->row.cookie, cookie);
	assert_true(wanted[0]->wants_holder);
	return wanted[0];
}

static void add_ref(void *context, uint32_t ref)
{
	*(uint32_t *)context += ref;
}

static void test_attribution(void **state)
{
	static const uint32_t two[] = {8, 9};
	struct table_socket *s, *none[1];
	struct socket_row row = client(1);
	uint32_t refs = 0;
	WORLD(w, true);

	(void)state;
	begin(w);
	feed(w, row);
	assert_int_equal(table_attributable(w->table, none, 0), 0);
	s = wanted_one(w, 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(table_stats(w->table).unattributed, 1);

	/* something is found, but it may not be all: asked again */
	begin(w);
	feed(w, row);
	s = wanted_one(w, 1);
	assert_int_equal(table_attribute(w->table, s, ATTRIBUTION_UID, 7, NULL, 0, 0, false), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->opener, 7);
	assert_int_equal(w->got[0].attribution, ATTRIBUTION_UID);
	assert_int_equal(table_stats(w->table).unattributed, 0);

	begin(w);
	feed(w, row);
	s = wanted_one(w, 1);
	assert_int_equal(table_attribute(w->table, s, ATTRIBUTION_PROCFD, 7, two, 2, 3, true), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->holder_count, 2);
	assert_memory_equal(w->got[0].holders, two, sizeof(two));
	assert_int_equal(w->got[0].holders_dropped, 3);

	/* for good: not asked again, and the same answer is no news */
	begin(w);
	feed(w, row);
	assert_int_equal(table_attributable(w->table, none, 1), 0);
	assert_int_equal(table_attribute(w->table, s, ATTRIBUTION_PROCFD, 7, two, 2, 3, true), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
	table_refs(w->table, add_ref, &refs);
	assert_int_equal(refs, 7 + 8 + 9);

	/* the remainder keeps its opener and holders */
	SWEEP(w, remainder_of(row));
	assert_int_equal(w->count, 1);
	assert_int_equal(w->got[0].opener, 7);
	assert_int_equal(w->got[0].holder_count, 2);
}

static void test_first_inode_is_told(void **state)
{
	struct table_socket *none[1];
	struct socket_row row = with_inode(served(2), 0);
	WORLD(w, true);

	(void)state;
	begin(w);
	feed(w, row);
	assert_int_equal(table_attributable(w->table, none, 1), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 1);
	assert_int_equal(table_stats(w->table).unattributed, 0);
	row.inode = 5;
	begin(w);
	feed(w, row);
	wanted_one(w, 2);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 1);
	/* orphaned: nobody can have it now, and that is no news */
	row.inode = 0;
	begin(w);
	feed(w, row);
	assert_int_equal(table_attributable(w->table, none, 1), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
}

/* ---- telling again ---- */

static void test_failed_emit_and_resync(void **state)
{
	struct socket_row rows[] = {listener(1), client(2), udp(3, 41000, 0), served(4)};
	usec_t first, bound;
	WORLD(w, true);

	(void)state;
	NOTHING(w);
	bound = w->begin;
	begin(w);
	for (size_t i = 0; i < ELEMENTSOF(rows); i++)
		feed(w, rows[i]);
	w->fail_at = 2;
	first = w->begin;
	assert_int_equal(end(w, ALL), -EPIPE);
	assert_int_equal(w->count, 1);
	w->fail_at = 0;
	rows[1] = remainder_of(rows[1]);
	assert_int_equal(sweep_of(w, ALL, rows, 3), 2); /* the time wait, and 4 is absent */
	w->count = 0;
	assert_int_equal(table_resync(w->table, SOURCE_SWEEP, take, w), 0);
	assert_int_equal(w->count, 3);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_TCP, ROLE_LISTENING, false);
	expect(&w->got[1], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_CONNECTED, true);
	expect(&w->got[2], SIGHTING_PRESENT, 3, PROTOCOL_UDP, ROLE_BOUND, false);
	/* since when: as it was told first; the remainder was a socket then */
	assert_int_equal(w->got[0].at, first + 1);
	assert_int_equal(w->got[1].at, w->begin + 2);
	for (size_t i = 0; i < 3; i++)
		assert_in_range(w->got[i].after, bound - USEC_PER_MSEC, bound);
	w->fail_at = 2;
	w->count = 0;
	assert_int_equal(table_resync(w->table, SOURCE_SWEEP, take, w), -EPIPE);
}

static void test_resync_of_preexisting(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, client(1));
	SWEEP(w, client(1));
	w->count = 0;
	assert_int_equal(table_resync(w->table, SOURCE_PROCNET, take, w), 0);
	assert_int_equal(w->count, 1);
	assert_true(w->got[0].preexisting);
	assert_int_equal(w->got[0].after, 0);
	assert_int_equal(w->got[0].at, START + 1);
	assert_int_equal(w->got[0].source, SOURCE_PROCNET);
}

/* ---- no memory ---- */

/* The i-th of many sockets; every tenth pair is one of MPTCP. */
static struct socket_row many(size_t i)
{
	uint16_t port = (uint16_t)(20000 + i);

	if (i % 10 > 1)
		return tcp(i + 1, i % 3 ? TCP_ESTABLISHED : TCP_LISTEN, port, i % 3 ? 80 : 0);
	return with_inode(row_of(i % 10 == 0 ? PROTOCOL_MPTCP : PROTOCOL_TCP, i + 1,
				  TCP_ESTABLISHED, (uint16_t)(20000 + i / 10), 80),
		900000 + i / 10);
}

/* Any one allocation fails: the row can be given again, and the sweep is as if nothing had been. */
static void test_every_allocation_may_fail(void **state)
{
	enum { MANY = 800 };
	static const uint32_t holder = 3;
	struct table_socket *wanted[1];
	unsigned n = 0;

	(void)state;
	do {
		WORLD(w, true);

		begin(w);
		failing_hits = 0;
		failing_in = n++;
		for (size_t i = 0; i < MANY; i++) {
			struct socket_row row = many(i);
			int r = table_row(w->table, &row, ++w->clock);

			assert_true(r == 0 || (r == -ENOMEM && failing_hits == 1));
			if (r < 0)
				feed(w, row);
		}
		assert_int_equal(table_attributable(w->table, wanted, 1), 1);
		if (table_attribute(
			    w->table, wanted[0], ATTRIBUTION_PROCFD, 2, &holder, 1, 0, true) < 0)
			assert_int_equal(failing_hits, 1);
		failing_in = UINT_MAX;
		assert_int_equal(end(w, ALL), 0);
		assert_int_equal(w->count, MANY - MANY / 10);
	} while (failing_hits > 0);
	/* each socket, each tenth's fold, the tables and their growth */
	assert_true(n > MANY + MANY / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_sweep_is_preexisting),
		cmocka_unit_test(test_new_has_its_bound),
		cmocka_unit_test(test_absent_then_dropped),
		cmocka_unit_test(test_absent_comes_back),
		cmocka_unit_test(test_aborted_sweep_proves_nothing),
		cmocka_unit_test(test_preexisting_until_a_whole_sweep),
		cmocka_unit_test(test_seen_twice_in_a_sweep),
		cmocka_unit_test(test_accepted_in_any_order),
		cmocka_unit_test(test_second_look_for_listeners),
		cmocka_unit_test(test_connected_turns_accepted_only_at_once),
		cmocka_unit_test(test_listener_is_remembered_two_minutes),
		cmocka_unit_test(test_bound_first_is_never_accepted),
		cmocka_unit_test(test_udp_roles),
		cmocka_unit_test(test_another_port_is_another_tenure),
		cmocka_unit_test(test_what_a_connection_leaves_is_bound),
		cmocka_unit_test(test_time_wait),
		cmocka_unit_test(test_accepted_not_wanted),
		cmocka_unit_test(test_attribution),
		cmocka_unit_test(test_first_inode_is_told),
		cmocka_unit_test(test_failed_emit_and_resync),
		cmocka_unit_test(test_resync_of_preexisting),
		cmocka_unit_test(test_every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
