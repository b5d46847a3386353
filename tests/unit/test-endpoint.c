/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/endpoint.h"

struct kernel_case {
	int family;
	uint8_t bytes[16];
	enum family expected;
	size_t size;
	bool any;
	const char *text;
};

static const struct kernel_case kernel_cases[] = {
	{AF_INET, {127, 0, 0, 1}, FAMILY_IPV4, 4, false, "127.0.0.1"},
	{AF_INET, {255, 255, 255, 255}, FAMILY_IPV4, 4, false, "255.255.255.255"},
	{AF_INET, {0}, FAMILY_IPV4, 4, true, "0.0.0.0"},
	/* bytes past the first four are not the kernel's, and must not count */
	{AF_INET, {0, 0, 0, 0, 1, 2, 3}, FAMILY_IPV4, 4, true, "0.0.0.0"},
	{AF_INET6, {0}, FAMILY_IPV6, 16, true, "::"},
	{AF_INET6, {[15] = 1}, FAMILY_IPV6, 16, false, "::1"},
	{AF_INET6, {0x20, 0x01, 0x0d, 0xb8, [11] = 1, [15] = 0x0a}, FAMILY_IPV6, 16, false,
		"2001:db8::1:0:a"},
	{AF_INET6, {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}, FAMILY_IPV4, 4, false, "192.0.2.1"},
	{AF_INET6, {[10] = 0xff, [11] = 0xff}, FAMILY_IPV4, 4, true, "0.0.0.0"},
	/* one bit beside the mapped prefix */
	{AF_INET6, {[10] = 0xff, [11] = 0xfe, 192, 0, 2, 1}, FAMILY_IPV6, 16, false,
		"::fffe:c000:201"},
	{AF_INET6, {1, [10] = 0xff, [11] = 0xff, 192, 0, 2, 1}, FAMILY_IPV6, 16, false,
		"100::ffff:c000:201"},
	{AF_UNIX, {1, 2, 3, 4}, FAMILY_NONE, 0, false, ""},
	{AF_UNSPEC, {0}, FAMILY_NONE, 0, false, ""},
};

static void test_from_kernel(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(kernel_cases); i++) {
		const struct kernel_case *c = &kernel_cases[i];
		struct address a, expected = {.family = (uint8_t)c->expected};
		char text[ADDRESS_TEXT_MAX];

		memset(&a, 0xa5, sizeof(a));
		a = address_from_kernel(c->family, c->bytes);
		if (c->expected == FAMILY_IPV4)
			memcpy(expected.bytes, c->bytes + (c->family == AF_INET6 ? 12 : 0), 4);
		else if (c->expected == FAMILY_IPV6)
			memcpy(expected.bytes, c->bytes, 16);
		assert_memory_equal(&a, &expected, sizeof(a));
		assert_true(address_equal(&a, &expected));
		assert_int_equal(address_size(&a), c->size);
		assert_int_equal(address_is_any(&a), c->any);
		assert_ptr_equal(address_format(&a, text), text);
		assert_string_equal(text, c->text);
	}
}

static void test_equal(void **state)
{
	static const uint8_t one[16] = {10, 0, 0, 1}, two[16] = {10, 0, 0, 2};
	struct address a = address_from_kernel(AF_INET, one);
	struct address b = address_from_kernel(AF_INET, two);
	struct address wide = address_from_kernel(AF_INET6, one);

	(void)state;
	assert_true(address_equal(&a, &a));
	assert_false(address_equal(&a, &b));
	/* same bytes, other family */
	assert_false(address_equal(&a, &wide));
	/* of an endpoint, the port too */
	assert_true(endpoint_equal(&(struct endpoint){a, 1}, &(struct endpoint){a, 1}));
	assert_false(endpoint_equal(&(struct endpoint){a, 1}, &(struct endpoint){a, 2}));
	assert_false(endpoint_equal(&(struct endpoint){a, 1}, &(struct endpoint){b, 1}));
}

struct parse_case {
	const char *text;
	const char *formatted; /* NULL: -EINVAL */
};

static const struct parse_case parse_cases[] = {
	{"127.0.0.1", "127.0.0.1"},
	{"0.0.0.0", "0.0.0.0"},
	{"::", "::"},
	{"::1", "::1"},
	{"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
	{"1:0:0:2:0:0:0:3", "1:0:0:2::3"},
	{"::ffff:192.0.2.1", "192.0.2.1"},
	{"::ffff:c000:201", "192.0.2.1"},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"", NULL},
	{" 127.0.0.1", NULL},
	{"127.0.0.1 ", NULL},
	{"127.0.0", NULL},
	{"127.0.0.256", NULL},
	{"127.0.0.01", NULL},
	{"127.0.0.1:80", NULL},
	{"0x7f.0.0.1", NULL},
	{"2130706433", NULL},
	{"[::1]", NULL},
	{"fe80::1%lo", NULL},
	{"1::2::3", NULL},
	{"::12345", NULL},
	{"localhost", NULL},
};

static void test_parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(parse_cases); i++) {
		const struct parse_case *c = &parse_cases[i];
		struct address a, untouched;
		char text[ADDRESS_TEXT_MAX];

		memset(&a, 0xa5, sizeof(a));
		memset(&untouched, 0xa5, sizeof(untouched));
		if (!c->formatted) {
			assert_int_equal(address_parse(c->text, &a), -EINVAL);
			assert_memory_equal(&a, &untouched, sizeof(a));
			continue;
		}
		assert_int_equal(address_parse(c->text, &a), 0);
		assert_string_equal(address_format(&a, text), c->formatted);
	}
}

struct endpoint_case {
	const char *address; /* NULL: FAMILY_NONE */
	uint16_t port;
	const char *text;
};

static const struct endpoint_case endpoint_cases[] = {
	{"1.2.3.4", 5, "1.2.3.4:5"},
	{"255.255.255.255", 65535, "255.255.255.255:65535"},
	{"0.0.0.0", 0, "0.0.0.0:0"},
	{"::1", 5, "[::1]:5"},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{NULL, 5, ""},
};

static void test_endpoint_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(endpoint_cases); i++) {
		const struct endpoint_case *c = &endpoint_cases[i];
		struct endpoint e = {.port = c->port};
		char text[ENDPOINT_TEXT_MAX];

		if (c->address)
			assert_int_equal(address_parse(c->address, &e.address), 0);
		assert_ptr_equal(endpoint_format(&e, text), text);
		assert_string_equal(text, c->text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_kernel),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_endpoint_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
