/* SPDX-License-Identifier: MIT */

/* An MPTCP socket and its subflow are one claim, in whichever order and table they are seen. */

#include "tests/unit/table-script.h"

/* An MPTCP socket and its subflow share inode 77. */
static struct socket_row mptcp(uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
{
	return with_inode(row_of(PROTOCOL_MPTCP, cookie, state, local, remote), 77);
}

static struct socket_row subflow(uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
{
	return with_inode(tcp(cookie, state, local, remote), 77);
}

static void test_mptcp_both_new(void **state)
{
	struct socket_row m = mptcp(1, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct socket_row s = subflow(2, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct table_socket *wanted[4];
	usec_t seen;
	WORLD(w, true);

	(void)state;
	begin(w);
	feed(w, m);
	feed(w, s);
	assert_int_equal(table_attributable(w->table, wanted, 4), 1);
	assert_int_equal(wanted[0]->row.cookie, 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->protocol, PROTOCOL_MPTCP);
	assert_int_equal(table_stats(w->table).sockets, 1);
	begin(w);
	feed(w, m);
	feed(w, s);
	assert_int_equal(table_attributable(w->table, wanted, 4), 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
	/* the MPTCP socket goes first */
	assert_int_equal(SWEEP(w, s), 0);
	begin(w);
	w->clock += 100;
	feed(w, remainder_of(s));
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 1);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_MPTCP, ROLE_CONNECTED, true);
	assert_int_equal(w->got[0].at, w->begin + 101);
	assert_int_equal(w->got[0].expires, w->got[0].at + 60 * USEC_PER_SEC);
	assert_int_equal(SWEEP(w, remainder_of(s)), 0);
	seen = w->begin;
	/* both tables must have been read to know that it is gone */
	assert_int_equal(sweep_of(w, BIT(PROTOCOL_MPTCP), NULL, 0), 0);
	assert_int_equal(sweep_of(w, BIT(PROTOCOL_TCP), NULL, 0), 0);
	assert_int_equal(NOTHING(w), 1);
	expect_absent(w, 0, 1, seen);
	assert_int_equal(w->got[0].protocol, PROTOCOL_MPTCP);
	assert_int_equal(NOTHING(w), 0);
	assert_int_equal(NOTHING(w), 0);
	/* forgotten, both */
	assert_int_equal(SWEEP(w, m, s), 1);
	assert_false(w->got[0].preexisting);
}

static void test_mptcp_subflow_was_first(void **state)
{
	struct socket_row m = mptcp(1, TCP_LISTEN, LISTEN_PORT, 0);
	WORLD(w, true);

	(void)state;
	SWEEP(w, subflow(2, BOUND_STATE, LISTEN_PORT, 0));
	assert_int_equal(only(w, 2, ROLE_BOUND)->protocol, PROTOCOL_TCP);
	SWEEP(w, m, subflow(2, TCP_LISTEN, LISTEN_PORT, 0));
	assert_int_equal(only(w, 2, ROLE_LISTENING)->protocol, PROTOCOL_MPTCP);
	assert_int_equal(SWEEP(w, m, subflow(2, TCP_LISTEN, LISTEN_PORT, 0)), 0);
	/* the alias keeps it present */
	assert_int_equal(SWEEP(w, m), 0);
	assert_int_equal(SWEEP(w, m), 0);
	assert_int_equal(NOTHING(w), 1);
	expect_absent(w, 0, 2, w->begin - USEC_PER_SEC);
}

static void test_mptcp_accepted_before_accept(void **state)
{
	struct socket_row lm = with_inode(mptcp(1, TCP_LISTEN, LISTEN_PORT, 0), 70);
	struct socket_row ls = with_inode(subflow(2, TCP_LISTEN, LISTEN_PORT, 0), 70);
	struct socket_row m = mptcp(3, TCP_ESTABLISHED, LISTEN_PORT, 9);
	struct socket_row s = subflow(4, TCP_ESTABLISHED, LISTEN_PORT, 9);
	WORLD(w, true);

	(void)state;
	m.inode = s.inode = 0;
	assert_int_equal(SWEEP(w, m, lm, ls, s), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 3, PROTOCOL_MPTCP, ROLE_ACCEPTED, false);
	expect(&w->got[1], SIGHTING_PRESENT, 1, PROTOCOL_MPTCP, ROLE_LISTENING, false);
	m.inode = s.inode = 77;
	assert_int_equal(SWEEP(w, m, lm, ls, s), 1); /* its first inode */
	expect(&w->got[0], SIGHTING_PRESENT, 3, PROTOCOL_MPTCP, ROLE_ACCEPTED, false);
}

static void test_mptcp_further_subflows(void **state)
{
	struct socket_row m = mptcp(1, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct socket_row s = subflow(2, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct socket_row same = subflow(3, TCP_ESTABLISHED, CLIENT_PORT, 81);
	struct socket_row other = subflow(4, TCP_ESTABLISHED, CLIENT_PORT + 1, 80);
	WORLD(w, true);

	(void)state;
	assert_int_equal(SWEEP(w, m, s, same, other), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_MPTCP, ROLE_CONNECTED, false);
	expect(&w->got[1], SIGHTING_PRESENT, 4, PROTOCOL_TCP, ROLE_CONNECTED, false);
	/* a subflow ends, its remainder is not all that is left */
	assert_int_equal(SWEEP(w, m, remainder_of(s), same, other), 0);
	assert_int_equal(SWEEP(w, same, remainder_of(s), other), 0);
	assert_int_equal(SWEEP(w, m, same, other), 0);
	assert_int_equal(SWEEP(w, m, same, other), 0);
	assert_int_equal(SWEEP(w, remainder_of(same), other), 1);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_MPTCP, ROLE_CONNECTED, true);
}

static void test_mptcp_told_apart_then_folded(void **state)
{
	struct socket_row m = mptcp(1, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct socket_row s = subflow(2, TCP_ESTABLISHED, CLIENT_PORT, 80);
	WORLD(w, true);

	(void)state;
	NOTHING(w);
	PART(w, ALL & ~BIT(PROTOCOL_MPTCP), s);
	PART(w, ALL & ~BIT(PROTOCOL_TCP), m);
	only(w, 1, ROLE_CONNECTED);
	assert_int_equal(SWEEP(w, m, s), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_MPTCP, ROLE_CONNECTED, false);
	expect_absent(w, 1, 1, w->begin);
	assert_int_equal(SWEEP(w, m, s), 0);
}

static void test_mptcp_reused_inode_is_no_fold(void **state)
{
	WORLD(w, true);

	(void)state;
	SWEEP(w, mptcp(1, TCP_ESTABLISHED, CLIENT_PORT, 80));
	/* the MPTCP socket is gone; inode and port serve another */
	assert_int_equal(SWEEP(w, subflow(2, TCP_ESTABLISHED, CLIENT_PORT, 80)), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_CONNECTED, false);
	expect_absent(w, 1, 1, START);
}

static void test_mptcp_newest_has_the_inode(void **state)
{
	struct socket_row m = mptcp(3, TCP_ESTABLISHED, CLIENT_PORT, 80);
	WORLD(w, true);

	(void)state;
	SWEEP(w, mptcp(1, TCP_ESTABLISHED, CLIENT_PORT, 80));
	/* another socket with the same inode and port, while the first is still remembered */
	assert_int_equal(SWEEP(w, m, subflow(4, TCP_ESTABLISHED, CLIENT_PORT, 80)), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 3, PROTOCOL_MPTCP, ROLE_CONNECTED, false);
	expect_absent(w, 1, 1, START);
	/* ... and after it was forgotten */
	assert_int_equal(SWEEP(w, m), 0);
	assert_int_equal(SWEEP(w, m, subflow(5, TCP_ESTABLISHED, CLIENT_PORT, 81)), 0);
	assert_int_equal(table_stats(w->table).sockets, 1);
}

static void test_mptcp_without_inode(void **state)
{
	struct socket_row m = mptcp(1, TCP_ESTABLISHED, LISTEN_PORT, 9);
	struct socket_row s = subflow(2, TCP_ESTABLISHED, LISTEN_PORT, 9);
	WORLD(w, true);

	(void)state;
	/* it got an inode, and went: nothing is to be found by its endpoints any more */
	assert_int_equal(SWEEP(w, with_inode(m, 0)), 1);
	assert_int_equal(SWEEP(w, m), 1);
	NOTHING(w);
	NOTHING(w);
	assert_int_equal(SWEEP(w, with_inode(s, 0)), 1);
	expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_CONNECTED, false);
	/* neither inode nor remote end: nothing that says they are one */
	m = with_inode(mptcp(3, TCP_CLOSE, 45000, 0), 0);
	s = with_inode(subflow(4, TCP_CLOSE, 45000, 0), 0);
	assert_int_equal(SWEEP(w, m, s), 3);
	/* closed by its process at both levels: first seen as that */
	m = with_inode(mptcp(5, TCP_FIN_WAIT2, 46000, 80), 0);
	s = remainder_of(subflow(6, TCP_FIN_WAIT2, 46000, 80));
	assert_int_equal(SWEEP(w, m, s), 3);
	expect(&w->got[0], SIGHTING_PRESENT, 5, PROTOCOL_MPTCP, ROLE_CONNECTED, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mptcp_both_new),
		cmocka_unit_test(test_mptcp_subflow_was_first),
		cmocka_unit_test(test_mptcp_accepted_before_accept),
		cmocka_unit_test(test_mptcp_further_subflows),
		cmocka_unit_test(test_mptcp_told_apart_then_folded),
		cmocka_unit_test(test_mptcp_reused_inode_is_no_fold),
		cmocka_unit_test(test_mptcp_newest_has_the_inode),
		cmocka_unit_test(test_mptcp_without_inode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
