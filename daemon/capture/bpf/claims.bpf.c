/* SPDX-License-Identifier: MIT */

/*
 * The kernel side of the events rung.
 *
 *	sockops                 TCP: connect (the port is known), listen; accepted connections
 *	cgroup/post_bind4,6     bind(2) of TCP, UDP, UDPLITE
 *	cgroup/sendmsg4,6       UDP that got its port by sending
 *	cgroup/connect4,6       UDP that gets its port by connecting, which is behind the hook: remembered on the socket
 *	cgroup/sock_release     the end of UDP; who closed an accepted connection
 *	tp_btf/tcp_destroy_sock the end of TCP
 *
 * A record goes into the ring, or into a mark on the socket, or is counted: see tell().
 */

#include "daemon/capture/bpf/process.bpf.h"
#include "daemon/capture/bpf/ring.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* ---- which ones ---- */

static __always_inline bool port_listed(__u16 port)
{
	return shared.config.ports[port / 32] >> (port % 32) & 1;
}

/* `net` is one that the verifier knows. */
static __always_inline bool in_kernel_range(const struct net *net, __u16 port)
{
	if (bpf_core_field_exists(net->ipv4.ip_local_ports.range)) {
		__u32 range = net->ipv4.ip_local_ports.range;

		return port >= (range & 0xffff) && port <= range >> 16;
	} else {
		const struct net___pair *pair = (const void *)net;

		return port >= pair->ipv4.ip_local_ports.range[0] &&
		       port <= pair->ipv4.ip_local_ports.range[1];
	}
}

/* The same of any pointer. */
static __noinline bool in_kernel_range_probed(const struct net *net, __u16 port)
{
	__u32 pair[2];

	if (bpf_core_field_exists(net->ipv4.ip_local_ports.range)) {
		__u32 range = BPF_CORE_READ(net, ipv4.ip_local_ports.range);

		return port >= (range & 0xffff) && port <= range >> 16;
	}
	if (bpf_core_read(pair, sizeof(pair),
		    &((const struct net___pair *)net)->ipv4.ip_local_ports.range) < 0)
		return false;
	return port >= pair[0] && port <= pair[1];
}

/* Its namespace, into `c`, and whether the port is watched there; for hooks whose socket the verifier does not know. */
static __always_inline bool watched(
	struct record_claim6 *c, __u64 netns, struct sock *sk, __u16 port)
{
	struct net *net = bpf_get_current_task_btf()->nsproxy->net_ns;
	bool listed = port_listed(port);

	if (!listed && !shared.config.kernel_range)
		return false;
	if (shared.config.netns_only != 0 && shared.config.netns_only != netns)
		return false;
	c->netns = netns;
	c->local_port = port;
	/* Most sockets are used in the namespace that they are of: then no read need be guarded. */
	if (net->net_cookie == netns) {
		c->netns_inode = net->ns.inum;
		return listed || in_kernel_range(net, port);
	}
	net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	c->netns_inode = BPF_CORE_READ(net, ns.inum);
	return listed || in_kernel_range_probed(net, port);
}

/* Everything but cookie, who and time, from a socket that the verifier knows. */
static __always_inline bool watched_tcp(struct record_claim6 *c, struct tcp_sock *tp, __u16 port)
{
	struct net *net = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;

	if (!port_listed(port) && (!shared.config.kernel_range || !in_kernel_range(net, port)))
		return false;
	c->netns = net->net_cookie;
	if (shared.config.netns_only != 0 && shared.config.netns_only != c->netns)
		return false;
	c->netns_inode = net->ns.inum;
	c->local_port = port;
	return true;
}

/* ---- telling ---- */

static __always_inline __u64 who_of(__u64 process, __u32 protocol, __u32 role)
{
	return (process & WHO_ID) | (__u64)protocol << WHO_PROTOCOL_SHIFT |
	       (__u64)role << WHO_ROLE_SHIFT;
}

/* A first look, where the namespace would have to be asked for. */
static __always_inline bool port_may_be_watched(__u16 port)
{
	return port_listed(port) || shared.config.kernel_range;
}

static __always_inline bool told_lately(__u64 cookie, __u16 port)
{
	return shared.told[cookie % TOLD_ENTRIES] == (cookie << 16 | port);
}

static __always_inline void remember_told(const struct record_claim6 *c)
{
	shared.told[c->cookie % TOLD_ENTRIES] = c->cookie << 16 | c->local_port;
}

/* Is what was remembered of this socket's opening of the tenure that is told now? 0 as port: one that was not known yet. */
static __always_inline bool is_same_tenure(const struct mark *m, const struct record_claim6 *c)
{
	return m->claim.head != 0 &&
	       (m->claim.local_port == c->local_port || m->claim.local_port == 0);
}

/* When it was opened and by whom is what was remembered; what became of it is what is told now. */
static __always_inline void take_over(struct record_claim6 *c, const struct mark *m)
{
	__u64 opener = WHO_ID | WHO_CGROUP;

	if (m->claim.local_port == 0) { /* a UDP connect */
		opener |= WHO_ROLE;
		c->remote_port = m->claim.remote_port;
		__builtin_memcpy(c->remote, m->claim.remote, sizeof(c->remote));
	}
	c->head = (c->head & ~HEAD_TIME) | (m->claim.head & HEAD_TIME);
	c->who = (c->who & ~opener) | (m->claim.who & opener);
}

/*
 * Tells of a claim; where there is no room, its end will. `earlier`: an earlier hook told of this tenure, if none is
 * marked to have failed. A claim counts as lost where neither can be: here if there is no mark, else in the end.
 */
static __always_inline bool tell(void *sk, struct record_claim6 *c, bool earlier)
{
	struct mark *m = bpf_sk_storage_get(&marks, sk, NULL, 0);
	bool told;

	if (m && is_same_tenure(m, c)) {
		if (!m->told)
			take_over(c, m);
		earlier = m->told || m->earlier;
	} else {
		earlier = earlier || told_lately(c->cookie, c->local_port);
	}
	told = put_claim(c);
	if (!told)
		count(&shared.counters.deferred);
	if (!told && !m)
		m = bpf_sk_storage_get(&marks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (m) {
		m->claim = *c;
		m->told = told;
		m->earlier = earlier;
	} else if (!told && !earlier) {
		count(&shared.counters.lost);
	}
	return told;
}

/* Tells of an end: with `m`, of one whose opening was not told. */
static __always_inline void tell_end(struct mark *m, __u64 cookie, __u64 flags)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (!m || m->told) {
		if (!put_release((now & HEAD_TIME) | RECORD_RELEASE | flags, cookie))
			count(&shared.counters.lost_ends);
		return;
	}
	m->claim.cookie = cookie;
	m->claim.head |= flags;
	if (!put_whole(&m->claim, now))
		count(m->earlier ? &shared.counters.lost_ends : &shared.counters.lost);
	m->told = 1;
}

static __always_inline void stamp(struct record_claim6 *c, bool ipv6)
{
	c->head = (bpf_ktime_get_boot_ns() & HEAD_TIME) | RECORD_CLAIM | (ipv6 ? HEAD_IPV6 : 0);
}

/* ---- TCP ---- */

static __always_inline bool fill_endpoints(struct record_claim6 *c, struct sock *sk, bool remote)
{
	bool ipv6 = sk->__sk_common.skc_family == AF_INET6;

	if (ipv6) {
		c->local[0] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		c->local[1] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		c->local[2] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		c->local[3] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	} else {
		c->local[0] = sk->__sk_common.skc_rcv_saddr;
	}
	if (!remote)
		return ipv6;
	c->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (ipv6) {
		c->remote[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
		c->remote[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
		c->remote[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
		c->remote[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
	} else {
		c->remote[0] = sk->__sk_common.skc_daddr;
	}
	return ipv6;
}

static __always_inline __u32 tcp_protocol(struct tcp_sock *tp)
{
	return bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp ? RECORD_MPTCP : RECORD_TCP;
}

/* A connect or a listen, in the process that asks for it; an accepted connection, wherever its packet came in. */
static __always_inline void tell_tcp(
	struct bpf_sock_ops *ctx, struct bpf_sock *found, struct tcp_sock *tp, __u32 role)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct record_claim6 c = {};
	bool bound;

	if (!watched_tcp(&c, tp, sk->__sk_common.skc_num))
		return;
	/* The program chose the port by bind(2), which was told; a cookie alone may be of another's asking. */
	bound = sk->__sk_common.skc_cookie.counter != 0 && (sk->sk_userlocks & SOCK_BINDPORT_LOCK);
	c.cookie = bpf_get_socket_cookie(ctx);
	if (role == RECORD_ACCEPTED)
		c.who = who_of(sk->sk_cgrp_data.cgroup->kn->id, tcp_protocol(tp), role) |
			WHO_CGROUP;
	else
		c.who = who_of(current_process(), tcp_protocol(tp), role);
	stamp(&c, fill_endpoints(&c, sk, role != RECORD_LISTENING));
	/* Of a connect no further hook tells; and who closes an accepted one is asked for by this. */
	if (tell(found, &c, bound && role != RECORD_ACCEPTED) && role != RECORD_CONNECTED)
		remember_told(&c);
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *found;
	struct tcp_sock *tp;
	__u32 role;

	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		role = RECORD_CONNECTED;
	else if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		role = RECORD_LISTENING;
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && shared.config.accepted)
		role = RECORD_ACCEPTED;
	else
		return 1;
	found = ctx->sk;
	if (!found)
		return 1;
	tp = bpf_skc_to_tcp_sock(found);
	if (tp)
		tell_tcp(ctx, found, tp, role);
	return 1;
}

/*
 * May a TIME_WAIT remainder be left? There is one only where our FIN was acknowledged. Sequence numbers that were spent
 * on no data are one for a FIN, and one for the SYN on the side that opened (daemon/capture/diag_end.c); one alone
 * is the FIN of an accepted connection if more was delivered than the data and the SYN. Where in doubt, there may be.
 */
static __always_inline bool may_linger(struct tcp_sock *tp, struct sock *sk)
{
	__u64 marks = tp->bytes_acked - (tp->bytes_sent - tp->bytes_retrans);

	if (sk->sk_err != 0 || tp->snd_una != tp->write_seq || tp->delivered == 0)
		return false;
	return marks >= 2 ||
	       (marks == 1 && tp->delivered + tp->total_retrans >= tp->data_segs_out + 2);
}

SEC("tp_btf/tcp_destroy_sock")
int on_tcp_destroy(unsigned long long *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	__u64 cookie = (__u64)sk->__sk_common.skc_cookie.counter;
	struct record_claim6 c;
	struct tcp_sock *tp;

	/* Nobody asked who it is: no hook of ours told of it. */
	if (cookie == 0)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || !watched_tcp(&c, tp, bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport)))
		return 0;
	tell_end(bpf_sk_storage_get(&marks, sk, NULL, 0), cookie,
		may_linger(tp, sk) ? HEAD_LINGERS : 0);
	return 0;
}

/* ---- bind ---- */

static __always_inline bool is_udp(__u32 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

static __always_inline __u32 udp_protocol(__u32 protocol)
{
	return protocol == IPPROTO_UDP ? RECORD_UDP : RECORD_UDPLITE;
}

/* The context of these programs is the socket itself. */
static __always_inline bool is_kernels(struct bpf_sock *ctx)
{
	return BPF_CORE_READ_BITFIELD_PROBED((struct sock *)ctx, sk_kern_sock);
}

static __always_inline __u32 bound_protocol(struct bpf_sock *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx;

	if (ctx->protocol != IPPROTO_TCP)
		return udp_protocol(ctx->protocol);
	return bpf_core_field_exists(tp->is_mptcp) && BPF_CORE_READ(tp, is_mptcp) ? RECORD_MPTCP
										  : RECORD_TCP;
}

/* Its end would not be told: the kernel's own UDP sockets (tunnels) are for the sweeps. */
static __always_inline bool bind_is_told(struct bpf_sock *ctx)
{
	return ctx->protocol == IPPROTO_TCP || (is_udp(ctx->protocol) && !is_kernels(ctx));
}

static __always_inline void tell_bind(struct bpf_sock *ctx, struct record_claim6 *c, bool ipv6)
{
	c->cookie = bpf_get_socket_cookie(ctx);
	c->who = who_of(current_process(), bound_protocol(ctx), RECORD_BOUND);
	stamp(c, ipv6);
	if (tell(ctx, c, false))
		remember_told(c);
}

SEC("cgroup/post_bind4")
int on_post_bind4(struct bpf_sock *ctx)
{
	struct record_claim6 c = {};

	if (!watched(&c, bpf_get_netns_cookie(ctx), (struct sock *)ctx, (__u16)ctx->src_port) ||
		!bind_is_told(ctx))
		return 1;
	c.local[0] = ctx->src_ip4;
	tell_bind(ctx, &c, false);
	return 1;
}

SEC("cgroup/post_bind6")
int on_post_bind6(struct bpf_sock *ctx)
{
	struct record_claim6 c = {};

	if (!watched(&c, bpf_get_netns_cookie(ctx), (struct sock *)ctx, (__u16)ctx->src_port) ||
		!bind_is_told(ctx))
		return 1;
	c.local[0] = ctx->src_ip6[0];
	c.local[1] = ctx->src_ip6[1];
	c.local[2] = ctx->src_ip6[2];
	c.local[3] = ctx->src_ip6[3];
	tell_bind(ctx, &c, true);
	return 1;
}

/* ---- UDP that is not bound ---- */

static __always_inline struct sock *kernel_sock(struct bpf_sock_addr *ctx)
{
	return BPF_CORE_READ((struct bpf_sock_addr_kern *)ctx, sk);
}

static __always_inline bool fill_found(struct record_claim6 *c, const struct bpf_sock *found)
{
	if (found->family != AF_INET6) {
		c->local[0] = found->src_ip4;
		return false;
	}
	c->local[0] = found->src_ip6[0];
	c->local[1] = found->src_ip6[1];
	c->local[2] = found->src_ip6[2];
	c->local[3] = found->src_ip6[3];
	return true;
}

/*
 * A datagram to an address that it names. The first one of a socket is a claim. That it is the first is seen by its
 * having no cookie; else, if it was not told of late, there is a mark: what was told once is not told a third time.
 */
static __always_inline void tell_sendmsg(struct bpf_sock_addr *ctx)
{
	struct record_claim6 c = {};
	struct bpf_sock *found = ctx->sk;
	struct mark *m;
	struct sock *sk;
	bool first;

	if (!found || !is_udp(ctx->protocol) || !port_may_be_watched((__u16)found->src_port))
		return;
	sk = kernel_sock(ctx);
	c.cookie = (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	first = c.cookie == 0;
	if (!first && told_lately(c.cookie, (__u16)found->src_port))
		return;
	if (!watched(&c, bpf_get_netns_cookie(ctx), sk, (__u16)found->src_port))
		return;
	if (!first) {
		if (BPF_CORE_READ(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
			return; /* by bind(2), which was told */
		m = bpf_sk_storage_get(&marks, found, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (m && m->told && m->claim.local_port == c.local_port)
			return;
	}
	c.cookie = bpf_get_socket_cookie(ctx);
	c.who = who_of(current_process(), udp_protocol(ctx->protocol), RECORD_BOUND);
	stamp(&c, fill_found(&c, found));
	if (tell(found, &c, false))
		remember_told(&c);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	tell_sendmsg(ctx);
	return 1;
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	tell_sendmsg(ctx);
	return 1;
}

/*
 * A UDP connect of a socket without a port: it gets one behind this hook. Who and when is remembered, and told by the
 * end. What was told of an earlier port of this socket, which a disconnect gave back, has ended by now.
 */
static __always_inline struct mark *remember_connect(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *found = ctx->sk;
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct mark *m;

	if (!found || !is_udp(ctx->protocol) || found->src_port != 0 ||
		(shared.config.netns_only != 0 && shared.config.netns_only != netns))
		return NULL;
	m = bpf_sk_storage_get(&marks, found, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!m)
		return NULL; /* its end is told without its beginning */
	if (m->claim.head != 0 && m->claim.local_port != 0)
		tell_end(m, m->claim.cookie, 0);
	__builtin_memset(m, 0, sizeof(*m));
	m->claim.netns = netns;
	m->claim.who = who_of(current_process(), udp_protocol(ctx->protocol), RECORD_CONNECTED);
	m->claim.remote_port = bpf_ntohs((__u16)ctx->user_port);
	stamp(&m->claim, found->family == AF_INET6);
	return m;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	struct mark *m = remember_connect(ctx);

	if (m && m->claim.head & HEAD_IPV6) {
		m->claim.remote[2] = bpf_htonl(0xffff);
		m->claim.remote[3] = ctx->user_ip4;
	} else if (m) {
		m->claim.remote[0] = ctx->user_ip4;
	}
	return 1;
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	struct mark *m = remember_connect(ctx);

	if (m) {
		m->claim.remote[0] = ctx->user_ip6[0];
		m->claim.remote[1] = ctx->user_ip6[1];
		m->claim.remote[2] = ctx->user_ip6[2];
		m->claim.remote[3] = ctx->user_ip6[3];
	}
	return 1;
}

/* ---- the last descriptor is closed ---- */

/* The addresses of a socket that the verifier does not know. */
static __always_inline void fill_probed(struct record_claim6 *c, struct sock *sk)
{
	__u16 remote = BPF_CORE_READ(sk, __sk_common.skc_dport);

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		c->head |= HEAD_IPV6;
		BPF_CORE_READ_INTO(&c->local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		if (remote != 0)
			BPF_CORE_READ_INTO(
				&c->remote, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	} else {
		c->local[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		if (remote != 0)
			c->remote[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	}
	if (remote != 0)
		c->remote_port = bpf_ntohs(remote);
}

/* A connected socket, or one that no hook told of: it is told by its end, if its port is watched. */
static __always_inline void tell_udp_whole(
	struct bpf_sock *ctx, struct sock *sk, struct mark *m, __u16 port)
{
	struct record_claim6 c = {};
	struct mark unknown = {};

	if (port == 0 || !watched(&c, bpf_get_netns_cookie(ctx), sk, port))
		return;
	if (!m) {
		m = &unknown;
		m->claim.who = who_of(0, udp_protocol(ctx->protocol),
			BPF_CORE_READ(sk, __sk_common.skc_dport) ? RECORD_CONNECTED : RECORD_BOUND);
		m->claim.head = RECORD_CLAIM | HEAD_UNDATED;
	}
	m->claim.netns = c.netns;
	m->claim.netns_inode = c.netns_inode;
	m->claim.local_port = port;
	fill_probed(&m->claim, sk);
	tell_end(m, bpf_get_socket_cookie(ctx), 0);
}

static __always_inline void tell_udp_end(struct bpf_sock *ctx, struct sock *sk)
{
	__u64 cookie = (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);
	struct mark *m = bpf_sk_storage_get(&marks, ctx, NULL, 0);
	struct record_claim6 c;

	if (m) {
		barrier_var(m); /* nothing of it is computed before this */
		if (m->claim.local_port != 0)
			tell_end(m, m->claim.cookie, 0);
		else if (m->claim.head != 0)
			tell_udp_whole(ctx, sk, m, port);
	} else if (cookie == 0) {
		tell_udp_whole(ctx, sk, NULL, port);
	} else if (port == 0 || watched(&c, bpf_get_netns_cookie(ctx), sk, port)) {
		/* without a port: disconnected, what was told has ended */
		tell_end(NULL, cookie, 0);
	}
}

/* Who closes a connection that came in, which nobody had when it did. */
static __always_inline void tell_holder(struct sock *sk)
{
	__u64 cookie = (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);

	if (cookie == 0 || !told_lately(cookie, port) ||
		(BPF_CORE_READ(sk, sk_userlocks) & SOCK_BINDPORT_LOCK) ||
		BPF_CORE_READ(sk, __sk_common.skc_dport) == 0)
		return;
	(void)put_holder((bpf_ktime_get_boot_ns() & HEAD_TIME) | RECORD_HOLDER, cookie,
		who_of(current_process(), RECORD_TCP, RECORD_ACCEPTED));
}

SEC("cgroup/sock_release")
int on_sock_release(struct bpf_sock *ctx)
{
	if (is_udp(ctx->protocol))
		tell_udp_end(ctx, (struct sock *)ctx);
	else if (ctx->protocol == IPPROTO_TCP && shared.config.accepted)
		tell_holder((struct sock *)ctx);
	return 1;
}
