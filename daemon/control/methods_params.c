/* SPDX-License-Identifier: MIT */

/* Parameters of calls. What is not declared, or of another type, is InvalidParameter; a port that is none or a stretch
 * that ends before it begins is InvalidRange. Absent and null mean the same. */

#include "daemon/control/methods_private.h"

#include <stdio.h>

#include "daemon/control/query_ports.h"

#define TIME_MAX  (INT64_C(1) << 53) /* JSON readers lose precision above it */
#define IANA_LOW  49152              /* RFC 6335 */
#define IANA_HIGH 65535

static bool is_of_kind(const json_t *value, enum parameter_kind kind)
{
	switch (kind) {
	case PARAMETER_INTEGER:
		return json_is_integer(value);
	case PARAMETER_STRING:
		return json_is_string(value);
	case PARAMETER_BOOLEAN:
		return json_is_boolean(value);
	case PARAMETER_OBJECT:
		return json_is_object(value);
	case PARAMETER_ARRAY:
		return json_is_array(value);
	}
	return false;
}

int check_parameters(struct request *r)
{
	const char *name;
	json_t *value;

	json_object_foreach(r->call.parameters, name, value)
	{
		const struct parameter *p = r->method->parameters;

		while (p->name && !streq(p->name, name))
			p++;
		if (!p->name || (!json_is_null(value) && !is_of_kind(value, p->kind)))
			return refuse_parameter(r, name);
	}
	for (const struct parameter *p = r->method->parameters; p->name; p++) {
		value = json_object_get(r->call.parameters, p->name);
		if (p->required && (!value || json_is_null(value)))
			return refuse_parameter(r, p->name);
	}
	return ANSWERED;
}

int take_integer(struct request *r, const char *name, int64_t low, int64_t high, int64_t *ret)
{
	const json_t *value = json_object_get(r->call.parameters, name);
	int64_t number;

	if (!json_is_integer(value))
		return ANSWERED;
	number = json_integer_value(value);
	if (number < low || number > high)
		return refuse_range(r, name);
	*ret = number;
	return ANSWERED;
}

const char *take_string(const struct request *r, const char *name)
{
	return json_string_value(json_object_get(r->call.parameters, name));
}

bool take_boolean(const struct request *r, const char *name)
{
	return json_is_true(json_object_get(r->call.parameters, name));
}

int take_window(struct request *r, const char *from_name, const char *until_name)
{
	int64_t from = 0, until = (int64_t)r->asked.wall;
	int e = take_integer(r, from_name, 0, TIME_MAX, &from);

	if (e == ANSWERED)
		e = take_integer(r, until_name, 0, TIME_MAX, &until);
	if (e != ANSWERED)
		return e;
	if (from > until || (usec_t)from > r->asked.wall) /* of the future nothing is known */
		return refuse_range(r, from_name);
	r->window = (struct window){(usec_t)from, (usec_t)until};
	return ANSWERED;
}

struct window looked_window(const struct request *r)
{
	const struct committed *last = link_last(r->methods->link);
	struct window w = r->window;

	if (w.until >= r->asked.wall)
		w.until = last ? MAX(r->asked.wall, last->until_wall) : r->asked.wall;
	return w;
}

int take_protocol(struct request *r, int *ret)
{
	const char *name = take_string(r, "protocol");
	enum protocol protocol;

	if (!name)
		return ANSWERED;
	if (protocol_from_name(name, &protocol) < 0)
		return refuse_parameter(r, "protocol");
	*ret = (int)protocol;
	return ANSWERED;
}

/* The range the kernel hands out, as the ledger or the database last said: in a namespace (name or inode number), or in the
 * daemon's own one (NULL). high 0: not known. */
static struct port_range known_ephemeral(struct request *r, const char *netns)
{
	const struct committed *c = link_last(r->methods->link);
	struct query *q = r->methods->query;
	struct port_range range = c ? c->coverage.ephemeral : (struct port_range){0};
	struct query_state state;

	if ((!netns && range.high) || query_begin(q, clock_now().boot + LIMIT_QUERY_USEC) < 0)
		return range;
	if (range.high == 0 && query_state(q, &state) == 0 && state.covered)
		range = state.coverage.ephemeral;
	if (netns && query_netns_range(q, netns, range, &range) < 0)
		range = (struct port_range){0};
	query_end(q);
	return range;
}

/* A member of a filter: its value into `f`. ANSWERED; -EINVAL: it makes no sense; -ERANGE: it is out of range. */
typedef int take_member_t(struct request *r, const json_t *value, struct filter *f);

static int to_integer(const json_t *value, int64_t low, int64_t high, int64_t *ret)
{
	if (!json_is_integer(value))
		return -EINVAL;
	if (json_integer_value(value) < low || json_integer_value(value) > high)
		return -ERANGE;
	*ret = json_integer_value(value);
	return ANSWERED;
}

static int to_string(const json_t *value, const char **ret)
{
	if (!json_is_string(value))
		return -EINVAL;
	*ret = json_string_value(value);
	return ANSWERED;
}

static int member_ports(struct request *r, const json_t *value, struct filter *f)
{
	size_t i;
	json_t *element;

	(void)r;
	if (!json_is_array(value) || json_array_size(value) > LIMIT_FILTER_PORTS)
		return -EINVAL;
	json_array_foreach(value, i, element)
	{
		int64_t port;
		int e = to_integer(element, 1, UINT16_MAX, &port);

		if (e < 0)
			return e;
		f->ports[f->port_count++] = (uint16_t)port;
	}
	return ANSWERED;
}

static int member_protocol(struct request *r, const json_t *value, struct filter *f)
{
	enum protocol protocol;

	(void)r;
	if (!json_is_string(value) || protocol_from_name(json_string_value(value), &protocol) < 0)
		return -EINVAL;
	f->protocol = (int)protocol;
	return ANSWERED;
}

static int member_role(struct request *r, const json_t *value, struct filter *f)
{
	enum role role;

	(void)r;
	if (!json_is_string(value) || role_from_name(json_string_value(value), &role) < 0)
		return -EINVAL;
	f->role = (int)role;
	return ANSWERED;
}

static int member_app(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return to_string(value, &f->app);
}

static int member_unit(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return to_string(value, &f->unit);
}

static int member_netns(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return to_string(value, &f->netns);
}

static int member_uid(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return to_integer(value, 0, (int64_t)UINT32_MAX - 1, &f->uid);
}

static int member_pid(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return to_integer(value, 1, INT32_MAX, &f->pid);
}

static int member_peer_port(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return to_integer(value, 1, UINT16_MAX, &f->peer_port);
}

static int member_address(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return json_is_string(value) ? address_parse(json_string_value(value), &f->address)
				     : -EINVAL;
}

static int member_peer(struct request *r, const json_t *value, struct filter *f)
{
	(void)r;
	return json_is_string(value) ? address_parse(json_string_value(value), &f->peer) : -EINVAL;
}

static int member_range(struct request *r, const json_t *value, struct filter *f)
{
	const char *text = json_string_value(value);
	unsigned low, high;
	int used = 0;

	if (!text)
		return -EINVAL;
	if (streq(text, "iana")) {
		f->range = (struct port_range){IANA_LOW, IANA_HIGH};
		return ANSWERED;
	}
	if (streq(text, "kernel")) {
		f->range = known_ephemeral(
			r, json_string_value(json_object_get(
				   json_object_get(r->call.parameters, "filter"), "netns")));
		return f->range.high ? ANSWERED : -EINVAL;
	}
	if (text[strspn(text, "0123456789-")] ||
		sscanf(text, "%5u-%5u%n", &low, &high, &used) != 2 || text[used])
		return -EINVAL;
	if (low < 1 || low > high || high > UINT16_MAX)
		return -ERANGE;
	f->range = (struct port_range){(uint16_t)low, (uint16_t)high};
	return ANSWERED;
}

int take_filter(struct request *r, struct filter *filter)
{
	static const struct {
		const char *name;
		take_member_t *take;
	} members[] = {
		{"ports", member_ports},
		{"protocol", member_protocol},
		{"app", member_app},
		{"unit", member_unit},
		{"uid", member_uid},
		{"pid", member_pid},
		{"address", member_address},
		{"peer", member_peer},
		{"peer_port", member_peer_port},
		{"netns", member_netns},
		{"role", member_role},
		{"range", member_range},
	};
	const char *name;
	json_t *value;

	*filter = (struct filter)FILTER_ANY;
	json_object_foreach(json_object_get(r->call.parameters, "filter"), name, value)
	{
		int e = -EINVAL;
		char path[64];

		for (size_t i = 0; i < ELEMENTSOF(members); i++)
			if (streq(members[i].name, name))
				e = json_is_null(value) ? ANSWERED
							: members[i].take(r, value, filter);
		(void)snprintf(path, sizeof(path), "filter.%s", name);
		if (e == -ERANGE)
			return refuse_range(r, path);
		if (e < 0)
			return refuse_parameter(r, path);
	}
	return ANSWERED;
}
