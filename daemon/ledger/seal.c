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

#include "daemon/ledger/seal.h"

#include "daemon/schema.h"

/* Oldest first, so that one that was put off (a full disk) does not grow into an unbounded step. A small rest is taken
 * along: a table that is emptied is emptied at once, not row by row. */
static uint64_t hot_end(const struct store *s)
{
	uint64_t count = s->state.next_hot - s->state.first_hot;

	if (count > LIMIT_SEGMENT_ROWS + LIMIT_SEGMENT_ROWS / 4)
		count = LIMIT_SEGMENT_ROWS;
	return s->state.first_hot + count;
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
	return (usec_t)oldest + MIN(remotes_seal_age(s), s->settings.max_age_usec) < now.wall;
}

static void segment_done(struct segment *g)
{
	free(g->rows);
}

static int64_t column(sqlite3_stmt *row, int at)
{
	return sqlite3_column_type(row, at) == SQLITE_NULL ? SEAL_NULL
							   : sqlite3_column_int64(row, at);
}

/* Columns of STATEMENT_SEAL_LIST. */
static void read_row(sqlite3_stmt *row, struct hot *h)
{
	int size = sqlite3_column_bytes(row, 6 + REST_COLUMNS);

	*h = (struct hot){
		.claim = sqlite3_column_int64(row, 0),
		.holders = sqlite3_column_int64(row, 1),
		.is_long = sqlite3_column_int64(row, 2),
		.released = sqlite3_column_int64(row, 3),
		.port = sqlite3_column_int64(row, 4),
		.opened = sqlite3_column_int64(row, 5),
	};
	for (int i = 0; i < REST_COLUMNS; i++)
		h->rest[i] = column(row, 6 + i);
	if (size > 0 && size <= (int)sizeof(h->raddr)) {
		memcpy(h->raddr, sqlite3_column_blob(row, 6 + REST_COLUMNS), (size_t)size);
		h->raddr_size = (uint8_t)size;
	}
}

/* In the order of the key; the long ones, which another table gets, come last. */
static int compare_rows(const void *left, const void *right)
{
	const struct hot *a = left, *b = right;

	if (a->is_long != b->is_long)
		return a->is_long < b->is_long ? -1 : 1;
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	if (a->opened != b->opened)
		return a->opened < b->opened ? -1 : 1;
	return a->claim < b->claim ? -1 : a->claim > b->claim;
}

/* In the order of the key. */
static void number_rows(struct segment *g)
{
	for (size_t i = 0; i < g->count; i++) {
		struct hot *h = &g->rows[i];
		bool tie = i > 0 && h[-1].port == h->port && h[-1].opened == h->opened;

		h->number = tie || h->holders || h->is_long ? h->claim : 0;
	}
}

static int read_rows(struct store *s, struct segment *g)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_LIST);
	size_t room = (size_t)(g->end - s->state.first_hot);
	int r;

	g->rows = calloc(room, sizeof(*g->rows));
	if (!g->rows)
		return -ENOMEM;
	bind_unsigned(&b, g->end);
	while ((r = sql_step(s, STATEMENT_SEAL_LIST)) > 0) {
		struct hot *h = &g->rows[g->count];

		if (g->count++ == room) { /* ids that are not ours to explain */
			sql_reset(s, STATEMENT_SEAL_LIST);
			return -EUCLEAN;
		}
		read_row(b.statement, h);
		g->last_seen = MAX(g->last_seen, (usec_t)h->released);
	}
	if (r == 0 && g->count > 0)
		qsort(g->rows, g->count, sizeof(*g->rows), compare_rows);
	number_rows(g);
	return r;
}

/* The slack of a claim that was there before us says nothing about when it was opened. */
int64_t hot_slack(const struct hot *h)
{
	bool preexisting = h->rest[REST_META] >> META_PREEXISTING_SHIFT & 1;

	return preexisting || h->rest[REST_OPENED_SLACK] == SEAL_NULL
		       ? 0
		       : h->rest[REST_OPENED_SLACK] * 1000;
}

static int compare_numbers(const void *left, const void *right)
{
	const int64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

/* `numbers` is put in order. `otherwise` where there are none. */
static int64_t median(int64_t *numbers, size_t count, int64_t otherwise)
{
	if (count == 0)
		return otherwise;
	qsort(numbers, count, sizeof(*numbers), compare_numbers);
	return numbers[count / 2];
}

/* What the segment says of its rows, and what its rows are told relative to: a row's numbers take as many bytes as
 * they need, and the least where they are near the middle. */
static int describe(struct segment *g)
{
	_cleanup_(free_p) int64_t *opened = calloc(g->count + 1, sizeof(*opened));
	_cleanup_(free_p) int64_t *slacks = calloc(g->count + 1, sizeof(*slacks));
	size_t known = 0;

	if (!opened || !slacks)
		return -ENOMEM;
	for (size_t i = 0; i < g->count && !g->rows[i].is_long; i++) {
		const struct hot *h = &g->rows[i];

		g->opened_from = MIN(g->opened_from, h->opened);
		g->opened_to = MAX(g->opened_to, h->opened);
		g->released_from = MIN(g->released_from, h->released);
		g->released_to = MAX(g->released_to, h->released);
		g->max_slack = MAX(g->max_slack, hot_slack(h));
		opened[g->n++] = h->opened;
		if (h->rest[REST_OPENED_SLACK] != SEAL_NULL)
			slacks[known++] = h->rest[REST_OPENED_SLACK];
	}
	g->base = median(opened, (size_t)g->n, 0);
	g->slack = median(slacks, known, 0);
	return 0;
}

static void bind_known(struct binder *b, int64_t value)
{
	if (value == SEAL_NULL)
		bind_null(b);
	else
		bind_int(b, value);
}

/* What both tables have alike. */
static void bind_rest(struct binder *b, const struct hot *h, int64_t slack)
{
	for (int i = 0; i < REST_COLUMNS; i++) {
		bool relative = i == REST_OPENED_SLACK || i == REST_CLOSED_SLACK;

		bind_known(
			b, h->rest[i] != SEAL_NULL && relative ? h->rest[i] - slack : h->rest[i]);
	}
	bind_blob(b, h->raddr_size > 0 ? h->raddr : NULL, h->raddr_size);
}

static int seal_long(struct store *s, const struct hot *h)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_LONG);

	bind_int(&b, h->port);
	bind_int(&b, h->opened);
	bind_int(&b, h->claim);
	bind_rest(&b, h, 0);
	return sql_run(s, STATEMENT_SEAL_LONG);
}

static int seal_row(struct store *s, const struct segment *g, size_t at)
{
	const struct hot *h = &g->rows[at];
	struct binder b = sql_bind(s, STATEMENT_SEAL_ROW);

	bind_int(&b, g->id);
	bind_int(&b, h->port);
	bind_int(&b, h->opened - g->base);
	bind_int(&b, h->number);
	bind_rest(&b, h, g->slack);
	return sql_run(s, STATEMENT_SEAL_ROW);
}

/*
 * Appended in the order of its key alone, an index b-tree keeps an eighth of each page empty: SQLite splits a full page with
 * its left neighbours, which then are never touched again. A second round, between the rows of the first, fills them.
 * 4 of 9 rows first leaves 6 % empty; as many as half would split each page once more (measured: bench/README.md).
 */
static int seal_rows(struct store *s, const struct segment *g)
{
	const size_t first = 4, of = 9;
	int r = 0;

	for (unsigned round = 0; round < 2; round++)
		for (size_t i = 0; r == 0 && i < (size_t)g->n; i++)
			if ((i * first % of < first) == (round == 0))
				r = seal_row(s, g, i);
	for (size_t i = (size_t)g->n; r == 0 && i < g->count; i++)
		r = seal_long(s, &g->rows[i]);
	return r;
}

/* Takes out what is in a row together with its like. The order stays. */
static void leave_out_coalesced(struct segment *g)
{
	size_t kept = 0;

	for (size_t i = 0; i < g->count; i++)
		if (!g->rows[i].coalesced)
			g->rows[kept++] = g->rows[i];
	g->n -= (int64_t)(g->count - kept);
	g->count = kept;
}

/* Readers find the segments of a time by the end of their releases; this says how far behind it they may have to look. */
static int note_width(struct store *s, usec_t width)
{
	if (width <= s->state.segment_usec)
		return 0;
	s->state.segment_usec = width;
	return store_counter_set(s, COUNTER_SEGMENT_USEC, width);
}

/* `coalesced`: how many rows it has beside those that are told one by one. */
static int add_segment(struct store *s, const struct segment *g, size_t coalesced)
{
	struct binder b = sql_bind(s, STATEMENT_SEGMENT_ADD);
	int r;

	if (g->n == 0 && coalesced == 0)
		return 0;
	r = note_width(s, (usec_t)(g->released_to - g->released_from));
	if (r < 0)
		return r;
	bind_int(&b, g->id);
	bind_int(&b, g->base);
	bind_int(&b, g->opened_from);
	bind_int(&b, g->opened_to);
	bind_int(&b, g->released_from);
	bind_int(&b, g->released_to);
	bind_int(&b, g->max_slack);
	bind_int(&b, g->n + (int64_t)coalesced);
	bind_int(&b, g->slack);
	s->state.sealed++;
	return sql_run(s, STATEMENT_SEGMENT_ADD);
}

/* By what they take, so that whose claims are coalesced loses them no sooner. */
static int count_users(struct store *s, const struct segment *g)
{
	_cleanup_(free_p) int64_t *processes = calloc((size_t)g->n + 1, sizeof(*processes));
	size_t count = 0;

	if (!processes)
		return -ENOMEM;
	for (size_t i = 0; i < (size_t)g->n; i++)
		if (!g->rows[i].light)
			processes[count++] = g->rows[i].rest[REST_PROCESS];
	return share_count(s, g->id, processes, count);
}

static int roll_up(struct store *s, const struct segment *g)
{
	_cleanup_(free_p) struct rollup_claim *claims = calloc(g->count + 1, sizeof(*claims));
	int r;

	if (!claims)
		return -ENOMEM;
	for (size_t i = 0; i < g->count; i++) {
		const struct hot *h = &g->rows[i];

		claims[i] = (struct rollup_claim){
			.claim = h->claim,
			.process = h->rest[REST_PROCESS] == SEAL_NULL ? 0 : h->rest[REST_PROCESS],
			.meta = h->rest[REST_META],
			.opened = h->opened,
			.closed = h->opened + h->rest[REST_DUR],
			.released = h->released,
			.raddr = h->raddr,
			.raddr_size = h->raddr_size,
			.port = (uint16_t)h->port,
			.holders = h->holders,
			.bounded = h->rest[REST_CLOSED_SLACK] != SEAL_NULL,
			.began = h->opened - hot_slack(h),
			.seg = h->is_long ? 0 : g->id,
			.number = h->number,
		};
	}
	r = rollup_add(s, claims, g->count, g->last_seen);
	return r < 0 ? r : marks_add(s, claims, g->count);
}

/* Retention deletes a process by the time when it was last seen: not before the last claim that names it. */
static int mark_processes(struct store *s, const struct segment *g, enum statement which)
{
	struct binder b = sql_bind(s, which);

	bind_unsigned(&b, g->end);
	bind_time(&b, g->last_seen);
	bind_time(&b, g->last_seen + s->state.process_margin);
	return sql_run(s, which);
}

static int drop_hot(struct store *s, uint64_t end)
{
	struct binder b = sql_bind(s, STATEMENT_SEAL_DROP);

	s->state.first_hot = end;
	if (end == s->state.next_hot) {
		s->state.hot_from = USEC_UNSET; /* the next one says */
		return sql_run(s, STATEMENT_SEAL_DROP_ALL);
	}
	bind_unsigned(&b, end);
	/* While there are rows the last of them says which number is next. */
	return sql_run(s, STATEMENT_SEAL_DROP);
}

static int write_rows(struct store *s, struct segment *g)
{
	size_t coalesced = 0;
	/* of all, one by one */
	int r = roll_up(s, g);

	if (r == 0)
		r = coalesce(s, g, &coalesced);
	if (r == 0)
		r = count_users(s, g);
	leave_out_coalesced(g);
	if (r == 0)
		r = seal_rows(s, g);
	return r < 0 ? r : add_segment(s, g, coalesced);
}

static int seal(struct store *s, struct segment *g)
{
	int r = sql_value(s, STATEMENT_SEGMENT_NEXT, 1, &g->id);

	if (r == 0)
		r = read_rows(s, g);
	if (r == 0)
		r = describe(g);
	if (r == 0 && g->n > 0)
		s->state.process_margin =
			MIN(PROCESS_SEGMENTS * (usec_t)(g->released_to - g->released_from),
				USEC_PER_DAY);
	if (r == 0)
		r = mark_processes(s, g, STATEMENT_SEAL_SEEN);
	if (r == 0)
		r = mark_processes(s, g, STATEMENT_SEAL_SEEN_HOLDERS);
	/* The segment takes the pages that this frees, so that what comes next to claim_hot has the end of the file, and not
	 * a few free pages here and there, each with a page of the map of pages to write. */
	if (r == 0)
		r = drop_hot(s, g->end);
	if (r == 0)
		r = write_rows(s, g);
	if (r == 0)
		r = store_counter_set(s, COUNTER_NEXT_HOT, s->state.next_hot);
	return r;
}

int seal_step(struct store *s, struct now now)
{
	_cleanup_(segment_done) struct segment g = {
		.end = hot_end(s), .released_from = INT64_MAX, .opened_from = INT64_MAX};
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
