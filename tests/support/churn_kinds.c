/* SPDX-License-Identifier: MIT */

/* The ways to claim a port. Time is taken as close to the call that claims as can be: what stands between is in doubt. */

#include "tests/support/churn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define DISCARD_PORT 9 /* RFC 863; nobody needs to be there */

enum act { ACT_CONNECT, ACT_BIND, ACT_LISTEN, ACT_BIND_LISTEN, ACT_SEND, ACT_EXEC };

static const struct {
	const char *name;
	int family, type, protocol;
	enum act act;
} kinds[CHURN_KINDS] = {
	[CHURN_TCP4] = {"tcp4", AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_CONNECT},
	[CHURN_TCP6] = {"tcp6", AF_INET6, SOCK_STREAM, IPPROTO_TCP, ACT_CONNECT},
	[CHURN_NONBLOCK] = {"nonblock", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP,
		ACT_CONNECT},
	[CHURN_REFUSED] = {"refused", AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_CONNECT},
	[CHURN_RST] = {"rst", AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_CONNECT},
	[CHURN_LISTEN_BIND] = {"listen-bind", AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_BIND_LISTEN},
	[CHURN_LISTEN] = {"listen", AF_INET6, SOCK_STREAM, IPPROTO_TCP, ACT_LISTEN},
	[CHURN_BOUND] = {"bound", AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_BIND},
	[CHURN_UDP_SEND] = {"udp-send", AF_INET, SOCK_DGRAM, IPPROTO_UDP, ACT_SEND},
	[CHURN_UDP_CONNECT] = {"udp-connect", AF_INET, SOCK_DGRAM, IPPROTO_UDP, ACT_CONNECT},
	[CHURN_UDP_BIND] = {"udp-bind", AF_INET6, SOCK_DGRAM, IPPROTO_UDP, ACT_BIND},
	[CHURN_MAPPED] = {"mapped", AF_INET6, SOCK_DGRAM, IPPROTO_UDP, ACT_SEND},
	[CHURN_UDPLITE] = {"udplite", AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, ACT_BIND},
	[CHURN_MPTCP] = {"mptcp", AF_INET, SOCK_STREAM, IPPROTO_MPTCP, ACT_CONNECT},
	[CHURN_EXEC] = {"exec", AF_INET, SOCK_STREAM, IPPROTO_TCP, ACT_EXEC},
	[CHURN_UDP_DISCONNECT] = {"udp-disconnect", AF_INET, SOCK_DGRAM, IPPROTO_UDP, ACT_CONNECT},
};

const char *churn_kind_name(enum churn_kind kind)
{
	return kinds[kind].name;
}

const char *churn_protocol_name(enum churn_kind kind)
{
	switch (kinds[kind].protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_UDPLITE:
		return "udplite";
	default:
		return "mptcp";
	}
}

const char *churn_role_name(enum churn_kind kind)
{
	switch (kinds[kind].act) {
	case ACT_CONNECT:
	case ACT_EXEC:
		return "connected";
	case ACT_LISTEN:
	case ACT_BIND_LISTEN:
		return "listening";
	case ACT_BIND:
	case ACT_SEND:
		break;
	}
	return "bound";
}

uint64_t churn_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* splitmix64: the same number for the same seed and question, in whichever process it is asked. */
uint64_t churn_random(const struct churn *c, uint64_t n, uint64_t what)
{
	uint64_t z = c->seed + (n * CHURN_KINDS + what + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t own_start(void)
{
	char line[1024], *at = NULL;
	FILE *f = fopen("/proc/self/stat", "re");

	if (f && fgets(line, sizeof(line), f))
		at = strrchr(line, ')');
	if (f)
		fclose(f);
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at) {
		perror("churn: /proc/self/stat");
		_exit(1);
	}
	return strtoull(at, NULL, 10);
}

void churn_sign(struct churn *c, uint32_t number)
{
	static uint64_t start;
	static pid_t pid;
	struct churn_claim *claim = &c->claim[number];

	if (pid != getpid()) { /* a fork has its parent's */
		pid = getpid();
		start = own_start();
	}
	claim->pid = pid;
	claim->start_ticks = start;
	claim->uid = geteuid();
	prctl(PR_GET_NAME, claim->comm);
}

static void set_address(struct sockaddr_storage *a, int family, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)a;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;

	memset(a, 0, sizeof(*a));
	a->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		v4->sin_port = htons(port);
		v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else {
		v6->sin6_port = htons(port);
		v6->sin6_addr = in6addr_loopback;
	}
}

/* Where a claim of this kind goes to; port 0: nowhere, the address is for bind(2). */
static void set_peer(const struct churn *c, uint32_t number, struct sockaddr_storage *ret)
{
	enum churn_kind kind = c->claim[number].kind;
	uint16_t port = 0;

	switch (kind) {
	case CHURN_TCP4:
	case CHURN_NONBLOCK:
	case CHURN_RST:
	case CHURN_EXEC:
		port = c->tcp4[number % CHURN_LISTENERS];
		break;
	case CHURN_TCP6:
		port = c->tcp6[number % CHURN_LISTENERS];
		break;
	case CHURN_REFUSED:
		port = c->closed;
		break;
	case CHURN_MPTCP:
		port = c->mptcp;
		break;
	case CHURN_UDP_SEND:
	case CHURN_UDP_CONNECT:
	case CHURN_UDP_DISCONNECT:
	case CHURN_MAPPED:
		port = DISCARD_PORT;
		break;
	case CHURN_LISTEN_BIND:
	case CHURN_LISTEN:
	case CHURN_BOUND:
	case CHURN_UDP_BIND:
	case CHURN_UDPLITE:
	case CHURN_KINDS:
		break;
	}
	set_address(ret, kinds[kind].family, port);
	if (kind == CHURN_MAPPED)
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &((struct sockaddr_in6 *)ret)->sin6_addr);
}

static bool wants_cookie(const struct churn *c, uint32_t number, enum churn_cookie when)
{
	if (c->cookie != CHURN_COOKIE_MIXED)
		return c->cookie == when;
	return churn_random(c, number, 1) % 3 == (uint64_t)when;
}

static void take_cookie(struct churn *c, uint32_t number, int fd, enum churn_cookie when)
{
	socklen_t size = sizeof(c->claim[number].cookie);

	if (wants_cookie(c, number, when))
		getsockopt(fd, SOL_SOCKET, SO_COOKIE, &c->claim[number].cookie, &size);
}

/* The call, or calls, that claim. The claim is made by the first; the role by the last. */
static int act(int fd, enum act what, const struct sockaddr_storage *peer, socklen_t size)
{
	const struct sockaddr *to = (const struct sockaddr *)peer;

	switch (what) {
	case ACT_CONNECT:
		return connect(fd, to, size);
	case ACT_BIND:
		return bind(fd, to, size);
	case ACT_LISTEN:
		return listen(fd, 16);
	case ACT_BIND_LISTEN:
		return bind(fd, to, size) < 0 ? -1 : listen(fd, 16);
	case ACT_SEND:
		return sendto(fd, "x", 1, 0, to, size) < 0 ? -1 : 0;
	case ACT_EXEC:
		break;
	}
	errno = EINVAL;
	return -1;
}

static int claim_port(struct churn *c, uint32_t number)
{
	struct churn_claim *claim = &c->claim[number];
	enum churn_kind kind = claim->kind;
	int fd = socket(kinds[kind].family, kinds[kind].type | SOCK_CLOEXEC, kinds[kind].protocol);
	socklen_t size = kinds[kind].family == AF_INET ? sizeof(struct sockaddr_in)
						       : sizeof(struct sockaddr_in6);
	enum act what = kinds[kind].act == ACT_EXEC ? ACT_CONNECT : kinds[kind].act;
	struct sockaddr_storage peer;
	bool expected;
	int r;

	set_peer(c, number, &peer);
	take_cookie(c, number, fd, CHURN_COOKIE_BEFORE);
	claim->open_before = churn_now();
	atomic_store(&claim->state, CHURN_OPENING);
	r = act(fd, what, &peer, size);
	claim->error = r < 0 ? errno : 0;
	claim->open_after = churn_now();
	expected = (kind == CHURN_REFUSED && claim->error == ECONNREFUSED) ||
		   (kind == CHURN_NONBLOCK && claim->error == EINPROGRESS);
	if (claim->error && !expected) {
		atomic_store(&claim->state, CHURN_FAILED);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	claim->error = 0;
	size = sizeof(claim->local);
	getsockname(fd, (struct sockaddr *)&claim->local, &size);
	if (kind ==
		CHURN_REFUSED) /* it has its port still, but not the address that the route gave */
		((struct sockaddr_in *)&claim->local)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (what == ACT_CONNECT)
		claim->remote = peer;
	atomic_store(&claim->state, CHURN_OPEN);
	take_cookie(c, number, fd, CHURN_COOKIE_AFTER);
	return fd;
}

/* The child that executes another file; the claim is that one's. It is root still when it does, for whom the file is there. */
static int claim_by_exec(struct churn *c, uint32_t number)
{
	char memory[16], which[16];
	pid_t child;

	snprintf(memory, sizeof(memory), "%d", c->memory_fd);
	snprintf(which, sizeof(which), "%u", number);
	child = fork();
	if (child == 0) {
		if (setresuid(0, 0, 0) < 0 && getuid() == 0)
			_exit(1);
		execl(c->other_exe, c->other_exe, "--claim", memory, which, (char *)NULL);
		_exit(1);
	}
	if (child < 0) {
		c->claim[number].error = errno;
		atomic_store(&c->claim[number].state, CHURN_FAILED);
	} else if (!c->hold) {
		waitpid(child, NULL, 0);
	}
	return -1;
}

int churn_open(struct churn *c, uint32_t number)
{
	struct churn_claim *claim = &c->claim[number];
	char self[CHURN_PATH] = "";

	if (claim->kind == CHURN_EXEC) {
		if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 ||
			strcmp(self, c->other_exe) != 0)
			return claim_by_exec(c, number);
		claim->other_exe = true;
	}
	churn_sign(c, number);
	return claim_port(c, number);
}

void churn_close(struct churn *c, uint32_t number, int fd)
{
	static const struct linger reset = {.l_onoff = 1};
	static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	struct churn_claim *claim = &c->claim[number];

	if (fd < 0)
		return;
	if (claim->kind == CHURN_RST)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	claim->close_before = claim->kind == CHURN_REFUSED ? claim->open_before : churn_now();
	atomic_store(&claim->state, CHURN_CLOSING);
	if (claim->kind == CHURN_UDP_DISCONNECT) {
		connect(fd, &nowhere, sizeof(nowhere));
		claim->close_after = churn_now();
	}
	close(fd);
	if (claim->kind != CHURN_UDP_DISCONNECT)
		claim->close_after = churn_now();
	atomic_store(&claim->state, CHURN_CLOSED);
}
