/* SPDX-License-Identifier: MIT */

#include "bench/facts.h"

#include "daemon/schema.h"

static int64_t msec_up(usec_t usec)
{
	return (int64_t)((usec + 999) / 1000 * 1000);
}

static int64_t bound(int64_t time, usec_t boot, usec_t after)
{
	return after == USEC_UNSET ? INT64_MIN : time - msec_up(boot - after);
}

struct fact fact_of_claim(const struct claim *c)
{
	struct fact f;

	memset(&f, 0, sizeof(f));
	f.opened = (int64_t)c->opened_wall;
	f.opened_after = bound(f.opened, c->opened_boot, c->opened_after_boot);
	f.closed = f.opened + (int64_t)(c->closed_boot - c->opened_boot);
	f.closed_after = bound(f.closed, c->closed_boot, c->closed_after_boot);
	f.released = f.closed + msec_up(c->released_boot - c->closed_boot);
	f.port = c->local.port;
	f.protocol = c->protocol;
	f.role = c->role;
	f.attribution = c->attribution;
	f.source = c->source;
	f.rport = c->remote.port;
	f.pid = c->opener->pid;
	memcpy(f.raddr, c->remote.address.bytes, sizeof(f.raddr));
	address_format(&c->local.address, f.local);
	return f;
}

static int look_up(sqlite3 *db, const char *sql, int64_t id, sqlite3_stmt **ret)
{
	if (sqlite3_prepare_v2(db, sql, -1, ret, NULL) != SQLITE_OK ||
		sqlite3_bind_int64(*ret, 1, id) != SQLITE_OK || sqlite3_step(*ret) != SQLITE_ROW)
		return -EIO;
	return 0;
}

static int64_t minus_msec(int64_t time, int64_t slack)
{
	return slack == ROW_NULL ? INT64_MIN : time - slack * 1000;
}

int fact_of_row(sqlite3 *db, const struct row *row, struct fact *ret)
{
	const int64_t *c = row->column;
	sqlite3_stmt *process = NULL, *local = NULL;
	struct fact f;
	int r;

	memset(&f, 0, sizeof(f));
	f.opened = c[ROW_OPENED_USEC];
	f.opened_after = minus_msec(f.opened, c[ROW_OPENED_SLACK]);
	f.closed = c[ROW_CLOSED_USEC];
	f.closed_after = minus_msec(f.closed, c[ROW_CLOSED_SLACK]);
	f.released = c[ROW_RELEASED_USEC];
	f.port = c[ROW_PORT];
	f.protocol = c[ROW_META] >> META_PROTOCOL_SHIFT & META_PROTOCOL_MASK;
	f.role = c[ROW_META] >> META_ROLE_SHIFT & META_ROLE_MASK;
	f.attribution = c[ROW_META] >> META_ATTRIBUTION_SHIFT & META_ATTRIBUTION_MASK;
	f.source = c[ROW_META] >> META_SOURCE_SHIFT & META_SOURCE_MASK;
	f.rport = c[ROW_RPORT];
	memcpy(f.raddr, row->raddr, row->raddr_size);
	r = look_up(db, "SELECT pid FROM process WHERE id=?1", c[ROW_PROCESS], &process);
	if (r == 0)
		r = look_up(db, "SELECT address FROM local WHERE id=?1",
			c[ROW_META] >> META_LOCAL_SHIFT, &local);
	if (r == 0) {
		f.pid = sqlite3_column_int64(process, 0);
		strncpy(f.local, (const char *)sqlite3_column_text(local, 0), ADDRESS_TEXT_MAX);
		*ret = f;
	}
	sqlite3_finalize(process);
	sqlite3_finalize(local);
	return r;
}

bool fact_touches(const struct fact *f, usec_t from, usec_t until)
{
	int64_t earliest = f->opened_after == INT64_MIN ? f->opened : f->opened_after;
	bool bounded = f->closed_after != INT64_MIN;

	return earliest < (int64_t)until &&
	       (bounded ? f->released >= (int64_t)from : f->released > (int64_t)from);
}

int facts_add(struct facts *f, const struct fact *fact)
{
	if (f->count == f->capacity) {
		size_t capacity = f->capacity ? 2 * f->capacity : 8;
		struct fact *more = reallocarray(f->fact, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->fact = more;
		f->capacity = capacity;
	}
	f->fact[f->count++] = *fact;
	return 0;
}

int facts_add_newest(struct facts *f, const struct fact *fact, size_t max)
{
	size_t oldest = 0;

	if (f->count < max)
		return facts_add(f, fact);
	for (size_t i = 1; i < f->count; i++)
		if (f->fact[i].opened < f->fact[oldest].opened)
			oldest = i;
	if (fact->opened > f->fact[oldest].opened)
		f->fact[oldest] = *fact;
	return 0;
}

void facts_done(struct facts *f)
{
	free(f->fact);
	*f = (struct facts){0};
}

/* Newest first. */
static int compare(const void *left, const void *right)
{
	const struct fact *a = left, *b = right;

	if (a->opened != b->opened)
		return a->opened > b->opened ? -1 : 1;
	return memcmp(a, b, sizeof(*a));
}

/* Where several were opened at the moment of the last one that fits, any of them will do. */
bool facts_agree(struct facts *answer, struct facts *expected, bool newest, size_t limit)
{
	size_t count = newest ? MIN(expected->count, limit) : expected->count;

	if (answer->count != count)
		return false;
	if (count == 0)
		return true;
	qsort(answer->fact, answer->count, sizeof(*answer->fact), compare);
	qsort(expected->fact, expected->count, sizeof(*expected->fact), compare);
	for (size_t i = 0; i < count; i++) {
		const struct fact *f = &answer->fact[i];

		if (f->opened != expected->fact[i].opened ||
			!bsearch(f, expected->fact, expected->count, sizeof(*f), compare) ||
			(i > 0 && memcmp(f, f - 1, sizeof(*f)) == 0))
			return false;
	}
	return true;
}
