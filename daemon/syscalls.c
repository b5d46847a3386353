/* SPDX-License-Identifier: MIT */

/*
 * What the three processes call was read with strace(1) over the system tests; beside it stands what glibc, libevent, SQLite
 * and libsystemd use for the same on another architecture or in another version (decision 0030). A call that is not
 * known here fails with ENOSYS, as on an older kernel, and libraries know how to go on then.
 *
 * Filters add up: a child has its own and capture's, if it was started again after capture had one. So capture is given all that
 * any of them is given.
 */

#include "daemon/syscalls.h"

#include <asm/ioctls.h>
#include <linux/bpf.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#ifdef __s390x__
#define CLONE_FLAGS_ARGUMENT 1
#define ARGUMENTS_IN_MEMORY  "mmap" /* where no filter looks: it cannot be narrowed */
#else
#define CLONE_FLAGS_ARGUMENT 0
#define ARGUMENTS_IN_MEMORY  ""
#endif
#define CLONE_NEW_ANY                                                                              \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
		CLONE_NEWPID | CLONE_NEWNET)

/* Whose filter has it; capture's has all. */
#define CAPTURE 0u
#define LEDGER  (1u << SYSCALLS_LEDGER)
#define CONTROL (1u << SYSCALLS_CONTROL)
#define BOTH    (LEDGER | CONTROL)

static const struct {
	unsigned who;
	const char *names; /* apart by spaces; what an architecture does not have is passed over */
} ALLOWED[] = {
	/* descriptors and files */
	{BOTH, "read readv pread64 preadv write writev close lseek dup fcntl fcntl64"},
	{BOTH, "open openat stat lstat fstat newfstatat fstatat64 statx access faccessat faccessat2"},
	{BOTH, "readlink readlinkat getdents64 getcwd statfs fstatfs statfs64 fstatfs64"},
	/* memory; what may be executed is in NARROWED */
	{BOTH, "brk munmap mremap madvise " ARGUMENTS_IN_MEMORY},
	/* a process without threads, and its end; abort(3) */
	{BOTH, "futex set_robust_list rseq sched_yield restart_syscall getrandom membarrier"},
	{BOTH, "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack exit exit_group"},
	{BOTH, "getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups"},
	{BOTH, "uname sysinfo getrlimit prlimit64 getrusage sched_getaffinity getcpu times"},
	/* time, where the vDSO does not say it */
	{BOTH, "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time"},
	/* the loop */
	{BOTH, "epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6"},
	{BOTH, "eventfd2 timerfd_create timerfd_settime pipe pipe2"},
	/* sockets that are there already */
	{BOTH, "recvfrom recvmsg recv sendto sendmsg send getsockopt setsockopt getsockname shutdown"},
	{CONTROL, "accept accept4"},
	/* what a C library of 32 bits calls instead, some of it without falling back */
	{BOTH, "_llseek ugetrlimit sigreturn getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32"},
	{BOTH, "clock_gettime64 clock_getres_time64 clock_nanosleep_time64 futex_time64 ppoll_time64 pselect6_time64"},
	{BOTH, "timerfd_settime64 _newselect"},
	{LEDGER, "fchown32"},
	{CAPTURE, "recvmmsg_time64 chown32 lchown32"},
	/* the writer: SQLite and the files beside its own */
	{LEDGER,
		"pwrite64 pwritev fsync fdatasync ftruncate ftruncate64 fallocate fadvise64 msync"},
	{LEDGER, "fchmod fchown unlink unlinkat rename renameat renameat2 mkdir mkdirat umask"},
	/* capture: its sources, its own socket */
	{CAPTURE, "bind connect listen socketpair recvmmsg getpeername"},
	{CAPTURE, "kcmp pidfd_open open_by_handle_at name_to_handle_at"},
	{CAPTURE, "chmod fchmodat chown lchown fchownat"},
	/* ... its children, and what they give up */
	{CAPTURE,
		"wait4 waitid kill tgkill close_range dup2 dup3 signalfd4 set_tid_address prctl capget capset seccomp"},
	{CAPTURE, "landlock_create_ruleset landlock_add_rule landlock_restrict_self"},
};

/* Allowed with this argument only. */
static const struct {
	unsigned who;
	const char *name;
	struct scmp_arg_cmp argument;
} NARROWED[] = {
	/* nothing new is executed: no library is loaded from here on */
	{BOTH, "mmap", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{BOTH, "mmap2", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{BOTH, "mprotect", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	/* none that types into a terminal */
	{BOTH, "ioctl", SCMP_A1_32(SCMP_CMP_EQ, TCGETS, 0)},
	{BOTH, "ioctl", SCMP_A1_32(SCMP_CMP_EQ, FIONREAD, 0)},
	{BOTH, "ioctl", SCMP_A1_32(SCMP_CMP_EQ, FIONBIO, 0)},
	{BOTH, "ioctl", SCMP_A1_32(SCMP_CMP_EQ, FIOCLEX, 0)},
	{CAPTURE, "socket", SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX, 0)},
	{CAPTURE, "socket", SCMP_A0_32(SCMP_CMP_EQ, AF_NETLINK, 0)},
	/* fork(2): no namespace of its own */
	{CAPTURE, "clone", SCMP_CMP64(CLONE_FLAGS_ARGUMENT, SCMP_CMP_MASKED_EQ, CLONE_NEW_ANY, 0)},
	/* what was attached is read; nothing is loaded any more */
	{CAPTURE, "bpf", SCMP_A0_32(SCMP_CMP_EQ, BPF_ITER_CREATE, 0)},
	{CAPTURE, "bpf", SCMP_A0_32(SCMP_CMP_EQ, BPF_OBJ_GET_INFO_BY_FD, 0)},
	{CAPTURE, "bpf", SCMP_A0_32(SCMP_CMP_EQ, BPF_MAP_LOOKUP_ELEM, 0)},
};

/* Nobody comes here by mistake. */
static const char DEADLY[] =
	"execve execveat ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd "
	"setns unshare mount move_mount fsopen open_tree pivot_root umount2 chroot "
	"init_module finit_module delete_module kexec_load kexec_file_load reboot "
	"io_uring_setup userfaultfd perf_event_open add_key request_key keyctl";

/* SYSCALLS_SANITIZED */
static const char SANITIZERS[] = "ptrace execve prctl clone wait4 kill socketpair dup2 "
				 "mmap mprotect ioctl getdents personality sched_setaffinity";

/* The next of `*names`, in *ret: its number here, negative where there is none. False: no more. */
static bool next_call(const char **names, int *ret)
{
	char name[32];
	size_t size;

	*names += strspn(*names, " ");
	size = strcspn(*names, " ");
	if (size == 0)
		return false;
	assert(size < sizeof(name));
	memcpy(name, *names, size);
	name[size] = '\0';
	*names += size;
	*ret = seccomp_syscall_resolve_name(name);
	return true;
}

static int add_all(scmp_filter_ctx filter, uint32_t action, const char *names)
{
	int number, r = 0;

	while (r == 0 && next_call(&names, &number))
		if (number >= 0)
			r = seccomp_rule_add(filter, action, number, 0);
	return r;
}

static int add_deadly(scmp_filter_ctx filter)
{
	const char *names = DEADLY;
	int number, r = 0;

	while (r == 0 && next_call(&names, &number)) {
		if (number < 0 || (SYSCALLS_SANITIZED && (number == SCMP_SYS(execve) ||
								 number == SCMP_SYS(ptrace))))
			continue;
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, number, 0);
	}
	return r;
}

static int add_rules(scmp_filter_ctx filter, enum syscalls s)
{
	int r = add_deadly(filter);

	for (size_t i = 0; i < ELEMENTSOF(ALLOWED) && r == 0; i++)
		if (s == SYSCALLS_CAPTURE || (ALLOWED[i].who & (1u << s)))
			r = add_all(filter, SCMP_ACT_ALLOW, ALLOWED[i].names);
	for (size_t i = 0; i < ELEMENTSOF(NARROWED) && r == 0; i++) {
		int number = seccomp_syscall_resolve_name(NARROWED[i].name);

		if (number >= 0 && (s == SYSCALLS_CAPTURE || (NARROWED[i].who & (1u << s))))
			r = seccomp_rule_add_array(
				filter, SCMP_ACT_ALLOW, number, 1, &NARROWED[i].argument);
	}
	if (r == 0) /* abort(3), and nobody else's end */
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid(), 0));
	return r == 0 && SYSCALLS_SANITIZED ? add_all(filter, SCMP_ACT_ALLOW, SANITIZERS) : r;
}

int syscalls_confine(enum syscalls s)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r;

	if (!filter)
		return -ENOMEM;
	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0) /* what load gives is the kernel's errno */
		r = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (r == 0) /* a tree: few comparisons a call */
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	/* What is refused is a mistake of ours or an attack: the kernel's log says which call it was, where it can. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (r == 0)
		r = add_rules(filter, s);
	if (r == 0) {
		r = seccomp_load(filter);
		r = r == -ENOSYS || r == -EINVAL || r == -EPERM ? 0 : r < 0 ? r : 1;
	}
	seccomp_release(filter);
	return r;
}
