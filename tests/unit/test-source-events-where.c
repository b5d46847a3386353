/* SPDX-License-Identifier: MIT */

/* In which cgroup a claim was made, also when that is gone before anybody asks. */

#include "tests/unit/events-script.h"

#include <limits.h>

/* A view of cgroup2 of our own; what is made there is ours, and is removed. */
#define TREE  "/tmp/portledger-cgroups"
#define SLICE "portledger-test.slice"

static int mount_tree(void **state)
{
	if (enter_namespace(state) < 0)
		return -1;
	(void)mkdir(TREE, 0755);
	if (mount("none", TREE, "cgroup2", 0, NULL) == 0)
		return mkdir(TREE "/" SLICE, 0755);
	print_message("cannot run here: cgroup2 cannot be mounted\n");
	return -1;
}

static int remove_tree(void **state _unused_)
{
	if (rmdir(TREE "/" SLICE) < 0 || umount2(TREE, MNT_DETACH) < 0)
		return -1;
	return rmdir(TREE);
}

/* This process, into a cgroup by its path below the tree. */
static void enter_cgroup(const char *path)
{
	char name[PATH_MAX];
	int fd;

	(void)snprintf(name, sizeof(name), TREE "/%s/cgroup.procs", path);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	demand(fd >= 0 && write(fd, "0", 1) == 1);
	(void)close(fd);
}

static void change_directory(const char *path, bool make)
{
	char name[PATH_MAX];

	(void)snprintf(name, sizeof(name), TREE "/%s", path);
	if (make)
		demand(mkdir(name, 0755) == 0);
	else
		demand(rmdir(name) == 0);
}

static void claim(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	demand(bind_to(fd, AF_INET, 0) == 0);
	(void)close(fd);
}

/* A cgroup that lives as long as a process which makes one claim. */
static void live_briefly(const char *path)
{
	pid_t pid;

	change_directory(path, true);
	pid = fork();
	if (pid == 0) {
		enter_cgroup(path);
		claim();
		_exit(0);
	}
	wait_for(pid, 0);
	change_directory(path, false);
}

/* Of the claim that was told last. */
static int last_cgroup(struct source_events *s, char path[static EVENTS_CGROUP_BYTES])
{
	_cleanup_(process_unref_p) struct process *p = NULL;
	struct process_place place = {0};
	uint64_t process = 0;
	struct told t = {0};

	hear(s, &t);
	for (size_t i = 0; i < t.count; i++)
		if (t.events[i].kind == EVENT_CLAIM)
			process = t.events[i].process;
	told_done(&t);
	assert_int_equal(source_events_process(s, process, &p, &place), 0);
	return source_events_cgroup(s, place.cgroup_id, path);
}

static void assert_last_cgroup(struct source_events *s, const char *expected)
{
	char path[EVENTS_CGROUP_BYTES];

	assert_int_equal(last_cgroup(s, path), 0);
	assert_string_equal(path, expected);
}

static void test_gone_before_anybody_asks(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	char path[EVENTS_CGROUP_BYTES];
	pid_t pid;

	live_briefly(SLICE "/brief@1.service");
	assert_last_cgroup(s, "/" SLICE "/brief@1.service");
	/* another one of this name is another one */
	live_briefly(SLICE "/brief@1.service");
	assert_last_cgroup(s, "/" SLICE "/brief@1.service");
	live_briefly(SLICE "/a name\x01");
	assert_last_cgroup(s, "/" SLICE "/a name\x01");
	/* the root itself */
	pid = fork();
	if (pid == 0) {
		enter_cgroup(".");
		claim();
		_exit(0);
	}
	wait_for(pid, 0);
	assert_last_cgroup(s, "/");
	/* one in which nobody has claimed */
	assert_int_equal(source_events_cgroup(s, UINT64_MAX, path), -ENOENT);
	source_events_free(s);
}

/* A process that moves is told of with the cgroup that it is in. */
static void test_who_moves(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	char path[EVENTS_CGROUP_BYTES];
	struct told t = {0};
	size_t n = 0;
	pid_t pid;

	change_directory(SLICE "/1.scope", true);
	change_directory(SLICE "/2.scope", true);
	pid = fork();
	if (pid == 0) {
		enter_cgroup(SLICE "/1.scope");
		claim();
		enter_cgroup(SLICE "/2.scope");
		claim();
		_exit(0);
	}
	wait_for(pid, 0);
	change_directory(SLICE "/1.scope", false);
	change_directory(SLICE "/2.scope", false);
	hear(s, &t);
	for (size_t i = 0; i < t.count; i++) {
		_cleanup_(process_unref_p) struct process *p = NULL;
		struct process_place place;

		if (t.events[i].kind != EVENT_CLAIM)
			continue;
		assert_int_equal(source_events_process(s, t.events[i].process, &p, &place), 0);
		assert_int_equal(source_events_cgroup(s, place.cgroup_id, path), 0);
		assert_string_equal(path, n++ == 0 ? "/" SLICE "/1.scope" : "/" SLICE "/2.scope");
	}
	assert_int_equal(n, 2);
	told_done(&t);
	source_events_free(s);
}

/* A path of so many bytes in parts of at most 200, made below the slice, claimed in, and removed again. */
static void live_deeply(char *path, size_t size)
{
	size_t parts[8], count = 0, used = strlen(SLICE);

	(void)snprintf(path, size + 1, SLICE);
	while (used < size) {
		size_t length = MIN(size - used - 1, 199u);

		/* a name has one byte at least */
		if (size - used - 1 - length == 1)
			length--;
		parts[count++] = used;
		path[used] = '/';
		memset(path + used + 1, 'd', length);
		used += 1 + length;
		path[used] = '\0';
		if (used < size)
			change_directory(path, true);
	}
	live_briefly(path);
	for (size_t i = count; i-- > 1;) {
		char name[PATH_MAX];

		(void)snprintf(name, sizeof(name), "%.*s", (int)parts[i], path);
		change_directory(name, false);
	}
}

/* One that is too long is not told, rather than cut. */
static void test_long_paths(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	char path[600], expected[601], told[EVENTS_CGROUP_BYTES];

	for (size_t size = 495; size <= 505; size++) {
		/* with the '/' in front that all have */
		live_deeply(path, size - 1);
		(void)snprintf(expected, sizeof(expected), "/%s", path);
		if (size <= 500)
			assert_last_cgroup(s, expected);
		else
			assert_int_equal(last_cgroup(s, told), -ENOENT);
	}
	live_deeply(path, 599);
	assert_int_equal(last_cgroup(s, told), -ENOENT);
	source_events_free(s);
}

/* Who begins where another one ended knows what that one was told, and where. */
static void test_adopted(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct events_fd fds[FDS];
	char names[FDS][96];

	o.passed_count = keep_fds(s, fds, names);
	o.passed = fds;
	source_events_free(s);
	live_briefly(SLICE "/brief.service");
	s = open_with(&o);
	assert_true(source_events_facts(s).adopted);
	assert_last_cgroup(s, "/" SLICE "/brief.service");
	source_events_free(s);
}

/* In a container, whose root is another: what it sees is told as it sees it. */
static void in_container(void)
{
	struct events_obstacle obstacle;
	struct source_events_options o;
	struct source_events *s;
	char path[EVENTS_CGROUP_BYTES];
	struct process_place place = {0};
	uint64_t process = 0;
	struct process *p = NULL;
	struct told t = {0};

	enter_cgroup(SLICE "/box");
	demand(unshare(CLONE_NEWCGROUP | CLONE_NEWNS) == 0);
	demand(umount2(TREE, MNT_DETACH) == 0 && mount("none", TREE, "cgroup2", 0, NULL) == 0);
	o = options_here();
	demand(source_events_open(&o, &s, &obstacle) == 0);
	demand(!source_events_facts(s).whole);
	live_briefly("inner.service");
	demand(source_events_read(s, keep_event, &t) == 0);
	for (size_t i = 0; i < t.count; i++)
		if (t.events[i].kind == EVENT_CLAIM)
			process = t.events[i].process;
	demand(source_events_process(s, process, &p, &place) == 0);
	demand(source_events_cgroup(s, place.cgroup_id, path) == 0 &&
		streq(path, "/inner.service"));
	process_unref(p);
	told_done(&t);
	source_events_free(s);
	_exit(0);
}

static void test_in_a_container(void **state _unused_)
{
	pid_t pid;

	change_directory(SLICE "/box", true);
	pid = fork();
	if (pid == 0)
		in_container();
	wait_for(pid, 0);
	change_directory(SLICE "/box", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gone_before_anybody_asks),
		cmocka_unit_test(test_who_moves),
		cmocka_unit_test(test_long_paths),
		cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_in_a_container),
	};

	return cmocka_run_group_tests(tests, mount_tree, remove_tree);
}
