/* SPDX-License-Identifier: MIT */

/* Who had a port, and the last twenty of one, in a random ledger of a million claims (in the long half of check, without a sanitizer;
 * else of 40,000), against a look at each of them. */

#include "daemon/syscalls.h"
#include "tests/unit/query-oracle.h"

#define LAST 20u

struct size {
	size_t claims, segment_rows;
	unsigned probes; /* of both questions together */
};

static struct size size_wanted(void)
{
	return is_full() && !SYSCALLS_SANITIZED ? (struct size){1000000, 16384, 3000}
						: (struct size){40000, 4096, 600};
}

static int setup_many(void **state)
{
	struct size size = size_wanted();
	struct fixture *f;

	setup_empty(state);
	f = *state;
	history_fill(&f->history, size.claims, size.segment_rows);
	assert_true(f->history.segments > 7);
	return 0;
}

static void assert_row_is(const struct row *row, const struct past *p)
{
	assert_int_equal(row->column[ROW_PROCESS], p->id);
	assert_int_equal(row->column[ROW_PORT], p->port);
	assert_int_equal(row->column[ROW_OPENED_USEC], p->opened);
	assert_int_equal(
		row->column[ROW_RELEASED_USEC], p->in == IN_OPEN ? ROW_NULL : past_released(p));
}

/* A claim, by chance, and a question about its port that begins or ends where it does, or that is about any time. */
static struct question about_a_port(struct history *h, usec_t length)
{
	struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
	int64_t port;

	q.window.from = random_time(h, &port);
	q.window.until = q.window.from + 1 + history_random(h, (uint32_t)length);
	q.filter.port_count = 1;
	q.filter.ports[0] = (uint16_t)port;
	if (history_random(h, 3) == 0)
		q.filter.protocol = (int)history_random(h, 2);
	return q;
}

static size_t ask_who(struct fixture *f, struct past *found)
{
	_cleanup_(rows_done) struct rows rows = {0};
	const struct question q = about_a_port(&f->history, 60 * USEC_PER_SEC);
	size_t count = oracle(&f->history, &q, found);
	struct place place = PLACE_START;

	assert_int_equal(query_rows(f->query, &q, f->history.count + 1, &place, &rows), 0);
	assert_int_equal(rows.count, count);
	for (size_t i = 0; i < count; i++)
		assert_row_is(&rows.row[i], &found[i]);
	return count;
}

/* The last of those that answer, in their order, without sorting all. */
static size_t oracle_last(const struct history *h, const struct question *q, struct past *last)
{
	size_t count = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct past *p = &h->past[i];
		size_t at = count;

		if (p->port != q->filter.ports[0] ||
			(q->filter.protocol >= 0 && (p->meta & 3) != q->filter.protocol))
			continue;
		while (at > 0 && compare_order(p, &last[at - 1]) < 0)
			at--;
		if (count == LAST && at == 0)
			continue;
		if (count == LAST) /* the first one goes */
			memmove(last, last + 1, --at * sizeof(*last));
		else
			memmove(last + at + 1, last + at, (count++ - at) * sizeof(*last));
		last[at] = *p;
	}
	return count;
}

static size_t ask_last(struct fixture *f, struct past *last)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct question q = about_a_port(&f->history, 1);
	struct place place;
	size_t count;

	q.window = (struct window){0, WALL_FOREVER};
	count = oracle_last(&f->history, &q, last);
	/* so few are read at once */
	assert_int_equal(query_newest(f->query, &q, LAST, &place, &rows), 1);
	assert_int_equal(rows.count, count);
	for (size_t i = 0; i < count; i++)
		assert_row_is(&rows.row[i], &last[i]);
	return count;
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(f->history.count, sizeof(*found));
	unsigned some = 0, whole = 0, probes = size_wanted().probes;

	assert_non_null(found);
	for (unsigned i = 0; i < probes / 2; i++) {
		begin(f);
		some += ask_who(f, found) > 0;
		whole += ask_last(f, found) == LAST;
		query_end(f->query);
	}
	free(found);
	assert_true(some > probes / 3 && whole > probes / 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many, setup_many, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
