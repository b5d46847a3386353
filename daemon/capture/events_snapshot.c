/* SPDX-License-Identifier: MIT */

/*
 * Who has which socket open, from the kernel's iterator over all descriptors of all processes: a thirteenth of what the
 * same costs by /proc, in all namespaces, and without a capability once its link is there. It does not see what no
 * descriptor holds: an orphaned connection, one that nobody has accepted, a socket on its way in a message.
 */

#include "daemon/capture/events.h"

#include <bpf/bpf.h>
#include <sys/socket.h>

#define READ_BYTES (64u * 1024)
#define TICK_NSEC  UINT64_C(10000000)
#define TICK_USEC  (TICK_NSEC / 1000)

static struct holder_seen holder_of(const struct snapshot_row *row)
{
	int family = row->ipv6 ? AF_INET6 : AF_INET;
	struct holder_seen h = {
		.socket = {.kind = EVENT_CLAIM,
			.at = USEC_UNSET,
			.closed = USEC_UNSET,
			.cookie = row->cookie,
			.netns = row->netns,
			.netns_inode = row->netns_inode,
			.ephemeral = events_range_of(row->netns_range),
			.protocol = row->protocol,
			.role = row->role,
			.local = {.address = address_from_kernel(family, row->local),
				.port = row->local_port}},
		.inode = row->inode,
		.pid = (int32_t)row->pid,
		.start_boot = row->start / TICK_NSEC * TICK_USEC,
	};

	if (row->remote_port != 0)
		h.socket.remote =
			(struct endpoint){.address = address_from_kernel(family, row->remote),
				.port = row->remote_port};
	return h;
}

static int tell_rows(const uint8_t *bytes, size_t size,
	int (*holder)(void *context, const struct holder_seen *h), void *context)
{
	int r = 0;

	for (; r == 0 && size >= sizeof(struct snapshot_row); size -= sizeof(struct snapshot_row)) {
		struct snapshot_row row;
		struct holder_seen h;

		memcpy(&row, bytes, sizeof(row));
		bytes += sizeof(row);
		if (row.protocol >= PROTOCOL_COUNT || row.role >= ROLE_COUNT)
			return -EBADMSG;
		h = holder_of(&row);
		r = holder(context, &h);
	}
	return r;
}

int events_snapshot(
	int link_fd, int (*holder)(void *context, const struct holder_seen *h), void *context)
{
	_cleanup_(free_p) uint8_t *bytes = malloc(READ_BYTES);
	_cleanup_(close_p) int fd = -1;
	size_t have = 0;
	int r = 0;

	if (!bytes)
		return -ENOMEM;
	fd = bpf_iter_create(link_fd);
	if (fd < 0)
		return -errno;
	while (r == 0) {
		ssize_t n = read(fd, bytes + have, READ_BYTES - have);
		size_t whole;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue; /* it has looked at enough for one time */
		if (n <= 0)
			return n < 0 ? -errno : have != 0 ? -EBADMSG : 0;
		have += (size_t)n;
		whole = have / sizeof(struct snapshot_row) * sizeof(struct snapshot_row);
		r = tell_rows(bytes, whole, holder, context);
		memmove(bytes, bytes + whole, have - whole);
		have -= whole;
	}
	return r;
}
