/* SPDX-License-Identifier: MIT */

/*
 * The id of a cgroup is the file handle of its directory, and its inode number. So there are three ways to its path:
 * open_by_handle_at(2) below the cgroup2 mount, which takes CAP_DAC_READ_SEARCH; what /proc/PID/cgroup says of a process
 * that is known to have been in it, if the directory of that name has the number; and a walk over all directories, which
 * finds what is there still and remembers the others for later.
 */

#include "daemon/capture/cgroup.h"

#include "common/clock.h"
#include "common/limits.h"
#include "daemon/capture/proc_parse.h"
#include "daemon/capture/proc_read.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#define FILEID_KERNFS 0xfe /* enum fid_type, <linux/exportfs.h>: a 64-bit node id */
#define SCAN_SPACING  20u
#define DEPTH_MAX     32u

struct cgroup {
	uint64_t id;
	char *path;        /* owned */
	UT_hash_handle hh; /* by id, in the order of arrival */
};

struct cgroups {
	int proc_fd;      /* not owned */
	int root_fd;      /* root of the cgroup2 mount; -1: there is none */
	char *mount_path; /* of it; owned; NULL: there is none */
	struct cgroup *by_id;
	usec_t scan_after; /* boottime before which no walk is made */
};

static void forget(struct cgroups *c, struct cgroup *g)
{
	HASH_DEL(c->by_id, g);
	free(g->path);
	free(g);
}

struct cgroups *cgroups_free(struct cgroups *c)
{
	struct cgroup *g, *next;

	if (!c)
		return NULL;
	HASH_ITER (hh, c->by_id, g, next)
		forget(c, g);
	close_p(&c->root_fd);
	free(c->mount_path);
	free(c);
	return NULL;
}

struct cgroups *cgroups_new(int proc_fd)
{
	_cleanup_(cgroups_free_p) struct cgroups *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->proc_fd = proc_fd;
	c->root_fd = -1;
	/* a host without cgroup2 is none the worse */
	if (proc_find_cgroup2(proc_fd, &c->mount_path) == -ENOMEM)
		return NULL;
	if (c->mount_path)
		c->root_fd = open(c->mount_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return TAKE_PTR(c);
}

static struct cgroup *find(const struct cgroups *c, uint64_t id)
{
	struct cgroup *g;

	HASH_FIND(hh, c->by_id, &id, sizeof(id), g);
	return g;
}

/* Remembers in place of the oldest. 0 or -ENOMEM. */
static int remember(struct cgroups *c, uint64_t id, const char *path)
{
	struct cgroup *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->id = id;
	g->path = strdup(path);
	if (g->path && HASH_COUNT(c->by_id) >= LIMIT_CGROUP_CACHE)
		forget(c, c->by_id);
	if (g->path)
		HASH_ADD(hh, c->by_id, id, sizeof(g->id), g);
	if (g->hh.tbl)
		return 0;
	free(g->path);
	free(g);
	return -ENOMEM;
}

/* By its handle. False: gone, or no permission. */
static bool path_by_handle(
	const struct cgroups *c, uint64_t id, char *path, size_t size, const char **ret)
{
	union {
		struct file_handle handle;
		uint8_t room[sizeof(struct file_handle) + sizeof(id)];
	} h = {.handle = {.handle_bytes = sizeof(id), .handle_type = FILEID_KERNFS}};
	_cleanup_(close_p) int fd = -1;
	char name[32];
	size_t mount = strlen(c->mount_path);

	memcpy(h.handle.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(c->root_fd, &h.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)snprintf(name, sizeof(name), "self/fd/%d", fd);
	if (proc_read_link(c->proc_fd, name, path, size) <= 0)
		return false;
	if (strncmp(path, c->mount_path, mount) != 0 || (path[mount] != '/' && path[mount] != '\0'))
		return false;
	*ret = path[mount] == '/' ? path + mount : "/";
	return true;
}

/* By a process. False: it is gone, or somewhere else by now. */
static bool path_by_process(const struct cgroups *c, uint64_t id, int32_t pid, char *text,
	size_t size, const char **ret)
{
	const char *path;
	struct stat status;
	char name[32];
	size_t length;
	ssize_t n;

	if (pid == 0)
		return false;
	(void)snprintf(name, sizeof(name), "%d/cgroup", pid);
	n = proc_read_file(c->proc_fd, name, text, size);
	if (n < 0 || proc_parse_cgroup(text, (size_t)n, &path, &length) < 0 || length == 0)
		return false;
	text[path - text + (ssize_t)length] = '\0';
	if (fstatat(c->root_fd, length > 1 ? path + 1 : ".", &status, 0) < 0 || status.st_ino != id)
		return false;
	*ret = path;
	return true;
}

static void close_directory(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

/* Remembers all below `path`, of `length` bytes. 0 or -ENOMEM. */
static int scan(struct cgroups *c, int dir_fd, char *path, size_t length, unsigned depth)
{
	_cleanup_(close_directory) DIR *d = NULL;
	struct dirent *item;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		close_p(&fd);
		return 0; /* it has just gone */
	}
	while (r == 0 && (item = readdir(d))) {
		_cleanup_(close_p) int child = -1;
		size_t size = strlen(item->d_name);

		if (item->d_type != DT_DIR || streq(item->d_name, ".") ||
			streq(item->d_name, "..") || length + size + 2 > PATH_MAX)
			continue;
		path[length] = '/';
		memcpy(path + length + 1, item->d_name, size + 1);
		if (!find(c, item->d_ino))
			r = remember(c, item->d_ino, path);
		child = openat(dir_fd, item->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r == 0 && child >= 0 && depth < DEPTH_MAX)
			r = scan(c, child, path, length + 1 + size, depth + 1);
	}
	return r;
}

/* 0 or -ENOMEM. */
static int scan_all(struct cgroups *c)
{
	usec_t begin = clock_boot();
	char path[PATH_MAX];
	struct stat status;
	int r = 0;

	if (begin < c->scan_after)
		return 0;
	if (fstat(c->root_fd, &status) == 0 && !find(c, status.st_ino))
		r = remember(c, status.st_ino, "/");
	if (r == 0)
		r = scan(c, c->root_fd, path, 0, 0);
	c->scan_after = clock_boot() + SCAN_SPACING * (clock_boot() - begin);
	return r;
}

bool cgroups_know(const struct cgroups *c, uint64_t id)
{
	return find(c, id) != NULL;
}

int cgroups_learn(struct cgroups *c, uint64_t id, const char *path)
{
	return find(c, id) ? 0 : remember(c, id, path);
}

int cgroups_path(struct cgroups *c, uint64_t id, int32_t pid, const char **ret_path)
{
	const struct cgroup *g = id == 0 ? NULL : find(c, id);
	char text[PATH_MAX + 256];
	const char *path;
	int r = 0;

	if (!g && id != 0 && c->root_fd >= 0) {
		if (path_by_handle(c, id, text, sizeof(text), &path) ||
			path_by_process(c, id, pid, text, sizeof(text), &path))
			r = remember(c, id, path);
		else
			r = scan_all(c);
		g = find(c, id);
	}
	if (r < 0)
		return r;
	*ret_path = g ? g->path : NULL;
	return 0;
}
