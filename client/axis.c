/* SPDX-License-Identifier: MIT */

#include "client/axis.h"

#include <time.h>

#include "client/format.h"
#include "client/receipt.h"
#include "client/shape.h"

#define LABEL_WIDTH   480 /* "18:00", and air */
#define SECONDS_WIDTH 700 /* "18:00:15", and air */
#define DATE_WIDTH    1000

/* As C's locale has them, like all times of ours. */
static const char *const weekdays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const months[] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* Steps that a clock or a calendar has: parts of a day, and whole days. */
static const usec_t steps[] = {USEC_PER_SEC, 5 * USEC_PER_SEC, 15 * USEC_PER_SEC, USEC_PER_MINUTE,
	5 * USEC_PER_MINUTE, 10 * USEC_PER_MINUTE, 15 * USEC_PER_MINUTE, 30 * USEC_PER_MINUTE,
	USEC_PER_HOUR, 2 * USEC_PER_HOUR, 3 * USEC_PER_HOUR, 6 * USEC_PER_HOUR, 12 * USEC_PER_HOUR,
	USEC_PER_DAY, 2 * USEC_PER_DAY, 7 * USEC_PER_DAY, 14 * USEC_PER_DAY, 28 * USEC_PER_DAY,
	56 * USEC_PER_DAY, 91 * USEC_PER_DAY, 182 * USEC_PER_DAY, 364 * USEC_PER_DAY};

usec_t axis_step(struct window window, unsigned max)
{
	usec_t length = window.until - window.from;

	for (size_t i = 0; i < ELEMENTSOF(steps); i++)
		if (length / steps[i] <= max && length <= steps[i] * max)
			return steps[i];
	return length / max + 1; /* centuries */
}

static bool local_time(usec_t at, struct tm *ret)
{
	time_t seconds = (time_t)(at / USEC_PER_SEC);

	return localtime_r(&seconds, ret) != NULL;
}

usec_t axis_origin(usec_t from, usec_t step)
{
	struct tm tm;
	usec_t since_midnight;

	if (!local_time(from, &tm))
		return from;
	since_midnight = (usec_t)(tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec) * USEC_PER_SEC +
			 from % USEC_PER_SEC;
	return usec_sub(from, since_midnight % MIN(step, USEC_PER_DAY));
}

int axis_x(const struct axis *a, usec_t at)
{
	usec_t length = a->window.until - a->window.from;
	usec_t since = MIN(usec_sub(at, a->window.from), length);

	/* neither overflows: of centuries only the seconds count */
	if (length > UINT32_MAX) {
		since /= USEC_PER_MSEC;
		length /= USEC_PER_MSEC;
	}
	return a->left + (int)(since * (usec_t)(a->right - a->left) / MAX(length, (usec_t)1));
}

/* The next moment at which the local clock shows a multiple of the step: hours may be skipped, or come twice. */
static usec_t next_tick(usec_t at, usec_t step)
{
	usec_t next = at + step;
	struct tm tm;

	if (step >= USEC_PER_DAY && local_time(at, &tm)) {
		tm.tm_mday += (int)(step / USEC_PER_DAY);
		tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
		tm.tm_isdst = -1;
		next = (usec_t)mktime(&tm) * USEC_PER_SEC;
	} else if (step > USEC_PER_HOUR) {
		next = axis_origin(next + USEC_PER_HOUR, step);
	}
	return next > at ? next : at + step;
}

static bool begins_day(usec_t at)
{
	struct tm tm;

	return local_time(at, &tm) && tm.tm_hour == 0 && tm.tm_min == 0 && tm.tm_sec == 0;
}

/* "18:00", "18:00:15"; of whole days "22 Nov". */
static const char *tick_text(usec_t at, usec_t step, char text[static FORMAT_MAX])
{
	struct tm tm;

	*text = '\0';
	if (!local_time(at, &tm))
		return text;
	if (step >= USEC_PER_DAY)
		snprintf(text, FORMAT_MAX, "%d %s", tm.tm_mday, months[tm.tm_mon % 12]);
	else if (step < USEC_PER_MINUTE)
		snprintf(text, FORMAT_MAX, "%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
	else
		snprintf(text, FORMAT_MAX, "%02d:%02d", tm.tm_hour, tm.tm_min);
	return text;
}

static const char *date_text(usec_t at, usec_t step, char text[static FORMAT_MAX])
{
	struct tm tm;

	*text = '\0';
	if (!local_time(at, &tm))
		return text;
	if (step >= USEC_PER_DAY)
		snprintf(text, FORMAT_MAX, "%d", tm.tm_year + 1900);
	else
		snprintf(text, FORMAT_MAX, "%s %d %s", weekdays[tm.tm_wday % 7], tm.tm_mday,
			months[tm.tm_mon % 12]);
	return text;
}

/* The first label may not run into the second, and none over the right end. */
static bool date_fits(const struct axis *a, usec_t at, usec_t step)
{
	usec_t day = next_tick(axis_origin(at, USEC_PER_DAY), USEC_PER_DAY);

	if (step < USEC_PER_DAY && !begins_day(at) && axis_x(a, day) < a->right &&
		axis_x(a, day) < axis_x(a, at) + DATE_WIDTH)
		return false;
	return axis_x(a, at) + DATE_WIDTH / 2 < a->right || at <= a->window.from;
}

/* Labels in seconds are wider, and so are fewer. */
static usec_t label_step(const struct axis *a)
{
	unsigned width = (unsigned)(a->right - a->left);
	usec_t step = axis_step(a->window, width / LABEL_WIDTH);

	return step < USEC_PER_MINUTE ? axis_step(a->window, width / SECONDS_WIDTH) : step;
}

void axis_draw(struct sheet *s, const struct axis *a, int top, int bottom)
{
	usec_t step = label_step(a), at = axis_origin(a->window.from, step);
	char text[FORMAT_MAX];
	bool first = true;

	if (at < a->window.from)
		at = next_tick(at, step);
	for (; at <= a->window.until; at = next_tick(at, step)) {
		bool dated = first || (step < USEC_PER_DAY && begins_day(at));
		int x = axis_x(a, at);

		sheet_put(s, "<path class='%s' d='M" PX " " PX "V" PX "'/>\n",
			step < USEC_PER_DAY && begins_day(at) ? "day" : "grid", PX_OF(x),
			PX_OF(top), PX_OF(bottom));
		sheet_label(s, x, top - 60, "tick", tick_text(at, step, text));
		if (dated && date_fits(a, at, step))
			sheet_label(s, x, top - 200, "date", date_text(at, step, text));
		first = false;
	}
}

static void draw_hatch(struct sheet *s, const struct axis *a, usec_t from, usec_t until, int top,
	int bottom, const char *reason)
{
	char begin[FORMAT_TIME_MAX], end[FORMAT_TIME_MAX], tip[3 * FORMAT_TIME_MAX + 64];
	int left = axis_x(a, from), right = axis_x(a, until);

	format_moment(from, a->window.from, begin);
	snprintf(tip, sizeof(tip), "not watched %s-%s%s%.64s%s", begin,
		format_moment(until, from, end), reason ? " (" : "", reason ? reason : "",
		reason ? ")" : "");
	/* what is shorter than a pixel is still to be seen */
	if (right - left < 10)
		left = MAX(a->left, right - 10);
	sheet_rect(s, left, top, MAX(right - left, 10), bottom - top, "hatch", tip);
}

void axis_unwatched(
	struct sheet *s, const struct axis *a, const json_t *coverage, int top, int bottom)
{
	const json_t *gaps = json_object_get(coverage, "gaps"), *gap;
	_cleanup_(free_p) struct window *holes = NULL;
	size_t count, i;

	if (receipt_holes(coverage, &holes, &count) < 0) {
		s->failed = true;
		return;
	}
	for (i = 0; i < count; i++)
		draw_hatch(s, a, holes[i].from, holes[i].until, top, bottom, NULL);
	json_array_foreach(gaps, i, gap) draw_hatch(s, a, row_time(gap, "from_usec"),
		row_time(gap, "until_usec"), top, bottom, row_text(gap, "reason"));
}

const char *axis_moment(usec_t at, char text[static AXIS_MOMENT_MAX])
{
	char seconds[8] = "";
	struct tm tm;

	if (!local_time(at, &tm)) {
		snprintf(text, AXIS_MOMENT_MAX, "@%llu", (unsigned long long)(at / USEC_PER_SEC));
		return text;
	}
	if (at % USEC_PER_MINUTE != 0)
		snprintf(seconds, sizeof(seconds), ":%02d", tm.tm_sec % 100);
	snprintf(text, AXIS_MOMENT_MAX, "%s %d %s %d %02d:%02d%s", weekdays[tm.tm_wday % 7],
		tm.tm_mday, months[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		seconds);
	return text;
}
