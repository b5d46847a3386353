/* SPDX-License-Identifier: MIT */
#pragma once

/* The grammar of the command line as two tables: which option belongs to which group, which verb takes which groups.
 * The parser, its complaints and the help are made from them, so that they cannot disagree. */

#include "client/options.h"

/* Groups of options, as bits. Numbered by the compiler: two of the same number would let a verb take what it cannot heed. */
enum group_bit {
	BIT_COMMON, /* every verb takes them */
	BIT_JSON,
	BIT_CSV, /* and the values of one column */
	BIT_DAEMON,
	BIT_STRICT,
	BIT_FILTER,
	BIT_WINDOW,
	BIT_AT,
	BIT_LIMIT,
	BIT_OVERNIGHT,
	BIT_CONFIG,
	BIT_PROTOCOL,
	BIT_COLUMNS,
	BIT_NETNS,
	BIT_LISTENERS,
	BIT_SINCE,
	BIT_SELF_TEST,
	BIT_AUDIT,
	BIT_PLACE,
	BIT_PRESSURE,
	BIT_APPS,
	BIT_FIELDS,
	BIT_OUTPUT,
	BIT_EXPORT,
};
enum group {
	GROUP_COMMON = 1 << BIT_COMMON,
	GROUP_JSON = 1 << BIT_JSON,
	GROUP_CSV = 1 << BIT_CSV,
	GROUP_DAEMON = 1 << BIT_DAEMON,
	GROUP_STRICT = 1 << BIT_STRICT,
	GROUP_FILTER = 1 << BIT_FILTER,
	GROUP_WINDOW = 1 << BIT_WINDOW,
	GROUP_AT = 1 << BIT_AT,
	GROUP_LIMIT = 1 << BIT_LIMIT,
	GROUP_OVERNIGHT = 1 << BIT_OVERNIGHT,
	GROUP_CONFIG = 1 << BIT_CONFIG,
	GROUP_PROTOCOL = 1 << BIT_PROTOCOL,
	GROUP_COLUMNS = 1 << BIT_COLUMNS,
	GROUP_NETNS = 1 << BIT_NETNS,
	GROUP_LISTENERS = 1 << BIT_LISTENERS,
	GROUP_SINCE = 1 << BIT_SINCE,
	GROUP_SELF_TEST = 1 << BIT_SELF_TEST,
	GROUP_AUDIT = 1 << BIT_AUDIT,
	GROUP_PLACE = 1 << BIT_PLACE,
	GROUP_PRESSURE = 1 << BIT_PRESSURE,
	GROUP_APPS = 1 << BIT_APPS,
	GROUP_FIELDS = 1 << BIT_FIELDS,
	GROUP_OUTPUT = 1 << BIT_OUTPUT,
	GROUP_EXPORT = 1 << BIT_EXPORT,
};

enum option_id {
	OPTION_SOCKET,
	OPTION_HOST,
	OPTION_AT,
	OPTION_SINCE,
	OPTION_UNTIL,
	OPTION_OVERNIGHT,
	OPTION_FIELDS,
	OPTION_FORMAT,
	OPTION_TO,
	OPTION_CURSOR,
	OPTION_CURSOR_FILE,
	OPTION_OPEN,
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
	OPTION_WINDOW,
	OPTION_NEW,
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
	const char *examples; /* a line each: the command, a tab, and what it asks; NULL: none */
};
extern const struct grammar_verb grammar_verbs[VERB_COUNT];

/* 0 or -ENOENT. */
int grammar_find_verb(const char *name, enum verb *ret) _must_check_;
