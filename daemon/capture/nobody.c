/* SPDX-License-Identifier: MIT */

/*
 * A socket names its cgroup by a 64-bit id, which is never reused within a boot: it is the file handle of the cgroup's
 * directory, so open_by_handle_at(2) below the cgroup2 mount gives the directory, and /proc/self/fd its path. That takes
 * CAP_DAC_READ_SEARCH; without it, or when the cgroup is gone, the owner alone is known. What was learnt is
 * remembered by id, for a unit that stopped is asked for just then: its last sockets outlive its cgroup.
 */

#include "daemon/capture/nobody.h"

#include "common/escape.h"
#include "daemon/capture/proc_parse.h"
#include "daemon/capture/proc_read.h"
#include "daemon/capture/unit.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#define FILEID_KERNFS 0xfe /* enum fid_type, <linux/exportfs.h>: a 64-bit node id */

/* Without padding: it is compared and hashed as bytes. */
struct nobody_key {
	uint64_t cgroup_id;
	uint32_t uid, kernel;
};
_Static_assert(sizeof(struct nobody_key) == 16, "a key has no padding");

struct nobody {
	struct nobody_key key;
	struct process *process; /* one reference */
	UT_hash_handle hh;       /* by key, in the order of arrival */
};

struct nobodies {
	int proc_fd;      /* not owned */
	int cgroup_fd;    /* root of the cgroup2 mount; -1: there is none */
	char *mount_path; /* of it; owned; NULL: there is none */
	struct nobody *by_key;
};

/* 0 or -ENOMEM; a host without cgroup2 is none the worse. */
static int open_cgroup_mount(struct nobodies *n)
{
	int e = proc_find_cgroup2(n->proc_fd, &n->mount_path);

	if (n->mount_path)
		n->cgroup_fd = open(n->mount_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return e == -ENOMEM ? e : 0;
}

struct nobodies *nobodies_new(int proc_fd)
{
	_cleanup_(nobodies_free_p) struct nobodies *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->proc_fd = proc_fd;
	n->cgroup_fd = -1;
	if (open_cgroup_mount(n) < 0)
		return NULL;
	return TAKE_PTR(n);
}

static void forget(struct nobodies *n, struct nobody *entry)
{
	HASH_DEL(n->by_key, entry);
	process_unref(entry->process);
	free(entry);
}

struct nobodies *nobodies_free(struct nobodies *n)
{
	struct nobody *entry, *next;

	if (!n)
		return NULL;
	HASH_ITER (hh, n->by_key, entry, next)
		forget(n, entry);
	if (n->cgroup_fd >= 0)
		(void)close(n->cgroup_fd);
	free(n->mount_path);
	free(n);
	return NULL;
}

/* The path of a cgroup as /proc/PID/cgroup would show it, in `path`. False: gone, or no permission. */
static bool cgroup_path(
	const struct nobodies *n, uint64_t cgroup_id, char *path, size_t size, const char **ret)
{
	union {
		struct file_handle handle;
		uint8_t room[sizeof(struct file_handle) + sizeof(cgroup_id)];
	} id = {.handle = {.handle_bytes = sizeof(cgroup_id), .handle_type = FILEID_KERNFS}};
	_cleanup_(close_p) int fd = -1;
	char name[32];
	size_t mount;

	if (n->cgroup_fd < 0)
		return false;
	memcpy(id.handle.f_handle, &cgroup_id, sizeof(cgroup_id));
	fd = open_by_handle_at(n->cgroup_fd, &id.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)snprintf(name, sizeof(name), "self/fd/%d", fd);
	if (proc_read_link(n->proc_fd, name, path, size) <= 0)
		return false;
	mount = strlen(n->mount_path);
	if (strncmp(path, n->mount_path, mount) != 0 || (path[mount] != '/' && path[mount] != '\0'))
		return false;
	*ret = path[mount] == '/' ? path + mount : "/";
	return true;
}

/* 0 or -ENOMEM. */
static int set_cgroup(const struct nobodies *n, uint64_t cgroup_id, struct process *p)
{
	char path[PATH_MAX + sizeof(PROC_DELETED)];
	_cleanup_(free_p) char *unit = NULL;
	const char *cgroup;

	if (!cgroup_path(n, cgroup_id, path, sizeof(path), &cgroup))
		return 0;
	p->cgroup = escape_store(cgroup, strlen(cgroup), LIMIT_STRING_BYTES);
	if (!p->cgroup)
		return -ENOMEM;
	if (unit_of_cgroup(cgroup, &unit) < 0)
		return -ENOMEM;
	if (!unit)
		return 0;
	p->unit = escape_store(unit, strlen(unit), LIMIT_STRING_BYTES);
	return p->unit ? 0 : -ENOMEM;
}

/* From what is remembered of the cgroup itself, for sockets of several owners. 0 or -ENOMEM. */
static int copy_cgroup(struct nobodies *n, uint64_t cgroup_id, struct process *p)
{
	_cleanup_(process_unref_p) struct process *cgroup = NULL;
	int e = nobodies_find(n, UID_UNSET, cgroup_id, false, &cgroup);

	if (e < 0)
		return e;
	p->cgroup = cgroup->cgroup ? strdup(cgroup->cgroup) : NULL;
	p->unit = cgroup->unit ? strdup(cgroup->unit) : NULL;
	return (cgroup->cgroup && !p->cgroup) || (cgroup->unit && !p->unit) ? -ENOMEM : 0;
}

/* Remembers in place of the oldest. 0 or -ENOMEM. */
static int remember(struct nobodies *n, const struct nobody_key *key, struct process *p)
{
	_cleanup_(free_p) struct nobody *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	if (HASH_COUNT(n->by_key) >= LIMIT_CGROUP_CACHE)
		forget(n, n->by_key);
	entry->key = *key;
	HASH_ADD(hh, n->by_key, key, sizeof(entry->key), entry);
	if (!entry->hh.tbl)
		return -ENOMEM;
	entry->process = process_ref(p);
	TAKE_PTR(entry);
	return 0;
}

int nobodies_find(
	struct nobodies *n, uint32_t uid, uint64_t cgroup_id, bool kernel, struct process **ret)
{
	struct nobody_key key = {.cgroup_id = cgroup_id, .uid = uid, .kernel = kernel};
	_cleanup_(process_unref_p) struct process *p = NULL;
	struct nobody *entry;
	int e;

	HASH_FIND(hh, n->by_key, &key, sizeof(key), entry);
	if (entry) {
		*ret = process_ref(entry->process);
		return 0;
	}
	p = process_new();
	if (!p)
		return -ENOMEM;
	p->uid = uid;
	if (cgroup_id != 0 && !kernel) {
		e = uid == UID_UNSET ? set_cgroup(n, cgroup_id, p) : copy_cgroup(n, cgroup_id, p);
		if (e < 0)
			return e;
	}
	e = remember(n, &key, p);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(p);
	return 0;
}
