/* SPDX-License-Identifier: MIT */
#pragma once

/* For whom we write: where to, how wide, in which clothes. Made once; the same for the whole answer. */

#include <stdio.h>

#include <jansson.h>

#include "client/options.h"

struct users;

struct view {
	const struct options *options; /* output, columns, legend */
	FILE *out;
	FILE *notes; /* for what has no room in CSV or a list of values: standard error */
	usec_t now;  /* wall clock, when the question was asked */
	bool utf8;   /* the locale can show "≤"; else all is ASCII */
	bool color;
	size_t width;       /* of the terminal in columns; 0: none, so nothing is left out or cut */
	size_t notes_width; /* the same of that which the notes go to */
	struct users *users; /* names of users */
	uint64_t netns;      /* inode of our own network namespace; 0: not known */
	const json_t
		*coverage; /* of an audit, for cells that draw its window; the verb's. NULL: none */
};

/* What a word of the answer means; colour is never its only sign. */
enum tone {
	TONE_PLAIN,
	TONE_GOOD,
	TONE_WARNING,
	TONE_BAD,
	TONE_FAINT,
};

/* The escape sequences around a text of this tone; "" where the view has no colours. */
const char *view_tone(const struct view *v, enum tone tone);
const char *view_plain(const struct view *v);

/* Prints `text` escaped for a terminal: the one way for a name to get there outside of a table. */
void view_text(const struct view *v, const char *text);

/* `text` as a terminal of this view may have it: escaped, and without UTF-8 where the locale has none. Fresh memory
 * or NULL (no memory). */
char *view_escape(const struct view *v, const char *text);

/* How many terminal columns the text takes. A byte that is no character of the locale counts as what it is printed as:
 * \xHH. */
size_t view_columns(const char *text);

/* How many bytes of the text, at a character's boundary, fit into so many terminal columns. */
size_t view_fit(const char *text, size_t columns);

/* Prints `text`, escaped, and a line break. On a terminal it is broken between words where it does not fit: the cursor is
 * at `column`, further lines begin at `indent`. A pager would cut it else, and the end of a receipt matters. */
void view_wrapped(const struct view *v, FILE *out, const char *text, size_t column, size_t indent);
