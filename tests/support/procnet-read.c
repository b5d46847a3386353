/* SPDX-License-Identifier: MIT */

/* Parses /proc/net/{tcp,tcp6,udp,udp6,udplite,udplite6} in this process, by the daemon's own reader, N times: what bench/sweep
 * sets beside a sweep. Prints the sockets of one reading and the microseconds of CPU that each took. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/capture/source.h"

static int count_row(void *context, const struct socket_row *row _unused_)
{
	(*(size_t *)context)++;
	return 0;
}

int main(int argc, char **argv)
{
	const struct port_ranges all = {.range = {{1, UINT16_MAX}}, .count = 1};
	_cleanup_(close_p) int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	unsigned long rounds = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
	struct source_facts facts;
	void *source;

	if (rounds == 0 || proc_fd < 0 || source_procnet_open(proc_fd, &source, &facts) < 0)
		return EXIT_FAILURE;
	for (unsigned long i = 0; i < rounds; i++) {
		usec_t before = clock_cpu_usec();
		uint32_t protocols;
		size_t rows = 0;

		if (source_procnet_ops.read(source, &all, count_row, &rows, &protocols) < 0)
			return EXIT_FAILURE;
		printf("%zu %llu\n", rows, (unsigned long long)(clock_cpu_usec() - before));
	}
	source_procnet_ops.free(source);
	return EXIT_SUCCESS;
}
