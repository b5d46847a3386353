/* SPDX-License-Identifier: MIT */

/*
 * What lies in the state directory beside the database.
 *
 * The lock: SQLite lets two daemons write to one database in turn, and each would then close the other's claims
 * (measured: 195 batches lost, without one error code). So a lock of our own comes first. It is an OFD lock: it goes
 * with the open file, so that it is neither lost when some library closes another descriptor of the same file nor
 * left behind by kill -9. The pid in the file is for the message only.
 *
 * The heartbeat: when nothing happens there is nothing to commit, yet after a crash we want to say how long nothing
 * happened. One small record, written in place every second, never synced: after a power cut an older or a torn one
 * is as good as none, and the checksum tells.
 */

#include "daemon/ledger/store_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/schema.h"

#define FILE_MODE 0640

int files_open(int dir_fd, const char *name, int *ret_fd, bool *ret_made)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	_cleanup_(close_p) int fd = -1;
	struct stat st;
	bool made = false;

	fd = openat(dir_fd, name, flags);
	if (fd < 0 && errno == ENOENT) {
		fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL, FILE_MODE);
		made = fd >= 0;
	}
	if (fd < 0)
		return errno == ELOOP || errno == EISDIR ? -EUCLEAN : -errno;
	if (made && fchmod(fd, FILE_MODE) < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	*ret_fd = TAKE_FD(fd);
	if (ret_made)
		*ret_made = made;
	return 0;
}

/* The pid in the lock file, 0 if there is none. */
static int32_t read_holder(int fd)
{
	char text[16] = "";
	ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
	long pid = size > 0 ? strtol(text, NULL, 10) : 0;

	return pid > 0 && pid <= INT32_MAX ? (int32_t)pid : 0;
}

int files_lock(int dir_fd, int *ret_fd, int32_t *ret_holder_pid)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	_cleanup_(close_p) int fd = -1;
	char text[16];
	int n, r = files_open(dir_fd, LOCK_FILE, &fd, NULL);

	if (r < 0) /* the database is not to blame for what else has this name */
		return r == -EUCLEAN ? -EEXIST : r;
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		if (errno != EAGAIN)
			return -errno;
		*ret_holder_pid = read_holder(fd);
		return -EAGAIN;
	}
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
		/* A full disk must not keep us from the rows that retention would free: the lock holds without. */
		if (errno != ENOSPC && errno != EDQUOT)
			return -errno;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int files_database_path(int dir_fd, char **ret)
{
	char link[32], directory[4096];
	_cleanup_(free_p) char *path = NULL;
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
	size = readlink(link, directory, sizeof(directory));
	if (size < 0)
		return -errno;
	if ((size_t)size == sizeof(directory))
		return -ENAMETOOLONG;
	if (asprintf(&path, "%.*s/%s", (int)size, directory, SCHEMA_FILE) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	*ret = TAKE_PTR(path);
	return 0;
}

/* In the byte order of this machine: no other one reads it before the boot id has changed. */
struct heartbeat_record {
	char magic[8];
	uint8_t boot_id[BOOT_ID_BYTES];
	int64_t session;
	uint64_t boot_usec, wall_usec;
	uint64_t checksum; /* FNV-1a of all before */
};
_Static_assert(sizeof(struct heartbeat_record) == 56, "no padding");

static const char heartbeat_magic[8] = {'P', 'L', 'B', 'E', 'A', 'T', 1, '\n'};

static uint64_t heartbeat_checksum(const struct heartbeat_record *record)
{
	const uint8_t *bytes = (const uint8_t *)record;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < offsetof(struct heartbeat_record, checksum); i++)
		sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
	return sum;
}

int heartbeat_read(int fd, struct heartbeat *ret)
{
	struct heartbeat_record record;

	if (pread(fd, &record, sizeof(record), 0) != (ssize_t)sizeof(record))
		return 0;
	if (memcmp(record.magic, heartbeat_magic, sizeof(record.magic)) != 0 ||
		record.checksum != heartbeat_checksum(&record))
		return 0;
	memcpy(ret->boot_id, record.boot_id, sizeof(ret->boot_id));
	ret->session = record.session;
	ret->seen = (struct now){.boot = record.boot_usec, .wall = record.wall_usec};
	return 1;
}

int heartbeat_write(int fd, const struct heartbeat *h)
{
	struct heartbeat_record record = {
		.session = h->session,
		.boot_usec = h->seen.boot,
		.wall_usec = h->seen.wall,
	};
	ssize_t size;

	memcpy(record.magic, heartbeat_magic, sizeof(record.magic));
	memcpy(record.boot_id, h->boot_id, sizeof(record.boot_id));
	record.checksum = heartbeat_checksum(&record);
	size = pwrite(fd, &record, sizeof(record), 0);
	if (size < 0)
		return -errno;
	return size == (ssize_t)sizeof(record) ? 0 : -ENOSPC;
}
