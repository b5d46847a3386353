/* SPDX-License-Identifier: MIT */

/* Annotate and Receipt: what others saw of this host's connections, and whether anybody watched then. */

#include "daemon/control/methods_private.h"

#include <sys/socket.h>

#define TIME_MAX (INT64_C(1) << 53)

/* A member of one flow that must be there, or may be null. 0, or -EINVAL. */
static int take_number(const json_t *flow, const char *name, int64_t max, int64_t *ret)
{
	const json_t *value = json_object_get(flow, name);

	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		json_integer_value(value) > max)
		return -EINVAL;
	*ret = json_integer_value(value);
	return 0;
}

static int take_end(const json_t *flow, const char *address, const char *port, struct endpoint *ret)
{
	const char *text = json_string_value(json_object_get(flow, address));
	int64_t number;

	if (!text || address_parse(text, &ret->address) < 0 ||
		take_number(flow, port, UINT16_MAX, &number) < 0)
		return -EINVAL;
	/* a mapped address is on the wire what it maps to */
	if (ret->address.family == FAMILY_IPV6)
		ret->address = address_from_kernel(AF_INET6, ret->address.bytes);
	ret->port = (uint16_t)number;
	return 0;
}

/* MPTCP is TCP on the wire. */
static int take_protocols(const json_t *flow, unsigned *ret)
{
	const json_t *value = json_object_get(flow, "protocol");
	enum protocol protocol;

	*ret = (1u << PROTOCOL_COUNT) - 1;
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value) || protocol_from_name(json_string_value(value), &protocol) < 0)
		return -EINVAL;
	*ret = 1u << protocol;
	if (protocol == PROTOCOL_TCP)
		*ret |= 1u << PROTOCOL_MPTCP;
	return 0;
}

static int take_flow(const json_t *object, struct flow *ret)
{
	const json_t *until = json_object_get(object, "until_usec");
	int64_t at, last;

	if (!json_is_object(object) || take_number(object, "at_usec", TIME_MAX, &at) < 0)
		return -EINVAL;
	last = at;
	if (until && !json_is_null(until) &&
		(take_number(object, "until_usec", TIME_MAX, &last) < 0 || last < at))
		return -EINVAL;
	ret->from = (usec_t)at;
	ret->until = (usec_t)last;
	if (take_end(object, "source", "source_port", &ret->end[FLOW_SOURCE]) < 0 ||
		take_end(object, "destination", "destination_port", &ret->end[FLOW_DESTINATION]) <
			0)
		return -EINVAL;
	return take_protocols(object, &ret->protocols);
}

static int parse_annotate(struct request *r)
{
	const json_t *flows = json_object_get(r->call.parameters, "flows"), *flow;
	size_t i;

	r->window = (struct window){0, 0};
	if (json_array_size(flows) > LIMIT_FLOWS)
		return refuse_parameter(r, "flows");
	r->flows.flow = calloc(json_array_size(flows) + 1, sizeof(*r->flows.flow));
	if (!r->flows.flow)
		return -ENOMEM;
	json_array_foreach(flows, i, flow)
	{
		struct flow *f = &r->flows.flow[i];

		if (take_flow(flow, f) < 0)
			return refuse_parameter(r, "flows");
		/* what decides whether the ledger must look first */
		r->window.until = MAX(r->window.until, f->until + 1);
		r->flows.count++;
	}
	return ANSWERED;
}

static int append_end(struct request *r, const struct flow *f, int end, struct buf *text)
{
	return f->found[end] ? query_row_json(r->methods->query, &f->row[end], text)
			     : buf_append_string(text, "null");
}

static int append_answer(struct request *r, const struct flow *f, struct buf *text)
{
	const char *reason = flow_reason_name(f->reason);
	int e = buf_append_string(text, "{\"source\":");

	if (e == 0)
		e = append_end(r, f, FLOW_SOURCE, text);
	if (e == 0)
		e = buf_append_string(text, ",\"destination\":");
	if (e == 0)
		e = append_end(r, f, FLOW_DESTINATION, text);
	if (e == 0)
		e = buf_append_format(text, ",\"others\":%u,\"reason\":", f->others);
	if (e == 0)
		e = reason ? buf_append_format(text, "\"%s\"}", reason)
			   : buf_append_string(text, "null}");
	return e;
}

/* As many answers as a page holds; the caller asks for the rest again. */
static int annotate(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	int e = query_flows(r->methods->query, r->flows.flow, r->flows.count);

	if (e == 0)
		e = buf_append_string(&text, "{\"answers\":[");
	for (size_t i = 0; e == 0 && i < r->flows.count && buf_size(&text) < LIMIT_PAGE_BYTES;
		i++) {
		if (i > 0)
			e = buf_append_string(&text, ",");
		if (e == 0)
			e = append_answer(r, &r->flows.flow[i], &text);
	}
	if (e == 0)
		e = buf_append_string(&text, "]}");
	return e < 0 ? e : request_reply(r, &text, false);
}

static void annotate_done(struct request *r)
{
	free(r->flows.flow);
}

const struct method method_annotate = {
	"Annotate",
	(const struct parameter[]){
		{"flows", PARAMETER_ARRAY, true},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_annotate,
	.run = annotate,
	.done = annotate_done,
};

static int parse_receipt(struct request *r)
{
	int e = take_filter(r, &r->audit.filter);

	return e == ANSWERED ? take_window(r, "since_usec", "until_usec") : e;
}

static int receipt(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	int e = buf_append_string(&text, "{\"coverage\":");

	if (e == 0)
		e = append_receipt(r, (struct receipt_of){.asked = &r->audit.filter}, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_receipt = {
	"Receipt",
	(const struct parameter[]){
		{"since_usec", PARAMETER_INTEGER, true},
		{"until_usec", PARAMETER_INTEGER, true},
		{"filter", PARAMETER_OBJECT, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_receipt,
	.run = receipt,
};
