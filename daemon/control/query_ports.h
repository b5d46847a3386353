/* SPDX-License-Identifier: MIT */
#pragma once

/* Questions about ports: what one is used for, which servers are where clients are, who uses them up. As query.h's. */

#include "common/port_set.h"
#include "daemon/control/query.h"

/* What the claims of a question say of a port. */
struct port_story {
	uint64_t claims;
	usec_t first;  /* opening, wall; USEC_UNSET: none */
	usec_t median; /* life of those that were closed, to 3 %; USEC_UNSET: none was */
};
int query_port_story(
	struct query *q, const struct question *question, struct port_story *ret) _must_check_;

/* How many claims answer the question, and of how many programs (by exe, else comm) they are. */
int query_programs(struct query *q, const struct question *question, uint64_t *ret_claims,
	uint64_t *ret_programs) _must_check_;

/* The range that the kernel handed out at `at`, in the daemon's own namespace; high 0: not known. */
int query_ephemeral(struct query *q, usec_t at, struct port_range *ret) _must_check_;

/* What the kernel does with ports in the daemon's own namespace. */
struct kernel_ports {
	uint64_t netns;          /* inode number; 0: not known */
	struct port_range range; /* that it hands out, or handed out at the time of the question */
	const struct port_set *reserved; /* of these it does not, now; NULL: not known */
};

/* The range of the namespace with this name or inode number, as last known; `otherwise` where it is not. */
int query_netns_range(struct query *q, const char *netns, struct port_range otherwise,
	struct port_range *ret) _must_check_;

/*
 * Appends `"listeners":[...],"omitted":..`: the open claims that match and listen, or are bound by UDP since
 * `bound_before` at the latest (wall), with what claims of their ports in the window were for them. Costs a seek in each
 * segment of the window for each of their ports. Only what is in the range of its namespace is told.
 */
int query_listeners(struct query *q, const struct filter *filter, usec_t bound_before,
	struct window window, const struct kernel_ports *known, struct buf *out) _must_check_;

/*
 * Appends `"pressure":[...],"omitted":..,"least_peak":..`: how many of the ports that are handed out were taken at once in the window, for each namespace and
 * protocol, and for the `limit` destinations that were fullest. Of the filter, protocol and places are heeded: a peer only for which
 * destinations are told. Memory: what was under way at once (-E2BIG: LIMIT_PRESSURE_HELD), and LIMIT_PRESSURE_GROUPS destinations:
 * where there are more, least_peak is a number, and none of those that were dropped had more ports at once. Two walks over the claims
 * of the window, and then three.
 */
int query_pressure(struct query *q, const struct filter *filter, struct window window,
	const struct kernel_ports *known, size_t limit, struct buf *out) _must_check_;

/*
 * Appends `"series":[...],"omitted":..`: how many of the ports that are handed out were in use at once, the most in each
 * step, per network namespace and protocol. At most LIMIT_STEPS steps. -E2BIG: LIMIT_OCCUPANCY_ENDS.
 */
int query_occupancy(struct query *q, const struct question *question, struct steps steps,
	const struct kernel_ports *known, struct buf *out) _must_check_;

/*
 * Appends `"apps":[...],"omitted":..`: the programs that were ever seen, with what their claims in the window were; those
 * with most claims first. `name` NULL: all, else those that are called so (path, its last part, or process name); `only_new`:
 * those that were first seen in the window. `now`: wall clock. -E2BIG: LIMIT_APPS, LIMIT_APP_PORTS.
 */
int query_apps(struct query *q, const struct filter *filter, struct window window, const char *name,
	bool only_new, usec_t now, struct buf *out) _must_check_;
