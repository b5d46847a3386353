/* SPDX-License-Identifier: MIT */
#pragma once

/* The real kernel side, in a network namespace of our own, and what it told. */

#include "common/base.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>

#include "daemon/capture/source_events.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define LISTENER 40000 /* in the ranges that are watched; so is what a client gets */
#define RANGES                                                                                     \
	{                                                                                          \
		.range = {{32768, 65535}}, .count = 1                                              \
	}

/* In a child, where cmocka's asserts are of no use. */
static inline void demand(bool condition)
{
	if (!condition)
		_exit(99);
}

static inline uint64_t u64_of(int fd, int option)
{
	uint64_t value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0)
		abort();
	return value;
}

static inline uint64_t cookie_of(int fd)
{
	return u64_of(fd, SO_COOKIE);
}

static inline uint64_t netns_cookie(void)
{
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return u64_of(fd, SO_NETNS_COOKIE);
}

static inline int lo_up(void)
{
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	return ioctl(fd, SIOCSIFFLAGS, &r);
}

/* A namespace of our own, where nobody else makes sockets. For cmocka's group set-up. */
static inline int enter_namespace(void **state _unused_)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || lo_up() < 0) {
		print_message("cannot run here: no namespace of our own\n");
		return -1;
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static inline struct source_events_options options_here(void)
{
	return (struct source_events_options){.ranges = RANGES, .netns_only = netns_cookie()};
}

static inline struct source_events *open_with(const struct source_events_options *o)
{
	struct events_obstacle obstacle = {.reason = ""};
	struct source_events *s = NULL;
	int r = source_events_open(o, &s, &obstacle);

	if (r < 0)
		print_message("%s: %s\n", strerror(-r), obstacle.reason);
	assert_int_equal(r, 0);
	return s;
}

/* ---- sockets ---- */

union sock_address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static inline union sock_address loopback(int family, uint16_t port)
{
	union sock_address a = {0};

	if (family == AF_INET)
		a.four = (struct sockaddr_in){.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr = {htonl(INADDR_LOOPBACK)}};
	else
		a.six = (struct sockaddr_in6){.sin6_family = AF_INET6,
			.sin6_port = htons(port),
			.sin6_addr = IN6ADDR_LOOPBACK_INIT};
	return a;
}

static inline socklen_t size_of(const union sock_address *a)
{
	return a->any.sa_family == AF_INET ? sizeof(a->four) : sizeof(a->six);
}

static inline int new_socket(int family, int type, int protocol)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	assert_true(fd >= 0);
	return fd;
}

static inline int connect_to(int fd, int family, uint16_t port)
{
	union sock_address a = loopback(family, port);

	return connect(fd, &a.any, size_of(&a)) < 0 ? -errno : 0;
}

static inline int bind_to(int fd, int family, uint16_t port)
{
	union sock_address a = loopback(family, port);

	return bind(fd, &a.any, size_of(&a)) < 0 ? -errno : 0;
}

/* When it is known here that the other end is closed: this one is the second. */
static inline void close_second(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), 0);
	(void)close(fd);
}

static inline void send_to(int fd, int family, uint16_t port)
{
	union sock_address a = loopback(family, port);

	assert_int_equal(sendto(fd, "x", 1, 0, &a.any, size_of(&a)), 1);
}

static inline struct endpoint endpoint_from(const union sock_address *a)
{
	return a->any.sa_family == AF_INET
		       ? (struct endpoint){.address =
						   address_from_kernel(AF_INET, &a->four.sin_addr),
				 .port = ntohs(a->four.sin_port)}
		       : (struct endpoint){
				 .address = address_from_kernel(AF_INET6, &a->six.sin6_addr),
				 .port = ntohs(a->six.sin6_port)};
}

static inline struct endpoint local_of(int fd)
{
	union sock_address a = {0};
	socklen_t size = sizeof(a);

	assert_int_equal(getsockname(fd, &a.any, &size), 0);
	return endpoint_from(&a);
}

/* On a port that is watched, or on the one that is told. */
static inline int new_listener(int family, int protocol, uint16_t port)
{
	int fd = new_socket(family, SOCK_STREAM, protocol), one = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind_to(fd, family, port), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

#define SMALL_RING 65536u /* bytes */

/* Each told by a claim and an end, of 80 bytes together. */
static inline void make_claims(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int fd = new_socket(AF_INET, SOCK_DGRAM, 0);

		send_to(fd, AF_INET, 9);
		(void)close(fd);
	}
}

/* ---- what was told ---- */

struct told {
	struct event_seen *events;
	size_t count, room;
};

static inline int keep_event(void *context, const struct event_seen *e)
{
	struct told *t = context;

	if (t->count == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		t->events = realloc(t->events, t->room * sizeof(*t->events));
		assert_non_null(t->events);
	}
	t->events[t->count++] = *e;
	return 0;
}

static inline void told_done(struct told *t)
{
	free(t->events);
	*t = (struct told){0};
}

/* Replaces what was told before. */
static inline void hear(struct source_events *s, struct told *t)
{
	told_done(t);
	assert_int_equal(source_events_read(s, keep_event, t), 0);
}

/* The nth of this kind and cookie; NULL: none. */
static inline const struct event_seen *find_told(
	const struct told *t, enum event_kind kind, uint64_t cookie, size_t nth)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->events[i].kind == kind && t->events[i].cookie == cookie && nth-- == 0)
			return &t->events[i];
	return NULL;
}

/* The same, where there must be one. */
static inline const struct event_seen *get_told(
	const struct told *t, enum event_kind kind, uint64_t cookie, size_t nth)
{
	const struct event_seen *e = find_told(t, kind, cookie, nth);

	if (!e) {
		fail_msg("no event of kind %d", (int)kind);
		abort();
	}
	return e;
}

/* Hears more until this is told: what a connection's end waits for, the kernel does in its own time. */
static inline void hear_of(
	struct source_events *s, struct told *t, enum event_kind kind, uint64_t cookie)
{
	const struct timespec pause = {.tv_nsec = 1000 * 1000};
	const usec_t until = clock_boot() + 10 * USEC_PER_SEC;

	while (!find_told(t, kind, cookie, 0) && clock_boot() < until) {
		(void)nanosleep(&pause, NULL);
		assert_int_equal(source_events_read(s, keep_event, t), 0);
	}
}

static inline size_t count_kind(const struct told *t, enum event_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++)
		n += t->events[i].kind == kind;
	return n;
}

static inline void assert_endpoints(
	const struct event_seen *e, const struct endpoint *local, const struct endpoint *remote)
{
	char heard[ENDPOINT_TEXT_MAX], expected[ENDPOINT_TEXT_MAX];

	assert_string_equal(endpoint_format(&e->local, heard), endpoint_format(local, expected));
	if (remote)
		assert_string_equal(
			endpoint_format(&e->remote, heard), endpoint_format(remote, expected));
	else
		assert_int_equal(e->remote.address.family, FAMILY_NONE);
}

/* Fresh. */
static inline struct process *process_of(struct source_events *s, const struct event_seen *e)
{
	struct process *p = NULL;
	struct process_place place = {0};

	assert_int_equal(source_events_process(s, e->process, &p, &place), 0);
	assert_int_not_equal(place.cgroup_id, 0);
	return p;
}

static inline void wait_for(pid_t pid, int status_expected)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, status_expected);
}

/* ---- restarts ---- */

#define FDS 32

/* As the service manager does: descriptors of its own, by the same names. */
static inline size_t keep_fds(struct source_events *s, struct events_fd *ret, char names[][96])
{
	struct events_fd fds[FDS];
	size_t n = source_events_fds(s, fds, FDS);

	assert_true(n >= 14 && n < FDS);
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(names[i], 96, "%s", fds[i].name);
		ret[i] = (struct events_fd){
			.fd = fcntl(fds[i].fd, F_DUPFD_CLOEXEC, 3), .name = names[i]};
		assert_true(ret[i].fd >= 0);
	}
	return n;
}

static inline void close_fds(const struct events_fd *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		(void)close(fds[i].fd);
}
