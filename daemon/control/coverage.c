/* SPDX-License-Identifier: MIT */

/*
 * Coverage is positive: what no stretch says was watched, was not. So the receipt begins with nothing and adds, and
 * whatever goes wrong on the way (a stretch that was not stored, a clock that jumped) makes it say less, never more.
 *
 * A receipt has a limit too. What does not fit in its lists is one last gap, "unlisted", over all the rest of the
 * window.
 */

#include "daemon/control/coverage.h"

#include "daemon/control/query_internal.h"

#include "daemon/schema.h"

/* How much of what is asked for a stretch watched. */
enum extent { EXTENT_NONE, EXTENT_PART, EXTENT_ALL };

/* A row of coverage, as far as a receipt tells it. */
struct stretch {
	usec_t from, until;
	int source;
	usec_t interval;
	bool udp_connect, failures;
	enum extent ports; /* of those that are asked for */
};

struct receipt {
	const struct filter *asked;
	bool of_failures, of_remotes;
	const struct parts *parts;  /* NULL: nothing is said of them */
	const struct buf *degraded; /* NULL: nothing is */
	struct window window;
	struct buf stretches, gaps, coalesced; /* JSON text of the elements */
	struct stretch last; /* counted, and not among the elements yet: it may go on */
	struct window
		part; /* a part of the ports, or all, was not watched then; not among the gaps yet */
	size_t stretch_count, gap_count;
	usec_t watched_until; /* watched without a hole from the window's begin to here */
	usec_t unlisted;      /* from here on, not all is listed; USEC_UNSET */
	bool hole, swept;     /* something unwatched; watched, but not by events */
	bool lost_known;
	uint64_t lost;
};

static void receipt_done(struct receipt *c)
{
	buf_done(&c->stretches);
	buf_done(&c->gaps);
	buf_done(&c->coalesced);
}

static int append_gap(
	struct receipt *c, usec_t from, usec_t until, const char *reason, int64_t lost)
{
	int r = buf_append_format(&c->gaps,
		"%s{\"from_usec\":%llu,\"until_usec\":%llu,\"reason\":", c->gap_count ? "," : "",
		(unsigned long long)from, (unsigned long long)until);

	if (r == 0)
		r = buf_append_string(&c->gaps, reason);
	if (r == 0)
		r = lost == ROW_NULL
			    ? buf_append_string(&c->gaps, ",\"lost\":null}")
			    : buf_append_format(&c->gaps, ",\"lost\":%lld}", (long long)lost);
	c->gap_count++;
	if (lost == ROW_NULL)
		c->lost_known = false;
	else
		c->lost += (uint64_t)lost;
	return r;
}

static const char *boolean(bool truth)
{
	return truth ? "true" : "false";
}

/* Writes the last stretch down, if there is one. */
static int flush_stretch(struct receipt *c)
{
	const struct stretch *t = &c->last;

	if (c->stretch_count == 0)
		return 0;
	return buf_append_format(&c->stretches,
		"%s{\"from_usec\":%llu,\"until_usec\":%llu,\"source\":\"%s\",\"interval_usec\":%llu,"
		"\"udp_connect\":%s,\"failures\":%s}",
		c->stretch_count > 1 ? "," : "", (unsigned long long)t->from,
		(unsigned long long)t->until, source_name((enum source)t->source),
		(unsigned long long)t->interval, boolean(t->udp_connect), boolean(t->failures));
}

/* Is it the last one, going on? A daemon that was started anew may not have missed anything. */
static bool goes_on(const struct receipt *c, const struct stretch *t)
{
	const struct stretch *last = &c->last;

	return c->stretch_count > 0 && last->until == t->from && last->source == t->source &&
	       last->interval == t->interval && last->udp_connect == t->udp_connect &&
	       last->failures == t->failures;
}

static int append_stretch(struct receipt *c, const struct stretch *t)
{
	int r;

	if (t->source < 0 || t->source >= SOURCE_COUNT)
		return -EUCLEAN;
	if (t->from > c->watched_until)
		c->hole = true;
	c->watched_until = MAX(c->watched_until, t->until);
	c->swept |= t->source != SOURCE_EVENTS;
	if (goes_on(c, t)) {
		c->last.until = t->until;
		return 0;
	}
	r = flush_stretch(c);
	c->stretch_count++;
	c->last = *t;
	return r;
}

/* Is [from, until], clipped, of any use? A moment is, where the window is one. */
static bool clip(const struct window *w, usec_t *from, usec_t *until)
{
	*from = MAX(*from, w->from);
	*until = MIN(*until, w->until);
	return *from < *until || (*from == *until && w->from == w->until);
}

static enum extent extent_of(bool some, bool all)
{
	return all ? EXTENT_ALL : some ? EXTENT_PART : EXTENT_NONE;
}

static enum extent ports_watched(const struct filter *asked, const struct port_ranges *ranges)
{
	unsigned watched = 0;

	for (unsigned i = 0; i < asked->port_count; i++)
		watched += port_ranges_contain(ranges, asked->ports[i]);
	return extent_of(watched > 0, watched == asked->port_count);
}

/* Ranges are ascending: `next` is the first port of those asked for that none of them was seen to have. */
static enum extent range_watched(struct port_range asked, const struct port_ranges *ranges)
{
	uint32_t next = asked.low;
	bool some = false;

	for (uint32_t i = 0; asked.high && i < ranges->count; i++) {
		const struct port_range *r = &ranges->range[i];

		some = some || (r->low <= asked.high && r->high >= asked.low);
		if (r->low <= next && r->high >= next)
			next = r->high + 1u;
	}
	return extent_of(some, asked.high == 0 || next > asked.high);
}

static enum extent watched_asked(const struct filter *asked, const char *ranges_text)
{
	struct port_ranges ranges = query_parse_ranges(ranges_text);

	return MIN(ports_watched(asked, &ranges), range_watched(asked->range, &ranges));
}

static int expired_until(const struct receipt *c, struct query *q, usec_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(q,
		c->of_failures ? "SELECT max(value) FROM counter WHERE name IN"
				 " ('expired_until_usec','failures_expired_usec')"
			       : "SELECT value FROM counter WHERE name='expired_until_usec'",
		&statement);

	if (r < 0)
		return r;
	*ret = r == 1 && sqlite3_column_int64(statement, 0) > 0
		       ? (usec_t)sqlite3_column_int64(statement, 0)
		       : 0;
	return 0;
}

/* Does the row's stretch say something of the question? */
static bool read_stretch(
	const struct receipt *c, sqlite3_stmt *row, usec_t expired, struct stretch *ret)
{
	struct stretch t = {
		.from = MAX((usec_t)sqlite3_column_int64(row, 0), expired),
		.until = (usec_t)sqlite3_column_int64(row, 1),
		.source = sqlite3_column_int(row, 2),
		.interval = (usec_t)sqlite3_column_int64(row, 3),
		.udp_connect = sqlite3_column_int(row, 6) != 0,
		.failures = sqlite3_column_int(row, 7) != 0,
	};
	int64_t protocols = sqlite3_column_int64(row, 5);

	*ret = t;
	if (t.from > t.until || !clip(&c->window, &ret->from, &ret->until) ||
		(c->of_failures && !t.failures))
		return false;
	ret->ports = watched_asked(c->asked, (const char *)sqlite3_column_text(row, 4));
	return c->asked->protocol < 0 || (protocols >> c->asked->protocol & 1);
}

/* Writes down since when, and until when, not all of the ports were watched. */
static int flush_part(struct receipt *c)
{
	struct window part = c->part;

	c->part = (struct window){USEC_UNSET, 0};
	if (part.from > part.until)
		return 0;
	if (c->gap_count >= LIMIT_RECEIPT_ROWS) {
		c->unlisted = MIN(c->unlisted, part.from);
		return 0;
	}
	return append_gap(c, part.from, part.until, "\"unwatched-ports\"", ROW_NULL);
}

static int note_part(struct receipt *c, const struct stretch *t)
{
	int r = c->part.until == t->from ? 0 : flush_part(c);

	c->part.from = MIN(c->part.from, t->from);
	c->part.until = t->until;
	return r;
}

static int read_stretches(struct receipt *c, struct query *q, usec_t expired)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	struct stretch t;
	int r = query_prepare(q,
		"SELECT c.from_usec," SQL_WATCHED_UNTIL
		" AS watched_until,c.source,c.interval_usec,"
		"c.ranges,c.protocols,c.udp_connect,c.failures FROM coverage c"
		" WHERE watched_until>=:from AND c.from_usec<=:until ORDER BY c.from_usec,c.id",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":from", (int64_t)c->window.from);
	query_bind(statement, ":until", (int64_t)c->window.until);
	while ((r = query_step(statement)) == 1) {
		if (!read_stretch(c, statement, expired, &t))
			continue;
		if (t.ports != EXTENT_NONE && c->stretch_count == LIMIT_RECEIPT_ROWS &&
			!goes_on(c, &t)) {
			c->unlisted = MIN(c->unlisted, t.from);
			break;
		}
		r = t.ports != EXTENT_NONE ? append_stretch(c, &t) : 0;
		if (r == 0 && t.ports != EXTENT_ALL)
			r = note_part(c, &t);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = flush_part(c);
	return r < 0 ? r : flush_stretch(c);
}

/* Has some of the window, as clip() and a moment's gap have it. */
#define IN_WINDOW                                                                                  \
	"(until_usec>:from OR until_usec=from_usec OR :from=:until) AND until_usec>=:from"         \
	" AND (from_usec<:until OR :from=:until) AND from_usec<=:until"
#define GAPS "SELECT id,from_usec,until_usec,reason,lost FROM gap WHERE " IN_WINDOW
/* Those with a number, of one reason and each where another ended, are told as one: who makes the kernel lose events without end is
 * not to fill the receipt. */
#define TOUCHING_AS_ONE(gaps)                                                                      \
	"SELECT min(from_usec),max(until_usec),json_quote(reason),sum(lost) FROM ("                \
	"SELECT *,sum(apart) OVER (PARTITION BY reason ORDER BY from_usec,id) AS run FROM ("       \
	"SELECT *,lost IS NULL OR ifnull(from_usec>:touch+max(until_usec) OVER (PARTITION BY "     \
	"reason,lost IS NULL ORDER BY from_usec,id"                                                \
	" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),1) AS apart FROM (" gaps ")))"         \
	" GROUP BY reason,lost IS NULL,run ORDER BY 1,min(id)"

static int read_gaps(struct receipt *c, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		c->of_failures
			? TOUCHING_AS_ONE(GAPS
				  " AND reason NOT IN ('events-lost','ends-lost') UNION ALL"
				  " SELECT id,from_usec,until_usec,'left-out',n FROM failure_left_out"
				  " WHERE " IN_WINDOW)
			: TOUCHING_AS_ONE(GAPS),
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":from", (int64_t)c->window.from);
	query_bind(statement, ":touch", LIMIT_TOUCH_USEC);
	query_bind(statement, ":until", (int64_t)c->window.until);
	while ((r = query_step(statement)) == 1) {
		usec_t from = (usec_t)sqlite3_column_int64(statement, 0);
		usec_t until = (usec_t)sqlite3_column_int64(statement, 1);
		const char *reason = (const char *)sqlite3_column_text(statement, 2);
		bool moment = from == until && from >= c->window.from && from < c->window.until;

		if (!reason)
			return -ENOMEM;
		if (!clip(&c->window, &from, &until) && !moment)
			continue;
		if (c->gap_count >= LIMIT_RECEIPT_ROWS) {
			c->unlisted = MIN(c->unlisted, from);
			return 0;
		}
		r = append_gap(c, from, until, reason, query_column(statement, 3));
		if (r < 0)
			return r;
	}
	return r;
}

/* Whose remote address is not whole any more is not found by it, and not told from others of its network. */
static int read_remotes(struct receipt *c, struct query *q)
{
	bool asked = c->asked->peer.family != FAMILY_NONE || c->asked->peer_port >= 0;
	usec_t until = 0;
	int r = asked || c->of_remotes ? query_remotes_until(q, &until) : 0;

	if (r < 0 || until <= c->window.from)
		return r;
	return append_gap(
		c, c->window.from, MIN(until, c->window.until), "\"remote-addresses\"", ROW_NULL);
}

/* A stretch in which claims are told together. */
struct together {
	usec_t from, until;
	uint64_t claims, rows;
};

static int flush_together(struct receipt *c, struct together *t)
{
	usec_t from = t->from, until = t->until;
	int r = 0;

	if (c->window.until <= c->window.from) /* a moment */
		from = until = c->window.from;
	else if (!clip(&c->window, &from, &until))
		from = until = MIN(from, c->window.until);
	if (t->rows > 0)
		r = buf_append_format(&c->coalesced,
			"%s{\"from_usec\":%llu,\"until_usec\":%llu,\"claims\":%llu,\"rows\":%llu}",
			buf_size(&c->coalesced) > 0 ? "," : "", (unsigned long long)from,
			(unsigned long long)until, (unsigned long long)t->claims,
			(unsigned long long)t->rows);
	*t = (struct together){0};
	return r;
}

/* Is one of the ports that were asked for among them? */
static const char *of_ports(const struct filter *asked)
{
	if (asked->port_count > 0)
		return " AND EXISTS(SELECT 1 FROM json_each(:ports)"
		       " WHERE port_list_low(c.ports,value,value) IS NOT NULL)";
	return asked->range.high ? " AND port_list_low(c.ports,:range_low,:range_high) IS NOT NULL"
				 : "";
}

/* Rows of many claims, at most LIMIT_RECEIPT_ROWS stretches of them: what is further becomes one with the last. */
static int read_coalesced(struct receipt *c, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	struct together t = {0};
	size_t count = 0;
	char *sql = sqlite3_mprintf(
		"SELECT c.opened_usec-ifnull(c.opened_slack,0)*1000,c.released_usec,c.n FROM coalesced c"
		" WHERE c.opened_usec>=:from-" SQL_COALESCED_USEC
		" AND c.opened_usec<:until+" SQL_LONG_USEC
		" AND c.released_usec>=:from%s ORDER BY c.opened_usec",
		of_ports(c->asked));
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(statement, c->asked);
	if (c->asked->port_count == 1)
		sql_bind_ports(statement, c->asked);
	query_bind(statement, ":from", (int64_t)c->window.from);
	query_bind(statement, ":until", (int64_t)MAX(c->window.until, c->window.from + 1));
	while ((r = query_step(statement)) == 1) {
		usec_t from = (usec_t)sqlite3_column_int64(statement, 0);
		usec_t until = (usec_t)sqlite3_column_int64(statement, 1);

		if (from >= MAX(c->window.until, c->window.from + 1))
			continue;
		if (t.rows > 0 && from > t.until + USEC_PER_SEC && ++count < LIMIT_RECEIPT_ROWS)
			r = flush_together(c, &t);
		if (r < 0)
			return r;
		t.from = t.rows > 0 ? MIN(t.from, from) : from;
		t.until = MAX(t.until, until);
		t.claims += (uint64_t)sqlite3_column_int64(statement, 2);
		t.rows++;
	}
	return r < 0 ? r : flush_together(c, &t);
}

static int collect(struct receipt *c, struct query *q)
{
	usec_t expired;
	int r = expired_until(c, q, &expired);

	if (r == 0 && expired > c->window.from)
		r = append_gap(
			c, c->window.from, MIN(expired, c->window.until), "\"expired\"", ROW_NULL);
	if (r == 0)
		r = read_remotes(c, q);
	if (r == 0)
		r = read_stretches(c, q, expired);
	if (r == 0)
		r = read_gaps(c, q);
	if (r == 0 && !c->of_failures)
		r = read_coalesced(c, q);
	if (r == 0 && c->unlisted != USEC_UNSET)
		r = append_gap(c, c->unlisted, c->window.until, "\"unlisted\"", ROW_NULL);
	return r;
}

static int append_list(struct buf *out, const char *name, const struct buf *elements)
{
	int r = buf_append_format(out, ",\"%s\":[", name);

	if (r == 0 && buf_size(elements) > 0)
		r = buf_append(out, buf_bytes(elements), buf_size(elements));
	return r == 0 ? buf_append_string(out, "]") : r;
}

static int append_parts(const struct parts *parts, struct buf *out)
{
	static const char *const names[] = {
		[PART_ROWS] = "rows", [PART_HOURS] = "hours", [PART_DAYS] = "days"};
	int r = buf_append_string(out, ",\"parts\":[");

	for (unsigned i = 0; r == 0 && i < parts->count; i++)
		r = buf_append_format(out,
			"%s{\"from_usec\":%llu,\"until_usec\":%llu,\"counted\":\"%s\"}",
			i ? "," : "", (unsigned long long)parts->part[i].window.from,
			(unsigned long long)parts->part[i].window.until,
			names[parts->part[i].from]);
	return r == 0 ? buf_append_string(out, "]") : r;
}

static int append_receipt(const struct receipt *c, struct buf *out)
{
	static const struct buf nothing;
	bool watched = c->stretch_count > 0 && !c->hole && c->watched_until >= c->window.until;
	int r = buf_append_format(out, "{\"from_usec\":%llu,\"until_usec\":%llu",
		(unsigned long long)c->window.from, (unsigned long long)c->window.until);

	if (r == 0)
		r = append_list(out, "stretches", &c->stretches);
	if (r == 0)
		r = watched && !c->swept && c->lost_known
			    ? buf_append_format(out, ",\"lost\":%llu", (unsigned long long)c->lost)
			    : buf_append_string(out, ",\"lost\":null");
	if (r == 0)
		r = append_list(out, "gaps", &c->gaps);
	if (r == 0)
		r = buf_append_format(out, ",\"complete\":%s",
			watched && !c->swept && c->gap_count == 0 ? "true" : "false");
	if (r == 0)
		r = append_list(out, "coalesced", &c->coalesced);
	if (r == 0)
		r = append_list(out, "degraded", watched || !c->degraded ? &nothing : c->degraded);
	if (r == 0 && c->parts)
		r = append_parts(c->parts, out);
	return r == 0 ? buf_append_string(out, "}") : r;
}

int coverage_receipt(struct query *q, const struct receipt_of *of, struct buf *out)
{
	_cleanup_(receipt_done) struct receipt c = {
		.asked = of->asked,
		.of_failures = of->failures,
		.of_remotes = of->remotes,
		.parts = of->parts,
		.degraded = of->degraded,
		.window = of->window,
		.watched_until = of->window.from,
		.part = {USEC_UNSET, 0},
		.unlisted = USEC_UNSET,
		.lost_known = true,
	};
	size_t before = buf_size(out);
	int r = collect(&c, q);

	if (r == 0)
		r = append_receipt(&c, out);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
