/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/hash_set.h"
#include "common/siphash.h"

/* The key 00 01 .. 0f and the message 00 01 .. of each length, as in the reference implementation's vectors. */
static void test_siphash_is_siphash(void **state)
{
	static const struct {
		size_t size;
		uint64_t hash;
	} cases[] = {
		{0, UINT64_C(0x726fdb47dd0e0e31)}, {1, UINT64_C(0x74f839c593dc67fd)},
		{2, UINT64_C(0x0d6c8009d9a94f5a)}, {3, UINT64_C(0x85676696d7fb7e2d)},
		{8, UINT64_C(0x93f5f5799a932462)},
		{15, UINT64_C(0xa129ca6149be45e5)}, /* the example of the paper */
	};
	const struct siphash_key key = {
		{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};
	uint8_t message[16];

	(void)state;
	for (uint8_t i = 0; i < sizeof(message); i++)
		message[i] = i;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		assert_true(siphash(&key, message, cases[i].size) == cases[i].hash);
}

static void test_a_set_holds_what_was_put_in(void **state)
{
	const struct siphash_key key = {{1, 2}};
	struct hash_set s = {0};

	(void)state;
	assert_false(hash_set_has(&s, 0));
	for (uint64_t i = 0; i < 10000; i++) {
		uint64_t hash = i == 0 ? 0 : siphash(&key, &i, sizeof(i));

		assert_false(hash_set_has(&s, hash));
		assert_int_equal(hash_set_add(&s, hash), 0);
		assert_int_equal(hash_set_add(&s, hash), 0);
		assert_int_equal(s.count, i + 1);
	}
	for (uint64_t i = 0; i < 20000; i++)
		assert_int_equal(
			hash_set_has(&s, i == 0 ? 0 : siphash(&key, &i, sizeof(i))), i < 10000);
	assert_true(s.capacity * sizeof(*s.slots) <= 10000 * 22);
	hash_set_done(&s);
	assert_false(hash_set_has(&s, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash_is_siphash),
		cmocka_unit_test(test_a_set_holds_what_was_put_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
