/* SPDX-License-Identifier: MIT */

/*
 * Two kinds of things wait. Entries are facts that never change again (a released claim, a gap, the beginning of a
 * stretch): a queue, written in order. Open claims change until they are released, so of them only the fact is kept
 * that the database is behind: a set of pointers into the ledger, which drops out of the set what is released.
 * A commit writes all of both; thus all that happened before the beginning of a sweep is in the database together, and
 * where a killed daemon stopped is one moment, not one per claim.
 *
 * With an events' ring there is a second such moment: the place in the ring before which all was told. What has happened
 * since it is in `held`; see batch_ring().
 */

#include "daemon/ledger/batch.h"

#include <sys/queue.h>
#define HASH_NONFATAL_OOM   1 /* what could not be added has no hh.tbl */
#define uthash_malloc(size) malloc(size)
#include <uthash.h>

#include "common/log.h"

/* The ring is in the order of time, but for what processors do at once. */
#define TOLD_BY_THEN_USEC USEC_PER_MINUTE

/* The reason of the gap for claims that could not be kept. */
#define DISK_FULL "disk-full"

enum entry_kind {
	ENTRY_RELEASED,
	ENTRY_COVERAGE,
	ENTRY_GAP,
	ENTRY_CLOCK_STEP,
	ENTRY_NETNS,
	ENTRY_FAILURE,
	ENTRY_LEFT_OUT,
};

TAILQ_HEAD(entries, entry);

struct entry {
	TAILQ_ENTRY(entry) link;
	enum entry_kind kind;
	usec_t from_wall, until_wall; /* COVERAGE (from), GAP, CLOCK_STEP (from: at), LEFT_OUT */
	union {
		struct claim released; /* owns its parts */
		struct coverage coverage;
		struct netns netns; /* owns its name */
		struct {
			char *reason; /* owned */
			uint64_t lost;
		} gap;
		int64_t step_usec;
		struct store_failure failure; /* owns its references */
		uint64_t left_out;
	};
};

struct dirty {
	UT_hash_handle hh;
	uint64_t id;
	struct claim *claim; /* the ledger's */
};

/* A claim that the database has open, and that is to be told again. */
struct left {
	UT_hash_handle hh;
	struct tenure {
		uint64_t cookie;
		usec_t opened; /* boottime */
	} tenure;
	struct claim claim; /* owns its parts */
};

struct batch {
	struct store *store;
	struct left *left;
	usec_t told_until; /* boottime of the latest opening that the ring has told */
	struct entries entries;
	struct entries held; /* since `drained`: released claims and failures */
	bool has_ring;
	struct drained drained;         /* told; generation 0: nothing yet */
	struct ring_position committed; /* what the database has of it */
	uint64_t failures_waiting;      /* in both lists */
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
	if (e->kind == ENTRY_RELEASED) {
		claim_done(&e->released);
	} else if (e->kind == ENTRY_NETNS) {
		free(e->netns.name);
	} else if (e->kind == ENTRY_GAP) {
		free(e->gap.reason);
	} else if (e->kind == ENTRY_FAILURE) {
		process_unref(e->failure.process);
		process_unref(e->failure.holder);
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
	if (b->has_ring && (kind == ENTRY_RELEASED || kind == ENTRY_FAILURE))
		TAILQ_INSERT_TAIL(&b->held, e, link);
	else
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
	if (d) {
		d->id = claim->id;
		d->claim = claim;
		HASH_ADD(hh, b->dirty, id, sizeof(d->id), d);
	}
	if (!d || !d->hh.tbl) {
		log_error("no memory for an open claim's change");
		free(d);
	}
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

int batch_left_open(struct batch *b, struct claim *claim)
{
	struct left *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->tenure.cookie = claim->cookie;
	l->tenure.opened = claim->opened_boot;
	HASH_ADD(hh, b->left, tenure, sizeof(l->tenure), l);
	if (!l->hh.tbl) {
		free(l);
		return -ENOMEM;
	}
	l->claim = *claim;
	*claim = (struct claim){0};
	return 0;
}

static void drop_left(struct batch *b, struct left *l)
{
	HASH_DEL(b->left, l);
	claim_done(&l->claim);
	free(l);
}

/* What the ring does not tell of again is known by its row alone: it ended, where that has no end, nobody knows when. */
static void end_left(struct batch *b, struct left *l)
{
	struct entry *e = add_entry(b, ENTRY_RELEASED);
	struct claim *c = &l->claim;

	if (!e)
		return; /* it is ended with what is told next, or by the next session */
	if (c->closed_boot == USEC_UNSET) {
		c->closed_boot = c->opened_boot;
		c->closed_after_boot = USEC_UNSET;
		c->end_unseen = true;
	}
	c->released_boot = c->closed_boot;
	e->released = *c;
	*c = (struct claim){0};
	b->stats.changes++;
	b->stats.waiting++;
	b->stats.held += b->has_ring;
	drop_left(b, l);
}

static void end_left_before(struct batch *b, usec_t opened)
{
	struct left *l, *next;

	HASH_ITER (hh, b->left, l, next)
		if (l->tenure.opened < opened)
			end_left(b, l);
}

/* The number that the database has for it; else a new one. */
static void number(struct batch *b, struct claim *claim)
{
	const struct tenure tenure = {.cookie = claim->cookie, .opened = claim->opened_boot};
	struct left *l;

	HASH_FIND(hh, b->left, &tenure, sizeof(tenure), l);
	if (!l) {
		store_number(b->store, claim);
		return;
	}
	claim->id = l->claim.id;
	drop_left(b, l);
}

static void on_opened(void *context, struct claim *claim)
{
	struct batch *b = context;

	number(b, claim);
	if (claim->source == SOURCE_EVENTS)
		b->told_until = MAX(b->told_until, claim->opened_boot);
	b->stats.changes++;
	mark_dirty(b, claim);
}

static void on_changed(void *context, struct claim *claim)
{
	struct batch *b = context;

	b->stats.changes++;
	mark_dirty(b, claim);
}

/* From then on, so many were lost for want of room. */
static void lose(struct batch *b, usec_t from_wall, uint64_t count)
{
	b->lost_from = b->lost_untold > 0 ? MIN(b->lost_from, from_wall) : from_wall;
	b->lost_untold += count;
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
		lose(b, claim_wall(claim, claim->released_boot), 1);
		b->stats.lost++;
		return;
	}
	b->stats.waiting++;
	b->stats.held += b->has_ring;
	e->released = *claim;
	claim->opener = NULL; /* its parts are the entry's now */
	claim->holders = NULL;
	claim->holder_count = 0;
}

/* One more where the last fact is a gap of this reason that ends there: a disk that refuses must not make many of them. */
static bool extend_gap(
	struct batch *b, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	struct entry *e = TAILQ_LAST(&b->entries, entries);

	if (lost == LOST_UNKNOWN || !e || e->kind != ENTRY_GAP || e->gap.lost == LOST_UNKNOWN ||
		!streq(e->gap.reason, reason) || from_wall < e->from_wall ||
		from_wall > e->until_wall + LIMIT_TOUCH_USEC ||
		usec_sub(until_wall, e->from_wall) > LIMIT_GAP_USEC)
		return false;
	e->until_wall = MAX(e->until_wall, until_wall);
	e->gap.lost += lost;
	return true;
}

static void add_gap(
	struct batch *b, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	_cleanup_(free_p) char *copy = NULL;
	struct entry *e;

	if (extend_gap(b, from_wall, until_wall, reason, lost))
		return;
	copy = strdup(reason);
	e = copy ? add_entry(b, ENTRY_GAP) : NULL;
	if (!e) { /* without it, what came in it would be missing from an answer that says it is whole */
		lose(b, from_wall, lost == LOST_UNKNOWN ? 1 : lost);
		return;
	}
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

static void add_left_out(struct batch *b, usec_t from_wall, usec_t until_wall, uint64_t count)
{
	struct entry *e = TAILQ_LAST(&b->entries, entries);

	if (e && e->kind == ENTRY_LEFT_OUT) { /* a disk that refuses must not make many of them */
		e->from_wall = MIN(e->from_wall, from_wall);
		e->until_wall = MAX(e->until_wall, until_wall);
		e->left_out += count;
		return;
	}
	e = add_entry(b, ENTRY_LEFT_OUT);
	if (!e)
		return;
	e->from_wall = from_wall;
	e->until_wall = until_wall;
	e->left_out = count;
}

static void on_failures_left_out(void *context, usec_t from_wall, usec_t until_wall, uint64_t count)
{
	add_left_out(context, from_wall, until_wall, count);
}

/* A socket that systemd opened and passed on is held by whom it was passed to. */
static struct process *holder_of(const struct claim *c)
{
	if (c->opener && c->opener->pid == 1)
		for (uint32_t i = c->holder_count; i > 0; i--)
			if (c->holders[i - 1].until_boot == USEC_UNSET)
				return c->holders[i - 1].process;
	return c->opener;
}

static void on_failed(void *context, const struct ledger_failure *told)
{
	struct batch *b = context;
	const struct failure *f = told->failure;
	const struct claim *c = told->holder;
	struct process *holder = c ? holder_of(c) : NULL;
	struct entry *e =
		b->failures_waiting < LIMIT_FAILURES_WAITING ? add_entry(b, ENTRY_FAILURE) : NULL;

	b->stats.changes++;
	if (!e) {
		add_left_out(b, told->at_wall, told->at_wall, 1);
		return;
	}
	b->failures_waiting++;
	e->failure = (struct store_failure){
		.at_wall = told->at_wall,
		.failure = *f,
		.process = told->process ? process_ref(told->process) : NULL,
		.held = c != NULL,
		.holder = holder ? process_ref(holder) : NULL,
	};
	if (!c)
		return;
	e->failure.holder_opened_wall = c->opened_wall;
	e->failure.holder_role = c->role;
	e->failure.holder_attribution = c->attribution;
	e->failure.holder_remote = c->remote;
}

static void on_drained(void *context, const struct drained *d)
{
	struct batch *b = context;

	end_left_before(b, usec_sub(b->told_until, TOLD_BY_THEN_USEC));
	TAILQ_CONCAT(&b->entries, &b->held, link);
	b->stats.held = 0;
	b->drained = *d;
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
		.failed = on_failed,
		.failures_left_out = on_failures_left_out,
		.drained = on_drained,
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
	TAILQ_INIT(&b->held);
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

static void drop_entries(struct entries *entries)
{
	struct entry *e;

	while ((e = TAILQ_FIRST(entries))) {
		TAILQ_REMOVE(entries, e, link);
		entry_free(e);
	}
}

static void drop_written(struct batch *b)
{
	struct dirty *d, *next;

	drop_entries(&b->entries);
	HASH_ITER (hh, b->dirty, d, next) {
		HASH_DEL(b->dirty, d);
		free(d);
	}
}

struct batch *batch_free(struct batch *b)
{
	struct left *l, *next;

	if (!b)
		return NULL;
	HASH_ITER (hh, b->left, l, next)
		drop_left(b, l);
	drop_written(b);
	drop_entries(&b->held);
	free(b);
	return NULL;
}

void batch_ring(struct batch *b, bool there_is)
{
	b->has_ring = there_is;
	if (there_is)
		return;
	end_left_before(b, USEC_UNSET);
	TAILQ_CONCAT(&b->entries, &b->held, link);
	b->stats.held = 0;
}

void batch_ring_before(struct batch *b, const struct drained *stored)
{
	b->drained = *stored;
	b->committed = stored->ring;
}

bool batch_is_told_partly(const struct batch *b)
{
	return !TAILQ_EMPTY(&b->held);
}

struct ring_position batch_ring_committed(const struct batch *b)
{
	return b->committed;
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
	case ENTRY_FAILURE:
		return store_put_failure(s, &e->failure);
	case ENTRY_LEFT_OUT:; /* the one that is left: there is no way past the switch but its own */
	}
	return store_put_failures_left_out(s, e->from_wall, e->until_wall, e->left_out);
}

/* What the stored position will tell again. */
static int write_held(struct batch *b)
{
	struct entry *e;
	int r = 0;

	TAILQ_FOREACH (e, &b->held, link) {
		if (e->kind == ENTRY_RELEASED)
			r = store_put_open(b->store, &e->released);
		if (r < 0)
			return r;
	}
	return 0;
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
	r = write_held(b);
	if (r < 0)
		return r;
	HASH_ITER (hh, b->dirty, d, next) {
		r = store_put_open(b->store, d->claim);
		if (r < 0)
			return r;
	}
	if (b->drained.ring.generation != 0)
		store_ring(b->store, &b->drained);
	if (b->lost_untold > 0) {
		r = store_put_gap(b->store, MIN(b->lost_from, until.wall), until.wall, DISK_FULL,
			b->lost_untold);
		if (r < 0)
			return r;
	}
	return store_commit(b->store, until, durable);
}

static void count_held(struct batch *b)
{
	const struct entry *e;

	b->stats.waiting = b->stats.held;
	b->failures_waiting = 0;
	TAILQ_FOREACH (e, &b->held, link)
		b->failures_waiting += e->kind == ENTRY_FAILURE;
}

int batch_commit(struct batch *b, struct now until, bool durable)
{
	int r = write_all(b, until, durable);

	if (r < 0) {
		store_rollback(b->store);
		return r;
	}
	tell(b, until);
	drop_written(b);
	count_held(b);
	b->committed = b->drained.ring;
	b->stats.changes = 0;
	b->stats.gaps += b->lost_untold > 0;
	b->lost_untold = 0;
	return 0;
}

bool batch_is_empty(const struct batch *b)
{
	return TAILQ_EMPTY(&b->entries) && TAILQ_EMPTY(&b->held) && !b->dirty &&
	       b->lost_untold == 0 && b->committed.generation == b->drained.ring.generation &&
	       b->committed.position == b->drained.ring.position;
}

struct batch_stats batch_stats(const struct batch *b)
{
	return b->stats;
}
