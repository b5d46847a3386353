/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/control/coverage.h"
#include "daemon/control/query_internal.h"
#include "tests/support/history.h"

#define CLAIMS       6000u
#define SEGMENT_ROWS 250u
#define PROBES       2500u
#define FAR          (UINT64_C(60) * USEC_PER_MINUTE)

struct fixture {
	struct history history;
	struct query *query;
};

static void begin(struct fixture *f)
{
	assert_int_equal(query_begin(f->query, clock_now().boot + FAR), 0);
}

static int setup_empty(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	history_open(&f->history, "query");
	assert_int_equal(query_new(f->history.path, &f->query), 0);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	struct fixture *f;

	setup_empty(state);
	f = *state;
	history_fill(&f->history, CLAIMS, SEGMENT_ROWS);
	assert_true(f->history.segments > 10);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->query = query_free(f->query);
	history_close(&f->history);
	free(f);
	return 0;
}

/* The columns that key the order, as query_sql.c has it. */
static int compare_order(const void *left, const void *right)
{
	const struct past *a = left, *b = right;
	int64_t mask = ~(int64_t)4088;
	const int64_t keys[][2] = {
		{a->opened, b->opened},
		{a->port, b->port},
		{a->meta & mask, b->meta & mask},
		{a->rport, b->rport},
		{a->raddr, b->raddr},
		{a->id, b->id},
	};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] < keys[i][1] ? -1 : 1;
	return 0;
}

static bool port_matches(const struct filter *f, int64_t port)
{
	bool listed = f->port_count == 0;

	for (unsigned i = 0; i < f->port_count; i++)
		listed |= f->ports[i] == port;
	return listed && (!f->range.high || (port >= f->range.low && port <= f->range.high));
}

/* All that answer the question, in order, by looking at each claim. */
static size_t oracle(const struct history *h, const struct question *q, struct past *found)
{
	size_t count = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct past *p = &h->past[i];

		if (!(q->rows & (p->in == IN_OPEN ? ROWS_OPEN : ROWS_RELEASED)) ||
			!port_matches(&q->filter, p->port) ||
			!past_touches(p, (int64_t)q->window.from, (int64_t)q->window.until))
			continue;
		if (q->filter.protocol >= 0 && (p->meta & 3) != q->filter.protocol)
			continue;
		if (q->filter.role >= 0 && (p->meta >> META_ROLE_SHIFT & 3) != q->filter.role)
			continue;
		if (q->filter.peer_port >= 0 && p->rport != q->filter.peer_port)
			continue;
		found[count++] = *p;
	}
	qsort(found, count, sizeof(*found), compare_order);
	return count;
}

/* Edges of claims more often than not: what is open or closed exactly there decides about < and <=. */
static usec_t random_time(struct history *h, int64_t *ret_port)
{
	const struct past *p = &h->past[history_random(h, (uint32_t)h->count)];
	int64_t t;

	*ret_port = p->port;
	switch (history_random(h, 5)) {
	case 0:
		return (usec_t)HISTORY_START + history_random(h, 1u << 30) * UINT64_C(21);
	case 1:
		t = p->opened;
		break;
	case 2:
		t = past_opened_after(p);
		break;
	default:
		t = p->in == IN_OPEN ? p->opened : past_released(p);
	}
	return (usec_t)(t + (int64_t)history_random(h, 3) - 1);
}

static struct question random_question(struct history *h)
{
	struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
	int64_t port;
	usec_t other = random_time(h, &port);

	q.window.from = random_time(h, &port);
	q.window.until = history_random(h, 2) ? q.window.from + history_random(h, 2000000)
					      : MAX(q.window.from, other);
	switch (history_random(h, 6)) {
	case 0:
		break;
	case 1:
		q.filter.range =
			(struct port_range){32770, (uint16_t)(32770 + history_random(h, 99))};
		break;
	case 2:
		q.filter.port_count = 3;
		for (unsigned i = 0; i < 3; i++)
			q.filter.ports[i] = (uint16_t)(32768 + history_random(h, 9));
		break;
	default:
		q.filter.port_count = 1;
		q.filter.ports[0] = (uint16_t)port;
	}
	if (history_random(h, 4) == 0)
		q.filter.protocol = (int)history_random(h, 2);
	if (history_random(h, 8) == 0)
		q.filter.role = (int)history_random(h, 4);
	if (history_random(h, 8) == 0)
		q.filter.peer_port = 443;
	return q;
}

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
	unsigned limited = 0;

	for (unsigned i = 0; i < 120; i++) {
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		size_t page = 1 + history_random(&f->history, 64);
		uint64_t limit = 1 + history_random(&f->history, count ? (uint32_t)count * 2 : 5);
		size_t at = count > limit ? count - (size_t)limit : 0;
		struct place place;

		limited += at > 0;
		begin(f);
		assert_int_equal(query_newest(f->query, &q, limit, &place), 0);
		query_end(f->query);
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
	assert_true(limited > 20);
	free(found);
}

/* Rows that are equal in all that survives sealing, on both sides of a page's end. */
static void test_sealing_between_pages(void **state)
{
	struct fixture *f = *state;
	struct question q = {.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};
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
	assert_int_equal(query_newest(f->query, &q, 7, &place), 0);
	assert_int_equal(place.skip, 33);
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
	static const enum sql_shape shapes[] = {SQL_ROWS, SQL_NEWEST, SQL_COUNT, SQL_AUDIT};
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

static void assert_text(const struct buf *text, const char *expected)
{
	size_t size = buf_size(text);

	if (size != strlen(expected) || memcmp(buf_bytes(text), expected, size) != 0)
		fail_msg(
			"\n got %.*s\nwant %s", (int)size, (const char *)buf_bytes(text), expected);
}

/* Stretches are of the database's only two sessions; times are small so that a case is readable. */
static void test_receipt(void **state)
{
	static const struct {
		const char *rows;
		struct window window;
		const char *expected;
	} cases[] = {
		{"", {10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[],\"lost\":null,\"gaps\":[],"
			"\"complete\":false}"},
		{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1)", {10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
			"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7}],\"lost\":0,"
			"\"gaps\":[],\"complete\":true}"},
		{"INSERT INTO coverage VALUES(1,1,5,30,0,7,'',1,2,1,1,1,1,1)", {10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
			"\"until_usec\":20,\"source\":\"sweep\",\"interval_usec\":7}],\"lost\":null,"
			"\"gaps\":[],\"complete\":false}"},
		{"INSERT INTO coverage VALUES(1,1,5,19,2,7,'',1,2,1,1,1,1,1)", {10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
			"\"until_usec\":19,\"source\":\"events\",\"interval_usec\":7}],\"lost\":null,"
			"\"gaps\":[],\"complete\":false}"},
		{"INSERT INTO coverage VALUES(1,1,5,14,2,7,'',1,2,1,1,1,1,1),"
		 "(2,2,14,30,2,7,'',1,2,1,1,1,1,1);"
		 "INSERT INTO gap VALUES(1,13,15,'ring-full',3),(2,2,10,'before',1),(3,20,21,'after',1)",
			{10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
			"\"until_usec\":14,\"source\":\"events\",\"interval_usec\":7},{\"from_usec\":14,"
			"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7}],\"lost\":3,"
			"\"gaps\":[{\"from_usec\":13,\"until_usec\":15,\"reason\":\"ring-full\","
			"\"lost\":3}],\"complete\":false}"},
		{"INSERT INTO coverage VALUES(1,1,5,13,2,7,'',1,2,1,1,1,1,1),"
		 "(2,2,15,30,2,7,'',1,2,1,1,1,1,1);INSERT INTO gap VALUES(1,13,15,'killed',NULL)",
			{10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
			"\"until_usec\":13,\"source\":\"events\",\"interval_usec\":7},{\"from_usec\":15,"
			"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7}],\"lost\":null,"
			"\"gaps\":[{\"from_usec\":13,\"until_usec\":15,\"reason\":\"killed\","
			"\"lost\":null}],\"complete\":false}"},
		{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1);"
		 "INSERT INTO counter VALUES('expired_until_usec',12)",
			{10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":12,"
			"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7}],\"lost\":null,"
			"\"gaps\":[{\"from_usec\":10,\"until_usec\":12,\"reason\":\"expired\","
			"\"lost\":null}],\"complete\":false}"},
		{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1);"
		 "INSERT INTO gap VALUES(1,12,12,'a \"b\"',1)",
			{10, 20},
			"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
			"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7}],\"lost\":1,"
			"\"gaps\":[{\"from_usec\":12,\"until_usec\":12,\"reason\":\"a \\\"b\\\"\","
			"\"lost\":1}],\"complete\":false}"},
		/* a moment */
		{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1)", {30, 30},
			"{\"from_usec\":30,\"until_usec\":30,\"stretches\":[{\"from_usec\":30,"
			"\"until_usec\":30,\"source\":\"events\",\"interval_usec\":7}],\"lost\":0,"
			"\"gaps\":[],\"complete\":true}"},
		{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1)", {31, 31},
			"{\"from_usec\":31,\"until_usec\":31,\"stretches\":[],\"lost\":null,\"gaps\":[],"
			"\"complete\":false}"},
	};
	const struct filter any = FILTER_ANY;
	struct fixture *f = *state;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};

		history_sql(
			&f->history, "DELETE FROM coverage; DELETE FROM gap; DELETE FROM counter");
		history_sql(&f->history, cases[i].rows);
		begin(f);
		assert_int_equal(coverage_receipt(f->query, &any, cases[i].window, &text), 0);
		query_end(f->query);
		assert_text(&text, cases[i].expected);
	}
}

/* A stretch counts for a question only where it watched all ports and the protocol that were asked for. */
static void test_receipt_asked(void **state)
{
	static const struct {
		uint16_t ports[2];
		int protocol;
		bool watched;
	} cases[] = {
		{{0}, -1, true},
		{{100}, -1, true},
		{{200}, -1, true},
		{{300}, -1, true},
		{{99}, -1, false},
		{{201}, -1, false},
		{{100, 300}, -1, true},
		{{100, 299}, -1, false},
		{{0}, PROTOCOL_UDP, true},
		{{0}, PROTOCOL_MPTCP, false},
		{{100}, PROTOCOL_MPTCP, false},
	};
	struct fixture *f = *state;

	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,5,30,2,7,'100-200 300-300',1,2,3,1,1,1,1)");
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		struct filter asked = FILTER_ANY;

		asked.protocol = cases[i].protocol;
		for (; asked.port_count < 2 && cases[i].ports[asked.port_count]; asked.port_count++)
			asked.ports[asked.port_count] = cases[i].ports[asked.port_count];
		begin(f);
		assert_int_equal(
			coverage_receipt(f->query, &asked, (struct window){10, 20}, &text), 0);
		query_end(f->query);
		assert_int_equal(buf_append(&text, "", 1), 0);
		assert_int_equal(strstr((const char *)buf_bytes(&text), "\"stretches\":[]") == NULL,
			cases[i].watched);
	}
}

/* Too many gaps to list: what is not listed is said to be one. */
static void test_receipt_limit(void **state)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct filter any = FILTER_ANY;
	struct fixture *f = *state;
	const char *end;

	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,0,90000,2,7,'',1,2,1,1,1,1,1);"
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)"
		" INSERT INTO gap SELECT i,i*10,i*10+1,'x',0 FROM n");
	begin(f);
	assert_int_equal(coverage_receipt(f->query, &any, (struct window){0, 90000}, &text), 0);
	query_end(f->query);
	assert_int_equal(buf_append(&text, "", 1), 0);
	end = strstr((const char *)buf_bytes(&text), "{\"from_usec\":10250,");
	assert_non_null(end);
	assert_string_equal(end,
		"{\"from_usec\":10250,\"until_usec\":90000,\"reason\":\"unlisted\",\"lost\":null}],"
		"\"complete\":false}");
}

/* Three programs; two of the apps are one program in two cgroups. Process n is of app n % 4 + 1, each fifth of none. */
static void fill_programs(struct fixture *f)
{
	history_sql(&f->history,
		"INSERT INTO app VALUES(1,'/bin/b',0,'b',7,'u','/x',5),(2,'/bin/a',0,'a',7,NULL,NULL,0),"
		"(3,'/bin/b',0,'b',7,'u','/y',1),(4,NULL,0,NULL,9,'k',NULL,1800000000000000);"
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<6000)"
		" INSERT INTO process SELECT i,i%4+1,1,iif(i%4=3,NULL,i),1,NULL,NULL,NULL,1 FROM n"
		" WHERE i%5<>0");
}

struct tally {
	const char *identity;
	unsigned rank; /* in the order of names */
	bool is_new;
	uint64_t claims, ports, remotes;
	int64_t first, last;
	uint8_t port[512], remote[8];
};

static unsigned tally_index(int64_t process)
{
	static const unsigned programs[] = {0, 1, 0, 2};

	return process % 5 == 0 ? 3 : programs[process % 4];
}

static void tally_add(struct tally *t, const struct past *p, const struct window *w)
{
	int64_t first = MAX(p->opened, (int64_t)w->from);
	int64_t last = MIN(past_released(p), (int64_t)w->until);

	first = MIN(first, (int64_t)w->until);
	t->first = t->claims ? MIN(t->first, first) : first;
	t->last = MAX(t->last, last);
	t->claims++;
	t->ports += !t->port[p->port - 32768];
	t->port[p->port - 32768] = 1;
	if (!p->raddr)
		return;
	t->remotes += !t->remote[p->raddr & 7];
	t->remote[p->raddr & 7] = 1;
}

/* Most claims first, then by name; what has none comes first. */
static int compare_tally(const void *left, const void *right)
{
	const struct tally *a = left, *b = right;

	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static void test_audit(void **state)
{
	static const struct tally none[] = {
		{.identity = "\"exe\":\"/bin/b\",\"comm\":\"b\",\"unit\":\"u\",\"uid\":7",
			.rank = 3},
		{.identity = "\"exe\":\"/bin/a\",\"comm\":\"a\",\"unit\":null,\"uid\":7",
			.rank = 2},
		{.identity = "\"exe\":null,\"comm\":null,\"unit\":\"k\",\"uid\":9",
			.rank = 1,
			.is_new = true},
		{.identity = "\"exe\":null,\"comm\":null,\"unit\":null,\"uid\":null"},
	};
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));

	fill_programs(f);
	for (unsigned i = 0; i < 60; i++) {
		_cleanup_(buf_done) struct buf text = {0}, expected = {0};
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		struct tally all = {0}, tally[ELEMENTSOF(none)];
		uint64_t unattributed = 0;
		const char *between = "";

		memcpy(tally, none, sizeof(none));
		for (size_t k = 0; k < count; k++) {
			unsigned index = tally_index(found[k].id);

			tally_add(&tally[index], &found[k], &q.window);
			tally_add(&all, &found[k], &q.window);
			unattributed += index >= 2;
		}
		qsort(tally, ELEMENTSOF(tally), sizeof(*tally), compare_tally);
		assert_int_equal(buf_append_string(&expected, "\"programs\":["), 0);
		for (size_t k = 0; k < ELEMENTSOF(tally) && tally[k].claims; k++) {
			assert_int_equal(
				buf_append_format(&expected,
					"%s{%s,\"user\":null,\"claims\":%llu,\"ports\":%llu,\"remotes\":%llu,"
					"\"failures\":null,\"first_usec\":%lld,\"last_usec\":%lld,\"new\":%s}",
					between, tally[k].identity,
					(unsigned long long)tally[k].claims,
					(unsigned long long)tally[k].ports,
					(unsigned long long)tally[k].remotes,
					(long long)tally[k].first, (long long)tally[k].last,
					tally[k].is_new ? "true" : "false"),
				0);
			between = ",";
		}
		assert_int_equal(buf_append_format(&expected,
					 "],\"claims\":%llu,\"ports\":%llu,\"unattributed\":%llu,"
					 "\"omitted\":0",
					 (unsigned long long)count, (unsigned long long)all.ports,
					 (unsigned long long)unattributed),
			0);
		assert_int_equal(buf_append(&expected, "", 1), 0);
		begin(f);
		assert_int_equal(query_audit(f->query, &q, &text), 0);
		query_end(f->query);
		assert_text(&text, (const char *)buf_bytes(&expected));
	}
	free(found);
}

/* A socket that pid 1 opened and passed on counts for the one that got it last. */
static void test_audit_credit(void **state)
{
	_cleanup_(buf_done) struct buf text = {0};
	struct fixture *f = *state;
	const struct question q = {.filter = FILTER_ANY, .window = {100, 200}, .rows = ROWS_ALL};

	history_sql(&f->history,
		"INSERT INTO app VALUES(1,'/init',0,'init',0,NULL,NULL,0),(2,'/d',0,'d',0,NULL,NULL,0);"
		"INSERT INTO process VALUES(1,1,1,1,1,NULL,NULL,NULL,1),(2,2,1,9,1,NULL,NULL,NULL,1);"
		"INSERT INTO claim_open VALUES(5,1,1,40000,90,0,NULL,NULL,NULL,8,NULL,NULL,1);"
		"INSERT INTO holder VALUES(5,0,2,95,NULL)");
	begin(f);
	assert_int_equal(query_audit(f->query, &q, &text), 0);
	query_end(f->query);
	assert_text(&text,
		"\"programs\":[{\"exe\":\"/d\",\"comm\":\"d\",\"unit\":null,\"uid\":0,\"user\":null,"
		"\"claims\":1,\"ports\":1,\"remotes\":0,\"failures\":null,\"first_usec\":100,"
		"\"last_usec\":200,\"new\":false}],\"claims\":1,\"ports\":1,\"unattributed\":0,"
		"\"omitted\":0");
}

/* The row of the claim with this number, as JSON. */
static void assert_row_json(struct fixture *f, int64_t claim, const char *expected)
{
	_cleanup_(rows_done) struct rows rows = {0};
	_cleanup_(buf_done) struct buf text = {0};
	const struct filter any = FILTER_ANY;
	int64_t after = claim - 1;

	begin(f);
	assert_int_equal(query_open_after(f->query, &any, 2, claim, &after, &rows), 0);
	assert_int_equal(rows.count, 1);
	assert_int_equal(query_row_json(f->query, &rows.row[0], &text), 0);
	query_end(f->query);
	assert_text(&text, expected);
}

static void test_row_json(void **state)
{
	struct fixture *f = *state;

	history_sql(&f->history,
		"INSERT INTO netns VALUES(1,1,77,4026531840,'blue');INSERT INTO local VALUES(3,1,'::1');"
		"INSERT INTO app VALUES(1,'/bin/c\\x1b',1,'c\"',4294967294,'c.service','/c',0);"
		"INSERT INTO process VALUES(1,1,1,4194304,1,NULL,1,'init',1);"
		"INSERT INTO claim_open VALUES(1,1,1,65535,1790000000000001,0,1,1790000000000002,2,"
		"3|(1<<2)|(3<<3)|(3<<5)|(2<<8)|(3<<12),443,x'20010db8000000000000000000000001',1),"
		"(2,1,1,32768,5,0,NULL,NULL,NULL,0,NULL,NULL,NULL);"
		"INSERT INTO holder VALUES(1,0,1,7,NULL)");
	assert_row_json(f, 1,
		"{\"port\":65535,\"protocol\":\"mptcp\",\"family\":\"ipv6\",\"netns\":4026531840,"
		"\"netns_name\":\"blue\",\"local_address\":\"::1\",\"remote_address\":\"2001:db8::1\","
		"\"remote_port\":443,\"role\":\"accepted\",\"opened_usec\":1790000000000001,"
		"\"opened_after_usec\":1789999999999001,\"closed_usec\":1790000000000002,"
		"\"closed_after_usec\":1789999999998002,\"released_usec\":null,\"pid\":4194304,"
		"\"comm\":\"c\\\"\",\"exe\":\"/bin/c\\\\x1b\","
		"\"uid\":4294967294,\"user\":null,\"unit\":\"c.service\",\"cgroup\":\"/c\","
		"\"parent_pid\":1,\"parent_comm\":\"init\",\"attribution\":\"procfd\","
		"\"source\":\"events\",\"holders\":[{\"pid\":4194304,\"comm\":\"c\\\"\","
		"\"exe\":\"/bin/c\\\\x1b\",\"unit\":\"c.service\",\"from_usec\":7,"
		"\"until_usec\":null}],\"exe_note\":\"deleted\"}");
	assert_row_json(f, 2,
		"{\"port\":32768,\"protocol\":\"tcp\",\"family\":\"ipv4\",\"netns\":null,"
		"\"netns_name\":null,\"local_address\":null,\"remote_address\":null,"
		"\"remote_port\":null,\"role\":\"connected\",\"opened_usec\":5,"
		"\"opened_after_usec\":null,\"closed_usec\":null,\"closed_after_usec\":null,"
		"\"released_usec\":null,\"pid\":null,\"comm\":null,\"exe\":null,"
		"\"uid\":null,\"user\":null,\"unit\":null,\"cgroup\":null,\"parent_pid\":null,"
		"\"parent_comm\":null,\"attribution\":\"none\",\"source\":\"sweep\",\"holders\":[],\"exe_note\":null}");
}

/* Names in SQL and in C are the same. */
static void test_names(void **state)
{
	struct fixture *f = *state;

	for (int64_t i = 0; i < 8; i++) {
		_cleanup_(stmt_p) sqlite3_stmt *s = NULL;
		const struct {
			unsigned count;
			const char *name;
		} names[] = {
			{PROTOCOL_COUNT,
				i < PROTOCOL_COUNT ? protocol_name((enum protocol)i) : NULL},
			{ROLE_COUNT, i < ROLE_COUNT ? role_name((enum role)i) : NULL},
			{ATTRIBUTION_COUNT, i < ATTRIBUTION_COUNT
						    ? attribution_name((enum attribution)i)
						    : NULL},
			{SOURCE_COUNT, i < SOURCE_COUNT ? source_name((enum source)i) : NULL},
		};

		begin(f);
		assert_int_equal(
			query_prepare(f->query,
				"SELECT " SQL_PROTOCOL("r") "," SQL_ROLE("r") "," SQL_ATTRIBUTION(
					"r") "," SQL_SOURCE("r") " FROM (SELECT ?1|(?1<<3)|(?2<<5)|(?1<<8) AS meta) r",
				&s),
			0);
		(void)sqlite3_bind_int64(s, 1, i & 3);
		(void)sqlite3_bind_int64(s, 2, i);
		assert_int_equal(query_step(s), 1);
		for (int k = 0; k < 4; k++)
			if (names[k].name)
				assert_string_equal(sqlite3_column_text(s, k), names[k].name);
		query_end(f->query);
	}
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
		"INSERT INTO netns VALUES(1,1,77,4000,'blue'),(2,1,78,5000,NULL);"
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
		"INSERT INTO session VALUES(1,x'00',10,1,50,2,0,'v');"
		"INSERT INTO coverage VALUES(1,1,10,20,0,7,'1-2',1,2,1,0,0,0,0),"
		"(2,1,20,50,2,9,'32768-60999,61001-65535',32768,60999,15,1,0,1,0);"
		"INSERT INTO counter VALUES('expired_until_usec',15);"
		"INSERT INTO claim_open VALUES(1,1,1,40000,1,0,NULL,NULL,NULL,1|(6<<5),NULL,NULL,NULL),"
		"(2,1,1,40000,1,0,NULL,NULL,NULL,1,NULL,NULL,NULL),"
		"(3,1,1,61000,1,0,NULL,NULL,NULL,0,NULL,NULL,NULL)");
	begin(f);
	assert_int_equal(query_state(f->query, &s), 0);
	assert_int_equal(query_used(f->query, s.coverage.ephemeral, used), 0);
	query_end(f->query);
	assert_int_equal(s.last_seen, 50);
	assert_int_equal(s.oldest, 15);
	assert_int_equal(s.open_claims, 3);
	assert_int_equal(s.unattributed, 2);
	assert_int_equal(s.coverage.rung, SOURCE_EVENTS);
	assert_int_equal(s.coverage.ranges.count, 2);
	assert_int_equal(s.coverage.ranges.range[1].low, 61001);
	assert_true(s.coverage.bound_only && s.coverage.foreign_processes);
	assert_int_equal(used[PROTOCOL_UDP], 1);
	assert_int_equal(used[PROTOCOL_TCP], 0);
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
	history_sql(&f->history, "PRAGMA user_version=2");
	assert_int_equal(query_begin(f->query, clock_now().boot + FAR), -EPROTO);
	history_sql(&f->history, "PRAGMA user_version=1");

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
	make_database(path, "INSERT INTO session VALUES(1,x'00',1,1,111,2,0,'v')");
	make_database(next, "INSERT INTO session VALUES(1,x'00',1,1,222,2,0,'v')");
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
		cmocka_unit_test_setup_teardown(test_receipt, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_asked, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_limit, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_audit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_audit_credit, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_row_json, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_filters, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_tail, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_state, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_trouble, setup, teardown),
		cmocka_unit_test(test_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
