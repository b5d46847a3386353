/* SPDX-License-Identifier: MIT */
#pragma once

/* Each process keeps no right that it does not use. */

#include "common/base.h"

enum privilege {
	/* CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, as far as they are there: to read /proc/PID/fd */
	PRIVILEGE_CAPTURE,
	/* no capability: capture, once the kernel's events are attached */
	PRIVILEGE_EVENTS,
	/* no capability */
	PRIVILEGE_LEDGER,
	/* no capability; reads below the state directory and its own /proc/self, and writes nowhere (Landlock) */
	PRIVILEGE_CONTROL,
};

/*
 * Drops all other capabilities, from the ambient set too, and from the bounding set where that is allowed, and any way
 * to get new ones (no_new_privs); lets nobody of the same uid look into this process (PR_SET_DUMPABLE); and leaves it the
 * system calls that it needs (syscalls.h). `state_fd` is the state directory, for PRIVILEGE_CONTROL only; the caller's.
 * Fails if more than `p` allows is left: 0 or negative errno. 1: done, but there is no Landlock or no seccomp
 * here, so that it is only the files' modes that keep control from writing, or that all system calls are left.
 */
int privilege_drop(enum privilege p, int state_fd) _must_check_;
