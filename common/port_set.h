/* SPDX-License-Identifier: MIT */
#pragma once

/* A set of ports, and the text that the kernel has for one (net.ipv4.ip_local_reserved_ports). */

#include "common/buf.h"

#define PORT_SET_BYTES 8192u

struct port_set {
	uint8_t bits[PORT_SET_BYTES];
};

static inline bool port_set_has(const struct port_set *s, uint16_t port)
{
	return s->bits[port / 8] >> port % 8 & 1;
}

static inline void port_set_add(struct port_set *s, uint16_t port)
{
	s->bits[port / 8] = (uint8_t)(s->bits[port / 8] | 1u << port % 8);
}

/* Adds what `text` lists: "8080,30000-30010", white space at its end ignored. 0 or -EINVAL, and then the set has part of
 * it. */
int port_set_parse(struct port_set *s, const char *text) _must_check_;

/* Appends the list, ascending, two and more in a row as one range. 0 or -ENOMEM. */
int port_set_format(const struct port_set *s, struct buf *out) _must_check_;

/* How many ports of [low, high]. */
unsigned port_set_count(const struct port_set *s, uint16_t low, uint16_t high);

/* How many ports it has. */
unsigned port_set_size(const struct port_set *s);
/* Adds all that `from` has. */
void port_set_unite(struct port_set *to, const struct port_set *from);

#define PORT_SET_WRITTEN (3 + PORT_SET_BYTES) /* at most */

/* As bytes; returns how many. None where it is empty; else one that says the form, and behind it
 *   0: its ports, ascending, of each how many lie between it and the one before (common/varint.h): mostly a byte where there are hundreds;
 *   1: its bits, where that is no longer: at which byte of them they begin (two bytes, little-endian), up to the last that is not 0. */
size_t port_set_write(const struct port_set *s, uint8_t to[static PORT_SET_WRITTEN]);
/* Adds what the bytes hold. Returns how many of them are new, or -EBADMSG: they are no set, and some of them may have been added. */
int port_set_merge(struct port_set *s, const void *data, size_t size) _must_check_;
