/* SPDX-License-Identifier: MIT */
#pragma once

/* The receipt: what of the window was watched and what was not, in one line. "Nobody" and "not watching" must never
 * look alike. All takes checked objects of shape_coverage. */

#include <jansson.h>

#include "client/view.h"
#include "common/buf.h"

/* Was any of the window watched? */
bool receipt_watched(const json_t *coverage);

bool receipt_complete(const json_t *coverage);

/* Of its first gap, which of one that nobody watched is why; NULL: there is none. */
const char *receipt_reason(const json_t *coverage);

/* Was nobody watching, since it is about ports that were not among the watched ones? */
bool receipt_of_unwatched_ports(const json_t *coverage);

/* What of the window no stretch covers, in the order of time: *ret is the caller's to free. 0 or -ENOMEM. */
int receipt_holes(const json_t *coverage, struct window **ret, size_t *ret_count) _must_check_;

/* Appends "Coverage: ..." without a line break, not yet escaped. 0 or -ENOMEM. */
int receipt_text(const json_t *coverage, const struct view *v, struct buf *b) _must_check_;

/* The receipt of windows asked one by one (an ambiguous local time), as one: ordered members, and `windows` where
 * there are several, since what lies between them was not asked. NULL: no memory. */
json_t *receipt_merge(const json_t *receipts);

/* "2026-11-22 03:12:00-03:13:00"; "all until ..." where `from` is 0. -ENOMEM. */
int receipt_window(struct buf *b, usec_t from, usec_t until) _must_check_;
