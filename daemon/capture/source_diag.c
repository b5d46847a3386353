/* SPDX-License-Identifier: MIT */

/*
 * The socket tables through NETLINK_SOCK_DIAG, which needs no privilege.
 *
 * What a dump costs is the walk over the established hash, 0.4 to 2 ms however empty (262,144
 * buckets on a machine of 23 GiB). So TCP is asked by the old TCPDIAG_GETSOCK, which takes both
 * families in one walk (the v2 request needs one each and knows no AF_UNSPEC), the ports are
 * filtered in the kernel, and MPTCP, which walks twice more, is asked only when
 * /proc/self/net/protocols (30 us) counts such sockets. Not every kernel counts them there: that is
 * tried at open with a socket of our own, and where it does not show, MPTCP is always asked. So it is tried whether
 * the kernel shows sockets that are only bound.
 *
 * An abandoned dump makes the next request on its socket fail with EBUSY. Therefore a dump is
 * always read to its end, also after the caller wants no more rows and after something got lost.
 *
 * A dump is no snapshot, and the kernel never says so for these tables (NLM_F_DUMP_INTR was not set
 * once in 12 dumps of 49,500 sockets under churn). It is honoured all the same.
 */

#include "daemon/capture/source.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>

#include "daemon/capture/source_signs.h"

/* The kernel fills at most 32 KiB for one read; with more room a read became slower, not faster. */
#define RECEIVE_BYTES (32 * 1024)

/* A kernel that owes us the end of a dump for so long will not send it. */
#define RECEIVE_SECONDS 5

/* Bits of idiag_states, by the state numbers of the kernel (net/tcp_states.h). */
#define STATE_BOUND_INACTIVE                                                                       \
	13 /* bound-only TCP; kernel 6.8, ignored before; comes back as state 7 */
#define STATES_LISTEN (1u << TCP_LISTEN)
#define STATES_BOUND  (1u << STATE_BOUND_INACTIVE)
/* 1 to 11 without SYN_RECV: not a connection yet, on the listener's port, without a holder */
#define STATES_ALL (((1u << 12) - 2u) & ~(1u << TCP_SYN_RECV))

/* RFC 5737, TEST-NET-1: IP_FREEBIND lets a probe be bound to it, where nobody can reach it. */
#define PROBE_ADDRESS 0xc0000201u

struct source_diag {
	struct mnl_socket *socket;
	uint32_t port_id, sequence;
	int protocols_fd;   /* /proc/self/net/protocols of our namespace; -1: not readable */
	uint32_t protocols; /* mask: those that this kernel has */
	bool mptcp_counted; /* protocols_fd counts MPTCP sockets */
	struct signs_files signs_files;
	struct signs signs; /* before the last reading of TCP's connections */
	bool signs_hold;    /* that reading was whole, and had them */
	_Alignas(struct nlmsghdr) char buffer[RECEIVE_BYTES];
};

/* One request to the kernel. */
struct dump {
	enum protocol protocol;
	uint8_t family; /* AF_UNSPEC: both, by the old request */
};

/* In the order in which they are read. */
static const struct dump dumps[] = {
	{PROTOCOL_MPTCP, AF_INET},
	{PROTOCOL_MPTCP, AF_INET6},
	{PROTOCOL_TCP, AF_UNSPEC},
	{PROTOCOL_UDP, AF_INET},
	{PROTOCOL_UDP, AF_INET6},
	{PROTOCOL_UDPLITE, AF_INET},
	{PROTOCOL_UDPLITE, AF_INET6},
};
static const struct dump dump_tcp = {PROTOCOL_TCP, AF_UNSPEC};

/* Who gets the rows. */
struct reading {
	const struct port_ranges *ranges;
	source_row_fn row;
	void *context;
	int stopped; /* what `row` returned when it wanted no more; 0: goes on */
};

static int ip_protocol(enum protocol p)
{
	switch (p) {
	case PROTOCOL_TCP:
		return IPPROTO_TCP;
	case PROTOCOL_UDP:
		return IPPROTO_UDP;
	case PROTOCOL_UDPLITE:
		return IPPROTO_UDPLITE;
	case PROTOCOL_MPTCP:
		return IPPROTO_MPTCP;
	case PROTOCOL_COUNT:
		break;
	}
	return 0;
}

static void put_request(struct nlmsghdr *h, const struct dump *dump, uint32_t states)
{
	int protocol = ip_protocol(dump->protocol);

	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (dump->family == AF_UNSPEC) {
		struct inet_diag_req *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

		h->nlmsg_type = TCPDIAG_GETSOCK;
		q->idiag_states = states;
	} else {
		struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

		h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
		q->sdiag_family = dump->family;
		q->idiag_states = states;
		/* a number that does not fit its member goes into an attribute */
		if (protocol <= UINT8_MAX)
			q->sdiag_protocol = (uint8_t)protocol;
		else
			mnl_attr_put_u32(h, INET_DIAG_REQ_PROTOCOL, (uint32_t)protocol);
	}
}

static int send_request(struct source_diag *d, const struct dump *dump, uint32_t states,
	const struct port_ranges *ranges)
{
	_Alignas(struct nlmsghdr) char request[512];
	uint8_t filter[DIAG_FILTER_BYTES_MAX];
	struct nlmsghdr *h = mnl_nlmsg_put_header(request);

	_Static_assert(sizeof(struct nlmsghdr) + sizeof(struct inet_diag_req_v2) +
				       2 * sizeof(struct nlattr) + sizeof(uint32_t) +
				       sizeof(filter) <=
			       sizeof(request),
		"the longest request fits");
	put_request(h, dump, states);
	h->nlmsg_seq = ++d->sequence;
	mnl_attr_put(h, INET_DIAG_REQ_BYTECODE, diag_filter(ranges, filter), filter);
	return mnl_socket_sendto(d->socket, h, h->nlmsg_len) < 0 ? -errno : 0;
}

/* What the kernel says at the end of a dump: the int in NLMSG_DONE or in NLMSG_ERROR. */
static int end_code(const struct nlmsghdr *h, const struct dump *dump)
{
	int code = 0;

	if (mnl_nlmsg_get_payload_len(h) >= sizeof(code))
		memcpy(&code, mnl_nlmsg_get_payload(h), sizeof(code));
	else if (h->nlmsg_type == NLMSG_ERROR)
		return -EBADMSG;
	/* how the old request says that there is no inet_diag at all */
	if (code == -EOPNOTSUPP && dump->family == AF_UNSPEC)
		return -ENOENT;
	return MIN(code, 0);
}

/* 1: end of the dump. 0: go on. The first thing that went wrong stays in *result. */
static int take_message(struct source_diag *d, const struct nlmsghdr *h, const struct dump *dump,
	struct reading *reading, int *result)
{
	struct socket_row row;
	int r = 0;

	/* a late part of an answer to an earlier question */
	if (h->nlmsg_seq != d->sequence || h->nlmsg_pid != d->port_id)
		return 0;
	if (h->nlmsg_flags & NLM_F_DUMP_INTR && *result == 0)
		*result = -EINTR;
	if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
		if (*result == 0)
			*result = end_code(h, dump);
		return 1;
	}
	if (h->nlmsg_type == TCPDIAG_GETSOCK || h->nlmsg_type == SOCK_DIAG_BY_FAMILY)
		r = diag_parse(mnl_nlmsg_get_payload(h), mnl_nlmsg_get_payload_len(h),
			dump->protocol, &row);
	if (r < 0 && *result == 0)
		*result = r;
	if (r > 0 && reading->stopped == 0 && port_ranges_contain(reading->ranges, row.local.port))
		reading->stopped = reading->row(reading->context, &row);
	return 0;
}

static int take_batch(struct source_diag *d, size_t size, const struct dump *dump,
	struct reading *reading, int *result)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)d->buffer;
	int left = (int)size;

	for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
		if (take_message(d, h, dump, reading, result) > 0)
			return 1;
	if (left > 0 && *result == 0)
		*result = -EBADMSG;
	return 0;
}

/* 0: read whole. -ENOENT: this kernel has no such sockets. Another negative errno: not whole. */
static int run_dump(
	struct source_diag *d, const struct dump *dump, uint32_t states, struct reading *reading)
{
	int result = send_request(d, dump, states, reading->ranges);

	if (result < 0)
		return result;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(d->socket, d->buffer, sizeof(d->buffer));

		if (n > 0 && take_batch(d, (size_t)n, dump, reading, &result) > 0)
			return result;
		if (n >= 0 || errno == EINTR)
			continue;
		/* ENOBUFS: messages were dropped; ENOSPC (libmnl): one was longer than the buffer */
		if (errno != ENOBUFS && errno != ENOSPC)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (result == 0)
			result = -errno;
	}
}

/* To its end, as one read gives no more than a page, and who loads modules (opening a socket of a rare family does) puts theirs
 * before MPTCP. The kernel counts at most 64 protocols, in 116 bytes each. False: not read whole. */
static bool read_protocols(int fd, char *text, size_t size)
{
	size_t used = 0;
	ssize_t n;

	do {
		n = pread(fd, text + used, size - 1 - used, (off_t)used);
		used += (size_t)MAX(n, 0);
	} while (n > 0);
	text[used] = '\0';
	return n == 0 && used > 0 && used < size - 1;
}

/* Are there MPTCP sockets in this namespace? True where that cannot be told. */
static bool mptcp_in_use(const struct source_diag *d)
{
	char text[16384];

	if (!read_protocols(d->protocols_fd, text, sizeof(text)))
		return true;
	/* lines "name size sockets ...", a heading first */
	for (const char *line = strchr(text, '\n'); line; line = strchr(line + 1, '\n')) {
		char name[16];
		long sockets;

		if (sscanf(line + 1, "%15s %*d %ld", name, &sockets) == 2 && sockets > 0 &&
			(streq(name, "MPTCP") || streq(name, "MPTCPv6")))
			return true;
	}
	return false;
}

/* All tables, of TCP's the sockets in these states. */
static int read_tables(struct source_diag *d, uint32_t tcp_states, bool mptcp,
	struct reading *reading, uint32_t *ret_protocols)
{
	uint32_t whole = (1u << PROTOCOL_COUNT) - 1;
	int first = 0;

	for (size_t i = 0; i < ELEMENTSOF(dumps); i++) {
		const struct dump *dump = &dumps[i];
		bool tcp = dump->protocol == PROTOCOL_TCP;
		int r;

		if (!(d->protocols & 1u << dump->protocol) || reading->ranges->count == 0 ||
			(dump->protocol == PROTOCOL_MPTCP && !mptcp))
			continue;
		r = run_dump(d, dump, tcp ? tcp_states : STATES_ALL | STATES_BOUND, reading);
		if (reading->stopped != 0)
			return reading->stopped;
		if (r == 0 || (r == -ENOENT && !tcp))
			continue;
		whole &= ~(1u << dump->protocol);
		first = first < 0 ? first : r;
	}
	if ((whole & d->protocols) == 0 && first < 0)
		return first;
	*ret_protocols = whole;
	return 0;
}

/* Bound-only sockets cost a walk of their own, over all that are bound: not where there can be none. Reads the counters twice,
 * since only where they stand still do they say so. */
static uint32_t bound_states(const struct source_diag *d, const struct signs *before)
{
	struct signs now;

	if (signs_read(&d->signs_files, &now) == 0 && signs_same(&now, before) &&
		!signs_bound_possible(&now))
		return 0;
	return STATES_BOUND;
}

static int diag_read(void *source, const struct port_ranges *ranges, source_row_fn row,
	void *context, uint32_t *ret_protocols)
{
	struct source_diag *d = source;
	struct reading reading = {.ranges = ranges, .row = row, .context = context};
	bool mptcp = !d->mptcp_counted || mptcp_in_use(d);
	/* before the dump: what changes during it is to show at the next time */
	bool counted = signs_read(&d->signs_files, &d->signs) == 0;
	uint32_t bound = counted ? bound_states(d, &d->signs) : STATES_BOUND;
	uint32_t protocols;
	int r;

	d->signs_hold = false;
	r = read_tables(d, STATES_ALL | bound, mptcp, &reading, &protocols);
	if (r != 0)
		return r;
	d->signs_hold = counted && !mptcp && (protocols & 1u << PROTOCOL_TCP);
	*ret_protocols = protocols;
	return 0;
}

static bool diag_connections_same(void *source)
{
	struct source_diag *d = source;
	struct signs now;

	return d->signs_hold && signs_read(&d->signs_files, &now) == 0 &&
	       signs_same(&now, &d->signs) && !mptcp_in_use(d);
}

static int diag_read_others(void *source, const struct port_ranges *ranges, source_row_fn row,
	void *context, uint32_t *ret_protocols)
{
	struct source_diag *d = source;
	struct reading reading = {.ranges = ranges, .row = row, .context = context};

	return read_tables(
		d, STATES_LISTEN | bound_states(d, &d->signs), false, &reading, ret_protocols);
}

static int diag_read_listeners(
	void *source, const struct port_ranges *ranges, source_row_fn row, void *context)
{
	struct reading reading = {.ranges = ranges, .row = row, .context = context};
	int r = ranges->count == 0 ? 0 : run_dump(source, &dump_tcp, STATES_LISTEN, &reading);

	return reading.stopped != 0 ? reading.stopped : r;
}

/* A socket bound to a port of the kernel's choice, out of reach. -1: it cannot be had. */
static int probe_socket(int protocol, uint16_t *ret_port)
{
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(PROBE_ADDRESS),
	};
	socklen_t size = sizeof(address);

	if (fd < 0 || setsockopt(fd, SOL_IP, IP_FREEBIND, &(int){1}, sizeof(int)) < 0 ||
		bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return -1;
	*ret_port = ntohs(address.sin_port);
	return TAKE_FD(fd);
}

struct probe {
	uint64_t cookie;
	bool seen;
};

static int see_probe(void *context, const struct socket_row *row)
{
	struct probe *p = context;

	p->seen = p->seen || row->cookie == p->cookie;
	return 0;
}

/* Binds a socket and looks whether the kernel shows it. */
static bool probe_bound_only(struct source_diag *d)
{
	struct probe probe = {0};
	socklen_t size = sizeof(probe.cookie);
	uint16_t port;
	_cleanup_(close_p) int fd = probe_socket(IPPROTO_TCP, &port);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &probe.cookie, &size) < 0)
		return false;

	const struct port_ranges ranges = {.range = {{port, port}}, .count = 1};
	struct reading reading = {.ranges = &ranges, .row = see_probe, .context = &probe};

	return run_dump(d, &dump_tcp, STATES_BOUND, &reading) == 0 && probe.seen;
}

/* Listens with an MPTCP socket (not counted before that) and looks whether the kernel counts it. */
static bool probe_mptcp_count(const struct source_diag *d)
{
	uint16_t port;
	_cleanup_(close_p) int fd = probe_socket(IPPROTO_MPTCP, &port);

	return d->protocols_fd >= 0 && fd >= 0 && listen(fd, 0) == 0 && mptcp_in_use(d);
}

/* A sandbox (RestrictAddressFamilies= of our unit) leaves no socket to try with. Both are in Linux 6.8, so its number must do. */
static bool is_recent_and_untriable(void)
{
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool forbidden = fd < 0 && errno == EAFNOSUPPORT;
	unsigned major, minor;
	struct utsname name;

	return forbidden && uname(&name) == 0 &&
	       sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 8));
}

static int ignore_row(void *context _unused_, const struct socket_row *row _unused_)
{
	return 0;
}

/* Which protocols have a handler: asks for listeners, which costs no walk. 0 or negative errno. */
static int probe_protocols(struct source_diag *d)
{
	const struct port_ranges ranges = {.range = {{1, UINT16_MAX}}, .count = 1};
	struct reading reading = {.ranges = &ranges, .row = ignore_row};

	for (size_t i = 0; i < ELEMENTSOF(dumps); i++) {
		int r = run_dump(d, &dumps[i], STATES_LISTEN, &reading);

		if (r == 0)
			d->protocols |= 1u << dumps[i].protocol;
		else if (r != -ENOENT || dumps[i].protocol == PROTOCOL_TCP)
			return r;
	}
	return 0;
}

static void diag_free(void *source)
{
	struct source_diag *d = source;

	if (!d)
		return;
	if (d->socket)
		mnl_socket_close(d->socket);
	close_p(&d->protocols_fd);
	signs_close(&d->signs_files);
	free(d);
}

static void diag_free_p(struct source_diag **d)
{
	diag_free(*d);
}

bool source_diag_is_probe(const struct address *a)
{
	const uint32_t probe = htonl(PROBE_ADDRESS);

	return a->family == FAMILY_IPV4 && memcmp(a->bytes, &probe, sizeof(probe)) == 0;
}

int source_diag_open(void **ret, struct source_facts *ret_facts)
{
	const struct timeval timeout = {.tv_sec = RECEIVE_SECONDS};
	_cleanup_(diag_free_p) struct source_diag *d = calloc(1, sizeof(*d));
	bool recent;
	int r;

	if (!d)
		return -ENOMEM;
	d->protocols_fd = open("/proc/self/net/protocols", O_RDONLY | O_CLOEXEC);
	signs_open(&d->signs_files);
	d->socket = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (!d->socket)
		return errno == EPROTONOSUPPORT ? -ENOENT : -errno;
	if (mnl_socket_bind(d->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		setsockopt(mnl_socket_get_fd(d->socket), SOL_SOCKET, SO_RCVTIMEO, &timeout,
			sizeof(timeout)) < 0)
		return -errno;
	d->port_id = mnl_socket_get_portid(d->socket);
	r = probe_protocols(d);
	if (r < 0)
		return r;
	recent = is_recent_and_untriable();
	d->mptcp_counted = recent ? d->protocols_fd >= 0 : probe_mptcp_count(d);
	*ret_facts = (struct source_facts){
		.kind = SOURCE_SWEEP,
		.protocols = d->protocols,
		.bound_only = recent || probe_bound_only(d),
	};
	*ret = TAKE_PTR(d);
	return 0;
}

const struct source_ops source_diag_ops = {
	.read = diag_read,
	.read_listeners = diag_read_listeners,
	.connections_same = diag_connections_same,
	.read_others = diag_read_others,
	.free = diag_free,
};
