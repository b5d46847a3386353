/* SPDX-License-Identifier: MIT */

#include "daemon/channel.h"

#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define READ_BYTES (64u * 1024u)

struct channel {
	struct channel_handler handler;
	int fd;
	struct event *readable, *writable;
	struct buf in, out;
};

static void on_writable(evutil_socket_t fd, short what, void *context);

/* 0, or negative errno; what the socket does not take stays queued. */
static int flush(struct channel *c)
{
	while (buf_size(&c->out) > 0) {
		ssize_t n = send(
			c->fd, buf_bytes(&c->out), buf_size(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_add(c->writable, NULL);
			return 0;
		}
		if (n < 0)
			return -errno;
		buf_consume(&c->out, (size_t)n);
	}
	return 0;
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	/* An error shows on the reading side too, where it becomes end(). */
	(void)!flush(context);
}

/* Hands out every whole record: 0, or -EBADMSG or -ENOMEM. */
static int deliver(struct channel *c)
{
	for (;;) {
		struct record record;
		size_t size;
		int r = stream_get(buf_bytes(&c->in), buf_size(&c->in), &record, &size);

		if (r <= 0)
			return r;
		c->handler.record(c->handler.context, &record, buf_bytes(&c->in), size);
		record_done(&record);
		buf_consume(&c->in, size);
	}
}

static void end(struct channel *c, int error)
{
	event_del(c->readable);
	event_del(c->writable);
	c->handler.end(c->handler.context, error);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
	struct channel *c = context;
	void *room = buf_reserve(&c->in, READ_BYTES);
	ssize_t n;
	int r;

	(void)what;
	if (!room) {
		end(c, -ENOMEM);
		return;
	}
	n = recv(fd, room, READ_BYTES, MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			end(c, -errno);
		return;
	}
	if (n == 0) {
		end(c, 0);
		return;
	}
	buf_grow(&c->in, (size_t)n);
	r = deliver(c);
	if (r < 0)
		end(c, r);
}

int channel_new(struct event_base *base, int fd, const struct channel_handler *handler,
	struct channel **ret)
{
	_cleanup_(channel_free_p) struct channel *c = calloc(1, sizeof(*c));

	if (!c) {
		(void)close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->handler = *handler;
	c->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, c);
	c->writable = event_new(base, fd, EV_WRITE, on_writable, c);
	if (!c->readable || !c->writable || event_add(c->readable, NULL) < 0)
		return -ENOMEM;
	*ret = TAKE_PTR(c);
	return 0;
}

struct channel *channel_free(struct channel *c)
{
	if (!c)
		return NULL;
	if (c->writable)
		event_free(c->writable);
	if (c->readable)
		event_free(c->readable);
	close_p(&c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
	return NULL;
}

int channel_put(struct channel *c, const struct record *r)
{
	int e = stream_put(&c->out, r);

	if (e < 0)
		return e;
	(void)!flush(c);
	return 0;
}

size_t channel_queued(const struct channel *c)
{
	return buf_size(&c->out);
}

int channel_drain(struct channel *c, usec_t timeout_usec)
{
	usec_t deadline = clock_now().boot + timeout_usec;

	for (;;) {
		struct pollfd p = {.fd = c->fd, .events = POLLOUT};
		usec_t now;
		int r = flush(c);

		if (r < 0 || buf_size(&c->out) == 0)
			return r;
		now = clock_now().boot;
		if (now >= deadline)
			return -ETIMEDOUT;
		(void)poll(&p, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1);
	}
}
