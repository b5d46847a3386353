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

#include "daemon/capture/bpf/tell.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* ---- TCP ---- */

/* A connect or a listen, in the process that asks for it; an accepted connection, wherever its packet came in. */
static __always_inline void tell_tcp(
	struct bpf_sock_ops *ctx, struct bpf_sock *found, struct tcp_sock *tp, __u32 role)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct record_claim6 c = {};
	bool bound;

	if (!watched_sock(&c, sk, sk->__sk_common.skc_num))
		return;
	/* The program chose the port by bind(2), which was told; a cookie alone may be of another's asking. */
	bound = sk->__sk_common.skc_cookie.counter != 0 &&
		(BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK);
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
 * is the FIN of an accepted connection if more was delivered than the data and the SYN. MPTCP disconnects its subflows when
 * they have ended, which wipes all that; of a connection it leaves the largest window. Where in doubt, there may be.
 */
static __always_inline bool may_linger(struct tcp_sock *tp, struct sock *sk)
{
	__u64 marks = tp->bytes_acked - (tp->bytes_sent - tp->bytes_retrans);
	__u32 unacknowledged = tp->write_seq - tp->snd_una;

	if (sk->sk_err != 0)
		return false;
	if (tp->delivered == 0)
		return tcp_protocol(tp) == RECORD_MPTCP && unacknowledged > 3;
	if (unacknowledged != 0)
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
	if (!tp || !watched_sock(&c, sk, bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport)))
		return 0;
	tell_end(bpf_sk_storage_get(&marks, sk, NULL, 0), cookie,
		may_linger(tp, sk) ? HEAD_LINGERS : 0);
	return 0;
}

/* ---- bind ---- */

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

/* Of a connect that AF_UNSPEC has undone: its port is not the one that the socket has now. */
static __always_inline void undo_connect(struct mark *m, __u64 cookie)
{
	if (m->claim.head != 0 && was_told_at_exit(cookie))
		tell_end(NULL, cookie, HEAD_BY_THEN);
	m->claim.head = 0;
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
		if (BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
			return; /* by bind(2), which was told */
		m = find_connected(c.cookie);
		if (!m)
			m = bpf_sk_storage_get(&marks, found, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (m && m->told && m->claim.local_port == c.local_port)
			return;
		if (m && m->claim.local_port == 0 && found->state != TCP_ESTABLISHED)
			undo_connect(m, c.cookie);
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
static __always_inline struct mark *connect_mark(struct bpf_sock_addr *ctx, struct bpf_sock *found)
{
	struct mark *m = bpf_sk_storage_get(&marks, found, NULL, 0);
	__u64 cookie;

	if (m)
		return m;
	cookie = bpf_get_socket_cookie(ctx);
	m = find_connected(cookie);
	/* of the kernel's own no end is seen, which would give the place back */
	if (!m && !BPF_CORE_READ_BITFIELD_PROBED(kernel_sock(ctx), sk_kern_sock)) {
		m = take_place(cookie);
		if (m)
			__builtin_memset(m, 0, sizeof(*m));
	}
	return m ? m : bpf_sk_storage_get(&marks, found, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline struct mark *remember_connect(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *found = ctx->sk;
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct mark *m;

	if (!found || !is_udp(ctx->protocol) || found->src_port != 0 || !netns_is_watched(netns))
		return NULL;
	m = connect_mark(ctx, found);
	if (!m)
		return NULL; /* its end is told without its beginning */
	if (m->claim.head != 0 && m->claim.local_port != 0)
		tell_end(m, m->claim.cookie, HEAD_BY_THEN);
	else if (m->claim.head != 0 && was_told_at_exit(m->claim.cookie))
		tell_end(NULL, m->claim.cookie, HEAD_BY_THEN);
	__builtin_memset(m, 0, sizeof(*m));
	m->claim.netns = netns;
	m->claim.who = who_of(current_process(), udp_protocol(ctx->protocol), RECORD_CONNECTED);
	m->claim.remote_port = bpf_ntohs((__u16)ctx->user_port);
	stamp(&m->claim, found->family == AF_INET6);
	return m;
}

/* For the exit of the system call; with `m` it is a claim. */
static __always_inline struct attempt *leave_attempt(struct bpf_sock_addr *ctx, struct mark *m)
{
	struct attempt *a = attempt_of(ctx, RECORD_CONNECTED);

	if (!a)
		return NULL;
	a->claim.remote_port = bpf_ntohs((__u16)ctx->user_port);
	if (m) {
		m->claim.cookie = a->claim.cookie;
		a->claim.head = m->claim.head;
		a->claims = 1;
	}
	return a;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	__u32 address = ctx->user_ip4;
	__u32 mapped[4] = {0, 0, bpf_htonl(0xffff), address};
	struct mark *m = remember_connect(ctx);

	if (m && m->claim.head & HEAD_IPV6)
		__builtin_memcpy(m->claim.remote, mapped, sizeof(mapped));
	else if (m)
		m->claim.remote[0] = address;
	if (shared.config.exits != 0) {
		struct attempt *a = leave_attempt(ctx, m);

		if (a && a->claim.head & HEAD_IPV6)
			__builtin_memcpy(a->claim.remote, mapped, sizeof(mapped));
		else if (a)
			a->claim.remote[0] = address;
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
	if (shared.config.exits != 0) {
		struct attempt *a = leave_attempt(ctx, m);

		if (a) {
			a->claim.head |= HEAD_IPV6;
			a->claim.remote[0] = ctx->user_ip6[0];
			a->claim.remote[1] = ctx->user_ip6[1];
			a->claim.remote[2] = ctx->user_ip6[2];
			a->claim.remote[3] = ctx->user_ip6[3];
		}
	}
	return 1;
}

/* ---- the last descriptor is closed ---- */

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

/* With a mark: of a claim whose opening had no room, or of a connect. */
static __always_inline void tell_marked_end(
	struct bpf_sock *ctx, struct sock *sk, struct mark *m, __u64 cookie, __u16 port)
{
	if (m->claim.local_port != 0)
		tell_end(m, m->claim.cookie, m->claim.local_port == port ? 0 : HEAD_BY_THEN);
	else if (was_told_at_exit(cookie))
		tell_end(NULL, cookie, port != 0 ? 0 : HEAD_BY_THEN);
	else if (m->claim.head != 0)
		tell_udp_whole(ctx, sk, m, port);
}

static __always_inline void tell_udp_end(struct bpf_sock *ctx, struct sock *sk)
{
	__u64 cookie = (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);
	struct mark *m = bpf_sk_storage_get(&marks, ctx, NULL, 0);
	struct record_claim6 c;

	if (m) {
		barrier_var(m); /* nothing of it is computed before this */
		tell_marked_end(ctx, sk, m, cookie, port);
		return;
	}
	m = find_connected(cookie);
	if (m) {
		barrier_var(m);
		tell_marked_end(ctx, sk, m, cookie, port);
		leave_place(cookie);
	} else if (cookie == 0) {
		tell_udp_whole(ctx, sk, NULL, port);
	} else if (port == 0 ? netns_is_watched(bpf_get_netns_cookie(ctx))
			     : watched(&c, bpf_get_netns_cookie(ctx), sk, port)) {
		/* without a port: disconnected, what was told has ended */
		tell_end(NULL, cookie, port != 0 ? 0 : HEAD_BY_THEN);
	}
}

/* Who closes a connection that came in, which nobody had when it did. */
static __always_inline void tell_holder(struct sock *sk)
{
	__u64 cookie = (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);

	if (cookie == 0 || !told_lately(cookie, port) ||
		(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK) ||
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

#include "daemon/capture/bpf/extra.bpf.h"
#include "daemon/capture/bpf/snapshot.bpf.h"
