/* SPDX-License-Identifier: MIT */
#pragma once

/* Landlock (landlock(7)), by its system calls. */

#include "common/base.h"

/*
 * Confines this process, for good, to reading below the `directories` (open, the caller's): it opens no other file and
 * writes, makes, renames and removes none. Where the kernel knows how, it also neither binds nor connects TCP (Linux
 * 6.7) and signals no process outside (6.12); before 6.2 a file that it may reach by mode can still be truncated.
 * Wants no_new_privs. 1: confined; 0: this kernel has no Landlock, or it is off, or a container's
 * filter of system calls hides it; negative errno.
 */
int landlock_read_only(const int *directories, size_t count) _must_check_;
