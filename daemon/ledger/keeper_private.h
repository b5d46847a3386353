/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the ledger process share. */

#include "daemon/ledger/keeper.h"

#include <event2/event.h>
#include <sys/queue.h>

#include "daemon/channel.h"
#include "daemon/ledger/batch.h"
#include "daemon/ledger/notable.h"

/* A question that waits for its barrier. */
struct question {
	TAILQ_ENTRY(question) link;
	uint64_t id;
	usec_t deadline; /* boottime */
};

struct keeper {
	const struct keeper_options *options;
	struct event_base *base;
	struct event *tick, *supervisor;
	struct channel *capture, *control;
	struct store *store;
	struct ledger *ledger;
	struct batch *batch;
	struct notable *notable; /* NULL while replaying */
	TAILQ_HEAD(questions, question) questions;
	struct coverage coverage;
	struct cost capture_cost;
	struct now until;            /* beginning of the last whole sweep */
	usec_t committed_boot;       /* when the last durable commit was made */
	bool undurable;              /* committed since then without fsync */
	struct store_session before; /* the session before this one */
	uint64_t generation;         /* of the events' ring; 0: there is none */
	bool goes_on; /* the ring has recorded since that one, and how we watch is not known yet */
	bool swept;   /* a whole sweep has ended since the last commit */
	struct ring_position kept; /* told last */
	char *obstacle;            /* why capture has no better rung; owned; NULL: there is none */
	bool following, stopped;
	int store_error; /* of the last commit; 0: it worked */
	int status;      /* exit status */
};

/* keeper_start.c */

/* The first record: opens the books and says so. 0, or a negative errno that was logged. */
int keeper_start_session(struct keeper *k, const struct hello *hello) _must_check_;
/* The exit status for it. */
int keeper_start_status(int error);
/* How we watch from here on: whether the ring's recording goes on where that of the session before ended. */
void keeper_covers(struct keeper *k, const struct coverage *c);
/* Do both watch the same, if not as often? */
bool keeper_watches_the_same(const struct coverage *a, const struct coverage *b);
