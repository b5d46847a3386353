/* SPDX-License-Identifier: MIT */
#pragma once

/* What may leave the client, whatever a daemon said: what the targets about its output share. */

#include <stddef.h>

#include "common/base.h"

/* Nothing that drives a terminal. Our own newlines are apart, and in CSV the carriage return before each. */
static inline void check_printed(const char *text, size_t size, bool csv)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];

		assert(c >= 0x20 || c == '\n' || (c == '\r' && csv));
		assert(c != 0x7f);
		/* C1 controls and the bidi controls U+202A to U+202E in UTF-8 */
		assert(c != 0xc2 || i + 1 >= size || (unsigned char)text[i + 1] >= 0xa0);
		assert(i + 2 >= size || c != 0xe2 || (unsigned char)text[i + 1] != 0x80 ||
			(unsigned char)text[i + 2] < 0xaa || (unsigned char)text[i + 2] > 0xae);
	}
}
