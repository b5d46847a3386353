/* SPDX-License-Identifier: MIT */

/* An audit that takes hours and days from the rollups says what one that looks at every row says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/control/query_internal.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define ROUNDS full_or(60, 40)
#define CLAIMS 120u /* of a round */
#define ASKED  full_or(400, 100)
#define FLOOD  60u
#define ABOVE  10u
#define FAR    (UINT64_C(60) * USEC_PER_MINUTE)

static usec_t random_life(struct fixture *f)
{
	static const usec_t lives[] = {1, USEC_PER_MSEC, 5 * USEC_PER_SEC, 2 * USEC_PER_MINUTE,
		USEC_PER_HOUR, 5 * USEC_PER_HOUR, 3 * USEC_PER_DAY};

	return fixture_random(f, lives[fixture_random(f, ELEMENTSOF(lives))]);
}

/* Opened in the last three hours, one in eight at the begin of one of them, and one in eight released there. */
static void place_claim(struct fixture *f, struct claim *c)
{
	usec_t life = random_life(f), linger = c->released_boot - c->closed_boot, past;

	c->opened_wall = f->now.wall - fixture_random(f, 3 * USEC_PER_HOUR);
	if (fixture_random(f, 8) == 0)
		c->opened_wall -= c->opened_wall % USEC_PER_HOUR;
	past = c->opened_wall % USEC_PER_HOUR;
	if (fixture_random(f, 8) == 0 && past > 0) {
		life = USEC_PER_HOUR - past;
		linger = 0;
	}
	c->opened_boot = f->now.boot - (f->now.wall - c->opened_wall);
	if (c->opened_after_boot != USEC_UNSET)
		c->opened_after_boot = c->opened_boot - fixture_random(f, 90 * USEC_PER_MINUTE);
	c->closed_boot = c->opened_boot + life;
	if (c->closed_after_boot != USEC_UNSET)
		c->closed_after_boot = c->opened_boot;
	c->released_boot = c->closed_boot + linger;
	for (uint32_t i = 0; i < c->holder_count; i++) {
		c->holders[i].from_boot = c->opened_boot + fixture_random(f, life + 1);
		c->holders[i].until_boot =
			fixture_random(f, 2) ? USEC_UNSET : c->holders[i].from_boot + life / 2;
	}
}

static void put_random(struct fixture *f, struct process *processes[static FIXTURE_PROCESSES])
{
	for (unsigned i = 0; i < CLAIMS; i++) {
		struct claim c = random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_HOUR);

		place_claim(f, &c);
		c.remote.address =
			(struct address){FAMILY_IPV4, {192, 0, 2, (uint8_t)fixture_random(f, 100)}};
		if (fixture_random(f, 50) == 0)
			assert_int_equal(store_put_open(f->store, &c), 0);
		else
			assert_int_equal(store_put_released(f->store, &c), 0);
		claim_done(&c);
	}
	commit(f);
}

/* Like claims of some seconds, so that they become one row; now and then about the begin of an hour, which not all of them reach over. */
static void put_flood(struct fixture *f, struct process *processes[static FIXTURE_PROCESSES])
{
	unsigned n = (unsigned)fixture_random(f, FLOOD);
	struct claim like = random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_HOUR);
	usec_t at = f->now.wall - fixture_random(f, 2 * USEC_PER_HOUR);

	if (fixture_random(f, 3) == 0)
		at -= at % USEC_PER_HOUR + 2 * USEC_PER_SEC;
	for (unsigned i = 0; i < n; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(49152 + fixture_random(f, 50)));

		c.opener = process_ref(like.opener ? like.opener : processes[0]);
		c.role = like.role;
		c.source = like.source;
		c.opened_wall = at + fixture_random(f, 3 * USEC_PER_SEC);
		c.opened_boot = f->now.boot - (f->now.wall - c.opened_wall);
		c.opened_after_boot = like.opened_after_boot == USEC_UNSET
					      ? USEC_UNSET
					      : c.opened_boot - fixture_random(f, USEC_PER_SEC);
		c.closed_after_boot = USEC_UNSET;
		c.closed_boot = c.opened_boot + fixture_random(f, USEC_PER_SEC);
		c.released_boot = c.closed_boot + (like.preexisting ? 0 : 60 * USEC_PER_SEC);
		assert_int_equal(store_put_released(f->store, &c), 0);
		claim_done(&c);
	}
	claim_done(&like);
	commit(f);
}

/* Lives are of up to three days. */
static void seal(struct fixture *f)
{
	struct now now = f->now;

	f->now.wall += 6 * USEC_PER_DAY;
	maintain(f);
	f->now = now;
	assert_rows(f, "SELECT count(*) FROM claim_hot", "0|\n");
}

static void pass(struct fixture *f, usec_t time)
{
	f->now.boot += time;
	f->now.wall += time;
}

/* Rounds that follow each other, with pauses of hours and of days. The last is not sealed. */
static void fill(
	struct fixture *f, struct process *processes[static FIXTURE_PROCESSES], unsigned rounds)
{
	struct settings for_ever = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		OTHER_SETTINGS};

	for_ever.coalesce_above = ABOVE;
	store_settings(f->store, &for_ever);
	fixture_processes(processes);
	for (unsigned i = 0; i < FIXTURE_PROCESSES; i++) {
		free(processes[i]->unit);
		processes[i]->unit = i % 3 ? strdup(i % 3 == 1 ? "a.service" : "b.service") : NULL;
		processes[i]->uid = i % 4 ? 1000 + i % 4 : UID_UNSET;
	}
	processes[3]->pid = processes[4]->pid = 1; /* whose sockets are others' */
	for (unsigned i = 0; i < rounds; i++) {
		put_random(f, processes);
		put_flood(f, processes);
		if (i + 1 < rounds)
			seal(f);
		pass(f, i % 10 == 9  ? 11 * USEC_PER_DAY
			: i % 4 == 3 ? 9 * USEC_PER_HOUR
				     : 40 * USEC_PER_MINUTE);
	}
}

static usec_t random_time(struct fixture *f)
{
	usec_t t = FIXTURE_WALL - USEC_PER_DAY +
		   fixture_random(f, f->now.wall + 2 * USEC_PER_DAY - FIXTURE_WALL);

	switch (fixture_random(f, 4)) {
	case 0:
		return t;
	case 1:
		return t - t % USEC_PER_DAY;
	default:
		return t - t % USEC_PER_HOUR;
	}
}

static struct question random_question(struct fixture *f)
{
	struct question q = {.filter = FILTER_ANY, .rows = ROWS_ALL};
	usec_t a = random_time(f), b = random_time(f);

	if (fixture_random(f, 2))
		b = a + (1 + fixture_random(f, 40)) * USEC_PER_HOUR;
	q.window = (struct window){MIN(a, b), MAX(a, b)};
	switch (fixture_random(f, 8)) {
	case 0:
		q.filter.app = "curl";
		break;
	case 1:
		q.filter.unit = "a.service";
		break;
	case 2:
		q.filter.uid = 1001;
		break;
	case 3:
		q.filter.netns = SQL_NUMBER(4026531840);
		break;
	case 4:
		q.filter.port_count = 1;
		q.filter.ports[0] = 49160;
		break;
	default:
		break;
	}
	return q;
}

static void ask(struct query *q, struct question question, unsigned rows, enum audit_by by,
	struct buf *text, struct parts *parts)
{
	question.rows = rows;
	assert_int_equal(query_begin(q, clock_now().boot + FAR), 0);
	assert_int_equal(query_audit(q, &question, by, text, parts), 0);
	query_end(q);
	assert_int_equal(buf_put_u8(text, 0), 0);
}

/* The parts are the window, one after the other. */
static void assert_parts(const struct parts *p, struct window w, unsigned seen[static 3])
{
	usec_t at = w.from;

	assert_true(p->count > 0);
	for (unsigned i = 0; i < p->count; i++) {
		assert_int_equal(p->part[i].window.from, at);
		at = p->part[i].window.until;
		seen[p->part[i].from]++;
	}
	assert_int_equal(at, w.until);
}

static struct query *open_query(const struct fixture *f)
{
	struct query *q;
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	assert_int_equal(query_new(path, &q), 0);
	return q;
}

static void test_same(void **state)
{
	struct fixture *f = *state;
	struct process *processes[FIXTURE_PROCESSES];
	_cleanup_(query_free_p) struct query *q = NULL;
	unsigned seen[3] = {0}, servers = 0;

	fill(f, processes, ROUNDS);
	q = open_query(f);
	for (unsigned i = 0; i < ASKED; i++) {
		_cleanup_(buf_done) struct buf rows = {0}, rolled = {0};
		struct question question = random_question(f);
		enum audit_by by = (enum audit_by)fixture_random(f, AUDIT_BY_COUNT);
		struct parts parts;
		const char *a, *b;

		ask(q, question, ROWS_ALL, by, &rows, &parts);
		assert_int_equal(parts.count, 1);
		assert_int_equal(parts.part[0].from, PART_ROWS);
		ask(q, question, ROWS_ALL | ROLLUPS, by, &rolled, &parts);
		assert_parts(&parts, question.window, seen);
		a = (const char *)buf_bytes(&rows);
		b = (const char *)buf_bytes(&rolled);
		servers += strstr(b, "\"servers\":[{") != NULL;
		for (size_t k = 0, from = 0; a[k] || b[k]; k++) {
			if (a[k] != b[k])
				fail_msg("asked %u, by %d, from %llu until %llu:\n%.300s\n%.300s",
					i, by, (unsigned long long)question.window.from,
					(unsigned long long)question.window.until, a + from,
					b + from);
			from = a[k] == '{' ? k : from;
		}
	}
	assert_true(seen[PART_ROWS] > full_or(100, 20) && seen[PART_HOURS] > full_or(100, 20) &&
		    seen[PART_DAYS] > full_or(10, 2));
	assert_true(servers > full_or(50, 12));
	assert_rows(f, "SELECT count(*)>20 AND sum(n)>500 FROM coalesced", "1|\n");
	processes_done(processes);
}

/* More remotes than a sketch is exact for: said, and near. */
static void test_estimated(void **state)
{
	struct fixture *f = *state;
	_cleanup_(query_free_p) struct query *q = NULL;
	_cleanup_(buf_done) struct buf text = {0};
	struct question question = {.filter = FILTER_ANY,
		.window = {f->now.wall - f->now.wall % USEC_PER_HOUR, f->now.wall + USEC_PER_DAY}};
	const char *remotes;
	long count;

	for (unsigned i = 0; i < 4000; i++) {
		struct claim c = fixture_claim(f, 50000);

		c.remote.address =
			(struct address){FAMILY_IPV4, {198, 51, (uint8_t)(i >> 8), (uint8_t)i}};
		assert_int_equal(store_put_released(f->store, &c), 0);
	}
	commit(f);
	seal_all(f);
	q = open_query(f);
	ask(q, question, ROWS_ALL | ROLLUPS, AUDIT_BY_PROGRAM, &text, NULL);
	remotes = strstr((const char *)buf_bytes(&text), "\"remotes\":");
	assert_non_null(remotes);
	count = strtol(remotes + strlen("\"remotes\":"), NULL, 10);
	assert_true(count > 2800 && count < 5200);
	assert_non_null(strstr(remotes, "\"remotes_estimated\":true"));
	assert_non_null(strstr(remotes, "\"claims\":4000"));
}

/* Programs past the limit are one in the rollups: then rows are asked. */
static void test_many_programs(void **state)
{
	struct fixture *f = *state;
	_cleanup_(query_free_p) struct query *q = NULL;
	_cleanup_(buf_done) struct buf text = {0};
	struct question question = {.filter = FILTER_ANY,
		.window = {f->now.wall - f->now.wall % USEC_PER_HOUR, f->now.wall + USEC_PER_DAY}};
	struct parts parts;

	for (int32_t i = 0; i < 1100; i++) {
		struct claim c = fixture_claim(f, 50000);
		char name[16];

		snprintf(name, sizeof(name), "noise-%d", i);
		c.opener = fixture_process(1000 + i, name);
		assert_int_equal(store_put_released(f->store, &c), 0);
		process_unref(c.opener);
	}
	commit(f);
	seal_all(f);
	q = open_query(f);
	ask(q, question, ROWS_ALL | ROLLUPS, AUDIT_BY_PROGRAM, &text, &parts);
	assert_int_equal(parts.count, 1);
	assert_int_equal(parts.part[0].from, PART_ROWS);
	assert_non_null(strstr((const char *)buf_bytes(&text), "noise-1099"));
}

/* When the claims have gone, their sums are all that there is, and the marks have gone with them. */
static void test_expired(void **state)
{
	struct fixture *f = *state;
	struct process *processes[FIXTURE_PROCESSES];
	_cleanup_(query_free_p) struct query *q = NULL;
	const struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};
	struct question question = {
		.filter = FILTER_ANY, .window = {.from = FIXTURE_WALL - USEC_PER_DAY}};
	_cleanup_(buf_done) struct buf before = {0}, after = {0};
	unsigned seen[3] = {0};
	struct parts parts;

	fill(f, processes, full_or(ROUNDS, 24)); /* with two pauses of days among them */
	seal(f);
	assert_int_equal(sql_exec(f->store, "DELETE FROM claim_open"), 0);
	question.window.from -= question.window.from % USEC_PER_HOUR;
	question.window.until = f->now.wall - f->now.wall % USEC_PER_HOUR + 10 * USEC_PER_DAY;
	q = open_query(f);
	ask(q, question, ROWS_ALL | ROLLUPS, AUDIT_BY_HOUR, &before, &parts);
	pass(f, 20 * USEC_PER_DAY);
	store_settings(f->store, &settings);
	commit(f);
	maintain(f);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	assert_rows(f, "SELECT count(*) FROM claim_mark WHERE kind<8", "0|\n");
	ask(q, question, ROWS_ALL | ROLLUPS, AUDIT_BY_HOUR, &after, &parts);
	assert_parts(&parts, question.window, seen);
	assert_true(seen[PART_DAYS] > 0);
	buf_truncate(&before, (size_t)(strstr((const char *)buf_bytes(&before), ",\"servers\"") -
				       (const char *)buf_bytes(&before)));
	buf_truncate(&after, buf_size(&before));
	assert_memory_equal(buf_bytes(&after), buf_bytes(&before), buf_size(&before));
	processes_done(processes);
}

/* A sum that is none is an error of the question, and of no other. */
static void test_damaged(void **state)
{
	static const char *const damages[] = FIXTURE_NO_SETS;
	struct fixture *f = *state;
	_cleanup_(query_free_p) struct query *q = NULL;
	_cleanup_(buf_done) struct buf text = {0};
	struct question question = {.filter = FILTER_ANY,
		.window = {f->now.wall - f->now.wall % USEC_PER_HOUR, f->now.wall + USEC_PER_DAY},
		.rows = ROWS_ALL | ROLLUPS};
	struct claim c = fixture_claim(f, 50000);

	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	seal_all(f);
	q = open_query(f);
	for (size_t i = 0; i < ELEMENTSOF(damages); i++) {
		char sql[128];

		snprintf(sql, sizeof(sql), "UPDATE rollup_hour SET sets=%s", damages[i]);
		assert_int_equal(sql_exec(f->store, sql), 0);
		question.rows = ROWS_ALL | ROLLUPS;
		assert_int_equal(query_begin(q, USEC_UNSET), 0);
		assert_int_equal(
			query_audit(q, &question, AUDIT_BY_PROGRAM, &text, NULL), -EUCLEAN);
		assert_int_equal(buf_size(&text), 0);
		question.rows = ROWS_ALL;
		assert_int_equal(query_audit(q, &question, AUDIT_BY_PROGRAM, &text, NULL), 0);
		query_end(q);
		buf_truncate(&text, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			test_estimated, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			test_many_programs, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_expired, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_damaged, fixture_setup_open, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
