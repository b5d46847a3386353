/* SPDX-License-Identifier: MIT */

/* Paths of cgroups by their ids, in a hierarchy of our own making: its ids are inodes, as the kernel's are. It is of no kernfs, so none of its
 * ids can be opened as a handle, and what remains is the process, or a walk. */

#include "common/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "common/limits.h"
#include "daemon/capture/cgroup.h"
#include "tests/support/failing_text.h"

#define SERVICE "cg/a.slice/b.service"
#define DEEP    40 /* deeper than a walk goes */

struct place {
	char path[64];
	int fd, proc;
};

static void write_file(const struct place *p, const char *name, const char *text)
{
	_cleanup_(close_p) int fd =
		openat(p->fd, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static uint64_t id_of(const struct place *p, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(p->fd, name, &st, 0), 0);
	return st.st_ino;
}

static int setup(void **state)
{
	static const char *const directories[] = {
		"proc", "proc/self", "proc/42", "cg", "cg/a.slice", SERVICE};
	static struct place place;
	struct place *p = &place;
	char line[160];

	/* of a file system whose directories have the inodes that they show */
	(void)snprintf(p->path, sizeof(p->path), "/dev/shm/portledger-cgroup.XXXXXX");
	assert_non_null(mkdtemp(p->path));
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ELEMENTSOF(directories); i++)
		assert_int_equal(mkdirat(p->fd, directories[i], 0700), 0);
	(void)snprintf(line, sizeof(line), "30 23 0:26 / %s/cg rw - cgroup2 cgroup2 rw\n", p->path);
	write_file(p, "proc/self/mountinfo", line);
	write_file(p, "proc/42/cgroup", "0::/a.slice/b.service\n");
	write_file(p, "cg/cgroup.procs", "");
	p->proc = openat(p->fd, "proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->proc >= 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	char command[96];

	close_p(&p->fd);
	close_p(&p->proc);
	(void)snprintf(command, sizeof(command), "rm -r %s", p->path);
	return system(command);
}

static void assert_path(struct cgroups *c, uint64_t id, int32_t pid, const char *expected)
{
	const char *path = "untouched";

	assert_int_equal(cgroups_path(c, id, pid, &path), 0);
	assert_true(streq_null(path, expected));
}

static void test_by_process(void **state)
{
	const struct place *p = *state;
	_cleanup_(cgroups_free_p) struct cgroups *c = cgroups_new(p->proc);
	uint64_t id = id_of(p, SERVICE);

	assert_non_null(c);
	assert_path(c, 0, 42, NULL);
	assert_path(c, id, 42, "/a.slice/b.service");
	/* the walk has not been made: of the others nothing is known yet */
	assert_false(cgroups_know(c, id_of(p, "cg/a.slice")));
	/* remembered when it is gone */
	assert_int_equal(unlinkat(p->fd, SERVICE, AT_REMOVEDIR), 0);
	assert_path(c, id, 0, "/a.slice/b.service");
}

/* A process that is gone, or that is elsewhere by now, says nothing: what it was in is found by a walk, with all the rest. */
static void test_by_walk(void **state)
{
	static const char *const files[] = {
		"0::/\n", "0::/a.slice\n", "0::/gone\n", "nonsense", "0::/a.slice/b.service/c\n"};
	const struct place *p = *state;
	uint64_t id = id_of(p, SERVICE);

	for (size_t i = 0; i <= ELEMENTSOF(files); i++) {
		_cleanup_(cgroups_free_p) struct cgroups *c = cgroups_new(p->proc);
		int32_t pid = i < ELEMENTSOF(files) ? 42 : 43; /* which there is not */

		assert_non_null(c);
		if (pid == 42)
			write_file(p, "proc/42/cgroup", files[i]);
		assert_path(c, id, pid, "/a.slice/b.service");
		assert_path(c, id_of(p, "cg"), 0, "/");
		assert_true(cgroups_know(c, id_of(p, "cg/a.slice")));
		/* none such; and no second walk so soon */
		assert_path(c, UINT64_MAX, 0, NULL);
	}
}

static void test_depth(void **state)
{
	const struct place *p = *state;
	_cleanup_(cgroups_free_p) struct cgroups *c = cgroups_new(p->proc);
	char path[8 + 2 * DEEP] = "cg";
	uint64_t first = 0, last = 0;

	assert_non_null(c);
	for (int i = 0; i < DEEP; i++) {
		strcat(path, "/d");
		assert_int_equal(mkdirat(p->fd, path, 0700), 0);
		last = id_of(p, path);
		first = first ? first : last;
	}
	assert_path(c, last, 0, NULL);
	assert_path(c, first, 0, "/d");
}

static void test_oldest_is_forgotten(void **state)
{
	const struct place *p = *state;
	_cleanup_(cgroups_free_p) struct cgroups *c = cgroups_new(p->proc);

	assert_non_null(c);
	for (uint64_t id = 1; id <= LIMIT_CGROUP_CACHE + 1; id++)
		assert_int_equal(cgroups_learn(c, id << 40, "/x"), 0);
	assert_false(cgroups_know(c, UINT64_C(1) << 40));
	assert_true(cgroups_know(c, UINT64_C(2) << 40));
	assert_true(cgroups_know(c, (uint64_t)(LIMIT_CGROUP_CACHE + 1) << 40));
}

/* A host without cgroup2, or with a mount that is not to be seen, is none the worse. */
static void test_no_hierarchy(void **state)
{
	static const char *const mounts[] = {"30 23 0:26 / /nonexistent rw - cgroup2 c rw\n", ""};
	const struct place *p = *state;

	for (size_t i = 0; i < ELEMENTSOF(mounts); i++) {
		_cleanup_(cgroups_free_p) struct cgroups *c = NULL;

		write_file(p, "proc/self/mountinfo", mounts[i]);
		c = cgroups_new(p->proc);
		assert_non_null(c);
		assert_path(c, id_of(p, SERVICE), 42, NULL);
	}
}

static void test_no_memory(void **state)
{
	const struct place *p = *state;
	uint64_t id = id_of(p, SERVICE);

	for (int32_t pid = 42; pid >= 0; pid -= 42) {
		unsigned n = 0;

		do {
			_cleanup_(cgroups_free_p) struct cgroups *c = NULL;
			const char *path = NULL;
			int r;

			failing_hits = 0;
			failing_in = n++;
			c = cgroups_new(p->proc);
			r = c ? cgroups_path(c, id, pid, &path) : -ENOMEM;
			failing_in = UINT_MAX;
			assert_int_equal(r, failing_hits > 0 ? -ENOMEM : 0);
			assert_int_equal(r == 0, path != NULL);
		} while (failing_hits > 0);
		assert_true(n > 3);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_by_process), CASE(test_by_walk),
		CASE(test_depth), CASE(test_oldest_is_forgotten), CASE(test_no_hierarchy),
		CASE(test_no_memory)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
