/* SPDX-License-Identifier: MIT */
#pragma once

/* A made-up history for tests of control: the same claims in a database and in plain memory, where a loop over all
 * of them is the oracle. Header-only; the database is made of the text of schema.sql. */

#include <cmocka.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/claim.h"
#include "daemon/ledger/schema_sql.h"
#include "daemon/schema.h"
#include "tests/support/full.h"

#define HISTORY_START  INT64_C(1790000000000000)
#define HISTORY_LENGTH (INT64_C(6) * 3600 * 1000000)
#define HISTORY_SLACK  INT64_C(1000) /* slack_msec of its segments */
#define NOT_KNOWN      INT64_C(-1)

enum place_in { IN_OPEN, IN_HOT, IN_SEG, IN_LONG };

/* A claim as the store keeps it; `id` is unique, and its process id too. */
struct past {
	enum place_in in;
	int64_t id, port, opened, opened_slack, dur, closed_slack, linger, meta, rport;
	uint32_t raddr; /* IPv4, host byte order; 0: none */
};

struct history {
	char directory[64], path[80];
	sqlite3 *db;
	sqlite3_stmt *inserts[IN_LONG + 1]; /* of past_insert() */
	struct past *past;
	size_t count, hot_from, segments;
	uint64_t random;
	int64_t next_hot, segment_released_to;
};

static inline uint32_t history_random(struct history *h, uint32_t below)
{
	h->random = h->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(h->random >> 32) % below;
}

static inline void history_sql(struct history *h, const char *sql)
{
	char *error = NULL;

	if (sqlite3_exec(h->db, sql, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s: %s", sql, error);
}

static inline void history_open(struct history *h, const char *name)
{
	char sql[128];

	*h = (struct history){.random = 42, .next_hot = 1};
	(void)snprintf(h->directory, sizeof(h->directory), "%s/portledger-%s-XXXXXX",
		database_directory(), name);
	assert_non_null(mkdtemp(h->directory));
	(void)snprintf(h->path, sizeof(h->path), "%s/%s", h->directory, SCHEMA_FILE);
	assert_int_equal(sqlite3_open(h->path, &h->db), SQLITE_OK);
	(void)snprintf(sql, sizeof(sql),
		"PRAGMA journal_mode=WAL; PRAGMA application_id=%d; PRAGMA user_version=%d",
		SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
	history_sql(h, sql);
	history_sql(h, schema_sql);
}

static inline void history_close(struct history *h)
{
	char path[128];
	static const char *const suffixes[] = {"", "-wal", "-shm"};

	for (size_t i = 0; i < ELEMENTSOF(h->inserts); i++)
		(void)sqlite3_finalize(h->inserts[i]);
	assert_int_equal(sqlite3_close(h->db), SQLITE_OK);
	for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", h->path, suffixes[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(h->directory), 0);
	free(h->past);
}

static inline int64_t past_released(const struct past *p)
{
	return p->in == IN_OPEN ? INT64_MAX
				: p->opened + p->dur + (p->linger > 0 ? p->linger * 1000 : 0);
}

/* The earlier bound of the opening, as far as it counts. */
static inline int64_t past_opened_after(const struct past *p)
{
	bool preexisting = p->meta >> META_PREEXISTING_SHIFT & 1;

	return p->opened_slack == NOT_KNOWN || preexisting ? p->opened
							   : p->opened - p->opened_slack * 1000;
}

/* The oracle. */
static inline bool past_touches(const struct past *p, int64_t from, int64_t until)
{
	int64_t released = past_released(p);

	return past_opened_after(p) < until &&
	       (released > from ||
		       (released == from && (p->closed_slack != NOT_KNOWN || p->opened == from)));
}

static inline void bind_known(sqlite3_stmt *s, const char *name, int64_t value)
{
	int index = sqlite3_bind_parameter_index(s, name);

	if (index > 0 && value != NOT_KNOWN)
		assert_int_equal(sqlite3_bind_int64(s, index, value), SQLITE_OK);
}

/* Writes one claim into the table it belongs to; `base` and `segment` for a segment's. */
static inline void past_insert(
	struct history *h, const struct past *p, int64_t segment, int64_t base)
{
	static const char *const sql[] = {
		[IN_OPEN] =
			"INSERT INTO claim_open VALUES(:id,1,:id,:port,:opened,0,:oslack,NULL,NULL,"
			":meta,:rport,:raddr,:id)",
		[IN_HOT] =
			"INSERT INTO claim_hot VALUES(:hot,:id,0,:port,:opened,:dur,:oslack,:cslack,"
			":linger,:meta,:rport,:raddr,:id)",
		[IN_SEG] =
			"INSERT INTO claim_seg VALUES(:seg,:port,:opened-:base,:tie,:dur,"
			":oslack-:base_slack,:cslack-:base_slack,:linger,:meta,:rport,:id,:raddr)",
		[IN_LONG] = "INSERT INTO claim_long VALUES(:port,:opened,:id,:dur,:oslack,:cslack,"
			    ":linger,:meta,:rport,:id,:raddr,0)",
	};
	uint8_t raddr[4] = {(uint8_t)(p->raddr >> 24), (uint8_t)(p->raddr >> 16),
		(uint8_t)(p->raddr >> 8), (uint8_t)p->raddr};
	sqlite3_stmt *s = h->inserts[p->in];

	if (!s)
		assert_int_equal(
			sqlite3_prepare_v2(h->db, sql[p->in], -1, &h->inserts[p->in], NULL),
			SQLITE_OK);
	s = h->inserts[p->in];
	(void)sqlite3_clear_bindings(s); /* what is not known is NULL */
	bind_known(s, ":id", p->id);
	bind_known(s, ":port", p->port);
	bind_known(s, ":opened", p->opened);
	bind_known(s, ":oslack", p->opened_slack);
	bind_known(s, ":dur", p->dur);
	bind_known(s, ":cslack", p->closed_slack);
	bind_known(s, ":linger", p->linger);
	bind_known(s, ":meta", p->meta);
	bind_known(s, ":rport", p->rport);
	bind_known(s, ":seg", segment);
	bind_known(s, ":base", base);
	bind_known(s, ":base_slack", HISTORY_SLACK);
	bind_known(s, ":tie", p->id);
	bind_known(s, ":hot", p->in == IN_HOT ? h->next_hot : NOT_KNOWN);
	if (p->raddr)
		(void)sqlite3_bind_blob(
			s, sqlite3_bind_parameter_index(s, ":raddr"), raddr, 4, SQLITE_STATIC);
	if (sqlite3_step(s) != SQLITE_DONE)
		fail_msg("%s", sqlite3_errmsg(h->db));
	(void)sqlite3_reset(s);
	h->next_hot += p->in == IN_HOT;
}

/* Writes past[from, to) as one segment. */
static inline void history_segment(struct history *h, size_t from, size_t to)
{
	int64_t released_from = INT64_MAX, released_to = 0, opened_from = INT64_MAX, opened_to = 0;
	int64_t slack = 0, base;
	char sql[256];

	for (size_t i = from; i < to; i++) {
		struct past *p = &h->past[i];

		p->in = IN_SEG;
		released_from = MIN(released_from, past_released(p));
		released_to = MAX(released_to, past_released(p));
		opened_from = MIN(opened_from, p->opened);
		opened_to = MAX(opened_to, p->opened);
		slack = MAX(slack, p->opened - past_opened_after(p));
	}
	h->segments++;
	base = opened_from + (opened_to - opened_from) / 2;
	(void)snprintf(sql, sizeof(sql),
		"INSERT INTO segment VALUES(%zu,%lld,%lld,%lld,%lld,%lld,%lld,%zu,%lld,0)",
		h->segments, (long long)base, (long long)released_from, (long long)released_to,
		(long long)opened_from, (long long)opened_to, (long long)slack, to - from,
		(long long)HISTORY_SLACK);
	history_sql(h, sql);
	for (size_t i = from; i < to; i++)
		past_insert(h, &h->past[i], (int64_t)h->segments, base);
}

/* What the store does when there are enough hot rows: all of them become a segment. */
static inline void history_seal(struct history *h)
{
	size_t from = h->hot_from, to = from;

	while (to < h->count && h->past[to].in == IN_HOT)
		to++;
	history_sql(h, "BEGIN; DELETE FROM claim_hot");
	if (to > from)
		history_segment(h, from, to);
	h->hot_from = to;
	history_sql(h, "COMMIT");
}

static inline int64_t random_slack(struct history *h)
{
	static const int64_t slacks[] = {NOT_KNOWN, NOT_KNOWN, 0, 1, 1000, 1000, 60000, 900000};

	return slacks[history_random(h, ELEMENTSOF(slacks))];
}

static inline int64_t random_length(struct history *h)
{
	static const uint32_t lengths[] = {
		1, 200000, 200000, 5000000, 5000000, 120000000, 2000000000, 3600000000};

	return history_random(h, lengths[history_random(h, ELEMENTSOF(lengths))]);
}

/* A third of the openings are on whole seconds (ties), a third of the claims on two hot ports. */
static inline struct past random_past(struct history *h, int64_t id)
{
	struct past p = {
		.in = IN_HOT,
		.id = id,
		.opened = HISTORY_START + (int64_t)history_random(h, 21600) * 1000000,
		.port = 32768 + history_random(h, history_random(h, 3) ? 400 : 2),
		.opened_slack = random_slack(h),
		.dur = random_length(h),
		.closed_slack = random_slack(h),
		.linger = history_random(h, 4) ? NOT_KNOWN : 60000,
		.rport = history_random(h, 3) ? 443 + (int64_t)history_random(h, 2) : NOT_KNOWN,
	};
	bool preexisting = history_random(h, 20) == 0;

	if (history_random(h, 3))
		p.opened += history_random(h, 1000000);
	if (preexisting)
		p.opened_slack = 2000000;
	p.raddr = p.rport == NOT_KNOWN ? 0 : 0x0a000000 + history_random(h, 5);
	p.meta = history_random(h, 2) | history_random(h, 4) << META_ROLE_SHIFT |
		 ATTRIBUTION_PROCFD << META_ATTRIBUTION_SHIFT |
		 (unsigned)preexisting << META_PREEXISTING_SHIFT |
		 (int64_t)(1 + history_random(h, 3)) << META_LOCAL_SHIFT;
	if (past_released(&p) - past_opened_after(&p) >= SCHEMA_LONG_USEC)
		p.in = IN_LONG;
	else if (history_random(h, 50) == 0)
		p.in = IN_OPEN;
	return p;
}

/* Segments and hot rows first, in the order of release. */
static inline int compare_release(const void *left, const void *right)
{
	const struct past *a = left, *b = right;

	if ((a->in == IN_HOT) != (b->in == IN_HOT))
		return a->in == IN_HOT ? -1 : 1;
	if (past_released(a) != past_released(b))
		return past_released(a) < past_released(b) ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* `count` claims over six hours, in segments of `segment_rows` and a rest that is hot. */
static inline void history_fill(struct history *h, size_t count, size_t segment_rows)
{
	size_t closed = 0;

	h->past = calloc(count, sizeof(*h->past));
	assert_non_null(h->past);
	h->count = count;
	for (size_t i = 0; i < count; i++)
		h->past[i] = random_past(h, (int64_t)i + 1);
	qsort(h->past, count, sizeof(*h->past), compare_release);
	while (closed < count && h->past[closed].in == IN_HOT)
		closed++;
	history_sql(h, "BEGIN");
	for (; closed - h->hot_from > segment_rows * 3 / 2; h->hot_from += segment_rows)
		history_segment(h, h->hot_from, h->hot_from + segment_rows);
	for (size_t i = h->hot_from; i < count; i++)
		past_insert(h, &h->past[i], NOT_KNOWN, NOT_KNOWN);
	history_sql(h, "COMMIT");
}
