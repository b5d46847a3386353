/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the table share: how a socket is remembered. */

#include "daemon/capture/table.h"
#include "daemon/capture/table_listeners.h"

#include <netinet/tcp.h>

/* An allocation that fails is an error to return, not the end of the process. */
static inline void note_oom(bool *failed)
{
	*failed = true;
}
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) note_oom(&oom)
#include <uthash.h>

#define BIT(protocol) (1u << (protocol))

struct entry {
	struct table_socket s; /* first member: what the caller holds is the entry */
	UT_hash_handle hh;     /* in table.sockets, by s.row.cookie */
	struct entry *next;    /* seen next in this sweep; NULL: the last, or not seen */
	union {
		usec_t first_at; /* not an alias: when this tenure of the port was first seen */
		struct entry *canonical; /* an alias: of whom */
	};
	usec_t seen_begin; /* begin of the last sweep that saw it; USEC_UNSET: this is the first */
	uint32_t seen_offset; /* when its row was read, in microseconds after the sweep's begin */
	uint32_t first_span_msec; /* first_at minus its earlier bound, rounded up; SPAN_UNKNOWN */
	uint64_t netns;           /* net cookie; 0: of the namespace that is swept */
	usec_t closed;            /* where `over`: when */
	uint16_t aliases;         /* remembered ones of this */
	bool seen : 1;            /* in this sweep */
	bool present : 1;         /* it or an alias was seen in this sweep */
	bool full : 1;            /* ... and more of it than a TIME_WAIT remainder */
	bool handled : 1;         /* this sweep's telling is done */
	bool missing : 1;         /* a whole sweep has missed it */
	bool alias : 1;
	bool mptcp : 1;       /* an MPTCP socket, or folded with one */
	bool preexisting : 1; /* there at the very first sweep */
	bool placed : 1;      /* has a role */
	bool fresh : 1;       /* was first placed, as connected or unknown, a moment ago */
	bool renewed : 1;     /* another local port than before: a new tenure */
	bool changed : 1;     /* something to tell */
	bool final : 1;       /* attributed for good */
	bool told : 1;
	bool told_time_wait : 1, told_mptcp : 1;
	bool ended : 1;  /* the kernel said so: it is in table.ended */
	bool paired : 1; /* it may be in table.pairs */
	bool gone : 1;   /* the kernel said so, and the sweeps tell of it */
	bool event : 1;  /* an event has told of this tenure: first_at is exact */
	bool over : 1; /* an event has told its end: nothing more is told of it but that its remainder is gone */
	bool unshown : 1; /* of another namespace: the last snapshot has not shown it */
	bool awaited : 1; /* only one sweep has shown it, and an event may be on its way */
};
#define SPAN_UNKNOWN UINT32_MAX
_Static_assert(sizeof(struct entry) <= 216, "50,000 sockets in 11 MB");

/* Where its other half will look for a socket: for an MPTCP socket, or for one that ended, of which a TIME_WAIT
 * remainder may be left. */
#define FOLD_KEY_BYTES (sizeof(uint64_t) + 2 * (sizeof(struct address) + sizeof(uint16_t)))
struct fold {
	uint8_t key[FOLD_KEY_BYTES];
	struct entry *entry;
	UT_hash_handle hh;
};

/* What the kernel said of a socket that went, until the end of a sweep that began afterwards. */
struct ended {
	struct ended *next;
	struct entry *entry;
	usec_t at;           /* boottime: it ended then, or before */
	usec_t earliest;     /* boottime: it did not end before this */
	bool proven;         /* ... as the socket itself says */
	bool exact;          /* it ended at `at` */
	usec_t opened_after; /* of one that no sweep has seen */
	uint8_t evidence;    /* enum end_evidence */
	bool local_unknown;  /* entry.row.local is only family and port */
	bool older;          /* no sweep would have shown it */
	bool late;           /* heard while the sweep was running */
	bool relic;          /* no connection any more when the last sweep began */
	bool young; /* another end, of a listener on its port, may have been before it and not be told yet */
};

/* A sweep of before, some time after the one before it. */
struct looked {
	usec_t begin, end;  /* end 0: none */
	uint32_t protocols; /* that it read whole: a mask */
};
#define TABLE_LOOKED 64u

/* A socket that left the kernel's tables and whose end was not told: it was reset while somebody has it open, and its port is
 * free; or the kernel tells late. */
struct departed {
	uint64_t cookie;
	uint16_t port;
	UT_hash_handle hh;
};

/* A socket that ended, as an event told. */
struct waiting {
	struct waiting *next;
	uint64_t cookie;
	usec_t at;
};
struct waitings {
	struct waiting *first, **last; /* in the order told */
	size_t count;
};

struct table {
	struct entry *sockets;
	struct fold *folds; /* all remembered MPTCP sockets that have a key */
	/* TCP sockets that ended and no sweep has seen; and remainders that a sweep saw before their end was told */
	struct fold *pairs;
	struct table_listeners listeners;
	/* ports of TCP sockets that went without ever having sent: some were listeners that no sweep saw */
	struct table_listeners unused;
	struct ended *ended, **ended_last; /* in the order heard */
	struct departed *departed;         /* the oldest first; at most LIMIT_DEPARTED */
	size_t ended_count;
	size_t ended_tcp;     /* of these, TCP */
	size_t ended_unclear; /* of these, with END_UNKNOWN */
	bool hears;           /* ends are told */
	bool patient;         /* nobody waits for what this sweep tells */
	bool sweeping;        /* between table_begin and table_end */
	/* of the last whole sweep, and when the one before it began; USEC_UNSET: none yet */
	usec_t whole_begin[PROTOCOL_COUNT], whole_end[PROTOCOL_COUNT], whole_before[PROTOCOL_COUNT];
	struct looked looked[TABLE_LOOKED]; /* a ring; the next goes to looked_next */
	size_t looked_next;
	usec_t watched_since; /* begin of the first whole sweep of TCP in `ranges`; USEC_UNSET */
	usec_t begin, now;    /* of this sweep; when its last row was read */
	/* seen in this sweep, in order; `last`: the end to append at */
	struct entry *first, **last;
	struct port_ranges ranges, before; /* that are watched, and that were until table_watch() */
	uint32_t changed; /* protocols of which no whole sweep has shown `ranges` yet: a mask */
	bool accepted;    /* accepted connections are told */
	bool new_connections;
	bool kept;    /* this sweep does not read TCP's connections: they are as they were */
	bool expects; /* events tell of claims */
	bool settled; /* a whole sweep has ended */
	struct table_expectation expectation;
	struct waitings lingering; /* a remainder may be left: a sweep will tell */
	struct waitings ended_now; /* none is; a sweep may have read it still */
	struct table_stats stats;
};

static inline bool is_udp(uint8_t protocol)
{
	return protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE;
}

/* A connection that has ended keeps no remote end, whatever the kernel left in its bytes. */
static inline bool has_remote(const struct socket_row *row)
{
	return row->remote.address.family != FAMILY_NONE &&
	       (row->state != TCP_CLOSE || is_udp(row->protocol));
}

static inline struct entry *canonical_of(struct entry *e)
{
	return e->alias ? e->canonical : e;
}

/* What comes of a sweep. */
struct telling {
	int (*emit)(void *context, const struct sighting *s);
	void *context;
	enum source source;
	int result;         /* of the first emit that failed; nothing is emitted after it */
	bool local_unknown; /* of the socket that is being told */
};

/* table.c: an entry's life. */

/* Remembers a socket that is not there yet. 0 or -ENOMEM. */
int table_entry_add(
	struct table *t, const struct socket_row *row, usec_t at, struct entry **ret) _must_check_;
/* Takes over a row of a socket that is remembered, and marks what is to be told of it. */
void table_entry_update(struct table *t, struct entry *e, const struct socket_row *row, usec_t at);
void table_entry_free(struct table *t, struct entry *e);
/* The earlier bound of what is seen now for the first time. */
usec_t table_entry_bound(const struct table *t, const struct entry *e);
void table_tell(
	struct telling *l, const struct entry *e, enum sighting_kind kind, usec_t at, usec_t after);
/* Tells from the beginning what was seen before: not as of now, but as of its first time. */
void table_tell_anew(struct telling *l, const struct entry *e);

/* table_ends.c: what the kernel said. */

/* Remembers that a sweep of these protocols, begun at table.begin, has ended. */
void table_ends_looked(struct table *t, usec_t end, uint32_t protocols);
/* Tells, and forgets, what this sweep makes clear. */
void table_ends_tell(struct table *t, uint32_t protocols, struct telling *l);
/* A remainder whose cookie is not known yet: *ret is the ended socket of which it is left, now with that cookie; or NULL.
 * 0 or -ENOMEM. */
int table_ends_match(
	struct table *t, const struct socket_row *row, struct entry **ret) _must_check_;
/* It is of none that was told: its end may be told late. 0 or -ENOMEM. */
int table_ends_stray(struct table *t, struct entry *e) _must_check_;
/* Two sweeps have missed it, and so told its end. That of the socket itself is still to be told if it is open yet. */
void table_ends_depart(struct table *t, const struct entry *e);
void table_ends_done(struct table *t);
/* The entry goes: so does what was said of it. */
void table_ends_forget(struct table *t, const struct entry *e);

/* table_fold.c: an MPTCP socket and its first subflow are one claim. */

/* Does `row` have the same other half as the MPTCP socket's `known` row? */
bool table_fold_same(const struct socket_row *known, const struct socket_row *row);
/* Makes a socket findable by its present row: by inode and port, or where it has no inode by its two endpoints. The
 * newest wins: both are reused. 0 or -ENOMEM. */
int table_fold_add(struct fold **folds, struct entry *e) _must_check_;
void table_fold_remove(struct fold **folds, const struct entry *e);
/* NULL: there is none. */
struct entry *table_fold_find(struct fold *folds, const struct socket_row *row);
void table_fold_done(struct fold **folds);
/* A TCP row was seen: is it the subflow of an MPTCP socket that this sweep has shown? */
void table_fold_subflow(struct table *t, struct entry *e);

/* table_events.c: what events told. */

/* Has a sweep come before the event that is to tell of it? */
bool table_events_awaits(const struct table *t, const struct entry *e);
/* Is it but what is left of a connection, which events told of, or which is counted as lost? */
bool table_events_disowns(const struct table *t, const struct entry *e);
/* Is it no proof of an end that this sweep has not shown it? */
bool table_events_hides(const struct table *t, const struct entry *e);
/* Tells which remainders are gone: all that this sweep saw is marked. */
void table_events_swept(struct table *t, uint32_t protocols, struct telling *l);
void table_events_done(struct table *t);

/* table_roles.c */

/* What the entry's row, and what is known of its port, say of how the socket is used. */
enum role table_role(const struct table *t, const struct entry *e);
/* ... and what was left in it when it went. */
enum role table_role_of_ended(const struct table *t, const struct ended *x);
/* Accepted connections may be of no interest; but what was told once is told to its end. */
bool table_is_of_interest(const struct table *t, const struct entry *e, enum role role);
