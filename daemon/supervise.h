/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The main process starts the ledger and control processes, links them, and restarts one that dies, a bounded number
 * of times. Nothing of a child's trouble stops capture.
 */

#include "common/clock.h"

struct event_base;
struct supervisor;

struct supervisor_handler {
	void *context;
	/* A new ledger process waits for its stream at `fd`, the callee's to keep: 0 or negative errno. */
	int (*ledger_started)(void *context, int fd);
	/* A new control process was heard: it serves. */
	void (*serving)(void *context);
	/* The daemon cannot go on; `status` is to be its exit status. */
	void (*failed)(void *context, int status);
};

struct supervisor_options {
	struct event_base *base;
	const char *state_path; /* for control: where the database is */
	int state_fd;           /* directory; the caller's */
	int record_fd;          /* --record; the caller's; -1: none */
	bool replaying;         /* --replay: nothing of the stream is news */
	struct supervisor_handler handler;
};

/* Starts the ledger. 0, -ENOMEM or another negative errno. */
int supervisor_new(const struct supervisor_options *options, struct supervisor **ret) _must_check_;

/* The ledger has its database open: starts control, which serves `listen_fd` (the caller's). No-op when it runs. */
int supervisor_start_control(struct supervisor *s, int listen_fd) _must_check_;

/* Asks both children whether their loops turn. */
void supervisor_ask(struct supervisor *s);

/* Both run, and have answered since they were last asked (they are also asked when they start). */
bool supervisor_answered(const struct supervisor *s);

/* SIGCHLD came: reaps what died, restarts it. */
void supervisor_reap(struct supervisor *s);

/* An orderly end: control first; the ledger has been told BYE on its stream. Waits for both, at most `timeout_usec`,
 * then kills. Returns the ledger's exit status (EXIT_FAILURE if it was killed). */
int supervisor_stop(struct supervisor *s, usec_t timeout_usec);

struct supervisor *supervisor_free(struct supervisor *s);
