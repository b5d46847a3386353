/* SPDX-License-Identifier: MIT */
#pragma once

/* Times, spans and numbers for people, in the local time zone ($TZ). */

#include "common/clock.h"

#define FORMAT_TIME_MAX 48
#define FORMAT_MAX      32
#define FORMAT_WAY_MAX  80

/* "03:12:07.114" where it is the local day of `day`, "Nov 22 03:12:07.114" in its year, else
 * "2025-11-22 03:12:07.114". `day` USEC_UNSET: always with the whole date. Cut to the millisecond, as a clock shows it.
 * Returns `text`. */
const char *format_time(usec_t t, usec_t day, char text[static FORMAT_TIME_MAX]);

/* As format_time, but only to the second where the fraction is 0. */
const char *format_moment(usec_t t, usec_t day, char text[static FORMAT_TIME_MAX]);

/* As format_time, to the minute: "02:00". */
const char *format_minute(usec_t t, usec_t day, char text[static FORMAT_TIME_MAX]);

/* "250 ms", "1.5 s", "14 min", "3 h 20 min", "20 days": two figures at most. */
const char *format_span(usec_t span, char text[static FORMAT_MAX]);

/* How it is watched, by a source's name and the interval of the sweeps: "sweep every 1 s and told of ends". */
const char *format_way(const char *source, usec_t interval, char text[static FORMAT_WAY_MAX]);

/* "41.2 MiB". */
const char *format_bytes(uint64_t bytes, char text[static FORMAT_MAX]);

/* "28,232". */
const char *format_count(uint64_t number, char text[static FORMAT_MAX]);

/* What so many of a thing end in: "s", or "" of one. */
static inline const char *format_plural(uint64_t number)
{
	return number == 1 ? "" : "s";
}
