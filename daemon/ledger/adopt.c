/* SPDX-License-Identifier: MIT */

/*
 * What an earlier session left open.
 *
 * Of this boot: the sockets may still be there, under the same cookies, so the rows become claims again and the
 * ledger compares them with its first sweep. Wall times turn back into boottime by way of the opening, which has
 * both. Of another boot: no socket outlived it. They go to the history, ended where they were last known to be
 * (`end_unseen`), never at the present.
 */

#include "daemon/ledger/store_private.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "daemon/schema.h"

/* Processes already read, by row, so that claims of one process share it. */
struct known {
	UT_hash_handle hh;
	int64_t id;
	struct process *process; /* one reference */
};

static void known_done(struct known **known)
{
	struct known *k, *next;

	HASH_ITER (hh, *known, k, next) {
		HASH_DELETE(hh, *known, k);
		process_unref(k->process);
		free(k);
	}
}

static int known_add(struct known **known, int64_t id, struct process *p)
{
	struct known *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->id = id;
	HASH_ADD(hh, *known, id, sizeof(k->id), k);
	if (!k->hh.tbl) {
		free(k);
		return -ENOMEM;
	}
	k->process = process_ref(p);
	return 0;
}

static int copy_text(sqlite3_stmt *row, int column, char **ret)
{
	const char *text = (const char *)sqlite3_column_text(row, column);

	if (!text)
		return sqlite3_column_type(row, column) == SQLITE_NULL ? 0 : -ENOMEM;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static usec_t column_time(sqlite3_stmt *row, int column)
{
	return sqlite3_column_type(row, column) == SQLITE_NULL
		       ? USEC_UNSET
		       : (usec_t)sqlite3_column_int64(row, column);
}

static int fill_process(sqlite3_stmt *row, struct process *p)
{
	int r;

	p->pid = sqlite3_column_int(row, 1);
	p->start_boot = column_time(row, 2);
	p->pidfd_inode = (uint64_t)sqlite3_column_int64(row, 3);
	p->parent_pid = sqlite3_column_int(row, 4);
	p->exe_note = (uint8_t)sqlite3_column_int(row, 7);
	if (sqlite3_column_type(row, 9) != SQLITE_NULL)
		p->uid = (uint32_t)sqlite3_column_int64(row, 9);
	r = copy_text(row, 5, &p->parent_comm);
	if (r == 0)
		r = copy_text(row, 6, &p->exe);
	if (r == 0)
		r = copy_text(row, 8, &p->comm);
	if (r == 0)
		r = copy_text(row, 10, &p->unit);
	return r < 0 ? r : copy_text(row, 11, &p->cgroup);
}

/* *ret gets a reference; NULL where the row is not there. */
static int read_process(struct store *s, struct known **known, int64_t id, struct process **ret)
{
	_cleanup_(process_unref_p) struct process *p = NULL;
	struct binder b = sql_bind(s, STATEMENT_ADOPT_PROCESS);
	struct known *k;
	int64_t app;
	int r;

	HASH_FIND(hh, *known, &id, sizeof(id), k);
	if (k) {
		*ret = process_ref(k->process);
		return 0;
	}
	bind_int(&b, id);
	r = sql_step(s, STATEMENT_ADOPT_PROCESS);
	if (r <= 0)
		return r;
	p = process_new();
	app = sqlite3_column_int64(b.statement, 0);
	r = p ? fill_process(b.statement, p) : -ENOMEM;
	sql_reset(s, STATEMENT_ADOPT_PROCESS);
	if (r == 0)
		r = known_add(known, id, p);
	if (r < 0)
		return r;
	intern_know_process(s, p, app, id);
	*ret = TAKE_PTR(p);
	return 0;
}

/* The boottime of a wall time of this claim; the inverse of claim_wall(). */
static usec_t claim_boot(const struct claim *c, usec_t wall)
{
	if (wall == USEC_UNSET)
		return USEC_UNSET;
	return wall >= c->opened_wall ? c->opened_boot + (wall - c->opened_wall)
				      : usec_sub(c->opened_boot, c->opened_wall - wall);
}

static int read_holders(struct store *s, struct known **known, struct claim *c)
{
	struct binder b = sql_bind(s, STATEMENT_ADOPT_HOLDERS);
	struct holder holders[LIMIT_HOLDERS] = {0};
	uint32_t count = 0;
	int r;

	bind_unsigned(&b, c->id);
	while ((r = sql_step(s, STATEMENT_ADOPT_HOLDERS)) > 0 && count < LIMIT_HOLDERS) {
		struct holder *h = &holders[count];

		r = read_process(s, known, sqlite3_column_int64(b.statement, 0), &h->process);
		if (r < 0)
			break;
		if (!h->process)
			continue;
		h->from_boot = claim_boot(c, column_time(b.statement, 1));
		h->until_boot = claim_boot(c, column_time(b.statement, 2));
		count++;
	}
	sql_reset(s, STATEMENT_ADOPT_HOLDERS);
	if (r >= 0 && count > 0) {
		c->holders = calloc(count, sizeof(*c->holders));
		r = c->holders ? 0 : -ENOMEM;
	}
	if (r >= 0 && count > 0) {
		memcpy(c->holders, holders, count * sizeof(*holders));
		c->holder_count = count;
		return 0;
	}
	while (count > 0)
		process_unref(holders[--count].process);
	return r;
}

static void fill_meta(struct claim *c, int64_t meta)
{
	c->protocol = meta >> META_PROTOCOL_SHIFT & META_PROTOCOL_MASK;
	c->role = meta & META_ROLE_UNKNOWN ? ROLE_UNKNOWN
					   : (uint8_t)(meta >> META_ROLE_SHIFT & META_ROLE_MASK);
	c->attribution = (uint8_t)MIN(
		meta >> META_ATTRIBUTION_SHIFT & META_ATTRIBUTION_MASK, ATTRIBUTION_COUNT - 1);
	c->source = meta >> META_SOURCE_SHIFT & META_SOURCE_MASK;
	c->preexisting = meta >> META_PREEXISTING_SHIFT & 1;
	c->end_unseen = meta >> META_END_UNSEEN_SHIFT & 1;
}

static usec_t slack_bound(sqlite3_stmt *row, int column, usec_t time)
{
	usec_t slack = column_time(row, column);

	return slack == USEC_UNSET || time == USEC_UNSET ? USEC_UNSET
							 : usec_sub(time, slack * USEC_PER_MSEC);
}

/* An address that is not known is "". */
static int fill_local(struct claim *c, const char *text, int64_t meta)
{
	c->local_unknown = text[0] == '\0';
	if (!c->local_unknown)
		return address_parse(text, &c->local.address);
	c->local.address.family = meta >> META_FAMILY_SHIFT & 1 ? FAMILY_IPV6 : FAMILY_IPV4;
	return 0;
}

/* Columns of STATEMENT_ADOPT_LIST. */
static int fill_claim(sqlite3_stmt *row, struct claim *c)
{
	const char *local = (const char *)sqlite3_column_text(row, 12);
	int size = sqlite3_column_bytes(row, 10);

	c->id = (uint64_t)sqlite3_column_int64(row, 0);
	c->cookie = (uint64_t)sqlite3_column_int64(row, 1);
	c->netns = (uint64_t)sqlite3_column_int64(row, 13);
	c->local.port = (uint16_t)sqlite3_column_int(row, 2);
	c->opened_wall = column_time(row, 3);
	c->opened_boot = column_time(row, 4);
	c->opened_after_boot = slack_bound(row, 5, c->opened_boot);
	c->closed_boot = claim_boot(c, column_time(row, 6));
	c->closed_after_boot = slack_bound(row, 7, c->closed_boot);
	c->released_boot = USEC_UNSET;
	fill_meta(c, sqlite3_column_int64(row, 8));
	c->remote.port = (uint16_t)sqlite3_column_int(row, 9);
	if (size == 4 || size == 16) {
		c->remote.address.family = size == 4 ? FAMILY_IPV4 : FAMILY_IPV6;
		memcpy(c->remote.address.bytes, sqlite3_column_blob(row, 10), (size_t)size);
	}
	return local ? fill_local(c, local, sqlite3_column_int64(row, 8)) : -EUCLEAN;
}

static void claim_done_p(struct claim *c)
{
	claim_done(c);
}

static int adopt_row(struct store *s, struct known **known,
	int (*take)(void *context, struct claim *claim), void *context)
{
	sqlite3_stmt *row = s->statements[STATEMENT_ADOPT_LIST];
	_cleanup_(claim_done_p) struct claim claim = {0};
	int r = fill_claim(row, &claim);

	if (r == 0 && sqlite3_column_type(row, 11) != SQLITE_NULL)
		r = read_process(s, known, sqlite3_column_int64(row, 11), &claim.opener);
	if (r == 0)
		r = read_holders(s, known, &claim);
	if (r == 0)
		r = take(context, &claim);
	if (r == 0)
		memset(&claim, 0, sizeof(claim)); /* its parts are the taker's now */
	return r;
}

/* What was closed now was released at any time before. */
static int note_closed(struct store *s)
{
	int64_t first;
	int r = sql_value(s, STATEMENT_HOT_FIRST, 0, &first);

	if (r < 0)
		return r;
	s->state.hot_from = MIN(s->state.hot_from, first > 0 ? (usec_t)first : 0);
	return store_counter_set(s, COUNTER_HOT_FROM, s->state.hot_from);
}

static int close_others(struct store *s)
{
	struct binder b;
	int64_t count = 0;
	int r = store_begin(s);

	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_ADOPT_CLOSE);
	bind_blob(&b, s->boot_id, sizeof(s->boot_id));
	bind_unsigned(&b, s->state.next_hot);
	r = sql_run(s, STATEMENT_ADOPT_CLOSE);
	if (r == 0)
		count = sqlite3_changes64(s->db);
	if (r == 0 && count > 0) {
		s->state.next_hot += (uint64_t)count;
		r = store_counter_set(s, COUNTER_NEXT_HOT, s->state.next_hot);
		if (r == 0)
			r = note_closed(s);
		b = sql_bind(s, STATEMENT_ADOPT_DROP);
		bind_blob(&b, s->boot_id, sizeof(s->boot_id));
		if (r == 0)
			r = sql_run(s, STATEMENT_ADOPT_DROP);
	}
	return r < 0 ? store_fail(s, r) : store_commit_step(s);
}

int store_adopt(struct store *s, int (*take)(void *context, struct claim *claim), void *context)
{
	_cleanup_(known_done) struct known *known = NULL;
	int r = close_others(s);

	if (r < 0)
		return r;
	while ((r = sql_step(s, STATEMENT_ADOPT_LIST)) > 0) {
		r = adopt_row(s, &known, take, context);
		if (r != 0)
			break;
	}
	sql_reset(s, STATEMENT_ADOPT_LIST);
	return r;
}
