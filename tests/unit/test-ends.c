/* SPDX-License-Identifier: MIT */

/* Destroy notifications as bytes: what is left in a TCP socket of how it was used, and the filter for them. The figures are
 * those that Linux 6.18 sent for a connection that ended like that. */

#include "common/base.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "daemon/capture/source.h"

#define MAPPED                                                                                     \
	{                                                                                          \
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1                             \
	}
#define NO_RTT UINT32_MAX

struct message {
	struct inet_diag_msg diag;
	struct nlattr protocol_header;
	uint8_t protocol[4];
	struct nlattr info_header;
	struct tcp_info info;
} __attribute__((packed));

static struct message message_of(int protocol)
{
	struct message m = {
		.diag = {.idiag_family = AF_INET,
			.idiag_state = 7,
			.id = {.idiag_sport = htons(50000),
				.idiag_dport = htons(443),
				.idiag_src = {htonl(0x7f000001)},
				.idiag_dst = {htonl(0x7f000002)},
				.idiag_cookie = {5, 0}}},
		.protocol_header = {.nla_len = 5, .nla_type = INET_DIAG_PROTOCOL},
		.protocol = {(uint8_t)protocol},
		.info_header = {.nla_len = sizeof(struct nlattr) + sizeof(struct tcp_info),
			.nla_type = INET_DIAG_INFO},
	};

	return m;
}

static size_t size_of(const struct message *m)
{
	return m->protocol[0] == IPPROTO_TCP ? sizeof(*m) : offsetof(struct message, info_header);
}

static int parse(const struct message *m, struct socket_end *ret)
{
	return diag_parse_end(m, size_of(m), ret);
}

/* How it ended, what was in it then, what that says. */
static const struct {
	const char *how;
	uint32_t segs_out, segs_in, delivered, data_out, wqueue, min_rtt;
	uint64_t acked, sent, received;
	enum end_evidence evidence;
} ends[] = {
	{"client, closed first", 3, 2, 2, 0, 0, 28, 2, 0, 0, END_ACTIVE},
	{"its server", 2, 4, 2, 0, 0, 17, 1, 0, 1, END_PASSIVE},
	{"server, closed first", 1, 3, 2, 0, 0, 23, 1, 0, 0, END_PASSIVE},
	{"its client", 4, 3, 2, 0, 0, 33, 2, 0, 1, END_ACTIVE},
	{"client, data both ways", 6, 4, 3, 1, 0, 11, 102, 100, 51, END_ACTIVE},
	{"its server", 3, 6, 3, 1, 0, 5, 51, 50, 101, END_PASSIVE},
	{"server of a client that aborted", 1, 4, 1, 0, 0, 24, 0, 0, 100, END_PASSIVE},
	{"server that left data unread", 2, 3, 1, 0, 0, 25, 0, 0, 100, END_PASSIVE},
	{"client that was reset: no FIN", 3, 3, 2, 1, 0, 10, 101, 100, 0, END_UNKNOWN},
	{"server whose FIN went with data", 3, 6, 2, 1, 0, 5, 51, 50, 101, END_UNKNOWN},
	{"either, aborted: disconnected first", 0, 0, 0, 0, 65538, 10, 0, 0, 0, END_UNKNOWN},
	{"refused at once", 0, 0, 0, 0, 3, NO_RTT, 0, 0, 0, END_ATTEMPT},
	{"refused later", 1, 1, 0, 0, 1, NO_RTT, 0, 0, 0, END_ATTEMPT},
	{"wiped with more in its queue", 0, 0, 0, 0, 4, NO_RTT, 0, 0, 0, END_UNKNOWN},
	{"server that only heard", 1, 3, 0, 0, 0, 24, 0, 0, 100, END_PASSIVE},
	{"bound or listening", 0, 0, 0, 0, 0, NO_RTT, 0, 0, 0, END_UNUSED},
	{"more spent than sent", 3, 2, 2, 0, 9, 28, 2, 0, 0, END_UNKNOWN},
	{"more sent than spent", 3, 2, 2, 1, 0, 28, 2, 100, 0, END_UNKNOWN},
};

static void test_evidence(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
		struct message m = message_of(IPPROTO_TCP);
		struct socket_end end;

		m.diag.idiag_wqueue = ends[i].wqueue;
		m.info.tcpi_segs_out = ends[i].segs_out;
		m.info.tcpi_segs_in = ends[i].segs_in;
		m.info.tcpi_delivered = ends[i].delivered;
		m.info.tcpi_data_segs_out = ends[i].data_out;
		m.info.tcpi_min_rtt = ends[i].min_rtt;
		m.info.tcpi_bytes_acked = ends[i].acked;
		m.info.tcpi_bytes_sent = ends[i].sent;
		m.info.tcpi_bytes_received = ends[i].received;
		assert_int_equal(parse(&m, &end), 1);
		if (end.evidence != ends[i].evidence)
			fail_msg("%s: %d", ends[i].how, end.evidence);
		assert_false(end.local_unknown);
		m.info.tcpi_options = TCPI_OPT_SYN_DATA;
		assert_int_equal(parse(&m, &end), 1);
		if (ends[i].segs_out > 0)
			assert_int_equal(end.evidence, END_UNKNOWN);
		/* nor is a Fast Open that the other side did not want told from another */
		m.info.tcpi_options = 0;
		m.info.tcpi_fastopen_client_fail = TFO_DATA_NOT_ACKED;
		assert_int_equal(parse(&m, &end), 1);
		if (ends[i].segs_out > 0)
			assert_int_equal(end.evidence, END_UNKNOWN);
	}
}

static void test_members(void **state)
{
	struct message m = message_of(IPPROTO_TCP);
	struct socket_end end = {.evidence = 77};

	(void)state;
	assert_int_equal(parse(&m, &end), 1);
	assert_int_equal(end.row.protocol, PROTOCOL_TCP);
	assert_int_equal(end.row.cookie, 5);
	assert_int_equal(end.row.local.port, 50000);
	assert_int_equal(end.row.remote.port, 443);
	assert_int_equal(end.row.inode, 0);
	assert_false(end.older);
	m.info.tcpi_segs_in = 2;
	m.info.tcpi_delivered = 1;
	m.info.tcpi_last_data_sent = 30;
	m.info.tcpi_last_data_recv = 20;
	m.info.tcpi_last_ack_recv = 7;
	assert_int_equal(parse(&m, &end), 1);
	assert_int_equal(end.idle_msec, 7);
	assert_false(end.finished);
	m.info.tcpi_bytes_acked = 2;
	assert_int_equal(parse(&m, &end), 1);
	assert_true(end.finished);
	m = message_of(IPPROTO_UDP);
	m.diag.id.idiag_dport = 0;
	m.diag.id.idiag_dst[0] = 0;
	assert_int_equal(parse(&m, &end), 1);
	assert_int_equal(end.row.protocol, PROTOCOL_UDP);
	assert_int_equal(end.evidence, END_UNKNOWN);
	assert_int_equal(end.row.remote.address.family, FAMILY_NONE);
	/* an IPv6 socket that spoke to IPv4 */
	m = message_of(IPPROTO_UDP);
	m.diag.idiag_family = AF_INET6;
	memcpy(m.diag.id.idiag_src, (const uint8_t[16])MAPPED, 16);
	assert_int_equal(parse(&m, &end), 1);
	assert_int_equal(end.row.local.address.family, FAMILY_IPV4);
}

/* The kernel takes the address from a socket that it disconnects; one that was bound to any has none to take. */
static void test_local_unknown(void **state)
{
	struct message m = message_of(IPPROTO_TCP);
	struct socket_end end;

	(void)state;
	m.diag.id.idiag_src[0] = 0;
	m.diag.idiag_wqueue = 3;
	m.info.tcpi_min_rtt = NO_RTT;
	assert_int_equal(parse(&m, &end), 1);
	assert_int_equal(end.evidence, END_ATTEMPT);
	assert_true(end.local_unknown);
	m.diag.idiag_wqueue = 0;
	assert_int_equal(parse(&m, &end), 1);
	assert_int_equal(end.evidence, END_UNUSED);
	assert_false(end.local_unknown);
}

static void test_skipped_and_refused(void **state)
{
	struct message m = message_of(IPPROTO_TCP);
	struct socket_end end = {.evidence = 77};

	(void)state;
	for (size_t size = 0; size < sizeof(m); size++) {
		int r = diag_parse_end(&m, size, &end);

		/* the last attribute may come without its padding; TCP without its info says less */
		if (size > offsetof(struct message, protocol) &&
			size <= offsetof(struct message, info_header))
			assert_int_equal(r, 1);
		else
			assert_int_equal(r, -EBADMSG);
		end.evidence = 77;
	}
	m.protocol[0] = IPPROTO_SCTP;
	assert_int_equal(diag_parse_end(&m, sizeof(m), &end), 0);
	m = message_of(IPPROTO_TCP);
	m.protocol_header.nla_type = INET_DIAG_MARK;
	assert_int_equal(parse(&m, &end), -EBADMSG);
	m = message_of(IPPROTO_TCP);
	m.diag.id.idiag_sport = 0; /* a UDP socket that was disconnected looks like that, too */
	assert_int_equal(parse(&m, &end), 0);
	m = message_of(IPPROTO_TCP);
	m.diag.id.idiag_cookie[0] = 0;
	assert_int_equal(parse(&m, &end), -EBADMSG);
	/* an older kernel's shorter info */
	m = message_of(IPPROTO_TCP);
	m.info_header.nla_len = sizeof(struct nlattr) + 104;
	assert_int_equal(diag_parse_end(&m, offsetof(struct message, info) + 104, &end), 1);
	assert_int_equal(end.evidence, END_UNKNOWN);
}

/* Runs the filter as the kernel would (linux/filter.h); only what ours has. */
static uint32_t run(const struct sock_filter *code, size_t count, const uint8_t *bytes)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < count; pc++) {
		const struct sock_filter *i = &code[pc];

		switch (i->code) {
		case BPF_LD | BPF_H | BPF_ABS:
			a = (uint32_t)bytes[i->k] << 8 | bytes[i->k + 1];
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fail_msg("instruction %zu", pc);
		}
	}
	fail_msg("fell off the end");
	return 0;
}

static bool passes(const struct port_ranges *ranges, uint16_t port)
{
	struct sock_filter code[DIAG_END_FILTER_MAX];
	size_t count = diag_end_filter(ranges, code);
	struct {
		struct nlmsghdr header;
		struct message message;
	} bytes = {.message = message_of(IPPROTO_TCP)};
	uint32_t r;

	assert_true(count <= DIAG_END_FILTER_MAX);
	bytes.message.diag.id.idiag_sport = htons(port);
	r = run(code, count, (const uint8_t *)&bytes);
	assert_true(r == 0 || r == UINT32_MAX);
	return r != 0;
}

static void test_filter(void **state)
{
	struct port_ranges most = {.count = PORT_RANGES_MAX};
	static const struct port_ranges lists[] = {
		{.count = 0},
		{{{1, UINT16_MAX}}, 1},
		{{{32768, 60999}}, 1},
		{{{40000, 40000}, {40002, 40002}, {50000, 65535}}, 3},
	};

	(void)state;
	for (uint16_t i = 0; i < PORT_RANGES_MAX; i++)
		most.range[i] =
			(struct port_range){(uint16_t)(1000 * i + 10), (uint16_t)(1000 * i + 20)};
	for (uint32_t port = 0; port <= UINT16_MAX; port++) {
		for (size_t i = 0; i < ELEMENTSOF(lists); i++)
			assert_int_equal(passes(&lists[i], (uint16_t)port),
				port_ranges_contain(&lists[i], (uint16_t)port));
		assert_int_equal(
			passes(&most, (uint16_t)port), port_ranges_contain(&most, (uint16_t)port));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_evidence),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_local_unknown),
		cmocka_unit_test(test_skipped_and_refused),
		cmocka_unit_test(test_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
