/* SPDX-License-Identifier: MIT */

/*
 * Housekeeping in bounded steps: checkpoints, sealing, retention.
 *
 * Checkpoints are ours, because SQLite's own hide what fsync says. PASSIVE never waits for a reader; it moves what no
 * reader needs any more, and a reader that stays keeps the WAL growing, which store_stats() shows. A WAL that has
 * grown is cut back (TRUNCATE) when everything of it has been moved and nobody reads.
 */

#include "daemon/ledger/store_private.h"

#define CHECKPOINT_BYTES (UINT64_C(8) << 20)
#define TRUNCATE_BYTES   (UINT64_C(16) << 20)

uint64_t maintain_wal_bytes(const struct store *s)
{
	sqlite3_file *wal = NULL;
	sqlite3_int64 size = 0;

	if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) != SQLITE_OK ||
		!wal || !wal->pMethods || wal->pMethods->xFileSize(wal, &size) != SQLITE_OK)
		return 0;
	return (uint64_t)size;
}

/* A page that is written again and again until then is copied once. */
static uint64_t checkpoint_frames(const struct store *s)
{
	return CHECKPOINT_BYTES / s->page_bytes;
}

static int checkpoint(struct store *s, struct now now)
{
	int frames = 0, moved = 0;
	int r = sql_error(s, sqlite3_wal_checkpoint_v2(
				     s->db, "main", SQLITE_CHECKPOINT_PASSIVE, &frames, &moved));

	if (r < 0)
		return r;
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
	int r;

	if (s->wal_dirty && (s->wal_frames >= MAX(s->checkpoint_at, checkpoint_frames(s)) ||
				    now.boot >= s->checkpoint_next)) {
		r = checkpoint(s, now);
		if (r < 0)
			return r;
	}
	/* Sealing may need more than it frees. Where there is no room it would fail, again and again, with retention
	 * waiting behind it for ever; so what makes room comes first, and is tried as well when sealing had none. */
	r = retention_room_step(s, now);
	if (r == 0)
		r = seal_step(s, now);
	if (r == 0 || r == -ENOSPC) {
		int freed = retention_step(s, now);

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
	if (r == 0 && !s->wal_dirty && maintain_wal_bytes(s) > TRUNCATE_BYTES)
		truncate_wal(s);
	return r;
}
