/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The control process as its clients meet it: control_run() in a child, a made-up history, and the test in the place
 * of the clients, the supervisor and the ledger, which answers when the test says so. Nothing sleeps: a question
 * over a fresh connection, answered, proves that what was sent before it was read.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/stream.h"
#include "common/varlink.h"
#include "daemon/control/control.h"
#include "tests/support/history.h"

#define LEDGER    "org.portledger.ledger."
#define SERVICE   "org.varlink.service."
#define PATIENCE  20000 /* ms: past it the test fails */
#define REPLY_MAX (16u << 20)

struct fixture {
	struct history history;
	char socket_path[108];
	int link, supervisor;
	struct buf from_control;
	pid_t pid;
	uint64_t commits;
};

struct peer {
	int fd;
	struct buf in;
};

/* Only in a build that measures what its tests cover: the counters are written when a process ends in order. */
void __gcov_dump(void) __attribute__((weak));

static inline void start_control(struct fixture *f, rlim_t descriptors)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int link[2], supervisor[2], listener, status;

	(void)snprintf(f->socket_path, sizeof(f->socket_path), "%s/control", f->history.directory);
	memcpy(address.sun_path, f->socket_path, sizeof(f->socket_path));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 128), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, link), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, supervisor), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		const struct control_options options = {.listen_fd = listener,
			.ledger_fd = link[1],
			.supervisor_fd = supervisor[1],
			.state_path = f->history.directory};

		(void)close(link[0]);
		(void)close(supervisor[0]);
		if (descriptors)
			(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){descriptors, descriptors});
		status = control_run(&options);
		if (__gcov_dump)
			__gcov_dump();
		_exit(status);
	}
	(void)close(listener);
	(void)close(link[1]);
	(void)close(supervisor[1]);
	f->link = link[0];
	f->supervisor = supervisor[0];
}

static inline struct fixture *new_fixture(size_t claims)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	history_open(&f->history, "control");
	if (claims)
		history_fill(&f->history, claims, 250);
	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,5,1800000000000000,0,1000000,'32768-65535',32768,"
		"60999,15,1,1,1,1,0,0)");
	return f;
}

static inline int setup_empty(void **state)
{
	struct fixture *f = new_fixture(0);

	start_control(f, 0);
	*state = f;
	return 0;
}

/* Ends control by the supervisor's end: it must go in order. */
static inline int teardown(void **state)
{
	struct fixture *f = *state;
	int status;

	(void)close(f->supervisor);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	(void)close(f->link);
	buf_done(&f->from_control);
	(void)unlink(f->socket_path);
	history_close(&f->history);
	free(f);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

static inline void await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, PATIENCE), 1);
}

static inline struct peer peer_connect(const struct fixture *f)
{
	struct peer p = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, f->socket_path, sizeof(f->socket_path));
	assert_true(p.fd >= 0);
	assert_int_equal(connect(p.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return p;
}

static inline void peer_close(struct peer *p)
{
	(void)close(p->fd);
	buf_done(&p->in);
}

static inline void peer_send(const struct peer *p, const void *data, size_t size)
{
	assert_int_equal(send(p->fd, data, size, MSG_NOSIGNAL), size);
}

static inline void peer_call(const struct peer *p, const char *text)
{
	peer_send(p, text, strlen(text) + 1);
}

/* The next reply; false: the connection was closed instead. */
static inline bool peer_receive(struct peer *p, struct varlink_reply *ret)
{
	size_t size;

	while (varlink_frame(&p->in, REPLY_MAX, &size) == 0) {
		void *room = buf_reserve(&p->in, 65536);
		ssize_t n;

		await(p->fd);
		n = recv(p->fd, room, 65536, 0);
		if (n <= 0)
			return false;
		buf_grow(&p->in, (size_t)n);
	}
	assert_int_equal(varlink_parse_reply((const char *)buf_bytes(&p->in), size, ret), 0);
	buf_consume(&p->in, size + 1);
	return true;
}

static inline struct varlink_reply peer_reply(struct peer *p)
{
	struct varlink_reply reply;

	assert_true(peer_receive(p, &reply));
	return reply;
}

static inline bool peer_is_closed(struct peer *p)
{
	struct varlink_reply reply;

	if (!peer_receive(p, &reply))
		return true;
	varlink_reply_done(&reply);
	return false;
}

static inline void assert_reply(struct peer *p, const char *expected)
{
	struct varlink_reply reply = peer_reply(p);
	char *text = json_dumps(reply.parameters, JSON_COMPACT | JSON_SORT_KEYS);

	if (reply.error)
		fail_msg("%s %s", reply.error, text);
	assert_string_equal(text, expected);
	free(text);
	varlink_reply_done(&reply);
}

static inline void assert_error(struct peer *p, const char *error, const char *expected)
{
	struct varlink_reply reply = peer_reply(p);
	char *text = json_dumps(reply.parameters, JSON_COMPACT | JSON_SORT_KEYS);

	assert_non_null(reply.error);
	assert_string_equal(reply.error, error);
	assert_string_equal(text, expected);
	free(text);
	varlink_reply_done(&reply);
}

/* All that was sent before was read. */
static inline void barrier(const struct fixture *f)
{
	struct peer p = peer_connect(f);
	struct varlink_reply reply;

	peer_call(&p, "{\"method\":\"" SERVICE "GetInfo\"}");
	reply = peer_reply(&p);
	assert_null(reply.error);
	varlink_reply_done(&reply);
	peer_close(&p);
}

/* What control says next to the ledger. */
static inline struct record next_record(struct fixture *f)
{
	struct record record;
	size_t size;
	int r;

	while ((r = stream_get(buf_bytes(&f->from_control), buf_size(&f->from_control), &record,
			&size)) == 0) {
		void *room = buf_reserve(&f->from_control, 4096);
		ssize_t n;

		await(f->link);
		n = recv(f->link, room, 4096, 0);
		assert_true(n > 0);
		buf_grow(&f->from_control, (size_t)n);
	}
	assert_int_equal(r, 1);
	buf_consume(&f->from_control, size);
	return record;
}

static inline uint64_t next_sync(struct fixture *f)
{
	struct record record = next_record(f);

	assert_int_equal(record.type, RECORD_SYNC);
	return record.sync;
}

static inline void assert_quiet(struct fixture *f)
{
	struct pollfd p = {.fd = f->link, .events = POLLIN};

	barrier(f);
	assert_int_equal(buf_size(&f->from_control), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
}

static inline void commit_until(struct fixture *f, uint64_t id, usec_t until, bool answered)
{
	_cleanup_(buf_done) struct buf out = {0};
	struct record record = {.type = RECORD_COMMITTED};
	struct committed *c = &record.committed;

	c->id = id;
	c->commit = ++f->commits;
	c->until_wall = until;
	c->watching = true;
	c->capture_answered = answered;
	c->coverage.interval_usec = 1000000;
	c->coverage.ranges.count = 1;
	c->coverage.ranges.range[0] = (struct port_range){32768, 65535};
	c->coverage.foreign_processes = true;
	c->coverage.ephemeral = (struct port_range){32768, 60999};
	assert_int_equal(stream_put(&out, &record), 0);
	assert_int_equal(
		send(f->link, buf_bytes(&out), buf_size(&out), MSG_NOSIGNAL), buf_size(&out));
}

static inline void commit(struct fixture *f, uint64_t id)
{
	commit_until(f, id, clock_now().wall, true);
}
