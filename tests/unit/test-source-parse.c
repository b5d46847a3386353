/* SPDX-License-Identifier: MIT */

/* The two parsers of sockets, each over a table of good and bad input. */

#include "common/base.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "daemon/capture/source.h"

/* ---- diag_parse ---- */

/* A message as the kernel builds it, with the attribute that is read and one that is not. */
struct message {
	struct inet_diag_msg m;
	struct nlattr shutdown;
	uint8_t shutdown_value[4];
	struct nlattr cgroup;
	uint64_t cgroup_value;
} __attribute__((packed));

static struct message message_of(int family, uint8_t state)
{
	struct message b = {
		.m = {.idiag_family = (uint8_t)family,
			.idiag_state = state,
			.id = {.idiag_sport = htons(50000),
				.idiag_dport = htons(80),
				.idiag_if = 3,
				.idiag_cookie = {0x55667788, 0x11223344}},
			.idiag_uid = 1000,
			.idiag_inode = 4711},
		.shutdown = {.nla_len = 5, .nla_type = INET_DIAG_SHUTDOWN},
		.cgroup = {.nla_len = 12, .nla_type = INET_DIAG_CGROUP_ID},
		.cgroup_value = 99,
	};

	inet_pton(family, family == AF_INET ? "10.0.0.1" : "::ffff:10.0.0.1", b.m.id.idiag_src);
	inet_pton(family, family == AF_INET ? "10.0.0.2" : "2001:db8::2", b.m.id.idiag_dst);
	return b;
}

static int parse(const struct message *b, struct socket_row *ret)
{
	return diag_parse(b, sizeof(*b), PROTOCOL_TCP, ret);
}

static void assert_address(const struct endpoint *e, const char *text)
{
	char got[ENDPOINT_TEXT_MAX];

	assert_string_equal(endpoint_format(e, got), text);
}

static void test_message(void **state)
{
	struct message b = message_of(AF_INET, TCP_ESTABLISHED);
	struct socket_row row;

	(void)state;
	assert_int_equal(parse(&b, &row), 1);
	assert_int_equal(row.cookie, 0x1122334455667788);
	assert_int_equal(row.inode, 4711);
	assert_int_equal(row.cgroup_id, 99);
	assert_int_equal(row.uid, 1000);
	assert_int_equal(row.protocol, PROTOCOL_TCP);
	assert_int_equal(row.state, TCP_ESTABLISHED);
	assert_int_equal(row.interface, 3);
	assert_false(row.minisock);
	assert_address(&row.local, "10.0.0.1:50000");
	assert_address(&row.remote, "10.0.0.2:80");
	b = message_of(AF_INET6, TCP_ESTABLISHED);
	assert_int_equal(parse(&b, &row), 1);
	assert_address(&row.local, "10.0.0.1:50000");
	assert_address(&row.remote, "[2001:db8::2]:80");
	/* no attributes, and a last one without its padding */
	assert_int_equal(diag_parse(&b, sizeof(b.m), PROTOCOL_UDP, &row), 1);
	assert_int_equal(row.cgroup_id, 0);
	assert_int_equal(diag_parse(&b, sizeof(b.m) + 5, PROTOCOL_UDP, &row), 1);
	b.m.id.idiag_dport = 0;
	assert_int_equal(parse(&b, &row), 1);
	assert_address(&row.remote, "[2001:db8::2]:0");
	memset(b.m.id.idiag_dst, 0, sizeof(b.m.id.idiag_dst));
	assert_int_equal(parse(&b, &row), 1);
	assert_int_equal(row.remote.address.family, FAMILY_NONE);
	b.m.idiag_timer = 3;
	b.m.idiag_expires = 1234;
	assert_int_equal(parse(&b, &row), 1);
	assert_true(row.minisock);
	assert_int_equal(row.expires_msec, 1234);
	b.m.idiag_timer = 1;
	assert_int_equal(parse(&b, &row), 1);
	assert_false(row.minisock);
	assert_int_equal(row.expires_msec, 0);
}

static void test_messages_to_skip(void **state)
{
	struct message b = message_of(AF_INET, TCP_SYN_RECV);
	struct socket_row row;

	(void)state;
	assert_int_equal(parse(&b, &row), 0);
	b = message_of(AF_INET, 12);
	assert_int_equal(parse(&b, &row), 0);
	b = message_of(AF_INET, TCP_LISTEN);
	b.m.id.idiag_sport = 0;
	assert_int_equal(parse(&b, &row), 0);
	b.m.idiag_family = AF_UNIX;
	assert_int_equal(parse(&b, &row), 0);
}

static void test_bad_messages(void **state)
{
	const struct message good = message_of(AF_INET, TCP_ESTABLISHED);
	struct socket_row row = {.cookie = 1};
	struct message b;

	(void)state;
	for (size_t size = 0; size < sizeof(good); size++) {
		int r = diag_parse(&good, size, PROTOCOL_TCP, &row);
		bool attribute_ends = size == sizeof(good.m) ||
				      (size >= sizeof(good.m) + 5 && size <= sizeof(good.m) + 8);

		assert_int_equal(r, attribute_ends ? 1 : -EBADMSG);
	}
	row.cookie = 1;
	b = good;
	memset(b.m.id.idiag_cookie, 0, sizeof(b.m.id.idiag_cookie));
	assert_int_equal(parse(&b, &row), -EBADMSG);
	b = good;
	b.shutdown.nla_len = 3;
	assert_int_equal(parse(&b, &row), -EBADMSG);
	b = good;
	b.shutdown.nla_len = 0;
	assert_int_equal(parse(&b, &row), -EBADMSG);
	b = good;
	b.cgroup.nla_len = 8;
	assert_int_equal(parse(&b, &row), -EBADMSG);
	b = good;
	b.cgroup.nla_len = 13;
	assert_int_equal(parse(&b, &row), -EBADMSG);
	/* whole, but shorter than what it is to have, and longer */
	b = good;
	b.cgroup.nla_len = 8;
	assert_int_equal(diag_parse(&b, sizeof(b) - 4, PROTOCOL_TCP, &row), -EBADMSG);
	b = good;
	b.shutdown.nla_len = sizeof(b) - sizeof(b.m);
	b.shutdown.nla_type = INET_DIAG_CGROUP_ID;
	assert_int_equal(parse(&b, &row), -EBADMSG);
	assert_int_equal(row.cookie, 1); /* untouched */
}

/* ---- procnet_parse ---- */

#define TAIL " 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0"

struct line_case {
	const char *line;
	int result;
	const char *local, *remote;
	uint8_t state;
};

static const struct line_case line_cases[] = {
	{"   0: 0100007F:C350 00000000:0000 0A" TAIL, 1, "127.0.0.1:50000", "", TCP_LISTEN},
	{" 1234: 0100007F:C350 0200007F:0050 01" TAIL, 1, "127.0.0.1:50000", "127.0.0.2:80",
		TCP_ESTABLISHED},
	{"   1: 00000000000000000000000001000000:C350 B80D0120000000000000000002000000:0050 01" TAIL,
		1, "[::1]:50000", "[2001:db8::2]:80", TCP_ESTABLISHED},
	{"   1: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000200007F:0050 01" TAIL,
		1, "127.0.0.1:50000", "127.0.0.2:80", TCP_ESTABLISHED},
	{"   1: 0100007F:C350 0200007F:0050 03" TAIL, 0, NULL, NULL, 0},
	{"   1: 0100007F:0000 0200007F:0050 07" TAIL, 0, NULL, NULL, 0},
	{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid",
		-EBADMSG, NULL, NULL, 0},
	{"", -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007F:C350", -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007:C350 00000000:0000 0A" TAIL, -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007F0:C350 00000000:0000 0A" TAIL, -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007F0100007F:C350 00000000:0000 0A" TAIL, -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007F:1C350 00000000:0000 0A" TAIL, -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007F:C350 00000000:0000 0A 0:0 00:0 0 4294967296 0 1 1", -EBADMSG, NULL, NULL,
		0},
	{"   1: 0100007F:C350 00000000:0000 0A 0:0 00:0 0 1 0 99999999999 1", -EBADMSG, NULL, NULL,
		0},
	{"   1: 0100007F:C350 00000000:0000 0A 0:0 00:0 0 1 0 471", -EBADMSG, NULL, NULL, 0},
	{"   1: 0100007F:C350 00000000:0000 0A 0:0 00:0 0 1 0 -1 1", -EBADMSG, NULL, NULL, 0},
};

static int parse_line(const char *line, enum protocol protocol, struct socket_row *ret)
{
	return procnet_parse(line, strlen(line), protocol, ret);
}

static void test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(line_cases); i++) {
		const struct line_case *c = &line_cases[i];
		struct socket_row row = {.cookie = 1};

		assert_int_equal(parse_line(c->line, PROTOCOL_TCP, &row), c->result);
		if (c->result <= 0) {
			assert_int_equal(row.cookie, 1);
			continue;
		}
		assert_address(&row.local, c->local);
		assert_address(&row.remote, c->remote);
		assert_int_equal(row.state, c->state);
		assert_int_equal(row.uid, 1000);
		assert_int_equal(row.inode, 4711);
		assert_int_equal(row.cookie, UINT64_C(1) << 63 | 4711);
		assert_false(row.minisock);
	}
}

#define REMAINDER(port)                                                                            \
	"  1: 0100007F:C350 0200007F:" port                                                        \
	" 06 00000000:00000000 03:00000BB8 00000000     0        0 0 3 0"

static void test_line_of_a_remainder(void **state)
{
	struct socket_row row, other;

	(void)state;
	assert_int_equal(parse_line(REMAINDER("0050"), PROTOCOL_TCP, &row), 1);
	assert_true(row.minisock);
	assert_int_equal(row.expires_msec, 30000);
	assert_int_equal(row.inode, 0);
	assert_int_equal(row.cookie >> 62, 3);
	assert_int_equal(parse_line(REMAINDER("0050"), PROTOCOL_TCP, &other), 1);
	assert_int_equal(row.cookie, other.cookie);
	assert_int_equal(parse_line(REMAINDER("0051"), PROTOCOL_TCP, &other), 1);
	assert_int_not_equal(row.cookie, other.cookie);
	assert_int_equal(parse_line(REMAINDER("0050"), PROTOCOL_UDP, &other), 1);
	assert_int_not_equal(row.cookie, other.cookie);
	assert_false(other.minisock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_messages_to_skip),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_line_of_a_remainder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
