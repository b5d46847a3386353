/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the query library share. */

#include <sqlite3.h>

#include "daemon/control/query.h"

/* Is a row of netns (`of`: "n.", its name in the statement, or "") the namespace :netns, by its name or the number of its inode?
 * 0 is none: that which is not known. */
#define IS_NETNS(of) "(" of "name=:netns OR CAST(nullif(" of "inode,0) AS TEXT)=:netns)"

struct query {
	char *path;             /* owned */
	sqlite3 *db;            /* NULL: not open */
	uint64_t device, inode; /* of the file that is open */
	bool damaged;           /* that file, as a question has shown */
	sqlite3_stmt *json;     /* a row as JSON; NULL: not prepared yet */
	usec_t deadline_boot;
};

/* Gives back what query_prepare() gave; NULL is nothing. */
void query_release(sqlite3_stmt *statement);

static inline void stmt_p(sqlite3_stmt **statement)
{
	query_release(*statement);
}

/* A SQLite result code as 0 or negative errno. */
int query_error(int code) _must_check_;

/* Nothing is bound. Parsed only where no statement of this text was given back before. */
int query_prepare(struct query *q, const char *sql, sqlite3_stmt **ret) _must_check_;

/* 1: a row, 0: no more, or negative errno. */
int query_step(sqlite3_stmt *statement) _must_check_;

/* Prepares a statement that binds nothing, and steps to its first row; as query_step(). */
int query_first(struct query *q, const char *sql, sqlite3_stmt **ret) _must_check_;

/* Binds a named parameter, where the statement has it. An error shows as one of the step. */
void query_bind(sqlite3_stmt *statement, const char *name, int64_t value);
void query_bind_text(sqlite3_stmt *statement, const char *name, const char *value);
void query_bind_blob(sqlite3_stmt *statement, const char *name, const void *data, size_t size);
/* As a JSON array, for json_each(). */
void query_bind_numbers(
	sqlite3_stmt *statement, const char *name, const int64_t numbers[], size_t count);

/* Of claims released before *ret, remote addresses are not whole any more; 0: of all they are. */
int query_remotes_until(struct query *q, usec_t *ret) _must_check_;

/* query_port_list.c: what SQL knows of lists of ports. */
int query_add_port_lists(sqlite3 *db) _must_check_;

/* The ranges of a row of coverage: "32768-60999 61000-65535", whatever stands between the numbers. NULL: none. */
struct port_ranges query_parse_ranges(const char *text);

/* A column as a number, ROW_NULL where it is null. */
int64_t query_column(sqlite3_stmt *statement, int column);

/* What a statement made by sql_question() gives. Where rows are asked for, a coalesced one is one row (ROW_META has
 * META_COALESCED); where sums are made, it is a row per claim (daemon/schema.h). */
enum sql_shape {
	SQL_ROWS,         /* from :place on, ordered: a row's columns and its address; :max */
	SQL_NEWEST,       /* the same columns, newest first; :max, :skip */
	SQL_COUNT,        /* from :place on: count of rows, first opening */
	SQL_TOTAL,        /* the same of claims: a coalesced row is as many as it stands for */
	SQL_AUDIT,        /* unordered: app, port, remote address, opened, end, unattributed */
	SQL_UNORDERED,    /* a row's columns and its address */
	SQL_CREDITED,     /* unordered: a row's columns and its address, app, no process */
	SQL_PROGRAMS,     /* count, count of distinct programs */
	SQL_FOLD,         /* unordered: the columns of query_fold.c */
	SQL_FOLD_ORDERED, /* the same, oldest opening first */
};

/* The statement for a question, to be released with sqlite3_free(). NULL: no memory. Which columns a filter names
 * decides the text; values are only ever bound. */
char *sql_question(const struct question *question, enum sql_shape shape);

/* Is it sooner read by the segments that were released from its begin on, up to some time after its end, than in chunks? */
static inline bool window_is_short(struct window w)
{
	return usec_sub(w.until, w.from) <= USEC_PER_DAY;
}

/*
 * The statement for an audit's claims (SQL_CREDITED) of which a sum from [:rolled_from, :rolled_until) does not tell: opened before or
 * after, not sealed yet, or to be looked at one by one (opened from :apart_from on). `edges`: whether rows are needed for more than
 * what reaches over the ends of the sums, which the marks lead to.
 */
struct sql_edges {
	bool before, after;
};
char *sql_beside_rollups(const struct question *question, struct sql_edges edges);

/* The statement for those claims beside rollups that their marks tell of, filtered: port, meta (without a local address), opened, closed,
 * released, app, whether it is unattributed, and the hash of the remote address or null. */
char *sql_marked(const struct filter *filter, struct sql_edges edges);

/* The statement for rows of a rollup that begin in [:low, :high), filtered; those that stand apart only before :apart_from. */
char *sql_rollup(const struct filter *filter, const char *table);

/* The statement for claims with a release in [:low, :high), in the order of release; :max. */
char *sql_released(const struct filter *filter);

/* The statement for the rows of one kind that `condition` selects, filtered. */
char *sql_tail(
	const struct filter *filter, enum rows_of kind, const char *condition, const char *order);

/* Binds :ports, the ports of the filter as a JSON array: sql_bind_filter() does where they are several. */
void sql_bind_ports(sqlite3_stmt *statement, const struct filter *filter);

/* Binds what the filter names. */
void sql_bind_filter(sqlite3_stmt *statement, const struct filter *filter);

/* Binds window, chunk of opening times [low, high), and place. */
void sql_bind_question(sqlite3_stmt *statement, const struct question *question, usec_t low,
	usec_t high, const struct place *place);

/* Chunks of opening times end where a segment's openings end, so that only `step` segments are sorted at a time. The end of
 * the chunk that begins at `low`: WALL_FOREVER for the last. */
int query_chunk_end(struct query *q, const struct question *question, usec_t low, unsigned step,
	usec_t *ret) _must_check_;

/* Reads the columns of SQL_ROWS into a fresh row. -ENOMEM. */
int rows_append(struct rows *rows, sqlite3_stmt *statement) _must_check_;
