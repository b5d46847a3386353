/* SPDX-License-Identifier: MIT */

/*
 * An MPTCP connection is in two tables: the MPTCP socket and its first subflow, with two cookies
 * but the same inode and port. As long as nobody accepted it, neither has an inode; then they have
 * the same two endpoints. They are folded into the one that was remembered first (the canonical
 * one; the MPTCP socket, where both are new). The other is an alias: it keeps the canonical one
 * present, and is itself never told.
 */

#include "daemon/capture/table_private.h"

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t size)
{
	memcpy(at, bytes, size);
	return at + size;
}

/* Inode and port, or both endpoints where there is no inode. False: nothing to tell it by. */
static bool fold_key(const struct socket_row *row, uint8_t key[static FOLD_KEY_BYTES])
{
	uint8_t *at = put_bytes(key, &row->inode, sizeof(row->inode));

	memset(at, 0, FOLD_KEY_BYTES - sizeof(row->inode));
	at = put_bytes(at, &row->local.port, sizeof(row->local.port));
	if (row->inode != 0)
		return true;
	at = put_bytes(at, &row->remote.port, sizeof(row->remote.port));
	at = put_bytes(at, &row->local.address, sizeof(row->local.address));
	(void)put_bytes(at, &row->remote.address, sizeof(row->remote.address));
	return has_remote(row);
}

bool table_fold_same(const struct socket_row *a, const struct socket_row *b)
{
	uint8_t key_a[FOLD_KEY_BYTES], key_b[FOLD_KEY_BYTES];

	return fold_key(a, key_a) == fold_key(b, key_b) &&
	       memcmp(key_a, key_b, FOLD_KEY_BYTES) == 0;
}

static struct fold *find(struct fold *folds, const struct socket_row *row)
{
	uint8_t key[FOLD_KEY_BYTES];
	struct fold *f = NULL;

	if (folds && fold_key(row, key))
		HASH_FIND(hh, folds, key, sizeof(key), f);
	return f;
}

struct entry *table_fold_find(struct fold *folds, const struct socket_row *row)
{
	struct fold *f = find(folds, row);

	return f ? f->entry : NULL;
}

void table_fold_remove(struct fold **folds, const struct entry *e)
{
	struct fold *f = find(*folds, &e->s.row);

	if (!f || f->entry != e)
		return;
	HASH_DELETE(hh, *folds, f);
	free(f);
}

int table_fold_add(struct fold **folds, struct entry *e)
{
	_cleanup_(free_p) struct fold *new = NULL;
	struct fold *f = find(*folds, &e->s.row);
	bool oom = false;

	if (f) {
		f->entry = e;
		return 0;
	}
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	if (!fold_key(&e->s.row, new->key))
		return 0;
	new->entry = e;
	HASH_ADD(hh, *folds, key, sizeof(new->key), new);
	if (oom)
		return -ENOMEM;
	TAKE_PTR(new);
	return 0;
}

void table_fold_done(struct fold **folds)
{
	struct fold *f, *next;

	HASH_ITER (hh, *folds, f, next) {
		HASH_DELETE(hh, *folds, f);
		free(f);
	}
}

static void fold_into(struct entry *alias, struct entry *canonical)
{
	if (canonical->aliases == UINT16_MAX)
		return;
	alias->alias = true;
	alias->canonical = canonical;
	alias->s.wants_holder = false;
	canonical->aliases++;
	canonical->mptcp = true;
}

void table_fold_subflow(struct table *t, struct entry *e)
{
	struct entry *m = table_fold_find(t->folds, &e->s.row);

	if (!m || !m->seen || e->alias || e->aliases > 0)
		return;
	if (!m->alias && m->aliases == 0 && e->first_at < m->first_at)
		fold_into(m, e);
	else
		fold_into(e, canonical_of(m));
}
