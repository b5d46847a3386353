/* SPDX-License-Identifier: MIT */
#pragma once

/* What the two files of notable share. */

#include <sys/queue.h>

#include "common/hash_set.h"
#include "daemon/ledger/known.h"
#include "daemon/ledger/notable.h"

enum news {
	NEWS_PROGRAM,
	NEWS_LISTENER,
	NEWS_GAP,
	NEWS_COUNT,
};

/* Something new, until it is committed. */
struct candidate {
	TAILQ_ENTRY(candidate) link;
	struct known_row row;
	struct process *process; /* one reference; NULL: nobody known */
	struct endpoint local;
	uint8_t claim_protocol, role, attribution;
	usec_t opened_wall;
	uint64_t claim; /* its number */
	bool unsaid;    /* it was there before us */
	bool dropped;   /* known already, under KNOWN_MANY_PORTS */
};

struct notable {
	struct store *store;
	struct ledger_sink next;
	struct siphash_key key;
	struct hash_set known; /* slots of known and waiting rows */
	TAILQ_HEAD(candidates, candidate) waiting;
	unsigned waiting_count;
	uint64_t rows[2]; /* in `known` and waiting, by NEWS_PROGRAM and NEWS_LISTENER */
	struct port_range ephemeral;
	const struct ledger *ledger; /* knows those of other namespaces; NULL: not yet */
	usec_t began;                /* boottime of the session's start */
	usec_t looked;               /* boottime of the last look */
	/* A database that nobody has watched for news yet: what this session finds there is learnt, not said. */
	bool learning;
	bool swept;           /* a whole sweep was shown since */
	bool since_unwritten; /* learning, and the database does not say yet that it was done */
	bool since_waits;     /* ... but the present transaction does */
	uint64_t learnt[2];
	bool full_said;

	/* since the last summary */
	struct notable_facts before;
	uint64_t opened, closed, sweeps, said[NEWS_COUNT], unnamed[NEWS_COUNT];
	usec_t sweep_cpu_usec;
};

static inline enum news news_of(const struct known_row *row)
{
	return row->protocol == KNOWN_PROGRAM ? NEWS_PROGRAM : NEWS_LISTENER;
}

/* notable_say.c. */

/* What is new, in a line of its own while the hour's are not used up. */
void notable_say(struct notable *n, const struct candidate *c);
/* What was there at the first sweep. */
void notable_say_learnt(const struct notable *n);
/* No more rows fit; said once in a session. */
void notable_say_full(struct notable *n, enum news which);
