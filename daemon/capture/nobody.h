/* SPDX-License-Identifier: MIT */
#pragma once

/* What is known of a socket that no process holds: its owner and its cgroup, from the socket alone. */

#include "common/claim.h"

struct nobodies;

/* NULL: no memory. `proc_fd` stays the caller's and must outlive the result. */
struct nobodies *nobodies_new(int proc_fd);
struct nobodies *nobodies_free(struct nobodies *n);
DEFINE_CLEANUP(struct nobodies, nobodies_free)

/* As procfs_nobody(). */
int nobodies_find(struct nobodies *n, uint32_t uid, uint64_t cgroup_id, bool kernel,
	struct process **ret) _must_check_;

/* As cgroups_know() and cgroups_learn(). */
bool nobodies_know_cgroup(const struct nobodies *n, uint64_t cgroup_id);
int nobodies_learn_cgroup(struct nobodies *n, uint64_t cgroup_id, const char *path) _must_check_;

/* Sets cgroup and unit of a process that has none yet, if the path of the cgroup can be learnt. 0 or -ENOMEM. */
int nobodies_set_cgroup(struct nobodies *n, uint64_t cgroup_id, struct process *p) _must_check_;
