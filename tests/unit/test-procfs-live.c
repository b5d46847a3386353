/* SPDX-License-Identifier: MIT */

/* Real processes of our own, seen through the real /proc: who holds which socket, and who is credited. */

#include "tests/unit/procfs-actors.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define BUDGET (60 * USEC_PER_SEC) /* never used up */

static uint64_t inode_of(int fd)
{
	struct stat status;

	return fstat(fd, &status) < 0 ? 0 : status.st_ino;
}

static int open_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	demand(fd >= 0);
	return fd;
}

static struct procfs_result find(uint64_t inode, struct procfs_wanted *ret)
{
	struct procfs_result result = {0};

	*ret = (struct procfs_wanted){.inode = inode, .uid = geteuid()};
	assert_int_equal(procfs_find(shared, ret, 1, BUDGET, &result), 0);
	assert_true(result.complete && ret->settled);
	return result;
}

static void done(struct procfs_wanted *w)
{
	for (uint32_t i = 0; i < w->holder_count; i++)
		process_unref(w->holders[i]);
	w->holder_count = 0;
}

/* Finds the holders, who must be these, in this order. */
static void expect_holders(uint64_t inode, size_t count, const pid_t pids[])
{
	struct procfs_wanted w;

	find(inode, &w);
	assert_int_equal(w.holder_count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(w.holders[i]->pid, pids[i]);
	done(&w);
}

static void hold_socket(int fd)
{
	tell(fd, inode_of(open_socket()));
}

static void test_fields(void **state)
{
	char exe[4096] = {0}, comm[16];
	struct procfs_wanted w;
	struct actor a;
	struct process *p;

	(void)state;
	start(&a, hold_socket);
	find(hear_from(&a), &w);
	assert_int_equal(w.holder_count, 1);
	p = w.holders[0];
	assert_int_equal(p->pid, a.pid);
	assert_int_equal(prctl(PR_GET_NAME, comm), 0);
	assert_string_equal(p->comm, comm);
	assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	assert_string_equal(p->exe, exe);
	assert_int_equal(p->exe_note, EXE_NOTE_NONE);
	assert_int_equal(p->uid, geteuid());
	assert_int_equal(p->parent_pid, getpid());
	assert_string_equal(p->parent_comm, comm);
	assert_true(p->start_boot <= clock_now().boot);
	assert_true(clock_now().boot - p->start_boot < 60 * USEC_PER_SEC);
	assert_non_null(p->cgroup);
	done(&w);
	stop(&a);
}

static void hold_with_hostile_name(int fd)
{
	demand(prctl(PR_SET_NAME, ") R 1\n\x1b(\xff") == 0);
	hold_socket(fd);
}

static void test_hostile_name(void **state)
{
	struct procfs_wanted w;
	struct actor a;

	(void)state;
	start(&a, hold_with_hostile_name);
	find(hear_from(&a), &w);
	assert_int_equal(w.holder_count, 1);
	assert_string_equal(w.holders[0]->comm, ") R 1\\x0a\\x1b(\\xff");
	assert_int_equal(w.holders[0]->parent_pid, getpid());
	done(&w);
	stop(&a);
}

/* Tells the inode and the pid of its child, which holds the socket too. */
static void hold_with_child(int fd)
{
	int held = open_socket();
	pid_t child = fork();

	demand(child >= 0);
	if (child == 0)
		wait_for_end(fd);
	tell(fd, inode_of(held));
	tell(fd, (uint64_t)child);
	wait_for_end(fd);
}

static void test_inherited(void **state)
{
	struct actor a;
	uint64_t inode;

	(void)state;
	start(&a, hold_with_child);
	inode = hear_from(&a);
	expect_holders(inode, 2, (pid_t[]){a.pid, (pid_t)hear_from(&a)});
	stop(&a);
}

/* As above, but the child lives on as a daemon: another session, another parent. */
static void hold_with_daemon(int fd)
{
	int held = open_socket(), status;
	pid_t middle = fork();

	demand(middle >= 0);
	if (middle == 0) {
		pid_t last = setsid() < 0 ? -1 : fork();

		demand(last >= 0);
		if (last == 0)
			wait_for_end(fd);
		tell(fd, inode_of(held));
		tell(fd, (uint64_t)last);
		_exit(0);
	}
	demand(waitpid(middle, &status, 0) == middle && status == 0);
	tell(fd, 0);
	wait_for_end(fd);
}

/* Stopping at the first holder or at its relatives would name the daemon. */
static void test_daemonized(void **state)
{
	struct actor a;
	uint64_t inode, last;

	(void)state;
	start(&a, hold_with_daemon);
	inode = hear_from(&a);
	last = hear_from(&a);
	assert_int_equal(hear_from(&a), 0);
	expect_holders(inode, 2, (pid_t[]){a.pid, (pid_t)last});
	stop(&a);
}

static void *hold_in_own_table(void *context)
{
	int fd = *(int *)context;

	demand(unshare(CLONE_FILES) == 0);
	hold_socket(fd);
	wait_for_end(fd);
	return NULL;
}

static void start_thread_with_table(int fd)
{
	static int end;
	pthread_t thread;

	end = fd;
	demand(pthread_create(&thread, NULL, hold_in_own_table, &end) == 0);
	(void)pthread_join(thread, NULL);
}

static void test_thread_with_own_table(void **state)
{
	struct actor a;

	(void)state;
	start(&a, start_thread_with_table);
	expect_holders(hear_from(&a), 1, (pid_t[]){a.pid});
	stop(&a);
}

static void *hold_without_leader(void *context)
{
	char name[64], text[512];
	int fd = *(int *)context;

	/* the leader is on its way out: yields until it is a zombie */
	(void)snprintf(name, sizeof(name), "/proc/%d/stat", getpid());
	do {
		int stat = open(name, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(stat, text, sizeof(text) - 1);

		demand(n > 0 && close(stat) == 0 && sched_yield() == 0);
		text[n] = '\0';
	} while (!strstr(text, ") Z "));
	hold_socket(fd);
	wait_for_end(fd);
	return NULL;
}

static void leave_thread(int fd)
{
	static int end;
	pthread_t thread;

	end = fd;
	demand(pthread_create(&thread, NULL, hold_without_leader, &end) == 0);
	(void)syscall(SYS_exit, 0);
}

static void test_zombie_leader(void **state)
{
	struct procfs_wanted w;
	char exe[4096] = {0};
	struct actor a;

	(void)state;
	start(&a, leave_thread);
	find(hear_from(&a), &w);
	assert_int_equal(w.holder_count, 1);
	assert_int_equal(w.holders[0]->pid, a.pid);
	assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	assert_string_equal(w.holders[0]->exe, exe);
	assert_int_equal(w.holders[0]->uid, geteuid());
	done(&w);
	stop(&a);
}

/* One descriptor, and a byte to carry it. */
union passed {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

static void receive_socket(int fd)
{
	union passed control;
	char byte;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	tell(fd, 0); /* from here on nothing inherited is open */
	demand(recvmsg(fd, &message, 0) == 1 && message.msg_controllen > 0);
	tell(fd, 0);
}

static void pass_socket(int fd, int socket)
{
	union passed control = {0};
	struct iovec data = {(char[]){'x'}, 1};
	struct msghdr message = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), &socket, sizeof(socket));
	assert_int_equal(sendmsg(fd, &message, 0), 1);
}

/* The receiver slept before, and is no relative by the look of it. */
static void test_passed(void **state)
{
	_cleanup_(close_p) int held = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t inode = inode_of(held);
	struct actor a;

	(void)state;
	start(&a, receive_socket);
	assert_int_equal(hear_from(&a), 0);
	expect_holders(inode, 1, (pid_t[]){getpid()});
	pass_socket(a.fd, held);
	assert_int_equal(hear_from(&a), 0);
	expect_holders(inode, 2, (pid_t[]){getpid(), a.pid});
	/* asked again while it sleeps, it is remembered to hold it */
	expect_holders(inode, 2, (pid_t[]){getpid(), a.pid});
	(void)close(TAKE_FD(held));
	expect_holders(inode, 1, (pid_t[]){a.pid});
	stop(&a);
}

/* Opens a socket each time it is told to. */
static void open_when_told(int fd)
{
	uint64_t value;

	tell(fd, inode_of(open_socket()));
	while (hear(fd, &value))
		tell(fd, inode_of(open_socket()));
	_exit(0);
}

/* Who sleeps is not listed again, and yet is found with what it held, and when it opens more. */
static void test_unchanged(void **state)
{
	_cleanup_(close_p) int held = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct procfs_result result;
	struct procfs_wanted w;
	uint64_t first, second;
	struct actor a;

	(void)state;
	start(&a, open_when_told);
	first = hear_from(&a);
	expect_holders(first, 1, (pid_t[]){a.pid});
	result = find(inode_of(held), &w);
	assert_int_equal(w.holder_count, 1);
	assert_int_equal(w.holders[0]->pid, getpid());
	assert_true(result.unchanged > 0);
	done(&w);
	expect_holders(first, 1, (pid_t[]){a.pid});
	tell(a.fd, 0);
	second = hear_from(&a);
	assert_true(second != first);
	expect_holders(second, 1, (pid_t[]){a.pid});
	/* what nobody holds leaves nobody out */
	result = find(UINT64_MAX, &w);
	assert_int_equal(w.holder_count, 0);
	assert_int_equal(result.unchanged, 0);
	stop(&a);
}

static void test_reused_pid(void **state)
{
	struct procfs_wanted before, after;
	uint64_t first, second;
	struct actor a, b;

	(void)state;
	start(&a, hold_socket);
	first = hear_from(&a);
	find(first, &before);
	assert_int_equal(before.holder_count, 1);
	stop(&a);
	if (start_with_pid(&b, a.pid, open_when_told) < 0) {
		done(&before);
		print_message("cannot run here: to choose a pid takes CAP_SYS_ADMIN\n");
		skip();
	}
	assert_int_equal(b.pid, a.pid);
	second = hear_from(&b);
	expect_holders(first, 0, NULL);
	find(second, &after);
	assert_int_equal(after.holder_count, 1);
	assert_int_equal(after.holders[0]->pid, before.holders[0]->pid);
	assert_ptr_not_equal(after.holders[0], before.holders[0]);
	if (before.holders[0]->pidfd_inode != 0)
		assert_true(after.holders[0]->pidfd_inode > before.holders[0]->pidfd_inode);
	done(&before);
	done(&after);
	stop(&b);
}

/* Executes this program again from `exe`; it then is no more than what main() does with "hold". */
static void execute(int fd, int exe)
{
	char *const arguments[] = {(char[]){"x"}, (char[]){"hold"}, NULL};

	demand(fcntl(fd, F_SETFD, 0) == 0);
	(void)syscall(SYS_execveat, exe, "", arguments, environ, AT_EMPTY_PATH);
	_exit(97);
}

static int copy_of_self(int to)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat status;
	off_t at = 0;

	demand(from >= 0 && fstat(from, &status) == 0);
	while (at < status.st_size) {
		char block[65536];
		ssize_t n = pread(from, block, sizeof(block), at);

		demand(n > 0 && write(to, block, (size_t)n) == n);
		at += n;
	}
	demand(close(from) == 0);
	return to;
}

static void execute_memory(int fd)
{
	execute(fd, copy_of_self(memfd_create("sshd", MFD_CLOEXEC)));
}

static char copy_name[64]; /* ends in " (deleted)" */

/* Executes a copy of this program; the one that writes it must have closed it by then. */
static void execute_copy(int fd)
{
	int to = open(copy_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

	demand(to >= 0 && close(copy_of_self(to)) == 0);
	execute(fd, open(copy_name, O_PATH | O_CLOEXEC));
}

static void expect_exe(uint64_t inode, const char *exe, enum exe_note note)
{
	struct procfs_wanted w;

	find(inode, &w);
	assert_int_equal(w.holder_count, 1);
	assert_string_equal(w.holders[0]->exe, exe);
	assert_int_equal(w.holders[0]->exe_note, note);
	done(&w);
}

/* The link's suffix is believed only where the file has no name left. */
static void test_exe_notes(void **state)
{
	struct actor a;
	uint64_t inode;

	(void)state;
	start(&a, execute_memory);
	expect_exe(hear_from(&a), "/memfd:sshd", EXE_NOTE_MEMFD);
	stop(&a);
	(void)snprintf(copy_name, sizeof(copy_name), "/tmp/test-procfs-%d (deleted)", getpid());
	start(&a, execute_copy);
	inode = hear_from(&a);
	expect_exe(inode, copy_name, EXE_NOTE_NONE);
	assert_int_equal(unlink(copy_name), 0);
	expect_exe(inode, copy_name, EXE_NOTE_DELETED);
	stop(&a);
}

static void hold_elsewhere(int fd)
{
	bool elsewhere = unshare(CLONE_NEWNS) == 0;

	tell(fd, elsewhere ? inode_of(open_socket()) : 0);
}

static void test_other_namespace(void **state)
{
	struct procfs_wanted w;
	struct actor a;
	uint64_t inode;

	(void)state;
	start(&a, hold_elsewhere);
	inode = hear_from(&a);
	if (inode == 0) {
		stop(&a);
		print_message("cannot run here: a network namespace takes CAP_SYS_ADMIN\n");
		skip();
	}
	find(inode, &w);
	assert_int_equal(w.holder_count, 1);
	assert_int_equal(w.holders[0]->exe_note, EXE_NOTE_OTHER_NAMESPACE);
	done(&w);
	stop(&a);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_hostile_name),
		cmocka_unit_test(test_inherited),
		cmocka_unit_test(test_daemonized),
		cmocka_unit_test(test_thread_with_own_table),
		cmocka_unit_test(test_zombie_leader),
		cmocka_unit_test(test_passed),
		cmocka_unit_test(test_unchanged),
		cmocka_unit_test(test_reused_pid),
		cmocka_unit_test(test_exe_notes),
		cmocka_unit_test(test_other_namespace),
	};

	if (argc == 2 && streq(argv[1], "hold")) {
		hold_socket(3);
		wait_for_end(3);
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
