/* SPDX-License-Identifier: MIT */

/*
 * Occupancy: how many ports of what is handed out were in use at once, step by step. Exact: the claims of the window are walked in
 * the order of time, as they take a port and as they give it back, and each step keeps the most that there was in it.
 * Several claims may be on one port (to different peers): it is in use until the last of them is gone, and only its
 * TIME_WAIT is left once all that hold it are closed.
 * What is kept is a place in a heap per claim that is under way, and two counters per port of a series: a network
 * namespace and a protocol, since each has ports, and a range, of its own. MPTCP's are TCP's.
 */

#include "daemon/control/query_fold.h"

#include <stdlib.h>

#include "daemon/schema.h"

struct series {
	int64_t netns;           /* fold_place.netns */
	struct port_range range; /* that its kernel hands out */
	int protocol;            /* enum protocol; none is mptcp */
	/* owned; by port from the range's low on: claims that hold it, and those whose full socket is still there */
	uint32_t *held, *live;
	uint64_t used, time_wait; /* ports, now */
	usec_t at;                /* wall; as of when */
	uint64_t peak;
	usec_t peak_at; /* wall; when `peak` was reached first */
	uint32_t peak_used[LIMIT_STEPS], peak_time_wait[LIMIT_STEPS];
};

/* A closing before a release at one instant: that is their order. */
enum end_kind {
	END_CLOSED = 0,
	END_RELEASED = 1,
};

struct end {
	usec_t at; /* wall */
	uint16_t port, series;
	uint8_t kind; /* enum end_kind */
};

struct occupancy {
	struct window window;
	struct steps step;
	size_t steps;
	const struct kernel_ports *known;
	struct series *series[LIMIT_SERIES]; /* owned */
	size_t count;
	uint64_t omitted; /* claims of further series */
	struct end *end;  /* owned; a heap, the earliest first */
	size_t ends, end_capacity;
	struct places *places; /* owned */
};

static void occupancy_free(struct occupancy **occupancy)
{
	struct occupancy *o = *occupancy;

	if (!o)
		return;
	for (size_t i = 0; i < o->count; i++) {
		free(o->series[i]->held);
		free(o->series[i]->live);
		free(o->series[i]);
	}
	o->places = places_free(o->places);
	free(o->end);
	free(o);
}

static bool end_before(const struct end *a, const struct end *b)
{
	return a->at != b->at ? a->at < b->at : a->kind < b->kind;
}

static int push_end(struct occupancy *o, struct end end)
{
	size_t i = o->ends;

	if (o->ends == LIMIT_OCCUPANCY_ENDS)
		return -E2BIG;
	if (o->ends == o->end_capacity) {
		size_t capacity = o->end_capacity ? o->end_capacity * 2 : 1024;
		struct end *more = reallocarray(o->end, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		o->end = more;
		o->end_capacity = capacity;
	}
	o->ends++;
	for (; i > 0 && end_before(&end, &o->end[(i - 1) / 2]); i = (i - 1) / 2)
		o->end[i] = o->end[(i - 1) / 2];
	o->end[i] = end;
	return 0;
}

/* Takes the earliest one out. */
static struct end pop_end(struct occupancy *o)
{
	struct end first = o->end[0], last = o->end[--o->ends];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= o->ends)
			break;
		if (child + 1 < o->ends && end_before(&o->end[child + 1], &o->end[child]))
			child++;
		if (!end_before(&o->end[child], &last))
			break;
		o->end[i] = o->end[child];
		i = child;
	}
	o->end[i] = last;
	return first;
}

static size_t step_of(const struct occupancy *o, usec_t at)
{
	return (size_t)MIN((at - o->step.origin) / o->step.length, o->steps - 1);
}

static void begin_step(struct series *s, size_t step)
{
	s->peak_used[step] = (uint32_t)s->used;
	s->peak_time_wait[step] = (uint32_t)s->time_wait;
}

/* All that happened at `s->at` is in: what is in use since then counts. */
static void settle(const struct occupancy *o, struct series *s)
{
	size_t step = step_of(o, s->at);

	if (s->used > s->peak_used[step])
		begin_step(s, step);
	if (s->used > s->peak) {
		s->peak = s->used;
		s->peak_at = s->at;
	}
}

/* Goes on to a later moment: what is in use lasts through the steps between, and into the one that `at` is in. */
static void reach(const struct occupancy *o, struct series *s, usec_t at)
{
	size_t last = step_of(o, at);

	if (at == s->at)
		return;
	settle(o, s);
	for (size_t i = step_of(o, s->at) + 1; i <= last; i++)
		if (at > o->step.origin + i * o->step.length)
			begin_step(s, i);
	s->at = at;
}

static void apply_end(struct occupancy *o, const struct end *e)
{
	struct series *s = o->series[e->series];
	size_t i = (size_t)(e->port - s->range.low);

	reach(o, s, e->at);
	if (e->kind == END_CLOSED) {
		if (--s->live[i] == 0)
			s->time_wait++;
	} else if (--s->held[i] == 0) {
		s->used--;
		s->time_wait--;
	}
}

static void apply_opening(
	struct occupancy *o, struct series *s, uint16_t port, bool live, usec_t at)
{
	size_t i = (size_t)(port - s->range.low);
	bool was_held = s->held[i]++ > 0, was_live = s->live[i] > 0;

	reach(o, s, at);
	s->live[i] += live;
	s->used += !was_held;
	s->time_wait += !was_held && !live;
	s->time_wait -= was_held && !was_live && live;
}

/* 1: *ret is its index; 0: there are as many series as there may be; -ENOMEM. */
static int find_series(
	struct occupancy *o, int64_t netns, struct port_range range, int protocol, size_t *ret)
{
	size_t ports = (size_t)(range.high - range.low) + 1;
	struct series *s;

	for (size_t i = 0; i < o->count; i++)
		if (o->series[i]->netns == netns && o->series[i]->protocol == protocol) {
			*ret = i;
			return 1;
		}
	if (o->count == LIMIT_SERIES)
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct series){.netns = netns,
		.range = range,
		.protocol = protocol,
		.held = calloc(ports, sizeof(uint32_t)),
		.live = calloc(ports, sizeof(uint32_t)),
		.at = o->window.from,
		.peak_at = o->window.from};
	o->series[ *ret = o->count++] = s;
	return s->held && s->live ? 1 : -ENOMEM;
}

static int take_claim(void *context, const struct fold_row *row)
{
	struct occupancy *o = context;
	usec_t opened = MAX(row->opened, o->window.from);
	struct end end;
	struct port_range range;
	struct fold_place place;
	size_t index;
	int r = places_find(o->places, row->local, &place);

	if (r < 0)
		return r;
	range = place_range(&place, o->known);
	if (row->port < range.low || row->port > range.high)
		return 0;
	/* it may be in the window by the earlier bound of its opening alone: then at its end, as an audit has it */
	opened = MIN(opened, o->window.until - 1);
	while (o->ends > 0 && o->end[0].at <= opened) {
		end = pop_end(o);
		apply_end(o, &end);
	}
	r = find_series(o, place.netns, range,
		row->protocol == PROTOCOL_MPTCP ? PROTOCOL_TCP : row->protocol, &index);
	if (r <= 0) {
		o->omitted += r == 0;
		return r;
	}
	apply_opening(o, o->series[index], row->port, row->closed > opened, opened);
	end = (struct end){.at = opened, .port = row->port, .series = (uint16_t)index};
	r = 0;
	/* what has not happened is later than any window */
	if (row->closed > opened && row->closed < o->window.until) {
		end.kind = END_CLOSED;
		end.at = row->closed;
		r = push_end(o, end);
	}
	if (r == 0 && row->released < o->window.until) {
		end.kind = END_RELEASED;
		end.at = MAX(row->released, end.at);
		r = push_end(o, end);
	}
	return r;
}

static int take_claims(struct occupancy *o, struct query *q, const struct question *question)
{
	int r = places_new(q, &o->places);

	if (r == 0)
		r = query_fold(q, question, true, take_claim, o);
	while (r == 0 && o->ends > 0) {
		struct end end = pop_end(o);

		apply_end(o, &end);
	}
	for (size_t i = 0; i < o->count; i++)
		reach(o, o->series[i], o->window.until);
	return r;
}

/* The fullest first; then by what names it, so that the same question has the same answer. */
static int compare_series(const void *left, const void *right)
{
	const struct series *a = *(struct series *const *)left, *b = *(struct series *const *)right;

	if (a->peak != b->peak)
		return a->peak > b->peak ? -1 : 1;
	if (a->netns != b->netns)
		return a->netns < b->netns ? -1 : 1;
	return a->protocol - b->protocol;
}

static int append_counts(struct buf *out, const char *name, const uint32_t *counts, size_t count)
{
	int r = buf_append_format(out, ",\"%s\":[", name);

	for (size_t i = 0; r == 0 && i < count; i++)
		r = buf_append_format(out, "%s%u", i ? "," : "", counts[i]);
	return r == 0 ? buf_append_string(out, "]") : r;
}

static int append_series(
	const struct occupancy *o, const struct series *s, sqlite3_stmt *names, struct buf *out)
{
	const char *text;
	int r;

	(void)sqlite3_reset(names);
	query_bind(names, ":netns", s->netns);
	r = query_step(names);
	if (r < 0)
		return r;
	text = (const char *)sqlite3_column_text(names, 0);
	if (!text)
		return -ENOMEM;
	r = buf_append(out, text, strlen(text) - 1); /* without its brace */
	if (r == 0)
		r = buf_append_format(out,
			",\"protocol\":\"%s\",\"range\":{\"low\":%u,\"high\":%u},\"peak\":%llu,"
			"\"peak_usec\":%llu",
			protocol_name((enum protocol)s->protocol), s->range.low, s->range.high,
			(unsigned long long)s->peak, (unsigned long long)s->peak_at);
	if (r == 0)
		r = append_counts(out, "used", s->peak_used, o->steps);
	if (r == 0)
		r = append_counts(out, "time_wait", s->peak_time_wait, o->steps);
	return r == 0 ? buf_append_string(out, "}") : r;
}

static int append_all(struct occupancy *o, struct query *q, struct buf *out)
{
	_cleanup_(stmt_p) sqlite3_stmt *names = NULL;
	int r = query_prepare(q,
		"SELECT json_object('netns',nullif(n.inode,0),'netns_name',n.name)"
		" FROM (SELECT 1) LEFT JOIN netns n ON n.id=:netns",
		&names);

	if (r == 0)
		r = buf_append_string(out, "\"series\":[");
	if (r == 0 && o->count > 0)
		qsort(o->series, o->count, sizeof(struct series *), compare_series);
	for (size_t i = 0; r == 0 && i < o->count; i++) {
		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_series(o, o->series[i], names, out);
	}
	return r == 0 ? buf_append_format(out, "],\"omitted\":%llu", (unsigned long long)o->omitted)
		      : r;
}

int query_occupancy(struct query *q, const struct question *question, struct steps steps,
	const struct kernel_ports *known, struct buf *out)
{
	_cleanup_(occupancy_free) struct occupancy *o = calloc(1, sizeof(*o));
	size_t before = buf_size(out);
	int r;

	if (!o)
		return -ENOMEM;
	o->window = question->window;
	o->step = steps;
	o->steps = steps_count(steps, question->window);
	o->known = known;
	r = take_claims(o, q, question);
	if (r == 0)
		r = append_all(o, q, out);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
