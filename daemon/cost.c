/* SPDX-License-Identifier: MIT */

#include "daemon/cost.h"

#include <fcntl.h>
#include <stdio.h>

/* "Pss:  1234 kB" of /proc/self/smaps_rollup (proc(5)). 0: not readable. */
static uint64_t read_pss(void)
{
	_cleanup_(close_p) int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	char text[2048];
	const char *line;
	unsigned long long kilobytes;
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	line = strstr(text, "\nPss:");
	if (!line || sscanf(line, "\nPss: %llu kB", &kilobytes) != 1)
		return 0;
	return kilobytes * 1024;
}

struct cost cost_of_self(void)
{
	return (struct cost){
		.pid = getpid(),
		.cpu_usec = clock_cpu_usec(),
		.pss_bytes = read_pss(),
	};
}
