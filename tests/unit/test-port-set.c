/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/port_set.h"

/* What is parsed comes out in the kernel's own form. */
static void test_lists(_unused_ void **state)
{
	static const struct {
		const char *text, *normal; /* NULL: it is none */
		unsigned count;
	} cases[] = {
		{"", "", 0},
		{"\n", "", 0},
		{"8080\n", "8080", 1},
		{"8080,8081", "8080-8081", 2},
		{"9,7,8", "7-9", 3},
		{"1-3,2-5,7", "1-5,7", 6},
		{"0,65535", "0,65535", 2},
		{"0-65535", "0-65535", 65536},
		{"65536", NULL, 0},
		{"99999999999999999999", NULL, 0},
		{"3-1", NULL, 0},
		{"1-", NULL, 0},
		{"-1", NULL, 0},
		{"1,,2", NULL, 0},
		{"x", NULL, 0},
		{"1x", NULL, 0},
		{"1 2", NULL, 0},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		struct port_set set = {0};
		int r = port_set_parse(&set, cases[i].text);

		if (!cases[i].normal) {
			assert_int_equal(r, -EINVAL);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(port_set_format(&set, &text), 0);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		assert_string_equal((const char *)buf_bytes(&text), cases[i].normal);
		assert_int_equal(port_set_count(&set, 0, UINT16_MAX), cases[i].count);
	}
}

static void test_count(_unused_ void **state)
{
	struct port_set set = {0};

	assert_int_equal(port_set_parse(&set, "10-20,30"), 0);
	assert_int_equal(port_set_count(&set, 15, 30), 7);
	assert_int_equal(port_set_count(&set, 21, 29), 0);
	assert_true(port_set_has(&set, 20) && !port_set_has(&set, 21));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
