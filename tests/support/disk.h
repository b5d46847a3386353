/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A disk that loses power, fills up and fails: SQLite's own VFS, with this in front of it. What a program has written is there
 * for every process at once, as with a kernel; what is on the disk is another matter. Until a file is synced its writes may
 * have got there or not, each for itself, in any order, whole or by the sector.
 *
 * There is one in a process, for all files that SQLite keeps (database, WAL, journal; not the shared memory). Every write,
 * truncate, sync and delete is an operation; they are counted from 1.
 */

#include <stdbool.h>
#include <stdint.h>

/* Becomes the VFS that SQLite takes. Again: does nothing. */
void disk_install(void);

/* Forgets all files and faults: what is there now is on the disk. `seed`: of all that is drawn. */
void disk_reset(uint64_t seed);

uint64_t disk_operations(void);
uint64_t disk_syncs(void);
/* How many operations were made to fail. */
uint64_t disk_failed(void);

/*
 * From operation n on nothing is done and all fails: the process is dead, the kernel is not; or the power is gone. 0: not at
 * all. Close what is open, then say disk_revive().
 */
void disk_stop_at(uint64_t n);
bool disk_is_stopped(void);

/* How much of what was not synced is on the disk when the power is back. */
enum disk_kept {
	DISK_KEPT_NOTHING,
	DISK_KEPT_SOME, /* as is drawn: of each write all, nothing, or some of its sectors, which are there, old, or neither */
	DISK_KEPT_ALL,
};

/* A process died: another one meets what the kernel has. */
void disk_revive(void);
/* The power was gone: the files are written as they are on the disk. No file may be open. */
void disk_power_back(enum disk_kept kept);

#define DISK_WRITE    1u
#define DISK_TRUNCATE 2u
#define DISK_SYNC     4u
#define DISK_DELETE   8u
#define DISK_READ     16u /* is no operation: fails while the fault lasts */
#define DISK_CHANGES  (DISK_WRITE | DISK_TRUNCATE | DISK_SYNC | DISK_DELETE)

/*
 * The operations `first` to `first + count - 1` that are of `kinds` fail with `error` (ENOSPC, EIO, EROFS). A write that fails
 * may have written its first half. What a sync that fails was to make durable is never so by a later one, unless somebody writes
 * to its page again: so does Linux, which reports an error once. count 0: none, as from disk_reset() on.
 */
void disk_fail(uint64_t first, uint64_t count, unsigned kinds, int error);
