/* SPDX-License-Identifier: MIT */

/* Floods at random, coalesced and asked for: every number equals what a loop over the claims gives. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/control/coverage.h"
#include "daemon/control/query_fold.h"
#include "daemon/control/query_ports.h"
#include "tests/support/store_fixture.h"

#define ROUNDS    6u
#define FLOODS    24u
#define FLOOD_MAX 400u
#define ABOVE     60u
#define CLAIMS    (ROUNDS * FLOODS * FLOOD_MAX)
#define PORT_LOW  50000u
#define PORTS     300u

/* A claim as it was put. */
struct made {
	uint64_t like; /* those with the same number are alike */
	int64_t second;
	uint64_t opened, closed, released;
	unsigned round;
	int32_t pid;
	uint16_t port;
	uint8_t role;
	bool eligible;
};

struct world {
	struct fixture *f;
	struct query *query;
	struct made *made;
	size_t count;
	struct process *processes[FIXTURE_PROCESSES];
};

static const struct settings settings = {.max_age_usec = 3650 * USEC_PER_DAY,
	.max_bytes = UINT64_C(1) << 30,
	.activity_hour_usec = 3650 * USEC_PER_DAY,
	.activity_day_usec = 3650 * USEC_PER_DAY,
	.user_share_permille = 500,
	.coalesce_above = ABOVE};

static void note(struct world *w, const struct claim *c, unsigned round, uint64_t like)
{
	struct made *m = &w->made[w->count++];

	*m = (struct made){
		.like = like,
		.second = (int64_t)(c->opened_wall / USEC_PER_SEC),
		.opened = c->opened_wall,
		.closed = c->opened_wall + (c->closed_boot - c->opened_boot),
		.released = c->opened_wall + (c->released_boot - c->opened_boot),
		.round = round,
		.pid = c->opener->pid,
		.port = c->local.port,
		.role = c->role,
		.eligible = c->holder_count == 0 && c->role != ROLE_LISTENING &&
			    c->closed_boot - c->opened_boot < USEC_PER_MINUTE,
	};
	/* the store keeps milliseconds of what is lingered */
	m->released = m->closed + (m->released - m->closed + 999) / 1000 * 1000;
	m->eligible = m->eligible && m->opened / USEC_PER_HOUR == m->released / USEC_PER_HOUR;
}

/* So many like claims; now and then one that says more than the others. */
static void put_flood(struct world *w, unsigned round, unsigned flood)
{
	struct fixture *f = w->f;
	unsigned n = 1 + (unsigned)fixture_random(f, FLOOD_MAX);
	struct process *p = w->processes[fixture_random(f, FIXTURE_PROCESSES)];
	uint16_t remote = (uint16_t)(1000 + flood);
	uint8_t role = (uint8_t)fixture_random(f, ROLE_COUNT);
	uint64_t spread = fixture_random(f, 3) == 0 ? 1 : 3 * USEC_PER_SEC;

	for (unsigned i = 0; i < n; i++) {
		struct claim c = fixture_claim(
			f, (uint16_t)(PORT_LOW + fixture_random(f, flood % 4 ? PORTS : 3)));

		c.remote.port = remote;
		c.role = role;
		c.opener = process_ref(p);
		c.opened_after_boot = USEC_UNSET;
		c.closed_after_boot = USEC_UNSET;
		c.opened_boot += fixture_random(f, spread);
		c.opened_wall += c.opened_boot - f->now.boot;
		c.closed_boot = c.opened_boot + fixture_random(f, 20000);
		if (fixture_random(f, 50) == 0)
			c.closed_boot += 2 * USEC_PER_MINUTE;
		c.released_boot = c.closed_boot + (flood % 2 ? 60000000 : 0);
		if (fixture_random(f, 50) == 0) {
			c.holder_count = 1;
			c.holders = calloc(1, sizeof(*c.holders));
			assert_non_null(c.holders);
			c.holders[0] = (struct holder){.process = process_ref(w->processes[0]),
				.from_boot = c.opened_boot,
				.until_boot = USEC_UNSET};
		}
		assert_int_equal(store_put_released(f->store, &c), 0);
		note(w, &c, round, (uint64_t)round * FLOODS + flood);
		claim_done(&c);
	}
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char path[128];
	void *fixture = NULL;

	assert_non_null(w);
	assert_int_equal(fixture_setup_open(&fixture), 0);
	w->f = fixture;
	w->made = calloc(CLAIMS, sizeof(*w->made));
	assert_non_null(w->made);
	snprintf(path, sizeof(path), "%s/%s", w->f->path, SCHEMA_FILE);
	assert_int_equal(query_new(path, &w->query), 0);
	fixture_processes(w->processes);
	store_settings(w->f->store, &settings);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned flood = 0; flood < FLOODS; flood++)
			put_flood(w, round, flood);
		commit(w->f);
		seal_all(w->f);
		w->f->now.boot += 25 * USEC_PER_MINUTE;
		w->f->now.wall += 25 * USEC_PER_MINUTE;
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	void *fixture = w->f;

	w->query = query_free(w->query);
	processes_done(w->processes);
	free(w->made);
	free(w);
	return fixture_teardown(&fixture);
}

/* ---- what the table must say ---- */

static int compare_made(const void *left, const void *right)
{
	const struct made *a = left, *b = right;
	const int64_t keys[][2] = {{!a->eligible, !b->eligible},
		{(int64_t)a->like, (int64_t)b->like}, {a->second, b->second}, {a->port, b->port}};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (keys[i][0] != keys[i][1])
			return keys[i][0] < keys[i][1] ? -1 : 1;
	return 0;
}

/* As a line of the query below. */
static void expect_together(struct buf *b, const struct made *m, size_t n)
{
	struct made all = *m;
	uint64_t shortest = UINT64_MAX, longest = 0, life = 0, last = 0;
	const char *between = "";

	for (size_t i = 0; i < n; i++) {
		all.opened = MIN(all.opened, m[i].opened);
		all.closed = MAX(all.closed, m[i].closed);
		all.released = MAX(all.released, m[i].released);
		last = MAX(last, m[i].opened);
		shortest = MIN(shortest, m[i].closed - m[i].opened);
		longest = MAX(longest, m[i].closed - m[i].opened);
		life += m[i].closed - m[i].opened;
	}
	assert_int_equal(
		buf_append_format(b, "%zu|%u|%llu|%llu|%llu|%llu|%llu|%llu|%llu|[", n, m->port,
			(unsigned long long)all.opened, (unsigned long long)(last - all.opened),
			(unsigned long long)all.closed, (unsigned long long)all.released,
			(unsigned long long)shortest, (unsigned long long)longest,
			(unsigned long long)life),
		0);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && m[i].port == m[i - 1].port)
			continue;
		assert_int_equal(buf_append_format(b, "%s%u", between, m[i].port), 0);
		between = ",";
	}
	assert_int_equal(buf_append_string(b, "]|\n"), 0);
}

static void test_rows(void **state)
{
	struct world *w = *state;
	_cleanup_(buf_done) struct buf expected = {0};
	_cleanup_(free_p) char *seen = NULL;
	_cleanup_(free_p) char **lines = NULL, **wanted = NULL;
	size_t eligible = 0, groups = 0, together = 0;
	char sql[256];

	qsort(w->made, w->count, sizeof(*w->made), compare_made);
	while (eligible < w->count && w->made[eligible].eligible)
		eligible++;
	for (size_t i = 0, end; i < eligible; i = end) {
		for (end = i + 1; end < eligible && w->made[end].like == w->made[i].like &&
				  w->made[end].second == w->made[i].second;)
			end++;
		if (end - i <= ABOVE)
			continue;
		expect_together(&expected, &w->made[i], end - i);
		together += end - i;
		groups++;
	}
	assert_true(groups > 50);
	assert_int_equal(buf_put_u8(&expected, 0), 0);
	seen = read_rows(w->f,
		"SELECT v.count,v.port,v.opened_usec,c.spread_usec,v.closed_usec,v.released_usec,"
		"c.shortest_usec,c.longest_usec,c.life_usec,v.ports FROM claims v JOIN coalesced c ON"
		" c.opened_usec=v.opened_usec AND c.released_usec=v.released_usec AND c.n=v.count AND"
		" c.port=v.port AND c.rport=v.remote_port WHERE v.count>1");
	assert_non_null(seen);
	assert_int_equal(sort_lines(seen, &lines), groups);
	assert_int_equal(sort_lines((char *)expected.data, &wanted), groups);
	for (size_t i = 0; i < groups; i++)
		assert_string_equal(lines[i], wanted[i]);
	/* the others are as they were, and each mark leads to one */
	assert_rows(w->f,
		"SELECT (SELECT count(*)>0 FROM claim_mark),(SELECT count(*) FROM claim_mark m WHERE m.seg>0 AND"
		" NOT EXISTS(SELECT 1 FROM claim_seg c JOIN segment s ON s.id=c.seg WHERE c.seg=m.seg AND"
		" c.port=m.port AND s.base_usec+c.rel=m.opened_usec AND c.claim=m.claim))",
		"1|0|\n");
	snprintf(sql, sizeof(sql), "%zu|%zu|\n", w->count - together, w->count);
	assert_rows(w->f, "SELECT sum(count=1),sum(count) FROM claims", sql);
	snprintf(sql, sizeof(sql), "%zu|\n", w->count);
	assert_rows(w->f, "SELECT sum(claims) FROM rollup_hour", sql);
	assert_rows(w->f,
		"SELECT count(*) FROM segment s WHERE n<>(SELECT count(*) FROM claim_seg WHERE seg=s.id)"
		"+(SELECT count(*) FROM coalesced WHERE seg=s.id)",
		"0|\n");
	/* and so are those of the last hour, and of the last day: of none and of all, as the clock has it */
	assert_rows(w->f,
		"SELECT (SELECT count(*) FROM claims_hour),(SELECT count(*) FROM claims_day)",
		"0|0|\n");
}

/* ---- what questions must answer ---- */

struct folded {
	uint64_t claims, role[ROLE_COUNT], on_port[UINT16_MAX + 1];
	usec_t first, last, shortest, longest;
};

static int fold(void *context, const struct fold_row *row)
{
	struct folded *f = context;
	usec_t life = row->closed - row->opened;

	assert_true(row->opened <= row->closed && row->closed <= row->released);
	f->claims++;
	f->role[row->role]++;
	f->on_port[row->port]++;
	f->first = MIN(f->first, row->opened);
	f->last = MAX(f->last, row->released);
	f->shortest = MIN(f->shortest, life);
	f->longest = MAX(f->longest, life);
	return 0;
}

static struct folded *new_folded(void)
{
	struct folded *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->first = f->shortest = USEC_UNSET;
	return f;
}

/* Of everything, and of each port alone: numbers, extremes, ports. */
static void test_sums(void **state)
{
	struct world *w = *state;
	struct question all = {
		.filter = FILTER_ANY, .window = {0, WALL_FOREVER / 2}, .rows = ROWS_ALL};
	struct folded *expected = new_folded();
	uint64_t count;
	usec_t first;

	for (size_t i = 0; i < w->count; i++) {
		const struct fold_row row = {.opened = w->made[i].opened,
			.closed = w->made[i].closed,
			.released = w->made[i].released,
			.port = w->made[i].port,
			.role = w->made[i].role};

		assert_int_equal(fold(expected, &row), 0);
	}
	assert_int_equal(query_begin(w->query, clock_now().boot + USEC_PER_HOUR), 0);
	for (unsigned ordered = 0; ordered < 2; ordered++) {
		struct folded *seen = new_folded();

		assert_int_equal(query_fold(w->query, &all, ordered, fold, seen), 0);
		assert_memory_equal(seen, expected, sizeof(*seen));
		free(seen);
	}
	assert_int_equal(query_count(w->query, &all, &count, &first), 0);
	assert_int_equal(count, w->count);
	assert_int_equal(first, expected->first);
	for (unsigned i = 0; i < PORTS; i += 7) {
		all.filter.ports[0] = (uint16_t)(PORT_LOW + i);
		all.filter.port_count = 1;
		assert_int_equal(query_count(w->query, &all, &count, &first), 0);
		assert_int_equal(count, expected->on_port[PORT_LOW + i]);
	}
	all.filter.port_count = 0;
	all.filter.range = (struct port_range){PORT_LOW + 100, PORT_LOW + 199};
	assert_int_equal(query_count(w->query, &all, &count, &first), 0);
	for (unsigned i = 100; i < 200; i++)
		count -= expected->on_port[PORT_LOW + i];
	assert_int_equal(count, 0);
	query_end(w->query);
	free(expected);
}

/* The number after `name` in a row's JSON text. */
static uint64_t json_number(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return strtoull(at + strlen(name), NULL, 10);
}

static bool lists(const char *text, uint16_t port)
{
	const char *ports = strstr(text, "\"ports\":[");
	char first[16], further[16];

	snprintf(first, sizeof(first), "[%u", port);
	snprintf(further, sizeof(further), ",%u", port);
	assert_non_null(ports);
	return strstr(ports, first) || strstr(ports, further);
}

/* Who had a port then: each that had it is in a row of its own, or in one that says of how many; and no row says anything of
 * another port. */
static void probe(struct world *w, uint16_t port, usec_t at)
{
	struct question question = {.filter = FILTER_ANY, .window = {at, at + 1}, .rows = ROWS_ALL};
	_cleanup_(rows_done) struct rows rows = {0};
	struct place place = PLACE_START;
	size_t there = 0, alone = 0, together = 0;

	question.filter.ports[0] = port;
	question.filter.port_count = 1;
	for (size_t i = 0; i < w->count; i++)
		there += w->made[i].port == port && w->made[i].opened <= at &&
			 w->made[i].released > at;
	assert_int_equal(query_rows(w->query, &question, 100000, &place, &rows), 0);
	for (size_t i = 0; i < rows.count; i++) {
		_cleanup_(buf_done) struct buf text = {0};
		uint64_t count;

		assert_int_equal(query_row_json(w->query, &rows.row[i], &text), 0);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		assert_int_equal(json_number((char *)text.data, "\"port\":"), port);
		count = json_number((char *)text.data, "\"count\":");
		if (count == 1) {
			alone++;
			continue;
		}
		assert_true(count > ABOVE && lists((char *)text.data, port));
		assert_true(json_number((char *)text.data, "\"opened_usec\":") <= at);
		assert_true(json_number((char *)text.data, "\"released_usec\":") > at);
		together += count;
	}
	assert_true(alone <= there);
	assert_true(there - alone <= together);
}

static void test_who(void **state)
{
	struct world *w = *state;

	assert_int_equal(query_begin(w->query, clock_now().boot + USEC_PER_HOUR), 0);
	for (unsigned i = 0; i < 300; i++) {
		const struct made *m = &w->made[fixture_random(w->f, w->count)];

		probe(w, m->port, m->opened);
		probe(w, m->port, m->opened + fixture_random(w->f, m->released - m->opened + 1));
		probe(w, (uint16_t)(PORT_LOW + fixture_random(w->f, PORTS)),
			w->made[0].opened + fixture_random(w->f, 3 * USEC_PER_HOUR));
	}
	query_end(w->query);
}

/* A row shows a port that was asked for: of a range, or of several ports, the lowest that it has. */
static void test_shown_port(void **state)
{
	struct world *w = *state;
	size_t rows_seen = 0;

	assert_int_equal(query_begin(w->query, clock_now().boot + USEC_PER_HOUR), 0);
	for (unsigned i = 0; i < 60; i++) {
		struct question question = {
			.filter = FILTER_ANY, .window = {0, WALL_FOREVER / 2}, .rows = ROWS_ALL};
		struct filter *f = &question.filter;
		_cleanup_(rows_done) struct rows rows = {0};
		struct place place = PLACE_START;
		uint16_t low = (uint16_t)(PORT_LOW + fixture_random(w->f, PORTS)),
			 high = (uint16_t)(low + fixture_random(w->f, 20));

		if (i % 3 != 1)
			f->range = (struct port_range){low, high};
		if (i % 3 != 0)
			for (unsigned port = PORT_LOW + 7; f->port_count < 10; port += 29)
				f->ports[f->port_count++] = (uint16_t)port;
		assert_int_equal(query_rows(w->query, &question, 10000, &place, &rows), 0);
		rows_seen += rows.count;
		for (size_t k = 0; k < rows.count; k++) {
			uint16_t port = (uint16_t)rows.row[k].column[ROW_PORT];

			assert_true(i % 3 == 1 || (port >= low && port <= high));
			assert_true(i % 3 == 0 || (port - PORT_LOW) % 29 == 7);
		}
	}
	query_end(w->query);
	assert_true(rows_seen > 0);
}

/* In the order of release, page by page, each row comes once, and they stand for all. */
static void test_released(void **state)
{
	struct world *w = *state;
	const struct filter any = FILTER_ANY;
	_cleanup_(rows_done) struct rows rows = {0};
	struct release_place place = {0};
	size_t before = SIZE_MAX;
	uint64_t claims = 0;

	assert_int_equal(query_begin(w->query, clock_now().boot + USEC_PER_HOUR), 0);
	while (rows.count != before) {
		before = rows.count;
		assert_int_equal(
			query_released(w->query, &any, WALL_FOREVER / 2, 97, &place, &rows), 0);
	}
	for (size_t i = 0; i < rows.count; i++) {
		_cleanup_(buf_done) struct buf text = {0};

		assert_true(i == 0 || rows.row[i - 1].column[ROW_RELEASED_USEC] <=
					      rows.row[i].column[ROW_RELEASED_USEC]);
		assert_int_equal(query_row_json(w->query, &rows.row[i], &text), 0);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		claims += json_number((char *)text.data, "\"count\":");
	}
	assert_int_equal(claims, w->count);
	query_end(w->query);
}

/* The receipt says how many are told together, in all and of one port. */
static void test_receipt(void **state)
{
	struct world *w = *state;
	struct filter asked = FILTER_ANY;
	const struct window all = {0, WALL_FOREVER / 2};
	static const struct {
		const char *sql;
		uint16_t port;
	} cases[] = {{"SELECT sum(n) FROM coalesced", 0},
		{"SELECT sum(n) FROM coalesced WHERE hex(ports) LIKE '%C3D5%'", 0xC3D5},
		{NULL, 40000}};

	assert_int_equal(query_begin(w->query, clock_now().boot + USEC_PER_HOUR), 0);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		_cleanup_(free_p) char *sum = NULL;
		uint64_t claims = 0;
		const char *at;

		asked.ports[0] = cases[i].port;
		asked.port_count = cases[i].port > 0;
		assert_int_equal(
			coverage_receipt(w->query,
				&(struct receipt_of){.asked = &asked, .window = all}, &text),
			0);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		at = strstr((char *)text.data, "\"coalesced\":[");
		for (; at && (at = strstr(at, "\"claims\":")); at++)
			claims += json_number(at, "\"claims\":");
		sum = cases[i].sql ? read_rows(w->f, cases[i].sql) : strdup("0");
		assert_non_null(sum);
		assert_int_equal(claims, strtoull(sum, NULL, 10));
	}
	query_end(w->query);
}

/* ---- what retention must leave ---- */

/* A flood is one user's; it takes little, loses no more than its share, and what goes is counted claim by claim. */
static void test_share(void **state)
{
	struct fixture *f = *state;
	struct settings small = settings;
	struct process *victim = fixture_process(100, "victim"),
		       *flood = fixture_process(200, "flood");
	_cleanup_(free_p) char *left = NULL, *lost = NULL, *pages = NULL;

	victim->uid = 1000;
	flood->uid = 666;
	small.coalesce_above = 1000;
	store_settings(f->store, &small);
	for (unsigned i = 0; i < 100; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(40000 + i));

		c.opener = process_ref(victim);
		assert_int_equal(store_put_released(f->store, &c), 0);
		claim_done(&c);
	}
	for (unsigned i = 0; i < 50000; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(32768 + i % 28232));

		c.opener = process_ref(flood);
		c.opened_after_boot = c.closed_after_boot = USEC_UNSET;
		assert_int_equal(store_put_released(f->store, &c), 0);
		claim_done(&c);
	}
	commit(f);
	maintain(f);
	seal_all(f);
	assert_rows(f, "SELECT sum(count),sum(uid=1000),max(count)>10000 FROM claims",
		"50100|100|1|\n");
	/* 2 bytes a claim and little else: not 45 */
	assert_rows(f, "SELECT sum(length(ports)),count(*)<=4 FROM coalesced", "100000|1|\n");
	assert_rows(f, "SELECT count(*) FROM claim_seg", "100|\n");

	pages = read_rows(f,
		"SELECT (page_count-freelist_count)*page_size FROM pragma_page_count,pragma_freelist_count,"
		"pragma_page_size");
	assert_non_null(pages);
	small.max_bytes = strtoull(pages, NULL, 10) - 10000;
	store_settings(f->store, &small);
	maintain(f);
	assert_rows(f, "SELECT sum(uid=1000) FROM claims", "100|\n");
	left = read_rows(f, "SELECT ifnull(sum(count),0) FROM claims WHERE uid=666");
	lost = read_rows(f, "SELECT sum(lost) FROM gap WHERE reason='user-share'");
	assert_non_null(left);
	assert_non_null(lost);
	assert_int_equal(strtoull(left, NULL, 10) + strtoull(lost, NULL, 10), 50000);
	assert_true(strtoull(lost, NULL, 10) > 0);
	process_unref(victim);
	process_unref(flood);
}

/* A picture of the ports in use has each of a flood's ports, and not its row as one. */
static void test_occupancy(void **state)
{
	struct fixture *f = *state;
	const struct kernel_ports known = {.range = {32768, 60999}};
	_cleanup_(query_free_p) struct query *q = NULL;
	_cleanup_(buf_done) struct buf text = {0};
	struct process *p = fixture_process(100, "ab");
	struct question question = {.filter = FILTER_ANY,
		.window = {f->now.wall, f->now.wall + 2 * USEC_PER_MINUTE},
		.rows = ROWS_ALL};
	const struct steps steps = {question.window.from, USEC_PER_MINUTE};
	char path[128];

	store_settings(f->store, &settings);
	for (unsigned i = 0; i < 500; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(40000 + i));

		c.opener = process_ref(p);
		c.opened_after_boot = c.closed_after_boot = USEC_UNSET;
		c.closed_boot = c.opened_boot + USEC_PER_SEC * 10;
		c.released_boot = c.closed_boot + USEC_PER_SEC * 60;
		assert_int_equal(store_put_released(f->store, &c), 0);
		claim_done(&c);
	}
	commit(f);
	seal_all(f);
	assert_rows(f, "SELECT sum(n),(SELECT count(*) FROM claim_seg) FROM coalesced", "500|0|\n");
	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	assert_int_equal(query_new(path, &q), 0);
	assert_int_equal(query_begin(q, clock_now().boot + USEC_PER_HOUR), 0);
	assert_int_equal(query_occupancy(q, &question, steps, &known, &text), 0);
	query_end(q);
	assert_int_equal(buf_put_u8(&text, 0), 0);
	assert_non_null(strstr((char *)text.data, "\"peak\":500,"));
	assert_non_null(strstr((char *)text.data, "\"used\":[500,500],\"time_wait\":[0,500]"));
	process_unref(p);
}

/* Off, nothing of it happens; and it begins with one claim more than the setting. */
static void test_above(void **state)
{
	struct fixture *f = *state;
	struct settings some = settings;
	struct process *p = fixture_process(100, "curl");
	static const struct {
		uint64_t above;
		const char *rows;
	} cases[] = {{200, "200|1|\n"}, {199, "201|200|\n"}};

	for (size_t k = 0; k < ELEMENTSOF(cases); k++) {
		some.coalesce_above = cases[k].above;
		store_settings(f->store, &some);
		f->now.wall += USEC_PER_MINUTE;
		f->now.boot += USEC_PER_MINUTE;
		for (unsigned i = 0; i < 200; i++) {
			struct claim c = fixture_claim(f, (uint16_t)(40000 + i));

			c.opener = process_ref(p);
			assert_int_equal(store_put_released(f->store, &c), 0);
			claim_done(&c);
		}
		commit(f);
		seal_all(f);
		assert_rows(f, "SELECT count(*),max(count) FROM claims", cases[k].rows);
	}
	process_unref(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_who),
		cmocka_unit_test(test_shown_port),
		cmocka_unit_test(test_released),
		cmocka_unit_test(test_receipt),
	};
	const struct CMUnitTest others[] = {
		cmocka_unit_test_setup_teardown(test_share, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			test_occupancy, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_above, fixture_setup_open, fixture_teardown),
	};
	int failed = cmocka_run_group_tests(tests, setup, teardown);

	return failed + cmocka_run_group_tests(others, NULL, NULL);
}
