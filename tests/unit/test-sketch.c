/* SPDX-License-Identifier: MIT */

/* Sets that are counted and merged: ports exactly, anything else exactly while it is little, and nearly then. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "common/port_set.h"
#include "common/siphash.h"
#include "common/sketch.h"

static uint64_t hash_of(uint64_t thing)
{
	static const struct siphash_key key = {{1, 2}};

	return siphash(&key, &thing, sizeof(thing));
}

static void test_exact_while_few(void **state)
{
	struct sketch s = {.count = 0};

	(void)state;
	for (uint64_t i = 0; i < SKETCH_MAX - 1; i++) {
		assert_int_equal(sketch_estimate(&s), i);
		for (unsigned again = 0; again < 3; again++)
			sketch_add(&s, hash_of(i));
	}
}

/* Four standard deviations of 9 %, at many sizes. */
static void test_near(void **state)
{
	static const uint64_t sizes[] = {128, 200, 1000, 10000, 100000, 1000000};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		struct sketch s = {.count = 0};
		uint64_t estimate;

		for (uint64_t thing = 0; thing < sizes[i]; thing++)
			sketch_add(&s, hash_of(thing + i * 10000000));
		estimate = sketch_estimate(&s);
		assert_true(estimate >= sizes[i] * 64 / 100 && estimate <= sizes[i] * 136 / 100);
	}
}

/* However the things are dealt out and merged, the sketch is that of all. */
static void test_merge(void **state)
{
	uint64_t random = 42;

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct sketch parts[4] = {0}, all = {0}, merged = {0}, again;
		uint8_t bytes[SKETCH_BYTES];

		for (unsigned i = 0; i < round * 5; i++) {
			random = random * UINT64_C(6364136223846793005) +
				 UINT64_C(1442695040888963407);
			sketch_add(&parts[random >> 62], hash_of(random >> 50));
			sketch_add(&all, hash_of(random >> 50));
		}
		for (unsigned i = 0; i < 4; i++)
			sketch_merge(&merged, &parts[(i + round) % 4]);
		assert_int_equal(merged.count, all.count);
		assert_memory_equal(merged.hash, all.hash, all.count * sizeof(all.hash[0]));
		assert_int_equal(sketch_read(bytes, sketch_write(&all, bytes), &again), 0);
		assert_int_equal(again.count, all.count);
		assert_memory_equal(again.hash, all.hash, all.count * sizeof(all.hash[0]));
	}
}

static void test_no_sketch(void **state)
{
	static const uint8_t twice[16] = {1, 0, 0, 0, 0, 0, 0, 0, 1};
	static const uint8_t many[SKETCH_BYTES + 8] = {0};
	struct sketch s;

	(void)state;
	assert_int_equal(sketch_read(many, 7, &s), -EBADMSG);
	assert_int_equal(sketch_read(many, sizeof(many), &s), -EBADMSG);
	assert_int_equal(sketch_read(twice, sizeof(twice), &s), -EBADMSG);
	assert_int_equal(sketch_read(twice, 8, &s), 0);
	assert_int_equal(sketch_read(NULL, 0, &s), 0);
}

static void test_ports(void **state)
{
	static const uint32_t sizes[] = {0, 1, 2, 100, 4095, 4096, 4097, 20000, 65536};
	uint64_t random = 42;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		struct port_set s = {{0}}, again = {{0}};
		uint8_t bytes[PORT_SET_BYTES];
		size_t size;

		for (uint32_t n = 0; n < sizes[i]; n++) {
			uint32_t port = n; /* all, or so many at random */

			do {
				random = random * UINT64_C(6364136223846793005) + 1;
				port = sizes[i] == 65536 ? n : (uint32_t)(random >> 48);
			} while (port_set_has(&s, (uint16_t)port));
			port_set_add(&s, (uint16_t)port);
		}
		assert_int_equal(port_set_count(&s, 0, UINT16_MAX), sizes[i]);
		size = port_set_write(&s, bytes);
		assert_int_equal(size, MIN(2 * sizes[i], PORT_SET_BYTES));
		assert_int_equal(port_set_merge(&again, bytes, size), sizes[i]);
		assert_memory_equal(&again, &s, sizeof(s));
		assert_int_equal(port_set_merge(&again, bytes, size), 0);
		assert_memory_equal(&again, &s, sizeof(s));
	}
}

static void test_no_ports(void **state)
{
	static const uint8_t bytes[PORT_SET_BYTES + 2] = {1, 2, 1, 2};
	struct port_set s = {{0}};

	(void)state;
	assert_int_equal(port_set_merge(&s, bytes, 3), -EBADMSG);
	assert_int_equal(port_set_merge(&s, bytes, 4), -EBADMSG);
	assert_int_equal(port_set_merge(&s, bytes, sizeof(bytes)), -EBADMSG);
	assert_int_equal(port_set_count(&s, 0, UINT16_MAX), 0);
	assert_int_equal(port_set_merge(&s, bytes, 2), 1);
	assert_true(port_set_has(&s, 513));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_while_few),
		cmocka_unit_test(test_near),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_no_sketch),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_no_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
