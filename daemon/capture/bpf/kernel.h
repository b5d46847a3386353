/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Of the kernel's structures, the fields that are used, by name: where they are is filled in when the programs are loaded
 * (CO-RE), so that no header of a kernel is needed to build, and one object serves Linux 6.1 and later. A name with
 * three underscores is a variant of the type before them.
 */

#include <linux/bpf.h>
#include <stdbool.h>

#define AF_INET         2
#define AF_INET6        10
#define IPPROTO_TCP     6
#define IPPROTO_UDP     17
#define IPPROTO_UDPLITE 136
#define IPPROTO_MPTCP   262

#define EADDRINUSE    98
#define EADDRNOTAVAIL 99

/* skc_state; of UDP, too, that is 1 when connected */
#define TCP_ESTABLISHED 1
#define TCP_CLOSE       7
#define TCP_LISTEN      10

#define PF_KTHREAD         0x00200000
#define SOCK_BINDPORT_LOCK 8 /* sk_userlocks: the program chose the port */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;
typedef struct {
	long counter;
} atomic64_t;
typedef struct {
	unsigned int val;
} kuid_t;

/* ---- files ---- */
struct inode {
	unsigned int i_nlink;
	unsigned long i_ino;
};
struct qstr {
	unsigned int len;
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};
struct vfsmount {
	struct dentry *mnt_root;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
};

/* ---- namespaces ---- */
struct ns_common {
	unsigned int inum;
};
struct mnt_namespace {
	struct ns_common ns;
};
struct local_ports {
	unsigned int range;
};
struct netns_ipv4 {
	struct local_ports ip_local_ports;
};
struct net {
	struct ns_common ns;
	struct netns_ipv4 ipv4;
	unsigned long long net_cookie;
};
/* Before 6.8. */
struct local_ports___pair {
	int range[2];
};
struct netns_ipv4___pair {
	struct local_ports___pair ip_local_ports;
};
struct net___pair {
	struct netns_ipv4___pair ipv4;
};
struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
};

/* ---- processes ---- */
struct kernfs_node {
	unsigned long long id;
	const char *name;
	struct kernfs_node *__parent;
};
/* Before 6.15. */
struct kernfs_node___before {
	struct kernfs_node *parent;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct cred {
	kuid_t euid;
};
struct mm_struct {
	struct file *exe_file;
};
struct pid_namespace {
	struct ns_common ns;
};
struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	unsigned int level;
	struct upid numbers[1]; /* one for each namespace from the initial one down */
};
struct task_struct {
	unsigned int flags;
	struct pid *thread_pid;
	struct mm_struct *mm;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	unsigned long long start_boottime;
	const struct cred *cred;
	char comm[16];
	struct nsproxy *nsproxy;
	unsigned long long self_exec_id;
	struct css_set *cgroups;
};

/* ---- sockets ---- */
struct in6_addr {
	union {
		unsigned int u6_addr32[4];
	} in6_u;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct sock_common {
	unsigned int skc_daddr;
	unsigned int skc_rcv_saddr;
	unsigned short skc_dport; /* network byte order */
	unsigned short skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
};
struct sock_cgroup_data {
	struct cgroup *cgroup;
};
struct sock {
	struct sock_common __sk_common;
	unsigned char sk_userlocks; /* before 6.4 or so a bit field */
	int sk_err;
	unsigned short sk_protocol;
	unsigned char sk_kern_sock : 1;
	struct sock_cgroup_data sk_cgrp_data;
};
struct socket {
	struct sock *sk;
};
struct inet_sock {
	struct sock sk;
	unsigned short inet_sport; /* network byte order */
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	unsigned int data_segs_out;
	unsigned long long bytes_sent;
	unsigned int write_seq;
	unsigned int snd_una;
	unsigned int delivered;
	unsigned long long bytes_acked;
	unsigned long long bytes_retrans;
	unsigned int total_retrans;
	bool is_mptcp;
};

/* What the context of a program really is. */
struct bpf_sock_addr_kern {
	struct sock *sk;
};

/* ---- the iterator ---- */
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	unsigned int fd;
	struct file *file;
};

#pragma clang attribute pop
