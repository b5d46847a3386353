/* SPDX-License-Identifier: MIT */

/*
 * Who, Claims and Audit: claims of a window, or of this moment.
 *
 * A stream reads ahead of its pages, since finding the next rows costs the same for many as for few; a page that waits
 * for the reader waits outside of any transaction. The cursor of a single page holds the window of the first
 * question, what is left of its limit, and the place: all that is needed to go on, so nothing is kept for it here.
 */

#include "daemon/control/methods_private.h"

#include <inttypes.h>
#include <stdio.h>

#define NO_LIMIT UINT64_MAX

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
	if (open) {
		/* A moment: that of the question. A further page needs no look of its own, the first one has looked: its
		 * moment is the one up to which the database is complete. */
		const struct committed *c = s->placed ? link_last(r->methods->link) : NULL;

		r->window.from = r->window.until =
			c ? MIN(c->until_wall, r->asked.wall) : r->asked.wall;
	}
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
		e = query_newest(r->methods->query, &s->question, s->left, &s->ahead, &s->rows);
		if (e < 0)
			return e;
		s->given = s->ahead;
		s->ended = e == 1;
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

int append_coverage(struct request *r, const struct filter *asked, struct buf *text)
{
	int e = buf_append_string(text, ",\"coverage\":");

	return e == 0 ? append_receipt(r, (struct receipt_of){.asked = asked}, text) : e;
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
	return e < 0 ? e : request_reply_page(r, &text, last);
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

static int take_by(struct request *r)
{
	static const char *const names[AUDIT_BY_COUNT] = {
		"program", "unit", "user", "port", "hour", "netns"};
	const char *by = take_string(r, "by");

	for (int i = 0; i < AUDIT_BY_COUNT; i++)
		if (!by || streq(by, names[i])) {
			r->audit.by = (enum audit_by)i;
			return ANSWERED;
		}
	return refuse_parameter(r, "by");
}

static int parse_audit(struct request *r)
{
	int e = take_filter(r, &r->audit.filter);

	if (e == ANSWERED)
		e = take_by(r);
	return e == ANSWERED ? take_window(r, "since_usec", "until_usec") : e;
}

static int audit(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct question q = {
		.filter = r->audit.filter, .window = looked_window(r), .rows = ROWS_ALL | ROLLUPS};
	struct parts parts;
	int e = buf_append_string(&text, "{");

	if (e == 0)
		e = query_audit(r->methods->query, &q, r->audit.by, &text, &parts);
	if (e == 0)
		e = buf_append_string(&text, ",\"coverage\":");
	if (e == 0)
		e = append_receipt(
			r, (struct receipt_of){.asked = &r->audit.filter, .parts = &parts}, &text);
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
		{"by", PARAMETER_STRING, false},
		{0},
	},
	.looks = LOOKS_UNLESS_PAST,
	.parse = parse_audit,
	.run = audit,
};
