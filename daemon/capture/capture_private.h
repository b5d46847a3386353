/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of capture share. */

#include "daemon/capture/attribute.h"
#include "daemon/capture/budget.h"
#include "daemon/capture/capture.h"
#include "daemon/capture/hearing.h"
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
	struct hearing *hearing; /* NULL: the rung is what the sweeps are */
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
void capture_on_ready(void *context);
void capture_on_sync(void *context, uint64_t id);
void capture_on_sweep_wanted(void *context);

/* capture_open.c */

void capture_log_began(const struct capture *c);
