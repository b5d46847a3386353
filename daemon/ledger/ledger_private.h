/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the ledger share: its open claims, and how one ends. */

#include "daemon/ledger/ledger.h"

#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* An open claim. */
struct entry {
	struct claim claim;
	UT_hash_handle hh;         /* by claim.cookie */
	TAILQ_ENTRY(entry) absent; /* in ledger.absent while absent_at is set */
	usec_t absent_at;          /* not there any more, as the last ABSENT told; USEC_UNSET */
	usec_t absent_after;       /* and was at this; USEC_UNSET: absent_at is exact */
	usec_t expires;            /* when its TIME_WAIT would end; USEC_UNSET */
	/* of the last event that told of it; of an adopted one, until when the earlier session watched; 0: none */
	usec_t told_at;
	LIST_ENTRY(entry) by_port; /* in ledger.ports, for who held a port */
	uint32_t round;            /* of the last sighting; confirmed if it is the ledger's */
	bool absent_swept;         /* the sweep that told the absence has ended */
	bool adopted;              /* and not shown since */
	bool known_before;         /* was adopted: who asks capture now saw it open earlier */
	bool closed_told;          /* an event told that the full socket went */
};
_Static_assert(sizeof(struct entry) <= 280, "50,000 open claims must stay small");

TAILQ_HEAD(entries, entry);
LIST_HEAD(port_entries, entry);

/* 50,000 open claims are 50 in each, and 8 KiB are all that it costs without any. */
#define PORT_BUCKETS 1024

/* A namespace that the stream names. */
struct place {
	uint64_t cookie, inode;
	struct port_range ephemeral; /* 0, 0: not known */
	UT_hash_handle hh;           /* by cookie */
};

/* A process that the stream names. */
struct named {
	uint32_t ref;
	struct process *process; /* one reference */
	UT_hash_handle hh;       /* by ref */
};

/* How many failures were told of late, and how many of those were too many. */
struct failing {
	usec_t minute; /* boottime of the first of it */
	unsigned count;
	uint64_t left_out; /* since the ring last told of itself */
};

struct ledger {
	struct ledger_sink sink;
	struct entry *open;                      /* all entries, in the order of opening */
	struct entries absent;                   /* those that a sweep missed, in the order told */
	struct port_entries ports[PORT_BUCKETS]; /* the open claims by local port */
	struct named *names;
	struct place *places;
	struct ledger_stats stats; /* open_claims is counted when asked */
	struct now clock;          /* as last told */
	struct now
		clock_swept; /* at the last sweep, of an earlier session of this boot, too; boot 0: none yet */
	struct coverage coverage;
	usec_t watched_until;    /* by an earlier session; 0: none */
	struct coverage earlier; /* how that one watched */
	usec_t whole_begin;      /* of the last whole sweep; 0: none yet */
	uint64_t sweep;          /* number of the last sweep */
	uint64_t swept;          /* the one namespace that sweeps show; 0: all claims are of it */
	usec_t greeted_at;       /* boottime of the HELLO */
	struct drained drained;  /* what the ring last told of itself, in this session or before */
	struct failing failing;
	uint32_t round;    /* counts RESYNCs, from 1: an adopted entry has 0 */
	bool greeted;      /* HELLO came */
	bool covering;     /* the present stretch of coverage has begun */
	bool unconfirmed;  /* there may be entries of an older round */
	bool ring_again;   /* it tells again what came behind the stored place */
	bool ring_goes_on; /* it has recorded since the earlier session, without a break */
};

/* ledger.c */

struct entry *ledger_find(const struct ledger *l, uint64_t cookie);
struct named *ledger_find_named(const struct ledger *l, uint32_t ref);
/* A new entry that is not in the ledger yet, its claim empty. NULL: no memory. */
struct entry *ledger_entry_new(void);
struct entry *ledger_entry_free(struct entry *e);
/* Puts the entry in as the newest. One with the same cookie may be there: the newer is found first. -ENOMEM. */
int ledger_add(struct ledger *l, struct entry *e) _must_check_;
void ledger_forget_absence(struct ledger *l, struct entry *e);
/* The port is free again: the claim leaves the ledger. */
void ledger_release(struct ledger *l, struct entry *e, usec_t at);
/* Ends a claim that was not there at `at` but was at `after`. A remainder in TIME_WAIT ended when it was due, if
 * that lies between the two. */
void ledger_end(struct ledger *l, struct entry *e, usec_t at, usec_t after);
/* When it was surely there or coming: by its opening, or by the last whole sweep, which would have missed it. (What
 * is adopted and not shown again does not outlive a whole sweep.) Where nobody sweeps: by the last that the ring told. */
usec_t ledger_known_alive(const struct ledger *l, const struct entry *e);
bool ledger_is_watched(const struct coverage *c, uint8_t protocol, uint16_t port);
/* Would a sweep show it? */
bool ledger_is_swept(const struct ledger *l, const struct claim *c);

/* ledger_sighting.c and ledger_sweep.c: 0, -EBADMSG or -ENOMEM, as ledger_apply(). */

int ledger_apply_sighting(struct ledger *l, const struct sighting *s) _must_check_;
int ledger_apply_sweep(struct ledger *l, const struct sweep *s) _must_check_;
void ledger_apply_coverage(struct ledger *l, const struct coverage *c);

/* ledger_ring.c: the same. */

int ledger_apply_drained(struct ledger *l, const struct drained *d) _must_check_;
int ledger_apply_failure(struct ledger *l, const struct failure *f) _must_check_;
