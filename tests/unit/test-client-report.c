/* SPDX-License-Identifier: MIT */

/* What a report is laid out by: levels, times of the local clock, texts that fit, and a file that is whole or not there. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "client/axis.h"
#include "client/outfile.h"
#include "common/escape.h"

static void test_levels(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t most = seed >> (i % 32), count;
		struct levels l = levels_of(most);

		seed = seed * 1664525 + 1013904223;
		count = most ? seed % most + 1 : 0;
		assert_int_equal(level_of(&l, 0), 0);
		assert_int_equal(l.edge[0], 1);
		for (unsigned n = 1; n < LEVELS; n++)
			assert_true(l.edge[n] > l.edge[n - 1]);
		assert_true(most == 0 || level_of(&l, most) <= LEVELS);
		/* the scale is used: no more than its last two levels are left empty */
		assert_true(most < 2 || level_of(&l, most) >= 2);
		assert_int_equal(level_of(&l, count) > 0, count > 0);
		if (level_of(&l, count) > 0)
			assert_true(count >= l.edge[level_of(&l, count) - 1]);
		if (level_of(&l, count) < LEVELS)
			assert_true(count < l.edge[level_of(&l, count)]);
	}
}

static void test_short_count(void **state)
{
	static const struct {
		uint64_t count;
		const char *expected;
	} cases[] = {{0, "0"}, {7, "7"}, {999, "999"}, {1000, "1.0k"}, {1999, "1.9k"},
		{9999, "9.9k"}, {10000, "10k"}, {999999, "999k"}, {1000000, "1.0M"},
		{UINT64_MAX, "18E"}};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char text[SHORT_COUNT_MAX];

		assert_string_equal(short_count(cases[i].count, text), cases[i].expected);
		assert_true(strlen(text) <= 4);
	}
}

/* A text of a sheet. */
static char *on_sheet(void (*draw)(struct sheet *s, const void *context), const void *context)
{
	char *text = NULL;
	size_t size;
	struct sheet s = {.out = open_memstream(&text, &size)};

	assert_non_null(s.out);
	draw(&s, context);
	assert_false(s.failed);
	assert_int_equal(fclose(s.out), 0);
	return text;
}

struct cut {
	const char *text;
	size_t columns;
	const char *expected;
};

static void draw_cut(struct sheet *s, const void *context)
{
	const struct cut *c = context;

	assert_true(sheet_cut(s, c->text, c->columns) <= c->columns);
}

static void test_cut(void **state)
{
	static const struct cut cases[] = {
		{"node", 4, "node"},
		{"nodejs", 4, "nod…"},
		{"a<b>&c", 6, "a&lt;b&gt;&amp;c"},
		{"a<b>&cd", 6, "a&lt;b&gt;&amp;…"},
		{"\u540d\u540d", 4, "\u540d\u540d"},
		{"\u540d\u540d\u540d", 4, "\u540d…"},
		{"\U0001f600\U0001f600", 5, "\U0001f600…"},
		{"\x1b", 4, "\\x1b"},
		{"\x1b", 3, "\\x…"},
		{"\u202e", 40, "\\xe2\\x80\\xae"},
		{NULL, 4, ""},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *text = on_sheet(draw_cut, &cases[i]);

		assert_string_equal(text, cases[i].expected);
	}
}

static int line_count;

static void draw_lines(struct sheet *s, const void *context)
{
	line_count = sheet_lines(s, 10, 20, 5, 10, "c", context);
}

static void test_lines(void **state)
{
	_cleanup_(free_p) char *text =
		on_sheet(draw_lines, "one two three  four-and-more-than-fits");

	(void)state;
	assert_string_equal(text, "<text class='c' x='1.0' y='2.0'>one two</text>\n"
				  "<text class='c' x='1.0' y='2.5'>three </text>\n"
				  "<text class='c' x='1.0' y='3.0'>four-and-m</text>\n"
				  "<text class='c' x='1.0' y='3.5'>ore-than-f</text>\n"
				  "<text class='c' x='1.0' y='4.0'>its</text>\n");
	assert_int_equal(line_count, 5);
	/* what it measures is what it writes */
	assert_int_equal(
		sheet_lines(NULL, 10, 20, 5, 10, "c", "one two three  four-and-more-than-fits"), 5);
	assert_int_equal(sheet_lines(NULL, 0, 0, 5, 10, "c", ""), 0);
}

static void set_zone(const char *zone)
{
	assert_int_equal(setenv("TZ", zone, 1), 0);
	tzset();
}

/* In each zone, at any time: at most so many steps, each on the local clock, none later than the window. */
static void test_steps(void **state)
{
	static const char *const zones[] = {
		"UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"};
	uint64_t random = 42;

	(void)state;
	for (unsigned i = 0; i < 4000; i++) {
		usec_t from, length, step, origin;
		struct window w;
		struct tm tm;
		time_t seconds;
		unsigned max = 1 + i % 300;

		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		from = (random >> 33) * USEC_PER_SEC;
		length = 1 + (random >> 20) % (USEC_PER_DAY >> (i % 36));
		w = (struct window){from, from + length * (i % 7 ? 1 : 900)};
		set_zone(zones[i % ELEMENTSOF(zones)]);
		step = axis_step(w, max);
		origin = axis_origin(w.from, step);
		assert_true(step > 0 && (w.until - w.from) / step <= max);
		assert_true(origin <= w.from && w.from - origin < step);
		seconds = (time_t)(origin / USEC_PER_SEC);
		assert_non_null(localtime_r(&seconds, &tm));
		if (step < USEC_PER_DAY)
			assert_int_equal((usec_t)(tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec) *
						 USEC_PER_SEC % step,
				0);
	}
	set_zone("UTC");
}

static const struct window night = {UINT64_C(1795370400000000), UINT64_C(1795424400000000)};

static void draw_axis(struct sheet *s, const void *context)
{
	const struct window *w = context;
	const struct axis a = {*w, 2600, 9000};

	axis_draw(s, &a, 400, 500);
}

static void test_axis(void **state)
{
	_cleanup_(free_p) char *text = NULL;
	const struct axis a = {night, 2600, 9000};

	(void)state;
	set_zone("UTC");
	assert_int_equal(axis_x(&a, 0), 2600);
	assert_int_equal(axis_x(&a, night.from), 2600);
	assert_int_equal(axis_x(&a, night.from + (night.until - night.from) / 2), 5800);
	assert_int_equal(axis_x(&a, night.until), 9000);
	assert_int_equal(axis_x(&a, USEC_UNSET), 9000);
	text = on_sheet(draw_axis, &night);
	assert_non_null(strstr(text, ">18:00</text>"));
	assert_non_null(strstr(text, ">08:00</text>"));
	assert_non_null(strstr(text, ">Mon 23 Nov</text>"));
	assert_null(strstr(text, ">09:30</text>"));
}

/* No label runs into the next, whatever the window: a letter of the stylesheet is 6.6 pixels wide. */
static void test_labels_do_not_touch(void **state)
{
	static const unsigned lengths[] = {
		1, 7, 14, 15, 59, 60, 170, 180, 195, 209, 210, 600, 3600};

	(void)state;
	set_zone("UTC");
	for (size_t i = 0; i < ELEMENTSOF(lengths); i++) {
		const struct window w = {night.from, night.from + lengths[i] * USEC_PER_SEC};
		_cleanup_(free_p) char *text = on_sheet(draw_axis, &w);
		double last = -100, x;
		unsigned labels = 0;
		char *end;

		for (const char *at = text; (at = strstr(at, "class='tick' x='")); at = end) {
			const char *word;

			x = strtod(at + strlen("class='tick' x='"), &end);
			word = strchr(end, '>');
			assert_non_null(word);
			assert_true(x - last >= 6.6 * (double)strcspn(word + 1, "<"));
			last = x;
			labels++;
		}
		assert_true(labels > 0);
	}
}

struct place {
	char directory[64], path[80];
};

static void make_place(struct place *p)
{
	(void)snprintf(p->directory, sizeof(p->directory), "/tmp/portledger-report-XXXXXX");
	assert_non_null(mkdtemp(p->directory));
	(void)snprintf(p->path, sizeof(p->path), "%s/x.html", p->directory);
}

static void assert_content(const char *path, const char *expected)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) >= 0);
	assert_int_equal(close(fd), 0);
	assert_string_equal(text, expected);
}

static void test_outfile(void **state)
{
	struct outfile f = OUTFILE_NONE;
	struct place p;

	(void)state;
	make_place(&p);
	assert_int_equal(outfile_open(p.path, &f), 0);
	assert_int_equal(access(p.path, F_OK), -1); /* not before it is whole */
	assert_true(fputs("one", f.file) >= 0);
	assert_int_equal(outfile_commit(&f), 0);
	outfile_done(&f);
	assert_content(p.path, "one");

	assert_int_equal(outfile_open(p.path, &f), 0);
	assert_true(fputs("two", f.file) >= 0);
	outfile_done(&f); /* given up: the old one stays, and nothing else */
	assert_content(p.path, "one");

	/* what came there in the meantime is not taken away */
	assert_int_equal(outfile_open(p.path, &f), 0);
	assert_int_equal(unlink(p.path), 0);
	assert_int_equal(mkfifo(p.path, 0600), 0);
	assert_int_equal(outfile_commit(&f), -EEXIST);
	outfile_done(&f);
	assert_int_equal(outfile_open(p.path, &f), -EEXIST);
	assert_int_equal(unlink(p.path), 0);
	assert_int_equal(rmdir(p.directory), 0); /* nothing is left */
	assert_int_equal(outfile_open(p.path, &f), -ENOENT);
}

/* A disk that takes nothing is noticed at the latest when the file is put in place. */
static void test_outfile_full(void **state)
{
	struct outfile f = OUTFILE_NONE;
	struct place p;

	(void)state;
	make_place(&p);
	assert_int_equal(outfile_open(p.path, &f), 0);
	assert_int_equal(fclose(f.file), 0);
	f.file = fopen("/dev/full", "w");
	assert_non_null(f.file);
	assert_true(fputs("one", f.file) >= 0);
	assert_int_equal(outfile_commit(&f), -ENOSPC);
	outfile_done(&f);
	assert_int_equal(rmdir(p.directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_short_count),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_axis),
		cmocka_unit_test(test_labels_do_not_touch),
		cmocka_unit_test(test_outfile),
		cmocka_unit_test(test_outfile_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
