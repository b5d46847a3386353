/* SPDX-License-Identifier: MIT */
#pragma once

/* Puts what the kernel's events tell into the table and onto the stream, and gives the ring's room back when the ledger has
 * it. */

#include "common/stream.h"
#include "daemon/capture/namespaces.h"
#include "daemon/capture/openers.h"
#include "daemon/capture/refs.h"
#include "daemon/capture/table.h"

struct event_base;
struct drain;

struct drain_options {
	struct event_base *base;
	struct source_events *events; /* the four stay the caller's */
	struct openers *openers;
	/* What another version of this program, or one with other settings, has recorded with, and tells nothing new any more: it
	 * is read to its end first. NULL: nothing. Both stay the caller's, until let_go(). */
	struct source_events *before;
	struct openers *before_openers;
	struct namespaces *namespaces;
	struct refs *refs;
	uint64_t netns; /* the daemon's own: its name is not for events to tell */
	void *context;
	/* is there a ledger, and has the stream to it room? If not, events wait in the ring */
	bool (*has_room)(void *context);
	void (*say)(void *context, const struct record *r);
	int (*introduce)(void *context, uint32_t ref, struct process *p);
	int (*emit)(void *context, const struct sighting *s);
	/* so many ends wait for one, or events were lost; often */
	void (*sweep_wanted)(void *context);
	void (*rest)(
		void *context); /* all that waited on the timer was read: time for other work */
	/* the ledger has all of `before`: it is not used any more */
	void (*let_go)(void *context);
	void (*failed)(void *context, int error); /* the events cannot be read any more; once */
};

/* 0 or -ENOMEM. Nothing is read before drain_restart(). */
int drain_new(const struct drain_options *options, struct drain **ret) _must_check_;
struct drain *drain_free(struct drain *d);

/* A ledger is ready that has what the ring told before `kept`; `table` (the caller's) is empty. */
void drain_restart(struct drain *d, struct table *table, struct ring_position kept);

/* Reads all that waits, as far as the stream has room. False: something is left. */
bool drain_read(struct drain *d);

/* Has the ring of before told what the present one tells again? Until that is over no sweep may decide of anything. */
bool drain_overlaps(const struct drain *d);

/* Something else was told of sockets that the events know: the next reading says how far it was read, in any case. */
void drain_touch(struct drain *d);

/* The ledger has stored all before this. */
void drain_kept(struct drain *d, struct ring_position kept);

/* Were events lost since the last question? */
bool drain_take_lost(struct drain *d);
/* May an end have been passed over, since the last question? */
bool drain_take_skipped(struct drain *d);
