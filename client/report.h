/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A report: one file that is whole by itself, without a script and without anything that a browser would fetch. Of what a
 * daemon said, which is checked by its shapes; how much of it there may be is the daemon's limit and ours.
 */

#include "client/axis.h"

enum report_form {
	REPORT_HTML,
	REPORT_SVG,
};

#define REPORT_CLAIMS 600u /* of a timeline, the newest */

struct report {
	const struct view *view;
	const char *host; /* not escaped; NULL: not known */
	struct window window;
	const json_t *activity;  /* shape_activity */
	const json_t *occupancy; /* shape_occupancy; NULL: the window is too long for it */
	const json_t *
		claims; /* a list of shape_claim, oldest opening first; NULL: no timeline was asked for */
};

/* Writes it. 0 or -ENOMEM; whether `out` took it all is the caller's to ask. */
int report_write(const struct report *r, enum report_form form, FILE *out) _must_check_;

/* A picture with what belongs to it. */
struct figure {
	const char *id, *title; /* static */
	char *note;             /* owned; one or two sentences, not escaped */
	int height;             /* of the picture, tenths of a pixel */
	const struct report *report;
	void *data;                                             /* owned; what its functions need */
	void (*free)(void *data);                               /* NULL: free() */
	void (*draw)(struct sheet *s, const struct figure *f);  /* from (0, 0) down */
	void (*table)(struct sheet *s, const struct figure *f); /* its numbers, in HTML */
};

void figure_done(struct figure *f);

/* The four, each as far as there is something to draw. 0 or -ENOMEM. */
int report_programs(const struct report *r, struct figure *ret) _must_check_;
int report_ports(const struct report *r, struct figure *ret) _must_check_;
int report_pressure(const struct report *r, struct figure *ret) _must_check_;
int report_timeline(const struct report *r, struct figure *ret) _must_check_;

/* All pictures are this wide; what has a time axis has it here. */
#define PICTURE_WIDTH 10000
#define PICTURE_LEFT  2600
#define PICTURE_RIGHT 9000
#define PICTURE_TOP   400 /* below the labels of the axis */

/* The name of a program ("node (/usr/bin/node)"), a user ("alice" or "1000"; NULL: not known). Fresh or NULL: no memory. */
char *report_program(const struct report *r, const json_t *row);
char *report_user(const struct report *r, const json_t *row);

/* Cells of a table. */
void sheet_table(struct sheet *s, const char *caption);
void sheet_heading(struct sheet *s, const char *text);
void sheet_cell(struct sheet *s, const char *text);
void sheet_count(struct sheet *s, uint64_t count);
void sheet_time(struct sheet *s, usec_t at);
