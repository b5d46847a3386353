/* SPDX-License-Identifier: MIT */
#pragma once

/* What /proc says of the host and of our network namespace. `proc_fd`: a /proc; the caller's. */

#include "common/sighting.h"

/* /proc/sys/kernel/random/boot_id. 0 or negative errno. */
int host_boot_id(int proc_fd, uint8_t ret[static BOOT_ID_BYTES]) _must_check_;

/* Our own namespace, the only one whose tables the sources read; without its name. 0 or negative errno. */
int host_netns(int proc_fd, struct netns *ret) _must_check_;

/* net.ipv4.ip_local_port_range of our namespace; `otherwise` where it cannot be read. */
struct port_range host_ephemeral(int proc_fd, struct port_range otherwise);
