/* SPDX-License-Identifier: MIT */

/* A question about a short time looks at few segments, and mostly not at what is not sealed: it finds what a look at every row finds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/control/query_internal.h"
#include "daemon/schema.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define ROUNDS 80u
#define CLAIMS 40u /* of a round */
#define ASKED  full_or(700, 120)
#define PORTS  5u
#define FAR    (UINT64_C(60) * USEC_PER_MINUTE)

/* Released within the last hour but for some, after a life of any length, with bounds of any width. */
static void place_claim(struct fixture *f, struct claim *c)
{
	static const usec_t lives[] = {
		1, USEC_PER_SEC, 50 * USEC_PER_MINUTE, 70 * USEC_PER_MINUTE, 3 * USEC_PER_DAY};
	usec_t life = fixture_random(f, lives[fixture_random(f, ELEMENTSOF(lives))]);
	usec_t linger = fixture_random(f, 4) ? 0 : fixture_random(f, 20 * USEC_PER_MINUTE);
	usec_t ago = fixture_random(f, fixture_random(f, 8) ? USEC_PER_HOUR : 9 * USEC_PER_HOUR);

	c->released_boot = f->now.boot - ago;
	c->closed_boot = c->released_boot - linger;
	c->opened_boot = c->closed_boot - life;
	c->opened_wall = f->now.wall - (f->now.boot - c->opened_boot);
	if (c->opened_after_boot != USEC_UNSET)
		c->opened_after_boot = c->opened_boot - fixture_random(f, 90 * USEC_PER_MINUTE);
	if (c->closed_after_boot != USEC_UNSET)
		c->closed_after_boot = c->opened_boot;
	for (uint32_t i = 0; i < c->holder_count; i++)
		c->holders[i].from_boot = c->holders[i].until_boot = c->opened_boot;
}

/* Some rounds are sealed together; the last are not. In between the clock is set back, so that segments are not in the order of time. */
static void fill(struct fixture *f)
{
	const struct settings for_ever = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 30,
		OTHER_SETTINGS};
	struct process *processes[FIXTURE_PROCESSES];

	store_settings(f->store, &for_ever);
	fixture_processes(processes);
	f->now.boot += 30 * USEC_PER_DAY;
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned k = 0; k < CLAIMS; k++) {
			struct claim c =
				random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_HOUR);

			place_claim(f, &c);
			c.local.port = (uint16_t)(50000 + fixture_random(f, PORTS));
			if (fixture_random(f, 50) == 0)
				assert_int_equal(store_put_open(f->store, &c), 0);
			else
				assert_int_equal(store_put_released(f->store, &c), 0);
			claim_done(&c);
		}
		commit(f);
		if (i + 8 < ROUNDS && fixture_random(f, 3) == 0)
			seal_all(f);
		f->now.boot += 4 * USEC_PER_HOUR;
		f->now.wall = i % 17 == 16 ? f->now.wall - 20 * USEC_PER_HOUR
					   : f->now.wall + 4 * USEC_PER_HOUR;
	}
	processes_done(processes);
}

static usec_t random_time(struct fixture *f)
{
	return f->now.wall - fixture_random(f, 16 * USEC_PER_DAY);
}

#define EACH                                                                                       \
	"(" ROWS_OF_SEG " UNION ALL " ROWS_OF_LONG " UNION ALL " ROWS_OF_HOT                       \
	" UNION ALL " ROWS_OF_OPEN ")"

/* Every row that touches the window, in the words of query_sql.c but without its bounds. */
static void expect(
	struct fixture *f, const struct question *q, uint64_t *ret_count, uint64_t *ret_sum)
{
	unsigned long long count, sum;
	_cleanup_(free_p) char *text = NULL;
	char sql[2048];

	(void)snprintf(sql, sizeof(sql),
		"SELECT count(*),ifnull(sum(opened_usec%%1000003),0) FROM " EACH
		" WHERE port BETWEEN %u AND %u AND opened_usec-CASE WHEN meta>>10&1 THEN 0 ELSE"
		" ifnull(opened_slack,0)*1000 END<%llu AND (released_usec IS NULL OR released_usec>%llu"
		" OR (released_usec=%llu AND (closed_slack IS NOT NULL OR opened_usec=%llu)))",
		q->filter.port_count ? q->filter.ports[0] : 0,
		q->filter.port_count ? q->filter.ports[0] : UINT16_MAX,
		(unsigned long long)q->window.until, (unsigned long long)q->window.from,
		(unsigned long long)q->window.from, (unsigned long long)q->window.from);
	text = read_rows(f, sql);
	assert_int_equal(sscanf(text, "%llu|%llu|", &count, &sum), 2);
	*ret_count = count;
	*ret_sum = sum;
}

static void ask(
	struct query *q, const struct question *question, uint64_t *ret_count, uint64_t *ret_sum)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct place place = PLACE_START;

	*ret_sum = 0;
	assert_int_equal(query_begin(q, clock_now().boot + FAR), 0);
	assert_int_equal(query_rows(q, question, 100000, &place, &rows), 0);
	query_end(q);
	for (size_t i = 0; i < rows.count; i++)
		*ret_sum += (uint64_t)rows.row[i].column[ROW_OPENED_USEC] % 1000003;
	*ret_count = rows.count;
}

static void test_short(void **state)
{
	static const usec_t lengths[] = {
		1, USEC_PER_SEC, USEC_PER_HOUR, USEC_PER_DAY, 3 * USEC_PER_DAY};
	struct fixture *f = *state;
	_cleanup_(query_free_p) struct query *q = NULL;
	uint64_t found = 0;
	char path[128];

	fill(f);
	assert_rows(f, "SELECT count(*)>10,count(*)<40 FROM segment", "1|1|\n");
	assert_rows(f, "SELECT count(*)>20 FROM claim_hot", "1|\n");
	assert_rows(f, "SELECT count(*)>100 FROM claim_long", "1|\n");
	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	assert_int_equal(query_new(path, &q), 0);
	for (unsigned i = 0; i < ASKED; i++) {
		struct question question = {.filter = FILTER_ANY, .rows = ROWS_ALL};
		uint64_t expected, expected_sum, count, sum;

		question.window.from = random_time(f);
		question.window.until =
			question.window.from + lengths[fixture_random(f, ELEMENTSOF(lengths))];
		question.filter.port_count = fixture_random(f, 4) > 0;
		question.filter.ports[0] = (uint16_t)(50000 + fixture_random(f, PORTS));
		expect(f, &question, &expected, &expected_sum);
		ask(q, &question, &count, &sum);
		if (count != expected || sum != expected_sum)
			fail_msg("asked %u, from %llu until %llu: %llu of %llu", i,
				(unsigned long long)question.window.from,
				(unsigned long long)question.window.until,
				(unsigned long long)count, (unsigned long long)expected);
		found += count;
	}
	assert_true(found > ASKED);
}

/* What claim_hot has, and nothing is older than it says: also where what another boot left open was closed, and in what is sealed
 * and begun anew. */
static void test_bounds_hold(void **state)
{
	struct fixture *f = *state;

	fill(f);
	assert_rows(f,
		"SELECT (SELECT value FROM counter WHERE name='hot_from_usec')<=min(opened_usec+dur+ifnull(linger,0)*1000),"
		"(SELECT value FROM counter WHERE name='hot_from_usec')>=min(opened_usec+dur+ifnull(linger,0)*1000)-60000000"
		" FROM claim_hot",
		"1|1|\n");
	assert_rows(f,
		"SELECT (SELECT value FROM counter WHERE name='segment_usec')=max(released_to-released_from) FROM segment",
		"1|\n");
	f->store = store_free(f->store);
	f->boot_id[0] ^= 1; /* and what was open is closed when it was last seen */
	f->now.boot = USEC_PER_HOUR;
	fixture_open(f);
	assert_int_equal(store_adopt(f->store, NULL, NULL), 0);
	assert_rows(f, "SELECT count(*) FROM claim_open", "0|\n");
	assert_rows(f,
		"SELECT (SELECT value FROM counter WHERE name='hot_from_usec')<=min(opened_usec+dur+ifnull(linger,0)*1000) FROM claim_hot",
		"1|\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_short, fixture_setup_open, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			test_bounds_hold, fixture_setup_open, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
