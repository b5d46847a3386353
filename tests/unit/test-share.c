/* SPDX-License-Identifier: MIT */

/* Who makes many claims pushes out his own, and it is said how many. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define USERS_MAX 4u
#define ROUNDS    full_or(64, 28) /* of the random one */
/* Claims of one segment: what makes one due is their number in the long half, else their age, which is an hour where remote addresses
 * are truncated. Then all that is counted in segments, and the bytes that are allowed, are an eighth. */
#define PART    full_or(1, 8)
#define SEGMENT (LIMIT_SEGMENT_ROWS / PART)
#define PASS    (USEC_PER_MINUTE * full_or(10, 70))
#define SETTINGS                                                                                   \
	OTHER_SETTINGS,                                                                            \
		.remote_addresses =                                                                \
			is_full() ? REMOTE_ADDRESSES_FULL : REMOTE_ADDRESSES_TRUNCATED,            \
		.remote_after_usec = 365 * USEC_PER_DAY
#define ALL_ROWS "(SELECT count(*) FROM claim_seg)+(SELECT count(*) FROM claim_hot)"

/* What the database may have: in the short half an eighth, and the tables that are empty. */
static uint64_t bytes(uint64_t mib)
{
	return (mib << 20) / PART + full_or(0, 160 * 1024);
}

/* A program of this uid; UID_UNSET: of nobody knows whom. */
static struct process *process_of(uint32_t uid, int32_t pid)
{
	struct process *p = fixture_process(pid, "worker");

	p->uid = uid;
	return p;
}

static void put_claims(struct fixture *f, struct process *p, uint32_t count, bool held)
{
	for (uint32_t i = 0; i < count; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(40000 + fixture_random(f, 20000)));
		struct holder h = {
			.process = p, .from_boot = f->now.boot, .until_boot = USEC_UNSET};

		c.opener = p;
		if (held && i % 50 == 0) {
			c.holders = &h;
			c.holder_count = 1;
		}
		assert_int_equal(store_put_released(f->store, &c), 0);
	}
}

static void pass(struct fixture *f)
{
	f->now.boot += PASS;
	f->now.wall += PASS;
	commit(f);
	maintain(f);
}

static int64_t number(const struct fixture *f, const char *sql)
{
	_cleanup_(free_p) char *rows = read_rows(f, sql);

	assert_non_null(rows);
	return strtoll(rows, NULL, 10);
}

/* What is counted is what is there, no row refers to one that is not, and all of it is a segment's. */
static void assert_counts(const struct fixture *f)
{
	assert_rows(f,
		"SELECT count(*) FROM (SELECT seg,ifnull(a.uid,-1) AS uid,count(*) AS n FROM claim_seg c"
		" LEFT JOIN process p ON p.id=c.process LEFT JOIN app a ON a.id=p.app GROUP BY 1,2) r"
		" FULL JOIN segment_user u USING(seg,uid) WHERE r.n IS NOT u.n",
		"0|\n");
	assert_rows(f,
		"SELECT count(*) FROM segment s WHERE n<>(SELECT count(*) FROM claim_seg WHERE seg=s.id)",
		"0|\n");
	assert_rows(f,
		"SELECT count(*) FROM holder WHERE claim NOT IN (SELECT claim FROM claim_seg UNION ALL"
		" SELECT claim FROM claim_hot)",
		"0|\n");
}

#define LOST "SELECT ifnull(sum(lost),0) FROM gap WHERE reason='user-share'"

/* Few claims of one user, then very many of another: none of the first is lost, and each of the second is there or counted. */
static void test_flood(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY, .max_bytes = bytes(3), SETTINGS};
	struct process *victim = process_of(1000, 100), *flood = process_of(666, 200);
	const unsigned rounds = full_or(20, 12);
	int64_t made = 0;

	store_settings(f->store, &settings);
	for (unsigned i = 0; i < rounds; i++) {
		put_claims(f, victim, 100, true);
		put_claims(f, flood, i < 4 ? 100 : SEGMENT, true);
		made += i < 4 ? 100 : SEGMENT;
		pass(f);
		assert_counts(f);
	}
	assert_int_equal(number(f, "SELECT count(*) FROM claims WHERE uid=1000"), 100 * rounds);
	assert_int_equal(
		number(f, "SELECT count(*) FROM claims WHERE uid=666") + number(f, LOST), made);
	assert_true(number(f, LOST) > full_or(8, 3) * (int64_t)SEGMENT);
	/* the newest are kept */
	assert_true(number(f, "SELECT max(opened_usec) FROM claims WHERE uid=666") >
		    (int64_t)(f->now.wall - 2 * PASS));
	assert_rows(f, "SELECT count(*) FROM counter WHERE name='expired_until_usec' AND value>0",
		"0|\n");
	/* the database is as large as it may be, and not much less */
	assert_true(
		number(f,
			"SELECT page_count-freelist_count FROM pragma_page_count,pragma_freelist_count") <=
		(int64_t)(bytes(3) / f->store->page_bytes));
	assert_true(number(f, "SELECT " ALL_ROWS) > 2 * (int64_t)SEGMENT);
	/* gaps are over the time of what went, a day at the most */
	assert_rows(f,
		"SELECT count(*)>0,max(until_usec-from_usec)<=86400000000,min(from_usec)>=1700000000000000-2000000"
		" FROM gap WHERE reason='user-share'",
		"1|1|1|\n");
	process_unref(victim);
	process_unref(flood);
}

/* A flood that is too short-lived to be attributed is nobody's, and has a share like anybody. */
static void test_unattributed(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY, .max_bytes = bytes(4), SETTINGS};
	struct process *victim = process_of(1000, 100);

	store_settings(f->store, &settings);
	put_claims(f, victim, 1000, false);
	for (unsigned i = 0; i < full_or(15, 10); i++) {
		put_claims(f, NULL, SEGMENT, false);
		pass(f);
	}
	assert_rows(f, "SELECT count(*) FROM claims WHERE uid=1000", "1000|\n");
	assert_true(number(f, LOST) > 0);
	assert_counts(f);
	process_unref(victim);
}

/* Alone, or within their shares, users lose what is oldest. */
static void test_shares(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY, .max_bytes = bytes(full_or(4, 2)), SETTINGS};
	struct process *users[] = {process_of(1, 101), process_of(2, 102), process_of(3, 103)};

	store_settings(f->store, &settings);
	for (unsigned i = 0; i < full_or(12, 7); i++) {
		for (unsigned u = 0; u < ELEMENTSOF(users); u++)
			put_claims(f, users[u], SEGMENT / 3, false);
		pass(f);
	}
	assert_rows(f, LOST, "0|\n");
	assert_rows(f, "SELECT count(*) FROM counter WHERE name='expired_until_usec' AND value>0",
		"1|\n");
	for (unsigned i = 0; i < full_or(12, 7); i++) { /* until only the first is left */
		put_claims(f, users[0], SEGMENT, false);
		pass(f);
	}
	assert_true(number(f, "SELECT count(*) FROM claims WHERE uid=1") > 0);
	assert_counts(f);
	for (unsigned u = 0; u < ELEMENTSOF(users); u++)
		process_unref(users[u]);
}

/* An eviction that the disk refuses changes nothing, and is made up for. */
static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, SETTINGS};
	struct process *victim = process_of(1000, 100), *flood = process_of(666, 200);
	_cleanup_(free_p) char *before = NULL, *after = NULL;
	int r;

	put_claims(f, victim, 100, true);
	store_settings(f->store, &settings);
	for (unsigned i = 0; i < 8; i++) {
		put_claims(f, flood, SEGMENT, true);
		pass(f);
	}
	settings.max_bytes = bytes(2);
	store_settings(f->store, &settings);
	/* the last that it writes */
	assert_int_equal(
		sql_exec(f->store, "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.gap BEGIN"
				   " SELECT RAISE(ABORT,'refused'); END"),
		0);
	before = read_rows(f, "SELECT count(*),sum(rel) FROM claim_seg");
	while ((r = store_maintain(f->store, f->now)) > 0)
		;
	assert_int_equal(r, -EIO);
	after = read_rows(f, "SELECT count(*),sum(rel) FROM claim_seg");
	assert_string_equal(before, after);
	assert_counts(f);
	assert_int_equal(sql_exec(f->store, "DROP TRIGGER refuse"), 0);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claims WHERE uid=1000", "100|\n");
	assert_int_equal(number(f, "SELECT count(*) FROM claims WHERE uid=666") + number(f, LOST),
		8 * (int64_t)SEGMENT);
	assert_counts(f);
	process_unref(victim);
	process_unref(flood);
}

/* At random: what is made is there, counted as somebody's share, or older than what is said to have expired. */
static void test_random(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY, .max_bytes = bytes(full_or(3, 1)), SETTINGS};
	struct process *users[USERS_MAX];
	uint64_t made[USERS_MAX][64] = {0};
	const unsigned rounds = ROUNDS;

	store_settings(f->store, &settings);
	for (unsigned u = 0; u < USERS_MAX; u++)
		users[u] = u == 3 ? NULL : process_of(u, 100 + (int32_t)u);
	for (unsigned i = 0; i < rounds; i++) {
		unsigned heavy = (unsigned)fixture_random(f, USERS_MAX);

		for (unsigned u = 0; u < USERS_MAX; u++) {
			made[u][i] = fixture_random(f, (u == heavy ? 12000 : 800) / PART);
			put_claims(f, users[u], (uint32_t)made[u][i], u < 3);
		}
		pass(f);
	}
	assert_counts(f);
	for (unsigned i = 0; i < rounds; i++) {
		char sql[256];
		uint64_t all = 0, at = FIXTURE_WALL + i * PASS;

		for (unsigned u = 0; u < USERS_MAX; u++)
			all += made[u][i];
		snprintf(sql, sizeof(sql), "SELECT count(*) FROM claims WHERE opened_usec=%llu",
			(unsigned long long)at);
		/* missing, but no gap and not expired? */
		if ((uint64_t)number(f, sql) == all)
			continue;
		snprintf(sql, sizeof(sql),
			"SELECT (SELECT count(*) FROM gap WHERE reason='user-share' AND from_usec<=%llu AND"
			" until_usec>=%llu)+(SELECT count(*) FROM counter WHERE name='expired_until_usec'"
			" AND value>%llu)",
			(unsigned long long)at, (unsigned long long)at, (unsigned long long)at);
		assert_true(number(f, sql) > 0);
	}
	/* nothing was dropped for want of room while somebody had more than his share */
	assert_true(number(f, LOST) > 0);
	assert_true(
		number(f,
			"SELECT 100*(SELECT sum(n) AS most FROM segment_user GROUP BY uid ORDER BY most DESC)"
			"/(SELECT sum(n) FROM segment_user)") <= 75);
	for (unsigned u = 0; u < 3; u++)
		process_unref(users[u]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flood, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			test_unattributed, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_shares, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_refused, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_random, fixture_setup_open, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
