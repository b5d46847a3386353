/* SPDX-License-Identifier: MIT */

/*
 * A socket can have several holders, and its opener is the one that started first: to know them, every process
 * must be looked at. Stopping at the first holder, or at its relatives, would name a daemonized grandchild in place
 * of the program that leaked the socket to it. But listing costs 5 us a descriptor, and most processes sleep:
 *
 * A process that has not run since its descriptors were listed has the same descriptors. Its CPU clock (one system
 * call of 0.3 us, for any process) tells, in nanoseconds; the inode and times of its directory in /proc tell that it
 * is the same process (a directory stays bound to its process). So a walk lists those that ran, or that held a wanted
 * socket when they were listed last, and skips the others. With 300 processes of 100 descriptors, all asleep, a walk
 * costs 8 ms in place of 160-200, with 2,000 31 in place of 1,500. Three things could deceive it:
 *  - The kernel adds to the clock of a running thread only at its ticks, so a process that woke up this very
 *    millisecond may look asleep: it is asked again at the end of the walk.
 *  - A table shared with another process (CLONE_FILES without CLONE_THREAD) changes while one of the two sleeps. The
 *    other one is found.
 *  - A kernel whose CPU clocks are coarse. That is tried first.
 * Against all of them: while a wanted socket has no holder, nothing is skipped, and one process in LIST_ANYWAY is listed
 * in each walk though it sleeps.
 *
 * Fairness: a walk that its budget cuts off is gone on with by the next: who was not reached yet in this round comes
 * first. So whatever it costs, everybody is reached after total/budget walks. A process whose descriptors alone exceed
 * the budget is listed in parts. An inode is settled when all were listed since it was first asked for.
 */

#include "daemon/capture/procfs.h"

#include "daemon/capture/holders.h"
#include "daemon/capture/nobody.h"
#include "daemon/capture/proc_list.h"
#include "daemon/capture/proc_parse.h"
#include "daemon/capture/proc_read.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define LIST_ANYWAY 64u /* walks after which a process is listed although it sleeps */
#define CPU_UNKNOWN UINT64_MAX

/* In which order processes are looked at. */
enum rank {
	RANK_OWNER,     /* held a socket that was asked for, and may own one that is wanted */
	RANK_NEW,       /* was not there at the last walk */
	RANK_UID,       /* its effective uid owns a wanted socket */
	RANK_OTHER,     /* anybody else */
	RANK_UNCHANGED, /* has not run since it was listed, and held nothing that is wanted */
};

/* A process, from its first walk until it is gone. */
struct entry {
	int32_t pid;
	uint32_t uid; /* effective, of /proc/PID's owner */
	/* the identity of its directory in /proc */
	uint64_t inode;
	struct timespec created;
	uint64_t cpu_nsec; /* its CPU clock before it was listed; CPU_UNKNOWN: list it again */
	/* walk in which it was last listed whole, or known to be unchanged; 0: none */
	uint64_t seen;
	uint64_t listed; /* walk in which it was last listed whole */
	uint64_t round;  /* in which it was last reached */
	uint64_t begun;  /* walk in which a listing began that the budget cut off; 0: none */
	struct proc_position position; /* where it goes on */
	/* socket inodes that it had, ascending; owned; hold only while cpu_nsec is known */
	uint64_t *sockets;
	uint32_t socket_count;
	struct process *process; /* one reference; NULL: never held what was asked for */
	uint64_t process_walk;   /* in which `process` was last read */
	uint8_t rank;
	bool later; /* was reached in this round already */
};

/* An inode that was asked for and is not settled: what was found of it yet. */
struct pending {
	struct procfs_wanted wanted; /* with its references */
	uint64_t since;              /* walk in which it was first asked for */
};

struct procfs {
	struct proc_reader reader;
	struct nobodies *nobodies;
	struct entry *entries; /* owned, ascending by pid */
	size_t entry_count;
	struct pending *pending; /* owned, ascending by inode */
	size_t pending_count;
	uint64_t walk, round; /* count from 1 */
	bool cpu_clocks;      /* fine enough to tell who ran */
	size_t sockets_remembered, processes_remembered;
	struct numbers pids;          /* in /proc now */
	struct numbers tids, sockets; /* of the process that is being listed */
};

/* One call of procfs_find(). */
struct walk {
	struct procfs *p;
	struct procfs_wanted *wanted; /* ascending by inode */
	size_t count;
	uint64_t *inodes;     /* of `wanted`; owned */
	uint64_t *uids;       /* of `wanted`, ascending; owned */
	uint64_t *since;      /* walk in which each was first asked for; owned */
	int32_t *last_holder; /* pid that was last counted for each; owned */
	uint64_t newest;      /* the highest of `since` */
	size_t unknown;       /* how many have no holder yet */
	struct entry **order; /* of p->entries; owned */
	usec_t deadline;      /* one of clock_cpu_usec() */
	struct procfs_result result;
};

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Position of the first item that is not less. */
static size_t lower_bound(const uint64_t *items, size_t count, uint64_t value)
{
	size_t low = 0;

	while (count > 0) {
		size_t half = count / 2;

		if (items[low + half] < value) {
			low += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return low;
}

/* Do two ascending arrays share an item? Looks the shorter one up in the longer. */
static bool intersect(const uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count)
{
	if (a_count > b_count)
		return intersect(b, b_count, a, a_count);
	for (size_t i = 0; i < a_count; i++) {
		size_t at = lower_bound(b, b_count, a[i]);

		if (at < b_count && b[at] == a[i])
			return true;
	}
	return false;
}

/* The CPU time of a process since its start, all threads; any process may ask. The clock's number is kernel ABI
 * (clock_getcpuclockid(3) makes the same, with a system call more). */
static uint64_t cpu_clock(int32_t pid)
{
	struct timespec t;

	if (clock_gettime((clockid_t)((~(uint32_t)pid << 3) | 2u), &t) < 0)
		return CPU_UNKNOWN;
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Does our own clock see a few system calls? A clock that moves in ticks does not. */
static bool cpu_clocks_are_fine(void)
{
	uint64_t before = cpu_clock(getpid()), middle = cpu_clock(getpid());

	return before < middle && middle < cpu_clock(getpid());
}

static void forget_sockets(struct procfs *p, struct entry *e)
{
	p->sockets_remembered -= e->socket_count;
	free(e->sockets);
	e->sockets = NULL;
	e->socket_count = 0;
	e->cpu_nsec = CPU_UNKNOWN;
}

static void forget_process(struct procfs *p, struct entry *e)
{
	if (e->process)
		p->processes_remembered--;
	e->process = process_unref(e->process);
}

static void entry_done(struct procfs *p, struct entry *e)
{
	forget_sockets(p, e);
	forget_process(p, e);
}

struct procfs *procfs_new(int proc_fd, bool pidfds)
{
	_cleanup_(procfs_free_p) struct procfs *p = calloc(1, sizeof(*p));

	if (!p || proc_reader_init(&p->reader, proc_fd, pidfds) < 0)
		return NULL;
	p->nobodies = nobodies_new(proc_fd);
	if (!p->nobodies)
		return NULL;
	p->round = 1;
	p->cpu_clocks = pidfds && cpu_clocks_are_fine();
	return TAKE_PTR(p);
}

static void forget_pending(struct procfs *p)
{
	for (size_t i = 0; i < p->pending_count; i++)
		holders_forget(&p->pending[i].wanted);
	free(p->pending);
	p->pending = NULL;
	p->pending_count = 0;
}

struct procfs *procfs_free(struct procfs *p)
{
	if (!p)
		return NULL;
	for (size_t i = 0; i < p->entry_count; i++)
		entry_done(p, &p->entries[i]);
	free(p->entries);
	forget_pending(p);
	numbers_done(&p->pids);
	numbers_done(&p->tids);
	numbers_done(&p->sockets);
	nobodies_free(p->nobodies);
	proc_reader_done(&p->reader);
	free(p);
	return NULL;
}

int procfs_nobody(
	struct procfs *p, uint32_t uid, uint64_t cgroup_id, bool kernel, struct process **ret)
{
	return nobodies_find(p->nobodies, uid, cgroup_id, kernel, ret);
}

bool procfs_knows_cgroup(const struct procfs *p, uint64_t cgroup_id)
{
	return nobodies_know_cgroup(p->nobodies, cgroup_id);
}

int procfs_learn_cgroup(struct procfs *p, uint64_t cgroup_id, const char *path)
{
	return nobodies_learn_cgroup(p->nobodies, cgroup_id, path);
}

int procfs_set_cgroup(struct procfs *p, uint64_t cgroup_id, struct process *process)
{
	return nobodies_set_cgroup(p->nobodies, cgroup_id, process);
}

int procfs_process(struct procfs *p, int32_t pid, usec_t start_boot, struct process **ret)
{
	_cleanup_(process_unref_p) struct process *process = NULL;
	_cleanup_(close_p) int dir_fd = -1;
	char name[16];
	int r;

	(void)snprintf(name, sizeof(name), "%d", pid);
	dir_fd = openat(p->reader.proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return errno == ENOMEM ? -ENOMEM : -ESRCH;
	r = proc_read_process(&p->reader, dir_fd, pid, pid, NULL, &process);
	if (r < 0)
		return r;
	if (process->start_boot > start_boot ||
		start_boot - process->start_boot >= USEC_PER_SEC / p->reader.ticks_per_second)
		return -ESRCH;
	process->start_boot = start_boot;
	*ret = TAKE_PTR(process);
	return 0;
}

bool procfs_sees_others(void)
{
	const uint64_t needed = UINT64_C(1) << CAP_SYS_PTRACE | UINT64_C(1) << CAP_DAC_READ_SEARCH;
	struct proc_status status;
	char text[4096];
	ssize_t n = proc_read_file(AT_FDCWD, "/proc/self/status", text, sizeof(text));

	return n >= 0 && proc_parse_status(text, (size_t)n, &status) >= 0 &&
	       (status.effective_capabilities & needed) == needed;
}

/* The directory of a process: who it is, and whose. False: it is gone. */
static bool identify(int dir_fd, const char *name, int flags, struct entry *e)
{
	struct stat status;

	if (fstatat(dir_fd, name, &status, flags) < 0)
		return false;
	e->inode = status.st_ino;
	e->created = status.st_mtim;
	e->uid = status.st_uid;
	return true;
}

static bool same_process(const struct entry *a, const struct entry *b)
{
	return a->pid == b->pid && a->inode == b->inode && a->created.tv_sec == b->created.tv_sec &&
	       a->created.tv_nsec == b->created.tv_nsec;
}

/* Moves what is known of the same process into `fresh`, and frees it of those that are gone. `*next` goes through the
 * old entries, as `fresh` goes through the new, by pid. */
static void take_over(struct procfs *p, size_t *next, struct entry *fresh)
{
	uint32_t uid = fresh->uid;

	while (*next < p->entry_count && p->entries[*next].pid < fresh->pid)
		entry_done(p, &p->entries[(*next)++]);
	if (*next == p->entry_count || !same_process(&p->entries[*next], fresh))
		return;
	*fresh = p->entries[(*next)++];
	if (fresh->uid != uid)
		forget_process(p, fresh);
	fresh->uid = uid;
}

/* Makes p->entries those of the processes that are there now. 0, -ENOMEM, or -EIO. */
static int refresh(struct procfs *p)
{
	_cleanup_(free_p) struct entry *fresh = NULL;
	size_t count = 0, next = 0;
	int r = proc_list_pids(p->reader.proc_fd, ".", &p->pids);

	if (r < 0)
		return r == -ENOMEM ? r : -EIO;
	qsort(p->pids.items, p->pids.count, sizeof(*p->pids.items), compare_numbers);
	fresh = calloc(p->pids.count + 1, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	for (size_t i = 0; i < p->pids.count; i++) {
		struct entry *e = &fresh[count];
		char name[16];

		*e = (struct entry){.pid = (int32_t)p->pids.items[i], .cpu_nsec = CPU_UNKNOWN};
		(void)snprintf(name, sizeof(name), "%d", e->pid);
		if (!identify(p->reader.proc_fd, name, 0, e))
			continue;
		take_over(p, &next, e);
		count++;
	}
	while (next < p->entry_count)
		entry_done(p, &p->entries[next++]);
	free(p->entries);
	p->entries = TAKE_PTR(fresh);
	p->entry_count = count;
	return 0;
}

static bool is_unchanged(const struct entry *e)
{
	return e->cpu_nsec != CPU_UNKNOWN && cpu_clock(e->pid) == e->cpu_nsec;
}

static enum rank rank_of(const struct walk *w, const struct entry *e)
{
	size_t at = lower_bound(w->uids, w->count, e->uid);
	bool wanted_uid = at < w->count && w->uids[at] == e->uid;

	if ((w->p->walk + (uint64_t)e->pid) % LIST_ANYWAY != 0 && is_unchanged(e) &&
		!intersect(w->inodes, w->count, e->sockets, e->socket_count))
		return RANK_UNCHANGED;
	if (e->begun != 0 || (e->process && wanted_uid))
		return RANK_OWNER;
	if (e->seen == 0 && w->p->walk > 1)
		return RANK_NEW;
	return wanted_uid ? RANK_UID : RANK_OTHER;
}

static int compare_order(const void *a, const void *b)
{
	const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

	if (x->later != y->later)
		return x->later ? 1 : -1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

/* 0 or -ENOMEM. */
static int put_in_order(struct walk *w)
{
	struct procfs *p = w->p;

	w->order = calloc(p->entry_count + 1, sizeof(struct entry *));
	if (!w->order)
		return -ENOMEM;
	for (size_t i = 0; i < p->entry_count; i++) {
		struct entry *e = &p->entries[i];

		e->later = e->round == p->round;
		e->rank = (uint8_t)rank_of(w, e);
		w->order[i] = e;
	}
	qsort(w->order, p->entry_count, sizeof(struct entry *), compare_order);
	return 0;
}

/* The process whose descriptors are listed. */
struct look {
	struct walk *walk;
	struct entry *entry;
	int dir_fd;
};

/* Makes entry->process what it is in this walk. 0, -ESRCH or -ENOMEM. */
static int read_process(struct look *l, int32_t tid)
{
	struct procfs *p = l->walk->p;
	struct entry *e = l->entry;
	struct process *process = NULL;
	int r;

	if (e->process && e->process_walk == p->walk)
		return 0;
	r = proc_read_process(&p->reader, l->dir_fd, e->pid, tid, e->process, &process);
	if (r < 0)
		return r;
	if (!e->process)
		p->processes_remembered++;
	process_unref(e->process);
	e->process = process;
	e->process_walk = p->walk;
	return 0;
}

/* A proc_socket_fn. */
static int found_socket(void *context, int32_t tid, uint64_t inode)
{
	struct look *l = context;
	struct walk *w = l->walk;
	size_t i = lower_bound(w->inodes, w->count, inode);

	if (w->p->sockets.count <= LIMIT_SOCKET_CACHE && numbers_add(&w->p->sockets, inode) < 0)
		return -ENOMEM;
	for (; i < w->count && w->inodes[i] == inode; i++) {
		int r;

		if (w->last_holder[i] == l->entry->pid)
			continue;
		r = read_process(l, tid);
		if (r < 0)
			return r == -ENOMEM ? r : 0; /* gone: it holds nothing any more */
		w->last_holder[i] = l->entry->pid;
		if (w->wanted[i].holder_count == 0)
			w->unknown--;
		holders_add(&w->wanted[i], l->entry->process);
	}
	return 0;
}

/* Remembers what a whole listing gave, if there is room. 0 or -ENOMEM. */
static int remember_sockets(struct procfs *p, struct entry *e, uint64_t cpu_nsec)
{
	size_t count = p->sockets.count;

	forget_sockets(p, e);
	if (count > LIMIT_SOCKET_CACHE - MIN(p->sockets_remembered, (size_t)LIMIT_SOCKET_CACHE))
		return 0;
	if (count > 0) {
		e->sockets = calloc(count, sizeof(*e->sockets));
		if (!e->sockets)
			return -ENOMEM;
		memcpy(e->sockets, p->sockets.items, count * sizeof(*e->sockets));
		qsort(e->sockets, count, sizeof(*e->sockets), compare_numbers);
	}
	e->socket_count = (uint32_t)count;
	e->cpu_nsec = cpu_nsec;
	p->sockets_remembered += count;
	return 0;
}

/* Opens the directory of the entry's process; if its pid has a new process by now, the entry becomes that one's.
 * The descriptor or negative errno. */
static int open_process(struct procfs *p, struct entry *e)
{
	struct entry now = {.pid = e->pid, .cpu_nsec = CPU_UNKNOWN};
	char name[16];
	int fd;

	(void)snprintf(name, sizeof(name), "%d", e->pid);
	fd = openat(p->reader.proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (identify(fd, "", AT_EMPTY_PATH, &now) && !same_process(e, &now)) {
		entry_done(p, e);
		*e = now;
	}
	return fd;
}

/* Lists a process. 0, 1 (the deadline cut it off), -ENOMEM or -EIO. */
static int look_at(struct walk *w, struct entry *e)
{
	struct procfs *p = w->p;
	_cleanup_(close_p) int dir_fd = open_process(p, e);
	struct look look = {.walk = w, .entry = e, .dir_fd = dir_fd};
	bool resumed = e->begun != 0;
	uint64_t begun = resumed ? e->begun : p->walk;
	uint64_t cpu_nsec = p->cpu_clocks && !resumed ? cpu_clock(e->pid) : CPU_UNKNOWN;
	int r;

	if (dir_fd == -ENOMEM)
		return dir_fd;
	if (dir_fd == -EMFILE || dir_fd == -ENFILE)
		return -EIO;
	if (dir_fd < 0) {
		e->seen = p->walk; /* it is gone */
		e->round = p->round;
		return 0;
	}
	if (!resumed)
		e->position = (struct proc_position){0};
	p->sockets.count = 0;
	r = proc_list_sockets(dir_fd, e->pid, p->reader.pidfds, w->deadline, &p->tids, &e->position,
		found_socket, &look);
	if (r < 0)
		return r == -ENOMEM ? r : -EIO;
	w->result.processes_read++;
	e->round = p->round;
	if (r == PROC_LISTED_PART) {
		e->begun = begun;
		forget_sockets(p, e);
		return 1;
	}
	e->begun = 0;
	e->seen = e->listed = begun;
	if (r == PROC_LISTED_WHOLE)
		return remember_sockets(p, e, cpu_nsec);
	w->result.denied++;
	forget_sockets(p, e);
	return 0;
}

static int compare_wanted(const void *a, const void *b)
{
	const struct procfs_wanted *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

/* What earlier walks found of an inode, if they did not settle it, goes on to count. */
static void go_on_with_pending(struct walk *w, size_t i)
{
	struct pending *pending = NULL;

	w->since[i] = w->p->walk;
	if (w->p->pending_count > 0)
		pending = bsearch(&w->wanted[i], w->p->pending, w->p->pending_count,
			sizeof(*pending), compare_wanted);
	if (!pending)
		return;
	w->since[i] = pending->since;
	for (uint32_t k = 0; k < pending->wanted.holder_count; k++)
		holders_add(&w->wanted[i], pending->wanted.holders[k]);
	w->wanted[i].holders_dropped = pending->wanted.holders_dropped;
}

static void walk_done(struct walk *w)
{
	free(w->inodes);
	free(w->uids);
	free(w->since);
	free(w->last_holder);
	free(w->order);
}

/* 0 or -ENOMEM. */
static int walk_init(struct walk *w)
{
	w->inodes = calloc(w->count + 1, sizeof(*w->inodes));
	w->uids = calloc(w->count + 1, sizeof(*w->uids));
	w->since = calloc(w->count + 1, sizeof(*w->since));
	w->last_holder = calloc(w->count + 1, sizeof(*w->last_holder));
	if (!w->inodes || !w->uids || !w->since || !w->last_holder)
		return -ENOMEM;
	for (size_t i = 0; i < w->count; i++) {
		w->inodes[i] = w->wanted[i].inode;
		w->uids[i] = w->wanted[i].uid;
		go_on_with_pending(w, i);
		w->newest = MAX(w->newest, w->since[i]);
		w->unknown += w->wanted[i].holder_count == 0;
	}
	qsort(w->uids, w->count, sizeof(*w->uids), compare_numbers);
	return 0;
}

/* Looks at one process after the other. 0, 1 (the budget is used up), -ENOMEM or -EIO. */
static int walk_processes(struct walk *w)
{
	for (size_t i = 0; i < w->p->entry_count; i++) {
		struct entry *e = w->order[i];
		bool skip = e->rank == RANK_UNCHANGED &&
			    (w->unknown == 0 || e->listed >= w->newest) && is_unchanged(e);
		int r;

		if (skip) {
			e->seen = w->p->walk;
			e->round = w->p->round;
			w->result.unchanged++;
			continue;
		}
		r = look_at(w, e);
		if (r != 0)
			return r;
		if (clock_cpu_usec() >= w->deadline && i + 1 < w->p->entry_count)
			return 1;
	}
	return 0;
}

/* Decides what is settled, and remembers of the rest what was found. 0 or -ENOMEM. */
static int settle(struct walk *w)
{
	struct procfs *p = w->p;
	uint64_t seen = p->walk;
	size_t unsettled = 0;
	bool reached = true;

	for (size_t i = 0; i < p->entry_count; i++) {
		seen = MIN(seen, p->entries[i].seen);
		reached = reached && p->entries[i].round == p->round;
	}
	p->round += reached;
	for (size_t i = 0; i < w->count; i++) {
		holders_put_parent_first(&w->wanted[i]);
		w->wanted[i].settled = seen >= w->since[i];
		unsettled += !w->wanted[i].settled;
	}
	forget_pending(p);
	w->result.complete = unsettled == 0;
	if (unsettled == 0)
		return 0;
	p->pending = calloc(unsettled, sizeof(*p->pending));
	if (!p->pending)
		return -ENOMEM;
	for (size_t i = 0; i < w->count; i++) {
		struct pending *pending = &p->pending[p->pending_count];

		if (w->wanted[i].settled)
			continue;
		*pending = (struct pending){.wanted = w->wanted[i], .since = w->since[i]};
		for (uint32_t k = 0; k < pending->wanted.holder_count; k++)
			process_ref(pending->wanted.holders[k]);
		p->pending_count++;
	}
	return 0;
}

/* Past the limit all are forgotten: more processes than that do not hold watched ports and live. */
static void bound_processes(struct procfs *p)
{
	if (p->processes_remembered <= LIMIT_PROCESS_CACHE)
		return;
	for (size_t i = 0; i < p->entry_count; i++)
		forget_process(p, &p->entries[i]);
}

int procfs_find(struct procfs *p, struct procfs_wanted *wanted, size_t count, usec_t budget_usec,
	struct procfs_result *ret)
{
	usec_t begin = clock_cpu_usec();
	struct walk w = {
		.p = p,
		.wanted = wanted,
		.count = count,
		.deadline = begin + MIN(budget_usec, USEC_UNSET - begin),
	};
	int r;

	p->walk++;
	for (size_t i = 0; i < count; i++)
		wanted[i] = (struct procfs_wanted){.inode = wanted[i].inode, .uid = wanted[i].uid};
	qsort(wanted, count, sizeof(*wanted), compare_wanted);
	r = walk_init(&w);
	if (r >= 0)
		r = refresh(p);
	if (r >= 0)
		r = put_in_order(&w);
	if (r >= 0)
		r = walk_processes(&w);
	if (r >= 0)
		r = settle(&w);
	if (r < 0)
		for (size_t i = 0; i < count; i++)
			holders_forget(&wanted[i]);
	else
		*ret = w.result;
	bound_processes(p);
	walk_done(&w);
	return r;
}
