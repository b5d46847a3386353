/* SPDX-License-Identifier: MIT */
#pragma once

/* Exported claims as a SQLite database: a plain indexed table, with the columns of the view `claims`. */

#include "client/view.h"

struct exported;

/* Opens or makes it. 0, -ENOMEM, -EIO, or -EEXIST: the file is a database of something else. What SQLite says is in
 * exported_error(). */
int exported_open(const char *path, struct exported **ret) _must_check_;
struct exported *exported_free(struct exported *e);
DEFINE_CLEANUP(struct exported, exported_free)
const char *exported_error(const struct exported *e);

/* The cursor that the database was left with; "" where there is none. Fresh; NULL: no memory. */
char *exported_cursor(struct exported *e);

/* Adds a row, checked and ordered (shape_claim). */
int exported_add(struct exported *e, const json_t *claim) _must_check_;

/* Forgets the claims that were open, for those that are open now. */
int exported_drop_open(struct exported *e) _must_check_;

/* All that was added since the last commit, and the cursor behind it, or nothing of both. `cursor` NULL: as it was. */
int exported_commit(struct exported *e, const char *cursor) _must_check_;

/* Adds a receipt. */
int exported_receipt(struct exported *e, const json_t *coverage) _must_check_;
