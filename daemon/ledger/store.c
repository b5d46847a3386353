/* SPDX-License-Identifier: MIT */

/*
 * The connection: lock, opening, transactions, sessions and their end.
 *
 * Everything is inside a transaction, and an error of any statement rolls it back at once: SQLite does so by itself
 * for some errors (a full disk) and not for others (a constraint), and after its own rollback each further statement
 * would silently be a transaction of its own. So "after an error nothing of it is in the database" holds by
 * construction, and what a transaction changed in memory (struct store_state, the maps) goes back with it.
 *
 * Durability. The database is in WAL mode: with synchronous=NORMAL a commit is seen by every other process at once
 * and survives our own death, with FULL it also survives a power cut, for an fsync. SQLite takes the setting only
 * outside of a transaction, hence store_begin_question() beside store_begin(). An fsync makes all earlier frames of
 * the WAL durable too, but only a commit that writes something does one; therefore the first durable commit after
 * others counts up a counter, over all sessions: a value that is there already is not written.
 *
 * auto-checkpoint is off because it hides the errors of fsync (measured: 251 of them behind 300 good commits); ours
 * are in maintain.c. PERSIST_WAL keeps -wal and -shm after a clean stop: without them a reader that may not write
 * to the directory cannot open the database at all.
 */

#include "daemon/ledger/store_private.h"

#include <fcntl.h>
#include <stdio.h>

#include "daemon/schema.h"

/* What holds until store_settings() says otherwise. */
#define DEFAULT_MAX_AGE_USEC (30 * USEC_PER_DAY)
#define DEFAULT_MAX_BYTES    (UINT64_C(2) << 30)

#define CLAIMS_RESERVED 4096
/* A database that counts further than this was not counted up: from here on there is room enough for ever. */
#define NUMBER_MAX (UINT64_C(1) << 62)
/* Past max_bytes the database may still grow by an eighth, and by 16 MiB: retention is paced. Then comes -ENOSPC,
 * under which deleting goes on working, as it would not on a disk that is full. */
#define SPARE_BYTES(max) MAX((max) / 8, UINT64_C(16) << 20)

static const char pragmas[] =
	/* of a new database; without effect on one that has tables */
	"PRAGMA page_size=2048; PRAGMA auto_vacuum=INCREMENTAL;"
	"PRAGMA journal_mode=WAL; PRAGMA journal_size_limit=16777216; PRAGMA wal_autocheckpoint=0;"
	"PRAGMA synchronous=FULL; PRAGMA cache_size=-8192; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;"
	/* Deleted claims are not overwritten with zeros, unless addresses are to go: it costs a fifth of all writing. Who may read the file may
	 * read what retention dropped until its pages are used again; portledgerd(8) says so. */
	"PRAGMA secure_delete=OFF;"
	/* The file may have been made by someone else. */
	"PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=OFF;";

static int on_wal_commit(void *context, sqlite3 *db, const char *name, int frames)
{
	struct store *s = context;

	(void)db;
	(void)name;
	if ((uint64_t)frames < s->wal_frames) /* the WAL began anew */
		s->checkpoint_at = 0;
	s->wal_frames = (uint64_t)frames;
	s->wal_dirty = true;
	return SQLITE_OK;
}

/* A database keeps the size that it was made with. */
static int read_page_bytes(struct store *s)
{
	sqlite3_stmt *statement = NULL;
	int r, code = sqlite3_prepare_v2(s->db, "PRAGMA page_size", -1, &statement, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		s->page_bytes = (uint64_t)sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	r = sql_error(s, code);
	assert(r < 0 || s->page_bytes > 0);
	return r;
}

/* SQLite says by the mode alone that this file system has no shared memory for a WAL. */
static int check_wal_mode(struct store *s)
{
	sqlite3_stmt *statement = NULL;
	bool wal = false;
	int code = sqlite3_prepare_v2(s->db, "PRAGMA journal_mode", -1, &statement, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		wal = streq((const char *)sqlite3_column_text(statement, 0), "wal");
	sqlite3_finalize(statement);
	return code == SQLITE_ROW && !wal ? -EIO : sql_error(s, code);
}

static int open_connection(struct store *s, int dir_fd)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_PRIVATECACHE |
			  SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOMUTEX;
	_cleanup_(free_p) char *path = NULL;
	_cleanup_(close_p) int fd = -1;
	struct stat st;
	bool made;
	int keep = 1, r = files_database_path(dir_fd, &path);

	/* Made here for its mode; SQLite gives -wal and -shm the same. Closed before SQLite has it: closing it later
	 * would drop SQLite's own POSIX locks. */
	if (r == 0)
		r = files_open(dir_fd, SCHEMA_FILE, &fd, &made);
	if (r < 0)
		return r;
	if (made && fsync(dir_fd) < 0 && errno != EINVAL)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	s->device = st.st_dev;
	s->inode = st.st_ino;
	close_p(&fd);
	fd = -1;
	r = sql_error(s, sqlite3_open_v2(path, &s->db, flags, NULL));
	if (r < 0)
		return r;
	sqlite3_busy_timeout(s->db, STORE_BUSY_MSEC);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	/* there is none of ours */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	/* Until it is closed (store_free): a start that is refused leaves the file as it is. To change it makes SQLite parse every
	 * statement again. */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_file_control(s->db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
	r = sql_exec(s, pragmas);
	if (r < 0)
		return r;
	r = check_wal_mode(s);
	if (r == 0)
		r = read_page_bytes(s);
	if (r < 0)
		return r;
	s->full = true;
	sqlite3_wal_hook(s->db, on_wal_commit, s);
	return 0;
}

static int set_synchronous(struct store *s, bool full)
{
	int r;

	if (s->full == full)
		return 0;
	r = sql_exec(s, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	if (r == 0)
		s->full = full;
	return r;
}

static int begin(struct store *s, bool full)
{
	int r;

	if (s->in_transaction)
		return 0;
	r = set_synchronous(s, full);
	if (r == 0 && full)
		r = maintain_renew_wal(s);
	if (r == 0)
		r = sql_run(s, STATEMENT_BEGIN);
	if (r < 0)
		return r;
	s->in_transaction = true;
	s->transaction++;
	return 0;
}

int store_begin(struct store *s)
{
	return begin(s, true);
}

int store_begin_question(struct store *s)
{
	return begin(s, false);
}

void store_rollback(struct store *s)
{
	if (!s->in_transaction)
		return;
	sql_rollback(s);
	s->in_transaction = false;
	s->state = s->committed;
	intern_rollback(s);
}

int store_fail(struct store *s, int error)
{
	store_rollback(s);
	return error;
}

int store_commit_step(struct store *s)
{
	int r = sql_run(s, STATEMENT_COMMIT);

	if (r < 0) {
		s->wal_doubtful = true;
		return store_fail(s, r);
	}
	s->in_transaction = false;
	s->committed = s->state;
	return 0;
}

int store_counter_set(struct store *s, const char *name, uint64_t value)
{
	struct binder b = sql_bind(s, STATEMENT_COUNTER_SET);

	bind_text(&b, name);
	bind_unsigned(&b, value);
	return sql_run(s, STATEMENT_COUNTER_SET);
}

int store_counter_get(struct store *s, const char *name, uint64_t otherwise, uint64_t *ret)
{
	struct binder b = sql_bind(s, STATEMENT_COUNTER_GET);
	int64_t value;
	int r;

	bind_text(&b, name);
	r = sql_value(s, STATEMENT_COUNTER_GET, (int64_t)otherwise, &value);
	if (r == 0)
		*ret = (uint64_t)value;
	return r;
}

/* The counters, and no less than what is there: a number is never given twice. */
static int read_counters(struct store *s)
{
	uint64_t next_claim = 0, next_hot = 0, expired = 0;
	int64_t highest = 0, first, last;
	int r = store_counter_get(s, COUNTER_NEXT_CLAIM, 1, &next_claim);

	if (r == 0)
		r = store_counter_get(s, COUNTER_NEXT_HOT, 1, &next_hot);
	if (r == 0)
		r = store_counter_get(s, COUNTER_HOT_FROM, 0, &s->state.hot_from);
	if (r == 0)
		r = store_counter_get(s, COUNTER_SEGMENT_USEC, 0, &s->state.segment_usec);
	if (r == 0)
		r = store_counter_get(s, COUNTER_EXPIRED_UNTIL, 0, &expired);
	if (r == 0)
		r = store_counter_get(s, COUNTER_COMMITS, 0, &s->commits_before);
	if (r == 0)
		r = sql_value(s, STATEMENT_HIGHEST_CLAIM, 0, &highest);
	if (r == 0)
		r = sql_step(s, STATEMENT_HOT_BOUNDS);
	if (r < 0)
		return r;
	first = sqlite3_column_int64(s->statements[STATEMENT_HOT_BOUNDS], 0);
	last = sqlite3_column_int64(s->statements[STATEMENT_HOT_BOUNDS], 1);
	sql_reset(s, STATEMENT_HOT_BOUNDS);
	s->next_claim = MAX(next_claim, (uint64_t)highest + 1);
	s->state.highest_open = (uint64_t)highest;
	s->state.next_hot = MAX(next_hot, (uint64_t)last + 1);
	if (s->next_claim > NUMBER_MAX || s->state.next_hot > NUMBER_MAX ||
		s->commits_before > NUMBER_MAX)
		return -EUCLEAN;
	s->state.first_hot = first > 0 ? (uint64_t)first : s->state.next_hot;
	if (first <= 0)
		s->state.hot_from = USEC_UNSET;
	s->state.expired_until = expired;
	return 0;
}

static int set_seen(struct store *s, int64_t session, struct now seen)
{
	struct binder b = sql_bind(s, STATEMENT_SESSION_SEEN);

	bind_int(&b, session);
	bind_time(&b, seen.wall);
	bind_time(&b, seen.boot);
	return sql_run(s, STATEMENT_SESSION_SEEN);
}

/* The session of the heartbeat lived to then, though it had nothing to commit. */
static int apply_heartbeat(struct store *s, const struct heartbeat *beat)
{
	sqlite3_stmt *row = s->statements[STATEMENT_SESSION_NEWEST];
	bool later;
	int r = sql_step(s, STATEMENT_SESSION_NEWEST);

	if (r <= 0)
		return r;
	later = sqlite3_column_int64(row, 0) == beat->session &&
		sqlite3_column_bytes(row, 1) == BOOT_ID_BYTES &&
		memcmp(sqlite3_column_blob(row, 1), beat->boot_id, BOOT_ID_BYTES) == 0 &&
		(usec_t)sqlite3_column_int64(row, 2) < beat->seen.boot;
	sql_reset(s, STATEMENT_SESSION_NEWEST);
	return later ? set_seen(s, beat->session, beat->seen) : 0;
}

/* The inverse of what is put there (rows.c); what makes no sense was not watched. */
static void parse_ranges(const char *text, struct port_ranges *ret)
{
	unsigned low, high;
	int size;

	for (; ret->count < PORT_RANGES_MAX && sscanf(text, "%5u-%5u%n", &low, &high, &size) == 2;
		text += size)
		ret->range[ret->count++] =
			(struct port_range){.low = (uint16_t)low, .high = (uint16_t)high};
}

/* The last stretch of coverage of a session. Without one nothing was watched. */
static int read_how(struct store *s, int64_t session, struct coverage *ret)
{
	sqlite3_stmt *row = s->statements[STATEMENT_SESSION_HOW];
	struct binder b = sql_bind(s, STATEMENT_SESSION_HOW);
	const char *ranges;
	int r;

	bind_int(&b, session);
	r = sql_step(s, STATEMENT_SESSION_HOW);
	if (r <= 0)
		return r;
	ranges = (const char *)sqlite3_column_text(row, 1);
	ret->rung = (uint8_t)sqlite3_column_int(row, 0);
	if (ranges)
		parse_ranges(ranges, &ret->ranges);
	ret->protocols = (uint32_t)sqlite3_column_int(row, 2);
	ret->accepted = sqlite3_column_int(row, 3) != 0;
	ret->bound_only = sqlite3_column_int(row, 4) != 0;
	ret->netns_all = sqlite3_column_int(row, 5) != 0;
	ret->udp_connect = sqlite3_column_int(row, 6) != 0;
	ret->failures = sqlite3_column_int(row, 7) != 0;
	sql_reset(s, STATEMENT_SESSION_HOW);
	return 0;
}

static int read_before(struct store *s, struct store_session *ret)
{
	sqlite3_stmt *row = s->statements[STATEMENT_SESSION_BEFORE];
	struct binder b = sql_bind(s, STATEMENT_SESSION_BEFORE);
	int64_t session;
	int r;

	bind_blob(&b, s->boot_id, sizeof(s->boot_id));
	r = sql_step(s, STATEMENT_SESSION_BEFORE);
	if (r < 0)
		return r;
	*ret = (struct store_session){.known = r > 0};
	if (r == 0)
		return 0;
	ret->same_boot = sqlite3_column_int(row, 0) != 0;
	ret->clean = sqlite3_column_int(row, 1) != 0;
	ret->last_seen_wall = (usec_t)sqlite3_column_int64(row, 2);
	ret->last_seen_boot = (usec_t)sqlite3_column_int64(row, 3);
	session = sqlite3_column_int64(row, 4);
	ret->generation = (uint64_t)sqlite3_column_int64(row, 5);
	sql_reset(s, STATEMENT_SESSION_BEFORE);
	return read_how(s, session, &ret->how);
}

static int read_ring(struct store *s, struct drained *ret)
{
	sqlite3_stmt *row = s->statements[STATEMENT_RING_BEFORE];
	struct binder b = sql_bind(s, STATEMENT_RING_BEFORE);
	int r;

	bind_blob(&b, s->boot_id, sizeof(s->boot_id));
	r = sql_step(s, STATEMENT_RING_BEFORE);
	if (r <= 0)
		return r;
	*ret = (struct drained){
		.ring = {(uint64_t)sqlite3_column_int64(row, 0),
			(uint64_t)sqlite3_column_int64(row, 1)},
		.lost = (uint64_t)sqlite3_column_int64(row, 2),
		.lost_ends = (uint64_t)sqlite3_column_int64(row, 3),
		.failures_dropped = (uint64_t)sqlite3_column_int64(row, 4),
		.at = (usec_t)sqlite3_column_int64(row, 5),
	};
	sql_reset(s, STATEMENT_RING_BEFORE);
	return 0;
}

static int write_ring(struct store *s)
{
	const struct drained *d = &s->state.ring;
	struct binder b = sql_bind(s, STATEMENT_SESSION_RING);

	bind_int(&b, s->session);
	bind_unsigned(&b, d->ring.generation);
	bind_unsigned(&b, d->ring.position);
	bind_unsigned(&b, d->lost);
	bind_unsigned(&b, d->lost_ends);
	bind_unsigned(&b, d->failures_dropped);
	bind_time(&b, d->at);
	s->state.ring_moved = false;
	return sql_run(s, STATEMENT_SESSION_RING);
}

void store_ring(struct store *s, const struct drained *ring)
{
	const struct drained *d = &s->state.ring;

	s->state.ring_moved |= d->ring.generation != ring->ring.generation ||
			       d->ring.position != ring->ring.position || d->lost != ring->lost ||
			       d->lost_ends != ring->lost_ends ||
			       d->failures_dropped != ring->failures_dropped;
	s->state.ring = *ring;
}

static int add_session(struct store *s, struct now now, const char *version)
{
	struct binder b = sql_bind(s, STATEMENT_SESSION_ADD);
	int r;

	bind_blob(&b, s->boot_id, sizeof(s->boot_id));
	bind_time(&b, now.wall);
	bind_time(&b, now.boot);
	bind_text(&b, version);
	r = sql_run(s, STATEMENT_SESSION_ADD);
	if (r < 0)
		return r;
	s->session = sqlite3_last_insert_rowid(s->db);
	s->epoch = (uint64_t)s->session << 32; /* another session's ids are not believed */
	s->state.seen = now;
	return 0;
}

static int start_session(
	struct store *s, struct now now, const char *version, struct store_session *ret_before)
{
	struct heartbeat beat;
	bool beats = heartbeat_read(s->heartbeat_fd, &beat) > 0;
	int r = store_begin(s);

	if (r == 0 && beats)
		r = apply_heartbeat(s, &beat);
	if (r == 0)
		r = sql_run(s, STATEMENT_COVERAGE_SETTLE);
	if (r == 0)
		r = read_before(s, ret_before);
	if (r == 0)
		r = read_counters(s);
	if (r == 0)
		r = read_ring(s, &ret_before->ring);
	if (r == 0)
		r = add_session(s, now, version);
	if (r == 0 && ret_before->ring.ring.generation != 0) {
		s->state.ring = ret_before->ring;
		r = write_ring(s);
	}
	if (r < 0)
		return r;
	r = store_commit_step(s);
	if (r < 0)
		return r;
	s->durable = true;
	beat = (struct heartbeat){.session = s->session, .seen = now};
	memcpy(beat.boot_id, s->boot_id, sizeof(beat.boot_id));
	return heartbeat_write(s->heartbeat_fd, &beat);
}

static struct store *store_new(const uint8_t boot_id[BOOT_ID_BYTES], struct now now)
{
	struct store *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->lock_fd = s->heartbeat_fd = -1;
	memcpy(s->boot_id, boot_id, sizeof(s->boot_id));
	s->state.long_port = -1;
	s->checkpoint_next = now.boot + CHECKPOINT_USEC;
	s->tail_next = now.boot;
	return s;
}

/* Lock, database and schema: what a session needs, and who only erases. */
static int open_database(struct store *s, int dir_fd, int32_t *ret_holder_pid)
{
	int r = files_lock(dir_fd, &s->lock_fd, ret_holder_pid);

	if (r == 0)
		r = aside_finish(dir_fd);
	if (r == 0)
		r = schema_check(dir_fd);
	if (r == 0)
		r = open_connection(s, dir_fd);
	if (r == 0)
		r = schema_migrate(s, schema_steps, schema_step_count);
	if (r == 0)
		r = sql_prepare(s);
	/* Whoever left a WAL may have met an fsync that failed, and nobody tells of that again. That he stopped in order is no proof: it
	 * may stand in the very pages that have not come to the disk. Who did leaves none, unless somebody reads. */
	s->wal_doubtful = true;
	return r;
}

int store_forget(int dir_fd, const struct forget *what, uint64_t *ret_rows, int32_t *ret_holder_pid)
{
	static const uint8_t no_boot[BOOT_ID_BYTES];
	_cleanup_(store_free_p) struct store *s = NULL;
	int r;

	/* where there is none, none is made */
	if (faccessat(dir_fd, SCHEMA_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	s = store_new(no_boot, (struct now){0});
	if (!s)
		return -ENOMEM;
	r = open_database(s, dir_fd, ret_holder_pid);
	return r == 0 ? forget_rows(s, what, ret_rows) : r;
}

int store_open(int dir_fd, const uint8_t boot_id[BOOT_ID_BYTES], struct now now,
	const char *version, struct store **ret, struct store_session *ret_before,
	int32_t *ret_holder_pid)
{
	_cleanup_(store_free_p) struct store *s = store_new(boot_id, now);
	const struct settings defaults = {.max_age_usec = DEFAULT_MAX_AGE_USEC,
		.max_bytes = DEFAULT_MAX_BYTES,
		.user_share_permille = 1000,
		.coalesce_above = UINT64_MAX};
	struct store_session before = {0};
	int r;

	if (!s)
		return -ENOMEM;
	r = open_database(s, dir_fd, ret_holder_pid);
	if (r < 0)
		return r;
	r = files_open(dir_fd, HEARTBEAT_FILE, &s->heartbeat_fd, NULL);
	if (r == -EUCLEAN) /* something else has its name: the database is not to blame */
		r = -EEXIST;
	if (r == 0)
		r = start_session(s, now, version, &before);
	if (r < 0)
		return r;
	s->accepted = true;
	s->age = now;
	if (before.known)
		s->age = (struct now){.boot = before.same_boot ? before.last_seen_boot : now.boot,
			.wall = before.last_seen_wall};
	store_settings(s, &defaults);
	*ret = TAKE_PTR(s);
	*ret_before = before;
	return 0;
}

struct store *store_free(struct store *s)
{
	if (!s)
		return NULL;
	sql_done(s);
	if (s->db && s->accepted && !s->wal_doubtful)
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	(void)sqlite3_close(s->db); /* rolls back what is open */
	intern_done(&s->apps);
	intern_done(&s->processes);
	intern_done(&s->locals);
	intern_done(&s->netns);
	close_p(&s->heartbeat_fd);
	close_p(&s->lock_fd); /* last: from here on another daemon may open the database */
	free(s);
	return NULL;
}

void store_settings(struct store *s, const struct settings *settings)
{
	uint64_t spare = SPARE_BYTES(settings->max_bytes);
	uint64_t pages = settings->max_bytes / s->page_bytes + spare / s->page_bytes;
	char sql[96];

	s->settings = *settings;
	s->max_pages = MIN(pages, UINT64_C(0xfffffffe));
	sqlite3_snprintf(sizeof(sql), sql, "PRAGMA max_page_count=%llu; PRAGMA secure_delete=%s",
		(unsigned long long)s->max_pages,
		settings->remote_addresses == REMOTE_ADDRESSES_FULL ? "OFF" : "ON");
	/* Neither can fail but for want of memory: then the database meets the end of the disk instead of its own. */
	(void)sqlite3_exec(s->db, sql, NULL, NULL, NULL);
}

int store_settle_coverage(struct store *s)
{
	struct binder b;

	if (s->state.coverage == 0)
		return 0;
	b = sql_bind(s, STATEMENT_COVERAGE_EXTEND);
	bind_int(&b, s->state.coverage);
	bind_time(&b, s->state.seen.wall);
	return sql_run(s, STATEMENT_COVERAGE_EXTEND);
}

/* The session's end moves to `until`, if it is later than where it is, or the same by a clock that was set; and with it the present
 * stretch's, which says so itself only when that is not enough (SQL_WATCHED_UNTIL): a page less in each commit. */
static int extend(struct store *s, struct now until)
{
	int r = 0;

	if (until.boot < s->state.seen.boot ||
		(until.boot == s->state.seen.boot && until.wall == s->state.seen.wall))
		return 0;
	if (until.wall < s->state.seen.wall) /* the clock was set back */
		r = store_settle_coverage(s);
	if (r == 0)
		r = set_seen(s, s->session, until);
	if (r == 0)
		s->state.seen = until;
	return r;
}

/* The numbers of claims are reserved in advance, so that most commits need not touch the counter's page. The number
 * of the next row of claim_hot is in its last row, and in its counter when there is none (seal.c). */
static int reserve_claims(struct store *s)
{
	if (s->next_claim <= s->state.claims_reserved)
		return 0;
	s->state.claims_reserved = s->next_claim + CLAIMS_RESERVED;
	return store_counter_set(s, COUNTER_NEXT_CLAIM, s->state.claims_reserved);
}

int store_commit(struct store *s, struct now until, bool durable)
{
	int r = begin(s, durable);

	if (r < 0)
		return r;
	assert(s->full || !durable); /* store_begin_question() is for a question's commit */
	/* A commit that has nothing to write does no fsync. */
	if (durable && !s->durable)
		r = store_counter_set(s, COUNTER_COMMITS, s->commits_before + s->commits + 1);
	if (r == 0)
		r = extend(s, until);
	if (r == 0 && s->state.ring_moved)
		r = write_ring(s);
	if (r == 0)
		r = reserve_claims(s);
	if (r < 0)
		return store_fail(s, r);
	r = store_commit_step(s);
	if (r < 0)
		return r;
	s->commits++;
	s->durable = s->full;
	/* A question does not wait for housekeeping; and what fails here is not this commit's failure. */
	if (durable && !s->maintain_failed)
		s->maintain_failed = maintain_step(s, until) < 0;
	return 0;
}

int store_heartbeat(struct store *s, struct now until)
{
	struct heartbeat beat = {.session = s->session, .seen = until};

	if (s->in_transaction || !s->durable)
		return 0;
	memcpy(beat.boot_id, s->boot_id, sizeof(beat.boot_id));
	return heartbeat_write(s->heartbeat_fd, &beat);
}

int store_stop(struct store *s, struct now until)
{
	struct binder b;
	int r = begin(s, true);

	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_SESSION_CLEAN);
	bind_int(&b, s->session);
	r = sql_run(s, STATEMENT_SESSION_CLEAN);
	if (r == 0)
		r = extend(s, until);
	if (r == 0)
		r = store_settle_coverage(s);
	if (r < 0)
		return store_fail(s, r);
	r = store_commit(s, until, true);
	if (r == 0)
		r = maintain_renew_wal(s);
	if (r < 0)
		return r;
	return sql_error(
		s, sqlite3_wal_checkpoint_v2(s->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL));
}

struct store_stats store_stats(const struct store *s)
{
	return (struct store_stats){
		.commits = s->commits,
		.recorded = s->committed.recorded,
		.sealed_segments = s->committed.sealed,
		.wal_bytes = maintain_wal_bytes(s),
	};
}
