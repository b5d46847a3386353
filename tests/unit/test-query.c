/* SPDX-License-Identifier: MIT */

/* Which claims answer a question, in which order, and what state the database is in. */

#include "tests/unit/query-oracle.h"

#define PROBES full_or(2500, 300)

static void assert_row_is(const struct row *row, const struct past *p)
{
	int64_t released = past_released(p);

	assert_int_equal(row->column[ROW_PROCESS], p->id);
	assert_int_equal(row->column[ROW_PORT], p->port);
	assert_int_equal(row->column[ROW_OPENED_USEC], p->opened);
	assert_int_equal(row->column[ROW_META], p->meta);
	assert_int_equal(row->column[ROW_RPORT], p->rport == NOT_KNOWN ? ROW_NULL : p->rport);
	assert_int_equal(row->column[ROW_RELEASED_USEC], p->in == IN_OPEN ? ROW_NULL : released);
}

static void assert_answer(
	struct fixture *f, const struct question *q, struct past *found, size_t count)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct place place = PLACE_START;
	uint64_t counted;
	usec_t first;

	assert_int_equal(query_rows(f->query, q, CLAIMS + 1, &place, &rows), 0);
	assert_int_equal(rows.count, count);
	for (size_t i = 0; i < count; i++)
		assert_row_is(&rows.row[i], &found[i]);
	assert_int_equal(query_count(f->query, q, &counted, &first), 0);
	assert_int_equal(counted, count);
	assert_int_equal(first, count ? (usec_t)found[0].opened : USEC_UNSET);
}

/* Every answer is what a look at each claim gives: who was there, and in which order. */
static void test_stabbing(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	size_t hits = 0, some = 0;

	begin(f);
	for (unsigned i = 0; i < PROBES; i++) {
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);

		assert_answer(f, &q, found, count);
		hits += count;
		some += count > 0;
	}
	query_end(f->query);
	assert_true(some > PROBES / 2);
	assert_true(hits > PROBES);
	free(found);
}

/* Whatever the pages and the limit: the newest `limit` rows, each once, in order. */
static void test_pages(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	unsigned limited = 0, fews = 0;

	for (unsigned i = 0; i < full_or(120, 50); i++) {
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		size_t page = 1 + history_random(&f->history, 64);
		uint64_t limit = 1 + history_random(&f->history, count ? (uint32_t)count * 2 : 5);
		size_t at = count > limit ? count - (size_t)limit : 0;
		_cleanup_(rows_done) struct rows newest = {0};
		struct place place;
		bool few = limit <= LIMIT_PAGE_ROWS;

		limited += at > 0;
		fews += few && at > 0;
		begin(f);
		assert_int_equal(query_newest(f->query, &q, limit, &place, &newest), few);
		query_end(f->query);
		assert_int_equal(newest.count, few ? count - at : 0);
		for (size_t k = 0; k < newest.count; k++)
			assert_row_is(&newest.row[k], &found[at + k]);
		for (;;) {
			_cleanup_(rows_done) struct rows rows = {0};

			begin(f);
			assert_int_equal(query_rows(f->query, &q, page, &place, &rows), 0);
			query_end(f->query);
			for (size_t k = 0; k < rows.count; k++)
				assert_row_is(&rows.row[k], &found[at++]);
			if (rows.count < page)
				break;
		}
		assert_int_equal(at, count);
	}
	assert_true(limited > full_or(20, 6) && fews > full_or(20, 6));
	free(found);
}

/* Rows that are equal in all that survives sealing, on both sides of a page's end. */
static void test_sealing_between_pages(void **state)
{
	struct fixture *f = *state;
	struct question q = {.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};
	_cleanup_(rows_done) struct rows newest = {0};
	int64_t expected = 1;
	struct place place = PLACE_START;

	f->history.past = calloc(40, sizeof(*f->history.past));
	f->history.count = 40;
	for (size_t i = 0; i < 40; i++) {
		f->history.past[i] = (struct past){.in = IN_HOT,
			.id = (int64_t)i + 1,
			.port = 40000,
			.opened = HISTORY_START,
			.opened_slack = 1000,
			.dur = 5,
			.closed_slack = 10,
			.linger = NOT_KNOWN,
			.rport = NOT_KNOWN,
			.meta = 1 << META_LOCAL_SHIFT};
		past_insert(&f->history, &f->history.past[i], NOT_KNOWN, NOT_KNOWN);
	}
	begin(f);
	assert_int_equal(query_newest(f->query, &q, 7, &place, &newest), 1);
	assert_int_equal(place.skip, 33);
	assert_int_equal(newest.count, 7);
	query_end(f->query);
	place = PLACE_START;
	for (unsigned page = 0; page < 9; page++) {
		_cleanup_(rows_done) struct rows rows = {0};

		if (page == 4)
			history_seal(&f->history);
		begin(f);
		assert_int_equal(query_rows(f->query, &q, 5, &place, &rows), 0);
		query_end(f->query);
		assert_int_equal(rows.count, page < 8 ? 5 : 0);
		for (size_t i = 0; i < rows.count; i++)
			assert_int_equal(rows.row[i].column[ROW_PROCESS], expected++);
	}
}

/* One seek per segment, not a scan. */
static void test_plan(void **state)
{
	static const enum sql_shape shapes[] = {
		SQL_ROWS, SQL_NEWEST, SQL_COUNT, SQL_AUDIT, SQL_CREDITED};
	static const char seek[] =
		"SEARCH c USING PRIMARY KEY (seg=? AND port=? AND rel>? AND rel<?)";
	struct fixture *f = *state;
	struct question q = {.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};

	for (unsigned ports = 1; ports <= 2; ports++)
		for (size_t i = 0; i < ELEMENTSOF(shapes); i++) {
			_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
			char *sql, *explain;
			bool found = false;

			q.filter.port_count = ports;
			sql = sql_question(&q, shapes[i]);
			explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
			begin(f);
			assert_int_equal(query_prepare(f->query, explain, &statement), 0);
			while (query_step(statement) == 1) {
				const char *line = (const char *)sqlite3_column_text(statement, 3);

				found |= streq(line, seek);
			}
			query_end(f->query);
			if (!found)
				fail_msg("no seek in: %s", sql);
			sqlite3_free(sql);
			sqlite3_free(explain);
		}
}

/* A statement that was given back is taken again by its text, with nothing bound; one that is in use is not, and too many are let go. */
static void test_kept(void **state)
{
	static const char text[] = "SELECT :value";
	struct fixture *f = *state;
	sqlite3_stmt *first = NULL, *second = NULL, *again = NULL;

	begin(f);
	assert_int_equal(query_prepare(f->query, text, &first), 0);
	query_bind(first, ":value", 7);
	assert_int_equal(query_step(first), 1);
	assert_int_equal(query_prepare(f->query, text, &second), 0);
	assert_ptr_not_equal(first, second);
	assert_int_equal(query_step(second), 1);
	assert_int_equal(query_column(first, 0), 7);
	assert_int_equal(query_column(second, 0), ROW_NULL);
	query_release(first);
	assert_int_equal(query_prepare(f->query, text, &again), 0);
	assert_ptr_equal(again, first);
	assert_int_equal(query_step(again), 1);
	assert_int_equal(query_column(again, 0), ROW_NULL);
	query_release(again);
	query_release(second);
	for (unsigned i = 0; i < 2 * LIMIT_KEPT_STATEMENTS; i++) {
		_cleanup_(stmt_p) sqlite3_stmt *other = NULL;
		char *sql = sqlite3_mprintf("SELECT %u", i);

		assert_int_equal(query_prepare(f->query, sql, &other), 0);
		assert_int_equal(query_step(other), 1);
		assert_int_equal(query_column(other, 0), i);
		sqlite3_free(sql);
	}
	query_end(f->query);
}

/* Each member of a filter, on claims that differ in just that. */
static void test_filters(void **state)
{
	struct fixture *f = *state;
	struct address v4, v6;
	uint64_t count;
	usec_t first;

	assert_int_equal(address_parse("192.0.2.1", &v4), 0);
	assert_int_equal(address_parse("::1", &v6), 0);
	history_sql(&f->history,
		"INSERT INTO netns VALUES(1,1,77,4000,'blue',0,0),(2,1,78,5000,NULL,0,0);"
		"INSERT INTO local VALUES(1,1,'::1'),(2,2,'10.0.0.1');"
		"INSERT INTO app VALUES(1,'/usr/bin/curl',0,'main',1000,'u.service',NULL,0),"
		"(2,'/opt/xcurl',0,'c%url',0,NULL,NULL,0);"
		"INSERT INTO process VALUES(1,1,1,11,1,NULL,NULL,NULL,1),(2,2,1,22,1,NULL,NULL,NULL,1);"
		"INSERT INTO claim_open VALUES"
		"(1,1,1,40001,1,0,NULL,NULL,NULL,0|(0<<3)|(1<<12),443,x'c0000201',1),"
		"(2,1,2,40002,2,0,NULL,NULL,NULL,1|(2<<3)|(2<<12),NULL,NULL,2),"
		"(3,1,3,40003,3,0,NULL,NULL,NULL,1|(1<<3)|(2<<12),NULL,NULL,NULL);"
		"INSERT INTO holder VALUES(3,0,1,1,NULL)");
	const struct {
		struct filter filter;
		unsigned claims; /* mask of 1 << (claim - 1) */
	} cases[] = {
#define WITH(...) {.protocol = -1, .role = -1, .uid = -1, .pid = -1, .peer_port = -1, __VA_ARGS__}
		{FILTER_ANY, 7},
		{WITH(.app = "curl"), 1},
		{WITH(.app = "main"), 1},
		{WITH(.app = "/usr/bin/curl"), 1},
		{WITH(.app = "bin/curl"), 0},
		{WITH(.app = "c%url"), 2},
		{WITH(.app = "%url"), 0},
		{WITH(.unit = "u.service"), 1},
		{WITH(.address = v6), 1},
		{WITH(.peer = v4), 1},
		{WITH(.netns = "blue"), 1},
		{WITH(.netns = "5000"), 6},
		{WITH(.range = {40002, 40003}), 6},
		{WITH(.ports = {40003, 40001}, .port_count = 2), 5},
		{{.protocol = 1, .role = -1, .uid = -1, .pid = -1, .peer_port = -1}, 6},
		{{.protocol = -1, .role = 2, .uid = -1, .pid = -1, .peer_port = -1}, 2},
		{{.protocol = -1, .role = -1, .uid = 0, .pid = -1, .peer_port = -1}, 2},
		{{.protocol = -1, .role = -1, .uid = -1, .pid = 11, .peer_port = -1}, 5},
		{{.protocol = -1, .role = -1, .uid = -1, .pid = -1, .peer_port = 443}, 1},
#undef WITH
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(rows_done) struct rows rows = {0};
		struct question q = {
			.filter = cases[i].filter, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};
		struct place place = PLACE_START;
		unsigned got = 0;

		begin(f);
		assert_int_equal(query_rows(f->query, &q, 9, &place, &rows), 0);
		assert_int_equal(query_count(f->query, &q, &count, &first), 0);
		query_end(f->query);
		for (size_t k = 0; k < rows.count; k++)
			got |= 1u << (rows.row[k].column[ROW_CLAIM] - 1);
		if (got != cases[i].claims || count != rows.count)
			fail_msg("filter %zu: claims %#x, expected %#x", i, got, cases[i].claims);
	}
}

/* What is sealed before a follower reads it is lost to it, and counted. */
static void test_tail(void **state)
{
	struct fixture *f = *state;
	const struct filter any = FILTER_ANY;
	struct follow_place place;
	uint64_t lost = 0;
	size_t read = 0;
	int more = 1;

	history_sql(&f->history,
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20)"
		" INSERT INTO claim_hot SELECT i,i,0,40000,i,1,NULL,NULL,NULL,0,NULL,NULL,NULL FROM n;"
		"INSERT INTO counter VALUES('next_hot',21)");
	begin(f);
	assert_int_equal(query_follow_place(f->query, &place), 0);
	assert_int_equal(place.claim, 0);
	assert_int_equal(place.released, 20);
	query_end(f->query);
	place.released = 3;
	while (more == 1) {
		_cleanup_(rows_done) struct rows rows = {0};

		begin(f);
		more = query_released_after(f->query, &any, 4, &place.released, &lost, &rows);
		query_end(f->query);
		for (size_t i = 0; i < rows.count; i++)
			assert_int_equal(rows.row[i].column[ROW_CLAIM], 4 + read++ + lost);
		if (read == 4)
			history_sql(&f->history, "DELETE FROM claim_hot WHERE id<=15");
	}
	assert_int_equal(more, 0);
	assert_int_equal(lost, 8); /* 8 to 15 */
	assert_int_equal(read, 9);
	history_sql(&f->history,
		"DELETE FROM claim_hot; UPDATE counter SET value=31 WHERE name='next_hot'");
	begin(f);
	{
		_cleanup_(rows_done) struct rows rows = {0};

		more = query_released_after(f->query, &any, 4, &place.released, &lost, &rows);
		assert_int_equal(more, 0);
		assert_int_equal(rows.count, 0);
		assert_int_equal(lost, 18);
		place.released = 99;
		more = query_released_after(f->query, &any, 4, &place.released, &lost, &rows);
		assert_int_equal(more, -ESTALE);
	}
	query_end(f->query);
}

/* What was announced comes in order, each once; what is not kept, or went to a segment, is counted. */
static void test_news(void **state)
{
	struct fixture *f = *state;
	struct filter filter = FILTER_ANY;
	static const struct {
		int result;
		int64_t news;
		uint64_t lost;
		bool program;
		int64_t claim; /* 0: none is given */
	} steps[] = {
		{1, 3, 2, true, 7},  /* 1 and 2 are dropped */
		{1, 4, 2, false, 8}, /* released by now */
		{1, 5, 3, true, 0},  /* its claim is sealed */
		{1, 6, 3, false, 0}, /* another port than was asked for */
		{1, 7, 3, false, 7},
		{0, 7, 3, false, 0},
	};
	int64_t news = 0;
	uint64_t lost = 0;

	history_sql(&f->history,
		"INSERT INTO claim_open VALUES(7,1,7,40000,1,0,NULL,NULL,NULL,0,NULL,NULL,NULL),"
		"(9,1,9,40001,1,0,NULL,NULL,NULL,0,NULL,NULL,NULL);"
		"INSERT INTO claim_hot VALUES(1,8,0,40000,1,1,NULL,NULL,NULL,0,NULL,NULL,NULL);"
		"INSERT INTO news VALUES(3,-1,7),(4,0,8),(5,-1,6),(6,0,9),(7,1,7)");
	filter.ports[0] = 40000;
	filter.port_count = 1;
	begin(f);
	for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
		_cleanup_(rows_done) struct rows rows = {0};
		bool program = false;

		assert_int_equal(query_news_after(f->query, &filter, &news, &lost, &program, &rows),
			steps[i].result);
		assert_int_equal(news, steps[i].news);
		assert_int_equal(lost, steps[i].lost);
		assert_int_equal(program, steps[i].program);
		assert_int_equal(rows.count, steps[i].claim > 0);
		if (rows.count > 0)
			assert_int_equal(rows.row[0].column[ROW_CLAIM], steps[i].claim);
	}
	assert_int_equal(query_news_place(f->query, &news), 0);
	assert_int_equal(news, 7);
	news = 8; /* of another database */
	{
		_cleanup_(rows_done) struct rows rows = {0};
		bool program;

		assert_int_equal(query_news_after(f->query, &filter, &news, &lost, &program, &rows),
			-ESTALE);
	}
	query_end(f->query);
}

static void test_state(void **state)
{
	struct fixture *f = *state;
	struct query_state s;
	uint64_t used[PROTOCOL_COUNT];

	begin(f);
	assert_int_equal(query_state(f->query, &s), 0);
	assert_false(s.session);
	assert_false(s.covered);
	assert_int_equal(s.oldest, USEC_UNSET);
	query_end(f->query);
	history_sql(&f->history,
		"INSERT INTO session VALUES(1,x'00',10,1,50,2,0,'v',NULL,NULL,NULL,NULL,NULL,NULL);"
		"INSERT INTO coverage VALUES(1,1,10,20,0,7,'1-2',1,2,1,0,0,0,0,0,0),"
		"(2,1,20,50,2,9,'32768-60999,61001-65535',32768,60999,15,1,0,1,0,0,0);"
		"INSERT INTO counter VALUES('expired_until_usec',15);"
		"INSERT INTO claim_open VALUES(1,1,1,40000,1,0,NULL,NULL,NULL,1|(6<<5),NULL,NULL,NULL),"
		"(2,1,1,40000,1,0,NULL,NULL,NULL,1,NULL,NULL,NULL),"
		"(3,1,1,61000,1,0,NULL,NULL,NULL,0,NULL,NULL,NULL);"
		/* the same namespace in two sessions, and another one */
		"INSERT INTO netns VALUES(1,1,1,7,NULL,0,0),(2,2,1,7,NULL,0,0),(3,2,2,14,NULL,0,0);"
		"INSERT INTO local VALUES(1,1,''),(2,2,''),(3,3,'');"
		"INSERT INTO claim_open VALUES(4,1,1,41000,1,0,NULL,NULL,NULL,(1<<12)|(6<<5),NULL,NULL,NULL),"
		"(5,1,1,41001,1,0,NULL,NULL,NULL,(2<<12)|(6<<5),NULL,NULL,NULL),"
		"(6,1,1,41002,1,0,NULL,NULL,NULL,(3<<12)|(6<<5),NULL,NULL,NULL)");
	begin(f);
	assert_int_equal(query_state(f->query, &s), 0);
	assert_int_equal(query_used(f->query, 7, s.coverage.ephemeral, used), 0);
	assert_int_equal(used[PROTOCOL_TCP], 2);
	assert_int_equal(used[PROTOCOL_UDP], 0);
	assert_int_equal(query_used(f->query, 0, s.coverage.ephemeral, used), 0);
	query_end(f->query);
	assert_int_equal(s.last_seen, 50);
	assert_int_equal(s.oldest, 15);
	assert_int_equal(s.open_claims, 6);
	assert_int_equal(s.unattributed, 2);
	assert_int_equal(s.coverage.rung, SOURCE_EVENTS);
	assert_int_equal(s.coverage.ranges.count, 2);
	assert_int_equal(s.coverage.ranges.range[1].low, 61001);
	assert_true(s.coverage.bound_only && s.coverage.foreign_processes);
	assert_int_equal(used[PROTOCOL_UDP], 1);
	assert_int_equal(used[PROTOCOL_TCP], 3);
}

/* What cannot be read has its own error. */
static void test_trouble(void **state)
{
	struct fixture *f = *state;
	struct question q = {.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};
	uint64_t count;
	usec_t first;

	begin(f);
	assert_true(
		sqlite3_exec(f->query->db, "DELETE FROM counter", NULL, NULL, NULL) != SQLITE_OK);
	query_end(f->query);
	for (int other = SCHEMA_VERSION + 1; other >= SCHEMA_VERSION - 1; other -= 2) {
		char sql[48];

		(void)snprintf(sql, sizeof(sql), "PRAGMA user_version=%d", other);
		history_sql(&f->history, sql);
		assert_int_equal(query_begin(f->query, clock_now().boot + FAR), -EPROTO);
	}
	history_sql(&f->history, "PRAGMA user_version=" SQL_NUMBER(SCHEMA_VERSION));

	assert_int_equal(query_begin(f->query, 0), 0); /* a deadline long gone */
	assert_int_equal(query_count(f->query, &q, &count, &first), -ETIMEDOUT);
	query_end(f->query);
	begin(f);
	assert_int_equal(query_count(f->query, &q, &count, &first), 0);
	assert_int_equal(count, CLAIMS);
	query_end(f->query);
}

static void make_database(const char *path, const char *sql)
{
	struct history h = {0};
	char pragmas[128];

	(void)snprintf(pragmas, sizeof(pragmas), "PRAGMA application_id=%d; PRAGMA user_version=%d",
		SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
	assert_int_equal(sqlite3_open(path, &h.db), SQLITE_OK);
	history_sql(&h, pragmas);
	history_sql(&h, schema_sql);
	history_sql(&h, sql);
	assert_int_equal(sqlite3_close(h.db), SQLITE_OK);
}

/* The file is looked at for each question: not there yet, then there, then another one, then none that can be read. */
static void test_replaced(void **state)
{
	char directory[] = "/tmp/portledger-query-XXXXXX", path[64], next[64];
	_cleanup_(query_free_p) struct query *query = NULL;
	struct query_state s;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/a", directory);
	(void)snprintf(next, sizeof(next), "%s/b", directory);
	assert_int_equal(query_new(path, &query), 0);
	assert_int_equal(query_begin(query, USEC_UNSET), -ENOENT);
	make_database(path,
		"INSERT INTO session VALUES(1,x'00',1,1,111,2,0,'v',NULL,NULL,NULL,NULL,NULL,NULL)");
	make_database(next,
		"INSERT INTO session VALUES(1,x'00',1,1,222,2,0,'v',NULL,NULL,NULL,NULL,NULL,NULL)");
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(query_begin(query, USEC_UNSET), 0);
		assert_int_equal(query_state(query, &s), 0);
		query_end(query);
		assert_int_equal(s.last_seen, i * 111);
		(void)rename(next, path);
	}
	file = fopen(next, "w");
	assert_non_null(file);
	for (unsigned i = 0; i < 4096; i++)
		(void)fputc('x', file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(next, path), 0);
	assert_int_equal(query_begin(query, USEC_UNSET), -EUCLEAN);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stabbing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sealing_between_pages, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_plan, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_filters, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_tail, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_kept, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_news, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_state, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_trouble, setup, teardown),
		cmocka_unit_test(test_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
