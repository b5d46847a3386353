/* SPDX-License-Identifier: MIT */

/*
 * Whole hours of a window, and days where hours are too many to be shown, are counted from the rollups; what they do not tell is read
 * from rows: what was opened before the first of these hours or after the last, what is not sealed yet, and what an audit looks at one
 * by one. So the sum is the same as that of all rows. Where rows have expired, the rollups are all that there is.
 *
 * rollup_parts() alone says what comes from where.
 */

#include "daemon/control/query_rollup.h"

#include "daemon/schema.h"

/* From when on the tables have all, and until when. */
struct kept {
	usec_t hours_from, days_from, days_until; /* rows */
	usec_t marked_from; /* of what was released before it there are no marks */
	usec_t expired;     /* claims released before it are pruned */
};

static const struct {
	const char *table;
	usec_t length;
} sources[] = {
	[PART_HOURS] = {"rollup_hour", USEC_PER_HOUR},
	[PART_DAYS] = {"rollup_day", USEC_PER_DAY},
};

static int read_kept(struct query *q, struct kept *ret)
{
	struct kept k = {0};
	const struct {
		const char *name;
		usec_t *value;
	} counters[] = {
		{"rollup_hours_from_usec", &k.hours_from},
		{"rollup_days_from_usec", &k.days_from},
		{"days_rolled_until_usec", &k.days_until},
		{"marked_from_usec", &k.marked_from},
		{"expired_until_usec", &k.expired},
	};
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r = query_prepare(q, "SELECT name,value FROM counter", &s);

	while (r >= 0 && (r = query_step(s)) == 1)
		for (size_t i = 0; i < ELEMENTSOF(counters); i++)
			if (streq_null((const char *)sqlite3_column_text(s, 0), counters[i].name))
				*counters[i].value =
					(usec_t)MAX(sqlite3_column_int64(s, 1), (sqlite3_int64)0);
	if (r < 0)
		return r;
	*ret = k;
	return 0;
}

int rollup_key(struct query *q, struct siphash_key *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r = query_first(q,
		"SELECT (SELECT value FROM counter WHERE name='known_key_0'),"
		"(SELECT value FROM counter WHERE name='known_key_1')",
		&s);

	if (r < 0)
		return r;
	ret->k[0] = (uint64_t)sqlite3_column_int64(s, 0);
	ret->k[1] = (uint64_t)sqlite3_column_int64(s, 1);
	return 0;
}

static usec_t round_up(usec_t t, usec_t length)
{
	return t % length ? t - t % length + length : t;
}

/* The whole stretches of this length in the window, as far as they are kept: empty where from is not before until. */
static struct window whole(struct window w, usec_t length, usec_t kept_from)
{
	return (struct window){
		round_up(MAX(w.from, kept_from), length), w.until - w.until % length};
}

/* Sums are of programs: neither of single ports or peers, nor of processes. */
static bool serves(const struct question *question, enum audit_by by)
{
	const struct filter *f = &question->filter;

	return question->rows & ROLLUPS && (by <= AUDIT_BY_USER || by == AUDIT_BY_HOUR) &&
	       f->port_count == 0 && !f->range.high && f->protocol < 0 && f->role < 0 &&
	       f->pid < 0 && f->peer_port < 0 && f->address.family == FAMILY_NONE &&
	       f->peer.family == FAMILY_NONE;
}

static void add_part(struct parts *p, enum part_from from, usec_t begin, usec_t end)
{
	if (begin < end)
		p->part[p->count++] = (struct part){from, {begin, end}};
}

struct window parts_rolled(const struct parts *parts)
{
	struct window w = {0, 0};

	for (unsigned i = 0; i < parts->count; i++)
		if (parts->part[i].from != PART_ROWS) {
			w.from = w.until ? w.from : parts->part[i].window.from;
			w.until = parts->part[i].window.until;
		}
	return w;
}

/* From when on rows have all that was opened. */
static usec_t find_apart(const struct parts *parts, usec_t expired)
{
	usec_t apart = parts_rolled(parts).from;

	for (unsigned i = 0; i < parts->count; i++) {
		const struct part *p = &parts->part[i];

		if (p->from != PART_ROWS && expired > p->window.from)
			apart = MIN(p->window.until, round_up(expired, sources[p->from].length));
	}
	return apart;
}

int rollup_parts(struct query *q, const struct question *question, enum audit_by by,
	usec_t slot_usec, struct parts *ret)
{
	struct window w = question->window, hours, days = {0};
	struct parts p = {0};
	struct kept kept;
	int r = read_kept(q, &kept);

	if (r < 0)
		return r;
	hours = whole(w, USEC_PER_HOUR, kept.hours_from);
	if (slot_usec == USEC_PER_DAY)
		days = whole((struct window){w.from, MIN(w.until, kept.days_until)}, USEC_PER_DAY,
			kept.days_from);
	if (days.from >= days.until)
		days = (struct window){hours.from, hours.from};
	else if (kept.hours_from > days.until)
		hours.until = days.until;
	hours.from = MIN(hours.from, days.from); /* days may be kept where hours are not */
	if (hours.until <= hours.from || w.from < kept.marked_from || !serves(question, by)) {
		*ret = (struct parts){.part = {{PART_ROWS, w}}, .count = 1};
		return 0;
	}
	add_part(&p, PART_ROWS, w.from, hours.from);
	add_part(&p, PART_HOURS, hours.from, days.from);
	add_part(&p, PART_DAYS, days.from, days.until);
	add_part(&p, PART_HOURS, days.until, hours.until);
	add_part(&p, PART_ROWS, hours.until, w.until);
	p.apart_from = find_apart(&p, kept.expired);
	*ret = p;
	return 0;
}

/* Columns of sql_rollup(). */
enum {
	ROLLED_START,
	ROLLED_APP,
	ROLLED_CLAIMS,
	ROLLED_ROLES,
	ROLLED_UNATTRIBUTED = ROLLED_ROLES + 4,
	ROLLED_FIRST,
	ROLLED_LAST,
	ROLLED_SETS,
};
_Static_assert(ROLE_CONNECTED == 0 && ROLE_LISTENING == 1 && ROLE_BOUND == 2 && ROLE_ACCEPTED == 3,
	"the order of columns");

static uint64_t count_at(sqlite3_stmt *s, int column)
{
	return (uint64_t)sqlite3_column_int64(s, column);
}

static int read_lives(usec_t until, struct rolled *row)
{
	int64_t shortest, longest;

	if (lives_read(row->sets.lives, row->sets.lives_size, &row->lives) < 0)
		return -EUCLEAN;
	lives_at(&row->lives, (int64_t)until, &shortest, &longest);
	row->shortest = shortest == INT64_MAX ? USEC_UNSET : (usec_t)shortest;
	row->longest = longest < 0 ? USEC_UNSET : (usec_t)longest;
	return 0;
}

static int read_rolled(sqlite3_stmt *s, usec_t until, struct rolled *row)
{
	row->start = (usec_t)sqlite3_column_int64(s, ROLLED_START);
	row->app = sqlite3_column_int64(s, ROLLED_APP);
	if (row->app < 0)
		return -ENODATA;
	row->claims = count_at(s, ROLLED_CLAIMS);
	for (int i = 0; i < 4; i++)
		row->roles[i] = count_at(s, ROLLED_ROLES + i);
	row->unattributed = count_at(s, ROLLED_UNATTRIBUTED);
	row->first = (usec_t)sqlite3_column_int64(s, ROLLED_FIRST);
	row->last = MIN((usec_t)sqlite3_column_int64(s, ROLLED_LAST), until);
	if (rollup_sets_read(sqlite3_column_blob(s, ROLLED_SETS),
		    (size_t)sqlite3_column_bytes(s, ROLLED_SETS), &row->sets) < 0)
		return -EUCLEAN;
	return read_lives(until, row);
}

static int each_of(struct query *q, const struct question *question, const struct part *part,
	usec_t apart_from, rolled_fn *take, void *context)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	char *sql = sql_rollup(&question->filter, sources[part->from].table);
	struct rolled row = {0};
	int r = query_prepare(q, sql, &s);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(s, &question->filter);
	query_bind(s, ":low", (int64_t)part->window.from);
	query_bind(s, ":high", (int64_t)part->window.until);
	query_bind(s, ":apart_from", (int64_t)apart_from);
	while ((r = query_step(s)) == 1) {
		r = read_rolled(s, question->window.until, &row);
		if (r == 0)
			r = take(context, &row);
		if (r < 0)
			return r;
	}
	return r;
}

int rollup_each(struct query *q, const struct question *question, const struct parts *parts,
	rolled_fn *take, void *context)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < parts->count; i++)
		if (parts->part[i].from != PART_ROWS)
			r = each_of(q, question, &parts->part[i], parts->apart_from, take, context);
	return r;
}

/* Is more of the window read from rows than what reaches over the ends of the sums? */
static struct sql_edges edges_of(const struct question *question, const struct parts *parts)
{
	struct window w = question->window, rolled = parts_rolled(parts);

	return (struct sql_edges){
		.before = (w.from < rolled.from), .after = (w.until > rolled.until)};
}

/* Prepares what is beside the sums; frees `sql`. */
static int prepare_beside(struct query *q, const struct question *question,
	const struct parts *parts, char *sql, sqlite3_stmt **ret)
{
	struct window rolled = parts_rolled(parts);
	int r = query_prepare(q, sql, ret);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_question(*ret, question, 0, WALL_FOREVER, &PLACE_START);
	query_bind(*ret, ":rolled_from", (int64_t)rolled.from);
	query_bind(*ret, ":rolled_until", (int64_t)rolled.until);
	query_bind(*ret, ":apart_from", (int64_t)parts->apart_from);
	return 0;
}

/* Columns of sql_marked(). */
enum {
	TOLD_PORT,
	TOLD_META,
	TOLD_OPENED,
	TOLD_CLOSED,
	TOLD_RELEASED,
	TOLD_APP,
	TOLD_UNATTRIBUTED,
	TOLD_REMOTE,
};

static struct marked read_marked(sqlite3_stmt *s)
{
	return (struct marked){
		.meta = sqlite3_column_int64(s, TOLD_META),
		.app = sqlite3_column_int64(s, TOLD_APP),
		.remote_hash = (uint64_t)sqlite3_column_int64(s, TOLD_REMOTE),
		.opened = (usec_t)sqlite3_column_int64(s, TOLD_OPENED),
		.closed = (usec_t)sqlite3_column_int64(s, TOLD_CLOSED),
		.released = (usec_t)sqlite3_column_int64(s, TOLD_RELEASED),
		.port = (uint16_t)sqlite3_column_int(s, TOLD_PORT),
		.unattributed = sqlite3_column_int(s, TOLD_UNATTRIBUTED),
		.has_remote = sqlite3_column_type(s, TOLD_REMOTE) != SQLITE_NULL,
	};
}

int rollup_marked(struct query *q, const struct question *question, const struct parts *parts,
	marked_fn *take, void *context)
{
	_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
	int r = prepare_beside(
		q, question, parts, sql_marked(&question->filter, edges_of(question, parts)), &s);

	if (r < 0)
		return r;
	while ((r = query_step(s)) == 1) {
		const struct marked claim = read_marked(s);

		r = take(context, &claim);
		if (r < 0)
			return r;
	}
	return r;
}

int rollup_beside(struct query *q, const struct question *question, const struct parts *parts,
	sqlite3_stmt **ret)
{
	return prepare_beside(
		q, question, parts, sql_beside_rollups(question, edges_of(question, parts)), ret);
}
