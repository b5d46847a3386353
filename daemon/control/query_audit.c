/* SPDX-License-Identifier: MIT */

/*
 * The audit: claims of a window, per program or what else they are counted by (query_groups.c). Beside the groups, what
 * has to do with each claim for itself: servers that came and went, and why there is no process where there is none.
 */

#include "daemon/control/query_groups.h"

#include <stdlib.h>

#include "daemon/control/query_failures.h"

#include "daemon/schema.h"

/* Columns of SQL_CREDITED behind those of a row. */
enum {
	AUDIT_ADDRESS = ROW_COLUMNS,
	AUDIT_APP,
	AUDIT_NO_PROCESS,
};

/* Why a claim has no process. */
enum reason {
	REASON_END_ONLY,   /* no sweep saw it: the kernel told of its end */
	REASON_BEFORE,     /* it was there before we watched */
	REASON_NO_HOLDER,  /* nobody had it open when we looked; its owner or unit is known */
	REASON_NOT_LOOKED, /* nobody has looked yet */
	REASON_COUNT,
};
static const char *const reason_names[REASON_COUNT] = {
	[REASON_END_ONLY] = "end-only",
	[REASON_BEFORE] = "before",
	[REASON_NO_HOLDER] = "no-holder",
	[REASON_NOT_LOOKED] = "not-looked",
};

struct audit {
	struct groups groups;
	struct window window;
	struct port_set on_port;
	uint64_t claims, unattributed, reason[REASON_COUNT];
	struct rows servers; /* owned; the first LIMIT_PAGE_ROWS at the least */
	uint64_t server_count;
	bool failures_watched;
	uint64_t failures;
};

static void audit_done(struct audit *a)
{
	groups_done(&a->groups);
	rows_done(&a->servers);
}

static int field(const struct row *row, int shift, int mask)
{
	return (int)(row->column[ROW_META] >> shift & mask);
}

static usec_t time_of(const struct row *row, enum row_column column)
{
	return row->column[column] == ROW_NULL ? USEC_UNSET : (usec_t)row->column[column];
}

static enum reason reason_of(const struct row *row)
{
	if (field(row, META_SOURCE_SHIFT, META_SOURCE_MASK) == SOURCE_DESTROY)
		return REASON_END_ONLY;
	if (field(row, META_PREEXISTING_SHIFT, 1))
		return REASON_BEFORE;
	return field(row, META_ATTRIBUTION_SHIFT, META_ATTRIBUTION_MASK) == ATTRIBUTION_NONE
		       ? REASON_NOT_LOOKED
		       : REASON_NO_HOLDER;
}

static int role_of(const struct row *row)
{
	return row->column[ROW_META] & META_ROLE_UNKNOWN
		       ? ROLE_UNKNOWN
		       : field(row, META_ROLE_SHIFT, META_ROLE_MASK);
}

/* Is it a server that came or went in the window? */
static bool is_server(const struct audit *a, const struct row *row)
{
	usec_t opened = time_of(row, ROW_OPENED_USEC), closed = time_of(row, ROW_CLOSED_USEC);
	int protocol = field(row, META_PROTOCOL_SHIFT, META_PROTOCOL_MASK), role = role_of(row);
	bool udp = protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE;
	usec_t until = MIN(closed, a->window.until);
	bool came, went = closed < a->window.until && closed >= a->window.from;

	if (role != ROLE_LISTENING &&
		!(udp && role == ROLE_BOUND && usec_sub(until, opened) >= SCHEMA_SERVER_USEC))
		return false;
	came = !field(row, META_PREEXISTING_SHIFT, 1) && opened >= a->window.from &&
	       opened < a->window.until;
	return came || went;
}

static int compare_servers(const void *left, const void *right)
{
	const struct row *a = left, *b = right;
	static const enum row_column keys[] = {
		ROW_OPENED_USEC, ROW_PORT, ROW_META, ROW_CLOSED_USEC, ROW_PROCESS};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (a->column[keys[i]] != b->column[keys[i]])
			return a->column[keys[i]] < b->column[keys[i]] ? -1 : 1;
	return 0;
}

/* Keeps the first ones, whatever order they come in. */
static void keep_first_servers(struct audit *a, size_t room)
{
	if (a->servers.count <= room)
		return;
	qsort(a->servers.row, a->servers.count, sizeof(*a->servers.row), compare_servers);
	a->servers.count = MIN(a->servers.count, (size_t)LIMIT_PAGE_ROWS);
}

static int count_row(struct audit *a, sqlite3_stmt *statement)
{
	struct rows *last = &a->servers;
	const struct row *row;
	struct group_claim claim;
	int64_t app = query_column(statement, AUDIT_APP);
	/* it stays only if it is a server's */
	int r = rows_append(last, statement);

	if (r < 0)
		return r;
	row = &last->row[last->count - 1];
	claim = (struct group_claim){
		.app = app == ROW_NULL ? GROUP_NONE : app,
		.local = row->column[ROW_META] >> META_LOCAL_SHIFT & META_LOCAL_MASK,
		.port = (uint16_t)row->column[ROW_PORT],
		.protocol = field(row, META_PROTOCOL_SHIFT, META_PROTOCOL_MASK),
		.role = role_of(row),
		.opened = time_of(row, ROW_OPENED_USEC),
		.closed = time_of(row, ROW_CLOSED_USEC),
		.released = time_of(row, ROW_RELEASED_USEC),
		.life = field(row, META_SOURCE_SHIFT, META_SOURCE_MASK) != SOURCE_DESTROY,
		.address = row->raddr_size ? row->raddr : NULL,
		.address_size = row->raddr_size,
	};
	a->claims++;
	port_set_add(&a->on_port, claim.port);
	if (sqlite3_column_int(statement, AUDIT_NO_PROCESS) &&
		field(row, META_ATTRIBUTION_SHIFT, META_ATTRIBUTION_MASK) != ATTRIBUTION_KERNEL) {
		a->unattributed++;
		a->reason[reason_of(row)]++;
	}
	r = groups_add(&a->groups, &claim);
	if (!is_server(a, row)) {
		last->count--;
		return r;
	}
	a->server_count++;
	keep_first_servers(a, 2 * LIMIT_PAGE_ROWS);
	return r;
}

static int count_rolled(void *context, const struct rolled *row)
{
	struct audit *a = context;

	a->claims += row->claims;
	a->unattributed += row->unattributed;
	a->reason[REASON_END_ONLY] += row->end_only;
	a->reason[REASON_BEFORE] += row->preexisting;
	a->reason[REASON_NOT_LOOKED] += row->not_looked;
	a->reason[REASON_NO_HOLDER] +=
		row->unattributed - row->end_only - row->preexisting - row->not_looked;
	return groups_add_rolled(&a->groups, row);
}

/* The statement for all that comes from rows. */
static int prepare_rows(struct query *q, const struct question *question, const struct parts *parts,
	sqlite3_stmt **ret)
{
	char *sql;
	int r;

	if (parts_rolled(parts).until > 0)
		return rollup_beside(q, question, parts, ret);
	sql = sql_question(question, SQL_CREDITED);
	r = query_prepare(q, sql, ret);
	sqlite3_free(sql);
	if (r == 0)
		sql_bind_question(*ret, question, 0, WALL_FOREVER, &PLACE_START);
	return r;
}

static int count_rows(struct audit *a, struct query *q, const struct question *question,
	const struct parts *parts)
{
	_cleanup_(stmt_p) sqlite3_stmt *rows = NULL;
	int r = prepare_rows(q, question, parts, &rows);

	if (r < 0)
		return r;
	while ((r = query_step(rows)) == 1) {
		r = count_row(a, rows);
		if (r < 0)
			return r;
	}
	return r;
}

static int count_failure(void *context, const struct failure_counted *f)
{
	struct audit *a = context;
	const struct group_claim counted = {.app = f->app,
		.local = f->local,
		.port = f->port,
		.protocol = f->protocol,
		.opened = f->at};

	a->failures++;
	return groups_add_failure(&a->groups, &counted);
}

/* A failure has no role: who asks for one does not ask for failures. */
static int count_failures(struct audit *a, struct query *q, const struct question *question)
{
	if (question->filter.role >= 0)
		return 0;
	return query_failures_each(
		q, &question->filter, question->window, count_failure, a, &a->failures_watched);
}

static void bind_time(sqlite3_stmt *json, const char *name, usec_t t)
{
	if (t != USEC_UNSET)
		query_bind(json, name, (int64_t)t);
}

/* What the group is of. */
static void bind_identity(const struct groups *g, const struct group *p, sqlite3_stmt *json)
{
	query_bind(json, ":by", g->by);
	switch (g->by) {
	case AUDIT_BY_PROGRAM:
	case AUDIT_BY_UNIT:
	case AUDIT_BY_USER:
		query_bind(json, ":app", p->id);
		break;
	case AUDIT_BY_PORT:
		if (p->id >> 2 > 0)
			query_bind(json, ":port", p->id >> 2);
		query_bind_text(json, ":protocol", protocol_name((enum protocol)(p->id & 3)));
		break;
	case AUDIT_BY_HOUR:
		if (p->id != GROUP_NONE)
			query_bind(json, ":hour", p->id);
		break;
	case AUDIT_BY_NETNS:
		query_bind(json, ":netns", p->id);
		break;
	case AUDIT_BY_COUNT:
		break;
	}
}

static int append_slots(const struct groups *g, const struct group *p, struct buf *text)
{
	int r = buf_append_string(text, "[");

	for (size_t i = p->slot; r == 0 && i < p->slot + p->slot_count; i++)
		r = buf_append_format(text,
			"%s{\"from_usec\":%llu,\"until_usec\":%llu,\"claims\":%u}",
			i > p->slot ? "," : "", (unsigned long long)g->slot[i].from,
			(unsigned long long)(g->slot[i].from + g->slot_usec), g->slot[i].claims);
	if (r == 0)
		r = buf_append_string(text, "]");
	return r == 0 ? buf_put_u8(text, 0) : r;
}

static int append_group(
	const struct audit *a, const struct group *p, sqlite3_stmt *json, struct buf *out)
{
	const struct groups *g = &a->groups;
	_cleanup_(buf_done) struct buf slots = {0};
	const char *text;
	int r = append_slots(g, p, &slots);

	if (r < 0)
		return r;
	(void)sqlite3_reset(json);
	(void)sqlite3_clear_bindings(json);
	bind_identity(g, p, json);
	query_bind(json, ":claims", (int64_t)p->claims);
	query_bind(json, ":ports", (int64_t)p->ports);
	query_bind(json, ":remotes", (int64_t)p->remotes);
	if (a->failures_watched)
		query_bind(json, ":failures", (int64_t)p->failures);
	query_bind(json, ":first", (int64_t)p->first);
	query_bind(json, ":last", (int64_t)p->last);
	query_bind(json, ":new",
		p->id != GROUP_NONE && p->first_seen > 0 && p->first_seen >= g->window.from);
	query_bind(json, ":connected", (int64_t)p->roles[ROLE_CONNECTED]);
	query_bind(json, ":listening", (int64_t)p->roles[ROLE_LISTENING]);
	query_bind(json, ":bound", (int64_t)p->roles[ROLE_BOUND]);
	query_bind(json, ":accepted", (int64_t)p->roles[ROLE_ACCEPTED]);
	bind_time(json, ":shortest", p->shortest);
	bind_time(json, ":longest", p->longest);
	bind_time(json, ":busiest", p->busiest);
	query_bind_text(json, ":slots", (const char *)buf_bytes(&slots));
	query_bind(json, ":about", p->remotes_estimated);
	query_bind(json, ":roughly", p->lives_estimated);
	r = query_step(json);
	if (r < 0)
		return r;
	text = (const char *)sqlite3_column_text(json, 0);
	return text ? buf_append_string(out, text) : -ENOMEM;
}

/* The list of groups; *ret_omitted is how many of the last it has no room for. */
static int append_groups(
	const struct audit *a, struct query *q, struct buf *out, size_t *ret_omitted)
{
	const struct groups *g = &a->groups;
	_cleanup_(stmt_p) sqlite3_stmt *json = NULL;
	size_t start = buf_size(out), i;
	int r = query_prepare(q,
		"SELECT json_object('exe',iif(:by=0,a.exe,NULL),'comm',iif(:by=0,a.comm,NULL),"
		"'unit',iif(:by<=1,a.unit,NULL),'uid',iif(:by=0 OR :by=2,a.uid,NULL),'user',NULL,"
		"'claims',:claims,'ports',:ports,'remotes',:remotes,'failures',:failures,"
		"'first_usec',:first,'last_usec',:last,'new',json(iif(:new,'true','false')),"
		"'connected',:connected,'listening',:listening,'bound',:bound,'accepted',:accepted,"
		"'shortest_usec',:shortest,'longest_usec',:longest,'busiest_usec',:busiest,"
		"'slots',json(:slots),'port',:port,'protocol',:protocol,"
		"'netns',nullif(n.inode,0),'netns_name',n.name,'hour_usec',:hour,"
		"'remotes_estimated',json(iif(:about,'true','false')),"
		"'lives_estimated',json(iif(:roughly,'true','false')))"
		" FROM (SELECT 1) LEFT JOIN app a ON a.id=:app LEFT JOIN netns n ON n.id=:netns",
		&json);

	for (i = 0; r == 0 && i < g->count && buf_size(out) - start < LIMIT_AUDIT_BYTES; i++) {
		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_group(a, &g->group[i], json, out);
	}
	if (r == 0)
		*ret_omitted = g->count - i;
	return r;
}

static int append_reasons(const struct audit *a, struct buf *out)
{
	const char *between = "";
	int r = buf_append_string(out, ",\"reasons\":{");

	for (size_t i = 0; r == 0 && i < REASON_COUNT; i++) {
		if (a->reason[i] == 0)
			continue;
		r = buf_append_format(out, "%s\"%s\":%llu", between, reason_names[i],
			(unsigned long long)a->reason[i]);
		between = ",";
	}
	return r == 0 ? buf_append_string(out, "}") : r;
}

static int append_servers(struct audit *a, struct query *q, struct buf *out)
{
	size_t start = buf_size(out), i;
	int r = buf_append_string(out, ",\"servers\":[");

	keep_first_servers(a, 1);
	for (i = 0; r == 0 && i < a->servers.count && buf_size(out) - start < LIMIT_PAGE_BYTES;
		i++) {
		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = query_row_json(q, &a->servers.row[i], out);
	}
	return r == 0 ? buf_append_format(out, "],\"servers_omitted\":%llu",
				(unsigned long long)(a->server_count - i))
		      : r;
}

static int append_audit(struct audit *a, struct query *q, struct buf *out)
{
	size_t omitted = 0;
	int r = buf_append_string(out, "\"programs\":[");

	if (r == 0)
		r = append_groups(a, q, out, &omitted);
	if (r == 0)
		r = buf_append_format(out,
			"],\"claims\":%llu,\"ports\":%llu,\"unattributed\":%llu,\"omitted\":%zu",
			(unsigned long long)a->claims,
			(unsigned long long)port_set_size(&a->on_port),
			(unsigned long long)a->unattributed, omitted);
	if (r == 0)
		r = a->failures_watched ? buf_append_format(out, ",\"failures\":%llu",
						  (unsigned long long)a->failures)
					: buf_append_string(out, ",\"failures\":null");
	if (r == 0)
		r = append_reasons(a, out);
	return r == 0 ? append_servers(a, q, out) : r;
}

/* Sums have no ports of their own: those of a group are a set. */
static void unite_ports(struct audit *a)
{
	for (size_t i = 0; i < a->groups.count; i++)
		if (a->groups.group[i].distinct)
			port_set_unite(&a->on_port, &a->groups.group[i].distinct->ports);
}

static int count_parts(struct audit *a, struct query *q, const struct question *question,
	const struct parts *parts)
{
	bool rolled = parts_rolled(parts).until > 0;
	int r = rolled ? groups_expect_rolled(&a->groups, q) : 0;

	if (r == 0 && rolled)
		r = rollup_each(q, question, parts, count_rolled, a);
	if (r == 0)
		r = count_rows(a, q, question, parts);
	if (r == 0)
		r = count_failures(a, q, question);
	if (r == 0)
		r = groups_finish(&a->groups);
	unite_ports(a);
	return r;
}

static int audit_parts(struct query *q, const struct question *question, enum audit_by by,
	const struct parts *parts, struct buf *out)
{
	_cleanup_(audit_done) struct audit a = {.window = question->window};
	size_t before = buf_size(out);
	int r = groups_init(&a.groups, q, by, question->window);

	if (r == 0)
		r = count_parts(&a, q, question, parts);
	if (r == 0)
		r = append_audit(&a, q, out);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}

int query_audit(struct query *q, const struct question *question, enum audit_by by, struct buf *out,
	struct parts *ret_parts)
{
	struct parts parts;
	int r = rollup_parts(q, question, by, groups_slot(question->window), &parts);

	if (r == 0)
		r = audit_parts(q, question, by, &parts, out);
	if (r == -ENODATA || (r == -E2BIG && parts_rolled(&parts).until > 0)) {
		parts = (struct parts){.part = {{PART_ROWS, question->window}}, .count = 1};
		r = audit_parts(q, question, by, &parts, out);
	}
	if (r == 0 && ret_parts)
		*ret_parts = parts;
	return r;
}
