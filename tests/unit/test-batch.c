/* SPDX-License-Identifier: MIT */

/* What waits while the disk refuses: so many closed claims and no more, however long that lasts; what comes beyond is counted, and told
 * as a gap by the first commit that goes right. (What is written when, under which ring, is in test-replay and the simulation.) */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/ledger/batch.h"
#include "tests/support/store_fixture.h"

#define BEYOND 300u

static void set_pages(struct fixture *f, const char *pages)
{
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%s", pages);
	assert_int_equal(sql_exec(f->store, sql), 0);
}

/* `count` claims are released, one a microsecond. */
static void release(struct fixture *f, struct batch *b, uint32_t count)
{
	const struct ledger_sink sink = batch_sink(b);

	for (uint32_t i = 0; i < count; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(40000 + i % 20000));

		sink.released(sink.context, &c);
		claim_done(&c);
		f->now.boot++;
		f->now.wall++;
	}
}

static void refuse(struct fixture *f, struct batch *b, uint64_t waiting, uint64_t lost)
{
	struct batch_stats stats;

	assert_int_equal(batch_commit(b, f->now, true), -ENOSPC);
	stats = batch_stats(b);
	assert_int_equal(stats.waiting, waiting);
	assert_int_equal(stats.lost, lost);
	assert_int_equal(stats.gaps, 0);
}

/* The last gap that a commit has told of, and how many there were. */
struct heard {
	usec_t from_wall, until_wall;
	uint64_t lost;
	unsigned gaps;
};

static void hear_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	struct heard *h = context;

	assert_string_equal(reason, "disk-full");
	*h = (struct heard){from_wall, until_wall, lost, h->gaps + 1};
}

static void test_limit(void **state)
{
	struct heard heard = {0};
	struct fixture *f = *state;
	_cleanup_(batch_free_p) struct batch *b = batch_new(f->store);
	struct claim first;
	char wanted[128];

	assert_non_null(b);
	batch_tell(b, &(struct batch_told){.context = &heard, .gap = hear_gap});
	assert_int_equal(batch_commit(b, f->now, true), 0);
	set_pages(f, "1");
	release(f, b, LIMIT_PENDING_CLAIMS - 1);
	refuse(f, b, LIMIT_PENDING_CLAIMS - 1, 0);
	release(f, b, 1);
	first = fixture_claim(
		f, 1); /* the first that is one too many is released when this one is */
	release(f, b, BEYOND);
	refuse(f, b, LIMIT_PENDING_CLAIMS, BEYOND);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	assert_int_equal(heard.gaps, 0); /* what is not committed is not told */

	set_pages(f, "1000000");
	f->now.boot += 100 * USEC_PER_SEC;
	f->now.wall += 100 * USEC_PER_SEC;
	assert_int_equal(batch_commit(b, f->now, true), 0);
	assert_int_equal(batch_stats(b).waiting, 0);
	assert_int_equal(batch_stats(b).gaps, 1);
	snprintf(wanted, sizeof(wanted), "%u|%u|\n", LIMIT_PENDING_CLAIMS, LIMIT_PENDING_CLAIMS);
	assert_rows(f, "SELECT count(*),count(DISTINCT opened_usec) FROM claims", wanted);
	snprintf(wanted, sizeof(wanted), "disk-full|%u|%llu|%llu|\n", BEYOND,
		(unsigned long long)claim_wall(&first, first.released_boot),
		(unsigned long long)f->now.wall);
	assert_rows(f, "SELECT reason,lost,from_usec,until_usec FROM gap", wanted);
	assert_int_equal(heard.lost, BEYOND);
	assert_int_equal(heard.from_wall, claim_wall(&first, first.released_boot));
	assert_int_equal(heard.until_wall, f->now.wall);

	/* once, and there is room for more again */
	release(f, b, 1);
	assert_int_equal(batch_stats(b).waiting, 1);
	assert_int_equal(batch_commit(b, f->now, true), 0);
	assert_rows(f, "SELECT count(*) FROM gap", "1|\n");
	assert_int_equal(batch_stats(b).lost, BEYOND);
	assert_int_equal(heard.gaps, 1);
}

static const struct drained read_on = {.ring = {9, 20}, .at = 1};

/* `c` has what is known of the claim that was left open; it becomes what is told. */
static void tell_opened(struct fixture *f, struct batch *b, struct claim *c, usec_t later)
{
	const struct ledger_sink sink = batch_sink(b);
	const struct claim left = *c;

	*c = fixture_claim(f, left.local.port);
	c->source = SOURCE_EVENTS;
	c->cookie = left.cookie;
	c->opened_boot = left.opened_boot + later;
	c->opened_wall = left.opened_wall + later;
	c->closed_boot = c->closed_after_boot = c->released_boot = USEC_UNSET;
	sink.opened(sink.context, c);
	sink.drained(sink.context, &read_on);
}

static void told_again(struct fixture *f, struct batch *b, struct claim *c)
{
	tell_opened(f, b, c, 0);
}

static void told_of_a_minute_later(struct fixture *f, struct batch *b, struct claim *c)
{
	c->local.port++;
	tell_opened(f, b, c, USEC_PER_MINUTE + 1);
}

static void told_of_soon_after(struct fixture *f, struct batch *b, struct claim *c)
{
	c->local.port++;
	tell_opened(f, b, c, USEC_PER_MINUTE);
}

static void not_read_any_more(struct fixture *f, struct batch *b, struct claim *c)
{
	(void)f;
	(void)c;
	batch_ring(b, false);
}

/* A claim that an earlier session left open, and that the ring is to tell of again. */
static void test_left_open(void **state)
{
	static const struct {
		const char *title;
		void (*tell)(struct fixture *f, struct batch *b, struct claim *c);
		usec_t closed;    /* after its opening; 0: not yet */
		const char *rows; /* the port, how long until it ended, and whether that was seen */
	} cases[] = {
		{"it is, and goes on", told_again, 0, "50000|~|~|\n"},
		{"it was to be before what is told now: it has ended", told_of_a_minute_later, 0,
			"50000|0|0|\n50001|~|~|\n"},
		{"it may come still", told_of_soon_after, 0, "50000|~|~|\n50001|~|~|\n"},
		{"nobody reads the ring any more: it has ended", not_read_any_more, 0,
			"50000|0|0|\n"},
		{"it was closed, which the database has: it ended then", not_read_any_more, 5000,
			"50000|5000|1|\n"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(batch_free_p) struct batch *b = NULL;
		struct claim claim, other;
		struct fixture f;

		print_message("  %s\n", cases[i].title);
		fixture_init(&f);
		fixture_open(&f);
		claim = fixture_claim(&f, 50000);
		claim.source = SOURCE_EVENTS;
		claim.closed_boot = claim.closed_after_boot = claim.released_boot = USEC_UNSET;
		if (cases[i].closed > 0) {
			claim.closed_boot = claim.opened_boot + cases[i].closed;
			claim.closed_after_boot = claim.opened_boot;
		}
		store_number(f.store, &claim);
		assert_int_equal(store_put_open(f.store, &claim), 0);
		assert_int_equal(store_commit(f.store, f.now, true), 0);
		b = batch_new(f.store);
		assert_non_null(b);
		batch_ring(b, true);
		other = (struct claim){.cookie = claim.cookie,
			.local.port = 50000,
			.opened_boot = claim.opened_boot,
			.opened_wall = claim.opened_wall};
		assert_int_equal(batch_left_open(b, &claim), 0);
		assert_null(claim.opener);
		cases[i].tell(&f, b, &other);
		assert_int_equal(batch_commit(b, f.now, true), 0);
		assert_int_equal(batch_stats(b).waiting, 0);
		assert_rows(&f,
			"SELECT port,released_usec-opened_usec,"
			"CASE WHEN released_usec IS NOT NULL THEN closed_usec<>closed_after_usec END"
			" FROM claims ORDER BY port",
			cases[i].rows);
		b = batch_free(b);
		claim_done(&other);
		fixture_done(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limit, fixture_setup_open, fixture_teardown),
		cmocka_unit_test(test_left_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
