/* SPDX-License-Identifier: MIT */

/*
 * Audits by program, as control makes them, down to the JSON text: of nights (18:00 to 09:00, UTC) and of a year, with the rollups; of
 * hours by rows alone, beside a plain table's own query. Each is asked once to warm the page cache, then three times with the clock
 * running, of which the fastest counts.
 */

#include "bench/asking.h"

#include <sqlite3.h>
#include <stdio.h>
#include <time.h>

#include "bench/counting.h"
#include "daemon/control/query.h"
#include "daemon/schema.h"

#define ROUNDS    4
#define YEAR      (365 * USEC_PER_DAY)
#define COMPARED  3u /* nights that are also audited by rows */
#define COUNT_MAX 1000u

struct auditing {
	const struct writing *writing;
	struct query *query;
	sqlite3 *plain;
	double wall[COUNT_MAX], cpu[COUNT_MAX], reads[COUNT_MAX]; /* usec; of the last round */
	size_t count;
};

static double clock_usec(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int audit(struct auditing *a, struct window window, unsigned rows, struct buf *text)
{
	const struct question q = {.filter = FILTER_ANY, .window = window, .rows = rows};
	struct parts parts;
	int r = query_begin(a->query, clock_now().boot + LIMIT_QUERY_USEC);

	if (r == 0)
		r = query_audit(a->query, &q, AUDIT_BY_PROGRAM, text, &parts);
	query_end(a->query);
	return r;
}

/* What one would ask a plain table: of what was opened in the window. */
static int audit_plain(struct auditing *a, struct window window)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(a->plain,
		"SELECT p.app,count(*),count(DISTINCT c.port),count(DISTINCT c.raddr),min(c.opened_usec),"
		"max(c.released_usec),min(c.closed_usec-c.opened_usec),max(c.closed_usec-c.opened_usec)"
		" FROM claim c JOIN process p ON p.id=c.process"
		" WHERE c.opened_usec>=?1 AND c.opened_usec<?2 GROUP BY 1 ORDER BY 2 DESC",
		-1, &s, NULL);

	if (code == SQLITE_OK) {
		(void)sqlite3_bind_int64(s, 1, (int64_t)window.from);
		(void)sqlite3_bind_int64(s, 2, (int64_t)window.until);
		while ((code = sqlite3_step(s)) == SQLITE_ROW)
			;
	}
	(void)sqlite3_finalize(s);
	return code == SQLITE_DONE ? 0 : -EIO;
}

/* `rows` 0: of the plain table. */
static int ask_window(struct auditing *a, struct window window, unsigned rows)
{
	double *best_wall = &a->wall[a->count], *best_cpu = &a->cpu[a->count];
	int r = 0;

	for (int round = 0; r == 0 && round < ROUNDS; round++) {
		struct buf text = {0};
		uint64_t reads = counting_now().reads;
		double wall = clock_usec(CLOCK_MONOTONIC),
		       cpu = clock_usec(CLOCK_PROCESS_CPUTIME_ID);

		r = rows ? audit(a, window, rows, &text) : audit_plain(a, window);
		wall = clock_usec(CLOCK_MONOTONIC) - wall;
		cpu = clock_usec(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		a->reads[a->count] = (double)(counting_now().reads - reads);
		buf_done(&text);
		*best_wall = round < 2 ? wall : MIN(*best_wall, wall);
		*best_cpu = round < 2 ? cpu : MIN(*best_cpu, cpu);
	}
	a->count++;
	return r;
}

static int compare_doubles(const void *left, const void *right)
{
	const double *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static void report_times(struct auditing *a, const char *name)
{
	const struct {
		double *times;
		const char *clock;
	} kinds[] = {{a->wall, "wall"}, {a->cpu, "cpu"}};

	char text[64];

	for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
		qsort(kinds[i].times, a->count, sizeof(double), compare_doubles);
		snprintf(text, sizeof(text), "%s_%s_p50_usec", name, kinds[i].clock);
		report(text, kinds[i].times[a->count / 2]);
		snprintf(text, sizeof(text), "%s_%s_p99_usec", name, kinds[i].clock);
		report(text, kinds[i].times[a->count * 99 / 100]);
	}
	snprintf(text, sizeof(text), "%s_reads_p50", name);
	qsort(a->reads, a->count, sizeof(double), compare_doubles);
	report(text, a->reads[a->count / 2]);
	a->count = 0;
}

/* The n-th of `count` windows of this length, which begin at this hour of a day (of UTC) and are spread over the history. */
static struct window window_at(
	const struct auditing *a, size_t n, size_t count, unsigned hour, usec_t length)
{
	usec_t days = a->writing->span / USEC_PER_DAY;
	usec_t from = WORKLOAD_WALL - WORKLOAD_WALL % USEC_PER_DAY +
		      (1 + n * (days > 3 ? days - 3 : 0) / count) * USEC_PER_DAY +
		      hour * USEC_PER_HOUR;

	return (struct window){from, from + length};
}

/* The sums of the answer, which both ways give: "],"claims":N,"ports":N,"unattributed":N,". */
static int sums_of(struct auditing *a, struct window window, unsigned rows, char ret[static 128])
{
	struct buf text = {0};
	int r = audit(a, window, rows, &text);
	const char *sums;

	if (r == 0)
		r = buf_put_u8(&text, 0);
	sums = r == 0 ? strstr((const char *)buf_bytes(&text), "],\"claims\":") : NULL;
	if (sums)
		snprintf(ret, 128, "%.*s", (int)(strstr(sums, ",\"omitted\"") - sums), sums);
	buf_done(&text);
	return r < 0 ? r : sums ? 0 : -EBADMSG;
}

static int compare_nights(struct auditing *a)
{
	double wrong = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < COMPARED; i++) {
		struct window w = window_at(a, i, COMPARED, 18, 15 * USEC_PER_HOUR);
		char rolled[128], rows[128];

		r = sums_of(a, w, ROWS_ALL | ROLLUPS, rolled);
		if (r == 0)
			r = sums_of(a, w, ROWS_ALL, rows);
		wrong += r == 0 && !streq(rolled, rows);
	}
	report("night_wrong", wrong);
	return r == 0 && wrong > 0 ? -EBADMSG : r;
}

static int open_query(struct auditing *a, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s" SCHEMA_FILE, a->writing->path, name);
	return query_new(path, &a->query);
}

static void auditing_done(struct auditing *a)
{
	a->query = query_free(a->query);
	(void)sqlite3_close(a->plain);
}

int ask_audits(const struct writing *w)
{
	_cleanup_(auditing_done) struct auditing a = {.writing = w};
	const usec_t end = WORKLOAD_WALL + w->span;
	int r = w->batch < COUNT_MAX ? open_query(&a, "") : -EINVAL;

	for (size_t i = 0; r == 0 && i < w->batch; i++)
		r = ask_window(
			&a, window_at(&a, i, w->batch, 18, 15 * USEC_PER_HOUR), ROWS_ALL | ROLLUPS);
	if (r == 0)
		report_times(&a, "night");
	for (size_t i = 0; r == 0 && i < 5; i++)
		r = ask_window(&a, (struct window){end - YEAR + i * 7 * USEC_PER_MINUTE, end},
			ROWS_ALL | ROLLUPS);
	if (r == 0)
		report_times(&a, "year");
	return r == 0 ? compare_nights(&a) : r;
}

int ask_hours(const struct writing *w)
{
	_cleanup_(auditing_done) struct auditing a = {.writing = w};
	static const struct {
		const char *name;
		unsigned rows;
	} ways[] = {
		{"hour_rows", ROWS_ALL}, {"hour_rollups", ROWS_ALL | ROLLUPS}, {"hour_plain", 0}};
	char path[4096];
	int r = w->batch < COUNT_MAX ? open_query(&a, "store/") : -EINVAL;

	snprintf(path, sizeof(path), "%s/plain/plain.db", w->path);
	if (r == 0 && sqlite3_open_v2(path, &a.plain, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		r = -EIO;
	if (r == 0 &&
		sqlite3_exec(a.plain, "PRAGMA cache_size=-8192", NULL, NULL, NULL) != SQLITE_OK)
		r = -EIO;
	for (size_t k = 0; r == 0 && k < ELEMENTSOF(ways); k++) {
		for (size_t i = 0; r == 0 && i < w->batch; i++)
			r = ask_window(&a,
				window_at(&a, i, w->batch, (unsigned)(i % 24), USEC_PER_HOUR),
				ways[k].rows);
		if (r == 0)
			report_times(&a, ways[k].name);
	}
	return r;
}
