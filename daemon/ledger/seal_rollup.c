/* SPDX-License-Identifier: MIT */

/*
 * Rollups: what each program opened in each hour and each day (of UTC), kept for longer than the claims. A claim is counted where
 * it was opened, once, in the transaction that seals it; that is where each claim passes exactly once, the long ones too. Claims
 * that are not sealed yet are in no rollup.
 *
 * An hour's row is written with each segment that has some of it. A day's is made of its hours, once, when it is over: to write it
 * each time as well cost 75 bytes a claim, half of it for one day (measured). What comes later, since it lasted for days, is added.
 *
 * Sums add up; distinct things do not, so the ports are a set (exact, common/port_set.h) and the remote addresses a sketch
 * (common/sketch.h), of hashes with the database's own key, which nobody can aim at.
 *
 * An audit's window may end before a claim does, and then counts its life up to there. So a row keeps of the lives that go on past
 * its end what decides, whatever the end of the window is (common/lives.h).
 *
 * A program is a row of `app`, credited as an audit does: a socket that PID 1 opened and passed on counts for who got it last.
 * Random names make programs without end: past LIMIT_ROLLUP_PROGRAMS of a segment they are counted as one.
 */

#include "daemon/ledger/store_private.h"

#include "common/rollup_sets.h"
#include "common/siphash.h"
#include "daemon/schema.h"

#define OTHERS       (-1) /* app of what is past the limit */
#define DAY          ((int64_t)USEC_PER_DAY)
#define DAYS_AT_ONCE 3u /* a segment seldom ends more than one */

enum { TABLE_HOUR, TABLE_DAY };

/* The two tables are alike. */
static const struct rollup_table {
	usec_t length;
	enum statement get, put;
} tables[] = {
	{USEC_PER_HOUR, STATEMENT_ROLLUP_HOUR_GET, STATEMENT_ROLLUP_HOUR_PUT},
	{USEC_PER_DAY, STATEMENT_ROLLUP_DAY_GET, STATEMENT_ROLLUP_DAY_PUT},
};

/* What a row is of. */
struct key {
	int64_t app, start, netns, apart;
};

/* A row of a table. */
struct sum {
	int64_t claims, roles[ROLE_COUNT], unattributed, first, last, shortest, longest;
	struct rollup_reasons reasons; /* of the unattributed */
	struct port_set ports;
	int64_t port_count;
	struct sketch remotes;
	struct lives lives; /* whose beginning was seen */
};

static size_t places_for(size_t count)
{
	size_t places = 64;

	while (places < 2 * count)
		places *= 2;
	return places;
}

/* ---- whose they are ---- */

/* Of one id another, as once looked up. */
struct known_id {
	int64_t id, app; /* id 0: nothing is here */
	bool has_pid;
};

/* A hash table. Ids are numbered one by one, so that they are a good hash of themselves. */
struct known_ids {
	struct known_id *known; /* owned */
	size_t places;          /* a power of two, more than there are ids */
};

static void known_ids_done(struct known_ids *k)
{
	free(k->known);
}

static int look_up(struct store *s, enum statement which, struct known_id *k)
{
	struct binder b = sql_bind(s, which);
	int r;

	bind_int(&b, k->id);
	r = sql_step(s, which);
	if (r <= 0)
		return r;
	k->app = sqlite3_column_int64(b.statement, 0);
	k->has_pid = sqlite3_column_type(b.statement, 1) != SQLITE_NULL;
	sql_reset(s, which);
	return 0;
}

static int know(struct store *s, enum statement which, struct known_ids *k, int64_t id,
	const struct known_id **ret)
{
	static const struct known_id none = {0};
	size_t at = (uint64_t)id & (k->places - 1);
	int r = 0;

	while (id != 0 && k->known[at].id != 0 && k->known[at].id != id)
		at = (at + 1) & (k->places - 1);
	if (id != 0 && k->known[at].id == 0) {
		k->known[at].id = id;
		r = look_up(s, which, &k->known[at]);
	}
	*ret = id != 0 ? &k->known[at] : &none;
	return r;
}

/* Whom PID 1 passed the socket to. */
static int credit(struct store *s, struct rollup_claim *c)
{
	struct binder b = sql_bind(s, STATEMENT_ROLLUP_CREDIT);
	int64_t process;
	int r;

	bind_int(&b, c->claim);
	bind_int(&b, c->process);
	r = sql_value(s, STATEMENT_ROLLUP_CREDIT, 0, &process);
	if (r < 0 || process == 0)
		return r;
	c->process = process;
	c->apart = true;
	return 0;
}

static int field(const struct rollup_claim *c, int shift, int mask)
{
	return (int)(c->meta >> shift & mask);
}

static int role_of(const struct rollup_claim *c)
{
	return c->meta & META_ROLE_UNKNOWN ? ROLE_UNKNOWN
					   : field(c, META_ROLE_SHIFT, META_ROLE_MASK);
}

/* As an audit has it, of a window that has all of it. */
static bool is_server(const struct rollup_claim *c)
{
	int protocol = field(c, META_PROTOCOL_SHIFT, META_PROTOCOL_MASK);

	return role_of(c) == ROLE_LISTENING ||
	       (role_of(c) == ROLE_BOUND &&
		       (protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE) &&
		       c->closed - c->opened >= SCHEMA_SERVER_USEC);
}

static int resolve_claim(struct store *s, struct known_ids *processes, struct known_ids *locals,
	struct rollup_claim *c)
{
	const struct known_id *opener, *local;
	int r = 0;

	c->apart = is_server(c);
	if (c->holders && c->process > 0)
		r = credit(s, c);
	if (r == 0)
		r = know(s, STATEMENT_ROLLUP_APP, processes, c->process, &opener);
	if (r == 0)
		r = know(s, STATEMENT_ROLLUP_NETNS, locals,
			c->meta >> META_LOCAL_SHIFT & META_LOCAL_MASK, &local);
	if (r < 0)
		return r;
	c->app = opener->app;
	c->unattributed = !opener->has_pid && field(c, META_ATTRIBUTION_SHIFT,
						      META_ATTRIBUTION_MASK) != ATTRIBUTION_KERNEL;
	c->netns = local->app;
	return 0;
}

/* Sets the app and the namespace of each claim. */
static int resolve(struct store *s, struct rollup_claim claims[], size_t count)
{
	size_t places = places_for(count);
	_cleanup_(known_ids_done) struct known_ids processes = {
		calloc(places, sizeof(struct known_id)), places};
	_cleanup_(known_ids_done) struct known_ids locals = {
		calloc(places, sizeof(struct known_id)), places};
	int r = processes.known && locals.known ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = resolve_claim(s, &processes, &locals, &claims[i]);
	return r;
}

/* ---- which row they are of ---- */

/* The claims of one row, as a chain. */
struct group {
	struct key key;
	uint32_t first; /* index, one more than it is */
};

struct groups {
	struct group *groups; /* owned; as many as there may be */
	uint32_t *
		next; /* owned; by claim, of the next in its chain: index, one more than it is; 0: none */
	uint32_t *table; /* owned; a hash table: index of a group, one more than it is; 0: none */
	size_t count, places; /* places: a power of two */
};

static void groups_done(struct groups *g)
{
	free(g->groups);
	free(g->next);
	free(g->table);
}

static int compare_keys(const struct key *a, const struct key *b)
{
	const int64_t keys[][2] = {
		{a->app, b->app}, {a->start, b->start}, {a->netns, b->netns}, {a->apart, b->apart}};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] < keys[i][1] ? -1 : 1;
	return 0;
}

static int compare_groups(const void *left, const void *right)
{
	const struct group *a = left, *b = right;

	return compare_keys(&a->key, &b->key);
}

/* In the order of the table's index: then who reads an hour finds its rows one behind the other, and not each by itself. */
static int compare_rows(const void *left, const void *right)
{
	const struct group *a = left, *b = right;

	if (a->key.start != b->key.start)
		return a->key.start < b->key.start ? -1 : 1;
	return compare_keys(&a->key, &b->key);
}

/* Mixes what it has: nobody outside chooses any of it. */
static size_t hash_of(const struct key *k)
{
	const uint64_t parts[] = {
		(uint64_t)k->app, (uint64_t)k->start, (uint64_t)k->netns, (uint64_t)k->apart};
	uint64_t hash = 0;

	for (size_t i = 0; i < ELEMENTSOF(parts); i++)
		hash = (hash ^ parts[i]) * UINT64_C(0x9e3779b97f4a7c15);
	return (size_t)(hash >> 32);
}

static void put_in_group(struct groups *g, const struct key *key, size_t claim)
{
	size_t at = hash_of(key) & (g->places - 1);
	struct group *group;

	while (g->table[at] != 0 && compare_keys(&g->groups[g->table[at] - 1].key, key) != 0)
		at = (at + 1) & (g->places - 1);
	if (g->table[at] == 0) {
		g->groups[g->count] = (struct group){.key = *key};
		g->table[at] = (uint32_t)++g->count;
	}
	group = &g->groups[g->table[at] - 1];
	g->next[claim] = group->first;
	group->first = (uint32_t)claim + 1;
}

/* Programs past the limit become one. The groups are in the order of programs; some may be of one row then. */
static void limit_programs(struct groups *g)
{
	size_t programs = 0;

	for (size_t i = 0, end; i < g->count; i = end) {
		int64_t app = g->groups[i].key.app;

		for (end = i; end < g->count && g->groups[end].key.app == app; end++)
			if (programs >= LIMIT_ROLLUP_PROGRAMS)
				g->groups[end].key.app = OTHERS;
		programs++;
	}
}

/* The rows that begin before `until`, in their order. 0 or -ENOMEM. */
static int group_claims(const struct rollup_claim claims[], size_t count, usec_t length,
	int64_t until, struct groups *ret)
{
	ret->places = places_for(count);
	ret->groups = calloc(count + 1, sizeof(*ret->groups));
	ret->next = calloc(count + 1, sizeof(*ret->next));
	ret->table = calloc(ret->places, sizeof(*ret->table));
	if (!ret->groups || !ret->next || !ret->table)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct rollup_claim *c = &claims[i];
		const struct key key = {
			.app = c->app,
			.start = c->opened - c->opened % (int64_t)length,
			.netns = c->netns,
			.apart = c->apart,
		};

		if (key.start < until)
			put_in_group(ret, &key, i);
	}
	qsort(ret->groups, ret->count, sizeof(*ret->groups), compare_groups);
	limit_programs(ret);
	qsort(ret->groups, ret->count, sizeof(*ret->groups), compare_rows);
	return 0;
}

/* ---- sums ---- */

/* In the order of an audit. */
static void count_reason(struct sum *sum, const struct rollup_claim *c)
{
	if (!c->unattributed)
		return;
	sum->unattributed++;
	if (field(c, META_SOURCE_SHIFT, META_SOURCE_MASK) == SOURCE_DESTROY)
		sum->reasons.end_only++;
	else if (field(c, META_PREEXISTING_SHIFT, 1))
		sum->reasons.preexisting++;
	else if (field(c, META_ATTRIBUTION_SHIFT, META_ATTRIBUTION_MASK) == ATTRIBUTION_NONE)
		sum->reasons.not_looked++;
}

/* To the row of a stretch that ends at `end`. */
static void add_claim(
	struct sum *sum, int64_t end, const struct rollup_claim *c, const struct siphash_key *key)
{
	int64_t life = c->closed - c->opened;

	sum->first = sum->claims ? MIN(sum->first, c->opened) : c->opened;
	sum->last = sum->claims ? MAX(sum->last, c->released) : c->released;
	sum->shortest = sum->claims ? MIN(sum->shortest, life) : life;
	sum->longest = sum->claims ? MAX(sum->longest, life) : life;
	sum->claims++;
	count_reason(sum, c);
	if (role_of(c) != ROLE_UNKNOWN)
		sum->roles[role_of(c)]++;
	if (field(c, META_SOURCE_SHIFT, META_SOURCE_MASK) != SOURCE_DESTROY)
		lives_add(&sum->lives, end, c->opened, c->closed);
	sum->port_count += !port_set_has(&sum->ports, c->port);
	port_set_add(&sum->ports, c->port);
	if (c->raddr_size > 0)
		sketch_add(&sum->remotes, siphash(key, c->raddr, c->raddr_size));
}

static void bind_key(struct binder *b, const struct key *k)
{
	bind_int(b, k->start);
	bind_int(b, k->app);
	bind_int(b, k->netns);
	bind_int(b, k->apart);
}

/* Columns of SQL_ROLLED, from sql.c. */
enum {
	ROLLED_CLAIMS,
	ROLLED_ROLES,
	ROLLED_UNATTRIBUTED = ROLLED_ROLES + ROLE_UNKNOWN, /* which has no column */
	ROLLED_FIRST,
	ROLLED_LAST,
	ROLLED_SHORTEST,
	ROLLED_LONGEST,
	ROLLED_SETS,
	ROLLED_APP,
	ROLLED_NETNS,
	ROLLED_APART,
};

static int add_sets(struct sum *sum, int64_t end, const void *data, size_t size)
{
	struct rollup_sets sets;
	struct lives lives;
	int added;

	if (rollup_sets_read(data, size, &sets) < 0)
		return -EUCLEAN;
	added = port_set_merge(&sum->ports, sets.ports, sets.ports_size);
	if (added < 0 || sketch_merge(&sum->remotes, sets.remotes, sets.remotes_size) < 0 ||
		lives_read(sets.lives, sets.lives_size, &lives) < 0)
		return -EUCLEAN;
	sum->port_count += added;
	lives_merge(&sum->lives, end, &lives);
	sum->reasons.end_only += sets.reasons.end_only;
	sum->reasons.preexisting += sets.reasons.preexisting;
	sum->reasons.not_looked += sets.reasons.not_looked;
	return 0;
}

/* To the row of a stretch that ends at `end`. */
static int add_row(struct sum *sum, int64_t end, sqlite3_stmt *row)
{
	bool first = sum->claims == 0;
	int r = add_sets(sum, end, sqlite3_column_blob(row, ROLLED_SETS),
		(size_t)sqlite3_column_bytes(row, ROLLED_SETS));

	if (r < 0)
		return r;
	sum->claims += sqlite3_column_int64(row, ROLLED_CLAIMS);
	for (int i = 0; i < ROLE_UNKNOWN; i++)
		sum->roles[i] += sqlite3_column_int64(row, ROLLED_ROLES + i);
	sum->unattributed += sqlite3_column_int64(row, ROLLED_UNATTRIBUTED);
	sum->first = MIN(first ? INT64_MAX : sum->first, sqlite3_column_int64(row, ROLLED_FIRST));
	sum->last = MAX(first ? INT64_MIN : sum->last, sqlite3_column_int64(row, ROLLED_LAST));
	sum->shortest =
		MIN(first ? INT64_MAX : sum->shortest, sqlite3_column_int64(row, ROLLED_SHORTEST));
	sum->longest =
		MAX(first ? INT64_MIN : sum->longest, sqlite3_column_int64(row, ROLLED_LONGEST));
	return 0;
}

/* Adds what the table has already. */
static int add_before(
	struct store *s, const struct rollup_table *t, const struct key *of, struct sum *sum)
{
	struct binder b = sql_bind(s, t->get);
	int r;

	bind_key(&b, of);
	r = sql_step(s, t->get);
	if (r <= 0)
		return r;
	r = add_row(sum, of->start + (int64_t)t->length, b.statement);
	sql_reset(s, t->get);
	return r;
}

static int put_row(
	struct store *s, const struct rollup_table *t, const struct key *of, const struct sum *sum)
{
	uint8_t sets[ROLLUP_SETS_BYTES];
	size_t size =
		rollup_sets_write(&sum->reasons, &sum->lives, &sum->remotes, &sum->ports, sets);
	const int64_t numbers[] = {sum->claims, sum->roles[ROLE_CONNECTED],
		sum->roles[ROLE_LISTENING], sum->roles[ROLE_BOUND], sum->roles[ROLE_ACCEPTED],
		sum->unattributed, sum->first, sum->last, sum->shortest, sum->longest,
		sum->port_count, (int64_t)sketch_estimate(&sum->remotes)};
	struct binder b = sql_bind(s, t->put);

	bind_key(&b, of);
	for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
		bind_int(&b, numbers[i]);
	bind_blob(&b, sets, size);
	return sql_run(s, t->put);
}

/* All claims of one row, which are of one group or more. Returns the first group that is of another. */
static size_t add_groups(const struct groups *g, size_t i, const struct rollup_table *t,
	const struct rollup_claim claims[], const struct siphash_key *key, struct sum *sum)
{
	const struct key *of = &g->groups[i].key;

	lives_init(&sum->lives);
	for (; i < g->count && compare_keys(of, &g->groups[i].key) == 0; i++)
		for (uint32_t c = g->groups[i].first; c != 0; c = g->next[c - 1])
			add_claim(sum, of->start + (int64_t)t->length, &claims[c - 1], key);
	return i;
}

/* Adds claims to the rows that begin before `until`. */
static int write_table(struct store *s, const struct rollup_table *t,
	const struct rollup_claim claims[], size_t count, int64_t until,
	const struct siphash_key *key)
{
	_cleanup_(groups_done) struct groups g = {0};
	int r = group_claims(claims, count, t->length, until, &g);

	for (size_t i = 0, end; r == 0 && i < g.count; i = end) {
		struct sum sum = {0};

		end = add_groups(&g, i, t, claims, key, &sum);
		r = add_before(s, t, &g.groups[i].key, &sum);
		if (r == 0)
			r = put_row(s, t, &g.groups[i].key, &sum);
	}
	return r;
}

/* ---- days ---- */

/* Makes the rows of a day of those of its hours. */
static int make_day(struct store *s, int64_t day)
{
	struct binder b = sql_bind(s, STATEMENT_ROLLUP_HOURS_OF_DAY);
	struct key of = {0};
	struct sum sum = {0};
	int r;

	lives_init(&sum.lives);
	bind_int(&b, day);
	while ((r = sql_step(s, STATEMENT_ROLLUP_HOURS_OF_DAY)) > 0) {
		const struct key next = {
			.start = day,
			.app = sqlite3_column_int64(b.statement, ROLLED_APP),
			.netns = sqlite3_column_int64(b.statement, ROLLED_NETNS),
			.apart = sqlite3_column_int64(b.statement, ROLLED_APART),
		};

		r = 0;
		if (sum.claims > 0 && compare_keys(&of, &next) != 0) {
			r = put_row(s, &tables[TABLE_DAY], &of, &sum);
			sum = (struct sum){0};
			lives_init(&sum.lives);
		}
		of = next;
		if (r == 0)
			r = add_row(&sum, day + DAY, b.statement);
		if (r < 0) {
			sql_reset(s, STATEMENT_ROLLUP_HOURS_OF_DAY);
			return r;
		}
	}
	return r == 0 && sum.claims > 0 ? put_row(s, &tables[TABLE_DAY], &of, &sum) : r;
}

/* Makes the days that are over: no short claim of them can come any more. *until is where the days that are made end. */
static int make_days(struct store *s, usec_t last_seen, int64_t *until)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < DAYS_AT_ONCE; i++) {
		struct binder b = sql_bind(s, STATEMENT_ROLLUP_HOUR_FROM);
		int64_t first;

		bind_int(&b, *until);
		r = sql_value(s, STATEMENT_ROLLUP_HOUR_FROM, INT64_MAX, &first);
		if (r < 0 || first == INT64_MAX)
			return r;
		first -= first % DAY;
		if (first + DAY + SCHEMA_LONG_USEC > (int64_t)last_seen)
			return 0;
		r = make_day(s, first);
		*until = first + DAY;
	}
	return r;
}

/* The first time, days begin with the one that the segment ends in; what is of before is added when it comes. */
static int read_days(struct store *s, usec_t last_seen, int64_t *ret)
{
	uint64_t until;
	int r = store_counter_get(
		s, COUNTER_DAYS_ROLLED, last_seen - last_seen % (usec_t)DAY, &until);

	if (r == 0)
		*ret = (int64_t)until;
	return r;
}

int rollup_days(struct store *s, usec_t seen)
{
	int64_t days = 0;
	int r = read_days(s, 0, &days);

	if (r < 0 || days == 0)
		return r;
	r = make_days(s, seen, &days);
	return r < 0 ? r : store_counter_set(s, COUNTER_DAYS_ROLLED, (uint64_t)days);
}

int rollup_hash_key(struct store *s, struct siphash_key *ret)
{
	int r = store_counter_get(s, COUNTER_KNOWN_KEY_0, 0, &ret->k[0]);

	return r == 0 ? store_counter_get(s, COUNTER_KNOWN_KEY_1, 0, &ret->k[1]) : r;
}

int rollup_add(struct store *s, struct rollup_claim claims[], size_t count, usec_t last_seen)
{
	struct siphash_key key;
	int64_t days = 0;
	int r = rollup_hash_key(s, &key);

	if (r == 0)
		r = resolve(s, claims, count);
	if (r == 0)
		r = read_days(s, last_seen, &days);
	if (r == 0)
		r = write_table(s, &tables[TABLE_HOUR], claims, count, INT64_MAX, &key);
	if (r == 0)
		r = write_table(s, &tables[TABLE_DAY], claims, count, days, &key);
	if (r == 0)
		r = make_days(s, last_seen, &days);
	return r < 0 ? r : store_counter_set(s, COUNTER_DAYS_ROLLED, (uint64_t)days);
}
