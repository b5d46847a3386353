/* SPDX-License-Identifier: MIT */

#include "client/connection.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "client/remote.h"
#include "common/clock.h"
#include "common/limits.h"

#define READ_BYTES (64u * 1024u)

static int set_patience(int fd, usec_t patience)
{
	struct timeval t = {
		.tv_sec = (time_t)(patience / USEC_PER_SEC),
		.tv_usec = (suseconds_t)(patience % USEC_PER_SEC),
	};

	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0 ? -errno : 0;
}

int connection_open(const char *path, struct connection *ret)
{
	_cleanup_(close_p) int fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(struct ucred);
	struct ucred peer = {0};
	int r;

	*ret = (struct connection)CONNECTION_NONE;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	r = set_patience(fd, LIMIT_ANSWER_USEC);
	if (r < 0)
		return r;
	*ret = (struct connection){.fd = TAKE_FD(fd), .peer = peer.uid};
	return 0;
}

int connection_open_host(const char *host, struct connection *ret)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	int r;

	*ret = (struct connection)CONNECTION_NONE;
	r = remote_start(host, &c.fd, &c.ssh);
	if (r == 0)
		r = set_patience(c.fd, LIMIT_HOST_ANSWER_USEC);
	if (r < 0)
		return r;
	c.host = host;
	*ret = c;
	c = (struct connection)CONNECTION_NONE;
	return 0;
}

int connection_close(struct connection *c)
{
	pid_t ssh = c->ssh;

	close_p(&c->fd);
	c->fd = -1;
	c->ssh = 0;
	return ssh > 0 ? remote_end(ssh) : 0;
}

void connection_done(struct connection *c)
{
	(void)connection_close(c);
	buf_done(&c->in);
	*c = (struct connection)CONNECTION_NONE;
}

int connection_wait_forever(struct connection *c)
{
	return set_patience(c->fd, 0);
}

int connection_call(
	struct connection *c, const char *method, const json_t *parameters, const char *flag)
{
	_cleanup_(buf_done) struct buf b = {0};
	int r;

	r = varlink_put_call(&b, method, parameters, flag);
	if (r < 0)
		return r;
	while (buf_size(&b) > 0) {
		ssize_t n = send(c->fd, buf_bytes(&b), buf_size(&b), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf_consume(&b, (size_t)n);
	}
	return 0;
}

static int read_more(struct connection *c)
{
	void *room = buf_reserve(&c->in, READ_BYTES);
	ssize_t n;

	if (!room)
		return -ENOMEM;
	do
		n = recv(c->fd, room, READ_BYTES, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (n == 0)
		return -ECONNRESET;
	buf_grow(&c->in, (size_t)n);
	return 0;
}

int connection_reply(struct connection *c, struct varlink_reply *ret)
{
	size_t size = 0;
	int r;

	while ((r = varlink_frame(&c->in, LIMIT_REPLY_BYTES, &size)) == 0) {
		r = read_more(c);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	r = varlink_parse_reply((const char *)buf_bytes(&c->in), size, ret);
	buf_consume(&c->in, size + 1);
	return r;
}
