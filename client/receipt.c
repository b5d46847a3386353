/* SPDX-License-Identifier: MIT */

/*
 * Coverage is positive: a stretch says that we watched, and what no stretch covers was not watched. A hole often has a
 * gap that says why (the daemon was down, the history expired), so that the line names the hole once, with its reason;
 * a gap inside a stretch stands for itself.
 */

#include "client/receipt.h"

#include <time.h>

#include "client/format.h"
#include "client/shape.h"

/* Holes, gaps and ways of watching that a line names; the rest is counted, and whole in the JSON. */
#define NAMED_MAX 3

#define ZONE_MAX 16 /* of a zone's short name */

/* No clock was ever put back by as much: how far to look for another offset. */
#define ZONE_CHANGE_MAX (6 * 3600)

struct spans {
	struct window *span; /* owned */
	size_t count;
};

static void spans_done(struct spans *s)
{
	free(s->span);
}

static const json_t *list(const json_t *coverage, const char *name)
{
	return json_object_get(coverage, name);
}

bool receipt_watched(const json_t *coverage)
{
	return json_array_size(list(coverage, "stretches")) > 0;
}

bool receipt_complete(const json_t *coverage)
{
	return row_true(coverage, "complete");
}

static bool local_time(time_t seconds, struct tm *ret)
{
	return localtime_r(&seconds, ret) != NULL;
}

/* Does the local clock show what it shows then once more, a little before or after? */
static bool happens_twice(const struct tm *at, time_t seconds)
{
	struct tm near, other;

	for (int sign = -1; sign <= 1; sign += 2) {
		if (!local_time(seconds + sign * ZONE_CHANGE_MAX, &near) ||
			near.tm_gmtoff == at->tm_gmtoff)
			continue;
		if (local_time(seconds + at->tm_gmtoff - near.tm_gmtoff, &other) &&
			other.tm_gmtoff == near.tm_gmtoff)
			return true;
	}
	return false;
}

/* The zones of both, " CEST", where the times alone do not say which moments they are; else empty. */
static void name_zones(
	usec_t from, usec_t until, char begin[static ZONE_MAX], char end[static ZONE_MAX])
{
	time_t first = (time_t)(from / USEC_PER_SEC), last = (time_t)(until / USEC_PER_SEC);
	struct tm a, b;

	*begin = *end = '\0';
	if (!local_time(first, &a) || !local_time(last, &b) ||
		(a.tm_gmtoff == b.tm_gmtoff && !happens_twice(&a, first) &&
			!happens_twice(&b, last)))
		return;
	snprintf(end, ZONE_MAX, " %s", b.tm_zone);
	if (a.tm_gmtoff != b.tm_gmtoff)
		snprintf(begin, ZONE_MAX, " %s", a.tm_zone);
}

int receipt_window(struct buf *b, usec_t from, usec_t until)
{
	char begin[FORMAT_TIME_MAX], end[FORMAT_TIME_MAX], zone[ZONE_MAX], last_zone[ZONE_MAX];

	if (from == 0) { /* history without --since */
		name_zones(until, until, zone, last_zone);
		return buf_append_format(
			b, "all until %s%s", format_moment(until, USEC_UNSET, end), last_zone);
	}
	name_zones(from, until, zone, last_zone);
	format_moment(from, USEC_UNSET, begin);
	if (until <= from + 1)
		return buf_append_format(b, "%s%s", begin, last_zone);
	format_moment(until, from, end);
	/* an end with a date of its own would run into the begin's time */
	return buf_append_format(b, "%s%s%s%s%s", begin, zone,
		*zone != '\0' || strchr(end, ' ') ? " to " : "-", end, last_zone);
}

static int compare_spans(const void *a, const void *b)
{
	const struct window *left = a, *right = b;

	return left->from < right->from ? -1 : left->from > right->from;
}

/* What of the window no stretch covers, in the order of time. */
static int find_holes(const json_t *coverage, struct spans *ret)
{
	const json_t *stretches = list(coverage, "stretches"), *stretch;
	size_t count = json_array_size(stretches), i, holes = 0;
	usec_t from = row_time(coverage, "from_usec"), until = row_time(coverage, "until_usec");
	_cleanup_(free_p) struct window *watched = calloc(count + 1, sizeof(*watched));
	struct window *hole = calloc(count + 1, sizeof(*hole));

	if (!watched || !hole) {
		free(hole);
		return -ENOMEM;
	}
	json_array_foreach(stretches, i, stretch) watched[i] =
		(struct window){row_time(stretch, "from_usec"), row_time(stretch, "until_usec")};
	qsort(watched, count, sizeof(*watched), compare_spans);
	for (i = 0; i < count && from < until; i++) {
		if (watched[i].from > from)
			hole[holes++] = (struct window){from, MIN(watched[i].from, until)};
		from = MAX(from, watched[i].until);
	}
	if (from < until)
		hole[holes++] = (struct window){from, until};
	*ret = (struct spans){hole, holes};
	return 0;
}

int receipt_holes(const json_t *coverage, struct window **ret, size_t *ret_count)
{
	struct spans holes;
	int r = find_holes(coverage, &holes);

	if (r < 0)
		return r;
	*ret = holes.span;
	*ret_count = holes.count;
	return 0;
}

static bool gap_overlaps(const json_t *gap, const struct window *s)
{
	return row_time(gap, "from_usec") < s->until && row_time(gap, "until_usec") > s->from;
}

/* An answer about failures has only stretches that watched them, and UDP connects are no matter of it. */
static bool is_of_failures(const struct view *v)
{
	return v->options->verb == VERB_FAILURES;
}

static bool gap_covers(const json_t *gap, const struct window *s)
{
	return row_time(gap, "from_usec") <= s->from && row_time(gap, "until_usec") >= s->until;
}

/* The reason of the first gap that touches the hole, or NULL. Failures may not be watched where all else is: only a gap that
 * covers such a hole is its reason. */
static const char *hole_reason(
	const json_t *coverage, const struct view *v, const struct window *hole)
{
	const json_t *gap;
	size_t i;

	json_array_foreach(list(coverage, "gaps"), i, gap)
	{
		if (is_of_failures(v) ? gap_covers(gap, hole) : gap_overlaps(gap, hole))
			return row_text(gap, "reason");
	}
	return NULL;
}

const char *receipt_reason(const json_t *coverage)
{
	return row_text(json_array_get(list(coverage, "gaps"), 0), "reason");
}

bool receipt_of_unwatched_ports(const json_t *coverage)
{
	return !receipt_watched(coverage) &&
	       streq_null(receipt_reason(coverage), "unwatched-ports");
}

/* A span inside the window is told by its times; with a date only where that is another than the window's first, and
 * by one of them where it reaches the window's edge. */
static int put_span(struct buf *b, const json_t *coverage, usec_t from, usec_t until)
{
	usec_t first = row_time(coverage, "from_usec"), last = row_time(coverage, "until_usec");
	char begin[FORMAT_TIME_MAX], end[FORMAT_TIME_MAX];

	format_moment(from, first == 0 ? USEC_UNSET : first, begin);
	if (from <= first && until < last)
		return buf_append_format(
			b, "before %s", format_moment(until, first == 0 ? USEC_UNSET : first, end));
	if (until >= last && from > first)
		return buf_append_format(b, "after %s", begin);
	format_moment(until, from, end);
	return buf_append_format(b, "%s%s%s", begin, strchr(end, ' ') ? " to " : "-", end);
}

static int put_more(struct buf *b, size_t count, const char *what)
{
	return buf_append_format(b, " and %zu more %s%s", count, what, format_plural(count));
}

static int put_holes(
	struct buf *b, const struct view *v, const json_t *coverage, const struct spans *holes)
{
	for (size_t i = 0; i < holes->count; i++) {
		const char *reason = hole_reason(coverage, v, &holes->span[i]);
		int r;

		if (i == NAMED_MAX)
			return put_more(b, holes->count - i, "time");
		r = buf_append_string(b, i == 0 ? "; not watched " : ", ");
		if (r < 0)
			return r;
		r = put_span(b, coverage, holes->span[i].from, holes->span[i].until);
		if (r == 0 && reason)
			r = buf_append_format(b, " (%s)", reason);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool gap_is_told(const json_t *gap, const struct spans *holes)
{
	for (size_t i = 0; i < holes->count; i++)
		if (gap_overlaps(gap, &holes->span[i]))
			return true;
	return false;
}

static int put_gaps(struct buf *b, const json_t *coverage, const struct spans *holes)
{
	const json_t *gap;
	size_t i, told = 0;
	int r = 0;

	json_array_foreach(list(coverage, "gaps"), i, gap)
	{
		int64_t lost = row_int(gap, "lost", 0);

		if (gap_is_told(gap, holes) || told++ >= NAMED_MAX)
			continue;
		r = buf_append_string(b, told == 1 ? "; gap " : ", gap ");
		if (r == 0)
			r = put_span(b, coverage, row_time(gap, "from_usec"),
				row_time(gap, "until_usec"));
		if (r == 0)
			r = buf_append_format(b, " (%s", row_text(gap, "reason"));
		if (r == 0 && lost > 0)
			r = buf_append_format(b, ", %lld lost", (long long)lost);
		if (r == 0)
			r = buf_append_string(b, ")");
		if (r < 0)
			return r;
	}
	return told > NAMED_MAX ? put_more(b, told - NAMED_MAX, "gap") : 0;
}

static bool same_way(const json_t *a, const json_t *b)
{
	return streq(row_text(a, "source"), row_text(b, "source")) &&
	       row_int(a, "interval_usec", 0) == row_int(b, "interval_usec", 0) &&
	       row_true(a, "udp_connect") == row_true(b, "udp_connect") &&
	       row_true(a, "failures") == row_true(b, "failures");
}

/* Under events nothing short is missed, and the sweeps behind them are only an audit. */
static bool way_sweeps(const json_t *stretch)
{
	return !streq(row_text(stretch, "source"), "events");
}

/* The kernel tells of what the sweeps have not seen, when it goes. */
static bool way_is_told(const json_t *stretch)
{
	return streq(row_text(stretch, "source"), "destroy");
}

/* What events do not tell, or tell late, where it is not asked for or not to be had. */
static int put_off(struct buf *b, const json_t *stretch)
{
	bool udp = row_true(stretch, "udp_connect"), failures = row_true(stretch, "failures");

	if (udp && failures)
		return 0;
	return buf_append_format(b, " (%s%s%s)",
		udp ? "" : "UDP connects are known only from their end",
		udp || failures ? "" : "; ", failures ? "" : "failed binds not watched");
}

static int put_way(struct buf *b, const struct view *v, const json_t *stretch)
{
	const char *source = row_text(stretch, "source");
	char way[FORMAT_WAY_MAX];
	int r;

	if (way_sweeps(stretch))
		return buf_append_string(
			b, format_way(source, (usec_t)row_int(stretch, "interval_usec", 0), way));
	r = buf_append_string(b, source); /* whatever the sweeps are */
	return r < 0 || is_of_failures(v) ? r : put_off(b, stretch);
}

/* "sweep every 1 s, sweep every 2 s": each way once, in the order of time. */
static int put_ways(struct buf *b, const struct view *v, const json_t *stretches)
{
	const json_t *named[NAMED_MAX], *stretch;
	size_t i, count = 0;
	int r;

	json_array_foreach(stretches, i, stretch)
	{
		bool known = false;

		for (size_t n = 0; n < count; n++)
			known = known || same_way(named[n], stretch);
		if (known)
			continue;
		if (count == NAMED_MAX)
			return buf_append_string(b, " and in other ways");
		named[count++] = stretch;
		r = buf_append_string(b, count == 1 ? " watched by " : ", ");
		if (r == 0)
			r = put_way(b, v, stretch);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where claims are told together. */
static int put_coalesced(struct buf *b, const json_t *stretches)
{
	const json_t *stretch;
	usec_t from = USEC_UNSET, until = 0;
	char count[FORMAT_MAX], begin[FORMAT_TIME_MAX], end[FORMAT_TIME_MAX];
	uint64_t claims = 0, rows = 0;
	size_t i;

	json_array_foreach(stretches, i, stretch)
	{
		from = MIN(from, row_time(stretch, "from_usec"));
		until = MAX(until, row_time(stretch, "until_usec"));
		claims += (uint64_t)row_int(stretch, "claims", 0);
		rows += (uint64_t)row_int(stretch, "rows", 0);
	}
	if (rows == 0)
		return 0;
	return buf_append_format(b, "; %s like claims are told in %llu row%s, %s to %s",
		format_count(claims, count), (unsigned long long)rows, format_plural(rows),
		format_moment(from - from % USEC_PER_SEC, until, begin),
		format_moment(until - until % USEC_PER_SEC, from, end));
}

static int put_loss(struct buf *b, const struct view *v, const json_t *coverage)
{
	int64_t lost = row_int(coverage, "lost", 0);
	const json_t *stretch;
	bool sweeps = false, told = true;
	char count[FORMAT_MAX];
	size_t i;
	int r = 0;

	json_array_foreach(list(coverage, "stretches"), i, stretch)
	{
		sweeps = sweeps || way_sweeps(stretch);
		told = told && (!way_sweeps(stretch) || way_is_told(stretch));
	}
	r = put_coalesced(b, list(coverage, "coalesced"));
	if (r < 0)
		return r;
	if (receipt_complete(coverage))
		return buf_append_string(b, "; complete");
	if (lost > 0)
		r = buf_append_format(b, "; %s %s", format_count((uint64_t)lost, count),
			is_of_failures(v) ? "left out" : "lost");
	if (r == 0 && sweeps)
		r = buf_append_string(b, told ? "; shorter claims are without a process, or missing"
					      : "; shorter claims may be missing");
	return r;
}

/* "hours 18:00-08:00 from rollups, the rest from rows": what an audit was counted from, if not from rows alone. */
static int put_parts(struct buf *b, const json_t *coverage)
{
	usec_t from = USEC_UNSET, until = 0;
	bool hours = false, days = false, rows = false;
	const json_t *part;
	size_t i;
	int r;

	json_array_foreach(list(coverage, "parts"), i, part)
	{
		const char *counted = row_text(part, "counted");

		hours = hours || streq(counted, "hours");
		days = days || streq(counted, "days");
		if (streq(counted, "rows")) {
			rows = true;
			continue;
		}
		from = MIN(from, row_time(part, "from_usec"));
		until = MAX(until, row_time(part, "until_usec"));
	}
	if (!hours && !days)
		return 0;
	r = buf_append_format(b, "; %s%s%s ", days ? "days" : "", days && hours ? " and " : "",
		hours ? "hours" : "");
	if (r == 0)
		r = put_span(b, coverage, from, until);
	return r < 0 ? r
		     : buf_append_format(b, " from rollups%s", rows ? ", the rest from rows" : "");
}

int receipt_text(const json_t *coverage, const struct view *v, struct buf *b)
{
	usec_t from = row_time(coverage, "from_usec"), until = row_time(coverage, "until_usec");
	_cleanup_(spans_done) struct spans holes = {0};
	const char *reason;
	int r;

	r = find_holes(coverage, &holes);
	if (r < 0)
		return r;
	if (!receipt_watched(coverage)) {
		r = buf_append_string(b, is_of_failures(v)
						 ? "Coverage: failures not watched at that time ("
						 : "Coverage: not watching at that time (");
		if (r == 0)
			r = receipt_window(b, from, until);
		reason = is_of_failures(v) ? hole_reason(coverage, v, &(struct window){from, until})
					   : receipt_reason(coverage);
		if (r == 0 && reason)
			r = buf_append_format(b, ": %s", reason);
		return r < 0 ? r : buf_append_string(b, ")");
	}
	r = buf_append_string(b, "Coverage: ");
	if (r == 0)
		r = receipt_window(b, from, until);
	if (r == 0 && until >= v->now && until <= v->now + USEC_PER_SEC && until > from + 1)
		r = buf_append_string(b, " (now)");
	if (r == 0)
		r = put_ways(b, v, list(coverage, "stretches"));
	if (r == 0)
		r = put_holes(b, v, coverage, &holes);
	if (r == 0)
		r = put_gaps(b, coverage, &holes);
	if (r == 0)
		r = put_loss(b, v, coverage);
	return r < 0 ? r : put_parts(b, coverage);
}

static int extend(json_t *to, const json_t *from, const char *name)
{
	if (!json_is_array(json_object_get(from, name)))
		return 0;
	if (!json_is_array(json_object_get(to, name)) &&
		json_object_set_new(to, name, json_array()) < 0)
		return -ENOMEM;
	return json_array_extend(json_object_get(to, name), json_object_get(from, name)) < 0
		       ? -ENOMEM
		       : 0;
}

/* What is wrong now is so for each of the windows: said once. */
static int extend_degraded(json_t *to, const json_t *from)
{
	json_t *reasons = json_object_get(from, "degraded");

	if (json_array_size(reasons) == 0)
		return 0;
	return json_object_set(to, "degraded", reasons) < 0 ? -ENOMEM : 0;
}

/* Adds the receipt of a later window. */
static int merge_one(json_t *merged, const json_t *next)
{
	const json_t *lost = json_object_get(next, "lost");
	bool known = json_is_integer(lost) && json_is_integer(json_object_get(merged, "lost"));
	json_t *sum = known ? json_integer(row_int(merged, "lost", 0) + row_int(next, "lost", 0))
			    : json_null();
	bool complete = receipt_complete(merged) && receipt_complete(next);

	if (json_object_set_new(merged, "lost", sum) < 0 ||
		json_object_set_new(merged, "complete", json_boolean(complete)) < 0 ||
		json_object_set_new(merged, "until_usec",
			json_integer((json_int_t)row_time(next, "until_usec"))) < 0)
		return -ENOMEM;
	if (json_is_array(json_object_get(merged, "parts")) && extend(merged, next, "parts") < 0)
		return -ENOMEM;
	if (extend(merged, next, "stretches") < 0 || extend(merged, next, "gaps") < 0)
		return -ENOMEM;
	if (extend(merged, next, "coalesced") < 0)
		return -ENOMEM;
	return extend_degraded(merged, next);
}

json_t *receipt_merge(const json_t *receipts)
{
	json_t *merged = shape_order(&shape_coverage, json_array_get(receipts, 0)), *windows;
	const json_t *receipt;
	size_t i;

	if (!merged || json_array_size(receipts) == 1)
		return merged;
	windows = json_array();
	json_array_foreach(receipts, i, receipt)
	{
		json_t *window = json_pack("{s:I,s:I}", "from_usec",
			(json_int_t)row_time(receipt, "from_usec"), "until_usec",
			(json_int_t)row_time(receipt, "until_usec"));

		if (json_array_append_new(windows, window) < 0 ||
			(i > 0 && merge_one(merged, receipt) < 0)) {
			json_decref(windows);
			json_decref(merged);
			return NULL;
		}
	}
	if (json_object_set_new(merged, "windows", windows) < 0) {
		json_decref(merged);
		return NULL;
	}
	return merged;
}
