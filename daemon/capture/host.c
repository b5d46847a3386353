/* SPDX-License-Identifier: MIT */

#include "daemon/capture/host.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, Linux 5.14 */
#endif

int host_boot_id(int proc_fd, uint8_t ret[static BOOT_ID_BYTES])
{
	_cleanup_(close_p) int fd =
		openat(proc_fd, "sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	size_t digits = 0;

	if (n <= 0)
		return -EIO;
	memset(ret, 0, BOOT_ID_BYTES);
	for (ssize_t i = 0; i < n && digits < 2 * BOOT_ID_BYTES; i++) {
		const char *hex = "0123456789abcdef", *at = strchr(hex, text[i]);

		if (text[i] == '\0' || !at)
			continue;
		ret[digits / 2] = (uint8_t)(ret[digits / 2] << 4 | (at - hex));
		digits++;
	}
	return digits == 2 * BOOT_ID_BYTES ? 0 : -EIO;
}

int host_netns(int proc_fd, struct netns *ret)
{
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(ret->cookie);
	struct stat st;

	if (fd < 0 || fstatat(proc_fd, "self/ns/net", &st, 0) < 0)
		return -errno;
	ret->inode = st.st_ino;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &ret->cookie, &size) < 0)
		ret->cookie = st.st_ino; /* Linux before 5.14: unique while we run */
	return 0;
}

struct port_range host_ephemeral(int proc_fd, struct port_range otherwise)
{
	_cleanup_(close_p) int fd =
		openat(proc_fd, "sys/net/ipv4/ip_local_port_range", O_RDONLY | O_CLOEXEC);
	char text[64];
	unsigned low, high;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return otherwise;
	text[n] = '\0';
	if (sscanf(text, "%u %u", &low, &high) != 2 || low < 1 || low > high || high > UINT16_MAX)
		return otherwise;
	return (struct port_range){.low = (uint16_t)low, .high = (uint16_t)high};
}
