/* SPDX-License-Identifier: MIT */

/*
 * A tunnel device opens its UDP socket when it is set up and closes it when it is set down, so a device that is down is
 * left out: anybody may have its port. The socket stays in the namespace in which the device was made, also when the
 * device moves to another: there it is shown with IFLA_LINK_NETNSID, and left out.
 *
 * What the port's socket is bound to decides which sockets of others can have the port too, so families are kept
 * apart: vxlan's and geneve's sockets are IPv4's or IPv6's alone (one of each with "external"), and the port of an IPv4
 * tunnel is free for an IPv6-only socket of anybody. bareudp has one socket for both, which leaves the port to nobody.
 *
 * WireGuard tells its port only to CAP_NET_ADMIN, which capture does not have.
 */

#include "daemon/capture/tunnels.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

/* The kernel fills at most 32 KiB for one read. */
#define RECEIVE_BYTES (32 * 1024)

/* A kernel that owes us the end of a dump for so long will not send it. */
#define RECEIVE_SECONDS 5

/* Higher than all types of attributes that are looked at; what is above is stepped over. */
#define ATTRIBUTES 64

struct attributes {
	const struct nlattr *at[ATTRIBUTES]; /* by type; NULL: not there; 0 never is */
};

/* Types of attributes in IFLA_INFO_DATA; 0: this kind has none such. */
struct kind {
	const char *name;     /* IFLA_INFO_KIND */
	uint16_t port;        /* be16 */
	uint16_t external;    /* a flag, or u8: sockets of both families */
	uint16_t address6[2]; /* either is there: the socket is IPv6's */
	bool both;            /* its socket has the port of both families in any case */
};

static const struct kind kinds[] = {
	{
		.name = "vxlan",
		.port = IFLA_VXLAN_PORT,
		.external = IFLA_VXLAN_COLLECT_METADATA,
		.address6 = {IFLA_VXLAN_GROUP6, IFLA_VXLAN_LOCAL6},
	},
	{
		.name = "geneve",
		.port = IFLA_GENEVE_PORT,
		.external = IFLA_GENEVE_COLLECT_METADATA,
		.address6 = {IFLA_GENEVE_REMOTE6},
	},
	{
		.name = "bareudp",
		.port = IFLA_BAREUDP_PORT,
		.both = true,
	},
};

static int keep(const struct nlattr *attribute, void *context)
{
	struct attributes *a = context;
	uint16_t type = mnl_attr_get_type(attribute);

	if (type != 0 && type < ATTRIBUTES)
		a->at[type] = attribute;
	return MNL_CB_OK;
}

/* Empty where there is no such nest. */
static struct attributes attributes_in(const struct nlattr *nest)
{
	struct attributes a = {0};

	if (nest)
		(void)mnl_attr_parse_nested(nest, keep, &a);
	return a;
}

static const struct kind *kind_of(const struct nlattr *name)
{
	if (!name || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0)
		return NULL;
	for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
		if (streq(mnl_attr_get_str(name), kinds[i].name))
			return &kinds[i];
	return NULL;
}

/* vxlan always sends the byte, geneve sends an attribute without bytes or none. */
static bool is_set(const struct nlattr *flag)
{
	return flag && (mnl_attr_get_payload_len(flag) == 0 || mnl_attr_get_u8(flag) != 0);
}

/* What a kind does not have is type 0, which is never there. */
static bool take_socket(const struct kind *kind, const struct attributes *data, struct tunnel *ret)
{
	const struct nlattr *port = data->at[kind->port];
	bool ipv6 = data->at[kind->address6[0]] || data->at[kind->address6[1]];
	bool both = kind->both || is_set(data->at[kind->external]);

	if (!port || mnl_attr_get_payload_len(port) != sizeof(uint16_t) ||
		mnl_attr_get_u16(port) == 0)
		return false;
	*ret = (struct tunnel){
		.port = ntohs(mnl_attr_get_u16(port)),
		.ipv4 = both || !ipv6,
		.ipv6 = both || ipv6,
	};
	return true;
}

_Static_assert(sizeof(struct ifinfomsg) % MNL_ALIGNTO == 0, "attributes follow at once");

bool tunnel_parse(const void *payload, size_t size, struct tunnel *ret)
{
	const size_t header = sizeof(struct ifinfomsg);
	struct attributes link = {0}, info, data;
	struct ifinfomsg message;
	const struct kind *kind;

	if (size < header)
		return false;
	memcpy(&message, payload, sizeof(message));
	(void)mnl_attr_parse_payload((const uint8_t *)payload + header, size - header, keep, &link);
	info = attributes_in(link.at[IFLA_LINKINFO]);
	data = attributes_in(info.at[IFLA_INFO_DATA]);
	kind = kind_of(info.at[IFLA_INFO_KIND]);
	if (!kind || !(message.ifi_flags & IFF_UP) || link.at[IFLA_LINK_NETNSID])
		return false;
	return take_socket(kind, &data, ret);
}

void tunnel_ports_add(struct tunnel_ports *p, const struct tunnel *t)
{
	uint8_t bit = (uint8_t)(1u << t->port % 8);

	p->ipv4[t->port / 8] |= t->ipv4 ? bit : 0;
	p->ipv6[t->port / 8] |= t->ipv6 ? bit : 0;
}

bool tunnel_ports_contain(const struct tunnel_ports *p, bool ipv6, uint16_t port)
{
	return ((ipv6 ? p->ipv6 : p->ipv4)[port / 8] & 1u << port % 8) != 0;
}

static void socket_close_p(struct mnl_socket **s)
{
	if (*s)
		(void)mnl_socket_close(*s);
}

static int open_socket(struct mnl_socket **ret)
{
	const struct timeval timeout = {.tv_sec = RECEIVE_SECONDS};
	_cleanup_(socket_close_p) struct mnl_socket *s =
		mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

	if (!s || mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
		setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVTIMEO, &timeout,
			sizeof(timeout)) < 0)
		return -errno;
	*ret = TAKE_PTR(s);
	return 0;
}

static int ask(const struct mnl_socket *s)
{
	_Alignas(struct nlmsghdr) char request[128];
	struct nlmsghdr *h = mnl_nlmsg_put_header(request);
	struct ifinfomsg *link;

	h->nlmsg_type = RTM_GETLINK;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	link = mnl_nlmsg_put_extra_header(h, sizeof(*link));
	link->ifi_family = AF_UNSPEC;
	mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return mnl_socket_sendto(s, h, h->nlmsg_len) < 0 ? -errno : 0;
}

/* 1: the end; 0: go on; or negative errno. A dump that devices came and went under (NLM_F_DUMP_INTR) may lack some, but
 * what it shows is there. */
static int take_batch(const void *bytes, size_t size, struct tunnel_ports *ports)
{
	const struct nlmsghdr *h = bytes;
	int left = (int)size, code = 0;
	struct tunnel t;

	for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
			if (mnl_nlmsg_get_payload_len(h) >= sizeof(code))
				memcpy(&code, mnl_nlmsg_get_payload(h), sizeof(code));
			return code < 0 ? code : 1;
		}
		if (h->nlmsg_type == RTM_NEWLINK &&
			tunnel_parse(mnl_nlmsg_get_payload(h), mnl_nlmsg_get_payload_len(h), &t))
			tunnel_ports_add(ports, &t);
	}
	return left > 0 ? -EBADMSG : 0;
}

int tunnels_read(struct tunnel_ports *ret)
{
	_Alignas(struct nlmsghdr) char buffer[RECEIVE_BYTES];
	_cleanup_(socket_close_p) struct mnl_socket *s = NULL;
	struct tunnel_ports ports = {0};
	int r = open_socket(&s);

	if (r == 0)
		r = ask(s);
	while (r == 0) {
		ssize_t n = mnl_socket_recvfrom(s, buffer, sizeof(buffer));

		if (n >= 0)
			r = take_batch(buffer, (size_t)n, &ports);
		else if (errno != EINTR)
			r = errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	if (r < 0)
		return r;
	*ret = ports;
	return 0;
}
