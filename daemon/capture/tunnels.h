/* SPDX-License-Identifier: MIT */
#pragma once

/* The UDP ports that tunnel devices (vxlan, geneve, bareudp) of this network namespace listen on: which of its sockets
 * are the kernel's own. */

#include "common/base.h"

/* The sockets of one device: bound to `port` of all addresses, one per family. */
struct tunnel {
	uint16_t port; /* host byte order, never 0 */
	bool ipv4, ipv6;
};

/* A bit for each port and family. */
struct tunnel_ports {
	uint8_t ipv4[(UINT16_MAX + 1) / 8], ipv6[(UINT16_MAX + 1) / 8];
};

/*
 * One RTM_NEWLINK message, after its netlink header and aligned as that (struct ifinfomsg and its attributes). True: *ret
 * is set; false: it has no UDP socket here (another kind of device, or down, or a socket in another namespace). Pure.
 */
bool tunnel_parse(const void *payload, size_t size, struct tunnel *ret) _must_check_;

void tunnel_ports_add(struct tunnel_ports *p, const struct tunnel *t);
bool tunnel_ports_contain(const struct tunnel_ports *p, bool ipv6, uint16_t port);

/* Asks the kernel (RTM_GETLINK, no privilege) for all devices in the caller's network namespace. 0 or negative errno.
 * 7 us a device. */
int tunnels_read(struct tunnel_ports *ret) _must_check_;
