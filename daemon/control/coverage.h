/* SPDX-License-Identifier: MIT */
#pragma once

/* The receipt: the statement of coverage that ends every answer about the past. */

#include "daemon/control/query.h"

/*
 * Appends a Coverage of the window as JSON text: the stretches in which we watched and the gaps in them, clipped to
 * the window. Where no stretch is, nobody watched. What was pruned is a gap "expired". Of `asked`, the ports and the
 * protocol count: a stretch in which none of them was watched says nothing of the question, and is not listed; where not all
 * of the ports were, there is a gap "unwatched-ports". Stretches that watched alike, one right after the other, are one.
 * `complete` only if kernel events were watched throughout, without a gap; `lost` null where that number cannot be known. A
 * window without length is the moment `from`. Errors as in query.h.
 */
int coverage_receipt(struct query *q, const struct filter *asked, struct window window,
	struct buf *out) _must_check_;

/*
 * The same of failed binds and connects: only stretches that watched them are listed, a gap "left-out" counts those that were
 * too many to be recorded, and claims that are lost (gaps "events-lost", "ends-lost") are another matter.
 */
int coverage_receipt_failures(struct query *q, const struct filter *asked, struct window window,
	struct buf *out) _must_check_;

/* The same of what tells remote ends apart: a time whose remote addresses are not whole is a gap, whoever is asked for. */
int coverage_receipt_remotes(struct query *q, const struct filter *asked, struct window window,
	struct buf *out) _must_check_;

/* The receipt of an audit, which says what its claims were counted from. */
int coverage_receipt_audit(struct query *q, const struct filter *asked, struct window window,
	const struct parts *parts, struct buf *out) _must_check_;
