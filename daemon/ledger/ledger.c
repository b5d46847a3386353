/* SPDX-License-Identifier: MIT */

/*
 * One claim at most is open per socket cookie. Three things end it: the kernel's word (CLOSED), two whole sweeps
 * without it (ABSENT, and one more that does not show it), or the same socket seen on another port.
 *
 * A claim is unconfirmed while we know it from before (adopted from the store, or from before a RESYNC) and no
 * sighting of this round has shown it. Rounds are counted, so that a RESYNC touches no claim: the claims of an older
 * round are looked for once, when a whole sweep has passed.
 *
 * Everything is checked and allocated before the first change, so that a record that fails has changed nothing.
 * 50,000 open claims must cost little: an entry is one allocation, holders only where there are any, and the order
 * of opening is uthash's own, which lists its elements in the order of insertion.
 */

#include "daemon/ledger/ledger_private.h"

#include "common/stream.h"
#include "daemon/ledger/ledger_claim.h"

struct ledger *ledger_new(const struct ledger_sink *sink)
{
	struct ledger *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->sink = *sink;
	l->round = 1;
	TAILQ_INIT(&l->absent);
	for (size_t i = 0; i < PORT_BUCKETS; i++)
		LIST_INIT(&l->ports[i]);
	return l;
}

struct entry *ledger_entry_free(struct entry *e)
{
	claim_done(&e->claim);
	free(e);
	return NULL;
}

static struct named *named_free(struct named *n)
{
	process_unref(n->process);
	free(n);
	return NULL;
}

struct ledger *ledger_free(struct ledger *l)
{
	struct entry *e, *next_entry;
	struct named *n, *next_named;
	struct place *p, *next_place;

	if (!l)
		return NULL;
	HASH_ITER (hh, l->open, e, next_entry) {
		HASH_DEL(l->open, e);
		ledger_entry_free(e);
	}
	HASH_ITER (hh, l->names, n, next_named) {
		HASH_DEL(l->names, n);
		named_free(n);
	}
	HASH_ITER (hh, l->places, p, next_place) {
		HASH_DEL(l->places, p);
		free(p);
	}
	free(l);
	return NULL;
}

struct entry *ledger_find(const struct ledger *l, uint64_t cookie)
{
	struct entry *e;

	HASH_FIND(hh, l->open, &cookie, sizeof(cookie), e);
	return e;
}

struct named *ledger_find_named(const struct ledger *l, uint32_t ref)
{
	struct named *n;

	HASH_FIND(hh, l->names, &ref, sizeof(ref), n);
	return n;
}

struct entry *ledger_entry_new(void)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->absent_at = e->absent_after = e->expires = USEC_UNSET;
	return e;
}

int ledger_add(struct ledger *l, struct entry *e)
{
	HASH_ADD(hh, l->open, claim.cookie, sizeof(e->claim.cookie), e);
	if (!e->hh.tbl)
		return -ENOMEM;
	LIST_INSERT_HEAD(&l->ports[e->claim.local.port % PORT_BUCKETS], e, by_port);
	l->stats.unattributed += ledger_claim_unattributed(&e->claim);
	return 0;
}

void ledger_forget_absence(struct ledger *l, struct entry *e)
{
	if (e->absent_at == USEC_UNSET)
		return;
	TAILQ_REMOVE(&l->absent, e, absent);
	e->absent_at = e->absent_after = USEC_UNSET;
	e->absent_swept = false;
}

void ledger_release(struct ledger *l, struct entry *e, usec_t at)
{
	e->claim.released_boot = MAX(at, e->claim.closed_boot);
	ledger_forget_absence(l, e);
	l->stats.unattributed -= ledger_claim_unattributed(&e->claim);
	LIST_REMOVE(e, by_port);
	HASH_DEL(l->open, e);
	l->sink.released(l->sink.context, &e->claim);
	ledger_entry_free(e);
}

void ledger_end(struct ledger *l, struct entry *e, usec_t at, usec_t after)
{
	if (e->claim.closed_boot == USEC_UNSET)
		ledger_claim_close(&e->claim, at, after);
	else if (after != USEC_UNSET && e->expires > after && e->expires < at)
		at = e->expires;
	ledger_release(l, e, at);
}

usec_t ledger_wall(const struct ledger *l, usec_t boot)
{
	if (boot == USEC_UNSET)
		return USEC_UNSET;
	return boot >= l->clock.boot ? l->clock.wall + (boot - l->clock.boot)
				     : usec_sub(l->clock.wall, l->clock.boot - boot);
}

bool ledger_is_swept(const struct ledger *l, const struct claim *c)
{
	return l->swept == 0 || l->swept == c->netns;
}

usec_t ledger_known_alive(const struct ledger *l, const struct entry *e)
{
	usec_t since = ledger_claim_since(&e->claim);

	if (ledger_is_swept(l, &e->claim))
		return MAX(since, l->whole_begin);
	/* the ring would have told its end, if it has told all ends */
	return l->drained.lost_ends == 0 ? MAX(since, l->drained.at) : since;
}

static struct place *find_place(const struct ledger *l, uint64_t cookie)
{
	struct place *p;

	HASH_FIND(hh, l->places, &cookie, sizeof(cookie), p);
	return p;
}

struct port_range ledger_ephemeral(const struct ledger *l, uint64_t netns)
{
	const struct place *p = find_place(l, netns);

	return p ? p->ephemeral : (struct port_range){0};
}

uint64_t ledger_netns_inode(const struct ledger *l, uint64_t netns)
{
	const struct place *p = find_place(l, netns);

	return p ? p->inode : 0;
}

bool ledger_is_watched(const struct coverage *c, uint8_t protocol, uint16_t port)
{
	return (c->protocols >> protocol & 1) && port_ranges_contain(&c->ranges, port);
}

/* The other records */

static int apply_hello(struct ledger *l, const struct hello *h)
{
	if (l->greeted)
		return -EBADMSG;
	l->greeted = true;
	l->clock = h->at;
	if (l->clock_swept.boot == 0)
		l->clock_swept = h->at;
	l->greeted_at = h->at.boot;
	return 0;
}

/* Before it says how it watches, capture names the namespace that it is in: that is the one it sweeps. */
static int apply_netns(struct ledger *l, const struct netns *n)
{
	struct place *p = find_place(l, n->cookie);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->cookie = n->cookie;
		HASH_ADD(hh, l->places, cookie, sizeof(p->cookie), p);
		if (!p->hh.tbl) {
			free(p);
			return -ENOMEM;
		}
	}
	p->inode = n->inode;
	if (n->ephemeral.high != 0)
		p->ephemeral = n->ephemeral;
	if (l->coverage.ranges.count == 0)
		l->swept = n->cookie;
	l->sink.netns(l->sink.context, n);
	return 0;
}

/* After a RESYNC a process may be introduced again, but a ref never changes its process. */
static int apply_process(struct ledger *l, const struct process_entry *p)
{
	struct named *n = ledger_find_named(l, p->ref);

	if (p->ref == 0 || !p->process)
		return -EBADMSG;
	if (n)
		return n->process->pid == p->process->pid &&
				       n->process->start_boot == p->process->start_boot
			       ? 0
			       : -EBADMSG;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->ref = p->ref;
	n->process = process_ref(p->process);
	HASH_ADD(hh, l->names, ref, sizeof(n->ref), n);
	if (!n->hh.tbl) {
		named_free(n);
		return -ENOMEM;
	}
	return 0;
}

static int apply_forget(struct ledger *l, uint32_t ref)
{
	struct named *n = ledger_find_named(l, ref);

	if (!n)
		return -EBADMSG;
	HASH_DEL(l->names, n);
	named_free(n);
	return 0;
}

static int apply_gap(struct ledger *l, const struct gap *g)
{
	if (g->from > g->until || !g->reason)
		return -EBADMSG;
	l->stats.gaps++;
	if (g->lost != LOST_UNKNOWN)
		l->stats.lost += g->lost;
	l->sink.gap(l->sink.context, ledger_wall(l, g->from), ledger_wall(l, g->until), g->reason,
		g->lost);
	return 0;
}

int ledger_apply(struct ledger *l, const struct record *r)
{
	if (!l->greeted && r->type != RECORD_HELLO)
		return -EBADMSG;
	switch (r->type) {
	case RECORD_HELLO:
		return apply_hello(l, &r->hello);
	case RECORD_COVERAGE:
		ledger_apply_coverage(l, &r->coverage);
		return 0;
	case RECORD_NETNS:
		return apply_netns(l, &r->netns);
	case RECORD_PROCESS:
		return apply_process(l, &r->process);
	case RECORD_FORGET:
		return apply_forget(l, r->forget);
	case RECORD_SIGHTING:
		return ledger_apply_sighting(l, &r->sighting);
	case RECORD_SWEEP:
		return ledger_apply_sweep(l, &r->sweep);
	case RECORD_GAP:
		return apply_gap(l, &r->gap);
	case RECORD_RESYNC:
		l->round++;
		l->unconfirmed = true;
		return 0;
	case RECORD_DRAINED:
		return ledger_apply_drained(l, &r->drained);
	case RECORD_FAILURE:
		return ledger_apply_failure(l, &r->failure);
	case RECORD_SETTINGS:
	case RECORD_OBSTACLE:
	case RECORD_BARRIER:
	case RECORD_BYE:
	case RECORD_READY:
	case RECORD_KEPT:
	case RECORD_WAITS:
	case RECORD_SYNC:
	case RECORD_COMMITTED:
	case RECORD_FOLLOW:
		break;
	}
	return -EINVAL;
}

int ledger_adopt(struct ledger *l, struct claim *claim, usec_t last_seen_boot)
{
	struct entry *old = ledger_find(l, claim->cookie);
	struct entry *e;
	int r;

	if (old && l->ring_again)
		return -EEXIST;
	e = ledger_entry_new();
	if (!e)
		return -ENOMEM;
	e->claim = *claim;
	e->told_at = last_seen_boot;
	e->adopted = e->known_before = true;
	e->closed_told = claim->source == SOURCE_EVENTS && claim->closed_boot != USEC_UNSET &&
			 claim->closed_after_boot == USEC_UNSET;
	r = ledger_add(l, e);
	if (r < 0) {
		free(e);
		return r;
	}
	if (old)
		ledger_end(l, old, e->claim.opened_boot, ledger_claim_since(&old->claim));
	l->unconfirmed = true;
	*claim = (struct claim){0};
	return 0;
}

void ledger_watched_until(struct ledger *l, struct now last_seen, const struct coverage *how)
{
	l->watched_until = last_seen.boot;
	l->clock_swept = last_seen;
	l->earlier = *how;
}

void ledger_ring_before(struct ledger *l, const struct drained *stored, bool again, bool goes_on)
{
	l->drained = *stored;
	l->ring_again = again;
	l->ring_goes_on = goes_on;
}

int ledger_each(struct ledger *l, int (*visit)(void *context, struct claim *claim), void *context)
{
	struct entry *e, *next;
	int r;

	HASH_ITER (hh, l->open, e, next) {
		r = visit(context, &e->claim);
		if (r != 0)
			return r;
	}
	return 0;
}

struct ledger_stats ledger_stats(const struct ledger *l)
{
	struct ledger_stats stats = l->stats;

	stats.open_claims = HASH_COUNT(l->open);
	stats.absent = !TAILQ_EMPTY(&l->absent);
	return stats;
}
