/* SPDX-License-Identifier: MIT */
#pragma once

/* Binds and connects that failed, in the order of time. Between query_begin() and query_end(); errors as in query.h. */

#include "daemon/control/query.h"

/* Behind this row; 0, 0: before the first. */
struct failure_place {
	int64_t usec, id;
};

/* The place behind which the newest `limit` (not 0) of the window follow. The role of a filter is of no meaning here. */
int query_failures_newest(struct query *q, const struct filter *filter, struct window window,
	uint64_t limit, struct failure_place *ret) _must_check_;

/*
 * Appends what follows `place` and matches, as the JSON text of Failures with commas between them: at most `max`, and none
 * that begins past LIMIT_PAGE_BYTES. Moves `place` behind them. 1: there is more; 0: no.
 */
int query_failures(struct query *q, const struct filter *filter, struct window window, size_t max,
	struct failure_place *place, size_t *ret_count, struct buf *out) _must_check_;

/* One failure, for who counts them. */
struct failure_counted {
	int64_t app;   /* app.id; 0: of nobody known */
	int64_t local; /* local.id */
	usec_t at;     /* wall */
	uint16_t port; /* 0: none was chosen yet */
	int protocol;  /* enum protocol */
};

/* Each failure of the window that matches, in any order; the first negative result of `take` ends it and is returned.
 * *ret_watched: failures were watched in a part of the window at least; else none is told. */
int query_failures_each(struct query *q, const struct filter *filter, struct window window,
	int (*take)(void *context, const struct failure_counted *f), void *context,
	bool *ret_watched) _must_check_;
