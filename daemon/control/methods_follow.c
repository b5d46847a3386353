/* SPDX-License-Identifier: MIT */

/*
 * Follow: what is open, then what comes and goes. Both are tails of tables (query_tail.c), read a batch at a time
 * whenever there is something new and room for it.
 *
 * Releases are read before openings. A released claim with a number above the last announced one was never seen open:
 * it is announced as opened first.
 *
 * A slow reader makes nobody wait and nothing queue: while its output is full it is left alone, and goes on where it
 * was when there is room. What was sealed meanwhile it has lost, and is told how many that were (of all claims: what is
 * not read cannot be filtered).
 *
 * Who asks for what is new reads a third tail: what the ledger announced, with the claim that it was seen by.
 */

#include "daemon/control/methods_private.h"

#define FOLLOW_ROWS 64u /* in one batch: small, since a batch is rendered whole */

static int parse_follow(struct request *r)
{
	r->window = (struct window){r->asked.wall, r->asked.wall};
	r->follow.only_new = take_boolean(r, "new");
	return take_filter(r, &r->follow.filter);
}

static int send_event(struct request *r, const char *event, const struct rows *rows)
{
	size_t next = 0;
	int e = 0;

	do {
		_cleanup_(buf_done) struct buf text = {0};

		e = buf_append_format(&text, "{\"event\":\"%s\",\"claims\":[", event);
		if (e == 0)
			e = append_rows(r, rows, &next, &text);
		if (e == 0)
			e = buf_append_format(
				&text, "],\"lost\":%llu}", (unsigned long long)r->follow.lost);
		if (e == 0)
			e = request_reply(r, &text, true);
		if (e == 0) {
			r->follow.lost = 0;
			r->follow.greeted = true;
		}
	} while (e == 0 && next < rows->count);
	return e;
}

/* Those of the released that were never announced. */
static int send_unannounced(struct request *r, const struct rows *released)
{
	_cleanup_(rows_done) struct rows rows = {0};

	rows.row = calloc(released->count, sizeof(*rows.row));
	if (!rows.row)
		return -ENOMEM;
	for (size_t i = 0; i < released->count; i++)
		if (released->row[i].column[ROW_CLAIM] > r->follow.place.claim)
			rows.row[rows.count++] = released->row[i];
	return rows.count ? send_event(r, "opened", &rows) : 0;
}

/* 1: there is more. */
static int follow_released(struct request *r)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct follow_stream *f = &r->follow;
	int e, more = query_released_after(r->methods->query, &f->filter, FOLLOW_ROWS,
		       &f->place.released, &f->lost, &rows);

	if (more < 0 || rows.count == 0)
		return more;
	e = send_unannounced(r, &rows);
	if (e == 0)
		e = send_event(r, "released", &rows);
	return e < 0 ? e : more;
}

/* The same for what is open: at first all that there is, then what is new. The first reply comes even if empty. */
static int follow_open(struct request *r)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct follow_stream *f = &r->follow;
	struct follow_place newest;
	bool listing = f->listing;
	int more, e = query_follow_place(r->methods->query, &newest);

	if (e < 0)
		return e;
	more = query_open_after(r->methods->query, &f->filter, FOLLOW_ROWS,
		listing ? f->listed : newest.claim, &f->place.claim, &rows);
	if (more < 0)
		return more;
	f->listing = listing && more > 0;
	if (rows.count > 0 || (listing && !f->greeted && more == 0))
		e = send_event(r, listing ? "open" : "opened", &rows);
	return e < 0 ? e : more || listing;
}

/* 1: there is more. */
static int follow_news(struct request *r)
{
	struct follow_stream *f = &r->follow;
	int e = 0, more = 1;

	for (unsigned i = 0; e == 0 && more > 0 && i < FOLLOW_ROWS; i++) {
		_cleanup_(rows_done) struct rows rows = {0};
		bool program = false;

		more = query_news_after(
			r->methods->query, &f->filter, &f->news, &f->lost, &program, &rows);
		if (more > 0 && rows.count > 0)
			e = send_event(r, program ? "program" : "listener", &rows);
	}
	if (e == 0 && more >= 0 && (!f->greeted || f->lost > 0)) {
		const struct rows none = {0};

		e = send_event(r, "open", &none);
	}
	return e < 0 ? e : more;
}

static int follow_step(struct request *r)
{
	int more = r->follow.only_new ? follow_news(r) : follow_released(r);

	if (more == 0 && !r->follow.only_new)
		more = follow_open(r);
	if (more < 0)
		return more;
	if (more > 0)
		client_want_room(r->client);
	return GOES_ON;
}

void follow_committed(struct request *r)
{
	client_want_room(r->client);
}

static int follow_start(struct request *r)
{
	struct follow_stream *f = &r->follow;
	int e = query_follow_place(r->methods->query, &f->place);

	if (e == 0)
		e = query_news_place(r->methods->query, &f->news);
	if (e < 0)
		return e;
	f->listed = f->place.claim;
	f->place.claim = 0;
	f->listing = true;
	f->started = true;
	TAILQ_INSERT_TAIL(&r->methods->followers, r, follow.entry);
	link_follow(r->methods->link, true);
	return follow_step(r);
}

static void follow_done(struct request *r)
{
	struct methods *m = r->methods;

	if (!r->follow.started)
		return;
	TAILQ_REMOVE(&m->followers, r, follow.entry);
	if (TAILQ_EMPTY(&m->followers))
		link_follow(m->link, false);
}

const struct method method_follow = {
	"Follow",
	(const struct parameter[]){
		{"filter", PARAMETER_OBJECT, false}, {"new", PARAMETER_BOOLEAN, false}, {0}},
	.looks = LOOKS_ALWAYS,
	.streams_only = true,
	.parse = parse_follow,
	.run = follow_start,
	.go_on = follow_step,
	.done = follow_done,
};
