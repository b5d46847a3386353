/* SPDX-License-Identifier: MIT */

#include "client/shape_ports.h"

#include "client/shape_private.h"

SHAPE(shape_listener, CLAIM_MEMBERS, {"reserved", SHAPE_BOOL, true}, {"sockets", SHAPE_INT},
	{"tenures", SHAPE_INT}, {"collisions", SHAPE_INT}, {"collision_usec", SHAPE_TIME, true},
	{"collision_comm", SHAPE_TEXT, true}, {"collision_exe", SHAPE_TEXT, true},
	{"collision_unit", SHAPE_TEXT, true});

SHAPE(shape_listeners, {"listeners", SHAPE_LIST, false, &shape_listener}, {"omitted", SHAPE_INT},
	{"ephemeral_range", SHAPE_OBJECT, false, &shape_range}, {"netns", SHAPE_INT, true},
	{"reserved", SHAPE_TEXT, true}, {"coverage", SHAPE_OBJECT, false, &shape_coverage});

INNER_SHAPE(shape_opener, {"comm", SHAPE_TEXT, true}, {"exe", SHAPE_TEXT, true},
	{"unit", SHAPE_TEXT, true}, {"uid", SHAPE_INT, true}, {"claims", SHAPE_INT});
SHAPE(shape_pressure_row, {"scope", SHAPE_TEXT}, {"protocol", SHAPE_TEXT},
	{"netns", SHAPE_INT, true}, {"netns_name", SHAPE_TEXT, true},
	{"local_address", SHAPE_TEXT, true}, {"remote_address", SHAPE_TEXT, true},
	{"remote_port", SHAPE_PORT, true}, {"low", SHAPE_PORT}, {"high", SHAPE_PORT},
	{"available", SHAPE_INT}, {"used", SHAPE_INT}, {"time_wait", SHAPE_INT},
	{"peak", SHAPE_INT}, {"peak_usec", SHAPE_TIME}, {"peak_time_wait", SHAPE_INT},
	{"claims", SHAPE_INT}, {"grown", SHAPE_SIGNED}, {"bound_first", SHAPE_BOOL},
	{"full_usec", SHAPE_TIME, true}, {"openers", SHAPE_LIST, false, &shape_opener});
SHAPE(shape_pressure, {"pressure", SHAPE_LIST, false, &shape_pressure_row}, {"omitted", SHAPE_INT},
	{"least_peak", SHAPE_INT, true}, {"coverage", SHAPE_OBJECT, false, &shape_coverage});

INNER_SHAPE(shape_port_count, {"port", SHAPE_PORT}, {"claims", SHAPE_INT});
INNER_SHAPE(shape_served, {"port", SHAPE_PORT}, {"protocol", SHAPE_TEXT});
SHAPE(shape_app, {"name", SHAPE_TEXT}, {"file", SHAPE_BOOL}, {"first_usec", SHAPE_TIME},
	{"last_usec", SHAPE_TIME, true}, {"last_before_usec", SHAPE_TIME, true},
	{"new", SHAPE_BOOL}, {"claims", SHAPE_INT}, {"ports", SHAPE_INT}, {"connected", SHAPE_INT},
	{"listening", SHAPE_INT}, {"bound", SHAPE_INT}, {"accepted", SHAPE_INT},
	{"low", SHAPE_PORT, true}, {"high", SHAPE_PORT, true},
	{"preferred", SHAPE_LIST, false, &shape_port_count},
	{"serves", SHAPE_LIST, false, &shape_served}, {"units", SHAPE_TEXTS},
	{"units_more", SHAPE_BOOL}, {"uids", SHAPE_INTS}, {"uids_more", SHAPE_BOOL},
	{"comms", SHAPE_TEXTS}, {"comms_more", SHAPE_BOOL});
SHAPE(shape_apps, {"apps", SHAPE_LIST, false, &shape_app}, {"omitted", SHAPE_INT},
	{"coverage", SHAPE_OBJECT, false, &shape_coverage});
