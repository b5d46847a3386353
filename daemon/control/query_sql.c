/* SPDX-License-Identifier: MIT */

/*
 * The text of the statements, composed of constants; what a client says is only ever bound.
 *
 * Who had a port at a time is a stabbing query over intervals, and the store has no index over intervals: it has
 * segments, in the order of release, sorted by (port, opening). What makes that enough:
 *   - a claim in a segment lasted less than SCHEMA_LONG_USEC, slack and linger included; longer ones are in
 *     claim_long, few per port;
 *   - so a claim that touches [from, until) lies in a segment with released_to >= from and
 *     opened_from - max_slack < until, and in it between opening times from - SCHEMA_LONG_USEC and
 *     until + max_slack: one seek on (seg, port, rel).
 * The bounds only save work; `touches` below decides alone. Claims in opening order are read in chunks [:low, :high)
 * of opening times, so that only the segments of a chunk are sorted.
 *
 * The order of claims has to outlive sealing, which drops a claim's number: it is opening time, port, what of meta
 * never changes (protocol, family, local address), remote end. Of rows that are equal in all this, a place counts
 * how many were given (`process` and release keep those apart that differ).
 */

#include "daemon/control/query_internal.h"

#include <stdio.h>

#include "daemon/schema.h"

#define COLUMN_NAMES                                                                               \
	"seg,claim,holders,port,opened_usec,opened_slack,closed_usec,closed_slack,released_usec,"  \
	"meta,rport,raddr,process"
#define WITH_ROWS "WITH r(" COLUMN_NAMES ") AS ("

#define ROW_COLUMN_LIST                                                                            \
	"r.claim,r.holders,r.port,r.opened_usec,r.opened_slack,r.closed_usec,r.closed_slack,"      \
	"r.released_usec,r.meta,r.rport,r.process,r.raddr"

#define KEY                                                                                        \
	"r.opened_usec,r.port,r.meta&~" SQL_MUTABLE ",ifnull(r.rport,-1),"                         \
	"ifnull(r.raddr,x'')"
#define ORDER_ASCENDING " ORDER BY " KEY ",r.process,r.released_usec"
#define ORDER_DESCENDING                                                                           \
	" ORDER BY r.opened_usec DESC,r.port DESC,r.meta&~" SQL_MUTABLE " DESC,"                   \
	"ifnull(r.rport,-1) DESC,ifnull(r.raddr,x'') DESC,r.process DESC,r.released_usec DESC"
#define FROM_PLACE                                                                                 \
	" AND (" KEY ")>=(:place_opened,:place_port,:place_meta,:place_rport,:place_raddr)"

#define IN_RANGE(port) " AND (:range_high=0 OR " port " BETWEEN :range_low AND :range_high)"
#define HAS_PORT(port) "port_list_low(c.ports," port "," port ") IS NOT NULL"
#define ASKED_PORT                                                                                 \
	"(SELECT min(value) FROM json_each(:ports) WHERE " HAS_PORT("value") IN_RANGE("value") ")"
#define PORT_IN_RANGE "port_list_low(c.ports,:range_low,:range_high)"

/* A coalesced row, as one: which of its ports it is to show, the lowest that was asked for, and what it must have. `each`: it is given
 * for each of several ports. */
static void append_coalesced(sqlite3_str *sql, const struct filter *f, bool each)
{
	if (f->port_count > 1 && each)
		sqlite3_str_appendall(sql,
			ROWS_OF_COALESCED_ON(
				"m.value") " CROSS JOIN (SELECT DISTINCT value FROM json_each(:ports)) m"
					   " WHERE " HAS_PORT("m.value") IN_RANGE("m.value"));
	else if (f->port_count > 1)
		sqlite3_str_appendall(
			sql, ROWS_OF_COALESCED_ON(ASKED_PORT) " WHERE " ASKED_PORT " IS NOT NULL");
	else if (f->port_count == 1)
		sqlite3_str_appendall(sql, ROWS_OF_COALESCED_ON(":port") " WHERE " HAS_PORT(":port")
						   IN_RANGE(":port"));
	else if (f->range.high)
		sqlite3_str_appendall(sql,
			ROWS_OF_COALESCED_ON(PORT_IN_RANGE) " WHERE " PORT_IN_RANGE " IS NOT NULL");
	else
		sqlite3_str_appendall(sql, ROWS_OF_COALESCED " WHERE 1");
}

/* The claims that such a row stands for. */
static void append_spread(sqlite3_str *sql, const struct filter *f)
{
	if (f->port_count == 1)
		sqlite3_str_appendall(
			sql, ROWS_OF_SPREAD_ON(":port", ":port") " WHERE " HAS_PORT(":port"));
	else if (f->port_count > 1)
		sqlite3_str_appendall(sql,
			ROWS_OF_SPREAD " WHERE m.value IN (SELECT value FROM json_each(:ports))");
	else if (f->range.high)
		sqlite3_str_appendall(
			sql, ROWS_OF_SPREAD_ON(":range_low", ":range_high") " WHERE 1");
	else
		sqlite3_str_appendall(sql, ROWS_OF_SPREAD " WHERE 1");
	if (f->range.high)
		sqlite3_str_appendall(sql, " AND m.value BETWEEN :range_low AND :range_high");
}

/* As those of the arms, of coalesced rows: in the first place what the index can look up. */
#define COALESCED_BOUNDS                                                                           \
	" AND c.opened_usec>=max(:low,:from)-" SQL_COALESCED_USEC                                  \
	" AND c.opened_usec<min(:high,:until+" SQL_LONG_USEC ")"
#define COALESCED_CHUNK " AND c.opened_usec>=:low"
#define SPREAD_CHUNK    " AND " SPREAD_OPENED ">=:low AND " SPREAD_OPENED "<:high"

static const char touches[] = " AND r.opened_usec-CASE WHEN r.meta" META_PREEXISTING
			      " THEN 0 ELSE ifnull(r.opened_slack,0)*1000 END<:until"
			      " AND (r.released_usec IS NULL OR r.released_usec>:from"
			      " OR (r.released_usec=:from AND (r.closed_slack IS NOT NULL"
			      " OR r.opened_usec=:from)))";

/* Each kind of rows with the bounds of the chunk, and of the window where that can be looked up. */
static const struct {
	enum rows_of kind;
	const char *rows, *bounds;
} arms[] = {
	{ROWS_SEG, ROWS_OF_SEG,
		" AND s.released_to>=:from AND s.opened_from-s.max_slack_usec<:until"
		" AND s.opened_to>=:low AND s.opened_from<:high"
		" AND c.rel>=max(:low,:from-" SQL_LONG_USEC ")-s.base_usec"
		" AND c.rel<min(:high,:until+s.max_slack_usec)-s.base_usec"},
	{ROWS_LONG, ROWS_OF_LONG, " AND c.opened_usec>=:low AND c.opened_usec<:high"},
	{ROWS_HOT, ROWS_OF_HOT_LATE, " AND c.opened_usec>=:low AND c.opened_usec<:high"},
	{ROWS_HOT, ROWS_OF_HOT_EARLY,
		" AND " SQL_HOT_LONG " AND c.opened_usec>=:low AND c.opened_usec<:high"},
	{ROWS_OPEN, ROWS_OF_OPEN, " AND c.opened_usec>=:low AND c.opened_usec<:high"},
};

/* As CLAIM_JOINS, but `p` is whom an audit credits: a socket that systemd opened and passed on counts for the
 * service that got it last. */
static const char audit_joins[] =
	" LEFT JOIN process p ON p.id=CASE WHEN r.holders"
	" AND (SELECT o.pid FROM process o WHERE o.id=r.process)=1"
	" THEN ifnull((SELECT h.process FROM holder h WHERE h.claim=r.claim AND h.from_usec<:until"
	" ORDER BY h.until_usec DESC NULLS FIRST,h.n DESC LIMIT 1),r.process) ELSE r.process END";

static void append_ports(sqlite3_str *sql, const struct filter *f)
{
	if (f->port_count == 1)
		sqlite3_str_appendall(sql, " AND c.port=:port");
	if (f->port_count > 1)
		sqlite3_str_appendall(sql, " AND c.port IN (SELECT value FROM json_each(:ports))");
	if (f->range.high)
		sqlite3_str_appendall(sql, " AND c.port BETWEEN :range_low AND :range_high");
}

bool filter_names_process(const struct filter *f)
{
	return f->app || f->unit || f->uid >= 0 || f->pid >= 0;
}

static bool names_local(const struct filter *f)
{
	return f->address.family != FAMILY_NONE || f->netns;
}

static void append_filter(sqlite3_str *sql, const struct filter *f)
{
	const struct {
		bool given;
		const char *condition;
	} conditions[] = {
		{f->protocol >= 0, " AND r.meta" META_PROTOCOL "=:protocol"},
		{f->role >= 0, " AND r.meta" META_ROLE "=:role"},
		{f->uid >= 0, " AND a.uid=:uid"},
		{f->pid >= 0,
			" AND (p.pid=:pid OR (r.holders AND EXISTS(SELECT 1 FROM holder h"
			" JOIN process hp ON hp.id=h.process WHERE h.claim=r.claim AND hp.pid=:pid)))"},
		{f->app != NULL,
			" AND (a.comm=:app OR a.exe=:app OR"
			" (instr(:app,'/')=0 AND substr(a.exe,-length(:app)-1)='/'||:app))"},
		{f->unit != NULL, " AND a.unit=:unit"},
		{f->peer_port >= 0, " AND r.rport=:peer_port"},
		{f->peer.family != FAMILY_NONE, " AND r.raddr=:peer"},
		{f->address.family != FAMILY_NONE, " AND l.address=:address"},
		{f->netns != NULL, " AND " IS_NETNS("n.")},
	};

	for (size_t i = 0; i < ELEMENTSOF(conditions); i++)
		if (conditions[i].given)
			sqlite3_str_appendall(sql, conditions[i].condition);
}

/* Only the tables that the filter names: a join costs more than the scan. */
static void append_joins(
	sqlite3_str *sql, const struct filter *f, const char *process_join, bool app)
{
	if (process_join)
		sqlite3_str_appendall(sql, process_join);
	if (app)
		sqlite3_str_appendall(sql, " LEFT JOIN app a ON a.id=p.app");
	if (names_local(f))
		sqlite3_str_appendall(sql, " LEFT JOIN local l ON l.id=r.meta" META_LOCAL
					   " LEFT JOIN netns n ON n.id=l.netns");
}

/* The kinds of rows that have a release, with what can be looked up of it. */
char *sql_released(const struct filter *f)
{
	static const struct {
		const char *rows, *bounds;
	} released[] = {
		{ROWS_OF_SEG, " AND s.released_to>=:low AND s.released_from<:high"},
		{ROWS_OF_LONG, ""},
		{ROWS_OF_HOT, ""},
	};
	sqlite3_str *sql = sqlite3_str_new(NULL);

	for (size_t i = 0; i < ELEMENTSOF(released); i++) {
		sqlite3_str_appendall(sql, i == 0 ? WITH_ROWS : " UNION ALL ");
		sqlite3_str_appendall(sql, released[i].rows);
		sqlite3_str_appendall(sql, " WHERE 1");
		append_ports(sql, f);
		sqlite3_str_appendall(sql, released[i].bounds);
	}
	sqlite3_str_appendall(sql, " UNION ALL ");
	append_coalesced(sql, f, false);
	sqlite3_str_appendall(sql, " AND c.opened_usec>=:low-" SQL_COALESCED_USEC
				   " AND c.opened_usec<:high) SELECT " ROW_COLUMN_LIST " FROM r");
	append_joins(sql, f,
		filter_names_process(f) ? " LEFT JOIN process p ON p.id=r.process" : NULL,
		filter_names_process(f));
	sqlite3_str_appendall(sql, " WHERE r.released_usec>=:low AND r.released_usec<:high");
	append_filter(sql, f);
	sqlite3_str_appendall(sql, " ORDER BY r.released_usec," KEY ",r.process LIMIT :max");
	return sqlite3_str_finish(sql);
}

/* Shapes that are about programs. */
static bool credits(enum sql_shape shape)
{
	return shape == SQL_AUDIT || shape == SQL_CREDITED || shape == SQL_PROGRAMS ||
	       shape == SQL_FOLD || shape == SQL_FOLD_ORDERED;
}

static void append_arms(sqlite3_str *sql, const struct question *question, enum sql_shape shape)
{
	bool spread = credits(shape) || shape == SQL_TOTAL;
	const char *between = WITH_ROWS;

	for (size_t i = 0; i < ELEMENTSOF(arms); i++) {
		if (!(question->rows & arms[i].kind))
			continue;
		sqlite3_str_appendall(sql, between);
		sqlite3_str_appendall(sql, arms[i].rows);
		sqlite3_str_appendall(sql, " WHERE 1");
		/* first, since where there is no index it decides soonest */
		append_ports(sql, &question->filter);
		sqlite3_str_appendall(sql, arms[i].bounds);
		if (arms[i].kind == ROWS_SEG && window_is_short(question->window))
			sqlite3_str_appendall(sql, " AND s." SEGMENT_UNTIL);
		between = " UNION ALL ";
	}
	if (question->rows & ROWS_SEG) {
		sqlite3_str_appendall(sql, between);
		if (spread)
			append_spread(sql, &question->filter);
		else
			append_coalesced(sql, &question->filter, shape == SQL_UNORDERED);
		sqlite3_str_appendall(sql, COALESCED_BOUNDS);
		sqlite3_str_appendall(sql, spread ? SPREAD_CHUNK : COALESCED_CHUNK);
	}
	sqlite3_str_appendall(sql, ")");
}

#define FOLD                                                                                       \
	" SELECT r.port,r.meta,r.opened_usec,r.closed_usec,r.released_usec,r.rport,r.raddr,p.app," \
	"p.pid IS NOT NULL OR r.meta" META_ATTRIBUTION "=" SQL_KERNEL " FROM r"

/* All behind the rows. */
static char *finish_question(
	sqlite3_str *sql, const struct question *question, enum sql_shape shape)
{
	static const struct {
		const char *select, *end;
	} shapes[] = {
		[SQL_ROWS] = {" SELECT " ROW_COLUMN_LIST " FROM r",
			FROM_PLACE ORDER_ASCENDING " LIMIT :max OFFSET :skip"},
		[SQL_NEWEST] = {" SELECT " ROW_COLUMN_LIST " FROM r",
			ORDER_DESCENDING " LIMIT :max OFFSET :skip"},
		[SQL_COUNT] = {" SELECT count(*),min(r.opened_usec) FROM r", FROM_PLACE},
		[SQL_TOTAL] = {" SELECT count(*),min(r.opened_usec) FROM r", FROM_PLACE},
		[SQL_AUDIT] = {" SELECT p.app,r.port,r.raddr,r.opened_usec,r.released_usec,"
			       "p.pid IS NULL AND r.meta" META_ATTRIBUTION "<>" SQL_KERNEL
			       " FROM r",
			""},
		[SQL_UNORDERED] = {" SELECT " ROW_COLUMN_LIST " FROM r", ""},
		[SQL_CREDITED] = {" SELECT " ROW_COLUMN_LIST ",p.app,p.pid IS NULL FROM r", ""},
		[SQL_PROGRAMS] = {" SELECT count(*),count(DISTINCT CASE WHEN p.pid IS NOT NULL"
				  " THEN ifnull(a.exe,a.comm) END) FROM r",
			""},
		[SQL_FOLD] = {FOLD, ""},
		[SQL_FOLD_ORDERED] = {FOLD, " ORDER BY r.opened_usec"},
	};
	const struct filter *f = &question->filter;

	sqlite3_str_appendall(sql, shapes[shape].select);
	append_joins(sql, f,
		credits(shape)            ? audit_joins
		: filter_names_process(f) ? " LEFT JOIN process p ON p.id=r.process"
					  : NULL,
		filter_names_process(f) || shape == SQL_PROGRAMS);
	sqlite3_str_appendall(sql, " WHERE 1");
	sqlite3_str_appendall(sql, touches);
	append_filter(sql, f);
	sqlite3_str_appendall(sql, shapes[shape].end);
	return sqlite3_str_finish(sql);
}

char *sql_question(const struct question *question, enum sql_shape shape)
{
	sqlite3_str *sql = sqlite3_str_new(NULL);

	append_arms(sql, question, shape);
	return finish_question(sql, question, shape);
}

/* As append_joins(), where `r` has the ids of its app and of its namespace. */
static void append_named(sqlite3_str *sql, const struct filter *f)
{
	if (filter_names_process(f))
		sqlite3_str_appendall(sql, " LEFT JOIN app a ON a.id=r.app");
	if (f->netns)
		sqlite3_str_appendall(sql, " LEFT JOIN netns n ON n.id=r.netns");
}

/* How long a claim of each kind of mark may take; those of an hour have their own arms. */
#define WITH_REACH                                                                                 \
	"WITH RECURSIVE reach(kind,usec) AS (VALUES(" SQL_NUMBER(                                  \
		MARK_HOUR) "+1,2*" SQL_LONG_USEC                                                   \
			   ") UNION ALL SELECT kind+1,iif(kind+1<" SQL_NUMBER(                     \
				   MARK_LAST) ",2*usec,1<<62) FROM reach"                          \
					      " WHERE kind<" SQL_NUMBER(MARK_LAST) "),"
/* Of the hour before a time; of what may be longer. */
#define MARKS_BEFORE(time)                                                                         \
	" FROM (SELECT * FROM claim_mark WHERE kind=" SQL_NUMBER(                                  \
		MARK_HOUR) " AND at_usec>" time "-" SQL_LONG_USEC " AND at_usec<" time ") m"
#define LONG_MARKS(from, until)                                                                    \
	" FROM reach k CROSS JOIN claim_mark m ON m.kind=k.kind AND m.at_usec>" from "-k.usec"     \
	" AND m.at_usec<" until
#define MARKS_APART                                                                                \
	" FROM (SELECT * FROM claim_mark WHERE kind=" SQL_NUMBER(                                  \
		MARK_APART) " AND at_usec>=:apart_from AND at_usec<:rolled_until) m"
#define BEFORE " AND m.opened_usec<:rolled_from"
#define AFTER  " AND m.opened_usec>=:rolled_until"
/* They do not say what an audit needs. */
#define UNTOLD " AND m.app IS NULL"

char *sql_beside_rollups(const struct question *question, struct sql_edges edges)
{
	const char *const rows[] = {
		edges.before ? ROWS_OF_SEG
			" WHERE s.released_to>=:from AND s.opened_from<:rolled_from"
			" AND c.rel>=:from-" SQL_LONG_USEC "-s.base_usec"
			" AND c.rel<:rolled_from-s.base_usec"
			     : COLUMNS_OF_SEG MARKS_BEFORE(":from") MARKED_SEG UNTOLD BEFORE,
		edges.after ? ROWS_OF_SEG " WHERE s.opened_to>=:rolled_until"
					  " AND s.opened_from-s.max_slack_usec<:until"
					  " AND c.rel>=:rolled_until-s.base_usec"
					  " AND c.rel<:until+s.max_slack_usec-s.base_usec"
			    : COLUMNS_OF_SEG MARKS_BEFORE(":until") MARKED_SEG UNTOLD AFTER,
		COLUMNS_OF_LONG LONG_MARKS(":from", ":rolled_from") MARKED_LONG UNTOLD BEFORE,
		COLUMNS_OF_LONG LONG_MARKS(":rolled_until", ":until") MARKED_LONG UNTOLD AFTER,
		COLUMNS_OF_SEG MARKS_APART MARKED_SEG,
		COLUMNS_OF_LONG MARKS_APART MARKED_LONG,
		/* none is of two hours, and none is looked at by itself */
		edges.before ? ROWS_OF_SPREAD " WHERE c.opened_usec>=:from-" SQL_COALESCED_USEC
					      " AND c.opened_usec<:rolled_from"
			     : NULL,
		edges.after ? ROWS_OF_SPREAD " WHERE c.opened_usec>=:rolled_until"
					     " AND c.opened_usec<:until+" SQL_LONG_USEC
			    : NULL,
		/* what is in no segment is looked through, so that a cheap condition comes first */
		ROWS_OF_HOT_LATE " WHERE c.opened_usec-ifnull(c.opened_slack,0)*1000<:until"
				 " AND c.opened_usec+c.dur+ifnull(c.linger,0)*1000>=:from",
		ROWS_OF_HOT_EARLY " WHERE " SQL_HOT_LONG
				  " AND c.opened_usec-ifnull(c.opened_slack,0)*1000<:until"
				  " AND c.opened_usec+c.dur+ifnull(c.linger,0)*1000>=:from",
		ROWS_OF_OPEN " WHERE c.opened_usec-ifnull(c.opened_slack,0)*1000<:until",
	};
	const char *between = WITH_REACH "r(" COLUMN_NAMES ") AS (";
	sqlite3_str *sql = sqlite3_str_new(NULL);

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		if (!rows[i])
			continue;
		sqlite3_str_appendall(sql, between);
		sqlite3_str_appendall(sql, rows[i]);
		between = " UNION ALL ";
	}
	sqlite3_str_appendall(sql, ")");
	return finish_question(sql, question, SQL_CREDITED);
}

/* What touches the window, as `touches` has it; at_usec is the earlier bound already. */
#define TOLD                                                                                       \
	" AND m.app IS NOT NULL AND m.at_usec<:until"                                              \
	" AND m.opened_usec+m.dur+m.linger*1000>=:from"                                            \
	" AND (m.opened_usec+m.dur+m.linger*1000>:from OR m.bounded OR m.opened_usec=:from)"
#define TELL "SELECT m.*"

char *sql_marked(const struct filter *f, struct sql_edges edges)
{
	const char *const marks[] = {
		TELL LONG_MARKS(":from", ":rolled_from") TOLD BEFORE,
		TELL LONG_MARKS(":rolled_until", ":until") TOLD AFTER,
		edges.before ? NULL : TELL MARKS_BEFORE(":from") " WHERE 1" TOLD BEFORE,
		edges.after ? NULL : TELL MARKS_BEFORE(":until") " WHERE 1" TOLD AFTER,
	};
	const char *between = WITH_REACH "r AS (";
	sqlite3_str *sql = sqlite3_str_new(NULL);

	for (size_t i = 0; i < ELEMENTSOF(marks); i++) {
		if (!marks[i])
			continue;
		sqlite3_str_appendall(sql, between);
		sqlite3_str_appendall(sql, marks[i]);
		between = " UNION ALL ";
	}
	sqlite3_str_appendall(sql, ") SELECT r.port,r.meta,r.opened_usec,r.opened_usec+r.dur,"
				   "r.opened_usec+r.dur+r.linger*1000,r.app,r.unattributed,r.remote"
				   " FROM r");
	append_named(sql, f);
	sqlite3_str_appendall(sql, " WHERE 1");
	append_filter(sql, f);
	return sqlite3_str_finish(sql);
}

char *sql_rollup(const struct filter *f, const char *table)
{
	sqlite3_str *sql = sqlite3_str_new(NULL);

	sqlite3_str_appendf(sql,
		"SELECT r.start_usec,r.app,r.claims,r.connected,r.listening,r.bound,r.accepted,"
		"r.unattributed,r.first_usec,r.last_usec,r.sets FROM %s r",
		table);
	append_named(sql, f);
	sqlite3_str_appendall(sql, " WHERE r.start_usec>=:low AND r.start_usec<:high"
				   " AND (r.apart=0 OR r.start_usec<:apart_from)");
	append_filter(sql, f);
	return sqlite3_str_finish(sql);
}

char *sql_tail(const struct filter *f, enum rows_of kind, const char *condition, const char *order)
{
	sqlite3_str *sql = sqlite3_str_new(NULL);

	sqlite3_str_appendall(sql, WITH_ROWS);
	sqlite3_str_appendall(sql, kind == ROWS_OPEN ? ROWS_OF_OPEN : ROWS_OF_HOT);
	sqlite3_str_appendall(sql, condition);
	append_ports(sql, f);
	sqlite3_str_appendall(sql, ") SELECT " ROW_COLUMN_LIST " FROM r");
	append_joins(sql, f,
		filter_names_process(f) ? " LEFT JOIN process p ON p.id=r.process" : NULL,
		filter_names_process(f));
	sqlite3_str_appendall(sql, " WHERE 1");
	append_filter(sql, f);
	sqlite3_str_appendall(sql, order);
	return sqlite3_str_finish(sql);
}

void sql_bind_ports(sqlite3_stmt *statement, const struct filter *f)
{
	int64_t numbers[LIMIT_FILTER_PORTS];

	for (unsigned i = 0; i < f->port_count; i++)
		numbers[i] = f->ports[i];
	query_bind_numbers(statement, ":ports", numbers, f->port_count);
}

void sql_bind_filter(sqlite3_stmt *statement, const struct filter *f)
{
	char address[ADDRESS_TEXT_MAX];

	if (f->port_count == 1)
		query_bind(statement, ":port", f->ports[0]);
	if (f->port_count > 1)
		sql_bind_ports(statement, f);
	query_bind(statement, ":range_low", f->range.low);
	query_bind(statement, ":range_high", f->range.high);
	query_bind(statement, ":protocol", f->protocol);
	query_bind(statement, ":role", f->role);
	query_bind(statement, ":uid", f->uid);
	query_bind(statement, ":pid", f->pid);
	query_bind(statement, ":peer_port", f->peer_port);
	query_bind_text(statement, ":app", f->app);
	query_bind_text(statement, ":unit", f->unit);
	query_bind_text(statement, ":netns", f->netns);
	query_bind_text(statement, ":address", address_format(&f->address, address));
	query_bind_blob(statement, ":peer", f->peer.bytes, address_size(&f->peer));
}

void sql_bind_question(sqlite3_stmt *statement, const struct question *question, usec_t low,
	usec_t high, const struct place *place)
{
	sql_bind_filter(statement, &question->filter);
	query_bind(statement, ":from", (int64_t)question->window.from);
	query_bind(statement, ":until", (int64_t)question->window.until);
	query_bind(statement, ":low", (int64_t)low);
	query_bind(statement, ":high", (int64_t)high);
	query_bind(statement, ":place_opened", place->opened_usec);
	query_bind(statement, ":place_port", place->port);
	query_bind(statement, ":place_meta", place->meta);
	query_bind(statement, ":place_rport", place->rport);
	query_bind_blob(statement, ":place_raddr", place->raddr, place->raddr_size);
}
