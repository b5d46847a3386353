/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Beside every allocation (failing_text.h), every call of the store to SQLite and to the kernel fails once, for a test that is linked with
 * `failing_calls` (tests/unit/meson.build). What failed was not done; the next call is served again. SQLite's own calls are not
 * reached: its disk is tests/support/disk.h's. Include it once.
 */

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/support/failing_text.h"

/* How a call fails. */
static int failing_error = EIO;
/* A call of the kernel says that it did something else than it was asked for: half of a write, a path that is cut. */
static bool failing_oddly;
static bool failing_sqlite = true; /* SQLite's calls fail, too */

static int failing_code(void)
{
	return failing_error == ENOSPC ? SQLITE_FULL : SQLITE_IOERR;
}

static bool failing_sqlite_now(void)
{
	return failing_sqlite && failing_now();
}

static bool failing_kernel_now(void)
{
	if (!failing_now())
		return false;
	errno = failing_error;
	return true;
}

int __real_sqlite3_open_v2(const char *path, sqlite3 **ret, int flags, const char *vfs);
int __wrap_sqlite3_open_v2(const char *path, sqlite3 **ret, int flags, const char *vfs);
int __real_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **),
	void *context, char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **),
	void *context, char **error);
int __real_sqlite3_prepare_v2(
	sqlite3 *db, const char *sql, int size, sqlite3_stmt **ret, const char **tail);
int __wrap_sqlite3_prepare_v2(
	sqlite3 *db, const char *sql, int size, sqlite3_stmt **ret, const char **tail);
int __real_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int size, unsigned flags,
	sqlite3_stmt **ret, const char **tail);
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int size, unsigned flags,
	sqlite3_stmt **ret, const char **tail);
int __real_sqlite3_step(sqlite3_stmt *statement);
int __wrap_sqlite3_step(sqlite3_stmt *statement);
int __real_sqlite3_wal_checkpoint_v2(
	sqlite3 *db, const char *name, int mode, int *frames, int *moved);
int __wrap_sqlite3_wal_checkpoint_v2(
	sqlite3 *db, const char *name, int mode, int *frames, int *moved);

int __wrap_sqlite3_open_v2(const char *path, sqlite3 **ret, int flags, const char *vfs)
{
	return failing_sqlite_now() ? failing_code()
				    : __real_sqlite3_open_v2(path, ret, flags, vfs);
}

int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **),
	void *context, char **error)
{
	return failing_sqlite_now() ? failing_code()
				    : __real_sqlite3_exec(db, sql, row, context, error);
}

int __wrap_sqlite3_prepare_v2(
	sqlite3 *db, const char *sql, int size, sqlite3_stmt **ret, const char **tail)
{
	return failing_sqlite_now() ? failing_code()
				    : __real_sqlite3_prepare_v2(db, sql, size, ret, tail);
}

/* The store prepares all its statements in one loop: one in sixteen of them is tried. */
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int size, unsigned flags,
	sqlite3_stmt **ret, const char **tail)
{
	static unsigned prepared;

	return prepared++ % 16 == 0 && failing_sqlite_now()
		       ? failing_code()
		       : __real_sqlite3_prepare_v3(db, sql, size, flags, ret, tail);
}

int __wrap_sqlite3_step(sqlite3_stmt *statement)
{
	return failing_sqlite_now() ? failing_code() : __real_sqlite3_step(statement);
}

int __wrap_sqlite3_wal_checkpoint_v2(
	sqlite3 *db, const char *name, int mode, int *frames, int *moved)
{
	return failing_sqlite_now()
		       ? failing_code()
		       : __real_sqlite3_wal_checkpoint_v2(db, name, mode, frames, moved);
}

int __real_fstat64(int fd, struct stat *ret);
int __wrap_fstat64(int fd, struct stat *ret);
int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_ftruncate64(int fd, off_t size);
int __wrap_ftruncate64(int fd, off_t size);
ssize_t __real_pwrite64(int fd, const void *data, size_t size, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t at);
ssize_t __real_readlink(const char *path, char *ret, size_t size);
ssize_t __wrap_readlink(const char *path, char *ret, size_t size);
ssize_t __wrap___readlink_chk(const char *path, char *ret, size_t size, size_t room);
int __real_fcntl64(int fd, int command, void *argument);
int __wrap_fcntl64(int fd, int command, void *argument);

int __wrap_fstat64(int fd, struct stat *ret)
{
	return failing_kernel_now() ? -1 : __real_fstat64(fd, ret);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	return failing_kernel_now() ? -1 : __real_fchmod(fd, mode);
}

int __wrap_fsync(int fd)
{
	return failing_kernel_now() ? -1 : __real_fsync(fd);
}

int __wrap_ftruncate64(int fd, off_t size)
{
	return failing_kernel_now() ? -1 : __real_ftruncate64(fd, size);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t at)
{
	if (!failing_kernel_now())
		return __real_pwrite64(fd, data, size, at);
	return failing_oddly ? __real_pwrite64(fd, data, size / 2, at) : -1;
}

ssize_t __wrap_readlink(const char *path, char *ret, size_t size)
{
	if (!failing_kernel_now())
		return __real_readlink(path, ret, size);
	memset(ret, 'x', size);
	return failing_oddly ? (ssize_t)size : -1;
}

/* What a build with FORTIFY calls. */
ssize_t __wrap___readlink_chk(const char *path, char *ret, size_t size, size_t room _unused_)
{
	return __wrap_readlink(path, ret, size);
}

int __wrap_fcntl64(int fd, int command, void *argument)
{
	return failing_kernel_now() ? -1 : __real_fcntl64(fd, command, argument);
}
