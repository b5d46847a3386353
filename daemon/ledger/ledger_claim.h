/* SPDX-License-Identifier: MIT */
#pragma once

/* How one sighting changes one claim. Pure: knows no other claim and no ledger. */

#include "common/sighting.h"

/* A PRESENT with its refs resolved; the processes are borrowed. */
struct seen {
	const struct sighting *sighting;
	struct process *opener;                 /* NULL: nothing known */
	struct process *holders[LIMIT_HOLDERS]; /* sighting->holder_count of them */
	/* who holds the socket was not asked yet: nobody is said to have let go of it */
	bool holders_unknown;
	/* an earlier session, or an event, saw who made the connection; a sweep can only guess by a listener on its port */
	bool connection_known;
	/* an event has told that the full socket went: what a sweep saw of it was before that */
	bool closed_told;
	/* a sweep's row that was read before the last event of this claim: it tells of holders only */
	bool stale;
};

/* Does an event tell it? Then its time and its process are those of the call itself. */
static inline bool sighting_is_event(const struct sighting *s)
{
	return s->source == SOURCE_EVENTS;
}

/*
 * Makes the claim that a first sighting shows. `opened_wall` is the wall time of sighting->at. A socket that was
 * there at the very first sweep is known not to be older than `watched_until` (boottime; 0: nobody watched before).
 * -ENOMEM, then *ret is untouched.
 */
int ledger_claim_open(struct claim *ret, const struct seen *seen, usec_t opened_wall,
	usec_t watched_until) _must_check_;

/* Is this PRESENT of the same cookie one of this tenure, and not of a later one of the same socket? */
bool ledger_claim_continues(const struct claim *c, const struct sighting *s);

/* Folds a further PRESENT of the same tenure in. 1: something changed; 0: nothing new; -ENOMEM: nothing changed. */
int ledger_claim_update(struct claim *c, const struct seen *seen) _must_check_;

/* The full socket went: it was not there at `at`, and was at `after` (USEC_UNSET: `at` is exact). No claim ends
 * before it opened: what says so is bounded instead. */
void ledger_claim_close(struct claim *c, usec_t at, usec_t after);

/* The earliest moment at which the claim was surely there or coming: a lower bound of its end. */
usec_t ledger_claim_since(const struct claim *c);

/* No process is known, and it is no socket of the kernel itself. */
bool ledger_claim_unattributed(const struct claim *c);
