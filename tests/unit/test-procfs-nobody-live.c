/* SPDX-License-Identifier: MIT */

/* Where no holder is to be found: whether others can be seen at all, and whom a real cgroup names. */

#include "tests/unit/procfs-actors.h"

#include <linux/capability.h>
#include <sys/vfs.h>

/* Tells what it sees with all its capabilities, and without them. */
static void give_up_capabilities(int fd)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}, {0}};

	tell(fd, procfs_sees_others());
	demand(syscall(SYS_capset, &header, data) == 0);
	tell(fd, procfs_sees_others());
}

static void test_sees_others(void **state)
{
	struct actor a;

	(void)state;
	assert_int_equal(procfs_sees_others(), geteuid() == 0);
	start(&a, give_up_capabilities);
	assert_int_equal(hear_from(&a), geteuid() == 0);
	assert_int_equal(hear_from(&a), 0);
	stop(&a);
}

/* The id of a cgroup is the handle of its directory. 0: not one of cgroup2. */
static uint64_t cgroup_id(const char *path)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} id = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
	uint64_t value;
	int mount;

	if (name_to_handle_at(AT_FDCWD, path, &id.handle, &mount, 0) < 0 ||
		id.handle.handle_bytes != sizeof(value))
		return 0;
	memcpy(&value, id.handle.f_handle, sizeof(value));
	return value;
}

/* A cgroup of our own in the first place that takes one. False: none does. */
static bool make_cgroup(char *path, size_t size)
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

	for (size_t i = 0; i < ELEMENTSOF(mounts); i++) {
		struct statfs filesystem;

		(void)snprintf(path, size, "%s/test-procfs-%d.service", mounts[i], getpid());
		if (statfs(mounts[i], &filesystem) == 0 && filesystem.f_type == 0x63677270 &&
			mkdir(path, 0755) == 0)
			return true;
	}
	return false;
}

static void test_nobody_by_cgroup(void **state)
{
	struct process *before, *after, *gone;
	char path[128];
	uint64_t id;

	(void)state;
	if (!make_cgroup(path, sizeof(path))) {
		print_message("cannot run here: a cgroup of its own takes root and cgroup2\n");
		skip();
	}
	id = cgroup_id(path);
	assert_int_equal(procfs_nobody(shared, 1000, id, false, &before), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(procfs_nobody(shared, 1001, id, false, &after), 0);
	assert_int_equal(procfs_nobody(shared, 1000, UINT64_C(1) << 62, false, &gone), 0);
	assert_string_equal(before->unit, strrchr(path, '/') + 1);
	assert_string_equal(before->cgroup, strrchr(path, '/'));
	assert_int_equal(before->uid, 1000);
	assert_int_equal(after->uid, 1001);
	assert_string_equal(after->unit, before->unit);
	assert_null(gone->cgroup);
	assert_int_equal(gone->uid, 1000);
	process_unref(before);
	process_unref(after);
	process_unref(gone);
}

static struct {
	char path[128];
	uint64_t id;
} made;

static bool has_unit(struct procfs *p, uint64_t id, const char *unit)
{
	struct process *process = process_new();
	bool has;

	demand(process && procfs_set_cgroup(p, id, process) == 0);
	has = streq_null(process->unit, unit);
	process_unref(process);
	return has;
}

/* Learns the cgroup without a capability, and knows it when it is gone. */
static void look_without_capabilities(int fd)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}, {0}};
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY);
	struct procfs *p = procfs_new(proc_fd, true);
	const char *unit = strrchr(made.path, '/') + 1;
	uint64_t gone;

	demand(p && syscall(SYS_capset, &header, data) == 0);
	tell(fd, has_unit(p, made.id, unit));
	demand(hear(fd, &gone));
	tell(fd, has_unit(p, made.id, unit));
	tell(fd, has_unit(p, UINT64_C(1) << 62, NULL));
	tell(fd, has_unit(p, 0, NULL));
	procfs_free(p);
	(void)close(proc_fd);
}

static void test_cgroup_without_capabilities(void **state)
{
	struct actor a;

	(void)state;
	if (!make_cgroup(made.path, sizeof(made.path))) {
		print_message("cannot run here: a cgroup of its own takes root and cgroup2\n");
		skip();
	}
	made.id = cgroup_id(made.path);
	start(&a, look_without_capabilities);
	assert_int_equal(hear_from(&a), 1);
	assert_int_equal(rmdir(made.path), 0);
	tell(a.fd, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hear_from(&a), 1);
	stop(&a);
}

/* A process of which its number and exact start are known: that one, or nobody. */
static void test_process(void **state)
{
	struct process *self, *again;
	usec_t tick = USEC_PER_SEC / (usec_t)sysconf(_SC_CLK_TCK);
	usec_t started;

	(void)state;
	assert_int_equal(
		procfs_process(shared, getpid(), clock_boot() + USEC_PER_DAY, &self), -ESRCH);
	assert_int_equal(procfs_process(shared, getpid(), 1, &self), -ESRCH);
	/* within the tick that /proc shows */
	for (started = clock_boot(); procfs_process(shared, getpid(), started, &self) < 0;
		started -= tick)
		assert_true(started > tick);
	assert_int_equal(self->pid, getpid());
	assert_int_equal(self->start_boot, started);
	assert_int_equal(self->parent_pid, getppid());
	assert_string_equal(self->comm, "test-procfs-nob");
	assert_int_equal(procfs_process(shared, getpid(), started - tick, &again), -ESRCH);
	process_unref(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sees_others),
		cmocka_unit_test(test_nobody_by_cgroup),
		cmocka_unit_test(test_cgroup_without_capabilities),
		cmocka_unit_test(test_process),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
