/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The store: the SQLite history, its only writer. `store.c` owns connection, lock, transactions and statements;
 * `seal.c` sorts closed claims into segments; `retention.c` drops the oldest; `schema.c` makes and migrates.
 * SQLite's result codes are translated here: -ENOSPC (SQLITE_FULL), -EIO, -EROFS, -EBUSY, -EUCLEAN (corrupt or
 * not a database), -EPROTO (schema newer than this program, or another application's), -ENOMEM, else -EIO.
 */

#include "common/sighting.h"

struct store;

/* What an earlier session left. */
struct store_session {
	bool known;     /* there was an earlier session */
	bool same_boot; /* of this boot: cookies still mean the same sockets */
	bool clean;     /* it stopped in order */
	/* all up to here is stored; the later of database and heartbeat */
	usec_t last_seen_boot, last_seen_wall;
	/* how it watched then; the interval, the ephemeral range and foreign_processes are 0 */
	struct coverage how;
	uint64_t generation; /* of the ring that recorded then; 0: none */
	/* of this boot: what is stored of the events' ring, by whatever session; generation 0: nothing */
	struct drained ring;
};

/* A bind or connect that failed. The references are borrowed. */
struct store_failure {
	usec_t at_wall;
	struct failure failure;  /* but for `process` and `at` */
	struct process *process; /* NULL: not known */
	bool held;               /* somebody had the port, of whose claim the rest is */
	struct process *holder;  /* NULL: not known */
	usec_t holder_opened_wall;
	uint8_t holder_role, holder_attribution;
	struct endpoint holder_remote; /* kept of a bind; FAMILY_NONE: it had none */
};

/*
 * Opens or makes DIR/portledger.db, DIR/lock and DIR/heartbeat (modes 0640; umask is not trusted), takes the OFD
 * lock first, migrates, and starts a session. -EAGAIN: another daemon holds the lock (*ret_holder_pid says which,
 * 0 if it cannot be told); -EPROTO: schema newer or foreign, the file is untouched; else as above.
 */
int store_open(int dir_fd, const uint8_t boot_id[BOOT_ID_BYTES], struct now now,
	const char *version, struct store **ret, struct store_session *ret_before,
	int32_t *ret_holder_pid) _must_check_;

/* What is to be erased: a user's rows, those of a window, or a user's in a window. */
struct forget {
	bool user; /* `uid` counts */
	uint32_t uid;
	usec_t from, until; /* what touches [from, until); 0 and USEC_UNSET: all time */
};

/*
 * Erases that from DIR/portledger.db, under the lock, with no session of its own; the bytes are gone from the file and its WAL when
 * it returns. *ret_rows: how many rows went. A gap "forgotten" stays over the time of what went. -ENOENT: there is no database;
 * -EBUSY: somebody reads it, the rows went and their bytes may be there until it is done again; else as store_open().
 */
int store_forget(int dir_fd, const struct forget *what, uint64_t *ret_rows,
	int32_t *ret_holder_pid) _must_check_;

/*
 * The database of DIR is damaged (store_open() or a commit said -EUCLEAN) and nobody has it open here any more: renames it,
 * with its -wal, to portledger.db.damaged-N, under the lock. Whoever is killed in between, the next store_open() goes on. 0: *ret_number is the first free N; -EEXIST: all up to
 * LIMIT_SET_ASIDE are taken, nothing was done; else as store_open().
 */
int store_set_aside(int dir_fd, unsigned *ret_number, int32_t *ret_holder_pid) _must_check_;
/* How many there are. */
unsigned store_count_aside(int dir_fd);

/* Is what is open here still DIR/portledger.db? Where that cannot be told, it is. */
bool store_is_there(const struct store *s, int dir_fd);

/* Ends without a commit (what is not committed is lost). See store_stop for a clean end. */
struct store *store_free(struct store *s);
DEFINE_CLEANUP(struct store, store_free)

/* The open claims of earlier sessions, oldest first; `take` takes over what the claim owns. Those of another boot
 * are not handed out but closed as end_unseen at their session's last_seen, in a transaction of its own: call it
 * before anything is put. The first result of `take` that is not 0 ends it and is returned; that claim stays the
 * store's, the rest stays in the database. */
int store_adopt(struct store *s, int (*take)(void *context, struct claim *claim),
	void *context) _must_check_;

/* Numbers a new claim (claim->id). Never fails. */
void store_number(struct store *s, struct claim *claim);

/*
 * All writing is inside one transaction that the first of these opens and store_commit() ends. After an error of any
 * of them (store_commit too) nothing of the transaction is in the database, it is rolled back already: the caller
 * keeps what it has and puts all of it again. store_rollback() is for giving up without an error.
 *
 * A new stretch of coverage is the present one from then on: a commit moves only its end. If the one before is to
 * end later than the last commit, commit first.
 */
int store_begin(struct store *s) _must_check_; /* no-op inside one */
/* As store_begin, for a transaction that a question waits for: store_commit(durable = false) will end it, and needs
 * no fsync. Of a transaction that began otherwise every commit is durable: SQLite takes the choice only here. */
int store_begin_question(struct store *s) _must_check_;
/* Inserts or updates in claim_open. */
int store_put_open(struct store *s, struct claim *claim) _must_check_;
/* From claim_open, if it is there, to claim_hot. */
int store_put_released(struct store *s, struct claim *claim) _must_check_;
/* Begins a new stretch. */
int store_put_coverage(struct store *s, const struct coverage *c, usec_t from_wall) _must_check_;
int store_put_gap(struct store *s, usec_t from_wall, usec_t until_wall, const char *reason,
	uint64_t lost) _must_check_;
int store_put_clock_step(struct store *s, usec_t at_wall, int64_t by_usec) _must_check_;
/* What is not known any more (a name, a range) stays as it was. */
int store_put_netns(struct store *s, const struct netns *n) _must_check_;
int store_put_failure(struct store *s, const struct store_failure *f) _must_check_;
int store_put_failures_left_out(
	struct store *s, usec_t from_wall, usec_t until_wall, uint64_t count) _must_check_;
/* What the ring has told is in this transaction: it is stored when that is committed. */
void store_ring(struct store *s, const struct drained *ring);

/*
 * Commits. `until` is the beginning of the last whole sweep: all that happened before is in this transaction; the
 * session's and the stretch's end move there. `durable`: fsync (a timer's commit); a question's commit needs none,
 * since another process sees a WAL commit at once. Seals, checkpoints and prunes a bounded step when that is due.
 */
int store_commit(struct store *s, struct now until, bool durable) _must_check_;
void store_rollback(struct store *s);

/* Nothing happened since the last durable commit, and we are alive: moves the heartbeat file. It does not move while
 * something is not durable yet: it must never say more than a power cut leaves. */
int store_heartbeat(struct store *s, struct now until) _must_check_;

/* The last commit of a clean stop: durable, session marked clean, WAL checkpointed but kept on disk. */
int store_stop(struct store *s, struct now until) _must_check_;

void store_settings(struct store *s, const struct settings *settings);

/* One bounded step of sealing, retention and checkpoint; for a timer. 1: there is more to do, 0: no (or a transaction
 * is open, which it does not touch); an error is that of a step which is tried again next time. */
int store_maintain(struct store *s, struct now now) _must_check_;

struct store_stats {
	uint64_t commits;
	uint64_t recorded; /* claims stored since this session began */
	uint64_t sealed_segments;
	uint64_t wal_bytes;
};
struct store_stats store_stats(const struct store *s);
