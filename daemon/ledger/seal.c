/* SPDX-License-Identifier: MIT */

/*
 * Sealing: closed claims are appended to claim_hot, which has no index; from time to time they are sorted once and
 * appended to claim_seg, whose key begins with the segment. An index by port that is kept up to date would touch a
 * random page per claim; this touches none (measured: 160-350 bytes written per claim instead of 2,500-10,000, and
 * no more at 50 million claims than at one).
 *
 * Segments are in the order of release, so a segment is a stretch of time. What lasted an hour or more goes to
 * claim_long: then a claim that was alive at T is in a segment that begins at most an hour after T.
 */

#include "daemon/ledger/store_private.h"

/* Oldest first, so that one that was put off (a full disk) does not grow into an unbounded step. */
static uint64_t hot_end(const struct store *s)
{
	return MIN(s->state.next_hot, s->state.first_hot + LIMIT_SEGMENT_ROWS);
}

/* 1: due. */
static int seal_is_due(struct store *s, struct now now)
{
	struct binder b;
	int64_t oldest;
	int r;

	if (s->state.next_hot - s->state.first_hot >= LIMIT_SEGMENT_ROWS)
		return 1;
	if (s->state.next_hot == s->state.first_hot)
		return 0;
	b = sql_bind(s, STATEMENT_HOT_OLDEST);
	bind_unsigned(&b, s->state.first_hot);
	r = sql_value(s, STATEMENT_HOT_OLDEST, INT64_MAX, &oldest);
	if (r < 0)
		return r;
	return (usec_t)oldest + MIN(SEAL_AGE_USEC, s->settings.max_age_usec) < now.wall;
}

static int run_below(struct store *s, enum statement which, uint64_t end)
{
	struct binder b = sql_bind(s, which);

	bind_unsigned(&b, end);
	return sql_run(s, which);
}

/* Columns of STATEMENT_SEAL_BOUNDS. */
enum { BOUNDS_N, OPENED_FROM, OPENED_TO, RELEASED_FROM, RELEASED_TO, MAX_SLACK, BOUNDS_COUNT };

static int read_bounds(struct store *s, uint64_t end, int64_t bounds[static BOUNDS_COUNT])
{
	sqlite3_stmt *row = s->statements[STATEMENT_SEAL_BOUNDS];
	struct binder b = sql_bind(s, STATEMENT_SEAL_BOUNDS);
	int r;

	bind_unsigned(&b, end);
	r = sql_step(s, STATEMENT_SEAL_BOUNDS);
	if (r <= 0)
		return r;
	for (int i = 0; i < BOUNDS_COUNT; i++)
		bounds[i] = sqlite3_column_int64(row, i);
	sql_reset(s, STATEMENT_SEAL_BOUNDS);
	return 0;
}

/* *ret: its row; unchanged where all are long ones. *ret_base: what its times count from. */
static int add_segment(struct store *s, uint64_t end, int64_t *ret, int64_t *ret_base)
{
	int64_t bounds[BOUNDS_COUNT] = {0};
	struct binder b;
	int r = read_bounds(s, end, bounds);

	if (r < 0 || bounds[BOUNDS_N] == 0)
		return r;
	b = sql_bind(s, STATEMENT_SEAL_SEGMENT);
	for (int i = OPENED_FROM; i < BOUNDS_COUNT; i++)
		bind_int(&b, bounds[i]);
	bind_int(&b, bounds[BOUNDS_N]);
	r = sql_run(s, STATEMENT_SEAL_SEGMENT);
	if (r < 0)
		return r;
	*ret = sqlite3_last_insert_rowid(s->db);
	*ret_base = bounds[OPENED_FROM];
	s->state.sealed++;
	return 0;
}

/* Columns of STATEMENT_SEAL_LIST. */
enum { CLAIM, HOLDERS, LONG, PORT, OPENED, DUR, RADDR = 12 };

/* What both tables have alike, from DUR on. */
static void bind_rest(struct binder *b, sqlite3_stmt *row)
{
	for (int i = DUR; i < RADDR; i++)
		if (sqlite3_column_type(row, i) == SQLITE_NULL)
			bind_null(b);
		else
			bind_int(b, sqlite3_column_int64(row, i));
	/* NULL where there is none */
	bind_blob(b, sqlite3_column_blob(row, RADDR), (size_t)sqlite3_column_bytes(row, RADDR));
}

/* The last row of its segment, by key. */
struct place {
	int64_t segment, base;
	int64_t port, opened;
};

static int seal_row(struct store *s, sqlite3_stmt *row, struct place *last)
{
	int64_t claim = sqlite3_column_int64(row, CLAIM), port = sqlite3_column_int64(row, PORT);
	int64_t opened = sqlite3_column_int64(row, OPENED);
	bool is_long = sqlite3_column_int(row, LONG) != 0;
	enum statement which = is_long ? STATEMENT_SEAL_LONG : STATEMENT_SEAL_ROW;
	struct binder b = sql_bind(s, which);

	if (is_long) {
		bind_int(&b, port);
		bind_int(&b, opened);
		bind_int(&b, claim);
	} else {
		/* The number is kept only where it is needed: it would cost 4 bytes. */
		bool tie = port == last->port && opened == last->opened;

		bind_int(&b, last->segment);
		bind_int(&b, port);
		bind_int(&b, opened - last->base);
		bind_int(&b, tie || sqlite3_column_int(row, HOLDERS) != 0 ? claim : 0);
		last->port = port;
		last->opened = opened;
	}
	bind_rest(&b, row);
	return sql_run(s, which);
}

static int seal_rows(struct store *s, uint64_t end, struct place *last)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_LIST);
	int r;

	bind_unsigned(&b, end);
	while ((r = sql_step(s, STATEMENT_SEAL_LIST)) > 0) {
		r = seal_row(s, b.statement, last);
		if (r < 0)
			break;
	}
	sql_reset(s, STATEMENT_SEAL_LIST);
	return r;
}

static int seal(struct store *s, uint64_t end)
{
	struct place last = {.port = -1};
	int r = add_segment(s, end, &last.segment, &last.base);

	if (r == 0)
		r = seal_rows(s, end, &last);
	/* Retention deletes a process by this time: not before the last claim that names it. */
	if (r == 0)
		r = run_below(s, STATEMENT_SEAL_SEEN, end);
	if (r == 0)
		r = run_below(s, STATEMENT_SEAL_SEEN_HOLDERS, end);
	if (r == 0)
		r = run_below(s, STATEMENT_SEAL_DROP, end);
	return r;
}

int seal_step(struct store *s, struct now now)
{
	uint64_t end = hot_end(s);
	int r = seal_is_due(s, now);

	if (r <= 0)
		return r;
	r = store_begin_question(s); /* only moves what is durable already */
	if (r < 0)
		return r;
	r = seal(s, end);
	s->state.first_hot = end;
	if (r == 0)
		r = store_commit_step(s);
	return r < 0 ? store_fail(s, r) : 1;
}
