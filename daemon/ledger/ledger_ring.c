/* SPDX-License-Identifier: MIT */

/*
 * What the events' ring tells besides claims: how far it was read, what it could not tell, and what failed.
 *
 * The kernel's counts are of the whole life of the ring, and so is what is stored of them. What is new in a count is a gap
 * since the ring last told of itself, in the same transaction as the count: a loss is told once, whoever is killed when.
 *
 * Who held the port is asked when the failure is told, which is in the ring's order: the claims are then as they were.
 */

#include "daemon/ledger/ledger_claim.h"
#include "daemon/ledger/ledger_private.h"

#include "common/limits.h"

/* A count that was stored with an earlier ring says nothing of this one. */
static struct drained before(const struct ledger *l, const struct drained *d)
{
	usec_t since = MAX(l->drained.at, l->greeted_at);

	if (l->drained.ring.generation == d->ring.generation)
		return l->drained;
	return (struct drained){.at = MIN(since, d->at)};
}

static void tell_lost(
	struct ledger *l, usec_t from, usec_t until, const char *reason, uint64_t lost)
{
	l->stats.gaps++;
	l->stats.lost += lost;
	l->sink.gap(l->sink.context, ledger_wall(l, from), ledger_wall(l, until), reason, lost);
}

static uint64_t more(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

int ledger_apply_drained(struct ledger *l, const struct drained *d)
{
	const struct drained then = before(l, d);
	uint64_t lost = more(d->lost, then.lost), lost_ends = more(d->lost_ends, then.lost_ends);
	uint64_t left_out = more(d->failures_dropped, then.failures_dropped) + l->failing.left_out;
	usec_t from = MIN(then.at, d->at);

	if (d->ring.generation == 0 || d->at == USEC_UNSET)
		return -EBADMSG;
	if (lost > 0)
		tell_lost(l, from, d->at, "events-lost", lost);
	if (lost_ends > 0)
		tell_lost(l, from, d->at, "ends-lost", 0);
	if (left_out > 0)
		l->sink.failures_left_out(
			l->sink.context, ledger_wall(l, from), ledger_wall(l, d->at), left_out);
	l->stats.lost_ends += lost_ends;
	l->failing.left_out = 0;
	l->drained = *d;
	/* what was stored is never unsaid */
	l->drained.ring.position = MAX(d->ring.position, then.ring.position);
	l->drained.lost = MAX(d->lost, then.lost);
	l->drained.lost_ends = MAX(d->lost_ends, then.lost_ends);
	l->drained.failures_dropped = MAX(d->failures_dropped, then.failures_dropped);
	l->sink.drained(l->sink.context, &l->drained);
	return 0;
}

static bool is_any(const struct address *a)
{
	static const uint8_t zero[sizeof(a->bytes)];

	return memcmp(a->bytes, zero, address_size(a)) == 0;
}

/* Would a socket with one address be in the way of one with the other? :: is every address, of IPv4 as well. */
static bool overlap(const struct address *a, const struct address *b)
{
	if (a->family == b->family)
		return is_any(a) || is_any(b) || address_equal(a, b);
	return (a->family == FAMILY_IPV6 && is_any(a)) || (b->family == FAMILY_IPV6 && is_any(b));
}

/* MPTCP's ports are TCP's. */
static uint8_t port_space(uint8_t protocol)
{
	return protocol == PROTOCOL_MPTCP ? PROTOCOL_TCP : protocol;
}

static bool held(const struct claim *c, const struct failure *f)
{
	return c->local.port == f->local.port && c->netns == f->netns && c->opened_boot <= f->at &&
	       port_space(c->protocol) == port_space(f->protocol) &&
	       (c->local_unknown || overlap(&c->local.address, &f->local.address));
}

/*
 * Who is in the way most: who has the port open, before what may be left of a connection (until a sweep has looked, nobody
 * knows); a socket that has the port for itself, before a connection on it; then who had it first.
 */
static bool is_nearer(const struct claim *a, const struct claim *b)
{
	bool a_open = a->closed_boot == USEC_UNSET, b_open = b->closed_boot == USEC_UNSET;
	bool a_bound = a->role == ROLE_LISTENING || a->role == ROLE_BOUND;
	bool b_bound = b->role == ROLE_LISTENING || b->role == ROLE_BOUND;

	if (a_open != b_open)
		return a_open;
	if (a_bound != b_bound)
		return a_bound;
	return a->opened_boot < b->opened_boot;
}

static const struct claim *find_holder(const struct ledger *l, const struct failure *f)
{
	const struct claim *found = NULL;
	const struct entry *e;

	if (f->error != FAILURE_IN_USE || f->local.port == 0)
		return NULL;
	LIST_FOREACH(e, &l->ports[f->local.port % PORT_BUCKETS], by_port)
	if (held(&e->claim, f) && (!found || is_nearer(&e->claim, found)))
		found = &e->claim;
	return found;
}

/* One of so many a minute is recorded, whoever tries again and again. */
static bool is_one_too_many(struct failing *m, usec_t at)
{
	if (at < m->minute || at - m->minute >= USEC_PER_MINUTE) {
		m->minute = at;
		m->count = 0;
	}
	if (m->count < LIMIT_FAILURES_MINUTE) {
		m->count++;
		return false;
	}
	m->left_out++;
	return true;
}

int ledger_apply_failure(struct ledger *l, const struct failure *f)
{
	struct ledger_failure told = {.failure = f};
	const struct named *n = f->process != 0 ? ledger_find_named(l, f->process) : NULL;

	if (f->at == USEC_UNSET || (f->process != 0 && !n))
		return -EBADMSG;
	if (is_one_too_many(&l->failing, f->at))
		return 0;
	told.at_wall = ledger_wall(l, f->at);
	told.process = n ? n->process : NULL;
	told.holder = find_holder(l, f);
	l->sink.failed(l->sink.context, &told);
	return 0;
}
