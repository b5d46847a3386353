/* SPDX-License-Identifier: MIT */
#pragma once

/* The grammar of the command line as two tables: which option belongs to which group, which verb takes which groups.
 * The parser, its complaints and the help are made from them, so that they cannot disagree. */

#include "client/options.h"

enum group {
	GROUP_COMMON = 1 << 0, /* every verb takes them */
	GROUP_DAEMON = 1 << 1,
	GROUP_STRICT = 1 << 2,
	GROUP_FILTER = 1 << 3,
	GROUP_WINDOW = 1 << 4,
	GROUP_AT = 1 << 5,
	GROUP_LIMIT = 1 << 6,
	GROUP_OVERNIGHT = 1 << 7,
	GROUP_CONFIG = 1 << 8,
	GROUP_PROTOCOL = 1 << 9,
	GROUP_COLUMNS = 1 << 10,
	GROUP_NETNS = 1 << 11,
	GROUP_LISTENERS = 1 << 13,
	GROUP_SINCE = 1 << 14,
	GROUP_SELF_TEST = 1 << 12,
	GROUP_AUDIT = 1 << 15,
	GROUP_FIELDS = 1 << 16,
	GROUP_OUTPUT = 1 << 17,
};

enum option_id {
	OPTION_SOCKET,
	OPTION_HOST,
	OPTION_AT,
	OPTION_SINCE,
	OPTION_UNTIL,
	OPTION_OVERNIGHT,
	OPTION_FIELDS,
	OPTION_BY,
	OPTION_DIFF,
	OPTION_LIMIT,
	OPTION_APP,
	OPTION_UNIT,
	OPTION_USER,
	OPTION_PID,
	OPTION_PROTO,
	OPTION_ADDR,
	OPTION_PEER,
	OPTION_NETNS,
	OPTION_ROLE,
	OPTION_RANGE,
	OPTION_BOUND_FOR,
	OPTION_SYSCTL,
	OPTION_OUTPUT,
	OPTION_CONFIG,
	OPTION_SELF_TEST,
	OPTION_JSON,
	OPTION_JSON_AUTO,
	OPTION_CSV,
	OPTION_FIELD,
	OPTION_COLUMNS,
	OPTION_NO_LEGEND,
	OPTION_NO_PAGER,
	OPTION_COLOR,
	OPTION_UTC,
	OPTION_STRICT,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_COUNT,
};

/* Indexed by enum option_id. */
struct grammar_option {
	const char *name;     /* NULL: has only a letter */
	char letter;          /* 0: has only a name */
	const char *argument; /* what the help calls its value; NULL: takes none */
	unsigned groups;      /* enum group */
	const char *help;
};
extern const struct grammar_option grammar_options[OPTION_COUNT];

/* Indexed by enum verb. */
struct grammar_verb {
	const char *name;
	const char *arguments; /* for the help */
	unsigned groups;       /* of options it takes */
	size_t ports_min, ports_max;
	const char *help;
	const char *examples; /* a command a line, and what it asks; NULL: none */
};
extern const struct grammar_verb grammar_verbs[VERB_COUNT];

/* 0 or -ENOENT. */
int grammar_find_verb(const char *name, enum verb *ret) _must_check_;
