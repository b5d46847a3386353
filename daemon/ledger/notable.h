/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is worth a line in the log beyond a claim: a program that claims a port for the first time ever, a program that
 * listens on a port for the first time ever, ports that run short, gaps, steps of the clock, and an hourly summary. It stands between the ledger and
 * its sink and hears everything, at the cost of a bit per claim of a known program and of a hash per listener.
 *
 * A program is its exe (its comm where there is no exe) together with exe_note. A listener is a program, a protocol and
 * a port; TCP and MPTCP say themselves that they listen. An unconnected UDP socket counts as a listener where the kernel
 * would not have chosen the port (outside of the ephemeral range), and elsewhere when it has been open for
 * NOTABLE_SETTLED_USEC: what is younger is mostly a client that waits for an answer.
 * A listener without a process is one when it has been open that long, too, since its holder may still be found.
 *
 * Each is announced after the commit of its row in `known`: a process that is killed in between leaves it unsaid, never
 * said twice; only a power cut after a commit without fsync can have it said again.
 */

#include "common/port_set.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/store.h"

#define NOTABLE_SETTLED_USEC (10 * USEC_PER_MINUTE)
#define NOTABLE_LOOK_USEC    (5 * USEC_PER_MINUTE)
#define NOTABLE_HOUR_USEC    USEC_PER_HOUR

struct notable;

/* Of a store whose database says what is known, from `now` on. `next` gets all that the sink of notable_sink() gets.
 * 0, -ENOMEM, or an error of the store. */
int notable_new(struct store *s, const struct ledger_sink *next, struct now now,
	struct notable **ret) _must_check_;
struct notable *notable_free(struct notable *n);
DEFINE_CLEANUP(struct notable, notable_free)

/* The sink to give to ledger_new(). */
struct ledger_sink notable_sink(struct notable *n);

/* The ledger has taken over what earlier sessions left open. In a database that nobody has watched for news yet, which is new or
 * of a version before there were any, that is learnt, not said. O(open claims). */
void notable_adopted(struct notable *n, struct ledger *l);

/* Looks at the open claims for listeners that have settled, and for programs that had no place when they came, when that is
 * due. O(open claims), every NOTABLE_LOOK_USEC. */
void notable_look(struct notable *n, struct ledger *l, usec_t boot);

/* Says whose ports run short, and where that is over: a destination of TCP, when 80 % of those that a client can be given are
 * taken, and again not before it was less than 60 %. When that is due: O(open claims), where there are enough of them. */
void notable_look_at_ports(struct notable *n, struct ledger *l, struct now now);

/* What the daemon's own namespace (its inode number; 0: not known) does not hand out. NULL: not known. */
void notable_reserved(struct notable *n, const struct port_set *reserved, uint64_t netns);

/* What is kept of remote addresses is what may be said of them. */
void notable_settings(struct notable *n, const struct settings *settings);

/* Something waits for a commit. */
bool notable_waits(const struct notable *n);

/* Puts what waits into the store's transaction, `until` as store_commit() has it. On failure that is rolled back, and all
 * of it still waits. */
int notable_write(struct notable *n, struct now until) _must_check_;

/* The transaction with it is committed: says it, and forgets it. */
void notable_committed(struct notable *n);

/* A gap and a step of the clock that are committed. */
void notable_gap(
	void *notable, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost);
void notable_clock_step(void *notable, usec_t at_wall, int64_t by_usec);

/* From here on it is watched like this: the ephemeral range is what matters. */
void notable_coverage(struct notable *n, const struct coverage *c);

/* The ranges of other network namespaces are the ledger's to know. */
void notable_ledger(struct notable *n, const struct ledger *ledger);

/* A sweep took capture so long. */
void notable_swept(struct notable *n, usec_t cpu_usec);

/* What the summary says beside what was counted here; all but the last three since the session began. */
struct notable_facts {
	struct now now;
	uint64_t lost, gaps;
	usec_t cpu_usec; /* of this process */
	uint64_t open_claims, unattributed, database_bytes;
};

/* Is an hour over since the last summary (or since the session began)? */
bool notable_hour_is_over(const struct notable *n, usec_t boot);

/* The summary of the time since the last one, and how many lines of it were left out. */
void notable_summary(struct notable *n, const struct notable_facts *f);
