/* SPDX-License-Identifier: MIT */

/* What events bring into the store: the ring's place, failures and how long they are kept, and what namespaces hand out. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/store_fixture.h"

static void reopen(struct fixture *f)
{
	f->store = store_free(f->store);
	fixture_open(f);
}

static void assert_ring(const struct drained *a, const struct drained *b)
{
	assert_int_equal(a->ring.generation, b->ring.generation);
	assert_int_equal(a->ring.position, b->ring.position);
	assert_int_equal(a->lost, b->lost);
	assert_int_equal(a->lost_ends, b->lost_ends);
	assert_int_equal(a->failures_dropped, b->failures_dropped);
	assert_int_equal(a->at, b->at);
}

/* The place is as old as the last commit, whatever was known beside it; it outlives sessions, but not the boot. */
static void test_place(void **state)
{
	struct fixture *f = *state;
	const struct drained none = {0};
	struct drained ring = {.ring = {UINT64_MAX - 3, 1000},
		.lost = 1,
		.lost_ends = 2,
		.failures_dropped = 3,
		.at = FIXTURE_BOOT + 5};
	struct drained later = ring;
	struct claim c = fixture_claim(f, 50000);

	commit(f);
	reopen(f);
	assert_ring(&f->before.ring, &none);
	store_ring(f->store, &ring);
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	later.ring.position = 2000;
	later.lost = 7;
	store_ring(f->store, &later);
	reopen(f);
	assert_ring(&f->before.ring, &ring);
	/* a session that stores nothing hands it on */
	reopen(f);
	assert_ring(&f->before.ring, &ring);

	/* it moves without a claim, and with a commit that needs no fsync */
	store_ring(f->store, &later);
	assert_int_equal(store_commit(f->store, f->now, false), 0);
	reopen(f);
	assert_ring(&f->before.ring, &later);

	f->boot_id[0] ^= 1;
	reopen(f);
	assert_ring(&f->before.ring, &none);
}

/* A transaction that fails takes the place back with it. */
static void test_place_of_a_failed_commit(void **state)
{
	struct fixture *f = *state;
	struct drained ring = {.ring = {9, 1000}, .at = FIXTURE_BOOT};
	struct drained later = {.ring = {9, 2000}, .at = FIXTURE_BOOT};
	struct claim c = fixture_claim(f, 50000);

	store_ring(f->store, &ring);
	commit(f);
	assert_int_equal(store_put_released(f->store, &c), 0);
	store_ring(f->store, &later);
	store_rollback(f->store);
	commit(f);
	reopen(f);
	assert_ring(&f->before.ring, &ring);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
}

static void test_how(void **state)
{
	struct fixture *f = *state;
	struct coverage how = {
		.rung = SOURCE_EVENTS, .protocols = 3, .failures = true, .netns_all = true};

	assert_int_equal(store_put_coverage(f->store, &how, f->now.wall), 0);
	f->now.boot += 1000;
	f->now.wall += 1000;
	commit(f);
	reopen(f);
	assert_true(f->before.known && f->before.how.failures && f->before.how.netns_all);
	assert_false(
		f->before.how.udp_connect || f->before.how.bound_only || f->before.how.accepted);
	how.failures = how.netns_all = false;
	how.udp_connect = how.bound_only = true;
	assert_int_equal(store_put_coverage(f->store, &how, f->now.wall), 0);
	f->now.boot += 1000;
	f->now.wall += 1000;
	commit(f);
	reopen(f);
	assert_true(f->before.how.udp_connect && f->before.how.bound_only);
	assert_false(f->before.how.failures || f->before.how.netns_all);
}

/* The ranges that the session before has watched, of which the database may say anything: at most so many, and those that make
 * sense, up to the first that does not. */
static void test_how_ranges(void **state)
{
	static const struct {
		const char *change;
		unsigned count;
	} cases[] = {
		{"UPDATE coverage SET ranges=ranges||' 61000-61001'", PORT_RANGES_MAX},
		{"UPDATE coverage SET ranges='1-5 7-x 9-10'", 1},
		{"UPDATE coverage SET ranges=''", 0},
		{"ALTER TABLE coverage RENAME ranges TO before;"
		 "ALTER TABLE coverage ADD ranges TEXT",
			0},
	};
	struct fixture *f = *state;
	struct coverage how = {.ranges.count = PORT_RANGES_MAX};

	for (uint16_t i = 0; i < PORT_RANGES_MAX; i++)
		how.ranges.range[i] = (struct port_range){
			.low = (uint16_t)(1 + 10 * i), .high = (uint16_t)(5 + 10 * i)};
	assert_int_equal(store_put_coverage(f->store, &how, f->now.wall), 0);
	f->now.boot += 1000;
	f->now.wall += 1000;
	commit(f);
	reopen(f);
	assert_int_equal(f->before.how.ranges.count, PORT_RANGES_MAX);
	assert_memory_equal(&f->before.how.ranges, &how.ranges, sizeof(how.ranges));
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		assert_int_equal(sql_exec(f->store, cases[i].change), 0);
		commit(f);
		reopen(f);
		assert_true(f->before.known);
		assert_int_equal(f->before.how.ranges.count, cases[i].count);
		assert_memory_equal(f->before.how.ranges.range, how.ranges.range,
			cases[i].count * sizeof(how.ranges.range[0]));
	}
}

static char blue[] = "blue";

/* What is known of a namespace stays when it is gone, and can be told no more. */
static void test_netns(void **state)
{
	struct fixture *f = *state;
	static const struct {
		struct netns told;
		const char *known;
	} cases[] = {
		{{.cookie = 4711, .inode = 12345}, "12345|~|0|0|\n"},
		{{.cookie = 4711, .inode = 12345, .ephemeral = {1000, 2000}},
			"12345|~|1000|2000|\n"},
		{{.cookie = 4711, .inode = 12345, .name = blue}, "12345|blue|1000|2000|\n"},
		{{.cookie = 4711, .ephemeral = {0, 3000}}, "12345|blue|0|3000|\n"},
		{{.cookie = 4711}, "12345|blue|0|3000|\n"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		assert_int_equal(store_put_netns(f->store, &cases[i].told), 0);
		commit(f);
		assert_rows(f,
			"SELECT inode,name,ephemeral_low,ephemeral_high FROM netns WHERE cookie=4711",
			cases[i].known);
	}
}

static struct store_failure failure(const struct fixture *f, uint16_t port)
{
	return (struct store_failure){
		.at_wall = f->now.wall,
		.failure = {.netns = FIXTURE_NETNS,
			.protocol = PROTOCOL_UDP,
			.error = FAILURE_IN_USE,
			.call = FAILURE_BIND,
			.local = {{FAMILY_IPV6, {0xfe, 0x80, [15] = 1}}, port}},
	};
}

static void test_failures(void **state)
{
	struct fixture *f = *state;
	struct process *ann = fixture_process(10, "sshd"), *bob = fixture_process(11, "nginx");
	struct store_failure full = failure(f, 40000), bare = failure(f, 0);
	struct process *unknown = NULL;

	full.process = ann;
	full.held = true;
	full.holder = bob;
	full.holder_opened_wall = 77;
	full.holder_role = ROLE_LISTENING;
	full.holder_attribution = ATTRIBUTION_EVENT;
	bare.process = unknown;
	bare.failure.protocol = PROTOCOL_TCP;
	bare.failure.error = FAILURE_NOT_AVAILABLE;
	bare.failure.call = FAILURE_CONNECT;
	bare.failure.remote = (struct endpoint){{FAMILY_IPV4, {192, 0, 2, 1}}, 443};
	assert_int_equal(store_put_failure(f->store, &full), 0);
	assert_int_equal(store_put_failure(f->store, &bare), 0);
	full.holder_role = ROLE_UNKNOWN;
	full.holder = NULL;
	full.failure.local.port = 40001;
	assert_int_equal(store_put_failure(f->store, &full), 0);
	assert_int_equal(store_put_failures_left_out(f->store, 5, 6, 7), 0);
	commit(f);
	assert_rows(f,
		"SELECT call,error,port,protocol,family,netns,local_address,remote_address,remote_port,pid,"
		"comm,uid,unit FROM failures",
		"bind|in_use|40000|udp|ipv6|4026531840|fe80::1|~|~|10|sshd|1000|user@1000.service|\n"
		"connect|not_available|~|tcp|ipv6|4026531840|fe80::1|192.0.2.1|443|~|~|~|~|\n"
		"bind|in_use|40001|udp|ipv6|4026531840|fe80::1|~|~|10|sshd|1000|user@1000.service|\n");
	assert_rows(f,
		"SELECT holder_pid,holder_comm,holder_role,holder_opened_usec,usec=1700000000123456"
		" FROM failures",
		"11|nginx|listening|77|1|\n~|~|~|~|1|\n~|~|~|77|1|\n");
	assert_rows(f, "SELECT from_usec,until_usec,n FROM failure_left_out", "5|6|7|\n");
	process_unref(ann);
	process_unref(bob);
}

/* By port and by time it is looked up; it is the same table for a reader who knows the view only. */
static void test_plans(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *condition, *index;
	} cases[] = {
		{"port=40000 AND usec>=5 AND usec<9", "failure_port"},
		{"usec>=5 AND usec<9", "failure_usec"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *plan = NULL;
		char sql[160];

		snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN SELECT * FROM failures WHERE %s",
			cases[i].condition);
		plan = read_rows(f, sql);
		assert_non_null(plan);
		if (!strstr(plan, cases[i].index))
			fail_msg("%s: %s", cases[i].condition, plan);
	}
}

/* Kept as long as claims are, with the processes that they name; then gone, and that is said. */
static void test_expire_by_age(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = UINT64_C(1) << 30, OTHER_SETTINGS};
	struct process *ann = fixture_process(10, "sshd"), *bob = fixture_process(11, "nginx");
	usec_t begin = f->now.wall;

	store_settings(f->store, &settings);
	for (unsigned hour = 0; hour < 40; hour++) {
		struct store_failure row = failure(f, (uint16_t)(40000 + hour));
		struct claim c = fixture_claim(f, 50000);

		row.process = ann;
		row.held = true;
		row.holder = bob;
		assert_int_equal(store_put_failure(f->store, &row), 0);
		assert_int_equal(
			store_put_failures_left_out(f->store, f->now.wall, f->now.wall, 1), 0);
		assert_int_equal(store_put_released(f->store, &c), 0);
		commit(f);
		f->now.wall += USEC_PER_HOUR;
		f->now.boot += USEC_PER_HOUR;
	}
	maintain(f);
	assert_rows(f, "SELECT min(port),count(*) FROM failures", "40016|24|\n");
	assert_rows(f, "SELECT count(*) FROM failures WHERE comm='sshd' AND holder_comm='nginx'",
		"24|\n");
	assert_rows(f, "SELECT count(*) BETWEEN 24 AND 31 FROM failure_left_out", "1|\n");
	assert_rows(f,
		"SELECT (value-1700000000123456)/3600000000 FROM counter WHERE name='failures_expired_usec'",
		"15|\n");
	assert_true(begin < f->now.wall);
	process_unref(ann);
	process_unref(bob);
}

/* Nobody who fails all the time takes more than a part of the database from the claims. */
static void test_expire_by_count(void **state)
{
	struct fixture *f = *state;
	const struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = UINT64_C(16) << 20, OTHER_SETTINGS};
	const int64_t most =
		(int64_t)(settings.max_bytes / LIMIT_FAILURES_SHARE / LIMIT_FAILURE_BYTES);
	char expected[64];

	store_settings(f->store, &settings);
	for (int64_t i = 0; i < most + 5000; i++) {
		struct store_failure row = failure(f, (uint16_t)(40000 + i % 20000));

		row.at_wall += (usec_t)i;
		assert_int_equal(store_put_failure(f->store, &row), 0);
	}
	commit(f);
	maintain(f);
	snprintf(expected, sizeof(expected), "%lld|5000|\n", (long long)most);
	assert_rows(f, "SELECT count(*),min(usec)-1700000000123456 FROM failure", expected);
	assert_rows(f,
		"SELECT value-1700000000123456 FROM counter WHERE name='failures_expired_usec'",
		"5000|\n");
	/* a row takes what is reckoned, with its indexes */
	assert_rows(f,
		"SELECT sum(pgsize)<"
		"160"
		"*(SELECT count(*) FROM failure) FROM dbstat('main',1) WHERE name LIKE 'failure%'",
		"1|\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup_open, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_place),
		CASE(test_place_of_a_failed_commit),
		CASE(test_how),
		CASE(test_how_ranges),
		CASE(test_netns),
		CASE(test_failures),
		CASE(test_plans),
		CASE(test_expire_by_age),
		CASE(test_expire_by_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
