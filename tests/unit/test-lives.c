/* SPDX-License-Identifier: MIT */

/* The shortest and the longest life at any moment are what a look at each life says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/lives.h"
#include "tests/support/random.h"

#define COUNT 40u
#define HOUR  INT64_C(1000)

static uint64_t seed;

static int64_t draw(int64_t below)
{
	return (int64_t)random_below(&seed, (uint64_t)below);
}

struct life {
	int64_t began, ended;
};

static void assert_at(const struct lives *l, const struct life all[], size_t count, int64_t until)
{
	int64_t shortest = INT64_MAX, longest = -1, s = 0, g = 0;

	for (size_t i = 0; i < count; i++) {
		int64_t ended = MIN(all[i].ended, until);

		longest = MAX(longest, ended - all[i].began);
		if (all[i].ended <= until)
			shortest = MIN(shortest, all[i].ended - all[i].began);
	}
	lives_at(l, until, &s, &g);
	assert_int_equal(s, shortest);
	assert_int_equal(g, longest);
}

/* Through bytes and back. */
static void copy(struct lives *to, const struct lives *from)
{
	uint8_t bytes[LIVES_BYTES];
	size_t size = lives_write(from, bytes);

	assert_int_equal(lives_read(bytes, size, to), 0);
	if (size > 2) {
		struct lives cut;

		assert_int_equal(lives_read(bytes, size - 1, &cut), -EBADMSG);
	}
}

/* Three hours of random lives, each an hour's and all together a longer stretch's, asked at random moments. */
static void test_random(void **state)
{
	size_t longest_stair = 0;

	(void)state;
	for (seed = 1; seed < UINT64_C(1) << 62; seed += UINT64_C(1) << 52) {
		struct lives hours[3], stored, all;
		struct life lives[3][COUNT];
		int64_t spread = 1 + draw(5 * HOUR);

		lives_init(&all);
		for (int h = 0; h < 3; h++) {
			lives_init(&hours[h]);
			for (size_t i = 0; i < COUNT; i++) {
				int64_t began = h * HOUR + draw(HOUR);

				lives[h][i] = (struct life){began, began + draw(spread)};
				lives_add(&hours[h], (h + 1) * HOUR, began, lives[h][i].ended);
			}
			copy(&stored, &hours[h]);
			longest_stair = MAX(longest_stair, stored.early.count);
			lives_merge(&all, 3 * HOUR, &stored);
			for (int i = 0; i < 8; i++)
				assert_at(
					&stored, lives[h], COUNT, (h + 1) * HOUR + draw(6 * HOUR));
		}
		for (int i = 0; i < 8; i++)
			assert_at(&all, lives[0], 3 * COUNT, 3 * HOUR + draw(6 * HOUR));
		assert_false(all.thinned);
	}
	assert_true(longest_stair > 5);
}

/* Equal lives that overlap are each a step: past the limit, what is said is near, and said to be. */
static void test_thinned(void **state)
{
	struct lives l, stored;
	int64_t shortest = 0, longest = 0;

	(void)state;
	lives_init(&l);
	for (int64_t i = 0; i < 1000; i++)
		lives_add(&l, HOUR, i, i + 5000);
	assert_true(l.thinned);
	copy(&stored, &l);
	assert_true(stored.thinned);
	lives_at(&stored, 4500, &shortest, &longest);
	assert_int_equal(longest, 4500);
	assert_true(shortest == INT64_MAX);
	lives_at(&stored, 9000, &shortest, &longest);
	assert_int_equal(shortest, 5000);
	assert_int_equal(longest, 5000);
}

static void test_none(void **state)
{
	const uint8_t unordered[2 + 32] = {2, 0, 5, [18] = 5};
	struct lives l;
	int64_t shortest = 0, longest = 0;

	(void)state;
	assert_int_equal(lives_read(NULL, 0, &l), 0);
	lives_at(&l, 10, &shortest, &longest);
	assert_true(shortest == INT64_MAX);
	assert_int_equal(longest, -1);
	assert_int_equal(lives_read("\x41", 1, &l), -EBADMSG);
	assert_int_equal(lives_read("\x41\0", 2, &l), -EBADMSG);
	assert_int_equal(lives_read(unordered, sizeof(unordered), &l), -EBADMSG);
}

/* An empty one takes no bytes; what ended is not there where nothing did; the same beginning twice is one step. */
static void test_few(void **state)
{
	uint8_t bytes[LIVES_BYTES];
	int64_t shortest = 0, longest = 0;
	struct lives empty, l, to;

	(void)state;
	lives_init(&empty);
	assert_int_equal(lives_write(&empty, bytes), 0);
	assert_int_equal(lives_size(&empty), 0);
	lives_init(&l);
	lives_add(&l, HOUR, 5, 2 * HOUR);
	lives_add(&l, HOUR, 5, 3 * HOUR);
	assert_int_equal(l.early.count, 1);
	assert_int_equal(l.quick.count, 1);
	copy(&to, &l);
	lives_merge(&to, HOUR, &empty);
	lives_merge(&empty, HOUR, &to);
	lives_at(&empty, 9 * HOUR, &shortest, &longest);
	assert_int_equal(shortest, 2 * HOUR - 5);
	assert_int_equal(longest, 3 * HOUR - 5);
}

static void test_refused(void **state)
{
	static const uint8_t many[2] = {0, LIVES_MAX + 1}, /* quick ones */
		rising[2 + 32] = {2, 0, 5, [10] = 5, [18] = 6, [26] = 5},
			     ordered[2 + 32] = {2, 0, 5, [10] = 5, [18] = 6, [26] = 4},
			     quick[2 + 32] = {0, 2, 5, [10] = 5, [18] = 4, [26] = 4};
	struct lives l;

	(void)state;
	assert_int_equal(lives_read(many, sizeof(many), &l), -EBADMSG);
	assert_int_equal(lives_read(rising, sizeof(rising), &l), -EBADMSG);
	assert_int_equal(lives_read(quick, sizeof(quick), &l), -EBADMSG);
	assert_int_equal(lives_read(ordered, sizeof(ordered), &l), 0);
	assert_int_equal(l.early.count, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_thinned),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_few),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
