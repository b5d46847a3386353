/* SPDX-License-Identifier: MIT */

/*
 * What the database says, against what was true: made = recorded + lost, no holder wrong, none twice, each time within what is
 * said of it, no duration negative, and what is missing inside a gap.
 */

#include "tests/simulation/sim.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/schema.h"

#define NOT_SAID INT64_MIN

/* A row of the view. */
struct row {
	uint32_t tenure;
	int64_t port, opened, opened_after, closed, closed_after, released, pid;
	const char *protocol, *comm, *attribution, *source;
	bool home;
};

static sqlite3 *open_reader(struct sim *s)
{
	char path[128];
	sqlite3 *db = NULL;

	snprintf(path, sizeof(path), "%s/%s", s->path, SCHEMA_FILE);
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		wrong(s, "%s: %s", path, sqlite3_errmsg(db));
	return db;
}

static sqlite3_stmt *ask(struct sim *s, sqlite3 *db, const char *sql)
{
	sqlite3_stmt *row = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &row, NULL) != SQLITE_OK)
		wrong(s, "%s: %s", sql, sqlite3_errmsg(db));
	return row;
}

static int64_t number(struct sim *s, sqlite3 *db, const char *sql)
{
	sqlite3_stmt *row = ask(s, db, sql);
	int64_t value = sqlite3_step(row) == SQLITE_ROW ? sqlite3_column_int64(row, 0) : NOT_SAID;

	sqlite3_finalize(row);
	return value;
}

static int64_t column(sqlite3_stmt *row, int i)
{
	return sqlite3_column_type(row, i) == SQLITE_NULL ? NOT_SAID : sqlite3_column_int64(row, i);
}

static uint32_t tenure_of(struct sim *s, const char *address)
{
	struct address a;
	const uint8_t *low;
	uint32_t number;

	if (!address || address_parse(address, &a) < 0)
		wrong(s, "a row with the address %s", address ? address : "NULL");
	low = a.bytes + (a.family == FAMILY_IPV6 ? 12 : 0);
	number = (uint32_t)low[1] << 16 | (uint32_t)low[2] << 8 | low[3];
	if (number == 0 || number > s->tenure_count ||
		s->tenures[number - 1].ipv6 != (a.family == FAMILY_IPV6))
		wrong(s, "a row that is nobody's: %s", address);
	return number - 1;
}

#define ROWS                                                                                       \
	"SELECT local_address,port,opened_usec,opened_after_usec,closed_usec,closed_after_usec,"   \
	"released_usec,pid,protocol,comm,attribution,source,netns=4026531840 FROM claims"

static struct row read_row(struct sim *s, sqlite3_stmt *r)
{
	return (struct row){
		.tenure = tenure_of(s, (const char *)sqlite3_column_text(r, 0)),
		.port = column(r, 1),
		.opened = column(r, 2),
		.opened_after = column(r, 3),
		.closed = column(r, 4),
		.closed_after = column(r, 5),
		.released = column(r, 6),
		.pid = column(r, 7),
		.protocol = (const char *)sqlite3_column_text(r, 8),
		.comm = (const char *)sqlite3_column_text(r, 9),
		.attribution = (const char *)sqlite3_column_text(r, 10),
		.source = (const char *)sqlite3_column_text(r, 11),
		.home = sqlite3_column_int(r, 12) != 0,
	};
}

#define SAY(s, r, what)                                                                            \
	wrong(s,                                                                                   \
		"claim %u (boot %u, opened %" PRIu64 ", closed %" PRIu64 "): %s; opened %" PRId64  \
		" after %" PRId64 ", closed %" PRId64 " after %" PRId64 ", released %" PRId64      \
		", pid %" PRId64 " %s %s %s",                                                      \
		(unsigned)(r)->tenure, t->boot, t->opened, t->closed, what, (r)->opened,           \
		(r)->opened_after, (r)->closed, (r)->closed_after, (r)->released, (r)->pid,        \
		(r)->comm ? (r)->comm : "-", (r)->attribution, (r)->source)

static bool is_person(const struct sim *s, const struct row *r, uint32_t person)
{
	char comm[24];

	snprintf(comm, sizeof(comm), "p%u", (unsigned)person);
	return person != NOBODY && r->pid == s->people[person].pid && r->comm &&
	       streq(r->comm, comm);
}

/* Right, or said to be unknown. */
static void check_holder(struct sim *s, const struct row *r)
{
	const struct tenure *t = &s->tenures[r->tenure];

	if (streq(r->attribution, "none")) {
		if (r->pid != NOT_SAID || r->comm)
			SAY(s, r, "nobody is known, and somebody is named");
		return;
	}
	if (streq(r->attribution, "event") && !is_person(s, r, t->opener))
		SAY(s, r, "the wrong opener");
	if (!is_person(s, r, t->opener) && !is_person(s, r, t->heir))
		SAY(s, r, "a wrong holder");
}

/* Bounds are rounded away by less than a millisecond. */
static bool lies_within(int64_t truth, int64_t after, int64_t at)
{
	return after == NOT_SAID ? truth == at : truth >= after && truth <= at;
}

/* By one clock that the boot had: its end, told with the opening's. */
static bool times_fit(const struct tenure *t, const struct row *r, int64_t offset)
{
	bool end_unseen = r->closed != NOT_SAID && r->closed == r->closed_after;

	if (!lies_within((int64_t)t->opened + offset, r->opened_after, r->opened))
		return false;
	if (r->closed == NOT_SAID)
		return true;
	/* it is last known to be there where we looked last, which may be the first of the two sweeps that missed it; where the
	 * word of its end was lost, a gap says so, and nothing else is known */
	if (end_unseen)
		return t->closed == USEC_UNSET || t->end_lost ||
		       r->closed <= (int64_t)t->closed + offset ||
		       (t->missed_at != USEC_UNSET && r->closed <= (int64_t)t->missed_at + offset);
	return t->closed != USEC_UNSET &&
	       lies_within((int64_t)t->closed + offset, r->closed_after, r->closed);
}

static void check_times(struct sim *s, const struct row *r)
{
	const struct tenure *t = &s->tenures[r->tenure];
	bool fits = false;

	for (size_t i = 0; i < s->offset_count && !fits; i++)
		fits = s->offsets[i].boot == t->boot && times_fit(t, r, s->offsets[i].offset);
	if (!fits)
		SAY(s, r, "wrong times");
	if (r->opened_after != NOT_SAID && r->opened_after > r->opened)
		SAY(s, r, "opened before its bound");
	if (r->closed != NOT_SAID && r->closed < r->opened)
		SAY(s, r, "a negative duration");
	if (r->released != NOT_SAID && (r->closed == NOT_SAID || r->released < r->closed))
		SAY(s, r, "released before it was closed");
}

static void check_row(struct sim *s, const struct row *r)
{
	static const char *const protocols[] = {"tcp", "udp"};
	const struct tenure *t = &s->tenures[r->tenure];

	if (r->port != t->port || !streq(r->protocol, protocols[t->protocol]) ||
		r->home == t->abroad)
		SAY(s, r, "another port, protocol or namespace");
	if (t->excused && t->before != NOBODY)
		return; /* it may be told as the one before it, which nobody knows to have ended */
	check_holder(s, r);
	check_times(s, r);
}

/* How often each claim is there. */
static void read_all(struct sim *s, sqlite3 *db, uint8_t found[static TENURES], bool final)
{
	sqlite3_stmt *row = ask(s, db, ROWS);

	while (sqlite3_step(row) == SQLITE_ROW) {
		struct row r = read_row(s, row);
		const struct tenure *t = &s->tenures[r.tenure];

		if (found[r.tenure]++ > 0)
			SAY(s, &r, "there twice");
		check_row(s, &r);
		/* nobody looks where it was, and the word of its end was lost */
		if (final && r.released == NOT_SAID && !(t->abroad && t->end_lost))
			SAY(s, &r, "never ended");
	}
	sqlite3_finalize(row);
}

void prove_answer(struct sim *s)
{
	uint8_t found[TENURES] = {0};
	sqlite3 *db;

	if (!chance(s, 30))
		return;
	db = open_reader(s);
	read_all(s, db, found, false);
	sqlite3_close(db);
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		const struct tenure *t = &s->tenures[i];

		if (t->boot == s->boot && t->told && found[i] == 0)
			wrong(s, "claim %u was told before the question, and is not in the answer",
				(unsigned)i);
	}
}

/* Is there a gap (or a stretch of coverage) like that? `sql` has two parameters: a beginning and an end. */
static bool is_among(sqlite3_stmt *row, int64_t from, int64_t until)
{
	bool there;

	sqlite3_bind_int64(row, 1, from);
	sqlite3_bind_int64(row, 2, until);
	there = sqlite3_step(row) == SQLITE_ROW;
	sqlite3_reset(row);
	return there;
}

/* Of a claim that is nowhere: by any clock, does it meet a gap? */
static bool meets(struct sim *s, const struct tenure *t, sqlite3_stmt *row)
{
	for (size_t i = 0; i < s->offset_count; i++)
		if (s->offsets[i].boot == t->boot &&
			is_among(row, (int64_t)t->opened + s->offsets[i].offset,
				(int64_t)t->closed + s->offsets[i].offset))
			return true;
	return false;
}

#define MEETS_GAP  "SELECT 1 FROM gap WHERE from_usec<=?2 AND until_usec>=?1"
#define MEETS_LOSS MEETS_GAP " AND reason='events-lost'"
#define IN_STRETCH "SELECT 1 FROM coverage c WHERE c.from_usec<?1 AND " SQL_WATCHED_UNTIL ">?2"
/* of a time in which nobody was there: as a whole */
#define OVER_GAP "SELECT 1 FROM gap WHERE from_usec<=?1 AND until_usec>=?2 AND lost IS NULL"

struct lookups {
	sqlite3_stmt *gap, *loss, *stretch;
};

static void check_missing(struct sim *s, uint32_t i, const struct lookups *q)
{
	struct tenure *t = &s->tenures[i];
	bool in_gap = meets(s, t, q->gap);

	if (t->committed)
		wrong(s, "claim %u was committed (durable %d), and is gone", (unsigned)i,
			t->durable);
	/* a ring of which nothing was stored may have lost it before the session began: then nobody had watched, as a gap or the
	 * stretches say; with a clock that was set, a stretch cannot be told from another */
	if (t->lost && !t->excused && !meets(s, t, q->loss) && !in_gap && !s->steps &&
		meets(s, t, q->stretch))
		wrong(s, "claim %u was lost, and in no gap", (unsigned)i);
	if (t->lost && !t->excused)
		return;
	s->count.excused++;
	if (!s->events && !t->ever_told)
		return; /* no sweep has shown it */
	if (s->events && !t->excused && t->in_ring)
		wrong(s, "claim %u was in the ring, and is nowhere", (unsigned)i);
	/* with a clock that was set, a stretch cannot be told from another */
	if (!in_gap && !s->steps && meets(s, t, q->stretch))
		wrong(s,
			"claim %u (boot %u, %" PRIu64 " to %" PRIu64
			") is missing where it was watched",
			(unsigned)i, t->boot, t->opened, t->closed);
}

static void check_claims(struct sim *s, sqlite3 *db)
{
	uint8_t found[TENURES] = {0};
	struct lookups q = {
		.gap = ask(s, db, MEETS_GAP),
		.loss = ask(s, db, MEETS_LOSS),
		.stretch = ask(s, db, IN_STRETCH),
	};

	read_all(s, db, found, true);
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		const struct tenure *t = &s->tenures[i];

		s->count.recorded += found[i];
		if (found[i] == 0)
			check_missing(s, i, &q);
		else if (t->lost)
			s->count.overcounted++; /* a sweep has shown it */
		s->count.lost += found[i] == 0 && t->lost && !t->excused;
	}
	sqlite3_finalize(q.gap);
	sqlite3_finalize(q.loss);
	sqlite3_finalize(q.stretch);
}

static void check_lost(struct sim *s, sqlite3 *db)
{
	int64_t lost =
		number(s, db, "SELECT ifnull(sum(lost),0) FROM gap WHERE reason='events-lost'");
	uint64_t least = s->lost_least, most = s->lost_most;

	if (lost < (int64_t)least || lost > (int64_t)most)
		wrong(s, "the gaps have %" PRId64 " lost claims, it were %" PRIu64 " to %" PRIu64,
			lost, least, most);
}

/* Each by its own length. */
static void check_steps(struct sim *s, sqlite3 *db)
{
	if (number(s, db, "SELECT count(*)-count(DISTINCT by_usec) FROM clock_step") != 0)
		wrong(s, "that the clock was set is there twice");
}

static void check_absences(struct sim *s, sqlite3 *db)
{
	sqlite3_stmt *row = ask(s, db, OVER_GAP);

	for (size_t i = 0; i < s->absence_count && !s->steps; i++) {
		const struct absence *a = &s->absences[i];

		if (a->until != USEC_UNSET && !is_among(row, (int64_t)a->from, (int64_t)a->until))
			wrong(s,
				"nobody watched from %" PRIu64 " to %" PRIu64
				", and no gap says so",
				a->from, a->until);
	}
	sqlite3_finalize(row);
}

void prove_all(struct sim *s)
{
	sqlite3 *db = open_reader(s);
	sqlite3_stmt *row = ask(s, db, "PRAGMA integrity_check");

	if (sqlite3_step(row) != SQLITE_ROW ||
		!streq((const char *)sqlite3_column_text(row, 0), "ok"))
		wrong(s, "integrity_check: %s", (const char *)sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	if (number(s, db, "SELECT count(*) FROM gap WHERE until_usec<from_usec") != 0 ||
		number(s, db, "SELECT count(*) FROM coverage WHERE until_usec<from_usec") != 0)
		wrong(s, "a stretch or a gap that ends before it begins");
	check_claims(s, db);
	check_lost(s, db);
	check_steps(s, db);
	check_absences(s, db);
	sqlite3_close(db);
}
