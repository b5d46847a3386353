/* SPDX-License-Identifier: MIT */
#pragma once

/* What this kernel never hands out, though it is in its range: net.ipv4.ip_local_reserved_ports, now, in the daemon's own
 * network namespace. */

#include "common/port_set.h"

#define RESERVED_DIRECTORY "/proc/sys/net/ipv4"

/* 0, or a negative errno: it cannot be read (-ENOENT: this kernel has none to be seen here). */
int reserved_read(struct port_set *ret) _must_check_;

/* The inode number of that namespace; 0: not known. */
uint64_t reserved_netns(void);
