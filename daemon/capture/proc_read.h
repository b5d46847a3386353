/* SPDX-License-Identifier: MIT */
#pragma once

/* Reads who a process is from its directory in /proc. */

#include "common/claim.h"
#include "daemon/capture/unit.h"

/* What is the same for all processes that are read. */
struct proc_reader {
	int proc_fd;               /* a /proc; not owned */
	bool pidfds;               /* its pids are those of this process's pid namespace */
	uint64_t ticks_per_second; /* of start times in it */
	struct units *units;       /* owned */
	/* our own, as the link /proc/self/ns/mnt shows it; "": not known */
	char mount_namespace[64];
};

/* 0 or -ENOMEM. */
int proc_reader_init(struct proc_reader *r, int proc_fd, bool pidfds) _must_check_;
void proc_reader_done(struct proc_reader *r);

/*
 * Reads a file whole, or its first `size` - 1 bytes, and adds a NUL. A read that is interrupted by the process's death
 * gives what came before. Bytes without the NUL, or negative errno.
 */
ssize_t proc_read_file(int dir_fd, const char *name, char *text, size_t size) _must_check_;

/* `name` in a directory of /proc: the text of a link, NUL-terminated and cut at `size` - 1. Bytes or negative errno. */
ssize_t proc_read_link(int dir_fd, const char *name, char *text, size_t size) _must_check_;

/* Where the whole cgroup2 hierarchy is mounted, by self/mountinfo. Fresh memory. 0, -ENODATA (nowhere) or -ENOMEM. */
int proc_find_cgroup2(int proc_fd, char **ret_path) _must_check_;

/*
 * The process `pid`, whose directory is `dir_fd` (which stays bound to it: when it is gone, reads fail, whoever has its
 * pid then). `tid`: the thread in which its socket was found, for what a zombie leader has no more. `known` (NULL: none) is
 * what an earlier call gave for this process: it is the result if name and executable are the same still.
 * 0 and one reference; -ESRCH: it is gone; -ENOMEM. Some 70 us, with `known` 15 us.
 */
int proc_read_process(struct proc_reader *r, int dir_fd, int32_t pid, int32_t tid,
	struct process *known, struct process **ret) _must_check_;
