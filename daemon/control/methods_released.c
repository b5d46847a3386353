/* SPDX-License-Identifier: MIT */

/*
 * Released: claims in the order of their release, page by page, each with a cursor behind its last row. A cursor is a moment
 * and how many of its rows were given; it holds for as long as there are claims, with the same filter.
 */

#include "daemon/control/methods_private.h"

#include <inttypes.h>
#include <stdio.h>

static int parse_cursor(const char *text, struct release_place *ret)
{
	struct release_place place;
	int used = 0;

	if (text[strspn(text, "r0123456789.")] != '\0' ||
		sscanf(text, "r1.%" SCNu64 ".%" SCNu64 "%n", &place.released, &place.skip, &used) !=
			2 ||
		text[used] != '\0' || place.released > WALL_FOREVER || place.skip > LIMIT_CLAIMS)
		return -EINVAL;
	*ret = place;
	return 0;
}

static int parse_released(struct request *r)
{
	struct released_stream *s = &r->released;
	const char *cursor = take_string(r, "cursor");
	int e = take_filter(r, &s->filter);

	if (e == ANSWERED)
		e = take_window(r, "since_usec", "until_usec");
	if (e != ANSWERED)
		return e;
	/* a place in the future would be behind claims that are not released yet */
	r->window.until = MIN(r->window.until, r->asked.wall);
	s->ahead = (struct release_place){.released = r->window.from};
	if (cursor && parse_cursor(cursor, &s->ahead) < 0)
		return refuse_parameter(r, "cursor");
	if (s->ahead.released > r->asked.wall)
		return refuse_range(r, "cursor");
	s->given = s->ahead;
	/* of what was given before, this answer says nothing */
	r->window.from = MIN(s->ahead.released, r->window.until);
	return ANSWERED;
}

static int read_ahead(struct request *r)
{
	struct released_stream *s = &r->released;
	size_t wanted = r->call.more ? LIMIT_AHEAD_ROWS : LIMIT_PAGE_ROWS + 1;
	int e;

	if (s->ended || s->next < s->rows.count)
		return 0;
	s->rows.count = s->next = 0;
	e = query_released(
		r->methods->query, &s->filter, r->window.until, wanted, &s->ahead, &s->rows);
	if (e == 0)
		s->ended = s->rows.count < wanted;
	return e;
}

static int append_page(struct request *r, struct buf *text, bool *ret_last)
{
	struct released_stream *s = &r->released;
	size_t from = s->next;
	int e = buf_append_string(text, "{\"claims\":[");

	if (e == 0)
		e = append_rows(r, &s->rows, &s->next, text);
	for (size_t i = from; i < s->next; i++)
		release_pass(&s->given, &s->rows.row[i]);
	*ret_last = s->ended && s->next == s->rows.count;
	if (*ret_last) /* all before the window's end is given, and nothing comes there later */
		s->given = s->ahead;
	if (e == 0)
		e = buf_append_format(text,
			"],\"cursor\":\"r1.%" PRIu64 ".%" PRIu64 "\",\"last\":%s",
			s->given.released, s->given.skip, *ret_last ? "true" : "false");
	if (e == 0 && *ret_last)
		e = append_coverage(r, &s->filter, text);
	return e == 0 ? buf_append_string(text, "}") : e;
}

static int released(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	bool last = false;
	int e = read_ahead(r);

	if (e == 0)
		e = append_page(r, &text, &last);
	return e < 0 ? e : request_reply_page(r, &text, last);
}

static void released_done(struct request *r)
{
	rows_done(&r->released.rows);
}

const struct method method_released = {
	"Released",
	(const struct parameter[]){
		{"since_usec", PARAMETER_INTEGER, false},
		{"until_usec", PARAMETER_INTEGER, false},
		{"filter", PARAMETER_OBJECT, false},
		{"cursor", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_released,
	.run = released,
	.go_on = released,
	.done = released_done,
};
