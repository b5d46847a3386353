/* SPDX-License-Identifier: MIT */

/* A program that was built without kernel events says so, and nothing else. */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "daemon/capture/source_events.h"

static void test_says_so(void **state _unused_)
{
	const struct source_events_options options = {.kernel_range = true};
	struct events_obstacle obstacle = {.reason = ""};
	struct source_events *s = NULL;

	assert_false(source_events_built());
	assert_int_equal(source_events_open(&options, &s, &obstacle), -ENOSYS);
	assert_null(s);
	assert_string_equal(obstacle.reason, "this program was built without kernel events");
	assert_non_null(obstacle.remedy);
	assert_null(source_events_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
