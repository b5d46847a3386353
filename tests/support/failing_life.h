/* SPDX-License-Identifier: MIT */
#pragma once

/* A store and a batch that are told one of each thing, and what of it is in the database. Include it once, in a test that is
 * linked with `failing_calls`. */

#include "daemon/ledger/batch.h"
#include "daemon/syscalls.h"
#include "tests/support/failing_calls.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define PORTS 60000u

/* What was told, all that is in the database in the end. */
struct told {
	unsigned claims, gaps, clock_steps, failures, stretches;
	uint64_t left_out;
};

struct life {
	struct fixture f;
	struct batch *batch;
	struct ledger_sink sink;
	struct process *processes[FIXTURE_PROCESSES];
	struct claim open;
	struct told told;
};

/* Which one is tried next: before a commit, and with the address sanitizer, where all takes four times as long, not each. */
static inline unsigned after(unsigned n)
{
	return n + (n > full_or(30, 4) ? stride(SYSCALLS_SANITIZED ? 6 : full_or(1, 10)) : 1);
}

/* What is under test gets its n-th call refused; whether that was so. */
static inline bool was_refused(struct life *l, unsigned n, int (*work)(struct life *), int *ret)
{
	failing_hits = 0;
	failing_in = n;
	*ret = work(l);
	failing_in = UINT_MAX;
	return failing_hits > 0;
}

static inline void begin_session(struct life *l)
{
	fixture_open(&l->f);
	l->batch = batch_new(l->f.store);
	assert_non_null(l->batch);
	l->sink = batch_sink(l->batch);
}

static inline int setup(void **state)
{
	struct life *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	fixture_init(&l->f);
	fixture_processes(l->processes);
	begin_session(l);
	*state = l;
	return 0;
}

static inline void end_session(struct life *l)
{
	l->batch = batch_free(l->batch);
	l->f.store = store_free(l->f.store);
}

static inline int teardown(void **state)
{
	struct life *l = *state;

	claim_done(&l->open);
	l->batch = batch_free(l->batch);
	processes_done(l->processes);
	fixture_done(&l->f);
	free(l);
	return 0;
}

static inline void pass(struct life *l, usec_t usec)
{
	l->f.now.boot += usec;
	l->f.now.wall += usec;
}

/* What the test itself needs is there. */
static inline unsigned stop_failing(void)
{
	const unsigned in = failing_in;

	failing_in = UINT_MAX;
	return in;
}

/* One that the database does not have yet. */
static inline struct process *fresh_process(unsigned i)
{
	return fixture_process((int32_t)(1000 + i), "fresh");
}

/* The next claim, with what a claim can have. */
static inline struct claim next_claim(struct life *l)
{
	const unsigned in = stop_failing();
	unsigned i = l->told.claims++;
	struct claim c = fixture_claim(&l->f, (uint16_t)(1 + i % PORTS));

	c.cookie = 1 + i;
	c.opener = process_ref(l->processes[i % FIXTURE_PROCESSES]);
	if (i % 3 == 0) {
		c.holder_count = 2;
		c.holders = calloc(2, sizeof(*c.holders));
		assert_non_null(c.holders);
		for (unsigned k = 0; k < 2; k++)
			c.holders[k] = (struct holder){
				.process =
					process_ref(l->processes[(i + 1 + k) % FIXTURE_PROCESSES]),
				.from_boot = c.opened_boot,
				.until_boot = USEC_UNSET};
	}
	c.local_unknown = i % 5 == 1;
	if (i % 5 == 2)
		c.remote = (struct endpoint){0};
	if (i % 5 == 3)
		c.released_boot = c.closed_boot + 2 * USEC_PER_HOUR;
	c.preexisting = i % 5 == 4;
	c.netns = i % 7 == 0 ? 99 : FIXTURE_NETNS;
	failing_in = in;
	return c;
}

static inline void tell_claims(struct life *l)
{
	if (l->open.id != 0) {
		l->sink.changed(l->sink.context, &l->open);
		l->sink.released(l->sink.context, &l->open);
		claim_done(&l->open);
	}
	for (unsigned i = 0; i < 5; i++) {
		struct claim c = next_claim(l);

		l->sink.opened(l->sink.context, &c);
		l->sink.released(l->sink.context, &c);
		claim_done(&c);
	}
	l->open = next_claim(l);
	l->sink.opened(l->sink.context, &l->open);
	l->sink.changed(l->sink.context, &l->open);
}

/* In the way is `holder`, whom systemd may have given the socket to. */
static inline void tell_failure(struct life *l, uint32_t of, const struct claim *holder)
{
	const unsigned in = stop_failing();
	struct process *process = fresh_process(l->told.failures);
	const struct failure failure = {.local = {{FAMILY_IPV4, {127, 0, 0, 1}}, 50000},
		.remote = {{FAMILY_IPV4, {192, 0, 2, 1}}, 443},
		.netns = FIXTURE_NETNS,
		.call = of % 2 ? FAILURE_BIND : FAILURE_CONNECT,
		.error = FAILURE_IN_USE};
	const struct ledger_failure told = {.failure = &failure,
		.at_wall = l->f.now.wall,
		.process = of == 0 ? NULL : process,
		.holder = holder};

	failing_in = in;
	l->sink.failed(l->sink.context, &told);
	l->told.failures++;
	process_unref(process);
}

static inline void tell_failures(struct life *l)
{
	const unsigned in = stop_failing();
	struct process *systemd = fixture_process(1, "systemd");
	struct holder holders[] = {{.process = l->processes[3], .until_boot = USEC_UNSET},
		{.process = l->processes[4], .until_boot = l->f.now.boot}};
	struct claim c = {.opened_wall = l->f.now.wall, .opener = systemd};

	systemd->start_boot += l->told.failures; /* one that the database does not have yet */
	failing_in = in;
	tell_failure(l, 0, NULL);
	tell_failure(l, 1, &l->open);
	c.holders = holders;
	tell_failure(l, 2, &c); /* nobody else has it */
	c.holder_count = ELEMENTSOF(holders);
	tell_failure(l, 3, &c);
	c = (struct claim){.opened_wall = l->f.now.wall};
	tell_failure(l, 4, &c); /* whoever has it */
	for (unsigned i = 1; i <= 2; i++, l->told.left_out++)
		l->sink.failures_left_out(
			l->sink.context, l->f.now.wall - i, l->f.now.wall - 3 + i, 1);
	process_unref(systemd);
}

static const struct coverage how = {
	.rung = SOURCE_EVENTS, .protocols = 3, .ranges = {{{1, 1000}, {2000, UINT16_MAX}}, 2}};

/* One of each thing that a batch is told. */
static inline void tell_all(struct life *l)
{
	const usec_t now = l->f.now.wall;
	char name[] = "blue";
	struct netns named = {.cookie = 98, .inode = 4, .name = name};
	struct netns unnamed = {.cookie = 99, .inode = 5, .ephemeral = {1000, 2000}};

	l->sink.netns(l->sink.context, &named);
	l->sink.netns(l->sink.context, &unnamed);
	l->sink.coverage_begins(l->sink.context, &how, now);
	l->told.stretches++;
	tell_claims(l);
	l->sink.gap(l->sink.context, now - 10, now, "ring-lost", 3);
	l->sink.gap(l->sink.context, now - 5, now, "suspend", LOST_UNKNOWN);
	l->told.gaps += 2;
	l->sink.clock_step(l->sink.context, now, -700000);
	l->told.clock_steps++;
	tell_failures(l);
}

static inline struct told read_told(const struct life *l)
{
	struct told t = {0};
	unsigned long long left_out = 0;
	_cleanup_(free_p) char *rows = read_rows(&l->f,
		"SELECT (SELECT count(DISTINCT port) FROM claims),"
		/* those that touch are one, and tell_all() has 3 in each that has a number */
		"(SELECT ifnull(sum(ifnull(lost,3)/3),0) FROM gap WHERE reason<>'disk-full'),"
		"(SELECT count(*) FROM clock_step),(SELECT count(*) FROM failure),"
		"(SELECT count(*) FROM coverage),(SELECT ifnull(sum(n),0) FROM failure_left_out)");

	assert_non_null(rows);
	assert_int_equal(sscanf(rows, "%u|%u|%u|%u|%u|%llu|", &t.claims, &t.gaps, &t.clock_steps,
				 &t.failures, &t.stretches, &left_out),
		6);
	t.left_out = left_out;
	return t;
}

/* All that was told is there, once. */
static inline void assert_all(const struct life *l)
{
	const struct told t = read_told(l);
	char expected[64];

	assert_int_equal(t.claims, l->told.claims);
	assert_int_equal(t.gaps, l->told.gaps);
	assert_int_equal(t.clock_steps, l->told.clock_steps);
	assert_int_equal(t.failures, l->told.failures);
	assert_int_equal(t.stretches, l->told.stretches);
	assert_int_equal(t.left_out, l->told.left_out);
	(void)snprintf(expected, sizeof(expected), "%u|\n", l->told.claims);
	assert_rows(&l->f, "SELECT count(*) FROM claims", expected);
	assert_true(batch_is_empty(l->batch));
}

static inline int commit_durable(struct life *l)
{
	return batch_commit(l->batch, l->f.now, true);
}
