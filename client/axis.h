/* SPDX-License-Identifier: MIT */
#pragma once

/* Time from left to right, in the hours of the local clock. Lengths as in client/sheet.h. */

#include <jansson.h>

#include "client/sheet.h"

struct axis {
	struct window window;
	int left, right;
};

/* A step of the local clock (a minute, 5, ... an hour, 3, ... a day, a week) of which the window has at most `max` and one; and
 * where the one begins that the window begins in. */
usec_t axis_step(struct window window, unsigned max);
usec_t axis_origin(usec_t from, usec_t step);

/* Where a moment is; what is outside of the window is at its edge. */
int axis_x(const struct axis *a, usec_t at);

/* Two lines of labels above `top` (28 pixels), hours and where a day begins its date; and lines down to `bottom`. */
void axis_draw(struct sheet *s, const struct axis *a, int top, int bottom);

/* What of the window was not watched, of its receipt: hatched from `top` to `bottom`, gaps too. */
void axis_unwatched(
	struct sheet *s, const struct axis *a, const json_t *coverage, int top, int bottom);

/* "Sat 21 Nov 2026 18:00"; to the second where it is on none of the minute. */
#define AXIS_MOMENT_MAX 64
const char *axis_moment(usec_t at, char text[static AXIS_MOMENT_MAX]);
