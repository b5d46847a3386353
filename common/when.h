/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Times as people write them: systemd's grammar (systemd.time(7), "PARSING TIMESTAMPS"), plus `DAYWORD HH:MM`
 * ("yesterday 22:00", "monday 08:30": the last Monday, today included) and "last night". Not taken: "infinity", and
 * what is past 9999-12-30. A zone in the text is the process's while it is parsed: for single-threaded programs.
 */

#include "common/clock.h"

#define WHEN_WINDOWS_MAX 2 /* that one text can name */

/*
 * Parses a moment into the stretch that it names: a time given to the second is that second, one to the minute
 * ("03:12") the whole minute, a date the moment of its midnight (as systemd) widened to nothing more than its
 * second; a time with a fraction its microsecond. "now", "-8h", "@epoch" are a single microsecond; "last night" is all
 * of it (when_parse_stretch).
 * A local time that happens twice (the end of summer time) gives two windows, both must be asked. A local time that
 * does not happen (the beginning of it) is -EINVAL, but for the midnight of a date, which is then the day's first
 * moment. `now` is the wall clock; the zone is the process's ($TZ).
 * Returns how many windows were set (1 or 2), -EINVAL (no such grammar) or -ERANGE.
 */
int when_parse(
	const char *text, usec_t now, struct window ret[static WHEN_WINDOWS_MAX]) _must_check_;

/* A single moment, as for --since: the start of the first window, as `systemd-analyze timestamp` has it; of a
 * local time that does not happen also what that has, as long after the skip. 0, -EINVAL or -ERANGE. */
int when_parse_moment(const char *text, usec_t now, usec_t *ret) _must_check_;

/* The same as the end of a stretch, for --until: the start of the last window, so that whatever the text can mean is before
 * it. */
int when_parse_end(const char *text, usec_t now, usec_t *ret) _must_check_;

/* "last night" and the like name a stretch, not a moment: 22:00 of the day before to 08:00. Of the last full night:
 * before 08:00 it is the one that is under way. 0, -EINVAL (not such a word) or -ERANGE. */
int when_parse_stretch(const char *text, usec_t now, struct window *ret) _must_check_;

/* systemd's time spans: "8h 30min", "1.5s", "100ms", "2d"; a bare number is seconds. 0, -EINVAL or -ERANGE. */
int when_parse_span(const char *text, usec_t *ret) _must_check_;
