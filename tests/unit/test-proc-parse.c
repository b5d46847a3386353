/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "daemon/capture/proc_parse.h"
#include "daemon/capture/unit.h"
#include "tests/support/failing.h"

/* A string literal that may hold NUL bytes. */
#define BYTES(literal) (literal), sizeof(literal) - 1

/* What follows the parent's number, up to the start time (field 22). */
#define FIELDS " 7 7 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 "

static void test_stat(void **state)
{
	static const struct {
		const char *text;
		size_t size;
		int r;
		const char *comm;
		size_t comm_size;
		char letter;
		int32_t parent;
		uint64_t start;
	} cases[] = {
		{BYTES("12 (cat) R 7" FIELDS "269799 3133440 408\n"), 0, BYTES("cat"), 'R', 7,
			269799},
		{BYTES("12 () S 0" FIELDS "1 2"), 0, BYTES(""), 'S', 0, 1},
		{BYTES("12 (x) R 1) Z 7" FIELDS "5 2"), 0, BYTES("x) R 1"), 'Z', 7, 5},
		{BYTES("12 (a\nb\x1b(c) S 7" FIELDS "5 2"), 0, BYTES("a\nb\x1b(c"), 'S', 7, 5},
		{BYTES("12 ()) S 7" FIELDS "5 2"), 0, BYTES(")"), 'S', 7, 5},
		{BYTES("12 (c) S 7" FIELDS "18446744073709551615 2"), 0, BYTES("c"), 'S', 7,
			UINT64_MAX},
		{BYTES("12 (c) S 7" FIELDS "18446744073709551616 2"), -EBADMSG},
		{BYTES("12 (c) S 2147483648" FIELDS "5 2"), -EBADMSG},
		{BYTES("12 (c) S -1" FIELDS "5 2"), -EBADMSG},
		{BYTES("12 (c) S 7 7 7 0 -1 4294967296 9 0 0 0 0 0 0 0 20 0 1 0 5 2"), -EBADMSG},
		{BYTES("12 (c) SS 7" FIELDS "5 2"), -EBADMSG},
		{BYTES("12 (c) S 7" FIELDS "x5 2"), -EBADMSG},
		{BYTES("12 (c) S 7" FIELDS), -EBADMSG},
		{BYTES("12 (c) S 7 8 9"), -EBADMSG},
		{BYTES("12 (c"), -EBADMSG},
		{BYTES("12 )c( S 7" FIELDS "5 2"), -EBADMSG},
		{BYTES("12 (c)"), -EBADMSG},
		{BYTES(""), -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct proc_stat stat = {.state = '?'};

		assert_int_equal(proc_parse_stat(cases[i].text, cases[i].size, &stat), cases[i].r);
		if (cases[i].r < 0) {
			assert_int_equal(stat.state, '?');
			continue;
		}
		assert_int_equal(stat.comm_size, cases[i].comm_size);
		assert_memory_equal(stat.comm, cases[i].comm, cases[i].comm_size);
		assert_int_equal(stat.state, cases[i].letter);
		assert_int_equal(stat.parent_pid, cases[i].parent);
		assert_int_equal(stat.flags, 4194304);
		assert_true(stat.start_ticks == cases[i].start);
	}
}

static void test_status(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint32_t uid;
		uint64_t capabilities;
	} cases[] = {
		{"Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\nCapEff:\t000001fffeffffff\n", 0, 2,
			UINT64_C(0x1fffeffffff)},
		{"Uid:\t0\t4294967294\t0\t0", 0, 4294967294, 0},
		{"Uid: 1 2 3 4\nCapEff: 3\n", 0, 2, 3},
		{"Uid:", -EBADMSG},
		{"Uid:\t1\t2\nCapEff:", -EBADMSG},
		/* the kernel writes a newline in a name as \n: this one is no line */
		{"Name:\tx\\nUid:\t0\t0\t0\t0\nUid:\t7\t7\t7\t7\n", 0, 7, 0},
		{"Uid:\t1\t4294967296\t3\t4\n", -EBADMSG},
		{"Uid:\t1\n", -EBADMSG},
		{"Uid:\t1\t2\nCapEff:\tzz\n", -EBADMSG},
		{"Gid:\t1\t2\n", -EBADMSG},
		{"", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct proc_status status = {0};

		assert_int_equal(proc_parse_status(cases[i].text, strlen(cases[i].text), &status),
			cases[i].r);
		assert_int_equal(status.effective_uid, cases[i].uid);
		assert_true(status.effective_capabilities == cases[i].capabilities);
	}
}

static void test_cgroup(void **state)
{
	static const struct {
		const char *text, *path;
	} cases[] = {
		{"0::/system.slice/ssh.service\n", "/system.slice/ssh.service"},
		{"0::/\n", "/"},
		{"9:name=systemd:/a.slice\n4:memory:/m\n0::/\n", "/a.slice"},
		{"9:name=systemd:/a.slice\n0::/b.slice\n", "/b.slice"},
		{"9:name=systemd:/a:b\n", "/a:b"},
		{"\n9:\n9\n0::/x\n", "/x"},
		{"9:name=systemdx:/a\n8:xname=systemd:/b\n", NULL},
		{"0::/x.service (deleted)\n", "/x.service"},
		{"4:memory:/m\n", NULL},
		{"0::relative\n", NULL},
		{"0::", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		const char *path = NULL;
		size_t size = 0;
		int r = proc_parse_cgroup(cases[i].text, strlen(cases[i].text), &path, &size);

		assert_int_equal(r, cases[i].path ? 0 : -ENODATA);
		if (!cases[i].path)
			continue;
		assert_int_equal(size, strlen(cases[i].path));
		assert_memory_equal(path, cases[i].path, size);
	}
}

static void test_socket(void **state)
{
	static const struct {
		const char *text;
		uint64_t inode;
	} good[] = {
		{"socket:[1]", 1},
		{"socket:[4294967296]", UINT64_C(4294967296)},
		{"socket:[18446744073709551615]", UINT64_MAX},
	};
	static const char *const bad[] = {"", "socket:[", "socket:[]", "socket:[1", "socket:[1]x",
		"socket:[-1]", "socket:[ 1]", "Socket:[1]", "pipe:[1]",
		"socket:[18446744073709551616]", "socket:[999999999999999999999]",
		"/tmp/socket:[1]", "socket:[1] (deleted)"};
	uint64_t inode = 42;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(good); i++) {
		assert_true(proc_parse_socket(good[i].text, strlen(good[i].text), &inode));
		assert_true(inode == good[i].inode);
	}
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_false(proc_parse_socket(bad[i], strlen(bad[i]), &inode));
}

static void test_pid(void **state)
{
	static const char *const bad[] = {"", "0", "01", "-1", "self", "12x", " 1", "2147483648"};
	int32_t pid = 0;

	(void)state;
	assert_true(proc_parse_pid("1", &pid));
	assert_int_equal(pid, 1);
	assert_true(proc_parse_pid("2147483647", &pid));
	assert_int_equal(pid, INT32_MAX);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_false(proc_parse_pid(bad[i], &pid));
}

static void test_mount(void **state)
{
	static const struct {
		const char *text, *path;
	} cases[] = {
		{"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup"},
		{"22 1 8:1 / / rw - ext4 /dev/sda rw\n9 22 0:3 / /a\\040b\\134 rw - cgroup2 none rw\n",
			"/a b\\"},
		{"9 22 0:3 / /a\\04 rw shared:1 master:2 - cgroup2 none rw", "/a\\04"},
		/* what is no escape is as it stands */
		{"9 22 0:3 / /a\\x\\049\\000\\777\\ rw - cgroup2 none rw",
			"/a\\x\\049\\000\\777\\"},
		/* a part of the hierarchy has other ids below it; "-" may be a name too */
		{"9 22 0:3 /part /x rw - cgroup2 none rw\n9 22 0:3 / - rw - cgroup2 none rw\n",
			"-"},
		{"9 22 0:3 / /x rw - cgroup none rw\n", NULL},
		{"9 22 0:3 / /cgroup2 rw - tmpfs cgroup2 rw\n", NULL},
		{"9 22 0:3 / /x rw\n", NULL},
		{"9 22 0:3 /  rw - cgroup2 none rw\n", NULL},
		{"9 22 0:3 /\n", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *path = NULL;

		assert_int_equal(
			proc_parse_cgroup2_mount(cases[i].text, strlen(cases[i].text), &path),
			cases[i].path ? 0 : -ENODATA);
		assert_true(streq_null(path, cases[i].path));
	}
}

static void test_mount_without_memory(void **state)
{
	static const char text[] = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
	char *path = NULL;

	(void)state;
	failing_in = 0;
	assert_int_equal(proc_parse_cgroup2_mount(text, strlen(text), &path), -ENOMEM);
	assert_int_equal(failing_in, UINT_MAX);
	assert_null(path);
}

static void test_ticks(void **state)
{
	(void)state;
	assert_true(proc_ticks_to_usec(0, 100) == 0);
	assert_true(proc_ticks_to_usec(269799, 100) == UINT64_C(2697990000));
	assert_true(proc_ticks_to_usec(1025, 1024) == USEC_PER_SEC + 976);
	assert_true(proc_ticks_to_usec(UINT64_MAX, 1) == USEC_UNSET);
	assert_true(proc_ticks_to_usec(UINT64_MAX, 100000000) < USEC_UNSET);
}

static void test_unit(void **state)
{
	static const struct {
		const char *cgroup, *unit;
	} cases[] = {
		{"/system.slice/ssh.service", "ssh.service"},
		{"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"},
		{"/system.slice/docker.service/init.scope", "docker.service"},
		{"/system.slice/a\\x2db.service", "a\\x2db.service"},
		{"/system.slice/_cpu.service/x", "cpu.service"},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope"},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
			"app-x.scope"},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.socket",
			"dbus.socket"},
		{"/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope"},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice", "user@1000.service"},
		{"/user.slice/user-1000.slice/user@1000.service/x/y.scope", "user@1000.service"},
		{"/init.scope", "init.scope"},
		{"/machine.slice/m.scope/payload/system.slice/nginx.service", "m.scope"},
		{"/user.slice", "user.slice"},
		{"/", NULL},
		{"", NULL},
		{"/docker/0123/x.service", NULL},
		{"/../x.service", NULL},
		{"/.service", NULL},
		{"/a b.service", NULL},
		{"/x.servicex", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *unit = NULL;

		assert_int_equal(unit_of_cgroup(cases[i].cgroup, &unit), 0);
		if (!streq_null(unit, cases[i].unit))
			fail_msg("%s: %s", cases[i].cgroup, unit ? unit : "(none)");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_cgroup),
		cmocka_unit_test(test_socket),
		cmocka_unit_test(test_pid),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_mount_without_memory),
		cmocka_unit_test(test_ticks),
		cmocka_unit_test(test_unit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
