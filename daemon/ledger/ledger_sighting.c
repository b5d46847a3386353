/* SPDX-License-Identifier: MIT */

/* What a sighting does: a claim opens, goes on, is on another port, or ends. */

#include "daemon/ledger/ledger_claim.h"
#include "daemon/ledger/ledger_private.h"

/* Resolves the refs of a sighting. 0 or -EBADMSG. */
static int resolve(const struct ledger *l, const struct sighting *s, struct seen *ret)
{
	const struct named *n;

	*ret = (struct seen){.sighting = s};
	if (s->opener != 0) {
		n = ledger_find_named(l, s->opener);
		if (!n)
			return -EBADMSG;
		ret->opener = n->process;
	}
	if (s->holder_count > LIMIT_HOLDERS)
		return -EBADMSG;
	for (uint32_t i = 0; i < s->holder_count; i++) {
		n = ledger_find_named(l, s->holders[i]);
		if (!n)
			return -EBADMSG;
		ret->holders[i] = n->process;
	}
	return 0;
}

/* Until when an earlier session would have seen this one; 0: it would not have. */
static usec_t watched_until(const struct ledger *l, const struct sighting *s)
{
	bool same = l->earlier.rung == l->coverage.rung &&
		    ledger_is_watched(&l->earlier, s->protocol, s->local.port) &&
		    (s->role != ROLE_ACCEPTED || l->earlier.accepted);

	return same ? l->watched_until : 0;
}

/* Puts the claim that a first sighting shows into the ledger, without telling the sink. */
static int add_claim(struct ledger *l, const struct seen *seen, struct entry **ret)
{
	const struct sighting *s = seen->sighting;
	struct entry *e = ledger_entry_new();
	int r;

	if (!e)
		return -ENOMEM;
	r = ledger_claim_open(&e->claim, seen, ledger_wall(l, s->at), watched_until(l, s));
	if (r == 0)
		r = ledger_add(l, e);
	if (r < 0) {
		ledger_entry_free(e);
		return r;
	}
	e->expires = s->expires;
	e->round = l->round;
	if (sighting_is_event(s))
		e->told_at = s->at;
	*ret = e;
	return 0;
}

/* Events would have told of it, had they missed nothing. */
static bool should_be_told(const struct ledger *l, const struct claim *c)
{
	bool udp = c->protocol == PROTOCOL_UDP || c->protocol == PROTOCOL_UDPLITE;

	/* the kernel makes its own sockets without a hook */
	if (l->coverage.rung != SOURCE_EVENTS || c->preexisting ||
		c->attribution == ATTRIBUTION_KERNEL)
		return false;
	return !(udp && c->role == ROLE_CONNECTED && !l->coverage.udp_connect);
}

static void tell_opened(struct ledger *l, struct entry *e)
{
	if (e->claim.source == SOURCE_SWEEP && should_be_told(l, &e->claim))
		l->stats.found_only_by_sweep++;
	l->sink.opened(l->sink.context, &e->claim);
}

static int open_claim(struct ledger *l, const struct seen *seen)
{
	struct entry *e;
	int r = add_claim(l, seen, &e);

	if (r < 0)
		return r;
	tell_opened(l, e);
	return 0;
}

/* The socket is on another port now: one tenure ends, the next begins. */
static int replace_claim(struct ledger *l, struct entry *old, const struct seen *seen)
{
	const struct sighting *s = seen->sighting;
	struct entry *e;
	int r = add_claim(l, seen, &e);

	if (r < 0)
		return r;
	if (old->absent_at != USEC_UNSET)
		ledger_end(l, old, old->absent_at, old->absent_after);
	else if (s->after != USEC_UNSET)
		ledger_end(l, old, s->at, s->after);
	else
		ledger_end(l, old, s->at, ledger_known_alive(l, old));
	tell_opened(l, e);
	return 0;
}

static int update_claim(struct ledger *l, struct entry *e, const struct seen *seen)
{
	bool unattributed = ledger_claim_unattributed(&e->claim);
	int changed = ledger_claim_update(&e->claim, seen);

	if (changed < 0)
		return changed;
	l->stats.unattributed -= unattributed;
	l->stats.unattributed += ledger_claim_unattributed(&e->claim);
	ledger_forget_absence(l, e);
	if (sighting_is_event(seen->sighting))
		e->told_at = MAX(e->told_at, seen->sighting->at);
	else
		e->expires = seen->sighting->expires;
	e->round = l->round;
	e->adopted = false;
	if (changed)
		l->sink.changed(l->sink.context, &e->claim);
	return 0;
}

/* Is it of this tenure? A socket that goes by an event and is told to be there by a later one has begun another. */
static bool continues(const struct entry *e, const struct sighting *s)
{
	bool again = sighting_is_event(s) && e->claim.closed_boot != USEC_UNSET &&
		     s->at > e->claim.closed_boot;

	return !again && ledger_claim_continues(&e->claim, s);
}

static int apply_present(struct ledger *l, const struct sighting *s)
{
	struct entry *e = ledger_find(l, s->cookie);
	struct seen seen;
	int r;

	if (s->cookie == 0 || s->local.port == 0 || s->local.address.family == FAMILY_NONE)
		return -EBADMSG;
	r = resolve(l, s, &seen);
	if (r < 0)
		return r;
	if (!e)
		return open_claim(l, &seen);
	/* a new session that has not found the holders yet does not deny those of the old */
	seen.connection_known = e->known_before || e->claim.source == SOURCE_EVENTS;
	seen.closed_told = e->closed_told;
	seen.stale = !sighting_is_event(s) && s->at < e->told_at;
	seen.holders_unknown = e->adopted && s->attribution == ATTRIBUTION_NONE && !s->time_wait;
	if (!continues(e, s))
		return replace_claim(l, e, &seen);
	return update_claim(l, e, &seen);
}

/* ABSENT: remembered until the next sweep but one; the first word of it has the tightest bounds. */
static void apply_absent(struct ledger *l, const struct sighting *s)
{
	struct entry *e = ledger_find(l, s->cookie);

	if (!e || e->absent_at != USEC_UNSET)
		return;
	e->absent_at = s->at;
	e->absent_after = s->after;
	TAILQ_INSERT_TAIL(&l->absent, e, absent);
}

/* Told of a tenure that ended before this one began: the same socket had a port earlier. */
static bool is_of_earlier(const struct entry *e, const struct sighting *s)
{
	return sighting_is_event(s) && !e->claim.preexisting &&
	       s->at < ledger_claim_since(&e->claim);
}

/* From when on the end that an event tells may have been the claim's. Where nobody has recorded since an earlier session saw it, and
 * nothing has shown it since, the socket may have given the port back in between, and taken it again: that tenure ends now. */
static usec_t told_after(const struct ledger *l, const struct entry *e, const struct sighting *s)
{
	bool unbroken = !e->adopted || l->ring_goes_on || e->claim.closed_boot != USEC_UNSET;

	return unbroken || s->after != USEC_UNSET ? s->after : MIN(e->told_at, s->at);
}

/* CLOSED by an event: the full socket went then, exactly. What sweeps said of that is only a bound. */
static void close_told(struct ledger *l, struct entry *e, const struct sighting *s)
{
	if (e->claim.closed_boot == USEC_UNSET || s->at <= e->claim.closed_boot)
		ledger_claim_close(&e->claim, s->at, told_after(l, e, s));
	e->closed_told = true;
	e->told_at = MAX(e->told_at, s->at);
	if (s->time_wait)
		l->sink.changed(l->sink.context, &e->claim);
	else
		ledger_release(l, e, s->at);
}

/* CLOSED. Where a sweep has seen the remainder before, this is the end of the full socket, told late; if it is later
 * than that, the remainder's own. */
static void apply_closed(struct ledger *l, const struct sighting *s)
{
	struct entry *e = ledger_find(l, s->cookie);
	bool lingers;

	if (!e || is_of_earlier(e, s))
		return;
	if (sighting_is_event(s)) {
		close_told(l, e, s);
		return;
	}
	lingers = e->claim.closed_boot != USEC_UNSET;
	if (lingers && s->at > e->claim.closed_boot) {
		ledger_release(l, e, s->at);
		return;
	}
	ledger_claim_close(&e->claim, s->at, s->after);
	if (!lingers && !s->time_wait) {
		ledger_release(l, e, s->at);
		return;
	}
	if (s->expires != USEC_UNSET)
		e->expires = s->expires;
	l->sink.changed(l->sink.context, &e->claim);
}

/* RELEASED: the port is free. When the full socket went is not known where that was not told. */
static void apply_released(struct ledger *l, const struct sighting *s)
{
	struct entry *e = ledger_find(l, s->cookie);

	if (!e || is_of_earlier(e, s))
		return;
	if (e->claim.closed_boot == USEC_UNSET)
		ledger_claim_close(&e->claim, s->at,
			s->after != USEC_UNSET ? s->after : ledger_known_alive(l, e));
	ledger_release(l, e, s->at);
}

int ledger_apply_sighting(struct ledger *l, const struct sighting *s)
{
	if (s->at == USEC_UNSET || (s->after != USEC_UNSET && s->after > s->at))
		return -EBADMSG;
	switch ((enum sighting_kind)s->kind) {
	case SIGHTING_PRESENT:
		return apply_present(l, s);
	case SIGHTING_ABSENT:
		apply_absent(l, s);
		return 0;
	case SIGHTING_CLOSED:
		apply_closed(l, s);
		return 0;
	case SIGHTING_RELEASED:
		apply_released(l, s);
		return 0;
	}
	return -EBADMSG;
}
