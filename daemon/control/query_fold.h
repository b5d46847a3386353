/* SPDX-License-Identifier: MIT */
#pragma once

/* Questions that are answered by a walk over all their claims, folded on the way: what is kept is the caller's, and
 * bounded by him. */

#include "daemon/control/query_internal.h"
#include "daemon/control/query_ports.h"

/* One claim of the walk. */
struct fold_row {
	usec_t opened, closed, released; /* wall; USEC_UNSET: it has not */
	int64_t app;                     /* of whom an audit credits; ROW_NULL: nothing is known */
	int64_t local;                   /* row of `local` */
	int32_t remote_port;             /* -1: none */
	uint16_t port;                   /* host byte order */
	uint8_t protocol, role;          /* enum protocol, enum role */
	bool preexisting;                /* it was there when we began to watch */
	bool attributed;                 /* its process is known, or it is the kernel's */
	uint8_t remote_size;             /* 0 (none), 4 or 16 */
	uint8_t remote[16];              /* network byte order */
};

/* 0, or a negative errno that ends the walk. */
typedef int fold_fn(void *context, const struct fold_row *row);

/*
 * Gives every claim of the question to `take`. `ordered`: by the opening, oldest first; else in no order, which costs
 * less. Memory: ordered, the claims of eight segments and those that are in none.
 */
int query_fold(struct query *q, const struct question *question, bool ordered, fold_fn *take,
	void *context) _must_check_;

/* Where a claim is, whatever session of the daemon saw it. */
struct fold_place {
	int64_t id;              /* the same for the same namespace and address */
	int64_t netns;           /* the same for the same namespace; 0: not known */
	uint64_t inode;          /* of the namespace */
	struct port_range range; /* that its kernel hands out, as last known; high 0: not known */
};

struct places;
int places_new(struct query *q, struct places **ret) _must_check_;
struct places *places_free(struct places *p);
DEFINE_CLEANUP(struct places, places_free)

/* Where a row of `local` is; remembered, but for more than LIMIT_PLACES. */
int places_find(struct places *p, int64_t local, struct fold_place *ret) _must_check_;

/* What is handed out there: of the daemon's own namespace, and of one of which nothing is known, it is `known->range`. */
struct port_range place_range(const struct fold_place *place, const struct kernel_ports *known);

/* From the lowest to the highest port that any namespace hands out. */
int query_hull(
	struct query *q, const struct kernel_ports *known, struct port_range *ret) _must_check_;
