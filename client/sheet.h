/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a report is written on: markup of ours, and between it text of others, which gets there by sheet_text() and
 * sheet_cut() alone. Lengths are tenths of a pixel, and not negative: a comma of somebody's locale has no place in SVG.
 */

#include <stdio.h>

#include "client/view.h"

struct sheet {
	FILE *out;
	const struct view *view;
	bool failed; /* no memory for a text: the sheet is worth nothing */
};

/* Markup. */
void sheet_put(struct sheet *s, const char *format, ...) _printf_(2, 3);

/* Text, escaped, as content or inside a quoted attribute. NULL is none. */
void sheet_text(struct sheet *s, const char *text);

/* The same, cut with a mark where it takes more columns of a fixed font. Returns how many it takes then. */
size_t sheet_cut(struct sheet *s, const char *text, size_t columns);

/* A length as printf wants it: "x='" PX "'", PX_OF(x). */
#define PX       "%d.%d"
#define PX_OF(x) (x) / 10, (x) % 10

/* <text class='CLASS' x=.. y=..>TEXT</text> */
void sheet_label(struct sheet *s, int x, int y, const char *css, const char *text);

/* A rectangle; `tip`, where it is not NULL, is shown where the mouse rests on it. */
void sheet_rect(
	struct sheet *s, int x, int y, int width, int height, const char *css, const char *tip);

/* Breaks a text into lines of at most so many columns and writes them below each other, `line` apart, from (x, y) on; without
 * a sheet it only counts them. Returns how many lines there are. */
int sheet_lines(
	struct sheet *s, int x, int y, int line, size_t columns, const char *css, const char *text);

/* How much there is of something, in six steps of a logarithm. */
#define LEVELS 6
struct levels {
	uint64_t edge[LEVELS]; /* level i+1 begins here */
};

/* Levels that reach up to `most`. */
struct levels levels_of(uint64_t most);
/* 1 to LEVELS; 0 for none. */
unsigned level_of(const struct levels *l, uint64_t count);

/* What each level means, and how what was not watched is shown: one line of 16 pixels from (x, y) down. */
void sheet_legend(
	struct sheet *s, int x, int y, const struct levels *l, uint64_t most, const char *what);

/* "12", "1.2k", "12k", "1.2M": four characters at most. */
#define SHORT_COUNT_MAX 8
const char *short_count(uint64_t count, char text[static SHORT_COUNT_MAX]);
