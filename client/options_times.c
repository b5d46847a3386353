/* SPDX-License-Identifier: MIT */

/* Which moment, or which stretch, a command line asks about. */

#include "client/options_private.h"

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

/* The last 18:00 to 09:00; under way before 09:00, and then it ends now. */
static int overnight(struct options *o, usec_t now)
{
	usec_t from, until;

	if (when_parse_moment("yesterday 18:00", now, &from) < 0 ||
		when_parse_moment("today 09:00", now, &until) < 0)
		return options_usage(o,
			"--overnight: the clock is changed at 18:00 or 09:00; use --since and --until");
	o->since = from;
	o->until = MIN(until, now);
	return 0;
}

int options_take_times(struct options *o, const struct given *given, usec_t now)
{
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
		when_parse_moment(given->value[OPTION_UNTIL], now, &o->until) < 0)
		return options_usage(o, "--until: not a time: %s", given->value[OPTION_UNTIL]);
	if (given->is[OPTION_SINCE]) {
		r = parse_since(o, given->value[OPTION_SINCE], now);
		if (r < 0)
			return r;
	}
	if (o->verb == VERB_AUDIT && o->since == USEC_UNSET && o->until == USEC_UNSET) {
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
		return options_usage(o, "the stretch ends before it begins");
	if (o->verb == VERB_AUDIT && o->since == USEC_UNSET)
		return options_usage(o, "audit: --until needs a --since");
	return 0;
}
