/* SPDX-License-Identifier: MIT */

/* What an answer says, word for word: the audit, the row of a claim. */

#include "tests/unit/query-oracle.h"

/* An audit of rows that have lost their remote addresses does not pretend to have counted them. */
static void test_audit_remotes(void **state)
{
	struct fixture *f = *state;
	const struct window windows[] = {{10, 20}, {12, 20}};

	history_sql(&f->history,
		"INSERT INTO counter VALUES('remotes_until_usec',12);"
		"INSERT INTO claim_open VALUES(1,1,1,40000,15,15,NULL,NULL,NULL,0,443,NULL,NULL)");
	begin(f);
	for (size_t i = 0; i < ELEMENTSOF(windows); i++) {
		const struct question question = {
			.filter = FILTER_ANY, .window = windows[i], .rows = ROWS_ALL};
		_cleanup_(buf_done) struct buf text = {0};

		assert_int_equal(
			query_audit(f->query, &question, AUDIT_BY_PROGRAM, &text, NULL), 0);
		assert_int_equal(buf_append(&text, "", 1), 0);
		assert_non_null(strstr((const char *)buf_bytes(&text),
			i == 0 ? "\"remotes_estimated\":true" : "\"remotes_estimated\":false"));
	}
	query_end(f->query);
}

struct tally {
	const char *identity;
	unsigned rank; /* in the order of names */
	bool is_new;
	uint64_t claims, ports, remotes;
	int64_t first, last, shortest, longest;
	uint64_t roles[4];
	unsigned slot[8]; /* openings by hour since the history's begin */
	uint8_t port[512], remote[8];
};

#define HOUR INT64_C(3600000000)

/* When it was closed; later than any time where it is open. */
static int64_t past_closed(const struct past *p)
{
	return p->in == IN_OPEN ? INT64_MAX : p->opened + p->dur;
}

static bool past_is_server(const struct past *p, const struct window *w)
{
	int64_t from = (int64_t)w->from, until = (int64_t)w->until, closed = past_closed(p);
	int64_t role = p->meta >> META_ROLE_SHIFT & META_ROLE_MASK;
	bool udp = (p->meta & META_PROTOCOL_MASK) == 1 || (p->meta & META_PROTOCOL_MASK) == 2;
	bool came =
		!(p->meta >> META_PREEXISTING_SHIFT & 1) && p->opened >= from && p->opened < until;

	return (role == ROLE_LISTENING ||
		       (udp && role == ROLE_BOUND && MIN(closed, until) - p->opened >= 60000000)) &&
	       (came || (closed >= from && closed < until));
}

static void tally_add(struct tally *t, const struct past *p, const struct window *w)
{
	int64_t first = MAX(p->opened, (int64_t)w->from), closed = past_closed(p);
	int64_t last = MIN(past_released(p), (int64_t)w->until);
	int64_t life = MIN(closed, (int64_t)w->until) - p->opened;

	first = MIN(first, (int64_t)w->until);
	life = MAX(life, INT64_C(0));
	t->first = t->claims ? MIN(t->first, first) : first;
	t->last = MAX(t->last, last);
	if ((p->meta >> META_SOURCE_SHIFT & META_SOURCE_MASK) != SOURCE_DESTROY)
		t->longest = MAX(t->longest, life);
	if (closed <= (int64_t)w->until &&
		(p->meta >> META_SOURCE_SHIFT & META_SOURCE_MASK) != SOURCE_DESTROY)
		t->shortest = t->shortest >= 0 ? MIN(t->shortest, life) : life;
	t->roles[p->meta >> META_ROLE_SHIFT & META_ROLE_MASK]++;
	if (p->opened >= (int64_t)w->from && p->opened < (int64_t)w->until)
		t->slot[p->opened / HOUR - HISTORY_START / HOUR]++;
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

static void append_tally(const struct tally *t, const char *between, struct buf *out)
{
	_cleanup_(buf_done) struct buf slots = {0};
	unsigned most = 0;
	int64_t busiest = 0;

	for (unsigned i = 0; i < ELEMENTSOF(t->slot); i++) {
		int64_t from = (HISTORY_START / HOUR + i) * HOUR;

		if (t->slot[i] == 0)
			continue;
		assert_int_equal(buf_append_format(&slots,
					 "%s{\"from_usec\":%lld,\"until_usec\":%lld,\"claims\":%u}",
					 buf_size(&slots) ? "," : "", (long long)from,
					 (long long)(from + HOUR), t->slot[i]),
			0);
		if (t->slot[i] > most) {
			most = t->slot[i];
			busiest = from;
		}
	}
	assert_int_equal(buf_put_u8(&slots, 0), 0);
	assert_int_equal(
		buf_append_format(out,
			"%s{%s,\"user\":null,\"claims\":%llu,\"ports\":%llu,\"remotes\":%llu,"
			"\"failures\":null,\"first_usec\":%lld,\"last_usec\":%lld,\"new\":%s,"
			"\"connected\":%llu,\"listening\":%llu,\"bound\":%llu,\"accepted\":%llu,",
			between, t->identity, (unsigned long long)t->claims,
			(unsigned long long)t->ports, (unsigned long long)t->remotes,
			(long long)t->first, (long long)t->last, t->is_new ? "true" : "false",
			(unsigned long long)t->roles[ROLE_CONNECTED],
			(unsigned long long)t->roles[ROLE_LISTENING],
			(unsigned long long)t->roles[ROLE_BOUND],
			(unsigned long long)t->roles[ROLE_ACCEPTED]),
		0);
	assert_int_equal(t->shortest < 0 ? buf_append_string(out, "\"shortest_usec\":null")
					 : buf_append_format(out, "\"shortest_usec\":%lld",
						   (long long)t->shortest),
		0);
	assert_int_equal(buf_append_format(out,
				 ",\"longest_usec\":%lld,\"busiest_usec\":", (long long)t->longest),
		0);
	assert_int_equal(most ? buf_append_format(out, "%lld", (long long)busiest)
			      : buf_append_string(out, "null"),
		0);
	assert_int_equal(
		buf_append_format(out,
			",\"slots\":[%s],\"port\":null,\"protocol\":null,\"netns\":null,"
			"\"netns_name\":null,\"hour_usec\":null,\"remotes_estimated\":false,"
			"\"lives_estimated\":false}",
			(const char *)buf_bytes(&slots)),
		0);
}

static size_t count_text(const char *text, const char *what)
{
	size_t count = 0;

	for (; (text = strstr(text, what)); text++)
		count++;
	return count;
}

/* The programs of fill_programs(), of which nothing is known yet. */
static const struct tally nothing[] = {
	{.identity = "\"exe\":\"/bin/b\",\"comm\":\"b\",\"unit\":\"u\",\"uid\":7",
		.rank = 3,
		.shortest = -1,
		.longest = -1},
	{.identity = "\"exe\":\"/bin/a\",\"comm\":\"a\",\"unit\":null,\"uid\":7",
		.rank = 2,
		.shortest = -1,
		.longest = -1},
	{.identity = "\"exe\":null,\"comm\":null,\"unit\":\"k\",\"uid\":9",
		.rank = 1,
		.is_new = true,
		.shortest = -1,
		.longest = -1},
	{.identity = "\"exe\":null,\"comm\":null,\"unit\":null,\"uid\":null",
		.shortest = -1,
		.longest = -1},
};

/* Of an audit of these claims, what comes before the servers; and how many of these there are. */
static uint64_t expect_audit(
	const struct past *found, size_t count, const struct window *window, struct buf *expected)
{
	struct tally all = {0}, tally[ELEMENTSOF(nothing)];
	uint64_t unattributed = 0, servers = 0;
	const char *between = "";

	memcpy(tally, nothing, sizeof(nothing));
	for (size_t k = 0; k < count; k++) {
		unsigned index = program_index(found[k].id);

		tally_add(&tally[index], &found[k], window);
		tally_add(&all, &found[k], window);
		unattributed += index >= 2;
		servers += past_is_server(&found[k], window);
	}
	qsort(tally, ELEMENTSOF(tally), sizeof(*tally), compare_tally);
	assert_int_equal(buf_append_string(expected, "\"programs\":["), 0);
	for (size_t k = 0; k < ELEMENTSOF(tally) && tally[k].claims; k++) {
		append_tally(&tally[k], between, expected);
		between = ",";
	}
	assert_int_equal(buf_append_format(expected,
				 "],\"claims\":%llu,\"ports\":%llu,\"unattributed\":%llu,"
				 "\"omitted\":0",
				 (unsigned long long)count, (unsigned long long)all.ports,
				 (unsigned long long)unattributed),
		0);
	return servers;
}

static void test_audit(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	uint64_t all_servers = 0;

	fill_programs(f);
	for (unsigned i = 0; i < 60; i++) {
		_cleanup_(buf_done) struct buf text = {0}, expected = {0};
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		uint64_t servers = expect_audit(found, count, &q.window, &expected);
		char *listed;

		begin(f);
		assert_int_equal(query_audit(f->query, &q, AUDIT_BY_PROGRAM, &text, NULL), 0);
		query_end(f->query);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		assert_memory_equal(buf_bytes(&text), buf_bytes(&expected), buf_size(&expected));
		listed = strstr((char *)(uintptr_t)buf_bytes(&text), ",\"servers\":[");
		assert_non_null(listed);
		all_servers += servers;
		assert_int_equal(count_text(listed, "{\"port\":") +
					 strtoul(strstr(listed, "servers_omitted") + 17, NULL, 10),
			servers);
	}
	assert_true(all_servers > 60); /* it was about something */
	free(found);
}

/* The same claims, by something else: every sum is the same, and each has its own names. */
static void test_audit_by(void **state)
{
	static const struct {
		enum audit_by by;
		const char *text;
	} cases[] = {
		{AUDIT_BY_UNIT, "\"unit\":\"u\",\"uid\":null"},
		{AUDIT_BY_USER, "\"unit\":null,\"uid\":7"},
		{AUDIT_BY_PORT, "\"port\":32770,\"protocol\":\"udp\""},
		{AUDIT_BY_HOUR, "\"hour_usec\":1789999200000000"},
		{AUDIT_BY_NETNS, "\"netns\":null"},
	};
	const struct question q = {.filter = FILTER_ANY,
		.window = {HISTORY_START, HISTORY_START + HISTORY_LENGTH},
		.rows = ROWS_ALL};
	struct fixture *f = *state;

	fill_programs(f);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		uint64_t sum = 0, all;
		usec_t first;

		begin(f);
		assert_int_equal(query_audit(f->query, &q, cases[i].by, &text, NULL), 0);
		assert_int_equal(
			query_count(f->query,
				&(struct question){
					.filter = FILTER_ANY, .window = q.window, .rows = ROWS_ALL},
				&all, &first),
			0);
		query_end(f->query);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		if (!strstr((const char *)buf_bytes(&text), cases[i].text))
			fail_msg("no %s in %.2000s", cases[i].text, (const char *)buf_bytes(&text));
		for (const char *at = (const char *)buf_bytes(&text);
			(at = strstr(at, "\"user\":null,\"claims\":")); at++)
			sum += strtoull(at + strlen("\"user\":null,\"claims\":"), NULL, 10);
		assert_int_equal(sum, all);
	}
}

/* Why there is no process; a program that is known for longer than its claims are kept; two namespaces of one inode. */
static void test_audit_reasons(void **state)
{
	_cleanup_(buf_done) struct buf text = {0}, netns = {0};
	struct fixture *f = *state;
	const struct question q = {.filter = FILTER_ANY, .window = {100, 200}, .rows = ROWS_ALL};
	const char *t;

	history_sql(&f->history,
		"INSERT INTO netns VALUES(1,1,77,5,'a',0,0),(2,2,77,5,'a',0,0),(3,2,78,5,NULL,0,0);"
		"INSERT INTO local VALUES(1,1,''),(2,2,''),(3,3,'');"
		"INSERT INTO known VALUES(1,-1,0,'/old',0,50),(2,-1,0,'/new',0,150);"
		"INSERT INTO app VALUES(1,'/old',0,'o',0,NULL,NULL,120),(2,'/new',0,'n',0,NULL,NULL,150),"
		"(3,NULL,0,NULL,7,NULL,NULL,1);"
		"INSERT INTO process VALUES(1,1,1,5,1,NULL,NULL,NULL,1),(2,2,1,6,1,NULL,NULL,NULL,1),"
		"(3,3,1,NULL,NULL,NULL,NULL,NULL,1);"
		/* the first two have processes; then destroy, preexisting, uid, none, kernel */
		"INSERT INTO claim_open VALUES(1,1,1,40000,110,0,NULL,NULL,NULL,1<<12,NULL,NULL,1),"
		"(2,1,1,40001,110,0,NULL,NULL,NULL,2<<12,NULL,NULL,2),"
		"(3,1,1,40002,110,0,NULL,NULL,NULL,(3<<12)|(1<<8),NULL,NULL,3),"
		"(4,1,1,40003,110,0,NULL,NULL,NULL,1024|(5<<5),NULL,NULL,3),"
		"(5,1,1,40004,110,0,NULL,NULL,NULL,5<<5,NULL,NULL,3),"
		"(6,1,1,40005,110,0,NULL,NULL,NULL,0,NULL,NULL,NULL),"
		"(7,1,1,40006,110,0,NULL,NULL,NULL,6<<5,NULL,NULL,NULL)");
	begin(f);
	assert_int_equal(query_audit(f->query, &q, AUDIT_BY_PROGRAM, &text, NULL), 0);
	assert_int_equal(query_audit(f->query, &q, AUDIT_BY_NETNS, &netns, NULL), 0);
	query_end(f->query);
	assert_int_equal(buf_put_u8(&text, 0), 0);
	assert_int_equal(buf_put_u8(&netns, 0), 0);
	t = (const char *)buf_bytes(&text);
	assert_non_null(strstr(t,
		"\"unattributed\":4,\"omitted\":0,\"failures\":null,\"reasons\":{\"end-only\":1,"
		"\"before\":1,\"no-holder\":1,\"not-looked\":1}"));
	t = strstr(t, "\"exe\":\"/old\"");
	assert_non_null(t);
	assert_non_null(strstr(t, "\"new\":"));
	assert_memory_equal(strstr(t, "\"new\":"), "\"new\":false", strlen("\"new\":false"));
	t = strstr((const char *)buf_bytes(&text), "\"exe\":\"/new\"");
	assert_non_null(t);
	assert_memory_equal(strstr(t, "\"new\":"), "\"new\":true", strlen("\"new\":true"));
	/* those with the cookie 77 are one, over two sessions; the other of that inode is not; four have none */
	t = (const char *)buf_bytes(&netns);
	assert_int_equal(count_text(t, "\"netns\":5,\"netns_name\":\"a\""), 1);
	assert_int_equal(count_text(t, "\"netns\":5,\"netns_name\":null"), 1);
	assert_int_equal(count_text(t, "\"netns\":null"), 1);
}

/* Of some sockets no more is known than their cgroup: that is no program, neither a second one nor a new one. */
static void test_audit_nobody(void **state)
{
	_cleanup_(buf_done) struct buf text = {0};
	struct fixture *f = *state;
	const struct question q = {.filter = FILTER_ANY, .window = {100, 200}, .rows = ROWS_ALL};

	history_sql(&f->history,
		"INSERT INTO app VALUES(1,NULL,0,NULL,NULL,NULL,'/a',150),(2,NULL,0,NULL,NULL,NULL,'/b',150);"
		"INSERT INTO process VALUES(1,1,1,NULL,NULL,NULL,NULL,NULL,1),(2,2,1,NULL,NULL,NULL,NULL,NULL,1);"
		"INSERT INTO claim_open VALUES(1,1,1,40000,150,0,NULL,NULL,NULL,0,NULL,NULL,1),"
		"(2,1,1,40001,150,0,NULL,NULL,NULL,0,NULL,NULL,2),"
		"(3,1,1,40002,150,0,NULL,NULL,NULL,0,NULL,NULL,NULL)");
	begin(f);
	assert_int_equal(query_audit(f->query, &q, AUDIT_BY_PROGRAM, &text, NULL), 0);
	query_end(f->query);
	assert_int_equal(buf_put_u8(&text, 0), 0);
	assert_int_equal(count_text((const char *)buf_bytes(&text), "\"exe\":null"), 1);
	assert_non_null(
		strstr((const char *)buf_bytes(&text), "\"claims\":3,\"ports\":3,\"remotes\":0,"));
	assert_non_null(strstr((const char *)buf_bytes(&text), "\"new\":false"));
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
	assert_int_equal(query_audit(f->query, &q, AUDIT_BY_PROGRAM, &text, NULL), 0);
	query_end(f->query);
	assert_text(&text,
		"\"programs\":[{\"exe\":\"/d\",\"comm\":\"d\",\"unit\":null,\"uid\":0,\"user\":null,"
		"\"claims\":1,\"ports\":1,\"remotes\":0,\"failures\":null,\"first_usec\":100,"
		"\"last_usec\":200,\"new\":false,\"connected\":0,\"listening\":1,\"bound\":0,"
		"\"accepted\":0,\"shortest_usec\":null,\"longest_usec\":110,\"busiest_usec\":null,"
		"\"slots\":[],\"port\":null,\"protocol\":null,\"netns\":null,\"netns_name\":null,"
		"\"hour_usec\":null,\"remotes_estimated\":false,\"lives_estimated\":false}],\"claims\":1,\"ports\":1,\"unattributed\":0,"
		"\"omitted\":0,\"failures\":null,\"reasons\":{},\"servers\":[],\"servers_omitted\":0");
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
		"INSERT INTO netns VALUES(1,1,77,4026531840,'blue',0,0);INSERT INTO local VALUES(3,1,'::1');"
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
		"\"until_usec\":null}],\"exe_note\":\"deleted\",\"count\":1,\"ports\":null}");
	assert_row_json(f, 2,
		"{\"port\":32768,\"protocol\":\"tcp\",\"family\":\"ipv4\",\"netns\":null,"
		"\"netns_name\":null,\"local_address\":null,\"remote_address\":null,"
		"\"remote_port\":null,\"role\":\"connected\",\"opened_usec\":5,"
		"\"opened_after_usec\":null,\"closed_usec\":null,\"closed_after_usec\":null,"
		"\"released_usec\":null,\"pid\":null,\"comm\":null,\"exe\":null,"
		"\"uid\":null,\"user\":null,\"unit\":null,\"cgroup\":null,\"parent_pid\":null,"
		"\"parent_comm\":null,\"attribution\":\"none\",\"source\":\"sweep\",\"holders\":[],\"exe_note\":null,\"count\":1,\"ports\":null}");
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
		cmocka_unit_test_setup_teardown(test_audit_remotes, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_audit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_audit_by, setup, teardown),
		cmocka_unit_test_setup_teardown(test_audit_reasons, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_audit_nobody, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_audit_credit, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_row_json, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
