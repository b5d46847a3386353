/* SPDX-License-Identifier: MIT */

#include "daemon/control/query_fold.h"
#include "daemon/control/query_ports.h"

#include "daemon/schema.h"

/* Segments that are sorted at a time: each time claim_long is looked through, too. */
#define STEP_MAX 8u

enum {
	FOLD_PORT,
	FOLD_META,
	FOLD_OPENED,
	FOLD_CLOSED,
	FOLD_RELEASED,
	FOLD_REMOTE_PORT,
	FOLD_REMOTE,
	FOLD_APP,
	FOLD_ATTRIBUTED,
};

static usec_t time_of(sqlite3_stmt *statement, int column)
{
	int64_t value = query_column(statement, column);

	return value == ROW_NULL ? USEC_UNSET : (usec_t)value;
}

static struct fold_row read_row(sqlite3_stmt *s)
{
	int64_t meta = sqlite3_column_int64(s, FOLD_META);
	const void *remote = sqlite3_column_blob(s, FOLD_REMOTE);
	int size = sqlite3_column_bytes(s, FOLD_REMOTE);
	struct fold_row row = {
		.opened = (usec_t)sqlite3_column_int64(s, FOLD_OPENED),
		.closed = time_of(s, FOLD_CLOSED),
		.released = time_of(s, FOLD_RELEASED),
		.app = query_column(s, FOLD_APP),
		.local = meta >> META_LOCAL_SHIFT & META_LOCAL_MASK,
		.remote_port = sqlite3_column_type(s, FOLD_REMOTE_PORT) == SQLITE_NULL
				       ? -1
				       : sqlite3_column_int(s, FOLD_REMOTE_PORT),
		.port = (uint16_t)sqlite3_column_int(s, FOLD_PORT),
		.protocol = (uint8_t)(meta >> META_PROTOCOL_SHIFT & META_PROTOCOL_MASK),
		.role = meta & META_ROLE_UNKNOWN
				? ROLE_UNKNOWN
				: (uint8_t)(meta >> META_ROLE_SHIFT & META_ROLE_MASK),
		.preexisting = meta >> META_PREEXISTING_SHIFT & 1,
		.attributed = sqlite3_column_int(s, FOLD_ATTRIBUTED) != 0,
	};

	if (remote && (size == 4 || size == 16)) {
		row.remote_size = (uint8_t)size;
		memcpy(row.remote, remote, (size_t)size);
	}
	return row;
}

/* One chunk of opening times, [low, high). */
static int fold_chunk(sqlite3_stmt *statement, const struct question *question, usec_t low,
	usec_t high, fold_fn *take, void *context)
{
	int r;

	(void)sqlite3_reset(statement);
	sql_bind_question(statement, question, low, high, &PLACE_START);
	while ((r = query_step(statement)) == 1) {
		struct fold_row row = read_row(statement);

		r = take(context, &row);
		if (r < 0)
			return r;
	}
	return r;
}

int query_fold(struct query *q, const struct question *question, bool ordered, fold_fn *take,
	void *context)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	char *sql = sql_question(question, ordered ? SQL_FOLD_ORDERED : SQL_FOLD);
	usec_t low = 0, high = WALL_FOREVER;
	unsigned step = 1;
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	while (r == 0) {
		if (ordered)
			r = query_chunk_end(q, question, low, step, &high);
		if (r == 0)
			r = fold_chunk(statement, question, low, high, take, context);
		if (high == WALL_FOREVER)
			break;
		low = high;
		step = MIN(2 * step, STEP_MAX);
	}
	return r;
}

int query_ephemeral(struct query *q, usec_t at, struct port_range *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT ephemeral_low,ephemeral_high FROM coverage WHERE from_usec<=:at"
		" ORDER BY id DESC LIMIT 1",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":at", (int64_t)at);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = (struct port_range){0};
	if (r == 1)
		*ret = (struct port_range){(uint16_t)sqlite3_column_int(statement, 0),
			(uint16_t)sqlite3_column_int(statement, 1)};
	return 0;
}

int query_netns_range(
	struct query *q, const char *netns, struct port_range otherwise, struct port_range *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT ephemeral_low,ephemeral_high FROM netns WHERE ephemeral_high<>0"
		" AND " IS_NETNS("") " ORDER BY id DESC LIMIT 1",
		&statement);

	if (r < 0)
		return r;
	query_bind_text(statement, ":netns", netns);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = r == 0 ? otherwise
		      : (struct port_range){(uint16_t)sqlite3_column_int(statement, 0),
				(uint16_t)sqlite3_column_int(statement, 1)};
	return 0;
}
