/* SPDX-License-Identifier: MIT */

/* What is erased goes from every table, and what is somebody else's stays. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/store_fixture.h"

#define SECRET "x5secret"

static struct process *program(int32_t pid, const char *name, uint32_t uid)
{
	struct process *p = fixture_process(pid, name);

	free(p->exe);
	assert_true(asprintf(&p->exe, "/usr/bin/%s", name) > 0);
	p->uid = uid;
	return p;
}

static void put(struct fixture *f, uint16_t port, struct process *opener, struct process *holder,
	usec_t duration)
{
	struct claim c = fixture_claim(f, port);
	struct holder h = {.process = holder, .from_boot = f->now.boot, .until_boot = USEC_UNSET};

	c.opener = opener;
	c.closed_boot = c.released_boot = c.opened_boot + duration;
	c.holders = holder ? &h : NULL;
	c.holder_count = holder != NULL;
	assert_int_equal(store_put_released(f->store, &c), 0);
}

static void put_open(
	struct fixture *f, uint16_t port, struct process *opener, struct process *holder)
{
	struct claim c = fixture_claim(f, port);
	struct holder h = {.process = holder, .from_boot = f->now.boot, .until_boot = USEC_UNSET};

	c.opener = opener;
	c.holders = &h;
	c.holder_count = 1;
	c.closed_boot = c.closed_after_boot = c.released_boot = USEC_UNSET;
	assert_int_equal(store_put_open(f->store, &c), 0);
}

static void put_failure(struct fixture *f, struct process *process, struct process *holder)
{
	const struct store_failure failure = {
		.at_wall = f->now.wall,
		.process = process,
		.held = holder != NULL,
		.holder = holder,
		.holder_opened_wall = f->now.wall,
		.holder_remote = {.address = {.family = holder ? FAMILY_IPV4 : FAMILY_NONE},
			.port = 443},
		.failure = {.netns = FIXTURE_NETNS, .error = FAILURE_IN_USE, .call = FAILURE_BIND},
	};

	assert_int_equal(store_put_failure(f->store, &failure), 0);
}

/* Of uid 1000 and uid 2000 in every table: sealed, long, not sealed, open, held for each other, failed. */
static void fill(struct fixture *f)
{
	struct process *theirs = program(10, SECRET, 1000), *others = program(11, "other", 2000);
	/* as capture names one that has no other name */
	const struct netns container = {
		.cookie = 70, .inode = 71, .name = (char[]){SECRET ".scope"}};
	struct claim inside = fixture_claim(f, 45500);

	assert_int_equal(store_put_netns(f->store, &container), 0);
	inside.netns = container.cookie;
	inside.opener = theirs;
	inside.closed_boot = inside.released_boot = inside.opened_boot + USEC_PER_SEC;
	assert_int_equal(store_put_released(f->store, &inside), 0);

	for (uint16_t i = 0; i < 20; i++) {
		put(f, (uint16_t)(40000 + i), theirs, i % 4 ? NULL : others, USEC_PER_SEC);
		put(f, (uint16_t)(41000 + i), others, i % 4 ? NULL : theirs, USEC_PER_SEC);
	}
	put(f, 42000, theirs, others, 2 * USEC_PER_HOUR);
	put(f, 43000, others, theirs, 2 * USEC_PER_HOUR);
	commit(f);
	seal_all(f);
	put(f, 44000, theirs, NULL, USEC_PER_SEC);
	put(f, 45000, others, NULL, USEC_PER_SEC);
	put_open(f, 46000, theirs, others);
	put_open(f, 47000, others, theirs);
	put_failure(f, theirs, others);
	put_failure(f, others, theirs);
	assert_int_equal(sql_exec(f->store, "INSERT INTO known VALUES(1,-1,0,'/usr/bin/" SECRET
					    "',0,1),(1,0,80,NULL,NULL,1),"
					    "(2,-1,0,'/usr/bin/other',0,1),(2,0,80,NULL,NULL,1)"),
		0);
	commit(f);
	process_unref(theirs);
	process_unref(others);
}

static uint64_t forget(struct fixture *f, struct forget what)
{
	uint64_t rows = 0;
	int32_t pid = 0;

	f->store = store_free(f->store);
	assert_int_equal(store_forget(f->dir, &what, &rows, &pid), 0);
	return rows;
}

/* The name is nowhere in any of the files. */
static bool is_named(const struct fixture *f)
{
	static const char *const names[] = {SCHEMA_FILE, SCHEMA_FILE "-wal"};
	bool named = false;

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		struct stat st;
		_cleanup_(close_p) int fd = openat(f->dir, names[i], O_RDONLY | O_CLOEXEC);
		_cleanup_(free_p) char *all = NULL;

		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		all = malloc((size_t)st.st_size + 1);
		assert_non_null(all);
		assert_int_equal(pread(fd, all, (size_t)st.st_size, 0), st.st_size);
		named |= memmem(all, (size_t)st.st_size, SECRET, strlen(SECRET)) != NULL;
	}
	return named;
}

static void test_user(void **state)
{
	struct fixture *f = *state;
	const struct forget what = {.user = true, .uid = 1000, .until = USEC_UNSET};

	fill(f);
	assert_rows(f, "SELECT uid,count(*) FROM claims GROUP BY uid", "1000|24|\n2000|23|\n");
	assert_true(is_named(f));
	/* 24 claims, 14 holders (7 of their claims, 7 they were), a failure, an hour's and a day's sums at least, 1 process,
	 * 2 of what is known, 1 program, 1 namespace */
	assert_true(forget(f, what) >= 24 + 14 + 1 + 1 + 1 + 2 + 1 + 1);
	assert_false(is_named(f));
	assert_rows(f, "SELECT uid,count(*),sum(holders<>'[]') FROM claims GROUP BY uid",
		"2000|23|0|\n");
	assert_rows(f, "SELECT count(*) FROM holder", "0|\n");
	assert_rows(f,
		"SELECT uid,holder_uid,holder_remote_address,holder_remote_port FROM failures",
		"2000|~|~|~|\n");
	assert_rows(f, "SELECT DISTINCT uid FROM activity_hour", "2000|\n");
	assert_rows(f, "SELECT program,count(*) FROM known GROUP BY 1", "2|2|\n");
	assert_rows(f, "SELECT uid FROM app", "2000|\n");
	assert_rows(f, "SELECT inode FROM netns", "4026531840|\n");
	assert_rows(f, "SELECT n FROM segment", "20|\n");
	assert_rows(f, "SELECT uid,n FROM segment_user", "2000|20|\n");
	assert_rows(f, "SELECT reason,lost,from_usec<until_usec FROM gap", "forgotten|~|1|\n");

	/* no number is given again, and all goes on */
	fixture_open(f);
	put(f, 50000, NULL, NULL, USEC_PER_SEC);
	commit(f);
	assert_rows(f, "SELECT count(*),count(DISTINCT id) FROM claim_hot", "2|2|\n");
	seal_all(f);
	assert_rows(f, "SELECT count(*) FROM claims", "24|\n");
}

static void test_window(void **state)
{
	struct fixture *f = *state;
	struct forget what = {
		.from = FIXTURE_WALL - USEC_PER_DAY, .until = FIXTURE_WALL - USEC_PER_HOUR};

	fill(f);
	(void)forget(f, what);
	assert_rows(f, "SELECT count(*) FROM claims", "47|\n");
	assert_rows(f, "SELECT reason FROM gap", "forgotten|\n");
	what.until = FIXTURE_WALL + USEC_PER_MINUTE;
	(void)forget(f, what);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	assert_rows(f, "SELECT count(*) FROM failures", "0|\n");
	assert_rows(f, "SELECT count(*) FROM activity_hour", "0|\n");
	assert_rows(f, "SELECT count(*) FROM holder", "0|\n");
	assert_rows(f, "SELECT count(*) FROM segment", "0|\n");
	assert_false(is_named(f));
	/* what is still to come is not forgotten beforehand */
	what.until = FIXTURE_WALL + 365 * USEC_PER_DAY;
	(void)forget(f, what);
	assert_rows(f, "SELECT max(until_usec)=(SELECT max(last_seen_usec) FROM session) FROM gap",
		"1|\n");
}

/* While the store is open nothing is touched. */
static void test_locked(void **state)
{
	struct fixture *f = *state;
	const struct forget what = {.user = true, .uid = 1000, .until = USEC_UNSET};
	uint64_t rows = 77;
	int32_t pid = 0;

	fill(f);
	assert_int_equal(store_forget(f->dir, &what, &rows, &pid), -EAGAIN);
	assert_int_equal(pid, getpid());
	assert_int_equal(rows, 77);
	assert_rows(f, "SELECT count(*) FROM claims", "47|\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup_open, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_user),
		CASE(test_window),
		CASE(test_locked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
