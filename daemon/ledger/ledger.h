/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The ledger: the open claims in memory. It folds sightings into claims and says what there is to store.
 * Pure: no clock, no descriptor, no log; all time comes with the records. Everything that it learns goes to a
 * `sink`, in order.
 */

#include "common/sighting.h"

struct ledger;
struct record;

/* A bind or connect that failed. All is borrowed. */
struct ledger_failure {
	const struct failure *failure;
	usec_t at_wall;
	struct process *process;    /* NULL: not known */
	const struct claim *holder; /* who had the port then; NULL: nobody, or not known */
};

/* What became of a claim. `claim` lives until the call returns, or for opened and changed until it is released. */
struct ledger_sink {
	void *context;
	/* New; has no id yet: the sink gives it one. */
	void (*opened)(void *context, struct claim *claim);
	/* Role, holders, attribution, closed: it stays in memory. */
	void (*changed)(void *context, struct claim *claim);
	/* Over: store it; freed when the call returns. */
	void (*released)(void *context, struct claim *claim);
	void (*coverage_begins)(void *context, const struct coverage *c, usec_t from_wall);
	/* All is known up to here (end of a whole sweep): extends the present stretch. */
	void (*coverage_extends)(void *context, struct now until);
	void (*gap)(void *context, usec_t from_wall, usec_t until_wall, const char *reason,
		uint64_t lost);
	void (*clock_step)(void *context, usec_t at_wall, int64_t by_usec);
	void (*netns)(void *context, const struct netns *n);
	void (*failed)(void *context, const struct ledger_failure *f);
	/* So many failures, of that stretch, are not recorded: they were too many. */
	void (*failures_left_out)(
		void *context, usec_t from_wall, usec_t until_wall, uint64_t count);
	/* All that the ring told before this has been told to the sink. */
	void (*drained)(void *context, const struct drained *d);
};

struct ledger_stats {
	uint64_t open_claims;    /* not yet released */
	uint64_t sweeps;         /* whole ones */
	uint64_t sweep_cpu_usec; /* of the last */
	uint64_t unattributed;   /* open claims without a process, kernel sockets apart */
	uint64_t gaps, lost;
	uint64_t lost_ends;           /* of the events' */
	uint64_t found_only_by_sweep; /* claims that a sweep found first although events were on */
	bool watching;                /* a whole sweep was seen in this stream */
	bool absent;                  /* a sweep has not shown what is open: the next one decides */
};

/* NULL: no memory. The sink is copied. */
struct ledger *ledger_new(const struct ledger_sink *sink);
struct ledger *ledger_free(struct ledger *l);
DEFINE_CLEANUP(struct ledger, ledger_free)

/* What the kernel hands out in a namespace (its net cookie); low and high 0: not known. */
struct port_range ledger_ephemeral(const struct ledger *l, uint64_t netns);

/* The inode number of a namespace (its net cookie); 0: not known. */
uint64_t ledger_netns_inode(const struct ledger *l, uint64_t netns);

/*
 * Hands the ledger what an earlier session of the same boot left open, before the first record. Takes over what
 * `claim` owns. A PRESENT of the same cookie, port and protocol continues it. What the first whole sweep of its
 * protocol has not shown is released as end_unseen at `last_seen_boot`. A second one of a
 * cookie is a later tenure of that socket: the earlier one ended when it was opened. -EEXIST: ... but the ring tells again
 * of both (the claim stays the caller's); -ENOMEM.
 */
int ledger_adopt(struct ledger *l, struct claim *claim, usec_t last_seen_boot) _must_check_;

/*
 * Says that an earlier session of the same boot watched until `last_seen`, and `how` (rung, ranges, protocols
 * and accepted count): what a first sweep finds that it would have seen, and that is not adopted, was opened after that. A clock that was
 * set since then is a step. Before the first record.
 */
void ledger_watched_until(struct ledger *l, struct now last_seen, const struct coverage *how);

/*
 * Says what is stored of the events' ring. `again`: it is the ring of this stream, too, and tells again what came behind the
 * stored place. `goes_on`: ... and it has recorded without a break since the session that left the open claims; what was open in
 * a namespace that is not swept, and of which it does not tell the end, is open still.
 */
void ledger_ring_before(struct ledger *l, const struct drained *stored, bool again, bool goes_on);

/*
 * Folds one record (HELLO, COVERAGE, NETNS, PROCESS, FORGET, SIGHTING, SWEEP, GAP, RESYNC, DRAINED, FAILURE; others are not for the
 * ledger: -EINVAL). 0; -EBADMSG: the stream contradicts itself (an unknown process ref, a sighting before the
 * hello, a sweep that ends before it begins), nothing was changed; -ENOMEM. O(1) but for SWEEP (O(absent)).
 */
int ledger_apply(struct ledger *l, const struct record *r) _must_check_;

/* Visits every open claim in the order of opening. Stops at the first non-zero result and returns it. */
int ledger_each(struct ledger *l, int (*visit)(void *context, struct claim *claim), void *context);

struct ledger_stats ledger_stats(const struct ledger *l);

/* The wall time of a boottime by the clocks as last seen. */
usec_t ledger_wall(const struct ledger *l, usec_t boot);
