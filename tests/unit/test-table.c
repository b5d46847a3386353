/* SPDX-License-Identifier: MIT */

/*
 * Scripted sweeps and what the table must say of them; then a seeded random world, whose true state after every sweep
 * is compared with what a reader of the sightings believes.
 */

#include "common/base.h"

#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "daemon/capture/table.h"

#define ALL          ((1u << PROTOCOL_COUNT) - 1)
#define BIT(p)       (1u << (p))
#define BOUND_STATE  TCP_CLOSE
#define START        (1000 * USEC_PER_SEC)
#define GOT_MAX      4096
#define LISTEN_PORT  40000
#define CLIENT_PORT  50000
#define SERVER_PORT  443

struct world {
	struct table *table;
	usec_t clock; /* moves on by 1 us with each row, by 1 s with each sweep */
	usec_t begin; /* of the last sweep */
	usec_t end;
	size_t count;
	size_t fail_at; /* emit fails from this sighting on; 0: never */
	struct sighting got[GOT_MAX];
};

static int take(void *context, const struct sighting *s)
{
	struct world *w = context;

	assert_true(w->count < GOT_MAX);
	if (w->fail_at > 0 && w->count + 1 >= w->fail_at)
		return -EPIPE;
	w->got[w->count++] = *s;
	return 0;
}

static struct world *world_new(bool accepted)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->table = table_new(accepted);
	assert_non_null(w->table);
	w->clock = START;
	return w;
}

static void world_free(struct world **w)
{
	table_free((*w)->table);
	free(*w);
}
#define WORLD(name, accepted) _cleanup_(world_free) struct world *name = world_new(accepted)

static void begin(struct world *w)
{
	w->count = 0;
	w->begin = w->clock;
	table_begin(w->table, w->clock);
}

static void feed(struct world *w, const struct socket_row *row)
{
	assert_int_equal(table_row(w->table, row, ++w->clock), 0);
}

static int end(struct world *w, uint32_t protocols)
{
	int r;

	w->end = ++w->clock;
	r = table_end(w->table, w->end, protocols, SOURCE_SWEEP, take, w);
	w->clock = w->begin + USEC_PER_SEC;
	return r;
}

/* A sweep that sees these rows; returns how many sightings it gave. */
static size_t sweep_of(
	struct world *w, uint32_t protocols, const struct socket_row *rows, size_t count)
{
	begin(w);
	for (size_t i = 0; i < count; i++)
		feed(w, &rows[i]);
	assert_int_equal(end(w, protocols), 0);
	return w->count;
}
#define SWEEP(w, ...)                                                                              \
	sweep_of(w, ALL, (const struct socket_row[]){__VA_ARGS__},                                 \
		ELEMENTSOF(((const struct socket_row[]){__VA_ARGS__})))
#define PART(w, protocols, ...)                                                                    \
	sweep_of(w, protocols, (const struct socket_row[]){__VA_ARGS__},                           \
		ELEMENTSOF(((const struct socket_row[]){__VA_ARGS__})))
#define NOTHING(w) sweep_of(w, ALL, NULL, 0)

static struct endpoint ipv4(uint8_t last, uint16_t port)
{
	return (struct endpoint){
		.address = {.family = FAMILY_IPV4, .bytes = {127, 0, 0, last}},
		.port = port,
	};
}

static struct socket_row row_of(enum protocol protocol, uint64_t cookie, uint8_t state,
	uint16_t local, uint16_t remote)
{
	struct socket_row row = {
		.cookie = cookie,
		.inode = cookie + 1000,
		.protocol = (uint8_t)protocol,
		.state = state,
		.local = ipv4(1, local),
	};

	if (remote != 0)
		row.remote = ipv4(2, remote);
	return row;
}

static struct socket_row tcp(uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
{
	return row_of(PROTOCOL_TCP, cookie, state, local, remote);
}

static struct socket_row client(uint64_t cookie)
{
	return tcp(cookie, TCP_ESTABLISHED, CLIENT_PORT, SERVER_PORT);
}

static struct socket_row listener(uint64_t cookie)
{
	return tcp(cookie, TCP_LISTEN, LISTEN_PORT, 0);
}

static struct socket_row served(uint64_t cookie)
{
	return tcp(cookie, TCP_ESTABLISHED, LISTEN_PORT, CLIENT_PORT);
}

static struct socket_row udp(uint64_t cookie, uint16_t local, uint16_t remote)
{
	return row_of(PROTOCOL_UDP, cookie, remote ? TCP_ESTABLISHED : TCP_CLOSE, local, remote);
}

static struct socket_row remainder_of(struct socket_row row)
{
	row.state = TCP_TIME_WAIT;
	row.minisock = true;
	row.inode = 0;
	row.expires_msec = 60000;
	return row;
}

static struct socket_row with_inode(struct socket_row row, uint64_t inode)
{
	row.inode = inode;
	return row;
}

/* An MPTCP socket and its subflow share inode 77. */
static struct socket_row mptcp(uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
{
	return with_inode(row_of(PROTOCOL_MPTCP, cookie, state, local, remote), 77);
}

static struct socket_row subflow(uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
{
	return with_inode(tcp(cookie, state, local, remote), 77);
}

static void expect(const struct sighting *s, enum sighting_kind kind, uint64_t cookie,
	enum protocol protocol, enum role role, bool time_wait)
{
	assert_int_equal(s->kind, kind);
	assert_int_equal(s->cookie, cookie);
	assert_int_equal(s->protocol, protocol);
	assert_int_equal(s->role, role);
	assert_int_equal(s->time_wait, time_wait);
}

/* The sweep gave exactly this: it is there. */
static const struct sighting *only(struct world *w, uint64_t cookie, enum role role)
{
	assert_int_equal(w->count, 1);
	expect(&w->got[0], SIGHTING_PRESENT, cookie, w->got[0].protocol, role, false);
	return &w->got[0];
}

static void expect_absent(struct world *w, size_t i, uint64_t cookie, usec_t after)
{
	assert_true(i < w->count);
	assert_int_equal(w->got[i].kind, SIGHTING_ABSENT);
	assert_int_equal(w->got[i].cookie, cookie);
	assert_int_equal(w->got[i].at, w->end);
	assert_int_equal(w->got[i].after, after);
}

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
	assert_int_equal(SWEEP(w, client(1), tcp(2, TCP_ESTABLISHED, 51000, 80), udp(3, 41000, 0)),
		2);
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
	feed(w, &(struct socket_row){0}.cookie == NULL ? NULL : &(const struct socket_row[]){listener(9)}[0]);
	assert_false(table_has_new_connections(w->table));
	feed(w, &(const struct socket_row[]){tcp(2, TCP_ESTABLISHED, 45000, 80)}[0]);
	assert_true(table_has_new_connections(w->table));
	feed(w, &(const struct socket_row[]){tcp(3, TCP_LISTEN, 45000, 0)}[0]);
	assert_int_equal(end(w, ALL), 0);
	expect(&w->got[1], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_ACCEPTED, false);
	begin(w);
	feed(w, &(const struct socket_row[]){tcp(2, TCP_ESTABLISHED, 45000, 80)}[0]);
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
	assert_int_equal(SWEEP(w, tcp(5, TCP_ESTABLISHED, 45000, 80), tcp(6, TCP_LISTEN, 45000, 0)),
		1);
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
}

static void test_time_wait(void **state)
{
	WORLD(w, true);
	usec_t before;

	(void)state;
	SWEEP(w, listener(1), served(2), client(3));
	before = w->begin;
	assert_int_equal(SWEEP(w, listener(1), remainder_of(served(2)), remainder_of(client(3))), 2);
	expect(&w->got[0], SIGHTING_PRESENT, 2, PROTOCOL_TCP, ROLE_ACCEPTED, true);
	expect(&w->got[1], SIGHTING_PRESENT, 3, PROTOCOL_TCP, ROLE_CONNECTED, true);
	assert_int_equal(w->got[0].after, before);
	assert_int_equal(w->got[0].expires, w->got[0].at + 60 * USEC_PER_SEC);
	assert_int_equal(SWEEP(w, listener(1), remainder_of(served(2)), remainder_of(client(3))), 0);
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
	feed(w, &(const struct socket_row[]){listener(1)}[0]);
	feed(w, &(const struct socket_row[]){served(2)}[0]);
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
	assert_int_equal(SWEEP(w, tcp(6, TCP_LISTEN, 45000, 0), tcp(5, TCP_ESTABLISHED, 45000, 80)),
		2);
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
	feed(w, &row);
	assert_int_equal(table_attributable(w->table, none, 0), 0);
	s = wanted_one(w, 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(table_stats(w->table).unattributed, 1);

	/* something is found, but it may not be all: asked again */
	begin(w);
	feed(w, &row);
	s = wanted_one(w, 1);
	assert_int_equal(table_attribute(w->table, s, ATTRIBUTION_UID, 7, NULL, 0, 0, false), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->opener, 7);
	assert_int_equal(w->got[0].attribution, ATTRIBUTION_UID);
	assert_int_equal(table_stats(w->table).unattributed, 0);

	begin(w);
	feed(w, &row);
	s = wanted_one(w, 1);
	assert_int_equal(table_attribute(w->table, s, ATTRIBUTION_PROCFD, 7, two, 2, 3, true), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->holder_count, 2);
	assert_memory_equal(w->got[0].holders, two, sizeof(two));
	assert_int_equal(w->got[0].holders_dropped, 3);

	/* for good: not asked again, and the same answer is no news */
	begin(w);
	feed(w, &row);
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
	feed(w, &row);
	assert_int_equal(table_attributable(w->table, none, 1), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 1);
	assert_int_equal(table_stats(w->table).unattributed, 0);
	row.inode = 5;
	begin(w);
	feed(w, &row);
	wanted_one(w, 2);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 1);
	/* orphaned: nobody can have it now, and that is no news */
	row.inode = 0;
	begin(w);
	feed(w, &row);
	assert_int_equal(table_attributable(w->table, none, 1), 0);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(w->count, 0);
}

/* ---- MPTCP ---- */

static void test_mptcp_both_new(void **state)
{
	struct socket_row m = mptcp(1, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct socket_row s = subflow(2, TCP_ESTABLISHED, CLIENT_PORT, 80);
	struct table_socket *wanted[4];
	usec_t seen;
	WORLD(w, true);

	(void)state;
	begin(w);
	feed(w, &m);
	feed(w, &s);
	assert_int_equal(table_attributable(w->table, wanted, 4), 1);
	assert_int_equal(wanted[0]->row.cookie, 1);
	assert_int_equal(end(w, ALL), 0);
	assert_int_equal(only(w, 1, ROLE_CONNECTED)->protocol, PROTOCOL_MPTCP);
	assert_int_equal(table_stats(w->table).sockets, 1);
	assert_int_equal(SWEEP(w, m, s), 0);
	/* the MPTCP socket goes first */
	assert_int_equal(SWEEP(w, s), 0);
	assert_int_equal(SWEEP(w, remainder_of(s)), 1);
	expect(&w->got[0], SIGHTING_PRESENT, 1, PROTOCOL_MPTCP, ROLE_CONNECTED, true);
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
	assert_int_equal(SWEEP(w, m, s), 1);
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
		feed(w, &rows[i]);
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
