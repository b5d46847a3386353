/* SPDX-License-Identifier: MIT */
#pragma once

/* What is being sealed, as seal.c and seal_coalesce.c share it. */

#include "daemon/ledger/store_private.h"

#define SEAL_NULL INT64_MIN
/* dur, opened_slack, closed_slack, linger, meta, rport, process */
enum {
	REST_DUR = 0,
	REST_OPENED_SLACK = 1,
	REST_CLOSED_SLACK = 2,
	REST_LINGER = 3,
	REST_META = 4,
	REST_RPORT = 5,
	REST_PROCESS = 6,
	REST_COLUMNS = 7,
};

/* A row of claim_hot. Times are wall, in microseconds. */
struct hot {
	int64_t claim, holders, is_long, released, port, opened;
	/* as the tables have them alike, from STATEMENT_SEAL_ROW's `dur` to its `process`; SEAL_NULL: NULL */
	int64_t rest[REST_COLUMNS];
	uint8_t raddr[16];
	uint8_t raddr_size; /* 0: NULL */
	int64_t number;     /* `claim` of its row, 0 where none is needed: it would cost 4 bytes */
	bool coalesced;     /* it is in a row of `coalesced`, and needs none of its own */
	bool light;         /* ... and counts for nothing in its user's share */
};

struct segment {
	uint64_t end;     /* ids of claim_hot below it */
	struct hot *rows; /* owned */
	size_t count;
	usec_t last_seen; /* the latest release of all rows */
	/* of those that are not long; as in the table `segment` */
	int64_t id, base, slack, opened_from, opened_to, released_from, released_to, max_slack, n;
};

/* The slack of its opening, in microseconds. */
int64_t hot_slack(const struct hot *h);

/* seal_coalesce.c: writes one row for those like claims of one second that are more than CoalesceAbove=, and marks them as
 * coalesced. *ret_rows: how many rows it wrote. */
int coalesce(struct store *s, struct segment *g, size_t *ret_rows) _must_check_;
