/* SPDX-License-Identifier: MIT */

#include "config/config.h"
#include "config/settings.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define CAPTURE "[Capture]\n"
#define STORE   "[Store]\n"

static const struct port_range kernel_range = {32768, 60999};

static int parse(const char *text, struct config *ret, char **ret_error)
{
	return config_parse("FILE", text, strlen(text), ret, ret_error);
}

static void assert_ranges(const struct port_ranges *ranges, const char *expected)
{
	char text[PORT_RANGES_MAX * 12 + 1] = "";

	for (uint32_t i = 0; i < ranges->count; i++)
		sprintf(text + strlen(text), "%s%u-%u", i > 0 ? " " : "", ranges->range[i].low,
			ranges->range[i].high);
	assert_string_equal(text, expected);
}

static void test_defaults(void **state)
{
	_cleanup_(config_done) struct config c = {0};
	_cleanup_(free_p) char *error = NULL;
	struct port_ranges ranges;

	(void)state;
	assert_int_equal(parse("", &c, &error), 0);
	assert_null(error);
	assert_int_equal(c.interval_usec, USEC_PER_SEC);
	assert_int_equal(c.cpu_budget_permille, 50);
	assert_true(c.accepted);
	assert_int_equal(c.udp_connect, EXTRA_AUTO);
	assert_int_equal(c.failures, EXTRA_AUTO);
	assert_int_equal(c.store.max_age_usec, 30 * USEC_PER_DAY);
	assert_int_equal(c.store.max_bytes, UINT64_C(2) << 30);
	assert_int_equal(c.store.activity_hour_usec, 396 * USEC_PER_DAY);
	assert_int_equal(c.store.activity_day_usec, 1827 * USEC_PER_DAY);
	assert_int_equal(c.store.user_share_permille, 500);
	assert_int_equal(c.store.coalesce_above, 1000);
	assert_int_equal(config_ranges(&c, kernel_range, &ranges), 0);
	assert_ranges(&ranges, "32768-65535");
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		_cleanup_(free_p) char *origin = config_origin_format(&c, (enum setting_id)i);
		_cleanup_(free_p) char *value = setting_format(&c, (enum setting_id)i);

		assert_string_equal(origin, "default");
		assert_string_equal(value, settings_table[i].initial);
	}
}

static void test_values(void **state)
{
	static const struct {
		const char *text;
		enum setting_id id;
		const char *value; /* as it is printed again */
	} cases[] = {
		{CAPTURE "Interval=100ms", SETTING_INTERVAL, "100ms"},
		{CAPTURE "Interval = 1.5s", SETTING_INTERVAL, "1s 500ms"},
		{CAPTURE "Interval=1h", SETTING_INTERVAL, "1h"},
		{CAPTURE "Interval=59min 59s 999ms 999us", SETTING_INTERVAL,
			"59min 59s 999ms 999us"},
		{CAPTURE "Interval=90", SETTING_INTERVAL, "1min 30s"},
		{CAPTURE "CpuBudget=0.1%", SETTING_CPU_BUDGET, "0.1%"},
		{CAPTURE "CpuBudget=12.5%", SETTING_CPU_BUDGET, "12.5%"},
		{CAPTURE "CpuBudget=100.0%", SETTING_CPU_BUDGET, "100%"},
		{CAPTURE "Accepted=No", SETTING_ACCEPTED, "no"},
		{CAPTURE "Accepted=off", SETTING_ACCEPTED, "no"},
		{CAPTURE "Accepted=1", SETTING_ACCEPTED, "yes"},
		{CAPTURE "UdpConnect=Auto", SETTING_UDP_CONNECT, "auto"},
		{CAPTURE "UdpConnect=on", SETTING_UDP_CONNECT, "yes"},
		{CAPTURE "Failures=no", SETTING_FAILURES, "no"},
		{CAPTURE "Failures=yes", SETTING_FAILURES, "yes"},
		{CAPTURE "Ranges=kernel", SETTING_RANGES, "kernel"},
		{CAPTURE "Ranges=kernel iana kernel", SETTING_RANGES, "iana kernel"},
		{CAPTURE "Ranges=9000-9010\t1-2 8000-8999", SETTING_RANGES, "1-2 8000-9010"},
		{CAPTURE "Ranges=100-200 150-300 iana 50-400", SETTING_RANGES, "iana 50-400"},
		{CAPTURE "Ranges=1-65535", SETTING_RANGES, "1-65535"},
		{STORE "MaxAge=1h", SETTING_MAX_AGE, "1h"},
		{STORE "MaxAge=1w", SETTING_MAX_AGE, "7d"},
		{STORE "MaxBytes=16M", SETTING_MAX_BYTES, "16M"},
		{STORE "MaxBytes=16777217", SETTING_MAX_BYTES, "16777217"},
		{STORE "MaxBytes=1048576K", SETTING_MAX_BYTES, "1G"},
		{STORE "MaxBytes=1024T", SETTING_MAX_BYTES, "1024T"},
		{STORE "RemoteAddresses=full", SETTING_REMOTE_ADDRESSES, "full"},
		{STORE "RemoteAddresses=Truncated", SETTING_REMOTE_ADDRESSES, "truncated"},
		{STORE "RemoteAddresses=none", SETTING_REMOTE_ADDRESSES, "none"},
		{STORE "RemoteAddressesAfter=1h", SETTING_REMOTE_AFTER, "1h"},
		{STORE "ActivityHourMaxAge=1week", SETTING_ACTIVITY_HOUR, "7d"},
		{STORE "ActivityDayMaxAge=36525d", SETTING_ACTIVITY_DAY, "36525d"},
		{STORE "UserShare=1%", SETTING_USER_SHARE, "1%"},
		{STORE "UserShare=33.3%", SETTING_USER_SHARE, "33.3%"},
		{STORE "CoalesceAbove=10", SETTING_COALESCE_ABOVE, "10"},
		{STORE "CoalesceAbove=1000000", SETTING_COALESCE_ABOVE, "1000000"},
		/* what inih allows around them */
		{"\xef\xbb\xbf" CAPTURE "Interval=2s\r\n", SETTING_INTERVAL, "2s"},
		{"# x\n; y\n\n  \t\n  # z\n[Capture] # w\nInterval=2s ; why", SETTING_INTERVAL,
			"2s"},
		{"  ; y\n[Capture] ; w\nInterval=2s", SETTING_INTERVAL, "2s"},
		{CAPTURE "Interval=2s\nInterval=3s\n" STORE CAPTURE "Interval=4s", SETTING_INTERVAL,
			"4s"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(config_done) struct config c = {0};
		_cleanup_(free_p) char *error = NULL, *value = NULL;

		if (parse(cases[i].text, &c, &error) < 0)
			fail_msg("%s: %s", cases[i].text, error);
		value = setting_format(&c, cases[i].id);
		assert_string_equal(value, cases[i].value);
		assert_int_equal(c.origin[cases[i].id].file, 0);
	}
}

static const struct {
	const char *text, *error;
} wrong[] = {
	{CAPTURE "Interval=99ms", "FILE:2: Interval=99ms is out of range (100ms to 1h)"},
	{CAPTURE "Interval=61min", "FILE:2: Interval=61min is out of range (100ms to 1h)"},
	{CAPTURE "Interval=often", "FILE:2: Interval=often is not a time span (100ms to 1h)"},
	{CAPTURE "Interval=", "FILE:2: Interval= is not a time span (100ms to 1h)"},
	{CAPTURE "CpuBudget=5",
		"FILE:2: CpuBudget=5 is not a percentage with at most one decimal (0.1% to 100%)"},
	{CAPTURE "CpuBudget=0%", "FILE:2: CpuBudget=0% is out of range (0.1% to 100%)"},
	{CAPTURE "CpuBudget=100.1%", "FILE:2: CpuBudget=100.1% is out of range (0.1% to 100%)"},
	/* 2^64 / 10 and a bit: must not come round */
	{CAPTURE "CpuBudget=1844674407370955162%",
		"FILE:2: CpuBudget=1844674407370955162% is out of range (0.1% to 100%)"},
	{CAPTURE "CpuBudget=5.05%",
		"FILE:2: CpuBudget=5.05% is not a percentage with at most one decimal (0.1% to 100%)"},
	{STORE "ActivityHourMaxAge=6d",
		"FILE:2: ActivityHourMaxAge=6d is out of range (7d to 100y)"},
	{STORE "ActivityDayMaxAge=long",
		"FILE:2: ActivityDayMaxAge=long is not a time span (7d to 100y)"},
	{STORE "UserShare=0.9%", "FILE:2: UserShare=0.9% is out of range (1% to 100%)"},
	{STORE "UserShare=half",
		"FILE:2: UserShare=half is not a percentage with at most one decimal (1% to 100%)"},
	{STORE "CoalesceAbove=9", "FILE:2: CoalesceAbove=9 is out of range (10 to 1000000)"},
	{STORE "CoalesceAbove=1k", "FILE:2: CoalesceAbove=1k is not a number (10 to 1000000)"},
	/* 2^64 + 10 */
	{STORE "CoalesceAbove=18446744073709551626",
		"FILE:2: CoalesceAbove=18446744073709551626 is out of range (10 to 1000000)"},
	{CAPTURE "Failures=maybe",
		"FILE:2: Failures=maybe is not auto or a boolean (auto, yes or no)"},
	{CAPTURE "Accepted=maybe", "FILE:2: Accepted=maybe is not a boolean (yes or no)"},
	{CAPTURE "Ranges=",
		"FILE:2: Ranges= is not a list of iana, kernel and LOW-HIGH (1 to 65535, at most 14 ranges)"},
	{CAPTURE "Ranges=iana,kernel",
		"FILE:2: Ranges=iana,kernel is not a list of iana, kernel and LOW-HIGH (1 to 65535, at most 14 ranges)"},
	{CAPTURE "Ranges=80",
		"FILE:2: Ranges=80 is not a list of iana, kernel and LOW-HIGH (1 to 65535, at most 14 ranges)"},
	{CAPTURE "Ranges=1-2-3",
		"FILE:2: Ranges=1-2-3 is not a list of iana, kernel and LOW-HIGH (1 to 65535, at most 14 ranges)"},
	{CAPTURE "Ranges=0-5",
		"FILE:2: Ranges=0-5 is out of range (1 to 65535, at most 14 ranges)"},
	{CAPTURE "Ranges=5-65536",
		"FILE:2: Ranges=5-65536 is out of range (1 to 65535, at most 14 ranges)"},
	{CAPTURE "Ranges=6-5",
		"FILE:2: Ranges=6-5 is out of range (1 to 65535, at most 14 ranges)"},
	{CAPTURE
		"Ranges=1-1 3-3 5-5 7-7 9-9 11-11 13-13 15-15 17-17 19-19 21-21 23-23 25-25 27-27 29-29",
		"FILE:2: Ranges=1-1 3-3 5-5 7-7 9-9 11-11 13-13 15-15 17-17 19-19 21-21 23-23 25-25 27-27 29-29"
		" is out of range (1 to 65535, at most 14 ranges)"},
	{STORE "MaxAge=59min", "FILE:2: MaxAge=59min is out of range (1h to 100y)"},
	{STORE "MaxAge=101y", "FILE:2: MaxAge=101y is out of range (1h to 100y)"},
	{STORE "MaxBytes=16383K", "FILE:2: MaxBytes=16383K is out of range (16M to 1024T)"},
	{STORE "MaxBytes=16777216T", "FILE:2: MaxBytes=16777216T is out of range (16M to 1024T)"},
	{STORE "MaxBytes=2GB",
		"FILE:2: MaxBytes=2GB is not a size in bytes, or with K, M, G or T (16M to 1024T)"},
	{STORE "MaxBytes=2g",
		"FILE:2: MaxBytes=2g is not a size in bytes, or with K, M, G or T (16M to 1024T)"},
	{STORE "MaxBytes=-1",
		"FILE:2: MaxBytes=-1 is not a size in bytes, or with K, M, G or T (16M to 1024T)"},
	{CAPTURE "interval=1s", "FILE:2: there is no setting 'interval' in [Capture]"},
	{STORE "Interval=1s", "FILE:2: there is no setting 'Interval' in [Store]"},
	{"\n[Captrue]\n", "FILE:2: there is no section [Captrue]"},
	{"\xef\xbb\xbf[Captrue]\n", "FILE:1: there is no section [Captrue]"},
	{"[]\n", "FILE:1: there is no section []"},
	{"[Capture] Interval=1s", "FILE:1: 'Interval=1s' stands behind the section"},
	{"Interval=1s", "FILE:1: 'Interval' stands before any section"},
	{CAPTURE "Interval", "FILE:2: this is neither [Section] nor Setting=value"},
	{"[Capture\n", "FILE:1: this is neither [Section] nor Setting=value"},
	/* to inih, more of the value above */
	{CAPTURE "Accepted=yes\n Interval=2s", "FILE:3: the line begins with a blank"},
	/* the first of several counts, whoever finds it */
	{CAPTURE "x\nInterval=0", "FILE:2: this is neither [Section] nor Setting=value"},
	{CAPTURE "Interval=0\nx", "FILE:2: Interval=0 is out of range (100ms to 1h)"},
	{CAPTURE "y\n[x]", "FILE:2: this is neither [Section] nor Setting=value"},
};

static void test_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
		struct config c = {.interval_usec = 7};
		_cleanup_(free_p) char *error = NULL;

		assert_int_equal(parse(wrong[i].text, &c, &error), -EINVAL);
		assert_string_equal(error, wrong[i].error);
		assert_int_equal(c.interval_usec, 7);
		assert_null(c.files);
	}
}

/* A line of 197 bytes is inih's longest. */
static void test_long_line(void **state)
{
	static const char setting[] = "Interval=2s ;";
	char text[300] = CAPTURE "\n";
	char *line = text + strlen(text);

	(void)state;
	memset(line, 'x', 198);
	memcpy(line, setting, strlen(setting));
	for (size_t size = 196; size <= 198; size++) {
		_cleanup_(config_done) struct config c = {0};
		_cleanup_(free_p) char *error = NULL;

		strcpy(line + size, "\n[Store]\nMaxAge=1h");
		if (size <= 197) {
			assert_int_equal(parse(text, &c, &error), 0);
			assert_int_equal(c.interval_usec, 2 * USEC_PER_SEC);
			assert_int_equal(c.origin[SETTING_MAX_AGE].line, 5);
			line[size] = 'x';
		} else {
			assert_int_equal(parse(text, &c, &error), -EINVAL);
			assert_string_equal(error, "FILE:3: the line is longer than 197 bytes");
		}
	}
}

static void test_bytes(void **state)
{
	static const char nul[] = CAPTURE "Interval=2s\0000";
	_cleanup_(free_p) char *large = malloc(LIMIT_CONFIG_BYTES + 1);
	_cleanup_(free_p) char *error = NULL, *large_error = NULL;
	_cleanup_(config_done) struct config c = {0};

	(void)state;
	assert_int_equal(config_parse("FILE", nul, sizeof(nul) - 1, &c, &error), -EINVAL);
	assert_string_equal(error, "FILE:2: there is a NUL byte");

	assert_non_null(large);
	memset(large, '\n', LIMIT_CONFIG_BYTES + 1);
	assert_int_equal(
		config_parse("FILE", large, LIMIT_CONFIG_BYTES + 1, &c, &large_error), -EFBIG);
	assert_string_equal(large_error, "FILE: more than 1048576 bytes");
	free(TAKE_PTR(large_error));
	assert_int_equal(config_parse("FILE", large, LIMIT_CONFIG_BYTES, &c, &large_error), 0);
}

static void test_ranges(void **state)
{
	static const struct {
		const char *text;
		struct port_range kernel;
		const char *ranges; /* NULL: -EINVAL */
	} cases[] = {
		{"iana", {0, 0}, "49152-65535"},
		{"kernel", {1024, 2048}, "1024-2048"},
		{"kernel iana", {1024, 2048}, "1024-2048 49152-65535"},
		/* neighbours, and one inside the other */
		{"iana kernel", {32768, 49151}, "32768-65535"},
		{"iana kernel", {50000, 60000}, "49152-65535"},
		{"kernel 10-20 2000-3000", {1024, 2048}, "10-20 1024-3000"},
		{"1-1 3-3 5-5 7-7 9-9 11-11 13-13 15-15 17-17 19-19 21-21 23-23 25-25 27-27 iana kernel",
			{29, 29},
			"1-1 3-3 5-5 7-7 9-9 11-11 13-13 15-15 17-17 19-19 21-21 23-23 25-25 27-27 29-29 49152-65535"},
		{"1-65535 iana kernel", {1, 65535}, "1-65535"},
		{"65535-65535 kernel", {1, 65534}, "1-65535"},
		{"kernel", {0, 100}, NULL},
		{"kernel", {200, 100}, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *text = NULL, *error = NULL;
		_cleanup_(config_done) struct config c = {0};
		struct port_ranges ranges = {.count = 0};
		int r;

		assert_true(asprintf(&text, CAPTURE "Ranges=%s", cases[i].text) > 0);
		assert_int_equal(parse(text, &c, &error), 0);
		r = config_ranges(&c, cases[i].kernel, &ranges);
		assert_int_equal(r, cases[i].ranges ? 0 : -EINVAL);
		assert_ranges(&ranges, cases[i].ranges ? cases[i].ranges : "");
	}
}

static void test_round_trip(void **state)
{
	static const char text[] =
		"[Capture]\nInterval=1min 1s 1ms 1us\nCpuBudget=99.9%\nRanges=iana 1-1 3-70\nAccepted=no\n"
		"UdpConnect=no\nFailures=yes\n"
		"\n[Store]\nMaxAge=365d 6h\nMaxBytes=16385K\nRemoteAddresses=none\nRemoteAddressesAfter=2h\n"
		"ActivityHourMaxAge=8d\nActivityDayMaxAge=9d\nUserShare=49.9%\nCoalesceAbove=11\n";
	_cleanup_(config_done) struct config c = {0}, again = {0};
	_cleanup_(free_p) char *error = NULL, *printed = NULL;

	(void)state;
	assert_int_equal(parse(text, &c, &error), 0);
	printed = config_format(&c);
	assert_string_equal(printed, text);
	assert_int_equal(parse(printed, &again, &error), 0);
	assert_memory_equal(&c, &again, offsetof(struct config, origin));
}

/* A directory of a test's own, which goes with it. */
struct place {
	char path[32];
};

static void place_write(const struct place *p, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", p->path, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void place_mkdir(const struct place *p, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", p->path, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int place_setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	strcpy(p->path, "/tmp/test-config-XXXXXX");
	*state = p;
	return mkdtemp(p->path) ? 0 : -1;
}

static int place_teardown(void **state)
{
	_cleanup_(free_p) struct place *p = *state;
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", p->path);
	return system(command);
}

static int load(const struct place *p, bool must_exist, struct config *ret, char **ret_error)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/main.conf", p->path);
	return config_load(path, must_exist, ret, ret_error);
}

/* An origin or an error, without the directory. */
static const char *relative(const struct place *p, const char *text)
{
	assert_int_equal(strncmp(text, p->path, strlen(p->path)), 0);
	return text + strlen(p->path) + 1;
}

static void test_drop_ins(void **state)
{
	static const struct {
		enum setting_id id;
		const char *value, *origin;
	} expected[] = {
		{SETTING_INTERVAL, "4s", "main.conf.d/B.conf:2"},
		{SETTING_ACCEPTED, "no", "main.conf.d/10-a.conf:3"},
		{SETTING_RANGES, "8000-9000", "main.conf:4"},
	};
	_cleanup_(free_p) char *error = NULL, *origin = NULL;
	_cleanup_(config_done) struct config c = {0};
	struct place *p = *state;

	place_write(p, "main.conf", "# main\n" CAPTURE "Interval=2s\nRanges=8000-9000\n");
	place_mkdir(p, "main.conf.d");
	/* in the order of bytes, whatever the locale and the directory say */
	place_write(p, "main.conf.d/B.conf", CAPTURE "Interval=4s\n");
	place_write(p, "main.conf.d/10-a.conf", CAPTURE "Interval=3s\nAccepted=no\n");
	place_write(p, "main.conf.d/zzz", "not read");
	place_write(p, "main.conf.d/zzz.conf~", "not read");
	place_write(p, "main.conf.d/.zzz.conf", "not read");
	place_write(p, "main.conf.d/.conf", "not read");
	assert_int_equal(load(p, true, &c, &error), 0);
	assert_int_equal(c.file_count, 3);
	for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
		_cleanup_(free_p) char *value = setting_format(&c, expected[i].id);
		_cleanup_(free_p) char *from = config_origin_format(&c, expected[i].id);

		assert_string_equal(value, expected[i].value);
		assert_string_equal(relative(p, from), expected[i].origin);
	}
	origin = config_origin_format(&c, SETTING_MAX_AGE);
	assert_string_equal(origin, "default");
}

static void test_missing(void **state)
{
	_cleanup_(free_p) char *error = NULL, *none = NULL;
	_cleanup_(config_done) struct config c = {0}, lone = {0};
	struct place *p = *state;

	assert_int_equal(load(p, true, &c, &error), -ENOENT);
	assert_string_equal(relative(p, error), "main.conf: No such file or directory");
	assert_int_equal(load(p, false, &c, &none), 0);
	assert_int_equal(c.file_count, 0);
	place_mkdir(p, "main.conf.d");
	place_write(p, "main.conf.d/a.conf", STORE "MaxAge=1d\n");
	assert_int_equal(load(p, false, &lone, &none), 0);
	assert_null(none);
	assert_int_equal(lone.store.max_age_usec, USEC_PER_DAY);
}

static void test_bad_files(void **state)
{
	_cleanup_(free_p) char *error = NULL, *directory = NULL, *large = NULL;
	struct config c = {.interval_usec = 7};
	struct place *p = *state;
	char path[64];

	/* the last file spoils it all */
	place_write(p, "main.conf", CAPTURE "Interval=2s\n");
	place_mkdir(p, "main.conf.d");
	place_write(p, "main.conf.d/a.conf", "\n\n" STORE "MaxAge=never\n");
	assert_int_equal(load(p, true, &c, &error), -EINVAL);
	assert_string_equal(relative(p, error),
		"main.conf.d/a.conf:4: MaxAge=never is not a time span (1h to 100y)");

	place_write(p, "main.conf.d/a.conf", "");
	place_mkdir(p, "main.conf.d/b.conf");
	assert_int_equal(load(p, true, &c, &directory), -EISDIR);
	assert_string_equal(relative(p, directory), "main.conf.d/b.conf: Is a directory");

	snprintf(path, sizeof(path), "%s/main.conf", p->path);
	assert_int_equal(truncate(path, LIMIT_CONFIG_BYTES + 1), 0);
	assert_int_equal(load(p, true, &c, &large), -EFBIG);
	assert_string_equal(relative(p, large), "main.conf: more than 1048576 bytes");
	assert_int_equal(c.interval_usec, 7);
}

/* Whoever may write them would say what is recorded, and of whom. */
static void test_everybodys(void **state)
{
	_cleanup_(free_p) char *file = NULL, *directory = NULL, *none = NULL;
	_cleanup_(config_done) struct config c = {0};
	struct place *p = *state;
	char main_path[64], drop_ins[64];

	place_write(p, "main.conf", CAPTURE "Interval=2s\n");
	place_mkdir(p, "main.conf.d");
	snprintf(main_path, sizeof(main_path), "%s/main.conf", p->path);
	snprintf(drop_ins, sizeof(drop_ins), "%s/main.conf.d", p->path);
	assert_int_equal(chmod(main_path, 0666), 0);
	assert_int_equal(load(p, true, &c, &file), -EPERM);
	assert_string_equal(relative(p, file), "main.conf: everybody may write it: chmod o-w");
	assert_int_equal(chmod(main_path, 0664), 0);
	assert_int_equal(chmod(drop_ins, 0777), 0);
	assert_int_equal(load(p, true, &c, &directory), -EPERM);
	assert_string_equal(
		relative(p, directory), "main.conf.d: everybody may write there: chmod o-w");
	assert_int_equal(chmod(drop_ins, 0775), 0);
	assert_int_equal(load(p, true, &c, &none), 0);
	assert_int_equal(c.interval_usec, 2 * USEC_PER_SEC);
}

/* A device is not kept: what comes from it is the caller's choice. */
static void test_device(void **state)
{
	_cleanup_(free_p) char *error = NULL;
	_cleanup_(config_done) struct config c = {0};

	(void)state;
	assert_int_equal(config_load("/dev/null", true, &c, &error), 0);
	assert_int_equal(c.file_count, 1);
}

/* A pipe that nobody named is refused at once: who opens it would wait for somebody who writes. */
static void test_pipes(void **state)
{
	_cleanup_(free_p) char *drop_in = NULL, *unnamed = NULL, *none = NULL;
	_cleanup_(config_done) struct config c = {0};
	struct place *p = *state;
	char path[64];
	pid_t writer;

	alarm(30); /* this test does not wait for ever to fail */
	snprintf(path, sizeof(path), "%s/main.conf.d/a.conf", p->path);
	place_mkdir(p, "main.conf.d");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load(p, false, &c, &drop_in), -ESPIPE);
	assert_string_equal(relative(p, drop_in), "main.conf.d/a.conf: it is a pipe");
	/* as systemd has it, a drop-in is masked by a link there */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_int_equal(load(p, false, &c, &none), 0);
	config_done(&c);

	snprintf(path, sizeof(path), "%s/main.conf", p->path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load(p, false, &c, &unnamed), -ESPIPE);
	assert_string_equal(relative(p, unnamed), "main.conf: it is a pipe");
	writer = fork();
	if (writer == 0) {
		place_write(p, "main.conf", CAPTURE "Interval=2s\n");
		_exit(0);
	}
	assert_true(writer > 0);
	assert_int_equal(load(p, true, &c, &none), 0);
	assert_int_equal(c.interval_usec, 2 * USEC_PER_SEC);
	assert_int_equal(waitpid(writer, NULL, 0), writer);
	alarm(0);
}

/* What stands where the directory of drop-ins would be. */
static void test_no_directory(void **state)
{
	_cleanup_(free_p) char *error = NULL;
	struct config c = {0};
	struct place *p = *state;

	place_write(p, "main.conf", "");
	place_write(p, "main.conf.d", "");
	assert_int_equal(load(p, true, &c, &error), -ENOTDIR);
	assert_string_equal(relative(p, error), "main.conf.d: Not a directory");
}

static void test_too_many_files(void **state)
{
	_cleanup_(free_p) char *error = NULL, *none = NULL;
	_cleanup_(config_done) struct config c = {0};
	struct place *p = *state;
	char name[64];

	place_write(p, "main.conf", "");
	place_mkdir(p, "main.conf.d");
	for (unsigned i = 1; i < LIMIT_CONFIG_FILES; i++) {
		snprintf(name, sizeof(name), "main.conf.d/%03u.conf", i);
		place_write(p, name, "");
	}
	assert_int_equal(load(p, true, &c, &none), 0);
	assert_int_equal(c.file_count, LIMIT_CONFIG_FILES);
	config_done(&c);
	place_write(p, "main.conf.d/one-more.conf", "");
	assert_int_equal(load(p, true, &c, &error), -EFBIG);
	assert_string_equal(relative(p, error), "main.conf.d: more than 255 files");
}

#define in_place(test) cmocka_unit_test_setup_teardown(test, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_round_trip),
		in_place(test_drop_ins),
		in_place(test_missing),
		in_place(test_bad_files),
		in_place(test_everybodys),
		cmocka_unit_test(test_device),
		in_place(test_pipes),
		in_place(test_no_directory),
		in_place(test_too_many_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
