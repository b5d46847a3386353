/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Questions to the database: read-only, each within one read transaction.
 *
 * Every function but query_new() needs to be between query_begin() and query_end(). Their errors are: -ENOENT (there
 * is no database), -EACCES, -EPROTO (its schema is not this program's), -EUCLEAN (damaged, or no database),
 * -EBUSY, -ETIMEDOUT (past the deadline), -ENOMEM, else -EIO.
 */

#include "common/buf.h"
#include "common/sighting.h"

struct query;

/* The database is opened when it is first needed, and again when its file was replaced. -ENOMEM. */
int query_new(const char *path, struct query **ret) _must_check_;
struct query *query_free(struct query *q);
DEFINE_CLEANUP(struct query, query_free)

/* Starts a read transaction, in which no function may take longer than until `deadline_boot`. */
int query_begin(struct query *q, usec_t deadline_boot) _must_check_;
void query_end(struct query *q);

/* A question ended with -EUCLEAN: the file stays known as damaged until another one is there. True: it was not known. */
bool query_note_damage(struct query *q);
bool query_is_damaged(const struct query *q);

/* Later than any claim, and small enough to be added to. */
#define WALL_FOREVER (UINT64_C(1) << 62)

/* Which claims: all that is given must match. Strings are borrowed, in stored form. */
struct filter {
	uint16_t ports[LIMIT_FILTER_PORTS]; /* host byte order */
	unsigned port_count;                /* 0: any */
	struct port_range range;            /* high 0: any */
	int protocol, role;                 /* enum protocol, enum role; -1: any */
	int64_t uid;                        /* of the opener; -1: any */
	int64_t pid;                        /* of the opener or a further holder; -1: any */
	int64_t peer_port;                  /* -1: any */
	struct address address, peer;       /* FAMILY_NONE: any */
	const char *app;                    /* comm, exe, or the last part of exe; NULL: any */
	const char *unit;
	const char *netns; /* name, or inode number in decimal */
};
#define FILTER_ANY                                                                                 \
	{                                                                                          \
		.protocol = -1, .role = -1, .uid = -1, .pid = -1, .peer_port = -1                  \
	}

/* Does it ask for who opened a claim? Then one without a process does not match. */
bool filter_names_process(const struct filter *f);

/* The kinds of rows a question looks at (daemon/schema.h). */
enum rows_of {
	ROWS_SEG = 1 << 0,
	ROWS_LONG = 1 << 1,
	ROWS_HOT = 1 << 2,
	ROWS_OPEN = 1 << 3,
	ROWS_RELEASED = ROWS_SEG | ROWS_LONG | ROWS_HOT,
	ROWS_ALL = ROWS_RELEASED | ROWS_OPEN,
	ROLLUPS = 1 << 4, /* where they serve, the sums of rows instead: for an audit only */
};

/* Claims whose tenure may touch the window: from the earlier bound of the opening (but what was there before we
 * watched counts from when we saw it) to the release. A bounded release at `from` still touches it. */
struct question {
	struct filter filter;
	struct window window;
	unsigned rows; /* mask of enum rows_of */
};

/* A raw claim row; the members as daemon/schema.h names them. */
enum row_column {
	ROW_CLAIM,
	ROW_HOLDERS,
	ROW_PORT,
	ROW_OPENED_USEC,
	ROW_OPENED_SLACK,
	ROW_CLOSED_USEC,
	ROW_CLOSED_SLACK,
	ROW_RELEASED_USEC,
	ROW_META,
	ROW_RPORT,
	ROW_PROCESS,
	ROW_COLUMNS,
};
#define ROW_NULL INT64_MIN

struct row {
	int64_t column[ROW_COLUMNS]; /* ROW_NULL: null */
	uint8_t raddr[16];           /* network byte order */
	uint8_t raddr_size;          /* 0 (null), 4 or 16 */
};

struct rows {
	struct row *row; /* owned */
	size_t count;
	size_t capacity;
};
void rows_done(struct rows *rows);

/*
 * Where in the order of claims to go on: at the first row whose key is not below this one, `skip` of them left
 * out. The key is what a claim keeps when it is released and when it is sealed.
 */
struct place {
	int64_t opened_usec, port, meta, rport;
	uint8_t raddr[16];
	uint8_t raddr_size;
	uint64_t skip; /* rows with exactly this key that were given already */
};
extern const struct place PLACE_START;

/* Moves the place behind this row, which is the next of the answer. */
void place_pass(struct place *place, const struct row *row);

/* The place from which the newest `limit` (not 0) rows of the question follow. 1: `rows` has got all of them, in their order, as so
 * few (up to LIMIT_PAGE_ROWS) had to be read anyway; 0: they are to be read from there. */
int query_newest(struct query *q, const struct question *question, uint64_t limit,
	struct place *ret, struct rows *rows) _must_check_;

/*
 * Appends at most `max` rows from `place` on, oldest opening first, and moves `place` behind them. Fewer than `max`:
 * there are no more. Costs the segments of the hour that the rows are in, not the history.
 */
int query_rows(struct query *q, const struct question *question, size_t max, struct place *place,
	struct rows *rows) _must_check_;

/* Appends the row as the JSON text of a Claim. */
int query_row_json(struct query *q, const struct row *row, struct buf *out) _must_check_;

/* Where a reader of released claims goes on: at the first row released at `released`, of which `skip` were given. */
struct release_place {
	usec_t released; /* wall */
	uint64_t skip;
};

/* Moves the place behind this row, which is the next of the answer. */
void release_pass(struct release_place *place, const struct row *row);

/* Appends at most `max` claims that match and were released before `until`, from `place` on, in the order of their release, and
 * moves `place` behind them. Fewer than `max`: there are no more, and `place` is `until`. */
int query_released(struct query *q, const struct filter *filter, usec_t until, size_t max,
	struct release_place *place, struct rows *rows) _must_check_;

/* How many claims answer the question; *ret_first is when the first was opened, USEC_UNSET without any. */
int query_count(struct query *q, const struct question *question, uint64_t *ret_count,
	usec_t *ret_first) _must_check_;

/* What an audit counts claims by. */
enum audit_by {
	AUDIT_BY_PROGRAM, /* exe, comm, unit and uid */
	AUDIT_BY_UNIT,
	AUDIT_BY_USER,
	AUDIT_BY_PORT, /* and protocol */
	AUDIT_BY_HOUR, /* of the opening */
	AUDIT_BY_NETNS,
	AUDIT_BY_COUNT,
};

/* A stretch of a window, and what its claims were counted from: by their opening, if that lies in the stretch. */
enum part_from { PART_ROWS, PART_HOURS, PART_DAYS };
#define PARTS_MAX 5
struct parts {
	struct part {
		enum part_from from;
		struct window window;
	} part[PARTS_MAX]; /* in the order of time; together the window */
	unsigned count;
	usec_t apart_from; /* what stands apart is read from rows from here on, and before from the sums */
};

/* Appends the members of a reply to Audit, but for its coverage. *ret_parts (may be NULL) is what it was counted from.
 * -E2BIG: LIMIT_AUDIT_PAIRS. */
int query_audit(struct query *q, const struct question *question, enum audit_by by, struct buf *out,
	struct parts *ret_parts) _must_check_;

/* A window in steps of `length` (not 0), the first of which begins at `origin`, at or before the window's begin. The window
 * cuts the first and the last short. */
struct steps {
	usec_t origin; /* wall */
	usec_t length;
};

/* How many of them a window has. */
size_t steps_count(struct steps steps, struct window window);

/*
 * Appends `"programs":[...],"omitted":..,"claims":..,"before":..,"unattributed":..,"steps":[...],"ports":..,"elsewhere":..,
 * "low":..,"port_claims":[...]`: how many claims each program opened in each step, and how many each port from `low` on
 * had. At most LIMIT_STEPS steps. -E2BIG: LIMIT_ACTIVITY_CELLS.
 */
int query_activity(struct query *q, const struct question *question, struct steps steps,
	uint16_t low, struct buf *out) _must_check_;

/* How far a follower has read: what is open, by claim number; what was released, by the count of releases. */
struct follow_place {
	int64_t claim, released;
};

/* The newest numbers in the database. */
int query_follow_place(struct query *q, struct follow_place *ret) _must_check_;

/*
 * Appends what was released after `*released` and matches, in order, at most `max` rows, and moves `*released`; adds
 * to `*lost` how many went to a segment before they could be read. 1: there is more; 0: no. -ESTALE: this database
 * counts lower, it was replaced.
 */
int query_released_after(struct query *q, const struct filter *filter, size_t max,
	int64_t *released, uint64_t *lost, struct rows *rows) _must_check_;

/* Appends what is open, has a number in (`*claim`, `last`] and matches, at most `max` rows, and moves `*claim`.
 * 1: there is more; 0: no, `*claim` is `last`. */
int query_open_after(struct query *q, const struct filter *filter, size_t max, int64_t last,
	int64_t *claim, struct rows *rows) _must_check_;

/* A claim without a process that may get one yet: it is not a socket of the kernel's. */
bool row_is_unattributed(const struct row *row);

/* Appends the newest `max` of what is open, has a number in (`after`, `last`], is unattributed, and would match if it had the right
 * process; the newest first. */
int query_unattributed_after(struct query *q, const struct filter *filter, size_t max,
	int64_t after, int64_t last, struct rows *rows) _must_check_;

/* Which of these claims are open and unattributed still, in the order of their numbers: into `ret`, which has room for `count`. */
int query_still_unattributed(struct query *q, const int64_t *claims, size_t count, int64_t *ret,
	size_t *ret_count) _must_check_;

/* Appends those of these claims that are open and match, in the order of their numbers. */
int query_open_among(struct query *q, const struct filter *filter, const int64_t *claims,
	size_t count, struct rows *rows) _must_check_;

/* The newest number of what was announced as new; 0: nothing was. */
int query_news_place(struct query *q, int64_t *ret) _must_check_;

/*
 * What was announced after `*news`: the first one whose claim matches, into `rows` (one row), and moves `*news`. *ret_program: it is a
 * program that was first seen, else a listener. Adds to `*lost` what is not kept any more, or whose claim went to a segment. 1: there
 * may be more, also where `rows` got none; 0: no. -ESTALE as above.
 */
int query_news_after(struct query *q, const struct filter *filter, int64_t *news, uint64_t *lost,
	bool *ret_program, struct rows *rows) _must_check_;

/* What the database says of how it came to be. */
struct query_state {
	bool session;     /* the daemon has run at all */
	usec_t last_seen; /* wall; all up to here is stored */
	bool covered;     /* `coverage` is the latest stretch */
	struct coverage coverage;
	usec_t oldest; /* wall; from here on there is history. USEC_UNSET: none */
	uint64_t open_claims, unattributed; /* kernel sockets apart */
};
int query_state(struct query *q, struct query_state *ret) _must_check_;

/* How many ports of the range open claims of a namespace are on, by protocol. `netns`: inode number; 0: whichever. */
int query_used(struct query *q, uint64_t netns, struct port_range range,
	uint64_t ret[static PROTOCOL_COUNT]) _must_check_;

/* Gaps that touch the window: how many, how long in all, and the reason of the latest (owned by the caller). */
int query_gaps(struct query *q, struct window window, uint64_t *ret_count, usec_t *ret_total,
	char **ret_reason) _must_check_;
