/* SPDX-License-Identifier: MIT */

/* Activity and Occupancy: a window in steps, for pictures of it. Bounded whatever the window: LIMIT_STEPS, the programs that
 * are listed, the series. What is left out is counted. */

#include "daemon/control/methods_private.h"

#include "daemon/control/query_ports.h"
#include "daemon/reserved.h"

#define IANA_LOW 49152 /* RFC 6335 */

static int parse_picture(struct request *r)
{
	int64_t step = 0, origin;
	int e = take_filter(r, &r->picture.filter);

	if (e == ANSWERED)
		e = take_window(r, "since_usec", "until_usec");
	if (e == ANSWERED)
		e = take_integer(r, "step_usec", 1, (int64_t)WALL_FOREVER, &step);
	if (e != ANSWERED)
		return e;
	if (r->window.from == r->window.until)
		return refuse_range(r, "until_usec");
	origin = (int64_t)r->window.from;
	e = take_integer(r, "origin_usec", MAX(0, origin - step + 1), origin, &origin);
	if (e != ANSWERED)
		return e;
	r->picture.steps = (struct steps){(usec_t)origin, (usec_t)step};
	return steps_count(r->picture.steps, r->window) > LIMIT_STEPS ? refuse_range(r, "step_usec")
								      : ANSWERED;
}

/* The range that the kernel hands out in the daemon's own namespace; IANA's where it is not known. */
static int find_range(struct request *r, struct port_range *ret)
{
	const struct committed *last = link_last(r->methods->link);
	struct query_state state;
	int e = query_state(r->methods->query, &state);

	if (e < 0)
		return e;
	*ret = last && last->coverage.ephemeral.high ? last->coverage.ephemeral
						     : state.coverage.ephemeral;
	if (!ret->high)
		*ret = (struct port_range){IANA_LOW, UINT16_MAX};
	return 0;
}

/* What both say beside their figures. */
static int append_rest(struct request *r, struct port_range range, struct buf *text)
{
	int e = buf_append_format(text,
		",\"origin_usec\":%llu,\"step_usec\":%llu,\"ephemeral\":{\"low\":%u,\"high\":%u},\"coverage\":",
		(unsigned long long)r->picture.steps.origin,
		(unsigned long long)r->picture.steps.length, range.low, range.high);

	if (e == 0)
		e = append_receipt(r, (struct receipt_of){.asked = &r->picture.filter}, text);
	return e == 0 ? buf_append_string(text, "}") : e;
}

static int activity(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct question q = {
		.filter = r->picture.filter, .window = r->window, .rows = ROWS_ALL};
	struct port_range range;
	int e = find_range(r, &range);

	if (e == 0)
		e = buf_append_string(&text, "{");
	if (e == 0) /* whole rows of 256 ports */
		e = query_activity(r->methods->query, &q, r->picture.steps,
			(uint16_t)(MIN(range.low, IANA_LOW) & ~255), &text);
	if (e == 0)
		e = append_rest(r, range, &text);
	return e < 0 ? e : request_reply(r, &text, false);
}

static int occupancy(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct question q = {
		.filter = r->picture.filter, .window = r->window, .rows = ROWS_ALL};
	struct kernel_ports known = {.netns = reserved_netns()};
	int e = find_range(r, &known.range);

	if (e == 0)
		e = buf_append_string(&text, "{");
	if (e == 0)
		e = query_occupancy(r->methods->query, &q, r->picture.steps, &known, &text);
	if (e == 0)
		e = append_rest(r, known.range, &text);
	return e < 0 ? e : request_reply(r, &text, false);
}

static const struct parameter picture_parameters[] = {
	{"since_usec", PARAMETER_INTEGER, true},
	{"until_usec", PARAMETER_INTEGER, true},
	{"step_usec", PARAMETER_INTEGER, true},
	{"origin_usec", PARAMETER_INTEGER, false},
	{"filter", PARAMETER_OBJECT, false},
	{0},
};

const struct method method_activity = {
	"Activity",
	picture_parameters,
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_picture,
	.run = activity,
};

const struct method method_occupancy = {
	"Occupancy",
	picture_parameters,
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_picture,
	.run = occupancy,
};
