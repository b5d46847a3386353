/* SPDX-License-Identifier: MIT */
#pragma once

/* A claim: one socket's tenure of a local port, from its first to its last moment, with its holders. */

#include "common/clock.h"
#include "common/endpoint.h"
#include "common/limits.h"

/* The numbers of these enums are in the database and in the stream: never change one, only add. */

enum protocol {
	PROTOCOL_TCP = 0,
	PROTOCOL_UDP = 1,
	PROTOCOL_UDPLITE = 2,
	PROTOCOL_MPTCP = 3,
	PROTOCOL_COUNT,
};

enum role {
	ROLE_CONNECTED = 0, /* has a remote end that it chose itself */
	ROLE_LISTENING = 1, /* TCP and MPTCP: listen(2) */
	ROLE_BOUND = 2,     /* has a port, no remote end: bound-only TCP, unconnected UDP */
	ROLE_ACCEPTED = 3,  /* a connection that a listener took: on the listener's port */
	/* TCP that no sweep saw: bound or listening; or a connection that either side may have opened */
	ROLE_UNKNOWN = 4,
	ROLE_COUNT,
};

/* How the holder was learnt. Never guessed. */
enum attribution {
	ATTRIBUTION_NONE = 0,   /* nothing is known but the socket */
	ATTRIBUTION_EVENT = 1,  /* the kernel said so at the moment of the claim */
	ATTRIBUTION_ITER = 2,   /* BPF task_file iterator */
	ATTRIBUTION_PROCFD = 3, /* found in /proc/PID/task/TID/fd */
	ATTRIBUTION_CGROUP = 4, /* no process: the socket's cgroup (and owner uid) */
	ATTRIBUTION_UID = 5,    /* no process: the socket's owner uid */
	ATTRIBUTION_KERNEL = 6, /* a socket of the kernel itself */
	ATTRIBUTION_COUNT,
};

/* Which source saw the claim first. */
enum source {
	SOURCE_SWEEP = 0,   /* sock_diag on a timer */
	SOURCE_DESTROY = 1, /* sock_diag destroy multicast */
	SOURCE_EVENTS = 2,  /* BPF */
	SOURCE_PROCNET = 3, /* /proc/net on a timer: inet_diag is missing */
	SOURCE_COUNT,
};

/* Names as on the wire and in the views ("tcp", "connected", "procfd", "sweep" ...). */
const char *protocol_name(enum protocol p);
const char *role_name(enum role r); /* NULL for ROLE_UNKNOWN */
const char *attribution_name(enum attribution a);
const char *source_name(enum source s);
/* 0 or -EINVAL. */
int protocol_from_name(const char *name, enum protocol *ret) _must_check_;
int role_from_name(const char *name, enum role *ret) _must_check_;

#define UID_UNSET UINT32_MAX

/* What /proc says of the path in /proc/PID/exe that the path itself does not. */
enum exe_note {
	EXE_NOTE_NONE = 0,
	EXE_NOTE_DELETED = 1,         /* the file has no name left (st_nlink 0) */
	EXE_NOTE_MEMFD = 2,           /* it never had one: memfd_create(2) */
	EXE_NOTE_OTHER_NAMESPACE = 3, /* the path is one of another mount namespace */
};
const char *exe_note_name(enum exe_note n); /* NULL, "deleted", "memfd", "other-mount-namespace" */

/*
 * Who opened a claim: a process, or as much of one as is known. Immutable and shared by reference count.
 * A process is (pid, start time), plus the pidfd inode where the kernel has it (6.9). Without a process
 * (attribution cgroup, uid, kernel) pid is 0 and what is known is in uid, unit and cgroup.
 * All strings are stored forms (escape_store) of at most LIMIT_STRING_BYTES, NULL where not known.
 */
struct process {
	unsigned references;
	int32_t pid;          /* thread-group id in the daemon's pid namespace; 0: no process */
	int32_t parent_pid;   /* 0: none or not known */
	usec_t start_boot;    /* /proc/PID/stat field 22, as boottime; USEC_UNSET: no process */
	uint64_t pidfd_inode; /* fstat(pidfd).st_ino; 0: this kernel has none */
	uint32_t uid;         /* effective uid of the process, else the socket's owner; UID_UNSET */
	uint8_t exe_note;     /* enum exe_note */
	bool noted;           /* for daemon/ledger/notable: its program was looked up */
	char *comm, *exe, *cgroup, *unit, *parent_comm; /* owned */
	/* for the store: row id of this process, true while store_epoch is the store's; 0: not stored yet */
	uint64_t store_id, store_epoch;
};

/* A zeroed process with one reference, pid 0, uid and start unset. NULL: no memory. */
struct process *process_new(void);
struct process *process_ref(struct process *p);
/* Drops a reference; frees at the last. Takes NULL, returns NULL. */
struct process *process_unref(struct process *p);
DEFINE_CLEANUP(struct process, process_unref)

/* A further process that has the socket open: inherited, or passed to it. */
struct holder {
	struct process *process; /* one reference */
	usec_t from_boot;        /* first seen to hold it */
	usec_t until_boot;       /* seen to hold it no more; USEC_UNSET: still */
};

/*
 * A claim. Times are boottime of this boot; `opened_wall` fixes the claim in wall time, and every other wall
 * time of it is opened_wall plus a difference of boottimes, so that a clock that jumps reorders nothing.
 * A `*_after` is the earlier bound of a time that a sweep learnt; USEC_UNSET where the time is exact.
 */
struct claim {
	/* the store's number of this claim: rising in the order of opening; 0: none yet */
	uint64_t id;
	uint64_t cookie; /* the socket's cookie (SO_COOKIE), its identity within this boot */
	uint64_t netns;  /* net cookie of its network namespace */
	uint8_t protocol, role, attribution, source; /* the enums above */
	struct endpoint local;  /* what is claimed; port never 0, family never FAMILY_NONE */
	struct endpoint remote; /* FAMILY_NONE where there is none */
	usec_t opened_boot, opened_after_boot;
	usec_t opened_wall;
	/* when the full socket went; USEC_UNSET: still open */
	usec_t closed_boot, closed_after_boot;
	usec_t released_boot; /* when the port was free again; USEC_UNSET: not yet */
	/* `local` has only family and port: the address was gone when we heard of it */
	bool local_unknown;
	/* was there when we began to watch: `opened_boot` is when we first saw it */
	bool preexisting;
	/* closed by an unclean end of ours: `closed_boot` is when it was last known alive */
	bool end_unseen;
	struct process *opener; /* one reference; NULL: nothing known */
	struct holder *holders; /* owned; beside the opener, in the order seen */
	uint32_t holder_count;
	uint32_t holders_dropped; /* further holders past LIMIT_HOLDERS */
};

/* Frees what the claim owns, not the claim. */
void claim_done(struct claim *c);

/* The wall time of a boottime that belongs to this claim. USEC_UNSET stays. */
static inline usec_t claim_wall(const struct claim *c, usec_t boot)
{
	if (boot == USEC_UNSET)
		return USEC_UNSET;
	return boot >= c->opened_boot ? c->opened_wall + (boot - c->opened_boot)
				      : usec_sub(c->opened_wall, c->opened_boot - boot);
}
