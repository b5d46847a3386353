/* SPDX-License-Identifier: MIT */
#pragma once

/* What capture tells the ledger: sightings and the marks between them, as values. common/stream puts them on
 * the wire. The stream carries changes, not tables. */

#include "common/claim.h"

#define BOOT_ID_BYTES 16

/* First record of a stream: who speaks. */
struct hello {
	uint8_t boot_id[BOOT_ID_BYTES]; /* /proc/sys/kernel/random/boot_id, as 16 bytes */
	struct now at;
	int32_t capture_pid;
	char *version; /* of portledger; owned */
	/* of the events' ring: random, the same as long as the kernel has recorded into it without a break; 0: there is none */
	uint64_t generation;
	/* of another one, which was recorded into before it and is read to its end first; 0: none */
	uint64_t before;
};

/* A place in the events' ring. 0, 0: none. */
struct ring_position {
	uint64_t generation;
	uint64_t position; /* all before it was read; counts bytes since the ring was made */
};

/* A list of port ranges, ascending and disjoint, inclusive at both ends, host byte order. */
struct port_range {
	uint16_t low, high;
};
#define PORT_RANGES_MAX 16
struct port_ranges {
	struct port_range range[PORT_RANGES_MAX];
	uint32_t count;
};

/* "32768-60999 61001-61001" into `text`, which is returned. */
#define PORT_RANGES_TEXT_MAX (PORT_RANGES_MAX * 12)
const char *port_ranges_format(
	const struct port_ranges *ranges, char text[static PORT_RANGES_TEXT_MAX]);

static inline bool port_ranges_contain(const struct port_ranges *ranges, uint16_t port)
{
	for (uint32_t i = 0; i < ranges->count; i++)
		if (port >= ranges->range[i].low && port <= ranges->range[i].high)
			return true;
	return false;
}

/* From here on we watch like this: starts a new stretch of coverage. It begins with the first whole sweep
 * that follows. */
struct coverage {
	uint8_t rung;                /* enum source: the one that is attached */
	usec_t interval_usec;        /* between sweeps */
	struct port_ranges ranges;   /* what is watched */
	struct port_range ephemeral; /* net.ipv4.ip_local_port_range of the daemon's namespace */
	uint32_t protocols;          /* bit mask, 1 << enum protocol: what the sweeps cover */
	bool bound_only;             /* bound-only TCP is seen (kernel 6.8) */
	bool accepted;               /* accepted connections are recorded */
	bool foreign_processes; /* processes of other users can be named (capabilities are there) */
	bool netns_all;         /* every network namespace, or only the daemon's own */
	bool udp_connect;       /* events: UDP connects are told at once, not only at their end */
	bool failures;          /* events: binds and connects that fail are told */
};

/* A network namespace that sightings name; told again when more of it is known, or its range has changed. */
struct netns {
	uint64_t cookie;             /* SO_NETNS_COOKIE */
	uint64_t inode;              /* of /proc/PID/ns/net; reused within seconds */
	char *name;                  /* owned; NULL: none known */
	struct port_range ephemeral; /* its net.ipv4.ip_local_port_range; 0, 0: not known */
};

/* A process that sightings name by `ref` until `forget`. A ref is never reused within a stream. */
struct process_entry {
	uint32_t ref;            /* never 0 */
	struct process *process; /* one reference */
};

enum sighting_kind {
	/* seen, for the first time or changed: all members hold */
	SIGHTING_PRESENT = 1,
	/* not seen by a whole sweep, seen by the one before: cookie, at, after */
	SIGHTING_ABSENT = 2,
	/* the kernel said that it ended: cookie, at, after, time_wait, expires */
	SIGHTING_CLOSED = 3,
	/* events: what was left of a closed one is gone, too: cookie, at, after */
	SIGHTING_RELEASED = 4,
};

/*
 * What one source says of one socket at one moment.
 * PRESENT: the socket was there at `at`, and was not there (or not so) at `after`.
 * ABSENT: it was not there at `at`, and still was at `after`. The ledger closes the claim with the next whole
 * SWEEP that covers its protocol, unless PRESENT comes first. What no sweep shows is no longer there only in the namespace
 * that is swept; in the others only events tell.
 * CLOSED: the full socket went at `at`, not before `after`; with time_wait a remainder holds the port (of events: may hold
 * it), else it is free.
 * RELEASED: the port was free at `at`, which is the close or later; the full socket went before, whether CLOSED was told or
 * not.
 */
struct sighting {
	uint8_t kind;   /* enum sighting_kind */
	uint8_t source; /* enum source */
	uint8_t protocol, role, attribution;
	/* only a TIME_WAIT (or FIN_WAIT2) remainder is left: the full socket went */
	bool time_wait;
	bool preexisting;   /* it was there at the very first sweep */
	bool local_unknown; /* of `local`, only family and port are known */
	uint64_t cookie, netns;
	struct endpoint local, remote;
	usec_t at; /* boottime */
	/* boottime; USEC_UNSET: `at` is exact. 0 (boot) where nothing better is known */
	usec_t after;
	usec_t expires;  /* boottime at which TIME_WAIT would end (idiag_expires); USEC_UNSET */
	uint32_t opener; /* ref of a process_entry; 0: nothing known */
	uint32_t holder_count;           /* further holders now, beside the opener */
	uint32_t holders[LIMIT_HOLDERS]; /* refs */
	uint32_t holders_dropped;
};

/* The end of a sweep. */
struct sweep {
	uint64_t number;   /* counts from 1 in this stream */
	usec_t begin, end; /* boottime: nothing read before `begin`, nothing after `end` */
	struct now now;    /* the two clocks, at the end */
	/* mask of those whose tables were read whole; 0: aborted, proves nothing */
	uint32_t protocols;
	uint32_t sockets;      /* seen in the watched ranges */
	usec_t cpu_usec;       /* that it took capture */
	uint32_t unattributed; /* sockets now without a process although one may hold them */
	uint64_t netns; /* cookie of the one namespace that was swept; 0: claims are of no other */
};

/* Claims may have been missed. */
struct gap {
	usec_t from, until; /* boottime */
	uint64_t lost;      /* how many; UINT64_MAX: cannot be known */
	char *reason;       /* one of the words of portledger-ledger(7); owned */
};
#define LOST_UNKNOWN UINT64_MAX

/* What the events' ring told before `position` has all been sent. The two counts are of the whole generation: what they are
 * more than with the record before is the gap between the two, and only the ledger, which stores them, makes it one. */
struct drained {
	struct ring_position ring;
	uint64_t lost;             /* claims of which nothing got through */
	uint64_t lost_ends;        /* ends that were not told */
	uint64_t failures_dropped; /* failures past the kernel side's own rate, or without room */
	usec_t at;                 /* boottime: when the ring was read */
	bool urgent;               /* more than a quarter of the ring waits for KEPT */
};

/* A bind or connect that failed for want of a port. */
enum failure_error {
	FAILURE_IN_USE = 1,        /* EADDRINUSE */
	FAILURE_NOT_AVAILABLE = 2, /* EADDRNOTAVAIL */
};
enum failure_call {
	FAILURE_BIND = 1,
	FAILURE_CONNECT = 2,
};
struct failure {
	usec_t at; /* boottime */
	uint64_t netns;
	uint8_t protocol;
	uint8_t error, call;    /* the enums above */
	struct endpoint local;  /* port 0: none was asked for */
	struct endpoint remote; /* of a connect; else FAMILY_NONE */
	uint32_t process;       /* ref of a process_entry; 0: not known */
};

/* What a process of ours costs. */
struct cost {
	int32_t pid;
	usec_t cpu_usec;    /* user and system, since its start */
	uint64_t pss_bytes; /* /proc/self/smaps_rollup; 0: not readable */
};

/* All that was claimed before the question with this number has been sent. */
struct barrier {
	uint64_t id;
	struct cost capture;
	struct now now;
};

/* How much of a remote address is kept once a claim is old enough; what is later in the list keeps less. */
enum remote_addresses {
	REMOTE_ADDRESSES_FULL,
	REMOTE_ADDRESSES_TRUNCATED, /* the network: 24 bits of IPv4, 48 of IPv6; and the port */
	REMOTE_ADDRESSES_NONE,      /* nor the port */
	REMOTE_ADDRESSES_COUNT
};

/* Settings that the ledger needs; sent at start and after a reload. */
struct settings {
	usec_t max_age_usec;      /* of raw claims */
	uint64_t max_bytes;       /* of the database */
	uint8_t remote_addresses; /* enum remote_addresses */
	usec_t remote_after_usec; /* how long after its end a claim's is kept whole */
	usec_t activity_hour_usec,
		activity_day_usec;    /* ages of the rollups; MaxAge= where that is more */
	uint32_t user_share_permille; /* of all rows: more of one user's go first */
	uint64_t coalesce_above;      /* like claims a second */
};

/* Of what is degraded: why there is no better rung, and, after "; ", what mends it. */
#define DEGRADED_OBSTACLE "no kernel events: "
#define DEGRADED_BETWEEN  " | "

/* ledger -> control: your question number `id` is answered by what is committed now. Also sent with id 0 when
 * something was committed while someone follows. */
struct committed {
	uint64_t id;
	uint64_t commit; /* counts up */
	usec_t until_wall; /* all up to here is in the database: the beginning of the last whole sweep */
	struct cost capture, ledger;
	uint64_t sweeps, sweep_cpu_usec, open_claims, recorded, lost, gaps, unattributed,
		found_only_by_sweep, lost_ends;
	struct coverage coverage; /* as it is now */
	uint64_t waiting;         /* closed claims that the disk refuses at the moment */
	/* false: capture did not answer in time; the newest claims may be missing */
	bool capture_answered;
	bool watching; /* false before the first whole sweep, and while replaying */
	/* reasons, DEGRADED_BETWEEN them, each with what mends it after its last "; "; NULL: none; owned */
	char *degraded;
};
