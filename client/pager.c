/* SPDX-License-Identifier: MIT */

/*
 * The pager is always started for a table on a terminal: less leaves at once where everything fits (-F), so that nobody
 * has to know beforehand how long the answer is. Where it is missing the child copies instead.
 */

#include "client/pager.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

/* NULL: less. */
static const char *pager_command(void)
{
	const char *command = getenv("PORTLEDGER_PAGER");

	return command ? command : getenv("PAGER");
}

/* What cat does. */
static void copy(void)
{
	char buffer[4096];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0)
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(STDOUT_FILENO, buffer + done, (size_t)(n - done));
			if (w < 0)
				return;
		}
}

static _noreturn_ void run_pager(const char *command)
{
	(void)signal(SIGXFSZ, SIG_DFL); /* as we were started */
	if (geteuid() == 0)
		setenv("LESSSECURE", "1", 1); /* a reader of records needs no shell of root's */
	if (command)
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	else
		execlp("less", "less", "-FRSXMK", (char *)NULL);
	copy();
	_exit(0);
}

void pager_open(struct pager *p)
{
	const char *command = pager_command();
	int ends[2];

	p->pid = 0;
	if ((command && (*command == '\0' || streq(command, "cat"))) || pipe2(ends, O_CLOEXEC) < 0)
		return;
	fflush(stdout);
	p->pid = fork();
	if (p->pid == 0) {
		(void)dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		run_pager(command);
	}
	if (p->pid > 0)
		(void)dup2(ends[1], STDOUT_FILENO);
	else
		p->pid = 0;
	close(ends[0]);
	close(ends[1]);
}

void pager_close(struct pager *p)
{
	if (p->pid == 0)
		return;
	fclose(stdout);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
