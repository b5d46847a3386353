/* SPDX-License-Identifier: MIT */

/*
 * The rows of an audit come unsorted and are folded here, since letting SQLite group them would sort all of them: memory
 * that grows with the window. Who belongs together is asked once for all apps, and not per row: a program is (exe, comm,
 * unit, uid), which may be several rows of `app`, since that tells cgroups apart too.
 *
 * A program was first seen when its file was: `known` remembers that for longer than there are claims of it.
 */

#include "daemon/control/query_groups.h"

#include <stdlib.h>

/* Groups with sets: as many bytes as the pairs may have. */
#define DISTINCT_MAX                                                                               \
	(LIMIT_AUDIT_PAIRS * sizeof(struct group_entry) / sizeof(struct group_distinct))

/* Of an app or a local: its group. */
struct group_member {
	int64_t raw;  /* app.id or local.id */
	int64_t id;   /* the lowest of its group, or GROUP_NONE */
	int64_t rank; /* of the group's name */
	usec_t first_seen;
};

enum entry_kind {
	ENTRY_FREE = 0,
	ENTRY_RAW = 1,   /* `id` is a member's raw id, `value` the group's index */
	ENTRY_PORT = 2,  /* the group with index `id` was on `port` */
	ENTRY_IPV4 = 4,  /* ... had a remote with these bytes */
	ENTRY_GROUP = 5, /* `id` is a group's own, `value` its index */
	ENTRY_IPV6 = 16,
};

struct group_entry {
	int64_t id;
	uint32_t value;
	uint16_t port;
	uint8_t kind; /* enum entry_kind */
	uint8_t bytes[16];
};

/* Who belongs together, one behind the other: raw id, its own id (0: it is of no group), first seen; then what they have in common.
 * SQLite's window functions could number them, and took 1 ms for 200 programs. */
enum { MEMBER_RAW, MEMBER_ID, MEMBER_FIRST_SEEN, MEMBER_KEY };
/* Of an `app` of which nothing but its cgroup is known, an audit knows no more than of none at all. */
#define ANYBODY "ifnull(a.exe,a.comm) IS NOT NULL OR a.unit IS NOT NULL OR a.uid IS NOT NULL"
#define APPS_BY(key)                                                                               \
	"SELECT id,iif(" key " IS NULL,0,id),first_seen_usec," key " FROM app ORDER BY 4,1"
static const char *const members_sql[] = {
	[AUDIT_BY_PROGRAM] =
		"SELECT a.id,iif(" ANYBODY
		",a.id,0),min(a.first_seen_usec,ifnull(k.first_usec,a.first_seen_usec)),"
		"a.exe,a.comm,a.unit,a.uid FROM app a"
		" LEFT JOIN (SELECT name,min(first_seen_usec) AS first_usec FROM known WHERE protocol=-1"
		" GROUP BY name) k ON k.name=substr(ifnull(a.exe,a.comm),1,256) ORDER BY 4,5,6,7,1",
	[AUDIT_BY_UNIT] = APPS_BY("unit"),
	[AUDIT_BY_USER] = APPS_BY("uid"),
	[AUDIT_BY_PORT] = NULL,
	[AUDIT_BY_HOUR] = NULL,
	[AUDIT_BY_NETNS] = "SELECT l.id,n.id,0,n.inode,n.name,n.cookie FROM local l"
			   " JOIN netns n ON n.id=l.netns ORDER BY 4,5,6,2",
};

static int compare_members(const void *left, const void *right)
{
	const struct group_member *a = left, *b = right;

	return a->raw < b->raw ? -1 : a->raw > b->raw;
}

/* The columns from MEMBER_KEY on, as bytes that are equal where they are. */
static int read_key(sqlite3_stmt *s, struct buf *key)
{
	int r = 0;

	buf_truncate(key, 0);
	for (int i = MEMBER_KEY; r == 0 && i < sqlite3_column_count(s); i++) {
		r = buf_put_u8(key, (uint8_t)sqlite3_column_type(s, i));
		if (r == 0)
			r = buf_put_u64(key, (uint64_t)sqlite3_column_int64(s, i));
		if (r == 0 && sqlite3_column_type(s, i) == SQLITE_TEXT)
			r = buf_append(key, sqlite3_column_text(s, i),
				(size_t)sqlite3_column_bytes(s, i) + 1);
	}
	return r;
}

/* The first one of a group has the lowest id; who came before all others of it is known with the last. */
static void end_group(struct groups *g, size_t begin)
{
	usec_t first_seen = USEC_UNSET;

	for (size_t i = begin; i < g->members; i++)
		first_seen = MIN(first_seen, g->member[i].first_seen);
	for (size_t i = begin; i < g->members; i++)
		g->member[i].first_seen = first_seen;
}

static int add_member(struct groups *g, size_t *capacity, const struct group_member *member)
{
	if (g->members == *capacity) {
		struct group_member *more;

		*capacity = *capacity ? *capacity * 2 : 64;
		more = reallocarray(g->member, *capacity, sizeof(*more));
		if (!more)
			return -ENOMEM;
		g->member = more;
	}
	g->member[g->members++] = *member;
	return 0;
}

static int walk_members(struct groups *g, sqlite3_stmt *statement, struct buf key[static 2])
{
	size_t capacity = 0, begin = 0;
	struct group_member member = {0};
	int r;

	for (unsigned n = 0; (r = query_step(statement)) == 1; n++) {
		struct buf *now = &key[n % 2], *before = &key[(n + 1) % 2];

		r = read_key(statement, now);
		if (r < 0)
			return r;
		if (n == 0 || buf_size(now) != buf_size(before) ||
			memcmp(buf_bytes(now), buf_bytes(before), buf_size(now)) != 0) {
			end_group(g, begin);
			begin = g->members;
			member.id = sqlite3_column_int64(statement, MEMBER_ID);
			member.rank = member.id == GROUP_NONE ? 0 : member.rank + 1;
		}
		member.raw = sqlite3_column_int64(statement, MEMBER_RAW);
		member.first_seen = (usec_t)sqlite3_column_int64(statement, MEMBER_FIRST_SEEN);
		r = add_member(g, &capacity, &member);
		if (r < 0)
			return r;
	}
	end_group(g, begin);
	return r;
}

static int read_members(struct groups *g, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	struct buf key[2] = {{0}, {0}};
	int r;

	if (!members_sql[g->by])
		return 0;
	r = query_prepare(q, members_sql[g->by], &statement);
	if (r == 0)
		r = walk_members(g, statement, key);
	buf_done(&key[0]);
	buf_done(&key[1]);
	if (r == 0 && g->members > 0)
		qsort(g->member, g->members, sizeof(*g->member), compare_members);
	return r;
}

int groups_init(struct groups *g, struct query *q, enum audit_by by, struct window window)
{
	*g = (struct groups){
		.by = by,
		.window = window,
		.slot_usec = groups_slot(window),
	};
	return read_members(g, q);
}

int groups_expect_rolled(struct groups *g, struct query *q)
{
	g->rolled = true;
	return rollup_key(q, &g->key);
}

void groups_done(struct groups *g)
{
	for (size_t i = 0; i < g->count; i++) {
		free(g->group[i].distinct);
		free(g->group[i].slot);
	}
	free(g->group);
	free(g->member);
	free(g->entry);
}

static uint64_t mix(uint64_t h, uint64_t value)
{
	h = (h ^ value) * UINT64_C(0xbf58476d1ce4e5b9);
	return h ^ (h >> 31);
}

/* Who picks remotes that collide makes the audit slow, and it ends at the deadline. */
static uint64_t entry_hash(const struct group_entry *e)
{
	uint64_t half[2];

	memcpy(half, e->bytes, sizeof(half));
	return mix(mix(mix(mix(UINT64_C(0x9e3779b97f4a7c15), (uint64_t)e->id),
			       (uint64_t)e->port << 8 | e->kind),
			   half[0]),
		half[1]);
}

static bool entry_equal(const struct group_entry *a, const struct group_entry *b)
{
	return a->id == b->id && a->port == b->port && a->kind == b->kind &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Where the entry is, or would be. */
static struct group_entry *entry_find(
	struct group_entry *entries, size_t slots, const struct group_entry *e)
{
	size_t i = entry_hash(e) & (slots - 1);

	while (entries[i].kind != ENTRY_FREE && !entry_equal(&entries[i], e))
		i = (i + 1) & (slots - 1);
	return &entries[i];
}

static int entries_grow(struct groups *g)
{
	size_t slots = g->entry_slots ? g->entry_slots * 2 : 1024;
	struct group_entry *entries = calloc(slots, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < g->entry_slots; i++)
		if (g->entry[i].kind != ENTRY_FREE)
			*entry_find(entries, slots, &g->entry[i]) = g->entry[i];
	free(g->entry);
	g->entry = entries;
	g->entry_slots = slots;
	return 0;
}

/* The entry that is there, or was added: *ret_added. -E2BIG, -ENOMEM. */
static int entry_add(
	struct groups *g, const struct group_entry *e, struct group_entry **ret, bool *ret_added)
{
	int r;

	if (g->entries + g->slots >= LIMIT_AUDIT_PAIRS)
		return -E2BIG;
	if (g->entries * 4 >= g->entry_slots * 3) {
		r = entries_grow(g);
		if (r < 0)
			return r;
	}
	*ret = entry_find(g->entry, g->entry_slots, e);
	*ret_added = (*ret)->kind == ENTRY_FREE;
	if (*ret_added) {
		**ret = *e;
		g->entries++;
	}
	return 0;
}

/* Adds one to *count where the entry is new. */
static int count_new(struct groups *g, const struct group_entry *e, uint64_t *count)
{
	struct group_entry *found;
	bool added = false;
	int r = entry_add(g, e, &found, &added);

	if (r == 0)
		*count += added;
	return r;
}

/* The value of the entry with this id; false: there is none. */
static bool entry_value(const struct groups *g, int64_t id, enum entry_kind kind, size_t *ret)
{
	const struct group_entry wanted = {.id = id, .kind = (uint8_t)kind};
	const struct group_entry *found;

	if (g->entry_slots == 0)
		return false;
	found = entry_find(g->entry, g->entry_slots, &wanted);
	if (found->kind == ENTRY_FREE)
		return false;
	*ret = found->value;
	return true;
}

static int group_add(struct groups *g, const struct group_member *of, size_t *ret)
{
	const struct group_entry entry = {
		.id = of->id, .kind = ENTRY_GROUP, .value = (uint32_t)g->count};
	struct group_distinct *distinct = NULL;
	struct group_entry *found;
	bool added;
	int r;

	if (g->count == g->capacity) {
		size_t capacity = g->capacity ? g->capacity * 2 : 64;
		struct group *more = reallocarray(g->group, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		g->group = more;
		g->capacity = capacity;
	}
	if (g->rolled && g->count >= DISTINCT_MAX)
		return -E2BIG;
	r = entry_add(g, &entry, &found, &added);
	if (r == 0 && g->rolled) {
		distinct = calloc(1, sizeof(*distinct));
		r = distinct ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	g->group[g->count] = (struct group){
		.id = of->id,
		.distinct = distinct,
		.rank = (uint64_t)of->rank,
		.first_seen = of->first_seen,
		.first = USEC_UNSET,
		.shortest = USEC_UNSET,
		.longest = USEC_UNSET,
		.busiest = USEC_UNSET,
	};
	*ret = g->count++;
	return 0;
}

static usec_t slot_of(const struct groups *g, usec_t t)
{
	return t - t % g->slot_usec;
}

/* What the claim is counted for; where that needs no look at the members, `id` and `rank` are of the claim itself. */
static struct group_member member_of(const struct groups *g, const struct group_claim *c)
{
	struct group_member wanted = {0};
	const struct group_member *found;

	switch (g->by) {
	case AUDIT_BY_PORT:
		wanted.id = wanted.rank = (int64_t)c->port << 2 | c->protocol;
		return wanted;
	case AUDIT_BY_HOUR: /* what was there before has none */
		if (c->opened >= g->window.from)
			wanted.id = wanted.rank =
				(int64_t)slot_of(g, MIN(c->opened, g->window.until - 1));
		return wanted;
	case AUDIT_BY_NETNS:
		wanted.raw = c->local;
		break;
	case AUDIT_BY_PROGRAM:
	case AUDIT_BY_UNIT:
	case AUDIT_BY_USER:
		wanted.raw = c->app;
		break;
	case AUDIT_BY_COUNT:
		break;
	}
	if (g->members == 0)
		return wanted;
	found = bsearch(&wanted, g->member, g->members, sizeof(wanted), compare_members);
	return found ? *found : wanted;
}

/* The index of the group of this member; false: it is not known yet. */
static bool known_group(struct groups *g, int64_t raw, size_t *ret)
{
	struct group_recent *recent = &g->recent[(uint64_t)raw % GROUPS_RECENT];

	if (recent->group > 0 && recent->raw == raw) {
		*ret = recent->group - 1;
		return true;
	}
	if (!entry_value(g, raw, ENTRY_RAW, ret))
		return false;
	*recent = (struct group_recent){raw, (uint32_t)*ret + 1};
	return true;
}

/* The index of the group that the claim is of. */
static int group_of(struct groups *g, const struct group_claim *c, size_t *ret)
{
	bool of_app = g->by <= AUDIT_BY_USER, by_member = of_app || g->by == AUDIT_BY_NETNS, added;
	struct group_entry raw = {.id = of_app ? c->app : c->local, .kind = ENTRY_RAW}, *found;
	struct group_member of;
	int r = 0;

	if (by_member && known_group(g, raw.id, ret))
		return 0;
	of = member_of(g, c);
	if (!entry_value(g, of.id, ENTRY_GROUP, ret))
		r = group_add(g, &of, ret);
	if (r < 0 || !by_member)
		return r;
	raw.value = (uint32_t)*ret;
	return entry_add(g, &raw, &found, &added);
}

/* Where the slot is, or would be. Mostly it is the last one, or behind it: sums come in the order of time. */
static size_t place_of_slot(const struct group *p, usec_t from)
{
	size_t low = 0, high = p->slot_count;

	if (high == 0 || p->slot[high - 1].from <= from)
		return high > 0 && p->slot[high - 1].from == from ? high - 1 : high;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (p->slot[middle].from < from)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert_slot(struct groups *g, struct group *p, size_t at, usec_t from)
{
	if (g->entries + g->slots >= LIMIT_AUDIT_PAIRS)
		return -E2BIG;
	if (p->slot_count == p->slot_capacity) {
		size_t capacity = p->slot_capacity ? p->slot_capacity * 2 : 16;
		struct group_slot *more = reallocarray(p->slot, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		p->slot = more;
		p->slot_capacity = capacity;
	}
	memmove(&p->slot[at + 1], &p->slot[at], (p->slot_count - at) * sizeof(*p->slot));
	p->slot[at] = (struct group_slot){.from = from};
	p->slot_count++;
	g->slots++;
	return 0;
}

static int count_slot(struct groups *g, struct group *p, usec_t opened, uint64_t claims)
{
	usec_t from = slot_of(g, opened);
	size_t at;
	int r = 0;

	if (opened < g->window.from || opened >= g->window.until)
		return 0;
	at = place_of_slot(p, from);
	if (at == p->slot_count || p->slot[at].from != from)
		r = insert_slot(g, p, at, from);
	if (r == 0)
		p->slot[at].claims =
			(uint32_t)MIN(p->slot[at].claims + claims, (uint64_t)UINT32_MAX);
	return r;
}

/* Counts the port, the remote address and the slot, where they are new to the group. */
static int count_distinct(struct groups *g, size_t index, const struct group_claim *c)
{
	const struct group_entry port = {.id = (int64_t)index, .kind = ENTRY_PORT, .port = c->port};
	struct group_entry remote = {.id = (int64_t)index};
	struct group *p = &g->group[index];
	struct group_distinct *sets = p->distinct;
	int r;

	if (sets) {
		p->ports += !port_set_has(&sets->ports, c->port);
		port_set_add(&sets->ports, c->port);
		if (c->hashed)
			sketch_add(&sets->remotes, c->remote_hash);
		else if (c->address)
			sketch_add(&sets->remotes,
				siphash(&g->key, c->address, (size_t)c->address_size));
		return count_slot(g, p, c->opened, 1);
	}
	r = count_new(g, &port, &p->ports);
	if (r == 0 && c->address && (c->address_size == 4 || c->address_size == 16)) {
		remote.kind = c->address_size == 4 ? ENTRY_IPV4 : ENTRY_IPV6;
		memcpy(remote.bytes, c->address, (size_t)c->address_size);
		r = count_new(g, &remote, &p->remotes);
	}
	return r == 0 ? count_slot(g, p, c->opened, 1) : r;
}

int groups_add(struct groups *g, const struct group_claim *c)
{
	const struct window *w = &g->window;
	/* into the window: a claim may be in it by the earlier bound of its opening alone */
	usec_t opened = MAX(c->opened, w->from), released = MIN(c->released, w->until);
	usec_t closed = MIN(c->closed, w->until); /* USEC_UNSET is later than any */
	usec_t life = usec_sub(closed, c->opened);
	struct group *p;
	size_t index;
	int r = group_of(g, c, &index);

	if (r < 0)
		return r;
	p = &g->group[index];
	p->claims++;
	if (c->role >= 0 && c->role < ROLE_COUNT)
		p->roles[c->role]++;
	opened = MIN(opened, w->until);
	p->first = MIN(p->first, opened);
	p->last = MAX(p->last, released);
	if (c->life && c->closed <= w->until)
		p->shortest = MIN(p->shortest, life);
	if (c->life)
		p->longest = p->longest == USEC_UNSET ? life : MAX(p->longest, life);
	return count_distinct(g, index, c);
}

int groups_add_rolled(struct groups *g, const struct rolled *row)
{
	const struct group_claim of = {.app = row->app, .opened = row->start};
	struct group *p;
	size_t index;
	int r = group_of(g, &of, &index);

	if (r < 0)
		return r;
	p = &g->group[index];
	p->claims += row->claims;
	for (int i = 0; i < ROLE_COUNT; i++)
		p->roles[i] += row->roles[i];
	p->first = MIN(p->first, row->first);
	p->last = MAX(p->last, row->last);
	p->shortest = MIN(p->shortest, row->shortest);
	if (row->longest != USEC_UNSET)
		p->longest =
			p->longest == USEC_UNSET ? row->longest : MAX(p->longest, row->longest);
	p->lives_estimated |= row->lives.thinned;
	if (sketch_merge(&p->distinct->remotes, row->sets.remotes, row->sets.remotes_size) < 0)
		return -EUCLEAN;
	r = port_set_merge(&p->distinct->ports, row->sets.ports, row->sets.ports_size);
	if (r < 0)
		return -EUCLEAN;
	p->ports += (unsigned)r;
	return count_slot(g, p, row->start, row->claims);
}

int groups_add_failure(struct groups *g, const struct group_claim *failure)
{
	struct group *p;
	size_t index;
	int r = group_of(g, failure, &index);

	if (r < 0)
		return r;
	p = &g->group[index];
	p->failures++;
	p->first = MIN(p->first, failure->opened);
	p->last = MAX(p->last, failure->opened);
	return 0;
}

/* The slot with most openings, the first of these. */
static void find_busiest(struct group *p)
{
	uint32_t most = 0;

	for (size_t i = 0; i < p->slot_count; i++)
		if (p->slot[i].claims > most) {
			most = p->slot[i].claims;
			p->busiest = p->slot[i].from;
		}
}

static int compare_rank(const void *left, const void *right)
{
	const struct group *a = left, *b = right;

	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static int compare_claims(const void *left, const void *right)
{
	const struct group *a = left, *b = right;

	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return compare_rank(left, right);
}

void groups_finish(struct groups *g)
{
	for (size_t i = 0; i < g->count; i++) {
		struct group *p = &g->group[i];

		find_busiest(p);
		if (!p->distinct)
			continue;
		p->remotes = sketch_estimate(&p->distinct->remotes);
		p->remotes_estimated = p->distinct->remotes.count == SKETCH_MAX;
	}
	if (g->count > 0)
		qsort(g->group, g->count, sizeof(*g->group),
			g->by == AUDIT_BY_HOUR ? compare_rank : compare_claims);
}
