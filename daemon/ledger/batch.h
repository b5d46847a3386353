/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the ledger learnt and the store does not have yet, in order. It is the ledger's sink. A commit that fails
 * loses nothing: the batch is kept and written again. Only when the disk refuses for so long that
 * LIMIT_PENDING_CLAIMS closed claims wait are further ones lost, counted, and told as a gap.
 */

#include "daemon/ledger/ledger.h"
#include "daemon/ledger/store.h"

struct batch;

/* NULL: no memory. The store numbers the claims; it must outlive the batch. */
struct batch *batch_new(struct store *s);
struct batch *batch_free(struct batch *b);
DEFINE_CLEANUP(struct batch, batch_free)

/* What is told of a commit that has succeeded. */
struct batch_told {
	void *context;
	void (*gap)(void *context, usec_t from_wall, usec_t until_wall, const char *reason,
		uint64_t lost);
	void (*clock_step)(void *context, usec_t at_wall, int64_t by_usec);
};
/* To whom; copied. */
void batch_tell(struct batch *b, const struct batch_told *told);

/* The sink to give to ledger_new(). */
struct ledger_sink batch_sink(struct batch *b);

/*
 * There is an events' ring, or there is none any more. With one, a commit may come in the midst of what the ring tells, and
 * whoever is killed then is told the same again, from where the stored position is: the last `drained`. So what has happened
 * since is written such that it can be told twice. A claim that was released since is written as an open one, which is
 * recognised by its cookie; the batch keeps its release, and failures, until the ring's next `drained`.
 */
void batch_ring(struct batch *b, bool there_is);
/* An open claim of the database of which the ring will tell again, from its opening on: it is not to become two, nor to be gone
 * before it is told. Where the ring does not, it ends: when the ring has told of later ones, or is not read any more. 0: takes over
 * what `claim` owns; -ENOMEM. */
int batch_left_open(struct batch *b, struct claim *claim) _must_check_;
/* What the database has of the ring already. */
void batch_ring_before(struct batch *b, const struct drained *stored);

/* Something waits for that: a commit now would write it twice. */
bool batch_is_told_partly(const struct batch *b);

/* The place in the ring that is committed; generation 0: none. */
struct ring_position batch_ring_committed(const struct batch *b);

/* The absence before this session: becomes a gap that ends where coverage begins. */
void batch_absence(struct batch *b, usec_t from_wall, const char *reason);

/* The stretch that comes next goes on where the present one ends, at `from_wall`: only how often we look has changed. */
void batch_continue(struct batch *b, usec_t from_wall);

/* Writes all of it, in order, and commits (see store_commit). On failure the store is rolled back and the batch is
 * as before. */
int batch_commit(struct batch *b, struct now until, bool durable) _must_check_;

/* Nothing waits. */
bool batch_is_empty(const struct batch *b);

struct batch_stats {
	uint64_t changes; /* opened, changed and released claims since the last commit */
	uint64_t waiting; /* closed claims not yet written */
	uint64_t held;    /* of those, the ones that wait for the ring's next `drained` */
	uint64_t lost;    /* closed claims that could not be kept, ever */
	uint64_t gaps;    /* of every kind, in this session */
};
struct batch_stats batch_stats(const struct batch *b);
