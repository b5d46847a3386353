/* SPDX-License-Identifier: MIT */

/* What systemd takes is compared with systemd itself, in tests/system/test_when_oracle.py. Here: what it cannot tell us.
 * The width of a window, local times that happen twice or never, our own words, and that the zone is given back. */

#include "common/when.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

/* Monday 2026-11-23 13:00:00.250000 UTC, 14:00 in Berlin, 08:00 in New York. */
#define NOW_SECONDS UINT64_C(1795438800)
#define NOW         (NOW_SECONDS * USEC_PER_SEC + 250000)

static void set_zone(const char *zone)
{
	assert_int_equal(setenv("TZ", zone, 1), 0);
	tzset();
}

/* Times in seconds. `second` is 0 where there is one window. */
struct window_case {
	const char *zone, *text;
	uint64_t first, second;
	usec_t width;
};

static void check_windows(const struct window_case *c, usec_t now)
{
	struct window windows[WHEN_WINDOWS_MAX] = {{1, 1}, {1, 1}};
	usec_t moment;
	int r;

	set_zone(c->zone);
	r = when_parse(c->text, now, windows);
	if (r != (c->second > 0 ? 2 : 1) || windows[0].from != c->first * USEC_PER_SEC ||
		windows[0].until != windows[0].from + c->width)
		fail_msg("%s in %s: %d, %llu", c->text, c->zone, r,
			(unsigned long long)windows[0].from);
	if (c->second > 0) {
		assert_int_equal(windows[1].from, c->second * USEC_PER_SEC);
		assert_int_equal(windows[1].until, windows[1].from + c->width);
	} else
		assert_int_equal(windows[1].from, 1);
	assert_int_equal(when_parse_moment(c->text, now, &moment), 0);
	assert_int_equal(moment, windows[0].from);
	assert_int_equal(when_parse_end(c->text, now, &moment), 0);
	assert_int_equal(moment, windows[c->second ? 1 : 0].from);
}

static void test_width(void **state)
{
	static const struct window_case cases[] = {
		{"UTC", "03:12", NOW_SECONDS - 9 * 3600 - 48 * 60, 0, USEC_PER_MINUTE},
		{"UTC", "03:12:00", NOW_SECONDS - 9 * 3600 - 48 * 60, 0, USEC_PER_SEC},
		{"UTC", "03:12:00.000000", NOW_SECONDS - 9 * 3600 - 48 * 60, 0, 1},
		{"UTC", "03:12:00.0000004", NOW_SECONDS - 9 * 3600 - 48 * 60, 0, 1},
		{"UTC", "03:11:59.9999995", NOW_SECONDS - 9 * 3600 - 48 * 60, 0, 1},
		{"UTC", "2026-11-16 08:00", 1794816000, 0, USEC_PER_MINUTE},
		{"UTC", "26-11-16 08:00:00", 1794816000, 0, USEC_PER_SEC},
		{"UTC", "Nov 16 08:00:00", 1794816000, 0, USEC_PER_SEC},
		{"UTC", "mon 2026-11-16 08:00", 1794816000, 0, USEC_PER_MINUTE},
		{"UTC", "2026-11-16", 1794787200, 0, USEC_PER_SEC},
		{"UTC", "today", NOW_SECONDS - 13 * 3600, 0, USEC_PER_SEC},
		{"UTC", "@1794816000", 1794816000, 0, 1},
		/* the last that is taken */
		{"UTC", "9999-12-30 23:59:59", 253402214399, 0, USEC_PER_SEC},
		{"UTC", "@253402214399", 253402214399, 0, 1},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		check_windows(&cases[i], NOW);
}

static void test_relative(void **state)
{
	static const struct {
		const char *text;
		usec_t moment;
	} cases[] = {
		{"now", NOW},
		{"-8h", NOW - 8 * USEC_PER_HOUR},
		{"+1.5s", NOW + 1500000},
		{"3h ago", NOW - 3 * USEC_PER_HOUR},
		{"3h 5min left", NOW + 185 * USEC_PER_MINUTE},
		{"@123.5", 123500000},
	};
	struct window windows[WHEN_WINDOWS_MAX];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		assert_int_equal(when_parse(cases[i].text, NOW, windows), 1);
		assert_int_equal(windows[0].from, cases[i].moment);
		assert_int_equal(windows[0].until, cases[i].moment + 1);
	}
}

static void test_zones(void **state)
{
	static const struct window_case cases[] = {
		{"Europe/Berlin", "08:00", 1795417200, 0, USEC_PER_MINUTE},
		{"Europe/Berlin", "08:00 UTC", 1795420800, 0, USEC_PER_MINUTE},
		{"Europe/Berlin", "08:00 America/New_York", NOW_SECONDS, 0, USEC_PER_MINUTE},
		{"America/New_York", "2026-07-16 08:00 Europe/Berlin", 1784181600, 0,
			USEC_PER_MINUTE},
		/* "today" is the zone's: in Kiribati it is Tuesday already */
		{"UTC", "today Pacific/Kiritimati", 1795428000, 0, USEC_PER_SEC},
		/* the zone's own names; one that does not fit the season is taken at its word */
		{"Europe/Berlin", "2026-07-16 08:00 CEST", 1784181600, 0, USEC_PER_MINUTE},
		{"Europe/Berlin", "2026-11-16 08:00 CEST", 1794808800, 0, USEC_PER_MINUTE},
		{"America/New_York", "2026-11-16 08:00 EST", 1794834000, 0, USEC_PER_MINUTE},
		/* CET is a zone of its own, too */
		{"America/New_York", "2026-07-16 08:00 CET", 1784185200, 0, USEC_PER_MINUTE},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		check_windows(&cases[i], NOW);
}

static void test_twice(void **state)
{
	static const struct window_case cases[] = {
		{"Europe/Berlin", "2026-10-25 02:30", 1792888200, 1792891800, USEC_PER_MINUTE},
		{"UTC", "2026-10-25 02:30 Europe/Berlin", 1792888200, 1792891800, USEC_PER_MINUTE},
		{"Europe/Berlin", "2026-10-25 02:00:00", 1792886400, 1792890000, USEC_PER_SEC},
		/* one name, one answer */
		{"Europe/Berlin", "2026-10-25 02:30 CEST", 1792888200, 0, USEC_PER_MINUTE},
		{"Europe/Berlin", "2026-10-25 02:30 CET", 1792891800, 0, USEC_PER_MINUTE},
		/* the edges */
		{"Europe/Berlin", "2026-10-25 01:59", 1792886340, 0, USEC_PER_MINUTE},
		{"Europe/Berlin", "2026-10-25 03:00", 1792893600, 0, USEC_PER_MINUTE},
		{"America/New_York", "2026-11-01 01:30", 1793511000, 1793514600, USEC_PER_MINUTE},
		/* half an hour only */
		{"Australia/Lord_Howe", "2026-04-05 01:45", 1775313900, 1775315700,
			USEC_PER_MINUTE},
		/* a midnight, of a year that no newer tzdata changes */
		{"America/Havana", "2024-11-03", 1730606400, 1730610000, USEC_PER_SEC},
		/* summer time of 23 hours, far from Greenwich: what is later is met first */
		{"AAA12BBB11,J9/12,J10/12", "2026-01-10 11:30", 1768084200, 1768087800,
			USEC_PER_MINUTE},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		check_windows(&cases[i], NOW);
}

static void test_never(void **state)
{
	static const struct {
		const char *zone, *text;
		uint64_t moment; /* seconds: as systemd has it */
	} cases[] = {
		{"Europe/Berlin", "2026-03-29 02:30", 1774747800},
		{"UTC", "2026-03-29 02:30:00.5 Europe/Berlin", 1774747800},
		{"America/New_York", "2026-03-08 02:00", 1772953200},
		/* Samoa went without this day */
		{"Pacific/Apia", "2011-12-30 12:00", 1325282400},
	};
	/* Havana skips a midnight: the day begins an hour later */
	static const struct window_case midnight = {
		"America/Havana", "2024-03-10", 1710046800, 0, USEC_PER_SEC};
	struct window windows[WHEN_WINDOWS_MAX];
	usec_t moment;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		set_zone(cases[i].zone);
		assert_int_equal(when_parse(cases[i].text, NOW, windows), -EINVAL);
		assert_int_equal(when_parse_moment(cases[i].text, NOW, &moment), 0);
		assert_int_equal(moment / USEC_PER_SEC, cases[i].moment);
	}
	check_windows(&midnight, NOW);
}

static void test_extensions(void **state)
{
	static const struct window_case cases[] = {
		{"UTC", "yesterday 22:00", NOW_SECONDS - 15 * 3600, 0, USEC_PER_MINUTE},
		{"UTC", "today 08:00:30", NOW_SECONDS - 5 * 3600 + 30, 0, USEC_PER_SEC},
		{"UTC", "tomorrow 08:00", NOW_SECONDS + 19 * 3600, 0, USEC_PER_MINUTE},
		{"Europe/Berlin", "yesterday 22:00 UTC", NOW_SECONDS - 15 * 3600, 0,
			USEC_PER_MINUTE},
		{"UTC", "yesterday 22:00 Europe/Berlin", NOW_SECONDS - 16 * 3600, 0,
			USEC_PER_MINUTE},
		/* the last of that name; today's is today's, also while it is to come, as with systemd */
		{"UTC", "monday 08:30", NOW_SECONDS - 4 * 3600 - 1800, 0, USEC_PER_MINUTE},
		{"UTC", "Mon 20:30", NOW_SECONDS + 7 * 3600 + 1800, 0, USEC_PER_MINUTE},
		{"UTC", "SUNDAY 13:00", NOW_SECONDS - 86400, 0, USEC_PER_MINUTE},
		{"UTC", "tue 13:00", NOW_SECONDS - 6 * 86400, 0, USEC_PER_MINUTE},
		/* over the end of summer time, a month and a year */
		{"Europe/Berlin", "sun 02:30", 1792888200, 1792891800, USEC_PER_MINUTE},
		{"UTC", "yesterday 22:00", 1798754400, 0, USEC_PER_MINUTE},
	};
	static const usec_t nows[ELEMENTSOF(cases)] = {
		[9] = UINT64_C(1793052000) * USEC_PER_SEC,
		[10] = UINT64_C(1798797600) * USEC_PER_SEC, /* 2027-01-01 10:00 */
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		check_windows(&cases[i], nows[i] > 0 ? nows[i] : NOW);
}

static void test_last_night(void **state)
{
	static const struct {
		const char *zone;
		uint64_t now, from, until; /* seconds */
	} cases[] = {
		{"UTC", NOW_SECONDS, 1795384800, 1795420800},
		/* 07:59 is in it, 08:00 is after it, 23:00 is in the next one, which is not full */
		{"UTC", 1795420740, 1795384800, 1795420800},
		{"UTC", 1795420800, 1795384800, 1795420800},
		{"UTC", 1795474800, 1795384800, 1795420800},
		{"UTC", 1795392000, 1795384800, 1795420800},
		{"Europe/Berlin", NOW_SECONDS, 1795381200, 1795417200},
		/* eleven hours: summer time ends in it; nine: it begins */
		{"Europe/Berlin", 1792922400, 1792872000, 1792911600},
		{"Europe/Berlin", 1774778400, 1774731600, 1774764000},
	};
	struct window windows[WHEN_WINDOWS_MAX], stretch;
	usec_t moment;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		usec_t now = cases[i].now * USEC_PER_SEC;

		set_zone(cases[i].zone);
		assert_int_equal(when_parse_stretch("last night", now, &stretch), 0);
		assert_int_equal(stretch.from, cases[i].from * USEC_PER_SEC);
		assert_int_equal(stretch.until, cases[i].until * USEC_PER_SEC);
		assert_int_equal(when_parse("last night", now, windows), 1);
		assert_memory_equal(&windows[0], &stretch, sizeof(stretch));
		assert_int_equal(when_parse_moment("last night", now, &moment), 0);
		assert_int_equal(moment, stretch.from);
	}
	assert_int_equal(when_parse_stretch("yesterday", NOW, &stretch), -EINVAL);
	assert_int_equal(when_parse_stretch("last night ", NOW, &stretch), -EINVAL);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text;
		int error;
	} cases[] = {
		{"", -EINVAL},
		{"last monday", -EINVAL},
		{"monday", -EINVAL},
		{"yesterday 2026-11-16", -EINVAL},
		{"yesterday22:00", -EINVAL},
		{"yesterday 25:00", -EINVAL},
		{"tue 2026-11-16 08:00", -EINVAL},
		{"now UTC", -EINVAL},
		{"now-8h", -EINVAL},
		{"08:00 Europe/Nowhere", -EINVAL},
		{"08:00 Europe//Berlin", -EINVAL},
		{"08:00 Europe/Berlin/", -EINVAL},
		{"08:00 Europe~Berlin", -EINVAL},
		{"08:00 leapseconds", -EINVAL}, /* stands among the zones, and is none */
		{"08:00 ", -EINVAL},
		{"08:00:00.", -EINVAL},
		{"08:00:00.5x", -EINVAL},
		{"08:00.5", -EINVAL},
		{"2026-11-16.5", -EINVAL},
		{"08:00 ../../../etc/localtime", -EINVAL},
		{"08:00 /Europe/Berlin", -EINVAL},
		{"08:00 Europe", -EINVAL},
		{"08:00 zone.tab", -EINVAL},
		{"08:00 tzdata", -EINVAL},
		{"@infinity", -EINVAL},
		{"1969-12-31", -ERANGE},
		{"9999-12-31", -ERANGE},
		{"@253402214400", -ERANGE},
		{"+8000y", -ERANGE},
		{"-60y", -ERANGE},
		{"@-1", -ERANGE},
		{"-soon", -EINVAL},
	};
	char text[600];
	struct window windows[WHEN_WINDOWS_MAX] = {{7, 7}, {7, 7}};
	usec_t moment = 7;

	(void)state;
	set_zone("UTC");
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		assert_int_equal(when_parse(cases[i].text, NOW, windows), cases[i].error);
		assert_int_equal(when_parse_moment(cases[i].text, NOW, &moment), cases[i].error);
	}
	/* longer than any time, and a zone name longer than any path of ours */
	memset(text, '1', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(when_parse_moment(text, NOW, &moment), -EINVAL);
	memcpy(text, "08:00 ", 6);
	text[250] = '\0';
	assert_int_equal(when_parse_moment(text, NOW, &moment), -EINVAL);
	/* outputs stay untouched */
	assert_int_equal(moment, 7);
	assert_int_equal(windows[0].from, 7);
	assert_int_equal(windows[1].until, 7);
}

/* Nights and days before 1970, and a clock that shows a year of five digits. */
static void test_clock_out_of_range(void **state)
{
	struct window windows[WHEN_WINDOWS_MAX] = {{7, 7}, {7, 7}}, night = {7, 7};
	usec_t moment = 7;

	(void)state;
	set_zone("UTC");
	assert_int_equal(when_parse("last night", USEC_PER_HOUR, windows), -ERANGE);
	assert_int_equal(when_parse_stretch("last night", USEC_PER_HOUR, &night), -ERANGE);
	assert_int_equal(when_parse_moment("last night", USEC_PER_HOUR, &moment), -ERANGE);
	assert_int_equal(when_parse_moment("now", UINT64_MAX - 1, &moment), -ERANGE);
	assert_int_equal(when_parse("08:00", UINT64_MAX - 1, windows), -ERANGE);
	assert_int_equal(windows[0].from, 7);
	assert_int_equal(night.from, 7);
	assert_int_equal(moment, 7);
}

/* A zone in the text leaves the process's as it was, whether it was set or not, taken or refused. */
static void test_zone_is_restored(void **state)
{
	static const char *const texts[] = {
		"2026-07-16 08:00 America/New_York", "nonsense America/New_York"};
	time_t seconds = (time_t)NOW_SECONDS;
	usec_t moment = 0;
	struct tm tm;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		set_zone("Asia/Kolkata");
		assert_int_equal(when_parse_moment(texts[i], NOW, &moment), i == 0 ? 0 : -EINVAL);
		assert_string_equal(getenv("TZ"), "Asia/Kolkata");
		assert_non_null(localtime_r(&seconds, &tm));
		assert_int_equal(tm.tm_gmtoff, 19800);
		assert_string_equal(tzname[0], "IST");

		unsetenv("TZ");
		tzset();
		assert_int_equal(when_parse_moment(texts[i], NOW, &moment), i == 0 ? 0 : -EINVAL);
		assert_null(getenv("TZ"));
	}
}

static void test_span(void **state)
{
	static const struct {
		const char *text;
		int r;
		usec_t span;
	} cases[] = {
		{"8h 30min", 0, 510 * USEC_PER_MINUTE},
		{"1.5s", 0, 1500000},
		{"100ms", 0, 100000},
		{"2d", 0, 2 * USEC_PER_DAY},
		{"90", 0, 90 * USEC_PER_SEC},
		{"1M", 0, 2629800 * USEC_PER_SEC},
		{"1m", 0, USEC_PER_MINUTE},
		{"3\u00b5s4\u03bcs", 0, 7},
		{"18446744073709s 551614us", 0, UINT64_MAX - 1},
		/* the next one is USEC_UNSET: no span */
		{"18446744073709s 551615us", -ERANGE, 0},
		{"18446744073710s", -ERANGE, 0},
		{"9223372036854775808us", -ERANGE, 0},
		{"18446744073709s 551616us", -ERANGE, 0},
		{"infinity", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{"1.s", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"-1s", -ERANGE, 0},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		usec_t span = 7;

		assert_int_equal(when_parse_span(cases[i].text, &span), cases[i].r);
		assert_int_equal(span, cases[i].r == 0 ? cases[i].span : 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_relative),
		cmocka_unit_test(test_zones),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_never),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_last_night),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_clock_out_of_range),
		cmocka_unit_test(test_zone_is_restored),
		cmocka_unit_test(test_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
