/* SPDX-License-Identifier: MIT */

/*
 * Two kinds of things wait. Entries are facts that never change again (a released claim, a gap, the beginning of a
 * stretch): a queue, written in order. Open claims change until they are released, so of them only the fact is kept
 * that the database is behind: a set of pointers into the ledger, which drops out of the set what is released.
 * A commit writes all of both; thus all that happened before the beginning of a sweep is in the database together, and
 * where a killed daemon stopped is one moment, not one per claim.
 */

#include "daemon/ledger/batch.h"

#include <sys/queue.h>
#define uthash_malloc(size) malloc(size)
#include <uthash.h>

#include "common/log.h"

/* The reason of the gap for claims that could not be kept. */
#define DISK_FULL "disk-full"

enum entry_kind {
	ENTRY_RELEASED,
	ENTRY_COVERAGE,
	ENTRY_GAP,
	ENTRY_CLOCK_STEP,
	ENTRY_NETNS,
};

struct entry {
	TAILQ_ENTRY(entry) link;
	enum entry_kind kind;
	usec_t from_wall, until_wall; /* COVERAGE (from), GAP, CLOCK_STEP (from: at) */
	union {
		struct claim released; /* owns its parts */
		struct coverage coverage;
		struct netns netns; /* owns its name */
		struct {
			char *reason; /* owned */
			uint64_t lost;
		} gap;
		int64_t step_usec;
	};
};

struct dirty {
	UT_hash_handle hh;
	uint64_t id;
	struct claim *claim; /* the ledger's */
};

struct batch {
	struct store *store;
	TAILQ_HEAD(entries, entry) entries;
	struct dirty *dirty;
	struct batch_stats stats;
	usec_t absent_from; /* wall; USEC_UNSET: nothing to tell */
	const char *absent_reason;
	usec_t continued_from;  /* wall; USEC_UNSET: the next stretch begins with its first sweep */
	uint64_t lost_untold;   /* since the last gap of this kind was written */
	usec_t lost_from;       /* wall */
	struct batch_told told; /* no callbacks: nobody */
};

static void entry_free(struct entry *e)
{
	switch (e->kind) {
	case ENTRY_RELEASED:
		claim_done(&e->released);
		break;
	case ENTRY_NETNS:
		free(e->netns.name);
		break;
	case ENTRY_GAP:
		free(e->gap.reason);
		break;
	case ENTRY_COVERAGE:
	case ENTRY_CLOCK_STEP:
		break;
	}
	free(e);
}

/* NULL: no memory; the fact is lost, which is logged here since no caller can do more about it. */
static struct entry *add_entry(struct batch *b, enum entry_kind kind)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e) {
		log_error("no memory for what the ledger learnt");
		return NULL;
	}
	e->kind = kind;
	TAILQ_INSERT_TAIL(&b->entries, e, link);
	return e;
}

static void mark_dirty(struct batch *b, struct claim *claim)
{
	struct dirty *d;

	HASH_FIND(hh, b->dirty, &claim->id, sizeof(claim->id), d);
	if (d)
		return;
	d = calloc(1, sizeof(*d));
	if (!d) {
		log_error("no memory for an open claim's change");
		return;
	}
	d->id = claim->id;
	d->claim = claim;
	HASH_ADD(hh, b->dirty, id, sizeof(d->id), d);
}

static void unmark_dirty(struct batch *b, const struct claim *claim)
{
	struct dirty *d;

	HASH_FIND(hh, b->dirty, &claim->id, sizeof(claim->id), d);
	if (!d)
		return;
	HASH_DEL(b->dirty, d);
	free(d);
}

static void on_opened(void *context, struct claim *claim)
{
	struct batch *b = context;

	store_number(b->store, claim);
	b->stats.changes++;
	mark_dirty(b, claim);
}

static void on_changed(void *context, struct claim *claim)
{
	struct batch *b = context;

	b->stats.changes++;
	mark_dirty(b, claim);
}

static void on_released(void *context, struct claim *claim)
{
	struct batch *b = context;
	struct entry *e = NULL;

	unmark_dirty(b, claim);
	b->stats.changes++;
	if (b->stats.waiting < LIMIT_PENDING_CLAIMS)
		e = add_entry(b, ENTRY_RELEASED);
	if (!e) {
		if (b->lost_untold++ == 0)
			b->lost_from = claim_wall(claim, claim->released_boot);
		b->stats.lost++;
		return;
	}
	b->stats.waiting++;
	e->released = *claim;
	claim->opener = NULL; /* its parts are the entry's now */
	claim->holders = NULL;
	claim->holder_count = 0;
}

static void add_gap(
	struct batch *b, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	_cleanup_(free_p) char *copy = strdup(reason);
	struct entry *e = copy ? add_entry(b, ENTRY_GAP) : NULL;

	if (!e)
		return;
	e->from_wall = from_wall;
	e->until_wall = until_wall;
	e->gap.reason = TAKE_PTR(copy);
	e->gap.lost = lost;
	b->stats.gaps++;
}

static void on_coverage_begins(void *context, const struct coverage *c, usec_t from_wall)
{
	struct batch *b = context;
	struct entry *e;

	if (b->absent_from != USEC_UNSET) {
		add_gap(b, MIN(b->absent_from, from_wall), from_wall, b->absent_reason,
			LOST_UNKNOWN);
		b->absent_from = USEC_UNSET;
	}
	e = add_entry(b, ENTRY_COVERAGE);
	if (!e)
		return;
	e->from_wall = b->continued_from != USEC_UNSET ? b->continued_from : from_wall;
	e->coverage = *c;
	b->continued_from = USEC_UNSET;
}

static void on_coverage_extends(void *context, struct now until)
{
	(void)context; /* batch_commit() is told the same moment */
	(void)until;
}

static void on_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	add_gap(context, from_wall, until_wall, reason, lost);
}

static void on_clock_step(void *context, usec_t at_wall, int64_t by_usec)
{
	struct entry *e = add_entry(context, ENTRY_CLOCK_STEP);

	if (!e)
		return;
	e->from_wall = at_wall;
	e->step_usec = by_usec;
}

static void on_netns(void *context, const struct netns *n)
{
	_cleanup_(free_p) char *name = n->name ? strdup(n->name) : NULL;
	struct entry *e = n->name && !name ? NULL : add_entry(context, ENTRY_NETNS);

	if (!e)
		return;
	e->netns = *n;
	e->netns.name = TAKE_PTR(name);
}

struct ledger_sink batch_sink(struct batch *b)
{
	return (struct ledger_sink){
		.context = b,
		.opened = on_opened,
		.changed = on_changed,
		.released = on_released,
		.coverage_begins = on_coverage_begins,
		.coverage_extends = on_coverage_extends,
		.gap = on_gap,
		.clock_step = on_clock_step,
		.netns = on_netns,
	};
}

struct batch *batch_new(struct store *s)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->store = s;
	b->absent_from = USEC_UNSET;
	b->continued_from = USEC_UNSET;
	TAILQ_INIT(&b->entries);
	return b;
}

void batch_tell(struct batch *b, const struct batch_told *told)
{
	b->told = *told;
}

/* Says what has just been committed. */
static void tell(const struct batch *b, struct now until)
{
	struct entry *e;

	if (!b->told.gap)
		return;
	TAILQ_FOREACH (e, &b->entries, link) {
		if (e->kind == ENTRY_GAP)
			b->told.gap(b->told.context, e->from_wall, e->until_wall, e->gap.reason,
				e->gap.lost);
		else if (e->kind == ENTRY_CLOCK_STEP)
			b->told.clock_step(b->told.context, e->from_wall, e->step_usec);
	}
	if (b->lost_untold > 0)
		b->told.gap(b->told.context, MIN(b->lost_from, until.wall), until.wall, DISK_FULL,
			b->lost_untold);
}

static void drop_all(struct batch *b)
{
	struct entry *e;
	struct dirty *d, *next;

	while ((e = TAILQ_FIRST(&b->entries))) {
		TAILQ_REMOVE(&b->entries, e, link);
		entry_free(e);
	}
	HASH_ITER (hh, b->dirty, d, next) {
		HASH_DEL(b->dirty, d);
		free(d);
	}
}

struct batch *batch_free(struct batch *b)
{
	if (!b)
		return NULL;
	drop_all(b);
	free(b);
	return NULL;
}

void batch_absence(struct batch *b, usec_t from_wall, const char *reason)
{
	b->absent_from = from_wall;
	b->absent_reason = reason;
}

void batch_continue(struct batch *b, usec_t from_wall)
{
	b->continued_from = from_wall;
}

static int write_entry(struct store *s, struct entry *e)
{
	switch (e->kind) {
	case ENTRY_RELEASED:
		return store_put_released(s, &e->released);
	case ENTRY_COVERAGE:
		return store_put_coverage(s, &e->coverage, e->from_wall);
	case ENTRY_GAP:
		return store_put_gap(s, e->from_wall, e->until_wall, e->gap.reason, e->gap.lost);
	case ENTRY_CLOCK_STEP:
		return store_put_clock_step(s, e->from_wall, e->step_usec);
	case ENTRY_NETNS:
		return store_put_netns(s, &e->netns);
	}
	return -EINVAL;
}

static int write_all(struct batch *b, struct now until, bool durable)
{
	struct entry *e;
	struct dirty *d, *next;
	int r = durable ? store_begin(b->store) : store_begin_question(b->store);

	if (r < 0)
		return r;
	/* Nothing is in both. First what is over: with what is open in the database the store would look there for each. */
	TAILQ_FOREACH (e, &b->entries, link) {
		r = write_entry(b->store, e);
		if (r < 0)
			return r;
	}
	HASH_ITER (hh, b->dirty, d, next) {
		r = store_put_open(b->store, d->claim);
		if (r < 0)
			return r;
	}
	if (b->lost_untold > 0) {
		r = store_put_gap(b->store, MIN(b->lost_from, until.wall), until.wall, DISK_FULL,
			b->lost_untold);
		if (r < 0)
			return r;
	}
	return store_commit(b->store, until, durable);
}

int batch_commit(struct batch *b, struct now until, bool durable)
{
	int r = write_all(b, until, durable);

	if (r < 0) {
		store_rollback(b->store);
		return r;
	}
	tell(b, until);
	drop_all(b);
	b->stats.changes = 0;
	b->stats.waiting = 0;
	b->stats.gaps += b->lost_untold > 0;
	b->lost_untold = 0;
	return 0;
}

bool batch_is_empty(const struct batch *b)
{
	return TAILQ_EMPTY(&b->entries) && !b->dirty && b->lost_untold == 0;
}

struct batch_stats batch_stats(const struct batch *b)
{
	return b->stats;
}
