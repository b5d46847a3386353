/* SPDX-License-Identifier: MIT */
#pragma once

/* What the rollups have for an audit: which stretches of its window, and the rows of these. */

#include "common/rollup_sets.h"
#include "common/siphash.h"
#include "daemon/control/query_internal.h"

/* Which stretches of the question's window are to be counted from what. Rows alone where that is all that serves. */
int rollup_parts(struct query *q, const struct question *question, enum audit_by by,
	usec_t slot_usec, struct parts *ret) _must_check_;

/* From the first part that is not of rows to the last; empty (from 0, until 0) where there is none. */
struct window parts_rolled(const struct parts *parts);

/* A row of rollup_hour or rollup_day, within a window that ends at or after it. */
struct rolled {
	int64_t app; /* 0: none */
	uint64_t claims, roles[ROLE_COUNT];
	uint64_t unattributed;
	usec_t start, first, last; /* wall */
	usec_t shortest, longest;  /* as a group's (query_groups.h), at the window's end */
	struct lives lives;
	struct rollup_sets sets; /* until the next row */
};

/* 0, or a negative errno that ends the walk. */
typedef int rolled_fn(void *context, const struct rolled *row);

/* Gives each row of the parts to `take`. -ENODATA: programs were too many to be told apart there, so that rows have to be read. */
int rollup_each(struct query *q, const struct question *question, const struct parts *parts,
	rolled_fn *take, void *context) _must_check_;

/* A claim that reaches over the ends of the parts, as its mark tells it. */
struct marked {
	int64_t meta;         /* without a local address */
	int64_t app;          /* as credited; 0: none */
	uint64_t remote_hash; /* where has_remote */
	usec_t opened, closed, released;
	uint16_t port;
	bool unattributed, has_remote;
};

/* As rolled_fn. */
typedef int marked_fn(void *context, const struct marked *claim);

/* Gives each claim that no row of the parts has, and whose mark tells all that an audit counts, to `take`. */
int rollup_marked(struct query *q, const struct question *question, const struct parts *parts,
	marked_fn *take, void *context) _must_check_;

/* Prepares the other claims of the question that no row of the parts has: the columns of SQL_CREDITED. */
int rollup_beside(struct query *q, const struct question *question, const struct parts *parts,
	sqlite3_stmt **ret) _must_check_;

/* The key of the hashes in the rollups' sketches. */
int rollup_key(struct query *q, struct siphash_key *ret) _must_check_;
