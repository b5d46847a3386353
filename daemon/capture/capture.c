/* SPDX-License-Identifier: MIT */

/*
 * The first page of this process is sweep(): the kernel's tables into the table of remembered sockets, holders for
 * the new ones, what changed onto the stream, a mark at the end. It runs on a timer, and at once when somebody asks
 * (a barrier follows, so that the ledger knows that the answer is complete).
 */

#include "daemon/capture/capture_private.h"

#include <event2/event.h>

#include "common/log.h"
#include "daemon/capture/host.h"

#define STOP_USEC (5 * USEC_PER_SEC)
/* A sweep that was asked for comes no sooner after the last than this many times what that one took. */
#define ASKED_SWEEP_SPACING 4u
#define FORGET_SWEEPS       64u /* forget processes that no socket names every so many sweeps */
/* TCP's connections are read at least every so many sweeps, also where the kernel's counters say that they are the same. */
#define TRUST_SWEEPS 60u

static int on_row(void *context, const struct socket_row *row)
{
	struct capture *c = context;

	return table_row(c->table, row, clock_boot());
}

/* From here on: the ranges of the settings and of `ephemeral`. 0 or negative errno: all stays as it was. */
int capture_watch(struct capture *c, struct port_range ephemeral)
{
	struct port_ranges ranges;
	int r = config_ranges(c->options.config, ephemeral, &ranges);

	if (r == 0 && c->hearing)
		r = hearing_watch(c->hearing, &ranges);
	if (r == 0 && c->events)
		r = capture_events_watch(c);
	if (r < 0)
		return r;
	c->ephemeral = ephemeral;
	c->ranges = ranges;
	table_watch(c->table, &ranges, c->options.config->accepted);
	c->settled = false;
	if (c->announced) {
		capture_say_settings(c);
		capture_say_netns(c);
		capture_say_coverage(c);
	}
	return 0;
}

/* Reads all tables; TCP's connections only where they may have changed. */
static int read_source(struct capture *c, uint32_t *ret_protocols)
{
	const struct source_ops *ops = c->source_ops;

	if (c->settled && c->trusted < TRUST_SWEEPS && table_can_keep(c->table) &&
		ops->connections_same && ops->connections_same(c->source)) {
		table_keep_connections(c->table);
		c->trusted++;
		return ops->read_others(c->source, &c->ranges, on_row, c, ret_protocols);
	}
	c->trusted = 0;
	return ops->read(c->source, &c->ranges, on_row, c, ret_protocols);
}

/* Reads the tables; returns the mask of the protocols that were read whole. */
static uint32_t read_tables(struct capture *c)
{
	uint32_t protocols = 0;
	int r = read_source(c, &protocols);

	if (r == 0 && table_has_new_connections(c->table))
		r = c->source_ops->read_listeners(c->source, &c->ranges, on_row, c);
	if (r < 0)
		protocols = 0;
	if (r < 0 && !c->read_failed)
		log_event(LOG_EVENT_TABLES_UNREADABLE,
			LOG_FIELDS(LOG_NUMBER("ERRNO", (uint64_t)-r)),
			"cannot read the socket tables: %s", strerror(-r));
	else if (r == 0 && c->read_failed)
		log_event(LOG_EVENT_TABLES_READABLE, LOG_NO_FIELDS,
			"the socket tables can be read again");
	c->read_failed = r < 0;
	return protocols;
}

static void look_for_holders(struct capture *c)
{
	struct attributor a = {
		.procfs = c->procfs,
		.refs = c->refs,
		.table = c->table,
		.kernel_sockets = c->kernel_sockets,
		.introduce = capture_introduce,
		.context = c,
		.budget_usec = LIMIT_PROC_USEC,
	};
	int r = c->events ? capture_events_attribute(c, &a) : attribute(&a);

	if (r < 0)
		log_error("cannot look for the holders of new sockets: %s", strerror(-r));
	c->holders_pending = r == 1;
}

/* A sweep beside the timer's, spaced so that such sweeps take at most a part of a core. */
static void sweep_soon(struct capture *c)
{
	usec_t soonest = c->last_end + c->last_cpu * ASKED_SWEEP_SPACING;
	usec_t wait = usec_sub(soonest, clock_now().boot);
	struct timeval delay = {.tv_usec = (suseconds_t)MIN(wait, USEC_PER_SEC - 1)};

	if (!event_pending(c->asked, EV_TIMEOUT, NULL))
		event_add(c->asked, &delay);
}

static void drain(struct capture *c)
{
	c->drained = drain_read(c->drain);
	if (c->drained)
		c->drained_at = clock_boot();
	if (drain_take_lost(c->drain))
		c->snapshot_wanted = c->events_lost = true;
	if (drain_take_skipped(c->drain))
		c->doubts = 2; /* one after the other: the table wants to miss it twice */
}

/* What the kernel told since `since` (boottime; USEC_UNSET: the loop was idle). Returns when all of that was read. */
static usec_t hear(struct capture *c, usec_t since)
{
	if (c->drain)
		drain(c);
	else if (c->hearing)
		hearing_read(c->hearing, since);
	return clock_now().boot;
}

/* Looks again in a moment. */
static void wait_a_moment(struct capture *c)
{
	const struct timeval moment = {.tv_usec = TABLE_MOMENT_USEC};

	c->wanted = true;
	event_add(c->asked, &moment);
}

/* One round over the tables; none while two rings tell of the same. */
static void look(struct capture *c)
{
	usec_t cpu = clock_cpu_usec(), heard = clock_now().boot;
	struct record mark = {.type = RECORD_SWEEP};
	struct table_stats stats;

	if (!c->announced)
		capture_announce(c);
	mark.sweep.begin = heard = hear(c, heard);
	if (c->drain && drain_overlaps(c->drain)) {
		wait_a_moment(c);
		return;
	}
	if (c->sweeps == 0)
		c->first_begin = mark.sweep.begin;
	table_begin(c->table, mark.sweep.begin);
	mark.sweep.protocols = read_tables(c);
	heard = hear(c, heard);
	look_for_holders(c);
	heard = hear(c, heard);
	capture_say_lost(c);
	mark.sweep.now = clock_now();
	mark.sweep.end = mark.sweep.now.boot;
	if (table_end(c->table, mark.sweep.end, mark.sweep.protocols, c->facts.kind, capture_emit,
		    c) < 0)
		log_error("no memory for what a sweep found");
	stats = table_stats(c->table);
	c->settled = true;
	mark.sweep.number = ++c->sweeps;
	mark.sweep.netns = c->netns.cookie;
	mark.sweep.sockets = stats.sockets;
	mark.sweep.unattributed = stats.unattributed;
	mark.sweep.cpu_usec = c->last_cpu = clock_cpu_usec() - cpu;
	capture_say(c, &mark);
	c->last_end = mark.sweep.end;
	if (c->drain)
		drain_touch(c->drain);
	(void)hear(c, heard); /* telling much takes long, too */
}

/* Where other ports are watched from now on, those of before are looked at a last time, so that no time is lost. */
static void follow_ephemeral(struct capture *c)
{
	struct port_range now = host_ephemeral(c->options.proc_fd, c->ephemeral);

	if (now.low == c->ephemeral.low && now.high == c->ephemeral.high)
		return;
	look(c);
	if (capture_watch(c, now) < 0)
		log_error("the watched ranges stay as they were");
	else
		log_event(LOG_EVENT_EPHEMERAL_CHANGED,
			LOG_FIELDS(LOG_NUMBER("LOW", now.low), LOG_NUMBER("HIGH", now.high)),
			"the kernel now hands out ports %u-%u", now.low, now.high);
}

/* What was heard just now may be told better in a moment; the answer waits for that once. */
static void postpone(struct capture *c)
{
	const struct timeval moment = {.tv_usec = TABLE_MOMENT_USEC};

	c->postponed = true;
	event_add(c->asked, &moment);
}

/* What was heard during the sweep, or shown by it for the first time, may be known to whoever asks afterwards. */
static bool owes(const struct capture *c)
{
	return table_ends(c->table) > 0 || table_stats(c->table).awaited > 0;
}

static void sweep(struct capture *c)
{
	size_t questions = c->question_count;

	c->wanted = false;
	if (c->events && c->events_error == 0)
		c->events_error = source_events_check(c->events);
	if (c->events_error < 0)
		capture_events_fall(c);
	table_be_patient(c->table, questions == 0 || !c->postponed);
	if (c->behind_from != 0)
		capture_recover(c);
	if (c->drain && !speaker_has_room(c->speaker)) {
		c->wanted = true; /* the ring keeps what a sweep would add to */
		postpone(c);
		return;
	}
	follow_ephemeral(c);
	look(c);
	if (questions > 0 && owes(c))
		look(c);
	if (questions > 0 &&
		((table_ends(c->table) > 0 && !c->postponed) || (c->drain && !c->drained))) {
		postpone(c);
		return;
	}
	c->postponed = false;
	capture_answer(c, questions);
	if (c->sweeps % FORGET_SWEEPS == 0 || refs_count(c->refs) >= c->refs_limit)
		capture_forget_processes(c);
	if (c->holders_pending)
		sweep_soon(c);
}

/* The timer runs from here. */
static void expect_timer(struct capture *c)
{
	c->due = clock_monotonic_usec() + c->budget.interval_usec;
}

static void set_timer(struct capture *c)
{
	const struct timeval interval = {
		.tv_sec = (time_t)(c->budget.interval_usec / USEC_PER_SEC),
		.tv_usec = (suseconds_t)(c->budget.interval_usec % USEC_PER_SEC),
	};

	event_add(c->timer, &interval);
	expect_timer(c);
}

void capture_on_timer(evutil_socket_t fd, short what, void *context)
{
	struct capture *c = context;

	(void)fd;
	(void)what;
	expect_timer(c);
	if (!speaker_is_ready(c->speaker))
		return;
	sweep(c);
	if (!budget_spend(&c->budget, c->last_cpu))
		return;
	log_event(LOG_EVENT_INTERVAL_CHANGED,
		LOG_FIELDS(LOG_NUMBER("INTERVAL_USEC", c->budget.interval_usec),
			LOG_NUMBER("SWEEP_CPU_USEC", c->last_cpu)),
		"a sweep takes %llu us of CPU: the interval is now %llu ms",
		(unsigned long long)c->last_cpu,
		(unsigned long long)(c->budget.interval_usec / USEC_PER_MSEC));
	set_timer(c);
	capture_say_coverage(c);
}

void capture_on_asked(evutil_socket_t fd, short what, void *context)
{
	struct capture *c = context;

	(void)fd;
	(void)what;
	if (speaker_is_ready(c->speaker) &&
		(c->question_count > 0 || c->holders_pending || c->wanted))
		sweep(c);
}

/* Questions share the sweep that begins after them; questions in a hurry do not make sweeps in a hurry. */
void capture_on_sync(void *context, uint64_t id)
{
	struct capture *c = context;

	if (c->question_count == QUESTIONS_AT_ONCE)
		return; /* control's own deadline answers it */
	c->questions[c->question_count++] = id;
	sweep_soon(c);
}

void capture_on_ready(void *context, struct ring_position kept)
{
	struct capture *c = context;

	c->options.ready(c->options.context);
	if (c->drain)
		capture_events_restart(c, kept);
	sweep(c);
	set_timer(c);
	capture_log_began(c);
}

void capture_on_waits(void *context)
{
	const struct capture *c = context;

	c->options.waits(c->options.context);
}

void capture_on_kept(void *context, struct ring_position kept)
{
	struct capture *c = context;

	if (c->drain)
		drain_kept(c->drain, kept);
}

int capture_link(struct capture *c, int fd)
{
	struct record hello = {.type = RECORD_HELLO};
	char version[] = PORTLEDGER_VERSION;
	int r = speaker_link(c->speaker, fd);

	if (r == 0)
		r = host_boot_id(c->options.proc_fd, hello.hello.boot_id);
	if (r < 0)
		return r;
	c->announced = false;
	c->behind_from = 0;
	c->question_count = 0;
	hello.hello.at = clock_now();
	hello.hello.capture_pid = getpid();
	hello.hello.version = version;
	if (c->events)
		hello.hello.generation = source_events_facts(c->events).generation;
	if (c->before)
		hello.hello.before = source_events_facts(c->before).generation;
	capture_say(c, &hello);
	return 0;
}

void capture_on_sweep_wanted(void *context)
{
	struct capture *c = context;

	c->wanted = true;
	if (speaker_is_ready(c->speaker))
		sweep_soon(c);
}

void capture_reload(struct capture *c, const struct config *config)
{
	bool ready = speaker_is_ready(c->speaker);

	if (ready)
		look(c);
	c->options.config = config;
	budget_init(&c->budget, config->interval_usec, config->cpu_budget_permille);
	if (capture_watch(c, host_ephemeral(c->options.proc_fd, c->ephemeral)) < 0)
		log_error("the watched ranges stay as they were");
	if (!ready)
		return;
	sweep(c);
	set_timer(c);
}

/* Two last sweeps: what ended since the one before is missed by both, so its end is known and not only that of our
 * watching. */
bool capture_stop(struct capture *c)
{
	bool recorded = speaker_is_ready(c->speaker);

	if (recorded) {
		sweep(c);
		table_be_patient(c->table, false);
		look(c);
	}
	speaker_bye(c->speaker, STOP_USEC);
	return recorded;
}
