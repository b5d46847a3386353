/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the store share, and their tests; nobody else. */

#include <sqlite3.h>
#include <sys/stat.h>

#include "common/siphash.h"
#include "daemon/ledger/store.h"

/* The files in the state directory, beside the database (SCHEMA_FILE). */
#define LOCK_FILE      "lock"
#define HEARTBEAT_FILE "heartbeat"

/* Every statement of the store; its text is in the one table of sql.c. */
enum statement {
	STATEMENT_BEGIN,
	STATEMENT_COMMIT,
	STATEMENT_PAGES,
	STATEMENT_FREE_PAGES,
	STATEMENT_COUNTER_GET,
	STATEMENT_COUNTER_SET,
	STATEMENT_HIGHEST_CLAIM,
	STATEMENT_HOT_BOUNDS,
	STATEMENT_HOT_FIRST,
	STATEMENT_SESSION_NEWEST,
	STATEMENT_SESSION_BEFORE,
	STATEMENT_SESSION_HOW,
	STATEMENT_SESSION_ADD,
	STATEMENT_SESSION_SEEN,
	STATEMENT_SESSION_RING,
	STATEMENT_RING_BEFORE,
	STATEMENT_SESSION_CLEAN,
	STATEMENT_COVERAGE_ADD,
	STATEMENT_COVERAGE_EXTEND,
	STATEMENT_COVERAGE_SETTLE,
	STATEMENT_GAP_ADD,
	STATEMENT_CLOCK_STEP_ADD,
	STATEMENT_FAILURE_ADD,
	STATEMENT_FAILURE_BOUNDS,
	STATEMENT_FAILURE_NEWEST,
	STATEMENT_FAILURE_DROP,
	STATEMENT_LEFT_OUT_ADD,
	STATEMENT_LEFT_OUT_DROP,
	STATEMENT_PROCESS_SEEN,
	STATEMENT_NETNS_FIND,
	STATEMENT_NETNS_ADD,
	STATEMENT_NETNS_SET,
	STATEMENT_LOCAL_FIND,
	STATEMENT_LOCAL_ADD,
	STATEMENT_APP_FIND,
	STATEMENT_APP_ADD,
	STATEMENT_PROCESS_ADD,
	STATEMENT_HOLDER_PUT,
	STATEMENT_OPEN_SET,
	STATEMENT_OPEN_ADD,
	STATEMENT_OPEN_DROP,
	STATEMENT_HOT_ADD,
	STATEMENT_ADOPT_CLOSE,
	STATEMENT_ADOPT_DROP,
	STATEMENT_ADOPT_LIST,
	STATEMENT_ADOPT_HOLDERS,
	STATEMENT_ADOPT_PROCESS,
	STATEMENT_HOT_OLDEST,
	STATEMENT_SEGMENT_NEXT,
	STATEMENT_SEGMENT_ADD,
	STATEMENT_SEAL_LIST,
	STATEMENT_SEAL_ROW,
	STATEMENT_SEAL_LONG,
	STATEMENT_COALESCED_ADD,
	STATEMENT_SEAL_SEEN,
	STATEMENT_SEAL_SEEN_HOLDERS,
	STATEMENT_SEAL_DROP,
	STATEMENT_SEAL_DROP_ALL,
	STATEMENT_MARK_ADD,
	STATEMENT_MARK_DROP,
	STATEMENT_MARK_DROP_APART,
	STATEMENT_ROLLUP_CREDIT,
	STATEMENT_ROLLUP_APP,
	STATEMENT_ROLLUP_NETNS,
	STATEMENT_ROLLUP_HOUR_GET,
	STATEMENT_ROLLUP_HOUR_PUT,
	STATEMENT_ROLLUP_HOUR_FROM,
	STATEMENT_ROLLUP_HOURS_OF_DAY,
	STATEMENT_ROLLUP_HOUR_LAST,
	STATEMENT_ROLLUP_HOUR_DROP,
	STATEMENT_ROLLUP_DAY_GET,
	STATEMENT_ROLLUP_DAY_PUT,
	STATEMENT_ROLLUP_DAY_LAST,
	STATEMENT_ROLLUP_DAY_DROP,
	STATEMENT_PROCESS_UID,
	STATEMENT_USER_ADD,
	STATEMENT_USER_MOST,
	STATEMENT_USER_OLDEST,
	STATEMENT_USER_DROP_HOLDERS,
	STATEMENT_USER_DROP_ROWS,
	STATEMENT_USER_COALESCED,
	STATEMENT_USER_DROP_COALESCED,
	STATEMENT_USER_DROP,
	STATEMENT_SEGMENT_LESS,
	STATEMENT_SEGMENT_DROP_EMPTY,
	STATEMENT_SEGMENT_DROP_USERS,
	STATEMENT_GAP_EXTEND,
	STATEMENT_SEGMENT_EXPIRED,
	STATEMENT_SEGMENT_OLDEST,
	STATEMENT_SEGMENT_DROP_HOLDERS,
	STATEMENT_SEGMENT_DROP_ROWS,
	STATEMENT_SEGMENT_DROP_COALESCED,
	STATEMENT_SEGMENT_DROP,
	STATEMENT_LONG_DROP_HOLDERS,
	STATEMENT_LONG_DROP,
	STATEMENT_REMOTES_DUE,
	STATEMENT_REMOTES_SEGMENT,
	STATEMENT_REMOTES_ROWS,
	STATEMENT_REMOTES_COALESCED,
	STATEMENT_REMOTES_DONE,
	STATEMENT_REMOTES_LONG,
	STATEMENT_REMOTES_FAILURES,
	STATEMENT_COVERAGE_DROP,
	STATEMENT_GAP_DROP,
	STATEMENT_CLOCK_STEP_DROP,
	STATEMENT_SESSION_DROP,
	STATEMENT_PROCESS_HIGHEST,
	STATEMENT_PROCESS_DROP,
	STATEMENT_APP_DROP,
	STATEMENT_LOCAL_DROP,
	STATEMENT_NETNS_DROP,
	STATEMENT_KNOWN_LIST,
	STATEMENT_KNOWN_PORTS,
	STATEMENT_KNOWN_ADD,
	STATEMENT_NEWS_ADD,
	STATEMENT_NEWS_DROP,
	STATEMENT_COUNT,
};

/* Names in the table `counter`. */
#define COUNTER_NEXT_CLAIM       "next_claim"
#define COUNTER_NEXT_HOT         "next_hot"
#define COUNTER_HOT_FROM         "hot_from_usec"
#define COUNTER_SEGMENT_USEC     "segment_usec"
#define COUNTER_COMMITS          "commits" /* that had nothing else to write */
#define COUNTER_EXPIRED_UNTIL    "expired_until_usec"
#define COUNTER_KNOWN_KEY_0      "known_key_0"
#define COUNTER_KNOWN_KEY_1      "known_key_1"
#define COUNTER_KNOWN_SINCE      "known_since_usec"
#define COUNTER_DAYS_ROLLED      "days_rolled_until_usec"
#define COUNTER_HOURS_FROM       "rollup_hours_from_usec"
#define COUNTER_DAYS_FROM        "rollup_days_from_usec"
#define COUNTER_FAILURES_EXPIRED "failures_expired_usec"
#define COUNTER_REMOTES_UNTIL    "remotes_until_usec"

/* A bounded map from a key (bytes) to the id of a row. See intern.c. */
struct intern {
	struct intern_entry *by_key, *by_id; /* uthash heads */
	size_t bytes;                        /* of all entries; at most LIMIT_INTERN_BYTES */
};

/* What a transaction may change in memory, and a rollback puts back. */
struct store_state {
	uint64_t first_hot, next_hot; /* claim_hot holds the ids [first_hot, next_hot) */
	usec_t hot_from;              /* nothing in claim_hot was released before it */
	usec_t segment_usec;          /* no segment has releases of a longer time */
	int64_t coverage;             /* row of the present stretch; 0: none yet */
	struct now seen;              /* the session's last_seen */
	struct drained ring;          /* generation 0: none */
	bool ring_moved;              /* since it was written */
	uint64_t recorded, sealed;    /* for store_stats */
	usec_t expired_until;         /* the counter of this name */
	uint64_t claims_reserved; /* the counter next_claim: numbers below it are not given again */
	uint64_t highest_open;    /* no claim in claim_open has a higher number */
	usec_t process_margin;    /* as long as PROCESS_SEGMENTS take, about; at most a day */
	int64_t long_port;    /* next port of the running round over claim_long; -1: none runs */
	int64_t process_next; /* next id of the endless round over `process` */
	bool process_due;     /* a part of that round is due */
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENT_COUNT];
	int lock_fd, heartbeat_fd;
	uint8_t boot_id[BOOT_ID_BYTES];
	int64_t session;
	struct settings settings;

	dev_t device; /* of the file that is open */
	ino_t inode;
	uint64_t page_bytes;
	bool in_transaction;
	bool full;    /* PRAGMA synchronous is FULL, else NORMAL */
	bool durable; /* all that is committed is on the disk */
	/* counts up with each transaction, so that what was interned in a failed one is known */
	uint64_t transaction;
	uint64_t epoch; /* of process->store_id: ids of another epoch may be stale */
	struct store_state state, committed;
	uint64_t next_claim; /* never goes back: numbers are handed out before they are stored */
	uint64_t commits;    /* in this session */
	uint64_t commits_before; /* what the counter of that name had when it began */

	struct intern apps, processes, locals, netns;

	uint64_t wal_frames;    /* in the WAL, after the last commit */
	uint64_t checkpoint_at; /* frames in the WAL at which the next checkpoint is due */
	usec_t checkpoint_next; /* boottime by which it is due in any case */
	bool wal_dirty;         /* something was committed since the last complete checkpoint */
	bool accepted;          /* a session has it: closing it may move the WAL */
	bool wal_doubtful; /* an fsync of it may have failed: what it says is on the disk may not be */
	struct now age;    /* when the clock that makes old was last believed, and what it said */
	usec_t leapt_boot;    /* boottime at which it was seen to have leapt ahead; 0: it has not */
	usec_t tail_next;     /* boottime at which the next round over what has no segment is due */
	bool last_resort;     /* the database is too large, and no segment is left to drop */
	uint64_t max_pages;   /* hard limit, in force as PRAGMA max_page_count */
	bool maintain_failed; /* the last step failed: only store_maintain() tries again */
};

/* sql.c: statements and result codes. */

/* 0 for SQLITE_OK, ROW and DONE, else the negative errno of store.h. */
int sql_error(struct store *s, int code);
/* Runs statements that are not in the table. */
int sql_exec(struct store *s, const char *sql) _must_check_;
/* Ends a transaction without a commit; nothing where none is open. */
void sql_rollback(struct store *s);
/* Prepares the table of statements; finalises it. */
int sql_prepare(struct store *s) _must_check_;
void sql_done(struct store *s);

/* Values are bound in order, from the first parameter on. A bound text or blob must outlive the step. */
struct binder {
	sqlite3_stmt *statement;
	int next;
};
struct binder sql_bind(struct store *s, enum statement which);
void bind_int(struct binder *b, int64_t value);
void bind_unsigned(struct binder *b, uint64_t value); /* as the same 64 bits */
void bind_time(struct binder *b, usec_t value);       /* USEC_UNSET: NULL */
void bind_null(struct binder *b);
void bind_text(struct binder *b, const char *text); /* NULL: NULL */
void bind_blob(struct binder *b, const void *data, size_t size);

/* Runs a statement to its end and resets it. Rows are an error of ours. */
int sql_run(struct store *s, enum statement which) _must_check_;
/* 1: there is a row, until the caller resets; 0: no more rows (it was reset); or an error (it was reset). */
int sql_step(struct store *s, enum statement which) _must_check_;
/* The first column of the first row, `otherwise` where there is none (or it is NULL). */
int sql_value(struct store *s, enum statement which, int64_t otherwise, int64_t *ret) _must_check_;
void sql_reset(struct store *s, enum statement which);

/* files.c: what lies beside the database, and the directory. */

/* Takes DIR/lock for as long as *ret_fd is open. Errors as store_open(). */
int files_lock(int dir_fd, int *ret_fd, int32_t *ret_holder_pid) _must_check_;
/* store_aside.c: moves the WAL of a database that was set aside, where whoever did that was killed before. Under the lock, before DIR's
 * database is opened or made. 0 or a negative errno. */
int aside_finish(int dir_fd) _must_check_;
/* Opens a file for reading and writing, makes it (0640) where it is not there. *ret_made may be NULL.
 * -EUCLEAN: it is no regular file. */
int files_open(int dir_fd, const char *name, int *ret_fd, bool *ret_made) _must_check_;
/* The path of the database, as SQLite needs it. The caller frees it. */
int files_database_path(int dir_fd, char **ret) _must_check_;

/* What DIR/heartbeat says: that session was alive and had stored everything up to `seen`. */
struct heartbeat {
	uint8_t boot_id[BOOT_ID_BYTES];
	int64_t session;
	struct now seen;
};
/* 1: *ret is set; 0: there is none that can be read. */
int heartbeat_read(int fd, struct heartbeat *ret) _must_check_;
int heartbeat_write(int fd, const struct heartbeat *h) _must_check_;

/* schema.c */

/* A step from version `from` (0: an empty file) to `version`, which is higher. */
struct schema_step {
	int from, version;
	const char *sql;
};
/* The application and version of the database as SQLite would see it, without touching it. 0: ours, or blank and
 * so ours to make; -EPROTO; -EUCLEAN; another error of read(2). */
int schema_check(int dir_fd) _must_check_;
/* Takes the database through the steps that it has not seen each in one transaction. */
int schema_migrate(struct store *s, const struct schema_step steps[], size_t count) _must_check_;
/* schema_pack.c: the function that the step to version 10 needs, there or not. */
int schema_packing(struct store *s, bool on) _must_check_;
extern const struct schema_step schema_steps[];
extern const size_t schema_step_count;

/* intern.c: ids of the rows that claims refer to. 0 or a negative errno; the row is made where it is missing. */

/* `when`: wall time of the claim that needs it. `p` may be NULL (*ret 0). */
int intern_process(struct store *s, struct process *p, usec_t when, int64_t *ret) _must_check_;
int intern_local(
	struct store *s, uint64_t netns_cookie, const struct address *a, int64_t *ret) _must_check_;
int intern_netns(
	struct store *s, uint64_t cookie, const struct netns *told, int64_t *ret) _must_check_;
/* A process that was read from the database; remembers its row. Cannot fail: it is only a cache. */
void intern_know_process(struct store *s, struct process *p, int64_t app, int64_t id);
/* Forgets what the present transaction made. */
void intern_rollback(struct store *s);
/* Forgets a row that was deleted. */
void intern_forget(struct intern *i, int64_t id);
void intern_done(struct intern *i);

/* store.c: transactions. */

/* After an error: nothing of the transaction stays. Returns `error`. */
int store_fail(struct store *s, int error);
/* Ends a transaction of the store's own housekeeping. */
int store_commit_step(struct store *s) _must_check_;
/* Writes the end of the present stretch, which goes as far as the session has seen. */
int store_settle_coverage(struct store *s) _must_check_;
int store_counter_set(struct store *s, const char *name, uint64_t value) _must_check_;
int store_counter_get(
	struct store *s, const char *name, uint64_t otherwise, uint64_t *ret) _must_check_;

/* One bounded step of each kind. 1: something was done (there may be more); 0: nothing is due. */
int seal_step(struct store *s, struct now now) _must_check_;
int retention_step(struct store *s, struct now now) _must_check_;
/* The part of it that frees pages now: drops the oldest while the database is larger than it may be. */
int retention_room_step(struct store *s, struct now now) _must_check_;
/* The time by which rows are old: the wall clock, but a leap ahead counts only after a day. */
usec_t retention_wall(struct store *s, struct now now);
int maintain_step(struct store *s, struct now now) _must_check_; /* all of them, and checkpoints */
uint64_t maintain_wal_bytes(const struct store *s);
/* Writes the WAL once more as it is, where it is doubtful, so that an fsync means all of it. Not while a transaction has written. */
int maintain_renew_wal(struct store *s) _must_check_;

/* retention_remotes.c: what is left of old claims' remote addresses. A bounded step, as above. */
int remotes_step(struct store *s, struct now now) _must_check_;
/* How old the oldest unsealed claim may become. */
usec_t remotes_seal_age(const struct store *s);

/* store_forget.c: erases rows and their bytes. As store_forget(). */
int forget_rows(struct store *s, const struct forget *what, uint64_t *ret_rows) _must_check_;

/* Coalesced claims take so much less than others: as many count as one in their user's share (decision 0032). */
#define COALESCED_OF_ROW 20

/* rows.c: a gap, in a transaction. rows_extend_gap(): adds to the last one of this reason, where that touches and then is no longer
 * than `most`. 1: it did; 0: there is none. */
int rows_extend_gap(struct store *s, usec_t from_wall, usec_t until_wall, const char *reason,
	uint64_t lost, usec_t most) _must_check_;
int rows_add_gap(struct store *s, usec_t from_wall, usec_t until_wall, const char *reason,
	uint64_t lost) _must_check_;

/* retention_share.c: how much one user's claims may take. */

/* Counts a new segment's rows by user. `processes` are of its rows (NULL as no id), and are put in another order. */
int share_count(struct store *s, int64_t segment, int64_t processes[], size_t count) _must_check_;
/* 1: *ret_uid has more than its share; 0: nobody has. */
int share_find(struct store *s, int64_t *ret_uid) _must_check_;
/* Drops what this user has in the oldest segment that has any of it. */
int share_evict(struct store *s, int64_t uid) _must_check_;

/* seal_rollup.c: what programs opened, per hour and per day. */

/* A claim that is sealed. Times are wall, in microseconds. */
struct rollup_claim {
	int64_t claim, process, meta; /* as in claim_hot; process 0: none */
	int64_t opened, closed, released;
	const uint8_t *raddr; /* borrowed */
	uint8_t raddr_size;   /* 0: none */
	uint16_t port;
	bool holders;
	bool bounded;        /* `closed` is the later bound of its end */
	int64_t began;       /* the earlier bound of `opened`, as far as it counts */
	int64_t seg, number; /* where it is sealed: 0 is claim_long; its `claim` there */
	/* found by rollup_add() */
	bool unattributed, apart;
	int64_t app, netns;
};

/* seal_marks.c: marks those that an audit by rollups has to find. What rollup_add() finds is known. */
int marks_add(struct store *s, const struct rollup_claim claims[], size_t count) _must_check_;
/* Drops the marks of what was released before `before`, and of what is in no table any more. */
int marks_drop(struct store *s, usec_t before) _must_check_;

/* Adds them to the rollups, and makes the days that are over by `last_seen`, the latest release. */
int rollup_add(
	struct store *s, struct rollup_claim claims[], size_t count, usec_t last_seen) _must_check_;

/* The key of the hashes of remote addresses, in rollups and marks. */
int rollup_hash_key(struct store *s, struct siphash_key *ret) _must_check_;

/* Makes the days that were over at `seen`, where no seal has done it for some time. */
int rollup_days(struct store *s, usec_t seen) _must_check_;

/* A checkpoint is due this long after the one before, however small the WAL is. */
#define CHECKPOINT_USEC USEC_PER_HOUR
/* How long a statement waits for someone else's lock. */
#define STORE_BUSY_MSEC 2000

/* A process is noted as seen for so many segments more, so that one which is seen all the time is not written with each: a
 * page for every such process, scattered over the table. */
#define PROCESS_SEGMENTS 16

/* A claim of at least this age in claim_hot is sealed, however few there are. */
#define SEAL_AGE_USEC USEC_PER_DAY
