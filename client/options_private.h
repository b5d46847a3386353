/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the command line's parser share. */

#include "client/grammar.h"
#include "client/options.h"

/* What getopt_long found: for each option whether it was given, and its last value. */
struct given {
	bool is[OPTION_COUNT];
	const char *value[OPTION_COUNT];
};

/* Keeps the complaint for the caller to print. -EINVAL or -ENOMEM. */
int options_usage(struct options *o, const char *format, ...) _printf_(2, 3);

/* Takes the value of one option (NULL where it has none); of times only what does not depend on another option, since
 * --utc may come last and changes what a time means. `terminal`: standard output is one. */
int options_take(
	struct options *o, enum option_id id, const char *value, bool terminal) _must_check_;

/* Takes a PORT[/PROTO] word. */
int options_take_port(struct options *o, const char *text) _must_check_;

/* Takes the word after --self-test: how many claims. */
int options_take_self_test(struct options *o, const char *text) _must_check_;

/* Takes the times that were given, now that it is known in which zone they are and for which verb. */
int options_take_times(struct options *o, const struct given *given, usec_t now) _must_check_;
