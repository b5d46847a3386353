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

static void test_limit(void **state)
{
	struct fixture *f = *state;
	_cleanup_(batch_free_p) struct batch *b = batch_new(f->store);
	struct claim first;
	char wanted[128];

	assert_non_null(b);
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

	/* once, and there is room for more again */
	release(f, b, 1);
	assert_int_equal(batch_stats(b).waiting, 1);
	assert_int_equal(batch_commit(b, f->now, true), 0);
	assert_rows(f, "SELECT count(*) FROM gap", "1|\n");
	assert_int_equal(batch_stats(b).lost, BEYOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limit, fixture_setup_open, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
