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
