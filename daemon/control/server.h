/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The control socket: connections, frames, limits and backpressure. Knows no method.
 *
 * One call of a client is served at a time. It is in hand from `call` until client_done(); meanwhile no further call
 * of that client is read. A handler that has more to say than fits asks for room, and goes on when `room` comes.
 */

#include <sys/types.h>

#include "common/buf.h"
#include "common/clock.h"

struct event_base;
struct server;
struct client;

struct server_handler {
	void *context;
	/* A whole call, without its NUL. Answer with client_output() and client_sent(), now or later, then client_done();
	 * client_drop() where the connection must be closed. `text` lives until the call returns. */
	void (*call)(void *context, struct client *c, const char *text, size_t size);
	/* Asked for with client_want_room(): there is room. */
	void (*room)(void *context, struct client *c);
	/* The client is gone, with what it had in hand. `c` is freed when this returns. */
	void (*gone)(void *context, struct client *c);
	/* Appends the frame for one that is refused, since there are `limit` already. 0 or negative errno. */
	int (*refuse)(void *context, unsigned limit, struct buf *out);
};

/* Serves the listening socket, which stays the caller's. 0, -ENOMEM or another negative errno. */
int server_new(struct event_base *base, int listen_fd, const struct server_handler *handler,
	struct server **ret) _must_check_;
/* Closes all connections (each is `gone`). */
struct server *server_free(struct server *s);
DEFINE_CLEANUP(struct server, server_free)

/* The caller's own pointer for the call in hand; NULL at first. */
void client_set_data(struct client *c, void *data);
void *client_data(const struct client *c);

/* Where to append whole frames. Then client_sent(). What the client has not taken yet is in it too: a handler that can
 * wait appends only below LIMIT_OUTPUT_BYTES. */
struct buf *client_output(struct client *c);
void client_sent(struct client *c);

/* `room` is called once, soon, when less than LIMIT_OUTPUT_BYTES are queued; never from within this. */
void client_want_room(struct client *c);

/* The call in hand is answered. */
void client_done(struct client *c);

/* Closes the connection, soon; nothing more is sent. */
void client_drop(struct client *c);
