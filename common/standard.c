/* SPDX-License-Identifier: MIT */

/*
 * Whoever starts a program with a standard descriptor closed has the next open(2) give that number away: the client's table
 * would go to the daemon, as a question, and count as written; annotate would wait for a log on its own connection; a child of
 * the daemon would keep what happened to be there, since it closes all but the three. O_PATH is a place that needs no device.
 */

#include "common/standard.h"

#include <fcntl.h>

void standard_hold(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/", O_PATH); /* the lowest number that is free: this one */
}

bool standard_is_closed(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || flags & O_PATH;
}
