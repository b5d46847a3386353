/* SPDX-License-Identifier: MIT */

/*
 * A process is read through the descriptor of its directory, which the kernel binds to that very process and not
 * to its number: a reused pid cannot slip in. Only what is asked by number (pidfd_open, libsystemd) could be
 * another's, so each is followed by a read through the directory: when that succeeds, the number was still taken.
 * What exec changes (name, executable) could be torn, so the executable is read twice and must be the same.
 *
 * A thread-group leader that ended while its threads live on is a zombie without executable, descriptors and mount
 * namespace; these are then read from a thread. Name, pid and start time are the leader's in any case.
 */

#include "daemon/capture/proc_read.h"

#include "common/escape.h"
#include "daemon/capture/proc_parse.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#ifndef PIDFS_MAGIC
#define PIDFS_MAGIC 0x50494446 /* <linux/magic.h> since 6.14 */
#endif

#define TEXT_BYTES      16384 /* stat, the head of status, and a cgroup file of 14 hierarchies */
#define MOUNTINFO_BYTES (256u * 1024u) /* some 2,000 mounts; the cgroup2 mount is an early one */
#define EXE_BYTES       (PATH_MAX + sizeof(PROC_DELETED))
#define READ_AGAIN_ON_EXEC                                                                         \
	3 /* a process that executes something else all the time is taken as it is */

int proc_reader_init(struct proc_reader *r, int proc_fd, bool pidfds)
{
	long ticks = sysconf(_SC_CLK_TCK);
	struct units *units = units_new();

	if (!units)
		return -ENOMEM;
	*r = (struct proc_reader){
		.proc_fd = proc_fd,
		.pidfds = pidfds,
		.ticks_per_second = ticks > 0 ? (uint64_t)ticks : 100,
		.units = units,
	};
	/* The host's, as PID 1 has it: a service's sandbox has made one of our own, in which nobody else is. */
	if (proc_read_link(proc_fd, "1/ns/mnt", r->mount_namespace, sizeof(r->mount_namespace)) <
			0 &&
		proc_read_link(
			proc_fd, "self/ns/mnt", r->mount_namespace, sizeof(r->mount_namespace)) < 0)
		r->mount_namespace[0] = '\0';
	return 0;
}

void proc_reader_done(struct proc_reader *r)
{
	r->units = units_free(r->units);
}

ssize_t proc_read_file(int dir_fd, const char *name, char *text, size_t size)
{
	_cleanup_(close_p) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t filled = 0;

	if (fd < 0)
		return -errno;
	while (filled < size - 1) {
		ssize_t n = read(fd, text + filled, size - 1 - filled);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && filled == 0)
			return -errno;
		if (n <= 0)
			break;
		filled += (size_t)n;
	}
	text[filled] = '\0';
	return (ssize_t)filled;
}

ssize_t proc_read_link(int dir_fd, const char *name, char *text, size_t size)
{
	ssize_t n = readlinkat(dir_fd, name, text, size - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return n;
}

int proc_find_cgroup2(int proc_fd, char **ret_path)
{
	_cleanup_(free_p) char *text = malloc(MOUNTINFO_BYTES);
	ssize_t size;

	if (!text)
		return -ENOMEM;
	size = proc_read_file(proc_fd, "self/mountinfo", text, MOUNTINFO_BYTES);
	return size < 0 ? -ENODATA : proc_parse_cgroup2_mount(text, (size_t)size, ret_path);
}

/* 0 where this kernel has no pidfs (there all pidfds share one inode). */
static uint64_t pidfd_inode(int32_t pid)
{
	_cleanup_(close_p) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct statfs filesystem;
	struct stat status;

	if (fd < 0 || fstatfs(fd, &filesystem) < 0 || filesystem.f_type != PIDFS_MAGIC ||
		fstat(fd, &status) < 0)
		return 0;
	return status.st_ino;
}

static int read_stat(int dir_fd, char *text, size_t size, struct proc_stat *ret)
{
	ssize_t n = proc_read_file(dir_fd, "stat", text, size);

	return n < 0 ? -ESRCH : proc_parse_stat(text, (size_t)n, ret);
}

static int store(const char *raw, size_t size, char **ret)
{
	*ret = escape_store(raw, size, LIMIT_STRING_BYTES);
	return *ret ? 0 : -ENOMEM;
}

/* The executable's stored path and what is to be said of it. Kernel threads, and processes we may not look into, have
 * none: *ret_exe is NULL then. 0 or -ENOMEM. */
static int read_exe(
	const struct proc_reader *r, int dir_fd, char **ret_exe, enum exe_note *ret_note)
{
	char link[EXE_BYTES], namespace[sizeof(r->mount_namespace)];
	enum exe_note note = EXE_NOTE_NONE;
	ssize_t n = proc_read_link(dir_fd, "exe", link, sizeof(link));
	struct stat status;
	size_t size;
	int e;

	if (n <= 0) {
		*ret_exe = NULL;
		*ret_note = EXE_NOTE_NONE;
		return 0;
	}
	size = (size_t)n;
	/* a living file may be called "x (deleted)": only the file's link count tells */
	if (fstatat(dir_fd, "exe", &status, 0) >= 0 && status.st_nlink == 0 &&
		proc_cut_suffix(link, &size, PROC_DELETED))
		note = size >= strlen("/memfd:") && strncmp(link, "/memfd:", strlen("/memfd:")) == 0
			       ? EXE_NOTE_MEMFD
			       : EXE_NOTE_DELETED;
	if (note != EXE_NOTE_MEMFD && r->mount_namespace[0] != '\0' &&
		proc_read_link(dir_fd, "ns/mnt", namespace, sizeof(namespace)) > 0 &&
		!streq(namespace, r->mount_namespace))
		note = EXE_NOTE_OTHER_NAMESPACE;
	e = store(link, size, ret_exe);
	if (e >= 0)
		*ret_note = note;
	return e;
}

/* The raw path of its cgroup as a string in `text`; NULL: none. */
static const char *read_cgroup(int dir_fd, char *text, size_t size)
{
	ssize_t n = proc_read_file(dir_fd, "cgroup", text, size);
	const char *path;
	size_t length;

	if (n < 0 || proc_parse_cgroup(text, (size_t)n, &path, &length) < 0)
		return NULL;
	text[path - text + (ssize_t)length] = '\0';
	return path;
}

/* libsystemd is asked by number, and what it says is remembered for the cgroup: so it counts only if the process is
 * still there, and still in this cgroup. 0 or -ENOMEM. */
static int ask_unit(
	const struct proc_reader *r, int dir_fd, int32_t pid, const char *cgroup, char **ret_unit)
{
	_cleanup_(free_p) char *unit = NULL;
	char text[TEXT_BYTES];
	int e;

	if (!r->pidfds)
		return unit_of_cgroup(cgroup, ret_unit);
	e = unit_of_pid(pid, cgroup, &unit);
	if (e < 0)
		return e;
	if (!streq_null(cgroup, read_cgroup(dir_fd, text, sizeof(text))))
		return unit_of_cgroup(cgroup, ret_unit);
	*ret_unit = TAKE_PTR(unit);
	return 0;
}

/* Cgroup and unit. 0 or -ENOMEM. */
static int read_unit(struct proc_reader *r, int dir_fd, struct process *p)
{
	char text[TEXT_BYTES];
	_cleanup_(free_p) char *fresh = NULL;
	const char *cgroup = read_cgroup(dir_fd, text, sizeof(text)), *unit;
	int e;

	if (!cgroup)
		return 0;
	e = store(cgroup, strlen(cgroup), &p->cgroup);
	if (e < 0)
		return e;
	if (!units_get(r->units, cgroup, &unit)) {
		e = ask_unit(r, dir_fd, p->pid, cgroup, &fresh);
		if (e >= 0)
			e = units_put(r->units, cgroup, fresh);
		if (e < 0)
			return e;
		unit = fresh;
	}
	return unit ? store(unit, strlen(unit), &p->unit) : 0;
}

/* A parent is older than its child: one that is younger has only got its number. 0 or -ENOMEM. */
static int read_parent(const struct proc_reader *r, uint64_t start_ticks, struct process *p)
{
	char name[32], text[TEXT_BYTES];
	struct proc_stat parent;
	ssize_t n;

	if (p->parent_pid == 0)
		return 0;
	(void)snprintf(name, sizeof(name), "%d/stat", p->parent_pid);
	n = proc_read_file(r->proc_fd, name, text, sizeof(text));
	if (n < 0 || proc_parse_stat(text, (size_t)n, &parent) < 0 ||
		parent.start_ticks > start_ticks)
		return 0;
	return store(parent.comm, parent.comm_size, &p->parent_comm);
}

static uint32_t read_uid(int dir_fd)
{
	char text[TEXT_BYTES];
	struct proc_status status;
	ssize_t n = proc_read_file(dir_fd, "status", text, sizeof(text));

	return n >= 0 && proc_parse_status(text, (size_t)n, &status) >= 0 ? status.effective_uid
									  : UID_UNSET;
}

/* Name, executable and parent as they are now: what can change, and what a known process is compared by. */
static int read_image(const struct proc_reader *r, int dir_fd, int live_fd, struct process *p,
	uint64_t *ret_ticks)
{
	char text[TEXT_BYTES];
	struct proc_stat stat;
	enum exe_note note;
	int e;

	e = read_exe(r, live_fd, &p->exe, &note);
	if (e < 0)
		return e;
	p->exe_note = (uint8_t)note;
	e = read_stat(dir_fd, text, sizeof(text), &stat);
	if (e < 0)
		return -ESRCH;
	p->parent_pid = stat.parent_pid;
	p->start_boot = proc_ticks_to_usec(stat.start_ticks, r->ticks_per_second);
	*ret_ticks = stat.start_ticks;
	return store(stat.comm, stat.comm_size, &p->comm);
}

static bool same_image(const struct process *a, const struct process *b)
{
	return streq_null(a->comm, b->comm) && streq_null(a->exe, b->exe) &&
	       a->exe_note == b->exe_note && a->start_boot == b->start_boot;
}

/* One reading. 0, 1 (the process executed something else meanwhile: the result may be torn), or negative errno. */
static int read_once(struct proc_reader *r, int dir_fd, int live_fd, int32_t pid,
	struct process *known, struct process **ret)
{
	_cleanup_(process_unref_p) struct process *p = process_new();
	_cleanup_(free_p) char *exe = NULL;
	enum exe_note note;
	uint64_t ticks;
	bool torn;
	int e;

	if (!p)
		return -ENOMEM;
	p->pid = pid;
	p->pidfd_inode = known ? known->pidfd_inode : r->pidfds ? pidfd_inode(pid) : 0;
	e = read_image(r, dir_fd, live_fd, p, &ticks);
	if (e < 0)
		return e;
	if (known && same_image(known, p)) {
		*ret = process_ref(known);
		return 0;
	}
	p->uid = read_uid(live_fd);
	e = read_unit(r, live_fd, p);
	if (e < 0)
		return e;
	e = read_parent(r, ticks, p);
	if (e < 0)
		return e;
	e = read_exe(r, live_fd, &exe, &note);
	if (e < 0)
		return e;
	torn = !streq_null(exe, p->exe);
	*ret = TAKE_PTR(p);
	return torn;
}

/* The directory of the thread where the leader is a zombie; else -1: the process's own will do. */
static int open_live(int dir_fd, int32_t pid, int32_t tid)
{
	char name[32], text[TEXT_BYTES];
	struct proc_stat stat;

	if (tid == pid || read_stat(dir_fd, text, sizeof(text), &stat) < 0 || stat.state != 'Z')
		return -1;
	(void)snprintf(name, sizeof(name), "task/%d", tid);
	return openat(dir_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int proc_read_process(struct proc_reader *r, int dir_fd, int32_t pid, int32_t tid,
	struct process *known, struct process **ret)
{
	_cleanup_(close_p) int thread_fd = open_live(dir_fd, pid, tid);
	_cleanup_(process_unref_p) struct process *p = NULL;
	int live_fd = thread_fd >= 0 ? thread_fd : dir_fd, e = 1;

	for (unsigned i = 0; i < READ_AGAIN_ON_EXEC && e == 1; i++) {
		p = process_unref(p);
		e = read_once(r, dir_fd, live_fd, pid, known, &p);
	}
	if (e < 0)
		return e;
	*ret = TAKE_PTR(p);
	return 0;
}
