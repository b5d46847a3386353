/* SPDX-License-Identifier: MIT */
#pragma once

/* The path of a cgroup by its 64-bit id, which is never reused within a boot; remembered, also after the cgroup is gone. */

#include "common/base.h"

struct cgroups;

/* NULL: no memory. `proc_fd` stays the caller's and must outlive the result. */
struct cgroups *cgroups_new(int proc_fd);
struct cgroups *cgroups_free(struct cgroups *c);
DEFINE_CLEANUP(struct cgroups, cgroups_free)

/* Is the path of this one remembered? What somebody else knows of it, to be remembered: 0 or -ENOMEM. */
bool cgroups_know(const struct cgroups *c, uint64_t id);
int cgroups_learn(struct cgroups *c, uint64_t id, const char *path) _must_check_;

/*
 * *ret_path: the raw path as /proc/PID/cgroup shows it, valid until the next call. `pid`: a process that was in it; 0: none is
 * known. 0, with NULL in *ret_path where it cannot be learnt (gone before anybody asked, or no cgroup2); or -ENOMEM.
 * Remembered: some 50 ns; else some 20 us, without CAP_DAC_READ_SEARCH and the process a walk over all cgroups (20 us each), of
 * which there is at most one in SCAN_SPACING times as long as the last took.
 */
int cgroups_path(struct cgroups *c, uint64_t id, int32_t pid, const char **ret_path) _must_check_;
