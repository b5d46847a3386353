/* SPDX-License-Identifier: MIT */
#pragma once

/* Flows that somebody saw on the wire, and whose sockets of this host were at their ends. */

#include "daemon/control/query.h"

/* Why a flow has no socket here. */
enum flow_reason {
	FLOW_FOUND,
	FLOW_NOBODY,       /* a port that was watched, and no claim of it fits */
	FLOW_UNWATCHED,    /* neither port was among those watched */
	FLOW_NOT_WATCHING, /* nobody watched then */
	FLOW_EXPIRED,      /* what was known of then is pruned */
	FLOW_REASON_COUNT,
};
const char *flow_reason_name(enum flow_reason reason); /* NULL for FLOW_FOUND */

enum flow_end { FLOW_SOURCE, FLOW_DESTINATION, FLOW_ENDS };

struct flow {
	usec_t from, until; /* wall; when it was seen: `until` is not before `from` */
	unsigned protocols; /* mask of 1 << enum protocol */
	struct endpoint end[FLOW_ENDS];

	/* set by query_flows() */
	bool found[FLOW_ENDS];
	struct row row[FLOW_ENDS];
	unsigned others; /* further processes that fit as well */
	enum flow_reason reason;
	struct {
		bool exact, local; /* both ends are in the claim; the local address is */
		usec_t distance;   /* from the claim's tenure; 0: within */
	} fit[FLOW_ENDS];
};

/* Answers all of them, in one look at the claims of their ports. Errors as in query.h. */
int query_flows(struct query *q, struct flow *flows, size_t count) _must_check_;
