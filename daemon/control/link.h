/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The link to the ledger: asks it to look now, for many questions at once, and keeps what it said last.
 *
 * A look that began before a question was asked proves nothing for it. So a question that arrives while a look is
 * under way waits for the next one; all that arrive meanwhile share that.
 */

#include <sys/queue.h>

#include "common/sighting.h"

struct event_base;
struct link;

/* How a wait for a look ended. */
enum look {
	LOOK_DONE,    /* every claim made before the question is in the database */
	LOOK_PARTIAL, /* the ledger answered, but capture did not: the newest claims may be missing */
	LOOK_LATE,    /* no answer within LIMIT_SYNC_USEC */
	LOOK_NO_LEDGER, /* it is restarting */
};

/* A question that waits; embedded in its owner. Zeroed: does not wait. */
struct waiter {
	TAILQ_ENTRY(waiter) entry;
	bool waiting;
	uint64_t look;   /* number of the look that it waits for */
	usec_t deadline; /* boottime */
	/* Called once, never from within link_wait(). */
	void (*done)(void *context, enum look how);
	void *context;
};

struct link_handler {
	void *context;
	/* Something was committed while somebody follows, or the ledger is a new one. */
	void (*committed)(void *context);
};

/* -ENOMEM. There is no ledger at first. */
int link_new(struct event_base *base, const struct link_handler *handler,
	struct link **ret) _must_check_;
struct link *link_free(struct link *l);
DEFINE_CLEANUP(struct link, link_free)

/* A (new) ledger is at the other end of `fd`, which is taken. Errors are logged: then there is none. */
void link_connect(struct link *l, int fd);

/* Waits for a look that begins after now. Both members for the call must be set. */
void link_wait(struct link *l, struct waiter *w);
void link_forget(struct link *l, struct waiter *w); /* no-op where it does not wait */

/* Whether `committed` is wanted. */
void link_follow(struct link *l, bool follow);

bool link_is_up(const struct link *l);

/* What the ledger said last, also where it is gone since; NULL: nothing yet. */
const struct committed *link_last(const struct link *l);
