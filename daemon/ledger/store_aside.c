/* SPDX-License-Identifier: MIT */

/*
 * A damaged database is out of the way, not gone: sqlite3's .recover may save most of it. Whoever is killed in between, no step
 * leaves what could be taken for something else. -shm goes first: it has nothing that SQLite does not make again of the WAL, and
 * beside a new database a reader of the old one would share it. Then the database, and when that is on the disk, its WAL: a database that
 * has lost its WAL is one of some time ago, and often a whole one. A WAL alone is none of a new database: who opens the next one
 * moves it after the old one first (aside_finish).
 */

#include "daemon/ledger/store_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/schema.h"

#define NAME_MAX_BYTES 64

/* "portledger.db.damaged-1", "portledger.db.damaged-1-wal" */
static void aside_name(char *text, unsigned number, const char *suffix)
{
	(void)snprintf(text, NAME_MAX_BYTES, SCHEMA_FILE ".damaged-%u%s", number, suffix);
}

static const char *const suffixes[] = {"-wal", ""};

static bool is_taken(int dir_fd, unsigned number)
{
	char name[NAME_MAX_BYTES];
	struct stat st;

	for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
		aside_name(name, number, suffixes[i]);
		if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
			return true;
	}
	return false;
}

static int move(int dir_fd, unsigned number, const char *suffix)
{
	char from[NAME_MAX_BYTES], to[NAME_MAX_BYTES];

	(void)snprintf(from, sizeof(from), SCHEMA_FILE "%s", suffix);
	aside_name(to, number, suffix);
	if (renameat(dir_fd, from, dir_fd, to) < 0 && errno != ENOENT)
		return -errno;
	return fsync(dir_fd) < 0 && errno != EINVAL ? -errno : 0;
}

static int move_all(int dir_fd, unsigned number)
{
	int r;

	if (unlinkat(dir_fd, SCHEMA_FILE "-shm", 0) < 0 && errno != ENOENT)
		return -errno;
	r = move(dir_fd, number, "");
	return r == 0 ? move(dir_fd, number, "-wal") : r;
}

/* The one that was set aside last, and has no WAL beside it; 0: none. */
static unsigned find_bereft(int dir_fd)
{
	struct timespec newest = {0};
	char name[NAME_MAX_BYTES];
	struct stat st, wal;
	unsigned found = 0;

	for (unsigned number = 1; number <= LIMIT_SET_ASIDE; number++) {
		aside_name(name, number, "-wal");
		if (fstatat(dir_fd, name, &wal, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		aside_name(name, number, "");
		if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (st.st_ctim.tv_sec < newest.tv_sec ||
			(st.st_ctim.tv_sec == newest.tv_sec && st.st_ctim.tv_nsec < newest.tv_nsec))
			continue;
		newest = st.st_ctim;
		found = number;
	}
	return found;
}

int aside_finish(int dir_fd)
{
	struct stat st;
	unsigned number;

	if (fstatat(dir_fd, SCHEMA_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
		return 0;
	number = find_bereft(dir_fd);
	return number > 0 ? move(dir_fd, number, "-wal") : 0;
}

int store_set_aside(int dir_fd, unsigned *ret_number, int32_t *ret_holder_pid)
{
	_cleanup_(close_p) int lock_fd = -1;
	unsigned number = 1;
	int r = files_lock(dir_fd, &lock_fd, ret_holder_pid);

	if (r < 0)
		return r;
	while (number <= LIMIT_SET_ASIDE && is_taken(dir_fd, number))
		number++;
	if (number > LIMIT_SET_ASIDE)
		return -EEXIST;
	r = move_all(dir_fd, number);
	if (r == 0)
		*ret_number = number;
	return r;
}

unsigned store_count_aside(int dir_fd)
{
	unsigned count = 0;

	for (unsigned number = 1; number <= LIMIT_SET_ASIDE; number++)
		count += is_taken(dir_fd, number);
	return count;
}

bool store_is_there(const struct store *s, int dir_fd)
{
	struct stat st;

	if (fstatat(dir_fd, SCHEMA_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT;
	return st.st_dev == s->device && st.st_ino == s->inode;
}
