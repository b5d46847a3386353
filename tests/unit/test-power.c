/* SPDX-License-Identifier: MIT */

/*
 * The power goes at the n-th write, for every n: of a life of the store from its first byte on, with commits of both kinds,
 * sealing, checkpoints and a clean stop. Whatever of the unsynced writes is on the disk then (nothing, all, or this and that
 * of it, torn by the sector), the next start finds a database that is whole and has a beginning of what was put, which goes
 * at least to the last durable commit, and no less than what it says it has seen.
 *
 * `test-power` tries some of the n, others each time, in one of the ways each; in the long half of check all ways at each of them;
 * `test-power all` tries every n, `test-power N` that one. With the address sanitizer, where a life takes four times as long, the first
 * tries fewer.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/syscalls.h"
#include "tests/support/disk.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define COMMITS     40
#define CLAIMS      25              /* put before each commit */
#define OPEN        5               /* of these stay open until the commit after */
#define SOME        full_or(60, 24) /* of the n that are tried without being asked for all */
#define FEW         15              /* ... with the address sanitizer */
#define WAYS        6
#define FIRST_PORT  2000
#define PORT_OF(i)  ((uint16_t)(FIRST_PORT + (i)))
#define HOURS_AHEAD 7 /* between two commits: checkpoints are due, and sealing after some of them */

/* What was true when a life ended. */
struct life {
	struct fixture f;
	uint64_t put;       /* claims that were put, in their order */
	uint64_t committed; /* of these, in a commit that succeeded */
	uint64_t durable;   /* ... in one that is durable */
	uint64_t asked;     /* ... in one that was asked for, whatever became of it */
	bool stopped;       /* a clean stop was asked for */
	/* until.boot of each commit that was asked for, and how many claims it has */
	struct {
		usec_t until;
		uint64_t claims;
	} marks[2 * COMMITS + 4];
	size_t mark_count;
	struct process *processes[FIXTURE_PROCESSES];
};

static void mark(struct life *l)
{
	assert_true(l->mark_count < ELEMENTSOF(l->marks));
	l->marks[l->mark_count].until = l->f.now.boot;
	l->marks[l->mark_count++].claims = l->put;
}

static void pass(struct life *l, usec_t usec)
{
	l->f.now.boot += usec;
	l->f.now.wall += usec;
}

static struct claim claim_number(struct life *l, uint64_t i)
{
	struct claim c = fixture_claim(&l->f, PORT_OF(i));

	c.opener = process_ref(l->processes[i % FIXTURE_PROCESSES]);
	if (i % 7 == 0) {
		c.holders = calloc(1, sizeof(*c.holders));
		assert_non_null(c.holders);
		c.holders[c.holder_count++] = (struct holder){
			.process = process_ref(l->processes[(i + 1) % FIXTURE_PROCESSES]),
			.from_boot = c.opened_boot,
			.until_boot = USEC_UNSET,
		};
	}
	return c;
}

/* The open ones of the commit before are released, others are put. */
static int put_some(struct life *l, struct claim open[static OPEN])
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < OPEN; i++) {
		if (open[i].id == 0)
			continue;
		open[i].released_boot = open[i].closed_boot;
		r = store_put_released(l->f.store, &open[i]);
		claim_done(&open[i]);
		open[i] = (struct claim){0};
	}
	for (size_t i = 0; r == 0 && i < CLAIMS; i++) {
		struct claim c = claim_number(l, l->put);

		if (i < OPEN) {
			c.released_boot = USEC_UNSET;
			r = store_put_open(l->f.store, &c);
			open[i] = c;
		} else {
			r = store_put_released(l->f.store, &c);
			claim_done(&c);
		}
		l->put += r == 0;
	}
	return r;
}

static int commit_some(struct life *l, unsigned n, struct claim open[static OPEN])
{
	bool durable = n % 3 != 1;
	int r = durable ? store_begin(l->f.store) : store_begin_question(l->f.store);
	const struct coverage how = {.rung = SOURCE_EVENTS, .protocols = 3};
	uint64_t before = l->put;

	if (r == 0 && n == 0)
		r = store_put_coverage(l->f.store, &how, l->f.now.wall);
	if (r == 0)
		r = put_some(l, open);
	if (r < 0) {
		l->put = before;
		return r;
	}
	store_ring(l->f.store, &(struct drained){.ring = {9, l->put}, .at = l->f.now.boot});
	l->asked = l->put;
	mark(l);
	r = store_commit(l->f.store, l->f.now, durable);
	if (r < 0)
		return r;
	l->committed = l->put;
	if (durable)
		l->durable = l->put;
	return 0;
}

static int stop(struct life *l)
{
	int r;

	mark(l);
	l->stopped = true;
	r = store_stop(l->f.store, l->f.now);
	if (r == 0)
		l->durable = l->put;
	return r;
}

/* One life: until it is over, or the power is. */
static void live(struct life *l)
{
	struct claim open[OPEN] = {{0}};
	int r = fixture_try_open(&l->f);

	for (unsigned n = 0; r == 0 && n < COMMITS; n++) {
		r = commit_some(l, n, open);
		for (unsigned step = 0; r == 0 && step < 4; step++)
			if (store_maintain(l->f.store, l->f.now) <= 0)
				break;
		pass(l, n % 2 == 0 ? HOURS_AHEAD * USEC_PER_HOUR : USEC_PER_SEC);
		if (r == 0 && n % 5 == 0) {
			mark(l);
			r = store_heartbeat(l->f.store, l->f.now);
			pass(l, USEC_PER_MSEC);
		}
	}
	if (r == 0)
		r = stop(l);
	if (r < 0)
		assert_true(disk_is_stopped());
	claims_done(open, OPEN);
	l->f.store = store_free(l->f.store);
}

static void begin_life(struct life *l, uint64_t seed)
{
	*l = (struct life){0};
	fixture_init(&l->f);
	l->f.random ^= seed;
	fixture_processes(l->processes);
	disk_reset(seed);
}

static void end_life(struct life *l)
{
	processes_done(l->processes);
	fixture_done(&l->f);
}

static uint64_t number(const struct fixture *f, const char *sql)
{
	_cleanup_(free_p) char *text = read_rows(f, sql);

	assert_non_null(text);
	return strtoull(text, NULL, 10);
}

/* The heartbeat is never synced: what of it is on the disk is chance. */
static void hurt_heartbeat(struct life *l)
{
	int fd = openat(l->f.dir, HEARTBEAT_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	switch (fixture_random(&l->f, 4)) {
	case 0:
		assert_int_equal(ftruncate(fd, (off_t)fixture_random(&l->f, 56)), 0);
		break;
	case 1:
		assert_int_equal(pwrite(fd, "?", 1, (off_t)fixture_random(&l->f, 56)), 1);
		break;
	default:
		break;
	}
	close(fd);
}

/* How many claims a session that says it has seen all until then must have. */
static uint64_t claims_until(const struct life *l, usec_t seen)
{
	uint64_t claims = 0;

	for (size_t i = 0; i < l->mark_count; i++)
		if (l->marks[i].until <= seen)
			claims = l->marks[i].claims;
	return claims;
}

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg(__VA_ARGS__);                                                     \
	} while (0)

static void check_rows(struct life *l, uint64_t n)
{
	const struct fixture *f = &l->f;
	uint64_t rows = number(f, "SELECT count(*) FROM claims");
	unsigned long long at = n;

	assert_rows(f, "PRAGMA integrity_check", "ok|\n");
	CHECK(rows >= l->durable && rows <= l->asked,
		"n=%llu: %llu rows, of %llu that are durable and %llu that were put", at,
		(unsigned long long)rows, (unsigned long long)l->durable,
		(unsigned long long)l->asked);
	/* a beginning of what was put, each once, with its opener */
	CHECK(number(f, "SELECT count(DISTINCT port) FROM claims WHERE attribution='procfd'") ==
			rows,
		"n=%llu: a claim is there twice", at);
	CHECK(rows == 0 || number(f, "SELECT max(port) FROM claims") == FIRST_PORT + rows - 1,
		"n=%llu: one is missing between others", at);
	CHECK(number(f, "SELECT count(*) FROM claims WHERE comm IS NULL") ==
			number(f, "SELECT count(*) FROM claims WHERE (port-" SQL_NUMBER(
					  FIRST_PORT) ")%12=5"),
		"n=%llu: one has lost its opener", at);
	CHECK(number(f, "SELECT count(*) FROM claims WHERE holders='[]' AND (port-" SQL_NUMBER(
				FIRST_PORT) ")%7=0") == 0,
		"n=%llu: one has lost its holder", at);
	CHECK(number(f, "SELECT count(*) FROM claims WHERE closed_usec<opened_usec"
			" OR released_usec<closed_usec") == 0,
		"n=%llu: a negative duration", at);
	CHECK(claims_until(l, f->before.last_seen_boot) <= rows,
		"n=%llu: the session says more than it has", at);
	CHECK(!f->before.clean || (l->stopped && rows == l->put),
		"n=%llu: a clean stop that was none", at);
}

static int take(void *context, struct claim *claim)
{
	(void)context;
	claim_done(claim);
	return 0;
}

/* After the power is back: another boot. It may go once more while the start is under way. */
static void start_again(struct life *l, uint64_t n, unsigned again)
{
	int r;

	memset(l->f.boot_id, 0xb1, sizeof(l->f.boot_id));
	pass(l, USEC_PER_MINUTE);
	if (again > 0) {
		disk_stop_at(disk_operations() + again);
		if (fixture_try_open(&l->f) == 0 && !disk_is_stopped())
			(void)!store_adopt(l->f.store, take, l);
		l->f.store = store_free(l->f.store);
		disk_power_back(DISK_KEPT_SOME);
	}
	r = fixture_try_open(&l->f);
	if (r < 0)
		fail_msg("n=%llu: it does not open again: %s", (unsigned long long)n, strerror(-r));
	assert_int_equal(store_adopt(l->f.store, take, l), 0);
	/* it is fit for use */
	assert_int_equal(store_put_gap(l->f.store, 1, 2, "host-down", LOST_UNKNOWN), 0);
	commit(&l->f);
}

static bool cut_at(uint64_t n, uint64_t seed, enum disk_kept kept)
{
	static struct life l;
	bool reached;

	begin_life(&l, n * 31 + seed);
	disk_stop_at(n);
	live(&l);
	reached = disk_is_stopped();
	disk_power_back(kept);
	hurt_heartbeat(&l);
	start_again(&l, n, (unsigned)(seed % 3 == 0 ? 0 : 1 + seed * 7 % 23));
	check_rows(&l, n);
	end_life(&l);
	return reached;
}

static void cut_in_way(uint64_t n, uint64_t way)
{
	if (way == 0)
		cut_at(n, 0, DISK_KEPT_NOTHING);
	else if (way == 1)
		cut_at(n, 0, DISK_KEPT_ALL);
	else
		cut_at(n, way - 1, DISK_KEPT_SOME);
}

static void cut_in_every_way(uint64_t n)
{
	for (uint64_t way = 0; way < WAYS; way++)
		cut_in_way(n, way);
}

/* How many operations a whole life takes. */
static uint64_t count_operations(void)
{
	static struct life l;
	uint64_t operations;

	begin_life(&l, 0);
	live(&l);
	operations = disk_operations();
	assert_int_equal(l.put, COMMITS * CLAIMS);
	fixture_open(&l.f);
	check_rows(&l, 0);
	assert_rows(&l.f, "SELECT count(*)>2 FROM segment", "1|\n");
	end_life(&l);
	return operations;
}

static uint64_t chosen; /* 0: some of them; UINT64_MAX: all */

static void test_power(void **state)
{
	uint64_t operations = count_operations(), tried = 0;
	bool all = chosen == UINT64_MAX, every_way = all || (is_full() && !SYSCALLS_SANITIZED);
	unsigned every = all ? 1 : (unsigned)operations / (SYSCALLS_SANITIZED ? FEW : SOME);

	(void)state;
	assert_true(operations > 1000);
	/* the tables are made in the first, one by one */
	for (uint64_t n = 1; n <= operations; n += n < 30 && !all ? 3 : stride(every), tried++)
		if (every_way)
			cut_in_every_way(n);
		else
			cut_in_way(n, tried % WAYS);
	assert_false(cut_at(operations + 1, 0, DISK_KEPT_NOTHING));
	print_message("  %llu operations, the power went at %llu of them, in %d ways each\n",
		(unsigned long long)operations, (unsigned long long)tried, every_way ? WAYS : 1);
}

static void test_chosen(void **state)
{
	(void)state;
	cut_in_every_way(chosen);
}

int main(int argc, char *argv[])
{
	static const struct CMUnitTest every[] = {cmocka_unit_test(test_power)};
	static const struct CMUnitTest one[] = {cmocka_unit_test(test_chosen)};

	disk_install();
	if (argc > 1)
		chosen = streq(argv[1], "all") ? UINT64_MAX : strtoull(argv[1], NULL, 10);
	if (chosen == 0 || chosen == UINT64_MAX)
		return cmocka_run_group_tests(every, NULL, NULL);
	return cmocka_run_group_tests(one, NULL, NULL);
}
