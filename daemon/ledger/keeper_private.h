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
	usec_t committed_wall;       /* up to there the database is complete; 0: not known */
	usec_t committed_boot;       /* when the last durable commit was made */
	usec_t refused_boot;         /* when the last one failed */
	bool undurable;              /* committed since then without fsync */
	struct store_session before; /* the session before this one */
	uint64_t generation;         /* of the events' ring; 0: there is none */
	bool goes_on; /* the ring has recorded since that one, and how we watch is not known yet */
	bool swept;   /* a whole sweep has ended since the last commit */
	uint64_t lost_ends; /* that the last whole sweep has made good: of ledger_stats */
	bool urgent;        /* when the ring was last read, it was filling */
	usec_t crowded_at; /* boottime: claims before that may have found no room in it, and no sweep has begun since; 0 */
	struct ring_position kept; /* told last */
	char *obstacle;            /* why capture has no better rung; owned; NULL: there is none */
	bool following, stopped;
	/* of the last commit, 0: it worked; where that was one without fsync, and the last with one failed, that one's */
	int store_error;
	int durable_error; /* of the last commit with fsync */
	/* keeper_disk.c */
	struct hello hello;   /* what waits; owns its version */
	int open_error;       /* why there is no database yet; 0: there is, or nobody has tried */
	int ballast_error;    /* why there is no ballast; 0: there is */
	unsigned aside;       /* damaged databases beside this one */
	usec_t look_next;     /* boottime of the next look at these two */
	usec_t reserved_next; /* boottime of the next look at the ports that are reserved */
	bool damaged;         /* the database, as a commit has shown */
	bool path_was_right;  /* it has named the directory once */
	int status;           /* exit status */
};

/* keeper_disk.c: what becomes of the books where the disk does not do as it should. */

/* The states in which an answer is worth less than it looks, as committed.degraded; NULL: none (or no memory to say so). */
char *keeper_degraded(const struct keeper *k);
/* The disk is full: gives back what was kept for that. True: there is room now that was not there. */
bool keeper_makes_room(struct keeper *k);
/* The database is damaged: closes the books and sets it aside. True: a new one may be made. Was logged. */
bool keeper_sets_aside(struct keeper *k);
/* Why books cannot be opened may pass by itself. */
bool keeper_may_pass(int error);
/* The books could not be opened, for this reason. True: that may pass, keeper_tries_again() is to be called every second. */
bool keeper_waits(struct keeper *k, int error, const struct hello *hello);
/* 0: they are open, or still not; or an error that does not pass. */
int keeper_tries_again(struct keeper *k) _must_check_;
/* The books are open: where are they, and is there a ballast? */
void keeper_looks_first(struct keeper *k);
/* Every second: is the database where it was, is there a ballast? False: it is not, which was logged. */
bool keeper_looks_after(struct keeper *k, usec_t now);

/* keeper.c: what keeper_run() does, around its loop. */

/* Ready for the loop `base`, with a timer (`tick`) in it. 0 or a negative errno; keeper_close() in either case. */
int keeper_open(struct keeper *k, const struct keeper_options *options) _must_check_;
/* What is not committed is lost. Closes all descriptors but those that are the caller's (state and recording). */
void keeper_close(struct keeper *k);

/* keeper_start.c */

/* Frees what a session, or an attempt at one, has opened. */
void keeper_close_books(struct keeper *k);

/* The first record: opens the books and says so. 0, or a negative errno that was logged. */
int keeper_start_session(struct keeper *k, const struct hello *hello) _must_check_;
/* The exit status for it. */
int keeper_start_status(int error);
/* How we watch from here on: whether the ring's recording goes on where that of the session before ended. */
void keeper_covers(struct keeper *k, const struct coverage *c);
/* Do both watch the same, if not as often? */
bool keeper_watches_the_same(const struct coverage *a, const struct coverage *b);
