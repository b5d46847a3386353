/* SPDX-License-Identifier: MIT */

/* set-tid PID COMMAND...: runs the command as a process with that pid, which must be free (clone3(2), set_tid; needs
 * CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE). Exits like the command; 125 when the pid cannot be had. */

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t wanted, pid;
	struct clone_args args = {.exit_signal = SIGCHLD};
	int status;

	if (argc < 3) {
		fprintf(stderr, "set-tid PID COMMAND...\n");
		return 125;
	}
	wanted = (pid_t)strtol(argv[1], NULL, 10);
	args.set_tid = (uintptr_t)&wanted;
	args.set_tid_size = 1;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(argv[2], argv + 2);
		_exit(125);
	}
	if (pid < 0) {
		fprintf(stderr, "set-tid: %s\n", strerror(errno));
		return 125;
	}
	if (waitpid(pid, &status, 0) < 0)
		return 125;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
