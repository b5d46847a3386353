/* SPDX-License-Identifier: MIT */

/*
 * claim-loop KIND COUNT [RATE [LOW]]: claims a port and gives it back, COUNT times, and does nothing else: the worst case for
 * whoever listens to claims. Prints the nanoseconds of CPU (user and system) that one took. With RATE it makes at
 * most so many a second. All is on loopback of the caller's network namespace. LOW: bind is to ports from there on, one after the other.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LISTENER_PORT 10000 /* not one that is watched */
#define BATCH         50u   /* a rate is kept by so many at once */

static struct sockaddr_in loopback(unsigned port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void fail(const char *what)
{
	fprintf(stderr, "claim-loop: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static int make_socket(int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static void bind_to(int fd, unsigned port)
{
	const struct sockaddr_in address = loopback(port);

	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		fail("bind");
}

static void connect_to(int fd, unsigned port)
{
	const struct sockaddr_in address = loopback(port);

	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		fail("connect");
}

/* The accepted end is closed first: what waits in TIME_WAIT is on the listener's port, and the client's is free. */
static void tcp(int listener)
{
	int fd = make_socket(SOCK_STREAM), accepted;

	connect_to(fd, LISTENER_PORT);
	accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (accepted < 0)
		fail("accept4");
	(void)close(accepted);
	(void)close(fd);
}

static void udp_sendto(void)
{
	const struct sockaddr_in to = loopback(9); /* discard */
	int fd = make_socket(SOCK_DGRAM);

	if (sendto(fd, "", 1, 0, (const struct sockaddr *)&to, sizeof(to)) < 0)
		fail("sendto");
	(void)close(fd);
}

static void udp_connect(void)
{
	int fd = make_socket(SOCK_DGRAM);

	connect_to(fd, 9);
	(void)close(fd);
}

static void udp_bind(unsigned port)
{
	int fd = make_socket(SOCK_DGRAM);

	bind_to(fd, port);
	(void)close(fd);
}

struct loop {
	const char *kind;
	int listener;
	unsigned low, next;
};

static bool once(struct loop *l)
{
	if (strcmp(l->kind, "tcp") == 0)
		tcp(l->listener);
	else if (strcmp(l->kind, "sendto") == 0)
		udp_sendto();
	else if (strcmp(l->kind, "connect") == 0)
		udp_connect();
	else if (strcmp(l->kind, "bind") == 0)
		udp_bind(l->low == 0 ? 0 : l->low + l->next++ % 1000);
	else if (strcmp(l->kind, "getpid") == 0)
		(void)syscall(SYS_getppid);
	else
		return false;
	return true;
}

static unsigned long long cpu_nsec(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_nsec;
}

/* Sleeps until `done` may have been made by now. */
static void keep_rate(const struct timespec *start, unsigned long done, unsigned long rate)
{
	unsigned long long nsec = (unsigned long long)done * 1000000000u / rate;
	struct timespec until = {
		.tv_sec = start->tv_sec + (time_t)(nsec / 1000000000u),
		.tv_nsec = start->tv_nsec + (long)(nsec % 1000000000u),
	};

	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

int main(int argc, char **argv)
{
	struct loop l = {.kind = argc > 1 ? argv[1] : "", .listener = make_socket(SOCK_STREAM)};
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned long rate = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	const int yes = 1;
	unsigned long long before;
	struct timespec start;

	l.low = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
	(void)setsockopt(l.listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (strcmp(l.kind, "tcp") == 0) {
		bind_to(l.listener, LISTENER_PORT);
		if (listen(l.listener, 16) < 0)
			fail("listen");
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &start);
	before = cpu_nsec();
	for (unsigned long i = 0; i < count; i++) {
		if (!once(&l)) {
			fprintf(stderr,
				"claim-loop: tcp, sendto, connect, bind or getpid, not '%s'\n",
				l.kind);
			return 2;
		}
		if (rate > 0 && (i + 1) % BATCH == 0)
			keep_rate(&start, i + 1, rate);
	}
	printf("%.1f\n", count > 0 ? (double)(cpu_nsec() - before) / (double)count : 0.0);
	return EXIT_SUCCESS;
}
