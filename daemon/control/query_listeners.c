/* SPDX-License-Identifier: MIT */

/*
 * Servers in the range of clients. Those that are there now are few and are read first; then the claims of their ports
 * are walked, a batch of ports at a time, for who else had them. Of a TCP server, a collision is a claim of its port by a
 * connection that its owner opened: where that was there first, the server could not have listened. A UDP socket is a
 * client or a server alike, so there it is a claim of another program.
 */

#include "daemon/control/query_fold.h"
#include "daemon/control/query_ports.h"

#include "daemon/schema.h"

struct server {
	struct row row; /* of its oldest socket */
	int64_t app;    /* ROW_NULL: not known */
	struct fold_place place;
	uint64_t sockets, tenures, collisions;
	usec_t collision;      /* opening of the last one, wall */
	int64_t collision_app; /* its program; ROW_NULL: not known */
};

struct servers {
	struct server *server; /* owned; in the order of ports */
	size_t count, omitted;
	size_t batch_from, batch_until; /* those whose ports are being walked */
	struct places *places;          /* owned */
	const struct kernel_ports *known;
	sqlite3_stmt *same_program, *app_of, *extra; /* owned */
};

static void servers_done(struct servers *s)
{
	free(s->server);
	s->places = places_free(s->places);
	(void)sqlite3_finalize(s->same_program);
	(void)sqlite3_finalize(s->app_of);
	(void)sqlite3_finalize(s->extra);
}

static unsigned protocol_of(const struct row *row)
{
	return (unsigned)(row->column[ROW_META] >> META_PROTOCOL_SHIFT) & META_PROTOCOL_MASK;
}

/* MPTCP's ports are TCP's. */
static unsigned ports_of(unsigned protocol)
{
	return protocol == PROTOCOL_MPTCP ? PROTOCOL_TCP : protocol;
}

static bool is_tcp(unsigned protocol)
{
	return ports_of(protocol) == PROTOCOL_TCP;
}

static int find_app(struct servers *s, int64_t process, int64_t *ret)
{
	int r;

	*ret = ROW_NULL;
	if (process == ROW_NULL)
		return 0;
	(void)sqlite3_reset(s->app_of);
	query_bind(s->app_of, ":process", process);
	r = query_step(s->app_of);
	if (r == 1)
		*ret = query_column(s->app_of, 0);
	return r < 0 ? r : 0;
}

/* Sockets of one program on one port are one server: its workers, IPv4 and IPv6. */
static struct server *find_server(struct servers *s, const struct server *wanted)
{
	for (size_t i = s->count; i-- > 0;) {
		struct server *known = &s->server[i];

		if (known->row.column[ROW_PORT] != wanted->row.column[ROW_PORT])
			break;
		if (protocol_of(&known->row) == protocol_of(&wanted->row) &&
			known->place.netns == wanted->place.netns && known->app == wanted->app)
			return known;
	}
	return NULL;
}

static int add_server(struct servers *s, const struct row *row)
{
	struct server server = {.row = *row, .sockets = 1, .collision_app = ROW_NULL};
	struct port_range range;
	struct server *known;
	int r = find_app(s, row->column[ROW_PROCESS], &server.app);

	if (r == 0)
		r = places_find(s->places,
			row->column[ROW_META] >> META_LOCAL_SHIFT & META_LOCAL_MASK, &server.place);
	if (r < 0)
		return r;
	range = place_range(&server.place, s->known);
	if (row->column[ROW_PORT] < range.low || row->column[ROW_PORT] > range.high)
		return 0;
	known = find_server(s, &server);
	if (!known && s->count == LIMIT_LISTENERS) {
		s->omitted++;
		return 0;
	}
	if (!known) {
		s->server[s->count++] = server;
		return 0;
	}
	known->sockets++;
	if (row->column[ROW_OPENED_USEC] < known->row.column[ROW_OPENED_USEC])
		known->row = *row;
	return 0;
}

#define IS_SERVER                                                                                  \
	" WHERE c.closed_usec IS NULL AND (c.meta" META_ROLE "=1 OR (c.meta" META_ROLE             \
	"=2 AND c.meta" META_PROTOCOL " IN (1,2) AND c.opened_usec<=:bound_before))"

static int read_servers(
	struct servers *s, struct query *q, const struct filter *filter, usec_t bound_before)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	char *sql = sql_tail(filter, ROWS_OPEN, IS_SERVER, " ORDER BY r.port,r.claim");
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(statement, filter);
	query_bind(statement, ":bound_before", (int64_t)bound_before);
	while ((r = query_step(statement)) == 1) {
		_cleanup_(rows_done) struct rows rows = {0};

		r = rows_append(&rows, statement);
		if (r == 0)
			r = add_server(s, &rows.row[0]);
		if (r < 0)
			return r;
	}
	return r;
}

/* 1: yes, 0: no. */
static int is_same_program(struct servers *s, int64_t a, int64_t b)
{
	int r;

	if (a == b || a == ROW_NULL || b == ROW_NULL)
		return a == b;
	(void)sqlite3_reset(s->same_program);
	query_bind(s->same_program, ":a", a);
	query_bind(s->same_program, ":b", b);
	r = query_step(s->same_program);
	return r == 1 ? sqlite3_column_int(s->same_program, 0) != 0 : r;
}

/* What a claim of the server's port was for it. */
static int weigh(struct servers *s, struct server *server, const struct fold_row *row)
{
	bool serves = row->role == (is_tcp(row->protocol) ? ROLE_LISTENING : ROLE_BOUND);
	bool collides = row->role == ROLE_CONNECTED;
	int same = is_same_program(s, server->app, row->app);

	if (same < 0)
		return same;
	if (serves && same)
		server->tenures++;
	if (!is_tcp(row->protocol))
		collides = !same && (collides || serves);
	if (!collides)
		return 0;
	server->collisions++;
	if (row->opened >= server->collision) {
		server->collision = row->opened;
		server->collision_app = row->app;
	}
	return 0;
}

static int take_claim(void *context, const struct fold_row *row)
{
	struct servers *s = context;

	for (size_t i = s->batch_from; i < s->batch_until; i++) {
		struct server *server = &s->server[i];
		struct fold_place place;
		int r;

		if (server->row.column[ROW_PORT] != row->port ||
			ports_of(protocol_of(&server->row)) != ports_of(row->protocol))
			continue;
		r = places_find(s->places, row->local, &place);
		if (r == 0 && place.netns == server->place.netns)
			r = weigh(s, server, row);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Walks the claims of the servers' ports. */
static int count_claims(struct servers *s, struct query *q, struct window window)
{
	int r = 0;

	while (r == 0 && s->batch_until < s->count) {
		struct question question = {
			.filter = FILTER_ANY, .window = window, .rows = ROWS_ALL};
		struct filter *f = &question.filter;
		size_t i = s->batch_from = s->batch_until;

		for (; i < s->count; i++) {
			uint16_t port = (uint16_t)s->server[i].row.column[ROW_PORT];

			if (f->port_count > 0 && f->ports[f->port_count - 1] == port)
				continue;
			if (f->port_count == LIMIT_FILTER_PORTS)
				break;
			f->ports[f->port_count++] = port;
		}
		s->batch_until = i;
		r = query_fold(q, &question, false, take_claim, s);
	}
	return r;
}

/* A claim's members, and what is said of the server. */
static int append_server(
	struct servers *s, struct query *q, const struct server *server, struct buf *out)
{
	uint16_t port = (uint16_t)server->row.column[ROW_PORT];
	/* another namespace has a list of its own */
	bool known = s->known->reserved && server->place.inode == s->known->netns;
	const char *text;
	int r = query_row_json(q, &server->row, out);

	if (r < 0)
		return r;
	buf_truncate(out, buf_size(out) - 1); /* the object goes on */
	(void)sqlite3_reset(s->extra);
	query_bind(s->extra, ":app", server->collision_app);
	r = query_step(s->extra);
	text = r == 1 ? (const char *)sqlite3_column_text(s->extra, 0) : NULL;
	if (!text)
		return r < 0 ? r : -ENOMEM;
	r = buf_append_format(out,
		",\"reserved\":%s,\"sockets\":%llu,\"tenures\":%llu,\"collisions\":%llu,\"collision_usec\":",
		!known ? "null" : (port_set_has(s->known->reserved, port) ? "true" : "false"),
		(unsigned long long)server->sockets, (unsigned long long)server->tenures,
		(unsigned long long)server->collisions);
	if (r == 0)
		r = server->collisions > 0
			    ? buf_append_format(out, "%llu", (unsigned long long)server->collision)
			    : buf_append_string(out, "null");
	return r == 0 ? buf_append_format(out, ",%s", text) : r;
}

static int prepare(struct servers *s, struct query *q)
{
	int r = places_new(q, &s->places);

	if (r == 0)
		r = query_prepare(q, "SELECT app FROM process WHERE id=:process", &s->app_of);
	if (r == 0)
		r = query_prepare(q,
			"SELECT ifnull(a.exe,a.comm) IS ifnull(b.exe,b.comm) FROM app a,app b"
			" WHERE a.id=:a AND b.id=:b",
			&s->same_program);
	if (r == 0) /* json_object() without its opening brace */
		r = query_prepare(q,
			"SELECT substr(json_object('collision_comm',a.comm,'collision_exe',a.exe,"
			"'collision_unit',a.unit),2) FROM (SELECT 1) LEFT JOIN app a ON a.id=:app",
			&s->extra);
	s->server = calloc(LIMIT_LISTENERS, sizeof(*s->server));
	return r == 0 && !s->server ? -ENOMEM : r;
}

int query_listeners(struct query *q, const struct filter *filter, usec_t bound_before,
	struct window window, const struct kernel_ports *known, struct buf *out)
{
	_cleanup_(servers_done) struct servers s = {.known = known};
	struct filter in_range = *filter;
	struct port_range hull = {0};
	size_t before = buf_size(out);
	int r = prepare(&s, q);

	if (r == 0)
		r = query_hull(q, known, &hull);
	if (filter->range.high == 0)
		in_range.range = hull;
	if (r == 0)
		r = read_servers(&s, q, &in_range, bound_before);
	if (r == 0)
		r = count_claims(&s, q, window);
	if (r == 0)
		r = buf_append_string(out, "\"listeners\":[");
	for (size_t i = 0; i < s.count && r == 0; i++) {
		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_server(&s, q, &s.server[i], out);
	}
	if (r == 0)
		r = buf_append_format(out, "],\"omitted\":%zu", s.omitted);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
