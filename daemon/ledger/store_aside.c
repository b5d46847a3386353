/* SPDX-License-Identifier: MIT */

/*
 * A damaged database is out of the way, not gone: sqlite3's .recover may save most of it. Its WAL goes first. A database
 * that has lost its WAL is one of some time ago; a new database beside an old WAL would take that for its own.
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

static const char *const suffixes[] = {"-wal", "-shm", ""};

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

static int move(int dir_fd, unsigned number)
{
	char from[NAME_MAX_BYTES], to[NAME_MAX_BYTES];

	for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
		(void)snprintf(from, sizeof(from), SCHEMA_FILE "%s", suffixes[i]);
		aside_name(to, number, suffixes[i]);
		if (renameat(dir_fd, from, dir_fd, to) < 0 && errno != ENOENT)
			return -errno;
	}
	return fsync(dir_fd) < 0 && errno != EINVAL ? -errno : 0;
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
	r = move(dir_fd, number);
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
