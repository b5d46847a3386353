/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Attribution from /proc: which processes have which socket inodes open, and who these processes are.
 * It walks only for inodes that are wanted, likely processes first, within a budget of CPU time, and looks into
 * /proc/PID/task/TID/fd: a thread may have a table of its own, and a leader may be a zombie. A process is read through
 * the descriptor of its directory, which stays bound to it, so that a reused pid is never credited. Takes a descriptor
 * of a /proc, so that a test can give it a tree of its own.
 */

#include "common/claim.h"

struct procfs;

/* NULL: no memory. `proc_fd` stays the caller's. `pidfds`: false in a fake tree (pids there are not real). */
struct procfs *procfs_new(int proc_fd, bool pidfds);
struct procfs *procfs_free(struct procfs *p);
DEFINE_CLEANUP(struct procfs, procfs_free)

/* Someone who has a wanted inode open. */
struct procfs_wanted {
	uint64_t inode; /* in */
	uint32_t uid;   /* in: owner of the socket, a hint for the order */
	/* out: opener first (the lowest start time), then the others in the order of start time; the caller
	 * drops the references */
	struct process *holders[LIMIT_HOLDERS + 1];
	uint32_t holder_count;
	uint32_t holders_dropped;
	/* out: every process was looked at since this inode was first asked for (over as many calls as the budget made
	 * of it), so the holders are all and the opener is the opener; if false, ask again */
	bool settled;
};

struct procfs_result {
	uint32_t processes_read; /* whose descriptors were listed */
	uint32_t unchanged;      /* not listed again: have not run since */
	uint32_t denied;         /* could not be listed: permission */
	/* all are settled: what is still unknown is held by nobody we may see */
	bool complete;
};

/*
 * Finds holders for `wanted` (any order; sorted by inode on return). Stops when the budget of CPU time is used up
 * (result.complete false; the next call goes on where this one stopped) or all processes were looked at. Asking again
 * for what is known tells who holds it now. 0, -ENOMEM, or -EIO when /proc cannot be read; then no holder is set.
 * Measured: 4 us a process; for each that ran since the last call 10 us more, and 5 us a descriptor.
 */
int procfs_find(struct procfs *p, struct procfs_wanted *wanted, size_t count, usec_t budget_usec,
	struct procfs_result *ret) _must_check_;

/* The process without a process: what is known of a socket that nobody holds. `cgroup_id` 0 and `uid` UID_UNSET
 * where not known. Cached. One reference for the caller. -ENOMEM. */
int procfs_nobody(struct procfs *p, uint32_t uid, uint64_t cgroup_id, bool kernel,
	struct process **ret) _must_check_;

/*
 * Who a process is of which `pid` and `start_boot` are known already (exactly: /proc rounds it to ticks). A fresh one with one
 * reference and this start; -ESRCH: it is gone, whoever has its pid now; -ENOMEM.
 */
int procfs_process(
	struct procfs *p, int32_t pid, usec_t start_boot, struct process **ret) _must_check_;
/* Is the path of this cgroup remembered? What the kernel side has told of it, to be remembered: 0 or -ENOMEM. */
bool procfs_knows_cgroup(const struct procfs *p, uint64_t cgroup_id);
int procfs_learn_cgroup(struct procfs *p, uint64_t cgroup_id, const char *path) _must_check_;
/* Sets cgroup and unit of a process that has none yet, if the path of the cgroup can be learnt. 0 or -ENOMEM. */
int procfs_set_cgroup(struct procfs *p, uint64_t cgroup_id, struct process *process) _must_check_;

/* May this process see other users' descriptors (CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)? */
bool procfs_sees_others(void);
