/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of notable share. */

#include <sys/queue.h>
#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#include "common/hash_set.h"
#include "common/port_set.h"
#include "daemon/ledger/known.h"
#include "daemon/ledger/notable.h"

enum news {
	NEWS_PROGRAM,
	NEWS_LISTENER,
	NEWS_GAP,
	NEWS_SHORTAGE,
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

/* A destination, from where, and in which namespace. Hashed and compared as bytes, so it has none that nobody sets. */
struct crowd_key {
	uint64_t netns;
	struct address local, remote;
	uint16_t remote_port;
	uint16_t zero[2];
};

struct shortage_sample {
	usec_t at; /* boottime */
	unsigned used;
};

/* How many of its ports are taken, of how many a client can be given. */
struct shortage_now {
	unsigned used, available;
};

/* One that is watched, since many of its ports are taken. */
struct shortage {
	struct crowd_key key;
	struct shortage_sample before, latest; /* how many it was */
	struct shortage_now is;                /* at the last look */
	unsigned peak;                         /* since it is watched, or was over */
	bool seen;                             /* by this look */
	bool said;                             /* that they run short; it is not over yet */
	UT_hash_handle hh;                     /* by key */
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

	/* notable_ports.c */
	struct shortage *shortages;
	usec_t ports_next;         /* boottime of the next look */
	struct port_set *reserved; /* owned; NULL: none, or not known */
	uint64_t reserved_netns;   /* inode number of the namespace that this is of; 0: not known */
	unsigned narrowest; /* the fewest ports that any namespace ever handed out; 0: not known */
	bool addresses_go;  /* remote addresses are not kept for ever: so none is said */

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
/* Ports run short, mostly by `most` (NULL: nobody known, or several); full_wall: when they are all taken; USEC_UNSET: not soon. */
void notable_say_short(struct notable *n, const struct shortage *s, const struct process *most,
	usec_t full_wall, usec_t wall);
/* That is over. */
void notable_say_eased(struct notable *n, const struct shortage *s);
/* notable_ports.c. */
void notable_ports_done(struct notable *n);
/* No more rows fit; said once in a session. */
void notable_say_full(struct notable *n, enum news which);
