/* SPDX-License-Identifier: MIT */
#pragma once

/* Strict decimal numbers of the command line. */

#include "common/base.h"

/* The whole text must be digits, and the number within [low, high]. 0 or -EINVAL. */
static inline int number_parse(const char *text, uint64_t low, uint64_t high, uint64_t *ret)
{
	char *end;
	unsigned long long number;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || number < low || number > high)
		return -EINVAL;
	*ret = number;
	return 0;
}
