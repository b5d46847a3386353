/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The texts of /proc as bytes: what a process can put into them is hostile. Pure; never reads outside `size`.
 * What a result points to lies within the text and is not NUL-terminated.
 */

#include "common/clock.h"

/* /proc/PID/stat, proc_pid_stat(5). */
struct proc_stat {
	/* the raw name: from the first '(' to the last ')'; may hold any byte but NUL, ") R 1" and newlines too */
	const char *comm;
	size_t comm_size;
	char state;           /* field 3; 'Z': a zombie, or a leader whose threads live on */
	int32_t parent_pid;   /* field 4; 0: none (init, or a parent outside our pid namespace) */
	uint32_t flags;       /* field 9: the kernel's PF_* of <linux/sched.h> */
	uint64_t start_ticks; /* field 22: boottime in clock ticks, sysconf(_SC_CLK_TCK) */
};

/* 0 or -EBADMSG. */
int proc_parse_stat(const char *text, size_t size, struct proc_stat *ret) _must_check_;

/* /proc/PID/status, proc_pid_status(5). */
struct proc_status {
	uint32_t effective_uid;          /* second number of "Uid:" */
	uint64_t effective_capabilities; /* "CapEff:"; 0 where the line is missing */
};

/* 0 or -EBADMSG (no "Uid:" line). */
int proc_parse_status(const char *text, size_t size, struct proc_status *ret) _must_check_;

/* The path in /proc/PID/cgroup: of the "0::" line; where that is "/" or missing and there is a "name=systemd" line
 * (hybrid and legacy hosts), of that. The kernel's " (deleted)" is cut off. 0, or -ENODATA: neither line. */
int proc_parse_cgroup(
	const char *text, size_t size, const char **ret_path, size_t *ret_size) _must_check_;

/* "socket:[INODE]", the text of a descriptor's link. */
bool proc_parse_socket(const char *text, size_t size, uint64_t *ret_inode) _must_check_;

/* The name of a process's (or thread's) directory: a decimal number from 1 to INT32_MAX, no leading zero. */
bool proc_parse_pid(const char *name, int32_t *ret_pid) _must_check_;

/* Where the whole cgroup2 hierarchy is mounted, from /proc/PID/mountinfo, its octal escapes undone. Fresh memory.
 * 0, -ENODATA (nowhere) or -ENOMEM. */
int proc_parse_cgroup2_mount(const char *text, size_t size, char **ret_path) _must_check_;

/* Field 22 of stat as boottime. `ticks_per_second` is not 0. USEC_UNSET: out of range. */
usec_t proc_ticks_to_usec(uint64_t ticks, uint64_t ticks_per_second);

/* Is `suffix` at the end of the text? If so, *size is shortened by it. */
bool proc_cut_suffix(const char *text, size_t *size, const char *suffix);
#define PROC_DELETED " (deleted)"
