/* SPDX-License-Identifier: MIT */
#pragma once

/* The capture process's work: sweeps on a timer and on demand, attribution, and the sighting stream that tells of
 * them. */

#include "config/config.h"

struct capture;
struct event_base;

/* Which source tells of what no sweep sees. */
enum capture_rung {
	CAPTURE_RUNG_BEST, /* the best that can be attached here */
	CAPTURE_RUNG_DESTROY,
	CAPTURE_RUNG_SWEEP,
};

struct capture_options {
	struct event_base *base;
	const struct config *config; /* must outlive the capture, or its next reload */
	int proc_fd;                 /* /proc; the caller's */
	enum capture_rung
		rung; /* one that is asked for and cannot be attached fails capture_new() */
	void *context;
	void (*ready)(void *context); /* the ledger took up its work; at every (re)start of it */
};

/* Opens its sources; sweeps begin when a ledger is linked and ready. 0, or negative errno with a line logged. */
int capture_new(const struct capture_options *options, struct capture **ret) _must_check_;

/* A ledger process waits for its stream at `fd` (taken). */
int capture_link(struct capture *c, int fd) _must_check_;

/* How it works, for people and for the watchdog. */
struct capture_state {
	enum source rung;
	usec_t interval_usec;
	usec_t due_monotonic; /* CLOCK_MONOTONIC: when the timer's next sweep is due; USEC_UNSET: no ledger was ready yet */
	usec_t last_cpu_usec; /* CPU time of the last sweep */
	uint32_t sockets;     /* that it saw */
};
struct capture_state capture_state(const struct capture *c);

/* Other settings from now on: a new stretch of coverage. */
void capture_reload(struct capture *c, const struct config *config);

/* Sweeps once more, so that what ended is known to have ended, and ends the stream. False: nothing was recorded, the ledger
 * was not there. */
bool capture_stop(struct capture *c);

struct capture *capture_free(struct capture *c);
