/* SPDX-License-Identifier: MIT */

/*
 * The audit: claims of a window, per program. A program is (exe, comm, unit, uid): that may be several rows of `app`,
 * which also tells cgroups apart, so it goes by the lowest of their ids.
 *
 * The rows come unsorted and are folded here, since letting SQLite group them would sort all of them: memory that
 * grows with the window. What is kept is one entry per distinct (program, port) and (program, remote), and of these
 * there is a limit.
 */

#include "daemon/control/query_internal.h"

#include <stdlib.h>

#define NO_APP 0 /* for claims of which not even a uid is known; row ids begin at 1 */

struct program {
	int64_t id; /* lowest app.id of its identity, or NO_APP */
	uint64_t claims, ports, remotes;
	usec_t first, last; /* wall, within the window */
	usec_t first_seen;  /* wall */
	uint64_t rank;      /* in the order of names */
};

enum entry_kind {
	ENTRY_FREE = 0,
	ENTRY_APP = 1,  /* `id` is an app.id, `program` its index */
	ENTRY_PORT = 2, /* the program with index `id` was on `port` */
	ENTRY_IPV4 = 4, /* ... had a remote with these bytes */
	ENTRY_IPV6 = 16,
};

struct entry {
	int64_t id;
	uint32_t program;
	uint16_t port;
	uint8_t kind; /* enum entry_kind */
	uint8_t raddr[16];
};

struct audit {
	struct window window;
	struct program *program; /* owned; in the order of first use */
	size_t count, capacity;
	/* owned; open addressing, the size is 0 or a power of two */
	struct entry *entry;
	size_t entries, entry_slots;
	uint8_t on_port[UINT16_MAX + 1];
	uint64_t claims, ports, unattributed;
	sqlite3_stmt *identity; /* owned: an app's program */
};

static void audit_done(struct audit *a)
{
	(void)sqlite3_finalize(a->identity);
	free(a->program);
	free(a->entry);
}

static uint64_t mix(uint64_t h, uint64_t value)
{
	h = (h ^ value) * UINT64_C(0xbf58476d1ce4e5b9);
	return h ^ (h >> 31);
}

/* Who picks remotes that collide makes the audit slow, and it ends at the deadline. */
static uint64_t entry_hash(const struct entry *e)
{
	uint64_t half[2];

	memcpy(half, e->raddr, sizeof(half));
	return mix(mix(mix(mix(UINT64_C(0x9e3779b97f4a7c15), (uint64_t)e->id),
			       (uint64_t)e->port << 8 | e->kind),
			   half[0]),
		half[1]);
}

static bool entry_equal(const struct entry *a, const struct entry *b)
{
	return a->id == b->id && a->port == b->port && a->kind == b->kind &&
	       memcmp(a->raddr, b->raddr, sizeof(a->raddr)) == 0;
}

/* Where the entry is, or would be. */
static struct entry *entry_find(struct entry *entries, size_t slots, const struct entry *e)
{
	size_t i = entry_hash(e) & (slots - 1);

	while (entries[i].kind != ENTRY_FREE && !entry_equal(&entries[i], e))
		i = (i + 1) & (slots - 1);
	return &entries[i];
}

static int entries_grow(struct audit *a)
{
	size_t slots = a->entry_slots ? a->entry_slots * 2 : 1024;
	struct entry *entries = calloc(slots, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < a->entry_slots; i++)
		if (a->entry[i].kind != ENTRY_FREE)
			*entry_find(entries, slots, &a->entry[i]) = a->entry[i];
	free(a->entry);
	a->entry = entries;
	a->entry_slots = slots;
	return 0;
}

/* 1: it is new; 0: it was there; -E2BIG, -ENOMEM. */
static int entry_add(struct audit *a, const struct entry *e)
{
	struct entry *found;
	int r;

	if (a->entries >= LIMIT_AUDIT_PAIRS)
		return -E2BIG;
	if (a->entries * 4 >= a->entry_slots * 3) {
		r = entries_grow(a);
		if (r < 0)
			return r;
	}
	found = entry_find(a->entry, a->entry_slots, e);
	if (found->kind != ENTRY_FREE)
		return 0;
	*found = *e;
	a->entries++;
	return 1;
}

/* The index of the program with this id; false: it has none yet. */
static bool program_known(const struct audit *a, int64_t app, size_t *ret)
{
	const struct entry wanted = {.id = app, .kind = ENTRY_APP};
	const struct entry *found;

	if (a->entry_slots == 0)
		return false;
	found = entry_find(a->entry, a->entry_slots, &wanted);
	if (found->kind == ENTRY_FREE)
		return false;
	*ret = found->program;
	return true;
}

static int program_add(struct audit *a, int64_t id, usec_t first_seen, size_t *ret)
{
	const struct entry entry = {.id = id, .kind = ENTRY_APP, .program = (uint32_t)a->count};
	int r;

	if (a->count == a->capacity) {
		size_t capacity = a->capacity ? a->capacity * 2 : 64;
		struct program *more = reallocarray(a->program, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		a->program = more;
		a->capacity = capacity;
	}
	r = entry_add(a, &entry);
	if (r < 0)
		return r;
	a->program[a->count] =
		(struct program){.id = id, .first = USEC_UNSET, .first_seen = first_seen};
	*ret = a->count++;
	return 0;
}

/* Which program an app is of, seen for the first time. */
static int program_identify(struct audit *a, int64_t app, size_t *ret)
{
	struct entry entry = {.id = app, .kind = ENTRY_APP};
	int64_t id = NO_APP;
	usec_t first_seen = 0;
	int r;

	if (app != NO_APP) {
		(void)sqlite3_reset(a->identity);
		query_bind(a->identity, ":app", app);
		r = query_step(a->identity);
		if (r < 0)
			return r;
		id = r == 1 ? sqlite3_column_int64(a->identity, 0) : app;
		first_seen = r == 1 ? (usec_t)sqlite3_column_int64(a->identity, 1) : 0;
	}
	if (!program_known(a, id, ret)) {
		r = program_add(a, id, first_seen, ret);
		if (r < 0)
			return r;
	}
	entry.program = (uint32_t)*ret;
	r = entry_add(a, &entry);
	return r < 0 ? r : 0;
}

/* Counts the port and the remote address of a row, where they are new to the program. */
static int count_distinct(struct audit *a, size_t index, sqlite3_stmt *row)
{
	struct entry port = {.id = (int64_t)index, .kind = ENTRY_PORT};
	struct entry remote = {.id = (int64_t)index};
	const void *address = sqlite3_column_blob(row, 2);
	int size = sqlite3_column_bytes(row, 2), r;

	port.port = (uint16_t)sqlite3_column_int(row, 1);
	a->ports += !a->on_port[port.port];
	a->on_port[port.port] = 1;
	r = entry_add(a, &port);
	if (r < 0)
		return r;
	a->program[index].ports += (unsigned)r;
	if (!address || (size != 4 && size != 16))
		return 0;
	remote.kind = size == 4 ? ENTRY_IPV4 : ENTRY_IPV6;
	memcpy(remote.raddr, address, (size_t)size);
	r = entry_add(a, &remote);
	if (r < 0)
		return r;
	a->program[index].remotes += (unsigned)r;
	return 0;
}

static int count_row(struct audit *a, sqlite3_stmt *row)
{
	int64_t app = query_column(row, 0), released = query_column(row, 4);
	usec_t opened = (usec_t)sqlite3_column_int64(row, 3);
	usec_t end = released == ROW_NULL ? a->window.until : (usec_t)released;
	struct program *p;
	size_t index;
	int r = 0;

	if (app == ROW_NULL)
		app = NO_APP;
	if (!program_known(a, app, &index))
		r = program_identify(a, app, &index);
	if (r < 0)
		return r;
	p = &a->program[index];
	p->claims++;
	/* into the window: a claim may be in it by the earlier bound of its opening alone */
	opened = MAX(opened, a->window.from);
	opened = MIN(opened, a->window.until);
	end = MIN(end, a->window.until);
	p->first = MIN(p->first, opened);
	p->last = MAX(p->last, end);
	a->claims++;
	a->unattributed += sqlite3_column_int(row, 5) != 0;
	return count_distinct(a, index, row);
}

static int count_rows(struct audit *a, struct query *q, const struct question *question)
{
	_cleanup_(stmt_p) sqlite3_stmt *rows = NULL;
	char *sql = sql_question(question, SQL_AUDIT);
	int r = query_prepare(q, sql, &rows);

	sqlite3_free(sql);
	if (r == 0) /* by app_identity, but for the last two */
		r = query_prepare(q,
			"SELECT min(b.id),min(b.first_seen_usec) FROM app a JOIN app b"
			" ON ifnull(b.exe,'')=ifnull(a.exe,'') AND ifnull(b.comm,'')=ifnull(a.comm,'')"
			" AND b.exe IS a.exe AND b.comm IS a.comm AND b.unit IS a.unit AND b.uid IS a.uid"
			" WHERE a.id=:app GROUP BY a.id",
			&a->identity);
	if (r < 0)
		return r;
	sql_bind_question(rows, question, 0, WALL_FOREVER, &PLACE_START);
	while ((r = query_step(rows)) == 1) {
		r = count_row(a, rows);
		if (r < 0)
			return r;
	}
	return r;
}

static int rank_programs(struct audit *a, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	uint64_t rank = 0;
	int r = query_prepare(q, "SELECT id FROM app ORDER BY exe,comm,unit,uid,id", &statement);

	if (r < 0)
		return r;
	while ((r = query_step(statement)) == 1) {
		int64_t id = sqlite3_column_int64(statement, 0);
		size_t index;

		rank++;
		if (program_known(a, id, &index) && a->program[index].id == id)
			a->program[index].rank = rank;
	}
	return r;
}

static int compare_programs(const void *left, const void *right)
{
	const struct program *a = left, *b = right;

	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static int append_program(
	const struct program *p, const struct audit *a, sqlite3_stmt *json, struct buf *out)
{
	const char *text;
	int r;

	(void)sqlite3_reset(json);
	query_bind(json, ":app", p->id);
	query_bind(json, ":claims", (int64_t)p->claims);
	query_bind(json, ":ports", (int64_t)p->ports);
	query_bind(json, ":remotes", (int64_t)p->remotes);
	query_bind(json, ":first", (int64_t)p->first);
	query_bind(json, ":last", (int64_t)p->last);
	query_bind(json, ":new", p->id != NO_APP && p->first_seen >= a->window.from);
	r = query_step(json);
	if (r < 0)
		return r;
	text = (const char *)sqlite3_column_text(json, 0);
	return text ? buf_append_string(out, text) : -ENOMEM;
}

/* The list of programs; *ret_omitted is how many of the last it has no room for. */
static int append_programs(
	const struct audit *a, struct query *q, struct buf *out, size_t *ret_omitted)
{
	_cleanup_(stmt_p) sqlite3_stmt *json = NULL;
	size_t start = buf_size(out), i;
	int r = query_prepare(q,
		"SELECT json_object('exe',a.exe,'comm',a.comm,'unit',a.unit,'uid',a.uid,'user',NULL,"
		"'claims',:claims,'ports',:ports,'remotes',:remotes,'failures',NULL,"
		"'first_usec',:first,'last_usec',:last,'new',json(iif(:new,'true','false')))"
		" FROM (SELECT 1) LEFT JOIN app a ON a.id=:app",
		&json);

	for (i = 0; r == 0 && i < a->count && buf_size(out) - start < LIMIT_AUDIT_BYTES; i++) {
		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_program(&a->program[i], a, json, out);
	}
	if (r == 0)
		*ret_omitted = a->count - i;
	return r;
}

int query_audit(struct query *q, const struct question *question, struct buf *out)
{
	_cleanup_(audit_done) struct audit a = {.window = question->window};
	size_t before = buf_size(out), omitted = 0;
	int r = count_rows(&a, q, question);

	if (r == 0)
		r = rank_programs(&a, q);
	if (r < 0)
		return r;
	if (a.count > 0)
		qsort(a.program, a.count, sizeof(*a.program), compare_programs);
	r = buf_append_string(out, "\"programs\":[");
	if (r == 0)
		r = append_programs(&a, q, out, &omitted);
	if (r == 0)
		r = buf_append_format(out,
			"],\"claims\":%llu,\"ports\":%llu,\"unattributed\":%llu,\"omitted\":%zu",
			(unsigned long long)a.claims, (unsigned long long)a.ports,
			(unsigned long long)a.unattributed, omitted);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
