/* SPDX-License-Identifier: MIT */
#pragma once

/* The processes that a stream has named, and the numbers by which it names them. */

#include "common/claim.h"

struct refs;

struct refs *refs_new(void); /* NULL: no memory */
struct refs *refs_free(struct refs *r);
DEFINE_CLEANUP(struct refs, refs_free)

/* The number of this process (by its pointer; a reference is kept). 1: it is new, tell the stream first; 0: known;
 * -ENOMEM. */
int refs_get(struct refs *r, struct process *p, uint32_t *ret_ref) _must_check_;

/* NULL: never given. */
struct process *refs_process(const struct refs *r, uint32_t ref);

/* Every known process, in no order. Stops at the first negative result and returns it. */
int refs_each(struct refs *r, int (*visit)(void *context, uint32_t ref, struct process *p),
	void *context) _must_check_;

/* How many are known. */
size_t refs_count(const struct refs *r);

/* Forgetting: mark those still named, then drop the others; `forgotten` is told each. */
void refs_mark(struct refs *r, uint32_t ref);
void refs_drop_unmarked(
	struct refs *r, void (*forgotten)(void *context, uint32_t ref), void *context);
