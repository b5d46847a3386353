/* SPDX-License-Identifier: MIT */
#pragma once

/* A source of sockets: one full reading of the kernel's tables (sock_diag, or /proc/net where that is missing). */

#include <linux/filter.h>

#include "common/sighting.h"

/* One socket as a table shows it. */
struct socket_row {
	/* never 0 from sock_diag; from /proc/net made of inode and port, top bit set */
	uint64_t cookie;
	/* of its file; 0: nobody has it open (TIME_WAIT, orphan, not yet accepted) */
	uint64_t inode;
	uint64_t cgroup_id; /* INET_DIAG_CGROUP_ID; 0: not told */
	uint32_t uid;       /* owner; 0 and meaningless where inode is 0 */
	uint8_t protocol;   /* enum protocol */
	/* TCP_ESTABLISHED ... TCP_CLOSING of <netinet/tcp.h>; UDP: 7 unconnected, 1 connected */
	uint8_t state;
	bool minisock;         /* a TIME_WAIT (or FIN_WAIT2) remainder: idiag_timer 3 */
	uint32_t expires_msec; /* of a minisock */
	uint32_t interface;    /* that it is bound to; 0: none (from /proc/net: not told) */
	struct endpoint local, remote;
};

/* Called for each row whose local port is in the ranges. Non-zero stops the reading, which then returns it. */
typedef int (*source_row_fn)(void *context, const struct socket_row *row);

/* Reads, all in the namespace in which the source was opened. */
struct source_ops {
	/*
	 * Reads every table whole, TCP's listeners before its connections, MPTCP before TCP. *ret_protocols is the
	 * mask of the protocols whose tables were read to the end (NLMSG_DONE with 0); 0 or negative errno when
	 * nothing can be read at all. A protocol that this kernel lacks counts as read: it has no sockets.
	 */
	int (*read)(void *source, const struct port_ranges *ranges, source_row_fn row,
		void *context, uint32_t *ret_protocols);
	/* Reads only TCP listeners (0.02 ms): to tell an accepted connection whose listener is newer than the walk. */
	int (*read_listeners)(
		void *source, const struct port_ranges *ranges, source_row_fn row, void *context);
	/*
	 * Do the kernel's counters say that no TCP connection has come, gone or changed its state since `read` began to
	 * read them, the last time that it read them whole? Then `read_others` reads all that `read` does but those
	 * (and TIME_WAIT remainders), for a fraction of the cost. Both NULL: this source cannot tell.
	 */
	bool (*connections_same)(void *source);
	int (*read_others)(void *source, const struct port_ranges *ranges, source_row_fn row,
		void *context, uint32_t *ret_protocols);
	void (*free)(void *source);
};

struct source_facts {
	enum source kind;   /* SOURCE_SWEEP or SOURCE_PROCNET */
	uint32_t protocols; /* that this kernel has */
	bool bound_only;    /* bound-only TCP is shown */
};

/* NETLINK_SOCK_DIAG in the caller's network namespace. -ENOENT: this kernel has no inet_diag for TCP. */
int source_diag_open(void **ret, struct source_facts *ret_facts) _must_check_;
extern const struct source_ops source_diag_ops;
/* Is it the address of the sockets by which source_diag_open() tries what this kernel has? Nobody else can have it
 * (TEST-NET-1, RFC 5737). Their ends are told a moment after they are closed. */
bool source_diag_is_probe(const struct address *a);

/* /proc/net/{tcp,tcp6,udp,udp6,udplite,udplite6} below the descriptor of a /proc, which stays the
 * caller's. No cookies (source_procnet.c says what stands in for them), no bound-only TCP, no MPTCP.
 * -ENOENT: no net/tcp. */
int source_procnet_open(int proc_fd, void **ret, struct source_facts *ret_facts) _must_check_;
extern const struct source_ops source_procnet_ops;

/*
 * What is left in a TCP socket that the kernel destroys of how it was used. From its struct tcp_info, which counts
 * what was sent and acknowledged: only who opens a connection has its SYN acknowledged.
 */
enum end_evidence {
	END_UNKNOWN = 0, /* not enough is left to tell; also every UDP socket */
	END_ACTIVE,      /* it opened its connection itself */
	END_PASSIVE,     /* it was accepted, or waited to be */
	END_ATTEMPT,     /* it tried to connect, and no connection came of it */
	END_UNUSED,      /* it never sent nor received: only bound, or a listener */
};

/* One socket that the kernel has destroyed. */
struct socket_end {
	/* state is TCP_CLOSE whatever it was (UDP: as in a dump); inode, uid, cgroup_id are not told: 0 */
	struct socket_row row;
	uint8_t evidence; /* enum end_evidence */
	bool older; /* no sweep shows such a socket: it may be older than the last; set by who knows */
	bool local_unknown; /* its address had been taken from it before: row.local has only family and port */
	bool finished; /* the other side has acknowledged its FIN, a moment before it went, or the kernel tells late */
	/* of a connection: how long ago it last sent or received anything; END_IDLE_UNKNOWN: not told */
	uint32_t idle_msec;
};
#define END_IDLE_UNKNOWN UINT32_MAX

/*
 * The destroy notifications of sock_diag (SKNLGRP_INET{,6}_{TCP,UDP}_DESTROY), for TCP and UDP sockets of the caller's
 * network namespace whose local port is in the ranges, from now on. No privilege is needed; with CAP_NET_ADMIN more of
 * them can wait. -ENOENT or another negative errno: this kernel does not tell.
 */
struct source_destroy;
int source_destroy_open(const struct port_ranges *ranges, struct source_destroy **ret) _must_check_;
struct source_destroy *source_destroy_free(struct source_destroy *d);
/* Readable when something waits. */
int source_destroy_fd(const struct source_destroy *d);
/* Other ports from now on; what waits already is still told. 0 or negative errno: as before. */
int source_destroy_watch(struct source_destroy *d, const struct port_ranges *ranges) _must_check_;
/* Reads all that waits. Never blocks. 0; -ENOBUFS: all that is left was read, but the kernel had to drop some;
 * another negative errno; or what `end` returned, which stops. */
int source_destroy_read(struct source_destroy *d,
	int (*end)(void *context, const struct socket_end *end), void *context) _must_check_;

/* One notification as bytes (struct inet_diag_msg and its attributes), for the reader and the fuzzer. Returns like
 * diag_parse(). Pure. */
int diag_parse_end(const void *payload, size_t size, struct socket_end *ret) _must_check_;

/* The socket filter (classic BPF) that passes a notification, with its netlink header, whose local port is in the ranges.
 * Returns its length in instructions. Pure. */
#define DIAG_END_FILTER_MAX (2 * PORT_RANGES_MAX + 3)
size_t diag_end_filter(
	const struct port_ranges *ranges, struct sock_filter ret[static DIAG_END_FILTER_MAX]);

/*
 * One message of a dump as bytes (struct inet_diag_msg and its attributes), for the reader and the
 * fuzzer. 1: *ret is set; 0: a message to skip (another family, SYN_RECV, port 0); -EBADMSG: too
 * short or inconsistent. Pure.
 */
int diag_parse(const void *payload, size_t size, enum protocol protocol,
	struct socket_row *ret) _must_check_;

/* The INET_DIAG_REQ_BYTECODE that passes a local port in any of the ranges. Returns its size in
 * bytes, 0 where there are no ranges: the caller reads nothing then, since no bytecode passes all.
 * Pure. */
#define DIAG_FILTER_BYTES_MAX (PORT_RANGES_MAX * 20)
size_t diag_filter(const struct port_ranges *ranges, uint8_t ret[static DIAG_FILTER_BYTES_MAX]);

/*
 * One line of /proc/net/{tcp,udp,udplite}{,6}, without its newline, for the reader and the fuzzer;
 * the heading is none. 1: *ret is set; 0: a line to skip (SYN_RECV, port 0); -EBADMSG: not such a
 * line. Pure.
 */
int procnet_parse(
	const char *line, size_t size, enum protocol protocol, struct socket_row *ret) _must_check_;
