/* SPDX-License-Identifier: MIT */
#pragma once

/* Who the processes are that events and snapshots name: remembered, and completed by what only user space knows (unit and
 * cgroup). One process that is running one program is one object, so that the stream names it once. */

#include "daemon/capture/procfs.h"
#include "daemon/capture/source_events.h"

struct openers;

/* NULL: no memory. Both stay the caller's and must outlive the result. */
struct openers *openers_new(struct source_events *events, struct procfs *procfs);
struct openers *openers_free(struct openers *o);
DEFINE_CLEANUP(struct openers, openers_free)

/* By the number that an event gave. One reference; -ENOENT: the kernel side has forgotten it; -ENOMEM. */
int openers_find(struct openers *o, uint64_t id, struct process **ret) _must_check_;

/* What a namespace (its net cookie) handed out when this process, which was found, was written down in it; high 0: it was
 * somewhere else, or is not known. */
struct port_range openers_range(const struct openers *o, uint64_t id, uint64_t netns);

/* By what a snapshot shows: as the last event named it, else from /proc. One reference; -ESRCH: it is gone; -ENOMEM. */
int openers_find_pid(
	struct openers *o, int32_t pid, usec_t start_boot, struct process **ret) _must_check_;
