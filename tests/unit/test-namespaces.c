/* SPDX-License-Identifier: MIT */

/* Names of network namespaces: from a directory with a file of each one's inode, else a unit's; each told once. */

#include "common/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "daemon/capture/namespaces.h"

struct place {
	char path[32];
	int fd;
};

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	(void)snprintf(p->path, sizeof(p->path), "/tmp/test-namespaces.XXXXXX");
	assert_non_null(mkdtemp(p->path));
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;

	(void)unlinkat(p->fd, "blue\n", 0);
	(void)close(p->fd);
	(void)rmdir(p->path);
	free(p);
	return 0;
}

/* Stands for the namespace of this inode. */
static uint64_t make_name(const struct place *p, const char *name)
{
	int fd = openat(p->fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct stat status;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	(void)close(fd);
	return status.st_ino;
}

static bool see(struct namespaces *n, uint64_t cookie, uint64_t inode, const char *unit, usec_t now,
	struct netns *ret)
{
	return namespaces_see(n,
		&(struct namespace_seen){.cookie = cookie, .inode = inode, .unit = unit}, now, ret);
}

static void test_names(void **state)
{
	const struct place *p = *state;
	_cleanup_(namespaces_free_p) struct namespaces *n = namespaces_new(p->path);
	uint64_t inode = make_name(p, "blue\n");
	usec_t now = USEC_PER_SEC;
	struct netns seen;

	assert_non_null(n);
	/* without a name it is told, once */
	assert_true(see(n, 1, inode + 1, NULL, now, &seen));
	assert_int_equal(seen.cookie, 1);
	assert_int_equal(seen.inode, inode + 1);
	assert_null(seen.name);
	assert_false(see(n, 1, inode + 1, NULL, now, &seen));
	/* a unit is a name for want of a better one, and stays */
	assert_true(see(n, 1, inode + 1, "a.service", now, &seen));
	assert_string_equal(seen.name, "a.service");
	assert_false(see(n, 1, inode + 1, "b.service", now, &seen));
	/* a file's is one, and is stored without its control characters */
	assert_true(see(n, 2, inode, "a.service", now, &seen));
	assert_string_equal(seen.name, "blue\\x0a");
	assert_false(see(n, 2, inode, "b.service", now + USEC_PER_HOUR, &seen));
}

/* `ip netns add` makes the file after the namespace. */
static void test_named_later(void **state)
{
	const struct place *p = *state;
	_cleanup_(namespaces_free_p) struct namespaces *n = namespaces_new(p->path);
	struct netns seen;
	uint64_t inode = make_name(p, "blue\n");
	usec_t now = USEC_PER_SEC;

	assert_non_null(n);
	assert_int_equal(renameat(p->fd, "blue\n", p->fd, ".hidden"), 0);
	assert_true(see(n, 1, inode, "a.service", now, &seen));
	assert_int_equal(renameat(p->fd, ".hidden", p->fd, "blue\n"), 0);
	assert_false(see(n, 1, inode, NULL, now + USEC_PER_SEC - 1, &seen));
	assert_true(see(n, 1, inode, NULL, now + USEC_PER_SEC, &seen));
	assert_string_equal(seen.name, "blue\\x0a");
}

/* Each process was written down with the range of its time; a snapshot has today's. */
static void test_ranges(void **state)
{
	static const struct {
		uint64_t by;
		uint16_t low, high; /* 0: not known */
		bool tells;
		uint16_t is; /* low */
	} cases[] = {
		{4, 40000, 40009, true, 40000},
		{4, 40000, 40009, false, 40000},
		{9, 0, 0, false, 40000},
		{7, 50000, 50009, true, 50000},
		{4, 40000, 40009, false, 50000}, /* the older one goes on */
		{0, 50000, 50019, true, 50000},
		{7, 50000, 50009, false, 50000},
		{8, 40000, 40009, true, 40000},
	};
	const struct place *p = *state;
	_cleanup_(namespaces_free_p) struct namespaces *n = namespaces_new(p->path);
	struct netns told;

	assert_non_null(n);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		const struct namespace_seen seen = {.cookie = 1,
			.inode = 2,
			.ephemeral = {cases[i].low, cases[i].high},
			.by = cases[i].by};

		assert_int_equal(namespaces_see(n, &seen, 0, &told), cases[i].tells);
		assert_int_equal(told.ephemeral.low, cases[i].is);
	}
}

static void count(void *context, const struct netns *netns)
{
	size_t *found = context;

	assert_int_equal(netns->cookie, LIMIT_NAMESPACES + 1 - (LIMIT_NAMESPACES - 1 - *found));
	++*found;
}

/* The oldest makes room, and is told again if it comes again. */
static void test_bounded(void **state)
{
	const struct place *p = *state;
	_cleanup_(namespaces_free_p) struct namespaces *n = namespaces_new(p->path);
	struct netns seen;
	size_t found = 0;

	assert_non_null(n);
	for (uint64_t cookie = 1; cookie <= LIMIT_NAMESPACES + 1; cookie++)
		assert_true(see(n, cookie, 0, NULL, 0, &seen));
	namespaces_each(n, count, &found);
	assert_int_equal(found, LIMIT_NAMESPACES);
	assert_true(see(n, 1, 0, NULL, 0, &seen));
	assert_false(see(n, LIMIT_NAMESPACES + 1, 0, NULL, 0, &seen));
}

static void test_no_directory(void **state)
{
	_cleanup_(namespaces_free_p) struct namespaces *n = namespaces_new("/nonexistent");
	struct netns seen;

	(void)state;
	assert_non_null(n);
	assert_true(see(n, 1, 2, NULL, 0, &seen));
	assert_null(seen.name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, make_place, remove_place),
		cmocka_unit_test_setup_teardown(test_named_later, make_place, remove_place),
		cmocka_unit_test_setup_teardown(test_ranges, make_place, remove_place),
		cmocka_unit_test_setup_teardown(test_bounded, make_place, remove_place),
		cmocka_unit_test(test_no_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
