/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The events rung: BPF programs that tell of every claim and its end, through a ring buffer that outlives this process.
 * Values, no policy: what becomes of an event is the caller's. Kernel side and record layout: bpf/claims.bpf.c, bpf/claims.h.
 */

#include "common/sighting.h"

struct source_events;

/* What can be watched beyond the set that is always attached. */
enum events_extra {
	EVENTS_EXTRA_NO,   /* not watched */
	EVENTS_EXTRA_AUTO, /* where it costs nothing elsewhere (fexit) */
	EVENTS_EXTRA_YES,  /* also by tracepoints that every system call of the host pays for */
};

struct source_events_options {
	struct port_ranges ranges; /* fixed ranges to watch, in every namespace ... */
	bool kernel_range;         /* ... and each namespace's own ip_local_port_range */
	uint64_t netns_only;       /* net cookie: only this namespace; 0: every one */
	bool accepted;             /* tell of accepted connections */
	/* a power of two and a multiple of the page size; 0: the default, 4 MiB */
	uint32_t ring_bytes;
	enum events_extra udp_connect, failures;
	/* Descriptors of an earlier process (from the service manager) by name. Adopted where all of one ring are there, of this
	 * very program with the same ring_bytes, udp_connect and failures. NULL: none. */
	const struct events_fd *passed;
	size_t passed_count;
	/* For what another version of this program left: attaches nothing, adopts any ring whose records can be read
	 * (-ENOENT: none), as it is. When it is read to its end, source_events_free() lets it go. Open the new one before. */
	bool drain;
};

/* A descriptor that is worth keeping for the next process; the name has layout version and generation in it. */
struct events_fd {
	int fd; /* the source's, or, where passed, taken if adopted, else left to the caller */
	const char *name;
};

/* Why the rung could not be had: one line for people, and the command or setting that mends it (static; NULL: nothing does). */
struct events_obstacle {
	char reason[160];
	const char *remedy;
};

/* Is this program built with it? */
bool source_events_built(void);

/* Attaches, or adopts. 0, or negative errno with *ret_obstacle set; -ENOSYS: built without. Nothing stays attached on failure. */
int source_events_open(const struct source_events_options *options, struct source_events **ret,
	struct events_obstacle *ret_obstacle) _must_check_;
struct source_events *source_events_free(struct source_events *s);

struct events_facts {
	uint64_t generation; /* of the ring: random, never 0; the same after an adoption */
	bool adopted;        /* from an earlier process: the kernel has gone on recording */
	usec_t attached; /* boottime at which the first program was attached (adopted: long ago) */
	bool whole; /* every process of the host is heard; else those of this container (of its cgroup namespace) */
	bool udp_connect; /* UDP connects are told at once, not at their end */
	bool failures;    /* failed binds and connects are told */
	uint32_t ring_bytes;
};
struct events_facts source_events_facts(const struct source_events *s);

/* Are all programs still where they were attached? 0, or -ENOLINK: somebody has detached one. Some 5 us. */
int source_events_check(const struct source_events *s);

/* All descriptors to keep. Returns how many (at most `max`). They stay the source's. */
size_t source_events_fds(const struct source_events *s, struct events_fd *ret, size_t max);
/* Is that the name of one of those, of whatever version and settings? NULL is none. */
bool source_events_made(const char *name);

/* Readable when a quarter of the ring is full; below that only a timer drains. */
int source_events_fd(const struct source_events *s);

/*
 * What may be relied on:
 * - A tenure is told once or more, by one cookie: bind and then listen are two CLAIMs, and the later one has what is new of
 *   role and remote end. Its time and process are those of that call: the first ones are the opener's. Where the first had no
 *   room in the ring, a later one has its time and process. A WHOLE may be of a cookie whose claim is open: what came later had no room.
 * - A CLAIM (or WHOLE) of a cookie whose open claim has another local port is a new tenure of the same socket (a refused connect, and
 *   another): the former ended before it, nothing tells when.
 * - A RELEASE may be of a cookie that no CLAIM told of: then it says nothing.
 * - MPTCP: the cookie is that of the TCP subflow, with protocol mptcp where the kernel says so. TCP's dump has the same cookie, with the
 *   inode of the MPTCP socket; that socket's own cookie is in the dump of MPTCP and in source_events_snapshot(), with the
 *   same inode. Further subflows are made by a thread of the kernel: process 0.
 * - Not told: UDP sockets of the kernel itself (tunnels), whose end no hook sees. A UDP connect of a socket without a port is
 *   told by its end (WHOLE), or at once where facts say udp_connect. That AF_UNSPEC gave its port back is told at once where that is by
 *   programs on functions (fexit); else by what the socket does next, which was later (by_then).
 */
enum event_kind {
	/* a claim was made: all but `closed` */
	EVENT_CLAIM = 1,
	/* the full socket went, or its port was given back: cookie, closed, lingers, by_then */
	EVENT_RELEASE = 2,
	/* both in one, where the opening was not told when it was made: all. `at` is USEC_UNSET, and process 0, where no hook saw the opening:
	 * a socket older than the hooks */
	EVENT_WHOLE = 3,
	/* a bind or connect failed: at, netns, protocol, local (port 0: any), remote of a connect, process, error; role bound: it
	 * was a bind, connected: a connect. The cookie may be 0 */
	EVENT_FAILURE = 4,
	/* `process` had the socket open at `at`: accepted connections at their close */
	EVENT_HOLDER = 5,
};

struct event_seen {
	enum event_kind kind;
	usec_t at;     /* boottime of the opening (or failure) */
	usec_t closed; /* boottime of the end; USEC_UNSET */
	uint64_t cookie;
	uint64_t netns;              /* net cookie */
	uint64_t netns_inode;        /* of /proc/PID/ns/net */
	struct port_range ephemeral; /* that it hands out; only of a snapshot: high 0 */
	uint8_t protocol, role;
	bool lingers; /* of an end: a TIME_WAIT remainder may hold the port still; false: the port is free */
	bool by_then; /* of an end: it was before `closed`, since the opening, and nothing tells when */
	int error; /* of a failure: EADDRINUSE, EADDRNOTAVAIL */
	struct endpoint local, remote;
	/* for source_events_process(); 0: none (accepted, or a thread of the kernel) */
	uint64_t process;
	/* of an accepted connection: the socket's; else 0: the process has it */
	uint64_t cgroup_id;
};

/*
 * Reads what the ring has from the source's own position on, which moves past it; the kernel's room is given back only by
 * source_events_release(). Never blocks; nobody may fork in `event`, which returns 0, or what stops. 0, what `event` returned (that
 * event comes again), -EBADMSG (a record that makes no sense; the rest of the ring is skipped and counted lost), or -ENOMEM (all comes
 * again).
 */
int source_events_read(struct source_events *s,
	int (*event)(void *context, const struct event_seen *e), void *context);

/* The position up to which was read; and how many bytes of the ring are not given back yet. */
uint64_t source_events_position(const struct source_events *s);
uint32_t source_events_waiting(const struct source_events *s);
/* Is nothing left to be read, nor being written? */
bool source_events_is_read(const struct source_events *s);
/* Everything before `position` is stored: gives the room back. Clamped to what was read. */
void source_events_release(struct source_events *s, uint64_t position);
/* A new reader: read on from `position` (stored by the ledger for this generation), or from the oldest that is there, whichever is later. */
void source_events_rewind(struct source_events *s, uint64_t position);

/* Counted by the kernel side since the ring was made. */
struct events_counts {
	uint64_t lost;     /* claims of which nothing got through */
	uint64_t deferred; /* openings without room, which their ends will tell: worth a snapshot */
	uint64_t lost_ends;        /* ends that were not told */
	uint64_t failures_dropped; /* failures past the rate, or without room */
	/* sockets of TCP, watched or not, at whose end the program was not run: the kernel does not run it in the midst of itself. Whoever
	 * was told of by a claim is in no RELEASE then. Swept and snapshot namespaces show it. */
	uint64_t skipped;
};
struct events_counts source_events_counts(const struct source_events *s);

/* Where a process was when the kernel side wrote it down. */
struct process_place {
	uint64_t cgroup_id;
	uint64_t netns;              /* net cookie */
	struct port_range ephemeral; /* that this namespace hands out */
};

/* Who that is: fresh, one reference; pid and parent (in the initial pid namespace), start, uid, comm (of the first thread), parent comm, exe
 * and exe_note; cgroup path and unit are for the caller to find by its cgroup's id. The same number is the same process as it was then,
 * and after an exec, a setuid, a new name or cgroup it has another. -ENOENT: not known any more (the kernel side's table has wrapped). */
int source_events_process(struct source_events *s, uint64_t id, struct process **ret,
	struct process_place *ret_place) _must_check_;

#define EVENTS_CGROUP_BYTES 512
/* The path of the cgroup of a process that was told of, as /proc/PID/cgroup shows it, also when it is gone: some 2 us. -ENOENT: not known (any
 * more), or too long. */
int source_events_cgroup(const struct source_events *s, uint64_t cgroup_id,
	char path[static EVENTS_CGROUP_BYTES]) _must_check_;

/* Other ports, or accepted or not, from now on. */
int source_events_watch(
	struct source_events *s, const struct source_events_options *options) _must_check_;

/* Tells of nothing any more, for good: what it has told is left to be read (`drain`), and nobody adopts it. */
void source_events_silence(struct source_events *s);

/* One socket that a process has open, from the task iterator: in every namespace. */
struct holder_seen {
	/* kind EVENT_CLAIM; at USEC_UNSET; netns, endpoints, role as far as the socket shows it */
	struct event_seen socket;
	uint64_t inode;
	int32_t pid;
	usec_t start_boot;
};
/* One pass over all descriptors of all processes; sockets of watched ports only; assigns cookies. 0 or negative errno, or what `holder` returned. */
int source_events_snapshot(struct source_events *s,
	int (*holder)(void *context, const struct holder_seen *h), void *context);
