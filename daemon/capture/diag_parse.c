/* SPDX-License-Identifier: MIT */

/*
 * The bytes of sock_diag: a message into a row, port ranges into the kernel's filter. Pure, apart
 * from the socket, so that the fuzzer can have it. The bytes are copied before they are looked at:
 * no alignment is assumed.
 */

#include "daemon/capture/diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* A state of the kernel (net/tcp_states.h) that <netinet/tcp.h> does not name: a request socket. */
#define STATE_NEW_SYN_RECV 12

/* idiag_timer of what TIME_WAIT leaves; a full socket has 0, 1, 2 or 4. */
#define TIMER_TIME_WAIT 3

_Static_assert(sizeof(struct inet_diag_bc_op) == 4, "the offsets below count in ops of 4 bytes");

int diag_attribute(const uint8_t *bytes, size_t size, unsigned type, void *ret, size_t room)
{
	int found = 0;

	while (size >= sizeof(struct nlattr)) {
		struct nlattr attribute;
		size_t step;

		memcpy(&attribute, bytes, sizeof(attribute));
		if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > size)
			return -EBADMSG;
		if ((attribute.nla_type & NLA_TYPE_MASK) == type) {
			found = attribute.nla_len - (int)sizeof(attribute);
			memcpy(ret, bytes + sizeof(attribute), MIN((size_t)found, room));
		}
		/* the last attribute may come without its padding */
		step = MIN((size_t)NLA_ALIGN(attribute.nla_len), size);
		bytes += step;
		size -= step;
	}
	return size == 0 ? found : -EBADMSG;
}

static struct endpoint endpoint_of(int family, const __be32 *address, __be16 port)
{
	return (struct endpoint){
		.address = address_from_kernel(family, address),
		.port = ntohs(port),
	};
}

int diag_parse(const void *payload, size_t size, enum protocol protocol, struct socket_row *ret)
{
	struct inet_diag_msg m;
	struct socket_row row = {.protocol = (uint8_t)protocol};
	int r;

	if (size < sizeof(m))
		return -EBADMSG;
	memcpy(&m, payload, sizeof(m));
	if (m.idiag_family != AF_INET && m.idiag_family != AF_INET6)
		return 0;
	if (m.idiag_state == TCP_SYN_RECV || m.idiag_state == STATE_NEW_SYN_RECV ||
		m.id.idiag_sport == 0)
		return 0;
	row.cookie = (uint64_t)m.id.idiag_cookie[1] << 32 | m.id.idiag_cookie[0];
	if (row.cookie == 0)
		return -EBADMSG;
	row.inode = m.idiag_inode;
	row.uid = m.idiag_uid;
	row.state = m.idiag_state;
	row.interface = m.id.idiag_if;
	row.minisock = m.idiag_timer == TIMER_TIME_WAIT;
	row.expires_msec = row.minisock ? m.idiag_expires : 0;
	row.local = endpoint_of(m.idiag_family, m.id.idiag_src, m.id.idiag_sport);
	row.remote = endpoint_of(m.idiag_family, m.id.idiag_dst, m.id.idiag_dport);
	if (row.remote.port == 0 && address_is_any(&row.remote.address))
		row.remote = (struct endpoint){0};
	r = diag_attribute((const uint8_t *)payload + sizeof(m), size - sizeof(m),
		INET_DIAG_CGROUP_ID, &row.cgroup_id, sizeof(row.cgroup_id));
	if (r != 0 && r != sizeof(row.cgroup_id))
		return -EBADMSG;
	*ret = row;
	return 1;
}

/*
 * How the kernel runs it: an op steps `yes` bytes where it holds and `no` bytes where it does not;
 * to land on the end is to pass, 4 bytes beyond it is to fail. The operand of a comparison is the
 * `no` of the op that follows it, in host byte order. The kernel audits that every `no` lands on an
 * op that a walk by `yes` alone reaches.
 *
 *	range i:     0  S_GE  yes 8   no -> range i+1 (last: fail)
 *	             4        low
 *	             8  S_LE  yes 8   no -> range i+1 (last: fail)
 *	            12        high
 *	            16  JMP   no -> the end (not the last: it falls on the end)
 */
size_t diag_filter(const struct port_ranges *ranges, uint8_t ret[static DIAG_FILTER_BYTES_MAX])
{
	enum { OP = sizeof(struct inet_diag_bc_op), RANGE = 5 * OP };
	size_t size = ranges->count * RANGE - (ranges->count > 0 ? OP : 0);

	assert(ranges->count <= PORT_RANGES_MAX);
	for (uint32_t i = 0; i < ranges->count; i++) {
		bool last = i + 1 == ranges->count;
		size_t at = i * RANGE, length = last ? RANGE - OP : RANGE;
		uint16_t next = (uint16_t)(last ? length + OP : length);
		struct inet_diag_bc_op ops[] = {
			{.code = INET_DIAG_BC_S_GE, .yes = 2 * OP, .no = next},
			{.no = ranges->range[i].low},
			{.code = INET_DIAG_BC_S_LE, .yes = 2 * OP, .no = (uint16_t)(next - 2 * OP)},
			{.no = ranges->range[i].high},
			{.code = INET_DIAG_BC_JMP, .yes = OP, .no = (uint16_t)(size - at - 4 * OP)},
		};

		memcpy(ret + at, ops, length);
	}
	return size;
}
