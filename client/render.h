/* SPDX-License-Identifier: MIT */
#pragma once

/* Rows of one kind, written as the view wants them: a table for people, JSON, CSV, or the values of one column. */

#include "client/cells.h"

struct writer;

/* Do --columns and -F name members of the kind? NULL, or the name that is none. */
const char *writer_unknown_column(const struct view *v, const struct kind *k);

/* Nothing is printed yet. `unbounded`: rows come one by one without an end (follow), so that pretty JSON is one object a
 * line, too. -ENOMEM. */
int writer_new(const struct view *v, const struct kind *k, bool unbounded,
	struct writer **ret) _must_check_;
struct writer *writer_free(struct writer *w);
DEFINE_CLEANUP(struct writer, writer_free)

/* Takes a checked row; fills in `user`. Rows are counted. -ENOMEM. */
int writer_row(struct writer *w, const json_t *row) _must_check_;
size_t writer_count(const struct writer *w);

/* Prints the rows that are kept, so that what the caller prints comes behind the table. -ENOMEM. */
int writer_end_rows(struct writer *w) _must_check_;

/*
 * Ends the answer. `total`, an object with the sums of an audit, goes beside the receipt and may be NULL; `receipts` is a list of the Coverage of
 * each window asked, NULL where the answer is not about the past. The receipt goes to where the answer went; only
 * where that has no room for it (CSV, a column's values) to the notes.
 */
int writer_finish(struct writer *w, const json_t *total, const json_t *receipts) _must_check_;

/* For answers that are one object: as pretty or short JSON; the `coverage` in it is on a line of its own in the short
 * form. `o` is ordered. -ENOMEM. */
int writer_object(const struct view *v, json_t *o) _must_check_;

/* Prints what is wrong with the daemon, a line each: `reasons` as in Status and in receipts; NULL: nothing. */
void writer_degraded(const struct view *v, FILE *out, const json_t *reasons);

/* Prints the receipts as lines for people, and below them what is wrong now. -ENOMEM. */
int writer_receipts(const struct view *v, FILE *out, const json_t *receipts) _must_check_;

/* The daemon sends `user` as null on purpose: sets it from `uid` where the user has a name. -ENOMEM. */
int writer_fill_user(const struct view *v, json_t *row) _must_check_;
