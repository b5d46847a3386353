/* SPDX-License-Identifier: MIT */
#pragma once

/* Questions about a made-up history, at random or by hand, and the oracle that answers them by looking at each claim. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/control/query_internal.h"
#include "tests/support/full.h"
#include "tests/support/history.h"

#define CLAIMS       6000u
#define SEGMENT_ROWS 250u
#define FAR          (UINT64_C(60) * USEC_PER_MINUTE)

struct fixture {
	struct history history;
	struct query *query;
};

static inline void begin(struct fixture *f)
{
	assert_int_equal(query_begin(f->query, clock_now().boot + FAR), 0);
}

static inline int setup_empty(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	history_open(&f->history, "query");
	assert_int_equal(query_new(f->history.path, &f->query), 0);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	struct fixture *f;

	setup_empty(state);
	f = *state;
	history_fill(&f->history, CLAIMS, SEGMENT_ROWS);
	assert_true(f->history.segments > 10);
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	f->query = query_free(f->query);
	history_close(&f->history);
	free(f);
	return 0;
}

/* The columns that key the order, as query_sql.c has it. */
static inline int compare_order(const void *left, const void *right)
{
	const struct past *a = left, *b = right;
	int64_t mask = ~(int64_t)4088;
	const int64_t keys[][2] = {
		{a->opened, b->opened},
		{a->port, b->port},
		{a->meta & mask, b->meta & mask},
		{a->rport, b->rport},
		{a->raddr, b->raddr},
		{a->id, b->id},
	};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] < keys[i][1] ? -1 : 1;
	return 0;
}

static inline bool port_matches(const struct filter *f, int64_t port)
{
	bool listed = f->port_count == 0;

	for (unsigned i = 0; i < f->port_count; i++)
		listed |= f->ports[i] == port;
	return listed && (!f->range.high || (port >= f->range.low && port <= f->range.high));
}

/* All that answer the question, in order, by looking at each claim. */
static inline size_t oracle(const struct history *h, const struct question *q, struct past *found)
{
	size_t count = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct past *p = &h->past[i];

		if (!(q->rows & (p->in == IN_OPEN ? ROWS_OPEN : ROWS_RELEASED)) ||
			!port_matches(&q->filter, p->port) ||
			!past_touches(p, (int64_t)q->window.from, (int64_t)q->window.until))
			continue;
		if (q->filter.protocol >= 0 && (p->meta & 3) != q->filter.protocol)
			continue;
		if (q->filter.role >= 0 && (p->meta >> META_ROLE_SHIFT & 3) != q->filter.role)
			continue;
		if (q->filter.peer_port >= 0 && p->rport != q->filter.peer_port)
			continue;
		found[count++] = *p;
	}
	qsort(found, count, sizeof(*found), compare_order);
	return count;
}

/* Edges of claims more often than not: what is open or closed exactly there decides about < and <=. */
static inline usec_t random_time(struct history *h, int64_t *ret_port)
{
	const struct past *p = &h->past[history_random(h, (uint32_t)h->count)];
	int64_t t;

	*ret_port = p->port;
	switch (history_random(h, 5)) {
	case 0:
		return (usec_t)HISTORY_START + history_random(h, 1u << 30) * UINT64_C(21);
	case 1:
		t = p->opened;
		break;
	case 2:
		t = past_opened_after(p);
		break;
	default:
		t = p->in == IN_OPEN ? p->opened : past_released(p);
	}
	return (usec_t)(t + (int64_t)history_random(h, 3) - 1);
}

static inline struct question random_question(struct history *h)
{
	struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
	int64_t port;
	usec_t other = random_time(h, &port);

	q.window.from = random_time(h, &port);
	q.window.until = history_random(h, 2) ? q.window.from + history_random(h, 2000000)
					      : MAX(q.window.from, other);
	switch (history_random(h, 6)) {
	case 0:
		break;
	case 1:
		q.filter.range =
			(struct port_range){32770, (uint16_t)(32770 + history_random(h, 99))};
		break;
	case 2:
		q.filter.port_count = 3;
		for (unsigned i = 0; i < 3; i++)
			q.filter.ports[i] = (uint16_t)(32768 + history_random(h, 9));
		break;
	default:
		q.filter.port_count = 1;
		q.filter.ports[0] = (uint16_t)port;
	}
	if (history_random(h, 4) == 0)
		q.filter.protocol = (int)history_random(h, 2);
	if (history_random(h, 8) == 0)
		q.filter.role = (int)history_random(h, 4);
	if (history_random(h, 8) == 0)
		q.filter.peer_port = 443;
	return q;
}

static inline void assert_text(const struct buf *text, const char *expected)
{
	size_t size = buf_size(text);

	if (size != strlen(expected) || memcmp(buf_bytes(text), expected, size) != 0)
		fail_msg(
			"\n got %.*s\nwant %s", (int)size, (const char *)buf_bytes(text), expected);
}

/* Three programs; two of the apps are one program in two cgroups. Process n is of app n % 4 + 1, each fifth of none. */
static inline void fill_programs(struct fixture *f)
{
	history_sql(&f->history,
		"INSERT INTO app VALUES(1,'/bin/b',0,'b',7,'u','/x',5),(2,'/bin/a',0,'a',7,NULL,NULL,0),"
		"(3,'/bin/b',0,'b',7,'u','/y',1),(4,NULL,0,NULL,9,'k',NULL,1800000000000000);"
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<6000)"
		" INSERT INTO process SELECT i,i%4+1,1,iif(i%4=3,NULL,i),1,NULL,NULL,NULL,1 FROM n"
		" WHERE i%5<>0");
}

/* Which of them a process is of, in the order in which they are named above; 3: of none. */
static inline unsigned program_index(int64_t process)
{
	static const unsigned programs[] = {0, 1, 0, 2};

	return process % 5 == 0 ? 3 : programs[process % 4];
}
