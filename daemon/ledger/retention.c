/* SPDX-License-Identifier: MIT */

/*
 * Retention: by age and by bytes, in bounded steps of one transaction each.
 *
 * The unit is a segment: its rows are a range of the key, so that dropping one costs half a microsecond a row, and
 * its pages are taken by the next segment; in the steady state nothing needs a vacuum. What has no segment (long
 * claims, coverage, gaps, sessions) follows every six hours, in parts: to find what is old there it looks at every row.
 *
 * Where it is the bytes that force it, nobody's claims may push out those of others: retention_share.c.
 *
 * What is dropped is said: `expired_until_usec` is the time before which claims may be missing for this reason, so
 * that an answer says "expired" and not "not watched".
 *
 * Nobody counts references. The holders of a claim go with it: a claim that has some keeps its number, and the step
 * that drops it names them. A process keeps the time of the last claim that was sealed with it (seal.c); a slow round
 * over the table deletes what is older than all claims, a part per dropped segment that is larger than what a
 * segment can bring. Programs and addresses are kept for ever, since they are few; but a hostile user can make
 * them many (random names, his own namespace's addresses). When no claim is left to drop and the database is still
 * too large, those that nothing refers to are dropped as well.
 */

#include "daemon/ledger/store_private.h"

#define TAIL_USEC        (6 * USEC_PER_HOUR)
#define LONG_PORTS       4096                     /* ports of claim_long in one step */
#define PROCESS_ROWS     (2 * LIMIT_SEGMENT_ROWS) /* ids of `process` in one step */
#define FAILURE_ROWS     4096                     /* failures dropped in one step */
#define DIMENSION_ROWS   4096                     /* apps or addresses deleted in one step */
#define VACUUM_STATEMENT "PRAGMA incremental_vacuum(2048)"

static int expire(struct store *s, usec_t until)
{
	if (until <= s->state.expired_until)
		return 0;
	s->state.expired_until = until;
	return store_counter_set(s, COUNTER_EXPIRED_UNTIL, until);
}

static int run_segment(struct store *s, enum statement which, int64_t segment)
{
	struct binder b = sql_bind(s, which);

	bind_int(&b, segment);
	return sql_run(s, which);
}

static int drop_segment(struct store *s, int64_t segment, usec_t released_to)
{
	int r = run_segment(s, STATEMENT_SEGMENT_DROP_HOLDERS, segment);

	if (r == 0)
		r = run_segment(s, STATEMENT_SEGMENT_DROP_ROWS, segment);
	if (r == 0)
		r = run_segment(s, STATEMENT_SEGMENT_DROP_COALESCED, segment);
	if (r == 0)
		r = run_segment(s, STATEMENT_SEGMENT_DROP_USERS, segment);
	if (r == 0)
		r = run_segment(s, STATEMENT_SEGMENT_DROP, segment);
	s->state.process_due = true;
	if (r == 0)
		r = expire(s, released_to + 1);
	return r < 0 ? r : marks_drop(s, s->state.expired_until);
}

/* 1: *ret_segment is to be dropped. 0: none. */
static int find_segment(struct store *s, struct now now, bool too_large, int64_t *ret_segment,
	usec_t *ret_released_to)
{
	enum statement which = too_large ? STATEMENT_SEGMENT_OLDEST : STATEMENT_SEGMENT_EXPIRED;
	struct binder b = sql_bind(s, which);
	int r;

	if (!too_large)
		bind_time(&b, usec_sub(now.wall, s->settings.max_age_usec));
	r = sql_step(s, which);
	if (r <= 0)
		return r;
	*ret_segment = sqlite3_column_int64(s->statements[which], 0);
	*ret_released_to = (usec_t)sqlite3_column_int64(s->statements[which], 1);
	sql_reset(s, which);
	return 1;
}

/* Before it nothing is kept. */
static usec_t cutoff(const struct store *s, struct now now)
{
	return MAX(usec_sub(now.wall, s->settings.max_age_usec), s->state.expired_until);
}

static int drop_long(struct store *s, struct now now)
{
	static const enum statement statements[] = {
		STATEMENT_LONG_DROP_HOLDERS, STATEMENT_LONG_DROP};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(statements); i++) {
		struct binder b = sql_bind(s, statements[i]);

		bind_int(&b, s->state.long_port);
		bind_int(&b, s->state.long_port + LONG_PORTS);
		bind_time(&b, cutoff(s, now));
		r = sql_run(s, statements[i]);
	}
	if (r == 0 && sqlite3_changes64(s->db) > 0)
		r = expire(s, cutoff(s, now));
	s->state.long_port += LONG_PORTS;
	return r;
}

static void bind_rollups(const struct store *s, struct binder *b, usec_t before)
{
	bind_time(b, before);
	bind_unsigned(b, s->settings.max_bytes / LIMIT_ROLLUP_SHARE / LIMIT_ROLLUP_BYTES);
}

/* Rollups have their own age, which is no less, and a part of the bytes, at so many a row. Up to where rows were dropped is said: of such
 * an hour others may be left. */
static int drop_rollups(struct store *s, struct now now)
{
	const struct {
		enum statement last, drop;
		usec_t age, length;
		const char *counter;
	} rollups[] = {{STATEMENT_ROLLUP_HOUR_LAST, STATEMENT_ROLLUP_HOUR_DROP,
			       s->settings.activity_hour_usec, USEC_PER_HOUR, COUNTER_HOURS_FROM},
		{STATEMENT_ROLLUP_DAY_LAST, STATEMENT_ROLLUP_DAY_DROP,
			s->settings.activity_day_usec, USEC_PER_DAY, COUNTER_DAYS_FROM}};
	int r = rollup_days(s, usec_sub(now.wall, SEAL_AGE_USEC));

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(rollups); i++) {
		struct binder b = sql_bind(s, rollups[i].last);
		usec_t before = usec_sub(now.wall, MAX(rollups[i].age, s->settings.max_age_usec));
		uint64_t from;
		int64_t last;

		bind_rollups(s, &b, before);
		r = sql_value(s, rollups[i].last, -1, &last);
		if (r < 0 || last < 0)
			continue;
		r = store_counter_get(s, rollups[i].counter, 0, &from);
		if (r == 0)
			r = store_counter_set(s, rollups[i].counter,
				MAX(from, (uint64_t)last + rollups[i].length));
		b = sql_bind(s, rollups[i].drop);
		bind_rollups(s, &b, before);
		if (r == 0)
			r = sql_run(s, rollups[i].drop);
	}
	return r;
}

/* The last part of the round: the small tables. What still touches the time that is kept stays. */
static int drop_small(struct store *s, struct now now)
{
	static const enum statement statements[] = {STATEMENT_COVERAGE_DROP, STATEMENT_GAP_DROP,
		STATEMENT_CLOCK_STEP_DROP, STATEMENT_LEFT_OUT_DROP};
	struct binder b;
	int64_t dropped = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(statements); i++) {
		b = sql_bind(s, statements[i]);
		bind_time(&b, cutoff(s, now));
		if (statements[i] == STATEMENT_COVERAGE_DROP)
			bind_int(&b, s->state.coverage);
		r = sql_run(s, statements[i]);
		dropped += sqlite3_changes64(s->db);
	}
	if (r == 0 && dropped > 0)
		r = expire(s, cutoff(s, now));
	if (r < 0)
		return r;
	r = drop_rollups(s, now);
	if (r == 0)
		r = marks_drop(s, cutoff(s, now));
	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_SESSION_DROP);
	bind_blob(&b, s->boot_id, sizeof(s->boot_id));
	bind_time(&b, cutoff(s, now));
	s->state.long_port = -1;
	s->state.process_due = true;
	return sql_run(s, STATEMENT_SESSION_DROP);
}

/* Failures have a part of the bytes, at so many a row. */
static int64_t failures_max(const struct store *s)
{
	return (int64_t)(s->settings.max_bytes / LIMIT_FAILURES_SHARE / LIMIT_FAILURE_BYTES);
}

/* Failures with an id below *ret_end, and from before *ret_before, are to be dropped. 1: there are some; 0: none. */
static int find_failures(struct store *s, struct now now, int64_t *ret_end, usec_t *ret_before)
{
	sqlite3_stmt *row = s->statements[STATEMENT_FAILURE_BOUNDS];
	int64_t first, last;
	usec_t oldest;
	int r = sql_step(s, STATEMENT_FAILURE_BOUNDS);

	if (r <= 0)
		return r;
	first = sqlite3_column_int64(row, 0);
	last = sqlite3_column_int64(row, 1);
	oldest = (usec_t)sqlite3_column_int64(row, 2);
	sql_reset(s, STATEMENT_FAILURE_BOUNDS);
	if (first == 0)
		return 0;
	*ret_end = first + FAILURE_ROWS;
	*ret_before = cutoff(s, now);
	if (oldest < *ret_before)
		return 1;
	*ret_end = MIN(*ret_end, last + 1 - failures_max(s));
	*ret_before = INT64_MAX;
	return *ret_end > first;
}

static int drop_failures(struct store *s, int64_t end, usec_t before)
{
	static const enum statement statements[] = {
		STATEMENT_FAILURE_NEWEST, STATEMENT_FAILURE_DROP};
	int64_t newest = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(statements); i++) {
		struct binder b = sql_bind(s, statements[i]);

		bind_int(&b, end);
		bind_time(&b, before);
		r = statements[i] == STATEMENT_FAILURE_NEWEST
			    ? sql_value(s, statements[i], 0, &newest)
			    : sql_run(s, statements[i]);
	}
	return r < 0 ? r : store_counter_set(s, COUNTER_FAILURES_EXPIRED, (uint64_t)newest + 1);
}

/* Runs a DELETE that returns the ids, and forgets them. *ret: how many. */
static int drop_interned(struct store *s, enum statement which, struct intern *map, int64_t *ret)
{
	int64_t dropped = 0;
	int r;

	while ((r = sql_step(s, which)) > 0) {
		intern_forget(map, sqlite3_column_int64(s->statements[which], 0));
		dropped++;
	}
	if (dropped > 0)
		s->epoch++;
	*ret = dropped;
	return r;
}

static int drop_processes(struct store *s)
{
	struct binder b;
	int64_t highest, dropped;
	int r = sql_value(s, STATEMENT_PROCESS_HIGHEST, 0, &highest);

	if (r < 0)
		return r;
	if (s->state.process_next > highest)
		s->state.process_next = 0;
	b = sql_bind(s, STATEMENT_PROCESS_DROP);
	bind_int(&b, s->state.process_next);
	bind_int(&b, s->state.process_next + PROCESS_ROWS);
	bind_time(&b, s->state.expired_until);
	s->state.process_next += PROCESS_ROWS;
	s->state.process_due = false;
	return drop_interned(s, STATEMENT_PROCESS_DROP, &s->processes, &dropped);
}

/* Nothing is left to drop but what nothing refers to. */
static int drop_dimensions(struct store *s, int64_t *ret)
{
	const struct {
		enum statement statement;
		struct intern *map;
	} dimensions[] = {
		{STATEMENT_APP_DROP, &s->apps},
		{STATEMENT_LOCAL_DROP, &s->locals},
		{STATEMENT_NETNS_DROP, &s->netns},
	};
	int64_t all = 0;

	for (size_t i = 0; i < ELEMENTSOF(dimensions); i++) {
		struct binder b = sql_bind(s, dimensions[i].statement);
		int64_t dropped;
		int r;

		bind_int(&b, DIMENSION_ROWS);
		if (dimensions[i].statement == STATEMENT_NETNS_DROP)
			bind_blob(&b, s->boot_id, sizeof(s->boot_id));
		r = drop_interned(s, dimensions[i].statement, dimensions[i].map, &dropped);
		if (r < 0)
			return r;
		all += dropped;
	}
	*ret = all;
	return 0;
}

static int read_pages(struct store *s, uint64_t *ret_all, uint64_t *ret_free)
{
	int64_t all, unused;
	int r = sql_value(s, STATEMENT_PAGES, 0, &all);

	if (r == 0)
		r = sql_value(s, STATEMENT_FREE_PAGES, 0, &unused);
	if (r < 0)
		return r;
	*ret_all = (uint64_t)all;
	*ret_free = (uint64_t)unused;
	return 0;
}

/* What the step is to do, chosen before its transaction begins. */
enum work {
	WORK_NONE,
	WORK_SEGMENT,
	WORK_SHARE,
	WORK_PROCESSES,
	WORK_FAILURES,
	WORK_LONG,
	WORK_SMALL,
	WORK_DIMENSIONS,
};

struct choice {
	enum work work;
	int64_t failures_end;
	usec_t failures_before;
	int64_t segment;
	usec_t released_to;
	int64_t uid;
};

/* What is too old goes first; then, where the database is too large, what is more than somebody's share; then the oldest.
 * 1: there is something. */
static int choose_segment(struct store *s, struct now now, bool too_large, struct choice *ret)
{
	int r = find_segment(s, now, false, &ret->segment, &ret->released_to);

	ret->work = WORK_SEGMENT;
	if (r != 0 || !too_large)
		return r;
	r = share_find(s, &ret->uid);
	if (r > 0)
		ret->work = WORK_SHARE;
	return r != 0 ? r : find_segment(s, now, true, &ret->segment, &ret->released_to);
}

static int choose(struct store *s, struct now now, bool too_large, struct choice *ret)
{
	int r;

	*ret = (struct choice){.work = WORK_NONE};
	if (s->state.process_due) {
		ret->work = WORK_PROCESSES;
		return 0;
	}
	r = find_failures(s, now, &ret->failures_end, &ret->failures_before);
	if (r != 0) {
		ret->work = WORK_FAILURES;
		return r;
	}
	r = choose_segment(s, now, too_large, ret);
	if (r != 0)
		return r;
	ret->work = WORK_NONE;
	/* sooner where nothing else is left that could make room */
	if (s->state.long_port < 0 &&
		now.boot + (too_large ? TAIL_USEC - USEC_PER_HOUR : 0) >= s->tail_next) {
		s->tail_next = now.boot + TAIL_USEC;
		s->state.long_port = s->committed.long_port = 0;
		s->last_resort = too_large;
	}
	if (s->state.long_port >= 0)
		ret->work = s->state.long_port <= UINT16_MAX ? WORK_LONG : WORK_SMALL;
	else if (s->last_resort && too_large)
		ret->work = WORK_DIMENSIONS;
	return 0;
}

static int work(struct store *s, struct now now, const struct choice *c)
{
	int64_t dropped = 0;
	int r = 0;

	switch (c->work) {
	case WORK_NONE:
		return 0;
	case WORK_SEGMENT:
		return drop_segment(s, c->segment, c->released_to);
	case WORK_SHARE:
		return share_evict(s, c->uid);
	case WORK_PROCESSES:
		return drop_processes(s);
	case WORK_FAILURES:
		return drop_failures(s, c->failures_end, c->failures_before);
	case WORK_LONG:
		return drop_long(s, now);
	case WORK_SMALL:
		return drop_small(s, now);
	case WORK_DIMENSIONS:
		r = drop_dimensions(s, &dropped);
		s->last_resort = r == 0 && dropped > 0;
		return r;
	}
	return -EINVAL;
}

/* After the limit was lowered: gives pages back to the disk that the limit does not allow for any more. */
static int vacuum(struct store *s)
{
	int r = store_begin_question(s);

	if (r < 0)
		return r;
	r = sql_exec(s, VACUUM_STATEMENT);
	if (r == 0)
		r = store_commit_step(s);
	return r < 0 ? store_fail(s, r) : 1;
}

static int take_step(struct store *s, struct now now, const struct choice *c)
{
	int r = store_begin_question(s);

	if (r < 0)
		return r;
	r = work(s, now, c);
	if (r == 0)
		r = store_commit_step(s);
	return r < 0 ? store_fail(s, r) : 1;
}

/* What a clock may be ahead of the time that has passed, and for how long one that is further ahead is not believed. */
#define LEAP_USEC        USEC_PER_HOUR
#define LEAP_BELIEF_USEC USEC_PER_DAY

/*
 * A clock that is wrong by years must not drop what it makes old: it may be set right again, and what is dropped stays so. Until it
 * has stood where it is for a day, rows grow old by the time since boot. A machine that was off for long waits a day, too.
 */
usec_t retention_wall(struct store *s, struct now now)
{
	usec_t expected = s->age.wall + usec_sub(now.boot, s->age.boot);

	if (now.wall > expected + LEAP_USEC) {
		if (s->leapt_boot == 0)
			s->leapt_boot = MAX(now.boot, (usec_t)1);
		if (usec_sub(now.boot, s->leapt_boot) < LEAP_BELIEF_USEC)
			return expected;
	}
	s->age = now;
	s->leapt_boot = 0;
	return now.wall;
}

static bool is_too_large(const struct store *s, uint64_t pages, uint64_t unused)
{
	return (pages - unused) * s->page_bytes > s->settings.max_bytes;
}

int retention_room_step(struct store *s, struct now now)
{
	uint64_t pages, unused;
	struct choice c;
	int r = read_pages(s, &pages, &unused);

	if (r < 0 || !is_too_large(s, pages, unused))
		return r;
	c = (struct choice){.work = WORK_PROCESSES};
	if (!s->state.process_due) {
		r = choose_segment(s, now, true, &c);
		if (r <= 0)
			return r;
	}
	return take_step(s, now, &c);
}

int retention_step(struct store *s, struct now now)
{
	uint64_t pages, unused;
	struct choice c;
	int r = read_pages(s, &pages, &unused);

	if (r == 0)
		r = choose(s, now, is_too_large(s, pages, unused), &c);
	if (r < 0)
		return r;
	if (c.work == WORK_NONE)
		return unused > 0 && pages > s->max_pages ? vacuum(s) : 0;
	return take_step(s, now, &c);
}
