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

#include "daemon/schema.h"

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

/* What is being sealed. */
struct segment {
	uint64_t end;     /* ids of claim_hot below it */
	usec_t last_seen; /* the latest release of all rows */
	/* of those that are not long; as in the table `segment` */
	int64_t id, base, opened_to, released_from, released_to, max_slack, n;
	int64_t port, opened; /* of the last of them */
};

/* Columns of STATEMENT_SEAL_LIST. */
enum { CLAIM, HOLDERS, LONG, RELEASED, PORT, OPENED, DUR, SLACK, META = 10, RADDR = 13 };

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

static int seal_long(struct store *s, sqlite3_stmt *row)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_LONG);

	bind_int(&b, sqlite3_column_int64(row, PORT));
	bind_int(&b, sqlite3_column_int64(row, OPENED));
	bind_int(&b, sqlite3_column_int64(row, CLAIM));
	bind_rest(&b, row);
	return sql_run(s, STATEMENT_SEAL_LONG);
}

/* The slack of a claim that was there before us says nothing about when it was opened. */
static int64_t slack_usec(sqlite3_stmt *row)
{
	bool preexisting = sqlite3_column_int64(row, META) >> META_PREEXISTING_SHIFT & 1;

	return preexisting ? 0 : sqlite3_column_int64(row, SLACK) * 1000;
}

static int seal_row(struct store *s, sqlite3_stmt *row, struct segment *g)
{
	int64_t port = sqlite3_column_int64(row, PORT), opened = sqlite3_column_int64(row, OPENED);
	int64_t released = sqlite3_column_int64(row, RELEASED);
	bool tie = port == g->port && opened == g->opened;
	struct binder b = sql_bind(s, STATEMENT_SEAL_ROW);

	bind_int(&b, g->id);
	bind_int(&b, port);
	bind_int(&b, opened - g->base);
	/* The number is kept only where it is needed: it would cost 4 bytes. */
	bind_int(&b, tie || sqlite3_column_int(row, HOLDERS) != 0 ? sqlite3_column_int64(row, CLAIM)
								  : 0);
	bind_rest(&b, row);
	g->port = port;
	g->opened = opened;
	g->opened_to = MAX(g->opened_to, opened);
	g->released_from = MIN(g->released_from, released);
	g->released_to = MAX(g->released_to, released);
	g->max_slack = MAX(g->max_slack, slack_usec(row));
	g->n++;
	return sql_run(s, STATEMENT_SEAL_ROW);
}

static int seal_rows(struct store *s, struct segment *g)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_LIST);
	int r;

	bind_unsigned(&b, g->end);
	while ((r = sql_step(s, STATEMENT_SEAL_LIST)) > 0) {
		g->last_seen =
			MAX(g->last_seen, (usec_t)sqlite3_column_int64(b.statement, RELEASED));
		r = sqlite3_column_int(b.statement, LONG) != 0 ? seal_long(s, b.statement)
							       : seal_row(s, b.statement, g);
		if (r < 0)
			break;
	}
	sql_reset(s, STATEMENT_SEAL_LIST);
	return r;
}

static int add_segment(struct store *s, const struct segment *g)
{
	struct binder b = sql_bind(s, STATEMENT_SEGMENT_ADD);

	if (g->n == 0)
		return 0;
	bind_int(&b, g->id);
	bind_int(&b, g->base);
	bind_int(&b, g->opened_to);
	bind_int(&b, g->released_from);
	bind_int(&b, g->released_to);
	bind_int(&b, g->max_slack);
	bind_int(&b, g->n);
	s->state.sealed++;
	return sql_run(s, STATEMENT_SEGMENT_ADD);
}

/* Retention deletes a process by the time when it was last seen: not before the last claim that names it. */
static int mark_processes(struct store *s, const struct segment *g, enum statement which)
{
	struct binder b = sql_bind(s, which);

	bind_unsigned(&b, g->end);
	bind_time(&b, g->last_seen);
	return sql_run(s, which);
}

static int drop_hot(struct store *s, uint64_t end)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_DROP);

	bind_unsigned(&b, end);
	s->state.first_hot = end;
	/* While there are rows the last of them says which number is next. */
	return sql_run(s, STATEMENT_SEAL_DROP);
}

static int seal(struct store *s, struct segment *g)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_BASE);
	int r;

	bind_unsigned(&b, g->end);
	r = sql_value(s, STATEMENT_SEAL_BASE, 0, &g->base);
	if (r == 0)
		r = sql_value(s, STATEMENT_SEGMENT_NEXT, 1, &g->id);
	if (r == 0)
		r = seal_rows(s, g);
	if (r == 0)
		r = add_segment(s, g);
	if (r == 0)
		r = mark_processes(s, g, STATEMENT_SEAL_SEEN);
	if (r == 0)
		r = mark_processes(s, g, STATEMENT_SEAL_SEEN_HOLDERS);
	if (r == 0)
		r = drop_hot(s, g->end);
	if (r == 0)
		r = store_counter_set(s, COUNTER_NEXT_HOT, s->state.next_hot);
	return r;
}

int seal_step(struct store *s, struct now now)
{
	struct segment g = {.end = hot_end(s), .released_from = INT64_MAX, .port = -1};
	int r = seal_is_due(s, now);

	if (r <= 0)
		return r;
	r = store_begin_question(s); /* only moves what is durable already */
	if (r < 0)
		return r;
	r = seal(s, &g);
	if (r < 0)
		return store_fail(s, r);
	r = store_commit_step(s);
	return r < 0 ? r : 1;
}
