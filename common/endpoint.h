/* SPDX-License-Identifier: MIT */
#pragma once

/* Addresses and endpoints (family + address + port) as values: equal when their bytes are equal. */

#include "common/base.h"

enum family {
	FAMILY_NONE = 0, /* no address: a socket without a remote end */
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

/* Always fully initialised, so that memcmp() compares. */
struct address {
	uint8_t family;    /* enum family */
	uint8_t bytes[16]; /* network byte order; IPv4 uses the first 4, the rest is 0 */
};

struct endpoint {
	struct address address;
	uint16_t port; /* host byte order; 0: none */
};

#define ADDRESS_TEXT_MAX  46 /* INET6_ADDRSTRLEN */
#define ENDPOINT_TEXT_MAX (ADDRESS_TEXT_MAX + 8)

/* From the kernel's bytes. `family` is AF_INET (4 bytes) or AF_INET6 (16 bytes). A v4-mapped IPv6 address
 * (::ffff:a.b.c.d) becomes FAMILY_IPV4: that is what is on the wire. Any other family: FAMILY_NONE. */
struct address address_from_kernel(int family, const void *bytes);

/* 4 or 16 for the two families, else 0. */
size_t address_size(const struct address *a);

bool address_is_any(const struct address *a); /* 0.0.0.0 or :: */
bool address_equal(const struct address *a, const struct address *b);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/* RFC 5952 text, as inet_ntop(3) gives it; "" for FAMILY_NONE. Returns `text`. */
const char *address_format(const struct address *a, char text[static ADDRESS_TEXT_MAX]);

/* Parses an IPv4 or IPv6 address (no port, no scope, no brackets). 0 or -EINVAL. */
int address_parse(const char *text, struct address *ret) _must_check_;

/* "1.2.3.4:5", "[::1]:5"; "" for FAMILY_NONE. Returns `text`. */
const char *endpoint_format(const struct endpoint *e, char text[static ENDPOINT_TEXT_MAX]);
