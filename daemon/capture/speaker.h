/* SPDX-License-Identifier: MIT */
#pragma once

/* One end of the sighting stream, as capture and replay both need it: the channel to the ledger that lives now, and
 * what becomes of a stream whose ledger died or does not keep up. */

#include "daemon/channel.h"

struct speaker;

struct speaker_handler {
	void *context;
	/* the ledger has its database open, with what the ring told before this: speak */
	void (*ready)(void *context, struct ring_position kept);
	void (*kept)(void *context,
		struct ring_position kept); /* it has stored so much; NULL: who cares */
	void (*waits)(
		void *context); /* the ledger has no database yet, and tries on; NULL: who cares */
	void (*sync)(void *context, uint64_t id); /* a question: look, then answer with a barrier */
};

/* NULL: no memory. */
struct speaker *speaker_new(struct event_base *base, const struct speaker_handler *handler);
struct speaker *speaker_free(struct speaker *s);
DEFINE_CLEANUP(struct speaker, speaker_free)

/* A ledger process waits at `fd` (taken): a new stream begins. 0 or negative errno. */
int speaker_link(struct speaker *s, int fd) _must_check_;

/* Says a record. Without a ledger it is dropped: the next one starts from nothing. 0; -ENOBUFS: the ledger is behind
 * by LIMIT_STREAM_BACKLOG, and until speaker_caught_up() nothing more is taken; -ENOMEM. */
int speaker_say(struct speaker *s, const struct record *r) _must_check_;

/* A ledger is linked and was heard to be ready. */
bool speaker_is_ready(const struct speaker *s);

/* May something be said that can wait as well? Half of what may queue is left to what cannot. */
bool speaker_has_room(const struct speaker *s);

/* It was behind and is not any more: true once. */
bool speaker_caught_up(struct speaker *s);

/* Says BYE and waits until the ledger has taken all of it, at most `timeout_usec`. */
void speaker_bye(struct speaker *s, usec_t timeout_usec);
