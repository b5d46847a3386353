/* SPDX-License-Identifier: MIT */

#include "bench/counting.h"

#include <sqlite3.h>

#define BLOCK 4096

struct counting_file {
	sqlite3_file base;
	uint64_t *bytes;    /* of its kind */
	sqlite3_int64 last; /* which block was last read */
	sqlite3_file real;  /* and what belongs to it; last */
};

/* The VFS has no argument through which it could be told: SQLite's own registry is process-wide as well. */
static struct counted counted;
static sqlite3_vfs counting_vfs;

static sqlite3_vfs *real_vfs(void)
{
	return counting_vfs.pAppData;
}

static sqlite3_file *real_file(sqlite3_file *f)
{
	return &((struct counting_file *)f)->real;
}

static int on_close(sqlite3_file *f)
{
	return real_file(f)->pMethods->xClose(real_file(f));
}

static void count_read(struct counting_file *f, int size, sqlite3_int64 at)
{
	sqlite3_int64 first = at / BLOCK;

	if (f->bytes != &counted.database)
		return;
	counted.reads++;
	counted.jumps += first != f->last && first != f->last + 1;
	f->last = (at + size - 1) / BLOCK;
}

static int on_read(sqlite3_file *f, void *data, int size, sqlite3_int64 at)
{
	count_read((struct counting_file *)f, size, at);
	return real_file(f)->pMethods->xRead(real_file(f), data, size, at);
}

static int on_write(sqlite3_file *f, const void *data, int size, sqlite3_int64 at)
{
	*((struct counting_file *)f)->bytes += (uint64_t)size;
	return real_file(f)->pMethods->xWrite(real_file(f), data, size, at);
}

static int on_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return real_file(f)->pMethods->xTruncate(real_file(f), size);
}

static int on_sync(sqlite3_file *f, int flags)
{
	counted.syncs++;
	return real_file(f)->pMethods->xSync(real_file(f), flags);
}

static int on_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	return real_file(f)->pMethods->xFileSize(real_file(f), ret);
}

static int on_lock(sqlite3_file *f, int how)
{
	return real_file(f)->pMethods->xLock(real_file(f), how);
}

static int on_unlock(sqlite3_file *f, int how)
{
	return real_file(f)->pMethods->xUnlock(real_file(f), how);
}

static int on_reserved(sqlite3_file *f, int *ret)
{
	return real_file(f)->pMethods->xCheckReservedLock(real_file(f), ret);
}

static int on_control(sqlite3_file *f, int what, void *argument)
{
	return real_file(f)->pMethods->xFileControl(real_file(f), what, argument);
}

static int on_sector_size(sqlite3_file *f)
{
	return real_file(f)->pMethods->xSectorSize(real_file(f));
}

static int on_characteristics(sqlite3_file *f)
{
	return real_file(f)->pMethods->xDeviceCharacteristics(real_file(f));
}

static int on_map(sqlite3_file *f, int region, int size, int extend, void volatile **ret)
{
	return real_file(f)->pMethods->xShmMap(real_file(f), region, size, extend, ret);
}

static int on_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
	return real_file(f)->pMethods->xShmLock(real_file(f), offset, n, flags);
}

static void on_barrier(sqlite3_file *f)
{
	real_file(f)->pMethods->xShmBarrier(real_file(f));
}

static int on_unmap(sqlite3_file *f, int remove)
{
	return real_file(f)->pMethods->xShmUnmap(real_file(f), remove);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = on_close,
	.xRead = on_read,
	.xWrite = on_write,
	.xTruncate = on_truncate,
	.xSync = on_sync,
	.xFileSize = on_size,
	.xLock = on_lock,
	.xUnlock = on_unlock,
	.xCheckReservedLock = on_reserved,
	.xFileControl = on_control,
	.xSectorSize = on_sector_size,
	.xDeviceCharacteristics = on_characteristics,
	.xShmMap = on_map,
	.xShmLock = on_shm_lock,
	.xShmBarrier = on_barrier,
	.xShmUnmap = on_unmap,
};

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	struct counting_file *file = (struct counting_file *)f;
	int code;

	(void)vfs;
	file->last = -2; /* the first read is a jump */
	file->bytes = flags & SQLITE_OPEN_WAL       ? &counted.wal
		      : flags & SQLITE_OPEN_MAIN_DB ? &counted.database
						    : &counted.other;
	code = real_vfs()->xOpen(real_vfs(), name, &file->real, flags, ret_flags);
	f->pMethods = file->real.pMethods ? &methods : NULL;
	return code;
}

bool counting_start(void)
{
	sqlite3_vfs *real = sqlite3_vfs_find(NULL);

	if (!real)
		return false;
	counting_vfs = *real;
	counting_vfs.zName = "counting";
	counting_vfs.pNext = NULL;
	counting_vfs.pAppData = real;
	counting_vfs.szOsFile = (int)sizeof(struct counting_file) + real->szOsFile;
	counting_vfs.xOpen = on_open;
	return sqlite3_vfs_register(&counting_vfs, 1) == SQLITE_OK;
}

struct counted counting_now(void)
{
	return counted;
}
