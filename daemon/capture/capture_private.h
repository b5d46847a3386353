/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of capture share. */

#include "daemon/capture/attribute.h"
#include "daemon/capture/budget.h"
#include "daemon/capture/capture.h"
#include "daemon/capture/drain.h"
#include "daemon/capture/hearing.h"
#include "daemon/capture/snapshot.h"
#include "daemon/capture/source.h"
#include "daemon/capture/speaker.h"

#include <event2/util.h>

#define QUESTIONS_AT_ONCE 64u

struct capture {
	struct capture_options options;
	struct event *timer, *asked;
	const struct source_ops *source_ops;
	void *source;
	struct source_facts facts;
	/* The rung above the sweeps: one of these two, or none. */
	struct source_events *events;
	struct source_events *before; /* what they replace, until all of it is stored, with ... */
	struct openers *before_openers;
	struct hearing *hearing;
	struct drain *drain;           /* of the events, with ... */
	struct openers *openers;       /* ... who made them ... */
	struct namespaces *namespaces; /* ... and where */
	char obstacle[256];            /* why not a better rung; "": nothing is in the way */
	usec_t snapshot_at;            /* boottime: of the last one; 0: none */
	bool snapshot_wanted;          /* as soon as there is a sweep */
	bool events_lost;              /* since the last one */
	unsigned doubts;   /* so many snapshots are to look for ends that were not told */
	int events_error;  /* they cannot be read any more */
	bool drained;      /* the last reading left nothing */
	usec_t drained_at; /* boottime of the last one that did */
	size_t refs_limit; /* as many processes are known, then some are forgotten */
	struct table *table;
	struct procfs *procfs;
	struct kernel_sockets *kernel_sockets;
	struct refs *refs;
	struct speaker *speaker;
	struct budget budget;
	struct port_ranges ranges;
	struct port_range ephemeral;
	struct netns netns;
	uint64_t sweeps;
	usec_t first_begin;                    /* of the first sweep */
	usec_t last_end, last_cpu;             /* of the last sweep */
	usec_t due;                            /* CLOCK_MONOTONIC: of the timer */
	uint64_t questions[QUESTIONS_AT_ONCE]; /* ids that wait for a barrier */
	size_t question_count;
	unsigned trusted; /* sweeps since TCP's connections were read */
	bool settled;     /* the last sweep was of what is watched now */
	bool announced;   /* the stream has been told all that the table holds */
	bool read_failed; /* of the last sweep: say it once */
	/* the last sweep did not get through /proc */
	bool holders_pending;
	bool wanted;        /* a sweep, for the sake of what was heard */
	bool postponed;     /* the answer to a question */
	usec_t behind_from; /* boottime since which the ledger is behind; 0: it is not */
};

/* capture_say.c: the stream. */

/* What the ledger cannot take is a gap. */
void capture_say(struct capture *c, const struct record *r);
/* For the table, and for whoever finds processes; `context` is the capture. */
int capture_emit(void *context, const struct sighting *s);
int capture_introduce(void *context, uint32_t ref, struct process *p);
enum source capture_rung(const struct capture *c);
void capture_say_coverage(struct capture *c);
void capture_say_settings(struct capture *c);
/* Why there is no better rung. */
void capture_say_obstacle(struct capture *c);
/* The namespaces that are known. */
void capture_say_netns(struct capture *c);
/* Tells everything again, to a ledger that knows nothing or not all. */
void capture_announce(struct capture *c);
/* A gap for the notifications that the kernel, or the table, could not keep. */
void capture_say_lost(struct capture *c);
/* The ledger was behind: has it caught up? */
void capture_recover(struct capture *c);
void capture_forget_processes(struct capture *c);
/* Barriers for the first `count` questions: they came before the sweep that has ended. */
void capture_answer(struct capture *c, size_t count);

/* capture.c: sweeps. */

/* From here on: the ranges of the settings and of `ephemeral`. 0 or negative errno: all stays as it was. */
int capture_watch(struct capture *c, struct port_range ephemeral) _must_check_;
/* Callbacks; `context` is the capture. */
void capture_on_timer(evutil_socket_t fd, short what, void *context);
void capture_on_asked(evutil_socket_t fd, short what, void *context);
void capture_on_ready(void *context, struct ring_position kept);
void capture_on_waits(void *context);
void capture_on_kept(void *context, struct ring_position kept);
void capture_on_sync(void *context, uint64_t id);
void capture_on_sweep_wanted(void *context);

/* capture_events.c: the rung of the events. */

/* Attaches them. 0, or negative errno, with the reason in c->obstacle: nothing is attached. */
int capture_events_open(struct capture *c) _must_check_;
void capture_events_close(struct capture *c);
/* Other settings or ranges from now on. 0 or negative errno. */
int capture_events_watch(struct capture *c) _must_check_;
/* A ledger is ready, which has what the ring told before `kept`: begins from there, with an empty table. */
void capture_events_restart(struct capture *c, struct ring_position kept);
/* They have ended: goes on with the next rung, with an empty table. Not during a sweep. */
void capture_events_fall(struct capture *c);
/* Holders for the sockets of this sweep, from a snapshot. As attribute(). */
int capture_events_attribute(struct capture *c, struct attributor *a) _must_check_;

/* capture_open.c */

/* A table as it is before the first sweep. `goes_on`: events have told of what is open. NULL: no memory. */
struct table *capture_table_new(const struct capture *c, bool goes_on);
/* The next rung but one below the events. 0 or negative errno. */
int capture_open_hearing(struct capture *c) _must_check_;

void capture_log_began(const struct capture *c);
