/* SPDX-License-Identifier: MIT */

/*
 * The ring is the write-ahead buffer: what is read here stays in it until the ledger says that it is stored (KEPT), and
 * is read again if this process, or the ledger, is killed before. So there is no hurry: every 200 ms will do, since a wake-up
 * costs more than an event. Past a quarter of the ring the kernel wakes us, and the ledger is asked to store at once.
 *
 * Where the ledger does not keep up nothing more is read, and nothing is lost while the ring has room. What it has
 * no room for the kernel side counts; the counts are passed on as they are (DRAINED), and only the ledger, which remembers those
 * that it has stored, makes a gap of them.
 */

#include "daemon/capture/drain.h"

#include <event2/event.h>

#include "common/log.h"

#define TIMER_USEC (200 * USEC_PER_MSEC)

/* What ends a reading. */
#define STOP           1
#define STOP_NO_MEMORY 2

struct drain {
	struct drain_options options;
	struct table *table; /* NULL: no ledger was ready yet */
	struct event *readable, *timer;
	struct events_facts facts;
	struct events_counts counts; /* as last told */
	uint64_t position;           /* as last told */
	bool waiting;                /* not woken by the kernel until the ledger has stored */
	bool lost;
	bool touched;
};

/* The ref of a process that an event names, told to the stream; 0: not known any more. Its unit in *ret_unit, valid as long as
 * it is named. 0 or -ENOMEM. */
static int ref_of(struct drain *d, uint64_t id, uint32_t *ret, const char **ret_unit)
{
	_cleanup_(process_unref_p) struct process *p = NULL;
	int r = id != 0 ? openers_find(d->options.openers, id, &p) : -ENOENT;

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

	if (e->netns != d->options.netns && namespaces_see(d->options.namespaces, e->netns,
						    e->netns_inode, unit, clock_boot(), &r.netns))
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
	       table_event_lingering(d->table) < 2 * LIMIT_LINGERING;
}

/* What cannot be taken now stays in the ring. */
static int on_event(void *context, const struct event_seen *e)
{
	struct drain *d = context;

	if (!may_go_on(d))
		return STOP;
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

bool drain_read(struct drain *d)
{
	int r;

	if (!d->table || !may_go_on(d))
		return false;
	r = source_events_read(d->options.events, on_event, d);
	if (r == STOP_NO_MEMORY) {
		log_error("no memory for what the kernel's events say: it waits");
	} else if (r == -EBADMSG) {
		log_error("what the kernel's events say makes no sense: the rest of them is lost");
	} else if (r < 0) {
		d->table = NULL;
		d->options.failed(d->options.context, r);
		return false;
	}
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

void drain_kept(struct drain *d, struct ring_position kept)
{
	if (kept.generation != d->facts.generation)
		return;
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
	source_events_rewind(d->options.events, same ? kept.position : 0);
	drain_kept(d, kept);
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
