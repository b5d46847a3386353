/* SPDX-License-Identifier: MIT */

/* Who uses ports up, who takes those of servers, and what programs do with them: a random history, in segments and not, against a look at each claim. */

#include "daemon/control/query_ports.h"
#include "tests/unit/query-oracle.h"

#define WINDOWS full_or(150, 30)

#define OWN          4026531840u
#define LOCAL_BESIDE 3     /* the local address that is in another namespace, */
#define BESIDE_HIGH  32868 /* which hands out from the same port to this one */

static const struct kernel_ports known = {.netns = OWN, .range = {32768, 33167}};

/* A destination of the made-up history, as its oracle sees it. */
struct destination {
	int64_t local, raddr, rport;
};

static bool is_of(const struct past *p, const struct destination *d)
{
	return (p->meta & META_PROTOCOL_MASK) == PROTOCOL_TCP &&
	       (p->meta >> META_ROLE_SHIFT & META_ROLE_MASK) == ROLE_CONNECTED &&
	       p->raddr == d->raddr && p->rport == d->rport &&
	       (p->meta >> META_LOCAL_SHIFT & META_LOCAL_MASK) == d->local &&
	       (d->local != LOCAL_BESIDE || p->port <= BESIDE_HIGH);
}

static int64_t opened_in(const struct past *p, struct window w)
{
	return MIN(p->opened, (int64_t)w.until);
}

/* How many ports (`claims` false) or claims were under way at `at`. */
static int64_t under_way(
	const struct past *found, size_t count, struct window w, int64_t at, bool claims)
{
	uint8_t on[UINT16_MAX + 1] = {0};
	int64_t taken = 0;

	for (size_t i = 0; i < count; i++) {
		if (opened_in(&found[i], w) > at || past_released(&found[i]) <= at)
			continue;
		taken += claims || !on[found[i].port];
		on[found[i].port] = 1;
	}
	return taken;
}

struct expected {
	int64_t used, peak, claims;
};

static struct expected expect(const struct past *found, size_t count, struct window w)
{
	int64_t from = (int64_t)w.from, until = (int64_t)w.until;
	struct expected e = {.used = under_way(found, count, w, until, false),
		.peak = under_way(found, count, w, from, false)};

	for (size_t i = 0; i < count; i++) {
		int64_t opened = opened_in(&found[i], w);

		e.claims += opened >= from && !(found[i].meta >> META_PREEXISTING_SHIFT & 1);
		if (opened > from)
			e.peak = MAX(e.peak, under_way(found, count, w, opened, false));
	}
	return e;
}

static int64_t value(sqlite3_stmt *s, int column)
{
	return sqlite3_column_int64(s, column);
}

/* One row of an answer. */
static void check_row(
	const struct past *all, size_t count, struct window w, sqlite3_stmt *s, struct past *found)
{
	struct destination d = {value(s, 0), value(s, 1), value(s, 2)};
	struct expected e;
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (is_of(&all[i], &d))
			found[n++] = all[i];
	e = expect(found, n, w);
	assert_int_equal(value(s, 3), e.used);
	assert_int_equal(value(s, 4), e.peak);
	assert_int_equal(value(s, 5), e.claims);
	/* nobody is known in this history, so they are all one opener's */
	assert_int_equal(value(s, 7), under_way(found, n, w, value(s, 6), true));
	assert_int_equal(value(s, 8), d.local == LOCAL_BESIDE ? BESIDE_HIGH : known.range.high);
}

static size_t count_destinations(
	const struct past *all, size_t count, struct window w, struct past *found)
{
	size_t destinations = 0;

	for (int64_t local = 1; local <= 3; local++)
		for (int64_t raddr = 0x0a000000; raddr < 0x0a000005; raddr++)
			for (int64_t rport = 443; rport <= 444; rport++) {
				struct destination d = {local, raddr, rport};
				size_t n = 0;

				for (size_t i = 0; i < count; i++)
					if (is_of(&all[i], &d))
						found[n++] = all[i];
				destinations += n > 0 && expect(found, n, w).peak > 0;
			}
	return destinations;
}

/* The answer as rows: which destination, and what is said of it. */
static sqlite3_stmt *open_answer(struct fixture *f, const struct buf *text)
{
	sqlite3_stmt *s;

	assert_int_equal(
		sqlite3_prepare_v2(f->history.db,
			"SELECT r.value->>'local_address',"
			"(SELECT 167772160+CAST(substr(r.value->>'remote_address',8) AS INT)),"
			"r.value->>'remote_port',r.value->>'used',r.value->>'peak',r.value->>'claims',"
			"r.value->>'peak_usec',r.value->>'$.openers[0].claims',r.value->>'high'"
			" FROM json_each(?1,'$.pressure') r WHERE r.value->>'scope'='destination'",
			-1, &s, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_bind_text(s, 1, (const char *)buf_bytes(text), (int)buf_size(text),
				 SQLITE_STATIC),
		SQLITE_OK);
	return s;
}

/* Addresses by which the locals of the history can be told apart: "1", "2", "3". */
static void name_locals(struct fixture *f)
{
	history_sql(&f->history, "INSERT INTO netns VALUES(1,1,7,4026531840,NULL,1,2),"
				 "(2,1,8,5,'beside',32768,32868);"
				 "INSERT INTO local VALUES(1,1,'1'),(2,1,'2'),(3,2,'3')");
}

#define CROWD full_or(150000, LIMIT_PRESSURE_GROUPS + 3000) /* more than LIMIT_PRESSURE_GROUPS */

/* A claim of a destination that is one of many. */
static void crowd_claim(
	struct fixture *f, uint32_t destination, uint32_t port, uint32_t at, int64_t dur)
{
	const struct past p = {.in = IN_HOT,
		.id = (int64_t)f->history.next_hot,
		.port = 32768 + port,
		.opened = HISTORY_START + 1000 * (int64_t)at,
		.opened_slack = NOT_KNOWN,
		.dur = dur,
		.closed_slack = NOT_KNOWN,
		.linger = NOT_KNOWN,
		.meta = (int64_t)1 << META_LOCAL_SHIFT,
		.rport = 443,
		.raddr = 0x0a000000u + destination};

	past_insert(&f->history, &p, 0, 0);
}

/* More destinations than are told apart, one after the other or (before a commit, by chance) all at once: the fullest are found, exactly, and of those that
 * were dropped it is said how full they were at most. */
static void check_crowd(struct fixture *f, int64_t dur)
{
	const struct window w = {(usec_t)HISTORY_START - 1, (usec_t)HISTORY_START + USEC_PER_HOUR};
	const struct filter any = FILTER_ANY;
	static const struct {
		uint32_t first, ports, every; /* a claim each so many of the others */
	} full[] = {{10, 40, 1}, {11, 30, 4000}, {12, 20, 1000}};
	_cleanup_(buf_done) struct buf text = {0};
	int64_t told = 0, least;
	sqlite3_stmt *s;

	history_sql(&f->history, "BEGIN");
	for (uint32_t i = 0; i < CROWD; i++) {
		crowd_claim(f, 1000 + i, i % 400, i, dur);
		for (size_t k = 0; k < ELEMENTSOF(full); k++)
			if (i % full[k].every == 0 && i / full[k].every < full[k].ports)
				crowd_claim(f, full[k].first, i / full[k].every, i,
					(int64_t)USEC_PER_HOUR * 2);
	}
	history_sql(&f->history, "COMMIT");
	begin(f);
	assert_int_equal(buf_append_string(&text, "{"), 0);
	assert_int_equal(query_pressure(f->query, &any, w, &known, 3, &text), 0);
	assert_int_equal(buf_append_string(&text, "}"), 0);
	query_end(f->query);
	s = open_answer(f, &text);
	for (; sqlite3_step(s) == SQLITE_ROW; told++) {
		assert_int_equal(value(s, 1), 167772160 + full[told].first);
		assert_int_equal(value(s, 3), full[told].ports);
		assert_int_equal(value(s, 4), full[told].ports);
		assert_int_equal(value(s, 5), full[told].ports);
	}
	(void)sqlite3_finalize(s);
	assert_int_equal(told, ELEMENTSOF(full));
	assert_int_equal(buf_put_u8(&text, 0), 0);
	assert_non_null(strstr((char *)text.data, "\"least_peak\":"));
	least = strtoll(
		strstr((char *)text.data, "\"least_peak\":") + strlen("\"least_peak\":"), NULL, 10);
	assert_in_range(least, 1, 19);
	assert_true(strtoull(strstr((char *)text.data, "\"omitted\":") + strlen("\"omitted\":"),
			    NULL, 10) >= CROWD);
}

static void test_pressure_of_a_crowd(void **state)
{
	struct fixture *f = *state;
	const bool both = is_full(), first = both || chance_below(2) == 0;

	name_locals(f);
	if (first)
		check_crowd(f, 500);
	history_sql(&f->history, "DELETE FROM claim_hot");
	if (both || !first)
		check_crowd(f, (int64_t)USEC_PER_HOUR * 2);
}

static void test_pressure(void **state)
{
	struct fixture *f = *state;
	struct past *all = calloc(CLAIMS, sizeof(*all)), *found = calloc(CLAIMS, sizeof(*found));
	size_t rows = 0;

	assert_true(all && found);
	name_locals(f);
	for (unsigned i = 0; i < WINDOWS; i++) {
		struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
		_cleanup_(buf_done) struct buf text = {0};
		size_t told = 0, count;
		sqlite3_stmt *s;
		int64_t port;

		q.window.from = random_time(&f->history, &port);
		q.window.until = MAX(q.window.from + 1, random_time(&f->history, &port));
		count = oracle(&f->history, &q, all);
		begin(f);
		assert_int_equal(buf_append_string(&text, "{"), 0);
		assert_int_equal(query_pressure(f->query, &q.filter, q.window, &known,
					 LIMIT_PRESSURE_ROWS, &text),
			0);
		assert_int_equal(buf_append_string(&text, "}"), 0);
		query_end(f->query);
		s = open_answer(f, &text);
		for (; sqlite3_step(s) == SQLITE_ROW; told++)
			check_row(all, count, q.window, s, found);
		(void)sqlite3_finalize(s);
		assert_int_equal(told, count_destinations(all, count, q.window, found));
		rows += told;
	}
	assert_true(rows > WINDOWS * 5);
	free(all);
	free(found);
}

static bool is_beside(const struct past *p)
{
	return (p->meta >> META_LOCAL_SHIFT & META_LOCAL_MASK) == LOCAL_BESIDE;
}

/* A server of the history, and what is to be said of it. */
static void check_listener(struct fixture *f, struct window w, sqlite3_stmt *s)
{
	const struct history *h = &f->history;
	int64_t sockets = 0, tenures = 0, collisions = 0, last = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct past *p = &h->past[i];
		int64_t role = p->meta >> META_ROLE_SHIFT & META_ROLE_MASK;

		if (p->port != value(s, 0) || (p->meta & META_PROTOCOL_MASK) != PROTOCOL_TCP ||
			is_beside(p) != (value(s, 5) != OWN))
			continue;
		sockets += p->in == IN_OPEN && role == ROLE_LISTENING;
		if (!past_touches(p, (int64_t)w.from, (int64_t)w.until))
			continue;
		tenures += role == ROLE_LISTENING;
		collisions += role == ROLE_CONNECTED;
		if (role == ROLE_CONNECTED)
			last = MAX(last, p->opened);
	}
	assert_int_equal(value(s, 1), sockets);
	assert_int_equal(value(s, 2), tenures);
	assert_int_equal(value(s, 3), collisions);
	assert_int_equal(value(s, 4), last);
}

static size_t count_servers(const struct history *h)
{
	uint8_t on[UINT16_MAX + 1][2] = {{0}};
	size_t count = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct past *p = &h->past[i];

		if (is_beside(p) && p->port > BESIDE_HIGH)
			continue;
		if (p->in != IN_OPEN || (p->meta & META_PROTOCOL_MASK) != PROTOCOL_TCP ||
			(p->meta >> META_ROLE_SHIFT & META_ROLE_MASK) != ROLE_LISTENING)
			continue;
		count += !on[p->port][is_beside(p)];
		on[p->port][is_beside(p)] = 1;
	}
	return count;
}

static void test_listeners(void **state)
{
	struct fixture *f = *state;

	name_locals(f);
	for (unsigned i = 0; i < 20; i++) {
		_cleanup_(buf_done) struct buf text = {0};
		struct filter any = FILTER_ANY;
		struct window w;
		sqlite3_stmt *s;
		size_t told = 0;
		int64_t port;

		w.from = random_time(&f->history, &port);
		w.until = MAX(w.from + 1, random_time(&f->history, &port));
		any.protocol = PROTOCOL_TCP;
		begin(f);
		assert_int_equal(buf_append_string(&text, "{"), 0);
		assert_int_equal(query_listeners(f->query, &any, 0, w, &known, &text), 0);
		assert_int_equal(buf_append_string(&text, "}"), 0);
		query_end(f->query);
		assert_int_equal(sqlite3_prepare_v2(f->history.db,
					 "SELECT r.value->>'port',r.value->>'sockets',"
					 "r.value->>'tenures',r.value->>'collisions',"
					 "ifnull(r.value->>'collision_usec',0),r.value->>'netns'"
					 " FROM json_each(?1,'$.listeners') r",
					 -1, &s, NULL),
			SQLITE_OK);
		assert_int_equal(sqlite3_bind_text(s, 1, (const char *)buf_bytes(&text),
					 (int)buf_size(&text), SQLITE_STATIC),
			SQLITE_OK);
		for (; sqlite3_step(s) == SQLITE_ROW; told++)
			check_listener(f, w, s);
		(void)sqlite3_finalize(s);
		assert_int_equal(told, count_servers(&f->history));
		assert_true(told > 5);
	}
}

#define PROGRAMS 7

/* Who opened what: claim n is of the program n % PROGRAMS, and some of them of nobody. */
static void name_programs(struct fixture *f)
{
	for (int i = 0; i < PROGRAMS; i++) {
		char sql[256];

		(void)snprintf(sql, sizeof(sql),
			"INSERT INTO app VALUES(%d,'/bin/%d',0,'c%d',%d,'u%d',NULL,%d),"
			"(%d,'/bin/%d',0,'d%d',NULL,NULL,NULL,5)",
			2 * i + 1, i, i, i, i, 10 + i, 2 * i + 2, i, i);
		history_sql(&f->history, sql);
	}
	history_sql(&f->history,
		"INSERT INTO process(id,app,session,pid,last_seen_usec)"
		" WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5500)"
		" SELECT i,1+2*(i%7)+(i%2),1,100,i FROM n");
}

static int program_of(const struct past *p)
{
	return p->id <= 5500 ? (int)(p->id % PROGRAMS) : -1;
}

static void check_app(const struct past *all, size_t count, sqlite3_stmt *s)
{
	uint32_t on[UINT16_MAX + 1] = {0}, most = 0;
	int64_t claims = 0, ports = 0, roles[4] = {0};

	for (size_t i = 0; i < count; i++) {
		if (program_of(&all[i]) != value(s, 0))
			continue;
		claims++;
		ports += on[all[i].port]++ == 0;
		most = MAX(most, on[all[i].port]);
		roles[all[i].meta >> META_ROLE_SHIFT & META_ROLE_MASK]++;
	}
	assert_int_equal(value(s, 1), claims);
	assert_int_equal(value(s, 2), ports);
	for (int role = 0; role < 4; role++)
		assert_int_equal(value(s, 3 + role), roles[role]);
	assert_int_equal(value(s, 7), 5);  /* first seen: of either of its rows */
	assert_int_equal(value(s, 8), 1);  /* one unit, */
	assert_int_equal(value(s, 9), 1);  /* one user, */
	assert_int_equal(value(s, 10), 2); /* two names of processes */
	assert_int_equal(value(s, 11), most > 1 ? most : 0);
}

static void test_apps(void **state)
{
	struct fixture *f = *state;
	struct past *all = calloc(CLAIMS, sizeof(*all));

	assert_non_null(all);
	name_locals(f);
	name_programs(f);
	for (unsigned i = 0; i < WINDOWS; i++) {
		struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
		_cleanup_(buf_done) struct buf text = {0};
		size_t told = 0, count;
		sqlite3_stmt *s;
		int64_t port;

		q.window.from = random_time(&f->history, &port);
		q.window.until = MAX(q.window.from + 1, random_time(&f->history, &port));
		count = oracle(&f->history, &q, all);
		begin(f);
		assert_int_equal(buf_append_string(&text, "{"), 0);
		assert_int_equal(query_apps(f->query, &q.filter, q.window, NULL, false,
					 (usec_t)(HISTORY_START + HISTORY_LENGTH), &text),
			0);
		assert_int_equal(buf_append_string(&text, "}"), 0);
		query_end(f->query);
		assert_int_equal(
			sqlite3_prepare_v2(f->history.db,
				"SELECT CAST(substr(r.value->>'name',6) AS INT),r.value->>'claims',"
				"r.value->>'ports',r.value->>'connected',r.value->>'listening',"
				"r.value->>'bound',r.value->>'accepted',r.value->>'first_usec',"
				"json_array_length(r.value->'units'),json_array_length(r.value->'uids'),"
				"json_array_length(r.value->'comms'),"
				"ifnull(r.value->>'$.preferred[0].claims',0)"
				" FROM json_each(?1,'$.apps') r",
				-1, &s, NULL),
			SQLITE_OK);
		assert_int_equal(sqlite3_bind_text(s, 1, (const char *)buf_bytes(&text),
					 (int)buf_size(&text), SQLITE_STATIC),
			SQLITE_OK);
		for (; sqlite3_step(s) == SQLITE_ROW; told++)
			check_app(all, count, s);
		(void)sqlite3_finalize(s);
		assert_int_equal(told, PROGRAMS);
	}
	free(all);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pressure_of_a_crowd, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_listeners, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
