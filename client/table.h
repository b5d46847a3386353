/* SPDX-License-Identifier: MIT */
#pragma once

/* Rows as a table for people. A terminal's width is kept by leaving out whole columns first, the least telling ones,
 * and by cutting cells only then; where there is no terminal nothing is left out. */

#include "client/cells.h"

struct table;

/* The kind's cells, or the columns asked for with --columns (which must be members of its shape). -ENOMEM. */
int table_new(const struct view *v, const struct kind *k, struct table **ret) _must_check_;
struct table *table_free(struct table *t);
DEFINE_CLEANUP(struct table, table_free)

/* Keeps a row; prints when TABLE_BATCH rows are kept, so that memory is bounded. -ENOMEM. */
int table_add(struct table *t, const json_t *row) _must_check_;
#define TABLE_BATCH 4096

/* Prints what is kept, then the notes: what the signs mean, what was left out. -ENOMEM. */
int table_finish(struct table *t) _must_check_;
