/* SPDX-License-Identifier: MIT */

/*
 * Marks: the few sealed claims that an audit has to see one by one where it takes the rest from the rollups.
 *
 * A window that begins and ends with an hour has whole rows of rollup_hour, but for what was opened before it and reaches
 * into it. A segment has no index by time, and to look through one costs more than all the sums of a night. So what is of two
 * hours is marked: about 2 % of the claims, by the earlier bound of its opening. How long a claim was is in the kind of its mark, by
 * powers of two, so that what was open at a time is found among those of each kind that began no longer before it than these can
 * last: half of what is looked at there was open. A mark says what an audit counts of its claim: to look that up cost a page of the
 * disk's each, for the claim and for its process.
 *
 * Two sorts of claims are looked at one by one wherever they were opened, and stand apart in the rollups: servers, which an audit
 * lists, and sockets that PID 1 passed on, since whom they count for depends on the end of the window.
 */

#include "daemon/ledger/store_private.h"

#include "daemon/schema.h"

#define HOUR ((int64_t)USEC_PER_HOUR)
#define TOLD 8 /* columns that bind_told() binds */

/* What an audit counts of it. */
static void bind_told(struct binder *b, const struct rollup_claim *c, const struct siphash_key *key)
{
	bind_int(b, c->closed - c->opened);
	bind_int(b, (c->released - c->closed) / (int64_t)USEC_PER_MSEC);
	bind_int(b, c->meta & ~((int64_t)META_LOCAL_MASK << META_LOCAL_SHIFT));
	bind_int(b, c->app);
	bind_int(b, c->netns);
	bind_int(b, c->unattributed);
	bind_int(b, c->bounded);
	if (c->raddr_size > 0)
		bind_unsigned(b, siphash(key, c->raddr, c->raddr_size));
	else
		bind_null(b);
}

static int add_mark(struct store *s, const struct rollup_claim *c, int kind, int64_t at,
	const struct siphash_key *key)
{
	struct binder b = sql_bind(s, STATEMENT_MARK_ADD);

	bind_int(&b, kind);
	bind_int(&b, at);
	bind_int(&b, c->seg);
	bind_int(&b, c->port);
	bind_int(&b, c->opened);
	bind_int(&b, c->number);
	if (!c->apart)
		bind_told(&b, c, key);
	else /* it is looked up in any case */
		for (int i = 0; i < TOLD; i++)
			bind_null(&b);
	return sql_run(s, STATEMENT_MARK_ADD);
}

/* The kind of a claim that took so long. */
static int kind_of(int64_t length)
{
	int kind = MARK_HOUR;

	for (int64_t reach = HOUR; length >= reach && kind < MARK_LAST; reach *= 2)
		kind++;
	return kind;
}

int marks_add(struct store *s, const struct rollup_claim claims[], size_t count)
{
	struct siphash_key key;
	int r = rollup_hash_key(s, &key);

	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct rollup_claim *c = &claims[i];

		if (c->apart)
			r = add_mark(s, c, MARK_APART, c->opened, &key);
		if (r == 0 && c->began / HOUR != c->released / HOUR)
			r = add_mark(s, c, kind_of(c->released - c->began), c->began, &key);
	}
	return r;
}

int marks_drop(struct store *s, usec_t before)
{
	struct binder b = sql_bind(s, STATEMENT_MARK_DROP_APART);
	int64_t reach = HOUR;
	int r;

	bind_time(&b, usec_sub(before, (usec_t)reach));
	r = sql_run(s, STATEMENT_MARK_DROP_APART);
	for (int kind = MARK_HOUR; r == 0 && kind < MARK_LAST; kind++, reach *= 2) {
		b = sql_bind(s, STATEMENT_MARK_DROP);
		bind_int(&b, kind);
		bind_time(&b, usec_sub(before, (usec_t)reach));
		r = sql_run(s, STATEMENT_MARK_DROP);
	}
	return r;
}
