/* SPDX-License-Identifier: MIT */
#pragma once

/* What the walks of query_pressure.c find, and query_pressure_tell.c tells. */

#include "daemon/control/query_fold.h"

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#include "common/port_set.h"

/* Hashed as bytes: no padding that is not zero. */
struct group_key {
	int64_t place; /* a destination: fold_place.id; else fold_place.netns */
	int32_t remote_port;
	uint8_t destination; /* 0: the whole namespace */
	uint8_t protocol;    /* PROTOCOL_TCP or PROTOCOL_UDP */
	uint8_t remote_size;
	uint8_t pad;
	uint8_t remote[16];
};
_Static_assert(sizeof(struct group_key) == 32, "no padding");

struct opener {
	int64_t app; /* ROW_NULL: not known */
	uint64_t claims;
	UT_hash_handle hh; /* in group.openers */
};

struct group {
	struct group_key key;
	int64_t netns;           /* fold_place.netns */
	uint64_t inode;          /* of the namespace */
	struct port_range range; /* that it hands out */
	uint64_t used, waiting;  /* at the end of the window */
	uint64_t at_start;       /* used when the window began */
	uint64_t peak, peak_waiting;
	usec_t peak_at;  /* wall; USEC_UNSET: never used */
	uint64_t claims; /* opened in the window */
	uint64_t own_parity,
		other_parity; /* of claims whose port connect(2) or bind(2) would take */
	unsigned available;
	bool listed, dropped;
	uint64_t floor; /* ports of it that may be held since before it was remembered, at most */
	struct port_set *blocked; /* of a namespace's TCP, owned: ports that no client is given */
	/* of a namespace, owned, two: ports that did not only wait, at the end and at the peak */
	struct port_set *live;
	struct opener *openers; /* owned */
	UT_hash_handle hh;
};

/* Hashed as bytes. */
struct pair_key {
	uint64_t group, port; /* address, port */
};

/* A port of a group that is taken. */
struct pair {
	struct pair_key key;
	struct group *group;
	uint32_t held;     /* claims that have it */
	uint32_t blocking; /* of these, those that keep it from every client */
	bool orphan;       /* its group was dropped: only its ends know of it */
	UT_hash_handle hh;
};

struct end {
	usec_t at; /* wall */
	struct pair *pair;
	bool blocking;
};

struct pressure {
	struct window window;
	const struct kernel_ports *known;
	struct group *groups; /* owned */
	struct pair *pairs;   /* owned; those with `held` */
	struct end *heap;     /* owned; the earliest first */
	size_t ends, capacity;
	struct places *places; /* owned */
	bool started;          /* the walk has come to the window's beginning */
	bool again;            /* the walk is repeated for those that are remembered */
	const struct filter *wanted;
	struct group crowd; /* whom the ports of dropped groups belong to */
	uint64_t floor;     /* of a group that is remembered from now on */
	uint64_t least;     /* none of those that were dropped had more ports at once */
	uint64_t dropped;
	struct group **listed; /* owned */
	size_t listed_count, omitted;
};

/* query_pressure_room.c: makes room for further destinations: drops those that had the fewest ports at once. -ENOMEM, or -E2BIG:
 * there are none. */
int pressure_make_room(struct pressure *p) _must_check_;

/* Forgets all that is held, so that a walk can begin anew. */
void pressure_clear(struct pressure *p);

/* Appends `"pressure":[...],"omitted":..,"least_peak":..` of those that are listed; `since`: from when on the window was watched. */
int pressure_tell(struct pressure *p, struct query *q, usec_t since, struct buf *out) _must_check_;
