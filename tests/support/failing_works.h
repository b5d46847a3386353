/* SPDX-License-Identifier: MIT */
#pragma once

/* Pieces of work of which each allocation fails once. After cmocka.h, and after failing.h or what includes it. */

/* 0, or -ENOMEM when an allocation of it failed, of which nothing is left then. */
typedef int work_fn(void);

/* Does works[i] with each of its allocations failing in its turn, and then with none: how many there were, one at least. */
static inline unsigned fail_each(work_fn *const works[], size_t i)
{
	unsigned n = 0;

	do {
		int r;

		failing_hits = 0;
		failing_in = n++;
		r = works[i]();
		failing_in = UINT_MAX;
		if (r != (failing_hits > 0 ? -ENOMEM : 0))
			fail_msg("work %zu, allocation %u: %d", i, n, r);
	} while (failing_hits > 0);
	assert_true(n > 1);
	return n - 1;
}
