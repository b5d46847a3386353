/* SPDX-License-Identifier: MIT */

#include "client/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* As C's locale has them: what is printed here is read by people who compare it with logs. */
static const char *const month_names[] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static bool broken_down(usec_t t, struct tm *ret)
{
	time_t seconds = (time_t)(t / USEC_PER_SEC);

	return localtime_r(&seconds, ret) != NULL;
}

static const char *format_clock(
	usec_t t, usec_t day, bool fraction, char text[static FORMAT_TIME_MAX])
{
	struct tm at, that = {0};
	bool dated = day == USEC_UNSET || !broken_down(day, &that);
	char date[24] = "", milliseconds[8] = "";

	if (!broken_down(t, &at)) {
		snprintf(text, FORMAT_TIME_MAX, "@%" PRIu64, t / USEC_PER_SEC);
		return text;
	}
	if (dated || at.tm_year != that.tm_year)
		snprintf(date, sizeof(date), "%04d-%02d-%02d ", at.tm_year + 1900, at.tm_mon + 1,
			at.tm_mday);
	else if (at.tm_yday != that.tm_yday)
		snprintf(date, sizeof(date), "%s %2d ", month_names[at.tm_mon % 12], at.tm_mday);
	if (fraction)
		snprintf(milliseconds, sizeof(milliseconds), ".%03u",
			(unsigned)(t % USEC_PER_SEC / USEC_PER_MSEC));
	snprintf(text, FORMAT_TIME_MAX, "%s%02d:%02d:%02d%s", date, at.tm_hour, at.tm_min,
		at.tm_sec, milliseconds);
	return text;
}

const char *format_time(usec_t t, usec_t day, char text[static FORMAT_TIME_MAX])
{
	return format_clock(t, day, true, text);
}

const char *format_moment(usec_t t, usec_t day, char text[static FORMAT_TIME_MAX])
{
	return format_clock(t, day, t % USEC_PER_SEC != 0, text);
}

const char *format_minute(usec_t t, usec_t day, char text[static FORMAT_TIME_MAX])
{
	char *colon;

	format_clock(t, day, false, text);
	colon = strrchr(text, ':');
	if (colon) /* not of a time past any calendar */
		*colon = '\0';
	return text;
}

const char *format_span(usec_t span, char text[static FORMAT_MAX])
{
	unsigned long long hours = span / USEC_PER_HOUR, minutes = span / USEC_PER_MINUTE,
			   days = span / USEC_PER_DAY;
	usec_t tenths = span / (USEC_PER_SEC / 10);

	if (span < USEC_PER_MSEC)
		snprintf(text, FORMAT_MAX, "%u us", (unsigned)span);
	else if (span < USEC_PER_SEC)
		snprintf(text, FORMAT_MAX, "%u ms", (unsigned)(span / USEC_PER_MSEC));
	else if (span < USEC_PER_MINUTE && tenths % 10 != 0)
		snprintf(text, FORMAT_MAX, "%u.%u s", (unsigned)(tenths / 10),
			(unsigned)(tenths % 10));
	else if (span < USEC_PER_MINUTE)
		snprintf(text, FORMAT_MAX, "%u s", (unsigned)(tenths / 10));
	else if (minutes < 60)
		snprintf(text, FORMAT_MAX, "%llu min", minutes);
	else if (hours < 48 && minutes % 60 != 0)
		snprintf(text, FORMAT_MAX, "%llu h %llu min", hours, minutes % 60);
	else if (hours < 48)
		snprintf(text, FORMAT_MAX, "%llu h", hours);
	else
		snprintf(text, FORMAT_MAX, "%llu days", days);
	return text;
}

const char *format_way(const char *source, usec_t interval, char text[static FORMAT_WAY_MAX])
{
	char span[FORMAT_MAX];

	format_span(interval, span);
	if (streq(source, "events"))
		snprintf(text, FORMAT_WAY_MAX, "events, with a sweep every %s", span);
	else
		snprintf(text, FORMAT_WAY_MAX, "%s every %s%s",
			streq(source, "procnet") ? "/proc/net" : "sweep", span,
			streq(source, "destroy") ? " and told of ends" : "");
	return text;
}

const char *format_bytes(uint64_t bytes, char text[static FORMAT_MAX])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	uint64_t whole = bytes, rest = 0;
	size_t unit = 0;

	while (whole >= 1024) {
		rest = whole % 1024;
		whole /= 1024;
		unit++;
	}
	if (unit == 0 || whole >= 100)
		snprintf(text, FORMAT_MAX, "%" PRIu64 " %s", whole, units[unit]);
	else
		snprintf(text, FORMAT_MAX, "%" PRIu64 ".%u %s", whole, (unsigned)(rest * 10 / 1024),
			units[unit]);
	return text;
}

const char *format_count(uint64_t number, char text[static FORMAT_MAX])
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
	char *out = text;

	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			*out++ = ',';
		*out++ = digits[i];
	}
	*out = '\0';
	return text;
}
