/* SPDX-License-Identifier: MIT */

/* The blob of a rollup: what is written is read, and what is none is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/rollup_sets.h"
#include "common/siphash.h"
#include "tests/support/random.h"

#define END INT64_C(3600000000)

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
	return random_below(&seed, below);
}

struct whole {
	struct rollup_reasons reasons;
	struct lives lives;
	struct sketch remotes;
	struct port_set ports;
};

static void make(struct whole *w, uint64_t claims)
{
	static const struct siphash_key key = {{3, 4}};

	*w = (struct whole){.reasons = {draw(3), draw(200), draw(3) << draw(60)}};
	lives_init(&w->lives);
	for (uint64_t i = 0; i < claims; i++) {
		int64_t began = (int64_t)draw((uint64_t)END);
		uint64_t remote = draw(claims);

		lives_add(&w->lives, END, began, began + (int64_t)draw((uint64_t)END));
		sketch_add(&w->remotes, siphash(&key, &remote, sizeof(remote)));
		port_set_add(&w->ports, (uint16_t)(32768 + draw(28232)));
	}
}

static void assert_lives(const struct lives *a, const struct lives *b)
{
	for (int64_t until = END; until <= 2 * END; until += END / 7) {
		int64_t shortest[2], longest[2];

		lives_at(a, until, &shortest[0], &longest[0]);
		lives_at(b, until, &shortest[1], &longest[1]);
		assert_int_equal(shortest[0], shortest[1]);
		assert_int_equal(longest[0], longest[1]);
	}
	assert_int_equal(a->thinned, b->thinned);
}

static void assert_read(const struct whole *w, const uint8_t *bytes, size_t size)
{
	struct rollup_sets sets;
	struct sketch remotes = {.count = 0};
	struct port_set ports = {{0}};
	struct lives lives;

	assert_int_equal(rollup_sets_read(bytes, size, &sets), 0);
	assert_memory_equal(&sets.reasons, &w->reasons, sizeof(w->reasons));
	assert_int_equal(lives_read(sets.lives, sets.lives_size, &lives), 0);
	assert_lives(&lives, &w->lives);
	assert_int_equal(sketch_merge(&remotes, sets.remotes, sets.remotes_size), 0);
	assert_int_equal(remotes.count, w->remotes.count);
	assert_memory_equal(remotes.hash, w->remotes.hash, remotes.count * sizeof(remotes.hash[0]));
	assert_int_equal(
		port_set_merge(&ports, sets.ports, sets.ports_size), port_set_size(&w->ports));
	assert_memory_equal(&ports, &w->ports, sizeof(ports));
}

static void test_random(void **state)
{
	(void)state;
	seed = 1;
	for (uint64_t round = 0; round < 200; round++) {
		struct whole w;
		uint8_t bytes[ROLLUP_SETS_BYTES];

		make(&w, round < 100 ? round : draw(20000));
		assert_read(&w, bytes,
			rollup_sets_write(&w.reasons, &w.lives, &w.remotes, &w.ports, bytes));
	}
}

/* A blob that is full has room. */
static void test_largest(void **state)
{
	struct whole w = {.reasons = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
	uint8_t bytes[ROLLUP_SETS_BYTES];
	size_t size;

	(void)state;
	lives_init(&w.lives);
	lives_add(&w.lives, END, 0, 1);
	for (int64_t i = 0; i < 1000; i++)
		lives_add(&w.lives, END, i * 1000, 2 * END + i * i * 1000);
	for (uint64_t i = 0; i < SKETCH_MAX; i++)
		sketch_add(&w.remotes, i << 24);
	memset(&w.ports, 0xff, sizeof(w.ports));
	size = rollup_sets_write(&w.reasons, &w.lives, &w.remotes, &w.ports, bytes);
	assert_true(size > 30 + SKETCH_BYTES + PORT_SET_WRITTEN && size <= sizeof(bytes));
	assert_read(&w, bytes, size);
}

static void test_empty(void **state)
{
	struct whole w = {.reasons = {0, 0, 0}};
	uint8_t bytes[ROLLUP_SETS_BYTES];
	size_t size;

	(void)state;
	lives_init(&w.lives);
	size = rollup_sets_write(&w.reasons, &w.lives, &w.remotes, &w.ports, bytes);
	assert_int_equal(size, 5);
	assert_read(&w, bytes, size);
}

static void test_none(void **state)
{
	static const uint8_t lives[] = {0, 0, 0, 2, 0, 7}, remotes[] = {0, 0, 0, 1, 2, 7, 7},
			     wide[] = {
				     0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 7};
	struct rollup_sets sets;
	struct whole w;
	uint8_t bytes[ROLLUP_SETS_BYTES];
	size_t size;

	(void)state;
	assert_int_equal(rollup_sets_read(NULL, 0, &sets), -EBADMSG);
	assert_int_equal(rollup_sets_read(lives, sizeof(lives), &sets), -EBADMSG);
	assert_int_equal(rollup_sets_read(remotes, sizeof(remotes), &sets), -EBADMSG);
	assert_int_equal(rollup_sets_read(wide, sizeof(wide), &sets), -EBADMSG);
	/* cut off anywhere before the ports, which are what is left */
	seed = 5;
	make(&w, 50);
	size = rollup_sets_write(&w.reasons, &w.lives, &w.remotes, &w.ports, bytes);
	assert_int_equal(rollup_sets_read(bytes, size, &sets), 0);
	for (size_t cut = 0; cut < size - sets.ports_size; cut++) {
		struct rollup_sets none;

		assert_int_equal(rollup_sets_read(bytes, cut, &none), -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
