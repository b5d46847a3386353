/* SPDX-License-Identifier: MIT */

/*
 * Two questions, each on random ports and on the hot ones: who had the port in a second in the middle of the history, and
 * its last 20 claims; answered as control answers them, down to the JSON text. All are asked once to warm the page cache
 * (SQLite's own is 8 MiB, as the daemon's), then three times with the clock running, of which the fastest counts: what
 * another tenant of the machine takes is not the question's. Then some are asked cold, once each.
 *
 * The brute force is the workload itself, made once more: every claim is held against every question of its port.
 */

#include "bench/asking.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "bench/counting.h"
#include "bench/facts.h"
#include "daemon/control/query.h"
#include "daemon/schema.h"

#define LAST   20u
#define ROUNDS 4
#define COLD   200u /* questions at most */

enum kind { WHO, WHO_HOT, LAST_20, LAST_20_HOT, KINDS };
static const char *const names[KINDS] = {"who", "who_hot", "last", "last_hot"};

struct probe {
	struct probe *next; /* of the same port */
	enum kind kind;
	uint16_t port;
	struct window window;
	struct facts answer, expected;
	double wall, cpu; /* usec */
};

struct asking {
	const struct writing *writing;
	struct probe *probes; /* writing->batch of each kind, one kind after the other */
	size_t count;
	struct probe *by_port[UINT16_MAX + 1];
	struct query *query;
	char path[4096]; /* of the database */
	sqlite3 *names;  /* to look up what rows refer to */
};

static double clock_usec(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare_doubles(const void *left, const void *right)
{
	const double *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static bool is_last(const struct probe *p)
{
	return p->kind == LAST_20 || p->kind == LAST_20_HOT;
}

/* A question about the port of this claim: for two of three at a time when it was alive. */
static void choose(struct probe *p, const struct claim *c, uint64_t *random)
{
	struct fact f = fact_of_claim(c);
	usec_t at =
		(usec_t)f.opened + workload_random(random) % (usec_t)(f.released - f.opened + 1);

	if (workload_random(random) % 3 == 0)
		at += workload_random(random) % USEC_PER_HOUR;
	p->port = c->local.port;
	p->window = is_last(p) ? (struct window){0, WALL_FOREVER}
			       : (struct window){at, at + USEC_PER_SEC};
}

/* Takes the claims that the questions are about evenly from the whole history. */
static int choose_all(struct asking *a)
{
	const struct writing *w = a->writing;
	_cleanup_(workload_free_p) struct workload *load =
		workload_new(w->times, w->claims, w->span);
	uint64_t random = 4711, every = MAX(w->claims / w->batch / 2, UINT64_C(1));
	size_t chosen[KINDS] = {0};
	struct claim c;

	if (!load)
		return -ENOMEM;
	for (uint64_t i = 0; workload_next(load, &c); i++) {
		for (int k = 0; k < KINDS; k++) {
			bool hot = k == WHO_HOT || k == LAST_20_HOT;

			if (chosen[k] == w->batch || i < chosen[k] * every ||
				hot != (c.role == ROLE_ACCEPTED))
				continue;
			choose(&a->probes[(size_t)k * w->batch + chosen[k]++], &c, &random);
		}
		claim_done(&c);
	}
	for (size_t i = 0; i < a->count; i++) {
		struct probe *p = &a->probes[i];

		p->next = a->by_port[p->port];
		a->by_port[p->port] = p;
	}
	return 0;
}

/* As the methods Who and Claims do it, for one page. */
static int ask(struct asking *a, const struct probe *p, struct rows *rows, struct buf *text)
{
	struct question q = {.filter = FILTER_ANY, .window = p->window, .rows = ROWS_ALL};
	struct place place = PLACE_START;
	int r = query_begin(a->query, clock_now().boot + LIMIT_QUERY_USEC);

	if (r < 0)
		return r;
	q.filter.ports[0] = p->port;
	q.filter.port_count = 1;
	if (is_last(p))
		r = query_newest(a->query, &q, LAST, &place, rows);
	if (r == 0)
		r = query_rows(a->query, &q, is_last(p) ? LAST : LIMIT_PAGE_ROWS + 1, &place, rows);
	r = MIN(r, 0); /* 1: the rows are there */
	for (size_t i = 0; r == 0 && i < rows->count; i++)
		r = query_row_json(a->query, &rows->row[i], text);
	query_end(a->query);
	return r;
}

static int ask_one(struct asking *a, struct probe *p, int round)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct buf text = {0};
	double wall = clock_usec(CLOCK_MONOTONIC), cpu = clock_usec(CLOCK_PROCESS_CPUTIME_ID);
	int r = ask(a, p, &rows, &text);

	wall = clock_usec(CLOCK_MONOTONIC) - wall;
	cpu = clock_usec(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	p->wall = round < 2 ? wall : MIN(p->wall, wall);
	p->cpu = round < 2 ? cpu : MIN(p->cpu, cpu);
	buf_done(&text);
	for (size_t i = 0; r == 0 && round == ROUNDS - 1 && i < rows.count; i++) {
		struct fact f;

		r = fact_of_row(a->names, &rows.row[i], &f);
		if (r == 0)
			r = facts_add(&p->answer, &f);
	}
	return r;
}

static int ask_all(struct asking *a)
{
	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < a->count; i++) {
			int r = ask_one(a, &a->probes[i], round);

			if (r < 0)
				return r;
		}
	return 0;
}

/* What one took, or that of many of which one was picked. */
struct cold {
	double usec, reads, jumps;
};

static int compare_colds(const void *left, const void *right)
{
	const struct cold *a = left, *b = right;

	return compare_doubles(&a->usec, &b->usec);
}

/* With nothing of the database in memory: a fresh connection, and its pages dropped from the page cache. */
static int ask_cold(struct asking *a, struct probe *p, struct cold *ret)
{
	_cleanup_(rows_done) struct rows rows = {0};
	_cleanup_(close_p) int fd = open(a->path, O_RDONLY | O_CLOEXEC);
	struct counted before;
	struct buf text = {0};
	int r;

	a->query = query_free(a->query);
	if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		return -EIO;
	r = query_new(a->path, &a->query);
	if (r < 0)
		return r;
	before = counting_now();
	ret->usec = clock_usec(CLOCK_MONOTONIC);
	r = ask(a, p, &rows, &text);
	ret->usec = clock_usec(CLOCK_MONOTONIC) - ret->usec;
	ret->reads = (double)(counting_now().reads - before.reads);
	ret->jumps = (double)(counting_now().jumps - before.jumps);
	buf_done(&text);
	return r;
}

static int ask_all_cold(struct asking *a)
{
	size_t count = MIN((size_t)a->writing->batch, (size_t)COLD);
	struct cold cold[COLD];
	double reads = 0, jumps = 0;

	for (size_t i = 0; i < count; i++) {
		size_t of_kind = i * a->writing->batch / count;
		int r = ask_cold(
			a, &a->probes[WHO * (size_t)a->writing->batch + of_kind], &cold[i]);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < count; i++) {
		reads += cold[i].reads;
		jumps += cold[i].jumps;
	}
	qsort(cold, count, sizeof(cold[0]), compare_colds);
	report("who_cold_wall_p50_usec", cold[count / 2].usec);
	report("who_cold_wall_p99_usec", cold[count * 99 / 100].usec);
	report("who_cold_reads", reads / (double)count);
	report("who_cold_jumps", jumps / (double)count);
	return 0;
}

static int look_at(struct asking *a, const struct claim *c)
{
	struct fact f = fact_of_claim(c);

	for (struct probe *p = a->by_port[c->local.port]; p; p = p->next) {
		int r = 0;

		if (is_last(p))
			r = facts_add_newest(&p->expected, &f, 2 * LAST);
		else if (fact_touches(&f, p->window.from, p->window.until))
			r = facts_add(&p->expected, &f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int look_at_all(struct asking *a)
{
	const struct writing *w = a->writing;
	_cleanup_(workload_free_p) struct workload *load =
		workload_new(w->times, w->claims, w->span);
	struct claim c;
	int r = load ? 0 : -ENOMEM;

	while (r == 0 && workload_next(load, &c)) {
		r = look_at(a, &c);
		claim_done(&c);
	}
	return r;
}

static void report_times(const struct probe *probes, size_t count, const char *name, bool wall)
{
	_cleanup_(free_p) double *times = calloc(count + 1, sizeof(*times));
	char text[64];

	if (!times)
		return;
	for (size_t i = 0; i < count; i++)
		times[i] = wall ? probes[i].wall : probes[i].cpu;
	qsort(times, count, sizeof(*times), compare_doubles);
	snprintf(text, sizeof(text), "%s_%s_p50_usec", name, wall ? "wall" : "cpu");
	report(text, times[count / 2]);
	snprintf(text, sizeof(text), "%s_%s_p99_usec", name, wall ? "wall" : "cpu");
	report(text, times[count * 99 / 100]);
}

/* How many answers differ. */
static size_t judge(struct asking *a)
{
	size_t wrong = 0, of_kind = a->writing->batch;

	for (int k = 0; k < KINDS; k++) {
		struct probe *first = &a->probes[(size_t)k * of_kind];
		size_t rows = 0, differ = 0;
		char text[64];

		for (size_t i = 0; i < of_kind; i++) {
			differ += !facts_agree(
				&first[i].answer, &first[i].expected, is_last(&first[i]), LAST);
			rows += first[i].answer.count;
		}
		snprintf(text, sizeof(text), "%s_rows", names[k]);
		report(text, (double)rows);
		snprintf(text, sizeof(text), "%s_wrong", names[k]);
		report(text, (double)differ);
		report_times(first, of_kind, names[k], false);
		report_times(first, of_kind, names[k], true);
		wrong += differ;
	}
	return wrong;
}

static void asking_done(struct asking *a)
{
	for (size_t i = 0; i < a->count; i++) {
		facts_done(&a->probes[i].answer);
		facts_done(&a->probes[i].expected);
	}
	free(a->probes);
	a->query = query_free(a->query);
	(void)sqlite3_close(a->names);
}

int ask_store(const struct writing *w)
{
	_cleanup_(asking_done) struct asking a = {.writing = w, .count = KINDS * (size_t)w->batch};
	int r;

	snprintf(a.path, sizeof(a.path), "%s/" SCHEMA_FILE, w->path);
	a.probes = calloc(a.count, sizeof(*a.probes));
	if (!a.probes)
		return -ENOMEM;
	for (size_t i = 0; i < a.count; i++)
		a.probes[i].kind = (enum kind)(i / w->batch);
	r = query_new(a.path, &a.query);
	if (r == 0 && sqlite3_open_v2(a.path, &a.names, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		r = -EIO;
	if (r == 0)
		r = choose_all(&a);
	if (r == 0)
		r = ask_all(&a);
	if (r == 0)
		r = ask_all_cold(&a);
	if (r == 0)
		r = look_at_all(&a);
	if (r < 0)
		return r;
	report("probes", w->batch);
	return judge(&a) > 0 ? -EBADMSG : 0;
}
