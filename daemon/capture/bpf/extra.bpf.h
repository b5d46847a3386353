/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the hooks that are always attached cannot see: the port of a UDP connect at once, and what failed. Two ways, each
 * loaded apart: fexit, which costs nobody else anything and does not attach everywhere; and the exit of the system call,
 * for which the hook before it leaves an attempt. That one costs every system call of the host some 20 to 50 ns,
 * and is not seen where io_uring made the call.
 */

#include "daemon/capture/bpf/tell.bpf.h"

#include <stddef.h>

/* ---- failures ---- */

static __always_inline bool failure_is_told(int error)
{
	return error == -EADDRINUSE || error == -EADDRNOTAVAIL;
}

/* So many a second; the rest is counted. */
static __always_inline bool within_rate(__u64 now)
{
	struct claims_counters *n = &shared.counters;
	__u64 second = now / 1000000000;

	if (n->failure_second != second) {
		n->failure_second = second;
		n->failure_count = 0;
	}
	return __sync_fetch_and_add(&n->failure_count, 1) < FAILURES_PER_SECOND;
}

static __always_inline void tell_failure(struct record_claim6 *c, int error)
{
	__u64 now = bpf_ktime_get_boot_ns();

	c->head = (now & HEAD_TIME) | RECORD_FAILURE | (c->head & HEAD_IPV6);
	if (error == -EADDRNOTAVAIL)
		c->who |= WHO_NOT_AVAILABLE;
	if (!within_rate(now) || !put_claim(c))
		count(&shared.counters.failures_dropped);
}

/* ---- by fexit ---- */

static __always_inline __u32 protocol_of(struct sock *sk)
{
	struct tcp_sock *tp;

	if (sk->sk_protocol != IPPROTO_TCP)
		return udp_protocol(sk->sk_protocol);
	tp = bpf_skc_to_tcp_sock(sk);
	return tp ? tcp_protocol(tp) : RECORD_TCP;
}

/* 0 as port: any; then it is told whatever is watched. */
static __always_inline bool failure_is_watched(struct record_claim6 *c, struct sock *sk, __u16 port)
{
	if (watched_sock(c, sk, port))
		return true;
	c->netns = sk->__sk_common.skc_net.net->net_cookie;
	c->netns_inode = sk->__sk_common.skc_net.net->ns.inum;
	return port == 0 && netns_is_watched(c->netns);
}

/* With everything but cookie and who. */
static __always_inline void tell_failed(
	struct record_claim6 *c, struct sock *sk, __u32 role, int error)
{
	c->cookie = (__u64)sk->__sk_common.skc_cookie.counter;
	c->who = who_of(current_process(), protocol_of(sk), role);
	tell_failure(c, error);
}

static __always_inline bool has_ports(struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_TCP || is_udp(sk->sk_protocol);
}

/* Both forms of an address that somebody wants to have; the longer one is read where there is room for it. */
struct wanted {
	__u16 family;
	__u16 port; /* network byte order */
	__u32 address4;
	__u32 address6[4];
};

static __always_inline void tell_failed_bind(
	struct sock *sk, const void *address, __u32 size, bool ipv6, int error)
{
	struct record_claim6 c = {};
	struct wanted w = {};

	if (!failure_is_told(error) || !has_ports(sk) ||
		bpf_probe_read_kernel(&w, size, address) < 0 ||
		!failure_is_watched(&c, sk, bpf_ntohs(w.port)))
		return;
	c.local_port = bpf_ntohs(w.port);
	if (ipv6) {
		c.head = HEAD_IPV6;
		__builtin_memcpy(c.local, w.address6, sizeof(c.local));
	} else {
		c.local[0] = w.address4;
	}
	tell_failed(&c, sk, RECORD_BOUND, error);
}

SEC("?fexit/__inet_bind")
int on_inet_bind(unsigned long long *ctx)
{
	tell_failed_bind((struct sock *)ctx[0], (const void *)ctx[1],
		offsetof(struct wanted, address6), false, (int)ctx[4]);
	return 0;
}

SEC("?fexit/__inet6_bind")
int on_inet6_bind(unsigned long long *ctx)
{
	tell_failed_bind((struct sock *)ctx[0], (const void *)ctx[1], sizeof(struct wanted), true,
		(int)ctx[4]);
	return 0;
}

/* No port is left for this destination. */
static __always_inline void tell_failed_connect(struct sock *sk, int error)
{
	struct record_claim6 c = {};

	if (!failure_is_told(error) || !failure_is_watched(&c, sk, sk->__sk_common.skc_num))
		return;
	if (fill_endpoints(&c, sk, true))
		c.head = HEAD_IPV6;
	tell_failed(&c, sk, RECORD_CONNECTED, error);
}

SEC("?fexit/inet_hash_connect")
int on_hash_connect(unsigned long long *ctx)
{
	tell_failed_connect((struct sock *)ctx[1], (int)ctx[2]);
	return 0;
}

SEC("?fexit/inet6_hash_connect")
int on_hash_connect6(unsigned long long *ctx)
{
	tell_failed_connect((struct sock *)ctx[1], (int)ctx[2]);
	return 0;
}

/* It has its port and both addresses. A connect of a v4-mapped address comes by here twice: then it was told. */
static __always_inline void tell_connected(struct sock *sk, int result)
{
	struct record_claim6 c = {};
	struct mark *m;

	if (result != 0 || !is_udp(sk->sk_protocol))
		return;
	m = bpf_sk_storage_get(&marks, sk, NULL, 0);
	if (!m)
		m = find_connected((__u64)sk->__sk_common.skc_cookie.counter);
	if (!m || m->told || m->claim.head == 0 || m->claim.local_port != 0 ||
		!watched_sock(&c, sk, sk->__sk_common.skc_num))
		return;
	c.cookie = bpf_get_socket_cookie(sk);
	c.who = m->claim.who;
	c.head = (m->claim.head & HEAD_TIME) | RECORD_CLAIM |
		 (fill_endpoints(&c, sk, true) ? HEAD_IPV6 : 0);
	m->told = put_claim(&c);
	m->claim = c;
	if (!m->told)
		count(&shared.counters.deferred);
}

SEC("?fexit/__ip4_datagram_connect")
int on_datagram_connect4(unsigned long long *ctx)
{
	tell_connected((struct sock *)ctx[0], (int)ctx[3]);
	return 0;
}

SEC("?fexit/__ip6_datagram_connect")
int on_datagram_connect6(unsigned long long *ctx)
{
	tell_connected((struct sock *)ctx[0], (int)ctx[3]);
	return 0;
}

/*
 * connect(2) to AF_UNSPEC gives a port back that the kernel chose, and the socket stays: what had that port ends here. Before it is done, so
 * that the port is still known. The mark is as if it were new, so that nothing of it is told again by what the socket does next; of what
 * was told without one, the end may be told again by the close, which is of nobody then.
 */
SEC("?fentry/__udp_disconnect")
int on_udp_disconnect(unsigned long long *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	__u64 cookie = (__u64)sk->__sk_common.skc_cookie.counter;
	__u16 port = sk->__sk_common.skc_num;
	struct record_claim6 c = {};
	struct mark *m;

	if (cookie == 0 || !is_udp(sk->sk_protocol) ||
		BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK ||
		BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock) || !watched_sock(&c, sk, port))
		return 0;
	m = bpf_sk_storage_get(&marks, sk, NULL, 0);
	if (!m)
		m = find_connected(cookie);
	if (m && m->claim.head != 0 && m->claim.local_port == 0)
		return 0; /* a connect that was not told: its end tells it whole */
	tell_end(m && m->claim.head != 0 ? m : NULL, cookie, 0);
	if (m)
		__builtin_memset(m, 0, sizeof(*m));
	forget_told(cookie, port);
	return 0;
}

/* ---- by the exit of the system call ---- */

struct exit_context {
	__u64 common;
	long number;
	long result;
};

SEC("?cgroup/bind4")
int on_bind4(struct bpf_sock_addr *ctx)
{
	struct attempt *a = attempt_of(ctx, RECORD_BOUND);

	if (a) {
		a->claim.local_port = bpf_ntohs((__u16)ctx->user_port);
		a->claim.local[0] = ctx->user_ip4;
	}
	return 1;
}

SEC("?cgroup/bind6")
int on_bind6(struct bpf_sock_addr *ctx)
{
	struct attempt *a = attempt_of(ctx, RECORD_BOUND);

	if (a) {
		a->claim.head = HEAD_IPV6;
		a->claim.local_port = bpf_ntohs((__u16)ctx->user_port);
		a->claim.local[0] = ctx->user_ip6[0];
		a->claim.local[1] = ctx->user_ip6[1];
		a->claim.local[2] = ctx->user_ip6[2];
		a->claim.local[3] = ctx->user_ip6[3];
	}
	return 1;
}

/* The socket of the attempt may be gone, and another be where it was: its cookie tells. */
static __always_inline bool is_still_there(const struct attempt *a)
{
	struct sock *sk = a->sk;

	return a->claim.cookie != 0 &&
	       (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == a->claim.cookie;
}

/* In which namespace it was tried, and is the port watched there? */
static __always_inline bool attempt_is_watched(
	struct record_claim6 *c, struct attempt *a, __u16 port)
{
	bool yes = watched(c, a->claim.netns, a->sk, port);

	c->netns = a->claim.netns;
	return yes;
}

static __always_inline void tell_attempt_failed(struct attempt *a, int error)
{
	struct record_claim6 c = {};
	__u16 port = a->claim.local_port;

	if (!attempt_is_watched(&c, a, port) && port != 0)
		return;
	a->claim.netns_inode = c.netns_inode;
	tell_failure(&a->claim, error);
}

static __always_inline void tell_attempt_connected(struct attempt *a)
{
	struct record_claim6 c = {};
	struct sock *sk = a->sk;
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);

	if (!is_still_there(a) || !attempt_is_watched(&c, a, port))
		return;
	a->claim.local_port = port;
	a->claim.netns_inode = c.netns_inode;
	fill_probed(&a->claim, sk);
	if (!put_claim(&a->claim)) {
		count(&shared.counters.deferred); /* the mark is still there */
		return;
	}
	bpf_map_update_elem(&connects, &a->claim.cookie, &port, BPF_ANY);
	remember_told(&a->claim);
}

static __always_inline void on_exit_of(struct exit_context *ctx, __u32 role)
{
	__u64 key = bpf_get_current_pid_tgid();
	struct attempt *a = bpf_map_lookup_elem(&attempts, &key);

	if (!a)
		return;
	if (a->role == role && failure_is_told((int)ctx->result) &&
		shared.config.exits & EXITS_FAILURES)
		tell_attempt_failed(a, (int)ctx->result);
	else if (a->role == role && a->claims && shared.config.exits & EXITS_UDP_CONNECT)
		tell_attempt_connected(a);
	bpf_map_delete_elem(&attempts, &key);
}

SEC("?tracepoint/syscalls/sys_exit_connect")
int on_exit_connect(struct exit_context *ctx)
{
	on_exit_of(ctx, RECORD_CONNECTED);
	return 0;
}

SEC("?tracepoint/syscalls/sys_exit_bind")
int on_exit_bind(struct exit_context *ctx)
{
	on_exit_of(ctx, RECORD_BOUND);
	return 0;
}
