/* SPDX-License-Identifier: MIT */

/* A /proc of our own making, with what a hostile process could put into it, and with what ended half-way. */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "daemon/capture/procfs.h"
#include "tests/support/failing.h"

#define BUDGET (60 * USEC_PER_SEC) /* never used up */

struct tree {
	char path[64];
	int fd;
	struct procfs *procfs;
};

static int tree_setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	(void)snprintf(t->path, sizeof(t->path), "/tmp/test-procfs-XXXXXX");
	assert_non_null(mkdtemp(t->path));
	t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(t->fd >= 0);
	t->procfs = procfs_new(t->fd, false);
	assert_non_null(t->procfs);
	*state = t;
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int tree_teardown(void **state)
{
	struct tree *t = *state;

	procfs_free(t->procfs);
	(void)close(t->fd);
	assert_int_equal(nftw(t->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(t);
	return 0;
}

static void make_directory(const struct tree *t, const char *name)
{
	assert_true(mkdirat(t->fd, name, 0755) == 0 || errno == EEXIST);
}

static void write_file(const struct tree *t, const char *name, const void *data, size_t size)
{
	_cleanup_(close_p) int fd =
		openat(t->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
}

static void make_link(const struct tree *t, const char *name, const char *text)
{
	(void)unlinkat(t->fd, name, 0);
	assert_int_equal(symlinkat(text, t->fd, name), 0);
}

static void write_stat(
	const struct tree *t, int32_t pid, const char *comm, int32_t parent, unsigned start)
{
	char name[64], text[512];
	int n = snprintf(text, sizeof(text),
		"%d (%s) S %d 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %u 0 0\n", pid, comm, parent,
		start);

	(void)snprintf(name, sizeof(name), "%d/stat", pid);
	write_file(t, name, text, (size_t)n);
}

/* A process without descriptors. */
static void make_process(
	const struct tree *t, int32_t pid, const char *comm, int32_t parent, unsigned start)
{
	static const char status[] = "Name:\tx\nUid:\t1000\t1001\t1002\t1003\n";
	char name[64];

	(void)snprintf(name, sizeof(name), "%d", pid);
	make_directory(t, name);
	(void)snprintf(name, sizeof(name), "%d/fd", pid);
	make_directory(t, name);
	(void)snprintf(name, sizeof(name), "%d/status", pid);
	write_file(t, name, status, sizeof(status) - 1);
	write_stat(t, pid, comm, parent, start);
}

static void make_descriptor(const struct tree *t, const char *table, unsigned fd, const char *text)
{
	char name[128];

	(void)snprintf(name, sizeof(name), "%s/%u", table, fd);
	make_link(t, name, text);
}

static void done(struct procfs_wanted *w)
{
	for (uint32_t i = 0; i < w->holder_count; i++)
		process_unref(w->holders[i]);
	w->holder_count = 0;
}

static struct procfs_result find(const struct tree *t, struct procfs_wanted *w, size_t count)
{
	struct procfs_result result = {0};

	assert_int_equal(procfs_find(t->procfs, w, count, BUDGET, &result), 0);
	assert_true(result.complete);
	return result;
}

static void test_fields(void **state)
{
	const struct tree *t = *state;
	static const char cgroup[] = "1:name=systemd:/\n0::/system.slice/a\\x2db.service\n";
	struct procfs_wanted w = {.inode = 77, .uid = 1001};
	struct process *p;

	make_process(t, 12, "sh", 1, 50);
	make_process(t, 34, "evil) R 1\n\x1b[31m\xff", 12, 123);
	write_file(t, "34/cgroup", cgroup, sizeof(cgroup) - 1);
	make_link(t, "34/exe", "/usr/bin/e\nvil (deleted)");
	make_descriptor(t, "34/fd", 0, "/dev/null");
	make_descriptor(t, "34/fd", 1, "socket:[77]x");
	make_descriptor(t, "34/fd", 2, "socket:[78]");
	make_descriptor(t, "34/fd", 3, "socket:[77]");
	make_descriptor(t, "34/fd", 4, "socket:[77]");
	make_directory(t, "self");
	make_directory(t, "034");

	assert_int_equal(find(t, &w, 1).processes_read, 2);
	assert_int_equal(w.holder_count, 1);
	p = w.holders[0];
	assert_int_equal(p->pid, 34);
	assert_string_equal(p->comm, "evil) R 1\\x0a\\x1b[31m\\xff");
	/* no such file here: that its name ends so is no reason to cut it */
	assert_string_equal(p->exe, "/usr/bin/e\\x0avil (deleted)");
	assert_int_equal(p->exe_note, EXE_NOTE_NONE);
	assert_int_equal(p->uid, 1001);
	assert_string_equal(p->cgroup, "/system.slice/a\\\\x2db.service");
	assert_string_equal(p->unit, "a\\\\x2db.service");
	assert_int_equal(p->parent_pid, 12);
	assert_string_equal(p->parent_comm, "sh");
	assert_true(p->start_boot == 123 * USEC_PER_SEC / (usec_t)sysconf(_SC_CLK_TCK));
	assert_true(p->pidfd_inode == 0);
	done(&w);
}

/* What is missing is not known; whose stat cannot be read is credited with nothing. */
static void test_half_gone(void **state)
{
	const struct tree *t = *state;
	static const struct {
		int32_t pid;
		const char *stat;
	} broken[] = {
		{21, ""}, {22, "22 (x"}, {23, "23 (x) S 1 2 3\n"}, {24, "24 x S 1"}, {25, NULL}};
	struct procfs_wanted w[] = {{.inode = 5}, {.inode = 6}};
	char name[64];

	for (size_t i = 0; i < ELEMENTSOF(broken); i++) {
		make_process(t, broken[i].pid, "x", 1, 1);
		(void)snprintf(name, sizeof(name), "%d/fd", broken[i].pid);
		make_descriptor(t, name, 3, "socket:[5]");
		(void)snprintf(name, sizeof(name), "%d/stat", broken[i].pid);
		if (broken[i].stat)
			write_file(t, name, broken[i].stat, strlen(broken[i].stat));
		else
			assert_int_equal(unlinkat(t->fd, name, 0), 0);
	}
	make_process(t, 30, "bare", 99, 1);
	assert_int_equal(unlinkat(t->fd, "30/status", 0), 0);
	make_descriptor(t, "30/fd", 3, "socket:[6]");
	make_directory(t, "31");

	assert_int_equal(find(t, w, 2).denied, 0);
	assert_int_equal(w[0].holder_count, 0);
	assert_true(w[0].settled);
	assert_int_equal(w[1].holder_count, 1);
	assert_int_equal(w[1].holders[0]->uid, UID_UNSET);
	assert_int_equal(w[1].holders[0]->parent_pid, 99);
	assert_null(w[1].holders[0]->parent_comm);
	assert_null(w[1].holders[0]->exe);
	assert_null(w[1].holders[0]->cgroup);
	assert_null(w[1].holders[0]->unit);
	done(&w[1]);
}

/* Who has a parent's number but is younger than the child is somebody else. */
static void test_parent_reused(void **state)
{
	const struct tree *t = *state;
	struct procfs_wanted w = {.inode = 5};

	make_process(t, 10, "impostor", 1, 200);
	make_process(t, 11, "child", 10, 100);
	make_descriptor(t, "11/fd", 0, "socket:[5]");
	find(t, &w, 1);
	assert_int_equal(w.holder_count, 1);
	assert_int_equal(w.holders[0]->parent_pid, 10);
	assert_null(w.holders[0]->parent_comm);
	done(&w);
}

static void test_threads(void **state)
{
	const struct tree *t = *state;
	struct procfs_wanted w[] = {{.inode = 5}, {.inode = 6}};

	make_process(t, 10, "threads", 1, 1);
	make_directory(t, "10/task");
	make_directory(t, "10/task/10");
	make_directory(t, "10/task/10/fd");
	make_directory(t, "10/task/12");
	make_directory(t, "10/task/12/fd");
	make_directory(t, "10/task/13");
	make_descriptor(t, "10/fd", 0, "socket:[5]");
	make_descriptor(t, "10/task/12/fd", 0, "socket:[6]");
	find(t, w, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(w[i].holder_count, 1);
		assert_int_equal(w[i].holders[0]->pid, 10);
	}
	assert_ptr_equal(w[0].holders[0], w[1].holders[0]);
	done(&w[0]);
	done(&w[1]);
}

/* The opener is the eldest; in one tick, a parent; what is past the limit is counted, the eldest never dropped. */
static void test_order(void **state)
{
	const struct tree *t = *state;
	struct procfs_wanted w[] = {{.inode = 9}, {.inode = 6}, {.inode = 5}, {.inode = 6}};
	char name[64];

	for (unsigned i = 0; i < LIMIT_HOLDERS + 4; i++) {
		make_process(t, (int32_t)(100 + i), "worker", 1, 1000 - i);
		(void)snprintf(name, sizeof(name), "%u/fd", 100 + i);
		make_descriptor(t, name, 0, "socket:[5]");
		make_descriptor(t, name, 1, "socket:[5]");
	}
	/* 50 and 51 are children of 60 and 50 in the same tick: the numbers went round */
	make_process(t, 60, "eldest", 1, 7);
	make_process(t, 50, "child", 60, 7);
	make_process(t, 40, "grandchild", 50, 7);
	for (int32_t pid = 40; pid <= 60; pid += 10) {
		(void)snprintf(name, sizeof(name), "%d/fd", pid);
		make_descriptor(t, name, 0, "socket:[6]");
	}
	find(t, w, 4);
	assert_true(w[0].inode == 5 && w[1].inode == 6 && w[2].inode == 6 && w[3].inode == 9);
	assert_int_equal(w[0].holder_count, LIMIT_HOLDERS + 1);
	assert_int_equal(w[0].holders_dropped, 3);
	for (uint32_t i = 0; i < w[0].holder_count; i++)
		assert_int_equal(w[0].holders[i]->pid, 100 + LIMIT_HOLDERS + 3 - i);
	for (size_t i = 1; i <= 2; i++) {
		assert_int_equal(w[i].holder_count, 3);
		assert_int_equal(w[i].holders[0]->pid, 60);
	}
	assert_int_equal(w[3].holder_count, 0);
	for (size_t i = 0; i < 4; i++)
		done(&w[i]);
}

/* The same process is the same struct, until its name or executable changes: then it is a new one. */
static void test_cache(void **state)
{
	const struct tree *t = *state;
	struct procfs_wanted a = {.inode = 5}, b = {.inode = 5}, c = {.inode = 5}, d = {.inode = 5};

	make_process(t, 10, "before", 1, 1);
	make_descriptor(t, "10/fd", 0, "socket:[5]");
	find(t, &a, 1);
	find(t, &b, 1);
	assert_ptr_equal(a.holders[0], b.holders[0]);
	write_stat(t, 10, "after", 1, 1);
	find(t, &c, 1);
	assert_ptr_not_equal(a.holders[0], c.holders[0]);
	assert_string_equal(a.holders[0]->comm, "before");
	assert_string_equal(c.holders[0]->comm, "after");
	make_link(t, "10/exe", "/x");
	find(t, &d, 1);
	assert_null(c.holders[0]->exe);
	assert_string_equal(d.holders[0]->exe, "/x");
	done(&a);
	done(&b);
	done(&c);
	done(&d);
}

/* With no budget at all each call looks at one process. Nothing that was found on the way is lost, nothing is settled
 * before all ten were looked at since it was first asked for, and no process waits for more than a round. */
static void test_budget(void **state)
{
	const struct tree *t = *state;
	/* an inode that is asked for in these calls, and settled by the last */
	static const struct {
		uint64_t inode;
		unsigned first, last;
	} cases[] = {{5, 1, 10}, {8, 2, 11}, {7, 11, 20}, {9, 12, 21}};
	char name[64];

	for (int32_t pid = 10; pid < 20; pid++) {
		make_process(t, pid, "x", 1, (unsigned)(100 - pid));
		(void)snprintf(name, sizeof(name), "%d/fd", pid);
		make_descriptor(t, name, 0, pid == 10 || pid == 19 ? "socket:[5]" : "socket:[4]");
	}
	for (unsigned call = 1; call <= 21; call++) {
		struct procfs_wanted w[ELEMENTSOF(cases)];
		struct procfs_result result = {0};
		size_t count = 0;

		for (size_t i = 0; i < ELEMENTSOF(cases); i++)
			if (call >= cases[i].first && call <= cases[i].last)
				w[count++] = (struct procfs_wanted){.inode = cases[i].inode};
		assert_int_equal(procfs_find(t->procfs, w, count, 0, &result), 0);
		assert_int_equal(result.processes_read, 1);
		for (size_t i = 0; i < count; i++) {
			size_t k = 0;

			while (cases[k].inode != w[i].inode)
				k++;
			assert_int_equal(w[i].settled, call == cases[k].last);
			if (call == 10 && w[i].inode == 5) {
				assert_int_equal(w[i].holder_count, 2);
				assert_int_equal(w[i].holders[0]->pid, 19);
				assert_int_equal(w[i].holders[1]->pid, 10);
			}
			done(&w[i]);
		}
	}
}

static void test_unreadable(void **state)
{
	_cleanup_(close_p) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	_cleanup_(procfs_free_p) struct procfs *p = procfs_new(fd, false);
	struct procfs_result result = {.denied = 42};
	struct procfs_wanted w = {.inode = 5};

	(void)state;
	assert_non_null(p);
	assert_int_equal(procfs_find(p, &w, 1, BUDGET, &result), -EIO);
	assert_int_equal(result.denied, 42);
	assert_int_equal(w.holder_count, 0);
}

static void test_nobody(void **state)
{
	const struct tree *t = *state;
	struct process *a, *b, *kernel;

	assert_int_equal(procfs_nobody(t->procfs, 1000, 0, false, &a), 0);
	assert_int_equal(procfs_nobody(t->procfs, 1000, 0, false, &b), 0);
	assert_int_equal(procfs_nobody(t->procfs, UID_UNSET, 7, true, &kernel), 0);
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, kernel);
	assert_int_equal(a->pid, 0);
	assert_int_equal(a->uid, 1000);
	assert_true(a->start_boot == USEC_UNSET);
	assert_null(a->cgroup);
	assert_int_equal(kernel->uid, UID_UNSET);
	process_unref(a);
	process_unref(b);
	process_unref(kernel);
}

/* Every allocation fails once, in making, finding and asking for nobody. */
static void test_no_memory(void **state)
{
	const struct tree *t = *state;
	static const char cgroup[] = "0::/x.service\n";
	unsigned n = 0;
	int r;

	make_process(t, 10, "parent", 1, 1);
	make_process(t, 11, "child", 10, 2);
	write_file(t, "11/cgroup", cgroup, sizeof(cgroup) - 1);
	make_link(t, "11/exe", "/x");
	make_descriptor(t, "10/fd", 0, "socket:[5]");
	make_descriptor(t, "11/fd", 0, "socket:[5]");
	do {
		_cleanup_(procfs_free_p) struct procfs *p = NULL;
		_cleanup_(process_unref_p) struct process *nobody = NULL;
		struct procfs_wanted w = {.inode = 5};
		struct procfs_result result = {0};

		failing_in = n++;
		p = procfs_new(t->fd, false);
		r = p ? procfs_find(p, &w, 1, 0, &result) : -ENOMEM;
		done(&w);
		if (r == 0)
			r = procfs_find(p, &w, 1, BUDGET, &result);
		if (r == 0)
			r = procfs_nobody(p, 1, 2, false, &nobody);
		if (r == 0 && failing_in != UINT_MAX) {
			assert_int_equal(w.holder_count, 2);
			assert_string_equal(w.holders[1]->unit, "x.service");
		}
		assert_int_equal(r, failing_in == UINT_MAX ? -ENOMEM : 0);
		done(&w);
	} while (failing_in == UINT_MAX && n < 1000);
	failing_in = UINT_MAX;
	assert_int_equal(r, 0);
	assert_true(failing_hits >= 40);
}

#define IN_TREE(function) cmocka_unit_test_setup_teardown(function, tree_setup, tree_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_TREE(test_fields),
		IN_TREE(test_half_gone),
		IN_TREE(test_parent_reused),
		IN_TREE(test_threads),
		IN_TREE(test_order),
		IN_TREE(test_cache),
		IN_TREE(test_budget),
		cmocka_unit_test(test_unreadable),
		IN_TREE(test_nobody),
		IN_TREE(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
