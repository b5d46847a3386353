/* SPDX-License-Identifier: MIT */
#pragma once

/* Numbers of as many bytes as they need: seven bits a byte, the lowest first; all bytes but the last have the eighth bit set. */

#include "common/base.h"

#define VARINT_BYTES 10u /* of the highest number */

/* Returns how many bytes. */
static inline size_t varint_put(uint8_t to[static VARINT_BYTES], uint64_t number)
{
	size_t size = 0;

	for (; number >= 0x80; number >>= 7)
		to[size++] = (uint8_t)(number | 0x80);
	to[size++] = (uint8_t)number;
	return size;
}

/* Moves *at behind it. -EBADMSG: it is cut off at `end`, longer than it need be, or more than 64 bits; then *at stays. */
_must_check_ static inline int varint_get(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
	uint64_t number = 0;
	const uint8_t *p = *at;

	for (unsigned shift = 0; p < end && shift < 64; shift += 7) {
		uint8_t byte = *p++;

		number |= (uint64_t)(byte & 0x7f) << shift;
		if (byte >= 0x80)
			continue;
		if ((byte == 0 && shift > 0) || (shift == 63 && byte > 1))
			return -EBADMSG;
		*at = p;
		*ret = number;
		return 0;
	}
	return -EBADMSG;
}
