/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the kernel side (claims.bpf.c) and its reader share: the records of the ring, the slots of processes, the paths of cgroups, and
 * the section that both see. A change of anything here is a change of CLAIMS_LAYOUT. CLAIMS_LAYOUT_READABLE is the oldest one of which the
 * records, the slots and the section can still be read as they are declared here: an upgrade reads such a ring to its end.
 *
 * Addresses are in network byte order, ports in host byte order, times in nanoseconds of boottime.
 */

#include <linux/types.h>

#ifndef CLAIMS_LAYOUT
#define CLAIMS_LAYOUT 4
#endif
/* 3 had no HEAD_BY_THEN; 2 had neither the paths of cgroups nor `cgroup_root`, in whose place was nothing */
#define CLAIMS_LAYOUT_READABLE 2

/* ---- records of the ring ---- */

/* The low byte of `head` is a kind and flags, the rest the time, to 256 ns: a record of its own field would be 8 bytes more. */
#define HEAD_KIND    0x07u
#define HEAD_IPV6    0x08u /* the record has addresses of 16 bytes */
#define HEAD_LINGERS 0x10u /* of an end: a TIME_WAIT remainder may be left */
#define HEAD_UNDATED 0x20u /* of a whole: the time of its opening is not known */
#define HEAD_BY_THEN 0x40u /* of an end: its port was given back before, and nothing told when */
#define HEAD_TIME    (~0xffull)

enum record_kind {
	RECORD_CLAIM = 1,
	RECORD_RELEASE = 2,
	RECORD_WHOLE = 3,
	RECORD_FAILURE = 4,
	RECORD_HOLDER = 5,
};

/* `who`: 48 bits of a process id, or of a cgroup id where there is no process; and what else is small. */
#define WHO_ID             ((1ull << 48) - 1)
#define WHO_PROTOCOL_SHIFT 48 /* 2 bits: enum protocol of common/claim.h */
#define WHO_PROTOCOL       (3ull << WHO_PROTOCOL_SHIFT)
#define WHO_ROLE_SHIFT     50 /* 3 bits: enum role of common/claim.h */
#define WHO_ROLE           (7ull << WHO_ROLE_SHIFT)
#define WHO_CGROUP         (1ull << 53)
#define WHO_NOT_AVAILABLE  (1ull << 54) /* of a failure: EADDRNOTAVAIL, else EADDRINUSE */

/* The same numbers as in common/claim.h, which asserts it: the kernel side includes nothing of ours but this. */
enum record_protocol {
	RECORD_TCP = 0,
	RECORD_UDP = 1,
	RECORD_UDPLITE = 2,
	RECORD_MPTCP = 3,
};
enum record_role {
	RECORD_CONNECTED = 0,
	RECORD_LISTENING = 1,
	RECORD_BOUND = 2,
	RECORD_ACCEPTED = 3,
	RECORD_ROLE_UNKNOWN = 4,
};

/* RELEASE, and the beginning of every record. */
struct record_release {
	__u64 head;
	__u64 cookie;
};

struct record_holder {
	__u64 head;
	__u64 cookie;
	__u64 who;
};

/* CLAIM and FAILURE, whose addresses have 4 bytes. */
struct record_claim4 {
	__u64 head;
	__u64 cookie;
	__u64 who;
	__u64 netns;       /* net cookie */
	__u32 netns_inode; /* of /proc/PID/ns/net */
	__u16 local_port, remote_port;
	__u32 local, remote;
};

/* The same with addresses of 16 bytes. */
struct record_claim6 {
	__u64 head;
	__u64 cookie;
	__u64 who;
	__u64 netns;
	__u32 netns_inode;
	__u16 local_port, remote_port;
	__u32 local[4], remote[4];
};

/* A claim and its end. */
struct record_whole4 {
	struct record_claim4 claim;
	__u64 closed;
};
struct record_whole6 {
	struct record_claim6 claim;
	__u64 closed;
};

_Static_assert(sizeof(struct record_release) == 16, "in the ring");
_Static_assert(sizeof(struct record_holder) == 24, "in the ring");
_Static_assert(sizeof(struct record_claim4) == 48, "in the ring");
_Static_assert(sizeof(struct record_claim6) == 72, "in the ring");
_Static_assert(sizeof(struct record_whole4) == 56, "in the ring");
_Static_assert(sizeof(struct record_whole6) == 80, "in the ring");

/* ---- processes ---- */

#define SLOT_EXE_BYTES 416

/* What a network namespace hands out, as newer kernels have it themselves: low | high << 16. */
#define RANGE_HIGH_SHIFT 16

/*
 * A process, in slot `id` modulo their number. `id` is 0 while it is written, and written last. `exe` has the names from
 * the executable's own up to below the root, each with its NUL: "bash\0bin\0usr\0".
 */
struct process_slot {
	__u64 id;
	__u64 writer; /* who writes; 0: nobody */
	__u64 start;
	__u64 cgroup_id;
	__u32 pid, parent_pid; /* in the reader's pid namespace; 0: none there */
	__u32 euid;
	__u32 mount_namespace; /* inode; 0: none */
	char comm[16], parent_comm[16];
	__u16 exe_bytes;   /* 0: not known */
	__u8 exe_nameless; /* the file has no link any more, or never had */
	__u8 exe_whole;    /* for its writer: the root was reached */
	char exe[SLOT_EXE_BYTES];
	__u32 netns_range; /* of the namespace that it was in when it was written: */
	__u64 netns;       /* net cookie */
};
_Static_assert(sizeof(struct process_slot) == 512, "a power of two");

/* ---- cgroups ---- */

#define CGROUP_PATH_BYTES 500

/*
 * The path of a cgroup, by its id; it is gone, perhaps, before the reader asks. `names` as `exe` above, from the cgroup's own up to
 * below the root that the reader sees: "ssh.service\0system.slice\0". None: the root itself.
 */
struct cgroup_path {
	__u64 id;
	__u16 bytes;
	__u8 whole; /* the root was reached; 0: too long to be told, or not below it */
	__u8 padding;
	char names[CGROUP_PATH_BYTES];
};
_Static_assert(sizeof(struct cgroup_path) == 512, "without padding");

/* ---- what both see ---- */

#define EXITS_UDP_CONNECT   1u
#define EXITS_FAILURES      2u
#define FAILURES_PER_SECOND 256u

struct claims_config {
	__u32 ports[65536 / 32]; /* a bit for each port that is watched in every namespace */
	__u64 netns_only;        /* net cookie; 0: every one */
	__u32 kernel_range;      /* each namespace's own ip_local_port_range, too */
	__u32 accepted;
	__u32 pid_namespace; /* of the reader: the inode of /proc/self/ns/pid */
	__u32 ring_quarter;  /* bytes */
	__u32 slots;         /* a power of two */
	__u32 exits;         /* EXITS_*: the exits of system calls are looked at */
	__u64 cgroup_root;   /* id of the root of the tree that the reader sees */
};

struct claims_counters {
	__u64 lost, lost_ends, deferred, failures_dropped;
	__u64 processes; /* the last id that was given */
	__u64 failure_second, failure_count;
};

/* What a reader that adopts all this must know; the programs do not look at it. */
struct claims_state {
	__u64 attached; /* microseconds of boottime, when the first program was about to be; 0: not yet */
	__u32 udp_connect, failures; /* watched at once, and at all */
	__u32 whole, padding;        /* attached to the root of the host's cgroup tree */
};

#define TOLD_ENTRIES 65536u

struct claims_shared {
	struct claims_config config;
	struct claims_state state;
	_Alignas(64) struct claims_counters counters;
	/* which claims were told of late, by cookie: (cookie << 16 | port) */
	_Alignas(64) __u64 told[TOLD_ENTRIES];
};

/* ---- the snapshot ---- */

struct snapshot_row {
	__u64 cookie;
	__u64 inode;
	__u64 start;
	__u64 netns;
	__u32 netns_inode;
	__u32 pid; /* as in a slot */
	__u16 local_port, remote_port;
	__u8 ipv6, protocol, role, padding;
	__u32 local[4], remote[4];
	__u32 netns_range, unused;
};
_Static_assert(sizeof(struct snapshot_row) == 88, "on the wire of the iterator");
