/* SPDX-License-Identifier: MIT */

/*
 * The n-th operation of the disk fails, for every n: once, thrice, or until somebody mends it; a write, a sync or both; because the
 * disk is full, or without saying why. It is noticed, what waits is kept, and with the disk it works again by itself: in the end each
 * claim is there once, and stays when the power goes right after the last commit. An fsync that has failed is not believed when it
 * succeeds: what it was to bring to the disk is not there (tests/support/disk.h).
 *
 * `test-io-errors` tries some of the n, others each time, `test-io-errors all` every one, `test-io-errors N` that one.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/ledger/batch.h"
#include "tests/support/disk.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define COMMITS     12
#define CLAIMS      15
#define SOME        20 /* of the n that are tried without being asked for all, */
#define FEW         6  /* ... before every commit */
#define FIRST_PORT  2000
#define PATIENCE    3 /* commits after the disk has come back, by which it must work */
#define LAST_COMMIT 100

static const struct fault {
	const char *name;
	unsigned kinds;
	int error;
	uint64_t count;
} faults[] = {
	{"a write, EIO", DISK_WRITE, EIO, 1},
	{"a write, ENOSPC", DISK_WRITE, ENOSPC, 1},
	{"a sync, EIO", DISK_SYNC, EIO, 40},
	{"anything, EIO, for three", DISK_CHANGES, EIO, 3},
	{"anything, ENOSPC, until mended", DISK_CHANGES, ENOSPC, UINT32_MAX},
	{"writes and syncs, EIO, until mended", DISK_WRITE | DISK_SYNC, EIO, UINT32_MAX},
	{"reads and syncs, EIO, for ten", DISK_READ | DISK_SYNC, EIO, 10},
};

struct life {
	struct fixture f;
	struct batch *batch;
	struct ledger_sink sink;
	unsigned put, errors;
	const char *what;
	uint64_t n;
};

#define CHECK(l, condition)                                                                        \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg(                                                                  \
				"%s at %llu: " #condition, (l)->what, (unsigned long long)(l)->n); \
	} while (0)

/* A claim as the ledger tells of it: opened, and over at once or at the next call. */
static void put_claims(struct life *l, struct claim *open)
{
	for (unsigned i = 0; i < CLAIMS; i++) {
		struct claim c = fixture_claim(&l->f, (uint16_t)(FIRST_PORT + l->put));

		c.cookie = ++l->put;
		l->sink.opened(l->sink.context, &c);
		l->sink.released(l->sink.context, &c);
		claim_done(&c);
	}
	if (open->id != 0)
		l->sink.released(l->sink.context, open);
	claim_done(open);
	*open = fixture_claim(&l->f, (uint16_t)(FIRST_PORT + l->put));
	open->cookie = ++l->put;
	l->sink.opened(l->sink.context, open);
}

static int commit_claims(struct life *l, bool durable)
{
	int r = batch_commit(l->batch, l->f.now, durable);

	/* housekeeping after a commit that succeeded is tried again by the next store_maintain() */
	l->errors += r < 0 || l->f.store->maintain_failed;
	if (durable)
		l->errors += store_maintain(l->f.store, l->f.now) < 0;
	l->f.now.boot += USEC_PER_HOUR;
	l->f.now.wall += USEC_PER_HOUR;
	return r;
}

/* Twelve hours with a fault in them, and what it takes to get over it. */
static void live(struct life *l, const struct fault *fault)
{
	struct claim open = {0};
	uint64_t begun = disk_operations();
	unsigned tries = 0;

	if (fault)
		disk_fail(begun + l->n, fault->count, fault->kinds, fault->error);
	for (unsigned i = 0; i < COMMITS; i++) {
		put_claims(l, &open);
		(void)!commit_claims(l, i % 3 != 1);
	}
	CHECK(l, (l->errors > 0) == (disk_failed() > 0));
	CHECK(l, batch_stats(l->batch).lost == 0);
	l->sink.released(l->sink.context, &open);
	claim_done(&open);
	disk_fail(0, 0, 0, 0);
	while (commit_claims(l, true) < 0)
		CHECK(l, ++tries < PATIENCE);
	CHECK(l, batch_stats(l->batch).waiting == 0 && batch_is_empty(l->batch));
}

static void begin_session(struct life *l)
{
	fixture_open(&l->f);
	l->batch = batch_new(l->f.store);
	assert_non_null(l->batch);
	l->sink = batch_sink(l->batch);
}

static void begin_life(struct life *l, const char *what, uint64_t n)
{
	*l = (struct life){.what = what, .n = n};
	fixture_init(&l->f);
	disk_reset(n);
	begin_session(l);
}

static void check_rows(struct life *l)
{
	char expected[64];

	snprintf(expected, sizeof(expected), "%u|%u|\n", l->put, l->put);
	assert_rows(&l->f, "PRAGMA integrity_check", "ok|\n");
	_cleanup_(free_p) char *rows = read_rows(&l->f,
		"SELECT count(*),count(DISTINCT port) FROM claims WHERE released_usec IS NOT NULL");
	if (!rows || !streq(rows, expected))
		fail_msg("%s at %llu: %s instead of %s", l->what, (unsigned long long)l->n,
			rows ? rows : "nothing", expected);
}

static void end_life(struct life *l)
{
	l->batch = batch_free(l->batch);
	fixture_done(&l->f);
}

/* The power goes when all is said to be durable. */
static void cut(struct life *l)
{
	disk_stop_at(disk_operations());
	l->batch = batch_free(l->batch);
	l->f.store->accepted = false; /* nobody tidies up */
	l->f.store = store_free(l->f.store);
	disk_power_back(DISK_KEPT_NOTHING);
	memset(l->f.boot_id, 0xb1, sizeof(l->f.boot_id));
	assert_int_equal(fixture_try_open(&l->f), 0);
}

static uint64_t failed_in(const struct fault *fault, uint64_t n)
{
	static struct life l;
	uint64_t failed;

	begin_life(&l, fault->name, n);
	live(&l, fault);
	failed = disk_failed();
	check_rows(&l);
	cut(&l);
	check_rows(&l);
	end_life(&l);
	return failed;
}

static uint64_t count_operations(void)
{
	static struct life l;
	uint64_t begun, operations;

	begin_life(&l, "nothing", 0);
	begun = disk_operations();
	live(&l, NULL);
	operations = disk_operations() - begun;
	check_rows(&l);
	end_life(&l);
	return operations;
}

static uint64_t chosen; /* 0: some of them; UINT64_MAX: all */

static void test_errors(void **state)
{
	uint64_t operations = count_operations(), lives = 0, failed = 0;
	unsigned every = chosen == UINT64_MAX ? 1 : (unsigned)operations / full_or(SOME, FEW);

	(void)state;
	assert_true(operations > LAST_COMMIT);
	for (size_t i = 0; i < ELEMENTSOF(faults); i++)
		for (uint64_t n = is_full() ? 1 + i % every : stride(every); n <= operations;
			n += stride(every), lives++)
			failed += failed_in(&faults[i], n) > 0;
	print_message("  %llu operations; %llu lives, in %llu of them the disk failed\n",
		(unsigned long long)operations, (unsigned long long)lives,
		(unsigned long long)failed);
	assert_true(failed > lives / 3);
}

/* What one hour brings, all of it over. */
static void put_whole(struct life *l)
{
	struct claim open = {0};

	put_claims(l, &open);
	l->sink.released(l->sink.context, &open);
	claim_done(&open);
	assert_int_equal(commit_claims(l, true), 0);
}

/* What says that a session stopped in order can be read, and has not come to the disk: the next session builds on a hole. (With
 * the stretch of coverage the stop writes more than a page of the WAL, so the next commit does not write all of it anew.) */
static void test_stop_that_fails(void **state)
{
	static const struct coverage how = {.rung = SOURCE_EVENTS, .protocols = 3};
	static struct life l;

	(void)state;
	begin_life(&l, "a sync of the stop", 1);
	l.sink.coverage_begins(l.sink.context, &how, l.f.now.wall);
	put_whole(&l);
	disk_fail(disk_operations() + 1, UINT32_MAX, DISK_SYNC, EIO);
	assert_int_equal(store_stop(l.f.store, l.f.now), -EIO);
	l.batch = batch_free(l.batch);
	l.f.store = store_free(l.f.store);
	disk_fail(0, 0, 0, 0);
	begin_session(&l);
	put_whole(&l);
	check_rows(&l);
	cut(&l);
	check_rows(&l);
	end_life(&l);
}

static void test_chosen(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(faults); i++)
		failed_in(&faults[i], chosen);
}

int main(int argc, char *argv[])
{
	static const struct CMUnitTest every[] = {
		cmocka_unit_test(test_errors), cmocka_unit_test(test_stop_that_fails)};
	static const struct CMUnitTest one[] = {cmocka_unit_test(test_chosen)};

	disk_install();
	if (argc > 1)
		chosen = streq(argv[1], "all") ? UINT64_MAX : strtoull(argv[1], NULL, 10);
	if (chosen == 0 || chosen == UINT64_MAX)
		return cmocka_run_group_tests(every, NULL, NULL);
	return cmocka_run_group_tests(one, NULL, NULL);
}
