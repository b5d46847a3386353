/* SPDX-License-Identifier: MIT */

/* Listeners: servers whose port the kernel may give to a client, and what is reserved. Pressure: who uses the ports up. */

#include "daemon/control/methods_private.h"

#include <inttypes.h>

#include "daemon/control/query_ports.h"
#include "daemon/reserved.h"

#define LISTENERS_WINDOW (30 * USEC_PER_DAY) /* in which collisions are counted */
#define PRESSURE_WINDOW  (10 * USEC_PER_MINUTE)
#define PRESSURE_ROWS    20
#define LISTENERS_BOUND  (10 * USEC_PER_MINUTE) /* a UDP socket this old may be a server */

static int parse_listeners(struct request *r)
{
	int64_t bound = LISTENERS_BOUND;
	int e = take_filter(r, &r->listeners.filter);

	if (e == ANSWERED)
		e = take_integer(r, "bound_usec", 0, INT64_C(1) << 53, &bound);
	if (e == ANSWERED)
		e = take_window(r, "since_usec", "until_usec");
	if (e != ANSWERED)
		return e;
	if (!json_is_integer(json_object_get(r->call.parameters, "since_usec")))
		r->window.from = usec_sub(looked_window(r).until, LISTENERS_WINDOW);
	r->listeners.bound_before = usec_sub(r->asked.wall, (usec_t)bound);
	return ANSWERED;
}

/* What is known of the daemon's own namespace at the end of the window. `set` is what `reserved` points to. */
static int know_kernel(struct request *r, usec_t at, struct port_set *set, struct kernel_ports *ret)
{
	*ret = (struct kernel_ports){
		.netns = reserved_netns(), .reserved = reserved_read(set) == 0 ? set : NULL};
	return query_ephemeral(r->methods->query, at, &ret->range);
}

/* What the kernel keeps from clients, as its own list; null where that is not to be seen. */
static int append_reserved(const struct kernel_ports *known, struct buf *text)
{
	int e;

	if (!known->reserved)
		return buf_append_string(text, ",\"reserved\":null");
	e = buf_append_string(text, ",\"reserved\":\"");
	if (e == 0)
		e = port_set_format(known->reserved, text);
	return e == 0 ? buf_append_string(text, "\"") : e;
}

static int append_own_netns(uint64_t netns, struct buf *text)
{
	return netns ? buf_append_format(text, ",\"netns\":%" PRIu64, netns)
		     : buf_append_string(text, ",\"netns\":null");
}

static int listeners(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct filter *f = &r->listeners.filter;
	struct kernel_ports known;
	struct port_set set;
	int e = know_kernel(r, r->window.until, &set, &known);

	if (e == 0)
		e = buf_append_string(&text, "{");
	if (e == 0)
		e = query_listeners(
			r->methods->query, f, r->listeners.bound_before, r->window, &known, &text);
	if (e == 0)
		e = buf_append_format(&text, ",\"ephemeral_range\":{\"low\":%u,\"high\":%u}",
			known.range.low, known.range.high);
	if (e == 0)
		e = append_own_netns(known.netns, &text);
	if (e == 0)
		e = append_reserved(&known, &text);
	if (e == 0)
		e = append_coverage(r, f, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_listeners = {
	"Listeners",
	(const struct parameter[]){
		{"since_usec", PARAMETER_INTEGER, false},
		{"until_usec", PARAMETER_INTEGER, false},
		{"bound_usec", PARAMETER_INTEGER, false},
		{"filter", PARAMETER_OBJECT, false},
		{0},
	},
	.looks = LOOKS_ALWAYS,
	.parse = parse_listeners,
	.run = listeners,
};

/* A part of what is taken would look like room. */
static bool is_of_programs(const struct filter *f)
{
	return f->app || f->unit || f->uid >= 0 || f->pid >= 0 || f->role >= 0 ||
	       f->port_count > 0 || f->range.high;
}

static int parse_pressure(struct request *r)
{
	int64_t limit = PRESSURE_ROWS;
	int e = take_filter(r, &r->pressure.filter);

	if (e == ANSWERED && is_of_programs(&r->pressure.filter))
		return refuse_parameter(r, "filter");
	if (e == ANSWERED)
		e = take_integer(r, "limit", 1, LIMIT_PRESSURE_ROWS, &limit);
	if (e == ANSWERED)
		e = take_window(r, "since_usec", "until_usec");
	if (e != ANSWERED)
		return e;
	if (!json_is_integer(json_object_get(r->call.parameters, "since_usec")))
		r->window.from = usec_sub(looked_window(r).until, PRESSURE_WINDOW);
	r->pressure.limit = (size_t)limit;
	return ANSWERED;
}

static int pressure(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	struct window window = looked_window(r);
	struct kernel_ports known;
	struct port_set set;
	int e = know_kernel(r, window.until, &set, &known);

	if (e == 0)
		e = buf_append_string(&text, "{");
	if (e == 0)
		e = query_pressure(r->methods->query, &r->pressure.filter, window, &known,
			r->pressure.limit, &text);
	if (e == 0)
		e = buf_append_string(&text, ",\"coverage\":");
	if (e == 0)
		e = append_receipt(r,
			(struct receipt_of){.asked = &r->pressure.filter, .remotes = true}, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_pressure = {
	"Pressure",
	(const struct parameter[]){
		{"since_usec", PARAMETER_INTEGER, false},
		{"until_usec", PARAMETER_INTEGER, false},
		{"limit", PARAMETER_INTEGER, false},
		{"filter", PARAMETER_OBJECT, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_pressure,
	.run = pressure,
};
