/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Scripts of records for the ledger, and what its sink is told, as text. A line is an event and its claim:
 *     opened 7 tcp 127.0.0.1:40000 connected (900,1000] none
 * (900,1000] is a time with its bound, =1000 one that is exact. Wall time is boottime plus 1,000,000.
 */

#include "common/stream.h"
#include "daemon/ledger/ledger.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define LOG_BYTES 8192

struct log {
	char text[LOG_BYTES];
	uint64_t next_id;
	unsigned released;
};

static inline void say(struct log *log, const char *format, ...) _printf_(2, 3);

static inline void say(struct log *log, const char *format, ...)
{
	size_t used = strlen(log->text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(log->text + used, LOG_BYTES - used, format, arguments);
	va_end(arguments);
}

static inline void say_time(struct log *log, const char *what, usec_t at, usec_t after)
{
	if (at == USEC_UNSET)
		return;
	if (after == USEC_UNSET)
		say(log, "%s=%" PRIu64, what, at);
	else
		say(log, "%s(%" PRIu64 ",%" PRIu64 "]", what, after, at);
}

static inline void say_claim(struct log *log, const char *event, const struct claim *c)
{
	char local[ENDPOINT_TEXT_MAX], remote[ENDPOINT_TEXT_MAX];

	say(log, "%s %" PRIu64 " %s %s", event, c->cookie,
		protocol_name((enum protocol)c->protocol), endpoint_format(&c->local, local));
	if (c->remote.port != 0)
		say(log, "-%s", endpoint_format(&c->remote, remote));
	say(log, " %s", c->role == ROLE_UNKNOWN ? "unknown" : role_name((enum role)c->role));
	say_time(log, " ", c->opened_boot, c->opened_after_boot);
	say_time(log, " closed", c->closed_boot, c->closed_after_boot);
	say_time(log, " released", c->released_boot, USEC_UNSET);
	if (c->source == SOURCE_EVENTS)
		say(log, " told");
	say(log, " %s", attribution_name((enum attribution)c->attribution));
	if (c->opener)
		say(log, " by %" PRId32, c->opener->pid);
	for (uint32_t i = 0; i < c->holder_count; i++) {
		say(log, " held %" PRId32 "@%" PRIu64, c->holders[i].process->pid,
			c->holders[i].from_boot);
		if (c->holders[i].until_boot != USEC_UNSET)
			say(log, "-%" PRIu64, c->holders[i].until_boot);
	}
	if (c->holders_dropped > 0)
		say(log, " and %" PRIu32, c->holders_dropped);
	say(log, "%s%s\n", c->preexisting ? " preexisting" : "",
		c->end_unseen ? " end-unseen" : "");
}

static inline void on_opened(void *context, struct claim *claim)
{
	struct log *log = context;

	assert_int_equal(claim->opened_wall, claim->opened_boot + 1000000);
	claim->id = ++log->next_id;
	say_claim(log, "opened", claim);
}

static inline void on_changed(void *context, struct claim *claim)
{
	say_claim(context, "changed", claim);
}

static inline void on_released(void *context, struct claim *claim)
{
	struct log *log = context;

	assert_true(claim->id > 0);
	assert_true(claim->opened_boot <= claim->closed_boot);
	assert_true(claim->closed_boot <= claim->released_boot);
	log->released++;
	say_claim(log, "released", claim);
}

static inline void on_coverage_begins(void *context, const struct coverage *c, usec_t from_wall)
{
	say(context, "covers %" PRIu32 " from %" PRIu64 "\n", c->protocols, from_wall);
}

static inline void on_coverage_extends(void *context, struct now until)
{
	say(context, "until %" PRIu64 "/%" PRIu64 "\n", until.boot, until.wall);
}

static inline void on_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	say(context, "gap %" PRIu64 "-%" PRIu64 " %s %" PRId64 "\n", from_wall, until_wall, reason,
		(int64_t)lost);
}

static inline void on_clock_step(void *context, usec_t at_wall, int64_t by_usec)
{
	say(context, "clock %" PRIu64 " by %" PRId64 "\n", at_wall, by_usec);
}

static inline void on_netns(void *context, const struct netns *n)
{
	say(context, "netns %" PRIu64 " %" PRIu64 " %s\n", n->cookie, n->inode,
		n->name ? n->name : "-");
}

/* "failed bind 127.0.0.1:40000 in-use at 1001000 by 5 held by 7 since 900" */
static inline void on_failed(void *context, const struct ledger_failure *f)
{
	char local[ENDPOINT_TEXT_MAX];

	say(context, "failed %s %s %s at %" PRIu64,
		f->failure->call == FAILURE_BIND ? "bind" : "connect",
		endpoint_format(&f->failure->local, local),
		f->failure->error == FAILURE_IN_USE ? "in-use" : "not-available", f->at_wall);
	if (f->process)
		say(context, " by %" PRId32, f->process->pid);
	if (f->holder)
		say(context, " held by %" PRId32 " since %" PRIu64,
			f->holder->opener ? f->holder->opener->pid : 0, f->holder->opened_boot);
	say(context, "\n");
}

static inline void on_failures_left_out(
	void *context, usec_t from_wall, usec_t until_wall, uint64_t count)
{
	say(context, "left out %" PRIu64 "-%" PRIu64 " %" PRIu64 "\n", from_wall, until_wall,
		count);
}

static inline void on_drained(void *context, const struct drained *d)
{
	say(context, "drained %" PRIu64 " to %" PRIu64 "\n", d->ring.generation, d->ring.position);
}

static inline struct ledger_sink sink_of(struct log *log)
{
	return (struct ledger_sink){
		.context = log,
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

/* A process of a script: the ledger only borrows it. */
#define PERSON(number, started)                                                                    \
	{                                                                                          \
		.references = 1, .pid = number, .start_boot = started                              \
	}

#define ALL 15 /* protocols */

#define LOOPBACK(p)                                                                                \
	{                                                                                          \
		{FAMILY_IPV4, {127, 0, 0, 1}}, p                                                   \
	}

/* Records. What a PRESENT has besides follows as designated members. */
#define HELLO                                                                                      \
	{                                                                                          \
		RECORD_HELLO, .hello = {.at = {100, 1000100} }                                     \
	}
#define COVERAGE_IN(low, high, ...)                                                                \
	{                                                                                          \
		RECORD_COVERAGE, .coverage = {.ranges = {{{low, high}}, 1}, __VA_ARGS__ }          \
	}
#define COVERAGE(...) COVERAGE_IN(1, UINT16_MAX, __VA_ARGS__)
#define START         HELLO, COVERAGE(.protocols = ALL)
#define PROCESS(r, p)                                                                              \
	{                                                                                          \
		RECORD_PROCESS, .process = { r, p }                                                \
	}
#define SIGHTING(k, c, when, since, ...)                                                           \
	{                                                                                          \
		RECORD_SIGHTING, .sighting = {                                                     \
			.kind = SIGHTING_##k,                                                      \
			.cookie = c,                                                               \
			.at = when,                                                                \
			.after = since,                                                            \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define PRESENT(c, port, at, after, ...)                                                           \
	SIGHTING(PRESENT, c, at, after, .local = LOOPBACK(port), .expires = USEC_UNSET, __VA_ARGS__)
#define TIME_WAIT(c, port, at, after, due, ...)                                                    \
	SIGHTING(PRESENT, c, at, after, .local = LOOPBACK(port), .time_wait = true,                \
		.expires = due, __VA_ARGS__)
/* What events tell is exact. */
#define EVENT(c, port, at, ...)                                                                    \
	PRESENT(c, port, at, USEC_UNSET, .source = SOURCE_EVENTS, __VA_ARGS__)
#define EVENT_CLOSED(c, at, ...)                                                                   \
	SIGHTING(CLOSED, c, at, USEC_UNSET, .source = SOURCE_EVENTS, .expires = USEC_UNSET,        \
		__VA_ARGS__)
#define EVENT_RELEASED(c, at)                                                                      \
	SIGHTING(RELEASED, c, at, USEC_UNSET, .source = SOURCE_EVENTS, .expires = USEC_UNSET)
#define DRAINED(g, p, when, ...)                                                                   \
	{                                                                                          \
		RECORD_DRAINED, .drained = {.ring = {g, p}, .at = when, __VA_ARGS__ }              \
	}
#define FAILED(what, why, p, when, ...)                                                            \
	{                                                                                          \
		RECORD_FAILURE, .failure = {                                                       \
			.call = FAILURE_##what,                                                    \
			.error = FAILURE_##why,                                                    \
			.local = LOOPBACK(p),                                                      \
			.at = when,                                                                \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define SWEPT(n, where)                                                                            \
	{                                                                                          \
		RECORD_SWEEP, .sweep = {                                                           \
			.number = n,                                                               \
			.begin = (n)*1000,                                                         \
			.end = (n)*1000 + 10,                                                      \
			.now = {(n)*1000 + 10, 1000000 + (n)*1000 + 10},                           \
			.protocols = ALL,                                                          \
			.netns = where                                                             \
		}                                                                                  \
	}
#define ABSENT(c, at, after) SIGHTING(ABSENT, c, at, after, .expires = USEC_UNSET)
#define CLOSED(c, at, ...)   SIGHTING(CLOSED, c, at, USEC_UNSET, __VA_ARGS__)
#define BY(learnt, ref)      .attribution = ATTRIBUTION_##learnt, .opener = ref
#define HELD(count, ...)     .holder_count = count, .holders = {__VA_ARGS__}
#define PARTIAL(n, mask, b, e)                                                                     \
	{                                                                                          \
		RECORD_SWEEP, .sweep = {                                                           \
			.number = n,                                                               \
			.begin = b,                                                                \
			.end = e,                                                                  \
			.now = {e, 1000000 + (e)},                                                 \
			.protocols = mask,                                                         \
			.cpu_usec = n                                                              \
		}                                                                                  \
	}
#define SWEEP(n) PARTIAL(n, ALL, (n)*1000, (n)*1000 + 10)

/* A record that only says how far the script has come: "netns 1 2 -". */
#define MARK                                                                                       \
	{                                                                                          \
		RECORD_NETNS, .netns = { 1, 2, NULL, {0, 0} }                                      \
	}

#define SCRIPT(...)                                                                                \
	(const struct record[])                                                                    \
	{                                                                                          \
		__VA_ARGS__,                                                                       \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}

/* What the sweep n says, with nothing else. */
#define UNTIL1  "covers 15 from 1001000\nuntil 1010/1001010\n"
#define UNTIL2  "until 2010/1002010\n"
#define UNTIL3  "until 3010/1003010\n"
#define UNTIL4  "until 4010/1004010\n"
#define NEW     "7 tcp 127.0.0.1:40000 connected (0,1000]"
#define OPENED7 "opened " NEW " none\n"

struct script {
	const char *title;
	const struct record *records;
	const char *log;
};

static inline int say_each(void *context, struct claim *claim)
{
	say_claim(context, "open", claim);
	return 0;
}

/* All that can be seen of a ledger from outside. */
static inline void describe(struct ledger *l, struct log *log)
{
	struct ledger_stats s = ledger_stats(l);

	*log = (struct log){0};
	assert_int_equal(ledger_each(l, say_each, log), 0);
	say(log, "%" PRIu64 " open %" PRIu64 " sweeps %" PRIu64 " usec %" PRIu64 " unattributed ",
		s.open_claims, s.sweeps, s.sweep_cpu_usec, s.unattributed);
	say(log, "%" PRIu64 " gaps %" PRIu64 " lost %" PRIu64 " only by sweep, %d, wall %" PRIu64,
		s.gaps, s.lost, s.found_only_by_sweep, s.watching, ledger_wall(l, 0));
}

static inline void play(struct ledger *l, const struct record *records)
{
	for (; records->type != 0; records++)
		assert_int_equal(ledger_apply(l, records), 0);
}

/* Plays it to a new ledger, and holds against it what that told. */
static inline void run_script(const struct script *script)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	print_message("  %s\n", script->title);
	assert_non_null(l);
	play(l, script->records);
	assert_string_equal(log.text, script->log);
}

/* Its last record is refused, and changes nothing. */
static inline void run_refused(const struct script *script)
{
	struct log log = {0}, before, after;
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	const struct record *r = script->records;

	print_message("  %s\n", script->title);
	assert_non_null(l);
	for (; r[1].type != 0; r++)
		assert_int_equal(ledger_apply(l, r), 0);
	describe(l, &before);
	assert_int_equal(ledger_apply(l, r), -EBADMSG);
	describe(l, &after);
	assert_string_equal(after.text, before.text);
	assert_string_equal(log.text, script->log);
}
