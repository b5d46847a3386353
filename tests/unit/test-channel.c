/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/channel.h"
#include "daemon/handover.h"
#include "daemon/listen.h"
#include "tests/support/failing.h"
#include "tests/support/refused.h"

REFUSABLE(ssize_t, -1, send, (int fd, const void *bytes, size_t size, int flags),
	(fd, bytes, size, flags))
REFUSABLE(
	ssize_t, -1, recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))

/* One end that counts what it hears; a second one under the test's hands. */
struct ear {
	struct event_base *base;
	struct channel *channel;
	int other;
	uint64_t next; /* the SYNC that must come next */
	bool ended;
	int error;
};

static void on_record(void *context, const struct record *r, const void *bytes, size_t size)
{
	struct ear *e = context;

	assert_int_equal(r->type, RECORD_SYNC);
	assert_int_equal(r->sync, e->next);
	assert_int_equal(size, STREAM_HEADER_BYTES + 8);
	assert_non_null(bytes);
	e->next++;
}

static void on_end(void *context, int error)
{
	struct ear *e = context;

	assert_false(e->ended);
	e->ended = true;
	e->error = error;
}

static int setup(void **state)
{
	struct ear *e = calloc(1, sizeof(*e));
	const struct channel_handler handler = {.context = e, .record = on_record, .end = on_end};
	int fds[2];

	assert_non_null(e);
	e->base = event_base_new();
	assert_non_null(e->base);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	e->other = fds[1];
	assert_int_equal(channel_new(e->base, fds[0], &handler, &e->channel), 0);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct ear *e = *state;

	channel_free(e->channel);
	event_base_free(e->base);
	close_p(&e->other);
	free(e);
	return 0;
}

static void turn(struct ear *e)
{
	assert_true(event_base_loop(e->base, EVLOOP_NONBLOCK) >= 0);
}

static void write_all(int fd, const void *bytes, size_t size)
{
	assert_int_equal(write(fd, bytes, size), size);
}

/* Many records in one read, and one record in many reads. */
static void test_frames(void **state)
{
	struct ear *e = *state;
	struct buf b = {0};

	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(
			stream_put(&b, &(struct record){.type = RECORD_SYNC, .sync = i}), 0);
	write_all(e->other, buf_bytes(&b), buf_size(&b));
	turn(e);
	assert_int_equal(e->next, 100);
	buf_consume(&b, buf_size(&b));
	assert_int_equal(stream_put(&b, &(struct record){.type = RECORD_SYNC, .sync = 100}), 0);
	for (size_t i = 0; i < buf_size(&b); i++) {
		assert_int_equal(e->next, 100);
		write_all(e->other, buf_bytes(&b) + i, 1);
		turn(e);
	}
	assert_int_equal(e->next, 101);
	assert_false(e->ended);
	buf_done(&b);
}

static void test_end_of_stream(void **state)
{
	struct ear *e = *state;

	close_p(&e->other);
	e->other = -1;
	turn(e);
	assert_true(e->ended);
	assert_int_equal(e->error, 0);
}

static void test_noise_ends_it(void **state)
{
	struct ear *e = *state;

	write_all(e->other, "GET / HTTP/1.0\r\n\r\n", 18);
	turn(e);
	assert_true(e->ended);
	assert_int_equal(e->error, -EBADMSG);
}

/* What the socket does not take is queued, counted, and arrives when the other end reads. */
static void test_backpressure(void **state)
{
	struct ear *e = *state;
	size_t sent = 0, received = 0;
	char bytes[4096];

	for (uint64_t i = 0; i < 100000; i++) {
		assert_int_equal(
			channel_put(e->channel, &(struct record){.type = RECORD_SYNC, .sync = i}),
			0);
		sent += STREAM_HEADER_BYTES + 8;
	}
	assert_true(channel_queued(e->channel) > 0);
	assert_int_equal(channel_drain(e->channel, 1000), -ETIMEDOUT);
	while (received < sent) {
		ssize_t n = recv(e->other, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n < 0)
			turn(e);
		else
			received += (size_t)n;
	}
	assert_int_equal(channel_queued(e->channel), 0);
	assert_int_equal(channel_drain(e->channel, 0), 0);
}

/* A signal that comes between, and a socket that is not ready after all: nothing is lost, nothing ends. */
static void test_interrupted(void **state)
{
	struct ear *e = *state;
	_cleanup_(buf_done) struct buf b = {0};
	uint8_t bytes[64];

	refuse("send", 0, EINTR);
	assert_int_equal(
		channel_put(e->channel, &(struct record){.type = RECORD_SYNC, .sync = 5}), 0);
	assert_true(refused_done());
	assert_int_equal(channel_queued(e->channel), 0);
	assert_int_equal(recv(e->other, bytes, sizeof(bytes), 0), STREAM_HEADER_BYTES + 8);

	assert_int_equal(stream_put(&b, &(struct record){.type = RECORD_SYNC}), 0);
	for (int error = EINTR; error != 0; error = error == EINTR ? EAGAIN : 0) {
		refuse("recv", 0, error);
		if (error == EINTR)
			write_all(e->other, buf_bytes(&b), buf_size(&b));
		assert_int_equal(event_base_loop(e->base, EVLOOP_NONBLOCK | EVLOOP_ONCE), 0);
		assert_true(refused_done());
		assert_int_equal(e->next, 0);
		assert_false(e->ended);
	}
	turn(e);
	assert_int_equal(e->next, 1);
}

static void test_socket_fails(void **state)
{
	struct ear *e = *state;

	refuse("recv", 0, ECONNRESET);
	write_all(e->other, "x", 1);
	turn(e);
	assert_true(e->ended);
	assert_int_equal(e->error, -ECONNRESET);
}

/* Who writes to an end that is gone is told by the reading side, and when it waits for all to be written. */
static void test_other_end_is_gone(void **state)
{
	struct ear *e = *state;

	close_p(&e->other);
	e->other = -1;
	assert_int_equal(
		channel_put(e->channel, &(struct record){.type = RECORD_SYNC, .sync = 5}), 0);
	assert_false(e->ended);
	assert_int_equal(channel_drain(e->channel, USEC_PER_SEC), -EPIPE);
	turn(e);
	assert_true(e->ended);
}

static void test_no_memory(void **state)
{
	struct ear *e = *state;

	failing_in = 0;
	assert_int_equal(
		channel_put(e->channel, &(struct record){.type = RECORD_SYNC, .sync = 5}), -ENOMEM);
	assert_int_equal(channel_queued(e->channel), 0);
	failing_in = 0;
	write_all(e->other, "x", 1);
	turn(e);
	assert_int_equal(failing_in, UINT_MAX);
	assert_true(e->ended);
	assert_int_equal(e->error, -ENOMEM);
}

/* Whichever of its parts is not to be had, the descriptor is taken, and so closed. */
static void test_not_made(void **state)
{
	const struct channel_handler handler = {.record = on_record, .end = on_end};
	struct event_base *base = event_base_new();
	struct channel *c = NULL;
	unsigned n = 0;
	int r, fd;

	(void)state;
	assert_non_null(base);
	do {
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		failing_in = n++;
		r = channel_new(base, fds[0], &handler, &c);
		failing_in = UINT_MAX;
		assert_int_equal(fcntl(fds[0], F_GETFD) < 0, r < 0);
		close_p(&fds[1]);
	} while (r == -ENOMEM);
	assert_int_equal(r, 0);
	assert_true(n > 3); /* the channel, and two events */
	c = channel_free(c);
	/* a file is always ready: epoll(7) takes none */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_true(channel_new(base, fd, &handler, &c) < 0);
	assert_null(c);
	assert_true(fcntl(fd, F_GETFD) < 0);
	event_base_free(base);
}

/* One descriptor is taken, of as many as come; what comes with a byte and is none is left. */
static void test_handover_of_more(void **state)
{
	const int one = 1;
	char byte = HANDOVER_LEDGER;
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr header;
	} control = {.header = {.cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS,
			     .cmsg_len = CMSG_LEN(2 * sizeof(int))}};
	const struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int pair[2], two[2], got = -1, lowest;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(two, O_CLOEXEC), 0);
	memcpy(CMSG_DATA(&control.header), two, sizeof(two));
	assert_int_equal(sendmsg(pair[0], &message, 0), 1);
	lowest = dup(pair[0]);
	close_p(&lowest);
	assert_int_equal(handover_receive(pair[1], &got), HANDOVER_LEDGER);
	assert_int_equal(got, lowest);
	close_p(&got);
	got = dup(pair[0]);
	assert_int_equal(got, lowest); /* of the second nothing is left */
	close_p(&got);
	got = -1;
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	assert_int_equal(handover_send(pair[0], HANDOVER_TURN, -1), 0);
	assert_int_equal(handover_receive(pair[1], &got), HANDOVER_TURN);
	assert_int_equal(got, -1);
	close_p(&pair[0]);
	assert_int_equal(handover_hear(pair[1]), 0);
	assert_int_equal(handover_send(pair[1], HANDOVER_TURN, -1), -EPIPE);
	close_p(&pair[1]);
	close_p(&two[0]);
	close_p(&two[1]);
}

static void test_handover(void **state)
{
	int pair[2], pipe_fds[2], got = -1;
	struct stat a, b;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(handover_receive(pair[1], &got), -EAGAIN);
	assert_int_equal(handover_send(pair[0], HANDOVER_LEDGER, pipe_fds[0]), 0);
	assert_int_equal(handover_receive(pair[1], &got), HANDOVER_LEDGER);
	assert_int_equal(fstat(got, &a) | fstat(pipe_fds[0], &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
	close_p(&got);
	got = -1;
	assert_int_equal(handover_send(pair[0], HANDOVER_TURN, -1), 0);
	assert_int_equal(handover_receive(pair[1], &got), HANDOVER_TURN);
	assert_int_equal(got, -1);
	/* the supervisor's ear takes no descriptor */
	assert_int_equal(handover_hear(pair[1]), -EAGAIN);
	assert_int_equal(handover_send(pair[0], HANDOVER_TURN, pipe_fds[0]), 0);
	got = dup(pair[0]);
	close_p(&got);
	assert_int_equal(handover_hear(pair[1]), HANDOVER_TURN);
	assert_int_equal(dup(pair[0]), got); /* the lowest that is free is free still */
	close_p(&got);
	got = -1;
	close_p(&pair[0]);
	assert_int_equal(handover_receive(pair[1], &got), 0);
	close_p(&pair[1]);
	close_p(&pipe_fds[0]);
	close_p(&pipe_fds[1]);
	close_p(&got);
}

static void test_listen(void **state)
{
	char directory[] = "/tmp/portledger-listen.XXXXXX", path[64], long_path[200];
	int fd = -1, other = -1, file;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/run/control", directory);
	assert_int_equal(listen_at(path, LISTEN_NO_GROUP, &fd), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0007, 0); /* not for others */
	assert_int_equal(listen_at(path, LISTEN_NO_GROUP, &other), -EADDRINUSE);
	close_p(&fd);
	assert_int_equal(listen_at(path, LISTEN_NO_GROUP, &fd), 0); /* stale: replaced */
	close_p(&fd);
	assert_int_equal(unlink(path), 0);
	file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	close_p(&file);
	assert_int_equal(listen_at(path, LISTEN_NO_GROUP, &other), -EEXIST);
	assert_int_equal(unlink(path), 0);
	memset(long_path, 'x', sizeof(long_path));
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(listen_at(long_path, LISTEN_NO_GROUP, &other), -ENAMETOOLONG);
	assert_int_equal(other, -1);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path) | rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_of_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_noise_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backpressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_end_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
		cmocka_unit_test(test_not_made),
		cmocka_unit_test(test_handover),
		cmocka_unit_test(test_handover_of_more),
		cmocka_unit_test(test_listen),
	};

	event_set_mem_functions(malloc, realloc, free); /* those that fail */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
