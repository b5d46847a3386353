/* SPDX-License-Identifier: MIT */

/*
 * Remote addresses that grow old: from an age on only their network is kept, or nothing of them ([Store]
 * RemoteAddresses=). A segment, and each long claim and failure, says in `remotes` what is left of it, and an index leads to
 * those of which more is left than may be: nothing is looked at twice, and a stricter setting finds what a laxer one left.
 *
 * A segment is due when its youngest claim is old enough. So that the oldest does not wait much longer, claims are sealed
 * within an hour where addresses are to go.
 *
 * What was there is overwritten (store_settings()): SQLite would leave the old cell in the unused part of its page, and the
 * rows that were sealed in pages that are free.
 */

#include "daemon/ledger/store_private.h"

#define STEP_ROWS 4096 /* long claims or failures in one step */

usec_t remotes_seal_age(const struct store *s)
{
	return s->settings.remote_addresses == REMOTE_ADDRESSES_FULL ? SEAL_AGE_USEC
								     : USEC_PER_HOUR;
}

static int reduce_segment(struct store *s, int64_t segment)
{
	static const enum statement statements[] = {
		STATEMENT_REMOTES_ROWS, STATEMENT_REMOTES_COALESCED, STATEMENT_REMOTES_DONE};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(statements); i++) {
		struct binder b = sql_bind(s, statements[i]);

		bind_int(&b, segment);
		bind_int(&b, s->settings.remote_addresses);
		r = sql_run(s, statements[i]);
	}
	return r;
}

/* Of those of which `left` is left. */
static int reduce(struct store *s, usec_t before, unsigned left)
{
	static const enum statement statements[] = {
		STATEMENT_REMOTES_LONG, STATEMENT_REMOTES_FAILURES};
	struct binder b = sql_bind(s, STATEMENT_REMOTES_SEGMENT);
	int64_t segment;
	int r;

	bind_int(&b, left);
	bind_time(&b, before);
	r = sql_value(s, STATEMENT_REMOTES_SEGMENT, 0, &segment);
	if (r == 0 && segment > 0)
		return reduce_segment(s, segment);
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(statements); i++) {
		b = sql_bind(s, statements[i]);
		bind_int(&b, left);
		bind_int(&b, s->settings.remote_addresses);
		bind_time(&b, before);
		bind_int(&b, STEP_ROWS);
		r = sql_run(s, statements[i]);
	}
	return r;
}

/* 1: of some, more is left than may be: *ret_left. */
static int find_due(struct store *s, usec_t before, unsigned *ret_left)
{
	int64_t due = 0;
	int r = 0;

	for (unsigned left = 0; r == 0 && due == 0 && left < s->settings.remote_addresses; left++) {
		struct binder b = sql_bind(s, STATEMENT_REMOTES_DUE);

		bind_int(&b, left);
		bind_time(&b, before);
		r = sql_value(s, STATEMENT_REMOTES_DUE, 0, &due);
		*ret_left = left;
	}
	return r < 0 ? r : due != 0;
}

static int take_step(struct store *s, usec_t before, unsigned left)
{
	int r = store_begin_question(s);

	if (r < 0)
		return r;
	r = reduce(s, before, left);
	if (r == 0)
		r = store_counter_set(s, COUNTER_REMOTES_UNTIL, before);
	if (r == 0)
		r = store_commit_step(s);
	return r < 0 ? store_fail(s, r) : 1;
}

int remotes_step(struct store *s, struct now now)
{
	usec_t before = usec_sub(now.wall, s->settings.remote_after_usec);
	unsigned left = 0;
	int r = find_due(s, before, &left);

	if (r <= 0)
		return r;
	return take_step(s, before, left);
}
