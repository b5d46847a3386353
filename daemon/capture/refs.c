/* SPDX-License-Identifier: MIT */

#include "daemon/capture/refs.h"

#define HASH_NONFATAL_OOM 1 /* what could not be added has no .tbl */
#include <uthash.h>

struct known {
	UT_hash_handle by_process, by_ref;
	struct process *process; /* one reference */
	uint32_t ref;
	bool marked;
};

struct refs {
	struct known *by_process, *by_ref;
	uint32_t last;
};

struct refs *refs_new(void)
{
	return calloc(1, sizeof(struct refs));
}

static void drop(struct refs *r, struct known *k)
{
	HASH_DELETE(by_process, r->by_process, k);
	HASH_DELETE(by_ref, r->by_ref, k);
	process_unref(k->process);
	free(k);
}

struct refs *refs_free(struct refs *r)
{
	struct known *k, *next;

	if (!r)
		return NULL;
	HASH_ITER (by_ref, r->by_ref, k, next)
		drop(r, k);
	free(r);
	return NULL;
}

int refs_get(struct refs *r, struct process *p, uint32_t *ret_ref)
{
	struct known *k;

	HASH_FIND(by_process, r->by_process, &p, sizeof(struct process *), k);
	if (k) {
		*ret_ref = k->ref;
		return 0;
	}
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->process = p;
	k->ref = r->last + 1;
	HASH_ADD(by_process, r->by_process, process, sizeof(struct process *), k);
	if (k->by_process.tbl)
		HASH_ADD(by_ref, r->by_ref, ref, sizeof(k->ref), k);
	if (!k->by_ref.tbl) {
		if (k->by_process.tbl)
			HASH_DELETE(by_process, r->by_process, k);
		free(k);
		return -ENOMEM;
	}
	(void)process_ref(p);
	*ret_ref = r->last = k->ref;
	return 1;
}

struct process *refs_process(const struct refs *r, uint32_t ref)
{
	struct known *k;

	HASH_FIND(by_ref, r->by_ref, &ref, sizeof(ref), k);
	return k ? k->process : NULL;
}

int refs_each(
	struct refs *r, int (*visit)(void *context, uint32_t ref, struct process *p), void *context)
{
	struct known *k, *next;

	HASH_ITER (by_ref, r->by_ref, k, next) {
		int e = visit(context, k->ref, k->process);

		if (e < 0)
			return e;
	}
	return 0;
}

size_t refs_count(const struct refs *r)
{
	return HASH_CNT(by_ref, r->by_ref);
}

void refs_mark(struct refs *r, uint32_t ref)
{
	struct known *k;

	HASH_FIND(by_ref, r->by_ref, &ref, sizeof(ref), k);
	if (k)
		k->marked = true;
}

void refs_drop_unmarked(
	struct refs *r, void (*forgotten)(void *context, uint32_t ref), void *context)
{
	struct known *k, *next;

	HASH_ITER (by_ref, r->by_ref, k, next) {
		if (k->marked) {
			k->marked = false;
			continue;
		}
		forgotten(context, k->ref);
		drop(r, k);
	}
}
