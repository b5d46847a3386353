/* SPDX-License-Identifier: MIT */

/* What capture remembers of processes, units, cgroups and namespaces while memory is short: the n-th allocation of each piece of work fails, for
 * every n. It says so, or does without, and what it remembered before is there. */

#include "common/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "daemon/capture/cgroup.h"
#include "daemon/capture/namespaces.h"
#include "daemon/capture/refs.h"
#include "daemon/capture/unit.h"
#include "tests/support/failing_text.h"
#include "tests/support/failing_works.h"

static int work_units(void)
{
	_cleanup_(units_free_p) struct units *u = units_new();
	const char *unit = "";
	int r = u ? units_put(u, "/system.slice/a.service", "a.service") : -ENOMEM;

	if (r == 0)
		r = units_put(u, "/", NULL);
	/* of what is said to be there all is; of the rest nothing */
	if (r == 0) {
		assert_true(units_get(u, "/", &unit));
		assert_null(unit);
	}
	if (u && units_get(u, "/system.slice/a.service", &unit))
		assert_string_equal(unit, "a.service");
	return r;
}

static int work_unit_of_cgroup(void)
{
	char *unit = NULL;
	int r = unit_of_cgroup("/system.slice/a.service", &unit);

	assert_int_equal(r == 0, unit != NULL);
	free(unit);
	return r;
}

static int count_process(void *context, uint32_t ref, struct process *p)
{
	assert_true(ref > 0 && p);
	(*(unsigned *)context)++;
	return 0;
}

static void forget_process(void *context, uint32_t ref)
{
	assert_int_equal(ref, 2);
	(*(unsigned *)context)++;
}

static int work_refs(void)
{
	_cleanup_(process_unref_p) struct process *a = process_new(), *b = process_new();
	_cleanup_(refs_free_p) struct refs *refs = refs_new();
	uint32_t first = 0, second = 0, again = 0;
	unsigned count = 0, forgotten = 0;
	int r = a && b && refs ? refs_get(refs, a, &first) : -ENOMEM;

	if (r == 1)
		r = refs_get(refs, b, &second);
	assert_int_equal(second, r == 1 ? 2 : 0);
	if (first == 0)
		return r;
	assert_int_equal(first, 1);
	assert_int_equal(refs_get(refs, a, &again), 0);
	assert_int_equal(again, first);
	assert_ptr_equal(refs_process(refs, first), a);
	assert_null(refs_process(refs, 99));
	assert_int_equal(refs_count(refs), r == 1 ? 2 : 1);
	assert_int_equal(refs_each(refs, count_process, &count), 0);
	assert_int_equal(count, refs_count(refs));
	refs_mark(refs, first);
	refs_mark(refs, 99);
	refs_drop_unmarked(refs, forget_process, &forgotten);
	assert_int_equal(forgotten, count - 1);
	assert_int_equal(refs_count(refs), 1);
	return MIN(r, 0);
}

static int work_cgroups(void)
{
	_cleanup_(close_p) int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(cgroups_free_p) struct cgroups *c = NULL;
	const char *path = NULL;
	int r;

	assert_true(proc >= 0);
	c = cgroups_new(proc);
	r = c ? cgroups_learn(c, 7, "/seven") : -ENOMEM;
	if (r == 0)
		r = cgroups_learn(c, 8, "/eight");
	if (c && cgroups_know(c, 7)) {
		assert_int_equal(cgroups_path(c, 7, 0, &path), 0);
		assert_string_equal(path, "/seven");
	}
	assert_int_equal(r == 0, c && cgroups_know(c, 8));
	return r;
}

/* Where it cannot be remembered, it is told again: never kept from anybody. */
static int work_namespaces(void)
{
	_cleanup_(namespaces_free_p) struct namespaces *n = namespaces_new("/nonexistent");
	const struct namespace_seen seen = {.cookie = 1, .inode = 2, .unit = "a.service"};
	struct netns told = {0};

	if (!n)
		return -ENOMEM;
	if (!namespaces_see(n, &seen, USEC_PER_SEC, &told))
		return -ENOMEM;
	assert_int_equal(told.inode, 2);
	if (!told.name)
		return -ENOMEM;
	assert_string_equal(told.name, "a.service");
	return 0;
}

static work_fn *const works[] = {
	work_units, work_unit_of_cgroup, work_refs, work_cgroups, work_namespaces};

static void test_each_allocation_fails_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(works); i++)
		(void)fail_each(works, i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation_fails_once)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
