/* SPDX-License-Identifier: MIT */

#include "daemon/ledger/ballast.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "daemon/ledger/store_private.h"

#define BALLAST_FILE "ballast"
#define BLOCK_BYTES  512u /* of st_blocks */

/* What of it takes room. */
static uint64_t held_bytes(const struct stat *st)
{
	return (uint64_t)st->st_blocks * BLOCK_BYTES;
}

int ballast_hold(int dir_fd)
{
	_cleanup_(close_p) int fd = -1;
	struct statvfs fs;
	struct stat st;
	uint64_t room;
	int r;

	if (fstatat(dir_fd, BALLAST_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		held_bytes(&st) >= BALLAST_BYTES)
		return 0;
	if (fstatvfs(dir_fd, &fs) < 0)
		return -errno;
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (room < 2 * BALLAST_BYTES)
		return -ENOSPC;
	r = files_open(dir_fd, BALLAST_FILE, &fd, NULL);
	if (r < 0)
		return r;
	if (fallocate(fd, 0, 0, (off_t)BALLAST_BYTES) == 0)
		return 0;
	r = -errno;
	/* the part of it that there was room for */
	(void)!ftruncate(fd, 0);
	return r;
}

bool ballast_release(int dir_fd)
{
	struct stat st;

	/* Removed, not cut: where nothing is left, even cutting may need room; and a file that somebody made larger goes whole. */
	if (fstatat(dir_fd, BALLAST_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 || held_bytes(&st) == 0)
		return false;
	return unlinkat(dir_fd, BALLAST_FILE, 0) == 0;
}
