/* SPDX-License-Identifier: MIT */

#include "tests/support/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define PAGE   4096 /* of the kernel's cache */

/* What was done to a file since it was synced. */
struct pending {
	struct pending *next;
	bool truncates; /* to `offset`; else `size` bytes are written there */
	bool doomed; /* a sync has failed: the page is clean, for the kernel, until somebody writes to it again */
	sqlite3_int64 offset;
	size_t size;
	uint8_t data[];
};

/* What is on the disk of a file. */
struct image {
	struct image *next;
	char *path;
	bool exists;  /* its name is on the disk */
	bool deleted; /* ... but not for whoever looks */
	uint8_t *data;
	size_t size, room;
	struct pending *first, **last;
};

struct open_file {
	sqlite3_file base;
	struct image *image; /* NULL: not one that is kept */
	bool names; /* the first sync is one of the directory, too: so does the VFS below */
		    /* behind it: the file of the VFS below */
};

static struct {
	sqlite3_vfs vfs, *below;
	struct image *images;
	uint64_t operations, syncs, failed, stop_at, random;
	uint64_t fail_first, fail_count;
	unsigned fail_kinds;
	int fail_error, last_error;
} disk;

static sqlite3_file *below_of(sqlite3_file *file)
{
	return (sqlite3_file *)(void *)((struct open_file *)(void *)file + 1);
}

static void *must(void *memory)
{
	if (!memory) {
		fputs("disk: no memory\n", stderr);
		abort();
	}
	return memory;
}

/* xorshift64* */
static uint64_t draw(uint64_t below)
{
	disk.random ^= disk.random >> 12;
	disk.random ^= disk.random << 25;
	disk.random ^= disk.random >> 27;
	return (disk.random * UINT64_C(0x2545f4914f6cdd1d) >> 33) % below;
}

/* Images */

static void set_size(struct image *i, size_t size)
{
	if (size > i->room) {
		i->room = size * 2;
		i->data = must(realloc(i->data, i->room));
	}
	if (size > i->size)
		memset(i->data + i->size, 0, size - i->size);
	i->size = size;
}

static void put(struct image *i, const uint8_t *data, size_t size, size_t offset)
{
	if (size == 0)
		return;
	if (offset + size > i->size)
		set_size(i, offset + size);
	memcpy(i->data + offset, data, size);
}

static void drop_pending(struct image *i)
{
	struct pending *p;

	while ((p = i->first)) {
		i->first = p->next;
		free(p);
	}
	i->last = &i->first;
}

static void apply(struct image *i, const struct pending *p)
{
	if (p->truncates)
		set_size(i, (size_t)p->offset);
	else
		put(i, p->data, p->size, (size_t)p->offset);
}

static void image_free(struct image *i)
{
	drop_pending(i);
	free(i->data);
	free(i->path);
	free(i);
}

/* A file that was there before is on the disk as it is. */
static void read_file(struct image *i)
{
	uint8_t data[65536];
	int fd = open(i->path, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	ssize_t n;

	if (fd < 0)
		return;
	i->exists = true;
	while ((n = read(fd, data, sizeof(data))) > 0) {
		put(i, data, (size_t)n, at);
		at += (size_t)n;
	}
	close(fd);
}

static struct image *find_image(const char *path)
{
	struct image *i;

	for (i = disk.images; i; i = i->next)
		if (strcmp(i->path, path) == 0)
			return i;
	i = must(calloc(1, sizeof(*i)));
	i->path = must(strdup(path));
	i->last = &i->first;
	i->next = disk.images;
	disk.images = i;
	read_file(i);
	return i;
}

static struct pending *remember(
	struct image *i, const void *data, size_t size, sqlite3_int64 offset)
{
	struct pending *p = must(calloc(1, sizeof(*p) + size));

	p->offset = offset;
	p->size = size;
	if (size > 0)
		memcpy(p->data, data, size);
	*i->last = p;
	i->last = &p->next;
	return p;
}

/* A write behind `p`, to the same page? Then the whole of the page is written. */
static bool is_dirty_again(const struct pending *p)
{
	sqlite3_int64 page = p->offset / PAGE;

	for (const struct pending *q = p->next; q; q = q->next)
		if (!q->doomed && !q->truncates && q->offset / PAGE <= page &&
			(q->offset + (sqlite3_int64)q->size - 1) / PAGE >= page)
			return true;
	return false;
}

/* A sync has failed: each page of what was written is clean now. */
static void doom(struct image *i)
{
	struct pending *all = i->first, *p;

	i->first = NULL;
	i->last = &i->first;
	while ((p = all)) {
		all = p->next;
		if (p->truncates)
			remember(i, NULL, 0, p->offset)->truncates = true;
		for (size_t at = 0; at < p->size;) {
			size_t left = PAGE - (size_t)(p->offset + (sqlite3_int64)at) % PAGE;
			size_t size = p->size - at < left ? p->size - at : left;

			remember(i, p->data + at, size, p->offset + (sqlite3_int64)at)->doomed =
				true;
			at += size;
		}
		free(p);
	}
}

static void make_durable(struct image *i)
{
	struct pending *p, *next, *kept = NULL, **last = &kept;

	i->exists = true;
	for (p = i->first; p; p = next) {
		next = p->next;
		if (p->doomed && !is_dirty_again(p)) {
			*last = p;
			last = &p->next;
			continue;
		}
		apply(i, p);
		free(p);
	}
	*last = NULL;
	i->first = kept;
	i->last = last == &kept ? &i->first : last;
}

/* What was deleted is gone for good. */
static void sync_directory(void)
{
	for (struct image *i = disk.images; i; i = i->next) {
		if (!i->deleted)
			continue;
		i->exists = i->deleted = false;
		set_size(i, 0);
	}
}

/* Faults */

static bool is_due(unsigned kind, uint64_t operation)
{
	return disk.fail_count > 0 && (disk.fail_kinds & kind) && operation >= disk.fail_first &&
	       operation - disk.fail_first < disk.fail_count;
}

/* 0: go on; else an errno. */
static int next_operation(unsigned kind)
{
	if (disk_is_stopped())
		return EIO;
	disk.operations++;
	disk.syncs += kind == DISK_SYNC;
	if (disk_is_stopped())
		return EIO;
	if (!is_due(kind, disk.operations))
		return 0;
	disk.failed++;
	return disk.fail_error;
}

static int say(int error, int code)
{
	disk.last_error = error;
	return error == ENOSPC ? SQLITE_FULL : code;
}

/* Methods of a file */

static int on_close(sqlite3_file *file)
{
	return below_of(file)->pMethods->xClose(below_of(file));
}

static int on_read(sqlite3_file *file, void *data, int size, sqlite3_int64 offset)
{
	if (((struct open_file *)(void *)file)->image &&
		(disk_is_stopped() || is_due(DISK_READ, disk.operations + 1))) {
		disk.failed++;
		disk.last_error = EIO;
		return SQLITE_IOERR_READ;
	}
	return below_of(file)->pMethods->xRead(below_of(file), data, size, offset);
}

static int on_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
	struct image *i = ((struct open_file *)(void *)file)->image;
	sqlite3_file *below = below_of(file);
	int error = i ? next_operation(DISK_WRITE) : 0;
	int code;

	if (error != 0 && !disk_is_stopped() && draw(2) == 0) {
		code = below->pMethods->xWrite(below, data, size / 2, offset);
		if (code == SQLITE_OK)
			remember(i, data, (size_t)size / 2, offset);
	}
	if (error != 0)
		return say(error, SQLITE_IOERR_WRITE);
	code = below->pMethods->xWrite(below, data, size, offset);
	if (code == SQLITE_OK && i)
		remember(i, data, (size_t)size, offset);
	return code;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct image *i = ((struct open_file *)(void *)file)->image;
	int error = i ? next_operation(DISK_TRUNCATE) : 0;
	int code;

	if (error != 0)
		return say(error, SQLITE_IOERR_TRUNCATE);
	code = below_of(file)->pMethods->xTruncate(below_of(file), size);
	if (code == SQLITE_OK && i)
		remember(i, NULL, 0, size)->truncates = true;
	return code;
}

static int on_sync(sqlite3_file *file, int flags)
{
	struct image *i = ((struct open_file *)(void *)file)->image;
	int error = i ? next_operation(DISK_SYNC) : 0;

	(void)flags;
	if (!i)
		return SQLITE_OK;
	if (error == 0) {
		make_durable(i);
		if (((struct open_file *)(void *)file)->names)
			sync_directory();
		((struct open_file *)(void *)file)->names = false;
		return SQLITE_OK;
	}
	if (!disk_is_stopped())
		doom(i);
	return say(error, SQLITE_IOERR_FSYNC);
}

static int on_file_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	return below_of(file)->pMethods->xFileSize(below_of(file), ret);
}

static int on_lock(sqlite3_file *file, int level)
{
	return below_of(file)->pMethods->xLock(below_of(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
	return below_of(file)->pMethods->xUnlock(below_of(file), level);
}

static int on_check_reserved(sqlite3_file *file, int *ret)
{
	return below_of(file)->pMethods->xCheckReservedLock(below_of(file), ret);
}

static int on_control(sqlite3_file *file, int what, void *argument)
{
	return below_of(file)->pMethods->xFileControl(below_of(file), what, argument);
}

static int on_sector_size(sqlite3_file *file)
{
	(void)file;
	return SECTOR;
}

/* What was not written stays as it was: all else may be torn. */
static int on_characteristics(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int on_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret)
{
	return below_of(file)->pMethods->xShmMap(below_of(file), page, size, extend, ret);
}

static int on_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
	return below_of(file)->pMethods->xShmLock(below_of(file), offset, n, flags);
}

static void on_shm_barrier(sqlite3_file *file)
{
	below_of(file)->pMethods->xShmBarrier(below_of(file));
}

static int on_shm_unmap(sqlite3_file *file, int delete)
{
	return below_of(file)->pMethods->xShmUnmap(below_of(file), delete);
}

/* Methods of the VFS */

static int on_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *ret)
{
	/* version 2: without xFetch, so that nothing is read or written past us */
	static const sqlite3_io_methods methods = {2, on_close, on_read, on_write, on_truncate,
		on_sync, on_file_size, on_lock, on_unlock, on_check_reserved, on_control,
		on_sector_size, on_characteristics, on_shm_map, on_shm_lock, on_shm_barrier,
		on_shm_unmap, NULL, NULL};
	const int logs = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
	const int kept = SQLITE_OPEN_MAIN_DB | logs;
	struct open_file *f = (struct open_file *)(void *)file;
	int code;

	(void)vfs;
	f->base.pMethods = NULL;
	f->image = NULL;
	f->names = (flags & logs) && (flags & SQLITE_OPEN_CREATE);
	if (disk_is_stopped())
		return SQLITE_CANTOPEN;
	if (name && (flags & kept))
		f->image = find_image(name); /* before it is made */
	if (f->image && f->image->deleted) {
		f->image->deleted = false;
		remember(f->image, NULL, 0, 0)->truncates = true;
	}
	below_of(file)->pMethods = NULL;
	code = disk.below->xOpen(disk.below, name, below_of(file), flags, ret);
	if (below_of(file)->pMethods)
		f->base.pMethods = &methods;
	return code;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	struct image *i = find_image(name);
	int error = next_operation(DISK_DELETE);
	int code;

	(void)vfs;
	if (error != 0)
		return say(error, SQLITE_IOERR_DELETE);
	code = disk.below->xDelete(disk.below, name, 0);
	if (code != SQLITE_OK)
		return code;
	drop_pending(i);
	i->deleted = true;
	if (sync)
		sync_directory();
	return SQLITE_OK;
}

static int on_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	(void)vfs;
	return disk.below->xAccess(disk.below, name, flags, ret);
}

static int on_full_path(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	(void)vfs;
	return disk.below->xFullPathname(disk.below, name, size, ret);
}

static int on_randomness(sqlite3_vfs *vfs, int size, char *ret)
{
	(void)vfs;
	for (int i = 0; i < size; i++)
		ret[i] = (char)draw(256);
	return size;
}

static int on_sleep(sqlite3_vfs *vfs, int usec)
{
	(void)vfs;
	return disk.below->xSleep(disk.below, usec);
}

static int on_time(sqlite3_vfs *vfs, double *ret)
{
	(void)vfs;
	return disk.below->xCurrentTime(disk.below, ret);
}

static int on_last_error(sqlite3_vfs *vfs, int size, char *ret)
{
	int below, error;

	(void)vfs;
	(void)size;
	(void)ret;
	below = disk.below->xGetLastError(disk.below, 0, NULL);
	error = disk.last_error != 0 ? disk.last_error : below;
	disk.last_error = 0;
	return error;
}

void disk_install(void)
{
	if (disk.below)
		return;
	disk.below = sqlite3_vfs_find(NULL);
	disk.random = 1;
	disk.vfs = (sqlite3_vfs){
		.iVersion = 1,
		.szOsFile = (int)sizeof(struct open_file) + disk.below->szOsFile,
		.mxPathname = disk.below->mxPathname,
		.zName = "disk",
		.xOpen = on_open,
		.xDelete = on_delete,
		.xAccess = on_access,
		.xFullPathname = on_full_path,
		.xRandomness = on_randomness,
		.xSleep = on_sleep,
		.xCurrentTime = on_time,
		.xGetLastError = on_last_error,
	};
	if (sqlite3_vfs_register(&disk.vfs, 1) != SQLITE_OK)
		must(NULL);
}

void disk_reset(uint64_t seed)
{
	struct image *i;

	while ((i = disk.images)) {
		disk.images = i->next;
		image_free(i);
	}
	disk.operations = disk.syncs = disk.failed = disk.stop_at = disk.fail_count = 0;
	disk.last_error = 0;
	disk.random = seed * 2 + 1;
	for (int n = 0; n < 20; n++)
		draw(2);
	sqlite3_randomness(0, NULL); /* takes it from us anew */
}

uint64_t disk_operations(void)
{
	return disk.operations;
}

uint64_t disk_syncs(void)
{
	return disk.syncs;
}

uint64_t disk_failed(void)
{
	return disk.failed;
}

void disk_stop_at(uint64_t n)
{
	disk.stop_at = n;
}

bool disk_is_stopped(void)
{
	return disk.stop_at != 0 && disk.operations >= disk.stop_at;
}

void disk_revive(void)
{
	disk.stop_at = 0;
}

/* How much of a write, from its beginning on, is there already. */
static size_t already(const struct image *i, const uint8_t *data, size_t size, size_t offset)
{
	size_t same = 0;

	while (same < size && offset + same < i->size && i->data[offset + same] == data[same])
		same++;
	return same;
}

/* What became of a write: all, nothing, or sector by sector. What it does not change it does not harm, as SQLite relies on, too:
 * the WAL is written once more in place, in which a sector may be the end of what is durable and the beginning of what is not. */
static void apply_some(struct image *i, struct pending *p)
{
	uint64_t fate = draw(4);

	if (fate == 0)
		return;
	if (fate == 1 || p->truncates) {
		apply(i, p);
		return;
	}
	for (size_t at = 0; at < p->size; at += SECTOR) {
		size_t size = p->size - at < SECTOR ? p->size - at : SECTOR;
		size_t same = already(i, p->data + at, size, (size_t)p->offset + at);
		uint64_t how = draw(8);

		switch (how) {
		case 0:
			if (same == size)
				break;
			memset(p->data + at + same, (int)draw(256), size - same);
			put(i, p->data + at, size, (size_t)p->offset + at);
			break;
		case 1:
		case 2:
		case 3:
			break;
		default:
			put(i, p->data + at, size, (size_t)p->offset + at);
		}
	}
}

static void write_file(const struct image *i)
{
	int fd;

	if (!i->exists) {
		(void)unlink(i->path);
		return;
	}
	fd = open(i->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0 || (i->size > 0 && write(fd, i->data, i->size) != (ssize_t)i->size)) {
		perror(i->path);
		abort();
	}
	close(fd);
}

void disk_power_back(enum disk_kept kept)
{
	for (struct image *i = disk.images; i; i = i->next) {
		char shm[4096];

		for (struct pending *p = i->first; p; p = p->next) {
			if (kept == DISK_KEPT_ALL)
				apply(i, p);
			else if (kept == DISK_KEPT_SOME)
				apply_some(i, p);
		}
		if (i->first && kept != DISK_KEPT_NOTHING)
			i->exists = i->exists || kept == DISK_KEPT_ALL || draw(2) == 0;
		drop_pending(i);
		if (i->deleted)
			i->exists = kept == DISK_KEPT_NOTHING ||
				    (kept == DISK_KEPT_SOME && draw(2) == 0);
		i->deleted = false;
		write_file(i);
		if (snprintf(shm, sizeof(shm), "%s-shm", i->path) < (int)sizeof(shm))
			(void)unlink(shm);
	}
	disk.stop_at = 0;
}

void disk_fail(uint64_t first, uint64_t count, unsigned kinds, int error)
{
	disk.fail_first = first;
	disk.fail_count = count;
	disk.fail_kinds = kinds;
	disk.fail_error = error;
}
