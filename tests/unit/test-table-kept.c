/* SPDX-License-Identifier: MIT */

/* Sweeps that do not read TCP's connections, since the kernel's counters say that they are what they were. */

#include "tests/unit/table-script.h"

/* Everything that wants a holder gets one, for good. */
static void attribute_all(struct world *w)
{
	struct table_socket *wanted[16];
	size_t count = table_attributable(w->table, wanted, ELEMENTSOF(wanted));

	for (size_t i = 0; i < count; i++)
		assert_int_equal(table_attribute(w->table, wanted[i], ATTRIBUTION_PROCFD, 2, NULL,
					 0, 0, true),
			0);
}

static void loud(struct world *w, const struct socket_row *rows, size_t count)
{
	begin(w);
	for (size_t i = 0; i < count; i++)
		feed(w, rows[i]);
	attribute_all(w);
	assert_int_equal(end(w, ALL), 0);
}
#define LOUD(w, ...)                                                                               \
	loud(w, (const struct socket_row[]){__VA_ARGS__},                                          \
		ELEMENTSOF(((const struct socket_row[]){__VA_ARGS__})))

/* Sees these, and the connections as they were. */
static size_t quiet(struct world *w, const struct socket_row *rows, size_t count)
{
	begin(w);
	table_keep_connections(w->table);
	for (size_t i = 0; i < count; i++)
		feed(w, rows[i]);
	assert_int_equal(end(w, ALL), 0);
	return w->count;
}
#define QUIET(w, ...)                                                                              \
	quiet(w, (const struct socket_row[]){__VA_ARGS__},                                         \
		ELEMENTSOF(((const struct socket_row[]){__VA_ARGS__})))

static uint32_t unsettled(const struct world *w)
{
	return table_stats(w->table).unsettled;
}

static void test_connections_are_kept(void **state)
{
	WORLD(w, true);
	usec_t kept;

	(void)state;
	LOUD(w, listener(1), served(2), client(3), remainder_of(tcp(4, 0, CLIENT_PORT + 1, 80)));
	LOUD(w, listener(1), served(2), client(3), remainder_of(tcp(4, 0, CLIENT_PORT + 1, 80)));
	assert_int_equal(unsettled(w), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(QUIET(w, listener(1)), 0);
		assert_int_equal(unsettled(w), 0);
		assert_int_equal(table_stats(w->table).sockets, 4);
	}
	/* what the next one misses was there when the counters last said so */
	kept = w->begin;
	LOUD(w, listener(1), served(2));
	assert_int_equal(w->count, 2);
	expect_absent(w, 0, 3, kept);
	expect_absent(w, 1, 4, kept);
	assert_int_equal(unsettled(w), 2);
}

/* A new one's earlier bound is the last sweep, also where that read no connections. */
static void test_bound_of_a_new_one(void **state)
{
	WORLD(w, true);
	usec_t kept;

	(void)state;
	LOUD(w, listener(1));
	assert_int_equal(QUIET(w, listener(1)), 0);
	kept = w->begin;
	LOUD(w, listener(1), served(2));
	assert_int_equal(only(w, 2, ROLE_ACCEPTED)->after, kept);
}

/* These are read by each sweep, and missed by it. */
static void test_others_are_not_kept(void **state)
{
	WORLD(w, true);
	usec_t seen;

	(void)state;
	LOUD(w, listener(1), tcp(2, BOUND_STATE, CLIENT_PORT, 0), udp(3, CLIENT_PORT, 0),
		udp(4, CLIENT_PORT + 1, 53));
	seen = w->begin;
	assert_int_equal(QUIET(w, client(9)), 5);
	expect(&w->got[0], SIGHTING_PRESENT, 9, PROTOCOL_TCP, ROLE_CONNECTED, false);
	for (size_t i = 1; i < 5; i++)
		expect_absent(w, i, w->got[i].cookie, seen);
}

static void test_unsettled(void **state)
{
	WORLD(w, true);
	struct socket_row waiting = with_inode(served(4), 0);

	(void)state;
	/* whether a connection was accepted may show one sweep later */
	LOUD(w, client(1));
	assert_int_equal(unsettled(w), 1);
	LOUD(w, client(1));
	assert_int_equal(unsettled(w), 0);
	/* without a holder */
	SWEEP(w, client(1), tcp(2, TCP_ESTABLISHED, CLIENT_PORT, 81));
	SWEEP(w, client(1), tcp(2, TCP_ESTABLISHED, CLIENT_PORT, 81));
	assert_int_equal(unsettled(w), 1);
	/* missed once */
	LOUD(w, client(1));
	assert_int_equal(unsettled(w), 1);
	LOUD(w, client(1));
	assert_int_equal(unsettled(w), 0);
	/* accept(2) is not counted: its inode comes later */
	LOUD(w, client(1), listener(3), waiting);
	LOUD(w, client(1), listener(3), waiting);
	assert_int_equal(unsettled(w), 1);
	LOUD(w, client(1), listener(3), served(4));
	assert_int_equal(unsettled(w), 0);
	/* MPTCP is counted elsewhere */
	LOUD(w, row_of(PROTOCOL_MPTCP, 5, TCP_ESTABLISHED, CLIENT_PORT, 82), client(1), listener(3),
		served(4));
	assert_int_equal(unsettled(w), 1);
}

/* Nobody looks for the holders of what is not told. */
static void test_accepted_not_wanted(void **state)
{
	WORLD(w, false);

	(void)state;
	LOUD(w, listener(1), served(2));
	LOUD(w, listener(1), served(2));
	assert_int_equal(unsettled(w), 0);
	assert_int_equal(QUIET(w, listener(1)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections_are_kept),
		cmocka_unit_test(test_bound_of_a_new_one),
		cmocka_unit_test(test_others_are_not_kept),
		cmocka_unit_test(test_unsettled),
		cmocka_unit_test(test_accepted_not_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
