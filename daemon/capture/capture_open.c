/* SPDX-License-Identifier: MIT */

/* How capture begins: its sources are opened, the best that can be had here, before the first sweep. */

#include "daemon/capture/capture_private.h"

#include <event2/event.h>

#include "common/log.h"
#include "daemon/capture/host.h"

void capture_log_began(const struct capture *c)
{
	char ranges[PORT_RANGES_TEXT_MAX];

	port_ranges_format(&c->ranges, ranges);
	log_event(LOG_EVENT_RECORDING_BEGAN,
		LOG_FIELDS(LOG_TEXT("RUNG", source_name(capture_rung(c))),
			LOG_NUMBER("INTERVAL_USEC", c->budget.interval_usec),
			LOG_TEXT("RANGES", ranges)),
		"recording ports %s by %s%s every %llu ms%s", ranges,
		c->events ? "events and " : "", source_name((enum source)c->facts.kind),
		(unsigned long long)(c->budget.interval_usec / USEC_PER_MSEC),
		c->hearing ? " and told of ends" : "");
}

static int open_source(struct capture *c)
{
	int r = source_diag_open(&c->source, &c->facts);

	c->source_ops = &source_diag_ops;
	if (r != -ENOENT)
		return r;
	log_warning(
		"this kernel has no inet_diag (modprobe tcp_diag udp_diag): reading /proc/net instead, "
		"without bound-only TCP, MPTCP and the kernel's own socket numbers");
	c->source_ops = &source_procnet_ops;
	return source_procnet_open(c->options.proc_fd, &c->source, &c->facts);
}

int capture_open_hearing(struct capture *c)
{
	const struct hearing_options options = {
		.base = c->options.base,
		.table = c->table,
		.ranges = &c->ranges,
		.bound_only = c->facts.bound_only,
		.proc_fd = c->options.proc_fd,
		.context = c,
		.sweep_wanted = capture_on_sweep_wanted,
	};
	/* what is told is known by its cookie, and /proc/net has none */
	bool possible = c->source_ops == &source_diag_ops;
	bool forced = c->options.rung == CAPTURE_RUNG_DESTROY;
	int r;

	if (c->options.rung == CAPTURE_RUNG_SWEEP || (!possible && !forced))
		return 0;
	r = possible ? hearing_new(&options, &c->hearing) : -ENOENT;
	if (r == 0)
		return 0;
	log_line(forced ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
		"this kernel does not tell of sockets that it destroys: %s", strerror(-r));
	return forced ? r : 0;
}

/* The best rung above the sweeps that can be had, before the first sweep, so that nothing falls between the two. */
static int climb(struct capture *c)
{
	enum capture_rung wanted = c->options.rung;
	bool forced = wanted == CAPTURE_RUNG_EVENTS;
	int r = -ENOSYS;

	if (wanted == CAPTURE_RUNG_BEST || forced)
		r = capture_events_open(c);
	if (r == 0) {
		struct table *table = capture_table_new(c, false);

		if (!table)
			return -ENOMEM;
		table_free(c->table);
		c->table = table;
		return 0;
	}
	if (c->obstacle[0] != '\0')
		log_line(forced ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "no kernel events: %s",
			c->obstacle);
	return forced ? r : capture_open_hearing(c);
}

struct table *capture_table_new(const struct capture *c, bool goes_on)
{
	struct table *t = table_new(c->options.config->accepted);

	if (!t)
		return NULL;
	table_watch(t, &c->ranges, c->options.config->accepted);
	if (c->events) {
		const struct table_expectation expectation = {
			.netns = c->netns.cookie,
			.protocols = c->facts.protocols,
			.bound_only = c->facts.bound_only,
			.udp_connect = source_events_facts(c->events).udp_connect,
			.goes_on = goes_on,
		};

		table_expect(t, &expectation);
	}
	return t;
}

static int capture_start(struct capture *c)
{
	const struct speaker_handler handler = {
		.context = c,
		.ready = capture_on_ready,
		.kept = capture_on_kept,
		.waits = capture_on_waits,
		.sync = capture_on_sync,
	};
	int r;

	c->timer = event_new(c->options.base, -1, EV_PERSIST, capture_on_timer, c);
	c->asked = event_new(c->options.base, -1, 0, capture_on_asked, c);
	c->speaker = speaker_new(c->options.base, &handler);
	c->procfs = procfs_new(c->options.proc_fd, true);
	c->kernel_sockets = kernel_sockets_new(c->options.proc_fd);
	c->refs = refs_new();
	c->table = table_new(c->options.config->accepted);
	if (!c->timer || !c->asked || !c->speaker || !c->procfs || !c->kernel_sockets || !c->refs ||
		!c->table)
		return -ENOMEM;
	r = open_source(c);
	if (r == 0)
		r = host_netns(c->options.proc_fd, &c->netns);
	if (r == 0)
		r = capture_watch(c, host_ephemeral(c->options.proc_fd, c->ephemeral));
	if (r == 0)
		r = climb(c);
	return r;
}

int capture_new(const struct capture_options *options, struct capture **ret)
{
	struct capture *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->options = *options;
	c->due = USEC_UNSET;
	c->refs_limit = LIMIT_REFS;
	c->ephemeral = (struct port_range){.low = 32768, .high = 60999}; /* Linux's default */
	budget_init(
		&c->budget, options->config->interval_usec, options->config->cpu_budget_permille);
	r = capture_start(c);
	if (r < 0) {
		log_error("cannot watch sockets: %s", strerror(-r));
		capture_free(c);
		return r;
	}
	if (!c->events && !procfs_sees_others())
		log_warning(
			"processes of other users cannot be named: that takes CAP_SYS_PTRACE and "
			"CAP_DAC_READ_SEARCH");
	*ret = c;
	return 0;
}

struct capture_state capture_state(const struct capture *c)
{
	return (struct capture_state){
		.rung = capture_rung(c),
		.obstacle = c->obstacle[0] != '\0' ? c->obstacle : NULL,
		.container = c->events && !source_events_facts(c->events).whole,
		.interval_usec = c->budget.interval_usec,
		.due_monotonic = c->due,
		.last_cpu_usec = c->last_cpu,
		.sockets = table_stats(c->table).sockets,
	};
}

struct capture *capture_free(struct capture *c)
{
	if (!c)
		return NULL;
	if (c->timer)
		event_free(c->timer);
	if (c->asked)
		event_free(c->asked);
	if (c->source)
		c->source_ops->free(c->source);
	capture_events_close(c);
	hearing_free(c->hearing);
	table_free(c->table);
	kernel_sockets_free(c->kernel_sockets);
	procfs_free(c->procfs);
	refs_free(c->refs);
	speaker_free(c->speaker);
	free(c);
	return NULL;
}
