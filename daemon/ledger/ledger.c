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

#include "daemon/ledger/ledger.h"

#include "common/stream.h"
#include "daemon/ledger/ledger_claim.h"

#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* A clock that moved by more than this between two records was set, not slewed. */
#define CLOCK_STEP_USEC (500 * USEC_PER_MSEC)

/* An open claim. */
struct entry {
	struct claim claim;
	UT_hash_handle hh;         /* by claim.cookie */
	TAILQ_ENTRY(entry) absent; /* in ledger.absent while absent_at is set */
	usec_t absent_at;          /* not there any more, as the last ABSENT told; USEC_UNSET */
	usec_t absent_after;       /* and was at this; USEC_UNSET: absent_at is exact */
	usec_t expires;            /* when its TIME_WAIT would end; USEC_UNSET */
	usec_t last_seen;          /* adopted: the earlier session watched until then */
	uint32_t round;            /* of the last sighting; confirmed if it is the ledger's */
	bool absent_swept;         /* the sweep that told the absence has ended */
	bool adopted;              /* and not shown since */
	bool known_before;         /* was adopted: who asks capture now saw it open earlier */
};
_Static_assert(sizeof(struct entry) <= 280, "50,000 open claims must stay small");

TAILQ_HEAD(entries, entry);

/* A process that the stream names. */
struct named {
	uint32_t ref;
	struct process *process; /* one reference */
	UT_hash_handle hh;       /* by ref */
};

struct ledger {
	struct ledger_sink sink;
	struct entry *open;    /* all entries, in the order of opening */
	struct entries absent; /* those that a sweep missed, in the order told */
	struct named *names;
	struct ledger_stats stats; /* open_claims is counted when asked */
	struct now clock;          /* as last told */
	struct coverage coverage;
	usec_t watched_until;    /* by an earlier session; 0: none */
	struct coverage earlier; /* how that one watched */
	usec_t whole_begin;      /* of the last whole sweep; 0: none yet */
	uint64_t sweep;          /* number of the last sweep */
	uint32_t round;          /* counts RESYNCs, from 1: an adopted entry has 0 */
	bool greeted;            /* HELLO came */
	bool covering;           /* the present stretch of coverage has begun */
	bool unconfirmed;        /* there may be entries of an older round */
};

struct ledger *ledger_new(const struct ledger_sink *sink)
{
	struct ledger *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->sink = *sink;
	l->round = 1;
	TAILQ_INIT(&l->absent);
	return l;
}

static struct entry *entry_free(struct entry *e)
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

	if (!l)
		return NULL;
	HASH_ITER (hh, l->open, e, next_entry) {
		HASH_DEL(l->open, e);
		entry_free(e);
	}
	HASH_ITER (hh, l->names, n, next_named) {
		HASH_DEL(l->names, n);
		named_free(n);
	}
	free(l);
	return NULL;
}

static struct entry *find_entry(const struct ledger *l, uint64_t cookie)
{
	struct entry *e;

	HASH_FIND(hh, l->open, &cookie, sizeof(cookie), e);
	return e;
}

static struct named *find_named(const struct ledger *l, uint32_t ref)
{
	struct named *n;

	HASH_FIND(hh, l->names, &ref, sizeof(ref), n);
	return n;
}

/* A new entry that is not in the ledger yet, its claim empty. NULL: no memory. */
static struct entry *entry_new(void)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->absent_at = e->absent_after = e->expires = USEC_UNSET;
	return e;
}

/* Puts the entry in as the newest. One with the same cookie may be there: the newer is found first. */
static int add_entry(struct ledger *l, struct entry *e)
{
	HASH_ADD(hh, l->open, claim.cookie, sizeof(e->claim.cookie), e);
	if (!e->hh.tbl)
		return -ENOMEM;
	l->stats.unattributed += ledger_claim_unattributed(&e->claim);
	return 0;
}

static void forget_absence(struct ledger *l, struct entry *e)
{
	if (e->absent_at == USEC_UNSET)
		return;
	TAILQ_REMOVE(&l->absent, e, absent);
	e->absent_at = e->absent_after = USEC_UNSET;
	e->absent_swept = false;
}

/* The port is free again: the claim leaves the ledger. */
static void release(struct ledger *l, struct entry *e, usec_t at)
{
	e->claim.released_boot = MAX(at, e->claim.closed_boot);
	forget_absence(l, e);
	l->stats.unattributed -= ledger_claim_unattributed(&e->claim);
	HASH_DEL(l->open, e);
	l->sink.released(l->sink.context, &e->claim);
	entry_free(e);
}

/* Ends a claim that was not there at `at` but was at `after`. A remainder in TIME_WAIT ended when it was due, if
 * that lies between the two. */
static void end_claim(struct ledger *l, struct entry *e, usec_t at, usec_t after)
{
	if (e->claim.closed_boot == USEC_UNSET)
		ledger_claim_close(&e->claim, at, after);
	else if (after != USEC_UNSET && e->expires > after && e->expires < at)
		at = e->expires;
	release(l, e, at);
}

usec_t ledger_wall(const struct ledger *l, usec_t boot)
{
	if (boot == USEC_UNSET)
		return USEC_UNSET;
	return boot >= l->clock.boot ? l->clock.wall + (boot - l->clock.boot)
				     : usec_sub(l->clock.wall, l->clock.boot - boot);
}

/* PRESENT */

/* Resolves the refs of a sighting. 0 or -EBADMSG. */
static int resolve(const struct ledger *l, const struct sighting *s, struct seen *ret)
{
	const struct named *n;

	*ret = (struct seen){.sighting = s};
	if (s->opener != 0) {
		n = find_named(l, s->opener);
		if (!n)
			return -EBADMSG;
		ret->opener = n->process;
	}
	if (s->holder_count > LIMIT_HOLDERS)
		return -EBADMSG;
	for (uint32_t i = 0; i < s->holder_count; i++) {
		n = find_named(l, s->holders[i]);
		if (!n)
			return -EBADMSG;
		ret->holders[i] = n->process;
	}
	return 0;
}

static bool is_watched(const struct coverage *c, uint8_t protocol, uint16_t port)
{
	return (c->protocols >> protocol & 1) && port_ranges_contain(&c->ranges, port);
}

/* Until when an earlier session would have seen this one; 0: it would not have. */
static usec_t watched_until(const struct ledger *l, const struct sighting *s)
{
	bool same = l->earlier.rung == l->coverage.rung &&
		    is_watched(&l->earlier, s->protocol, s->local.port) &&
		    (s->role != ROLE_ACCEPTED || l->earlier.accepted);

	return same ? l->watched_until : 0;
}

/* Puts the claim that a first sighting shows into the ledger, without telling the sink. */
static int add_claim(struct ledger *l, const struct seen *seen, struct entry **ret)
{
	const struct sighting *s = seen->sighting;
	struct entry *e = entry_new();
	int r;

	if (!e)
		return -ENOMEM;
	r = ledger_claim_open(&e->claim, seen, ledger_wall(l, s->at), watched_until(l, s));
	if (r == 0)
		r = add_entry(l, e);
	if (r < 0) {
		entry_free(e);
		return r;
	}
	e->expires = s->expires;
	e->round = l->round;
	*ret = e;
	return 0;
}

static void tell_opened(struct ledger *l, struct entry *e)
{
	if (e->claim.source == SOURCE_SWEEP && l->coverage.rung == SOURCE_EVENTS &&
		!e->claim.preexisting)
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

/* When it was surely there or coming: by its opening, or by the last whole sweep, which would have missed it. (What
 * is adopted and not shown again does not outlive a whole sweep.) */
static usec_t known_alive(const struct ledger *l, const struct entry *e)
{
	return MAX(ledger_claim_since(&e->claim), l->whole_begin);
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
		end_claim(l, old, old->absent_at, old->absent_after);
	else if (s->after != USEC_UNSET)
		end_claim(l, old, s->at, s->after);
	else
		end_claim(l, old, s->at, known_alive(l, old));
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
	forget_absence(l, e);
	e->expires = seen->sighting->expires;
	e->round = l->round;
	e->adopted = false;
	if (changed)
		l->sink.changed(l->sink.context, &e->claim);
	return 0;
}

static int apply_present(struct ledger *l, const struct sighting *s)
{
	struct entry *e = find_entry(l, s->cookie);
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
	seen.connection_known = e->known_before;
	seen.holders_unknown = e->adopted && s->attribution == ATTRIBUTION_NONE && !s->time_wait;
	if (!ledger_claim_continues(&e->claim, s))
		return replace_claim(l, e, &seen);
	return update_claim(l, e, &seen);
}

/* ABSENT: remembered until the next sweep but one; the first word of it has the tightest bounds. */
static void apply_absent(struct ledger *l, const struct sighting *s)
{
	struct entry *e = find_entry(l, s->cookie);

	if (!e || e->absent_at != USEC_UNSET)
		return;
	e->absent_at = s->at;
	e->absent_after = s->after;
	TAILQ_INSERT_TAIL(&l->absent, e, absent);
}

/* CLOSED. Where a sweep has seen the remainder before, this is the end of the full socket, told late; if it is later
 * than that, the remainder's own. */
static void apply_closed(struct ledger *l, const struct sighting *s)
{
	struct entry *e = find_entry(l, s->cookie);
	bool lingers;

	if (!e)
		return;
	lingers = e->claim.closed_boot != USEC_UNSET;
	if (lingers && s->at > e->claim.closed_boot) {
		release(l, e, s->at);
		return;
	}
	ledger_claim_close(&e->claim, s->at, s->after);
	if (!lingers && !s->time_wait) {
		release(l, e, s->at);
		return;
	}
	if (s->expires != USEC_UNSET)
		e->expires = s->expires;
	l->sink.changed(l->sink.context, &e->claim);
}

/* RELEASED: the port is free; that it closed before need not have been told. */
static void apply_released(struct ledger *l, const struct sighting *s)
{
	struct entry *e = find_entry(l, s->cookie);

	if (e)
		end_claim(l, e, s->at, s->after);
}

static int apply_sighting(struct ledger *l, const struct sighting *s)
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

/* SWEEP */

static void note_clock(struct ledger *l, struct now now)
{
	int64_t by = (int64_t)((now.wall - now.boot) - (l->clock.wall - l->clock.boot));

	l->clock = now;
	if (by > (int64_t)CLOCK_STEP_USEC || by < -(int64_t)CLOCK_STEP_USEC)
		l->sink.clock_step(l->sink.context, now.wall, by);
}

static bool covers(const struct sweep *s, const struct claim *c)
{
	return s->protocols & (UINT32_C(1) << c->protocol);
}

static bool is_whole(const struct ledger *l, const struct sweep *s)
{
	uint32_t all = l->coverage.protocols;

	return all != 0 && (s->protocols & all) == all;
}

/* Ends what the sweep before this one missed and this one did not show. */
static void release_absent(struct ledger *l, const struct sweep *s)
{
	struct entry *e, *next;

	for (e = TAILQ_FIRST(&l->absent); e; e = next) {
		next = TAILQ_NEXT(e, absent);
		if (!e->absent_swept)
			e->absent_swept = true;
		else if (covers(s, &e->claim))
			end_claim(l, e, e->absent_at, e->absent_after);
	}
}

/* Ends what nobody saw end: it was there at `seen`, the last time that somebody looked. */
static void end_unseen(struct ledger *l, struct entry *e, usec_t seen)
{
	if (e->claim.closed_boot == USEC_UNSET) {
		ledger_claim_close(&e->claim, seen, USEC_UNSET);
		e->claim.closed_after_boot = USEC_UNSET;
		e->claim.end_unseen = true;
	}
	release(l, e, seen);
}

/* Ends an unconfirmed claim that this sweep has not shown. */
static void end_unconfirmed(struct ledger *l, struct entry *e, const struct sweep *s)
{
	if (e->absent_at != USEC_UNSET) {
		end_claim(l, e, e->absent_at, e->absent_after);
	} else if (!e->adopted) {
		end_claim(l, e, s->begin, known_alive(l, e));
	} else {
		end_unseen(l, e, e->last_seen);
	}
}

/* A whole sweep leaves nothing unconfirmed: not even of a protocol that is not watched any more. */
static void release_unconfirmed(struct ledger *l, const struct sweep *s)
{
	bool whole = is_whole(l, s);
	struct entry *e, *next;

	HASH_ITER (hh, l->open, e, next) {
		if (e->round != l->round && (whole || covers(s, &e->claim)))
			end_unconfirmed(l, e, s);
	}
	if (whole)
		l->unconfirmed = false;
}

static int apply_sweep(struct ledger *l, const struct sweep *s)
{
	if (s->number <= l->sweep || s->begin > s->end)
		return -EBADMSG;
	l->sweep = s->number;
	note_clock(l, s->now);
	release_absent(l, s);
	if (l->unconfirmed)
		release_unconfirmed(l, s);
	if (!is_whole(l, s))
		return 0;
	l->whole_begin = s->begin;
	l->stats.sweeps++;
	l->stats.sweep_cpu_usec = s->cpu_usec;
	l->stats.watching = true;
	if (!l->covering)
		l->sink.coverage_begins(l->sink.context, &l->coverage, ledger_wall(l, s->begin));
	l->covering = true;
	l->sink.coverage_extends(
		l->sink.context, (struct now){.boot = s->end, .wall = ledger_wall(l, s->end)});
	return 0;
}

/* The other records */

static int apply_hello(struct ledger *l, const struct hello *h)
{
	if (l->greeted)
		return -EBADMSG;
	l->greeted = true;
	l->clock = h->at;
	return 0;
}

/* What is not looked for any more has not ended: it is only known to have been there until now. */
static void release_unwatched(struct ledger *l)
{
	struct entry *e, *next;

	HASH_ITER (hh, l->open, e, next) {
		if (is_watched(&l->coverage, e->claim.protocol, e->claim.local.port))
			continue;
		if (e->absent_at != USEC_UNSET)
			end_claim(l, e, e->absent_at, e->absent_after);
		else
			end_unseen(l, e, e->adopted ? e->last_seen : known_alive(l, e));
	}
}

static void apply_coverage(struct ledger *l, const struct coverage *c)
{
	l->coverage = *c;
	l->covering = false;
	release_unwatched(l);
}

/* After a RESYNC a process may be introduced again, but a ref never changes its process. */
static int apply_process(struct ledger *l, const struct process_entry *p)
{
	struct named *n = find_named(l, p->ref);

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
	struct named *n = find_named(l, ref);

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
		apply_coverage(l, &r->coverage);
		return 0;
	case RECORD_NETNS:
		l->sink.netns(l->sink.context, &r->netns);
		return 0;
	case RECORD_PROCESS:
		return apply_process(l, &r->process);
	case RECORD_FORGET:
		return apply_forget(l, r->forget);
	case RECORD_SIGHTING:
		return apply_sighting(l, &r->sighting);
	case RECORD_SWEEP:
		return apply_sweep(l, &r->sweep);
	case RECORD_GAP:
		return apply_gap(l, &r->gap);
	case RECORD_RESYNC:
		l->round++;
		l->unconfirmed = true;
		return 0;
	case RECORD_SETTINGS:
	case RECORD_BARRIER:
	case RECORD_BYE:
	case RECORD_DRAINED:
	case RECORD_FAILURE:
	case RECORD_READY:
	case RECORD_KEPT:
	case RECORD_SYNC:
	case RECORD_COMMITTED:
	case RECORD_FOLLOW:
		break;
	}
	return -EINVAL;
}

int ledger_adopt(struct ledger *l, struct claim *claim, usec_t last_seen_boot)
{
	struct entry *e;
	int r;

	if (find_entry(l, claim->cookie))
		return -EEXIST;
	e = entry_new();
	if (!e)
		return -ENOMEM;
	e->claim = *claim;
	e->last_seen = last_seen_boot;
	e->adopted = e->known_before = true;
	r = add_entry(l, e);
	if (r < 0) {
		free(e);
		return r;
	}
	l->unconfirmed = true;
	*claim = (struct claim){0};
	return 0;
}

void ledger_watched_until(struct ledger *l, usec_t last_seen_boot, const struct coverage *how)
{
	l->watched_until = last_seen_boot;
	l->earlier = *how;
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
	return stats;
}
