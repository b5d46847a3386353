/* SPDX-License-Identifier: MIT */

/* The same address of the same namespace has a row in `local` for each session that saw it; which of them are one is looked
 * up once a row. */

#include "daemon/control/query_fold.h"
#include "daemon/control/query_ports.h"

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
		"SELECT min(m.id),(SELECT min(f.id) FROM netns f WHERE f.inode=n.inode AND f.cookie=n.cookie),"
		"n.inode,(SELECT e.ephemeral_low<<16|e.ephemeral_high"
		" FROM netns e WHERE e.inode=n.inode AND e.cookie=n.cookie AND e.ephemeral_high<>0"
		" ORDER BY e.id DESC LIMIT 1)"
		" FROM local l JOIN netns n ON n.id=l.netns"
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

/* low << 16 | high; null: not known. */
static struct port_range range_of(sqlite3_stmt *statement, int column)
{
	int64_t packed = sqlite3_column_int64(statement, column);

	return (struct port_range){
		(uint16_t)(packed >> 16 & UINT16_MAX), (uint16_t)(packed & UINT16_MAX)};
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
			.netns = sqlite3_column_int64(p->statement, 1),
			.inode = (uint64_t)sqlite3_column_int64(p->statement, 2),
			.range = range_of(p->statement, 3)};
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

struct port_range place_range(const struct fold_place *place, const struct kernel_ports *known)
{
	bool own = known->netns != 0 && place->inode == known->netns;

	return own || place->range.high == 0 ? known->range : place->range;
}

int query_hull(struct query *q, const struct kernel_ports *known, struct port_range *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(q,
		"SELECT min(ephemeral_low),max(ephemeral_high) FROM netns WHERE ephemeral_high<>0",
		&statement);

	if (r < 0)
		return r;
	*ret = known->range;
	if (query_column(statement, 0) != ROW_NULL)
		*ret = (struct port_range){
			(uint16_t)MIN((int)ret->low, sqlite3_column_int(statement, 0)),
			(uint16_t)MAX((int)ret->high, sqlite3_column_int(statement, 1))};
	return 0;
}
