/* SPDX-License-Identifier: MIT */
#pragma once

/* The capture process's work: sweeps on a timer and on demand, attribution, and the sighting stream that tells of
 * them. */

#include "config/config.h"
#include "daemon/capture/source_events.h"

struct capture;
struct event_base;

/* Which source tells of what no sweep sees. */
enum capture_rung {
	CAPTURE_RUNG_BEST, /* the best that can be attached here */
	CAPTURE_RUNG_EVENTS,
	CAPTURE_RUNG_DESTROY,
	CAPTURE_RUNG_SWEEP,
};

struct capture_options {
	struct event_base *base;
	const struct config *config; /* must outlive the capture, or its next reload */
	int proc_fd;                 /* /proc; the caller's */
	enum capture_rung
		rung;    /* one that is asked for and cannot be attached fails capture_new() */
	bool netns_self; /* events: only of the daemon's own network namespace, not of all */
	uint32_t
		ring_bytes; /* of the events' ring: a power of two, at least a page; 0: the default */
	/* What an earlier process left of its events (source_events.h); taken where it is of use. */
	const struct events_fd *passed;
	size_t passed_count;
	void *context;
	/* what these have recorded is read, and they are not to be kept any longer */
	void (*let_go)(void *context, const struct events_fd *fds, size_t count);
	/* the ledger has no database yet, and tries on: somebody may ask why */
	void (*waits)(void *context);
	bool restarts; /* whoever runs us will start us again, with the rights to attach events */
	/* events that were attached at this boottime have ended; it goes on one rung lower, without the rights that it gave up for them */
	void (*fell)(void *context, usec_t attached);
	void (*ready)(void *context); /* the ledger took up its work; at every (re)start of it */
};

/* What is worth keeping for the next process under the present rung; returns how many (at most `max`). They stay the capture's. */
size_t capture_fds(const struct capture *c, struct events_fd *ret, size_t max);

/* The same of what is only read to its end, for as long as that takes. */
size_t capture_fds_before(const struct capture *c, struct events_fd *ret, size_t max);

/* Opens its sources; sweeps begin when a ledger is linked and ready. 0, or negative errno with a line logged. */
int capture_new(const struct capture_options *options, struct capture **ret) _must_check_;

/* A ledger process waits for its stream at `fd` (taken). */
int capture_link(struct capture *c, int fd) _must_check_;

/* How it works, for people and for the watchdog. */
struct capture_state {
	enum source rung;
	const char *obstacle; /* why not a better one; NULL: there is none, or none was asked for */
	bool container;       /* events: only of the processes of this container */
	usec_t interval_usec;
	usec_t due_monotonic; /* CLOCK_MONOTONIC: when the timer's next sweep is due; USEC_UNSET: no ledger was ready yet */
	usec_t last_cpu_usec; /* CPU time of the last sweep */
	uint32_t sockets;     /* that it saw */
};
struct capture_state capture_state(const struct capture *c);
/* ... in a line. */
void capture_describe(const struct capture *c, char *text, size_t size);

/* Other settings from now on: a new stretch of coverage. */
void capture_reload(struct capture *c, const struct config *config);

/* Sweeps once more, so that what ended is known to have ended, and ends the stream. False: nothing was recorded, the ledger
 * was not there. */
bool capture_stop(struct capture *c);

struct capture *capture_free(struct capture *c);
