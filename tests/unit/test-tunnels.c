/* SPDX-License-Identifier: MIT */

/* The kernel's words about a device, by messages of our own making: not every kernel has every kind of tunnel. */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <cmocka.h>

#include "daemon/capture/tunnels.h"
#include "tests/support/refused.h"

REFUSABLE(struct mnl_socket *, NULL, mnl_socket_open2, (int bus, int flags), (bus, flags))
REFUSABLE(int, -1, mnl_socket_bind, (struct mnl_socket * s, unsigned groups, pid_t pid),
	(s, groups, pid))
REFUSABLE(int, -1, setsockopt, (int fd, int level, int option, const void *value, socklen_t size),
	(fd, level, option, value, size))
REFUSABLE(ssize_t, -1, mnl_socket_sendto,
	(const struct mnl_socket *s, const void *bytes, size_t size), (s, bytes, size))

/* What the kernel would say; NULL: it says it itself. */
static const void *said;
static size_t said_size;

ssize_t __real_mnl_socket_recvfrom(const struct mnl_socket *s, void *room, size_t size);
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *room, size_t size);

ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *room, size_t size)
{
	if (refused_now("mnl_socket_recvfrom"))
		return -1;
	if (!said)
		return __real_mnl_socket_recvfrom(s, room, size);
	assert_true(said_size <= size);
	memcpy(room, said, said_size);
	said = NULL;
	return (ssize_t)said_size;
}

#define MESSAGE_BYTES 1024

/* What is in IFLA_INFO_DATA: a number, in `size` bytes of network byte order. */
struct field {
	uint16_t type;
	uint16_t size;
	uint32_t value;
};

struct device {
	const char *kind; /* NULL: no IFLA_LINKINFO */
	unsigned flags;
	bool elsewhere; /* IFLA_LINK_NETNSID is there */
	bool no_nul;    /* the kind does not end */
	struct field data[4];
	bool ret;
	struct tunnel tunnel;
};

static const struct device devices[] = {
	{NULL, IFF_UP, .ret = false},
	{"veth", IFF_UP, .data = {{IFLA_VXLAN_PORT, 2, 50000}}, .ret = false},
	{"vxlan", IFF_UP, .data = {{IFLA_VXLAN_PORT, 2, 50000}}, .ret = true,
		.tunnel = {50000, true, false}},
	{"vxlan", 0, .data = {{IFLA_VXLAN_PORT, 2, 50000}}, .ret = false},
	{"vxlan", IFF_UP, .elsewhere = true, .data = {{IFLA_VXLAN_PORT, 2, 50000}}, .ret = false},
	{"vxlan", IFF_UP, .no_nul = true, .data = {{IFLA_VXLAN_PORT, 2, 50000}}, .ret = false},
	{"vxlan", IFF_UP, .ret = false},
	{"vxlan", IFF_UP, .data = {{IFLA_VXLAN_PORT, 2, 0}}, .ret = false},
	{"vxlan", IFF_UP, .data = {{IFLA_VXLAN_PORT, 1, 50}}, .ret = false},
	{"vxlan", IFF_UP, .data = {{IFLA_VXLAN_PORT, 4, 50000}}, .ret = false},
	{"vxlan", IFF_UP,
		.data = {{IFLA_VXLAN_PORT, 2, 50000}, {IFLA_VXLAN_LOCAL, 4, 0x7f000001},
			{IFLA_VXLAN_COLLECT_METADATA, 1, 0}},
		.ret = true, .tunnel = {50000, true, false}},
	{"vxlan", IFF_UP, .data = {{IFLA_VXLAN_LOCAL6, 4, 0x7f000001}, {IFLA_VXLAN_PORT, 2, 50000}},
		.ret = true, .tunnel = {50000, false, true}},
	{"vxlan", IFF_UP, .data = {{IFLA_VXLAN_GROUP6, 4, 0x7f000001}, {IFLA_VXLAN_PORT, 2, 50000}},
		.ret = true, .tunnel = {50000, false, true}},
	{"vxlan", IFF_UP,
		.data = {{IFLA_VXLAN_COLLECT_METADATA, 1, 1}, {IFLA_VXLAN_PORT, 2, 50000}},
		.ret = true, .tunnel = {50000, true, true}},
	{"geneve", IFF_UP,
		.data = {{IFLA_GENEVE_PORT, 2, 50000}, {IFLA_GENEVE_REMOTE, 4, 0x7f000001}},
		.ret = true, .tunnel = {50000, true, false}},
	{"geneve", IFF_UP,
		.data = {{IFLA_GENEVE_PORT, 2, 50000}, {IFLA_GENEVE_REMOTE6, 4, 0x7f000001}},
		.ret = true, .tunnel = {50000, false, true}},
	{"geneve", IFF_UP,
		.data = {{IFLA_GENEVE_PORT, 2, 50000}, {IFLA_GENEVE_COLLECT_METADATA, 0, 0}},
		.ret = true, .tunnel = {50000, true, true}},
	{"bareudp", IFF_UP, .data = {{IFLA_BAREUDP_PORT, 2, 50000}}, .ret = true,
		.tunnel = {50000, true, true}},
	{"bareudp", IFF_UP | IFF_RUNNING, .data = {{4242, 2, 1}, {IFLA_BAREUDP_PORT, 2, 65535}},
		.ret = true, .tunnel = {65535, true, true}},
};

static void put_data(struct nlmsghdr *h, const struct field *data, size_t count)
{
	for (size_t i = 0; i < count && data[i].type != 0; i++) {
		uint32_t value = htonl(data[i].value << 8 * (4 - data[i].size) % 32);

		mnl_attr_put(h, data[i].type, data[i].size, &value);
	}
}

/* Room for `MESSAGE_BYTES` at `room`. */
static struct nlmsghdr *put_device(void *room, const struct device *d)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(room);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(h, sizeof(*link));
	struct nlattr *info, *data;

	h->nlmsg_type = RTM_NEWLINK;
	link->ifi_flags = d->flags;
	mnl_attr_put_strz(h, IFLA_IFNAME, "tunnel");
	if (d->elsewhere)
		mnl_attr_put_u32(h, IFLA_LINK_NETNSID, 0);
	if (!d->kind)
		return h;
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put(h, IFLA_INFO_KIND, strlen(d->kind) + !d->no_nul, d->kind);
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	put_data(h, d->data, ELEMENTSOF(d->data));
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	assert_true(h->nlmsg_len <= MESSAGE_BYTES);
	return h;
}

static void test_devices(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(devices); i++) {
		_Alignas(struct nlmsghdr) char room[MESSAGE_BYTES] = {0};
		const struct device *d = &devices[i];
		const struct nlmsghdr *h = put_device(room, d);
		struct tunnel t = {.port = 7};

		if (tunnel_parse(mnl_nlmsg_get_payload(h), mnl_nlmsg_get_payload_len(h), &t) !=
			d->ret)
			fail_msg("device %zu", i);
		assert_int_equal(t.port, d->ret ? d->tunnel.port : 7);
		assert_int_equal(t.ipv4, d->tunnel.ipv4);
		assert_int_equal(t.ipv6, d->tunnel.ipv6);
	}
}

/* In memory that ends where the message is cut off; and with any one byte changed. */
static void test_damaged(void **state)
{
	_Alignas(struct nlmsghdr) char room[MESSAGE_BYTES];
	const struct nlmsghdr *h = put_device(room, &devices[ELEMENTSOF(devices) - 1]);
	size_t whole = mnl_nlmsg_get_payload_len(h);
	const char *payload = mnl_nlmsg_get_payload(h);
	unsigned found = 0;

	(void)state;
	for (size_t size = 0; size <= whole; size++) {
		_cleanup_(free_p) char *copy = malloc(size + (size == 0));
		struct tunnel t;

		assert_non_null(copy);
		memcpy(copy, payload, size);
		found += tunnel_parse(copy, size, &t);
	}
	assert_int_equal(found, 1);
	for (size_t i = 0; i < whole * 255; i++) {
		_cleanup_(free_p) char *copy = malloc(whole);
		struct tunnel t = {.port = 1};

		assert_non_null(copy);
		memcpy(copy, payload, whole);
		copy[i / 255] = (char)(copy[i / 255] + 1 + (char)(i % 255));
		found += tunnel_parse(copy, whole, &t);
		assert_int_not_equal(t.port, 0);
	}
	assert_true(found > 1);
}

static void test_ports(void **state)
{
	_cleanup_(free_p) struct tunnel_ports *p = calloc(1, sizeof(*p));
	unsigned ipv4 = 0, ipv6 = 0;

	(void)state;
	assert_non_null(p);
	tunnel_ports_add(p, &(struct tunnel){.port = 1, .ipv4 = true});
	tunnel_ports_add(p, &(struct tunnel){.port = UINT16_MAX, .ipv6 = true});
	tunnel_ports_add(p, &(struct tunnel){.port = 50000, .ipv4 = true});
	tunnel_ports_add(p, &(struct tunnel){.port = 50000, .ipv6 = true});
	assert_true(tunnel_ports_contain(p, false, 1));
	assert_true(tunnel_ports_contain(p, true, UINT16_MAX));
	assert_true(tunnel_ports_contain(p, false, 50000) && tunnel_ports_contain(p, true, 50000));
	for (uint32_t port = 0; port <= UINT16_MAX; port++) {
		ipv4 += tunnel_ports_contain(p, false, (uint16_t)port);
		ipv6 += tunnel_ports_contain(p, true, (uint16_t)port);
	}
	assert_int_equal(ipv4, 2);
	assert_int_equal(ipv6, 2);
}

/* Each way in which the kernel can be asked in vain: that is said, and what was known stays. */
static void test_read_is_refused(void **state)
{
	static const struct {
		const char *call;
		int error, r;
	} cases[] = {
		{"mnl_socket_open2", EMFILE, -EMFILE},
		{"mnl_socket_bind", ENOMEM, -ENOMEM},
		{"setsockopt", EINVAL, -EINVAL},
		{"mnl_socket_sendto", ENOBUFS, -ENOBUFS},
		{"mnl_socket_recvfrom", ENOBUFS, -ENOBUFS},
		/* it owes us the end, and does not send it */
		{"mnl_socket_recvfrom", EAGAIN, -ETIMEDOUT},
		{"mnl_socket_recvfrom", EINTR, 0},
	};
	_cleanup_(free_p) struct tunnel_ports *p = calloc(1, sizeof(*p));

	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		tunnel_ports_add(p, &(struct tunnel){.port = 7, .ipv4 = true});
		refuse(cases[i].call, 0, cases[i].error);
		assert_int_equal(tunnels_read(p), cases[i].r);
		assert_true(refused_done());
		assert_int_equal(tunnel_ports_contain(p, false, 7), cases[i].r < 0);
	}
}

/* What comes instead of devices. */
static void test_read_other_words(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t size; /* of the message that it says it is, and of what there is */
		int32_t code;
		int r;
		size_t given;
	} cases[] = {
		{NLMSG_DONE, 20, 0, 0, 20}, {NLMSG_DONE, 16, -EPERM, 0, 16}, /* without a code */
		{NLMSG_ERROR, 36, -EPERM, -EPERM, 36}, {NLMSG_DONE, 20, -EIO, -EIO, 20},
		{RTM_NEWLINK, 64, 0, -EBADMSG, 32}, /* cut off */
	};
	_cleanup_(free_p) struct tunnel_ports *p = calloc(1, sizeof(*p));

	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_Alignas(struct nlmsghdr) char message[64] = {0};
		const struct nlmsghdr h = {.nlmsg_len = cases[i].size, .nlmsg_type = cases[i].type};

		memcpy(message, &h, sizeof(h));
		memcpy(message + sizeof(h), &cases[i].code, sizeof(cases[i].code));
		said = message;
		said_size = cases[i].given;
		assert_int_equal(tunnels_read(p), cases[i].r);
		assert_null(said);
	}
}

/* A device among messages of other kinds, in two parts. */
static void test_read_devices(void **state)
{
	_Alignas(struct nlmsghdr) char room[2 * MESSAGE_BYTES] = {0};
	_cleanup_(free_p) struct tunnel_ports *p = calloc(1, sizeof(*p));
	struct nlmsghdr *noise, *device, *done;

	(void)state;
	assert_non_null(p);
	noise = put_device(room, &devices[2]);
	noise->nlmsg_type = RTM_DELLINK;
	device = put_device(room + noise->nlmsg_len, &devices[ELEMENTSOF(devices) - 1]);
	done = mnl_nlmsg_put_header(room + noise->nlmsg_len + device->nlmsg_len);
	done->nlmsg_type = NLMSG_DONE;
	said = room;
	said_size = noise->nlmsg_len + device->nlmsg_len + done->nlmsg_len;
	assert_int_equal(tunnels_read(p), 0);
	assert_true(tunnel_ports_contain(p, true, 65535));
	assert_false(tunnel_ports_contain(p, false, 50000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_read_is_refused),
		cmocka_unit_test(test_read_other_words),
		cmocka_unit_test(test_read_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
