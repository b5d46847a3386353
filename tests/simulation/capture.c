/* SPDX-License-Identifier: MIT */

/*
 * A model of capture: what it remembers of each socket, and what it says of it when it reads the ring and when it sweeps. With
 * each ledger it begins anew: an empty table, and the ring from the stored place.
 */

#include "tests/simulation/sim.h"

#include <stdio.h>

void capture_say(struct sim *s, const struct record *r)
{
	if (stream_put(&s->out, r) < 0)
		wrong(s, "a record that cannot be written (type %d)", (int)r->type);
	/* what a commit may follow at once is not mixed with what comes after it */
	if (r->type == RECORD_DRAINED || r->type == RECORD_SWEEP || buf_size(&s->out) > 32768)
		session_pump(s);
}

static struct coverage coverage_of(const struct sim *s)
{
	return (struct coverage){
		.rung = s->events ? SOURCE_EVENTS : SOURCE_DESTROY,
		.interval_usec = USEC_PER_SEC,
		.protocols = ALL,
		.netns_all = s->events,
		.udp_connect = s->events,
		.failures = s->events,
		.foreign_processes = true,
		.bound_only = true,
		.accepted = true,
		.ephemeral = {32768, 60999},
		.ranges = {.range = {{32768, UINT16_MAX}}, .count = 1},
	};
}

void capture_hello(struct sim *s)
{
	struct record hello = {RECORD_HELLO,
		.hello = {.at = s->clock, .capture_pid = 77, .generation = s->ring.generation}};
	char version[] = "simulated";

	memset(hello.hello.boot_id, 0xb0, BOOT_ID_BYTES);
	hello.hello.boot_id[0] = (uint8_t)s->boot;
	hello.hello.version = version;
	capture_say(s, &hello);
	for (uint32_t i = 0; i < s->people_count; i++)
		s->people[i].ref = 0;
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		t->known = t->lingers = t->seen_lingering = t->absent = t->by_event = t->over =
			false;
		t->told = false;
	}
	s->next_ref = 1;
	s->sweeps = 0;
	s->whole_begin = 0;
}

/* READY has come. */
void capture_begin(struct sim *s)
{
	capture_say(s,
		&(struct record){RECORD_SETTINGS, .settings = {.max_age_usec = 3650 * USEC_PER_DAY,
							  .user_share_permille = 1000,
							  .coalesce_above = UINT64_MAX,
							  .max_bytes = UINT64_C(1) << 30}});
	capture_say(s,
		&(struct record){RECORD_NETNS, .netns = {HOME, HOME_INODE, NULL, {32768, 60999}}});
	capture_say(s, &(struct record){RECORD_COVERAGE, .coverage = coverage_of(s)});
}

/* The ref of a person, who is introduced if need be. */
static uint32_t ref_of(struct sim *s, uint32_t person)
{
	struct person *p = &s->people[person];
	char comm[24], exe[32];
	struct process process = {
		.references = 1,
		.pid = p->pid,
		.start_boot = p->start,
		.uid = 1000,
		.comm = comm,
		.exe = exe,
	};

	if (p->ref != 0)
		return p->ref;
	snprintf(comm, sizeof(comm), "p%u", (unsigned)person);
	snprintf(exe, sizeof(exe), "/usr/bin/p%u", (unsigned)person);
	p->ref = s->next_ref++;
	capture_say(s, &(struct record){RECORD_PROCESS, .process = {p->ref, &process}});
	return p->ref;
}

/* Its local address is its number. */
static struct endpoint local_of(const struct sim *s, const struct tenure *t)
{
	uint32_t number = (uint32_t)(t - s->tenures) + 1;
	struct endpoint e = {
		.address = {t->ipv6 ? FAMILY_IPV6 : FAMILY_IPV4, {0}}, .port = t->port};
	uint8_t *low = e.address.bytes + (t->ipv6 ? 12 : 0);

	e.address.bytes[0] = t->ipv6 ? 0xfd : 0;
	low[0] = t->ipv6 ? 0 : 10;
	low[1] = (uint8_t)(number >> 16);
	low[2] = (uint8_t)(number >> 8);
	low[3] = (uint8_t)number;
	return e;
}

/* Capture knows a socket by its cookie: with this tenure told, no earlier one of the same socket is looked for. */
static void supersede(struct sim *s, const struct tenure *t)
{
	for (uint32_t i = 0; &s->tenures[i] != t; i++)
		if (s->tenures[i].boot == t->boot && s->tenures[i].cookie == t->cookie)
			s->tenures[i].over = true;
}

static void told(struct sim *s, struct tenure *t)
{
	supersede(s, t);
	if (!t->told)
		t->told_at = s->clock.boot;
	t->told = t->ever_told = true;
}

static struct record about(struct sim *s, struct tenure *t, enum sighting_kind kind,
	enum source source, usec_t at, usec_t after)
{
	static const char *const kinds[] = {"", "present", "absent", "closed", "released"};

	trace(s, "claim %u is %s at %llu after %lld (source %d)", (unsigned)(t - s->tenures),
		kinds[kind], (unsigned long long)at, (long long)after, (int)source);
	if (kind == SIGHTING_PRESENT)
		told(s, t);
	return (struct record){
		RECORD_SIGHTING,
		.sighting =
			{
				.kind = (uint8_t)kind,
				.source = (uint8_t)source,
				.protocol = t->protocol,
				.role = t->role,
				.cookie = t->cookie,
				.netns = t->abroad ? ABROAD : HOME,
				.local = local_of(s, t),
				.at = at,
				.after = after,
				.expires = USEC_UNSET,
			},
	};
}

/* Events */

static void say_opened(struct sim *s, struct tenure *t, bool named)
{
	struct record r;
	uint32_t ref = named ? ref_of(s, t->opener) : 0;

	r = about(s, t, SIGHTING_PRESENT, SOURCE_EVENTS, t->opened, USEC_UNSET);
	r.sighting.attribution = named ? ATTRIBUTION_EVENT : ATTRIBUTION_NONE;
	r.sighting.opener = ref;
	capture_say(s, &r);
	if (!t->known)
		t->since = t->opened;
	t->known = t->by_event = true;
}

static void say_closed(struct sim *s, struct tenure *t)
{
	bool may_linger = t->protocol == PROTOCOL_TCP && t->role == ROLE_CONNECTED;
	struct record r = about(s, t, SIGHTING_CLOSED, SOURCE_EVENTS, t->closed, USEC_UNSET);

	r.sighting.time_wait = may_linger && !t->abroad;
	capture_say(s, &r);
	t->over = !r.sighting.time_wait;
	if (!t->known)
		return; /* a sweep may show what is left of it */
	t->by_event = true;
	t->lingers = r.sighting.time_wait;
	t->since = t->closed;
}

static void say_record(struct sim *s, const struct ring_record *r)
{
	struct tenure *t = &s->tenures[r->tenure];

	if (t->over)
		return; /* told by other means, and known to be so */
	switch (r->kind) {
	case RING_OPENED:
		say_opened(s, t, true);
		return;
	case RING_WHOLE:
		say_opened(s, t, chance(s, 50));
		say_closed(s, t);
		return;
	case RING_CLOSED:
		say_closed(s, t);
		return;
	}
}

/* `partly`: as far as the stream has room, and without a word of how far that is. */
void capture_drain(struct sim *s, bool partly)
{
	struct ring *r = &s->ring;
	uint64_t until = r->head;

	if (r->generation == 0 || !s->running)
		return;
	if (partly)
		until = s->read + draw(s, r->head - s->read + 1);
	while (s->read < until)
		say_record(s, &r->records[s->read++ % RING_MAX]);
	if (partly)
		return;
	s->lost_told = r->lost;
	capture_say(s, &(struct record){
			       RECORD_DRAINED,
			       .drained = {.ring = {r->generation, s->read},
				       .lost = r->lost,
				       .lost_ends = r->lost_ends,
				       .at = s->clock.boot,
				       .urgent = r->head - r->kept > r->room / 4},
		       });
}

/* Sweeps */

static void say_row(struct sim *s, struct tenure *t, bool lingers)
{
	bool first = s->whole_begin == 0;
	bool named = !lingers && chance(s, 60);
	uint32_t holder = t->heir != NOBODY && chance(s, 30) ? t->heir : t->opener;
	uint32_t ref = named ? ref_of(s, holder) : 0;
	usec_t after = t->known ? t->since : s->whole_begin;
	struct record r = about(s, t, SIGHTING_PRESENT, SOURCE_SWEEP, s->clock.boot, after);

	r.sighting.attribution = named ? ATTRIBUTION_PROCFD : ATTRIBUTION_NONE;
	r.sighting.opener = ref;
	r.sighting.time_wait = lingers;
	r.sighting.preexisting = first && !t->known;
	if (lingers)
		r.sighting.expires = t->released;
	capture_say(s, &r);
	t->swept = true;
	t->known = true;
	t->absent = false;
	t->lingers = lingers;
	t->seen_lingering |= lingers;
}

/* A socket of here that the sweep has not shown, and that we knew. */
static void say_gone(struct sim *s, struct tenure *t)
{
	struct record r;

	if (t->lingers && t->by_event) {
		/* the rung of the events decides: the port was free at the close, or what was left has ended since */
		usec_t at = t->seen_lingering ? t->released : t->since;

		r = about(s, t, SIGHTING_RELEASED, SOURCE_EVENTS, at, USEC_UNSET);
		t->over = true;
	} else {
		r = about(s, t, SIGHTING_ABSENT, SOURCE_SWEEP, s->clock.boot, t->since);
		t->absent = true;
		t->missed_at = MIN(t->missed_at, s->clock.boot);
	}
	capture_say(s, &r);
}

static bool is_there(const struct tenure *t, usec_t at)
{
	return t->opened <= at && (t->released == USEC_UNSET || t->released > at);
}

static void look_at(struct sim *s, struct tenure *t, usec_t begin)
{
	bool lingers = t->closed != USEC_UNSET && t->closed <= begin;

	if (t->abroad || t->over)
		return;
	if (!is_there(t, begin)) {
		if (t->absent)
			t->over = true;
		else if (t->known)
			say_gone(s, t);
		return;
	}
	if (!t->known || t->absent || t->lingers != lingers || (lingers && !t->seen_lingering) ||
		chance(s, 10))
		say_row(s, t, lingers);
	if (!lingers || !t->by_event)
		t->since = MAX(t->since, begin);
}

/* Rows that the sweep shows before the ring has told of them: not of sockets that may have had another port before. */
static void look_early(struct sim *s, usec_t begin)
{
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		if (t->boot == s->boot && !t->abroad && !t->known && t->protocol == PROTOCOL_TCP &&
			t->closed == USEC_UNSET && chance(s, 20)) {
			say_row(s, t, false);
			t->since = begin;
		}
	}
}

void capture_sweep(struct sim *s, bool whole)
{
	usec_t begin = s->clock.boot;

	if (!s->running)
		return;
	if (s->events)
		look_early(s, begin);
	capture_drain(s, false);
	for (uint32_t i = 0; whole && i < s->tenure_count; i++)
		if (s->tenures[i].boot == s->boot)
			look_at(s, &s->tenures[i], begin);
	world_pass(s, draw(s, 2000));
	s->sweeps++;
	trace(s, "sweep %llu, %s", (unsigned long long)s->sweeps, whole ? "whole" : "aborted");
	capture_say(s, &(struct record){
			       RECORD_SWEEP,
			       .sweep = {.number = s->sweeps,
				       .begin = begin,
				       .end = s->clock.boot,
				       .now = s->clock,
				       .protocols = whole ? ALL : 0,
				       .netns = HOME},
		       });
	if (!whole)
		return;
	s->whole_begin = begin;
	absence_end(s, begin);
}

void capture_hear(struct sim *s, uint32_t i)
{
	struct tenure *t = &s->tenures[i];
	struct record r;

	if (s->events || !s->running || !t->known || t->abroad || t->absent || !chance(s, 40))
		return;
	r = about(s, t, SIGHTING_CLOSED, SOURCE_DESTROY, t->closed, USEC_UNSET);
	r.sighting.time_wait = t->released > t->closed;
	r.sighting.expires = r.sighting.time_wait ? t->released : USEC_UNSET;
	capture_say(s, &r);
	t->lingers = r.sighting.time_wait;
	t->over = !t->lingers;
	t->since = t->closed;
}

/* The stream had no room: what was to be said is not said (but that), and then all that is known is said again. */
void capture_resync(struct sim *s, bool after_loss)
{
	if (!s->running || s->events)
		return;
	if (after_loss) {
		char reason[] = "ledger-slow";

		capture_say(s, &(struct record){RECORD_GAP, .gap = {s->whole_begin, s->clock.boot,
								    LOST_UNKNOWN, reason}});
	}
	capture_say(s, &(struct record){RECORD_RESYNC});
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		if (t->boot == s->boot && t->known && !t->over && !t->absent &&
			is_there(t, s->clock.boot))
			say_row(s, t, t->closed != USEC_UNSET);
	}
}

/* What a question wants: all that was claimed before it. */
void capture_look(struct sim *s)
{
	capture_sweep(s, true);
	capture_drain(s, false);
}
