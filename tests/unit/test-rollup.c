/* SPDX-License-Identifier: MIT */

/* What the rollups say is what the claims say, counted one by one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/rollup_sets.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define ROUNDS full_or(12, 8) /* three days, with nine hours behind every third */
#define CLAIMS 700u           /* of a round */

/* All sealed claims, with whom they are credited to. */
#define CREDITED                                                                                                       \
	"WITH r AS (" ROWS_OF_SEG " UNION ALL " ROWS_OF_LONG "), c AS (SELECT r.*,"                                    \
	"CASE WHEN o.pid=1 THEN ifnull((SELECT h.process FROM holder h WHERE h.claim=r.claim AND r.claim<>0"           \
	" ORDER BY h.until_usec DESC NULLS FIRST,h.n DESC LIMIT 1),r.process) ELSE r.process END AS credited"          \
	",(meta>>52&1=0 AND (meta>>3&3=1 OR (meta>>3&3=2 AND meta&3 IN (1,2) AND closed_usec-opened_usec>=60000000)))" \
	" OR (o.pid IS 1 AND EXISTS(SELECT 1 FROM holder h WHERE h.claim=r.claim AND r.claim<>0)) AS apart"            \
	" FROM r LEFT JOIN process o ON o.id=r.process)"

/* Days only of those that are made. */
#define MADE(length)                                                                               \
	"(" length                                                                                 \
	"=3600000000 OR c.opened_usec<(SELECT value FROM counter WHERE name='days_rolled_until_usec'))"

/* By hand: the columns of a rollup, but for the sets; remotes as long as they are counted exactly. `length` in microseconds. */
#define BY_HAND(length)                                                                                                                     \
	CREDITED                                                                                                                            \
	" SELECT c.opened_usec-c.opened_usec%" length                                                                                       \
	" AS start,ifnull(p.app,0) AS app,ifnull(l.netns,0) AS netns,"                                                                      \
	"c.apart,count(*),sum(role IS 0),sum(role IS 1),sum(role IS 2),sum(role IS 3),"                                                     \
	"sum(p.pid IS NULL AND attribution<>6),min(c.opened_usec),max(c.released_usec),"                                                    \
	"min(c.closed_usec-c.opened_usec),max(c.closed_usec-c.opened_usec),count(DISTINCT c.port),"                                         \
	"iif(count(DISTINCT c.raddr)<128,count(DISTINCT c.raddr),-1),"                                                                      \
	"sum(p.pid IS NULL AND attribution<>6 AND c.meta>>8&3=1),"                                                                          \
	"sum(p.pid IS NULL AND attribution<>6 AND c.meta>>8&3<>1 AND c.meta>>10&1),"                                                        \
	"sum(p.pid IS NULL AND attribution=0 AND c.meta>>8&3<>1 AND c.meta>>10&1=0) FROM (SELECT *,iif(meta>>52&1,NULL,meta>>3&3) AS role," \
	"meta>>5&7 AS attribution FROM c) c LEFT JOIN process p ON p.id=c.credited"                                                         \
	" LEFT JOIN local l ON l.id=c.meta>>12&1099511627775 WHERE " MADE(                                                                  \
		length) " GROUP BY 1,2,3,4"                                                                                                 \
			" ORDER BY 1,2,3,4"
#define ROLLED(table)                                                                                          \
	"SELECT start_usec,app,netns,apart,claims,connected,listening,bound,accepted,unattributed,first_usec," \
	"last_usec,shortest_usec,longest_usec,ports,iif(sets_remotes(sets)<128,sets_remotes(sets),-1),"        \
	"sets_reason(sets,0),sets_reason(sets,1),sets_reason(sets,2) FROM " table                              \
	" ORDER BY 1,2,3,4"
#define COUNTED(table)                                                                             \
	"SELECT count(*) FROM " table                                                              \
	" WHERE remotes<>sets_remotes(sets) AND sets_remotes(sets)<128"

/* The ports of each row. */
#define PORTS_BY_HAND(length)                                                                      \
	CREDITED                                                                                   \
	" SELECT group_concat(printf('%02X%02X',port&255,port>>8),'') FROM (SELECT DISTINCT"       \
	" c.opened_usec-c.opened_usec%" length                                                     \
	" AS start,ifnull(p.app,0) AS app,ifnull(l.netns,0) AS netns,c.apart,"                     \
	"c.port FROM c LEFT JOIN process p ON p.id=c.credited LEFT JOIN local l ON"                \
	" l.id=c.meta>>12&1099511627775 WHERE " MADE(                                              \
		length) " ORDER BY 1,2,3,4,5) GROUP BY start,app,netns,apart"                      \
			" ORDER BY start,app,netns,apart"

/* ---- a blob, for SQL ---- */

static struct rollup_sets sets_of(sqlite3_value *value)
{
	const void *bytes = sqlite3_value_blob(value);
	struct rollup_sets sets;

	assert_int_equal(rollup_sets_read(bytes, (size_t)sqlite3_value_bytes(value), &sets), 0);
	return sets;
}

static void sets_reason(sqlite3_context *c, int count _unused_, sqlite3_value **values)
{
	const struct rollup_sets sets = sets_of(values[0]);
	const uint64_t reasons[] = {
		sets.reasons.end_only, sets.reasons.preexisting, sets.reasons.not_looked};

	sqlite3_result_int64(c, (int64_t)reasons[sqlite3_value_int(values[1])]);
}

static void sets_remotes(sqlite3_context *c, int count _unused_, sqlite3_value **values)
{
	const struct rollup_sets sets = sets_of(values[0]);
	struct sketch remotes = {.count = 0};

	assert_int_equal(sketch_merge(&remotes, sets.remotes, sets.remotes_size), 0);
	sqlite3_result_int64(c, (int64_t)remotes.count);
}

/* Two bytes of each, little-endian, as PORTS_BY_HAND has them. */
static void sets_ports(sqlite3_context *c, int count _unused_, sqlite3_value **values)
{
	const struct rollup_sets sets = sets_of(values[0]);
	struct port_set ports = {{0}};
	struct buf text = {0};

	assert_true(port_set_merge(&ports, sets.ports, sets.ports_size) >= 0);
	for (unsigned port = 0; port <= UINT16_MAX; port++)
		if (ports.bits[port / 8] != 0 && port_set_has(&ports, (uint16_t)port))
			assert_int_equal(
				buf_append_format(&text, "%02X%02X", port & 255, port >> 8), 0);
	sqlite3_result_text(
		c, (const char *)buf_bytes(&text), (int)buf_size(&text), SQLITE_TRANSIENT);
	buf_done(&text);
}

/* Into each connection, that of read_rows() as well. */
static int add_functions(sqlite3 *db, char **error _unused_, const void *api _unused_)
{
	int code = sqlite3_create_function(
		db, "sets_reason", 2, SQLITE_UTF8, NULL, sets_reason, NULL, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_create_function(
			db, "sets_remotes", 1, SQLITE_UTF8, NULL, sets_remotes, NULL, NULL);
	return code == SQLITE_OK ? sqlite3_create_function(db, "sets_ports", 1, SQLITE_UTF8, NULL,
					   sets_ports, NULL, NULL)
				 : code;
}

static void assert_same(const struct fixture *f, const char *expected_sql, const char *sql)
{
	_cleanup_(free_p) char *expected = read_rows(f, expected_sql), *rows = read_rows(f, sql);

	assert_non_null(expected);
	assert_non_null(rows);
	/* both are long: the line with the first difference tells more than they do */
	for (size_t i = 0, line = 0; rows[i] != '\0' || expected[i] != '\0'; i++) {
		if (rows[i] != expected[i])
			fail_msg("\n got %.200s\nwant %.200s", rows + line, expected + line);
		line = rows[i] == '\n' ? i + 1 : line;
	}
}

static void assert_rolled(const struct fixture *f)
{
	assert_same(f, BY_HAND("3600000000"), ROLLED("rollup_hour"));
	assert_same(f, BY_HAND("86400000000"), ROLLED("rollup_day"));
	assert_same(f, PORTS_BY_HAND("3600000000"),
		"SELECT sets_ports(sets) FROM rollup_hour ORDER BY start_usec,app,netns,apart");
	assert_same(f, PORTS_BY_HAND("86400000000"),
		"SELECT sets_ports(sets) FROM rollup_day ORDER BY start_usec,app,netns,apart");
	assert_rows(f, COUNTED("rollup_hour"), "0|\n");
	assert_rows(f, COUNTED("rollup_day"), "0|\n");
}

static void put_random(
	struct fixture *f, struct process *processes[static FIXTURE_PROCESSES], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct claim c = random_claim(f, processes, FIXTURE_PROCESSES, 2 * USEC_PER_HOUR);

		assert_int_equal(store_put_released(f->store, &c), 0);
		claim_done(&c);
	}
	commit(f);
}

/* Segments over a day and a half, each of all kinds of claims; a row of an hour is of several of them. */
static void test_property(void **state)
{
	struct fixture *f = *state;
	const struct settings for_ever = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		OTHER_SETTINGS};
	struct process *processes[FIXTURE_PROCESSES];
	const unsigned all = ROUNDS * CLAIMS;
	char expected[64];

	store_settings(f->store, &for_ever);
	fixture_processes(processes);
	processes[3]->pid = 1; /* whose sockets are others' */
	for (unsigned i = 0; i < ROUNDS; i++) {
		put_random(f, processes, CLAIMS);
		if (is_full() || chance_below(4) == 0)
			assert_rolled(f); /* what is not sealed is in none */
		seal_all(f);
		assert_rolled(f);
		f->now.boot += i % 3 ? 20 * USEC_PER_MINUTE : 9 * USEC_PER_HOUR;
		f->now.wall += i % 3 ? 20 * USEC_PER_MINUTE : 9 * USEC_PER_HOUR;
	}
	snprintf(expected, sizeof(expected), "%u|1|1|1|1|\n", all);
	assert_rows(f,
		"SELECT sum(claims),count(*)>100,sum(apart)>10,count(DISTINCT netns)>1,max(remotes)>128"
		" FROM rollup_hour",
		expected);
	snprintf(expected, sizeof(expected), "%u|3|\n", all);
	assert_rows(f, "SELECT sum(claims),count(DISTINCT start_usec) FROM rollup_day", expected);
	snprintf(expected, sizeof(expected), "%u|/usr/bin/program|curl|\n", all);
	assert_rows(f, "SELECT sum(claims),max(exe),min(comm) FROM activity_hour", expected);
	processes_done(processes);
}

/* A seal that the disk refuses at any of its writes leaves the rollups as they were. */
static void test_refused(void **state)
{
	static const char *const places[] = {"INSERT ON main.rollup_hour",
		"UPDATE ON main.rollup_hour", "INSERT ON main.rollup_day",
		"UPDATE ON main.rollup_day", "INSERT ON main.segment_user",
		"INSERT ON main.segment", "INSERT ON main.claim_seg", "DELETE ON main.claim_hot"};
	struct fixture *f = *state;
	struct process *processes[FIXTURE_PROCESSES];
	struct now later = {f->now.boot + 2 * USEC_PER_DAY, f->now.wall + 2 * USEC_PER_DAY};
	const struct settings for_ever = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		OTHER_SETTINGS};

	store_settings(f->store, &for_ever);
	fixture_processes(processes);
	put_random(f, processes, CLAIMS);
	seal_all(f);
	for (size_t i = 0; i < ELEMENTSOF(places); i++) {
		_cleanup_(free_p) char *before = read_rows(f, ROLLED("rollup_hour"));
		char sql[256];
		int r;

		put_random(f, processes, full_or(CLAIMS, CLAIMS / 4));
		snprintf(sql, sizeof(sql),
			"CREATE TEMP TRIGGER refuse BEFORE %s BEGIN SELECT RAISE(ABORT,'refused'); END",
			places[i]);
		assert_int_equal(sql_exec(f->store, sql), 0);
		while ((r = store_maintain(f->store, later)) > 0)
			;
		assert_int_equal(r, -EIO);
		assert_rows(f, "SELECT count(*)>0 FROM claim_hot", "1|\n");
		assert_rows(f, ROLLED("rollup_hour"), before);
		assert_int_equal(sql_exec(f->store, "DROP TRIGGER refuse"), 0);
		seal_all(f);
		assert_rolled(f);
	}
	processes_done(processes);
}

/* To a row that is damaged nothing is added, and all is as it was. */
static void test_damaged(void **state)
{
	static const char *const damages[] = FIXTURE_NO_SETS;
	struct fixture *f = *state;
	struct now later = {f->now.boot + 2 * USEC_PER_DAY, f->now.wall + 2 * USEC_PER_DAY};
	struct claim c = fixture_claim(f, 50000);

	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	seal_all(f);
	c = fixture_claim(f, 50001);
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	for (size_t i = 0; i < ELEMENTSOF(damages); i++) {
		char sql[128];
		int r;

		snprintf(sql, sizeof(sql), "UPDATE rollup_hour SET sets=%s", damages[i]);
		assert_int_equal(sql_exec(f->store, sql), 0);
		while ((r = store_maintain(f->store, later)) > 0)
			;
		assert_int_equal(r, -EUCLEAN);
		assert_rows(f, "SELECT count(*) FROM claim_hot", "1|\n");
		assert_rows(f, "SELECT sum(claims) FROM rollup_hour", "1|\n");
	}
}

/* Claims go, and what they were is still known, with the names. */
static void test_outlives_claims(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};
	struct process *processes[FIXTURE_PROCESSES];
	_cleanup_(free_p) char *before = NULL, *after = NULL;

	store_settings(f->store, &settings);
	fixture_processes(processes);
	put_random(f, processes, CLAIMS);
	seal_all(f);
	before = read_rows(f, "SELECT * FROM activity_hour ORDER BY 1,2,3,4,5,6,7,8,9");
	f->now.boot += 30 * USEC_PER_DAY;
	f->now.wall += 30 * USEC_PER_DAY;
	commit(f);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	after = read_rows(f, "SELECT * FROM activity_hour ORDER BY 1,2,3,4,5,6,7,8,9");
	assert_string_equal(before, after);
	/* an hour is kept for 13 months, a day for 5 years */
	f->now.boot += 400 * USEC_PER_DAY;
	f->now.wall += 400 * USEC_PER_DAY;
	commit(f);
	maintain(f);
	assert_rows(f,
		"SELECT (SELECT count(*) FROM rollup_hour),(SELECT sum(claims) FROM rollup_day)",
		"0|700|\n");
	f->now.boot += 1500 * USEC_PER_DAY;
	f->now.wall += 1500 * USEC_PER_DAY;
	commit(f);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM rollup_day", "0|\n");
	processes_done(processes);
}

/* The ages are settings, at once; none is less than that of the claims. */
static void test_ages(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {
		.max_age_usec = 100 * USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};
	struct process *processes[FIXTURE_PROCESSES];
	static const char both[] =
		"SELECT (SELECT count(*)>0 FROM rollup_hour),(SELECT count(*)>0 FROM rollup_day)";

	settings.activity_hour_usec = 7 * USEC_PER_DAY;
	settings.activity_day_usec = 200 * USEC_PER_DAY;
	store_settings(f->store, &settings);
	fixture_processes(processes);
	put_random(f, processes, CLAIMS);
	seal_all(f);
	f->now.boot += 50 * USEC_PER_DAY;
	f->now.wall += 50 * USEC_PER_DAY;
	commit(f);
	maintain(f);
	assert_rows(f, both, "1|1|\n");
	settings.max_age_usec = 20 * USEC_PER_DAY;
	store_settings(f->store, &settings);
	f->now.boot += USEC_PER_DAY;
	f->now.wall += USEC_PER_DAY;
	commit(f);
	maintain(f);
	assert_rows(f, both, "0|1|\n");
	settings.activity_day_usec = 30 * USEC_PER_DAY;
	store_settings(f->store, &settings);
	f->now.boot += USEC_PER_DAY;
	f->now.wall += USEC_PER_DAY;
	commit(f);
	maintain(f);
	assert_rows(f, both, "0|0|\n");
	processes_done(processes);
}

/* Random names are told apart up to a limit, and rollups take only a part of the bytes. */
static void test_limits(void **state)
{
	struct fixture *f = *state;
	struct settings settings = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		OTHER_SETTINGS};

	store_settings(f->store, &settings);
	for (int32_t i = 0; i < 3000; i++) {
		char name[16];
		struct claim c = fixture_claim(f, 50000);

		snprintf(name, sizeof(name), "noise-%d", i);
		c.opener = fixture_process(1000 + i, name);
		assert_int_equal(store_put_released(f->store, &c), 0);
		process_unref(c.opener);
	}
	commit(f);
	seal_all(f);
	assert_rows(f, "SELECT count(*),sum(claims),sum((app=-1)*claims) FROM rollup_hour",
		"1025|3000|1976|\n");
	settings.max_bytes = 16 << 20; /* 2,048 rows of each */
	store_settings(f->store, &settings);
	for (unsigned i = 0; i < 4; i++) {
		f->now.wall += USEC_PER_DAY;
		f->now.boot += USEC_PER_DAY;
		for (int32_t k = 0; k < 1000; k++) {
			char name[16];
			struct claim c = fixture_claim(f, 50000);

			snprintf(name, sizeof(name), "noise-%d", k);
			c.opener = fixture_process(5000 + k, name);
			assert_int_equal(store_put_released(f->store, &c), 0);
			process_unref(c.opener);
		}
		commit(f);
		seal_all(f);
	}
	f->now.boot += USEC_PER_DAY;
	maintain(f);
	assert_rows(f, "SELECT count(*),max(start_usec)>0 FROM rollup_hour", "2048|1|\n");
	assert_rows(f, "SELECT count(*) FROM rollup_day", "2048|\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_property, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_refused, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_damaged, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			test_outlives_claims, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_ages, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_limits, fixture_setup_open, fixture_teardown),
	};

	assert(sqlite3_auto_extension((void (*)(void))add_functions) == SQLITE_OK);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
