/* SPDX-License-Identifier: MIT */

/* Claims in the order of their opening, a page at a time; see query_sql.c for the order and for the chunks. */

#include "daemon/control/query_internal.h"

#include "daemon/schema.h"

/* Segments whose openings make one chunk: at first, and at most where few rows match (each chunk also looks through
 * claim_long). With ports given, a segment costs a seek instead of a scan. */
#define CHUNK_SEGMENTS       1u
#define CHUNK_SEGMENTS_PORTS 64u
#define CHUNK_SEGMENTS_MAX   32u
#define NEWEST_SEGMENTS                                                                            \
	1u /* at first, where only the newest rows are wanted; then 4 times as many */

const struct place PLACE_START = {.port = 0, .meta = ROW_NULL, .rport = -1};

void rows_done(struct rows *rows)
{
	free(rows->row);
	*rows = (struct rows){0};
}

static int rows_add(struct rows *rows, const struct row *row)
{
	if (rows->count == rows->capacity) {
		size_t capacity = rows->capacity ? rows->capacity * 2 : 64;
		struct row *more = reallocarray(rows->row, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		rows->row = more;
		rows->capacity = capacity;
	}
	rows->row[rows->count++] = *row;
	return 0;
}

int rows_append(struct rows *rows, sqlite3_stmt *statement)
{
	const void *address = sqlite3_column_blob(statement, ROW_COLUMNS);
	int size = sqlite3_column_bytes(statement, ROW_COLUMNS);
	struct row row = {0};

	for (int i = 0; i < ROW_COLUMNS; i++)
		row.column[i] = query_column(statement, i);
	if (address && (size == 4 || size == 16)) {
		memcpy(row.raddr, address, (size_t)size);
		row.raddr_size = (uint8_t)size;
	}
	return rows_add(rows, &row);
}

static struct place place_of(const struct row *row)
{
	struct place place = {
		.opened_usec = row->column[ROW_OPENED_USEC],
		.port = row->column[ROW_PORT],
		.meta = row->column[ROW_META] & ~(int64_t)META_MUTABLE,
		.rport = row->column[ROW_RPORT] == ROW_NULL ? -1 : row->column[ROW_RPORT],
		.raddr_size = row->raddr_size,
	};

	memcpy(place.raddr, row->raddr, sizeof(place.raddr));
	return place;
}

static bool same_key(const struct place *a, const struct place *b)
{
	return a->opened_usec == b->opened_usec && a->port == b->port && a->meta == b->meta &&
	       a->rport == b->rport && a->raddr_size == b->raddr_size &&
	       memcmp(a->raddr, b->raddr, sizeof(a->raddr)) == 0;
}

void place_pass(struct place *place, const struct row *row)
{
	struct place next = place_of(row);

	next.skip = same_key(place, &next) ? place->skip + 1 : 1;
	*place = next;
}

static struct place place_at(usec_t opened)
{
	struct place place = PLACE_START;

	place.opened_usec = (int64_t)opened;
	return place;
}

static unsigned first_step(const struct question *question)
{
	return question->filter.port_count > 0 ? CHUNK_SEGMENTS_PORTS : CHUNK_SEGMENTS;
}

static unsigned next_step(unsigned step)
{
	return step < CHUNK_SEGMENTS_MAX ? step * 2 : step;
}

int query_chunk_end(
	struct query *q, const struct question *question, usec_t low, unsigned step, usec_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r;

	if (!(question->rows & ROWS_SEG)) {
		*ret = WALL_FOREVER;
		return 0;
	}
	r = query_prepare(q,
		window_is_short(question->window)
			? "SELECT opened_to+1 FROM segment WHERE released_to>=:from AND " SEGMENT_UNTIL
			  " AND +opened_to>=:low AND opened_from-max_slack_usec<:until"
			  " ORDER BY +opened_to LIMIT 1 OFFSET :step"
			: "SELECT opened_to+1 FROM segment WHERE opened_to>=:low AND released_to>=:from"
			  " AND opened_from-max_slack_usec<:until ORDER BY opened_to LIMIT 1 OFFSET :step",
		&statement);
	if (r < 0)
		return r;
	sql_bind_question(statement, question, low, WALL_FOREVER, &PLACE_START);
	query_bind(statement, ":step", step - 1);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = r == 1 ? (usec_t)sqlite3_column_int64(statement, 0) : WALL_FOREVER;
	return 0;
}

/* The beginning of the chunk that ends at `high`: 0 for the first. */
static int chunk_begin(
	struct query *q, const struct question *question, usec_t high, unsigned step, usec_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r;

	if (!(question->rows & ROWS_SEG)) {
		*ret = 0;
		return 0;
	}
	r = query_prepare(q,
		"SELECT opened_to+1 FROM segment WHERE opened_to<:high-1 AND released_to>=:from"
		" AND opened_from-max_slack_usec<:until ORDER BY opened_to DESC LIMIT 1 OFFSET :step",
		&statement);
	if (r < 0)
		return r;
	sql_bind_question(statement, question, 0, high, &PLACE_START);
	query_bind(statement, ":step", step - 1);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = r == 1 ? (usec_t)sqlite3_column_int64(statement, 0) : 0;
	return 0;
}

static int prepare_question(
	struct query *q, const struct question *question, enum sql_shape shape, sqlite3_stmt **ret)
{
	char *sql = sql_question(question, shape);
	int r = query_prepare(q, sql, ret);

	sqlite3_free(sql);
	return r;
}

/* Appends the rows of one chunk, at most until there are `max`. */
static int read_chunk(sqlite3_stmt *statement, const struct question *question, usec_t high,
	size_t max, struct place *place, struct rows *rows)
{
	int r;

	(void)sqlite3_reset(statement);
	sql_bind_question(statement, question, (usec_t)place->opened_usec, high, place);
	query_bind(statement, ":max", (int64_t)(max - rows->count));
	query_bind(statement, ":skip", (int64_t)place->skip);
	while ((r = query_step(statement)) == 1) {
		r = rows_append(rows, statement);
		if (r < 0)
			return r;
		place_pass(place, &rows->row[rows->count - 1]);
	}
	return r;
}

int query_rows(struct query *q, const struct question *question, size_t max, struct place *place,
	struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	unsigned step = first_step(question);
	size_t wanted = rows->count + max;
	usec_t high = WALL_FOREVER;
	int r = prepare_question(q, question, SQL_ROWS, &statement);

	if (r < 0)
		return r;
	for (;;) {
		r = query_chunk_end(q, question, (usec_t)place->opened_usec, step, &high);
		if (r == 0)
			r = read_chunk(statement, question, high, wanted, place, rows);
		if (r < 0)
			return r;
		if (rows->count == wanted || high == WALL_FOREVER)
			return 0;
		*place = place_at(high);
		step = next_step(step);
	}
}

static int count(struct query *q, const struct question *question, enum sql_shape shape, usec_t low,
	usec_t high, const struct place *place, uint64_t *ret_count, usec_t *ret_first)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int64_t first;
	int r = prepare_question(q, question, shape, &statement);

	if (r < 0)
		return r;
	sql_bind_question(statement, question, low, high, place);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret_count = (uint64_t)sqlite3_column_int64(statement, 0);
	first = query_column(statement, 1);
	*ret_first = first == ROW_NULL ? USEC_UNSET : (usec_t)first;
	return 0;
}

/* Counts the rows of [low, high) that are not before `place`. */
static int count_chunk(struct query *q, const struct question *question, usec_t low, usec_t high,
	const struct place *place, uint64_t *ret_count, usec_t *ret_first)
{
	return count(q, question, SQL_COUNT, low, high, place, ret_count, ret_first);
}

/* The key of the n-th newest row (from 1) of [low, high), and so many of its equals skipped that `n` rows remain. */
static int nth_newest(struct query *q, const struct question *question, usec_t low, usec_t high,
	uint64_t n, struct place *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	_cleanup_(rows_done) struct rows rows = {0};
	struct place place;
	uint64_t count;
	usec_t first;
	int r = prepare_question(q, question, SQL_NEWEST, &statement);

	if (r < 0)
		return r;
	sql_bind_question(statement, question, low, high, &PLACE_START);
	query_bind(statement, ":max", 1);
	query_bind(statement, ":skip", (int64_t)n - 1);
	r = query_step(statement);
	if (r == 0)
		return -EIO; /* it was counted a moment ago, in this transaction */
	if (r == 1)
		r = rows_append(&rows, statement);
	if (r < 0)
		return r;
	assert(rows.row); /* gcc's analyzer does not see that one was added */
	place = place_of(&rows.row[0]);
	r = count_chunk(q, question, low, high, &place, &count, &first);
	if (r < 0)
		return r;
	place.skip = count - n;
	*ret = place;
	return 0;
}

/* Of rows with one key; null is the least. */
static int compare_ties(const struct row *a, const struct row *b)
{
	static const enum row_column columns[] = {ROW_PROCESS, ROW_RELEASED_USEC};

	for (size_t i = 0; i < ELEMENTSOF(columns); i++)
		if (a->column[columns[i]] != b->column[columns[i]])
			return a->column[columns[i]] > b->column[columns[i]] ? -1 : 1;
	return 0;
}

/* Newest first, as ORDER_DESCENDING in query_sql.c has it. */
static int compare_newest(const void *left, const void *right)
{
	const struct place a = place_of(left), b = place_of(right);
	const int64_t keys[][2] = {{a.opened_usec, b.opened_usec}, {a.port, b.port},
		{a.meta, b.meta}, {a.rport, b.rport}};
	int order;

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] > keys[i][1] ? -1 : 1;
	order = memcmp(b.raddr, a.raddr, (size_t)MIN(a.raddr_size, b.raddr_size));
	if (order == 0)
		order = b.raddr_size - a.raddr_size;
	return order != 0 ? order : compare_ties(left, right);
}

/* Adds the newest of [low, high), and keeps the newest `max` of all. */
static int read_newest(sqlite3_stmt *statement, const struct question *question, usec_t low,
	usec_t high, size_t max, struct rows *rows)
{
	int r;

	(void)sqlite3_reset(statement);
	sql_bind_question(statement, question, low, high, &PLACE_START);
	query_bind(statement, ":max", (int64_t)max);
	query_bind(statement, ":skip", 0);
	while ((r = query_step(statement)) == 1) {
		r = rows_append(rows, statement);
		if (r < 0)
			return r;
	}
	if (rows->count > 0)
		qsort(rows->row, rows->count, sizeof(*rows->row), compare_newest);
	rows->count = MIN(rows->count, max);
	return r;
}

/* The newest `max` rows. What is not sealed is looked through once, and of the segments, and the long claims, as few as will do: nothing
 * in an older chunk was opened later than its end. A port that is a server's has thousands of long claims. */
static int newest_rows(
	struct query *q, const struct question *question, size_t max, struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *rest = NULL, *sealed = NULL;
	struct question part = *question;
	unsigned step = NEWEST_SEGMENTS;
	usec_t low, high = WALL_FOREVER;
	int r = 0;

	part.rows = question->rows & ~(unsigned)(ROWS_SEG | ROWS_LONG);
	if (part.rows)
		r = prepare_question(q, &part, SQL_NEWEST, &rest);
	if (r == 0 && part.rows)
		r = read_newest(rest, &part, 0, WALL_FOREVER, max, rows);
	part.rows = question->rows & (ROWS_SEG | ROWS_LONG);
	if (r == 0 && part.rows)
		r = prepare_question(q, &part, SQL_NEWEST, &sealed);
	while (r == 0 && part.rows) {
		r = chunk_begin(q, &part, high, step, &low);
		if (r == 0)
			r = read_newest(sealed, &part, low, high, max, rows);
		if (r < 0 || low == 0 ||
			(rows->count == max &&
				rows->row[max - 1].column[ROW_OPENED_USEC] >= (int64_t)low))
			return r;
		high = low;
		step *= 4;
	}
	return r;
}

/* The place of the row that `newest` has at `limit` - 1; it has one more. */
static int place_before(struct query *q, const struct question *question, const struct rows *newest,
	size_t limit, struct place *ret)
{
	struct place place = place_of(&newest->row[limit - 1]),
		     next = place_of(&newest->row[limit]);
	uint64_t count, newer = 0;
	usec_t first;
	int r = 0;

	if (same_key(&place, &next)) { /* how many of these are too old? */
		r = count_chunk(q, question, (usec_t)place.opened_usec,
			(usec_t)place.opened_usec + 1, &place, &count, &first);
		for (size_t i = 0; i < limit; i++)
			newer += newest->row[i].column[ROW_OPENED_USEC] == place.opened_usec;
		if (r == 0)
			place.skip = count - newer;
	}
	if (r == 0)
		*ret = place;
	return r;
}

/* As query_newest(), for so few rows that they may be held. */
static int newest_few(struct query *q, const struct question *question, size_t limit,
	struct place *ret, struct rows *rows)
{
	_cleanup_(rows_done) struct rows newest = {0};
	int r = newest_rows(q, question, limit + 1, &newest);

	if (r < 0)
		return r;
	*ret = PLACE_START;
	if (newest.count > limit)
		r = place_before(q, question, &newest, limit, ret);
	for (size_t i = MIN(newest.count, limit); r == 0 && i > 0; i--)
		r = rows_add(rows, &newest.row[i - 1]);
	return r < 0 ? r : 1;
}

int query_newest(struct query *q, const struct question *question, uint64_t limit,
	struct place *ret, struct rows *rows)
{
	unsigned step = first_step(question);
	usec_t low = 0, high = WALL_FOREVER, first;
	uint64_t count = 0;
	int r;

	if (limit <= LIMIT_PAGE_ROWS)
		return newest_few(q, question, (size_t)limit, ret, rows);
	for (;;) {
		r = chunk_begin(q, question, high, step, &low);
		if (r == 0)
			r = count_chunk(q, question, low, high, &PLACE_START, &count, &first);
		if (r < 0)
			return r;
		if (count >= limit)
			return nth_newest(q, question, low, high, limit, ret);
		if (low == 0) {
			*ret = PLACE_START;
			return 0;
		}
		limit -= count;
		high = low;
		step = next_step(step);
	}
}

int query_count(
	struct query *q, const struct question *question, uint64_t *ret_count, usec_t *ret_first)
{
	return count(q, question, SQL_TOTAL, 0, WALL_FOREVER, &PLACE_START, ret_count, ret_first);
}

#define ADDRESS_TEXT(blob)      "address_text(" blob ")"
#define FIRST_MEMBER(name, sql) "'" name "'," sql
#define MEMBER(name, sql)       ",'" name "'," sql
#define JSON_OF(text)           "json(" text ")"
#define JSON_ROW                                                                                                    \
	"SELECT json_object(" CLAIM_COLUMNS(FIRST_MEMBER, MEMBER, ADDRESS_TEXT, JSON_OF,                            \
		"port_set(k.ports)") ") FROM (SELECT ?1 AS claim,?2 AS holders,?3 AS port,?4 AS opened_usec,"       \
				     "?5 AS opened_slack,?6 AS closed_usec,?7 AS closed_slack,?8 AS released_usec," \
				     "?9 AS meta,?10 AS rport,?11 AS process,?12 AS raddr) r" CLAIM_JOINS           \
					     COALESCED_JOIN

int query_row_json(struct query *q, const struct row *row, struct buf *out)
{
	const char *text;
	int r = 0;

	if (!q->json)
		r = query_prepare(q, JSON_ROW, &q->json);
	if (r < 0)
		return r;
	for (int i = 0; i < ROW_COLUMNS; i++)
		if (row->column[i] == ROW_NULL)
			(void)sqlite3_bind_null(q->json, i + 1);
		else
			(void)sqlite3_bind_int64(q->json, i + 1, row->column[i]);
	if (row->raddr_size) /* not copied, which could fail: it outlives the step */
		(void)sqlite3_bind_blob(
			q->json, ROW_COLUMNS + 1, row->raddr, row->raddr_size, SQLITE_STATIC);
	else
		(void)sqlite3_bind_null(q->json, ROW_COLUMNS + 1);
	r = query_step(q->json);
	text = r == 1 ? (const char *)sqlite3_column_text(q->json, 0) : NULL;
	if (text)
		r = buf_append_string(out, text);
	else if (r >= 0)
		r = -ENOMEM;
	(void)sqlite3_reset(q->json);
	(void)sqlite3_bind_null(q->json, ROW_COLUMNS + 1);
	return r;
}
