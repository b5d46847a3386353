/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <time.h>

#include "client/fields.h"

#define AT UINT64_C(1795403527114000) /* 2026-11-23 03:12:07.114 UTC */

static void test_times(_unused_ void **state)
{
	static const struct {
		const char *text;
		usec_t at; /* USEC_UNSET: none */
	} cases[] = {
		{"2026-11-23T03:12:07.114000+0000", AT},
		{"2026-11-23T04:12:07.114+01:00", AT},
		{"2026-11-22T22:42:07.114-0430", AT},
		{"2026-11-23 03:12:07.114Z", AT},
		{"2026-11-23T03:12:07,114999999Z", AT + 999},
		{"2026-11-23T03:12:07Z", AT - 114000},
		{"2026-11-23T12:12:07.114", AT}, /* the local zone, which is Tokyo's */
		{"1795403527.114", AT},
		{"1795403527.114000999", AT},
		{"1795403527114", AT},
		{"1795403527114000", AT},
		{"1795403527114000000", AT},
		{"0", 0},
		{"", USEC_UNSET},
		{"now", USEC_UNSET},
		{"-1", USEC_UNSET},
		{"1795403527.114x", USEC_UNSET},
		{"2026-11-23", USEC_UNSET},
		{"2026-11-23T03:12", USEC_UNSET},
		{"2026-13-23T03:12:07Z", USEC_UNSET},
		{"2026-11-23T24:12:07Z", USEC_UNSET},
		{"2026-11-23T03:12:07+1", USEC_UNSET},
		{"2026-11-23T03:12:07ZZ", USEC_UNSET},
		{"999999999999999999999", USEC_UNSET},
		{"1900-01-01T00:00:00Z", USEC_UNSET},
	};

	setenv("TZ", "Asia/Tokyo", 1);
	tzset();
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		usec_t at = USEC_UNSET;
		int r = fields_parse_time(cases[i].text, &at);

		assert_int_equal(r, cases[i].at == USEC_UNSET ? -EINVAL : 0);
		assert_int_equal(at, cases[i].at);
	}
}

static json_t *load(const char *text)
{
	json_t *record = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);

	assert_non_null(record);
	return record;
}

static void test_find(_unused_ void **state)
{
	static const struct {
		const char *spec, *record, *found; /* NULL: nothing */
	} cases[] = {
		{"src=a", "{\"a\":\"x\"}", "x"},
		{"src=a.b", "{\"a\":{\"b\":\"x\"}}", "x"},
		{"src=a.b", "{\"a.b\":\"x\",\"a\":{\"b\":\"y\"}}", "x"},
		{"src=a.b.c", "{\"a\":{\"b.c\":\"x\"}}", "x"},
		{"src=a.b.c", "{\"a.b\":{\"c\":\"x\"}}", "x"},
		{"src=a|b", "{\"b\":\"x\"}", "x"},
		{"src=a|b", "{\"a\":null,\"b\":\"x\"}", "x"},
		{"src=a", "{\"a\":[\"x\",\"y\"]}", "x"},
		{"src=a.b", "{\"a\":1}", NULL},
		{"src=a", "{\"a\":[]}", NULL},
		{"src=", "{\"src_ip\":\"x\"}", NULL},
		{"eve", "{\"src_ip\":\"x\"}", "x"},
		{"ek,src=a", "{\"a\":\"x\"}", "x"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct fields f;
		const char *wrong = NULL;
		json_t *record = load(cases[i].record);
		const json_t *found;

		assert_int_equal(fields_parse(cases[i].spec, &f, &wrong), 0);
		found = fields_find(&f, FIELD_SRC, record);
		if (cases[i].found)
			assert_string_equal(json_string_value(found), cases[i].found);
		else
			assert_null(found);
		json_decref(record);
		fields_done(&f);
	}
}

static void test_wrong_lists(_unused_ void **state)
{
	static const char *const cases[] = {"nothing", "src=a,nothing=b", "src=a,eve", "src", "=a"};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		const char *wrong = NULL;
		struct fields f;

		assert_int_equal(fields_parse(cases[i], &f, &wrong), -EINVAL);
		assert_non_null(strstr(cases[i], wrong));
	}
}

static void test_sighted(_unused_ void **state)
{
	static const struct {
		const char *spec, *record, *protocol;
		int r;
		usec_t at, until;
	} cases[] = {
		{"eve",
			"{\"timestamp\":\"2026-11-23T03:12:07.114Z\",\"src_ip\":\"1.2.3.4\",\"src_port\":5,"
			"\"dest_ip\":\"::1\",\"dest_port\":6,\"proto\":\"UDP\"}",
			"udp", 0, AT, AT},
		{"eve",
			"{\"timestamp\":\"2026-11-23T03:12:07.114Z\",\"src_ip\":\"1.2.3.4\",\"src_port\":5,"
			"\"dest_ip\":\"::1\",\"dest_port\":6,\"flow\":{\"start\":1,\"end\":2}}",
			NULL, 0, 1000000, 2000000},
		/* an alert has the start of its flow, and no end */
		{"eve",
			"{\"timestamp\":\"2026-11-23T03:12:07.114Z\",\"src_ip\":\"1.2.3.4\",\"src_port\":5,"
			"\"dest_ip\":\"::1\",\"dest_port\":6,\"flow\":{\"start\":1}}",
			NULL, 0, AT, AT},
		{"eve", "{\"src_ip\":\"1.2.3.4\",\"src_port\":5,\"dest_ip\":\"::1\",\"dest_port\":6}",
			NULL, -ENOTUNIQ, 0, 0},
		/* past what the daemon takes: it would refuse all that are asked about with it */
		{"eve",
			"{\"timestamp\":\"9999-01-01T00:00:00Z\",\"src_ip\":\"1.2.3.4\",\"src_port\":5,"
			"\"dest_ip\":\"::1\",\"dest_port\":6}",
			NULL, -ENOTUNIQ, 0, 0},
		{"eve", "{\"timestamp\":1,\"src_ip\":\"host\",\"src_port\":5,\"dest_ip\":\"::1\",\"dest_port\":6}",
			NULL, -ENODATA, 0, 0},
		{"eve", "{\"timestamp\":1,\"src_ip\":\"::1\",\"src_port\":5.5,\"dest_ip\":\"::1\",\"dest_port\":6}",
			NULL, -ENODATA, 0, 0},
		{"eve", "{\"timestamp\":1,\"src_ip\":\"::1\",\"src_port\":65536,\"dest_ip\":\"::1\",\"dest_port\":6}",
			NULL, -ENODATA, 0, 0},
		{"eve",
			"{\"timestamp\":1,\"src_ip\":\"::1\",\"src_port\":5,\"dest_ip\":\"::1\",\"dest_port\":6,"
			"\"proto\":\"ICMP\"}",
			NULL, -ENODATA, 0, 0},
		{"eve",
			"{\"timestamp\":1,\"src_ip\":\"::1\",\"src_port\":\"5\",\"dest_ip\":\"::1\",\"dest_port\":6,"
			"\"proto\":17}",
			"udp", 0, 1000000, 1000000},
		{"ek",
			"{\"timestamp\":\"1795403527114\",\"layers\":{\"ip\":{\"ip_ip_src\":\"1.2.3.4\",\"ip_ip_dst\":"
			"\"1.2.3.5\"},\"tcp\":{\"tcp_tcp_srcport\":\"5\",\"tcp_tcp_dstport\":\"6\"}}}",
			"tcp", 0, AT, AT},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		const char *wrong = NULL;
		struct fields f;
		struct sighted s = {0};
		json_t *record = load(cases[i].record);

		assert_int_equal(fields_parse(cases[i].spec, &f, &wrong), 0);
		assert_int_equal(fields_sighted(&f, record, &s), cases[i].r);
		if (cases[i].r == 0) {
			assert_int_equal(s.at, cases[i].at);
			assert_int_equal(s.until, cases[i].until);
			assert_int_equal(s.source_port, 5);
			assert_int_equal(s.destination_port, 6);
			if (cases[i].protocol)
				assert_string_equal(s.protocol, cases[i].protocol);
			else
				assert_null(s.protocol);
		}
		json_decref(record);
		fields_done(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_wrong_lists),
		cmocka_unit_test(test_sighted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
