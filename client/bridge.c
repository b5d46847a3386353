/* SPDX-License-Identifier: MIT */

/*
 * Two flows of bytes that know nothing of messages: in, from standard input to the daemon, and out. Each reads only when
 * it has room, so that a slow reader is waited for and memory is bounded: the daemon sees him as if he were connected
 * himself. The end of one flow is passed on when its last byte is (the daemon then answers what it was asked), and the
 * other goes on.
 *
 * Our standard descriptors are shared with whoever started us, so they are not made non-blocking: a socket takes a flag
 * per call, and a pipe that polls writable takes PIPE_BUF bytes without waiting (pipe(7)).
 */

#include "client/bridge.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "client/ask.h"
#include "common/buf.h"
#include "common/standard.h"

#define FLOW_BYTES (64u * 1024u)

struct flow {
	struct buf waiting; /* read and not yet written; below 2 * FLOW_BYTES */
	bool ended;         /* nothing more comes */
	bool broken;        /* nobody takes it any more */
};

struct bridge {
	int socket;
	struct flow in, out;
	bool told; /* the daemon knows that `in` ended */
	int error; /* of reading from the daemon; 0: none, or its end was in order */
};

static bool has_room(const struct flow *f)
{
	return !f->ended && !f->broken && buf_size(&f->waiting) < FLOW_BYTES;
}

static bool has_bytes(const struct flow *f)
{
	return !f->broken && buf_size(&f->waiting) > 0;
}

/* 0, also at the end; -ENOMEM or what read(2) says. */
static int take(struct flow *f, int from)
{
	void *room = buf_reserve(&f->waiting, FLOW_BYTES);
	ssize_t n = room ? read(from, room, FLOW_BYTES) : -1;

	if (!room)
		return -ENOMEM;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	f->ended = n <= 0;
	if (n < 0)
		return -errno;
	buf_grow(&f->waiting, (size_t)n);
	return 0;
}

static void give(struct flow *f, int to)
{
	const void *bytes = buf_bytes(&f->waiting);
	size_t size = buf_size(&f->waiting);
	ssize_t n = send(to, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && errno == ENOTSOCK)
		n = write(to, bytes, MIN(size, (size_t)PIPE_BUF));
	if (n >= 0)
		buf_consume(&f->waiting, (size_t)n);
	else if (errno != EINTR && errno != EAGAIN)
		f->broken = true;
}

static short events(bool readable, bool writable)
{
	return (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
}

/* 1: go on; 0: the reader is gone, and what he had sent before is delivered; or negative errno. */
static int turn(struct bridge *b)
{
	short daemon = events(has_room(&b->out), has_bytes(&b->in));
	struct pollfd p[] = {
		/* one that hung up would wake us for ever: only those that something is wanted of */
		{has_room(&b->in) ? STDIN_FILENO : -1, POLLIN, 0},
		{daemon ? b->socket : -1, daemon, 0},
		/* but this one always: that nobody reads any more may be all that ever happens */
		{b->out.broken ? -1 : STDOUT_FILENO, events(false, has_bytes(&b->out)), 0},
	};
	const short gone = POLLHUP | POLLERR;
	int r = poll(p, ELEMENTSOF(p), b->out.broken && !has_bytes(&b->in) ? 0 : -1);

	if (r < 0)
		return errno == EINTR ? 1 : -errno;
	if (r == 0)
		return 0;
	if (p[0].revents)
		r = take(&b->in, STDIN_FILENO);
	if (has_room(&b->out) && p[1].revents & (POLLIN | gone))
		b->error = take(&b->out, b->socket);
	if (has_bytes(&b->in) && p[1].revents & (POLLOUT | gone))
		give(&b->in, b->socket);
	if (p[2].revents & POLLOUT)
		give(&b->out, STDOUT_FILENO);
	else if (p[2].revents)
		b->out.broken = true;
	return r < 0 ? r : b->error == -ENOMEM ? -ENOMEM : 1;
}

/* What is still to be done ends with the daemon's side: all of it delivered, or nobody to deliver to. */
static bool is_done(const struct bridge *b)
{
	return b->out.broken ? b->in.broken || (b->in.ended && !has_bytes(&b->in))
			     : b->out.ended && !has_bytes(&b->out);
}

static int copy(struct bridge *b)
{
	int r = 1;

	while (r > 0 && !is_done(b)) {
		r = turn(b);
		if (b->in.ended && !has_bytes(&b->in) && !b->told)
			b->told = shutdown(b->socket, SHUT_WR) == 0 || errno == ENOTCONN;
	}
	return r < 0 ? r : 0;
}

enum status bridge(const struct options *o)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	struct bridge b = {0};
	enum status status;
	int r;

	if (standard_is_closed(STDIN_FILENO) || standard_is_closed(STDOUT_FILENO)) {
		complain("nothing to serve on: standard input or output is closed");
		return STATUS_ERROR;
	}
	status = ask_open(o, false, &c);
	if (status != STATUS_FOUND)
		return status;
	(void)signal(SIGPIPE, SIG_IGN);
	b.socket = c.fd;
	r = copy(&b);
	buf_done(&b.in.waiting);
	buf_done(&b.out.waiting);
	if (r < 0) {
		complain("%s", strerror(-r));
		return STATUS_ERROR;
	}
	if (b.out.broken || (b.told && !b.in.broken && b.error == 0))
		return STATUS_FOUND;
	complain("the daemon at %s closed the connection", o->socket_path);
	return STATUS_NO_DAEMON;
}
