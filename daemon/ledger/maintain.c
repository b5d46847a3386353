/* SPDX-License-Identifier: MIT */

/*
 * Housekeeping in bounded steps: checkpoints, sealing, retention.
 *
 * Checkpoints are ours, because SQLite's own hide what fsync says. PASSIVE never waits for a reader; it moves what no
 * reader needs any more, and a reader that stays keeps the WAL growing, which store_stats() shows. A WAL that has
 * grown is cut back (TRUNCATE) when everything of it has been moved and nobody reads.
 *
 * Of an fsync that fails the kernel tells once. The pages that it could not write are clean from then on, and the next fsync
 * succeeds without them: a WAL with a hole, which a power cut ends there, however much was committed behind it; and if a
 * checkpoint was under way, with pages of later in the database. So after any error, and where an earlier session has left
 * a WAL (it may have met one), the WAL is written once more in place before anything is called durable.
 */

#include "daemon/ledger/store_private.h"

#define CHECKPOINT_BYTES (UINT64_C(8) << 20)
#define TRUNCATE_BYTES   (UINT64_C(16) << 20)

static sqlite3_file *wal_file(const struct store *s)
{
	sqlite3_file *wal = NULL;

	if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) != SQLITE_OK ||
		!wal || !wal->pMethods)
		return NULL;
	return wal;
}

uint64_t maintain_wal_bytes(const struct store *s)
{
	sqlite3_file *wal = wal_file(s);
	sqlite3_int64 size = 0;

	return wal && wal->pMethods->xFileSize(wal, &size) == SQLITE_OK ? (uint64_t)size : 0;
}

int maintain_renew_wal(struct store *s)
{
	sqlite3_file *wal = wal_file(s);
	sqlite3_int64 size = 0;
	uint8_t bytes[32768];
	int code = SQLITE_OK;

	if (!s->wal_doubtful)
		return 0;
	if (wal)
		code = wal->pMethods->xFileSize(wal, &size);
	for (sqlite3_int64 at = 0; code == SQLITE_OK && at < size;
		at += (sqlite3_int64)sizeof(bytes)) {
		int part = (int)MIN((sqlite3_int64)sizeof(bytes), size - at);

		code = wal->pMethods->xRead(wal, bytes, part, at);
		if (code == SQLITE_OK)
			code = wal->pMethods->xWrite(wal, bytes, part, at);
	}
	if (code == SQLITE_OK && size > 0)
		code = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
	if (code != SQLITE_OK)
		return (code & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO;
	s->wal_doubtful = false;
	return 0;
}

/* A page that is written again and again until then is copied once. */
static uint64_t checkpoint_frames(const struct store *s)
{
	return CHECKPOINT_BYTES / s->page_bytes;
}

static int checkpoint(struct store *s, struct now now)
{
	int frames = 0, moved = 0;
	int r = maintain_renew_wal(s);

	if (r == 0)
		r = sql_error(s, sqlite3_wal_checkpoint_v2(s->db, "main", SQLITE_CHECKPOINT_PASSIVE,
					 &frames, &moved));
	if (r < 0) {
		s->wal_doubtful = true;
		return r;
	}
	s->checkpoint_next = now.boot + CHECKPOINT_USEC;
	s->wal_dirty = moved < frames;
	s->checkpoint_at = (uint64_t)MAX(frames, 0) + checkpoint_frames(s);
	return 0;
}

/* Best effort: a reader keeps it from happening, and it is tried again. */
static void truncate_wal(struct store *s)
{
	sqlite3_busy_timeout(s->db, 0);
	(void)sqlite3_wal_checkpoint_v2(s->db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_busy_timeout(s->db, STORE_BUSY_MSEC);
}

int maintain_step(struct store *s, struct now now)
{
	struct now aged = {.boot = now.boot, .wall = retention_wall(s, now)};
	int r;

	if (s->wal_dirty && (s->wal_frames >= MAX(s->checkpoint_at, checkpoint_frames(s)) ||
				    now.boot >= s->checkpoint_next)) {
		r = checkpoint(s, now);
		if (r < 0)
			return r;
	}
	/* Sealing may need more than it frees. Where there is no room it would fail, again and again, with retention
	 * waiting behind it for ever; so what makes room comes first, and is tried as well when sealing had none. */
	r = retention_room_step(s, aged);
	if (r == 0)
		r = seal_step(s, now);
	if (r == 0 || r == -ENOSPC) {
		int freed = retention_step(s, aged);

		r = freed != 0 ? freed : r;
	}
	if (r == 0)
		r = remotes_step(s, now);
	return r;
}

int store_maintain(struct store *s, struct now now)
{
	int r;

	if (s->in_transaction)
		return 0;
	r = maintain_step(s, now);
	s->maintain_failed = r < 0;
	if (r == 0 && !s->wal_dirty && !s->wal_doubtful && maintain_wal_bytes(s) > TRUNCATE_BYTES)
		truncate_wal(s);
	return r;
}
