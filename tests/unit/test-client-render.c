/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <locale.h>
#include <time.h>

#include "client/format.h"
#include "client/jsonout.h"
#include "client/receipt.h"
#include "client/render.h"
#include "client/users.h"

/* 2026-11-23 03:12:07.114 UTC */
#define NIGHT UINT64_C(1795403527114000)

static void test_times(_unused_ void **state)
{
	static const struct {
		usec_t at, day;
		const char *time, *moment;
	} cases[] = {
		{NIGHT, NIGHT, "03:12:07.114", "03:12:07.114"},
		{NIGHT - 114000, NIGHT, "03:12:07.000", "03:12:07"},
		{NIGHT - USEC_PER_DAY, NIGHT, "Nov 22 03:12:07.114", "Nov 22 03:12:07.114"},
		{NIGHT - 20 * USEC_PER_DAY, NIGHT, "Nov  3 03:12:07.114", "Nov  3 03:12:07.114"},
		{NIGHT, NIGHT + 365 * USEC_PER_DAY, "2026-11-23 03:12:07.114",
			"2026-11-23 03:12:07.114"},
		{NIGHT, USEC_UNSET, "2026-11-23 03:12:07.114", "2026-11-23 03:12:07.114"},
		{0, NIGHT, "1970-01-01 00:00:00.000", "1970-01-01 00:00:00"},
		/* cut, not rounded: it was not .115 yet */
		{NIGHT + 999, NIGHT, "03:12:07.114", "03:12:07.114"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char text[FORMAT_TIME_MAX];

		assert_string_equal(format_time(cases[i].at, cases[i].day, text), cases[i].time);
		assert_string_equal(
			format_moment(cases[i].at, cases[i].day, text), cases[i].moment);
	}
}

static void test_spans_and_numbers(_unused_ void **state)
{
	static const struct {
		usec_t span;
		const char *text;
	} spans[] = {
		{0, "0 us"},
		{999, "999 us"},
		{250 * USEC_PER_MSEC, "250 ms"},
		{USEC_PER_SEC, "1 s"},
		{1500 * USEC_PER_MSEC, "1.5 s"},
		{59 * USEC_PER_SEC, "59 s"},
		{59 * USEC_PER_MINUTE, "59 min"},
		{200 * USEC_PER_MINUTE, "3 h 20 min"},
		{2 * USEC_PER_HOUR, "2 h"},
		{20 * USEC_PER_DAY, "20 days"},
		{UINT64_MAX, "213503982 days"},
	};
	static const struct {
		uint64_t number;
		const char *count, *bytes;
	} numbers[] = {
		{0, "0", "0 B"},
		{999, "999", "999 B"},
		{1000, "1,000", "1000 B"},
		{1536, "1,536", "1.5 KiB"},
		{28232, "28,232", "27.5 KiB"},
		{123456789, "123,456,789", "117 MiB"},
		{UINT64_MAX, "18,446,744,073,709,551,615", "15.9 EiB"},
	};
	char text[FORMAT_MAX];

	for (size_t i = 0; i < ELEMENTSOF(spans); i++)
		assert_string_equal(format_span(spans[i].span, text), spans[i].text);
	for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
		assert_string_equal(format_count(numbers[i].number, text), numbers[i].count);
		assert_string_equal(format_bytes(numbers[i].number, text), numbers[i].bytes);
	}
}

static void test_json_out(_unused_ void **state)
{
	static const struct {
		const char *in;
		int indent;
		const char *out;
	} cases[] = {
		{"{}", -1, "{}"},
		{"[]", 0, "[]"},
		{"{\"b\":1,\"a\":[true,false,null,-1.5]}", -1,
			"{\"b\":1,\"a\":[true,false,null,-1.5]}"},
		{"{\"b\":1,\"a\":[2,3]}", 0, "{\n  \"b\": 1,\n  \"a\": [\n    2,\n    3\n  ]\n}"},
		{"{\"a\":{}}", 2, "{\n    \"a\": {}\n  }"},
		{"[\"\\u001b\\u009b\\u202e\"]", -1, "[\"\\u001b\\u009b\\u202e\"]"},
		{"{\"\\u0007\":\"\\u007f\"}", -1, "{\"\\u0007\":\"\\u007f\"}"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf b = {0};
		json_t *value = json_loads(cases[i].in, 0, NULL);

		assert_non_null(value);
		assert_int_equal(jsonout_put(&b, value, cases[i].indent), 0);
		assert_int_equal(buf_put_u8(&b, 0), 0);
		assert_string_equal(buf_bytes(&b), cases[i].out);
		json_decref(value);
	}
}

/* A shape refuses each wrong type, and names the member. */
static void test_shape(_unused_ void **state)
{
	static const struct {
		const char *json, *wrong; /* NULL: holds */
	} cases[] = {
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":[],\"lost\":null,\"gaps\":[],\"complete\":true}",
			NULL},
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":[],\"gaps\":[],\"complete\":true,\"more\":1}",
			NULL},
		{"{\"from_usec\":-1,\"until_usec\":1,\"stretches\":[],\"gaps\":[],\"complete\":true}",
			"from_usec"},
		{"{\"from_usec\":0,\"until_usec\":253402300800000000,\"stretches\":[],\"gaps\":[],\"complete\":true}",
			"until_usec"},
		{"{\"from_usec\":0,\"until_usec\":1.0,\"stretches\":[],\"gaps\":[],\"complete\":true}",
			"until_usec"},
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":{},\"gaps\":[],\"complete\":true}",
			"stretches"},
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":[1],\"gaps\":[],\"complete\":true}",
			"(no object)"},
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":[{\"from_usec\":0,\"until_usec\":1,\"source\":1}],"
		 "\"gaps\":[],\"complete\":true}",
			"source"},
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":[],\"gaps\":[],\"complete\":1}",
			"complete"},
		{"{\"from_usec\":0,\"until_usec\":1,\"stretches\":[],\"gaps\":[]}", "complete"},
		{"[]", "(no object)"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		json_t *value = json_loads(cases[i].json, 0, NULL);
		const char *wrong = NULL;
		int r = shape_check(&shape_coverage, value, &wrong);

		assert_int_equal(r, cases[i].wrong ? -EBADMSG : 0);
		assert_true(streq_null(wrong, cases[i].wrong));
		json_decref(value);
	}
}

struct drawn {
	struct options options;
	struct view view;
	char *text;
	size_t size;
};

static void drawn_open(struct drawn *d, enum output output)
{
	d->options.output = output;
	d->view = (struct view){.options = &d->options,
		.out = open_memstream(&d->text, &d->size),
		.now = NIGHT,
		.utf8 = true};
	assert_non_null(d->view.out);
}

static void drawn_done(struct drawn *d)
{
	free(d->text);
}

static json_t *receipts_from(const char *stretches, const char *gaps)
{
	char text[1024];

	snprintf(text, sizeof(text),
		"[{\"from_usec\":%llu,\"until_usec\":%llu,\"stretches\":[%s],\"lost\":null,\"gaps\":[%s],\"complete\":false}]",
		(unsigned long long)(NIGHT - 7114000), (unsigned long long)(NIGHT + 52886000),
		stretches, gaps);
	return json_loads(text, 0, NULL);
}

/* Hostile stretches: out of order, overlapping, outside of the window, ending before they begin. */
static void test_receipt_of_any_stretches(_unused_ void **state)
{
	static const struct {
		const char *stretches, *says;
	} cases[] = {
		{"", "not watching at that time"},
		{"{\"from_usec\":1795403540000000,\"until_usec\":1795403590000000,\"source\":\"sweep\",\"interval_usec\":1000000},"
		 "{\"from_usec\":1795403500000000,\"until_usec\":1795403530000000,\"source\":\"sweep\",\"interval_usec\":1000000}",
			"watched by sweep every 1 s; not watched 03:12:10-03:12:20; shorter"},
		{"{\"from_usec\":1795403500000000,\"until_usec\":1795403590000000,\"source\":\"sweep\",\"interval_usec\":1000000},"
		 "{\"from_usec\":1795403530000000,\"until_usec\":1795403540000000,\"source\":\"events\",\"interval_usec\":9}",
			"watched by sweep every 1 s, events (UDP connects are known only from their "
			"end; failed binds not watched); shorter"},
		{"{\"from_usec\":1795403500000000,\"until_usec\":1795403590000000,\"source\":\"events\",\"interval_usec\":9,"
		 "\"udp_connect\":true}",
			"watched by events (failed binds not watched)"},
		{"{\"from_usec\":1795403500000000,\"until_usec\":1795403590000000,\"source\":\"events\",\"interval_usec\":9,"
		 "\"failures\":true}",
			"watched by events (UDP connects are known only from their end)"},
		{"{\"from_usec\":1795403590000000,\"until_usec\":1795403500000000,\"source\":\"sweep\",\"interval_usec\":0}",
			"not watched 03:12:00-03:13:00"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(drawn_done) struct drawn d = {0};
		json_t *receipts = receipts_from(cases[i].stretches, "");

		drawn_open(&d, OUTPUT_TABLE);
		assert_non_null(receipts);
		assert_int_equal(writer_receipts(&d.view, d.view.out, receipts), 0);
		fclose(d.view.out);
		if (!strstr(d.text, cases[i].says))
			fail_msg("%s lacks: %s", d.text, cases[i].says);
		json_decref(receipts);
	}
}

/* On a terminal the receipt is broken between words, never cut. */
static void test_wrapped(_unused_ void **state)
{
	_cleanup_(drawn_done) struct drawn d = {0};

	drawn_open(&d, OUTPUT_TABLE);
	d.view.width = 20;
	view_wrapped(
		&d.view, d.view.out, "one two three four five-and-twenty-more-words six", 0, 2);
	fclose(d.view.out);
	assert_string_equal(d.text, "one two three four\n  five-and-twenty-more-words\n  six\n");
}

static void test_escaped_where_there_is_no_utf8(_unused_ void **state)
{
	_cleanup_(drawn_done) struct drawn d = {0};

	drawn_open(&d, OUTPUT_TABLE);
	d.view.utf8 = false;
	view_text(&d.view, "a\xc3\xa4\x1b\\x1b");
	fclose(d.view.out);
	assert_string_equal(d.text, "a\\xc3\\xa4\\x1b\\x1b");
}

static int utc(_unused_ void **state)
{
	setenv("TZ", "UTC", 1);
	tzset();
	return setlocale(LC_ALL, "C.UTF-8") ? 0 : -1;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_spans_and_numbers),
		cmocka_unit_test(test_json_out),
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_receipt_of_any_stretches),
		cmocka_unit_test(test_wrapped),
		cmocka_unit_test(test_escaped_where_there_is_no_utf8),
	};

	return cmocka_run_group_tests(tests, utc, NULL);
}
