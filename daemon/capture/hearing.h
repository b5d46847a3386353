/* SPDX-License-Identifier: MIT */
#pragma once

/* Puts what the kernel tells of sockets that went into the table, as soon as it is told. */

#include "daemon/capture/source.h"
#include "daemon/capture/table.h"

struct event_base;
struct hearing;

struct hearing_options {
	struct event_base *base;
	struct table *table;
	const struct port_ranges *ranges;
	bool bound_only; /* the sweeps show bound-only TCP */
	int proc_fd;     /* /proc; the caller's */
	void *context;
	/* so many ends wait in the table, or some were lost, that the next sweep should be soon; often */
	void (*sweep_wanted)(void *context);
};

/* Listens from now on. Negative errno: this kernel does not tell, or no memory. */
int hearing_new(const struct hearing_options *options, struct hearing **ret) _must_check_;
struct hearing *hearing_free(struct hearing *h);

/* Other ports from now on. 0 or negative errno: as before. */
int hearing_watch(struct hearing *h, const struct port_ranges *ranges) _must_check_;

/*
 * Reads what waits. `since`: when it last did so without having waited for more in between (boottime): what is heard now
 * ended at any time before, if that was long. USEC_UNSET: the loop was idle, so it ended just now, unless the process
 * itself did not run.
 */
void hearing_read(struct hearing *h, usec_t since);

/* Were notifications lost since the last question? Then true, and between which boottimes. */
bool hearing_take_lost(struct hearing *h, usec_t *ret_from, usec_t *ret_until);
