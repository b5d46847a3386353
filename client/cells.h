/* SPDX-License-Identifier: MIT */
#pragma once

/* Kinds of rows: which members a row has for programs, and which cells it has for people. */

#include "client/shape.h"
#include "client/view.h"

struct cell {
	const char *heading;
	const char *member; /* shown as it is, "-" where unknown; NULL: `text` makes the cell */
	/* Fresh text, not yet escaped; "" where there is nothing to say, and a column that says nothing in
	 * every row is left out. NULL: no memory. */
	char *(*text)(const json_t *row, const struct view *v);
	enum tone (*tone)(const json_t *row); /* NULL: plain */
	bool right;                           /* aligned */
	bool cut;                             /* may be cut where the terminal is too narrow */
	unsigned drop;  /* left out where the terminal is too narrow, the highest first; 0: never */
	const char *by; /* with this --by it is what the rows are of: never left out */
};

struct kind {
	const char *plural; /* member of the pretty JSON document that holds the rows */
	const struct shape *shape;
	const struct cell *cells;
	size_t cell_count;
	/* What the columns of a row say, in a line of its own where some of them have no room. Fresh text, not yet escaped; NULL: no
	 * memory. A kind may have none: then a note says which columns have no room. */
	char *(*detail)(const json_t *row, const struct view *v);
};

extern const struct kind kind_claims, kind_who, kind_open_claims, kind_events, kind_programs,
	kind_changes, kind_checks, kind_settings, kind_self_test;

/* A text or an integer as it is, "-" for null. Fresh, not yet escaped; NULL: no memory. */
char *cell_member(const json_t *row, const char *member);

/* "node (/usr/bin/node)", of a row of an audit. Fresh text, not yet escaped; NULL: no memory. */
char *cell_program(const json_t *row, const struct view *v);

/* Of one claim, for people. Fresh text, not yet escaped; NULL: no memory. */
char *cell_process(const json_t *claim, const struct view *v);
char *cell_remote(const json_t *claim, const struct view *v);
/* "192.0.2.1:443", "[2001:db8::1]:443" */
char *cell_endpoint(const char *address, int64_t port);
char *cell_port(const json_t *claim, const struct view *v);
char *cell_netns(const json_t *claim, const struct view *v);
char *cell_opened(const json_t *claim, const struct view *v);

/* A part of a sentence about a row: `what`, and the text or the member as it is. */
struct cell_part {
	const char *what;
	char *(*text)(const json_t *row, const struct view *v);
	const char *member; /* where there is no `text` */
};

/* "HEAD: WHAT TEXT, WHAT TEXT": of those parts of which there is something to say. Fresh text, not yet escaped; NULL: no memory, also
 * where a head is NULL. */
char *cell_sentence(const json_t *row, const struct view *v, const char *head,
	const char *second_head, const struct cell_part parts[], size_t count);

/* How many claims the row stands for. */
int64_t claim_count(const json_t *claim);

/* Where these are many: "60530: one of 1,204 claims by curl[123] of these ports (...) between ... and ...; ...". Fresh text, not
 * yet escaped; NULL: no memory. */
char *claim_together(const json_t *claim, const struct view *v);

enum tone tone_process(const json_t *claim);

/* What a process is called: its name, member `comm` of the row, or without one (a process may call itself nothing) the last part of
 * its file, member `exe`. NULL where neither is known. */
const char *cell_name(const json_t *row, const char *comm, const char *exe);

/* As asprintf(3). NULL: no memory. */
char *cell_print(const char *format, ...) _printf_(1, 2);

/* Of a claim or a program: its user's name, or number. */
char *cell_user(const json_t *row, const struct view *v);

/* A further bound than this is told as "before": the claim was there when we began to watch. */
#define CELL_BOUND_MAX USEC_PER_MINUTE

/* By how much the opening or closing of a claim is not known (the larger); 0 where both are exact or the bound is past
 * CELL_BOUND_MAX. */
usec_t cell_bound(const json_t *claim);

/* Is a time of the claim told as "before"? */
bool cell_is_before(const json_t *claim);
