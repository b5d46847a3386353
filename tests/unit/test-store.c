/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/syscall.h>

#include "tests/support/store_fixture.h"

/* SQLite's and the store's: counted, and refused on demand. */
static unsigned syncs;
static bool sync_fails;

int fdatasync(int fd)
{
	syncs++;
	if (sync_fails) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static int teardown(void **state)
{
	sync_fails = false;
	return fixture_teardown(state);
}

static void reopen(struct fixture *f)
{
	f->store = store_free(f->store);
	fixture_open(f);
}

#define RANDOM_CLAIMS 1500

static void put_random(struct fixture *f, struct claim *claims, bool released)
{
	struct process *processes[FIXTURE_PROCESSES];

	fixture_processes(processes);
	for (size_t i = 0; i < RANDOM_CLAIMS; i++) {
		claims[i] = random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_MINUTE);
		if (!released && i % 3 > 0) {
			claims[i].released_boot = USEC_UNSET;
			if (i % 3 == 1) {
				claims[i].closed_boot = USEC_UNSET;
				claims[i].end_unseen = false;
			}
		}
		assert_int_equal(claims[i].released_boot == USEC_UNSET
					 ? store_put_open(f->store, &claims[i])
					 : store_put_released(f->store, &claims[i]),
			0);
	}
	processes_done(processes);
	commit(f);
}

/* Every column is what the claim says, for every value of every enum, exact and bounded times, any address. */
static void test_columns(void **state)
{
	struct fixture *f = *state;
	static struct claim claims[RANDOM_CLAIMS];
	unsigned seen[4][8] = {0};

	put_random(f, claims, false);
	for (size_t i = 0; i < RANDOM_CLAIMS; i++) {
		seen[0][claims[i].protocol]++;
		seen[1][claims[i].role]++;
		seen[2][claims[i].attribution]++;
		seen[3][claims[i].source]++;
	}
	for (size_t i = 0; i < ATTRIBUTION_COUNT; i++)
		assert_true(seen[2][i] > 0 &&
			    (i >= 4 || (seen[0][i] > 0 && seen[1][i] > 0 && seen[3][i] > 0)));
	assert_claims(f, "claims", claims, RANDOM_CLAIMS);
	assert_int_equal(store_stats(f->store).recorded, RANDOM_CLAIMS);
	claims_done(claims, RANDOM_CLAIMS);
}

static void test_addresses(void **state)
{
	static const char *const texts[] = {"::", "::1", "::1.2.3.4", "::1:0",
		"1::", "1:2:3:4:5:6:7:8", "1:0:0:2::3", "1::2:0:0:3", "0:1::", "::2:0",
		"fe80::a:b:c:d", "2001:db8:0:1:1:1:1:1", "::ffff:0:1",
		"0:0:1::", "64:ff9b::192.0.2.33", "::10:0", "a00:0:a00::", "0.0.0.0",
		"255.255.255.255", "10.0.200.9"};
	struct fixture *f = *state;
	struct claim claims[ELEMENTSOF(texts)];

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		claims[i] = fixture_claim(f, (uint16_t)(50000 + i));
		assert_int_equal(address_parse(texts[i], &claims[i].remote.address), 0);
		assert_int_equal(store_put_released(f->store, &claims[i]), 0);
	}
	commit(f);
	assert_claims(f, "claims", claims, ELEMENTSOF(texts));
}

/* One row in claim_open, however often it changes; then none, and one in the history. */
static void test_open_then_released(void **state)
{
	struct fixture *f = *state;
	struct claim c = fixture_claim(f, 50000);
	struct holder holder = {.from_boot = f->now.boot + 1, .until_boot = USEC_UNSET};

	c.closed_boot = c.closed_after_boot = c.released_boot = USEC_UNSET;
	c.opener = fixture_process(10, "sshd");
	assert_int_equal(store_put_open(f->store, &c), 0);
	commit(f);
	assert_claims(f, "claims", &c, 1);
	holder.process = fixture_process(11, "worker");
	c.role = ROLE_LISTENING;
	c.holders = &holder;
	c.holder_count = 1;
	assert_int_equal(store_put_open(f->store, &c), 0);
	commit(f);
	assert_claims(f, "claims", &c, 1);
	holder.until_boot = f->now.boot + 100;
	c.closed_boot = f->now.boot + 200;
	assert_int_equal(store_put_open(f->store, &c), 0);
	commit(f);
	assert_claims(f, "claims", &c, 1);
	c.released_boot = f->now.boot + 300;
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	assert_claims(f, "claims", &c, 1);
	assert_rows(f, "SELECT (SELECT count(*) FROM claim_open),(SELECT count(*) FROM holder)",
		"0|1|\n");
	assert_int_equal(store_stats(f->store).recorded, 1);
	process_unref(c.opener);
	process_unref(holder.process);
}

static void test_netns_told_later(void **state)
{
	struct fixture *f = *state;
	struct claim c = fixture_claim(f, 50000);
	struct netns n = {.cookie = 4711, .inode = 12345, .name = (char[]){"blue"}};

	c.netns = 4711;
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	assert_rows(f, "SELECT netns,netns_name FROM claims", "~|~|\n");
	assert_int_equal(store_put_netns(f->store, &n), 0);
	commit(f);
	assert_rows(f, "SELECT netns,netns_name FROM claims", "12345|blue|\n");
	reopen(f); /* the same boot: the cookie still means the same namespace */
	c = fixture_claim(f, 50001);
	c.netns = 4711;
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	assert_rows(f, "SELECT DISTINCT netns FROM claims", "12345|\n");
}

/* A process is one row a session, and a program one for ever. */
static void test_interned_once(void **state)
{
	struct fixture *f = *state;
	struct process *p = fixture_process(10, "sshd"), *again = fixture_process(10, "sshd"),
		       *other = fixture_process(10, "bash");

	for (int i = 0; i < 6; i++) {
		struct claim c = fixture_claim(f, (uint16_t)(50000 + i));

		c.opener = i % 3 == 0 ? p : i % 3 == 1 ? again : other;
		assert_int_equal(store_put_released(f->store, &c), 0);
		if (i == 3) {
			commit(f);
			reopen(f);
		}
	}
	commit(f);
	/* other is after execve(2): the same pid, another program */
	assert_rows(f, "SELECT session,count(*),count(DISTINCT app) FROM process GROUP BY session",
		"1|2|2|\n2|2|2|\n");
	assert_rows(f, "SELECT count(*) FROM app", "2|\n");
	process_unref(p);
	process_unref(again);
	process_unref(other);
}

static void set_pages(struct fixture *f, const char *pages)
{
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%s", pages);
	assert_int_equal(sql_exec(f->store, sql), 0);
}

/* A full database: the error undoes all of the transaction, in the file and in memory, and the same puts succeed
 * later, once each, with the right processes. */
static void test_full_and_retry(void **state)
{
	struct fixture *f = *state;
	static struct claim claims[RANDOM_CLAIMS];
	struct process *processes[FIXTURE_PROCESSES];
	size_t failed = 0;
	int r = 0;

	commit(f);
	fixture_processes(processes);
	for (size_t i = 0; i < RANDOM_CLAIMS; i++)
		claims[i] = random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_MINUTE);
	set_pages(f, "1");
	for (size_t i = 0; i < RANDOM_CLAIMS && r == 0; i++) {
		r = store_put_released(f->store, &claims[i]);
		failed = i;
	}
	assert_int_equal(r, -ENOSPC);
	assert_true(failed > 0);
	store_rollback(f->store);
	store_rollback(f->store);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	assert_rows(
		f, "SELECT (SELECT count(*) FROM process),(SELECT count(*) FROM local)", "0|0|\n");
	assert_int_equal(store_stats(f->store).recorded, 0);
	set_pages(f, "100000");
	for (size_t i = 0; i < RANDOM_CLAIMS; i++)
		assert_int_equal(store_put_released(f->store, &claims[i]), 0);
	commit(f);
	assert_claims(f, "claims", claims, RANDOM_CLAIMS);
	assert_rows(f, "SELECT min(id),max(id),count(*) FROM claim_hot", "1|1500|1500|\n");
	claims_done(claims, RANDOM_CLAIMS);
	processes_done(processes);
}

/* A question's commit is seen at once and costs no fsync; a durable one does one, even with nothing new to write. */
static void test_durability(void **state)
{
	struct fixture *f = *state;
	struct claim c = fixture_claim(f, 50000);

	commit(f); /* the first writing to a new WAL syncs its header */
	assert_int_equal(store_begin_question(f->store), 0);
	assert_int_equal(store_put_released(f->store, &c), 0);
	syncs = 0;
	assert_int_equal(store_commit(f->store, f->now, false), 0);
	assert_int_equal(syncs, 0);
	assert_claims(f, "claims", &c, 1);
	commit(f);
	assert_true(syncs > 0);
}

/* ... also when the session before has counted as far as this one: a counter that is set to what it is writes nothing. */
static void test_sync_in_every_session(void **state)
{
	struct fixture *f = *state;

	for (unsigned session = 0; session < 3; session++) {
		struct claim c;

		reopen(f);
		commit(f);
		c = fixture_claim(f, (uint16_t)(50000 + session));
		assert_int_equal(store_begin_question(f->store), 0);
		assert_int_equal(store_put_released(f->store, &c), 0);
		assert_int_equal(store_commit(f->store, f->now, false), 0);
		syncs = 0;
		commit(f);
		assert_true(syncs > 0);
	}
}

/* An fsync that fails is noticed, nothing is half there, and the retry stores it once. */
static void test_sync_error(void **state)
{
	struct fixture *f = *state;
	struct claim c = fixture_claim(f, 50000);

	commit(f);
	assert_int_equal(store_put_released(f->store, &c), 0);
	sync_fails = true;
	assert_int_equal(store_commit(f->store, f->now, true), -EIO);
	assert_rows(f, "SELECT count(*) FROM claims", "0|\n");
	sync_fails = false;
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	assert_claims(f, "claims", &c, 1);
	assert_rows(f, "PRAGMA integrity_check", "ok|\n");
}

static void test_facts(void **state)
{
	struct fixture *f = *state;
	struct coverage c = {.rung = SOURCE_SWEEP,
		.interval_usec = 1000000,
		.ranges = {.range = {{32768, 60999}, {61001, 65535}}, .count = 2},
		.ephemeral = {32768, 60999},
		.protocols = 7,
		.bound_only = true,
		.netns_all = true};
	usec_t wall = f->now.wall;

	assert_int_equal(store_put_coverage(f->store, &c, wall), 0);
	assert_int_equal(store_put_gap(f->store, wall - 10, wall, "restart", LOST_UNKNOWN), 0);
	assert_int_equal(store_put_gap(f->store, wall, wall + 1, "ring-full", 17), 0);
	assert_int_equal(store_put_clock_step(f->store, wall, -5), 0);
	f->now.boot += 1000;
	f->now.wall += 1000;
	commit(f);
	assert_rows(f,
		"SELECT session," SQL_WATCHED_UNTIL
		"-from_usec,source,interval_usec,ranges,ephemeral_low,"
		"ephemeral_high,protocols,bound_only,accepted,foreign_processes,netns_all FROM coverage c",
		"1|1000|0|1000000|32768-60999 61001-65535|32768|60999|7|1|0|0|1|\n");
	assert_rows(f, "SELECT until_usec-from_usec,reason,lost FROM gap",
		"10|restart|~|\n1|ring-full|17|\n");
	assert_rows(f, "SELECT by_usec FROM clock_step", "-5|\n");
	assert_rows(f,
		"SELECT last_seen_usec-started_usec,last_seen_boot_usec-started_boot_usec FROM session",
		"1000|1000|\n");
	/* back in time: order stays, and nothing ends before it began */
	f->now.boot -= 500;
	f->now.wall -= 5000;
	commit(f);
	assert_rows(f, "SELECT last_seen_boot_usec-started_boot_usec FROM session", "1000|\n");
	assert_rows(f, "SELECT " SQL_WATCHED_UNTIL "-from_usec FROM coverage c", "1000|\n");
	/* on, by a clock that was set back: what was watched stays watched */
	f->now.boot += 600;
	commit(f);
	assert_rows(f, "SELECT last_seen_usec-started_usec FROM session", "-4000|\n");
	/* and by one that was set while no time passed */
	f->now.wall += 10;
	commit(f);
	assert_rows(f, "SELECT last_seen_usec-started_usec FROM session", "-3990|\n");
	f->now.wall -= 10;
	commit(f);
	assert_rows(f, "SELECT last_seen_usec-started_usec FROM session", "-4000|\n");
	assert_rows(f, "SELECT " SQL_WATCHED_UNTIL "-from_usec FROM coverage c", "1000|\n");
	f->now.boot += 9000;
	f->now.wall += 9000;
	commit(f);
	assert_rows(f, "SELECT " SQL_WATCHED_UNTIL "-from_usec FROM coverage c", "5000|\n");
	/* the one before ends where the session has seen it, the new one where it begins */
	assert_int_equal(store_put_coverage(f->store, &c, wall + 6000), 0);
	commit(f);
	assert_rows(f, "SELECT until_usec-from_usec FROM coverage WHERE id=1", "5000|\n");
	assert_rows(f, "SELECT " SQL_WATCHED_UNTIL "-from_usec FROM coverage c", "5000|\n0|\n");
}

static void tick(struct fixture *f, usec_t usec)
{
	f->now.boot += usec;
	f->now.wall += usec;
}

/* What is known of the session before: the later of database and heartbeat, which moves the stretch's end as well. */
static void test_sessions(void **state)
{
	struct fixture *f = *state;
	struct coverage coverage = {.interval_usec = 1};
	struct claim c = fixture_claim(f, 50000);
	usec_t start = f->now.boot;

	assert_false(f->before.known);
	assert_int_equal(store_put_coverage(f->store, &coverage, f->now.wall), 0);
	tick(f, 10);
	commit(f);
	tick(f, 10);
	assert_int_equal(store_heartbeat(f->store, f->now), 0); /* 20 */
	assert_int_equal(store_begin_question(f->store), 0);
	assert_int_equal(store_put_released(f->store, &c), 0);
	tick(f, 10);
	assert_int_equal(store_heartbeat(f->store, f->now), 0); /* in a transaction */
	assert_int_equal(store_commit(f->store, (struct now){0}, false), 0);
	assert_int_equal(store_heartbeat(f->store, f->now), 0); /* the claim is not durable */
	f->store = store_free(f->store);
	tick(f, 1000);
	fixture_open(f);
	assert_true(f->before.known && f->before.same_boot && !f->before.clean);
	assert_int_equal(f->before.last_seen_boot, start + 20);
	assert_int_equal(f->before.last_seen_wall, FIXTURE_WALL + 20);
	assert_rows(f, "SELECT until_usec-from_usec FROM coverage", "20|\n");

	/* this one sees nothing before it ends, so the one before it counts on */
	reopen(f);
	assert_int_equal(f->before.last_seen_boot, start + 20);
	tick(f, 5);
	assert_int_equal(store_stop(f->store, f->now), 0);
	f->store = store_free(f->store);
	memset(f->boot_id, 0xb1, sizeof(f->boot_id));
	fixture_open(f);
	assert_true(f->before.known && !f->before.same_boot && f->before.clean);
	assert_int_equal(f->before.last_seen_boot, start + 1035);
}

/* A heartbeat that is torn, or of another session or boot, or of one whose boot cannot be told, is none. */
static void test_heartbeat_refused(void **state)
{
	enum { GOOD, OTHER_SESSION, OTHER_BOOT, UNKNOWN_BOOT, TORN, SHORT, CASES };
	struct fixture *f = *state;
	struct heartbeat beat, read;
	int fd = openat(f->dir, HEARTBEAT_FILE, O_RDWR | O_CLOEXEC);

	for (int i = 0; i < CASES; i++) {
		tick(f, 100);
		commit(f);
		beat = (struct heartbeat){.session = f->store->session + (i == OTHER_SESSION),
			.seen = {f->now.boot + 50, f->now.wall + 50}};
		memcpy(beat.boot_id, f->boot_id, sizeof(beat.boot_id));
		beat.boot_id[0] ^= i == OTHER_BOOT;
		if (i == UNKNOWN_BOOT)
			assert_int_equal(
				sql_exec(f->store, "UPDATE session SET boot_id=x'b0b0'"), 0);
		f->store = store_free(f->store);
		assert_int_equal(heartbeat_write(fd, &beat), 0);
		if (i == TORN)
			assert_int_equal(pwrite(fd, "\xff", 1, 40), 1);
		if (i == SHORT)
			assert_int_equal(ftruncate(fd, 40), 0);
		assert_int_equal(heartbeat_read(fd, &read), i < TORN);
		fixture_open(f);
		assert_int_equal(f->before.last_seen_boot, f->now.boot + (i == GOOD ? 50 : 0));
	}
	close(fd);
}

#define ADOPTED 40

struct adopted {
	struct claim claims[ADOPTED];
	size_t count;
	int result;
};

static int take(void *context, struct claim *claim)
{
	struct adopted *a = context;

	assert_true(a->count < ADOPTED);
	if (a->result != 0)
		return a->result;
	a->claims[a->count++] = *claim;
	return 0;
}

static void put_open_claims(struct fixture *f, struct claim claims[static ADOPTED])
{
	struct process *processes[FIXTURE_PROCESSES];

	fixture_processes(processes);
	for (size_t i = 0; i < ADOPTED; i++) {
		claims[i] = random_claim(f, processes, FIXTURE_PROCESSES, USEC_PER_MINUTE);
		claims[i].opened_boot = f->now.boot + i;
		claims[i].opened_wall = f->now.wall + i;
		claims[i].opened_after_boot = i % 2 ? USEC_UNSET : f->now.boot + i - 7000;
		claims[i].end_unseen = false;
		claims[i].released_boot = USEC_UNSET;
		claims[i].closed_boot = i % 4 == 0 ? f->now.boot + i + 10 : USEC_UNSET;
		claims[i].closed_after_boot =
			i % 8 == 0 ? claims[i].closed_boot - 2000 : USEC_UNSET;
		assert_int_equal(store_put_open(f->store, &claims[i]), 0);
	}
	processes_done(processes);
}

static void assert_process(const struct process *a, const struct process *b)
{
	assert_true(!a == !b);
	if (!a)
		return;
	assert_true(a->pid == b->pid && a->parent_pid == b->parent_pid &&
		    a->start_boot == b->start_boot);
	assert_true(
		a->pidfd_inode == b->pidfd_inode && a->uid == b->uid && a->exe_note == b->exe_note);
	assert_true(streq_null(a->comm, b->comm) && streq_null(a->exe, b->exe));
	assert_true(streq_null(a->cgroup, b->cgroup) && streq_null(a->unit, b->unit));
	assert_true(streq_null(a->parent_comm, b->parent_comm));
}

static void assert_same_claim(const struct claim *a, const struct claim *b)
{
	assert_true(a->id == b->id && a->cookie == b->cookie && a->netns == b->netns);
	assert_true(a->protocol == b->protocol && a->role == b->role && a->source == b->source);
	assert_int_equal(a->attribution, b->attribution);
	assert_true(address_equal(&a->local.address, &b->local.address));
	assert_true(address_equal(&a->remote.address, &b->remote.address));
	assert_true(a->local.port == b->local.port && a->remote.port == b->remote.port);
	assert_true(a->opened_boot == b->opened_boot && a->opened_wall == b->opened_wall);
	assert_true(a->opened_after_boot == b->opened_after_boot);
	assert_true(
		a->closed_boot == b->closed_boot && a->closed_after_boot == b->closed_after_boot);
	assert_true(a->released_boot == b->released_boot && a->preexisting == b->preexisting);
	assert_process(a->opener, b->opener);
	assert_int_equal(a->holder_count, b->holder_count);
	for (uint32_t i = 0; i < a->holder_count; i++) {
		assert_process(a->holders[i].process, b->holders[i].process);
		assert_true(a->holders[i].from_boot == b->holders[i].from_boot);
		assert_true(a->holders[i].until_boot == b->holders[i].until_boot);
	}
}

/* Of the same boot: the same claims again, oldest first, and their processes are not written a second time. */
static void test_adopt_same_boot(void **state)
{
	struct fixture *f = *state;
	struct claim claims[ADOPTED];
	struct adopted a = {0};

	put_open_claims(f, claims);
	commit(f);
	reopen(f);
	a.result = -ECANCELED;
	assert_int_equal(store_adopt(f->store, take, &a), -ECANCELED);
	a.result = 0;
	assert_int_equal(store_adopt(f->store, take, &a), 0);
	assert_int_equal(a.count, ADOPTED);
	for (size_t i = 0; i < ADOPTED; i++) {
		assert_same_claim(&a.claims[i], &claims[i]);
		assert_int_equal(store_put_open(f->store, &a.claims[i]), 0);
	}
	commit(f);
	assert_claims(f, "claims", claims, ADOPTED);
	assert_rows(f, "SELECT count(DISTINCT session) FROM process", "1|\n");
	assert_int_equal(store_stats(f->store).recorded, 0); /* they were already */
	claims_done(claims, ADOPTED);
	claims_done(a.claims, a.count);
}

/* Of another boot: ended where the last session that saw something of that boot ended, not now. */
static void test_adopt_other_boot(void **state)
{
	struct fixture *f = *state;
	struct claim claims[ADOPTED];
	struct adopted a = {0};
	usec_t alive = f->now.boot + 5000;

	put_open_claims(f, claims);
	commit(f);
	tick(f, 4000);
	reopen(f);
	tick(f, 1000);
	commit(f); /* a second session of that boot, which saw them all */
	tick(f, 500);
	reopen(f); /* and a third that saw nothing */
	f->store = store_free(f->store);
	memset(f->boot_id, 0xb1, sizeof(f->boot_id));
	f->now = (struct now){.boot = 1000, .wall = f->now.wall + USEC_PER_HOUR};
	fixture_open(f);
	assert_int_equal(store_adopt(f->store, take, &a), 0);
	assert_int_equal(a.count, 0);
	for (size_t i = 0; i < ADOPTED; i++) {
		claims[i].end_unseen = claims[i].closed_boot == USEC_UNSET;
		if (claims[i].end_unseen)
			claims[i].closed_boot = alive;
		claims[i].released_boot = alive;
	}
	assert_claims(f, "claims", claims, ADOPTED);
	assert_rows(f,
		"SELECT (SELECT count(*) FROM claim_open),min(id),max(id),count(*) FROM claim_hot",
		"0|1|40|40|\n");
	claims_done(claims, ADOPTED);
}

/* A number is never given twice, not even one that was never stored. */
static void test_numbers(void **state)
{
	struct fixture *f = *state;
	struct claim c;
	uint64_t last = 0;

	for (int i = 0; i < 4; i++) {
		for (int j = 0; j < 5000; j++) {
			c = fixture_claim(f, 50000);
			assert_true(c.id > last);
			last = c.id;
			if (j == 4000) { /* all up to here are stored, or may be */
				assert_int_equal(store_put_released(f->store, &c), 0);
				commit(f);
			}
		}
		assert_int_equal(store_put_released(f->store, &c), 0);
		commit(f);
		reopen(f);
	}
	assert_rows(f, "SELECT min(id),max(id),count(*) FROM claim_hot", "1|8|8|\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup_open, teardown)

/* Numbers that would begin anew at zero before long, which is none, or at what is there already. */
static void test_numbers_that_end(void **state)
{
	static const char *const damages[] = {
		"UPDATE counter SET value=-5 WHERE name='next_claim'",
		"UPDATE counter SET value=9223372036854775807 WHERE name='next_claim'",
		"INSERT OR REPLACE INTO counter VALUES('next_hot',-1)",
		"INSERT OR REPLACE INTO counter VALUES('commits',-1)",
		"UPDATE claim_hot SET id=9223372036854775807",
		"UPDATE claim_hot SET claim=9223372036854775807",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ELEMENTSOF(damages); i++) {
		struct claim c;

		if (i > 0)
			fixture_open(f);
		c = fixture_claim(f, 50000);
		assert_int_equal(store_put_released(f->store, &c), 0);
		commit(f);
		assert_int_equal(store_stop(f->store, f->now), 0);
		assert_int_equal(
			sqlite3_exec(f->store->db, damages[i], NULL, NULL, NULL), SQLITE_OK);
		f->store = store_free(f->store);
		if (fixture_try_open(f) != -EUCLEAN)
			fail_msg("taken: %s", damages[i]);
		assert_null(f->store);
		assert_int_equal(unlinkat(f->dir, SCHEMA_FILE, 0), 0);
		(void)unlinkat(f->dir, SCHEMA_FILE "-wal", 0);
		(void)unlinkat(f->dir, SCHEMA_FILE "-shm", 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_columns),
		CASE(test_addresses),
		CASE(test_open_then_released),
		CASE(test_netns_told_later),
		CASE(test_interned_once),
		CASE(test_full_and_retry),
		CASE(test_durability),
		CASE(test_sync_in_every_session),
		CASE(test_sync_error),
		CASE(test_facts),
		CASE(test_sessions),
		CASE(test_heartbeat_refused),
		CASE(test_adopt_same_boot),
		CASE(test_adopt_other_boot),
		CASE(test_numbers),
		CASE(test_numbers_that_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
