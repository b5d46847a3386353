/* SPDX-License-Identifier: MIT */

/* What is left of remote addresses when claims grow old. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/store_fixture.h"

#define AFTER (2 * USEC_PER_HOUR)

static const struct address ipv4 = {FAMILY_IPV4, {198, 51, 100, 77}};
static const struct address ipv6 = {
	FAMILY_IPV6, {0x20, 0x01, 0x0d, 0xb8, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10, 0xaa,
			     0xbb, 0xcc, 0xdd}};

static void set(struct fixture *f, enum remote_addresses what)
{
	const struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		.remote_addresses = (uint8_t)what,
		.remote_after_usec = AFTER,
		OTHER_SETTINGS,
	};

	store_settings(f->store, &settings);
}

static void pass(struct fixture *f, usec_t usec)
{
	f->now.boot += usec;
	f->now.wall += usec;
	commit(f);
	maintain(f);
}

static void put_claim(
	struct fixture *f, uint16_t port, const struct address *remote, usec_t duration)
{
	struct claim c = fixture_claim(f, port);

	c.remote = (struct endpoint){.address = *remote, .port = 443};
	c.closed_boot = c.released_boot = c.opened_boot + duration;
	assert_int_equal(store_put_released(f->store, &c), 0);
}

static void put_failure(struct fixture *f, const struct address *remote)
{
	const struct store_failure failure = {
		.at_wall = f->now.wall,
		.failure = {.netns = FIXTURE_NETNS,
			.error = FAILURE_NOT_AVAILABLE,
			.call = FAILURE_CONNECT,
			.remote = {.address = *remote, .port = 443}},
	};

	assert_int_equal(store_put_failure(f->store, &failure), 0);
}

/* A bind has no remote end; who has its port may have one. */
static void put_held(struct fixture *f, const struct address *remote)
{
	const struct store_failure failure = {
		.at_wall = f->now.wall,
		.failure = {.netns = FIXTURE_NETNS, .error = FAILURE_IN_USE, .call = FAILURE_BIND},
		.held = true,
		.holder_opened_wall = f->now.wall,
		.holder_remote = {.address = *remote, .port = 443},
	};

	assert_int_equal(store_put_failure(f->store, &failure), 0);
}

/* Short and long claims and failures of both families, and a claim without a remote end. */
static void put_all(struct fixture *f)
{
	static const struct address nobody = {0};

	put_claim(f, 40000, &ipv4, USEC_PER_SEC);
	put_claim(f, 40001, &ipv6, USEC_PER_SEC);
	put_claim(f, 40002, &ipv4, 2 * USEC_PER_HOUR);
	put_claim(f, 40003, &ipv6, 2 * USEC_PER_HOUR);
	put_claim(f, 40004, &nobody, USEC_PER_SEC);
	put_failure(f, &ipv4);
	put_failure(f, &ipv6);
	put_held(f, &ipv4);
	put_held(f, &ipv6);
	commit(f);
}

/* Both kinds of claims, and failures. */
static void assert_remotes(const struct fixture *f, const char *four, const char *six)
{
	char expected[256];

	snprintf(expected, sizeof(expected),
		"40000|%s|\n40001|%s|\n40002|%s|\n40003|%s|\n40004|~|~|\n", four, six, four, six);
	assert_rows(
		f, "SELECT port,remote_address,remote_port FROM claims ORDER BY port", expected);
	snprintf(expected, sizeof(expected), "%s|~|~|\n%s|~|~|\n~|~|%s|\n~|~|%s|\n", four, six,
		four, six);
	assert_rows(f,
		"SELECT remote_address,remote_port,holder_remote_address,holder_remote_port FROM failures"
		" ORDER BY call='bind',ifnull(remote_address,holder_remote_address)",
		expected);
}

#define WHOLE_4 "198.51.100.77|443"
#define WHOLE_6 "2001:db8:fedc:ba98:7654:3210:aabb:ccdd|443"
#define CUT_4   "198.51.100.0|443"
#define CUT_6   "2001:db8:fedc::|443"

static void test_truncated(void **state)
{
	struct fixture *f = *state;

	set(f, REMOTE_ADDRESSES_TRUNCATED);
	put_all(f);
	pass(f, USEC_PER_HOUR + USEC_PER_MINUTE); /* sealed, and young enough */
	assert_rows(f, "SELECT count(*) FROM claim_hot", "0|\n");
	assert_remotes(f, WHOLE_4, WHOLE_6);
	assert_rows(f, "SELECT count(*) FROM counter WHERE name='remotes_until_usec'", "0|\n");
	pass(f, 4 * USEC_PER_HOUR);
	assert_remotes(f, CUT_4, CUT_6);
	assert_rows(f, "SELECT count(*) FROM counter WHERE name='remotes_until_usec'", "1|\n");

	/* stricter: of all that is there; laxer: nothing comes back */
	set(f, REMOTE_ADDRESSES_NONE);
	pass(f, USEC_PER_SEC);
	assert_remotes(f, "~|~", "~|~");
	set(f, REMOTE_ADDRESSES_FULL);
	pass(f, USEC_PER_SEC);
	assert_remotes(f, "~|~", "~|~");
}

static void test_none(void **state)
{
	struct fixture *f = *state;

	set(f, REMOTE_ADDRESSES_FULL);
	put_all(f);
	pass(f, 2 * USEC_PER_DAY);
	assert_remotes(f, WHOLE_4, WHOLE_6);
	set(f, REMOTE_ADDRESSES_NONE);
	pass(f, USEC_PER_SEC);
	assert_remotes(f, "~|~", "~|~");
	/* done is done: a maintained store has nothing to do */
	assert_int_equal(remotes_step(f->store, f->now), 0);
}

/* Steps are bounded, and end. */
static void test_many(void **state)
{
	struct fixture *f = *state;
	unsigned steps = 0;
	int r;

	set(f, REMOTE_ADDRESSES_FULL);
	for (unsigned i = 0; i < 10000; i++)
		put_claim(f, (uint16_t)(40000 + i), &ipv4, 2 * USEC_PER_HOUR);
	commit(f);
	pass(f, 2 * USEC_PER_DAY);
	assert_rows(f, "SELECT count(*) FROM claim_long", "10000|\n");
	set(f, REMOTE_ADDRESSES_NONE);
	while ((r = remotes_step(f->store, f->now)) > 0)
		assert_true(++steps < 100);
	assert_int_equal(r, 0);
	assert_int_equal(steps, 3);
	assert_rows(f, "SELECT count(*) FROM claims WHERE remote_address IS NOT NULL", "0|\n");
}

static bool file_has(const struct fixture *f, const char *name, const void *bytes, size_t size)
{
	struct stat st;
	_cleanup_(close_p) int fd = openat(f->dir, name, O_RDONLY | O_CLOEXEC);
	_cleanup_(free_p) char *all = NULL;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	all = malloc((size_t)st.st_size + 1);
	assert_non_null(all);
	assert_int_equal(pread(fd, all, (size_t)st.st_size, 0), st.st_size);
	return memmem(all, (size_t)st.st_size, bytes, size) != NULL;
}

static void checkpoint(struct fixture *f)
{
	assert_int_equal(sqlite3_wal_checkpoint_v2(
				 f->store->db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL),
		SQLITE_OK);
}

/* Not only the rows, the bytes: also in the pages that sealing left free. */
static void test_bytes_are_gone(void **state)
{
	struct fixture *f = *state;

	set(f, REMOTE_ADDRESSES_TRUNCATED);
	put_all(f);
	checkpoint(f);
	assert_true(file_has(f, SCHEMA_FILE, ipv6.bytes, 16));
	pass(f, 2 * USEC_PER_DAY);
	checkpoint(f);
	assert_false(file_has(f, SCHEMA_FILE, ipv6.bytes + 6, 10));
	assert_remotes(f, CUT_4, CUT_6);
}

/* By the index alone: what is done is not read. */
static void test_plan(void **state)
{
	struct fixture *f = *state;
	char sql[2048];

	snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s",
		sqlite3_sql(f->store->statements[STATEMENT_REMOTES_DUE]));
	{
		_cleanup_(free_p) char *plan = read_rows(f, sql);

		assert_non_null(plan);
		assert_non_null(strstr(plan, "segment_remotes (remotes=? AND released_to<?)"));
		assert_non_null(strstr(plan, "claim_long_remotes (remotes=? AND <expr><?)"));
		assert_non_null(strstr(plan, "failure_remotes (remotes=? AND usec<?)"));
		assert_null(strstr(plan, "SCAN segment"));
		assert_null(strstr(plan, "SCAN claim_long"));
		assert_null(strstr(plan, "SCAN failure"));
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup_open, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_truncated),
		CASE(test_none),
		CASE(test_many),
		CASE(test_bytes_are_gone),
		CASE(test_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
