/* SPDX-License-Identifier: MIT */

/*
 * Programs: when each was first and last seen, and what it did with ports in a window. A program is its file, or its name
 * where it has none: in how many units, for how many users and with how many process names it ran is said of it. What was ever
 * seen is in `known`, which retention leaves alone; what ran as what is in `app`, as long as there are claims of it.
 *
 * One look at these tables, in the order of names, then one walk over the claims of the window. What is kept is a program
 * each, and a count per port of it.
 */

#include "daemon/control/query_fold.h"
#include "daemon/control/query_ports.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#include "common/escape.h"

#define NAMES_MAX     8u   /* units, users and names told of one program */
#define PREFERRED_MAX 3u   /* ports */
#define KNOWN_NAME    256u /* characters that `known` keeps of a name */

struct favourite {
	uint16_t port;
	uint64_t claims;
};

struct program {
	char *name;         /* owned; exe, else comm */
	bool has_file;      /* it is an exe */
	int64_t known;      /* known.program; ROW_NULL: not there */
	usec_t first, last; /* wall; last: in the window, 0: it did nothing in it */
	usec_t stored_last; /* not before its last claim was closed, and at most a day after it; 0: not known */
	struct buf units, users, comms; /* JSON strings and numbers, with commas */
	unsigned unit_count, user_count, comm_count;
	uint32_t uid[NAMES_MAX];
	char *last_unit, *last_comm; /* owned; the latest of the lists, which come in order */
	uint64_t claims, ports, role[ROLE_COUNT];
	uint16_t low, high;
	struct favourite favourite[PREFERRED_MAX];
	UT_hash_handle hh;
};

struct app_of {
	int64_t app;
	struct program *program; /* NULL: of none */
	UT_hash_handle hh;
};

/* Hashed as bytes. */
struct port_key {
	uint64_t program, port; /* address, port */
};

struct port_count {
	struct port_key key;
	struct program *program;
	uint64_t claims;
	UT_hash_handle hh;
};

struct apps {
	struct window window;
	struct program *programs; /* owned */
	struct app_of *apps;      /* owned */
	struct port_count *ports; /* owned */
	sqlite3_stmt *name_of;    /* owned */
	usec_t now;               /* wall */
};

static void free_program(struct program *p)
{
	free(p->name);
	free(p->last_unit);
	free(p->last_comm);
	buf_done(&p->units);
	buf_done(&p->users);
	buf_done(&p->comms);
	free(p);
}

static void apps_done(struct apps *a)
{
	struct program *p, *p_next;
	struct app_of *o, *o_next;
	struct port_count *c, *c_next;

	HASH_ITER (hh, a->programs, p, p_next) {
		HASH_DELETE(hh, a->programs, p);
		free_program(p);
	}
	HASH_ITER (hh, a->apps, o, o_next) {
		HASH_DELETE(hh, a->apps, o);
		free(o);
	}
	HASH_ITER (hh, a->ports, c, c_next) {
		HASH_DELETE(hh, a->ports, c);
		free(c);
	}
	(void)sqlite3_finalize(a->name_of);
}

static int find_program(struct apps *a, const char *name, bool make, struct program **ret)
{
	struct program *p;

	HASH_FIND_STR(a->programs, name, p);
	*ret = p;
	if (p || !make)
		return 0;
	if (HASH_COUNT(a->programs) >= LIMIT_APPS)
		return -E2BIG;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->name = strdup(name);
	if (!p->name) {
		free(p);
		return -ENOMEM;
	}
	p->known = ROW_NULL;
	p->first = USEC_UNSET;
	p->low = UINT16_MAX;
	HASH_ADD_KEYPTR(hh, a->programs, p->name, strlen(p->name), p);
	if (!p->hh.tbl) {
		free_program(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

/* Adds a name that comes after those before it, or is the same as the last one. */
static int add_name(struct buf *list, unsigned *count, char **last, const char *name)
{
	int r;

	if (!name || (*last && streq(*last, name)))
		return 0;
	free(*last);
	*last = strdup(name);
	if (!*last)
		return -ENOMEM;
	if ((*count)++ >= NAMES_MAX)
		return 0;
	r = *count > 1 ? buf_append_string(list, ",") : 0;
	return r == 0 ? escape_json(list, name) : r;
}

static int add_user(struct program *p, int64_t uid)
{
	if (uid == ROW_NULL)
		return 0;
	for (unsigned i = 0; i < MIN(p->user_count, NAMES_MAX); i++)
		if (p->uid[i] == (uint32_t)uid)
			return 0;
	if (p->user_count >= NAMES_MAX) {
		p->user_count = NAMES_MAX + 1; /* more of them, and not how many */
		return 0;
	}
	p->uid[p->user_count] = (uint32_t)uid;
	return buf_append_format(&p->users, "%s%lld", p->user_count++ ? "," : "", (long long)uid);
}

/* What ran as what: rows come in the order of names, then of units or of the names of processes. */
static int read_apps(struct apps *a, struct query *q, const char *sql, bool units)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r = query_prepare(q, sql, &s);

	if (r < 0)
		return r;
	while ((r = query_step(s)) == 1) {
		const char *name = (const char *)sqlite3_column_text(s, 0);
		const char *entry = (const char *)sqlite3_column_text(s, 1);
		struct program *p = NULL;

		r = name ? find_program(a, name, true, &p) : -ENOMEM;
		if (r == 0 && units)
			r = add_name(&p->units, &p->unit_count, &p->last_unit, entry);
		else if (r == 0)
			r = add_name(&p->comms, &p->comm_count, &p->last_comm, entry);
		if (r == 0 && units)
			r = add_user(p, query_column(s, 2));
		if (r < 0)
			return r;
		p->has_file |= sqlite3_column_int(s, 3) != 0;
		p->first = MIN(p->first, (usec_t)sqlite3_column_int64(s, 4));
		p->stored_last = MAX(p->stored_last, (usec_t)sqlite3_column_int64(s, 5));
	}
	return r;
}

static int read_known(struct apps *a, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r = query_prepare(q,
		"SELECT name,program,first_seen_usec FROM known WHERE protocol=-1 AND name IS NOT NULL",
		&s);

	if (r < 0)
		return r;
	while ((r = query_step(s)) == 1) {
		const char *name = (const char *)sqlite3_column_text(s, 0);
		struct program *p = NULL;

		/* a name that was cut is no program's own */
		r = name ? find_program(a, name, strlen(name) < KNOWN_NAME, &p) : -ENOMEM;
		if (r < 0)
			return r;
		if (!p)
			continue;
		p->known = sqlite3_column_int64(s, 1);
		p->has_file |= *name == '/';
		p->first = MIN(p->first, (usec_t)sqlite3_column_int64(s, 2));
	}
	return r;
}

/* When the table of processes says that one was seen last is kept only as claims are sealed: what is open is there now, and
 * what is hot was there until its release. */
static int read_recent(struct apps *a, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r = query_prepare(q,
		"SELECT ifnull(a.exe,a.comm),max(c.at) FROM (SELECT process,:now AS at FROM claim_open"
		" UNION ALL SELECT process,opened_usec+dur FROM claim_hot) c"
		" JOIN process p ON p.id=c.process JOIN app a ON a.id=p.app GROUP BY 1",
		&s);

	if (r < 0)
		return r;
	query_bind(s, ":now", (int64_t)a->now);
	while ((r = query_step(s)) == 1) {
		const char *name = (const char *)sqlite3_column_text(s, 0);
		struct program *p = NULL;

		r = name ? find_program(a, name, false, &p) : 0;
		if (r < 0)
			return r;
		if (p)
			p->stored_last = MAX(p->stored_last, (usec_t)sqlite3_column_int64(s, 1));
	}
	return r;
}

#define WITH_LAST                                                                                  \
	" FROM app a LEFT JOIN (SELECT app,max(last_seen_usec) AS last FROM process GROUP BY app)" \
	" p ON p.app=a.id WHERE ifnull(a.exe,a.comm) IS NOT NULL"

static int read_programs(struct apps *a, struct query *q)
{
	int r = read_apps(a, q,
		"SELECT ifnull(a.exe,a.comm),a.unit,a.uid,a.exe IS NOT NULL,a.first_seen_usec,"
		"ifnull(p.last,0)" WITH_LAST " ORDER BY 1,2,3",
		true);

	if (r == 0)
		r = read_apps(a, q,
			"SELECT ifnull(a.exe,a.comm),a.comm,NULL,a.exe IS NOT NULL,a.first_seen_usec,"
			"0 FROM app a WHERE ifnull(a.exe,a.comm) IS NOT NULL"
			" ORDER BY 1,2",
			false);
	if (r == 0)
		r = read_recent(a, q);
	return r == 0 ? read_known(a, q) : r;
}

static int find_app(struct apps *a, int64_t app, struct program **ret)
{
	struct app_of *o;
	int r = 0;

	HASH_FIND(hh, a->apps, &app, sizeof(app), o);
	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o)
			return -ENOMEM;
		o->app = app;
		(void)sqlite3_reset(a->name_of);
		query_bind(a->name_of, ":app", app);
		r = query_step(a->name_of);
		if (r == 1 && sqlite3_column_text(a->name_of, 0))
			r = find_program(a, (const char *)sqlite3_column_text(a->name_of, 0), false,
				&o->program);
		if (r >= 0)
			HASH_ADD(hh, a->apps, app, sizeof(o->app), o);
		if (r < 0 || !o->hh.tbl) {
			free(o);
			return r < 0 ? r : -ENOMEM;
		}
	}
	*ret = o->program;
	return 0;
}

static int count_port(struct apps *a, struct program *p, uint16_t port)
{
	const struct port_key key = {(uint64_t)(uintptr_t)p, port};
	struct port_count *c;

	HASH_FIND(hh, a->ports, &key, sizeof(key), c);
	if (!c) {
		if (HASH_COUNT(a->ports) >= LIMIT_APP_PORTS)
			return -E2BIG;
		c = calloc(1, sizeof(*c));
		if (!c)
			return -ENOMEM;
		c->key = key;
		c->program = p;
		HASH_ADD(hh, a->ports, key, sizeof(c->key), c);
		if (!c->hh.tbl) {
			free(c);
			return -ENOMEM;
		}
		p->ports++;
	}
	c->claims++;
	return 0;
}

static int take_claim(void *context, const struct fold_row *row)
{
	struct apps *a = context;
	struct program *p = NULL;
	usec_t seen = MIN(row->closed, a->window.until); /* USEC_UNSET: it goes on */
	int r = row->app == ROW_NULL ? 0 : find_app(a, row->app, &p);

	if (r < 0 || !p)
		return r;
	p->claims++;
	p->role[row->role]++;
	p->low = p->low < row->port ? p->low : row->port;
	p->high = p->high > row->port ? p->high : row->port;
	p->last = MAX(p->last, seen);
	return count_port(a, p, row->port);
}

/* The ports that a program had most often, if more than once. */
static void find_favourites(struct apps *a)
{
	struct port_count *c, *next;

	HASH_ITER (hh, a->ports, c, next) {
		struct favourite pushed, f = {(uint16_t)c->key.port, c->claims};

		for (unsigned i = 0; i < PREFERRED_MAX && f.claims > 1; i++) {
			struct favourite *place = &c->program->favourite[i];

			if (place->claims > f.claims ||
				(place->claims == f.claims && place->port < f.port))
				continue;
			pushed = *place;
			*place = f;
			f = pushed;
		}
	}
}

static int by_claims(struct program *a, struct program *b)
{
	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return strcmp(a->name, b->name);
}

static bool is_new(const struct apps *a, const struct program *p)
{
	return p->first >= a->window.from && p->first < a->window.until;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The name asked for, as a process calls itself, too? */
static int is_called(struct query *q, const struct program *p, const char *name)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r;

	if (streq(p->name, name) || streq(last_part(p->name), name))
		return 1;
	r = query_prepare(q,
		"SELECT 1 FROM app WHERE ifnull(exe,'')=:program AND ifnull(comm,'')=:name LIMIT 1",
		&s);
	if (r < 0)
		return r;
	query_bind_text(s, ":name", name);
	query_bind_text(s, ":program", p->name);
	return query_step(s);
}

static int append_list(struct buf *out, const char *name, const struct buf *list, unsigned count)
{
	int r = buf_append_format(out, ",\"%s\":[", name);

	if (r == 0 && buf_size(list) > 0)
		r = buf_append(out, buf_bytes(list), buf_size(list));
	return r == 0 ? buf_append_format(
				out, "],\"%s_more\":%s", name, count > NAMES_MAX ? "true" : "false")
		      : r;
}

/* Where it ever listened, as it was announced. */
static int append_serves(struct query *q, const struct program *p, struct buf *out)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int count = 0, r = buf_append_string(out, ",\"serves\":[");

	if (r == 0)
		r = query_prepare(q,
			"SELECT protocol,port FROM known WHERE program=:program AND protocol BETWEEN 0 AND 3"
			" ORDER BY port,protocol",
			&s);
	if (r < 0)
		return r;
	query_bind(s, ":program", p->known);
	while ((r = query_step(s)) == 1) {
		r = buf_append_format(out, "%s{\"port\":%d,\"protocol\":\"%s\"}",
			count++ ? "," : "", sqlite3_column_int(s, 1),
			protocol_name((enum protocol)sqlite3_column_int(s, 0)));
		if (r < 0)
			return r;
	}
	return r == 0 ? buf_append_string(out, "]") : r;
}

static int append_preferred(const struct program *p, struct buf *out)
{
	int r = buf_append_string(out, ",\"preferred\":[");

	for (unsigned i = 0; i < PREFERRED_MAX && p->favourite[i].claims > 0 && r == 0; i++)
		r = buf_append_format(out, "%s{\"port\":%u,\"claims\":%llu}", i ? "," : "",
			p->favourite[i].port, (unsigned long long)p->favourite[i].claims);
	return r == 0 ? buf_append_string(out, "]") : r;
}

/* What is known of the last claim of a program that had none in the window: when it was at the latest. */
static usec_t last_before(const struct apps *a, const struct program *p)
{
	usec_t latest = MIN(p->stored_last, a->now);

	return p->stored_last == 0 || a->window.until < a->now ? latest
							       : MIN(latest, a->window.from);
}

static int append_usec(struct buf *out, const char *name, usec_t value)
{
	return value ? buf_append_format(out, ",\"%s\":%llu", name, (unsigned long long)value)
		     : buf_append_format(out, ",\"%s\":null", name);
}

static int append_numbers(const struct apps *a, const struct program *p, struct buf *out)
{
	int r = append_usec(out, "first_usec", p->first);

	if (r == 0)
		r = append_usec(out, "last_usec", p->last);
	if (r == 0)
		r = append_usec(out, "last_before_usec", p->last ? 0 : last_before(a, p));
	if (r == 0)
		r = buf_append_format(out,
			",\"new\":%s,\"claims\":%llu,\"ports\":%llu,\"connected\":%llu,"
			"\"listening\":%llu,\"bound\":%llu,\"accepted\":%llu,\"low\":",
			is_new(a, p) ? "true" : "false", (unsigned long long)p->claims,
			(unsigned long long)p->ports, (unsigned long long)p->role[ROLE_CONNECTED],
			(unsigned long long)p->role[ROLE_LISTENING],
			(unsigned long long)p->role[ROLE_BOUND],
			(unsigned long long)p->role[ROLE_ACCEPTED]);
	if (r < 0)
		return r;
	return p->claims > 0 ? buf_append_format(out, "%u,\"high\":%u", p->low, p->high)
			     : buf_append_string(out, "null,\"high\":null");
}

static int append_program(
	const struct apps *a, struct query *q, const struct program *p, struct buf *out)
{
	int r = buf_append_string(out, "{\"name\":");

	if (r == 0)
		r = escape_json(out, p->name);
	if (r == 0)
		r = buf_append_format(out, ",\"file\":%s", p->has_file ? "true" : "false");
	if (r == 0)
		r = append_numbers(a, p, out);
	if (r == 0)
		r = append_preferred(p, out);
	if (r == 0)
		r = append_serves(q, p, out);
	if (r == 0)
		r = append_list(out, "units", &p->units, p->unit_count);
	if (r == 0)
		r = append_list(out, "uids", &p->users, p->user_count);
	if (r == 0)
		r = append_list(out, "comms", &p->comms, p->comm_count);
	return r == 0 ? buf_append_string(out, "}") : r;
}

static int append_programs(
	struct apps *a, struct query *q, const char *name, bool only_new, struct buf *out)
{
	size_t start = buf_size(out), omitted = 0, told = 0;
	struct program *p, *next;
	int r = buf_append_string(out, "\"apps\":[");

	HASH_SORT(a->programs, by_claims);
	HASH_ITER (hh, a->programs, p, next) {
		int called = name ? is_called(q, p, name) : 1;

		if (r == 0 && called < 0)
			r = called;
		if (r < 0)
			return r;
		if (!called || (only_new && !is_new(a, p)))
			continue;
		if (buf_size(out) - start > LIMIT_AUDIT_BYTES) {
			omitted++;
			continue;
		}
		if (told++ > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_program(a, q, p, out);
	}
	return r == 0 ? buf_append_format(out, "],\"omitted\":%zu", omitted) : r;
}

int query_apps(struct query *q, const struct filter *filter, struct window window, const char *name,
	bool only_new, usec_t now, struct buf *out)
{
	_cleanup_(apps_done) struct apps a = {.window = window, .now = now};
	const struct question question = {.filter = *filter, .window = window, .rows = ROWS_ALL};
	size_t before = buf_size(out);
	int r = query_prepare(q, "SELECT ifnull(exe,comm) FROM app WHERE id=:app", &a.name_of);

	if (r == 0)
		r = read_programs(&a, q);
	if (r == 0)
		r = query_fold(q, &question, false, take_claim, &a);
	if (r == 0) {
		find_favourites(&a);
		r = append_programs(&a, q, name, only_new, out);
	}
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
