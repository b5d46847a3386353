/* SPDX-License-Identifier: MIT */

/*
 * Everything a client can make grow is capped here. What it sends: one frame of LIMIT_FRAME_BYTES; while a call is in
 * hand, or its output is full, its socket is not read. What it does not take: LIMIT_OUTPUT_BYTES and one reply, and
 * not for longer than LIMIT_STALLED_USEC without progress. How many connections: in all, and of one uid; the last
 * few places are root's, so that somebody can still look.
 *
 * All frames that came are handled, not one per wakeup, but at most LIMIT_CALLS_PER_TURN of one client before the
 * others get their turn. All work is done from callbacks of the loop and never from within a call of the handler, so
 * that a client cannot vanish under its feet: client_drop() and client_done() only take note.
 */

#include "daemon/control/server.h"

#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "common/limits.h"
#include "common/log.h"
#include "common/varlink.h"

#define READ_BYTES       (16u * 1024u)
#define ACCEPTS_PER_TURN 16u
#define TICK_USEC        USEC_PER_SEC /* stalled clients, and accepting again, are looked at so often */

struct client {
	TAILQ_ENTRY(client) link;
	struct server *server;
	int fd;
	uid_t uid;
	struct event *readable, *writable;
	struct event *work; /* never pending by itself: activated */
	struct buf in, out;
	void *data;
	usec_t progress; /* boottime at which output was taken last, or began to wait */
	bool busy;       /* a call is in hand */
	bool wants_room;
	bool ended; /* sends no more; may still read */
	bool dropped;
};

struct server {
	struct server_handler handler;
	struct event_base *base;
	struct event *acceptable;
	struct event *tick; /* pending while there are clients, or accepting is paused */
	int listen_fd;
	int reserve; /* a descriptor to give up when there is no other: to accept and close */
	bool paused; /* accepting */
	unsigned count;
	TAILQ_HEAD(clients, client) clients;
};

static void on_work(evutil_socket_t fd, short what, void *context);

static void activate(struct client *c)
{
	event_active(c->work, EV_TIMEOUT, 0);
}

static void client_free(struct client *c)
{
	struct server *s = c->server;

	TAILQ_REMOVE(&s->clients, c, link);
	s->count--;
	s->handler.gone(s->handler.context, c);
	event_free(c->work);
	event_free(c->writable);
	event_free(c->readable);
	close_p(&c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

static bool may_read(const struct client *c)
{
	return !c->ended && !c->busy && buf_size(&c->in) < LIMIT_FRAME_BYTES &&
	       buf_size(&c->out) < LIMIT_OUTPUT_BYTES;
}

/* Sends what the socket takes. */
static void flush(struct client *c)
{
	while (buf_size(&c->out) > 0 && !c->dropped) {
		ssize_t n = send(
			c->fd, buf_bytes(&c->out), buf_size(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			buf_consume(&c->out, (size_t)n);
			c->progress = clock_now().boot;
		} else if (errno == EAGAIN) {
			if (event_add(c->writable, NULL) < 0)
				c->dropped = true;
			return;
		} else if (errno != EINTR) {
			c->dropped = true;
		}
	}
}

/* Hands out the frames that came. True: there may be more of them, for the next turn in which there is room for an answer. */
static bool handle_frames(struct client *c)
{
	const struct server_handler *h = &c->server->handler;
	usec_t begun = clock_now().boot;

	for (unsigned i = 0; i < LIMIT_CALLS_PER_TURN; i++) {
		size_t size;
		int r;

		if (i > 0 && clock_now().boot - begun > (usec_t)LIMIT_TURN_USEC)
			return true;
		if (c->dropped || c->busy)
			return false;
		if (buf_size(&c->out) >= LIMIT_OUTPUT_BYTES)
			return true;
		r = varlink_frame(&c->in, LIMIT_FRAME_BYTES - 1, &size);
		if (r < 0)
			c->dropped = true;
		if (r <= 0)
			return false;
		c->busy = true;
		h->call(h->context, c, (const char *)buf_bytes(&c->in), size);
		buf_consume(&c->in, size + 1);
	}
	return true;
}

static void give_room(struct client *c)
{
	const struct server_handler *h = &c->server->handler;

	if (!c->wants_room || buf_size(&c->out) >= LIMIT_OUTPUT_BYTES)
		return;
	c->wants_room = false;
	h->room(h->context, c);
}

/* One turn of a client; it may be freed by it. */
static void serve(struct client *c)
{
	bool again;

	give_room(c);
	again = handle_frames(c);
	flush(c);
	if (c->dropped || (c->ended && !c->busy && !again && buf_size(&c->out) == 0)) {
		client_free(c);
		return;
	}
	if ((again || c->wants_room) && buf_size(&c->out) < LIMIT_OUTPUT_BYTES)
		activate(c); /* else when it can be written to */
	if (!may_read(c))
		(void)event_del(c->readable);
	else if (event_add(c->readable, NULL) < 0)
		client_free(c);
}

static void on_work(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	serve(context);
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	serve(context);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
	struct client *c = context;
	void *room = buf_reserve(&c->in, READ_BYTES);
	ssize_t n;

	(void)what;
	if (!room) {
		client_free(c);
		return;
	}
	n = recv(fd, room, READ_BYTES, MSG_DONTWAIT);
	if (n > 0)
		buf_grow(&c->in, (size_t)n);
	else if (n == 0)
		c->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		c->dropped = true;
	serve(c);
}

/* A client that ended may have closed (then nobody reads) or only shut down its sending side. */
static bool is_hung_up(const struct client *c)
{
	struct pollfd p = {.fd = c->fd};

	return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct server *s = context;
	usec_t now = clock_now().boot;
	struct client *c, *next;

	(void)fd;
	(void)what;
	for (c = TAILQ_FIRST(&s->clients); c; c = next) {
		bool stalled =
			buf_size(&c->out) > 0 && now - c->progress > (usec_t)LIMIT_STALLED_USEC;

		next = TAILQ_NEXT(c, link);
		if (stalled || ((c->ended || c->busy) && is_hung_up(c)))
			client_free(c);
	}
	if (s->paused && event_add(s->acceptable, NULL) == 0)
		s->paused = false;
	if (s->count == 0 && !s->paused)
		(void)event_del(s->tick);
}

static void start_tick(struct server *s)
{
	const struct timeval tick = {.tv_sec = TICK_USEC / USEC_PER_SEC};

	if (!event_pending(s->tick, EV_TIMEOUT, NULL))
		(void)event_add(s->tick, &tick);
}

/* How many connections there may be for this one to be one too many; 0: it may come in. */
static unsigned exceeded_limit(const struct server *s, uid_t uid)
{
	const struct client *c;
	unsigned same = 0;

	if (uid == 0)
		return s->count >= LIMIT_CLIENTS ? LIMIT_CLIENTS : 0;
	if (s->count >= LIMIT_CLIENTS - LIMIT_CLIENTS_RESERVED)
		return LIMIT_CLIENTS - LIMIT_CLIENTS_RESERVED;
	TAILQ_FOREACH (c, &s->clients, link)
		same += c->uid == uid;
	return same >= LIMIT_CLIENTS_PER_UID ? LIMIT_CLIENTS_PER_UID : 0;
}

/* Before somebody is refused, the places of those who went are free: the tick has not looked yet, and nothing is read of one
 * who follows. Nobody hears the answer to what they still asked. */
static void let_go_of_hung_up(struct server *s)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&s->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (is_hung_up(c))
			client_free(c);
	}
}

/* Tells it why, as far as the socket takes it; the connection is closed in any case. */
static void refuse(const struct server *s, int fd, unsigned limit)
{
	_cleanup_(buf_done) struct buf frame = {0};

	if (s->handler.refuse(s->handler.context, limit, &frame) == 0)
		(void)!send(fd, buf_bytes(&frame), buf_size(&frame), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Takes the descriptor. */
static int add_client(struct server *s, int fd, uid_t uid)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		(void)close(fd);
		return -ENOMEM;
	}
	c->server = s;
	c->fd = fd;
	c->uid = uid;
	c->readable = event_new(s->base, fd, EV_READ | EV_PERSIST, on_readable, c);
	c->writable = event_new(s->base, fd, EV_WRITE, on_writable, c);
	c->work = event_new(s->base, -1, 0, on_work, c);
	if (!c->readable || !c->writable || !c->work || event_add(c->readable, NULL) < 0) {
		struct event *events[] = {c->readable, c->writable, c->work};

		for (size_t i = 0; i < ELEMENTSOF(events); i++)
			if (events[i])
				event_free(events[i]);
		(void)close(fd);
		free(c);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&s->clients, c, link);
	s->count++;
	start_tick(s);
	return 0;
}

static void pause_accepting(struct server *s)
{
	s->paused = true;
	(void)event_del(s->acceptable);
	start_tick(s);
}

/* There is no descriptor left: with the reserve, whoever waits is turned away instead of waking us for ever. */
static void turn_away(struct server *s)
{
	int fd;

	log_warning("no descriptor is left for a client: accepting none for a while");
	close_p(&s->reserve);
	fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		(void)close(fd);
	s->reserve = fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 0);
	pause_accepting(s);
}

static void welcome(struct server *s, int fd)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);
	unsigned limit;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
		(void)close(fd);
		return;
	}
	limit = exceeded_limit(s, peer.uid);
	if (limit > 0) {
		let_go_of_hung_up(s);
		limit = exceeded_limit(s, peer.uid);
	}
	if (limit > 0) {
		refuse(s, fd, limit);
		(void)close(fd);
	} else if (add_client(s, fd, peer.uid) < 0) {
		log_error("no memory for a client");
	}
}

static void on_acceptable(evutil_socket_t fd, short what, void *context)
{
	struct server *s = context;

	(void)what;
	for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
		int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (accepted >= 0) {
			welcome(s, accepted);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			turn_away(s);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
}

int server_new(struct event_base *base, int listen_fd, const struct server_handler *handler,
	struct server **ret)
{
	_cleanup_(server_free_p) struct server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	TAILQ_INIT(&s->clients);
	s->base = base;
	s->handler = *handler;
	s->listen_fd = listen_fd;
	s->reserve = fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 0);
	if (s->reserve < 0 || evutil_make_socket_nonblocking(listen_fd) < 0)
		return -errno;
	s->acceptable = event_new(base, listen_fd, EV_READ | EV_PERSIST, on_acceptable, s);
	s->tick = event_new(base, -1, EV_PERSIST, on_tick, s);
	if (!s->acceptable || !s->tick || event_add(s->acceptable, NULL) < 0)
		return -ENOMEM;
	*ret = TAKE_PTR(s);
	return 0;
}

struct server *server_free(struct server *s)
{
	struct client *c;

	if (!s)
		return NULL;
	while ((c = TAILQ_FIRST(&s->clients)))
		client_free(c);
	if (s->tick)
		event_free(s->tick);
	if (s->acceptable)
		event_free(s->acceptable);
	close_p(&s->reserve);
	free(s);
	return NULL;
}

void client_set_data(struct client *c, void *data)
{
	c->data = data;
}

void *client_data(const struct client *c)
{
	return c->data;
}

struct buf *client_output(struct client *c)
{
	/* a wait begins: time counts from here */
	if (buf_size(&c->out) == 0)
		c->progress = clock_now().boot;
	return &c->out;
}

void client_sent(struct client *c)
{
	activate(c);
}

void client_want_room(struct client *c)
{
	c->wants_room = true;
	activate(c);
}

void client_done(struct client *c)
{
	c->busy = false;
	c->wants_room = false;
	activate(c);
}

void client_drop(struct client *c)
{
	c->dropped = true;
	activate(c);
}
