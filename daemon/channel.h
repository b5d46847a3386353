/* SPDX-License-Identifier: MIT */
#pragma once

/* One end of a socketpair between two of our processes, as records on a libevent loop. */

#include "common/stream.h"

struct event_base;
struct channel;

struct channel_handler {
	void *context;
	/* A whole record, and its bytes as they came. Must not free the channel. */
	void (*record)(void *context, const struct record *r, const void *bytes, size_t size);
	/* No more will come: 0 the other end closed, else negative errno (-EBADMSG: it sent no stream). Called once;
	 * may free the channel. */
	void (*end)(void *context, int error);
};

/* Takes `fd` (also on failure) and makes it non-blocking. -ENOMEM or another negative errno. */
int channel_new(struct event_base *base, int fd, const struct channel_handler *handler,
	struct channel **ret) _must_check_;
struct channel *channel_free(struct channel *c);
DEFINE_CLEANUP(struct channel, channel_free)

/* Queues a record and writes what the socket takes. 0 or -ENOMEM. Errors of the socket come as end(). */
int channel_put(struct channel *c, const struct record *r) _must_check_;

/* Bytes that the other end has not taken yet. */
size_t channel_queued(const struct channel *c);

/* Writes all that is queued, waiting at most `timeout_usec`. 0, -ETIMEDOUT or what the socket says. */
int channel_drain(struct channel *c, usec_t timeout_usec) _must_check_;
