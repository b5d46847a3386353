/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the parts of the load share, in memory that every process of it maps: what to do, and what was done. A record is written
 * before and after each step by the process that claims, so that it is true also of one that is killed.
 */

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHURN_PER_PROCESS 10 /* claims */
#define CHURN_UIDS        16
#define CHURN_PATH        512
#define CHURN_LISTENERS   4 /* per address: so many destinations that TIME_WAIT leaves ports enough */

enum churn_kind {
	CHURN_TCP4,
	CHURN_TCP6,
	CHURN_NONBLOCK, /* connect that does not wait, closed at once */
	CHURN_REFUSED,
	CHURN_RST,         /* closed with SO_LINGER 0 */
	CHURN_LISTEN_BIND, /* bind, then listen */
	CHURN_LISTEN,      /* listen alone: the kernel chooses the port */
	CHURN_BOUND,       /* TCP, never used */
	CHURN_UDP_SEND,    /* without bind or connect */
	CHURN_UDP_CONNECT,
	CHURN_UDP_BIND,
	CHURN_MAPPED, /* UDP of IPv6 that sends to ::ffff:127.0.0.1 */
	CHURN_UDPLITE,
	CHURN_MPTCP,
	CHURN_EXEC,           /* a child of its own that executes another file, which connects */
	CHURN_UDP_DISCONNECT, /* connect, then connect to AF_UNSPEC, which gives the port back */
	CHURN_KINDS,
};

/* How far a claim got. */
enum churn_state {
	CHURN_NOTHING, /* not begun */
	CHURN_OPENING, /* the call was about to be made: who dies here may have claimed or not */
	CHURN_OPEN,
	CHURN_CLOSING,
	CHURN_CLOSED,
	CHURN_FAILED, /* the kernel gave no port: there was no claim */
};

struct churn_claim {
	_Atomic uint32_t state; /* enum churn_state */
	uint8_t kind;           /* enum churn_kind */
	bool other_exe;
	bool killed; /* its process died with it open */
	int32_t error;
	int32_t pid;
	uint32_t uid;
	uint64_t start_ticks; /* /proc/PID/stat, 22 */
	/* boottime in ns. The port was claimed, and free again (TIME_WAIT apart), between these. */
	uint64_t open_before, open_after, close_before, close_after;
	uint64_t cookie; /* SO_COOKIE; 0: not asked for */
	struct sockaddr_storage local, remote;
	char comm[16];
};

/* When a kernel is to be asked for a socket's cookie: it gets one by that. */
enum churn_cookie {
	CHURN_COOKIE_NONE,
	CHURN_COOKIE_BEFORE,
	CHURN_COOKIE_AFTER,
	CHURN_COOKIE_MIXED
};

struct churn {
	uint32_t count, processes;
	uint64_t seed;
	uint32_t kinds[CHURN_KINDS], kind_count;
	uint32_t uids[CHURN_UIDS], uid_count;
	uint32_t rate;     /* claims per second, in all */
	uint32_t parallel; /* processes at a time */
	uint32_t kill;     /* of 100 processes, so many die with a claim open */
	enum churn_cookie cookie;
	int32_t pid; /* that each process has, one after the other; 0: as the kernel likes */
	_Atomic bool enough; /* no other process is begun */
	bool hold;           /* open all, keep them until told, close them */
	int held_fd,
		release_fd; /* with hold: a byte is written there; the other one ends when told */
	int memory_fd;
	/* listeners of ports that nobody watches: IPv4, IPv6, MPTCP */
	uint16_t tcp4[CHURN_LISTENERS], tcp6[CHURN_LISTENERS], mptcp;
	uint16_t closed; /* nobody listens here */
	char exe[CHURN_PATH], other_exe[CHURN_PATH];
	struct churn_claim claim[];
};

uint64_t churn_now(void); /* boottime in ns */
uint64_t churn_random(const struct churn *c, uint64_t n, uint64_t what);

const char *churn_kind_name(enum churn_kind kind);
const char *churn_protocol_name(enum churn_kind kind);
const char *churn_role_name(enum churn_kind kind); /* once the claim is made */

/* Makes the claim of this number. Returns its socket, to be given to churn_close(), or -1 where nothing is left to close (and
 * for CHURN_EXEC, where a child does it all). */
int churn_open(struct churn *c, uint32_t number);
void churn_close(struct churn *c, uint32_t number, int fd);
/* Writes into the claim who we are. */
void churn_sign(struct churn *c, uint32_t number);
