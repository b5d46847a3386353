/* SPDX-License-Identifier: MIT */

#include "daemon/reserved.h"

#include <fcntl.h>
#include <sys/stat.h>

/* The longest list: 32768 ports, no two in a row. */
#define LIST_MAX (256u * 1024u)

int reserved_read(struct port_set *ret)
{
	_cleanup_(close_p) int fd =
		open(RESERVED_DIRECTORY "/ip_local_reserved_ports", O_RDONLY | O_CLOEXEC);
	_cleanup_(free_p) char *text = NULL;
	struct port_set set = {0};
	size_t size = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	text = malloc(LIST_MAX + 1);
	if (!text)
		return -ENOMEM;
	while ((n = read(fd, text + size, LIST_MAX - size)) > 0)
		size += (size_t)n;
	if (n < 0)
		return -errno;
	text[size] = '\0';
	if (port_set_parse(&set, text) < 0)
		return -EIO;
	*ret = set;
	return 0;
}

uint64_t reserved_netns(void)
{
	struct stat st;

	return stat("/proc/self/ns/net", &st) == 0 ? st.st_ino : 0;
}
