/* SPDX-License-Identifier: MIT */

/* A database that an earlier version made goes on: readers see the same rows before and after. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schema_1_sql.h"
#include "schema_2_sql.h"
#include "schema_3_sql.h"
#include "schema_5_sql.h"
#include "schema_6_sql.h"
#include "schema_7_sql.h"
#include "schema_8_sql.h"
#include "schema_9_sql.h"
#include "common/rollup_sets.h"
#include "tests/support/store_fixture.h"

/* 90 rows of each of the four kinds, of all protocols, families, roles, attributions, sources and flags, exact and
 * bounded, lingering and not, with and without remote end, process and further holders; with ties in the segments. */
static const char rows[] =
	"INSERT INTO session(id,boot_id,started_usec,started_boot_usec,last_seen_usec,last_seen_boot_usec,clean_stop,version) VALUES(1,x'b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0',1,1,1700000000000000,4000000000,0,'0.1');"
	"INSERT INTO coverage(id,session,from_usec,until_usec,source,interval_usec,ranges,ephemeral_low,ephemeral_high,protocols,bound_only,accepted,foreign_processes,netns_all) VALUES(1,1,1600000000000000,1650000000000000,0,1000000,'32768-65535',"
	"32768,60999,15,1,1,1,0),(2,1,1650000000000000,1700000000000000,0,1000000,'32768-65535',"
	"32768,60999,15,1,1,1,0);"
	"INSERT INTO gap VALUES(1,1600000000000000,1600000000000001,'killed',NULL);"
	"INSERT INTO counter VALUES('next_claim',9000),('next_hot',91);"
	"INSERT INTO netns(id,session,cookie,inode,name) VALUES(1,1,7,4026531840,NULL),(2,1,8,5,'blue');"
	"INSERT INTO local VALUES(1,1,'127.0.0.1'),(2,1,'::1'),(3,2,'10.0.0.1');"
	"INSERT INTO app VALUES(1,'/bin/a',0,'a',0,'a.service','/a',1),(2,NULL,2,NULL,NULL,NULL,NULL,1);"
	"INSERT INTO process VALUES(1,1,1,10,5,6,1,'init',1700000000000000),"
	"(2,2,1,NULL,NULL,NULL,NULL,NULL,1700000000000000);"
	"CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<90)"
	" SELECT i,40000+i%7 AS port,1690000000000000+i/3*1000 AS opened,i%4|(i%2<<2)|(i%4<<3)|(i%7<<5)|(i%4<<8)|"
	"((i%11=0)<<10)|((i%13=0)<<11)|((1+i%3)<<12) AS meta,CASE i%3 WHEN 0 THEN NULL ELSE 440+i END AS rport,"
	"CASE i%3 WHEN 0 THEN NULL WHEN 1 THEN x'c0000201' ELSE x'20010db8000000000000000000000001' END"
	" AS raddr,nullif(i%3,0) AS process,CASE i%4 WHEN 0 THEN NULL WHEN 1 THEN 0 ELSE i*100 END AS oslack,"
	"CASE i%5 WHEN 0 THEN NULL WHEN 1 THEN 0 ELSE 1000+i END AS cslack,nullif(i%2*60000,0) AS linger FROM n;"
	"INSERT INTO claim_open SELECT i,1,i,port,opened,i,oslack,CASE i%2 WHEN 0 THEN opened+i END,cslack,"
	"meta,rport,raddr,process FROM n;"
	"INSERT INTO claim_hot SELECT i,1000+i,i%10=0,port,opened,i,oslack,cslack,linger,meta,rport,raddr,process FROM n;"
	"INSERT INTO segment(id,base_usec,released_from,released_to,opened_from,opened_to,max_slack_usec,n)"
	" VALUES(1,1690000000000000,1690000000000000,1690000120000000,1690000000000000,"
	"1690000000030000,9000000,45),(2,1689999999000000,1690000000000000,1690000120000000,"
	"1690000000000000,1690000000030000,9000000,45);"
	"INSERT INTO claim_seg SELECT 1+i%2,port,opened-CASE i%2 WHEN 0 THEN 1690000000000000 ELSE"
	" 1689999999000000 END,2000+i,i*7,oslack,cslack,linger,meta,rport,process,raddr FROM n WHERE i%3=0;"
	"INSERT INTO claim_seg SELECT 1+i%2,port,opened-CASE i%2 WHEN 0 THEN 1690000000000000 ELSE"
	" 1689999999000000 END,0,i*7,oslack,cslack,linger,meta,rport,process,raddr FROM n WHERE i%3;"
	"INSERT INTO claim_long(port,opened_usec,claim,dur,opened_slack,closed_slack,linger,meta,rport,process,raddr) SELECT port,opened,3000+i,4000000000+i,oslack,cslack,linger,meta,rport,process,raddr FROM n;"
	"INSERT INTO holder SELECT m*1000+i,0,1,i,NULL FROM n,(SELECT 0 AS m UNION SELECT 1 UNION SELECT 2 UNION SELECT 3)"
	" WHERE i%10=0;";

#define BY_ALL_COLUMNS                                                                             \
	" ORDER BY 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27"
/* that every version has */
static const char all_claims[] =
	"SELECT port,protocol,family,netns,netns_name,local_address,remote_address,remote_port,role,"
	"opened_usec,opened_after_usec,closed_usec,closed_after_usec,released_usec,pid,comm,exe,uid,"
	"user,unit,cgroup,parent_pid,parent_comm,attribution,source,holders,exe_note"
	" FROM claims WHERE port<>50000" BY_ALL_COLUMNS;

static const struct version {
	const char *schema, *number;
} versions[] = {
	{schema_1_sql, "PRAGMA user_version=1"},
	{schema_2_sql, "PRAGMA user_version=2"},
	{schema_3_sql, "PRAGMA user_version=3"},
	{schema_5_sql, "PRAGMA user_version=5"},
	{schema_6_sql, "PRAGMA user_version=6"},
	{schema_7_sql, "PRAGMA user_version=7"},
	{schema_8_sql, "PRAGMA user_version=8"},
	{schema_9_sql, "PRAGMA user_version=9"},
};

static void make_version(struct fixture *f, const struct version *version)
{
	char path[128], *error = NULL;
	sqlite3 *db = NULL;
	const char *const texts[] = {
		"PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL",
		version->schema, rows, "PRAGMA application_id=0x504C4447", version->number};

	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	for (size_t i = 0; i < ELEMENTSOF(texts); i++)
		if (sqlite3_exec(db, texts[i], NULL, NULL, &error) != SQLITE_OK)
			fail_msg("%s: %.60s", error, texts[i]);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

#define WATCHED                                                                                    \
	"SELECT id,session,from_usec,until_usec,source,interval_usec,ranges,ephemeral_low,"        \
	"ephemeral_high,protocols,bound_only,accepted,foreign_processes,netns_all"

/* What a database is made of, whatever the words. */
static const char columns[] =
	"SELECT m.type,m.name,x.name,x.type,x.\"notnull\",x.dflt_value,x.pk FROM sqlite_schema m,"
	"pragma_table_xinfo(m.name) x ORDER BY m.name,x.cid";
static const char others[] =
	"SELECT type,name,tbl_name FROM sqlite_schema WHERE type<>'table' ORDER BY type,name";

struct made_of {
	char *columns, *others;
};

static struct made_of read_schema(const struct fixture *f)
{
	struct made_of m = {read_rows(f, columns), read_rows(f, others)};

	assert_non_null(m.columns);
	assert_non_null(m.others);
	return m;
}

static struct made_of fresh_schema(void)
{
	struct made_of m;
	struct fixture f;

	fixture_init(&f);
	fixture_open(&f);
	m = read_schema(&f);
	fixture_done(&f);
	return m;
}

static void same_rows(struct fixture *f, const struct version *version, const struct made_of *fresh)
{
	_cleanup_(free_p) char *before = NULL, *after = NULL, *watched = NULL;
	const struct settings for_ever = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		OTHER_SETTINGS};
	struct claim c;

	make_version(f, version);
	assert_rows(f, "SELECT count(*),count(DISTINCT port) FROM claims", "360|7|\n");
	assert_rows(f, "SELECT count(*)>20 FROM claims WHERE holders<>'[]'", "1|\n");
	before = read_rows(f, all_claims);
	watched = read_rows(f, WATCHED " FROM coverage");
	fixture_open(f);
	assert_rows(f, "PRAGMA user_version", SQL_NUMBER(SCHEMA_VERSION) "|\n");
	assert_rows(f, columns, fresh->columns);
	assert_rows(f, others, fresh->others);
	after = read_rows(f, all_claims);
	assert_non_null(before);
	assert_string_equal(before, after);
	assert_rows(f, WATCHED " FROM coverage", watched);
	/* what nobody knew then is not said */
	assert_rows(f, "SELECT sum(udp_connect),sum(failures) FROM coverage", "0|0|\n");
	assert_rows(f, "SELECT id,inode,name,ephemeral_low,ephemeral_high FROM netns WHERE id<3",
		"1|4026531840|~|0|0|\n2|5|blue|0|0|\n");
	assert_rows(f, "SELECT count(ring_generation) FROM session", "0|\n");
	assert_rows(f, "SELECT count(*) FROM failures", "0|\n");

	/* and it is written to, with what the version before left */
	store_settings(f->store, &for_ever);
	c = fixture_claim(f, 50000);
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	seal_all(f);
	assert_rows(f, "SELECT count(*),sum(port=50000) FROM claims", "361|1|\n");
	assert_rows(f, "SELECT opened_usec-opened_after_usec FROM claims WHERE port=50000",
		"1001000|\n");
	assert_rows(f, "SELECT min(count),max(count),count(ports) FROM claims", "1|1|0|\n");
	free(after);
	after = read_rows(f, all_claims);
	assert_string_equal(before, after);
}

/* What is migrated is made of what a new one is made of, too. */
static void test_same_rows(void **state)
{
	struct made_of fresh = fresh_schema();

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(versions); i++) {
		struct fixture f;

		fixture_init(&f);
		same_rows(&f, &versions[i], &fresh);
		fixture_done(&f);
	}
	free(fresh.columns);
	free(fresh.others);
}

/* ---- rollups, whose sets are packed ---- */

/* Hex of what version 9 had: so many ports from `first`, `step` apart, and whether as bits. */
static void old_ports(struct buf *sql, unsigned first, unsigned step, unsigned count, bool bits)
{
	struct port_set set = {{0}};

	for (unsigned i = 0; i < count; i++) {
		unsigned port = first + i * step;

		port_set_add(&set, (uint16_t)port);
		if (!bits)
			assert_int_equal(
				buf_append_format(sql, "%02x%02x", port & 255, port >> 8), 0);
	}
	for (size_t i = 0; bits && i < PORT_SET_BYTES; i++)
		assert_int_equal(buf_append_format(sql, "%02x", set.bits[i]), 0);
}

/* Of `count` hashes: the lowest upper 40 bits are i + 1; below them is something, and two have the same. */
static void old_remotes(struct buf *sql, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(buf_append_format(sql, "%02xbbcc%02x%02x000000", i == 1 ? 2 : 1,
					 (i == 1 ? 0 : i) & 255, (i == 1 ? 0 : i) >> 8),
			0);
}

static const struct old_row {
	unsigned first, step, ports;
	bool bits;
	unsigned remotes;
	const char *lives; /* hex */
	int reasons[3];
} old_rows[] = {
	{0, 1, 0, false, 0, "", {0, 0, 0}},
	{80, 1, 1, false, 1, "", {1, 0, 0}},
	{40000, 30, 474, false, 97, "800005000000000000000700000000000000", {0, 2, 300}},
	{0, 1, 65536 / 2, true, 128, "0000", {0, 0, 0}},
	{0, 15, 4369, true, 128, "", {9, 8, 7}},
	{1024, 1, 4095, false, 2, "", {0, 0, 1}},
};

#define OLD_ROW                                                                                             \
	"INSERT INTO %s(id,start_usec,app,netns,apart,claims,connected,listening,bound,accepted,"           \
	"unattributed,first_usec,last_usec,shortest_usec,longest_usec,ports,remotes,end_only,"              \
	"preexisting,not_looked,lives,port_set,remote_set) VALUES(%zu,%zu*3600000000,1,2,1,13,1,2,3,4,310," \
	"3600000001,3600000002,5,7,%u,%u,%d,%d,%d,x'%s',x'"

static void put_old_row(sqlite3 *db, const char *table, size_t n, const struct old_row *row)
{
	_cleanup_(buf_done) struct buf sql = {0};

	assert_int_equal(
		buf_append_format(&sql, OLD_ROW, table, 100 - 7 * n, n, row->ports, row->remotes,
			row->reasons[0], row->reasons[1], row->reasons[2], row->lives),
		0);
	old_ports(&sql, row->first, row->step, row->ports, row->bits);
	assert_int_equal(buf_append_string(&sql, "',x'"), 0);
	old_remotes(&sql, row->remotes);
	assert_int_equal(buf_append(&sql, "')", 3), 0);
	if (sqlite3_exec(db, (const char *)buf_bytes(&sql), NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
}

static sqlite3 *open_by_hand(const struct fixture *f)
{
	char path[128];
	sqlite3 *db = NULL;

	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	return db;
}

static void assert_packed(const uint8_t *bytes, size_t size, const struct old_row *row)
{
	struct rollup_sets sets;
	struct port_set ports = {{0}};
	struct sketch remotes = {.count = 0};
	struct lives lives;

	assert_int_equal(rollup_sets_read(bytes, size, &sets), 0);
	assert_int_equal(sets.reasons.end_only, row->reasons[0]);
	assert_int_equal(sets.reasons.preexisting, row->reasons[1]);
	assert_int_equal(sets.reasons.not_looked, row->reasons[2]);
	assert_int_equal(port_set_merge(&ports, sets.ports, sets.ports_size), row->ports);
	for (unsigned i = 0; i < row->ports; i++)
		assert_true(port_set_has(&ports, (uint16_t)(row->first + i * row->step)));
	assert_int_equal(sketch_merge(&remotes, sets.remotes, sets.remotes_size), 0);
	assert_int_equal(remotes.count, row->remotes - (row->remotes > 1));
	for (size_t i = 0; i < remotes.count; i++)
		assert_int_equal(remotes.hash[i], i == 0 ? 0 : i + 1);
	assert_int_equal(lives_read(sets.lives, sets.lives_size, &lives), 0);
	assert_int_equal(lives.ended, strlen(row->lives) > 4);
	assert_true(!lives.ended || (lives.shortest == 5 && lives.longest == 7));
}

static void assert_all_packed(const struct fixture *f, const char *table)
{
	sqlite3 *db = open_by_hand(f);
	sqlite3_stmt *s = NULL;
	char sql[64];
	size_t n = 0;

	snprintf(sql, sizeof(sql), "SELECT sets,id FROM %s ORDER BY start_usec", table);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	for (; sqlite3_step(s) == SQLITE_ROW; n++) {
		assert_int_equal(sqlite3_column_int64(s, 1), 100 - 7 * (int64_t)n);
		assert_packed(sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0),
			&old_rows[n]);
	}
	assert_int_equal(n, ELEMENTSOF(old_rows));
	sqlite3_finalize(s);
	sqlite3_close(db);
}

static void put_old_rows(const struct fixture *f)
{
	sqlite3 *db = open_by_hand(f);

	for (size_t n = 0; n < ELEMENTSOF(old_rows); n++) {
		put_old_row(db, "rollup_hour", n, &old_rows[n]);
		put_old_row(db, "rollup_day", n, &old_rows[n]);
	}
	sqlite3_close(db);
}

/* What the views say of an hour and of a day stays; sets are the same, in one column. */
static void test_rollups(void **state)
{
	static const char hours[] = "SELECT * FROM activity_hour ORDER BY start_usec",
			  days[] = "SELECT * FROM activity_day ORDER BY start_usec";

	(void)state;
	for (size_t i = 5; i < ELEMENTSOF(versions); i++) {
		_cleanup_(free_p) char *before_hours = NULL, *before_days = NULL;
		struct fixture f;

		fixture_init(&f);
		make_version(&f, &versions[i]);
		put_old_rows(&f);
		before_hours = read_rows(&f, hours);
		before_days = read_rows(&f, days);
		fixture_open(&f);
		assert_rows(&f, hours, before_hours);
		assert_rows(&f, days, before_days);
		assert_all_packed(&f, "rollup_hour");
		assert_all_packed(&f, "rollup_day");
		/* the function is there for the step alone */
		assert_int_equal(sql_exec(f.store, "SELECT pack_sets(0,0,0,x'',x'',x'')"), -EIO);
		fixture_done(&f);
	}
}

/* Of version 5 and 6, which had fewer columns. */
static void test_first_rollups(void **state)
{
	(void)state;
	for (size_t i = 3; i < 5; i++) {
		struct fixture f;
		sqlite3 *db;

		fixture_init(&f);
		make_version(&f, &versions[i]);
		db = open_by_hand(&f);
		assert_int_equal(
			sqlite3_exec(db,
				"INSERT INTO rollup_hour VALUES"
				"(7,3600000000,1,2,1,3,1,1,1,0,0,4,5,6,7,2,1,x'50005100',x'0102030405060708')",
				NULL, NULL, NULL),
			SQLITE_OK);
		sqlite3_close(db);
		fixture_open(&f);
		assert_rows(&f,
			"SELECT id,start_usec,app,netns,apart,claims,connected,listening,bound,accepted,"
			"unattributed,first_usec,last_usec,shortest_usec,longest_usec,ports,remotes,hex(sets)"
			" FROM rollup_hour",
			"7|3600000000|1|2|1|3|1|1|1|0|0|4|5|6|7|2|1|00000000050405060708005000|\n");
		fixture_done(&f);
	}
}

/* A day that is `row`, or what `damage` makes of it, is said to be damaged, and what was there is there as before. */
static void refuse(struct fixture *f, const struct old_row *row, const char *damage)
{
	sqlite3 *db = open_by_hand(f);
	char sql[128];

	snprintf(sql, sizeof(sql), "UPDATE rollup_day SET %s", damage);
	assert_int_equal(sqlite3_exec(db, "DELETE FROM rollup_day", NULL, NULL, NULL), SQLITE_OK);
	put_old_row(db, "rollup_day", 1, row);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(fixture_try_open(f), -EUCLEAN);
	assert_rows(f, "PRAGMA user_version", "9|\n");
	assert_rows(f, "SELECT hex(port_set),hex(remote_set),hex(lives) FROM rollup_hour",
		"5000|01BBCC0000000000||\n");
}

static void test_damaged_rollups(void **state)
{
	static const char *const damages[] = {
		"port_set=x'50'",       /* half a port */
		"port_set=x'51005000'", /* falling */
		"port_set=x'50005000'", /* twice */
		"remote_set=x'01020304050607'",
		"remote_set=x'02000000000000000100000000000000'",
		"remote_set=x'01000000000000000100000000000000'",
		"lives=x'00'",
		"lives=x'8000'",
	};
	static const struct old_row too_many[] = {
		{1024, 1, 4097, false, 0, "", {0, 0, 0}},
		{0, 1, 0, false, SKETCH_MAX + 1, "", {0, 0, 0}},
	};

	struct fixture *f = *state;
	sqlite3 *db;

	make_version(f, &versions[ELEMENTSOF(versions) - 1]);
	db = open_by_hand(f);
	put_old_row(db, "rollup_hour", 1, &old_rows[1]);
	sqlite3_close(db);
	for (size_t i = 0; i < ELEMENTSOF(damages); i++)
		refuse(f, &old_rows[1], damages[i]);
	for (size_t i = 0; i < ELEMENTSOF(too_many); i++)
		refuse(f, &too_many[i], "ports=0");
}

/* It has the pages it was made with, and a limit in bytes that counts them so. */
static void test_page_size_stays(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};

	make_version(f, &versions[0]);
	fixture_open(f);
	assert_int_equal(f->store->page_bytes, 4096);
	store_settings(f->store, &settings);
	assert_int_equal(f->store->max_pages, (UINT64_C(1) << 30) / 4096 * 9 / 8);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_rows),
		cmocka_unit_test(test_rollups),
		cmocka_unit_test(test_first_rollups),
		CASE(test_damaged_rollups),
		CASE(test_page_size_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
