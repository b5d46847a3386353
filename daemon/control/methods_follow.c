/* SPDX-License-Identifier: MIT */

/*
 * Follow: what is open, then what comes and goes. Both are tails of tables (query_tail.c), read a batch at a time
 * whenever there is something new and room for it.
 *
 * Releases are read before openings. A released claim with a number above the last announced one was never seen open:
 * it is announced as opened first. What one look found is told in the order of its times, where a batch has room for it; of more, what
 * was released comes first, so that a reader who does not keep up loses whole claims.
 *
 * A claim may get its process after it was told: who accepted a connection is known by the next sweep. So the numbers of those without
 * one are kept, and looked at with each commit. One that the filter did not take then, and does now, is announced late.
 *
 * A slow reader makes nobody wait and nothing queue: while its output is full it is left alone, and goes on where it
 * was when there is room. What was sealed meanwhile it has lost, and is told how many that were (of all claims: what is
 * not read cannot be filtered).
 *
 * Who asks for what is new reads a third tail: what the ledger announced, with the claim that it was seen by.
 */

#include "daemon/control/methods_private.h"

#define FOLLOW_ROWS         64u  /* in one batch: small, since a batch is rendered whole */
#define FOLLOW_UNATTRIBUTED 512u /* claims whose process may come yet */

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

enum told_event {
	TOLD_OPEN,
	TOLD_OPENED,
	TOLD_ATTRIBUTED,
	TOLD_RELEASED,
};

static const char *const told_names[] = {
	[TOLD_OPEN] = "open",
	[TOLD_OPENED] = "opened",
	[TOLD_ATTRIBUTED] = "attributed",
	[TOLD_RELEASED] = "released",
};

/* Events of one step, before they are told. */
struct telling {
	struct told {
		int64_t usec;
		enum told_event event;
		const struct row *row; /* not owned */
	} * told;                      /* owned */
	size_t count;
};

static void telling_done(struct telling *t)
{
	free(t->told);
}

static void tell(struct telling *t, enum told_event event, const struct row *row)
{
	enum row_column time = event == TOLD_RELEASED ? ROW_RELEASED_USEC : ROW_OPENED_USEC;

	t->told[t->count++] = (struct told){row->column[time], event, row};
}

/* By time, what was opened before what was released, then by number. */
static int compare_told(const void *a, const void *b)
{
	const struct told *x = a, *y = b;
	int64_t p = x->row->column[ROW_CLAIM], q = y->row->column[ROW_CLAIM];

	if (x->usec != y->usec)
		return x->usec < y->usec ? -1 : 1;
	if (x->event != y->event)
		return x->event < y->event ? -1 : 1;
	return (p > q) - (p < q);
}

/* In order; those of one event that follow each other in one reply. */
static int send_told(struct request *r, struct telling *t)
{
	int e = 0;

	if (t->count > 1)
		qsort(t->told, t->count, sizeof(*t->told), compare_told);
	for (size_t i = 0; i < t->count && e == 0;) {
		_cleanup_(rows_done) struct rows rows = {0};
		enum told_event event = t->told[i].event;

		rows.row = calloc(t->count - i, sizeof(*rows.row));
		if (!rows.row)
			return -ENOMEM;
		for (; i < t->count && t->told[i].event == event; i++)
			rows.row[rows.count++] = *t->told[i].row;
		e = send_event(r, told_names[event], &rows);
	}
	return e;
}

static struct unattributed *find_unattributed(const struct follow_stream *f, int64_t claim)
{
	for (size_t i = 0; i < f->unattributed_count; i++)
		if (f->unattributed[i].claim == claim)
			return &f->unattributed[i];
	return NULL;
}

static void keep_unattributed(struct follow_stream *f, const struct row *row, bool told)
{
	if (!row_is_unattributed(row) || find_unattributed(f, row->column[ROW_CLAIM]))
		return;
	if (f->unattributed_count == FOLLOW_UNATTRIBUTED)
		memmove(f->unattributed, f->unattributed + 1,
			--f->unattributed_count * sizeof(*f->unattributed));
	f->unattributed[f->unattributed_count++] =
		(struct unattributed){row->column[ROW_CLAIM], told};
}

/* Those that were told, and those that the filter left out for want of a process. */
static int keep_unattributed_after(struct request *r, int64_t claim, const struct rows *told)
{
	_cleanup_(rows_done) struct rows left_out = {0};
	struct follow_stream *f = &r->follow;
	int e = 0;

	for (size_t i = 0; i < told->count; i++)
		keep_unattributed(f, &told->row[i], true);
	if (f->place.claim > claim && filter_names_process(&f->filter))
		e = query_unattributed_after(r->methods->query, &f->filter, FOLLOW_UNATTRIBUTED,
			claim, f->place.claim, &left_out);
	for (size_t i = left_out.count; i-- > 0;)
		keep_unattributed(f, &left_out.row[i], false);
	return e;
}

/* Was it never announced? `claim` is the number up to which openings are. */
static bool is_untold(const struct follow_stream *f, const struct row *released, int64_t claim)
{
	const struct unattributed *u = find_unattributed(f, released->column[ROW_CLAIM]);

	return u ? !u->told : released->column[ROW_CLAIM] > claim;
}

/* What is open: at first all that there is, then what is new. 1: there is more. */
static int read_opened(struct request *r, struct rows *rows)
{
	struct follow_stream *f = &r->follow;
	struct follow_place newest;
	int more = query_follow_place(r->methods->query, &newest);

	if (more == 0)
		more = query_open_after(r->methods->query, &f->filter, FOLLOW_ROWS,
			f->listing ? f->listed : newest.claim, &f->place.claim, rows);
	return more;
}

/* 1: there is more. */
static int follow_claims(struct request *r)
{
	_cleanup_(telling_done) struct telling t = {0};
	_cleanup_(rows_done) struct rows released = {0}, opened = {0};
	struct follow_stream *f = &r->follow;
	enum told_event opening = f->listing ? TOLD_OPEN : TOLD_OPENED;
	int64_t claim = f->place.claim;
	int e, more = query_released_after(r->methods->query, &f->filter, FOLLOW_ROWS,
		       &f->place.released, &f->lost, &released);
	bool listed = false;

	if (more == 0) {
		more = read_opened(r, &opened);
		listed = f->listing && more == 0;
	}
	if (more < 0)
		return more;
	t.told = calloc(2 * released.count + opened.count + 1, sizeof(*t.told));
	if (!t.told)
		return -ENOMEM;
	for (size_t i = 0; i < opened.count; i++)
		tell(&t, opening, &opened.row[i]);
	for (size_t i = 0; i < released.count; i++) {
		if (is_untold(f, &released.row[i], claim))
			tell(&t, TOLD_OPENED, &released.row[i]);
		tell(&t, TOLD_RELEASED, &released.row[i]);
	}
	e = send_told(r, &t);
	if (e == 0)
		e = keep_unattributed_after(r, claim, &opened);
	if (e == 0 && listed && !f->greeted)
		e = send_event(
			r, "open", &(struct rows){0}); /* the first reply comes even if empty */
	f->listing = f->listing && !listed;
	return e < 0 ? e : more || listed;
}

static int compare_numbers(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Keeps those whose process may still come, and puts the others behind them: they have it now, or ended. */
static int sort_out(struct request *r, size_t *ret_waiting)
{
	struct follow_stream *f = &r->follow;
	int64_t numbers[FOLLOW_UNATTRIBUTED] = {0}, still[FOLLOW_UNATTRIBUTED] = {0};
	struct unattributed others[FOLLOW_UNATTRIBUTED];
	size_t still_count = 0, waiting = 0, other = 0;
	int e;

	for (size_t i = 0; i < f->unattributed_count; i++)
		numbers[i] = f->unattributed[i].claim;
	e = query_still_unattributed(
		r->methods->query, numbers, f->unattributed_count, still, &still_count);
	if (e < 0)
		return e;
	for (size_t i = 0; i < f->unattributed_count; i++)
		if (bsearch(&numbers[i], still, still_count, sizeof(*still), compare_numbers))
			f->unattributed[waiting++] = f->unattributed[i];
		else
			others[other++] = f->unattributed[i];
	memcpy(f->unattributed + waiting, others, other * sizeof(*others));
	*ret_waiting = waiting;
	return 0;
}

/* Once all is told that was committed. */
static int follow_unattributed(struct request *r)
{
	_cleanup_(telling_done) struct telling t = {0};
	_cleanup_(rows_done) struct rows rows = {0};
	struct follow_stream *f = &r->follow;
	int64_t numbers[FOLLOW_UNATTRIBUTED];
	size_t waiting = 0;
	int e = sort_out(r, &waiting);

	if (e < 0 || waiting == f->unattributed_count)
		return e;
	for (size_t i = waiting; i < f->unattributed_count; i++)
		numbers[i - waiting] = f->unattributed[i].claim;
	e = query_open_among(
		r->methods->query, &f->filter, numbers, f->unattributed_count - waiting, &rows);
	if (e < 0)
		return e;
	t.told = calloc(rows.count + 1, sizeof(*t.told));
	if (!t.told)
		return -ENOMEM;
	for (size_t i = 0; i < rows.count; i++) {
		const struct unattributed *u = find_unattributed(f, rows.row[i].column[ROW_CLAIM]);

		tell(&t, u && u->told ? TOLD_ATTRIBUTED : TOLD_OPENED, &rows.row[i]);
	}
	f->unattributed_count = waiting;
	return send_told(r, &t);
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
	struct follow_stream *f = &r->follow;
	int more = f->only_new ? follow_news(r) : follow_claims(r);

	if (more == 0 && f->unattributed_count > 0)
		more = follow_unattributed(r);
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

	f->unattributed = calloc(FOLLOW_UNATTRIBUTED, sizeof(*f->unattributed));
	if (!f->unattributed)
		return -ENOMEM;
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

	free(r->follow.unattributed);
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
