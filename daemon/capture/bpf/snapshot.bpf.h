/* SPDX-License-Identifier: MIT */
#pragma once

/* Who has what open: a row for each descriptor of a watched socket. It gets a cookie by that, so that its end is told. */

#include "daemon/capture/bpf/tell.bpf.h"

static __always_inline __u8 role_of_socket(__u32 protocol, __u32 state)
{
	if (is_udp(protocol))
		return state == TCP_ESTABLISHED ? RECORD_CONNECTED : RECORD_BOUND;
	if (state == TCP_LISTEN)
		return RECORD_LISTENING;
	/* a connection may have been accepted: the socket does not show it */
	return state == TCP_CLOSE ? RECORD_BOUND : RECORD_ROLE_UNKNOWN;
}

static __always_inline int protocol_of_socket(__u32 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return RECORD_TCP;
	case IPPROTO_UDP:
		return RECORD_UDP;
	case IPPROTO_UDPLITE:
		return RECORD_UDPLITE;
	case IPPROTO_MPTCP:
		return RECORD_MPTCP;
	default:
		return -1;
	}
}

SEC("iter/task_file")
int on_snapshot(struct bpf_iter__task_file *ctx)
{
	struct snapshot_row row = {};
	struct record_claim6 c = {};
	struct file *file = ctx->file;
	struct task_struct *task = ctx->task;
	struct socket *socket;
	struct sock *sk;
	int protocol;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk ||
		(sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6))
		return 0;
	protocol = protocol_of_socket(sk->sk_protocol);
	if (protocol < 0 || !watched_sock(&c, sk, sk->__sk_common.skc_num))
		return 0;
	row.ipv6 = fill_endpoints(&c, sk, true);
	row.cookie = bpf_get_socket_cookie(sk);
	row.inode = file->f_inode->i_ino;
	row.start = task->group_leader->start_boottime;
	row.pid = pid_of(task->group_leader);
	row.netns = c.netns;
	row.netns_inode = c.netns_inode;
	row.netns_range = kernel_range(sk->__sk_common.skc_net.net);
	row.local_port = c.local_port;
	row.remote_port = c.remote_port;
	row.protocol = (__u8)protocol;
	row.role = role_of_socket(sk->sk_protocol, sk->__sk_common.skc_state);
	__builtin_memcpy(row.local, c.local, sizeof(row.local));
	__builtin_memcpy(row.remote, c.remote, sizeof(row.remote));
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
