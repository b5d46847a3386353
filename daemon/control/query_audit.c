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
	bool remotes_gone; /* rows have not all of their remote addresses */
	uint64_t failures;
};

static void audit_done(struct audit *a)
{
	groups_done(&a->groups);
	rows_done(&a->servers);
}

static int field(int64_t meta, int shift, int mask)
{
	return (int)(meta >> shift & mask);
}

static usec_t time_of(const struct row *row, enum row_column column)
{
	return row->column[column] == ROW_NULL ? USEC_UNSET : (usec_t)row->column[column];
}

static enum reason reason_of(int64_t meta)
{
	if (field(meta, META_SOURCE_SHIFT, META_SOURCE_MASK) == SOURCE_DESTROY)
		return REASON_END_ONLY;
	if (field(meta, META_PREEXISTING_SHIFT, 1))
		return REASON_BEFORE;
	return field(meta, META_ATTRIBUTION_SHIFT, META_ATTRIBUTION_MASK) == ATTRIBUTION_NONE
		       ? REASON_NOT_LOOKED
		       : REASON_NO_HOLDER;
}

static int role_of(int64_t meta)
{
	return meta & META_ROLE_UNKNOWN ? ROLE_UNKNOWN
					: field(meta, META_ROLE_SHIFT, META_ROLE_MASK);
}

/* Is it a server that came or went in the window? */
static bool is_server(const struct audit *a, const struct row *row)
{
	usec_t opened = time_of(row, ROW_OPENED_USEC), closed = time_of(row, ROW_CLOSED_USEC);
	int64_t meta = row->column[ROW_META];
	int protocol = field(meta, META_PROTOCOL_SHIFT, META_PROTOCOL_MASK), role = role_of(meta);
	bool udp = protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE;
	usec_t until = MIN(closed, a->window.until);
	bool came, went = closed < a->window.until && closed >= a->window.from;

	if (role != ROLE_LISTENING &&
		!(udp && role == ROLE_BOUND && usec_sub(until, opened) >= SCHEMA_SERVER_USEC))
		return false;
	came = !field(meta, META_PREEXISTING_SHIFT, 1) && opened >= a->window.from &&
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

static int count_claim(
	struct audit *a, const struct group_claim *claim, int64_t meta, bool unattributed)
{
	a->claims++;
	port_set_add(&a->on_port, claim->port);
	if (unattributed) {
		a->unattributed++;
		a->reason[reason_of(meta)]++;
	}
	return groups_add(&a->groups, claim);
}

static int count_row(struct audit *a, sqlite3_stmt *statement)
{
	struct rows *last = &a->servers;
	const struct row *row;
	struct group_claim claim;
	int64_t app = query_column(statement, AUDIT_APP), meta;
	/* it stays only if it is a server's */
	int r = rows_append(last, statement);

	if (r < 0)
		return r;
	row = &last->row[last->count - 1];
	meta = row->column[ROW_META];
	claim = (struct group_claim){
		.app = app == ROW_NULL ? GROUP_NONE : app,
		.local = meta >> META_LOCAL_SHIFT & META_LOCAL_MASK,
		.port = (uint16_t)row->column[ROW_PORT],
		.protocol = field(meta, META_PROTOCOL_SHIFT, META_PROTOCOL_MASK),
		.role = role_of(meta),
		.opened = time_of(row, ROW_OPENED_USEC),
		.closed = time_of(row, ROW_CLOSED_USEC),
		.released = time_of(row, ROW_RELEASED_USEC),
		.life = field(meta, META_SOURCE_SHIFT, META_SOURCE_MASK) != SOURCE_DESTROY,
		.address = row->raddr_size ? row->raddr : NULL,
		.address_size = row->raddr_size,
	};
	r = count_claim(a, &claim, meta,
		sqlite3_column_int(statement, AUDIT_NO_PROCESS) &&
			field(meta, META_ATTRIBUTION_SHIFT, META_ATTRIBUTION_MASK) !=
				ATTRIBUTION_KERNEL);
	if (!is_server(a, row)) {
		last->count--;
		return r;
	}
	a->server_count++;
	keep_first_servers(a, 2 * LIMIT_PAGE_ROWS);
	return r;
}

/* None of them is a server. */
static int count_marked(void *context, const struct marked *m)
{
	const struct group_claim claim = {
		.app = m->app,
		.port = m->port,
		.protocol = field(m->meta, META_PROTOCOL_SHIFT, META_PROTOCOL_MASK),
		.role = role_of(m->meta),
		.opened = m->opened,
		.closed = m->closed,
		.released = m->released,
		.life = field(m->meta, META_SOURCE_SHIFT, META_SOURCE_MASK) != SOURCE_DESTROY,
		.hashed = m->has_remote,
		.remote_hash = m->remote_hash,
	};

	return count_claim(context, &claim, m->meta, m->unattributed);
}

static int count_rolled(void *context, const struct rolled *row)
{
	const struct rollup_reasons *reasons = &row->sets.reasons;
	struct audit *a = context;

	a->claims += row->claims;
	a->unattributed += row->unattributed;
	a->reason[REASON_END_ONLY] += reasons->end_only;
	a->reason[REASON_BEFORE] += reasons->preexisting;
	a->reason[REASON_NOT_LOOKED] += reasons->not_looked;
	a->reason[REASON_NO_HOLDER] +=
		row->unattributed - reasons->end_only - reasons->preexisting - reasons->not_looked;
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

/* Its digits, at `to`; returns what is behind them. Many of them make an answer: printf() would be half its time. */
static char *put_digits(char *to, uint64_t number)
{
	static const char pairs[] =
		"00010203040506070809101112131415161718192021222324252627282930313233343536373839"
		"40414243444546474849505152535455565758596061626364656667686970717273747576777879"
		"8081828384858687888990919293949596979899";
	char digits[20];
	size_t at = sizeof(digits);

	for (; number >= 100; number /= 100) {
		at -= 2;
		memcpy(&digits[at], &pairs[2 * (number % 100)], 2);
	}
	digits[--at] = pairs[2 * number + 1];
	if (number >= 10)
		digits[--at] = pairs[2 * number];
	return mempcpy(to, &digits[at], sizeof(digits) - at);
}

/* ,"name":number, or null for what is not known. */
static int append_number(struct buf *out, const char *name, uint64_t number)
{
	char digits[20];
	int r = buf_append_string(out, name);

	if (r < 0 || number == USEC_UNSET)
		return r < 0 ? r : buf_append_string(out, "null");
	return buf_append(out, digits, (size_t)(put_digits(digits, number) - digits));
}

/* There are thousands of them. */
static int append_slot(const struct group_slot *slot, usec_t length, struct buf *out)
{
	static const char from[] = "{\"from_usec\":", until[] = ",\"until_usec\":",
			  claims[] = ",\"claims\":";
	char *begin = buf_reserve(out, sizeof(from) + sizeof(until) + sizeof(claims) + 3 * 20), *at;

	if (!begin)
		return -ENOMEM;
	at = put_digits(mempcpy(begin, from, sizeof(from) - 1), slot->from);
	at = put_digits(mempcpy(at, until, sizeof(until) - 1), slot->from + length);
	at = put_digits(mempcpy(at, claims, sizeof(claims) - 1), slot->claims);
	*at++ = '}';
	buf_grow(out, (size_t)(at - begin));
	return 0;
}

static int append_slots(const struct groups *g, const struct group *p, struct buf *out)
{
	int r = buf_append_string(out, ",\"slots\":[");

	for (size_t i = 0; r == 0 && i < p->slot_count; i++) {
		if (i > 0)
			r = buf_append(out, ",", 1);
		if (r == 0)
			r = append_slot(&p->slot[i], g->slot_usec, out);
	}
	return r == 0 ? buf_append_string(out, "]") : r;
}

struct number {
	const char *name;
	uint64_t value;
};

static int append_numbers(const struct number numbers[], size_t count, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = append_number(out, numbers[i].name, numbers[i].value);
	return r;
}

static int append_flag(struct buf *out, const char *name, bool flag)
{
	int r = buf_append_string(out, name);

	return r == 0 ? buf_append_string(out, flag ? "true" : "false") : r;
}

static int append_sums(const struct audit *a, const struct group *p, struct buf *out)
{
	const struct number counts[] = {
		{",\"claims\":", p->claims},
		{",\"ports\":", p->ports},
		{",\"remotes\":", p->remotes},
		{",\"failures\":", a->failures_watched ? p->failures : USEC_UNSET},
		{",\"first_usec\":", p->first},
		{",\"last_usec\":", p->last},
	};
	const struct number others[] = {
		{",\"connected\":", p->roles[ROLE_CONNECTED]},
		{",\"listening\":", p->roles[ROLE_LISTENING]},
		{",\"bound\":", p->roles[ROLE_BOUND]},
		{",\"accepted\":", p->roles[ROLE_ACCEPTED]},
		{",\"shortest_usec\":", p->shortest},
		{",\"longest_usec\":", p->longest},
		{",\"busiest_usec\":", p->busiest},
	};
	int r = append_numbers(counts, ELEMENTSOF(counts), out);

	if (r == 0)
		r = append_flag(out, ",\"new\":",
			p->id != GROUP_NONE && p->first_seen > 0 &&
				p->first_seen >= a->groups.window.from);
	if (r == 0)
		r = append_numbers(others, ELEMENTSOF(others), out);
	return r == 0 ? append_slots(&a->groups, p, out) : r;
}

/* `json` gives two objects of names, of which one begins the row and one ends it. */
static int append_group(
	const struct audit *a, const struct group *p, sqlite3_stmt *json, struct buf *out)
{
	const char *begin, *end;
	int r;

	(void)sqlite3_reset(json);
	(void)sqlite3_clear_bindings(json);
	bind_identity(&a->groups, p, json);
	r = query_step(json);
	if (r < 0)
		return r;
	begin = (const char *)sqlite3_column_text(json, 0);
	end = (const char *)sqlite3_column_text(json, 1);
	if (!begin || !end)
		return -ENOMEM;
	r = buf_append(out, begin, strlen(begin) - 1);
	if (r == 0)
		r = append_sums(a, p, out);
	if (r == 0)
		r = buf_append_string(out, ",");
	if (r == 0)
		r = buf_append(out, end + 1, strlen(end) - 2);
	if (r == 0)
		r = append_flag(
			out, ",\"remotes_estimated\":", p->remotes_estimated || a->remotes_gone);
	if (r == 0)
		r = append_flag(out, ",\"lives_estimated\":", p->lives_estimated);
	return r == 0 ? buf_append_string(out, "}") : r;
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
		"'unit',iif(:by<=1,a.unit,NULL),'uid',iif(:by=0 OR :by=2,a.uid,NULL),'user',NULL),"
		"json_object('port',:port,'protocol',:protocol,"
		"'netns',nullif(n.inode,0),'netns_name',n.name,'hour_usec',:hour)"
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
	if (r == 0 && rolled)
		r = rollup_marked(q, question, parts, count_marked, a);
	if (r == 0)
		r = count_rows(a, q, question, parts);
	if (r == 0)
		r = count_failures(a, q, question);
	if (r == 0)
		groups_finish(&a->groups);
	unite_ports(a);
	return r;
}

/* Are there rows of a time whose remote addresses are not whole? */
static int find_remotes(struct audit *a, struct query *q, const struct parts *parts)
{
	usec_t until;
	int r = query_remotes_until(q, &until);

	for (unsigned i = 0; r == 0 && i < parts->count; i++)
		a->remotes_gone |=
			parts->part[i].from == PART_ROWS && parts->part[i].window.from < until;
	return r;
}

static int audit_parts(struct query *q, const struct question *question, enum audit_by by,
	const struct parts *parts, struct buf *out)
{
	_cleanup_(audit_done) struct audit a = {.window = question->window};
	size_t before = buf_size(out);
	int r = groups_init(&a.groups, q, by, question->window);

	if (r == 0)
		r = find_remotes(&a, q, parts);
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
