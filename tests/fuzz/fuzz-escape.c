/* SPDX-License-Identifier: MIT */

/* The first byte is the limit at which a stored form is cut; the rest is the name. */

#include "tests/fuzz/fuzz.h"

#include "tests/support/escape_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *violation;

	if (size == 0)
		return 0;
	violation = oracle_violation(data + 1, size - 1, data[0]);
	if (violation) {
		fprintf(stderr, "broken: %s\n", violation);
		abort();
	}
	return 0;
}
