/* SPDX-License-Identifier: MIT */

/*
 * Why not sd_journal_send(3): it opens its socket once and keeps the number in a static variable. Our children are forked
 * and close what they do not need, so that the number soon is another descriptor, and a line for the journal would be
 * written into the sighting stream (docs/decisions/0014). It also waits where journald does not read.
 *
 * The address goes with each datagram, since a journald that comes back may have a new socket at the same path.
 */

#include "common/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/buf.h"

bool journal_is_stream(int fd, const char *stream)
{
	uintmax_t device, inode;
	struct stat st;
	int size = 0;

	if (!stream || sscanf(stream, "%" SCNuMAX ":%" SCNuMAX "%n", &device, &inode, &size) != 2 ||
		stream[size] != '\0' || fstat(fd, &st) < 0)
		return false;
	return st.st_dev == device && st.st_ino == inode;
}

int journal_put(struct buf *b, const char *name, const void *value, size_t size)
{
	size_t before = buf_size(b);
	int r = buf_append_string(b, name);

	if (r == 0)
		r = buf_append(b, "\n", 1);
	if (r == 0)
		r = buf_put_u64(b, size); /* little-endian, as the protocol wants it */
	if (r == 0)
		r = buf_append(b, value, size);
	if (r == 0)
		r = buf_append(b, "\n", 1);
	if (r < 0)
		buf_truncate(b, before);
	return r;
}

int journal_open(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

int journal_send(int fd, const char *path, const struct buf *entry)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	return sendto(fd, buf_bytes(entry), buf_size(entry), MSG_DONTWAIT | MSG_NOSIGNAL,
		       (struct sockaddr *)&address, sizeof(address)) < 0
		       ? -errno
		       : 0;
}
