/* SPDX-License-Identifier: MIT */

/* What an answer says, word for word: the receipt of its coverage, the audit, the row of a claim. */

#include "daemon/control/coverage.h"
#include "tests/unit/query-oracle.h"

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

struct tally {
	const char *identity;
	unsigned rank; /* in the order of names */
	bool is_new;
	uint64_t claims, ports, remotes;
	int64_t first, last;
	uint8_t port[512], remote[8];
};

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
			unsigned index = program_index(found[k].id);

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_receipt, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_asked, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_limit, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_audit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_audit_credit, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_row_json, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
