/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/port_set.h"
#include "common/varint.h"

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

/* `size` of the ports from `first` on, `span` of them, at random. */
static struct port_set some_ports(uint32_t first, uint32_t span, uint32_t size, uint64_t *random)
{
	struct port_set s = {{0}};

	for (uint32_t n = 0; n < size; n++) {
		uint16_t port;

		do {
			*random = *random * UINT64_C(6364136223846793005) + 1;
			port = (uint16_t)(first + (*random >> 32) % span);
		} while (port_set_has(&s, port));
		port_set_add(&s, port);
	}
	return s;
}

/* Merges from memory that ends with the bytes. */
static int merge(struct port_set *s, const uint8_t *bytes, size_t size)
{
	_cleanup_(free_p) uint8_t *exact = malloc(size ? size : 1);

	assert_non_null(exact);
	memcpy(exact, bytes, size);
	return port_set_merge(s, exact, size);
}

static void test_bytes(_unused_ void **state)
{
	static const struct {
		uint32_t first, span, size;
	} cases[] = {{0, 65536, 0}, {0, 65536, 1}, {65535, 1, 1}, {0, 1, 1}, {0, 65536, 2},
		{0, 65536, 100}, {0, 65536, 4096}, {0, 65536, 8000}, {0, 65536, 8300},
		{0, 65536, 20000}, {0, 65536, 65536}, {32768, 28232, 27}, {32768, 28232, 474},
		{32768, 28232, 3500}, {32768, 28232, 3600}, {32768, 28232, 28232}, {40000, 3, 3},
		{40000, 200, 200}, {65000, 536, 500}, {0, 9, 9}};
	uint64_t random = 42;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct port_set s = some_ports(
					cases[i].first, cases[i].span, cases[i].size, &random),
				again = {{0}}, other, both;
		uint8_t bytes[PORT_SET_WRITTEN];
		size_t size = port_set_write(&s, bytes);
		int added;

		assert_int_equal(port_set_count(&s, 0, UINT16_MAX), cases[i].size);
		assert_int_equal(port_set_size(&s), cases[i].size);
		assert_true(size <= 1 + 3 * cases[i].size && size <= 3 + cases[i].span / 8 + 2);
		assert_int_equal(merge(&again, bytes, size), cases[i].size);
		assert_memory_equal(&again, &s, sizeof(s));
		assert_int_equal(merge(&again, bytes, size), 0);
		assert_memory_equal(&again, &s, sizeof(s));
		/* into one that has some of them */
		other = some_ports(0, 65536, 7000, &random);
		both = other;
		port_set_unite(&both, &s);
		added = merge(&other, bytes, size);
		assert_int_equal(added, port_set_size(&both) - 7000);
		assert_memory_equal(&other, &both, sizeof(both));
	}
}

/* What the bytes are, since they lie in databases: those of hundreds of ports are one each. */
static void test_form(_unused_ void **state)
{
	static const uint8_t list[] = {0, 80, 0, 0xae, 2, 0xae, 0xb8, 1, 0xcf, 0xc4, 2},
			     bits[] = {1, 0xe8, 3, 0xff, 0x01};
	struct port_set s = {{0}};
	uint8_t bytes[PORT_SET_WRITTEN];

	assert_int_equal(port_set_parse(&s, "80,81,384,23983,65535"), 0);
	assert_int_equal(port_set_write(&s, bytes), sizeof(list));
	assert_memory_equal(bytes, list, sizeof(list));
	s = (struct port_set){{0}};
	assert_int_equal(port_set_parse(&s, "8000-8008"), 0);
	assert_int_equal(port_set_write(&s, bytes), sizeof(bits));
	assert_memory_equal(bytes, bits, sizeof(bits));
	s = (struct port_set){{0}};
	for (unsigned i = 0; i < 400; i++)
		port_set_add(&s, (uint16_t)(32768 + 70 * i));
	assert_int_equal(port_set_write(&s, bytes), 1 + 3 + 399);
}

static void test_no_set(_unused_ void **state)
{
#define BYTES(...)                                                                                 \
	{                                                                                          \
		{__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})                              \
	}
	static const struct {
		uint8_t bytes[8];
		size_t size;
	} cases[] = {
		BYTES(0),                   /* a list of none is no bytes at all */
		BYTES(2, 1),                /* no form */
		BYTES(0, 0x80),             /* cut off */
		BYTES(0, 5, 0xff),          /* the same behind a port */
		BYTES(0, 0xff, 0xff),       /* the same after two */
		BYTES(0, 0x80, 0),          /* longer than it need be */
		BYTES(0, 0xff, 0x80, 0),    /* the same */
		BYTES(0, 0x80, 0x80, 4),    /* 65536 */
		BYTES(0, 0xff, 0xff, 3, 0), /* 65535, and one more */
		BYTES(0, 1, 0xfe, 0xff, 3), /* 1, and 65536 */
		BYTES(0, 0xff, 0xff, 0xff, 0xff, 0x7f),
		BYTES(0, 0, 0x80, 0x80, 0x80, 0x80, 0x10), /* more than 32 bits */
		BYTES(1),
		BYTES(1, 0, 0),             /* bits of none */
		BYTES(1, 0, 0, 0, 1),       /* first one */
		BYTES(1, 0, 0, 1, 0),       /* last one */
		BYTES(1, 0, 0x20, 1),       /* behind all */
		BYTES(1, 0xff, 0x1f, 1, 1), /* over their end */
		BYTES(1, 0xff, 0xff, 1),
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct port_set s = {{0}};

		assert_int_equal(merge(&s, cases[i].bytes, cases[i].size), -EBADMSG);
	}
}

/* The last port that each form can have. */
static void test_ends(_unused_ void **state)
{
	static const uint8_t list[] = {0, 0xff, 0xff, 3}, bits[] = {1, 0xff, 0x1f, 0x80};
	struct port_set s = {{0}};

	assert_int_equal(merge(&s, list, sizeof(list)), 1);
	assert_true(port_set_has(&s, UINT16_MAX));
	assert_int_equal(merge(&s, bits, sizeof(bits)), 0);
	assert_int_equal(port_set_size(&s), 1);
	assert_int_equal(port_set_merge(&s, NULL, 0), 0);
}

static void test_varint(_unused_ void **state)
{
	static const uint8_t past[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 2},
			     over[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 128, 1},
			     padded[] = {0x81, 0};
	const struct {
		const uint8_t *bytes;
		size_t size;
	} bad[] = {{past, sizeof(past)}, {over, sizeof(over)}, {padded, sizeof(padded)}, {past, 0}};
	uint64_t got = 77;

	for (unsigned shift = 0; shift <= 64; shift++)
		for (int less = 0; less < 2; less++) {
			uint64_t number = (shift < 64 ? UINT64_C(1) << shift : 0) - (uint64_t)less;
			uint8_t bytes[VARINT_BYTES];
			size_t size = varint_put(bytes, number);
			const uint8_t *at = bytes;

			assert_int_equal(varint_get(&at, bytes + size, &got), 0);
			assert_true(got == number && at == bytes + size);
			at = bytes;
			assert_int_equal(varint_get(&at, bytes + size - 1, &got), -EBADMSG);
			assert_ptr_equal(at, bytes);
		}
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		const uint8_t *at = bad[i].bytes;

		assert_int_equal(varint_get(&at, at + bad[i].size, &got), -EBADMSG);
		assert_ptr_equal(at, bad[i].bytes);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_no_set),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_varint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
