/* SPDX-License-Identifier: MIT */

/*
 * The ring is the write-ahead buffer: what is read here stays in it until the ledger says that it is stored (KEPT), and
 * is read again if this process, or the ledger, is killed before. So there is no hurry: every 200 ms will do, since a wake-up
 * costs more than an event. Past a quarter of the ring the kernel wakes us, and the ledger is asked to store at once.
 *
 * Where the ledger does not keep up nothing more is read, and nothing is lost while the ring has room. What it has
 * no room for the kernel side counts; the counts are passed on as they are (DRAINED), and only the ledger, which remembers those
 * that it has stored, makes a gap of them.
 *
 * Where one set of programs has replaced another, both have recorded for a moment. The ring of before is read to its end, then
 * the present one, into the same table, which knows what it is told again. From the first event that both may have told
 * of on, the ledger hears of no place (DRAINED) until the last one is over: so either all of that moment is stored or nothing,
 * and whoever reads it again begins with the ring of before.
 */

#include "daemon/capture/drain.h"

#include <event2/event.h>

#include "common/log.h"

#define TIMER_USEC (200 * USEC_PER_MSEC)

/* What ends a reading. */
#define STOP           1
#define STOP_NO_MEMORY 2

#define OVERLAP_USEC (100 * USEC_PER_MSEC) /* so much later nothing comes that both have told */
#define FAILURE_USEC USEC_PER_MSEC         /* by so much the two may tell of one failure apart */

enum stage {
	STAGE_PRESENT,     /* there is one ring, or only the present one is left to be read */
	STAGE_BEFORE,      /* the ring of before, */
	STAGE_BEFORE_BOTH, /* ... what both may have told of, */
	STAGE_BOTH,        /* ... and what the present one tells of it */
};

struct drain {
	struct drain_options options;
	struct table *table; /* NULL: no ledger was ready yet */
	struct event *readable, *timer;
	struct events_facts facts;
	struct events_counts counts; /* as last told */
	uint64_t position;           /* as last told */
	bool waiting;                /* not woken by the kernel until the ledger has stored */
	bool lost, skipped;
	bool touched;
	enum stage stage;
	usec_t last, last_failure; /* boottime: that the ring of before told of; 0: nothing */
};

static bool reads_before(const struct drain *d)
{
	return d->stage == STAGE_BEFORE || d->stage == STAGE_BEFORE_BOTH;
}

bool drain_overlaps(const struct drain *d)
{
	return d->stage != STAGE_PRESENT && d->stage != STAGE_BEFORE;
}

static struct openers *present_openers(const struct drain *d)
{
	return reads_before(d) ? d->options.before_openers : d->options.openers;
}

/* The ref of a process that an event names, told to the stream; 0: not known any more. Its unit in *ret_unit, valid as long as
 * it is named. 0 or -ENOMEM. */
static int ref_of(struct drain *d, uint64_t id, uint32_t *ret, const char **ret_unit)
{
	_cleanup_(process_unref_p) struct process *p = NULL;
	int r = id != 0 ? openers_find(present_openers(d), id, &p) : -ENOENT;

	*ret = 0;
	*ret_unit = NULL;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = refs_get(d->options.refs, p, ret);
	if (r == 1)
		r = d->options.introduce(d->options.context, *ret, p);
	*ret_unit = p->unit;
	return r;
}

static void see_namespace(struct drain *d, const struct event_seen *e, const char *unit)
{
	struct record r = {.type = RECORD_NETNS};
	struct namespace_seen seen = {
		.cookie = e->netns, .inode = e->netns_inode, .unit = unit, .by = e->process};

	if (e->netns == d->options.netns)
		return;
	seen.ephemeral = openers_range(present_openers(d), e->process, e->netns);
	if (namespaces_see(d->options.namespaces, &seen, clock_boot(), &r.netns))
		d->options.say(d->options.context, &r);
}

static int on_claim(struct drain *d, const struct event_seen *e)
{
	struct table_who who = {.attribution = ATTRIBUTION_NONE};
	const char *unit;
	int r = ref_of(d, e->process, &who.opener, &unit);

	if (r < 0)
		return r;
	if (who.opener != 0)
		who.attribution = ATTRIBUTION_EVENT;
	see_namespace(d, e, unit);
	return table_event_claim(d->table, e, &who, d->options.emit, d->options.context);
}

static int on_release(struct drain *d, const struct event_seen *e)
{
	return table_event_end(d->table, e, d->options.emit, d->options.context);
}

static int on_holder(struct drain *d, const struct event_seen *e)
{
	const char *unit;
	uint32_t ref;
	int r = ref_of(d, e->process, &ref, &unit);

	if (r < 0 || ref == 0)
		return r;
	return table_event_holder(d->table, e, ref, d->options.emit, d->options.context);
}

static int on_failure(struct drain *d, const struct event_seen *e)
{
	struct record record = {
		.type = RECORD_FAILURE,
		.failure = {.at = e->at,
			.netns = e->netns,
			.protocol = e->protocol,
			.error = e->error == EADDRINUSE ? FAILURE_IN_USE : FAILURE_NOT_AVAILABLE,
			.call = e->remote.address.family == FAMILY_NONE ? FAILURE_BIND
									: FAILURE_CONNECT,
			.local = e->local,
			.remote = e->remote},
	};
	const char *unit;
	int r = ref_of(d, e->process, &record.failure.process, &unit);

	if (r < 0)
		return r;
	see_namespace(d, e, unit);
	d->options.say(d->options.context, &record);
	return 0;
}

static int take(struct drain *d, const struct event_seen *e)
{
	int r;

	switch (e->kind) {
	case EVENT_CLAIM:
		return on_claim(d, e);
	case EVENT_RELEASE:
		return on_release(d, e);
	case EVENT_WHOLE:
		r = on_claim(d, e);
		return r < 0 ? r : on_release(d, e);
	case EVENT_FAILURE:
		return on_failure(d, e);
	case EVENT_HOLDER:
		return on_holder(d, e);
	}
	return 0; /* of another kernel side than ours */
}

/* May the next one be read? */
static bool may_go_on(const struct drain *d)
{
	return d->options.has_room(d->options.context) &&
	       (drain_overlaps(d) || table_event_lingering(d->table) < 2 * LIMIT_LINGERING);
}

/* How far the ring of before was read. It has lost what it has lost: it tells of nothing new. */
static void say_before(struct drain *d)
{
	const struct source_events *s = d->options.before;
	struct events_counts counts = source_events_counts(s);
	struct record r = {
		.type = RECORD_DRAINED,
		.drained = {.ring = {.generation = source_events_facts(s).generation,
				    .position = source_events_position(s)},
			.lost = counts.lost,
			.lost_ends = counts.lost_ends,
			.failures_dropped = counts.failures_dropped,
			.at = d->facts.attached},
	};

	d->options.say(d->options.context, &r);
}

static usec_t time_of(const struct event_seen *e)
{
	return e->closed != USEC_UNSET ? e->closed : e->at;
}

static void see_before(struct drain *d, const struct event_seen *e)
{
	usec_t at = time_of(e);

	if (at == USEC_UNSET)
		return; /* it makes no sense here */
	if (d->stage == STAGE_BEFORE && at >= d->facts.attached) {
		say_before(d);
		d->stage = STAGE_BEFORE_BOTH;
	}
	d->last = MAX(d->last, at);
	if (e->kind == EVENT_FAILURE)
		d->last_failure = MAX(d->last_failure, at);
}

/* Has the ring of before told of this? */
static bool is_told_again(struct drain *d, const struct event_seen *e)
{
	if (time_of(e) > d->last + OVERLAP_USEC) {
		d->stage = STAGE_PRESENT;
		return false;
	}
	return e->kind == EVENT_FAILURE
		       ? d->last_failure > 0 && e->at <= d->last_failure + FAILURE_USEC
		       : table_event_is_past(d->table, e);
}

/* What cannot be taken now stays in the ring. */
static int on_event(void *context, const struct event_seen *e)
{
	struct drain *d = context;

	if (!may_go_on(d))
		return STOP;
	if (reads_before(d))
		see_before(d, e);
	else if (d->stage == STAGE_BOTH && is_told_again(d, e))
		return 0;
	return take(d, e) < 0 ? STOP_NO_MEMORY : 0;
}

/* The ledger learns how far the ring was read, and what it had no room for. */
static void say_drained(struct drain *d, usec_t at)
{
	struct events_counts now = source_events_counts(d->options.events);
	uint64_t position = source_events_position(d->options.events);
	struct record r = {
		.type = RECORD_DRAINED,
		.drained = {.ring = {.generation = d->facts.generation, .position = position},
			.lost = now.lost,
			.lost_ends = now.lost_ends,
			.failures_dropped = now.failures_dropped,
			.at = at,
			.urgent =
				source_events_waiting(d->options.events) > d->facts.ring_bytes / 4},
	};
	bool lost = now.lost != d->counts.lost || now.lost_ends != d->counts.lost_ends;

	d->skipped |= now.skipped != d->counts.skipped;
	d->counts.skipped = now.skipped;
	if (!d->touched && position == d->position && !lost &&
		now.failures_dropped == d->counts.failures_dropped)
		return;
	d->options.say(d->options.context, &r);
	d->touched = false;
	d->lost |= lost;
	d->counts = now;
	d->position = position;
	if (r.drained.urgent && !d->waiting) {
		event_del(d->readable);
		d->waiting = true;
	}
}

static int read_ring(struct drain *d, struct source_events *s)
{
	int r = source_events_read(s, on_event, d);

	if (r == -ENOMEM)
		r = STOP_NO_MEMORY;
	if (r == STOP_NO_MEMORY)
		log_error("no memory for what the kernel's events say: it waits");
	else if (r == -EBADMSG)
		log_error("what the kernel's events say makes no sense: the rest of them is lost");
	return r;
}

/* True: nothing is left there. */
static bool read_before(struct drain *d)
{
	int r = read_ring(d, d->options.before);
	/* one that is still being written is waited for */
	bool ended = (r == 0 || r == -EBADMSG) && source_events_is_read(d->options.before);

	if (d->stage == STAGE_BEFORE || r == -EBADMSG)
		say_before(d);
	if (ended)
		d->stage = STAGE_BOTH;
	return ended;
}

bool drain_read(struct drain *d)
{
	int r;

	if (!d->table || !may_go_on(d) || (reads_before(d) && !read_before(d)))
		return false;
	r = read_ring(d, d->options.events);
	if (r < 0 && r != -EBADMSG) {
		d->table = NULL;
		d->options.failed(d->options.context, r);
		return false;
	}
	if (d->stage == STAGE_BOTH && r != STOP && r != STOP_NO_MEMORY &&
		clock_boot() > d->last + OVERLAP_USEC)
		d->stage = STAGE_PRESENT;
	if (d->stage == STAGE_BOTH)
		return false;
	say_drained(d, clock_boot());
	table_event_forget(d->table, clock_boot());
	if (d->lost || table_event_lingering(d->table) >= LIMIT_LINGERING)
		d->options.sweep_wanted(d->options.context);
	return r == 0;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
	struct drain *d = context;

	(void)fd;
	(void)what;
	if (drain_read(d))
		d->options.rest(d->options.context);
}

void drain_touch(struct drain *d)
{
	d->touched = true;
}

static void let_go(struct drain *d)
{
	d->stage = STAGE_PRESENT;
	if (!d->options.before)
		return;
	d->options.before = NULL;
	d->options.before_openers = NULL;
	d->options.let_go(d->options.context);
}

void drain_kept(struct drain *d, struct ring_position kept)
{
	if (kept.generation != d->facts.generation)
		return;
	let_go(d);
	source_events_release(d->options.events, kept.position);
	if (d->waiting)
		event_add(d->readable, NULL);
	d->waiting = false;
}

void drain_restart(struct drain *d, struct table *table, struct ring_position kept)
{
	bool same = kept.generation == d->facts.generation;

	d->table = table;
	d->touched = true;
	d->last = d->last_failure = 0;
	if (d->options.before && !same) {
		const struct events_facts before = source_events_facts(d->options.before);

		source_events_rewind(d->options.before,
			kept.generation == before.generation ? kept.position : 0);
		d->stage = STAGE_BEFORE;
	}
	source_events_rewind(d->options.events, same ? kept.position : 0);
	drain_kept(d, kept);
}

bool drain_take_skipped(struct drain *d)
{
	bool skipped = d->skipped;

	d->skipped = false;
	return skipped;
}

bool drain_take_lost(struct drain *d)
{
	bool lost = d->lost;

	d->lost = false;
	return lost;
}

static int start(struct drain *d)
{
	const struct timeval timer = {.tv_usec = TIMER_USEC};

	d->readable = event_new(d->options.base, source_events_fd(d->options.events),
		EV_READ | EV_PERSIST, on_readable, d);
	d->timer = event_new(d->options.base, -1, EV_PERSIST, on_readable, d);
	if (!d->readable || !d->timer || event_add(d->readable, NULL) < 0 ||
		event_add(d->timer, &timer) < 0)
		return -ENOMEM;
	return 0;
}

int drain_new(const struct drain_options *options, struct drain **ret)
{
	struct drain *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->options = *options;
	d->facts = source_events_facts(options->events);
	r = start(d);
	if (r < 0) {
		drain_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct drain *drain_free(struct drain *d)
{
	if (!d)
		return NULL;
	if (d->readable)
		event_free(d->readable);
	if (d->timer)
		event_free(d->timer);
	free(d);
	return NULL;
}
