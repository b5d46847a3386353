/* SPDX-License-Identifier: MIT */

/*
 * The ledger is killed in the midst of what the events' ring tells, and told again from the stored place: again and again, with
 * commits at any time. What is in the database at the end is what the same history leaves when nobody is killed: each claim
 * once, with the same times, each loss once, each failure once.
 *
 * `test-replay SEED` plays one seed.
 */

#include "common/stream.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "daemon/ledger/batch.h"
#include "tests/support/full.h"
#include "tests/support/store_fixture.h"

#define SEEDS      full_or(12, 3)
#define SOCKETS    60
#define EVENTS     (SOCKETS * 6) /* at most */
#define STEP       (20 * USEC_PER_MSEC)
#define GENERATION 9
#define ALL        15

/* What the ring has, in its order; the place behind an event is its index plus one. */
struct happening {
	struct record record;
	uint64_t lost; /* in all, when it happened */
};

/* What is true of a socket after the events told so far. */
struct truth {
	const struct sighting *open; /* its last PRESENT; NULL: it is not there */
	bool lingers;
};

struct world {
	struct fixture f;
	uint64_t seed, random;
	struct happening ring[EVENTS];
	size_t count;

	struct batch *batch;
	struct ledger *ledger;
	uint64_t sweeps, told; /* in this session; told: the place that was read */
	unsigned kills, commits_within;
};

static struct process opener = {.references = 1, .pid = 100, .start_boot = 1, .uid = UID_UNSET};

static uint64_t draw(struct world *w, uint64_t below)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (w->random * UINT64_C(2685821657736338717) >> 33) % below;
}

static bool chance(struct world *w, unsigned percent)
{
	return draw(w, 100) < percent;
}

/* The history */

static usec_t moment(size_t index)
{
	return FIXTURE_BOOT + (index + 1) * STEP;
}

static void happen(struct world *w, struct record r)
{
	struct happening *h = &w->ring[w->count];
	uint64_t lost = w->count > 0 ? h[-1].lost : 0;

	assert_true(w->count < EVENTS);
	if (r.type == RECORD_SIGHTING)
		r.sighting.at = moment(w->count);
	else
		r.failure.at = moment(w->count);
	*h = (struct happening){.record = r, .lost = lost + (chance(w, 3) ? 1 + draw(w, 5) : 0)};
	w->count++;
}

static struct record told_of(uint64_t cookie, enum sighting_kind kind, uint16_t port, bool udp)
{
	return (struct record){
		RECORD_SIGHTING,
		.sighting =
			{
				.kind = (uint8_t)kind,
				.source = SOURCE_EVENTS,
				.protocol = udp ? PROTOCOL_UDP : PROTOCOL_TCP,
				.role = udp ? ROLE_BOUND : ROLE_CONNECTED,
				.attribution = ATTRIBUTION_EVENT,
				.opener = 1,
				.cookie = cookie,
				.netns = FIXTURE_NETNS,
				.local = {{FAMILY_IPV4, {127, 0, 0, 1}}, port},
				.after = USEC_UNSET,
				.expires = USEC_UNSET,
			},
	};
}

/* A life is a list of events; the lives of all sockets are shuffled into one. UDP sockets have two tenures, of one port or of
 * two; of TCP something may be left for a while. */
static size_t make_life(struct world *w, uint64_t cookie, struct record ret[6])
{
	uint16_t port = (uint16_t)(40000 + 2 * cookie);
	struct record closed = told_of(cookie, SIGHTING_CLOSED, port, false);
	size_t n = 0;

	if (chance(w, 40)) {
		for (unsigned tenure = 0; tenure < 2; tenure++) {
			uint16_t at = (uint16_t)(port + (chance(w, 50) ? tenure : 0));

			ret[n++] = told_of(cookie, SIGHTING_PRESENT, at, true);
			ret[n++] = told_of(cookie, SIGHTING_CLOSED, at, true);
		}
		return n;
	}
	ret[n++] = told_of(cookie, SIGHTING_PRESENT, port, false);
	if (chance(w, 20))
		ret[n++] = (struct record){
			RECORD_FAILURE,
			.failure = {.netns = FIXTURE_NETNS,
				.error = FAILURE_IN_USE,
				.call = FAILURE_BIND,
				.local = {{FAMILY_IPV4, {0}}, port},
				.process = 1},
		};
	closed.sighting.time_wait = chance(w, 50);
	ret[n++] = closed;
	if (closed.sighting.time_wait)
		ret[n++] = told_of(cookie, SIGHTING_RELEASED, port, false);
	return n;
}

static void make_history(struct world *w)
{
	struct record lives[SOCKETS][6];
	size_t length[SOCKETS], next[SOCKETS] = {0}, left = 0;

	for (size_t i = 0; i < SOCKETS; i++)
		left += length[i] = make_life(w, i + 1, lives[i]);
	while (left > 0) {
		/* a window of lives at a time, so that some are short and some are long */
		size_t first = 0, i;

		while (next[first] == length[first])
			first++;
		i = MIN(first + draw(w, 8), (uint64_t)SOCKETS - 1);
		if (next[i] == length[i])
			continue;
		happen(w, lives[i][next[i]++]);
		left--;
	}
}

/* A session of the ledger */

static void tell(struct world *w, const struct record *r)
{
	int e = ledger_apply(w->ledger, r);

	if (e < 0)
		fail_msg("seed %" PRIu64 ": record %d: %d", w->seed, (int)r->type, e);
}

static usec_t now(const struct world *w)
{
	return w->told > 0 ? moment(w->told - 1) + 1 : FIXTURE_BOOT;
}

static struct now clock_at(usec_t boot)
{
	return (struct now){.boot = boot, .wall = FIXTURE_WALL + (boot - FIXTURE_BOOT)};
}

static void drain(struct world *w)
{
	tell(w, &(struct record){
			RECORD_DRAINED,
			.drained = {.ring = {GENERATION, w->told},
				.lost = w->told > 0 ? w->ring[w->told - 1].lost : 0,
				.at = now(w)},
		});
}

static struct truth truth_of(const struct world *w, uint64_t cookie)
{
	struct truth t = {NULL, false};

	for (size_t i = 0; i < w->told; i++) {
		const struct sighting *s = &w->ring[i].record.sighting;

		if (w->ring[i].record.type != RECORD_SIGHTING || s->cookie != cookie)
			continue;
		if (s->kind == SIGHTING_PRESENT)
			t = (struct truth){s, false};
		else if (s->kind == SIGHTING_CLOSED && s->time_wait)
			t.lingers = true;
		else
			t.open = NULL;
	}
	return t;
}

/* A sweep shows what is there, and knows nothing that is new. */
static void sweep(struct world *w)
{
	usec_t at = now(w);

	for (uint64_t cookie = 1; cookie <= SOCKETS; cookie++) {
		struct truth t = truth_of(w, cookie);
		struct record r = {RECORD_SIGHTING};

		if (!t.open)
			continue;
		r.sighting = *t.open;
		r.sighting.source = SOURCE_SWEEP;
		r.sighting.attribution = ATTRIBUTION_NONE;
		r.sighting.opener = 0;
		r.sighting.time_wait = t.lingers;
		r.sighting.preexisting = w->sweeps == 0;
		r.sighting.at = at;
		r.sighting.after = 0;
		tell(w, &r);
	}
	w->sweeps++;
	tell(w, &(struct record){
			RECORD_SWEEP,
			.sweep = {.number = w->sweeps,
				.begin = at,
				.end = at,
				.now = clock_at(at),
				.protocols = ALL,
				.netns = FIXTURE_NETNS},
		});
}

static void commit_now(struct world *w)
{
	w->commits_within += batch_is_told_partly(w->batch);
	assert_int_equal(batch_commit(w->batch, clock_at(now(w)), false), 0);
}

static int take(void *context, struct claim *claim)
{
	struct world *w = context;
	int r = ledger_adopt(w->ledger, claim, w->f.before.last_seen_boot);

	return r == -EEXIST ? batch_left_open(w->batch, claim) : r;
}

/* Whoever is killed now leaves what was there, whether the ring will tell of it or not. */
static void adopt(struct world *w)
{
	_cleanup_(free_p) char *before = read_rows(&w->f, "SELECT * FROM claims ORDER BY 1,2,3,10");
	_cleanup_(free_p) char *after = NULL;

	assert_int_equal(store_adopt(w->f.store, take, w), 0);
	after = read_rows(&w->f, "SELECT * FROM claims ORDER BY 1,2,3,10");
	assert_non_null(before);
	assert_non_null(after);
	if (!streq(before, after))
		fail_msg("seed %" PRIu64 ": rows went before they were told again", w->seed);
}

/* What ledger process and capture do when either is new. */
static void begin(struct world *w)
{
	const struct drained *stored = &w->f.before.ring;
	struct ledger_sink sink;
	size_t live = w->told;

	opener.store_id = opener.store_epoch = 0; /* a new process knows nothing of it */
	assert_int_equal(fixture_try_open(&w->f), 0);
	w->batch = batch_new(w->f.store);
	assert_non_null(w->batch);
	batch_ring_before(w->batch, stored);
	batch_ring(w->batch, true);
	sink = batch_sink(w->batch);
	w->ledger = ledger_new(&sink);
	assert_non_null(w->ledger);
	ledger_ring_before(w->ledger, stored, stored->ring.generation == GENERATION,
		stored->ring.generation == GENERATION);
	adopt(w);
	tell(w, &(struct record){
			RECORD_HELLO, .hello = {.at = clock_at(now(w)), .generation = GENERATION}});
	tell(w, &(struct record){
			RECORD_NETNS, .netns = {FIXTURE_NETNS, FIXTURE_INODE, NULL, {0, 0}}});
	tell(w, &(struct record){RECORD_COVERAGE,
			.coverage = {.rung = SOURCE_EVENTS,
				.protocols = ALL,
				.netns_all = true,
				.ranges = {.range = {{1, UINT16_MAX}}, .count = 1}}});
	tell(w, &(struct record){RECORD_PROCESS, .process = {1, &opener}});
	w->sweeps = 0;
	assert_true(stored->ring.position <= live);
	for (w->told = stored->ring.position; w->told < live;)
		tell(w, &w->ring[w->told++].record);
	if (live > 0)
		drain(w);
	sweep(w);
}

/* What is in memory only is gone. */
static void kill_it(struct world *w)
{
	w->ledger = ledger_free(w->ledger);
	w->batch = batch_free(w->batch);
	w->f.store = store_free(w->f.store);
	w->kills++;
}

/* Plays the history. Returns what is in the database at the end, as text. */
static char *play(struct world *w, bool disturbed)
{
	char *result;

	w->told = w->kills = w->commits_within = 0;
	fixture_init(&w->f);
	begin(w);
	while (w->told < w->count) {
		tell(w, &w->ring[w->told++].record);
		if (disturbed && chance(w, 8))
			commit_now(w);
		if (chance(w, 15))
			drain(w);
		if (!batch_is_told_partly(w->batch) && chance(w, 20))
			sweep(w);
		if (disturbed && chance(w, 8))
			commit_now(w);
		if (disturbed && chance(w, 6)) {
			kill_it(w);
			begin(w);
		}
	}
	drain(w);
	commit_now(w);
	assert_int_equal(ledger_stats(w->ledger).open_claims, 0);
	result = read_rows(&w->f,
		"SELECT port,protocol,role,opened_usec,opened_after_usec,closed_usec,closed_after_usec,"
		"released_usec,pid,attribution,source,holders FROM claims UNION ALL"
		" SELECT 'lost',sum(lost),NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL FROM gap"
		" UNION ALL SELECT usec,port,protocol,error,pid,holder_pid,holder_opened_usec,NULL,NULL,"
		"NULL,NULL,NULL FROM failures ORDER BY 1,2,3,4");
	kill_it(w);
	fixture_done(&w->f);
	return result;
}

/* The first line that differs. */
static void print_difference(const char *a, const char *b)
{
	while (*a && *a == *b) {
		const char *next = strchr(a, '\n');

		if (!next || strncmp(a, b, (size_t)(next - a) + 1) != 0)
			break;
		b += next - a + 1;
		a = next + 1;
	}
	print_message("  undisturbed: %.160s\n  killed:      %.160s\n", a, b);
}

static void compare(uint64_t seed, unsigned *kills, unsigned *within)
{
	struct world *w = calloc(1, sizeof(*w));
	_cleanup_(free_p) char *quiet = NULL, *disturbed = NULL;

	assert_non_null(w);
	w->seed = seed;
	w->random = seed * 2 + 1;
	for (unsigned i = 0; i < 20; i++)
		draw(w, 2);
	make_history(w);
	quiet = play(w, false);
	disturbed = play(w, true);
	assert_non_null(quiet);
	assert_non_null(disturbed);
	if (!streq(quiet, disturbed)) {
		print_difference(quiet, disturbed);
		fail_msg("seed %" PRIu64 ", killed %u times", seed, w->kills);
	}
	*kills += w->kills;
	*within += w->commits_within;
	free(w);
}

static void test_seeds(void **state)
{
	unsigned kills = 0, within = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		compare(seed, &kills, &within);
	print_message(
		"  killed %u times, %u commits in the midst of what was told\n", kills, within);
	assert_true(kills > SEEDS * 3);
	assert_true(within > SEEDS * 3);
	assert_int_equal(opener.references, 1);
}

static uint64_t chosen_seed;

static void test_chosen_seed(void **state)
{
	unsigned kills = 0, within = 0;

	(void)state;
	compare(chosen_seed, &kills, &within);
}

int main(int argc, char *argv[])
{
	static const struct CMUnitTest seeds[] = {cmocka_unit_test(test_seeds)};
	static const struct CMUnitTest chosen[] = {cmocka_unit_test(test_chosen_seed)};

	if (argc < 2)
		return cmocka_run_group_tests(seeds, NULL, NULL);
	chosen_seed = strtoull(argv[1], NULL, 10);
	return cmocka_run_group_tests(chosen, NULL, NULL);
}
