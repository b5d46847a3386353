/* SPDX-License-Identifier: MIT */
#pragma once

/* The receipt: the statement of coverage that ends every answer about the past. */

#include "daemon/control/query.h"

/* What a receipt is of. */
struct receipt_of {
	const struct filter *asked; /* the ports and the protocol count */
	struct window window;       /* without length: the moment `from` */
	/* Of failed binds and connects: only stretches that watched them are listed, a gap "left-out" counts those that were too many
	 * to be recorded, and claims that are lost (gaps "events-lost", "ends-lost") are another matter. */
	bool failures;
	/* Of what tells remote ends apart: a time whose remote addresses are not whole is a gap, whoever is asked for. */
	bool remotes;
	const struct parts
		*parts; /* of an audit: what its claims were counted from; NULL: another answer */
	/* What is wrong now, as JSON text of the elements: said where not all of the window was watched. NULL: nothing. */
	const struct buf *degraded;
};

/*
 * Appends a Coverage of the window as JSON text: the stretches in which we watched and the gaps in them, clipped to
 * the window. Where no stretch is, nobody watched. What was pruned is a gap "expired". A stretch in which none of the ports that
 * were asked for was watched says nothing of the question, and is not listed; where not all of them were, there is a gap
 * "unwatched-ports". Stretches that watched alike, one right after the other, are one.
 * `complete` only if kernel events were watched throughout, without a gap; `lost` null where that number cannot be known.
 * Errors as in query.h.
 */
int coverage_receipt(struct query *q, const struct receipt_of *of, struct buf *out) _must_check_;
