/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "common/buf.h"
#include "common/escape.h"
#include "tests/support/escape_oracle.h"

/* A string literal that may hold NUL bytes. */
#define BYTES(literal) (literal), sizeof(literal) - 1

struct store_case {
	const char *raw;
	size_t size;
	const char *stored;
};

static const struct store_case store_cases[] = {
	{BYTES(""), ""},
	{BYTES("nginx: worker process"), "nginx: worker process"},
	{BYTES("a\\b"), "a\\\\b"},
	{BYTES("\\x41"), "\\\\x41"},
	{BYTES("a\0b\0"), "a\\x00b\\x00"},
	{BYTES("\x1b[31m\a\n\r\t\x7f"), "\\x1b[31m\\x07\\x0a\\x0d\\x09\\x7f"},
	{BYTES("ev\u202egpj"), "ev\\xe2\\x80\\xaegpj"},
	{BYTES("\u00e4\u20ac\U0001f600"), "\u00e4\u20ac\U0001f600"},
	{BYTES("\xc2\x80\xc2\x9f\xc2\xa0"), "\\xc2\\x80\\xc2\\x9f\xc2\xa0"},
	{BYTES("\xff\xfe"), "\\xff\\xfe"},
	{BYTES("\x80z\xbf"), "\\x80z\\xbf"},
	/* cut off in mid-character, at the end and before another */
	{BYTES("\xe2\x82"), "\\xe2\\x82"},
	{BYTES("\xe2\x82z"), "\\xe2\\x82z"},
	{BYTES("\xf0\x9f\x98\xe2\x82\xac"), "\\xf0\\x9f\\x98\u20ac"},
	/* overlong: two bytes for '/' and NUL, three for U+07FF, four for U+FFFF */
	{BYTES("\xc0\xaf\xc0\x80"), "\\xc0\\xaf\\xc0\\x80"},
	{BYTES("\xe0\x9f\xbf"), "\\xe0\\x9f\\xbf"},
	{BYTES("\xf0\x8f\xbf\xbf"), "\\xf0\\x8f\\xbf\\xbf"},
	/* the first and last surrogate, and their neighbours */
	{BYTES("\xed\xa0\x80\xed\xbf\xbf"), "\\xed\\xa0\\x80\\xed\\xbf\\xbf"},
	{BYTES("\xed\x9f\xbf\xee\x80\x80"), "\xed\x9f\xbf\xee\x80\x80"},
	/* the last code point and the one that would follow it */
	{BYTES("\xf4\x8f\xbf\xbf"), "\xf4\x8f\xbf\xbf"},
	{BYTES("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"},
	{BYTES("\xf8\x88\x80\x80\x80"), "\\xf8\\x88\\x80\\x80\\x80"},
	/* a noncharacter is a character to us */
	{BYTES("\xef\xbf\xbf"), "\xef\xbf\xbf"},
};

static void test_store(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(store_cases); i++) {
		const struct store_case *c = &store_cases[i];
		_cleanup_(free_p) char *stored = escape_store(c->raw, c->size, 4096);
		_cleanup_(free_p) char *raw = NULL;
		size_t size = 0;

		assert_string_equal(stored, c->stored);
		raw = escape_restore(c->stored, &size);
		assert_int_equal(size, c->size);
		assert_memory_equal(raw, c->raw, c->size + 1);
	}
}

static bool is_hidden(uint32_t code)
{
	for (size_t i = 0; i < ELEMENTSOF(oracle_hidden); i++)
		if (code >= oracle_hidden[i].from && code <= oracle_hidden[i].until)
			return true;
	return false;
}

/* Every code point that there is: hidden, surrogate, backslash, or left as it is. */
static void test_every_code_point(void **state)
{
	unsigned hidden = 0, kept = 0;

	(void)state;
	for (uint32_t code = 1; code <= 0x10ffff; code++) {
		char raw[5];
		size_t size = oracle_encode(code, raw);
		_cleanup_(free_p) char *stored = escape_store(raw, size, 16);
		_cleanup_(free_p) char *shown = escape_terminal(raw);

		if (is_hidden(code) || (code >= 0xd800 && code <= 0xdfff)) {
			assert_int_equal(strlen(stored), 4 * size);
			assert_int_equal(stored[0], '\\');
			assert_string_equal(shown, stored);
			hidden++;
		} else {
			assert_string_equal(shown, raw);
			assert_string_equal(stored, code == '\\' ? "\\\\" : raw);
			kept++;
		}
	}
	assert_int_equal(hidden, 92 - 1 + 2048);
	assert_int_equal(kept, 0x10ffff - 2048 - 91);
}

struct cut_case {
	const char *raw;
	size_t max;
	const char *stored;
};

static const struct cut_case cut_cases[] = {
	{"abcdef", 6, "abcdef"},
	{"abcdef", 5, "abcde"},
	{"abcdef", 0, ""},
	{"a\n", 4, "a"},
	{"a\n", 5, "a\\x0a"},
	{"a\\b", 2, "a"},
	{"a\\b", 3, "a\\\\"},
	{"a\u20ac", 3, "a"},
	{"a\u20ac", 4, "a\u20ac"},
	/* a character of several escapes is kept or dropped whole */
	{"a\u202e!", 12, "a"},
	{"a\u202e!", 13, "a\\xe2\\x80\\xae"},
	/* what would still fit behind the cut is not taken: the result is a beginning */
	{"\n!", 3, ""},
};

static void test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cut_cases); i++) {
		const struct cut_case *c = &cut_cases[i];
		_cleanup_(free_p) char *stored = escape_store(c->raw, strlen(c->raw), c->max);

		assert_string_equal(stored, c->stored);
	}
}

struct text_case {
	const char *text, *expected;
};

static const struct text_case restore_cases[] = {
	{"\\xff\\\\x41", "\xff\\x41"},
	{"\\", "\\"},
	{"a\\", "a\\"},
	{"\\\\\\", "\\\\"},
	{"\\x", "\\x"},
	{"\\x4", "\\x4"},
	{"\\x4g", "\\x4g"},
	{"\\xAB", "\\xAB"},
	{"\\X41\\n\\u0041", "\\X41\\n\\u0041"},
	{"\\x\\x41", "\\xA"},
};

static void test_restore_keeps_unknown(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(restore_cases); i++) {
		size_t size = 0;
		_cleanup_(free_p) char *raw = escape_restore(restore_cases[i].text, &size);

		assert_string_equal(raw, restore_cases[i].expected);
		assert_int_equal(size, strlen(restore_cases[i].expected));
	}
}

static const struct text_case terminal_cases[] = {
	{"", ""},
	{"plain \\ text", "plain \\ text"},
	{"\x1b]0;title\a", "\\x1b]0;title\\x07"},
	{"\xc2\x9b"
	 "31m",
		"\\xc2\\x9b31m"},
	{"\x9b"
	 "31m",
		"\\x9b31m"},
	{"row\u2028row\nrow", "row\\xe2\\x80\\xa8row\\x0arow"},
	{"\xef\xbb\xbf#", "\\xef\\xbb\\xbf#"},
};

static void test_terminal(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(terminal_cases); i++) {
		_cleanup_(free_p) char *shown = escape_terminal(terminal_cases[i].text);

		assert_string_equal(shown, terminal_cases[i].expected);
	}
}

static const struct text_case csv_cases[] = {
	{"", ""},
	{"node", "node"},
	{"a b", "a b"},
	{" a", "\" a\""},
	{"a ", "\"a \""},
	{" ", "\" \""},
	{"a,b", "\"a,b\""},
	{"a\"b", "\"a\"\"b\""},
	{"\"", "\"\"\"\""},
	{"a\r\nb", "a\\x0d\\x0ab"},
	{"=1+1", "\\x3d1+1"},
	{"+1", "\\x2b1"},
	{"-1", "\\x2d1"},
	{"@SUM(A1)", "\\x40SUM(A1)"},
	{"a=b", "a=b"},
	{"=A(\"x\",1)", "\"\\x3dA(\"\"x\"\",1)\""},
	{"\t=1", "\\x09=1"},
	{"-", "\\x2d"},
};

static void test_csv(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(csv_cases); i++) {
		_cleanup_(free_p) char *field = escape_csv(csv_cases[i].text);

		assert_string_equal(field, csv_cases[i].expected);
	}
}

static const struct text_case html_cases[] = {
	{"", ""},
	{"node -e 1", "node -e 1"},
	{"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"},
	{"\" onload='x'", "&quot; onload=&#39;x&#39;"},
	{"&lt;", "&amp;lt;"},
	{"]]><!--", "]]&gt;&lt;!--"},
	{"a\x1b[31m\n", "a\\x1b[31m\\x0a"},
	{"gpj.\u202eexe", "gpj.\\xe2\\x80\\xaeexe"},
	{"\u00e4\U0001f600", "\u00e4\U0001f600"},
	{"a\xff", "a\\xff"},
};

static void test_html(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(html_cases); i++) {
		_cleanup_(free_p) char *html = escape_html(html_cases[i].text);

		assert_string_equal(html, html_cases[i].expected);
	}
}

static const struct text_case json_cases[] = {
	{"", "\"\""},
	{"a/b", "\"a/b\""},
	{"\"\\", "\"\\\"\\\\\""},
	{"\x01\n\x1f\x7f", "\"\\u0001\\u000a\\u001f\\u007f\""},
	{"\xc2\x85", "\"\\u0085\""},
	{"\u2028\u2029\u202e\u2066", "\"\\u2028\\u2029\\u202e\\u2066\""},
	{"\u00e4\U0001f600", "\"\u00e4\U0001f600\""},
	{"a\xff\xed\xa0\x80", "\"a\ufffd\ufffd\ufffd\ufffd\""},
	{"\\x1b", "\"\\\\x1b\""},
};

static void test_json(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(json_cases); i++) {
		_cleanup_(buf_done) struct buf b = {0};
		const char *expected = json_cases[i].expected;

		assert_int_equal(buf_append_string(&b, "x:"), 0);
		assert_int_equal(escape_json(&b, json_cases[i].text), 0);
		assert_int_equal(buf_size(&b), 2 + strlen(expected));
		assert_memory_equal(buf_bytes(&b), "x:", 2);
		assert_memory_equal(buf_bytes(&b) + 2, expected, strlen(expected));
	}
}

/* Names of what hurts, put together at random, the same in every run. */
static size_t random_name(uint32_t *seed, char *to, unsigned pieces)
{
	static const char *const parts[] = {"a", " ", ",", "\"", "'", "<", ">", "&", ";", "amp",
		"=", "@", "\\", "\\x", "\\x4", "1b", "\x1b", "\n", "\x7f", "\xc2", "\x9b", "\xe2",
		"\x80", "\xae", "\xf0\x9f", "\xf4", "\xed\xa0", "\u20ac", "\u202e", "\ufeff",
		"\U0001f600"};
	size_t size = 0;

	for (unsigned i = 0; i < pieces; i++) {
		const char *part;

		*seed = *seed * 1664525 + 1013904223;
		part = parts[(*seed >> 16) % ELEMENTSOF(parts)];
		memcpy(to + size, part, strlen(part));
		size += strlen(part);
		if (*seed >> 28 == 0)
			to[size++] = '\0';
	}
	return size;
}

static void test_promises(void **state)
{
	uint32_t seed = 1;
	char raw[128];

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		size_t size = random_name(&seed, raw, i % 16);
		const char *violation = oracle_violation(raw, size, (seed >> 8) % 64);

		if (violation)
			fail_msg("round %u: broken: %s", i, violation);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_every_code_point),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_restore_keeps_unknown),
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_csv),
		cmocka_unit_test(test_html),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
