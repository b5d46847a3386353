/* SPDX-License-Identifier: MIT */

/*
 * Coalescing: a process that opens thousands of claims a second to the same remote end says the same thing thousands of times.
 * Of the claims that were opened in one second and are alike (process, remote end, role, and all else that `meta` says) more than
 * CoalesceAbove= become one row: how many, on which ports, from the first opening to the last release. When each of them was
 * there is not kept. What is kept for sums is the shortest and the longest life, and the sum of lives and of lingering.
 *
 * It is done where claims are sealed, on rows that are in memory and in order: the store never meets them one by one. The rollups
 * were made of them before, so these are exact. What says more than its like stays a row of its own: a claim with further holders,
 * one that listened, one that lasted a minute, and one that reaches from an hour into the next, since an audit looks at it by itself
 * (seal_marks.c).
 *
 * A second, since a row then says when to a second, and never crosses an hour or a day. See decision 0032.
 */

#include "daemon/ledger/seal.h"

#include "daemon/schema.h"

#define LIFE_MAX ((int64_t)SCHEMA_SERVER_USEC)
#define HOUR     ((int64_t)USEC_PER_HOUR)
#define SLOTS                                                                                      \
	4096u /* seconds that are told apart; those that share one are only looked at more closely */

/* An eligible row; those that are alike are next to each other, in the order of ports. */
struct member {
	struct hot *hot;
	uint64_t second;
};

static uint64_t second_of(const struct hot *h)
{
	return (uint64_t)h->opened / USEC_PER_SEC;
}

static bool is_eligible(const struct hot *h)
{
	bool listened = !(h->rest[REST_META] & META_ROLE_UNKNOWN) &&
			(h->rest[REST_META] >> META_ROLE_SHIFT & META_ROLE_MASK) == ROLE_LISTENING;

	return !h->is_long && !h->holders && !listened && h->rest[REST_PROCESS] != SEAL_NULL &&
	       h->rest[REST_DUR] >= 0 && h->rest[REST_DUR] < LIFE_MAX && h->released >= h->opened &&
	       (h->opened - hot_slack(h)) / HOUR == h->released / HOUR;
}

static int compare_like(const struct member *a, const struct member *b)
{
	const struct hot *x = a->hot, *y = b->hot;
	const int64_t keys[][2] = {{(int64_t)a->second, (int64_t)b->second},
		{x->rest[REST_PROCESS], y->rest[REST_PROCESS]},
		{x->rest[REST_META], y->rest[REST_META]},
		{x->rest[REST_RPORT], y->rest[REST_RPORT]}, {x->raddr_size, y->raddr_size}};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] < keys[i][1] ? -1 : 1;
	return memcmp(x->raddr, y->raddr, sizeof(x->raddr));
}

static int compare_members(const void *left, const void *right)
{
	const struct member *a = left, *b = right;
	int order = compare_like(a, b);

	return order != 0 ? order : a->hot->port < b->hot->port ? -1 : a->hot->port > b->hot->port;
}

/* What is said of them together. */
struct together {
	int64_t n, first, earliest, last, closed, released, shortest, longest, life, linger, slack;
};

static struct together add_up(const struct member members[], size_t count)
{
	struct together t = {.first = INT64_MAX,
		.earliest = INT64_MAX,
		.shortest = INT64_MAX,
		.n = (int64_t)count};

	for (size_t i = 0; i < count; i++) {
		const struct hot *h = members[i].hot;
		int64_t closed = h->opened + h->rest[REST_DUR];

		t.first = MIN(t.first, h->opened);
		t.earliest = MIN(t.earliest, h->opened - hot_slack(h));
		t.last = MAX(t.last, h->opened);
		t.closed = MAX(t.closed, closed);
		t.released = MAX(t.released, h->released);
		t.shortest = MIN(t.shortest, h->rest[REST_DUR]);
		t.longest = MAX(t.longest, h->rest[REST_DUR]);
		t.life += h->rest[REST_DUR];
		t.linger += h->released - closed;
	}
	/* exact where all are */
	t.slack = t.earliest < t.first ? (t.first - t.earliest + 999) / 1000 : SEAL_NULL;
	return t;
}

/* The port of each, big-endian, in their order: one that was claimed twice is there twice. NULL: no memory. */
static uint8_t *list_ports(const struct member members[], size_t count)
{
	uint8_t *ports = calloc(count, 2);

	for (size_t i = 0; ports && i < count; i++) {
		ports[2 * i] = (uint8_t)(members[i].hot->port >> 8);
		ports[2 * i + 1] = (uint8_t)members[i].hot->port;
	}
	return ports;
}

static void bind_known(struct binder *b, int64_t value)
{
	if (value == SEAL_NULL)
		bind_null(b);
	else
		bind_int(b, value);
}

static int write_row(struct store *s, int64_t segment, const struct member members[], size_t count)
{
	const struct together t = add_up(members, count);
	const struct hot *h = members[0].hot;
	_cleanup_(free_p) uint8_t *ports = list_ports(members, count);
	struct binder b = sql_bind(s, STATEMENT_COALESCED_ADD);
	const int64_t numbers[] = {segment, h->port, t.first, t.slack, t.closed, t.released,
		h->rest[REST_META] | META_COALESCED, h->rest[REST_RPORT], h->rest[REST_PROCESS],
		t.n, t.last - t.first, t.shortest, t.longest, t.life, t.linger};

	if (!ports)
		return -ENOMEM;
	for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
		bind_known(&b, numbers[i]);
	bind_blob(&b, h->raddr_size > 0 ? h->raddr : NULL, h->raddr_size);
	bind_blob(&b, ports, 2 * count);
	return sql_run(s, STATEMENT_COALESCED_ADD);
}

/* Those of seconds in which so many were opened. Mostly there are none, and nothing needs to be sorted. */
static int select_members(
	struct segment *g, uint64_t above, struct member **ret_members, size_t *ret_count)
{
	_cleanup_(free_p) uint32_t *opened = calloc(SLOTS, sizeof(*opened));
	_cleanup_(free_p) struct member *members = calloc((size_t)g->n, sizeof(*members));
	size_t count = 0;

	if (!opened || !members)
		return -ENOMEM;
	for (size_t i = 0; i < (size_t)g->n; i++)
		opened[second_of(&g->rows[i]) % SLOTS]++;
	for (size_t i = 0; i < (size_t)g->n; i++) {
		struct hot *h = &g->rows[i];
		uint64_t second = second_of(h);

		if (opened[second % SLOTS] > above && is_eligible(h))
			members[count++] = (struct member){h, second};
	}
	*ret_members = TAKE_PTR(members);
	*ret_count = count;
	return 0;
}

int coalesce(struct store *s, struct segment *g, size_t *ret_rows)
{
	_cleanup_(free_p) struct member *members = NULL;
	size_t count = 0, rows = 0;
	int r = 0;

	*ret_rows = 0;
	if ((uint64_t)g->n <= s->settings.coalesce_above)
		return 0;
	r = select_members(g, s->settings.coalesce_above, &members, &count);
	if (r < 0 || count == 0)
		return r;
	qsort(members, count, sizeof(*members), compare_members);
	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		for (end = i + 1; end < count && compare_like(&members[i], &members[end]) == 0;)
			end++;
		if (end - i <= MAX(s->settings.coalesce_above, UINT64_C(1)))
			continue;
		r = write_row(s, g->id, &members[i], end - i);
		for (size_t at = i; at < end; at++) {
			members[at].hot->coalesced = true;
			members[at].hot->light = (at - i) % COALESCED_OF_ROW != 0;
		}
		rows++;
	}
	*ret_rows = rows;
	return r;
}
