/* SPDX-License-Identifier: MIT */

/*
 * The grammar is systemd's, quirks included, because people know it from journalctl --since and because
 * `systemd-analyze timestamp` then is an oracle for it (tests/system/test_when_oracle.py). strptime(3) does the digits,
 * as it does there: what it forgives (" 8:00", "2026-02-31") both forgive.
 *
 * From local time to the epoch we do not go through mktime(3). Of a local time that happens twice it picks one, and
 * which one depends on the zone: measured with glibc 2.36, Berlin gets the second, New York the first. Who asks for 02:30
 * of that night must be shown both. So we ask the other way round: localtime_r(3) says how far the zone is from UTC
 * a day before, then, and a day after, and each distance that leads back to the very same local time is an answer.
 * None does where clocks skip that time. The same holds in the "right/" zones, whose days have leap seconds.
 *
 * A zone in the text is made the process's for as long as it takes, by lending the C library an environment that holds
 * nothing else: unlike setenv(3) this can neither fail nor leave a trace. Single-threaded programs only.
 */

#include "common/when.h"

#include <fcntl.h>
#include <strings.h>
#include <time.h>

#define ZONE_DIRECTORY "/usr/share/zoneinfo/"
#define ZONE_NAME_MAX  100
#define TEXT_MAX       256

#define SECONDS_PER_DAY INT64_C(86400)

/* 9999-12-30 23:59:59 UTC: what comes later has a fifth digit of the year in some zone. */
#define MOMENT_MAX (UINT64_C(253402214399) * USEC_PER_SEC)

/* What was read, before its width is put to use. */
struct reading {
	usec_t start[WHEN_WINDOWS_MAX];
	int count;
	usec_t width;
	/* these clocks never show: `start` is what they show instead, as far after the skip */
	bool skipped;
};

/* A time of day on a day, in some zone. */
struct civil {
	struct tm tm;    /* not normalised; tm_isdst is -1 where the text does not say */
	usec_t fraction; /* of a second */
	usec_t width;
	bool midnight; /* no time of day was given */
};

static bool ends_with(const char *text, size_t size, const char *end)
{
	size_t length = strlen(end);

	return size >= length && strcmp(text + size - length, end) == 0;
}

/* Time spans */

static const char blanks[] = " \t\n\r";

static const struct {
	const char *name;
	usec_t usec;
} units[] = {
	{"seconds", USEC_PER_SEC}, {"second", USEC_PER_SEC}, {"sec", USEC_PER_SEC},
	{"s", USEC_PER_SEC}, {"minutes", USEC_PER_MINUTE}, {"minute", USEC_PER_MINUTE},
	{"min", USEC_PER_MINUTE}, {"m", USEC_PER_MINUTE}, {"hours", USEC_PER_HOUR},
	{"hour", USEC_PER_HOUR}, {"hr", USEC_PER_HOUR}, {"h", USEC_PER_HOUR},
	{"days", USEC_PER_DAY}, {"day", USEC_PER_DAY}, {"d", USEC_PER_DAY},
	{"weeks", 7 * USEC_PER_DAY}, {"week", 7 * USEC_PER_DAY}, {"w", 7 * USEC_PER_DAY},
	/* 30.4375 and 365.25 days */
	{"months", 2629800 * USEC_PER_SEC}, {"month", 2629800 * USEC_PER_SEC},
	{"M", 2629800 * USEC_PER_SEC}, {"years", 31557600 * USEC_PER_SEC},
	{"year", 31557600 * USEC_PER_SEC}, {"y", 31557600 * USEC_PER_SEC}, {"msec", USEC_PER_MSEC},
	{"ms", USEC_PER_MSEC}, {"usec", 1}, {"us", 1}, {"\u00b5s", 1}, /* MICRO SIGN */
	{"\u03bcs", 1},                                                /* GREEK SMALL LETTER MU */
};

/* The longest unit that `text` begins with: its length and *ret_usec; 0 where there is none. */
static size_t unit_at(const char *text, usec_t *ret_usec)
{
	size_t longest = 0;

	for (size_t i = 0; i < ELEMENTSOF(units); i++) {
		size_t length = strlen(units[i].name);

		if (length > longest && strncmp(text, units[i].name, length) == 0) {
			longest = length;
			*ret_usec = units[i].usec;
		}
	}
	return longest;
}

static int add_scaled(usec_t *sum, uint64_t value, usec_t unit)
{
	usec_t product;

	if (__builtin_mul_overflow(value, unit, &product) ||
		__builtin_add_overflow(*sum, product, sum) || *sum == USEC_UNSET)
		return -ERANGE;
	return 0;
}

/* Adds one "1.5 min" to *sum. Returns 0 and where it ends. */
static int add_term(const char *text, usec_t *sum, const char **ret_end)
{
	const char *fraction = NULL, *end;
	usec_t unit = USEC_PER_SEC;
	char *digits_end;
	long long whole;
	size_t size;
	int r;

	if (*text == '-')
		return -ERANGE;
	errno = 0;
	whole = strtoll(text, &digits_end, 10);
	if (errno != 0)
		return -errno;
	end = digits_end;
	if (*end == '.') {
		fraction = ++end;
		end += strspn(end, "0123456789");
	}
	/* digits before the point or after it, and after a point in any case */
	if (end == text || end == fraction)
		return -EINVAL;

	text = end + strspn(end, blanks);
	size = unit_at(text, &unit);
	/* "12.34.56" and "5x" are no two terms; "5 5" is */
	if (text + size == end && *end != '\0')
		return -EINVAL;
	r = add_scaled(sum, (uint64_t)whole, unit);
	for (; r >= 0 && fraction && *fraction >= '0' && *fraction <= '9'; fraction++) {
		unit /= 10;
		r = add_scaled(sum, (uint64_t)(*fraction - '0'), unit);
	}
	*ret_end = text + size;
	return r;
}

int when_parse_span(const char *text, usec_t *ret)
{
	usec_t sum = 0;
	int r;

	text += strspn(text, blanks);
	if (*text == '\0')
		return -EINVAL;
	while (*text != '\0') {
		r = add_term(text, &sum, &text);
		if (r < 0)
			return r;
		text += strspn(text, blanks);
	}
	*ret = sum;
	return 0;
}

/* From local time to the epoch. All moments here are between the years 0 and 10000 or so, for which these two cannot fail. */

static struct tm local_time(int64_t t)
{
	time_t seconds = (time_t)t;
	struct tm tm, *set = localtime_r(&seconds, &tm);

	assert(set);
	return tm;
}

static struct tm utc_time(int64_t t)
{
	time_t seconds = (time_t)t;
	struct tm tm, *set = gmtime_r(&seconds, &tm);

	assert(set);
	return tm;
}

/* What the clocks show at `t`, as if they showed UTC. */
static int64_t shown_at(int64_t t)
{
	struct tm tm = local_time(t);

	return timegm(&tm);
}

/* Sets the moments at which the clocks show `shown`, ascending, and returns how many. Where they never do, 0 and
 * ret[0] is as long after the skip as `shown` is after its begin. */
static int moments_of(int64_t shown, int64_t ret[static WHEN_WINDOWS_MAX])
{
	int64_t found[WHEN_WINDOWS_MAX] = {0}, skipped = 0;
	int count = 0;

	for (int day = -1; day <= 1; day++) {
		int64_t sample = shown + day * SECONDS_PER_DAY;
		int64_t t = sample + (shown - shown_at(sample));

		if (day == -1)
			skipped = t;
		if (shown_at(t) != shown || count == WHEN_WINDOWS_MAX ||
			(count > 0 && found[count - 1] == t))
			continue;
		found[count++] = t;
	}
	if (count == 0)
		found[0] = skipped;
	if (count == WHEN_WINDOWS_MAX && found[0] > found[1])
		memcpy(ret, (int64_t[]){found[1], found[0]}, sizeof(found));
	else
		memcpy(ret, found, sizeof(found));
	return count;
}

static int reading_set(
	struct reading *ret, const int64_t *seconds, int count, const struct civil *c)
{
	struct reading reading = {.count = count, .width = c->width};

	for (int i = 0; i < count; i++) {
		if (seconds[i] < 0 ||
			(uint64_t)seconds[i] * USEC_PER_SEC + c->fraction > MOMENT_MAX)
			return -ERANGE;
		reading.start[i] = (uint64_t)seconds[i] * USEC_PER_SEC + c->fraction;
	}
	*ret = reading;
	return 0;
}

static int civil_resolve(const struct civil *c, bool utc, struct reading *ret)
{
	int64_t seconds[WHEN_WINDOWS_MAX];
	struct tm tm = c->tm;
	int count, r;

	if (utc) {
		seconds[0] = timegm(&tm);
		return reading_set(ret, seconds, 1, c);
	}
	if (tm.tm_isdst >= 0) {
		seconds[0] = mktime(&tm);
		return reading_set(ret, seconds, 1, c);
	}
	count = moments_of(timegm(&tm), seconds);
	r = reading_set(ret, seconds, MAX(count, 1), c);
	if (r >= 0)
		ret->skipped = count == 0 && !c->midnight;
	return r;
}

/* Civil times */

enum form_part {
	PART_DATE,      /* no time of day */
	PART_TIME,      /* no date */
	PART_DATE_TIME, /* both */
};

/* In the order of systemd, for "12-11-23" is a short year before it is a long one. */
static const struct form {
	const char *format; /* strptime(3) */
	enum form_part part;
	usec_t width;
} forms[] = {
	{"%y-%m-%d %H:%M:%S", PART_DATE_TIME, USEC_PER_SEC},
	{"%Y-%m-%d %H:%M:%S", PART_DATE_TIME, USEC_PER_SEC},
	{"%b %d %H:%M:%S", PART_DATE_TIME, USEC_PER_SEC},
	{"%y-%m-%d %H:%M", PART_DATE_TIME, USEC_PER_MINUTE},
	{"%Y-%m-%d %H:%M", PART_DATE_TIME, USEC_PER_MINUTE},
	{"%y-%m-%d", PART_DATE, USEC_PER_SEC},
	{"%Y-%m-%d", PART_DATE, USEC_PER_SEC},
	{"%H:%M:%S", PART_TIME, USEC_PER_SEC},
	{"%H:%M", PART_TIME, USEC_PER_MINUTE},
};

static void clear_time(struct tm *tm)
{
	tm->tm_hour = tm->tm_min = tm->tm_sec = 0;
}

/* "123456" to its end, which stands behind a point, rounded to microseconds. */
static int parse_fraction(const char *digit, usec_t *ret)
{
	usec_t value = 0, unit = USEC_PER_SEC;

	if (*digit == '\0' || digit[strspn(digit, "0123456789")] != '\0')
		return -EINVAL;
	for (; *digit != '\0' && unit > 1; digit++) {
		unit /= 10;
		value += (usec_t)(*digit - '0') * unit;
	}
	if (*digit >= '5')
		value++;
	*ret = value;
	return 0;
}

/* Reads `text` in one form over `base`. */
static int parse_form(
	const char *text, const struct form *form, const struct tm *base, struct civil *ret)
{
	struct civil c = {.tm = *base, .width = form->width, .midnight = form->part == PART_DATE};
	const char *end;
	int r;

	end = strptime(text, form->format, &c.tm);
	if (!end)
		return -EINVAL;
	if (form->part == PART_DATE)
		clear_time(&c.tm);
	else if (form->width == USEC_PER_MINUTE)
		c.tm.tm_sec = 0;
	if (*end == '.' && form->part != PART_DATE && form->width == USEC_PER_SEC) {
		r = parse_fraction(end + 1, &c.fraction);
		if (r < 0)
			return r;
		c.width = 1;
	} else if (*end != '\0')
		return -EINVAL;
	*ret = c;
	return 0;
}

/* The first form that fits. */
static int parse_forms(
	const char *text, const struct tm *base, struct civil *ret, enum form_part *ret_part)
{
	for (size_t i = 0; i < ELEMENTSOF(forms); i++)
		if (parse_form(text, &forms[i], base, ret) >= 0) {
			*ret_part = forms[i].part;
			return 0;
		}
	return -EINVAL;
}

/* "today", and ours: "today 22:00". 1: it was one; 0: it is no such word. */
static int parse_day(const char *text, const struct tm *base, struct civil *ret)
{
	static const struct {
		const char *name;
		int days;
	} days[] = {{"yesterday", -1}, {"today", 0}, {"tomorrow", 1}};
	struct civil c = {.tm = *base, .width = USEC_PER_SEC, .midnight = true};
	enum form_part part;

	for (size_t i = 0; i < ELEMENTSOF(days); i++) {
		size_t length = strlen(days[i].name);

		if (strncmp(text, days[i].name, length) != 0)
			continue;
		if (text[length] == ' ') {
			if (parse_forms(text + length + 1, base, &c, &part) < 0 ||
				part != PART_TIME)
				return -EINVAL;
		} else if (text[length] == '\0')
			clear_time(&c.tm);
		else
			return -EINVAL;
		c.tm.tm_mday += days[i].days;
		*ret = c;
		return 1;
	}
	return 0;
}

/* The day of the week in front of a date or a time: 0 (Sunday) to 6, and where the rest begins; -1: none. */
static int weekday_at(const char *text, const char **ret_rest)
{
	static const char *const names[] = {
		"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};

	for (int day = 0; day < 7; day++) {
		size_t length = strcspn(text, " ");

		if (text[length] == ' ' && (length == 3 || length == strlen(names[day])) &&
			strncasecmp(text, names[day], length) == 0) {
			*ret_rest = text + length + 1;
			return day;
		}
	}
	return -1;
}

static int parse_civil(const char *text, const struct tm *base, struct civil *ret)
{
	enum form_part part;
	struct civil c;
	int r, weekday;

	r = parse_day(text, base, ret);
	if (r != 0)
		return MIN(r, 0);
	weekday = weekday_at(text, &text);
	r = parse_forms(text, base, &c, &part);
	if (r < 0)
		return r;
	if (weekday >= 0 && weekday != c.tm.tm_wday) {
		/* A date has one day of the week. A time alone means the last day of that name. */
		if (part != PART_TIME)
			return -EINVAL;
		c.tm.tm_mday -= (c.tm.tm_wday - weekday + 7) % 7;
	}
	*ret = c;
	return 0;
}

/* Zones */

/* As systemd checks it, for the C library takes any other name for UTC. */
static bool is_zone(const char *name)
{
	char path[sizeof(ZONE_DIRECTORY) + ZONE_NAME_MAX], magic[4];
	_cleanup_(close_p) int fd = -1;
	size_t length = strlen(name);

	if (length > ZONE_NAME_MAX || name[0] == '/' || name[length - 1] == '/' ||
		strstr(name, "//"))
		return false;
	for (const char *c = name; *c != '\0'; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			    (*c >= '0' && *c <= '9') || strchr("-_+/", *c)))
			return false;
	stpcpy(stpcpy(path, ZONE_DIRECTORY), name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return fd >= 0 && read(fd, magic, sizeof(magic)) == sizeof(magic) &&
	       memcmp(magic, "TZif", sizeof(magic)) == 0;
}

/* In UTC, or in the zone of the process. `text` has no zone at its end any more. */
static int read_civil(const char *text, usec_t now, bool utc, int isdst, struct reading *ret)
{
	int64_t seconds = (int64_t)(now / USEC_PER_SEC);
	struct tm base = utc ? utc_time(seconds) : local_time(seconds);
	struct civil c;
	int r;

	base.tm_isdst = isdst;
	r = parse_civil(text, &base, &c);
	if (r < 0)
		return r;
	return civil_resolve(&c, utc, ret);
}

/* 0 and 1 for the names of winter and summer time as the zone of the process now has them ("CET", "CEST"), else -1. */
static int zone_isdst(const char *name, usec_t now)
{
	tzset();
	(void)local_time((int64_t)(now / USEC_PER_SEC)); /* sets tzname */
	for (int i = 0; i < 2; i++)
		if (strcasecmp(name, tzname[i]) == 0)
			return i;
	return -1;
}

static int read_in_zone(const char *text, const char *zone, usec_t now, struct reading *ret)
{
	char setting[sizeof("TZ=:") + ZONE_NAME_MAX];
	char *lent[] = {setting, NULL}, **saved = environ;
	int r;

	stpcpy(stpcpy(setting, "TZ=:"), zone);
	environ = lent;
	tzset();
	r = read_civil(text, now, false, zone_isdst(zone, now), ret);
	environ = saved;
	tzset();
	return r;
}

/* A date, a time or both, with or without a zone at the end. */
static int read_absolute(const char *text, usec_t now, struct reading *ret)
{
	const char *last = strrchr(text, ' ');
	char rest[TEXT_MAX];
	int isdst;

	if (!last || last[1] == '\0')
		return read_civil(text, now, false, -1, ret);
	memcpy(rest, text, (size_t)(last - text));
	rest[last - text] = '\0';
	if (strcasecmp(last + 1, "UTC") == 0)
		return read_civil(rest, now, true, 0, ret);
	if (is_zone(last + 1))
		return read_in_zone(rest, last + 1, now, ret);
	isdst = zone_isdst(last + 1, now);
	return read_civil(isdst >= 0 ? rest : text, now, false, isdst, ret);
}

/* Moments */

static int set_moment(usec_t moment, struct reading *ret)
{
	if (moment > MOMENT_MAX)
		return -ERANGE;
	*ret = (struct reading){.start = {moment}, .count = 1, .width = 1};
	return 0;
}

static int read_before(const char *span, usec_t now, struct reading *ret)
{
	usec_t length;
	int r = when_parse_span(span, &length);

	if (r < 0)
		return r;
	return length > now ? -ERANGE : set_moment(now - length, ret);
}

static int read_after(const char *span, usec_t now, struct reading *ret)
{
	usec_t length;
	int r = when_parse_span(span, &length);

	if (r < 0)
		return r;
	return length > MOMENT_MAX ? -ERANGE : set_moment(now + length, ret);
}

static int read_moment(const char *text, usec_t now, struct reading *ret)
{
	size_t size = strlen(text);
	char span[TEXT_MAX];

	if (size >= TEXT_MAX)
		return -EINVAL;
	if (now > MOMENT_MAX)
		return -ERANGE;
	if (streq(text, "now"))
		return set_moment(now, ret);
	if (text[0] == '@')
		return read_after(text + 1, 0, ret);
	if (text[0] == '+')
		return read_after(text + 1, now, ret);
	if (text[0] == '-')
		return read_before(text + 1, now, ret);
	memcpy(span, text, size + 1);
	if (ends_with(text, size, " ago")) {
		span[size - strlen(" ago")] = '\0';
		return read_before(span, now, ret);
	}
	if (ends_with(text, size, " left")) {
		span[size - strlen(" left")] = '\0';
		return read_after(span, now, ret);
	}
	return read_absolute(text, now, ret);
}

int when_parse_stretch(const char *text, usec_t now, struct window *ret)
{
	struct reading from, until;
	int r;

	if (!streq(text, "last night"))
		return -EINVAL;
	r = read_moment("yesterday 22:00", now, &from);
	if (r >= 0)
		r = read_moment("today 08:00", now, &until);
	if (r < 0)
		return r;
	*ret = (struct window){.from = from.start[0], .until = until.start[until.count - 1]};
	return 0;
}

int when_parse(const char *text, usec_t now, struct window ret[static WHEN_WINDOWS_MAX])
{
	struct reading reading;
	int r;

	r = when_parse_stretch(text, now, &ret[0]);
	if (r != -EINVAL)
		return r < 0 ? r : 1;
	r = read_moment(text, now, &reading);
	if (r < 0)
		return r;
	if (reading.skipped)
		return -EINVAL;
	for (int i = 0; i < reading.count; i++)
		ret[i] = (struct window){reading.start[i], reading.start[i] + reading.width};
	return reading.count;
}

/* Where it happens twice, the last of both or the first. */
static int parse_one(const char *text, usec_t now, bool last, usec_t *ret)
{
	struct reading reading;
	struct window night;
	int r;

	r = when_parse_stretch(text, now, &night);
	if (r == 0)
		*ret = night.from;
	if (r != -EINVAL)
		return r;
	r = read_moment(text, now, &reading);
	if (r >= 0)
		*ret = reading.start[last ? reading.count - 1 : 0];
	return r;
}

int when_parse_moment(const char *text, usec_t now, usec_t *ret)
{
	return parse_one(text, now, false, ret);
}

int when_parse_end(const char *text, usec_t now, usec_t *ret)
{
	return parse_one(text, now, true, ret);
}
