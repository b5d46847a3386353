/* SPDX-License-Identifier: MIT */

/*
 * The far command is three fixed words. Of what the user typed only the host goes to ssh, as one argument and through
 * no shell of ours; options.c has refused what ssh could take for an option.
 *
 * Passwords and passphrases stay possible (no BatchMode): ssh asks on the terminal, not on what we gave it, and where
 * there is no terminal it gives up by itself. Its standard error is ours, so that its message is the user's to read.
 */

#include "client/remote.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* How long ssh may take to end, each time before we insist more. */
#define END_MSEC 1000

const char *remote_program(void)
{
	static const char *const variables[] = {"PORTLEDGER_SSH", "SYSTEMD_SSH"};

	for (size_t i = 0; i < ELEMENTSOF(variables); i++) {
		const char *program = getenv(variables[i]);

		if (program && *program != '\0')
			return program;
	}
	return "ssh";
}

/* In the child; `failure` takes the errno of what went wrong, and closes when ssh runs. */
static _noreturn_ void run_ssh(const char *host, int fd, int failure, pid_t parent)
{
	const char *program = remote_program();
	int high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	(void)signal(SIGXFSZ, SIG_DFL); /* as we were started */
	/* Whoever kills us, kills it: alone, it may sit in a connect or at a question for long. */
	if (high >= 0 && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent &&
		dup2(high, STDIN_FILENO) >= 0 && dup2(high, STDOUT_FILENO) >= 0)
		execlp(program, program, "-e", "none", "-T", host, "env",
			"SYSTEMD_VARLINK_LISTEN=-", "portledger", (char *)NULL);
	(void)!write(failure, &errno, sizeof(errno));
	_exit(127);
}

int remote_start(const char *host, int *ret_fd, pid_t *ret_pid)
{
	_cleanup_(close_p) int ours = -1, theirs = -1, failed = -1, failure = -1;
	pid_t pid, parent = getpid();
	int ends[2], e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	ours = ends[0];
	theirs = ends[1];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	failed = ends[0];
	failure = ends[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run_ssh(host, theirs, failure, parent);
	close_p(&failure);
	failure = -1;
	if (read(failed, &e, sizeof(e)) == (ssize_t)sizeof(e)) {
		(void)remote_end(pid);
		return -e;
	}
	*ret_fd = TAKE_FD(ours);
	*ret_pid = pid;
	return 0;
}

static void wait_a_while(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	(void)poll(&p, 1, END_MSEC);
}

int remote_end(pid_t pid)
{
	_cleanup_(close_p) int pidfd = pidfd_open(pid, 0);
	static const int signals[] = {SIGTERM, SIGKILL};
	int status = 0;
	pid_t ended = 0;

	for (size_t i = 0; i < ELEMENTSOF(signals) && ended == 0; i++) {
		if (pidfd >= 0)
			wait_a_while(pidfd);
		ended = waitpid(pid, &status, WNOHANG);
		if (ended == 0)
			(void)kill(pid, signals[i]);
	}
	while (ended == 0 || (ended < 0 && errno == EINTR))
		ended = waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
