/* SPDX-License-Identifier: MIT */
#pragma once

/* Who has which socket open, in every network namespace, by the kernel's task iterator: for a thirteenth of what a walk over /proc
 * costs, and without a capability. */

#include "daemon/capture/attribute.h"
#include "daemon/capture/openers.h"

struct snapshot_options {
	struct source_events *events; /* all stay the caller's */
	struct openers *openers;
	struct table *table;
	struct refs *refs;
	uint64_t netns;           /* that is swept */
	bool all;                 /* other namespaces are of interest, too */
	enum table_untold untold; /* since the snapshot before this one */
	usec_t after;             /* boottime of that one; 0: there was none */
	void *context;
	int (*introduce)(void *context, uint32_t ref, struct process *p);
	int (*emit)(void *context, const struct sighting *s);
	/* one of another namespace is about to be told; `unit` of a holder, a stored form, or NULL */
	void (*see)(void *context, const struct event_seen *socket, const char *unit);
	/* reads the events that wait, so that they tell of what they can; false: some are left */
	bool (*catch_up)(void *context);
};

/*
 * Of struct attributor: finds the holders of `wanted`, all of them, as procfs_find() does. Beside that tells of the sockets in
 * other namespaces that nobody has told of. `finder` is a struct snapshot_options.
 */
int snapshot_find(void *finder, struct procfs_wanted *wanted, size_t count, usec_t budget_usec,
	struct procfs_result *ret) _must_check_;

/* Remembers who the processes are that have watched sockets open, while /proc may still be read. 0 or negative errno. */
int snapshot_remember(struct source_events *events, struct openers *openers) _must_check_;
