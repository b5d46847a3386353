/* SPDX-License-Identifier: MIT */

/* What the end of a sweep does: absent claims end, claims that nobody has shown again are let go, and coverage goes on. */

#include "daemon/ledger/ledger_claim.h"
#include "daemon/ledger/ledger_private.h"

/* A clock that moved by more than this between two sweeps was set, not slewed. */
#define CLOCK_STEP_USEC (500 * USEC_PER_MSEC)

static void note_clock(struct ledger *l, struct now now)
{
	int64_t by = (int64_t)((now.wall - now.boot) - (l->clock_swept.wall - l->clock_swept.boot));

	l->clock = l->clock_swept = now;
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
			ledger_end(l, e, e->absent_at, e->absent_after);
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
	ledger_release(l, e, seen);
}

/* Ends an unconfirmed claim that this sweep has not shown. */
static void end_unconfirmed(struct ledger *l, struct entry *e, const struct sweep *s)
{
	if (e->absent_at != USEC_UNSET) {
		ledger_end(l, e, e->absent_at, e->absent_after);
	} else if (!e->adopted) {
		ledger_end(l, e, s->begin, ledger_known_alive(l, e));
	} else {
		end_unseen(l, e, e->told_at);
	}
}

/* What an earlier session left open in a namespace that is not swept, and capture does not know. The ring, which has
 * recorded all the while, has not told its end: it is open. */
static bool is_beyond(const struct ledger *l, const struct entry *e)
{
	return e->adopted && l->ring_goes_on && e->claim.closed_boot == USEC_UNSET &&
	       !ledger_is_swept(l, &e->claim);
}

/* A whole sweep leaves nothing unconfirmed: not even of a protocol that is not watched any more. */
static void release_unconfirmed(struct ledger *l, const struct sweep *s)
{
	bool whole = is_whole(l, s);
	struct entry *e, *next;

	HASH_ITER (hh, l->open, e, next) {
		if (e->round != l->round && (whole || covers(s, &e->claim)) && !is_beyond(l, e))
			end_unconfirmed(l, e, s);
	}
	if (whole)
		l->unconfirmed = false;
}

int ledger_apply_sweep(struct ledger *l, const struct sweep *s)
{
	if (s->number <= l->sweep || s->begin > s->end)
		return -EBADMSG;
	l->sweep = s->number;
	l->swept = s->netns;
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

/* Another namespace's own range may be watched, too. */
static bool is_watched(const struct ledger *l, const struct claim *c)
{
	struct port_range own = ledger_ephemeral(l, c->netns);
	bool fits = ledger_is_watched(&l->coverage, c->protocol, c->local.port);

	if (ledger_is_swept(l, c))
		return fits;
	return l->coverage.netns_all &&
	       (fits || (own.low <= c->local.port && c->local.port <= own.high));
}

/* What is not looked for any more has not ended: it is only known to have been there until now. */
static void release_unwatched(struct ledger *l)
{
	struct entry *e, *next;

	HASH_ITER (hh, l->open, e, next) {
		if (is_watched(l, &e->claim) || is_beyond(l, e))
			continue;
		if (e->absent_at != USEC_UNSET)
			ledger_end(l, e, e->absent_at, e->absent_after);
		else
			end_unseen(l, e, e->adopted ? e->told_at : ledger_known_alive(l, e));
	}
}

void ledger_apply_coverage(struct ledger *l, const struct coverage *c)
{
	l->coverage = *c;
	l->ring_goes_on &= c->rung == SOURCE_EVENTS && c->netns_all;
	l->covering = false;
	release_unwatched(l);
}
