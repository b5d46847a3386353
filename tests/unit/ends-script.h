/* SPDX-License-Identifier: MIT */
#pragma once

/* What the kernel says of sockets that went, as a script. */

#include "tests/unit/table-script.h"

#define EPHEMERAL 51000

static inline struct socket_end end_of(struct socket_row row, enum end_evidence evidence)
{
	row.inode = 0;
	row.state =
		row.protocol == PROTOCOL_UDP && row.remote.port != 0 ? TCP_ESTABLISHED : TCP_CLOSE;
	return (struct socket_end){
		.row = row,
		.evidence = (uint8_t)evidence,
		.idle_msec = row.protocol == PROTOCOL_UDP || evidence == END_UNUSED
				     ? END_IDLE_UNKNOWN
				     : 0,
	};
}

static inline usec_t tell(struct world *w, struct socket_end end, bool prompt)
{
	w->clock++;
	assert_int_equal(table_ended(w->table, &end, w->clock, w->clock, prompt), 0);
	return w->clock;
}

/* Returns when. */
static inline usec_t hear(struct world *w, struct socket_row row, enum end_evidence evidence)
{
	return tell(w, end_of(row, evidence), true);
}

static inline void expect_closed(
	const struct sighting *s, uint64_t cookie, usec_t at, bool time_wait)
{
	assert_int_equal(s->kind, SIGHTING_CLOSED);
	assert_int_equal(s->cookie, cookie);
	assert_int_equal(s->at, at);
	assert_int_equal(s->after, USEC_UNSET);
	assert_int_equal(s->time_wait, time_wait);
}

/* What no sweep has seen: present and closed at once, after the sweep before. */
static inline void expect_brief(
	struct world *w, size_t i, uint64_t cookie, enum role role, usec_t at, usec_t after)
{
	expect(&w->got[i], SIGHTING_PRESENT, cookie, w->got[i].protocol, role, false);
	assert_int_equal(w->got[i].source, SOURCE_DESTROY);
	assert_int_equal(w->got[i].at, at);
	assert_int_equal(w->got[i].after, after);
	assert_int_equal(w->got[i].attribution, ATTRIBUTION_NONE);
	assert_int_equal(w->got[i].opener, 0);
	expect_closed(&w->got[i + 1], cookie, at, false);
}
