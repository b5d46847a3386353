/* SPDX-License-Identifier: MIT */
#pragma once

/* Children that do as they are told, looked at through the real /proc. */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "daemon/capture/procfs.h"

/* A child that does as it is told over a socket pair, and ends when we close it. */
struct actor {
	pid_t pid;
	int fd; /* our end */
};

/* What runs in a child; `fd` is its end. */
typedef void (*actor_fn)(int fd);

/* In a child, where cmocka's asserts are of no use. */
static inline void demand(bool condition)
{
	if (!condition)
		_exit(99);
}

static inline void tell(int fd, uint64_t value)
{
	demand(write(fd, &value, sizeof(value)) == sizeof(value));
}

/* Waits until the other side says something. False: it closed. */
static inline bool hear(int fd, uint64_t *ret)
{
	return read(fd, ret, sizeof(*ret)) == sizeof(*ret);
}

static inline void wait_for_end(int fd)
{
	uint64_t value;

	while (hear(fd, &value))
		;
	_exit(0);
}

/* Starts a child, with the pid that is asked for (0: any). -1: that may not be. */
static inline pid_t start_with_pid(struct actor *a, pid_t pid, actor_fn run)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	if (pid != 0) {
		args.set_tid = (uintptr_t)&pid;
		args.set_tid_size = 1;
	}
	a->pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (a->pid == 0) {
		/* sockets of other tests' making are not this child's */
		if (dup2(ends[1], 3) != 3 || close_range(4, ~0u, 0) != 0)
			_exit(98);
		run(3);
		wait_for_end(3);
	}
	(void)close(ends[1]);
	a->fd = ends[0];
	return a->pid;
}

static inline void start(struct actor *a, actor_fn run)
{
	assert_true(start_with_pid(a, 0, run) > 0);
}

static inline uint64_t hear_from(const struct actor *a)
{
	uint64_t value = 0;

	assert_true(hear(a->fd, &value));
	return value;
}

static inline void stop(struct actor *a)
{
	int status;

	(void)close(a->fd);
	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static inline struct procfs *open_procfs(int *ret_fd)
{
	struct procfs *p;

	*ret_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(*ret_fd >= 0);
	p = procfs_new(*ret_fd, true);
	assert_non_null(p);
	return p;
}

static struct procfs *shared;
static int shared_fd = -1;

static inline int setup(void **state)
{
	(void)state;
	shared = open_procfs(&shared_fd);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	shared = procfs_free(shared);
	return close(shared_fd);
}
