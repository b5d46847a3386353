/* SPDX-License-Identifier: MIT */

/* Which moment, or which stretch, a command line asks about. */

#include "client/options_private.h"

#include <time.h>

static int parse_since(struct options *o, const char *text, usec_t now)
{
	struct window stretch;

	if (when_parse_stretch(text, now, &stretch) == 0) {
		o->since = stretch.from;
		if (o->until == USEC_UNSET)
			o->until = stretch.until;
		return 0;
	}
	return when_parse_moment(text, now, &o->since) < 0
		       ? options_usage(o, "--since: not a time: %s", text)
		       : 0;
}

static int parse_hours(const char *from_day, const char *until_day, const char *text, usec_t now,
	struct window *ret)
{
	char from[64], until[64];
	const char *dash = strchr(text, '-');

	if (!dash || dash - text > 8 || strlen(dash + 1) > 8)
		return -EINVAL;
	snprintf(from, sizeof(from), "%s %.*s", from_day, (int)(dash - text), text);
	snprintf(until, sizeof(until), "%s %s", until_day, dash + 1);
	if (when_parse_moment(from, now, &ret->from) < 0 ||
		when_parse_end(until, now, &ret->until) < 0)
		return -EINVAL;
	return 0;
}

/* "18:00-09:00" as two moments: of yesterday and of today; "00:00-06:00": both of today, or of yesterday where it has not begun. */
static int parse_overnight(const char *text, usec_t now, usec_t *ret_from, usec_t *ret_until)
{
	struct window w;
	int r = parse_hours("today", "today", text, now, &w);

	if (r == 0 && w.from >= w.until)
		r = parse_hours("yesterday", "today", text, now, &w);
	else if (r == 0 && w.from > now)
		r = parse_hours("yesterday", "yesterday", text, now, &w);
	if (r < 0)
		return r;
	*ret_from = w.from;
	*ret_until = w.until;
	return 0;
}

/* The last 18:00 to 09:00, or what $PORTLEDGER_OVERNIGHT says; under way before its end, and then it ends now. */
static int overnight(struct options *o, usec_t now)
{
	const char *hours = getenv("PORTLEDGER_OVERNIGHT");
	usec_t from, until;

	if (hours && *hours != '\0') {
		if (parse_overnight(hours, now, &from, &until) < 0)
			return options_usage(
				o, "PORTLEDGER_OVERNIGHT: not like 18:00-09:00: %s", hours);
	} else if (parse_overnight("18:00-09:00", now, &from, &until) < 0) {
		return options_usage(o,
			"--overnight: the clock is changed at 18:00 or 09:00; use --since and --until");
	}
	o->since = from;
	o->until = MIN(until, now);
	return 0;
}

/* The same hour of the local day `days` before. */
static int shift_days(usec_t t, int days, usec_t *ret)
{
	time_t seconds = (time_t)(t / USEC_PER_SEC);
	struct tm tm;

	if (!localtime_r(&seconds, &tm))
		return -EINVAL;
	tm.tm_mday -= days;
	tm.tm_isdst = -1;
	seconds = mktime(&tm);
	if (seconds < 0)
		return -EINVAL;
	*ret = (usec_t)seconds * USEC_PER_SEC + t % USEC_PER_SEC;
	return 0;
}

/* What --diff compares with: a stretch, the same hours of a day before, or as long a stretch from a time on. */
static int take_diff(struct options *o, const char *text, usec_t now)
{
	usec_t until = o->until != USEC_UNSET ? o->until : now, from;
	int days = streq(text, "yesterday") ? 1 : streq(text, "last week") ? 7 : 0;

	o->diff = true;
	if (days > 0) {
		if (shift_days(o->since, days, &o->other.from) == 0 &&
			shift_days(until, days, &o->other.until) == 0)
			return 0;
	} else if (when_parse_stretch(text, now, &o->other) == 0) {
		return 0;
	} else if (when_parse_moment(text, now, &from) == 0) {
		o->other = (struct window){from, from + usec_sub(until, o->since)};
		return from <= now ? 0
				   : options_usage(o, "--diff: that is still to come: %s", text);
	}
	return options_usage(o, "--diff: not yesterday, \"last week\" or a time: %s", text);
}

int options_take_times(struct options *o, const struct given *given, usec_t now)
{
	bool stretch = grammar_verbs[o->verb].groups & GROUP_OVERNIGHT;
	int r;

	if (given->is[OPTION_AT] && (given->is[OPTION_SINCE] || given->is[OPTION_UNTIL]))
		return options_usage(
			o, "--at is one moment, --since and --until are a stretch: not both");
	if (given->is[OPTION_OVERNIGHT] && (given->is[OPTION_SINCE] || given->is[OPTION_UNTIL]))
		return options_usage(
			o, "--overnight is a stretch already: not with --since or --until");
	if (given->is[OPTION_AT]) {
		o->at_count = when_parse(given->value[OPTION_AT], now, o->at);
		if (o->at_count < 0)
			return options_usage(o, "--at: not a time: %s", given->value[OPTION_AT]);
	}
	if (given->is[OPTION_UNTIL] &&
		when_parse_end(given->value[OPTION_UNTIL], now, &o->until) < 0)
		return options_usage(o, "--until: not a time: %s", given->value[OPTION_UNTIL]);
	if (given->is[OPTION_SINCE]) {
		r = parse_since(o, given->value[OPTION_SINCE], now);
		if (r < 0)
			return r;
	}
	if (stretch && o->since == USEC_UNSET && o->until == USEC_UNSET) {
		r = overnight(o, now);
		if (r < 0)
			return r;
	}
	/* of a local time that happens twice, the second may still be to come */
	if (o->at_count == 2 && o->at[1].from > now)
		o->at_count = 1;
	if (o->at_count > 0 && o->at[0].from > now)
		return options_usage(o, "--at: that is still to come: %s", given->value[OPTION_AT]);
	if (o->since != USEC_UNSET && o->since > now)
		return options_usage(
			o, "--since: that is still to come: %s", given->value[OPTION_SINCE]);
	if (o->since != USEC_UNSET && o->until != USEC_UNSET && o->since >= o->until)
		return options_usage(o, "the stretch ends %s it begins",
			o->since == o->until ? "where" : "before");
	if (stretch && o->since == USEC_UNSET)
		return options_usage(o, "%s: --until needs a --since", grammar_verbs[o->verb].name);
	if (given->is[OPTION_DIFF] && o->by && streq(o->by, "hour"))
		return options_usage(o, "--diff: hours are others on another day; not --by=hour");
	return given->is[OPTION_DIFF] ? take_diff(o, given->value[OPTION_DIFF], now) : 0;
}
