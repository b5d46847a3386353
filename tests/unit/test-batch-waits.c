/* SPDX-License-Identifier: MIT */

/* What waits for a commit: failures past what may, what is told of it, absences, what the ring tells again and a session before left. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/ledger/batch.h"
#include "tests/support/store_fixture.h"

struct world {
	struct fixture f;
	struct batch *batch;
	struct ledger_sink sink;
	struct buf told; /* "REASON FROM-UNTIL LOST;" and "step AT BY;", times since FIXTURE_WALL */
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	fixture_init(&w->f);
	fixture_open(&w->f);
	w->batch = batch_new(w->f.store);
	assert_non_null(w->batch);
	w->sink = batch_sink(w->batch);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	assert_null(batch_free(NULL));
	w->batch = batch_free(w->batch);
	buf_done(&w->told);
	fixture_done(&w->f);
	free(w);
	return 0;
}

static void commit_all(struct world *w)
{
	assert_int_equal(batch_commit(w->batch, w->f.now, true), 0);
	assert_true(batch_is_empty(w->batch));
}

/* Opened and released, `late` after the clock of the fixture. */
static void put(struct world *w, usec_t late)
{
	struct claim c = fixture_claim(&w->f, 50000);

	c.opened_boot += late;
	c.opened_wall += late;
	c.closed_boot = c.released_boot = c.opened_boot;
	w->sink.opened(w->sink.context, &c);
	w->sink.released(w->sink.context, &c);
	claim_done(&c);
}

static void tell_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	struct world *w = context;

	assert_int_equal(buf_append_format(&w->told, "%s %lld-%lld %lld;", reason,
				 (long long)(from_wall - FIXTURE_WALL),
				 (long long)(until_wall - FIXTURE_WALL), (long long)lost),
		0);
}

static void tell_step(void *context, usec_t at_wall, int64_t by_usec)
{
	struct world *w = context;

	assert_int_equal(buf_append_format(&w->told, "step %lld %lld;",
				 (long long)(at_wall - FIXTURE_WALL), (long long)by_usec),
		0);
}

static void assert_told(struct world *w, const char *expected)
{
	assert_int_equal(buf_put_u8(&w->told, 0), 0);
	assert_string_equal((const char *)buf_bytes(&w->told), expected);
	buf_done(&w->told);
}

/* Of a commit, and only when it has succeeded. */
static void test_told(void **state)
{
	struct world *w = *state;
	const usec_t now = w->f.now.wall;

	batch_tell(w->batch,
		&(struct batch_told){.context = w, .gap = tell_gap, .clock_step = tell_step});
	put(w, 0);
	w->sink.gap(w->sink.context, now, now + 7, "ring-lost", 3);
	w->sink.clock_step(w->sink.context, now + 9, -5);
	assert_int_equal(buf_size(&w->told), 0);
	assert_false(batch_is_empty(w->batch));
	commit_all(w);
	assert_told(w, "ring-lost 0-7 3;step 9 -5;");
	commit_all(w);
	assert_told(w, "");
}

static void tell_failure(struct world *w, usec_t late)
{
	const struct failure failure = {.local = {{FAMILY_IPV4, {127, 0, 0, 1}}, 50000},
		.netns = FIXTURE_NETNS,
		.call = FAILURE_BIND,
		.error = FAILURE_IN_USE};

	w->sink.failed(w->sink.context,
		&(struct ledger_failure){.failure = &failure, .at_wall = w->f.now.wall + late});
}

/* Failures past what may wait are counted as left out. */
static void test_failures(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < LIMIT_FAILURES_WAITING; i++)
		tell_failure(w, 0);
	tell_failure(w, 7);
	tell_failure(w, 4);
	tell_failure(w, 9);
	commit_all(w);
	assert_rows(&w->f, "SELECT count(*)-4096 FROM failure", "0|\n");
	assert_rows(&w->f,
		"SELECT n,from_usec-1700000000123456,until_usec-1700000000123456"
		" FROM failure_left_out",
		"3|4|9|\n");
	tell_failure(w, 10);
	commit_all(w);
	assert_rows(&w->f, "SELECT count(*)-4096 FROM failure", "1|\n");
	w->sink.failures_left_out(w->sink.context, w->f.now.wall, w->f.now.wall, 5);
	commit_all(w);
	assert_rows(&w->f, "SELECT n FROM failure_left_out", "3|\n5|\n");
}

static const struct coverage how = {
	.rung = SOURCE_EVENTS, .protocols = 3, .ranges = {{{1, UINT16_MAX}}, 1}};

/* An absence is a gap up to where watching begins again, and none if the clock was set back before it. */
static void test_absence(void **state)
{
	struct world *w = *state;
	const usec_t now = w->f.now.wall;

	batch_absence(w->batch, now - 50, "crash");
	w->sink.coverage_begins(w->sink.context, &how, now);
	batch_absence(w->batch, now + 50, "not-running");
	w->sink.coverage_begins(w->sink.context, &how, now + 20);
	w->sink.coverage_begins(w->sink.context, &how, now + 30);
	/* only how often one looks has changed */
	batch_continue(w->batch, now + 33);
	w->sink.coverage_begins(w->sink.context, &how, now + 40);
	w->sink.coverage_begins(w->sink.context, &how, now + 60);
	commit_all(w);
	assert_rows(&w->f,
		"SELECT reason,from_usec-1700000000123456,until_usec-1700000000123456"
		" FROM gap ORDER BY id",
		"crash|-50|0|\nnot-running|20|20|\n");
	assert_rows(&w->f, "SELECT from_usec-1700000000123456 FROM coverage ORDER BY id",
		"0|\n20|\n30|\n33|\n60|\n");
}

/* The ring tells of its losses with each look: for a minute they are one, whether they wait or are committed one by one. Who counts
 * them finds each. */
static void test_gaps_that_follow(void **state)
{
	struct world *w = *state;
	const usec_t wall = w->f.now.wall;

	for (usec_t i = 0; i < 600; i++) {
		const usec_t from = wall + i * 200 * USEC_PER_MSEC + i % 2;

		w->sink.gap(w->sink.context, from, from + 200 * USEC_PER_MSEC, "events-lost", 3);
		if (i % 7 == 0)
			w->sink.gap(
				w->sink.context, from, from + 200 * USEC_PER_MSEC, "ends-lost", 0);
		if (i == 300)
			assert_true(batch_stats(w->batch).gaps < 100);
		if (i > 300 && i % 5 == 0)
			commit_all(w);
	}
	commit_all(w);
	assert_rows(&w->f, "SELECT sum(lost),count(*)<=4 FROM gap WHERE reason='events-lost'",
		"1800|1|\n");
	/* what cannot be counted, or comes later, stays by itself */
	w->sink.gap(w->sink.context, wall, wall + 5, "x", LOST_UNKNOWN);
	w->sink.gap(w->sink.context, wall + 5, wall + 9, "x", 1);
	w->sink.gap(w->sink.context, wall + 9, wall + 10, "x", LOST_UNKNOWN);
	w->sink.gap(w->sink.context, wall + 5000, wall + 5001, "x", 2);
	commit_all(w);
	assert_rows(&w->f, "SELECT lost FROM gap WHERE reason='x' ORDER BY id", "~|\n1|\n~|\n2|\n");
	/* ... and so does what comes earlier, or after something else, or would be too long, while it waits */
	w->sink.gap(w->sink.context, wall + 8000, wall + 9000, "y", 1);
	w->sink.gap(w->sink.context, wall + 7000, wall + 7500, "y", 2);
	w->sink.clock_step(w->sink.context, wall + 7600, -5);
	w->sink.gap(w->sink.context, wall + 7600, wall + LIMIT_GAP_USEC, "z", 3);
	w->sink.gap(w->sink.context, wall + LIMIT_GAP_USEC, wall + 2 * LIMIT_GAP_USEC, "z", 4);
	commit_all(w);
	assert_rows(&w->f, "SELECT lost FROM gap WHERE reason IN ('y','z') ORDER BY id",
		"1|\n2|\n3|\n4|\n");
}

/* What the ring tells again keeps the number that the database has for it. */
static void test_left_open(void **state)
{
	struct world *w = *state;
	struct claim c = fixture_claim(&w->f, 50000), other, again;
	const uint64_t id = c.id;

	c.closed_boot = c.closed_after_boot = c.released_boot = USEC_UNSET;
	w->sink.opened(w->sink.context, &c);
	assert_false(batch_is_empty(w->batch));
	commit_all(w);
	assert_true(c.id > id);
	again = other = c; /* what it owns, which is nothing, is the batch's */
	assert_int_equal(batch_left_open(w->batch, &again), 0);
	other.id = 0;
	w->sink.opened(w->sink.context, &other);
	assert_int_equal(other.id, c.id);
	commit_all(w);
	assert_rows(&w->f, "SELECT count(*) FROM claims", "1|\n");
	other.closed_boot = other.released_boot = other.opened_boot + 1;
	w->sink.released(w->sink.context, &other);
	commit_all(w);
	assert_rows(&w->f, "SELECT count(*),sum(released_usec IS NULL) FROM claims", "1|0|\n");
}

/* What the ring may tell again waits for its next word; without a ring nothing does. */
static void test_ring(void **state)
{
	struct world *w = *state;

	batch_ring(w->batch, true);
	batch_ring(w->batch, false);
	batch_ring(w->batch, true);
	put(w, 0);
	tell_failure(w, 0);
	assert_true(batch_is_told_partly(w->batch));
	assert_int_equal(batch_commit(w->batch, w->f.now, true), 0);
	assert_false(batch_is_empty(w->batch));
	assert_rows(&w->f, "SELECT count(*),sum(released_usec IS NULL) FROM claims", "1|1|\n");
	assert_rows(&w->f, "SELECT count(*) FROM failure", "0|\n");
	put(w, 0);
	batch_ring(w->batch, false);
	assert_false(batch_is_told_partly(w->batch));
	commit_all(w);
	assert_rows(&w->f, "SELECT count(*),sum(released_usec IS NULL) FROM claims", "2|0|\n");
	assert_rows(&w->f, "SELECT count(*) FROM failure", "1|\n");
	batch_ring(w->batch, false);

	/* a place in the ring is to be committed, too, whether it is in another ring or further on */
	w->sink.drained(w->sink.context, &(struct drained){.ring = {9, 10}, .at = 1});
	assert_false(batch_is_empty(w->batch));
	commit_all(w);
	w->sink.drained(w->sink.context, &(struct drained){.ring = {9, 11}, .at = 2});
	assert_false(batch_is_empty(w->batch));
	commit_all(w);
	/* what the ring has lost is committed with its place, each number by itself */
	for (unsigned i = 1; i <= 3; i++) {
		w->sink.drained(w->sink.context, &(struct drained){.ring = {9, 11},
							 .at = 2,
							 .lost = i > 2 ? 3 : 0,
							 .lost_ends = i > 1 ? 2 : 0,
							 .failures_dropped = 1});
		commit_all(w);
		assert_rows(&w->f,
			"SELECT ring_lost,ring_lost_ends,ring_failures_dropped FROM session",
			i == 1   ? "0|0|1|\n"
			: i == 2 ? "0|2|1|\n"
				 : "3|2|1|\n");
	}
	assert_int_equal(batch_ring_committed(w->batch).position, 11);
	batch_ring_before(w->batch, &(struct drained){.ring = {9, 12}});
	assert_true(batch_is_empty(w->batch));
}

/* An open claim that no commit has seen may be released after a younger one was stored. */
static void test_released_unseen(void **state)
{
	struct world *w = *state;
	struct claim first = fixture_claim(&w->f, 50000), second = fixture_claim(&w->f, 50001);

	assert_int_equal(store_put_open(w->f.store, &second), 0);
	commit(&w->f);
	assert_int_equal(store_put_released(w->f.store, &first), 0);
	assert_int_equal(store_put_released(w->f.store, &second), 0);
	commit(&w->f);
	assert_rows(&w->f, "SELECT count(*),sum(released_usec IS NULL) FROM claims", "2|0|\n");
	assert_int_equal(store_stats(w->f.store).recorded, 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_told),
		CASE(test_failures),
		CASE(test_gaps_that_follow),
		CASE(test_absence),
		CASE(test_left_open),
		CASE(test_ring),
		CASE(test_released_unseen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
