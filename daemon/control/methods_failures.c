/* SPDX-License-Identifier: MIT */

/* Failures: binds and connects that got no port, a page at a time. */

#include "daemon/control/methods_private.h"

#include <inttypes.h>
#include <stdio.h>

#define NO_LIMIT UINT64_MAX

/* "FROM-UNTIL-LEFT-USEC-ID": the window of the first question, how many rows are left, and the last one that was given. */
static int parse_cursor(const char *text, struct request *r)
{
	struct failures_stream *s = &r->failures;
	struct window window;
	int used = 0;

	if (text[strspn(text, "0123456789-")] ||
		sscanf(text, "%" SCNu64 "-%" SCNu64 "-%" SCNu64 "-%" SCNd64 "-%" SCNd64 "%n",
			&window.from, &window.until, &s->left, &s->place.usec, &s->place.id,
			&used) != 5 ||
		text[used] || window.from > window.until || window.until > WALL_FOREVER)
		return -EINVAL;
	r->window = window;
	s->placed = true;
	return 0;
}

static int append_cursor(const struct request *r, struct buf *text)
{
	const struct failures_stream *s = &r->failures;

	return buf_append_format(text,
		",\"cursor\":\"%" PRIu64 "-%" PRIu64 "-%" PRIu64 "-%" PRId64 "-%" PRId64 "\"",
		r->window.from, r->window.until, s->left, s->place.usec, s->place.id);
}

static int parse_failures(struct request *r)
{
	struct failures_stream *s = &r->failures;
	const char *cursor = take_string(r, "cursor");
	int64_t limit = 0;
	int e = take_integer(r, "limit", 1, LIMIT_CLAIMS, &limit);

	if (e == ANSWERED)
		e = take_filter(r, &s->filter);
	if (e == ANSWERED)
		e = take_window(r, "since_usec", "until_usec");
	if (e != ANSWERED)
		return e;
	if (s->filter.role >= 0) /* what failed has none */
		return refuse_parameter(r, "filter.role");
	s->left = limit > 0 ? (uint64_t)limit : NO_LIMIT;
	if (cursor && parse_cursor(cursor, r) < 0)
		return refuse_parameter(r, "cursor");
	return ANSWERED;
}

static int place_stream(struct request *r)
{
	struct failures_stream *s = &r->failures;

	if (s->placed)
		return 0;
	s->placed = true;
	return s->left == NO_LIMIT ? 0
				   : query_failures_newest(r->methods->query, &s->filter, r->window,
					     s->left, &s->place);
}

/* One page: the whole answer, or what fits. */
static int reply_failures(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	struct failures_stream *s = &r->failures;
	bool last = false;
	size_t count = 0;
	int e = place_stream(r);

	if (e == 0)
		e = buf_append_string(&text, "{\"failures\":[");
	if (e == 0)
		e = query_failures(r->methods->query, &s->filter, r->window,
			(size_t)MIN((uint64_t)LIMIT_PAGE_ROWS, s->left), &s->place, &count, &text);
	if (e < 0)
		return e;
	s->left -= s->left == NO_LIMIT ? 0 : count;
	last = e == 0 || s->left == 0;
	e = buf_append_string(&text, "]");
	if (e == 0 && !last && !r->call.more)
		e = append_cursor(r, &text);
	if (e == 0 && (last || !r->call.more))
		e = buf_append_string(&text, ",\"coverage\":");
	if (e == 0 && (last || !r->call.more))
		e = append_receipt(
			r, (struct receipt_of){.asked = &s->filter, .failures = true}, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply_page(r, &text, last);
}

const struct method method_failures = {
	"Failures",
	(const struct parameter[]){
		{"filter", PARAMETER_OBJECT, false},
		{"since_usec", PARAMETER_INTEGER, false},
		{"until_usec", PARAMETER_INTEGER, false},
		{"limit", PARAMETER_INTEGER, false},
		{"cursor", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_failures,
	.run = reply_failures,
	.go_on = reply_failures,
};
