/* SPDX-License-Identifier: MIT */

/*
 * Who, Claims, Explain and Audit: claims of a window, or of this moment.
 *
 * A stream reads ahead of its pages, since finding the next rows costs the same for many as for few; a page that waits
 * for the reader waits outside of any transaction. The cursor of a single page holds the window of the first
 * question, what is left of its limit, and the place: all that is needed to go on, so nothing is kept for it here.
 */

#include "daemon/control/methods_private.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/control/coverage.h"

#define EXPLAIN_LAST 10u /* of those who had the port before */
#define NO_LIMIT     UINT64_MAX

int append_rows(struct request *r, const struct rows *rows, size_t *next, struct buf *text)
{
	size_t start = buf_size(text);

	for (size_t n = 0; n < LIMIT_PAGE_ROWS && *next < rows->count; n++, (*next)++) {
		int e = 0;

		if (buf_size(text) - start >= LIMIT_PAGE_BYTES)
			break;
		if (n > 0)
			e = buf_append_string(text, ",");
		if (e == 0)
			e = query_row_json(r->methods->query, &rows->row[*next], text);
		if (e < 0)
			return e;
	}
	return 0;
}

/* The cursor: version, which rows, window, what is left, place. */
#define CURSOR_NUMBERS 11
#define CURSOR_FORMAT                                                                              \
	"1.%u.%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRId64 ".%" PRId64 ".%" PRId64    \
	".%" PRId64 "."

static int append_cursor(const struct request *r, struct buf *text)
{
	const struct claims_stream *s = &r->claims;
	int e = buf_append_format(text, ",\"cursor\":\"" CURSOR_FORMAT, s->question.rows,
		s->question.window.from, s->question.window.until, s->left, s->given.skip,
		s->given.opened_usec, s->given.port, s->given.meta, s->given.rport);

	for (unsigned i = 0; e == 0 && i < s->given.raddr_size; i++)
		e = buf_append_format(text, "%02x", s->given.raddr[i]);
	return e == 0 ? buf_append_string(text, "\"") : e;
}

/* The bytes of lower-case hexadecimal text; -EINVAL. */
static int parse_address_bytes(const char *text, struct place *place)
{
	static const char digits[] = "0123456789abcdef";
	size_t length = strlen(text);

	if (length != 0 && length != 8 && length != 32)
		return -EINVAL;
	for (size_t i = 0; i < length; i++) {
		const char *digit = strchr(digits, text[i]);

		if (!digit)
			return -EINVAL;
		place->raddr[i / 2] =
			(uint8_t)(place->raddr[i / 2] << 4 | (uint8_t)(digit - digits));
	}
	place->raddr_size = (uint8_t)(length / 2);
	return 0;
}

/* A cursor is ours, but comes from a client: each member is checked for what could do harm, the rest only finds
 * other claims of the same question. */
static int parse_cursor(const char *text, struct claims_stream *s)
{
	struct claims_stream c = *s;
	int used = 0;

	if (text[strspn(text, "0123456789abcdef.-")] ||
		sscanf(text,
			"1.%u.%" SCNu64 ".%" SCNu64 ".%" SCNu64 ".%" SCNu64 ".%" SCNd64 ".%" SCNd64
			".%" SCNd64 ".%" SCNd64 ".%n",
			&c.question.rows, &c.question.window.from, &c.question.window.until,
			&c.left, &c.given.skip, &c.given.opened_usec, &c.given.port, &c.given.meta,
			&c.given.rport, &used) != CURSOR_NUMBERS - 2 ||
		used == 0)
		return -EINVAL;
	if (c.question.window.from > c.question.window.until ||
		c.question.window.until > WALL_FOREVER || c.given.skip > LIMIT_CLAIMS ||
		c.given.opened_usec < 0 || (usec_t)c.given.opened_usec > WALL_FOREVER ||
		c.left == 0 || (c.question.rows != ROWS_ALL && c.question.rows != ROWS_OPEN) ||
		parse_address_bytes(text + used, &c.given) < 0)
		return -EINVAL;
	*s = c;
	s->ahead = s->given;
	s->placed = true;
	return 0;
}

/* `open` looks at this moment only; what is open touches every window that has no end. */
static int take_question(struct request *r, bool open, const char *from, const char *until)
{
	struct claims_stream *s = &r->claims;
	const char *cursor = take_string(r, "cursor");
	int e = take_window(r, from, until);

	if (e != ANSWERED)
		return e;
	s->left = NO_LIMIT;
	s->ahead = s->given = PLACE_START;
	s->question.rows = open ? ROWS_OPEN : ROWS_ALL;
	s->question.window = r->window;
	if (open)
		s->question.window = (struct window){0, WALL_FOREVER};
	if (!cursor)
		return ANSWERED;
	if (parse_cursor(cursor, s) < 0 || open != (s->question.rows == ROWS_OPEN))
		return refuse_parameter(r, "cursor");
	if (!open)
		r->window = s->question.window;
	return ANSWERED;
}

static int parse_claims(struct request *r)
{
	struct claims_stream *s = &r->claims;
	bool open = take_boolean(r, "open");
	int64_t limit = 0;
	int e = take_integer(r, "limit", 1, LIMIT_CLAIMS, &limit);

	if (e == ANSWERED)
		e = take_filter(r, &s->question.filter);
	if (e == ANSWERED)
		e = take_question(r, open, "since_usec", "until_usec");
	if (e != ANSWERED)
		return e;
	if (open) /* a moment: that of the question */
		r->window.from = r->window.until = r->asked.wall;
	if (!s->placed && limit > 0)
		s->left = (uint64_t)limit;
	return ANSWERED;
}

static int parse_who(struct request *r)
{
	struct claims_stream *s = &r->claims;
	int64_t port = 0;
	int e = take_integer(r, "port", 1, UINT16_MAX, &port);

	if (e == ANSWERED)
		e = take_filter(r, &s->question.filter);
	if (e == ANSWERED)
		e = take_protocol(r, &s->question.filter.protocol);
	if (e == ANSWERED)
		e = take_question(r, false, "from_usec", "until_usec");
	s->question.filter.ports[0] = (uint16_t)port;
	s->question.filter.port_count = 1;
	return e;
}

/* Where the answer begins: at the newest `limit` rows. */
static int place_stream(struct request *r)
{
	struct claims_stream *s = &r->claims;
	int e;

	if (s->placed)
		return 0;
	if (s->left != NO_LIMIT) {
		e = query_newest(r->methods->query, &s->question, s->left, &s->ahead);
		if (e < 0)
			return e;
		s->given = s->ahead;
	}
	s->placed = true;
	return 0;
}

/* Reads on when all that was read is given. One row more than a page says whether there is another. */
static int read_ahead(struct request *r)
{
	struct claims_stream *s = &r->claims;
	size_t wanted = r->call.more ? LIMIT_AHEAD_ROWS : LIMIT_PAGE_ROWS + 1;
	int e;

	if (s->ended || s->next < s->rows.count)
		return 0;
	s->rows.count = s->next = 0;
	wanted = (size_t)MIN((uint64_t)wanted, s->left);
	e = query_rows(r->methods->query, &s->question, wanted, &s->ahead, &s->rows);
	if (e < 0)
		return e;
	s->ended = s->rows.count < wanted || s->rows.count == s->left;
	return 0;
}

static void count_given(struct claims_stream *s, size_t from)
{
	for (size_t i = from; i < s->next; i++)
		place_pass(&s->given, &s->rows.row[i]);
	if (s->left != NO_LIMIT)
		s->left -= s->next - from;
}

static int append_coverage(struct request *r, const struct filter *asked, struct buf *text)
{
	int e = buf_append_string(text, ",\"coverage\":");

	return e == 0 ? coverage_receipt(r->methods->query, asked, r->window, text) : e;
}

/* One page: the whole answer, or what fits. */
static int reply_page(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	struct claims_stream *s = &r->claims;
	size_t from;
	bool last;
	int e = place_stream(r);

	if (e == 0)
		e = read_ahead(r);
	from = s->next;
	if (e == 0)
		e = buf_append_string(&text, "{\"claims\":[");
	if (e == 0)
		e = append_rows(r, &s->rows, &s->next, &text);
	if (e == 0)
		e = buf_append_string(&text, "]");
	if (e < 0)
		return e;
	count_given(s, from);
	last = s->ended && s->next == s->rows.count;
	if (!last && !r->call.more)
		e = append_cursor(r, &text);
	if (e == 0 && (last || !r->call.more))
		e = append_coverage(r, &s->question.filter, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	if (e == 0)
		e = request_reply(r, &text, !last && r->call.more);
	if (e < 0)
		return e;
	if (last || !r->call.more)
		return ANSWERED;
	client_want_room(r->client);
	return GOES_ON;
}

static void claims_done(struct request *r)
{
	rows_done(&r->claims.rows);
}

const struct method method_who = {
	"Who",
	(const struct parameter[]){
		{"port", PARAMETER_INTEGER, true},
		{"protocol", PARAMETER_STRING, false},
		{"from_usec", PARAMETER_INTEGER, true},
		{"until_usec", PARAMETER_INTEGER, true},
		{"filter", PARAMETER_OBJECT, false},
		{"cursor", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_who,
	.run = reply_page,
	.go_on = reply_page,
	.done = claims_done,
};

const struct method method_claims = {
	"Claims",
	(const struct parameter[]){
		{"filter", PARAMETER_OBJECT, false},
		{"open", PARAMETER_BOOLEAN, false},
		{"since_usec", PARAMETER_INTEGER, false},
		{"until_usec", PARAMETER_INTEGER, false},
		{"limit", PARAMETER_INTEGER, false},
		{"cursor", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_claims,
	.run = reply_page,
	.go_on = reply_page,
	.done = claims_done,
};

static int parse_explain(struct request *r)
{
	int64_t port = 0;
	int e = take_integer(r, "port", 1, UINT16_MAX, &port);

	r->explain.port = (uint16_t)port;
	r->explain.protocol = -1;
	if (e == ANSWERED)
		e = take_protocol(r, &r->explain.protocol);
	r->window = (struct window){usec_sub(r->asked.wall, USEC_PER_DAY), r->asked.wall};
	return e;
}

static struct question explain_question(
	const struct request *r, unsigned rows, struct window window)
{
	struct question q = {.filter = FILTER_ANY, .rows = rows, .window = window};

	q.filter.ports[0] = r->explain.port;
	q.filter.port_count = 1;
	q.filter.protocol = r->explain.protocol;
	return q;
}

static int append_class(struct request *r, struct buf *text)
{
	const struct committed *last = link_last(r->methods->link);
	struct query_state state;
	const struct coverage *c;
	uint16_t port = r->explain.port;
	int e = query_state(r->methods->query, &state);

	if (e < 0)
		return e;
	c = last && last->coverage.ranges.count ? &last->coverage : &state.coverage;
	return buf_append_format(text,
		"{\"port\":%u,\"dynamic\":%s,\"ephemeral\":%s,\"watched\":%s,"
		"\"ephemeral_range\":{\"low\":%u,\"high\":%u}",
		port, port >= 49152 ? "true" : "false",
		c->ephemeral.low <= port && port <= c->ephemeral.high ? "true" : "false",
		port_ranges_contain(&c->ranges, port) ? "true" : "false", c->ephemeral.low,
		c->ephemeral.high);
}

/* Who has it now: as many as a page holds. */
static int append_now(struct request *r, struct buf *text)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct question q = explain_question(r, ROWS_OPEN, (struct window){0, WALL_FOREVER});
	struct place place = PLACE_START;
	size_t next = 0;
	int e = query_rows(r->methods->query, &q, LIMIT_PAGE_ROWS, &place, &rows);

	if (e == 0)
		e = buf_append_string(text, ",\"now\":[");
	if (e == 0)
		e = append_rows(r, &rows, &next, text);
	return e == 0 ? buf_append_string(text, "]") : e;
}

/* Who had it last, newest first. */
static int append_last(struct request *r, struct buf *text)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct question q = explain_question(r, ROWS_RELEASED, (struct window){0, WALL_FOREVER});
	struct place place;
	size_t next = 0;
	int e = query_newest(r->methods->query, &q, EXPLAIN_LAST, &place);

	if (e == 0)
		e = query_rows(r->methods->query, &q, EXPLAIN_LAST, &place, &rows);
	for (size_t i = 0; i < rows.count / 2; i++) {
		struct row row = rows.row[i];

		rows.row[i] = rows.row[rows.count - 1 - i];
		rows.row[rows.count - 1 - i] = row;
	}
	if (e == 0)
		e = buf_append_string(text, ",\"last\":[");
	if (e == 0)
		e = append_rows(r, &rows, &next, text);
	return e == 0 ? buf_append_string(text, "]") : e;
}

static int append_counts(struct request *r, struct buf *text)
{
	struct question day = explain_question(r, ROWS_ALL, r->window);
	struct question ever = explain_question(r, ROWS_ALL, (struct window){0, WALL_FOREVER});
	struct question now = explain_question(r, ROWS_OPEN, (struct window){0, WALL_FOREVER});
	uint64_t claims_now = 0, claims_day = 0, claims_ever = 0;
	usec_t first = USEC_UNSET;
	int e = query_count(r->methods->query, &now, &claims_now, &first);

	if (e == 0)
		e = query_count(r->methods->query, &day, &claims_day, &first);
	if (e == 0)
		e = query_count(r->methods->query, &ever, &claims_ever, &first);
	if (e == 0)
		e = buf_append_format(text,
			",\"claims_now\":%" PRIu64 ",\"claims_day\":%" PRIu64
			",\"claims_ever\":%" PRIu64 ",\"first_usec\":",
			claims_now, claims_day, claims_ever);
	if (e < 0)
		return e;
	return first == USEC_UNSET ? buf_append_string(text, "null")
				   : buf_append_format(text, "%" PRIu64, first);
}

static int explain(struct request *r)
{
	const struct question asked = explain_question(r, ROWS_ALL, r->window);
	_cleanup_(buf_done) struct buf text = {0};
	int e = append_class(r, &text);

	if (e == 0)
		e = append_now(r, &text);
	if (e == 0)
		e = append_last(r, &text);
	if (e == 0)
		e = append_counts(r, &text);
	if (e == 0)
		e = append_coverage(r, &asked.filter, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_explain = {
	"Explain",
	(const struct parameter[]){
		{"port", PARAMETER_INTEGER, true},
		{"protocol", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_ALWAYS,
	.parse = parse_explain,
	.run = explain,
};

static int parse_audit(struct request *r)
{
	int e = take_filter(r, &r->filter);

	return e == ANSWERED ? take_window(r, "since_usec", "until_usec") : e;
}

static int audit(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct question q = {.filter = r->filter, .window = r->window, .rows = ROWS_ALL};
	int e = buf_append_string(&text, "{");

	if (e == 0)
		e = query_audit(r->methods->query, &q, &text);
	if (e == 0)
		e = buf_append_string(&text, ",\"coverage\":");
	if (e == 0)
		e = coverage_receipt(r->methods->query, &r->filter, r->window, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

const struct method method_audit = {
	"Audit",
	(const struct parameter[]){
		{"since_usec", PARAMETER_INTEGER, true},
		{"until_usec", PARAMETER_INTEGER, true},
		{"filter", PARAMETER_OBJECT, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_audit,
	.run = audit,
};
