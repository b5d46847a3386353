/* SPDX-License-Identifier: MIT */
#pragma once

/* Events as a script for the tests of the table, beside its sweeps. */

#include "tests/unit/table-script.h"

#define OWN    4026531840u
#define OTHER  4026532008u
#define OPENER 7u
#define OPENED (START + 100)
#define SHOWN  USEC_PER_SEC
#define PORT   51000
#define NOBODY 0u

static const struct table_expectation EXPECTATION = {
	.netns = OWN,
	.protocols = ALL,
	.bound_only = true,
};

static inline struct world *world_with(const struct table_expectation *expectation)
{
	struct world *w = world_new(true);

	table_expect(w->table, expectation);
	assert_int_equal(sweep_of(w, ALL, NULL, 0), 0); /* the first look is over */
	w->count = 0;
	return w;
}
#define EXPECTING(name) _cleanup_(world_free) struct world *name = world_with(&EXPECTATION)

/* As an event tells of what a sweep would show so. */
static inline struct event_seen event_of(
	enum event_kind kind, struct socket_row row, enum role role)
{
	return (struct event_seen){
		.kind = kind,
		.cookie = row.cookie,
		.netns = OWN,
		.protocol = row.protocol,
		.role = (uint8_t)role,
		.local = row.local,
		.remote = row.remote,
		.closed = USEC_UNSET,
		.process = 99,
	};
}

static inline int try_claim(struct world *w, struct event_seen e, uint32_t opener)
{
	const struct table_who who = {
		.attribution = opener ? ATTRIBUTION_EVENT : ATTRIBUTION_NONE, .opener = opener};

	return table_event_claim(w->table, &e, &who, take, w);
}

/* Told now. Returns how many sightings came of it; they are the only ones in `got`. */
static inline size_t claim_by(struct world *w, struct event_seen e, uint32_t opener)
{
	w->count = 0;
	e.at = e.at ? e.at : ++w->clock;
	assert_int_equal(try_claim(w, e, opener), 0);
	return w->count;
}

static inline size_t claimed(struct world *w, struct socket_row row, enum role role)
{
	return claim_by(w, event_of(EVENT_CLAIM, row, role), OPENER);
}

static inline size_t ended(struct world *w, uint64_t cookie, bool lingers)
{
	const struct event_seen e = {
		.kind = EVENT_RELEASE, .cookie = cookie, .closed = ++w->clock, .lingers = lingers};

	w->count = 0;
	assert_int_equal(table_event_end(w->table, &e, take, w), 0);
	return w->count;
}

static inline const struct sighting *exact(struct world *w, uint64_t cookie, enum role role)
{
	const struct sighting *s = only(w, cookie, role);

	assert_int_equal(s->at, w->clock);
	assert_int_equal(s->after, USEC_UNSET);
	assert_int_equal(s->source, SOURCE_EVENTS);
	assert_int_equal(s->attribution, ATTRIBUTION_EVENT);
	assert_int_equal(s->opener, OPENER);
	assert_false(s->preexisting);
	return s;
}

static inline void expect_closed(struct world *w, uint64_t cookie, bool lingers)
{
	assert_int_equal(w->count, 1);
	assert_int_equal(w->got[0].kind, SIGHTING_CLOSED);
	assert_int_equal(w->got[0].cookie, cookie);
	assert_int_equal(w->got[0].at, w->clock);
	assert_int_equal(w->got[0].after, USEC_UNSET);
	assert_int_equal(w->got[0].time_wait, lingers);
	assert_int_equal(w->got[0].source, SOURCE_EVENTS);
}

static inline void expect_released(struct world *w, uint64_t cookie, usec_t at)
{
	assert_int_equal(w->count, 1);
	assert_int_equal(w->got[0].kind, SIGHTING_RELEASED);
	assert_int_equal(w->got[0].cookie, cookie);
	assert_int_equal(w->got[0].at, at);
	assert_int_equal(w->got[0].source, SOURCE_EVENTS);
}
