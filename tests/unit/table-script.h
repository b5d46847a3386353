/* SPDX-License-Identifier: MIT */
#pragma once

/* Sweeps as a script for the tests of the table: rows by kind, a clock, and the sightings that came of them. */

#include "common/base.h"

#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "daemon/capture/table.h"

#define ALL         ((1u << PROTOCOL_COUNT) - 1)
#define BIT(p)      (1u << (p))
#define BOUND_STATE TCP_CLOSE
#define START       (1000 * USEC_PER_SEC)
#define GOT_MAX     4096
#define LISTEN_PORT 40000
#define CLIENT_PORT 50000
#define SERVER_PORT 443

struct world {
	struct table *table;
	usec_t clock; /* moves on by 1 us with each row, by 1 s with each sweep */
	usec_t begin; /* of the last sweep */
	usec_t end;
	size_t count;
	size_t fail_at; /* emit fails from this sighting on; 0: never */
	struct sighting got[GOT_MAX];
};

static inline int take(void *context, const struct sighting *s)
{
	struct world *w = context;

	assert_true(w->count < GOT_MAX);
	if (w->fail_at > 0 && w->count + 1 >= w->fail_at)
		return -EPIPE;
	w->got[w->count++] = *s;
	return 0;
}

static inline struct world *world_new(bool accepted)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->table = table_new(accepted);
	assert_non_null(w->table);
	w->clock = START;
	return w;
}

static inline void world_free(struct world **w)
{
	table_free((*w)->table);
	free(*w);
}
#define WORLD(name, accepted) _cleanup_(world_free) struct world *name = world_new(accepted)

static inline void begin(struct world *w)
{
	w->count = 0;
	w->begin = w->clock;
	table_begin(w->table, w->clock);
}

static inline void feed(struct world *w, struct socket_row row)
{
	assert_int_equal(table_row(w->table, &row, ++w->clock), 0);
}

static inline int end(struct world *w, uint32_t protocols)
{
	int r;

	w->end = ++w->clock;
	r = table_end(w->table, w->end, protocols, SOURCE_SWEEP, take, w);
	w->clock = w->begin + USEC_PER_SEC;
	return r;
}

/* A sweep that sees these rows; returns how many sightings it gave. */
static inline size_t sweep_of(
	struct world *w, uint32_t protocols, const struct socket_row *rows, size_t count)
{
	begin(w);
	for (size_t i = 0; i < count; i++)
		feed(w, rows[i]);
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

static inline struct endpoint ipv4(uint8_t last, uint16_t port)
{
	return (struct endpoint){
		.address = {.family = FAMILY_IPV4, .bytes = {127, 0, 0, last}},
		.port = port,
	};
}

static inline struct socket_row row_of(
	enum protocol protocol, uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
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

static inline struct socket_row tcp(uint64_t cookie, uint8_t state, uint16_t local, uint16_t remote)
{
	return row_of(PROTOCOL_TCP, cookie, state, local, remote);
}

static inline struct socket_row client(uint64_t cookie)
{
	return tcp(cookie, TCP_ESTABLISHED, CLIENT_PORT, SERVER_PORT);
}

static inline struct socket_row listener(uint64_t cookie)
{
	return tcp(cookie, TCP_LISTEN, LISTEN_PORT, 0);
}

static inline struct socket_row served(uint64_t cookie)
{
	return tcp(cookie, TCP_ESTABLISHED, LISTEN_PORT, CLIENT_PORT);
}

static inline struct socket_row udp(uint64_t cookie, uint16_t local, uint16_t remote)
{
	return row_of(PROTOCOL_UDP, cookie, remote ? TCP_ESTABLISHED : TCP_CLOSE, local, remote);
}

static inline struct socket_row remainder_of(struct socket_row row)
{
	row.state = TCP_TIME_WAIT;
	row.minisock = true;
	row.inode = 0;
	row.expires_msec = 60000;
	return row;
}

static inline struct socket_row with_inode(struct socket_row row, uint64_t inode)
{
	row.inode = inode;
	return row;
}

static inline void expect(const struct sighting *s, enum sighting_kind kind, uint64_t cookie,
	enum protocol protocol, enum role role, bool time_wait)
{
	assert_int_equal(s->kind, kind);
	assert_int_equal(s->cookie, cookie);
	assert_int_equal(s->protocol, protocol);
	assert_int_equal(s->role, role);
	assert_int_equal(s->time_wait, time_wait);
}

/* The sweep gave exactly this: it is there. */
static inline const struct sighting *only(struct world *w, uint64_t cookie, enum role role)
{
	assert_int_equal(w->count, 1);
	expect(&w->got[0], SIGHTING_PRESENT, cookie, w->got[0].protocol, role, false);
	return &w->got[0];
}

static inline void expect_absent(struct world *w, size_t i, uint64_t cookie, usec_t after)
{
	assert_true(i < w->count);
	assert_int_equal(w->got[i].kind, SIGHTING_ABSENT);
	assert_int_equal(w->got[i].cookie, cookie);
	assert_int_equal(w->got[i].at, w->end);
	assert_int_equal(w->got[i].after, after);
}
