/* SPDX-License-Identifier: MIT */

/*
 * A small world of sockets whose true times are known, watched by a model of capture that sweeps it at random: some
 * sweeps are aborted, some rows are skipped once, some sockets are told by events, which may come after a sweep has shown them,
 * some ends come otherwise from the kernel, records are dropped until a resync, and the daemon is restarted. What the ledger says of each tenure is held against the truth: nothing is invented, each
 * is released once, times lie within their bounds, and nothing is lost that lived across two sweeps.
 *
 * `test-ledger-random SEED` plays one seed.
 */

#include "common/stream.h"
#include "daemon/ledger/ledger.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SEEDS       600
#define SOCKETS     60
#define TENURES     2 /* of one socket */
#define SWEEPS      60
#define INTERVAL    1000
#define LAST_SWEEPS 4 /* undisturbed, at the end, when all sockets are gone */
#define BORN_UNTIL  ((SWEEPS - 30) * INTERVAL)
#define ALL         15

/* A socket as it truly is. */
static const struct coverage everything = {
	.protocols = ALL, .ranges = {.range = {{1, UINT16_MAX}}, .count = 1}, .accepted = true};

struct socket {
	uint8_t protocol;
	uint16_t port[TENURES];
	usec_t opened, moved; /* moved: took its second port; USEC_UNSET: never */
	usec_t closed, released;
	bool told; /* by the kernel, exactly */
	bool events; /* ... by the source of that name: its opening, too, whatever a sweep has shown, and its release */
	bool is_due; /* the kernel says when TIME_WAIT ends */
};

/* What became of one tenure in the ledger. */
struct tenure {
	bool opened, released, expected;
	bool named; /* the ledger was told its opener */
	bool exact; /* ... and by an event when it was opened */
};

/* What the model of capture remembers of a socket. */
struct memory {
	bool known, over, absent, lingers, has_opener;
	uint16_t port;
	usec_t at;    /* told last */
	usec_t since; /* it was surely so then: begin of the last sweep that saw it, or its event */
};

struct world {
	uint64_t seed, random;
	struct ledger *ledger;
	struct socket sockets[SOCKETS];
	struct tenure tenures[SOCKETS][TENURES];
	struct memory memory[SOCKETS];
	usec_t whole[PROTOCOL_COUNT]; /* begin of the last sweep that read it whole; 0: none */
	usec_t before;                /* begin of the last whole sweep, if the ledger got it; 0 */
	usec_t last_begin;            /* of the last whole sweep that the ledger got, ever */
	uint64_t sweep, next_id;
	usec_t events_until;
	unsigned dropping; /* sweeps until a resync; meanwhile the ledger gets nothing */
	unsigned end_unseen;
};

static struct process opener = {.references = 1, .pid = 100, .start_boot = 1};

/* xorshift64*: the same world for the same seed, on every machine. */
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

#define CHECK(w, i, condition)                                                                     \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("seed %" PRIu64 ", socket %zu: " #condition, (w)->seed,           \
				(size_t)(i));                                                      \
	} while (0)

static void make_socket(struct world *w, size_t i)
{
	struct socket *s = &w->sockets[i];
	usec_t life = UINT64_C(10) << draw(w, 12);

	*s = (struct socket){
		.protocol = (uint8_t)draw(w, PROTOCOL_COUNT),
		.port = {(uint16_t)(40000 + 2 * i), (uint16_t)(40001 + 2 * i)},
		.opened = 1 + draw(w, BORN_UNTIL),
		.moved = USEC_UNSET,
		.told = chance(w, 35),
		.events = chance(w, 60),
		.is_due = chance(w, 70),
	};
	s->closed = s->released = s->opened + 1 + draw(w, life);
	if (s->protocol == PROTOCOL_TCP && chance(w, 50))
		s->released += 1 + draw(w, 3000);
	else if (s->protocol == PROTOCOL_UDP && !s->told && chance(w, 50))
		s->moved = s->opened + 1 + draw(w, s->closed - s->opened);
}

static usec_t tenure_opened(const struct socket *s, size_t n)
{
	return n == 0 ? s->opened : s->moved;
}

static usec_t tenure_closed(const struct socket *s, size_t n)
{
	return n == 0 && s->moved < s->closed ? s->moved : s->closed;
}

static usec_t tenure_released(const struct socket *s, size_t n)
{
	return n == 0 && s->moved < s->closed ? s->moved : s->released;
}

/* The sink: what the ledger says, against the truth. */

static size_t find_tenure(struct world *w, const struct claim *c)
{
	size_t i = c->cookie - 1, n;

	CHECK(w, i, i < SOCKETS);
	n = c->local.port == w->sockets[i].port[1];
	CHECK(w, i, c->local.port == w->sockets[i].port[n]);
	CHECK(w, i, tenure_opened(&w->sockets[i], n) != USEC_UNSET);
	CHECK(w, i, !c->opener || c->opener->pid == opener.pid);
	return n;
}

static void check_within(struct world *w, size_t i, usec_t truth, usec_t after, usec_t at)
{
	if (after == USEC_UNSET ? truth != at : truth < after || truth > at)
		fail_msg("seed %" PRIu64 ", socket %zu: %" PRIu64 " is not in (%" PRId64 ",%" PRIu64
			 "]",
			w->seed, i, truth, (int64_t)after, at);
}

static void on_opened(void *context, struct claim *claim)
{
	struct world *w = context;
	size_t i = claim->cookie - 1, n = find_tenure(w, claim);

	claim->id = ++w->next_id;
	CHECK(w, i, !w->tenures[i][n].opened);
	w->tenures[i][n].opened = true;
	check_within(w, i, tenure_opened(&w->sockets[i], n), claim->opened_after_boot,
		claim->opened_boot);
}

static void on_changed(void *context, struct claim *claim)
{
	struct world *w = context;
	size_t i = claim->cookie - 1, n = find_tenure(w, claim);

	CHECK(w, i, w->tenures[i][n].opened && !w->tenures[i][n].released);
	if (claim->closed_boot != USEC_UNSET)
		check_within(w, i, tenure_closed(&w->sockets[i], n), claim->closed_after_boot,
			claim->closed_boot);
}

static void on_released(void *context, struct claim *claim)
{
	struct world *w = context;
	size_t i = claim->cookie - 1, n = find_tenure(w, claim);
	const struct socket *s = &w->sockets[i];

	CHECK(w, i, w->tenures[i][n].opened && !w->tenures[i][n].released);
	CHECK(w, i, !w->tenures[i][n].named || claim->opener);
	CHECK(w, i, !w->tenures[i][n].exact || claim->opened_after_boot == USEC_UNSET);
	CHECK(w, i, !w->tenures[i][n].exact || claim->source == SOURCE_EVENTS);
	w->tenures[i][n].released = true;
	check_within(w, i, tenure_opened(s, n), claim->opened_after_boot, claim->opened_boot);
	CHECK(w, i, claim->released_boot >= claim->closed_boot);
	if (claim->end_unseen) {
		w->end_unseen++;
		return; /* the end is where we looked last, by definition */
	}
	check_within(w, i, tenure_closed(s, n), claim->closed_after_boot, claim->closed_boot);
}

static void on_coverage_begins(void *context, const struct coverage *c, usec_t from_wall)
{
	(void)context;
	(void)c;
	(void)from_wall;
}

static void on_coverage_extends(void *context, struct now until)
{
	(void)context;
	(void)until;
}

static void on_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	(void)context;
	(void)from_wall;
	(void)until_wall;
	(void)reason;
	(void)lost;
}

static void on_clock_step(void *context, usec_t at_wall, int64_t by_usec)
{
	struct world *w = context;

	(void)by_usec;
	fail_msg("seed %" PRIu64 ": a clock step at %" PRIu64, w->seed, at_wall);
}

static void on_netns(void *context, const struct netns *n)
{
	(void)context;
	(void)n;
}

/* The model of capture. */

static void tell(struct world *w, const struct record *r)
{
	int result;

	if (w->dropping > 0)
		return;
	result = ledger_apply(w->ledger, r);
	if (result != 0)
		fail_msg("seed %" PRIu64 ": record %d: %d", w->seed, (int)r->type, result);
}

static void tell_present(struct world *w, size_t i, usec_t at, usec_t after, enum source source)
{
	const struct socket *s = &w->sockets[i];
	struct memory *m = &w->memory[i];
	bool event = source == SOURCE_EVENTS;
	bool names = (event || !m->lingers) && (m->has_opener || chance(w, 70));

	m->at = at;
	m->has_opener = m->has_opener || names;
	if (names && w->dropping == 0)
		w->tenures[i][m->port == s->port[1]].named = true;
	tell(w, &(struct record){
			RECORD_SIGHTING,
			.sighting =
				{
					.kind = SIGHTING_PRESENT,
					.source = (uint8_t)source,
					.protocol = s->protocol,
					.attribution = !names  ? ATTRIBUTION_NONE
						       : event ? ATTRIBUTION_EVENT
							       : ATTRIBUTION_PROCFD,
					.opener = names ? 1 : 0,
					.time_wait = m->lingers && !event,
					.preexisting = after == 0,
					.cookie = i + 1,
					.local = {{FAMILY_IPV4, {127, 0, 0, 1}}, m->port},
					.at = at,
					.after = after,
					.expires =
						m->lingers && s->is_due ? s->released : USEC_UNSET,
				},
		});
}

static void tell_end(struct world *w, size_t i, enum sighting_kind kind, usec_t at, usec_t after)
{
	const struct socket *s = &w->sockets[i];

	tell(w, &(struct record){
			RECORD_SIGHTING,
			.sighting =
				{
					.kind = (uint8_t)kind,
					.source = kind != SIGHTING_ABSENT && s->events
							  ? SOURCE_EVENTS
							  : SOURCE_DESTROY,
					.cookie = i + 1,
					.at = at,
					.after = after,
					.time_wait =
						kind == SIGHTING_CLOSED && s->released > s->closed,
					.expires = s->is_due ? s->released : USEC_UNSET,
				},
		});
}

/* An event opens a socket, or says when one that a sweep has shown was opened. */
static void event_opened(struct world *w, size_t i)
{
	struct memory *m = &w->memory[i];
	usec_t at = w->sockets[i].opened;

	if (m->known && !w->sockets[i].events)
		return;
	if (!m->known)
		*m = (struct memory){.known = true, .port = w->sockets[i].port[0], .since = at};
	tell_present(w, i, at, USEC_UNSET, SOURCE_EVENTS);
	if (w->dropping == 0)
		w->tenures[i][0].exact = true;
}

static void event_closed(struct world *w, size_t i)
{
	struct memory *m = &w->memory[i];
	const struct socket *s = &w->sockets[i];

	tell_end(w, i, SIGHTING_CLOSED, s->closed, USEC_UNSET);
	m->lingers = s->released > s->closed;
	m->over = !m->lingers;
	m->at = m->since = s->closed;
}

/* What was left of it is gone. */
static void event_released(struct world *w, size_t i)
{
	tell_end(w, i, SIGHTING_RELEASED, w->sockets[i].released, USEC_UNSET);
	w->memory[i].over = true;
}

/* All events before `until`, each socket's in their order. */
static void events(struct world *w, usec_t until)
{
	for (size_t i = 0; i < SOCKETS; i++) {
		const struct socket *s = &w->sockets[i];

		if (!s->told)
			continue;
		if (s->opened >= w->events_until && s->opened < until)
			event_opened(w, i);
		if (s->closed >= w->events_until && s->closed < until)
			event_closed(w, i);
		if (s->events && s->released > s->closed && s->released >= w->events_until &&
			s->released < until)
			event_released(w, i);
	}
	w->events_until = until;
}

/* The row of a socket, read at `at` or a little before `told_at`. */
static void sweep_row(struct world *w, size_t i, usec_t begin, usec_t at, usec_t told_at)
{
	const struct socket *s = &w->sockets[i];
	struct memory *m = &w->memory[i];
	bool lingers = at >= s->closed;
	uint16_t port = s->port[at >= s->moved];
	bool fresh = !m->known || m->absent || m->port != port || m->lingers != lingers ||
		     (!m->has_opener && chance(w, 30));
	usec_t after = m->known ? m->since : w->whole[s->protocol];

	m->has_opener = m->has_opener && m->port == port;
	m->known = true;
	m->absent = false;
	m->port = port;
	m->lingers = lingers;
	m->since = MAX(m->since, begin);
	if (fresh)
		tell_present(w, i, told_at, after, SOURCE_SWEEP);
}

/* A row is skipped only where the bounds stay true: what the ledger knows of the socket still holds, and will when it
 * is seen again. */
static bool may_skip(struct world *w, size_t i, usec_t at)
{
	const struct socket *s = &w->sockets[i];
	const struct memory *m = &w->memory[i];
	usec_t until = at + 10 * INTERVAL;

	return w->dropping == 0 && m->known && !m->absent && until < s->closed &&
	       m->port == s->port[at >= s->moved] && m->port == s->port[until >= s->moved];
}

static void sweep_rows(struct world *w, usec_t begin, usec_t end, uint32_t protocols)
{
	for (size_t i = 0; i < SOCKETS; i++) {
		const struct socket *s = &w->sockets[i];
		struct memory *m = &w->memory[i];
		bool whole = protocols & (1u << s->protocol);
		usec_t at = begin + draw(w, end - begin), told_at = at + draw(w, end - at + 1);
		bool there = at >= s->opened && at < s->released;

		if (m->over || (!whole && chance(w, 50)))
			continue;
		if (there && !(may_skip(w, i, at) && chance(w, 3))) {
			sweep_row(w, i, begin, at, told_at);
		} else if (whole && m->known && !m->absent) {
			m->absent = true;
			tell_end(w, i, SIGHTING_ABSENT, end, m->since);
		}
	}
}

/* What lived through two whole sweeps in a row must be in the ledger. */
static void expect_tenures(struct world *w, usec_t end)
{
	for (size_t i = 0; i < SOCKETS; i++)
		for (size_t n = 0; n < TENURES; n++) {
			const struct socket *s = &w->sockets[i];

			if (tenure_opened(s, n) < w->before && tenure_released(s, n) > end)
				w->tenures[i][n].expected = true;
		}
}

static void after_whole_sweep(struct world *w, usec_t begin, usec_t end)
{
	if (w->dropping > 0) {
		w->before = 0;
		return;
	}
	if (w->before > 0)
		expect_tenures(w, end);
	w->before = w->last_begin = begin;
}

static void sweep(struct world *w, usec_t begin, bool undisturbed)
{
	static const uint32_t some[] = {ALL, ALL, ALL, ALL, ALL, ALL, ALL, 0, 1, 2, 14, 9};
	usec_t end = begin + 1 + draw(w, 200);
	uint32_t protocols = undisturbed ? ALL : some[draw(w, ELEMENTSOF(some))];

	events(w, begin);
	sweep_rows(w, begin, end, protocols);
	tell(w, &(struct record){
			RECORD_SWEEP,
			.sweep = {++w->sweep, begin, end, {end, end}, protocols},
		});
	for (unsigned p = 0; p < PROTOCOL_COUNT; p++)
		if (protocols & (1u << p))
			w->whole[p] = begin;
	if (protocols == ALL)
		after_whole_sweep(w, begin, end);
}

/* The ledger gets records again: all that capture remembers, with the little that is known of when it began. */
static void resync(struct world *w)
{
	tell(w, &(struct record){RECORD_RESYNC});
	for (size_t i = 0; i < SOCKETS; i++)
		if (w->memory[i].known && !w->memory[i].over && !w->memory[i].absent)
			tell_present(w, i, w->memory[i].at, 0, SOURCE_SWEEP);
}

static void start(struct world *w)
{
	const struct ledger_sink sink = {
		.context = w,
		.opened = on_opened,
		.changed = on_changed,
		.released = on_released,
		.coverage_begins = on_coverage_begins,
		.coverage_extends = on_coverage_extends,
		.gap = on_gap,
		.clock_step = on_clock_step,
		.netns = on_netns,
	};

	w->ledger = ledger_new(&sink);
	assert_non_null(w->ledger);
	w->sweep = 0;
	w->before = 0;
	w->dropping = 0;
	memset(w->whole, 0, sizeof(w->whole));
}

static void greet(struct world *w)
{
	tell(w, &(struct record){RECORD_HELLO});
	tell(w, &(struct record){RECORD_COVERAGE, .coverage = everything});
	tell(w, &(struct record){RECORD_PROCESS, .process = {1, &opener}});
}

/* As the store does: a copy of the claim with its own references. */
static int adopt(void *context, struct claim *claim)
{
	struct world *w = context;
	struct claim copy = *claim;

	copy.opener = claim->opener ? process_ref(claim->opener) : NULL;
	return ledger_adopt(w->ledger, &copy, w->last_begin);
}

/* Capture and ledger are killed: capture forgets all, the ledger's open claims are handed on. */
static void restart(struct world *w)
{
	struct ledger *old = w->ledger;

	start(w);
	ledger_watched_until(w->ledger, (struct now){w->last_begin, w->last_begin}, &everything);
	assert_int_equal(ledger_each(old, adopt, w), 0);
	ledger_free(old);
	greet(w);
	for (size_t i = 0; i < SOCKETS; i++)
		w->memory[i] = (struct memory){.over = w->memory[i].over};
}

static void disturb(struct world *w)
{
	if (w->dropping > 0) {
		if (--w->dropping == 0)
			resync(w);
	} else if (chance(w, 5)) {
		w->dropping = 1 + (unsigned)draw(w, 3);
	} else if (chance(w, 4)) {
		restart(w);
	}
}

static void check_end(struct world *w)
{
	assert_int_equal(ledger_stats(w->ledger).open_claims, 0);
	assert_int_equal(ledger_stats(w->ledger).unattributed, 0);
	for (size_t i = 0; i < SOCKETS; i++)
		for (size_t n = 0; n < TENURES; n++) {
			const struct tenure *t = &w->tenures[i][n];

			CHECK(w, i, t->opened == t->released);
			CHECK(w, i, t->opened || !t->expected);
		}
}

/* Returns how many claims were recorded. */
static uint64_t play(uint64_t seed, unsigned *end_unseen)
{
	struct world w = {.seed = seed, .random = seed * 2 + 1};
	usec_t now = INTERVAL;

	for (unsigned i = 0; i < 20; i++)
		draw(&w, 2);
	for (size_t i = 0; i < SOCKETS; i++)
		make_socket(&w, i);
	start(&w);
	greet(&w);
	for (unsigned k = 0; k < SWEEPS; k++, now += INTERVAL) {
		sweep(&w, now + draw(&w, 100), false);
		disturb(&w);
	}
	if (w.dropping > 0) {
		w.dropping = 0;
		resync(&w);
	}
	for (unsigned k = 0; k < LAST_SWEEPS; k++, now += INTERVAL)
		sweep(&w, now, true);
	check_end(&w);
	ledger_free(w.ledger);
	*end_unseen += w.end_unseen;
	return w.next_id;
}

static void test_seeds(void **state)
{
	uint64_t recorded = 0;
	unsigned end_unseen = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		recorded += play(seed, &end_unseen);
	print_message("  %" PRIu64 " claims, %u of them with an end that nobody saw\n", recorded,
		end_unseen);
	assert_true(recorded > SEEDS * SOCKETS / 2);
	assert_true(end_unseen > SEEDS / 10);
	assert_int_equal(opener.references, 1);
}

static uint64_t chosen_seed;

static void test_chosen_seed(void **state)
{
	unsigned end_unseen = 0;

	(void)state;
	play(chosen_seed, &end_unseen);
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
