/* SPDX-License-Identifier: MIT */
#pragma once

/* The system calls that are left to each process (seccomp(2)). */

#include "common/base.h"

/* A sanitizer stops its process with ptrace(2) and starts another program to make a report readable: a build with one is left both. */
#if defined(__SANITIZE_ADDRESS__)
#define SYSCALLS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SYSCALLS_SANITIZED 1
#endif
#endif
#ifndef SYSCALLS_SANITIZED
#define SYSCALLS_SANITIZED 0
#endif

enum syscalls {
	SYSCALLS_CAPTURE, /* also what the children need that it starts */
	SYSCALLS_LEDGER,
	SYSCALLS_CONTROL,
};

/*
 * From here on, for good, this process and its children make no other system call than those of the list. What takes over
 * another process or the host (execve, ptrace, process_vm_readv, pidfd_getfd, ...) ends the process with SIGSYS, as
 * does any call of another ABI (32 bits, x32). All others fail with ENOSYS.
 * Wants no_new_privs. 1: done; 0: this kernel has no such filter, or a container's hides it; negative errno.
 */
int syscalls_confine(enum syscalls s) _must_check_;
