/* SPDX-License-Identifier: MIT */

/*
 * What capture tells the ledger. The table knows what the stream was told. Whenever that can no longer be so (another
 * ledger, one that was too far behind), the stream is told everything again: capture_announce().
 */

#include "daemon/capture/capture_private.h"

#include <stdio.h>

#include "common/log.h"
#include "daemon/cost.h"

void capture_say(struct capture *c, const struct record *r)
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

int capture_emit(void *context, const struct sighting *s)
{
	struct capture *c = context;
	struct record r = {.type = RECORD_SIGHTING, .sighting = *s};

	if (r.sighting.netns == 0)
		r.sighting.netns = c->netns.cookie;
	capture_say(c, &r);
	return 0;
}

int capture_introduce(void *context, uint32_t ref, struct process *p)
{
	capture_say(context,
		&(struct record){.type = RECORD_PROCESS, .process = {.ref = ref, .process = p}});
	return 0;
}

enum source capture_rung(const struct capture *c)
{
	return c->events ? SOURCE_EVENTS : c->hearing ? SOURCE_DESTROY : c->facts.kind;
}

static struct coverage coverage_now(const struct capture *c)
{
	struct events_facts events = {0};

	if (c->events)
		events = source_events_facts(c->events);
	return (struct coverage){
		.rung = (uint8_t)capture_rung(c),
		.interval_usec = c->budget.interval_usec,
		.ranges = c->ranges,
		.ephemeral = c->ephemeral,
		.protocols = c->facts.protocols,
		.bound_only = c->facts.bound_only || c->events,
		.accepted = c->options.config->accepted,
		.foreign_processes = c->events || procfs_sees_others(),
		.netns_all = c->events && !c->options.netns_self,
		.udp_connect = events.udp_connect,
		.failures = events.failures,
	};
}

void capture_say_coverage(struct capture *c)
{
	capture_say(c, &(struct record){.type = RECORD_COVERAGE, .coverage = coverage_now(c)});
}

void capture_say_obstacle(struct capture *c)
{
	capture_say(c, &(struct record){.type = RECORD_OBSTACLE,
			       .obstacle = c->obstacle[0] != '\0' ? c->obstacle : NULL});
}

void capture_say_settings(struct capture *c)
{
	capture_say(
		c, &(struct record){.type = RECORD_SETTINGS, .settings = c->options.config->store});
}

static void say_netns(void *context, const struct netns *netns)
{
	capture_say(context, &(struct record){.type = RECORD_NETNS, .netns = *netns});
}

void capture_say_netns(struct capture *c)
{
	c->netns.ephemeral = c->ephemeral;
	say_netns(c, &c->netns);
	if (c->namespaces)
		namespaces_each(c->namespaces, say_netns, c);
}

/* Tells everything again, to a ledger that knows nothing or not all. */
void capture_announce(struct capture *c)
{
	capture_say_settings(c);
	capture_say_netns(c);
	capture_say_obstacle(c);
	capture_say_coverage(c);
	capture_say(c, &(struct record){.type = RECORD_RESYNC});
	/* A process that is known already is only said again. */
	if (refs_each(c->refs, capture_introduce, c) < 0 ||
		table_resync(c->table, c->facts.kind, capture_emit, c) < 0)
		log_error("cannot tell the ledger what is open");
	c->announced = true;
}

void capture_say_lost(struct capture *c)
{
	char reason[] = "notifications-lost";
	struct record r = {.type = RECORD_GAP, .gap = {.reason = reason, .lost = LOST_UNKNOWN}};

	if (!c->hearing || !hearing_take_lost(c->hearing, &r.gap.from, &r.gap.until))
		return;
	/* what was lost before the first sweep was not watched yet */
	r.gap.from = MAX(r.gap.from, c->first_begin);
	if (r.gap.from < r.gap.until)
		capture_say(c, &r);
}

/* The ledger was behind and has caught up: what was not said in between is a gap, and all is told again. */
void capture_recover(struct capture *c)
{
	struct record gap = {.type = RECORD_GAP,
		.gap = {.from = c->behind_from, .until = clock_now().boot, .lost = LOST_UNKNOWN}};
	char reason[] = "ledger-behind";

	if (!speaker_caught_up(c->speaker))
		return;
	gap.gap.reason = reason;
	capture_say(c, &gap);
	log_event(LOG_EVENT_LEDGER_CAUGHT_UP,
		LOG_FIELDS(LOG_NUMBER("BEHIND_USEC", gap.gap.until - gap.gap.from)),
		"the ledger has caught up after %llu ms",
		(unsigned long long)((gap.gap.until - gap.gap.from) / USEC_PER_MSEC));
	c->behind_from = 0;
	c->announced = false;
}

static void on_forgotten(void *context, uint32_t ref)
{
	capture_say(context, &(struct record){.type = RECORD_FORGET, .forget = ref});
}

static void mark_ref(void *context, uint32_t ref)
{
	refs_mark(context, ref);
}

void capture_forget_processes(struct capture *c)
{
	table_refs(c->table, mark_ref, c->refs);
	refs_drop_unmarked(c->refs, on_forgotten, c);
	c->refs_limit = 2 * refs_count(c->refs) + LIMIT_REFS;
}

/* Barriers for the questions that came before this sweep began. */
void capture_answer(struct capture *c, size_t count)
{
	struct record r = {.type = RECORD_BARRIER};

	if (count == 0)
		return;
	r.barrier.capture = cost_of_self();
	r.barrier.now = clock_now();
	for (size_t i = 0; i < count; i++) {
		r.barrier.id = c->questions[i];
		capture_say(c, &r);
	}
	memmove(c->questions, c->questions + count,
		(c->question_count - count) * sizeof(c->questions[0]));
	c->question_count -= count;
}

void capture_describe(const struct capture *capture, char *text, size_t size)
{
	struct capture_state c = capture_state(capture);
	int n;

	if (c.due_monotonic == USEC_UNSET) {
		(void)snprintf(text, size, "waiting for the database");
		return;
	}
	n = snprintf(text, size,
		"recording by %s%s every %g s%s; %u socket%s on watched ports; last sweep %.1f ms",
		c.rung == SOURCE_EVENTS ? "events and " : "",
		c.rung == SOURCE_PROCNET ? "/proc/net" : "sweep",
		(double)c.interval_usec / USEC_PER_SEC,
		c.rung == SOURCE_DESTROY ? " and told of ends" : "", c.sockets,
		c.sockets == 1 ? "" : "s", (double)c.last_cpu_usec / USEC_PER_MSEC);
	if (n > 0 && (size_t)n < size && (c.obstacle || c.container))
		(void)snprintf(text + n, size - (size_t)n, "; %s%s",
			c.container ? "only processes of this container" : "no kernel events: ",
			c.obstacle ? c.obstacle : "");
}
