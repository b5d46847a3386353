/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/control/coverage.h"
#include "daemon/control/query_internal.h"
#include "tests/support/history.h"

#define CLAIMS       6000u
#define SEGMENT_ROWS 250u
#define PROBES       1500u
#define FAR          (UINT64_C(60) * USEC_PER_MINUTE)

struct fixture {
	struct history history;
	struct query *query;
};

static void begin(struct fixture *f)
{
	assert_int_equal(query_begin(f->query, clock_now().boot + FAR), 0);
}

static int setup_empty(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	history_open(&f->history, "query");
	assert_int_equal(query_new(f->history.path, &f->query), 0);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	struct fixture *f;

	setup_empty(state);
	f = *state;
	history_fill(&f->history, CLAIMS, SEGMENT_ROWS);
	assert_true(f->history.segments > 10);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->query = query_free(f->query);
	history_close(&f->history);
	free(f);
	return 0;
}

/* The columns that key the order, as query_sql.c has it. */
static int compare_order(const void *left, const void *right)
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

static bool port_matches(const struct filter *f, int64_t port)
{
	bool listed = f->port_count == 0;

	for (unsigned i = 0; i < f->port_count; i++)
		listed |= f->ports[i] == port;
	return listed && (!f->range.high || (port >= f->range.low && port <= f->range.high));
}

/* All that answer the question, in order, by looking at each claim. */
static size_t oracle(const struct history *h, const struct question *q, struct past *found)
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
static usec_t random_time(struct history *h)
{
	const struct past *p = &h->past[history_random(h, (uint32_t)h->count)];
	int64_t t;

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

static struct question random_question(struct history *h)
{
	struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
	usec_t other = random_time(h);

	q.window.from = random_time(h);
	q.window.until = history_random(h, 2) ? q.window.from + history_random(h, 2000000)
					      : MAX(q.window.from, other);
	switch (history_random(h, 6)) {
	case 0:
		break;
	case 1:
		q.filter.range = (struct port_range){32770, (uint16_t)(32770 + history_random(h, 99))};
		break;
	case 2:
		q.filter.port_count = 3;
		for (unsigned i = 0; i < 3; i++)
			q.filter.ports[i] = (uint16_t)(32768 + history_random(h, 9));
		break;
	default:
		q.filter.port_count = 1;
		q.filter.ports[0] = (uint16_t)(32768 + history_random(h, history_random(h, 2) ? 2 : 400));
	}
	if (history_random(h, 4) == 0)
		q.filter.protocol = (int)history_random(h, 2);
	if (history_random(h, 8) == 0)
		q.filter.role = (int)history_random(h, 4);
	if (history_random(h, 8) == 0)
		q.filter.peer_port = 443;
	return q;
}

static void assert_row_is(const struct row *row, const struct past *p)
{
	int64_t released = past_released(p);

	assert_int_equal(row->column[ROW_PROCESS], p->id);
	assert_int_equal(row->column[ROW_PORT], p->port);
	assert_int_equal(row->column[ROW_OPENED_USEC], p->opened);
	assert_int_equal(row->column[ROW_META], p->meta);
	assert_int_equal(row->column[ROW_RPORT], p->rport == NOT_KNOWN ? ROW_NULL : p->rport);
	assert_int_equal(row->column[ROW_RELEASED_USEC], p->in == IN_OPEN ? ROW_NULL : released);
}

static void assert_answer(struct fixture *f, const struct question *q, struct past *found, size_t count)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct place place = PLACE_START;
	uint64_t counted;
	usec_t first;

	assert_int_equal(query_rows(f->query, q, CLAIMS + 1, &place, &rows), 0);
	assert_int_equal(rows.count, count);
	for (size_t i = 0; i < count; i++)
		assert_row_is(&rows.row[i], &found[i]);
	assert_int_equal(query_count(f->query, q, &counted, &first), 0);
	assert_int_equal(counted, count);
	assert_int_equal(first, count ? (usec_t)found[0].opened : USEC_UNSET);
}

/* Every answer is what a look at each claim gives: who was there, and in which order. */
static void test_stabbing(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	size_t hits = 0, some = 0;

	begin(f);
	for (unsigned i = 0; i < PROBES; i++) {
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);

		assert_answer(f, &q, found, count);
		hits += count;
		some += count > 0;
	}
	query_end(f->query);
	assert_true(some > PROBES / 2);
	assert_true(hits > PROBES);
	free(found);
}

/* Whatever the pages and the limit: the newest `limit` rows, each once, in order. */
static void test_pages(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	unsigned limited = 0;

	for (unsigned i = 0; i < 120; i++) {
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		size_t page = 1 + history_random(&f->history, 64);
		uint64_t limit = 1 + history_random(&f->history, count ? (uint32_t)count * 2 : 5);
		size_t at = count > limit ? count - (size_t)limit : 0;
		struct place place;

		limited += at > 0;
		begin(f);
		assert_int_equal(query_newest(f->query, &q, limit, &place), 0);
		query_end(f->query);
		for (;;) {
			_cleanup_(rows_done) struct rows rows = {0};

			begin(f);
			assert_int_equal(query_rows(f->query, &q, page, &place, &rows), 0);
			query_end(f->query);
			for (size_t k = 0; k < rows.count; k++)
				assert_row_is(&rows.row[k], &found[at++]);
			if (rows.count < page)
				break;
		}
		assert_int_equal(at, count);
	}
	assert_true(limited > 20);
	free(found);
}

/* Rows that are equal in all that survives sealing, on both sides of a page's end. */
static void test_sealing_between_pages(void **state)
{
	struct fixture *f = *state;
	struct question q = {.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};
	int64_t expected = 1;
	struct place place = PLACE_START;

	f->history.past = calloc(40, sizeof(*f->history.past));
	f->history.count = 40;
	for (size_t i = 0; i < 40; i++) {
		f->history.past[i] = (struct past){.in = IN_HOT, .id = (int64_t)i + 1, .port = 40000,
			.opened = HISTORY_START, .opened_slack = 1000, .dur = 5, .closed_slack = 10,
			.linger = NOT_KNOWN, .rport = NOT_KNOWN, .meta = 1 << META_LOCAL_SHIFT};
		past_insert(&f->history, &f->history.past[i], NOT_KNOWN, NOT_KNOWN);
	}
	for (unsigned page = 0; page < 9; page++) {
		_cleanup_(rows_done) struct rows rows = {0};

		if (page == 4)
			history_seal(&f->history);
		begin(f);
		assert_int_equal(query_rows(f->query, &q, 5, &place, &rows), 0);
		query_end(f->query);
		assert_int_equal(rows.count, page < 8 ? 5 : 0);
		for (size_t i = 0; i < rows.count; i++)
			assert_int_equal(rows.row[i].column[ROW_PROCESS], expected++);
	}
}

/* One seek per segment, not a scan. */
static void test_plan(void **state)
{
	static const enum sql_shape shapes[] = {SQL_ROWS, SQL_NEWEST, SQL_COUNT, SQL_AUDIT};
	static const char seek[] = "SEARCH c USING PRIMARY KEY (seg=? AND port=? AND rel>? AND rel<?)";
	struct fixture *f = *state;
	struct question q = {.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};

	for (unsigned ports = 1; ports <= 2; ports++)
		for (size_t i = 0; i < ELEMENTSOF(shapes); i++) {
			_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
			char *sql, *explain;
			bool found = false;

			q.filter.port_count = ports;
			sql = sql_question(&q, shapes[i]);
			explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
			begin(f);
			assert_int_equal(query_prepare(f->query, explain, &statement), 0);
			while (query_step(statement) == 1) {
				const char *line = (const char *)sqlite3_column_text(statement, 3);

				found |= streq(line, seek);
			}
			query_end(f->query);
			if (!found)
				fail_msg("no seek in: %s", sql);
			sqlite3_free(sql);
			sqlite3_free(explain);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stabbing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sealing_between_pages, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_plan, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
