/* SPDX-License-Identifier: MIT */

/*
 * Released claims in the order of their release: an order in which nothing is ever put before what was read, so that a
 * reader can go on where it stopped, days later. Segments are in that order already, but for what they share.
 */

#include "daemon/control/query_internal.h"

#include "daemon/schema.h"

/* Segments that are sorted at a time, and at most where few rows match: each time claim_long is looked through, too. */
#define STEP_FIRST 2u
#define STEP_MAX   32u

/* The end of the chunk of releases that begins at `low`: WALL_FOREVER for the last. */
static int chunk_end(struct query *q, usec_t low, unsigned step, usec_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT released_to+1 FROM segment WHERE released_to>=:low ORDER BY released_to"
		" LIMIT 1 OFFSET :step",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":low", (int64_t)low);
	query_bind(statement, ":step", step - 1);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = r == 1 ? (usec_t)sqlite3_column_int64(statement, 0) : WALL_FOREVER;
	return 0;
}

/* Of rows that were released at the place's very moment, so many were given already. They may be pruned since. */
static bool was_given(const struct release_place *place, usec_t released, uint64_t *skipped)
{
	if (released != place->released || *skipped == place->skip)
		return false;
	(*skipped)++;
	return true;
}

static int read_chunk(sqlite3_stmt *statement, const struct filter *filter, usec_t high, size_t max,
	struct release_place *place, struct rows *rows)
{
	struct release_place from = *place;
	uint64_t skipped = 0;
	int r = 0;

	(void)sqlite3_reset(statement);
	sql_bind_filter(statement, filter);
	query_bind(statement, ":low", (int64_t)from.released);
	query_bind(statement, ":high", (int64_t)high);
	query_bind(statement, ":max", (int64_t)(max - rows->count + from.skip));
	while (rows->count < max && (r = query_step(statement)) == 1) {
		usec_t released = (usec_t)sqlite3_column_int64(statement, ROW_RELEASED_USEC);

		if (was_given(&from, released, &skipped))
			continue;
		r = rows_append(rows, statement);
		if (r < 0)
			return r;
		release_pass(place, &rows->row[rows->count - 1]);
	}
	return r < 0 ? r : 0;
}

void release_pass(struct release_place *place, const struct row *row)
{
	usec_t released = (usec_t)row->column[ROW_RELEASED_USEC];

	place->skip = released == place->released ? place->skip + 1 : 1;
	place->released = released;
}

int query_released(struct query *q, const struct filter *filter, usec_t until, size_t max,
	struct release_place *place, struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	size_t wanted = rows->count + max;
	unsigned step = STEP_FIRST;
	usec_t high;
	char *sql = sql_released(filter);
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	while (r == 0 && place->released < until) {
		r = chunk_end(q, place->released, step, &high);
		high = MIN(high, until);
		if (r == 0)
			r = read_chunk(statement, filter, high, wanted, place, rows);
		if (r < 0 || rows->count == wanted)
			return r;
		/* nothing is left before the chunk's end */
		*place = (struct release_place){.released = high};
		step = MIN(step * 2, STEP_MAX);
	}
	return r;
}
