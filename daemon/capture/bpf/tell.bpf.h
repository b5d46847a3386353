/* SPDX-License-Identifier: MIT */
#pragma once

/* Which sockets are told of, what is told of them, and what becomes of it where there is no room. */

#include "daemon/capture/bpf/process.bpf.h"
#include "daemon/capture/bpf/ring.bpf.h"

/* ---- which ones ---- */

static __always_inline bool port_listed(__u16 port)
{
	return shared.config.ports[port / 32] >> (port % 32) & 1;
}

static __always_inline bool in_range(__u32 range, __u16 port)
{
	return port >= (range & 0xffff) && port <= range >> RANGE_HIGH_SHIFT;
}

static __always_inline bool netns_is_watched(__u64 netns)
{
	return shared.config.netns_only == 0 || shared.config.netns_only == netns;
}

/* Its namespace, into `c`, and whether the port is watched there; for hooks whose socket the verifier does not know. */
static __always_inline bool watched(
	struct record_claim6 *c, __u64 netns, struct sock *sk, __u16 port)
{
	struct net *net = bpf_get_current_task_btf()->nsproxy->net_ns;
	bool listed = port_listed(port);

	if (!listed && !shared.config.kernel_range)
		return false;
	if (!netns_is_watched(netns))
		return false;
	c->netns = netns;
	c->local_port = port;
	/* Most sockets are used in the namespace that they are of: then no read need be guarded. */
	if (net->net_cookie == netns) {
		c->netns_inode = net->ns.inum;
		return listed || in_range(kernel_range(net), port);
	}
	net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	c->netns_inode = BPF_CORE_READ(net, ns.inum);
	return listed || in_range(kernel_range_probed(net), port);
}

/* Everything but cookie, who and time, from a socket that the verifier knows. */
static __always_inline bool watched_sock(struct record_claim6 *c, struct sock *sk, __u16 port)
{
	struct net *net = sk->__sk_common.skc_net.net;

	if (!port_listed(port) &&
		(!shared.config.kernel_range || !in_range(kernel_range(net), port)))
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

/* The port was given back: should the same socket get it again, that is another claim. */
static __always_inline void forget_told(__u64 cookie, __u16 port)
{
	if (told_lately(cookie, port))
		shared.told[cookie % TOLD_ENTRIES] = 0;
}

static __always_inline struct connected *place_of(__u64 cookie)
{
	__u32 place = cookie % CONNECTED_PLACES;

	return bpf_map_lookup_elem(&connected, &place);
}

/* The mark of a UDP connect that has a place. NULL: it has none. */
static __always_inline struct mark *find_connected(__u64 cookie)
{
	struct connected *c = place_of(cookie);

	return c && cookie != 0 && c->cookie == cookie ? &c->mark : NULL;
}

static __always_inline struct mark *take_place(__u64 cookie)
{
	struct connected *c = place_of(cookie);

	return c && __sync_val_compare_and_swap(&c->cookie, 0, cookie) == 0 ? &c->mark : NULL;
}

static __always_inline void leave_place(__u64 cookie)
{
	struct connected *c = place_of(cookie);

	if (c && c->cookie == cookie)
		__sync_lock_test_and_set(&c->cookie, 0);
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

/* Tells of an end: with `m`, of one whose opening was not told. */
static __noinline void tell_end(struct mark *m, __u64 cookie, __u64 flags)
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

/*
 * Tells of a claim; where there is no room, its end will. `earlier`: an earlier hook told of this tenure, if none is
 * marked to have failed. A claim counts as lost where neither can be: here if there is no mark, else in the end.
 */
static __always_inline bool tell(void *sk, struct record_claim6 *c, bool earlier)
{
	struct mark *m = bpf_sk_storage_get(&marks, sk, NULL, 0);
	bool told;

	if (!m && (c->who & WHO_PROTOCOL) != 0)
		m = find_connected(c->cookie);
	/* A socket that gave its port back has another now: that of before has ended. */
	if (m && m->claim.head != 0 && !is_same_tenure(m, c)) {
		tell_end(m, m->claim.cookie, HEAD_BY_THEN);
		m->claim.head = 0;
	}
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

static __always_inline void stamp(struct record_claim6 *c, bool ipv6)
{
	c->head = (bpf_ktime_get_boot_ns() & HEAD_TIME) | RECORD_CLAIM | (ipv6 ? HEAD_IPV6 : 0);
}

/* ---- sockets ---- */

static __always_inline bool is_udp(__u32 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

static __always_inline __u32 udp_protocol(__u32 protocol)
{
	return protocol == IPPROTO_UDP ? RECORD_UDP : RECORD_UDPLITE;
}

/* Of a socket that the verifier knows. Is it one of IPv6? */
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

static __always_inline __u32 tcp_protocol(struct tcp_sock *tp)
{
	return bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp ? RECORD_MPTCP : RECORD_TCP;
}

static __always_inline struct sock *kernel_sock(struct bpf_sock_addr *ctx)
{
	return BPF_CORE_READ((struct bpf_sock_addr_kern *)ctx, sk);
}

/* ---- attempts, for the exits of system calls (extra.bpf.h) ---- */

static __always_inline bool was_told_at_exit(__u64 cookie)
{
	if (!(shared.config.exits & EXITS_UDP_CONNECT) || cookie == 0)
		return false;
	return bpf_map_delete_elem(&connects, &cookie) == 0;
}

/* Who tries what, but for the addresses. NULL: nothing that is told. */
static __always_inline struct attempt *attempt_of(struct bpf_sock_addr *ctx, __u32 role)
{
	__u64 key = bpf_get_current_pid_tgid();
	__u64 netns = bpf_get_netns_cookie(ctx);
	bool udp = is_udp(ctx->protocol);
	struct attempt new = {.role = role};
	struct bpf_sock *found = ctx->sk;

	if (!found || (!udp && ctx->protocol != IPPROTO_TCP) ||
		(shared.config.netns_only != 0 && shared.config.netns_only != netns))
		return NULL;
	new.sk = kernel_sock(ctx);
	new.claim.cookie = bpf_get_socket_cookie(ctx);
	new.claim.netns = netns;
	new.claim.local_port = (__u16)found->src_port;
	new.claim.who =
		who_of(current_process(), udp ? udp_protocol(ctx->protocol) : RECORD_TCP, role);
	if (found->family == AF_INET6)
		new.claim.head = HEAD_IPV6;
	if (bpf_map_update_elem(&attempts, &key, &new, BPF_ANY) != 0)
		return NULL;
	return bpf_map_lookup_elem(&attempts, &key);
}
