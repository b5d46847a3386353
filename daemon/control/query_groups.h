/* SPDX-License-Identifier: MIT */
#pragma once

/* The claims of an audit, folded into groups as they come: what is kept is one entry per distinct (group, port), (group,
 * remote) and (group, slot of time), and of these there is a limit. */

#include "daemon/control/query_rollup.h"

/* A slot is an hour of UTC, and a day where the window is longer than this. */
#define SLOT_HOURS_MAX (31 * USEC_PER_DAY)

#define GROUP_NONE 0 /* of what is not known; row ids begin at 1 */

struct group {
	int64_t id; /* an app.id, a netns.id, port << 2 | protocol, or the begin of a slot; GROUP_NONE */
	uint64_t rank; /* in the order of names */
	uint64_t claims, ports, remotes, failures;
	uint64_t roles[ROLE_COUNT];
	usec_t first, last; /* wall, within the window */
	usec_t first_seen;  /* wall; of a program, a unit or a user. Else 0 */
	usec_t shortest,
		longest; /* of those closed in the window, and of all; USEC_UNSET: none is known */
	struct group_slot *slot; /* owned; in the order of time */
	size_t slot_count, slot_capacity;
	struct group_distinct *distinct; /* owned; NULL where pairs are counted one by one */
	bool remotes_estimated, lives_estimated;
	usec_t busiest; /* the slot with most openings, the first of these; USEC_UNSET: none */
};

/* With sums, which have sets. */
struct group_distinct {
	struct port_set ports;
	struct sketch remotes;
};

struct group_slot {
	uint32_t claims; /* opened in it */
	usec_t from;
};

/* A claim as it is counted. */
struct group_claim {
	int64_t app, local; /* row ids; GROUP_NONE */
	uint16_t port;
	int protocol;                    /* enum protocol */
	int role;                        /* enum role, or past it where it is not known */
	usec_t opened, closed, released; /* USEC_UNSET: not yet */
	bool life;                       /* its opening was seen, so that its life is known */
	const void *address;             /* the remote one, network byte order; NULL: none */
	int address_size;                /* 4 or 16 */
	bool hashed;          /* there is no address, but its hash: only where sums are added */
	uint64_t remote_hash; /* as in a sketch */
};

/* Which group an app or a local is of, once that was looked up. */
#define GROUPS_RECENT 256u
struct group_recent {
	int64_t raw;
	uint32_t group; /* its index, one more than it is; 0: nothing is here */
};

struct groups {
	enum audit_by by;
	struct window window;
	usec_t slot_usec;
	struct group *group; /* owned; in the order of first use, then of claims */
	size_t count, capacity;
	struct group_member *member; /* owned; which group an app or a local is of, by its id */
	size_t members;
	struct group_recent recent[GROUPS_RECENT]; /* by the last bits of the raw id */
	struct group_entry *entry; /* owned; open addressing, the size is 0 or a power of two */
	size_t entries, entry_slots;
	size_t slots; /* of all groups */
	bool rolled;  /* sums are added, too */
	struct siphash_key key;
};

/* How long a slot of such a window is. */
static inline usec_t groups_slot(struct window w)
{
	return usec_sub(w.until, w.from) <= SLOT_HOURS_MAX ? USEC_PER_HOUR : USEC_PER_DAY;
}

/* Reads who belongs together. Errors as in query.h. */
int groups_init(
	struct groups *g, struct query *q, enum audit_by by, struct window window) _must_check_;
void groups_done(struct groups *g);

/* Sums will be added, so that ports and remotes are counted as sets. */
int groups_expect_rolled(struct groups *g, struct query *q) _must_check_;

/* -E2BIG: LIMIT_AUDIT_PAIRS; -ENOMEM. */
int groups_add(struct groups *g, const struct group_claim *claim) _must_check_;

/* Adds a sum, of claims opened in the window. As groups_add(); -EUCLEAN. */
int groups_add_rolled(struct groups *g, const struct rolled *row) _must_check_;

/* Counts a failure; `opened` is when. Of the other members, those that name a group. A group may have nothing else. */
int groups_add_failure(struct groups *g, const struct group_claim *failure) _must_check_;

/* Sorts: most claims first, then by name; hours in the order of time. */
void groups_finish(struct groups *g);
