/* SPDX-License-Identifier: MIT */

/*
 * The opener is learnt once. A later sighting shows who holds the socket then, and that need not be who made it:
 * the opener may have passed it on and gone. So a known process is never replaced, neither by another (which
 * becomes a further holder) nor by nothing (TIME_WAIT, orphans); only something better replaces something worse. Best is
 * the event of the opening itself: it names who made the call, and whom a sweep took for the opener, since it had the
 * socket open a moment later, becomes a further holder. An event says nothing of who else has the socket open.
 *
 * A remainder in TIME_WAIT tells nothing of the full socket but that it went: endpoints stay as they were, and the role
 * where it is known.
 *
 * Bounds are kept as they were told, even where they overlap: a claim that opened within (1 s, 2 s] and ended
 * within (1.5 s, 3 s] is what two sweeps know of it.
 */

#include "daemon/ledger/ledger_claim.h"

/* How much is known of a claim's opener; more replaces less. */
enum knowledge {
	KNOWLEDGE_NOTHING,
	KNOWLEDGE_OWNER, /* the socket's uid */
	KNOWLEDGE_UNIT,  /* its cgroup */
	KNOWLEDGE_KERNEL,
	KNOWLEDGE_PROCESS,
};

static bool is_process(const struct process *p)
{
	return p && p->pid > 0;
}

/* Is this the event by which the claim began, told after something else had shown the claim? */
static bool tells_opening(const struct claim *c, const struct sighting *s)
{
	return sighting_is_event(s) &&
	       (c->source == SOURCE_EVENTS ? s->at < c->opened_boot : s->at <= c->opened_boot);
}

static enum knowledge knowledge_of(uint8_t attribution, const struct process *opener)
{
	if (is_process(opener))
		return KNOWLEDGE_PROCESS;
	if (attribution == ATTRIBUTION_KERNEL)
		return KNOWLEDGE_KERNEL;
	if (attribution == ATTRIBUTION_CGROUP)
		return KNOWLEDGE_UNIT;
	return attribution == ATTRIBUTION_UID ? KNOWLEDGE_OWNER : KNOWLEDGE_NOTHING;
}

bool ledger_claim_unattributed(const struct claim *c)
{
	return knowledge_of(c->attribution, c->opener) < KNOWLEDGE_KERNEL;
}

/* Of one boot: a pid is reused, a pid with its start time is not. `b` may be NULL, or no process. */
static bool same_process(const struct process *a, const struct process *b)
{
	return a == b || (is_process(b) && a->pid == b->pid && a->start_boot == b->start_boot);
}

static bool among(struct process *const *list, size_t count, const struct process *p)
{
	for (size_t i = 0; i < count; i++)
		if (same_process(list[i], p))
			return true;
	return false;
}

/* Who has the socket open now, beside `opener`. Returns how many. */
static size_t further_holders(
	const struct seen *seen, const struct process *opener, struct process **ret)
{
	size_t count = 0;

	if (is_process(seen->opener) && !same_process(seen->opener, opener))
		ret[count++] = seen->opener;
	for (uint32_t i = 0; i < seen->sighting->holder_count; i++) {
		struct process *p = seen->holders[i];

		if (is_process(p) && !same_process(p, opener) && !among(ret, count, p))
			ret[count++] = p;
	}
	return count;
}

/* Does the claim have `p` as one that holds it still? */
static bool holds(const struct claim *c, const struct process *p)
{
	for (uint32_t i = 0; i < c->holder_count; i++)
		if (c->holders[i].until_boot == USEC_UNSET &&
			same_process(c->holders[i].process, p))
			return true;
	return false;
}

/* Those of `present` that the claim does not have yet. Returns how many. */
static size_t new_holders(
	const struct claim *c, struct process *const *present, size_t count, struct process **ret)
{
	size_t fresh = 0;

	for (size_t i = 0; i < count; i++)
		if (!holds(c, present[i]))
			ret[fresh++] = present[i];
	return fresh;
}

static bool end_holders(struct claim *c, struct process *const *present, size_t count, usec_t at)
{
	bool changed = false;

	for (uint32_t i = 0; i < c->holder_count; i++) {
		struct holder *h = &c->holders[i];

		if (h->until_boot != USEC_UNSET || among(present, count, h->process))
			continue;
		h->until_boot = MAX(at, h->from_boot);
		changed = true;
	}
	return changed;
}

/* `opener` made the call. Whom a sweep took for it, since he had the socket open when the sweep came, is a further holder
 * since then. Where the opener was among these, the two change places; else there is room, if there may be one more. */
static void demote(struct claim *c, const struct process *opener, struct process *former)
{
	const struct holder held = {
		.process = former, .from_boot = c->opened_boot, .until_boot = USEC_UNSET};

	for (uint32_t i = 0; i < c->holder_count; i++)
		if (same_process(c->holders[i].process, opener)) {
			process_unref(c->holders[i].process);
			c->holders[i] = held;
			process_ref(former);
			return;
		}
	if (c->holder_count == LIMIT_HOLDERS) {
		c->holders_dropped++;
		return;
	}
	c->holders[c->holder_count++] = held;
	process_ref(former);
}

/* `former`: the opener until now, if it is another. 1: changed; 0; -ENOMEM: nothing changed. */
static int fold_holders(struct claim *c, const struct seen *seen, const struct process *opener,
	struct process *former)
{
	struct process *present[LIMIT_HOLDERS + 1], *fresh[LIMIT_HOLDERS + 1];
	size_t count = further_holders(seen, opener, present);
	size_t fresh_count = new_holders(c, present, count, fresh);
	size_t places = LIMIT_HOLDERS - MIN(c->holder_count + (former != NULL), LIMIT_HOLDERS);
	size_t room = MIN(fresh_count, places);
	usec_t at = seen->sighting->at;
	uint32_t dropped;
	bool changed;

	if (room > 0 || former) {
		struct holder *holders =
			reallocarray(c->holders, c->holder_count + room + 1, sizeof(struct holder));

		if (!holders)
			return -ENOMEM;
		c->holders = holders;
	}
	if (former)
		demote(c, opener, former);
	changed = !seen->holders_unknown && !sighting_is_event(seen->sighting) &&
		  end_holders(c, present, count, at);
	for (size_t i = 0; i < room; i++) {
		if (former && same_process(fresh[i], former))
			continue;
		c->holders[c->holder_count++] = (struct holder){
			.process = process_ref(fresh[i]),
			.from_boot = at,
			.until_boot = USEC_UNSET,
		};
	}
	dropped = seen->sighting->holders_dropped + (uint32_t)(fresh_count - room);
	if (dropped > c->holders_dropped) {
		c->holders_dropped = dropped;
		changed = true;
	}
	return changed || room > 0;
}

/* Opener and holders. 1: changed; 0; -ENOMEM: nothing changed. */
static int fold_processes(struct claim *c, const struct seen *seen)
{
	uint8_t attribution = seen->sighting->attribution;
	bool opening = tells_opening(c, seen->sighting) && is_process(seen->opener);
	bool better = opening || knowledge_of(attribution, seen->opener) >
					 knowledge_of(c->attribution, c->opener);
	bool another = opening && is_process(c->opener) && !same_process(c->opener, seen->opener);
	int r = fold_holders(
		c, seen, better ? seen->opener : c->opener, another ? c->opener : NULL);

	if (r < 0 || !better)
		return r;
	process_unref(c->opener);
	c->opener = seen->opener ? process_ref(seen->opener) : NULL;
	c->attribution = attribution;
	return 1;
}

static usec_t clamp(usec_t value, usec_t low, usec_t high)
{
	return value < low ? low : MIN(value, high);
}

int ledger_claim_open(
	struct claim *ret, const struct seen *seen, usec_t opened_wall, usec_t watched_until)
{
	const struct sighting *s = seen->sighting;
	struct claim c = {
		.cookie = s->cookie,
		.netns = s->netns,
		.protocol = s->protocol,
		.role = s->role,
		.source = s->source,
		.local = s->local,
		.local_unknown = s->local_unknown,
		.remote = s->remote,
		.opened_boot = s->at,
		.opened_after_boot = s->after,
		.opened_wall = opened_wall,
		.closed_boot = USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
		.released_boot = USEC_UNSET,
		.preexisting = s->preexisting,
	};
	int r = fold_processes(&c, seen);

	if (r < 0)
		return r;
	/* seen before that and not adopted: it is not the earlier session's to bound */
	if (s->preexisting && s->after != USEC_UNSET && watched_until <= s->at)
		c.opened_after_boot = MAX(watched_until, s->after);
	if (s->time_wait)
		ledger_claim_close(&c, s->at, s->after);
	*ret = c;
	return 0;
}

/* An MPTCP socket is a TCP socket on the wire, and may be told as one first. */
static bool same_protocol(uint8_t a, uint8_t b)
{
	return a == b || (a == PROTOCOL_TCP && b == PROTOCOL_MPTCP) ||
	       (a == PROTOCOL_MPTCP && b == PROTOCOL_TCP);
}

bool ledger_claim_continues(const struct claim *c, const struct sighting *s)
{
	return c->local.port == s->local.port && same_protocol(c->protocol, s->protocol);
}

/* That a connection was accepted shows only while there is a listener: once known it stays. That a listener may have been
 * there is told late, too, and then nobody is known to have connected. */
static uint8_t role_of(const struct claim *c, const struct seen *seen)
{
	uint8_t role = seen->sighting->role;

	if (sighting_is_event(seen->sighting))
		return role == ROLE_UNKNOWN ? c->role : role;
	if (role == ROLE_UNKNOWN)
		return c->role == ROLE_CONNECTED && !seen->connection_known ? role : c->role;
	if (c->role == ROLE_ACCEPTED && role == ROLE_CONNECTED)
		return ROLE_ACCEPTED;
	if (c->role == ROLE_CONNECTED && role == ROLE_ACCEPTED && seen->connection_known)
		return ROLE_CONNECTED;
	return role;
}

/* That a TCP socket is MPTCP's stays so: what is left of it, or its subflow alone, looks like TCP. */
static uint8_t protocol_of(const struct claim *c, const struct sighting *s)
{
	return c->protocol == PROTOCOL_MPTCP && s->protocol == PROTOCOL_TCP ? c->protocol
									    : s->protocol;
}

/* What the full socket shows of itself. */
static bool fold_socket(struct claim *c, const struct seen *seen)
{
	const struct sighting *s = seen->sighting;
	uint8_t role = role_of(c, seen), protocol = protocol_of(c, s);
	bool local = !s->local_unknown;
	bool reopens = c->closed_boot != USEC_UNSET && !seen->closed_told && !sighting_is_event(s);
	bool changed = c->protocol != protocol || c->role != role ||
		       (local && !endpoint_equal(&c->local, &s->local)) ||
		       !endpoint_equal(&c->remote, &s->remote) || reopens;

	c->protocol = protocol;
	c->role = role;
	if (local) {
		c->local = s->local;
		c->local_unknown = false;
	}
	c->remote = s->remote;
	if (reopens)
		c->closed_boot = c->closed_after_boot = USEC_UNSET;
	return changed;
}

/* The claim is of the events' from its first moment on, whoever showed it first. */
static void fold_opening(struct claim *c, const struct sighting *s)
{
	c->opened_wall = usec_sub(c->opened_wall, c->opened_boot - s->at);
	c->opened_boot = s->at;
	c->opened_after_boot = s->after;
	c->preexisting = false;
	c->source = SOURCE_EVENTS;
}

int ledger_claim_update(struct claim *c, const struct seen *seen)
{
	const struct sighting *s = seen->sighting;
	bool opening = tells_opening(c, s);
	int changed = fold_processes(c, seen);

	if (changed < 0)
		return changed;
	if (opening) {
		fold_opening(c, s);
		changed = 1;
	}
	if (seen->stale)
		return changed;
	if (!s->time_wait)
		return fold_socket(c, seen) || changed;
	if (c->role == ROLE_UNKNOWN && s->role != ROLE_UNKNOWN) {
		c->role = s->role;
		changed = 1;
	}
	if (c->closed_boot != USEC_UNSET)
		return changed;
	ledger_claim_close(c, s->at, s->after);
	return 1;
}

usec_t ledger_claim_since(const struct claim *c)
{
	return c->opened_after_boot == USEC_UNSET ? c->opened_boot : c->opened_after_boot;
}

void ledger_claim_close(struct claim *c, usec_t at, usec_t after)
{
	c->closed_boot = MAX(at, c->opened_boot);
	if (after != USEC_UNSET)
		c->closed_after_boot = clamp(after, ledger_claim_since(c), c->closed_boot);
	else
		c->closed_after_boot = at < c->opened_boot ? at : USEC_UNSET;
}
