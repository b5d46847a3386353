/* SPDX-License-Identifier: MIT */

/* Apps: programs, since when they are known, and how they use ports. */

#include "daemon/control/methods_private.h"

#include "daemon/control/query_ports.h"

static int parse_apps(struct request *r)
{
	int e = take_filter(r, &r->apps.filter);

	r->apps.name = take_string(r, "name");
	r->apps.only_new = take_boolean(r, "new");
	if (e == ANSWERED)
		e = take_window(r, "since_usec", "until_usec");
	if (e == ANSWERED && !json_is_integer(json_object_get(r->call.parameters, "since_usec")))
		r->window.from = usec_sub(looked_window(r).until, USEC_PER_DAY);
	return e;
}

static int apps(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	int e = buf_append_string(&text, "{");

	if (e == 0)
		e = query_apps(r->methods->query, &r->apps.filter, looked_window(r), r->apps.name,
			r->apps.only_new, r->asked.wall, &text);
	if (e == 0)
		e = append_coverage(r, &r->apps.filter, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_apps = {
	"Apps",
	(const struct parameter[]){
		{"since_usec", PARAMETER_INTEGER, false},
		{"until_usec", PARAMETER_INTEGER, false},
		{"new", PARAMETER_BOOLEAN, false},
		{"name", PARAMETER_STRING, false},
		{"filter", PARAMETER_OBJECT, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_apps,
	.run = apps,
};
