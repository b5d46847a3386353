/* SPDX-License-Identifier: MIT */
#pragma once

/* Lines of any length from a descriptor, in bounded memory. */

#include "common/limits.h"
#include "common/base.h"

struct lines {
	int fd;
	char *data; /* owned */
	size_t begin, end, capacity;
	bool eof;
};

enum lines_is {
	LINES_LINE, /* a whole line, with its line break; the last one may have none */
	LINES_PART, /* a part of a line that is longer than LIMIT_LINE_BYTES: more of it follows */
	LINES_WAIT, /* no whole line yet: call lines_read() */
	LINES_END,
};

int lines_init(struct lines *l, int fd) _must_check_;
void lines_done(struct lines *l);

/* The next line, which is valid until lines_read(). `in_part`: the last one was LINES_PART, and this is of the same line. */
enum lines_is lines_next(struct lines *l, bool in_part, const char **ret, size_t *ret_size);

/* Waits at most so many milliseconds (-1: for ever) and reads. 1: something, or the end; 0: nothing in that time; or what
 * poll(2) and read(2) say. */
int lines_read(struct lines *l, int timeout) _must_check_;
