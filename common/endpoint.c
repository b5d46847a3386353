/* SPDX-License-Identifier: MIT */

/*
 * Linux shows the same IPv4 conversation in two forms: on an AF_INET6 socket that is not v6-only
 * its addresses are v4-mapped. Both become FAMILY_IPV4 here, at the only two places where an
 * address is made (the kernel's bytes, a person's text), so that everything above compares bytes
 * and is right.
 */

#include "common/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

_Static_assert(sizeof(struct address) == 17, "an address has no padding: memcmp() compares it");
_Static_assert(ADDRESS_TEXT_MAX >= INET6_ADDRSTRLEN, "room for any address");

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

struct address address_from_kernel(int family, const void *bytes)
{
	const uint8_t *from = bytes;
	struct address a = {.family = FAMILY_NONE};

	if (family == AF_INET6 && memcmp(from, mapped_prefix, sizeof(mapped_prefix)) != 0) {
		a.family = FAMILY_IPV6;
		memcpy(a.bytes, from, 16);
	} else if (family == AF_INET6) {
		a.family = FAMILY_IPV4;
		memcpy(a.bytes, from + sizeof(mapped_prefix), 4);
	} else if (family == AF_INET) {
		a.family = FAMILY_IPV4;
		memcpy(a.bytes, from, 4);
	}
	return a;
}

size_t address_size(const struct address *a)
{
	if (a->family == FAMILY_IPV4)
		return 4;
	return a->family == FAMILY_IPV6 ? 16 : 0;
}

bool address_is_any(const struct address *a)
{
	static const uint8_t any[16];

	return a->family != FAMILY_NONE && memcmp(a->bytes, any, sizeof(any)) == 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && address_equal(&a->address, &b->address);
}

const char *address_format(const struct address *a, char text[static ADDRESS_TEXT_MAX])
{
	int family = a->family == FAMILY_IPV4 ? AF_INET : AF_INET6;

	text[0] = '\0';
	if (a->family != FAMILY_NONE) {
		const char *formatted = inet_ntop(family, a->bytes, text, ADDRESS_TEXT_MAX);

		assert(formatted); /* fails only for a family or a size that it does not know */
	}
	return text;
}

int address_parse(const char *text, struct address *ret)
{
	uint8_t bytes[16];

	if (inet_pton(AF_INET, text, bytes) == 1)
		*ret = address_from_kernel(AF_INET, bytes);
	else if (inet_pton(AF_INET6, text, bytes) == 1)
		*ret = address_from_kernel(AF_INET6, bytes);
	else
		return -EINVAL;
	return 0;
}

const char *endpoint_format(const struct endpoint *e, char text[static ENDPOINT_TEXT_MAX])
{
	char address[ADDRESS_TEXT_MAX];
	bool brackets = e->address.family == FAMILY_IPV6;

	text[0] = '\0';
	if (e->address.family != FAMILY_NONE)
		snprintf(text, ENDPOINT_TEXT_MAX, "%s%s%s:%u", brackets ? "[" : "",
			address_format(&e->address, address), brackets ? "]" : "", e->port);
	return text;
}
