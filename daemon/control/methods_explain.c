/* SPDX-License-Identifier: MIT */

/* Explain: what is known of one port, from the kernel's settings to those who had it last. */

#include "daemon/control/methods_private.h"

#include <inttypes.h>

#include "daemon/control/query_ports.h"
#include "daemon/reserved.h"

#define EXPLAIN_LAST     10u /* of those who had the port before */
#define EXPLAIN_LISTENED 3u  /* of those who served there */

static int parse_explain(struct request *r)
{
	int64_t port = 0;
	int e = take_integer(r, "port", 1, UINT16_MAX, &port);

	r->explain.port = (uint16_t)port;
	r->explain.protocol = -1;
	r->explain.netns = take_string(r, "netns");
	if (e == ANSWERED)
		e = take_protocol(r, &r->explain.protocol);
	r->window = (struct window){usec_sub(r->asked.wall, USEC_PER_DAY), r->asked.wall};
	return e;
}

static struct question explain_question(
	const struct request *r, unsigned rows, struct window window)
{
	struct question q = {.filter = FILTER_ANY, .rows = rows, .window = window};

	q.filter.ports[0] = r->explain.port;
	q.filter.port_count = 1;
	q.filter.protocol = r->explain.protocol;
	q.filter.netns = r->explain.netns;
	return q;
}

/* RFC 6335, 6. */
static const char *class_of(uint16_t port)
{
	if (port < 1024)
		return "system";
	return port < 49152 ? "user" : "dynamic";
}

/* null: the kernel's list is not to be seen, or the question is about another namespace. */
static const char *reserved_text(const struct request *r, uint16_t port)
{
	struct port_set reserved;

	if (r->explain.netns || reserved_read(&reserved) < 0)
		return "null";
	return port_set_has(&reserved, port) ? "true" : "false";
}

static int append_class(struct request *r, struct buf *text)
{
	const struct committed *last = link_last(r->methods->link);
	struct query_state state;
	const struct coverage *c;
	uint16_t port = r->explain.port;
	struct port_range range;
	int e = query_state(r->methods->query, &state);

	if (e < 0)
		return e;
	c = last && last->coverage.ranges.count ? &last->coverage : &state.coverage;
	range = c->ephemeral;
	if (r->explain.netns)
		e = query_netns_range(r->methods->query, r->explain.netns, range, &range);
	if (e < 0)
		return e;
	return buf_append_format(text,
		"{\"port\":%u,\"class\":\"%s\",\"service\":null,\"dynamic\":%s,\"ephemeral\":%s,"
		"\"reserved\":%s,\"watched\":%s,\"ephemeral_range\":{\"low\":%u,\"high\":%u}",
		port, class_of(port), port >= 49152 ? "true" : "false",
		range.low <= port && port <= range.high ? "true" : "false", reserved_text(r, port),
		port_ranges_contain(&c->ranges, port) ? "true" : "false", range.low, range.high);
}

/* Who has it now: as many as a page holds. */
static int append_now(struct request *r, struct buf *text)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct question q = explain_question(r, ROWS_OPEN, (struct window){0, WALL_FOREVER});
	struct place place = PLACE_START;
	size_t next = 0;
	int e = query_rows(r->methods->query, &q, LIMIT_PAGE_ROWS, &place, &rows);

	if (e == 0)
		e = buf_append_string(text, ",\"now\":[");
	if (e == 0)
		e = append_rows(r, &rows, &next, text);
	return e == 0 ? buf_append_string(text, "]") : e;
}

/* The newest of some claims, newest first. */
static int append_newest(struct request *r, const char *name, const struct question *q,
	size_t count, struct buf *text)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct place place;
	size_t next = 0;
	int e = query_newest(r->methods->query, q, count, &place, &rows);

	if (e == 0)
		e = query_rows(r->methods->query, q, count, &place, &rows);
	e = MIN(e, 0);
	for (size_t i = 0; i < rows.count / 2; i++) {
		struct row row = rows.row[i];

		rows.row[i] = rows.row[rows.count - 1 - i];
		rows.row[rows.count - 1 - i] = row;
	}
	if (e == 0)
		e = buf_append_format(text, ",\"%s\":[", name);
	if (e == 0)
		e = append_rows(r, &rows, &next, text);
	return e == 0 ? buf_append_string(text, "]") : e;
}

/* Who had it before, and who served there, be it now. */
static int append_last(struct request *r, struct buf *text)
{
	const struct window all = {0, WALL_FOREVER};
	struct question last = explain_question(r, ROWS_RELEASED, all);
	struct question listened = explain_question(r, ROWS_ALL, all);
	int e = append_newest(r, "last", &last, EXPLAIN_LAST, text);

	listened.filter.role = ROLE_LISTENING;
	return e == 0 ? append_newest(r, "listened", &listened, EXPLAIN_LISTENED, text) : e;
}

static int append_usec(struct buf *text, const char *name, usec_t value)
{
	return value == USEC_UNSET ? buf_append_format(text, ",\"%s\":null", name)
				   : buf_append_format(text, ",\"%s\":%" PRIu64, name, value);
}

static int append_counts(struct request *r, struct buf *text)
{
	struct question day = explain_question(r, ROWS_ALL, r->window);
	struct question ever = explain_question(r, ROWS_ALL, (struct window){0, WALL_FOREVER});
	struct question now = explain_question(r, ROWS_OPEN, (struct window){0, WALL_FOREVER});
	uint64_t claims_now = 0, claims_day = 0, programs_day = 0;
	struct port_story story = {0};
	usec_t first;
	int e = query_count(r->methods->query, &now, &claims_now, &first);

	if (e == 0)
		e = query_programs(r->methods->query, &day, &claims_day, &programs_day);
	if (e == 0)
		e = query_port_story(r->methods->query, &ever, &story);
	if (e == 0)
		e = buf_append_format(text,
			",\"claims_now\":%" PRIu64 ",\"claims_day\":%" PRIu64
			",\"programs_day\":%" PRIu64 ",\"claims_ever\":%" PRIu64,
			claims_now, claims_day, programs_day, story.claims);
	if (e == 0)
		e = append_usec(text, "first_usec", story.first);
	return e == 0 ? append_usec(text, "median_usec", story.median) : e;
}

static int explain(struct request *r)
{
	const struct question asked = explain_question(r, ROWS_ALL, r->window);
	_cleanup_(buf_done) struct buf text = {0};
	int e = append_class(r, &text);

	if (e == 0)
		e = append_now(r, &text);
	if (e == 0)
		e = append_last(r, &text);
	if (e == 0)
		e = append_counts(r, &text);
	if (e == 0)
		e = append_coverage(r, &asked.filter, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_explain = {
	"Explain",
	(const struct parameter[]){
		{"port", PARAMETER_INTEGER, true},
		{"protocol", PARAMETER_STRING, false},
		{"netns", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_ALWAYS,
	.parse = parse_explain,
	.run = explain,
};
