/* SPDX-License-Identifier: MIT */

/*
 * The first page of this process is sweep(): the kernel's tables into the table of remembered sockets, holders for
 * the new ones, what changed onto the stream, a mark at the end. It runs on a timer, and at once when somebody asks
 * (a barrier follows, so that the ledger knows that the answer is complete).
 *
 * The table knows what the stream was told. Whenever that can no longer be so (another ledger, one that was too far
 * behind, other ranges), the stream is told everything again: announce().
 */

#include "daemon/capture/capture.h"

#include <event2/event.h>

#include "common/log.h"
#include "daemon/capture/attribute.h"
#include "daemon/capture/budget.h"
#include "daemon/capture/hearing.h"
#include "daemon/capture/host.h"
#include "daemon/capture/source.h"
#include "daemon/capture/speaker.h"
#include "daemon/cost.h"

#define STOP_USEC         (5 * USEC_PER_SEC)
#define QUESTIONS_AT_ONCE 64u
/* A sweep that was asked for comes no sooner after the last than this many times what that one took. */
#define ASKED_SWEEP_SPACING 4u
#define FORGET_SWEEPS       64u /* forget processes that no socket names every so many sweeps */
/* TCP's connections are read at least every so many sweeps, also where the kernel's counters say that they are the same. */
#define TRUST_SWEEPS 60u

struct capture {
	struct capture_options options;
	struct event *timer, *asked;
	const struct source_ops *source_ops;
	void *source;
	struct source_facts facts;
	struct hearing *hearing; /* NULL: the rung is what the sweeps are */
	struct table *table;
	struct procfs *procfs;
	struct kernel_sockets *kernel_sockets;
	struct refs *refs;
	struct speaker *speaker;
	struct budget budget;
	struct port_ranges ranges;
	struct port_range ephemeral;
	struct netns netns;
	uint64_t sweeps;
	usec_t first_begin;                    /* of the first sweep */
	usec_t last_end, last_cpu;             /* of the last sweep */
	usec_t due;                            /* CLOCK_MONOTONIC: of the timer */
	uint64_t questions[QUESTIONS_AT_ONCE]; /* ids that wait for a barrier */
	size_t question_count;
	unsigned trusted; /* sweeps since TCP's connections were read */
	bool settled;     /* the last sweep was of what is watched now */
	bool announced;   /* the stream has been told all that the table holds */
	bool read_failed; /* of the last sweep: say it once */
	/* the last sweep did not get through /proc */
	bool holders_pending;
	bool wanted;        /* a sweep, for the sake of what was heard */
	bool postponed;     /* the answer to a question */
	usec_t behind_from; /* boottime since which the ledger is behind; 0: it is not */
};

static void say(struct capture *c, const struct record *r)
{
	int e = speaker_say(c->speaker, r);

	if (e == -ENOBUFS && c->behind_from == 0) {
		c->behind_from = clock_now().boot;
		log_event(LOG_EVENT_LEDGER_BEHIND, LOG_NO_FIELDS,
			"the ledger is too far behind: what comes and goes now is a gap");
	} else if (e < 0 && e != -ENOBUFS) {
		log_error("cannot tell the ledger: %s", strerror(-e));
	}
}

static int emit(void *context, const struct sighting *s)
{
	struct capture *c = context;
	struct record r = {.type = RECORD_SIGHTING, .sighting = *s};

	r.sighting.netns = c->netns.cookie;
	say(c, &r);
	return 0;
}

static int introduce(void *context, uint32_t ref, struct process *p)
{
	say(context,
		&(struct record){.type = RECORD_PROCESS, .process = {.ref = ref, .process = p}});
	return 0;
}

static enum source rung(const struct capture *c)
{
	return c->hearing ? SOURCE_DESTROY : c->facts.kind;
}

static struct coverage coverage_now(const struct capture *c)
{
	return (struct coverage){
		.rung = (uint8_t)rung(c),
		.interval_usec = c->budget.interval_usec,
		.ranges = c->ranges,
		.ephemeral = c->ephemeral,
		.protocols = c->facts.protocols,
		.bound_only = c->facts.bound_only,
		.accepted = c->options.config->accepted,
		.foreign_processes = procfs_sees_others(),
		.netns_all = false,
	};
}

static void say_coverage(struct capture *c)
{
	say(c, &(struct record){.type = RECORD_COVERAGE, .coverage = coverage_now(c)});
}

static void say_settings(struct capture *c)
{
	say(c, &(struct record){.type = RECORD_SETTINGS, .settings = c->options.config->store});
}

/* Tells everything again, to a ledger that knows nothing or not all. */
static void announce(struct capture *c)
{
	say_settings(c);
	c->netns.ephemeral = c->ephemeral;
	say(c, &(struct record){.type = RECORD_NETNS, .netns = c->netns});
	say_coverage(c);
	say(c, &(struct record){.type = RECORD_RESYNC});
	/* A process that is known already is only said again. */
	if (refs_each(c->refs, introduce, c) < 0 ||
		table_resync(c->table, c->facts.kind, emit, c) < 0)
		log_error("cannot tell the ledger what is open");
	c->announced = true;
}

static int on_row(void *context, const struct socket_row *row)
{
	struct capture *c = context;

	return table_row(c->table, row, clock_boot());
}

/* From here on: the ranges of the settings and of `ephemeral`. 0 or negative errno: all stays as it was. */
static int watch(struct capture *c, struct port_range ephemeral)
{
	struct port_ranges ranges;
	int r = config_ranges(c->options.config, ephemeral, &ranges);

	if (r == 0 && c->hearing)
		r = hearing_watch(c->hearing, &ranges);
	if (r < 0)
		return r;
	c->ephemeral = ephemeral;
	c->ranges = ranges;
	table_watch(c->table, &ranges, c->options.config->accepted);
	c->settled = false;
	if (c->announced) {
		say_settings(c);
		say_coverage(c);
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
		.introduce = introduce,
		.context = c,
		.budget_usec = LIMIT_PROC_USEC,
	};
	int r = attribute(&a);

	if (r < 0)
		log_error("cannot look for the holders of new sockets: %s", strerror(-r));
	c->holders_pending = r == 1;
}

static void on_forgotten(void *context, uint32_t ref)
{
	say(context, &(struct record){.type = RECORD_FORGET, .forget = ref});
}

static void mark_ref(void *context, uint32_t ref)
{
	refs_mark(context, ref);
}

static void forget_processes(struct capture *c)
{
	table_refs(c->table, mark_ref, c->refs);
	refs_drop_unmarked(c->refs, on_forgotten, c);
}

/* Barriers for the questions that came before this sweep began. */
static void answer(struct capture *c, size_t count)
{
	struct record r = {.type = RECORD_BARRIER};

	if (count == 0)
		return;
	r.barrier.capture = cost_of_self();
	r.barrier.now = clock_now();
	for (size_t i = 0; i < count; i++) {
		r.barrier.id = c->questions[i];
		say(c, &r);
	}
	memmove(c->questions, c->questions + count,
		(c->question_count - count) * sizeof(c->questions[0]));
	c->question_count -= count;
}

/* The ledger was behind and has caught up: what was not said in between is a gap, and all is told again. */
static void recover(struct capture *c)
{
	struct record gap = {.type = RECORD_GAP,
		.gap = {.from = c->behind_from, .until = clock_now().boot, .lost = LOST_UNKNOWN}};
	char reason[] = "ledger-behind";

	if (!speaker_caught_up(c->speaker))
		return;
	gap.gap.reason = reason;
	say(c, &gap);
	log_event(LOG_EVENT_LEDGER_CAUGHT_UP,
		LOG_FIELDS(LOG_NUMBER("BEHIND_USEC", gap.gap.until - gap.gap.from)),
		"the ledger has caught up after %llu ms",
		(unsigned long long)((gap.gap.until - gap.gap.from) / USEC_PER_MSEC));
	c->behind_from = 0;
	c->announced = false;
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

/* What the kernel told since `since` (boottime; USEC_UNSET: the loop was idle). Returns when all of that was read. */
static usec_t hear(struct capture *c, usec_t since)
{
	if (c->hearing)
		hearing_read(c->hearing, since);
	return clock_now().boot;
}

static void say_lost(struct capture *c)
{
	char reason[] = "notifications-lost";
	struct record r = {.type = RECORD_GAP, .gap = {.reason = reason, .lost = LOST_UNKNOWN}};

	if (!c->hearing || !hearing_take_lost(c->hearing, &r.gap.from, &r.gap.until))
		return;
	/* what was lost before the first sweep was not watched yet */
	r.gap.from = MAX(r.gap.from, c->first_begin);
	if (r.gap.from < r.gap.until)
		say(c, &r);
}

/* One round over the tables. */
static void look(struct capture *c)
{
	usec_t cpu = clock_cpu_usec(), heard = clock_now().boot;
	struct record mark = {.type = RECORD_SWEEP};
	struct table_stats stats;

	if (!c->announced)
		announce(c);
	mark.sweep.begin = heard = hear(c, heard);
	if (c->sweeps == 0)
		c->first_begin = mark.sweep.begin;
	table_begin(c->table, mark.sweep.begin);
	mark.sweep.protocols = read_tables(c);
	heard = hear(c, heard);
	look_for_holders(c);
	heard = hear(c, heard);
	say_lost(c);
	mark.sweep.now = clock_now();
	mark.sweep.end = mark.sweep.now.boot;
	if (table_end(c->table, mark.sweep.end, mark.sweep.protocols, c->facts.kind, emit, c) < 0)
		log_error("no memory for what a sweep found");
	stats = table_stats(c->table);
	c->settled = true;
	mark.sweep.number = ++c->sweeps;
	mark.sweep.sockets = stats.sockets;
	mark.sweep.unattributed = stats.unattributed;
	mark.sweep.cpu_usec = c->last_cpu = clock_cpu_usec() - cpu;
	say(c, &mark);
	c->last_end = mark.sweep.end;
	(void)hear(c, heard); /* telling much takes long, too */
}

/* Where other ports are watched from now on, those of before are looked at a last time, so that no time is lost. */
static void follow_ephemeral(struct capture *c)
{
	struct port_range now = host_ephemeral(c->options.proc_fd, c->ephemeral);

	if (now.low == c->ephemeral.low && now.high == c->ephemeral.high)
		return;
	look(c);
	if (watch(c, now) < 0)
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

static void sweep(struct capture *c)
{
	size_t questions = c->question_count;

	c->wanted = false;
	table_be_patient(c->table, questions == 0 || !c->postponed);
	if (c->behind_from != 0)
		recover(c);
	follow_ephemeral(c);
	look(c);
	if (questions > 0 && table_ends(c->table) > 0)
		look(c); /* heard during the first: whoever asks afterwards may know of them */
	if (questions > 0 && table_ends(c->table) > 0 && !c->postponed) {
		postpone(c);
		return;
	}
	c->postponed = false;
	answer(c, questions);
	if (c->sweeps % FORGET_SWEEPS == 0)
		forget_processes(c);
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

static void on_timer(evutil_socket_t fd, short what, void *context)
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
	say_coverage(c);
}

static void on_asked(evutil_socket_t fd, short what, void *context)
{
	struct capture *c = context;

	(void)fd;
	(void)what;
	if (speaker_is_ready(c->speaker) &&
		(c->question_count > 0 || c->holders_pending || c->wanted))
		sweep(c);
}

/* Questions share the sweep that begins after them; questions in a hurry do not make sweeps in a hurry. */
static void on_sync(void *context, uint64_t id)
{
	struct capture *c = context;

	if (c->question_count == QUESTIONS_AT_ONCE)
		return; /* control's own deadline answers it */
	c->questions[c->question_count++] = id;
	sweep_soon(c);
}

static void log_began(const struct capture *c)
{
	char ranges[PORT_RANGES_TEXT_MAX];

	port_ranges_format(&c->ranges, ranges);
	log_event(LOG_EVENT_RECORDING_BEGAN,
		LOG_FIELDS(LOG_TEXT("RUNG", source_name(rung(c))),
			LOG_NUMBER("INTERVAL_USEC", c->budget.interval_usec),
			LOG_TEXT("RANGES", ranges)),
		"recording ports %s by %s every %llu ms%s", ranges,
		source_name((enum source)c->facts.kind),
		(unsigned long long)(c->budget.interval_usec / USEC_PER_MSEC),
		c->hearing ? " and told of ends" : "");
}

static void on_ready(void *context)
{
	struct capture *c = context;

	c->options.ready(c->options.context);
	sweep(c);
	set_timer(c);
	log_began(c);
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
	say(c, &hello);
	return 0;
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

static void on_sweep_wanted(void *context)
{
	struct capture *c = context;

	c->wanted = true;
	if (speaker_is_ready(c->speaker))
		sweep_soon(c);
}

/* The rung above the sweeps, if it can be had. Before the first sweep, so that nothing falls between the two. */
static int open_hearing(struct capture *c)
{
	const struct hearing_options options = {
		.base = c->options.base,
		.table = c->table,
		.ranges = &c->ranges,
		.bound_only = c->facts.bound_only,
		.proc_fd = c->options.proc_fd,
		.context = c,
		.sweep_wanted = on_sweep_wanted,
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

static int capture_start(struct capture *c)
{
	const struct speaker_handler handler = {
		.context = c,
		.ready = on_ready,
		.sync = on_sync,
	};
	int r;

	c->timer = event_new(c->options.base, -1, EV_PERSIST, on_timer, c);
	c->asked = event_new(c->options.base, -1, 0, on_asked, c);
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
		r = watch(c, host_ephemeral(c->options.proc_fd, c->ephemeral));
	if (r == 0)
		r = open_hearing(c);
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
	c->ephemeral = (struct port_range){.low = 32768, .high = 60999}; /* Linux's default */
	budget_init(
		&c->budget, options->config->interval_usec, options->config->cpu_budget_permille);
	r = capture_start(c);
	if (r < 0) {
		log_error("cannot watch sockets: %s", strerror(-r));
		capture_free(c);
		return r;
	}
	if (!procfs_sees_others())
		log_warning(
			"processes of other users cannot be named: that takes CAP_SYS_PTRACE and "
			"CAP_DAC_READ_SEARCH");
	*ret = c;
	return 0;
}

struct capture_state capture_state(const struct capture *c)
{
	return (struct capture_state){
		.rung = rung(c),
		.interval_usec = c->budget.interval_usec,
		.due_monotonic = c->due,
		.last_cpu_usec = c->last_cpu,
		.sockets = table_stats(c->table).sockets,
	};
}

void capture_reload(struct capture *c, const struct config *config)
{
	bool ready = speaker_is_ready(c->speaker);

	if (ready)
		look(c);
	c->options.config = config;
	budget_init(&c->budget, config->interval_usec, config->cpu_budget_permille);
	if (watch(c, host_ephemeral(c->options.proc_fd, c->ephemeral)) < 0)
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
	hearing_free(c->hearing);
	table_free(c->table);
	kernel_sockets_free(c->kernel_sockets);
	procfs_free(c->procfs);
	refs_free(c->refs);
	speaker_free(c->speaker);
	free(c);
	return NULL;
}
