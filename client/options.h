/* SPDX-License-Identifier: MIT */
#pragma once

/* The command line as values. One table of options and one of verbs say what goes with what, and make the help. */

#include <stdio.h>

#include <jansson.h>

#include "common/limits.h"
#include "common/when.h"

#define SOCKET_DEFAULT "/run/portledger/control"

enum verb {
	VERB_STATUS,
	VERB_EXPLAIN,
	VERB_WHO,
	VERB_NOW,
	VERB_HISTORY,
	VERB_FOLLOW,
	VERB_AUDIT,
	VERB_FAILURES,
	VERB_LISTENERS,
	VERB_ANNOTATE,
	VERB_REPORT,
	VERB_PRESSURE,
	VERB_EXPORT,
	VERB_APPS,
	VERB_APP,
	VERB_DOCTOR,
	VERB_CONFIG,
	VERB_HELP,
	VERB_VERSION,
	VERB_COUNT,
};

enum output {
	OUTPUT_TABLE,       /* for people */
	OUTPUT_JSON_SHORT,  /* one object a line */
	OUTPUT_JSON_PRETTY, /* one indented document */
	OUTPUT_CSV,         /* RFC 4180 */
	OUTPUT_FIELD,       /* the distinct values of one column, one a line */
};

enum color {
	COLOR_AUTO,
	COLOR_ALWAYS,
	COLOR_NEVER,
};

#define OPTION_COLUMNS_MAX 32
#define SELF_TEST_DEFAULT  100

/* Strings are of argv or the environment unless said otherwise, and live as long as these. */
struct options {
	enum verb verb;
	enum verb help_on; /* help, or after -EINVAL a hint, is of this verb; VERB_COUNT: of all */

	const char *socket_path;
	bool socket_given;       /* by --socket or the environment: not systemd's */
	const char *host;        /* ask the daemon there, through ssh; NULL: here */
	bool bridge;             /* no question: serve Varlink on standard input and output */
	const char *config_path; /* NULL: the default files */

	uint16_t ports[LIMIT_FILTER_PORTS];
	size_t port_count;
	struct window at[WHEN_WINDOWS_MAX]; /* --at; an ambiguous local time has two */
	int at_count;
	usec_t since, until; /* USEC_UNSET: not given */
	usec_t bound_for;    /* of listeners; USEC_UNSET: not given */
	usec_t window_span;  /* of pressure; USEC_UNSET: not given */
	bool only_new;       /* of apps: first seen in the window; of follow: never seen before */
	const char *name;    /* of app; NULL: all */
	bool sysctl;         /* of listeners: a drop-in for sysctl.d(5) */
	uint32_t limit;      /* 0: none */
	const char *format;  /* of export; NULL: ndjson */
	const char *output_path, *cursor, *cursor_path; /* of export; NULL: none */
	bool open;                                      /* export: then what is open now */
	const char *fields; /* of annotate: where a record has what; NULL: eve */
	const char *by;     /* what an audit counts by; NULL: programs */
	bool diff;          /* --diff: against `other` */
	struct window other;

	const char *protocol, *app, *unit, *netns, *role, *range; /* NULL: any */
	char *address, *peer; /* as inet_ntop(3) writes them; owned */
	uint16_t peer_port;   /* 0: any */
	int64_t uid, pid;     /* -1: any */
	uint32_t self_test;   /* claims of each kind; 0: no self-test */

	const char *report_path; /* of VERB_REPORT */
	bool report_svg;         /* else HTML */

	enum output output;
	const char *field;  /* of OUTPUT_FIELD */
	char *columns_text; /* owned; what `columns` points into */
	const char *columns[OPTION_COLUMNS_MAX];
	size_t column_count; /* 0: the verb's own */
	bool no_legend, no_pager, utc, strict;
	enum color color;

	char *error; /* after -EINVAL: what is wrong, in one line; owned */
};

/*
 * Reads the command line. `now` is the wall clock, `terminal` whether standard output is one. --utc sets $TZ of the
 * process. 0, -ENOMEM, or -EINVAL with `error` set. Call options_done in each case.
 */
int options_parse(
	int argc, char **argv, usec_t now, bool terminal, struct options *ret) _must_check_;
void options_done(struct options *o);

/* The filter as the interface has it (`Filter`). NULL: no memory. */
json_t *options_filter(const struct options *o);

/* The help, of one verb or of all. */
void options_help(FILE *out, enum verb verb);
