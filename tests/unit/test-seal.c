/* SPDX-License-Identifier: MIT */

/* Sealing, retention and checkpoints: what readers see does not change but by what expired. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define CLAIMS 1200

static void put(struct fixture *f, struct claim *c)
{
	assert_int_equal(store_put_released(f->store, c), 0);
}

static void put_simple(struct fixture *f, uint16_t port)
{
	struct claim c = fixture_claim(f, port);

	put(f, &c);
}

static void tick(struct fixture *f, usec_t usec)
{
	f->now.boot += usec;
	f->now.wall += usec;
}

static int64_t page_bytes(const struct fixture *f)
{
	return (int64_t)f->store->page_bytes;
}

/* Short and long claims, with ties and holders: byte for byte the same rows before and after. */
static void test_same_rows(void **state)
{
	struct fixture *f = *state;
	static struct claim claims[CLAIMS];
	struct process *processes[FIXTURE_PROCESSES];
	char *before, *after, **before_lines, **after_lines;
	size_t count;

	fixture_processes(processes);
	for (size_t i = 0; i < CLAIMS; i++) {
		claims[i] = random_claim(f, processes, FIXTURE_PROCESSES, 2 * USEC_PER_HOUR);
		put(f, &claims[i]);
	}
	commit(f);
	assert_claims(f, "claims", claims, CLAIMS);
	before = read_rows(f, "SELECT * FROM claims");
	seal_all(f);
	after = read_rows(f, "SELECT * FROM claims");
	count = sort_lines(before, &before_lines);
	assert_int_equal(sort_lines(after, &after_lines), count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(before_lines[i], after_lines[i]);
	assert_claims(f, "claims", claims, CLAIMS);
	assert_rows(f,
		"SELECT count(*)>100 FROM claim_long UNION ALL SELECT count(*)>100 FROM claim_seg",
		"1|\n1|\n");
	/* numbers only where they are needed: there were ties, and not only with holders */
	assert_rows(f,
		"SELECT count(*)>10 FROM claim_seg WHERE claim<>0 AND claim NOT IN (SELECT claim FROM holder)",
		"1|\n");
	assert_rows(f,
		"SELECT count(*) FROM claim_seg c JOIN claim_seg o ON o.seg=c.seg AND o.port=c.port"
		" AND o.rel=c.rel AND o.claim<c.claim WHERE c.claim=0",
		"0|\n");
	free(before);
	free(after);
	free(before_lines);
	free(after_lines);
	claims_done(claims, CLAIMS);
	processes_done(processes);
}

/* The bounds are those of the rows, tight. */
static void test_bounds(void **state)
{
	struct fixture *f = *state;
	struct process *processes[FIXTURE_PROCESSES];

	fixture_processes(processes);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 300; i++) {
			struct claim c =
				random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_HOUR / 2);

			put(f, &c);
			claim_done(&c);
		}
		commit(f);
		seal_all(f);
		tick(f, USEC_PER_HOUR);
	}
	processes_done(processes);
	assert_rows(f,
		"SELECT id,s.released_from=min(r),s.released_to=max(r),s.opened_from=min(o),s.opened_to=max(o),"
		"s.base_usec BETWEEN min(o) AND max(o),s.max_slack_usec=max(k),s.n=count(*) FROM (SELECT seg,s.base_usec+c.rel AS o,"
		"s.base_usec+c.rel+c.dur+ifnull(c.linger,0)*1000 AS r,"
		"CASE WHEN c.meta>>10&1 THEN 0 ELSE ifnull(c.opened_slack+s.slack_msec,0)*1000 END AS k"
		" FROM segment s JOIN claim_seg c ON c.seg=s.id) JOIN segment s ON s.id=seg GROUP BY seg",
		"1|1|1|1|1|1|1|1|\n2|1|1|1|1|1|1|1|\n3|1|1|1|1|1|1|1|\n");
}

/* Where the hour begins and ends. */
static void test_long(void **state)
{
	static const struct {
		usec_t dur, linger, slack;
		bool preexisting, is_long;
	} cases[] = {
		{USEC_PER_HOUR - 1, 0, 0, false, false},
		{USEC_PER_HOUR, 0, 0, false, true},
		{USEC_PER_HOUR - 1, 1, 0, false, true},
		{USEC_PER_HOUR - 1, 0, 1, false, true},
		{USEC_PER_HOUR - 5000, 2000, 2000, false, false},
		{USEC_PER_HOUR - 5000, 3000, 2000, false, true},
		{USEC_PER_HOUR - 1, 0, 1, true, false},
		{1, 0, USEC_PER_DAY, true, false},
	};
	struct fixture *f = *state;

	tick(f, 2 * USEC_PER_DAY);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct claim c = fixture_claim(f, (uint16_t)(50000 + i));
		char sql[96];

		c.opened_after_boot = cases[i].slack ? c.opened_boot - cases[i].slack : USEC_UNSET;
		c.closed_boot = c.opened_boot + cases[i].dur;
		c.closed_after_boot = USEC_UNSET;
		c.released_boot = c.closed_boot + cases[i].linger;
		c.preexisting = cases[i].preexisting;
		put(f, &c);
		commit(f);
		seal_all(f);
		snprintf(sql, sizeof(sql), "SELECT count(*) FROM claim_long WHERE port=%zu",
			50000 + i);
		assert_rows(f, sql, cases[i].is_long ? "1|\n" : "0|\n");
	}
	/* no segment of long ones only, and none whose slack is a preexisting claim's */
	assert_rows(f, "SELECT count(*),max(max_slack_usec) FROM segment", "4|2000|\n");
}

/* At most LIMIT_SEGMENT_ROWS at once, or a small rest with them; ids without a hole, also when the table is empty and the program starts anew. */
static void test_size(void **state)
{
	struct fixture *f = *state;
	char expected[64];

	for (uint32_t i = 0; i < 2 * LIMIT_SEGMENT_ROWS + 100; i++)
		put_simple(f, (uint16_t)(40000 + i % 20000));
	assert_int_equal(store_commit(f->store, f->now, true), 0); /* seals one step by itself */
	snprintf(
		expected, sizeof(expected), "%u|%u|\n", LIMIT_SEGMENT_ROWS, LIMIT_SEGMENT_ROWS + 1);
	assert_rows(f, "SELECT (SELECT n FROM segment),min(id) FROM claim_hot", expected);
	maintain(f);
	snprintf(expected, sizeof(expected), "2|0|%u|\n", LIMIT_SEGMENT_ROWS + 100);
	assert_rows(f, "SELECT count(*),(SELECT count(*) FROM claim_hot),max(n) FROM segment",
		expected);
	assert_int_equal(store_stats(f->store).sealed_segments, 2);
	f->store = store_free(f->store);
	fixture_open(f);
	put_simple(f, 50000);
	commit(f);
	snprintf(expected, sizeof(expected), "%u|\n", 2 * LIMIT_SEGMENT_ROWS + 101);
	assert_rows(f, "SELECT id FROM claim_hot", expected);
}

static void test_age(void **state)
{
	struct fixture *f = *state;

	put_simple(f, 50000); /* released 63 s from now */
	commit(f);
	tick(f, USEC_PER_DAY);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claim_hot", "1|\n");
	tick(f, 64 * USEC_PER_SEC);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claim_hot", "0|\n");
	assert_rows(f, "SELECT port FROM claims", "50000|\n");
}

/* A seal that the disk refuses changes nothing, and is made up for. */
static void test_seal_refused(void **state)
{
	struct fixture *f = *state;
	static struct claim claims[CLAIMS];
	struct process *processes[FIXTURE_PROCESSES];
	struct now later = {f->now.boot, f->now.wall + 2 * USEC_PER_DAY};
	int r;

	fixture_processes(processes);
	for (size_t i = 0; i < CLAIMS; i++) {
		claims[i] = random_claim(f, processes, FIXTURE_PROCESSES, 2 * USEC_PER_HOUR);
		put(f, &claims[i]);
	}
	commit(f);
	/* the last that sealing writes: it needs no room, and so it is not a full disk that could refuse it */
	assert_int_equal(
		sql_exec(f->store, "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.segment BEGIN"
				   " SELECT RAISE(ABORT,'refused'); END"),
		0);
	while ((r = store_maintain(f->store, later)) > 0)
		;
	assert_int_equal(r, -EIO);
	assert_claims(f, "claims", claims, CLAIMS);
	assert_int_equal(store_commit(f->store, f->now, true),
		0); /* its housekeeping waits for store_maintain() */
	assert_int_equal(sql_exec(f->store, "DROP TRIGGER refuse"), 0);
	seal_all(f);
	assert_claims(f, "claims", claims, CLAIMS);
	claims_done(claims, CLAIMS);
	processes_done(processes);
}

static void put_day(struct fixture *f, struct process *p, struct process *holder, uint16_t ports)
{
	struct coverage coverage = {.interval_usec = USEC_PER_SEC};

	assert_int_equal(store_put_coverage(f->store, &coverage, f->now.wall), 0);
	assert_int_equal(store_put_gap(f->store, f->now.wall, f->now.wall, "restart", 1), 0);
	assert_int_equal(store_put_clock_step(f->store, f->now.wall, 1), 0);
	for (uint16_t i = 0; i < ports; i++) {
		struct holder h = {
			.process = holder, .from_boot = f->now.boot, .until_boot = USEC_UNSET};
		struct claim c = fixture_claim(f, (uint16_t)(50000 + i));

		c.opener = p;
		if (i % 2 == 1)
			c.released_boot = c.closed_boot = f->now.boot + 2 * USEC_PER_HOUR;
		if (i % 3 == 0) {
			c.holders = &h;
			c.holder_count = 1;
		}
		put(f, &c);
	}
	commit(f);
}

/* No row refers to one that is not there, and no holder or process is left that nothing refers to. */
static void assert_no_orphans(const struct fixture *f)
{
	assert_rows(f,
		"WITH c AS (SELECT claim,process FROM claim_seg UNION ALL SELECT claim,process FROM claim_long"
		" UNION ALL SELECT claim,process FROM claim_hot UNION ALL SELECT claim,process FROM claim_open),"
		" p AS (SELECT process FROM c UNION SELECT process FROM holder)"
		" SELECT (SELECT count(*) FROM holder WHERE claim NOT IN (SELECT claim FROM c)),"
		"(SELECT count(*) FROM p WHERE process NOT IN (SELECT id FROM process)),"
		"(SELECT count(*) FROM process WHERE id NOT IN (SELECT process FROM p WHERE process IS NOT NULL))",
		"0|0|0|\n");
}

/* "count|time|" of the beginning of a day of test_expire_by_age(). Overwritten by the next call. */
static const char *day_row(unsigned count, unsigned day)
{
	static char text[64];

	snprintf(text, sizeof(text), "%u|%llu|\n", count,
		(unsigned long long)(FIXTURE_WALL + day * (USEC_PER_DAY + 5 * USEC_PER_MINUTE)));
	return text;
}

static void test_expire_by_age(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = 5 * USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};
	struct process *always = fixture_process(1, "systemd"), *daily[10];
	char expected[96];

	store_settings(f->store, &settings);
	for (int day = 0; day < 10; day++) {
		daily[day] = fixture_process(100 + day, "worker");
		put_day(f, always, daily[day], 30);
		tick(f, USEC_PER_DAY + 5 * USEC_PER_MINUTE); /* so that each day is a segment */
		maintain(f);
		assert_no_orphans(f);
	}
	/* It is 10 d 50 min. Day 5 began at 5 d 25 min: expired but for its long claims, which ended 2 h later. */
	assert_rows(f, "SELECT count(*) FROM claims", "135|\n");
	assert_rows(f,
		"SELECT count(*),min(opened_usec) FROM claim_long"
		" WHERE opened_usec<(SELECT min(base_usec) FROM segment)",
		day_row(15, 5));
	assert_rows(f, "SELECT count(*),min(from_usec) FROM gap", day_row(4, 6));
	assert_rows(f, "SELECT count(*),min(at_usec) FROM clock_step", day_row(4, 6));
	assert_rows(f, "SELECT count(*),min(from_usec) FROM coverage", day_row(4, 6));
	snprintf(expected, sizeof(expected), "%llu|\n",
		(unsigned long long)(f->now.wall - settings.max_age_usec));
	assert_rows(f, "SELECT value FROM counter WHERE name='expired_until_usec'", expected);
	assert_rows(f, "SELECT count(*) FROM process", "6|\n");
	/* an app is kept for audits to come */
	assert_rows(f, "SELECT count(*) FROM app", "2|\n");

	/* a struct process whose row is gone is written again, and so is the map's */
	put_day(f, daily[0], daily[1], 3);
	assert_no_orphans(f);
	assert_rows(f, "SELECT count(*) FROM claims WHERE pid=100", "3|\n");
	for (int day = 0; day < 10; day++)
		process_unref(daily[day]);
	process_unref(always);
}

/* A clock that leaps ahead by years makes nothing old until it has stood there for a day; a start does not change that. */
static void test_expire_after_a_leap(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = 5 * USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};
	struct process *worker = fixture_process(100, "worker");
	char *count;

	store_settings(f->store, &settings);
	put_day(f, worker, worker, 30);
	tick(f, USEC_PER_DAY);
	maintain(f);
	count = read_rows(f, "SELECT count(*) FROM claims");
	assert_string_not_equal(count, "0|\n");

	f->now.wall += 15 * 365 * USEC_PER_DAY;
	maintain(f); /* seen to leap */
	tick(f, USEC_PER_DAY - USEC_PER_MINUTE);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claims", count);
	f->now.wall -= 15 * 365 * USEC_PER_DAY; /* set right again */
	tick(f, USEC_PER_DAY);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claims", count);

	commit(f);
	f->store = store_free(f->store);
	f->now.wall += 15 * 365 * USEC_PER_DAY; /* while nobody runs */
	fixture_open(f);
	store_settings(f->store, &settings);
	commit(f);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claims", count);
	tick(f, USEC_PER_DAY + 1);
	maintain(f); /* it stayed: believed */
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	free(count);
	process_unref(worker);
}

/* A session that open claims or the present boot need stays. */
static void test_expire_sessions(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};

	for (uint8_t boot = 1; boot < 6; boot++) {
		f->store = store_free(f->store);
		memset(f->boot_id, boot, sizeof(f->boot_id));
		fixture_open(f);
		tick(f, 10);
		commit(f);
	}
	store_settings(f->store, &settings);
	tick(f, 2 * USEC_PER_DAY);
	maintain(f);
	assert_rows(f, "SELECT count(*),max(hex(boot_id)) FROM session",
		"1|05050505050505050505050505050505|\n");
}

static void test_expire_by_bytes(void **state)
{
	struct fixture *f = *state;
	/* before a commit age makes a segment due, which is an hour where remote addresses are truncated */
	const bool by_age = !is_full();
	const uint32_t rows = full_or(LIMIT_SEGMENT_ROWS, LIMIT_SEGMENT_ROWS / 8);
	const int64_t most = full_or(8 << 20, 5 << 18);
	struct settings settings = {.max_age_usec = 365 * USEC_PER_DAY,
		.max_bytes = (uint64_t)most,
		.remote_addresses = by_age ? REMOTE_ADDRESSES_TRUNCATED : REMOTE_ADDRESSES_FULL,
		.remote_after_usec = 365 * USEC_PER_DAY,
		OTHER_SETTINGS};
	const unsigned segments = full_or(30, 24);
	int64_t pages, unused;
	char expected[32];

	store_settings(f->store, &settings);
	for (unsigned i = 0; i < segments; i++) {
		for (uint32_t j = 0; j < rows; j++)
			put_simple(f, (uint16_t)(40000 + fixture_random(f, 20000)));
		tick(f, by_age ? 70 * USEC_PER_MINUTE : USEC_PER_MINUTE);
		commit(f);
		maintain(f);
	}
	assert_int_equal(sql_value(f->store, STATEMENT_PAGES, 0, &pages), 0);
	assert_int_equal(sql_value(f->store, STATEMENT_FREE_PAGES, 0, &unused), 0);
	assert_true((pages - unused) * page_bytes(f) <= most);
	assert_true(pages * page_bytes(f) <= most + (16 << 20));
	snprintf(expected, sizeof(expected), "1|%u|1|\n", segments);
	assert_rows(f,
		"SELECT count(*)>5,max(id),min(released_from)>=(SELECT value FROM counter"
		" WHERE name='expired_until_usec') FROM segment",
		expected);

	/* a lower limit gives pages back to the disk */
	settings.max_bytes = 1 << 20;
	store_settings(f->store, &settings);
	maintain(f);
	f->store = store_free(f->store);
	fixture_open(f);
	store_settings(f->store, &settings);
	maintain(f);
	assert_int_equal(sql_value(f->store, STATEMENT_PAGES, 0, &pages), 0);
	assert_true(pages * page_bytes(f) <= 18 << 20);
}

/* One whose row fills two pages. */
static struct process *large_process(int32_t pid)
{
	struct process *p = fixture_process(pid, "large");

	free(p->parent_comm);
	p->parent_comm = calloc(1, 3801);
	assert_non_null(p->parent_comm);
	memset(p->parent_comm, 'x', 3800);
	return p;
}

/* Sealing needs room, which only retention makes: a limit that was lowered while claims wait to be sealed must not
 * let the two wait for each other. */
static void test_seal_waits_for_room(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = 365 * USEC_PER_DAY, .max_bytes = 1 << 20, OTHER_SETTINGS};
	struct process *programs[LIMIT_ROLLUP_PROGRAMS];
	int64_t pages = 0, unused;

	for (size_t i = 0; i < ELEMENTSOF(programs); i++) {
		char name[16];

		snprintf(name, sizeof(name), "program-%zu", i);
		programs[i] = fixture_process((int32_t)(1000 + i), name);
	}
	/* past the limit and its spare: before a commit by processes with long names, which go with their claims */
	while (pages * page_bytes(f) < 20 << 20) {
		for (uint32_t i = 0; i < LIMIT_SEGMENT_ROWS; i++) {
			struct claim c = fixture_claim(f, (uint16_t)(40000 + i));

			c.remote.address.family = FAMILY_IPV6;
			memset(c.remote.address.bytes, 7, sizeof(c.remote.address.bytes));
			if (!is_full() && i % 3 == 0)
				c.opener = large_process((int32_t)(10000 + i));
			put(f, &c);
			claim_done(&c);
		}
		tick(f, USEC_PER_MINUTE);
		commit(f);
		maintain(f);
		assert_int_equal(sql_value(f->store, STATEMENT_PAGES, 0, &pages), 0);
	}
	/* each is to be there in two hours, and of a program of its own: sums and marks take more than the rows give back */
	tick(f, USEC_PER_HOUR - f->now.wall % USEC_PER_HOUR - 30 * USEC_PER_SEC);
	do { /* until a seal is due and no page is free that it could take */
		assert_int_equal(store_begin_question(f->store), 0);
		for (uint32_t i = 0; i < LIMIT_SEGMENT_ROWS; i++) {
			struct claim c = fixture_claim(f, (uint16_t)(40000 + i));

			c.opener = process_ref(programs[i % ELEMENTSOF(programs)]);
			c.remote.address.bytes[2] = (uint8_t)(i >> 8);
			c.remote.address.bytes[3] = (uint8_t)i;
			put(f, &c);
			claim_done(&c);
		}
		assert_int_equal(store_commit(f->store, f->now, false), 0);
		assert_int_equal(sql_value(f->store, STATEMENT_FREE_PAGES, 0, &unused), 0);
	} while (unused > 0);
	for (size_t i = 0; i < ELEMENTSOF(programs); i++)
		process_unref(programs[i]);
	store_settings(f->store, &settings);
	tick(f, 2 * USEC_PER_HOUR);
	maintain(f);
	assert_int_equal(sql_value(f->store, STATEMENT_PAGES, 0, &pages), 0);
	assert_int_equal(sql_value(f->store, STATEMENT_FREE_PAGES, 0, &unused), 0);
	/* no claim is left of 20 MiB; the marks of the last hour stay for it */
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	assert_true((pages - unused) * page_bytes(f) <= 2 << 20);
	/* what is over the spare went back to the disk */
	assert_true(pages * page_bytes(f) <= 18 << 20);
}

/* Random names make programs without end; when they alone fill the database, they go. */
static void test_last_resort(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {.max_age_usec = 365 * USEC_PER_DAY,
		.max_bytes = 1 << 20,
		.remote_addresses = REMOTE_ADDRESSES_TRUNCATED,
		.remote_after_usec = 365 * USEC_PER_DAY,
		OTHER_SETTINGS};
	struct claim open = fixture_claim(f, 60000);
	/* more than DIMENSION_ROWS, twice over; in the long half a whole segment. Sealed after an hour, as remote addresses are truncated. */
	const uint32_t programs = full_or(LIMIT_SEGMENT_ROWS, 9000);
	int64_t pages, unused;

	open.opener = fixture_process(9, "kept");
	open.closed_boot = open.released_boot = USEC_UNSET;
	assert_int_equal(store_put_open(f->store, &open), 0);
	for (uint32_t i = 0; i < programs; i++) {
		struct claim c = fixture_claim(f, 50000);
		char name[32];

		snprintf(name, sizeof(name), "noise-%u", i);
		c.opener = fixture_process(1000 + (int32_t)i, name);
		c.local.address.bytes[2] = (uint8_t)(i >> 8);
		c.local.address.bytes[3] = (uint8_t)i;
		put(f, &c);
		claim_done(&c);
	}
	commit(f);
	store_settings(f->store, &settings);
	tick(f, 2 * USEC_PER_HOUR);
	maintain(f);
	assert_rows(f, "SELECT (SELECT count(*) FROM segment),(SELECT count(*) FROM process)",
		"0|1|\n");
	assert_rows(f, "SELECT count(*) FROM app WHERE comm IN ('kept','noise-0')", "1|\n");
	assert_int_equal(sql_value(f->store, STATEMENT_PAGES, 0, &pages), 0);
	assert_int_equal(sql_value(f->store, STATEMENT_FREE_PAGES, 0, &unused), 0);
	assert_true((pages - unused) * page_bytes(f) <= 1 << 20);
	assert_claims(f, "claims", &open, 1);
	claim_done(&open);
	/* and come back when they are needed */
	open = fixture_claim(f, 50000);
	open.opener = fixture_process(1000, "noise-0");
	open.local.address.bytes[2] = 7;
	put(f, &open);
	commit(f);
	assert_rows(
		f, "SELECT comm,local_address FROM claims WHERE pid=1000", "noise-0|127.0.7.1|\n");
	claim_done(&open);
}

/* `port=` reaches the key of every arm, and the pruned views walk no segment that is out of their window. */
static void test_plans(void **state)
{
	static const struct {
		const char *sql;
		const char *has[2];
		const char *has_not;
	} cases[] = {
		{"SELECT * FROM claims WHERE port=50000",
			{"SEARCH c USING PRIMARY KEY (seg=? AND port=?)",
				"SEARCH c USING PRIMARY KEY (port=?)"},
			"SCAN p"},
		{"SELECT comm FROM claims WHERE port BETWEEN 50000 AND 50010",
			{"SEARCH c USING PRIMARY KEY (seg=? AND port>? AND port<?)",
				"SEARCH c USING PRIMARY KEY (port>? AND port<?)"},
			"SCAN p"},
		{"SELECT * FROM claims_hour",
			{"SEARCH s USING INDEX segment_released (released_to>?)",
				"SEARCH c USING PRIMARY KEY (seg=?)"},
			"SCAN p"},
		{"SELECT * FROM claims_day WHERE port=50000",
			{"SEARCH s USING INDEX segment_released (released_to>?)",
				"SEARCH c USING PRIMARY KEY (seg=? AND port=?)"},
			"SCAN p"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *plan = NULL;
		char sql[128];

		snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", cases[i].sql);
		plan = read_rows(f, sql);
		assert_non_null(plan);
		for (size_t j = 0; j < ELEMENTSOF(cases[i].has); j++)
			if (!strstr(plan, cases[i].has[j]))
				fail_msg("%s: no %s in\n%s", sql, cases[i].has[j], plan);
		assert_null(strstr(plan, cases[i].has_not));
	}
}

/* Released this long ago, by the real clock, which is the views'. */
static void put_released_ago(struct fixture *f, uint16_t port, usec_t ago, bool is_long)
{
	struct claim c = fixture_claim(f, port);
	usec_t length = is_long ? 40 * USEC_PER_HOUR : 63 * USEC_PER_SEC;

	c.opened_boot = 100 * USEC_PER_DAY;
	c.opened_after_boot = c.closed_after_boot = USEC_UNSET;
	c.closed_boot = c.released_boot = c.opened_boot + length;
	c.opened_wall = clock_now().wall - ago - length;
	put(f, &c);
}

static void test_hour_and_day(void **state)
{
	struct fixture *f = *state;
	struct claim open = fixture_claim(f, 50009);

	f->now.wall = clock_now().wall;
	open.closed_boot = open.released_boot = USEC_UNSET;
	assert_int_equal(store_put_open(f->store, &open), 0);
	for (int round = 0; round < 2; round++) {
		put_released_ago(f, 50000, 50 * USEC_PER_HOUR, true);
		put_released_ago(f, 50001, 50 * USEC_PER_HOUR, false);
		put_released_ago(f, 50002, 20 * USEC_PER_HOUR, true);
		put_released_ago(f, 50003, 20 * USEC_PER_HOUR, false);
		put_released_ago(f, 50004, 30 * USEC_PER_MINUTE, true);
		put_released_ago(f, 50005, 30 * USEC_PER_MINUTE, false);
		commit(f);
		if (round == 0)
			seal_all(f);
		assert_rows(f,
			"SELECT group_concat(DISTINCT port) FROM (SELECT port FROM claims_hour ORDER BY port)",
			"50004,50005,50009|\n");
		assert_rows(f,
			"SELECT group_concat(DISTINCT port) FROM (SELECT port FROM claims_day ORDER BY port)",
			"50002,50003,50004,50005,50009|\n");
		assert_rows(f, "SELECT count(DISTINCT port) FROM claims", "7|\n");
	}
}

/* The WAL stays small by our own checkpoints; one that a reader held up is cut back when he is gone. */
static void test_checkpoints(void **state)
{
	struct fixture *f = *state;
	char path[128];
	sqlite3 *reader = NULL;
	int steps = 0;

	for (unsigned i = 0; i < full_or(3000, 1000); i++) {
		put_simple(f, 50000);
		tick(f, 1);
		commit(f);
	}
	assert_true(store_stats(f->store).wal_bytes <= 10 << 20);
	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	assert_int_equal(sqlite3_open_v2(path, &reader, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM session", NULL, NULL, NULL),
		SQLITE_OK);
	while (store_stats(f->store).wal_bytes <= 17 << 20) {
		put_simple(f, 50000);
		tick(f, 1);
		commit(f);
		assert_true(++steps < 20000);
	}
	maintain(f);
	assert_true(store_stats(f->store).wal_bytes > 16 << 20);
	sqlite3_close(reader);
	tick(f, 61 * USEC_PER_MINUTE);
	maintain(f);
	assert_int_equal(store_stats(f->store).wal_bytes, 0);
	put_simple(f, 50000);
	commit(f);
	assert_rows(f, "PRAGMA integrity_check", "ok|\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup_open, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_same_rows),
		CASE(test_bounds),
		CASE(test_long),
		CASE(test_size),
		CASE(test_age),
		CASE(test_seal_refused),
		CASE(test_expire_by_age),
		CASE(test_expire_after_a_leap),
		CASE(test_expire_sessions),
		CASE(test_expire_by_bytes),
		CASE(test_seal_waits_for_room),
		CASE(test_last_resort),
		CASE(test_plans),
		CASE(test_hour_and_day),
		CASE(test_checkpoints),
	};

	(void)setenv("TMPDIR", "/dev/shm", 0); /* what a disk does is tried elsewhere */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
