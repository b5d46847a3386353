/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists the sockets that a process has open, in all descriptor tables of its threads. */

#include "common/clock.h"

#include <sys/types.h>

/* A growing array of numbers. */
struct numbers {
	uint64_t *items; /* owned */
	size_t count, capacity;
};

/* 0 or -ENOMEM. */
int numbers_add(struct numbers *n, uint64_t value) _must_check_;
void numbers_done(struct numbers *n);

/* The names in a directory of /proc that are pids (or tids), in the order of the directory; replaces what `n` held.
 * 0, -ENOMEM, or the negative errno of the directory. */
int proc_list_pids(int dir_fd, const char *name, struct numbers *n) _must_check_;

/* Where a listing that was cut off goes on. Zeroed: at the start. */
struct proc_position {
	int32_t tid;  /* in this thread's table; 0: at the start */
	off_t offset; /* of the directory; for the kernel it is the next descriptor */
};

enum proc_listed {
	PROC_LISTED_WHOLE = 0,  /* also a process that ended meanwhile */
	PROC_LISTED_PART = 1,   /* the deadline came; *position says where to go on */
	PROC_LISTED_DENIED = 2, /* a table may not be read */
};

/* `tid`: the thread in whose table it is (the leader where they share it). Negative stops the listing. */
typedef int (*proc_socket_fn)(void *context, int32_t tid, uint64_t inode);

/*
 * Calls `found` for each descriptor of the process `pid`, whose directory is `dir_fd`, that is a socket. `live`: its
 * pid is one of our pid namespace, kcmp(2) may be asked. `tids` is working memory. `deadline` is one of
 * clock_cpu_usec(); it is looked at after each table and each piece of some 300 descriptors, so each call makes
 * progress.
 * enum proc_listed, -ENOMEM, -EMFILE, -ENFILE, or the negative that `found` returned.
 */
int proc_list_sockets(int dir_fd, int32_t pid, bool live, usec_t deadline, struct numbers *tids,
	struct proc_position *position, proc_socket_fn found, void *context) _must_check_;
