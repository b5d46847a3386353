/* SPDX-License-Identifier: MIT */

/* The table is small beside that of the claims (its rate is bounded), and has an index by port and one by time: so this is
 * one statement, whose rows are JSON already. A filter is about who failed, not about who held the port. */

#include "daemon/control/query_failures.h"

#include "daemon/control/query_internal.h"
#include "daemon/schema.h"

#define ADDRESS_TEXT(blob)      "address_text(" blob ")"
#define FIRST_MEMBER(name, sql) "'" name "'," sql
#define MEMBER(name, sql)       ",'" name "'," sql
#define JSON_FAILURE            "json_object(" FAILURE_COLUMNS(FIRST_MEMBER, MEMBER, ADDRESS_TEXT) ")"

static void append_filter(sqlite3_str *sql, const struct filter *f)
{
	const struct {
		bool given;
		const char *condition;
	} conditions[] = {
		{f->port_count == 1, " AND r.port=:port"},
		{f->port_count > 1, " AND r.port IN (SELECT value FROM json_each(:ports))"},
		{f->range.high != 0, " AND r.port BETWEEN :range_low AND :range_high"},
		{f->protocol >= 0, " AND r.meta" META_PROTOCOL "=:protocol"},
		{f->uid >= 0, " AND a.uid=:uid"},
		{f->pid >= 0, " AND p.pid=:pid"},
		{f->app != NULL,
			" AND (a.comm=:app OR a.exe=:app OR"
			" (instr(:app,'/')=0 AND substr(a.exe,-length(:app)-1)='/'||:app))"},
		{f->unit != NULL, " AND a.unit=:unit"},
		{f->peer_port >= 0, " AND r.rport=:peer_port AND NOT " FAILURE_BINDS},
		{f->peer.family != FAMILY_NONE, " AND r.raddr=:peer AND NOT " FAILURE_BINDS},
		{f->address.family != FAMILY_NONE, " AND l.address=:address"},
		{f->netns != NULL, " AND " IS_NETNS("n.")},
	};

	for (size_t i = 0; i < ELEMENTSOF(conditions); i++)
		if (conditions[i].given)
			sqlite3_str_appendall(sql, conditions[i].condition);
}

/* `end` follows the conditions. */
static int prepare(struct query *q, const char *columns, const struct filter *f,
	struct window window, const char *end, sqlite3_stmt **ret)
{
	sqlite3_str *text = sqlite3_str_new(NULL);
	char *sql;
	int r;

	sqlite3_str_appendf(text,
		"SELECT %s FROM failure r" FAILURE_JOINS " WHERE r.usec>=:from AND r.usec<:until",
		columns);
	append_filter(text, f);
	sqlite3_str_appendall(text, end);
	sql = sqlite3_str_finish(text);
	r = query_prepare(q, sql, ret);
	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(*ret, f);
	query_bind(*ret, ":from", (int64_t)window.from);
	query_bind(*ret, ":until", (int64_t)window.until);
	return 0;
}

int query_failures_newest(struct query *q, const struct filter *filter, struct window window,
	uint64_t limit, struct failure_place *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = prepare(q, "r.usec,r.id", filter, window,
		" ORDER BY r.usec DESC,r.id DESC LIMIT 1 OFFSET :skip", &statement);

	if (r < 0)
		return r;
	query_bind(statement, ":skip", (int64_t)limit);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = (struct failure_place){0};
	if (r == 1) {
		ret->usec = sqlite3_column_int64(statement, 0);
		ret->id = sqlite3_column_int64(statement, 1);
	}
	return 0;
}

int query_failures(struct query *q, const struct filter *filter, struct window window, size_t max,
	struct failure_place *place, size_t *ret_count, struct buf *out)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	size_t before = buf_size(out), count = 0;
	int r = prepare(q, "r.usec,r.id," JSON_FAILURE, filter, window,
		" AND (r.usec,r.id)>(:place_usec,:place_id) ORDER BY r.usec,r.id LIMIT :max",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":place_usec", place->usec);
	query_bind(statement, ":place_id", place->id);
	query_bind(statement, ":max", (int64_t)max + 1);
	while ((r = query_step(statement)) == 1) {
		const char *text = (const char *)sqlite3_column_text(statement, 2);

		if (!text)
			return -ENOMEM;
		if (count == max || buf_size(out) - before >= LIMIT_PAGE_BYTES)
			break;
		r = buf_append_format(out, "%s%s", count++ ? "," : "", text);
		if (r < 0)
			return r;
		place->usec = sqlite3_column_int64(statement, 0);
		place->id = sqlite3_column_int64(statement, 1);
	}
	if (r >= 0)
		*ret_count = count;
	return r;
}

static int were_watched(struct query *q, struct window window, bool *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT 1 FROM coverage c WHERE c.failures AND c.from_usec<:until"
		" AND " SQL_WATCHED_UNTIL ">:from LIMIT 1",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":from", (int64_t)window.from);
	query_bind(statement, ":until", (int64_t)window.until);
	r = query_step(statement);
	if (r >= 0)
		*ret = r == 1;
	return r < 0 ? r : 0;
}

int query_failures_each(struct query *q, const struct filter *filter, struct window window,
	int (*take)(void *context, const struct failure_counted *f), void *context,
	bool *ret_watched)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	bool watched = false;
	int r = were_watched(q, window, &watched);

	if (r == 0 && watched)
		r = prepare(q, "p.app,r.meta" META_LOCAL ",r.usec,r.port,r.meta" META_PROTOCOL,
			filter, window, "", &statement);
	while (r == 0 && watched && (r = query_step(statement)) == 1)
		r = take(context, &(struct failure_counted){
					  .app = sqlite3_column_int64(statement, 0),
					  .local = sqlite3_column_int64(statement, 1),
					  .at = (usec_t)sqlite3_column_int64(statement, 2),
					  .port = (uint16_t)sqlite3_column_int(statement, 3),
					  .protocol = sqlite3_column_int(statement, 4),
				  });
	if (r == 0)
		*ret_watched = watched;
	return r;
}
