/* SPDX-License-Identifier: MIT */

/*
 * Each allocation and each step of a statement that the batch and its commit make fails once, the n-th for every n: it is said, what
 * waits is kept, and the next try writes all of it, once. What memory is too short to keep is counted.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/failing_life.h"

static int commit_question(struct life *l)
{
	return batch_commit(l->batch, l->f.now, false);
}

static void try_commits(struct life *l, int (*work)(struct life *), int (*other)(struct life *))
{
	unsigned n = 0, failed = 0;
	uint64_t position = 0;

	for (bool refused = true; refused; n = after(n)) {
		int r;

		assert_int_equal(other(l), 0);
		pass(l, USEC_PER_SEC);
		if (n % 2) /* the clock was set back */
			l->f.now.wall -= 2 * USEC_PER_SEC;
		tell_all(l);
		l->sink.drained(l->sink.context,
			&(struct drained){.ring = {9, ++position}, .at = l->f.now.boot});
		refused = was_refused(l, n, work, &r);
		failed += r < 0;
		if (r < 0) {
			assert_true(refused);
			assert_true(batch_stats(l->batch).waiting >= 5);
			assert_int_equal(work(l), 0);
		}
		assert_int_equal(batch_ring_committed(l->batch).position, position);
		assert_all(l);
	}
	assert_true(failed > full_or(25, 3));
}

static void test_commit(void **state)
{
	try_commits(*state, commit_durable, commit_question);
}

static void test_commit_of_a_question(void **state)
{
	try_commits(*state, commit_question, commit_durable);
}

/* With a ring, what it may tell again waits as open claims. */
static void test_commit_in_the_midst_of_a_ring(void **state)
{
	struct life *l = *state;

	batch_ring(l->batch, true);
	for (unsigned n = 0, position = 1;; n++, position++) {
		bool refused;
		int r;

		tell_all(l);
		assert_true(batch_is_told_partly(l->batch));
		refused = was_refused(l, n, commit_durable, &r);
		if (r < 0)
			assert_int_equal(commit_durable(l), 0);
		assert_int_equal(read_told(l).claims, l->told.claims);
		l->sink.drained(l->sink.context, &(struct drained){.ring = {9, position}, .at = 1});
		assert_int_equal(commit_durable(l), 0);
		assert_all(l);
		if (!refused)
			break;
	}
	batch_ring(l->batch, false);
}

static int tell_and_pass(struct life *l)
{
	tell_all(l);
	return 0;
}

static uint64_t counted_as_lost(const struct life *l)
{
	unsigned long long lost = 0;
	_cleanup_(free_p) char *rows =
		read_rows(&l->f, "SELECT ifnull(sum(lost),0) FROM gap WHERE reason='disk-full'");

	assert_non_null(rows);
	assert_int_equal(sscanf(rows, "%llu|", &lost), 1);
	return lost;
}

/* Memory is short when the batch is told: what it could not keep is counted, and the rest is kept. */
static void test_told_without_memory(void **state)
{
	struct life *l = *state;
	uint64_t claims_lost = 0;
	unsigned gaps_lost = 0;

	failing_sqlite = false;
	for (unsigned n = 0;; n++) {
		const struct told before = read_told(l);
		const unsigned claims = l->told.claims;
		const uint64_t lost = counted_as_lost(l);
		struct told now;
		uint64_t counted;
		unsigned facts;
		int r;

		if (!was_refused(l, n, tell_and_pass, &r))
			break;
		assert_int_equal(commit_durable(l), 0);
		assert_int_equal(commit_durable(l), 0); /* what was counted is not counted again */
		now = read_told(l);
		counted = counted_as_lost(l) - lost;
		if (now.gaps - before.gaps < 2) { /* one may be over any number */
			assert_true(counted == 3 || counted == 1);
			gaps_lost++;
			counted = 0;
		}
		claims_lost += counted;
		/* an open claim of which no note could be taken comes with its release */
		assert_in_range(now.claims - before.claims + counted, l->told.claims - claims - 1,
			l->told.claims - claims + 1);
		/* a failure that is not kept is one left out */
		facts = now.failures - before.failures + (unsigned)(now.left_out - before.left_out);
		assert_in_range(facts, 5, 7);
		facts = now.clock_steps - before.clock_steps + now.stretches - before.stretches;
		assert_in_range(facts, 1, 2);
	}
	failing_sqlite = true;
	assert_true(claims_lost >= 5);
	assert_int_equal(batch_stats(l->batch).lost, claims_lost);
	assert_int_equal(gaps_lost, 4); /* two, their reason and the rest */
}

static int tell_gap(struct life *l)
{
	l->sink.gap(l->sink.context, l->f.now.wall - 10, l->f.now.wall, "ring-lost", 3);
	return 0;
}

/* What was counted as lost is committed though nothing else waits, once, whichever step failed. */
static void test_commit_of_what_was_lost(void **state)
{
	struct life *l = *state;
	unsigned failed = 0;
	uint64_t lost = 0;

	for (bool refused = true; refused; lost += 3) {
		int r;

		pass(l, USEC_PER_SEC);
		assert_int_equal(commit_durable(l), 0);
		assert_true(batch_is_empty(l->batch));
		assert_true(was_refused(l, 0, tell_gap, &r));
		assert_false(batch_is_empty(l->batch));
		refused = was_refused(l, failed, commit_durable, &r);
		if (r < 0) {
			assert_int_equal(counted_as_lost(l), lost);
			assert_false(batch_is_empty(l->batch));
			assert_int_equal(commit_durable(l), 0);
			failed++;
		} else if (refused) {
			failed++; /* housekeeping's, and so not the commit's */
		}
		assert_int_equal(counted_as_lost(l), lost + 3);
		assert_true(batch_is_empty(l->batch));
	}
	assert_true(failed > 2);
}

static int stop_reading(struct life *l)
{
	batch_ring(l->batch, false);
	return 0;
}

/* A claim that was left open, and for whose end there is no memory, ends later: until then it is as the database has it. */
static void test_end_without_memory(void **state)
{
	static const char ended[] = "SELECT count(*),count(released_usec) FROM claims";
	struct life *l = *state;
	int r;

	l->open = next_claim(l);
	l->open.closed_boot = l->open.closed_after_boot = l->open.released_boot = USEC_UNSET;
	assert_int_equal(store_put_open(l->f.store, &l->open), 0);
	commit(&l->f);
	batch_ring(l->batch, true);
	assert_int_equal(batch_left_open(l->batch, &l->open), 0);
	assert_true(was_refused(l, 0, stop_reading, &r));
	assert_int_equal(batch_stats(l->batch).waiting, 0);
	assert_int_equal(commit_durable(l), 0);
	assert_rows(&l->f, ended, "1|0|\n");
	assert_false(was_refused(l, 99, stop_reading, &r));
	assert_int_equal(batch_stats(l->batch).waiting, 1);
	assert_int_equal(commit_durable(l), 0);
	assert_rows(&l->f, ended, "1|1|\n");
	assert_all(l);
}

/* Which claims are to be told again is known of all of them, or the start fails. */
static void test_left_open(void **state)
{
	struct life *l = *state;
	unsigned n = 0;
	int r = -ENOMEM;

	l->open = next_claim(l);
	for (; r < 0; n++) {
		failing_in = n;
		r = batch_left_open(l->batch, &l->open);
		failing_in = UINT_MAX;
		assert_true(r == 0 || r == -ENOMEM);
	}
	assert_true(n > 2);
	failing_in = 0;
	assert_null(batch_new(l->f.store));
	failing_in = UINT_MAX;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_commit),
		CASE(test_commit_of_a_question),
		CASE(test_commit_in_the_midst_of_a_ring),
		CASE(test_told_without_memory),
		CASE(test_commit_of_what_was_lost),
		CASE(test_end_without_memory),
		CASE(test_left_open),
	};

	(void)setenv("TMPDIR", "/dev/shm", 0); /* what a disk does is tried elsewhere */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
