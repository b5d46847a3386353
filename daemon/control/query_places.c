/* SPDX-License-Identifier: MIT */

/* The same address of the same namespace has a row in `local` for each session that saw it; which of them are one is looked
 * up once a row. */

#include "daemon/control/query_fold.h"

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

struct known_place {
	int64_t local;
	struct fold_place place;
	UT_hash_handle hh;
};

struct places {
	struct known_place *known; /* owned */
	sqlite3_stmt *statement;   /* owned */
};

int places_new(struct query *q, struct places **ret)
{
	_cleanup_(places_free_p) struct places *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	r = query_prepare(q,
		"SELECT min(m.id),min(k.id) FROM local l JOIN netns n ON n.id=l.netns"
		" JOIN netns k ON k.inode=n.inode AND k.cookie=n.cookie"
		" JOIN local m ON m.netns=k.id AND m.address=l.address WHERE l.id=:local",
		&p->statement);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

struct places *places_free(struct places *p)
{
	struct known_place *k, *next;

	if (!p)
		return NULL;
	HASH_ITER (hh, p->known, k, next) {
		HASH_DELETE(hh, p->known, k);
		free(k);
	}
	(void)sqlite3_finalize(p->statement);
	free(p);
	return NULL;
}

static int look_up(struct places *p, int64_t local, struct fold_place *ret)
{
	int r;

	(void)sqlite3_reset(p->statement);
	query_bind(p->statement, ":local", local);
	r = query_step(p->statement);
	if (r < 0)
		return r;
	*ret = (struct fold_place){.id = local};
	if (r == 1 && query_column(p->statement, 0) != ROW_NULL)
		*ret = (struct fold_place){.id = sqlite3_column_int64(p->statement, 0),
			.netns = sqlite3_column_int64(p->statement, 1)};
	return 0;
}

int places_find(struct places *p, int64_t local, struct fold_place *ret)
{
	struct known_place *k;
	int r;

	HASH_FIND(hh, p->known, &local, sizeof(local), k);
	if (k) {
		*ret = k->place;
		return 0;
	}
	r = look_up(p, local, ret);
	if (r < 0 || HASH_COUNT(p->known) >= LIMIT_PLACES)
		return r;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->local = local;
	k->place = *ret;
	HASH_ADD(hh, p->known, local, sizeof(k->local), k);
	if (!k->hh.tbl) {
		free(k);
		return -ENOMEM;
	}
	return 0;
}
