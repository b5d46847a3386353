/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/buf.h"

static void assert_holds(const struct buf *b, const char *expected)
{
	assert_int_equal(buf_size(b), strlen(expected));
	if (*expected)
		assert_memory_equal(buf_bytes(b), expected, strlen(expected));
}

static unsigned byte_at(const struct buf *b, size_t i)
{
	const uint8_t *bytes = buf_bytes(b);

	assert_non_null(bytes);
	return bytes ? bytes[i] : 0;
}

static void test_append_and_consume(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};

	(void)state;
	assert_holds(&b, "");
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_holds(&b, "");
	assert_int_equal(buf_append(&b, "abc", 3), 0);
	assert_int_equal(buf_append_string(&b, "def"), 0);
	assert_int_equal(buf_append_format(&b, "%d-%s", 42, "x"), 0);
	assert_holds(&b, "abcdef42-x");
	buf_consume(&b, 0);
	buf_consume(&b, 4);
	assert_holds(&b, "ef42-x");
	buf_truncate(&b, 3);
	assert_holds(&b, "ef4");
	buf_truncate(&b, 3);
	assert_holds(&b, "ef4");
	assert_int_equal(buf_append_string(&b, "!"), 0);
	assert_holds(&b, "ef4!");
	buf_consume(&b, 4);
	assert_holds(&b, "");
	assert_int_equal(b.start, 0);
}

static void test_done_leaves_an_empty_buffer(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append_string(&b, "abc"), 0);
	buf_done(&b);
	assert_true(!b.data && buf_size(&b) == 0 && b.capacity == 0);
	buf_done(&b);
	assert_int_equal(buf_append_string(&b, "d"), 0);
	assert_holds(&b, "d");
	buf_done(&b);
}

static void test_reserve(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};
	char *room = buf_reserve(&b, 1000);

	(void)state;
	assert_non_null(room);
	assert_true(b.capacity >= 1000);
	memset(room, 'r', 1000);
	assert_holds(&b, "");
	buf_grow(&b, 2);
	assert_holds(&b, "rr");
	/* room for nothing is still a place */
	assert_non_null(buf_reserve(&b, 0));
	assert_holds(&b, "rr");
}

/* What memory cannot hold is refused before anything is changed. */
static void test_too_much(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append_string(&b, "kept"), 0);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_null(buf_reserve(&b, SIZE_MAX / 4 + 1));
	assert_int_equal(buf_append(&b, "", SIZE_MAX - 2), -ENOMEM);
	assert_holds(&b, "kept");
}

/* A connection's life: bytes come and go, the memory stays as small as what waits. */
static void test_consumed_room_is_used_again(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};
	uint8_t in = 0, out = 0;

	(void)state;
	for (unsigned round = 0; round < 10000; round++) {
		for (unsigned i = 0; i < 7; i++)
			assert_int_equal(buf_put_u8(&b, in++), 0);
		for (unsigned i = 0; i < (round < 10 ? 6 : 7); i++) {
			assert_int_equal(byte_at(&b, 0), out++);
			buf_consume(&b, 1);
		}
	}
	assert_int_equal(buf_size(&b), 10);
	assert_true(b.capacity <= 256);
}

static void test_growth_keeps_the_bytes(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(buf_put_integer(&b, (uint16_t)i, 2), 0);
	buf_consume(&b, 2 * 1000);
	for (unsigned i = 5000; i < 30000; i++)
		assert_int_equal(buf_put_integer(&b, (uint16_t)i, 2), 0);
	for (unsigned i = 1000; i < 30000; i++) {
		assert_int_equal(byte_at(&b, 0) | byte_at(&b, 1) << 8, i);
		buf_consume(&b, 2);
	}
	assert_int_equal(buf_size(&b), 0);
}

static void test_integers_are_little_endian(void **state)
{
	static const uint8_t expected[] = {0x12, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 0xef, 0xcd,
		0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
	_cleanup_(buf_done) struct buf b = {0};
	struct reader r;

	(void)state;
	assert_int_equal(buf_put_u8(&b, 0x12), 0);
	assert_int_equal(buf_put_integer(&b, 0x1234, 2), 0);
	assert_int_equal(buf_put_integer(&b, 0x12345678, 4), 0);
	assert_int_equal(buf_put_u64(&b, UINT64_C(0x0123456789abcdef)), 0);
	assert_int_equal(buf_size(&b), sizeof(expected));
	assert_memory_equal(buf_bytes(&b), expected, sizeof(expected));

	r = (struct reader){.next = expected, .left = sizeof(expected)};
	assert_int_equal(reader_u8(&r), 0x12);
	assert_int_equal(reader_u16(&r), 0x1234);
	assert_int_equal(reader_u32(&r), 0x12345678);
	assert_true(reader_u64(&r) == UINT64_C(0x0123456789abcdef));
	assert_true(r.left == 0 && !r.failed);
}

static void test_integers_at_their_limits(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};
	struct reader r;

	(void)state;
	assert_int_equal(buf_put_u8(&b, UINT8_MAX), 0);
	assert_int_equal(buf_put_integer(&b, UINT16_MAX, 2), 0);
	assert_int_equal(buf_put_integer(&b, UINT32_MAX, 4), 0);
	assert_int_equal(buf_put_u64(&b, UINT64_MAX), 0);
	r = (struct reader){.next = buf_bytes(&b), .left = buf_size(&b)};
	assert_true(reader_u8(&r) == UINT8_MAX && reader_u16(&r) == UINT16_MAX);
	assert_true(reader_u32(&r) == UINT32_MAX && reader_u64(&r) == UINT64_MAX);
	assert_false(r.failed);
}

static void test_reader_bytes(void **state)
{
	static const uint8_t data[] = {1, 2, 3};
	struct reader r = {.next = data, .left = sizeof(data)};

	(void)state;
	assert_ptr_equal(reader_bytes(&r, 0), data);
	assert_ptr_equal(reader_bytes(&r, 2), data);
	assert_int_equal(r.left, 1);
	assert_null(reader_bytes(&r, SIZE_MAX));
	assert_true(r.failed);
}

/* Every reader fails one byte short of what it needs, gives 0, and nothing works after that. */
static void test_reader_past_the_end(void **state)
{
	static const uint8_t data[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	(void)state;
	for (unsigned width = 1; width <= 8; width *= 2) {
		struct reader r = {.next = data, .left = width - 1};
		uint64_t value = 1;

		switch (width) {
		case 1:
			value = reader_u8(&r);
			break;
		case 2:
			value = reader_u16(&r);
			break;
		case 4:
			value = reader_u32(&r);
			break;
		case 8:
			value = reader_u64(&r);
			break;
		}
		assert_true(value == 0);
		assert_true(r.failed);
		assert_int_equal(reader_u8(&r), 0);
		assert_null(reader_bytes(&r, 0));
		assert_true(r.failed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append_and_consume),
		cmocka_unit_test(test_done_leaves_an_empty_buffer),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_consumed_room_is_used_again),
		cmocka_unit_test(test_growth_keeps_the_bytes),
		cmocka_unit_test(test_integers_are_little_endian),
		cmocka_unit_test(test_integers_at_their_limits),
		cmocka_unit_test(test_reader_bytes),
		cmocka_unit_test(test_reader_past_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
