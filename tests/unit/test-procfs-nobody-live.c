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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sees_others),
		cmocka_unit_test(test_nobody_by_cgroup),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
