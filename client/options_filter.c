/* SPDX-License-Identifier: MIT */

/* The filter as the interface has it. */

#include "client/options.h"
#include "common/escape.h"

/* Sets a member, but for a value that the option does not have. Takes `value`; -ENOMEM. */
static int filter_set(json_t *filter, const char *name, bool given, json_t *value)
{
	if (!given) {
		json_decref(value);
		return 0;
	}
	return json_object_set_new(filter, name, value) < 0 ? -ENOMEM : 0;
}

/* A name as the ledger stores it: as it is shown, or as raw bytes. NULL: not given, or no memory. */
static json_t *stored_name(const char *text)
{
	_cleanup_(free_p) char *stored = text ? escape_terminal(text) : NULL;

	return json_string(stored);
}

json_t *options_filter(const struct options *o)
{
	json_t *filter = json_object(), *ports = json_array();

	for (size_t i = 0; i < o->port_count; i++)
		if (json_array_append_new(ports, json_integer(o->ports[i])) < 0) {
			json_decref(ports);
			ports = NULL;
		}
	if (filter_set(filter, "ports", o->port_count > 0 || !ports, ports) < 0 ||
		filter_set(filter, "protocol", o->protocol, json_string(o->protocol)) < 0 ||
		filter_set(filter, "app", o->app, stored_name(o->app)) < 0 ||
		filter_set(filter, "unit", o->unit, stored_name(o->unit)) < 0 ||
		filter_set(filter, "uid", o->uid >= 0, json_integer(o->uid)) < 0 ||
		filter_set(filter, "pid", o->pid >= 0, json_integer(o->pid)) < 0 ||
		filter_set(filter, "address", o->address, json_string(o->address)) < 0 ||
		filter_set(filter, "peer", o->peer, json_string(o->peer)) < 0 ||
		filter_set(filter, "peer_port", o->peer_port, json_integer(o->peer_port)) < 0 ||
		filter_set(filter, "netns", o->netns, stored_name(o->netns)) < 0 ||
		filter_set(filter, "role", o->role, json_string(o->role)) < 0 ||
		filter_set(filter, "range", o->range, json_string(o->range)) < 0) {
		json_decref(filter);
		return NULL;
	}
	return filter;
}
