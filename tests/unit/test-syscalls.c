/* SPDX-License-Identifier: MIT */

/* Each process's filter, in a child of its own for every call: what a call that is not left to it comes to. Without the filter each
 * of these would fail otherwise, or succeed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/syscalls.h"

#define NO_SECCOMP 77 /* the child's exit status */
#define WENT_RIGHT 78

static const enum syscalls EVERY[] = {SYSCALLS_CAPTURE, SYSCALLS_LEDGER, SYSCALLS_CONTROL};

/* One call, with arguments that do no harm where there is no filter. */
struct call {
	const char *name;
	long number, arguments[6];
};
#define CALL(name, ...)                                                                            \
	{                                                                                          \
#name, SYS_##name,                                                                 \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

static long do_call(const struct call *c)
{
	return syscall(c->number, c->arguments[0], c->arguments[1], c->arguments[2],
		c->arguments[3], c->arguments[4], c->arguments[5]);
}

/* What became of a child that was confined and then did `body`. */
static int outcome(enum syscalls s, void (*body)(const void *context), const void *context)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? syscalls_confine(s) : -errno;

		if (r == 0)
			_exit(NO_SECCOMP);
		if (r == 1)
			body(context);
		_exit(255);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SECCOMP) {
		print_message(
			"cannot run here: this kernel has no seccomp, or this container none\n");
		skip();
	}
	return status;
}

static void run_call(const void *context)
{
	long r = do_call(context);

	_exit(r < 0 ? errno : WENT_RIGHT);
}

static void expect_death(enum syscalls s, const struct call *c)
{
	int status = outcome(s, run_call, c);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail_msg("%s does not end process %d: status %#x", c->name, (int)s,
			(unsigned)status);
}

static void expect_errno(enum syscalls s, const struct call *c, int error)
{
	int status = outcome(s, run_call, c);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != error)
		fail_msg("%s of process %d: status %#x, not errno %d", c->name, (int)s,
			(unsigned)status, error);
}

/* What takes over another process or the host. */
static void test_the_deadly(void **state)
{
	static const struct call calls[] = {
#if !SYSCALLS_SANITIZED
		CALL(execve, (long)"/nonexistent", 0, 0),
		CALL(ptrace, 0xffff, 0, 0, 0),
#endif
		CALL(execveat, -1, (long)"/nonexistent", 0, 0, 0),
		CALL(process_vm_readv, 0, 0, 0, 0, 0, 0),
		CALL(process_vm_writev, 0, 0, 0, 0, 0, 0),
		CALL(process_madvise, -1, 0, 0, 0, 0),
		CALL(pidfd_getfd, -1, -1, 0),
		CALL(setns, -1, 0),
		CALL(unshare, 0),
		CALL(mount, 0, 0, 0, 0, 0),
		CALL(move_mount, -1, 0, -1, 0, 0),
		CALL(fsopen, 0, 0),
		CALL(open_tree, -1, (long)"/nonexistent", 0),
		CALL(umount2, (long)"/nonexistent", 0),
		CALL(pivot_root, 0, 0),
		CALL(chroot, (long)"/nonexistent"),
		CALL(init_module, 0, 0, 0),
		CALL(finit_module, -1, 0, 0),
		CALL(delete_module, 0, 0),
		CALL(kexec_load, 0, 0, 0, -1),
		CALL(kexec_file_load, -1, -1, 0, 0, -1),
		CALL(reboot, 0, 0, 0, 0), /* without its magic */
		CALL(io_uring_setup, 0, 0),
		CALL(userfaultfd, -1),
		CALL(perf_event_open, 0, 0, 0, -1, -1),
		CALL(add_key, 0, 0, 0, 0, 0),
		CALL(request_key, 0, 0, 0, 0),
		CALL(keyctl, -1, 0, 0, 0, 0),
	};

	(void)state;
	for (size_t e = 0; e < ELEMENTSOF(EVERY); e++)
		for (size_t i = 0; i < ELEMENTSOF(calls); i++)
			expect_death(EVERY[e], &calls[i]);
}

/* What none of the three is left. */
static void test_nobodys(void **state)
{
	static const struct call calls[] = {
		CALL(socket, AF_INET, SOCK_STREAM, 0),
		CALL(socket, AF_INET6, SOCK_DGRAM, 0),
		CALL(socket, AF_PACKET, SOCK_RAW, 0),
		CALL(bpf, BPF_PROG_LOAD, 0, 0),
		CALL(bpf, BPF_MAP_CREATE, 0, 0),
		CALL(bpf, BPF_MAP_UPDATE_ELEM, 0, 0),
		CALL(clone3, 0, 0),
		CALL(setuid, 65534),
		CALL(truncate, (long)"/nonexistent", 0),
		CALL(linkat, -1, (long)"x", -1, (long)"y", 0),
		CALL(symlinkat, (long)"x", -1, (long)"y"),
		CALL(mknodat, -1, (long)"x", 0, 0),
		CALL(setxattr, (long)"/nonexistent", (long)"user.x", 0, 0, 0),
		CALL(utimensat, -1, (long)"x", 0, 0),
		CALL(pidfd_send_signal, -1, 0, 0, 0),
		CALL(setpriority, 0, 0, 0),
		CALL(splice, -1, 0, -1, 0, 0, 0),
		CALL(memfd_create, (long)"x", 0),
		CALL(inotify_init1, 0),
#if !SYSCALLS_SANITIZED
		CALL(clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
		CALL(ioctl, 0, TIOCSTI, (long)"x"),
		CALL(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		CALL(mprotect, 0, 0, PROT_READ | PROT_EXEC),
#endif
	};

	(void)state;
	for (size_t e = 0; e < ELEMENTSOF(EVERY); e++)
		for (size_t i = 0; i < ELEMENTSOF(calls); i++)
			expect_errno(EVERY[e], &calls[i], ENOSYS);
}

/* What is only capture's. */
static void test_the_childrens(void **state)
{
	static const struct call calls[] = {
		CALL(socket, AF_UNIX, SOCK_STREAM, 0),
		CALL(socket, AF_NETLINK, SOCK_RAW, 0),
		CALL(connect, -1, 0, 0),
		CALL(bind, -1, 0, 0),
		CALL(listen, -1, 0),
		CALL(bpf, BPF_ITER_CREATE, 0, 0),
		CALL(bpf, BPF_MAP_LOOKUP_ELEM, 0, 0),
		CALL(pidfd_open, -1, 0),
		CALL(open_by_handle_at, -1, 0, 0),
		CALL(kcmp, 0, 0, 0, 0, 0),
		CALL(fchmodat, -1, (long)"x", 0),
		CALL(fchownat, -1, (long)"x", 0, 0, 0),
		CALL(capset, 0, 0),
		CALL(seccomp, -1, 0, 0),
		CALL(tgkill, 1, 1, 0), /* only to itself */
#if !SYSCALLS_SANITIZED
		CALL(kill, 0, 0),
		CALL(clone, SIGCHLD, 0, 0, 0, 0),
		CALL(prctl, PR_GET_DUMPABLE, 0, 0, 0, 0),
#endif
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
		expect_errno(SYSCALLS_LEDGER, &calls[i], ENOSYS);
		expect_errno(SYSCALLS_CONTROL, &calls[i], ENOSYS);
	}
}

/* What only the writer has. */
static void test_controls(void **state)
{
	static const struct call calls[] = {
		CALL(pwrite64, -1, 0, 0, 0),
		CALL(ftruncate, -1, 0),
		CALL(fallocate, -1, 0, 0, 0),
		CALL(fsync, -1),
		CALL(fchmod, -1, 0),
		CALL(fchown, -1, 0, 0),
		CALL(unlinkat, -1, (long)"x", 0),
		CALL(renameat2, -1, (long)"x", -1, (long)"y", 0),
		CALL(mkdirat, -1, (long)"x", 0),
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
		expect_errno(SYSCALLS_CONTROL, &calls[i], ENOSYS);
		expect_errno(SYSCALLS_LEDGER, &calls[i], EBADF);
	}
	expect_errno(SYSCALLS_LEDGER, &(struct call)CALL(accept4, -1, 0, 0, 0), ENOSYS);
	expect_errno(SYSCALLS_CONTROL, &(struct call)CALL(accept4, -1, 0, 0, 0), EBADF);
}

static void do_abort(const void *context _unused_)
{
	(void)signal(SIGABRT, SIG_DFL);
	abort();
}

/* A failed assertion is seen as what it is. */
static void test_abort(void **state)
{
	(void)state;
	for (size_t e = 0; e < ELEMENTSOF(EVERY); e++) {
		int status = outcome(EVERY[e], do_abort, NULL);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}

#if defined(__x86_64__) && !defined(__ILP32__)
static void call_by_int_80(const void *context _unused_)
{
	long r = 20; /* getpid */

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	_exit(r < 0 ? (int)-r : WENT_RIGHT);
}

/* A number means something else in another ABI. */
static void test_other_abis(void **state)
{
	static const struct call x32 = {"getpid of x32", 0x40000000 | SYS_getpid, {0}};

	(void)state;
	for (size_t e = 0; e < ELEMENTSOF(EVERY); e++) {
		int status = outcome(EVERY[e], call_by_int_80, NULL);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSYS);
		expect_death(EVERY[e], &x32);
	}
}
#else
static void test_other_abis(void **state)
{
	(void)state;
	print_message("cannot run here: no other ABI of this architecture is tried\n");
	skip();
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_deadly),
		cmocka_unit_test(test_nobodys),
		cmocka_unit_test(test_the_childrens),
		cmocka_unit_test(test_controls),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_other_abis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
