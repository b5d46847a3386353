/* SPDX-License-Identifier: MIT */

/*
 * A window may have more destinations than are remembered. Where there is no room for one, a quarter of them is dropped: those
 * with the fewest ports at once, and of these first the ones that have none now, which then have lost nothing but their past.
 * How many ports a dropped one can have had at once is kept as one number for all (`least`), and so is how many of its ports one
 * that comes back may still hold without our knowing (`floor`; it adds up where it is dropped again). So of whatever is not
 * remembered at the end, it is known that it never had more than `least`.
 */

#include "daemon/control/query_pressure.h"

#include <stdlib.h>

#define SHARE 4u /* a part of so many is dropped at once: each time all are looked at */

static uint64_t upper(const struct group *g)
{
	return g->floor + MAX(g->peak, g->used);
}

/* How many there are of each upper bound, of those that have no port now, and of those that have. */
struct census {
	uint32_t count[2][UINT16_MAX + 2];
};

static size_t class_of(const struct group *g)
{
	return (size_t)MIN(upper(g), (uint64_t)UINT16_MAX + 1);
}

/* Marks those up to a bound, until `wanted` are marked. Returns how many. */
static size_t mark(struct pressure *p, const struct census *c, bool active, size_t wanted)
{
	struct group *g, *next;
	size_t below = 0, bound = 0, marked = 0;

	while (bound <= UINT16_MAX && below + c->count[active][bound] < wanted)
		below += c->count[active][bound++];
	HASH_ITER (hh, p->groups, g, next) {
		if (!g->key.destination || (g->used > 0) != active || class_of(g) > bound)
			continue;
		if (marked == wanted)
			break;
		g->dropped = true;
		marked++;
		p->least = MAX(p->least, upper(g));
		if (active)
			p->floor = MAX(p->floor, upper(g));
	}
	return marked;
}

static void disown(struct pressure *p)
{
	struct pair *pair, *next;

	HASH_ITER (hh, p->pairs, pair, next) {
		if (!pair->group->dropped)
			continue;
		HASH_DELETE(hh, p->pairs, pair);
		pair->group = &p->crowd;
		pair->orphan = true;
	}
}

int pressure_make_room(struct pressure *p)
{
	struct census *c = calloc(1, sizeof(*c));
	struct group *g, *next;
	size_t wanted = LIMIT_PRESSURE_GROUPS / SHARE, idle, active = 0;

	if (!c)
		return -ENOMEM;
	HASH_ITER (hh, p->groups, g, next)
		if (g->key.destination)
			c->count[g->used > 0][class_of(g)]++;
	idle = mark(p, c, false, wanted);
	if (idle < wanted)
		active = mark(p, c, true, wanted - idle);
	free(c);
	if (idle + active == 0)
		return -E2BIG;
	if (active > 0)
		disown(p);
	HASH_ITER (hh, p->groups, g, next) {
		if (!g->dropped)
			continue;
		HASH_DELETE(hh, p->groups, g);
		free(g);
	}
	p->dropped += idle + active;
	return 0;
}

void pressure_clear(struct pressure *p)
{
	struct pair *pair, *next;

	for (size_t i = 0; i < p->ends; i++) {
		pair = p->heap[i].pair;
		if (pair->orphan && --pair->held == 0)
			free(pair);
	}
	p->ends = 0;
	HASH_ITER (hh, p->pairs, pair, next) {
		HASH_DELETE(hh, p->pairs, pair);
		free(pair);
	}
}
