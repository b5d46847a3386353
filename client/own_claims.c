/* SPDX-License-Identifier: MIT */

/*
 * The listeners that the connections need are of ports that the kernel chooses, too: they, and what they accept, are further
 * claims, which nobody looks for.
 */

#include "client/own_claims.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262 /* netinet/in.h of glibc 2.32 */
#endif

#define DISCARD_PORT 9 /* RFC 863; nobody needs to be there */
#define BACKLOG      128
#define TRIES        100

enum act { ACT_CONNECT, ACT_LISTEN, ACT_BIND, ACT_SEND, ACT_CONNECT_DISCARD };

static const struct {
	const char *name;
	enum protocol protocol;
	int family, type, ip_protocol;
	enum act act;
} kind_table[OWN_KIND_COUNT] = {
	[OWN_TCP] = {"tcp connected", PROTOCOL_TCP, AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_CONNECT},
	[OWN_TCP6] = {"tcp connected, IPv6", PROTOCOL_TCP, AF_INET6, SOCK_STREAM, IPPROTO_TCP,
		ACT_CONNECT},
	[OWN_RESET] = {"tcp reset", PROTOCOL_TCP, AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_CONNECT},
	[OWN_LISTENING] = {"tcp listening", PROTOCOL_TCP, AF_INET, SOCK_STREAM, IPPROTO_TCP,
		ACT_LISTEN},
	[OWN_BOUND] = {"tcp bound", PROTOCOL_TCP, AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_BIND},
	[OWN_UDP_SENT] = {"udp sent", PROTOCOL_UDP, AF_INET, SOCK_DGRAM, IPPROTO_UDP, ACT_SEND},
	[OWN_UDP_CONNECTED] = {"udp connected", PROTOCOL_UDP, AF_INET, SOCK_DGRAM, IPPROTO_UDP,
		ACT_CONNECT_DISCARD},
	[OWN_UDP_BOUND] = {"udp bound", PROTOCOL_UDP, AF_INET, SOCK_DGRAM, IPPROTO_UDP, ACT_BIND},
	[OWN_UDPLITE] = {"udplite bound", PROTOCOL_UDPLITE, AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE,
		ACT_BIND},
	[OWN_MPTCP] = {"mptcp connected", PROTOCOL_MPTCP, AF_INET, SOCK_STREAM, IPPROTO_MPTCP,
		ACT_CONNECT},
};

const char *own_kind_name(enum own_kind kind)
{
	return kind_table[kind].name;
}

enum protocol own_kind_protocol(enum own_kind kind)
{
	return kind_table[kind].protocol;
}

union loopback {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t loopback_set(union loopback *a, int family, uint16_t port)
{
	*a = (union loopback){0};
	if (family == AF_INET) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(port);
		a->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(a->v4);
	}
	a->v6.sin6_family = AF_INET6;
	a->v6.sin6_port = htons(port);
	a->v6.sin6_addr = in6addr_loopback;
	return sizeof(a->v6);
}

static int port_of(int fd, uint16_t *ret)
{
	union loopback a = {0};
	socklen_t size = sizeof(a);

	if (getsockname(fd, &a.any, &size) < 0)
		return -errno;
	*ret = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
	return 0;
}

/* Does the error say that this host has no such thing? */
static bool is_missing(int error)
{
	return error == -EAFNOSUPPORT || error == -EPROTONOSUPPORT || error == -EADDRNOTAVAIL ||
	       error == -ENOPROTOOPT;
}

static int make_socket(enum own_kind kind)
{
	int fd = socket(kind_table[kind].family, kind_table[kind].type | SOCK_CLOEXEC,
		kind_table[kind].ip_protocol);

	return fd < 0 ? -errno : fd;
}

/* Returns the descriptor, or negative errno. */
static int make_listener(enum own_kind kind, uint16_t *ret_port)
{
	_cleanup_(close_p) int fd = make_socket(kind);
	union loopback a;
	socklen_t size = loopback_set(&a, kind_table[kind].family, 0);
	int r;

	if (fd < 0)
		return fd;
	if (bind(fd, &a.any, size) < 0 || listen(fd, BACKLOG) < 0 ||
		fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	r = port_of(fd, ret_port);
	return r < 0 ? r : TAKE_FD(fd);
}

/* The call that claims. */
static int claim(int fd, enum own_kind kind, uint16_t listener_port)
{
	union loopback a;
	socklen_t size;
	int r = -1;

	switch (kind_table[kind].act) {
	case ACT_CONNECT:
		size = loopback_set(&a, kind_table[kind].family, listener_port);
		r = connect(fd, &a.any, size);
		break;
	case ACT_CONNECT_DISCARD:
		size = loopback_set(&a, kind_table[kind].family, DISCARD_PORT);
		r = connect(fd, &a.any, size);
		break;
	case ACT_SEND:
		size = loopback_set(&a, kind_table[kind].family, DISCARD_PORT);
		r = sendto(fd, "", 0, 0, &a.any, size) < 0 ? -1 : 0;
		break;
	case ACT_LISTEN: /* which chooses a port */
		r = listen(fd, 1);
		break;
	case ACT_BIND:
		size = loopback_set(&a, kind_table[kind].family, 0);
		r = bind(fd, &a.any, size);
		break;
	}
	return r < 0 ? -errno : 0;
}

static int make_one(enum own_kind kind, int listener, uint16_t listener_port, struct own_claim *ret)
{
	static const struct linger reset = {.l_onoff = 1};
	_cleanup_(close_p) int fd = make_socket(kind);
	struct own_claim c = {.kind = kind, .before = clock_now().wall};
	int r, accepted;

	if (fd < 0)
		return fd;
	r = claim(fd, kind, listener_port);
	if (r == 0)
		r = port_of(fd, &c.port);
	if (r < 0)
		return r;
	if (kind == OWN_RESET && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		return -errno;
	close(TAKE_FD(fd));
	c.after = clock_now().wall;
	/* the kernel may be late with the last: the next turn takes it */
	while (listener >= 0 && (accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(accepted);
	*ret = c;
	return 0;
}

static bool is_one_of(uint16_t port, const uint16_t ports[OWN_KIND_COUNT])
{
	for (int kind = 0; kind < OWN_KIND_COUNT; kind++)
		if (ports[kind] == port)
			return true;
	return false;
}

/*
 * Returns how many were made: all or, where the host has no such thing, none. Or negative errno. A listener that is looked for is
 * not made where one of ours, which nobody looks for, has just been (`listeners`, its port or 0 by kind): the two look alike.
 */
static int make_kind(enum own_kind kind, uint32_t count, struct own_claim *ret,
	uint16_t listeners[OWN_KIND_COUNT])
{
	_cleanup_(close_p) int listener = -1;
	uint16_t port = 0;
	int r;

	if (kind_table[kind].act == ACT_CONNECT) {
		listener = make_listener(kind, &port);
		if (listener < 0)
			return is_missing(listener) ? 0 : listener;
		listeners[kind] = port;
	}
	for (uint32_t i = 0; i < count; i++) {
		unsigned tries = 0;

		do
			r = make_one(kind, listener, port, &ret[i]);
		while (r == 0 && kind == OWN_LISTENING && is_one_of(ret[i].port, listeners) &&
			++tries < TRIES);
		if (r < 0)
			return i == 0 && is_missing(r) ? 0 : r;
	}
	return (int)count;
}

int own_claims_make(uint32_t count, struct own_claim **ret, size_t *ret_count)
{
	_cleanup_(free_p) struct own_claim *claims =
		calloc((size_t)count * OWN_KIND_COUNT, sizeof(*claims));
	uint16_t listeners[OWN_KIND_COUNT] = {0};
	size_t made = 0;

	if (!claims)
		return -ENOMEM;
	for (int kind = 0; kind < OWN_KIND_COUNT; kind++) {
		int r = make_kind((enum own_kind)kind, count, claims + made, listeners);

		if (r < 0)
			return r;
		made += (size_t)r;
	}
	*ret = TAKE_PTR(claims);
	*ret_count = made;
	return 0;
}
