/* SPDX-License-Identifier: MIT */
#pragma once

/* How the files that hold shapes write them down. */

#include "client/shape.h"

#define SHAPE(name, ...)                                                                           \
	static const struct shape_member name##_members[] = {__VA_ARGS__};                         \
	const struct shape name = {name##_members, ELEMENTSOF(name##_members)}
#define INNER_SHAPE(name, ...)                                                                     \
	static const struct shape_member name##_members[] = {__VA_ARGS__};                         \
	static const struct shape name = {name##_members, ELEMENTSOF(name##_members)}

/* Of a claim, and of every reply with ranges. */
extern const struct shape shape_holder, shape_range;

/* A list of arguments for SHAPE: an event is a claim with a word in front. */
#define CLAIM_MEMBERS                                                                              \
	{"port", SHAPE_PORT}, {"protocol", SHAPE_TEXT}, {"family", SHAPE_TEXT},                    \
		{"netns", SHAPE_INT, true}, {"netns_name", SHAPE_TEXT, true},                      \
		{"local_address", SHAPE_TEXT, true}, {"remote_address", SHAPE_TEXT, true},         \
		{"remote_port", SHAPE_PORT, true}, {"role", SHAPE_TEXT, true},                     \
		{"opened_usec", SHAPE_TIME}, {"opened_after_usec", SHAPE_TIME, true},              \
		{"closed_usec", SHAPE_TIME, true}, {"closed_after_usec", SHAPE_TIME, true},        \
		{"released_usec", SHAPE_TIME, true}, {"pid", SHAPE_INT, true},                     \
		{"comm", SHAPE_TEXT, true}, {"exe", SHAPE_TEXT, true}, {"uid", SHAPE_INT, true},   \
		{"user", SHAPE_TEXT, true}, {"unit", SHAPE_TEXT, true},                            \
		{"cgroup", SHAPE_TEXT, true}, {"parent_pid", SHAPE_INT, true},                     \
		{"parent_comm", SHAPE_TEXT, true}, {"attribution", SHAPE_TEXT},                    \
		{"source", SHAPE_TEXT}, {"holders", SHAPE_LIST, false, &shape_holder},             \
		{"exe_note", SHAPE_TEXT, true}, {"count", SHAPE_INT, true},                        \
	{                                                                                          \
		"ports", SHAPE_INTS, true                                                          \
	}
