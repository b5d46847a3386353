/* SPDX-License-Identifier: MIT */
#pragma once

/* Tells the kernel's own sockets (tunnels, NFS) from those that a process has somewhere out of sight. By proof only: what
 * cannot be proven is not the kernel's. */

#include "daemon/capture/source.h"

struct kernel_sockets;

/* `proc_fd` is /proc, and stays the caller's. NULL: no memory. */
struct kernel_sockets *kernel_sockets_new(int proc_fd);
struct kernel_sockets *kernel_sockets_free(struct kernel_sockets *k);
DEFINE_CLEANUP(struct kernel_sockets, kernel_sockets_free)

/* Another sweep: what is asked from now on is answered by what is then, not by what was seen before. Free. */
void kernel_sockets_renew(struct kernel_sockets *k);

/*
 * Is it the kernel's? `row` was read from the caller's network namespace since the last renewal, and a whole walk over
 * /proc has found nobody who has it open. `cgroup` is the stored path of its cgroup, NULL where not known.
 * False also where the kernel cannot be asked; the first time, that is logged. After each renewal the devices are listed
 * at most once (7 us each), the root cgroup's processes too (10 us each, up to the first that is no kernel thread).
 */
bool kernel_sockets_is_one(
	struct kernel_sockets *k, const struct socket_row *row, const char *cgroup) _must_check_;
