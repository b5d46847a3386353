/* SPDX-License-Identifier: MIT */

/*
 * A destroy notification, as bytes, and the filter for it. Pure, so that the fuzzer can have it.
 *
 * It is sent when the last reference to a full socket goes: for TCP at the entry into TIME_WAIT, of which nothing is
 * told. It has the port, the cookie and, unless the socket was disconnected before, both addresses; never an inode, an
 * owner or the state in which the socket was. What it has of TCP is struct tcp_info and the length of the send queue,
 * and these tell who opened the connection:
 *
 *	sequence numbers spent = bytes acknowledged (tcpi_bytes_acked) + those that are not (idiag_wqueue)
 *	of these are no data   = spent - (tcpi_bytes_sent - tcpi_bytes_retrans) - tcpi_notsent_bytes
 *
 * which is one for a FIN that was sent, and one for the SYN, but only on the side that opened: what was accepted
 * begins to count behind its SYN-ACK. So two is an opener, none was accepted. One is either; then a FIN is recognised by
 * its delivery (tcpi_delivered counts the SYN and what was not data beside data_segs_out), and is an accepted one's.
 * Seen to hold on 6.18 for every way to end that could be thought of; a Fast Open, whose SYN carries data, is left
 * unknown.
 */

#include "daemon/capture/diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#define RTT_UNSET UINT32_MAX /* tcpi_min_rtt before the first sample */
/* A disconnect (an error of connect(2) is one) moves the send queue's end by the largest window that the other
 * side ever offered, and 2; with the SYN that is 3 where there never was another side. */
#define WQUEUE_ATTEMPT 3u

#define INFO_BYTES (offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(uint64_t))

static bool is_wiped(const struct tcp_info *i)
{
	return i->tcpi_segs_out == 0 && i->tcpi_segs_in == 0;
}

static enum end_evidence evidence_of_wiped(const struct tcp_info *i, uint32_t wqueue)
{
	if (i->tcpi_min_rtt != RTT_UNSET)
		return END_UNKNOWN;
	if (wqueue == 0)
		return END_UNUSED;
	return wqueue <= WQUEUE_ATTEMPT ? END_ATTEMPT : END_UNKNOWN;
}

/* Sequence numbers that were spent on no data. */
static uint64_t marks_of(const struct tcp_info *i, uint32_t wqueue)
{
	return i->tcpi_bytes_acked + wqueue -
	       (i->tcpi_bytes_sent - i->tcpi_bytes_retrans + i->tcpi_notsent_bytes);
}

static enum end_evidence evidence_of(const struct tcp_info *i, uint32_t wqueue)
{
	uint64_t marks = marks_of(i, wqueue);

	if (is_wiped(i))
		return evidence_of_wiped(i, wqueue);
	if ((i->tcpi_options & TCPI_OPT_SYN_DATA) || i->tcpi_fastopen_client_fail != 0)
		return END_UNKNOWN;
	if (i->tcpi_delivered == 0 && i->tcpi_bytes_received == 0)
		return END_ATTEMPT;
	if (marks == 2)
		return END_ACTIVE;
	if (marks == 0)
		return END_PASSIVE;
	return marks == 1 && i->tcpi_delivered >= i->tcpi_data_segs_out + 2 ? END_PASSIVE
									    : END_UNKNOWN;
}

/* Where there never was a connection, the stamps were never set. */
static uint32_t idle_of(const struct tcp_info *i, enum end_evidence evidence)
{
	uint32_t received = MIN(i->tcpi_last_data_recv, i->tcpi_last_ack_recv);

	if (evidence == END_UNUSED || evidence == END_ATTEMPT)
		return END_IDLE_UNKNOWN;
	return MIN(i->tcpi_last_data_sent, received);
}

static void take_tcp(
	const uint8_t *attributes, size_t size, uint32_t wqueue, struct socket_end *end)
{
	struct tcp_info info = {0};
	int r = diag_attribute(attributes, size, INET_DIAG_INFO, &info, INFO_BYTES);

	if (r < (int)INFO_BYTES)
		return; /* of an older kernel: it says less */
	end->evidence = (uint8_t)evidence_of(&info, wqueue);
	end->finished = wqueue == 0 &&
			(end->evidence == END_ACTIVE ||
				(end->evidence == END_PASSIVE && marks_of(&info, wqueue) == 1));
	end->idle_msec = idle_of(&info, (enum end_evidence)end->evidence);
	end->local_unknown = is_wiped(&info) && end->evidence != END_UNUSED &&
			     address_is_any(&end->row.local.address);
}

int diag_parse_end(const void *payload, size_t size, struct socket_end *ret)
{
	struct inet_diag_msg m;
	struct socket_end end = {.evidence = END_UNKNOWN, .idle_msec = END_IDLE_UNKNOWN};
	const uint8_t *attributes = (const uint8_t *)payload + sizeof(m);
	uint8_t protocol = 0;
	int r;

	if (size < sizeof(m))
		return -EBADMSG;
	memcpy(&m, payload, sizeof(m));
	size -= sizeof(m);
	r = diag_attribute(attributes, size, INET_DIAG_PROTOCOL, &protocol, sizeof(protocol));
	if (r <= 0)
		return -EBADMSG;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	r = diag_parse(payload, size + sizeof(m),
		protocol == IPPROTO_TCP ? PROTOCOL_TCP : PROTOCOL_UDP, &end.row);
	if (r == 1 && protocol == IPPROTO_TCP)
		take_tcp(attributes, size, m.idiag_wqueue, &end);
	if (r == 1)
		*ret = end;
	return r;
}

/*
 *	  0	ldh [offset of the port]
 *	  1+2i	jge low[i]	else to the next range
 *	  2+2i	jgt high[i]	to the next range, else pass
 *	  n-2	ret 0
 *	  n-1	ret all
 */
size_t diag_end_filter(
	const struct port_ranges *ranges, struct sock_filter ret[static DIAG_END_FILTER_MAX])
{
	enum { PORT = sizeof(struct nlmsghdr) + offsetof(struct inet_diag_msg, id.idiag_sport) };
	size_t n = 0, pass = 2 * ranges->count + 2;

	assert(ranges->count <= PORT_RANGES_MAX);
	ret[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, PORT);
	for (uint32_t i = 0; i < ranges->count; i++) {
		ret[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JGE | BPF_K, ranges->range[i].low, 0, 1);
		ret[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K,
			ranges->range[i].high, 0, (uint8_t)(pass - n - 1));
		n++;
	}
	ret[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	ret[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	return n;
}
