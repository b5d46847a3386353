/* SPDX-License-Identifier: MIT */
#pragma once

/* Rows as a table for people. A terminal's width is kept by leaving out whole columns first, the least telling ones,
 * and by cutting cells only then; where there is no terminal nothing is left out. */

#include "client/cells.h"

struct grid;

/* The kind's cells, or the columns asked for with --columns (which must be members of its shape). -ENOMEM. */
int grid_new(const struct view *v, const struct kind *k, struct grid **ret) _must_check_;
struct grid *grid_free(struct grid *t);
DEFINE_CLEANUP(struct grid, grid_free)

/* Keeps a row; prints when GRID_BATCH rows are kept, so that memory is bounded. -ENOMEM. */
int grid_add(struct grid *t, const json_t *row) _must_check_;
#define GRID_BATCH 4096

/* Prints what is kept, then the notes: what the signs mean, what was left out. -ENOMEM. */
int grid_finish(struct grid *t) _must_check_;
