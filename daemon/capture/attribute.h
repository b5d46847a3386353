/* SPDX-License-Identifier: MIT */
#pragma once

/* Gives the sockets that want a holder one: between the table (sockets), procfs (processes) and refs (their numbers
 * in the stream). */

#include "daemon/capture/kernel_sockets.h"
#include "daemon/capture/procfs.h"
#include "daemon/capture/refs.h"
#include "daemon/capture/table.h"

struct attributor {
	struct procfs *procfs;
	/* Looks for holders instead of procfs_find(), and as it does; NULL: that one. */
	int (*find)(void *finder, struct procfs_wanted *wanted, size_t count, usec_t budget_usec,
		struct procfs_result *ret);
	void *finder;
	bool always; /* look also where no socket wants a holder */
	struct refs *refs;
	struct table *table;
	struct kernel_sockets *kernel_sockets;
	/* Tells the stream of a process that it has not heard of. 0 or negative errno. */
	int (*introduce)(void *context, uint32_t ref, struct process *p);
	void *context;
	usec_t budget_usec; /* CPU time for one walk over /proc */
};

/* Looks for holders of all sockets that want one; at once nothing when none does. 0: done; 1: the budget was not enough,
 * ask again; -ENOMEM or -EIO. */
int attribute(struct attributor *a) _must_check_;
