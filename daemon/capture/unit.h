/* SPDX-License-Identifier: MIT */
#pragma once

/* The systemd unit of a process, remembered by cgroup: asking systemd's library costs some 50 µs, and a cgroup
 * belongs to one unit for all its life. */

#include "common/base.h"

struct units;

/* NULL: no memory. */
struct units *units_new(void);
struct units *units_free(struct units *u);
DEFINE_CLEANUP(struct units, units_free)

/* Is the unit of this cgroup (raw path) remembered? Then *ret_unit is its raw name or NULL (it has none), valid until
 * the next units_put(). */
bool units_get(struct units *u, const char *cgroup, const char **ret_unit) _must_check_;

/* Remembers `unit` (NULL: none). The oldest of LIMIT_CGROUP_CACHE makes room. 0 or -ENOMEM. */
int units_put(struct units *u, const char *cgroup, const char *unit) _must_check_;

/* The unit of a cgroup path ("/system.slice/ssh.service" -> "ssh.service"). Fresh memory. 0 with *ret_unit NULL: none; or
 * -ENOMEM. */
int unit_of_cgroup(const char *cgroup, char **ret_unit) _must_check_;

/* The raw unit of a living process by libsystemd, a user's unit before the user@UID.service that it runs in; where
 * libsystemd knows none, by the cgroup path. Fresh memory. 0 with *ret_unit NULL: none; or -ENOMEM. */
int unit_of_pid(int32_t pid, const char *cgroup, char **ret_unit) _must_check_;
