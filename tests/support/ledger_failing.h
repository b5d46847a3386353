/* SPDX-License-Identifier: MIT */
#pragma once

/* Scripts for the ledger in which every allocation fails once. Include it once, in a test that is linked with --wrap. */

#include "tests/support/failing.h"
#include "tests/support/ledger_script.h"

/* Every record of every script with every allocation failing once: it changes nothing, and works when repeated. */
static inline void apply_failing(struct ledger *l, const struct record *r)
{
	struct log before, after;
	int result = -ENOMEM;

	describe(l, &before);
	for (unsigned n = 0; result == -ENOMEM; n++) {
		failing_in = n;
		result = ledger_apply(l, r);
		failing_in = UINT_MAX;
		if (result == 0)
			break;
		assert_int_equal(result, -ENOMEM);
		describe(l, &after);
		assert_string_equal(after.text, before.text);
	}
}

static inline void check_failing(const struct script *s)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	assert_non_null(l);
	for (const struct record *r = s->records; r->type != 0; r++)
		apply_failing(l, r);
	assert_string_equal(log.text, s->log);
}
