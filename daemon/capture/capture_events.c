/* SPDX-License-Identifier: MIT */

/*
 * The rung of the events: what comes of them is drain.c's, who has which socket open a snapshot shows (snapshot.c), and the
 * sweeps go on, to find what was open before, what lingers, and what events have missed.
 *
 * A ledger that is ready has all that the ring told before some place. Whether it is another ledger, or this is another
 * capture that has taken the ring over, what follows is the same: an empty table, the ring is read again from there, and the next sweep
 * shows the rest.
 */

#include "daemon/capture/capture_private.h"

#include <event2/event.h>
#include <stdio.h>

#include "common/log.h"

#define SNAPSHOT_USEC   USEC_PER_MINUTE
#define NAMES_DIRECTORY "/run/netns"
#define EVENTS_LEFT_MAX 64 /* descriptors that are passed on */

static struct source_events_options options_of(
	const struct capture *c, const struct port_ranges *ranges)
{
	const struct config *config = c->options.config;

	return (struct source_events_options){
		.ranges = *ranges,
		.kernel_range = config->ranges.kernel,
		.netns_only = c->options.netns_self ? c->netns.cookie : 0,
		.accepted = config->accepted,
		.ring_bytes = c->options.ring_bytes,
		.udp_connect = (enum events_extra)config->udp_connect,
		.failures = (enum events_extra)config->failures,
		.passed = c->options.passed,
		.passed_count = c->options.passed_count,
	};
}

/* The ranges that are the same in every namespace. */
static struct port_ranges fixed_ranges(const struct capture *c)
{
	struct config fixed = *c->options.config;
	struct port_ranges ranges;
	int r;

	fixed.ranges.kernel = false;
	r = config_ranges(&fixed, (struct port_range){0}, &ranges);
	assert(r == 0);
	return ranges;
}

static bool has_room(void *context)
{
	const struct capture *c = context;

	return speaker_has_room(c->speaker);
}

static void on_say(void *context, const struct record *r)
{
	capture_say(context, r);
}

static void on_rest(void *context)
{
	struct capture *c = context;

	if (refs_count(c->refs) >= c->refs_limit)
		capture_forget_processes(c);
}

static void on_failed(void *context, int error)
{
	struct capture *c = context;

	c->events_error = error;
	capture_on_sweep_wanted(c);
}

/* What their end is to people: who must do what. */
static void say_ended(struct capture *c)
{
	bool blind = !c->options.restarts && !procfs_sees_others();

	(void)snprintf(c->obstacle, sizeof(c->obstacle), "the kernel's events ended: %s%s",
		strerror(-c->events_error),
		c->options.restarts ? ", and the service begins anew to attach them"
		: blind ? ", and processes of other users cannot be named; start portledgerd again"
			: "; start portledgerd again");
	log_event(LOG_EVENT_RUNG_LOST, LOG_FIELDS(LOG_TEXT("RUNG", source_name(SOURCE_EVENTS))),
		"%s", c->obstacle);
}

/* Nobody may take them over: they tell of nothing any more, or not of all. */
static void let_go_of_all(struct capture *c)
{
	struct events_fd fds[2 * EVENTS_LEFT_MAX];
	size_t count = capture_fds(c, fds, EVENTS_LEFT_MAX);

	count += capture_fds_before(c, fds + count, EVENTS_LEFT_MAX);
	if (c->options.let_go)
		c->options.let_go(c->options.context, fds, count);
}

void capture_events_fall(struct capture *c)
{
	usec_t attached = source_events_facts(c->events).attached;
	char reason[] = "events-ended";
	struct record gap = {
		.type = RECORD_GAP,
		.gap = {.from = c->drained_at, .lost = LOST_UNKNOWN, .reason = reason},
	};
	struct table *table;

	(void)drain_read(c->drain); /* what was told until then */
	say_ended(c);
	c->events_error = 0;
	let_go_of_all(c);
	capture_events_close(c);
	table = capture_table_new(c, false);
	if (!table) {
		log_error("no memory for an empty table: goes on with the old one");
	} else {
		table_free(c->table);
		c->table = table;
	}
	if (capture_open_hearing(c) < 0)
		log_error("only sweeps are left");
	gap.gap.until = clock_boot();
	capture_say(c, &gap);
	c->announced = c->settled = false;
	if (c->options.fell)
		c->options.fell(c->options.context, attached);
}

static void close_before(struct capture *c)
{
	c->before_openers = openers_free(c->before_openers);
	c->before = source_events_free(c->before);
}

static void on_let_go(void *context)
{
	struct capture *c = context;
	struct events_fd fds[EVENTS_LEFT_MAX];
	size_t count = capture_fds_before(c, fds, ELEMENTSOF(fds));

	if (c->options.let_go)
		c->options.let_go(c->options.context, fds, count);
	close_before(c);
	log_notice("all that was recorded before the kernel's events were replaced is stored");
}

static int start(struct capture *c)
{
	struct drain_options options = {
		.base = c->options.base,
		.events = c->events,
		.before = c->before,
		.before_openers = c->before_openers,
		.refs = c->refs,
		.netns = c->netns.cookie,
		.context = c,
		.has_room = has_room,
		.say = on_say,
		.introduce = capture_introduce,
		.emit = capture_emit,
		.sweep_wanted = capture_on_sweep_wanted,
		.rest = on_rest,
		.let_go = on_let_go,
		.failed = on_failed,
	};
	int r;

	options.openers = c->openers = openers_new(c->events, c->procfs);
	options.namespaces = c->namespaces = namespaces_new(NAMES_DIRECTORY);
	if (!c->openers || !c->namespaces)
		return -ENOMEM;
	r = drain_new(&options, &c->drain);
	if (r < 0)
		return r;
	/* whose executables are not to be read any more when the rights are gone */
	r = snapshot_remember(c->events, c->openers);
	if (r < 0)
		log_warning("who has sockets open cannot be listed: %s", strerror(-r));
	return 0;
}

static bool has_fd(const struct events_fd *fds, size_t count, int fd)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i].fd == fd)
			return true;
	return false;
}

/* Their names differ in the part at the end only. */
static bool are_of_one_ring(const struct events_fd *fds, size_t count)
{
	size_t length = 0;

	for (size_t i = 0; i < count; i++) {
		const char *end = fds[i].name ? strrchr(fds[i].name, '-') : NULL;

		if (i == 0 && end)
			length = (size_t)(end - fds[i].name);
		if (!end || (size_t)(end - fds[i].name) != length ||
			strncmp(fds[i].name, fds[0].name, length) != 0)
			return false;
	}
	return count > 0;
}

/*
 * What another version of this program, or one with other settings, has recorded with until now. What is attached from
 * here on tells of all that follows. Where more than one is left, an upgrade was broken off by another one: nobody knows what was
 * stored of which, and that is a gap.
 */
static int open_before(struct capture *c, const struct port_ranges *ranges)
{
	struct source_events_options options = options_of(c, ranges);
	struct events_fd used[EVENTS_LEFT_MAX], left[EVENTS_LEFT_MAX];
	size_t used_count = source_events_fds(c->events, used, ELEMENTSOF(used)), count = 0;
	struct events_obstacle obstacle;

	for (size_t i = 0; i < c->options.passed_count && count < ELEMENTSOF(left); i++)
		if (!has_fd(used, used_count, c->options.passed[i].fd) &&
			source_events_made(c->options.passed[i].name))
			left[count++] = c->options.passed[i];
	options.passed = left;
	options.passed_count = count;
	options.drain = true;
	if (!are_of_one_ring(left, count) ||
		source_events_open(&options, &c->before, &obstacle) < 0)
		return 0;
	source_events_silence(c->before);
	c->before_openers = openers_new(c->before, c->procfs);
	return c->before_openers ? 0 : -ENOMEM;
}

/* What was asked for and cannot be had. */
static void say_facts(const struct capture *c)
{
	const struct config *config = c->options.config;
	struct events_facts facts = source_events_facts(c->events);
	static const char why[] =
		"the kernel's syscall tracepoints cannot be attached (is tracefs at /sys/kernel/tracing?)";

	if (!facts.whole)
		log_notice("only the processes of this container are heard, not those of the host");
	if (config->failures == EXTRA_YES && !facts.failures)
		log_warning("Failures=yes cannot be had: %s", why);
	if (config->udp_connect == EXTRA_YES && !facts.udp_connect)
		log_warning("UdpConnect=yes cannot be had: %s", why);
}

int capture_events_open(struct capture *c)
{
	struct port_ranges ranges = fixed_ranges(c);
	struct source_events_options options = options_of(c, &ranges);
	struct events_obstacle obstacle = {0};
	int r;

	/* what an event tells of is known by its cookie, and /proc/net has none */
	if (c->source_ops != &source_diag_ops) {
		(void)snprintf(c->obstacle, sizeof(c->obstacle),
			"this kernel has no inet_diag; modprobe tcp_diag udp_diag");
		return -ENOENT;
	}
	r = source_events_open(&options, &c->events, &obstacle);
	if (r < 0) {
		(void)snprintf(c->obstacle, sizeof(c->obstacle), "%s%s%s", obstacle.reason,
			obstacle.remedy ? "; " : "", obstacle.remedy ? obstacle.remedy : "");
		return r;
	}
	r = open_before(c, &ranges);
	if (r == 0)
		r = start(c);
	if (r < 0) {
		(void)snprintf(c->obstacle, sizeof(c->obstacle), "%s", strerror(-r));
		capture_events_close(c);
		return r;
	}
	c->drained_at = clock_boot(); /* what all of them told until now is in the ring */
	say_facts(c);
	return 0;
}

void capture_events_close(struct capture *c)
{
	c->drain = drain_free(c->drain);
	c->openers = openers_free(c->openers);
	c->namespaces = namespaces_free(c->namespaces);
	close_before(c);
	c->events = source_events_free(c->events);
}

int capture_events_watch(struct capture *c)
{
	struct port_ranges ranges = fixed_ranges(c);
	struct source_events_options options = options_of(c, &ranges);

	return source_events_watch(c->events, &options);
}

void capture_events_restart(struct capture *c, struct ring_position kept)
{
	bool goes_on = kept.generation == source_events_facts(c->events).generation ||
		       (c->before && kept.generation == source_events_facts(c->before).generation);
	struct table *table = capture_table_new(c, goes_on);

	if (!table) {
		log_error("no memory for an empty table: what is open is told as it was");
		table = c->table;
	}
	if (table != c->table)
		table_free(c->table);
	c->table = table;
	c->settled = false;
	c->snapshot_at = 0;
	c->snapshot_wanted = true;
	drain_restart(c->drain, c->table, kept);
}

static bool catch_up(void *context)
{
	struct capture *c = context;

	return drain_read(c->drain);
}

static void see_namespace(void *context, const struct event_seen *socket, const char *unit)
{
	struct capture *c = context;
	struct record r = {.type = RECORD_NETNS};
	const struct namespace_seen seen = {.cookie = socket->netns,
		.inode = socket->netns_inode,
		.unit = unit,
		.ephemeral = socket->ephemeral};

	if (namespaces_see(c->namespaces, &seen, clock_boot(), &r.netns))
		capture_say(c, &r);
}

int capture_events_attribute(struct capture *c, struct attributor *a)
{
	usec_t now = clock_boot();
	struct snapshot_options options = {
		.events = c->events,
		.openers = c->openers,
		.table = c->table,
		.refs = c->refs,
		.netns = c->netns.cookie,
		.all = !c->options.netns_self,
		.untold = c->events_lost  ? TABLE_UNTOLD_LOST
			  : c->doubts > 0 ? TABLE_UNTOLD_SOME
					  : TABLE_UNTOLD_NONE,
		.after = c->snapshot_at,
		.context = c,
		.introduce = capture_introduce,
		.emit = capture_emit,
		.see = see_namespace,
		.catch_up = catch_up,
	};
	int r;

	a->find = snapshot_find;
	a->finder = &options;
	a->always = c->snapshot_wanted || now - c->snapshot_at >= SNAPSHOT_USEC;
	r = attribute(a);
	if (r >= 0 && a->always) {
		c->snapshot_at = now;
		c->snapshot_wanted = c->events_lost = false;
		c->doubts -= c->doubts > 0;
	}
	return r;
}

size_t capture_fds_before(const struct capture *c, struct events_fd *ret, size_t max)
{
	return c->before ? source_events_fds(c->before, ret, max) : 0;
}

size_t capture_fds(const struct capture *c, struct events_fd *ret, size_t max)
{
	return c->events ? source_events_fds(c->events, ret, max) : 0;
}
