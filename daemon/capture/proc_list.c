/* SPDX-License-Identifier: MIT */

/*
 * Threads share their leader's descriptor table, except one that called unshare(CLONE_FILES), and all when the leader
 * is a zombie: it has no table any more. Listing each thread would multiply the cost by their number, so kcmp(2) is
 * asked (1 us) whether a thread's table is one that was listed already. Where it is denied or missing, all are
 * listed, and nothing is lost but time. A zombie leader needs no case of its own: no table is equal to no other.
 */

#include "daemon/capture/proc_list.h"

#include "daemon/capture/proc_parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DIRECTORY_BYTES 8192 /* of one getdents64: some 300 descriptors, 1.5 ms */
#define LINK_BYTES      64 /* "socket:[...]" is shorter; of a longer link this is enough to tell */
#define TABLES_MAX      4  /* that threads are compared with; what differs from these is listed */

int numbers_add(struct numbers *n, uint64_t value)
{
	if (n->count == n->capacity) {
		size_t capacity = n->capacity ? n->capacity * 2 : 64;
		uint64_t *items = reallocarray(n->items, capacity, sizeof(*items));

		if (!items)
			return -ENOMEM;
		n->items = items;
		n->capacity = capacity;
	}
	n->items[n->count++] = value;
	return 0;
}

void numbers_done(struct numbers *n)
{
	free(n->items);
	*n = (struct numbers){0};
}

int proc_list_pids(int dir_fd, const char *name, struct numbers *n)
{
	_cleanup_(close_p) int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint8_t room[DIRECTORY_BYTES] __attribute__((aligned(8)));

	if (fd < 0)
		return -errno;
	n->count = 0;
	for (;;) {
		ssize_t size = getdents64(fd, room, sizeof(room));

		if (size <= 0)
			return size < 0 ? -errno : 0;
		for (ssize_t at = 0; at < size;) {
			const struct dirent64 *entry = (const void *)(room + at);
			int32_t pid;

			at += entry->d_reclen;
			if (proc_parse_pid(entry->d_name, &pid) &&
				numbers_add(n, (uint64_t)pid) < 0)
				return -ENOMEM;
		}
	}
}

/* One listing of one process. */
struct listing {
	int dir_fd;
	int32_t pid;
	bool live;
	usec_t deadline;
	struct proc_position *position;
	proc_socket_fn found;
	void *context;
	int32_t tables[TABLES_MAX]; /* threads whose tables differ from each other */
	size_t table_count;
};

static bool share_table(int32_t a, int32_t b)
{
	return syscall(SYS_kcmp, a, b, KCMP_FILES, 0, 0) == 0;
}

/* Is this thread's table one that was met before? If not it is remembered. */
static bool was_met(struct listing *l, int32_t tid)
{
	for (size_t i = 0; l->live && i < l->table_count; i++)
		if (share_table(l->tables[i], tid))
			return true;
	if (l->table_count < TABLES_MAX)
		l->tables[l->table_count++] = tid;
	return false;
}

static bool is_denied(int error)
{
	return error == EACCES || error == EPERM;
}

/* A piece of a table. Where one link is denied all are: it does not try the others. */
static int list_links(
	const struct listing *l, int fd, int32_t tid, const uint8_t *room, ssize_t size)
{
	for (ssize_t at = 0; at < size;) {
		const struct dirent64 *entry = (const void *)(room + at);
		char link[LINK_BYTES];
		uint64_t inode;
		ssize_t n;
		int r;

		at += entry->d_reclen;
		if (entry->d_name[0] == '.')
			continue;
		n = readlinkat(fd, entry->d_name, link, sizeof(link));
		if (n < 0 && is_denied(errno))
			return PROC_LISTED_DENIED;
		if (n < 0 || !proc_parse_socket(link, (size_t)n, &inode))
			continue;
		r = l->found(l->context, tid, inode);
		if (r < 0)
			return r;
	}
	return PROC_LISTED_WHOLE;
}

/* The table of one thread, from `offset` on. Returns as proc_list_sockets(). */
static int list_table(const struct listing *l, int32_t tid, off_t offset)
{
	uint8_t room[DIRECTORY_BYTES] __attribute__((aligned(8)));
	_cleanup_(close_p) int fd = -1;
	char name[32] = "fd";

	if (tid != l->pid)
		(void)snprintf(name, sizeof(name), "task/%d/fd", tid);
	fd = openat(l->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
			return -errno;
		return is_denied(errno) ? PROC_LISTED_DENIED : PROC_LISTED_WHOLE;
	}
	if (offset > 0)
		(void)lseek(fd, offset, SEEK_SET);
	for (;;) {
		ssize_t size = getdents64(fd, room, sizeof(room));
		int r;

		if (size <= 0)
			return size < 0 && is_denied(errno) ? PROC_LISTED_DENIED
							    : PROC_LISTED_WHOLE;
		r = list_links(l, fd, tid, room, size);
		if (r != PROC_LISTED_WHOLE)
			return r;
		/* a piece that has room for another name is the last */
		if ((size_t)size + sizeof(struct dirent64) > sizeof(room) &&
			clock_cpu_usec() >= l->deadline) {
			l->position->tid = tid;
			l->position->offset = lseek(fd, 0, SEEK_CUR);
			return PROC_LISTED_PART;
		}
	}
}

/* A directory has two links and one more for each thread. Elsewhere than in a real /proc they are counted. */
static bool has_one_thread(const struct listing *l)
{
	struct stat status;

	return l->live && fstatat(l->dir_fd, "task", &status, 0) >= 0 && status.st_nlink == 3;
}

static int list_threads(struct listing *l, const struct numbers *tids)
{
	struct proc_position from = *l->position;
	bool progress = false, denied = false;

	*l->position = (struct proc_position){0};
	for (size_t i = 0; i < tids->count; i++) {
		int32_t tid = (int32_t)tids->items[i];
		off_t offset = 0;
		int r;

		if (was_met(l, tid))
			continue;
		if (from.tid != 0 && from.tid != tid)
			continue; /* listed by an earlier part */
		if (from.tid == tid)
			offset = from.offset;
		from.tid = 0;
		if (progress && clock_cpu_usec() >= l->deadline) {
			l->position->tid = tid;
			return PROC_LISTED_PART;
		}
		progress = true;
		r = list_table(l, tid, offset);
		if (r < 0 || r == PROC_LISTED_PART)
			return r;
		denied = denied || r == PROC_LISTED_DENIED;
	}
	/* the thread to go on with is gone: the next call begins again */
	if (from.tid != 0)
		return PROC_LISTED_PART;
	return denied ? PROC_LISTED_DENIED : PROC_LISTED_WHOLE;
}

int proc_list_sockets(int dir_fd, int32_t pid, bool live, usec_t deadline, struct numbers *tids,
	struct proc_position *position, proc_socket_fn found, void *context)
{
	struct listing l = {
		.dir_fd = dir_fd,
		.pid = pid,
		.live = live,
		.deadline = deadline,
		.position = position,
		.found = found,
		.context = context,
	};
	int r;

	tids->count = 0;
	if (!has_one_thread(&l)) {
		r = proc_list_pids(dir_fd, "task", tids);
		if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
			return r;
	}
	if (tids->count == 0) {
		r = numbers_add(tids, (uint64_t)pid);
		if (r < 0)
			return r;
	}
	return list_threads(&l, tids);
}
