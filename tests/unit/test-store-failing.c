/* SPDX-License-Identifier: MIT */

/*
 * Each allocation, each step of a statement and each call of the kernel fails once, the n-th for every n, of a start and a stop, of
 * adopting, sealing, retention and forgetting: it is said, nothing is lost, and the next try does all of it, once.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/failing_life.h"

#define CLAIMS_A_ROUND (6u + 8u)

static int open_again(struct life *l)
{
	return fixture_try_open(&l->f);
}

static const struct {
	bool sqlite, oddly;
	int error;
} ways[] = {
	{true, false, EIO},
	{false, false, ENOSPC},
	{false, false, EDQUOT},
	{false, false, EINVAL},
	{false, true, EIO},
};

/* Memory fails in the same way whatever the kernel says: once is enough. */
static void choose_way(size_t i)
{
	failing_memory = failing_sqlite = ways[i].sqlite;
	failing_oddly = ways[i].oddly;
	failing_error = ways[i].error;
}

/* The next way that is tried, ELEMENTSOF(ways) after the last: before a commit the first, and one of the others. */
static size_t next_way(size_t i)
{
	if (is_full())
		return i + 1;
	return i == 0 ? 1 + chance_below(ELEMENTSOF(ways) - 1) : ELEMENTSOF(ways);
}

/* A start that fails leaves all as it was, and gives the lock back: the next one finds it. */
static void test_open(void **state)
{
	struct life *l = *state;
	unsigned failed = 0;

	pass(l, USEC_PER_SEC);
	tell_all(l);
	assert_int_equal(commit_durable(l), 0);
	for (size_t i = 0; i < ELEMENTSOF(ways); i = next_way(i))
		for (unsigned n = 0;; n = after(n)) {
			struct store_session before;
			bool refused;
			int r;

			end_session(l);
			l->f.before = (struct store_session){.generation = 77};
			choose_way(i);
			refused = was_refused(l, n, open_again, &r);
			choose_way(0);
			if (r < 0) {
				assert_null(l->f.store);
				assert_int_equal(l->f.before.generation, 77);
				assert_int_equal(fixture_try_open(&l->f), 0);
				failed++;
			}
			before = l->f.before;
			assert_true(before.known && before.same_boot && !before.clean);
			assert_int_equal(before.last_seen_boot, l->f.now.boot);
			assert_int_equal(before.how.ranges.count, 2);
			end_session(l);
			begin_session(l);
			assert_all(l);
			if (!refused)
				break;
		}
	assert_true(failed > full_or(40, 8));
}

/* The same where there is no database yet. */
static void test_first_open(void **state _unused_)
{
	unsigned failed = 0;

	for (size_t i = 0; i < ELEMENTSOF(ways); i = next_way(i))
		for (unsigned n = 0, refused = 1; refused; n = after(n)) {
			struct life l = {0};
			int r;

			fixture_init(&l.f);
			choose_way(i);
			refused = was_refused(&l, n, open_again, &r);
			choose_way(0);
			failed += r < 0;
			if (r < 0)
				fixture_open(&l.f);
			assert_false(l.f.before.known);
			assert_rows(&l.f, "SELECT count(*) FROM claims", "0|\n");
			fixture_done(&l.f);
		}
	assert_true(failed > full_or(40, 8));
}

static int stop(struct life *l)
{
	return store_stop(l->f.store, l->f.now);
}

/* A stop that fails is no stop in order until one succeeds. */
static void test_stop(void **state)
{
	struct life *l = *state;
	unsigned failed = 0;

	for (bool refused = true; refused; failed++) {
		int r;

		tell_all(l);
		assert_int_equal(commit_durable(l), 0);
		pass(l, USEC_PER_SEC);
		refused = was_refused(l, failed, stop, &r);
		if (r < 0)
			assert_int_equal(stop(l), 0);
		end_session(l);
		begin_session(l);
		assert_true(l->f.before.clean);
		assert_int_equal(l->f.before.last_seen_boot, l->f.now.boot);
		assert_all(l);
	}
	assert_true(failed > 5);
}

static int commit_alone(struct life *l)
{
	return store_commit(l->f.store, l->f.now, true);
}

static uint64_t seen_by_readers(const struct life *l)
{
	_cleanup_(free_p) char *rows = read_rows(&l->f, "SELECT last_seen_boot_usec FROM session");

	assert_non_null(rows);
	return strtoull(rows, NULL, 10);
}

/* A commit before which nothing was put begins by itself; where it cannot, the session has seen no more. */
static void test_commit_alone(void **state)
{
	struct life *l = *state;
	unsigned n = 0, failed = 0;

	commit(&l->f);
	for (bool refused = true; refused; n++) {
		const uint64_t before = seen_by_readers(l);
		int r;

		pass(l, USEC_PER_SEC);
		refused = was_refused(l, n, commit_alone, &r);
		if (r < 0) {
			assert_false(l->f.store->in_transaction);
			assert_int_equal(seen_by_readers(l), before);
			assert_int_equal(commit_alone(l), 0);
			failed++;
		}
		assert_int_equal(seen_by_readers(l), l->f.now.boot);
	}
	assert_true(failed > 2);
}

static int beat(struct life *l)
{
	return store_heartbeat(l->f.store, l->f.now);
}

static void test_heartbeat(void **state)
{
	static const int errors[ELEMENTSOF(ways)] = {-EIO, -ENOSPC, -EDQUOT, -EINVAL, -ENOSPC};
	struct life *l = *state;
	int r;

	assert_int_equal(commit_durable(l), 0);
	for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
		choose_way(i);
		assert_true(was_refused(l, 0, beat, &r));
		assert_int_equal(r, errors[i]);
		choose_way(0);
	}
	assert_int_equal(beat(l), 0);
}

/* How many claims there were to take, and of whom. */
static unsigned taken;

static int take(void *context, struct claim *claim)
{
	const struct life *l = context;

	assert_true(claim->cookie != 0 && claim->cookie <= l->told.claims);
	claim_done(claim);
	taken++;
	return 0;
}

static int adopt(struct life *l)
{
	taken = 0;
	return store_adopt(l->f.store, take, l);
}

/* Open claims of the session before, of this boot or of another one. */
static void leave_open(struct life *l)
{
	for (unsigned i = 0; i < 8; i++) {
		struct claim c = next_claim(l);

		c.closed_boot = c.closed_after_boot = c.released_boot = USEC_UNSET;
		l->sink.opened(l->sink.context, &c);
		assert_int_equal(commit_durable(l), 0);
		claim_done(&c);
	}
}

/* Of the same boot: whoever takes them gets them all, however often it was tried. */
static void test_adopt(void **state)
{
	struct life *l = *state;
	unsigned n = 0;

	leave_open(l);
	for (bool refused = true; refused; n = after(n)) {
		int r;

		end_session(l);
		begin_session(l);
		refused = was_refused(l, n, adopt, &r);
		if (r < 0)
			assert_int_equal(adopt(l), 0);
		assert_int_equal(taken, 8);
		assert_all(l);
	}
	assert_true(n > 30);
}

/* Of another boot: they end, once. */
static void test_adopt_of_another_boot(void **state)
{
	struct life *l = *state;
	unsigned n = 0;

	for (bool refused = true; refused; n = after(n)) {
		int r;

		leave_open(l);
		end_session(l);
		l->f.boot_id[0] ^= 1;
		begin_session(l);
		refused = was_refused(l, n, adopt, &r);
		if (r < 0)
			assert_int_equal(adopt(l), 0);
		assert_int_equal(taken, 0);
		assert_rows(&l->f, "SELECT count(*) FROM claim_open", "0|\n");
		assert_all(l);
	}
	assert_true(n > 5);
}

/* Steps of housekeeping until none is due. */
static int housekeep(struct life *l)
{
	int r, steps = 0;

	while ((r = store_maintain(l->f.store, l->f.now)) > 0)
		assert_true(++steps < 1000);
	return r;
}

static struct settings settings(usec_t max_age)
{
	return (struct settings){
		.max_age_usec = max_age,
		.max_bytes = UINT64_C(1) << 30,
		.remote_addresses = REMOTE_ADDRESSES_TRUNCATED,
		.remote_after_usec = 2 * USEC_PER_DAY,
		.activity_hour_usec = max_age,
		.activity_day_usec = max_age,
		.user_share_permille = 500,
		.coalesce_above = 2,
	};
}

/* Claims alike in a second, which are told as one row. */
static void tell_flood(struct life *l)
{
	for (unsigned i = 0; i < 8; i++) {
		struct claim c = fixture_claim(&l->f, (uint16_t)(1 + l->told.claims++ % PORTS));

		c.cookie = l->told.claims;
		c.opener = process_ref(l->processes[2]);
		c.opened_after_boot = c.closed_after_boot = USEC_UNSET;
		c.closed_boot = c.opened_boot + 1000;
		c.released_boot = c.closed_boot + 1000;
		l->sink.opened(l->sink.context, &c);
		l->sink.released(l->sink.context, &c);
		claim_done(&c);
	}
}

/* All is sealed, and no claim is lost or double, whichever step failed. */
static void test_seal(void **state)
{
	const struct settings s = settings(3650 * USEC_PER_DAY);
	struct life *l = *state;
	char expected[64];
	unsigned n = 0;

	store_settings(l->f.store, &s);
	for (bool refused = true; refused; n = after(n)) {
		int r;

		tell_claims(l);
		tell_flood(l);
		assert_int_equal(commit_durable(l), 0);
		pass(l, USEC_PER_DAY);
		refused = was_refused(l, n, housekeep, &r);
		if (r < 0)
			assert_int_equal(housekeep(l), 0);
		assert_rows(&l->f, "SELECT count(*) FROM claim_hot", "0|\n");
		(void)snprintf(expected, sizeof(expected), "%u|\n", l->told.claims);
		assert_rows(&l->f, "SELECT sum(count) FROM claims", expected);
	}
	assert_rows(&l->f,
		is_full() ? "SELECT count(*)>50 FROM coalesced"
			  : "SELECT count(*)>5 FROM coalesced",
		"1|\n");
	assert_rows(&l->f, "PRAGMA integrity_check", "ok|\n");
	assert_true(n > 100);
}

/* What is too old goes, and nothing else, whichever step failed. */
static void test_retention(void **state)
{
	const struct settings s = settings(3 * USEC_PER_DAY);
	struct life *l = *state;
	char expected[64];
	unsigned n = 0;

	store_settings(l->f.store, &s);
	for (bool refused = true; refused; n = after(n)) {
		int r;

		claim_done(&l->open);
		l->open = (struct claim){0};
		tell_all(l);
		l->sink.released(l->sink.context, &l->open);
		claim_done(&l->open);
		tell_flood(l);
		assert_int_equal(commit_durable(l), 0);
		pass(l, USEC_PER_DAY);
		assert_int_equal(commit_durable(l), 0);
		refused = was_refused(l, n, housekeep, &r);
		if (r < 0)
			assert_int_equal(housekeep(l), 0);
		pass(l, 7 * USEC_PER_HOUR);
		assert_int_equal(housekeep(l), 0);
		/* rounds are 31 hours apart: those of the last three days are two */
		(void)snprintf(
			expected, sizeof(expected), "%u|\n", CLAIMS_A_ROUND * MIN(n + 1, 2u));
		assert_rows(&l->f, "SELECT sum(count) FROM claims", expected);
	}
	assert_rows(&l->f, "PRAGMA integrity_check", "ok|\n");
	assert_true(n > 100);
}

/* A user's rows go, and nobody else's, whichever step failed. */
static uint64_t forgotten;

static int forget(struct life *l)
{
	const struct forget what = {.user = true, .uid = 1000, .until = USEC_UNSET};
	int32_t pid = 0;

	return store_forget(l->f.dir, &what, &forgotten, &pid);
}

static void test_forget(void **state)
{
	struct life *l = *state;
	unsigned n = 0;

	for (bool refused = true; refused; n = after(n)) {
		int r;

		tell_all(l);
		assert_int_equal(commit_durable(l), 0);
		end_session(l);
		forgotten = 77;
		refused = was_refused(l, n, forget, &r);
		if (r < 0) {
			/* all rows or none; where they went, only their bytes may still be there */
			assert_rows(&l->f, "SELECT count(*)>0 FROM claims WHERE uid=1000",
				forgotten == 77 ? "1|\n" : "0|\n");
			assert_int_equal(forget(l), 0);
		}
		begin_session(l);
		assert_rows(&l->f, "SELECT count(*) FROM claims WHERE uid=1000", "0|\n");
	}
	assert_rows(&l->f, "SELECT count(*)>0 FROM claims WHERE uid IS NULL", "1|\n");
	assert_rows(&l->f, "PRAGMA integrity_check", "ok|\n");
	assert_true(n > 60);
}

/* Each thing that is put, by itself. */
static int put_open(struct life *l)
{
	return store_put_open(l->f.store, &l->open);
}

static int put_released(struct life *l)
{
	return store_put_released(l->f.store, &l->open);
}

static int put_coverage(struct life *l)
{
	return store_put_coverage(l->f.store, &how, l->f.now.wall);
}

static int put_gap(struct life *l)
{
	return store_put_gap(l->f.store, l->f.now.wall, l->f.now.wall, "ring-lost", LOST_UNKNOWN);
}

static int put_clock_step(struct life *l)
{
	return store_put_clock_step(l->f.store, l->f.now.wall, 1);
}

static int put_netns(struct life *l)
{
	return store_put_netns(l->f.store, &(struct netns){.cookie = 5, .inode = 6});
}

static int put_failure(struct life *l)
{
	return store_put_failure(l->f.store, &(struct store_failure){.at_wall = l->f.now.wall,
						     .process = l->processes[0],
						     .held = true,
						     .holder = l->processes[1],
						     .failure = {.local = l->open.local,
							     .error = FAILURE_IN_USE,
							     .call = FAILURE_BIND}});
}

static int put_left_out(struct life *l)
{
	return store_put_failures_left_out(l->f.store, l->f.now.wall, l->f.now.wall, 1);
}

/* One that fails ends its transaction, and leaves nothing of it. */
static void test_puts(void **state)
{
	static const struct {
		int (*put)(struct life *);
		const char *count;
	} puts[] = {
		{put_open, "SELECT count(*) FROM claim_open"},
		{put_released, "SELECT count(*) FROM claim_hot"},
		{put_coverage, "SELECT count(*) FROM coverage"},
		{put_gap, "SELECT count(*) FROM gap"},
		{put_clock_step, "SELECT count(*) FROM clock_step"},
		{put_netns, "SELECT count(*) FROM netns WHERE cookie=5"},
		{put_failure, "SELECT count(*) FROM failure"},
		{put_left_out, "SELECT count(*) FROM failure_left_out"},
	};
	struct life *l = *state;

	l->open = next_claim(l);
	l->open.netns = 77;
	for (size_t i = 0; i < ELEMENTSOF(puts); i++) {
		bool refused = true;
		int r;

		for (unsigned n = 0; refused; n = after(n)) {
			store_rollback(l->f.store);
			refused = was_refused(l, n, puts[i].put, &r);
			assert_int_equal(l->f.store->in_transaction, r == 0);
		}
		store_rollback(l->f.store);
		assert_rows(&l->f, puts[i].count, "0|\n");
		assert_int_equal(puts[i].put(l), 0);
		commit(&l->f);
		assert_rows(&l->f, puts[i].count, "1|\n");
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_open),
		cmocka_unit_test(test_first_open),
		CASE(test_stop),
		CASE(test_commit_alone),
		CASE(test_heartbeat),
		CASE(test_adopt),
		CASE(test_adopt_of_another_boot),
		CASE(test_seal),
		CASE(test_retention),
		CASE(test_forget),
		CASE(test_puts),
	};

	(void)setenv("TMPDIR", "/dev/shm", 0); /* what a disk does is tried elsewhere */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
