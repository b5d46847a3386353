/* SPDX-License-Identifier: MIT */

/* Sets of anything, counted exactly while they are small, and nearly then; merged from bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

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

static void assert_same(const struct sketch *a, const struct sketch *b)
{
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->hash, b->hash, a->count * sizeof(a->hash[0]));
}

/* By its bytes; what lies behind those is not read. */
static void merge(struct sketch *to, const struct sketch *from)
{
	uint8_t bytes[SKETCH_BYTES];
	size_t size = sketch_write(from, bytes);
	_cleanup_(free_p) uint8_t *exact = malloc(size + 1);

	assert_non_null(exact);
	assert_int_equal(size, sketch_size(from));
	memcpy(exact + 1, bytes, size); /* at an odd place */
	assert_int_equal(sketch_merge(to, exact + 1, size), 0);
}

/* However the things are dealt out and merged, the sketch is that of all; and once more changes nothing. */
static void test_merge(void **state)
{
	uint64_t random = 42;

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		struct sketch parts[4] = {0}, all = {0}, merged = {0}, again = {0};

		for (unsigned i = 0; i < round * 3; i++) {
			random = random * UINT64_C(6364136223846793005) +
				 UINT64_C(1442695040888963407);
			/* one part has many, one few */
			sketch_add(&parts[random >> 62 & random >> 60 & 3], hash_of(random >> 50));
			sketch_add(&all, hash_of(random >> 50));
		}
		for (unsigned i = 0; i < 4; i++)
			merge(&merged, &parts[(i + round) % 4]);
		assert_same(&merged, &all);
		merge(&merged, &parts[round % 4]);
		assert_same(&merged, &all);
		merge(&again, &all);
		assert_same(&again, &all);
	}
}

/* Of two hashes that differ by what is not kept, one is counted. */
static void test_kept(void **state)
{
	struct sketch s = {.count = 0};

	(void)state;
	sketch_add(&s, UINT64_C(0x1234567890abcdef));
	sketch_add(&s, UINT64_C(0x1234567890000000));
	assert_int_equal(s.count, 1);
	sketch_add(&s, UINT64_C(0x1234567891000000));
	assert_int_equal(s.count, 2);
}

static void test_no_sketch(void **state)
{
	static const uint8_t twice[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0},
			     falling[] = {0, 0, 0, 0, 2, 255, 255, 255, 255, 1};
	struct sketch s = {.count = 0}, before = s;
	uint8_t bytes[SKETCH_BYTES + SKETCH_HASH_BYTES] = {0};

	(void)state;
	for (uint8_t i = 0; i <= SKETCH_MAX; i++)
		bytes[SKETCH_HASH_BYTES * i] = i; /* one too many */
	assert_int_equal(sketch_merge(&s, bytes, 4), -EBADMSG);
	assert_int_equal(sketch_merge(&s, bytes, 8), -EBADMSG);
	assert_int_equal(sketch_merge(&s, bytes, sizeof(bytes)), -EBADMSG);
	assert_int_equal(sketch_merge(&s, twice, sizeof(twice)), -EBADMSG);
	assert_int_equal(sketch_merge(&s, falling, sizeof(falling)), -EBADMSG);
	assert_same(&s, &before);
	assert_int_equal(sketch_merge(&s, twice, 5), 0);
	assert_int_equal(sketch_merge(&s, NULL, 0), 0);
	assert_int_equal(s.count, 1);
}

static void put(uint8_t to[static SKETCH_HASH_BYTES], uint64_t hash)
{
	for (size_t k = 0; k < SKETCH_HASH_BYTES; k++)
		to[k] = (uint8_t)(hash >> 8 * k);
}

/* Into a full one no more goes than is lower than its highest, whatever comes behind it. */
static void test_full(void **state)
{
	struct sketch full = {.count = 0}, low = {.count = 0}, before;
	uint8_t bytes[SKETCH_BYTES];

	(void)state;
	for (uint64_t i = 0; i < SKETCH_MAX; i++)
		sketch_add(&full, (1000 + 10 * i) << 24);
	assert_int_equal(full.count, SKETCH_MAX);
	before = full;
	put(bytes, 1000 + 10 * (SKETCH_MAX - 1)); /* the highest itself */
	put(bytes + 5, 1);                        /* not in order, and not looked at */
	assert_int_equal(sketch_merge(&full, bytes, 10), 0);
	assert_same(&full, &before);
	put(bytes, 1005);
	put(bytes + 5, 1004);
	assert_int_equal(sketch_merge(&full, bytes, 10), -EBADMSG);
	assert_same(&full, &before);
	sketch_add(&full, UINT64_MAX);
	assert_same(&full, &before);
	sketch_add(&full, UINT64_C(1005) << 24);
	assert_int_equal(full.count, SKETCH_MAX);
	assert_int_equal(full.hash[1], 1005);
	assert_int_equal(full.hash[SKETCH_MAX - 1], before.hash[SKETCH_MAX - 2]);
	/* all of it is pushed out */
	for (uint64_t i = 0; i < SKETCH_MAX; i++)
		sketch_add(&low, i << 24);
	merge(&full, &low);
	assert_same(&full, &low);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_while_few),
		cmocka_unit_test(test_near),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_no_sketch),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
