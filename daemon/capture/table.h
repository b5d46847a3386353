/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What capture remembers of each socket, by cookie. It turns the rows of a sweep into sightings:
 * what is new, what changed, what is not there any more. Pure: no clock, no descriptor. It also
 * tells roles apart and folds an MPTCP socket and its TCP subflow (same inode, same port, two
 * cookies) into one claim.
 */

#include "common/sighting.h"
#include "daemon/capture/source.h"
#include "daemon/capture/source_events.h"

struct table;

/* A socket that is remembered. The caller reads it, and sets what attribution found. */
struct table_socket {
	struct socket_row row; /* as last seen */
	uint8_t role;          /* enum role, as last told */
	uint8_t attribution;   /* set by the caller, with opener and holders */
	bool wants_holder;     /* has an inode and was never attributed for good: look for it */
	uint32_t opener;       /* ref; 0: none yet */
	uint32_t holder_count, holders_dropped;
	uint32_t *holders; /* owned by the table; refs; NULL: none */
};

/* `accepted`: accepted connections are told (else they are remembered but not told). NULL: no memory. */
struct table *table_new(bool accepted);
struct table *table_free(struct table *t);
/* Ends will be told (table_ended); before the first sweep. */
void table_hear(struct table *t);
DEFINE_CLEANUP(struct table, table_free)

/*
 * From the next sweep on, rows of these ports come, and accepted connections are told or not; between two sweeps.
 * Sockets on other ports are forgotten and nothing is told of them: they did not end. What the first sweep shows on a
 * port that was not watched before is preexisting. An accepted connection that was told is told to its end.
 */
void table_watch(struct table *t, const struct port_ranges *ranges, bool accepted);

/*
 * A sweep is: table_begin; table_row for every row (MPTCP rows before TCP rows); table_attributable
 * to learn which sockets want a holder, and the caller's table_attribute for each; table_end, which
 * emits. An aborted sweep ends with table_end and the mask of the protocols that were read whole:
 * for the others nothing is absent.
 */
void table_begin(struct table *t, usec_t begin);
/* `at`: boottime after the row was read. 0 or -ENOMEM. */
int table_row(struct table *t, const struct socket_row *row, usec_t at) _must_check_;

/* Were connections seen for the first time in this sweep? Then the listeners are worth a second look. */
bool table_has_new_connections(const struct table *t);

/* In a sweep that did not read TCP's connections (and TIME_WAIT remainders), since the kernel's counters say that they are what the
 * last sweep saw: those that it saw are seen again, as they were. Only where table_can_keep(): there is none that must be
 * read again whatever the kernel counts (table_stats().unsettled), and the end of none was told since. */
bool table_can_keep(const struct table *t);
void table_keep_connections(struct table *t);

/* The sockets whose holder is wanted, in no order, at most `max`; returns how many. They live until table_end. */
size_t table_attributable(struct table *t, struct table_socket **ret, size_t max);
/* Sockets that nobody can have open (not accepted yet, or orphaned before we saw them) and that were not placed by their
 * cgroup yet, at most `max`, in no order. Returns how many. */
size_t table_unheld(struct table *t, struct table_socket **ret, size_t max);
/* Listening and bound sockets whose opener is known, at most `max`, in no order: these live long and are inherited and
 * passed on, so their holders are worth a second look when one is taken anyway. Returns how many. */
size_t table_shared(struct table *t, struct table_socket **ret, size_t max);
/* Records what was found for one of them. `opener` 0: nobody. Copies `holders`. `final`: do not ask again. */
int table_attribute(struct table *t, struct table_socket *s, uint8_t attribution, uint32_t opener,
	const uint32_t *holders, uint32_t holder_count, uint32_t holders_dropped,
	bool final) _must_check_;

/* Emits, in the order in which rows were seen, what changed; then what is absent. `emit` returns 0 or a negative
 * errno, which stops (the rest is emitted by the next resync). `end`: boottime after the last row. The sightings'
 * `netns` is 0 for the namespace that is swept: the caller knows which. Returns what `emit` returned. */
int table_end(struct table *t, usec_t end, uint32_t protocols, enum source source,
	int (*emit)(void *context, const struct sighting *s), void *context) _must_check_;

/* Emits everything that is remembered as PRESENT (the ledger lost its memory), between two sweeps.
 * `at` and `after` are those of its first sighting; of a TIME_WAIT remainder `at` is the last. */
int table_resync(struct table *t, enum source source,
	int (*emit)(void *context, const struct sighting *s), void *context) _must_check_;

/*
 * The kernel said that a socket is gone. `at`: boottime when it was heard; it was told at `told_after` or later. `prompt`: the
 * kernel told at once, as far as is known. Any time, also during a sweep; it is told, with what is not known of the
 * socket yet, by the table_end of the next sweep that begins after it; before the first sweep it is of no interest. 0,
 * -ENOMEM, or -ENOBUFS: LIMIT_ENDS wait already.
 */
int table_ended(struct table *t, const struct socket_end *end, usec_t at, usec_t told_after,
	bool prompt) _must_check_;
/* From here on nobody waits for what a sweep tells (or somebody does, as at first): then what may be clear TABLE_MOMENT_USEC
 * after it was heard is told by a sweep that begins then. */
#define TABLE_MOMENT_USEC (100 * USEC_PER_MSEC)
void table_be_patient(struct table *t, bool patient);
/* What was heard since then (boottime) was not prompt after all, as far as it was not told yet. O(ends that wait). */
void table_ends_doubt(struct table *t, usec_t since);
/* How many ends wait. */
size_t table_ends(const struct table *t);

/*
 * Events. A claim and its end are told at once, any time, also during a sweep; what a sweep shows of a socket that an event
 * has told of is only what events do not know. All of these return 0, -ENOMEM (nothing was told), or what `emit` returned.
 */
struct table_expectation {
	uint64_t
		netns; /* net cookie of the namespace that is swept: events tell of others as well */
	uint32_t protocols; /* that sweeps show: a mask */
	bool bound_only;    /* sweeps show bound-only TCP */
	bool udp_connect;   /* events tell of a UDP connect at once, not at its end */
	bool goes_on;       /* what the first sweep shows, events told of to an earlier table */
};
/* Events will tell of claims, from before the first sweep on: what only a sweep shows is told when a second one shows it too
 * (it may be faster than the event), but for the kinds of which events do not tell at once. */
void table_expect(struct table *t, const struct table_expectation *expectation);

/* Who has a socket, as refs of the stream. */
struct table_who {
	uint8_t attribution; /* enum attribution */
	uint32_t opener;     /* 0: not known */
	const uint32_t *holders;
	uint32_t holder_count, holders_dropped; /* at most LIMIT_HOLDERS */
};

/* EVENT_CLAIM: tells it as present, exactly from then on. Told of twice it is one claim, that may have become more (listening, or
 * connected). With another port, or after its end, it is another claim. */
int table_event_claim(struct table *t, const struct event_seen *seen, const struct table_who *who,
	int (*emit)(void *context, const struct sighting *s), void *context) _must_check_;
/* EVENT_RELEASE: tells it as closed. Where a remainder may linger, the next sweep that begins after it decides whether the port
 * is free (RELEASED). Of a socket that was not told nothing is told, but before the first whole sweep: somebody else may have. */
int table_event_end(struct table *t, const struct event_seen *seen,
	int (*emit)(void *context, const struct sighting *s), void *context) _must_check_;
/* EVENT_HOLDER: process `ref` has it open. It is the opener where none is known. */
int table_event_holder(struct table *t, const struct event_seen *seen, uint32_t ref,
	int (*emit)(void *context, const struct sighting *s), void *context) _must_check_;
/* Two rings have told of the same moment, and this is the second one's word. Is it of a tenure that is over, or of one before
 * the present one? What it says of the present one is told twice, which does no harm. */
bool table_event_is_past(const struct table *t, const struct event_seen *seen);
/* A snapshot at `at` has found one that no sweep shows; the one at `after` has not (0: it is there since before we watched).
 * Unless it is known, tells it. */
int table_event_found(struct table *t, const struct event_seen *seen, usec_t at, usec_t after,
	const struct table_who *who, int (*emit)(void *context, const struct sighting *s),
	void *context) _must_check_;
/* Is this socket known, and who has it? A snapshot need not look at it. */
bool table_event_knows(const struct table *t, uint64_t cookie);
/* The same of one in another namespace that a snapshot, begun at `at`, shows. */
bool table_event_shown(struct table *t, uint64_t cookie, usec_t at);
/* Which ends events may not have told of. */
enum table_untold {
	TABLE_UNTOLD_NONE,
	/* of some TCP sockets, perhaps: those have ended which neither this snapshot has shown nor the one before. One alone proves
	 * nothing: a connection that nobody has open any more lasts as long as its peer takes, or waits to be accepted. */
	TABLE_UNTOLD_SOME,
	TABLE_UNTOLD_LOST, /* counted: each one that it has not shown has ended */
};
/* That snapshot has shown all that it did: what a snapshot has found there before, and this one has not, has ended; and of what
 * events have told of, that which `untold` says. */
int table_event_missed(struct table *t, usec_t at, enum table_untold untold,
	int (*emit)(void *context, const struct sighting *s), void *context) _must_check_;
/* Forgets ends that no sweep need recognise any more; after each reading of the events. */
void table_event_forget(struct table *t, usec_t now);
/* How many ends wait for a sweep to tell whether a remainder lingers. */
size_t table_event_lingering(const struct table *t);

struct table_stats {
	uint32_t sockets;      /* remembered and present */
	uint32_t unattributed; /* have an inode and no opener */
	/* TCP connections that must be read again whatever the kernel counts: missed once, with a role or a holder yet to
	 * be learnt, or folded with MPTCP */
	uint32_t unsettled;
	uint32_t
		awaited; /* the last sweep was the first to show them, and no event has told of them yet */
};
struct table_stats table_stats(const struct table *t);

/* Calls `visit` with every process ref that a remembered socket names (for forgetting the others). */
void table_refs(const struct table *t, void (*visit)(void *context, uint32_t ref), void *context);
