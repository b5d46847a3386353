/* SPDX-License-Identifier: MIT */

/*
 * Activity: how many claims each program opened in each step of a window, and how many each port had.
 *
 * A program is what query_audit.c says it is, and is credited in the same way, so that the sums are an audit's. Here rows
 * are counted by `app` and put together at the end: which of these are one program takes one look at their table.
 */

#include "daemon/control/query_internal.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#define NO_APP 0 /* for claims of which not even a uid is known; row ids begin at 1 */

/* What a row of `app` did; once they are put together, what a program did. */
struct doer {
	int64_t app;
	int64_t rank; /* of its program in the order of names; 0: NO_APP, or not known yet */
	uint64_t claims, before;
	UT_hash_handle hh; /* in activity.doers, by `app` */
	uint32_t opened[]; /* by step */
};

struct activity {
	struct window window;
	struct steps step;
	size_t steps;
	struct doer *doers;    /* owned */
	struct doer **program; /* owned array, of the doers that stand for a program */
	size_t count;
	uint64_t claims, before, unattributed;
	uint64_t opened[LIMIT_STEPS];
	uint32_t on_port[UINT16_MAX + 1];
};

static void activity_free(struct activity **activity)
{
	struct activity *a = *activity;
	struct doer *d, *next;

	if (!a)
		return;
	HASH_ITER (hh, a->doers, d, next) {
		HASH_DELETE(hh, a->doers, d);
		free(d);
	}
	free(a->program);
	free(a);
}

size_t steps_count(struct steps steps, struct window window)
{
	usec_t length = window.until - steps.origin;

	return (size_t)(length / steps.length + (length % steps.length != 0));
}

/* What `app` did so far. 0, -E2BIG, -ENOMEM. */
static int find_doer(struct activity *a, int64_t app, struct doer **ret)
{
	struct doer *d;

	HASH_FIND(hh, a->doers, &app, sizeof(app), d);
	if (!d && HASH_COUNT(a->doers) * a->steps > LIMIT_ACTIVITY_CELLS)
		return -E2BIG;
	if (!d) {
		d = calloc(1, sizeof(*d) + a->steps * sizeof(d->opened[0]));
		if (!d)
			return -ENOMEM;
		d->app = app;
		HASH_ADD(hh, a->doers, app, sizeof(d->app), d);
		if (!d->hh.tbl) {
			free(d);
			return -ENOMEM;
		}
	}
	*ret = d;
	return 0;
}

static int count_row(struct activity *a, sqlite3_stmt *row)
{
	int64_t app = query_column(row, 0);
	usec_t opened = (usec_t)sqlite3_column_int64(row, 3);
	struct doer *d;
	int r = find_doer(a, app == ROW_NULL ? NO_APP : app, &d);

	if (r < 0)
		return r;
	a->claims++;
	d->claims++;
	a->unattributed += sqlite3_column_int(row, 5) != 0;
	a->on_port[(uint16_t)sqlite3_column_int(row, 1)]++;
	if (opened < a->window.from) {
		a->before++;
		d->before++;
	} else {
		/* it may be in the window by the earlier bound of its opening alone */
		size_t step = (size_t)MIN((opened - a->step.origin) / a->step.length, a->steps - 1);

		a->opened[step]++;
		d->opened[step]++;
	}
	return 0;
}

static int count_rows(struct activity *a, struct query *q, const struct question *question)
{
	_cleanup_(stmt_p) sqlite3_stmt *rows = NULL;
	char *sql = sql_question(question, SQL_AUDIT);
	int r = query_prepare(q, sql, &rows);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_question(rows, question, 0, WALL_FOREVER, &PLACE_START);
	while ((r = query_step(rows)) == 1) {
		r = count_row(a, rows);
		if (r < 0)
			return r;
	}
	return r;
}

static void add_doer(struct activity *a, struct doer *to, const struct doer *d)
{
	to->claims += d->claims;
	to->before += d->before;
	for (size_t i = 0; i < a->steps; i++)
		to->opened[i] += d->opened[i];
}

/* Adds what apps of one program did to the first of them. */
static int fold_programs(struct activity *a, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *apps = NULL;
	struct doer *d, *last = NULL;
	int64_t app = NO_APP, rank = 0;
	int r = query_prepare(q,
		"SELECT id,dense_rank() OVER(ORDER BY exe,comm,unit,uid) AS rank FROM app"
		" ORDER BY rank,id",
		&apps);

	a->program = reallocarray(NULL, HASH_COUNT(a->doers) + 1, sizeof(struct doer *));
	if (r == 0 && !a->program)
		return -ENOMEM;
	HASH_FIND(hh, a->doers, &app, sizeof(app), d);
	if (r == 0 && d)
		a->program[a->count++] = d;
	while (r == 0 && (r = query_step(apps)) == 1) {
		r = 0;
		app = sqlite3_column_int64(apps, 0);
		HASH_FIND(hh, a->doers, &app, sizeof(app), d);
		if (!d)
			continue;
		rank = sqlite3_column_int64(apps, 1);
		if (last && last->rank == rank) {
			add_doer(a, last, d);
			continue;
		}
		d->rank = rank;
		a->program[a->count++] = last = d;
	}
	return r;
}

static int compare_programs(const void *left, const void *right)
{
	const struct doer *a = *(struct doer *const *)left, *b = *(struct doer *const *)right;

	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static int append_program(
	const struct activity *a, const struct doer *d, sqlite3_stmt *names, struct buf *out)
{
	const char *text;
	int r;

	(void)sqlite3_reset(names);
	query_bind(names, ":app", d->app);
	r = query_step(names);
	if (r < 0)
		return r;
	text = (const char *)sqlite3_column_text(names, 0);
	if (!text)
		return -ENOMEM;
	r = buf_append(out, text, strlen(text) - 1); /* without its brace */
	if (r == 0)
		r = buf_append_format(out, ",\"claims\":%llu,\"before\":%llu,\"steps\":[",
			(unsigned long long)d->claims, (unsigned long long)d->before);
	for (size_t i = 0; r == 0 && i < a->steps; i++)
		r = buf_append_format(out, "%s%u", i ? "," : "", d->opened[i]);
	return r == 0 ? buf_append_string(out, "]}") : r;
}

static int append_programs(struct activity *a, struct query *q, struct buf *out)
{
	_cleanup_(stmt_p) sqlite3_stmt *names = NULL;
	size_t listed = MIN(a->count, (size_t)LIMIT_ACTIVITY_PROGRAMS);
	int r = query_prepare(q,
		"SELECT json_object('exe',a.exe,'comm',a.comm,'unit',a.unit,'uid',a.uid,'user',NULL)"
		" FROM (SELECT 1) LEFT JOIN app a ON a.id=:app",
		&names);

	if (r == 0)
		r = buf_append_string(out, "\"programs\":[");
	if (r == 0 && a->count > 0)
		qsort(a->program, a->count, sizeof(struct doer *), compare_programs);
	for (size_t i = 0; r == 0 && i < listed; i++) {
		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_program(a, a->program[i], names, out);
	}
	return r == 0 ? buf_append_format(out, "],\"omitted\":%zu", a->count - listed) : r;
}

static int append_ports(const struct activity *a, uint16_t low, struct buf *out)
{
	uint64_t ports = 0, elsewhere = 0;
	int r;

	for (size_t i = 0; i <= UINT16_MAX; i++) {
		ports += a->on_port[i] > 0;
		elsewhere += i < low ? a->on_port[i] : 0;
	}
	r = buf_append_format(out,
		",\"ports\":%llu,\"elsewhere\":%llu,\"low\":%u,\"port_claims\":[",
		(unsigned long long)ports, (unsigned long long)elsewhere, low);
	for (size_t i = low; r == 0 && i <= UINT16_MAX; i++)
		r = buf_append_format(out, "%s%u", i > low ? "," : "", a->on_port[i]);
	return r == 0 ? buf_append_string(out, "]") : r;
}

int query_activity(struct query *q, const struct question *question, struct steps steps,
	uint16_t low, struct buf *out)
{
	_cleanup_(activity_free) struct activity *a = calloc(1, sizeof(*a));
	size_t before = buf_size(out);
	int r;

	if (!a)
		return -ENOMEM;
	a->window = question->window;
	a->step = steps;
	a->steps = steps_count(steps, question->window);
	r = count_rows(a, q, question);
	if (r == 0)
		r = fold_programs(a, q);
	if (r == 0)
		r = append_programs(a, q, out);
	if (r == 0)
		r = buf_append_format(out,
			",\"claims\":%llu,\"before\":%llu,\"unattributed\":%llu,\"steps\":[",
			(unsigned long long)a->claims, (unsigned long long)a->before,
			(unsigned long long)a->unattributed);
	for (size_t i = 0; r == 0 && i < a->steps; i++)
		r = buf_append_format(
			out, "%s%llu", i ? "," : "", (unsigned long long)a->opened[i]);
	if (r == 0)
		r = buf_append_string(out, "]");
	if (r == 0)
		r = append_ports(a, low, out);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
