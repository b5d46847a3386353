/* SPDX-License-Identifier: MIT */

/*
 * What is written: claims and facts as rows.
 *
 * A claim's one wall time is `opened_wall`; closed and released are kept as durations from there, in boottime, so
 * that a clock that jumps in between makes nothing negative. The bounds of what a sweep learnt are kept in
 * milliseconds, rounded away from the time that they bound: never tighter than what was known.
 */

#include "daemon/ledger/store_private.h"

#include "daemon/schema.h"

static uint64_t msec_up(usec_t usec)
{
	return usec / USEC_PER_MSEC + (usec % USEC_PER_MSEC != 0);
}

/* NULL where the time is exact. */
static void bind_slack(struct binder *b, usec_t time, usec_t after)
{
	bind_time(b, time == USEC_UNSET || after == USEC_UNSET ? USEC_UNSET
							       : msec_up(usec_sub(time, after)));
}

static void bind_closed_slack(struct binder *b, const struct claim *c)
{
	if (c->end_unseen && c->closed_boot != USEC_UNSET)
		bind_int(b, 0);
	else
		bind_slack(b, c->closed_boot, c->closed_after_boot);
}

/* Two parameters, (rport, raddr) as in the tables. */
static void bind_remote(struct binder *b, const struct endpoint *e)
{
	size_t size = address_size(&e->address);

	bind_time(b, size == 0 || e->port == 0 ? USEC_UNSET : (usec_t)e->port);
	if (size == 0)
		bind_null(b);
	else
		bind_blob(b, e->address.bytes, size);
}

static void bind_row(struct binder *b, int64_t id)
{
	bind_time(b, id == 0 ? USEC_UNSET : (usec_t)id);
}

static int64_t claim_meta(const struct claim *c, int64_t local)
{
	int64_t ipv6 = c->local.address.family == FAMILY_IPV6;
	int64_t role =
		c->role == ROLE_UNKNOWN ? META_ROLE_UNKNOWN : (int64_t)c->role << META_ROLE_SHIFT;

	assert(c->protocol < PROTOCOL_COUNT && c->role < ROLE_COUNT);
	assert(local <= META_LOCAL_MASK);
	assert(c->attribution < ATTRIBUTION_COUNT && c->source < SOURCE_COUNT);
	return (int64_t)c->protocol << META_PROTOCOL_SHIFT | ipv6 << META_FAMILY_SHIFT | role |
	       (int64_t)c->attribution << META_ATTRIBUTION_SHIFT |
	       (int64_t)c->source << META_SOURCE_SHIFT |
	       (int64_t)c->preexisting << META_PREEXISTING_SHIFT |
	       (int64_t)c->end_unseen << META_END_UNSEEN_SHIFT | local << META_LOCAL_SHIFT;
}

static int put_holders(struct store *s, const struct claim *c)
{
	for (uint32_t i = 0; i < c->holder_count; i++) {
		const struct holder *h = &c->holders[i];
		struct binder b;
		int64_t process;
		int r = intern_process(s, h->process, c->opened_wall, &process);

		if (r < 0)
			return r;
		b = sql_bind(s, STATEMENT_HOLDER_PUT);
		bind_unsigned(&b, c->id);
		bind_int(&b, i);
		bind_int(&b, process);
		bind_time(&b, claim_wall(c, h->from_boot));
		bind_time(&b, claim_wall(c, h->until_boot));
		r = sql_run(s, STATEMENT_HOLDER_PUT);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The rows that a claim's row refers to. */
static int put_references(struct store *s, struct claim *c, int64_t *ret_meta, int64_t *ret_process)
{
	const struct address unknown = {.family = FAMILY_NONE};
	int64_t local;
	int r = intern_local(s, c->netns, c->local_unknown ? &unknown : &c->local.address, &local);

	if (r >= 0)
		r = intern_process(s, c->opener, c->opened_wall, ret_process);
	if (r >= 0)
		r = put_holders(s, c);
	if (r >= 0)
		*ret_meta = claim_meta(c, local);
	return r;
}

static void bind_open(
	struct store *s, enum statement which, const struct claim *c, int64_t meta, int64_t process)
{
	struct binder b = sql_bind(s, which);

	bind_unsigned(&b, c->id);
	bind_int(&b, s->session);
	bind_unsigned(&b, c->cookie);
	bind_int(&b, c->local.port);
	bind_time(&b, c->opened_wall);
	bind_time(&b, c->opened_boot);
	bind_slack(&b, c->opened_boot, c->opened_after_boot);
	bind_time(&b, claim_wall(c, c->closed_boot));
	bind_closed_slack(&b, c);
	bind_int(&b, meta);
	bind_remote(&b, &c->remote);
	bind_row(&b, process);
}

static int put_open(struct store *s, struct claim *c)
{
	int64_t meta, process;
	int r = put_references(s, c, &meta, &process);

	if (r < 0)
		return r;
	if (c->id <= s->state.highest_open) { /* it may be there */
		bind_open(s, STATEMENT_OPEN_SET, c, meta, process);
		r = sql_run(s, STATEMENT_OPEN_SET);
		if (r < 0 || sqlite3_changes64(s->db) > 0)
			return r;
	}
	s->state.highest_open = MAX(s->state.highest_open, c->id);
	s->state.recorded++;
	bind_open(s, STATEMENT_OPEN_ADD, c, meta, process);
	return sql_run(s, STATEMENT_OPEN_ADD);
}

/* Readers who ask about what was long before leave claim_hot alone. Some earlier than it is, so that what comes a little out of order
 * is not written down each time. */
static int note_released(struct store *s, usec_t released)
{
	if (released >= s->state.hot_from)
		return 0;
	s->state.hot_from = usec_sub(released, USEC_PER_MINUTE);
	return store_counter_set(s, COUNTER_HOT_FROM, s->state.hot_from);
}

static int put_hot(struct store *s, const struct claim *c, int64_t meta, int64_t process)
{
	usec_t linger = usec_sub(c->released_boot, c->closed_boot);
	struct binder b = sql_bind(s, STATEMENT_HOT_ADD);
	int r;

	assert(c->closed_boot != USEC_UNSET && c->released_boot != USEC_UNSET);
	bind_unsigned(&b, s->state.next_hot);
	bind_unsigned(&b, c->id);
	bind_int(&b, c->holder_count > 0);
	bind_int(&b, c->local.port);
	bind_time(&b, c->opened_wall);
	bind_unsigned(&b, usec_sub(c->closed_boot, c->opened_boot));
	bind_slack(&b, c->opened_boot, c->opened_after_boot);
	bind_closed_slack(&b, c);
	bind_time(&b, linger == 0 ? USEC_UNSET : msec_up(linger));
	bind_int(&b, meta);
	bind_remote(&b, &c->remote);
	bind_row(&b, process);
	r = sql_run(s, STATEMENT_HOT_ADD);
	return r == 0 ? note_released(
				s, c->opened_wall + usec_sub(c->released_boot, c->opened_boot))
		      : r;
}

static int put_released(struct store *s, struct claim *c)
{
	struct binder b;
	int64_t meta, process;
	int r = put_references(s, c, &meta, &process);

	if (r == 0)
		r = put_hot(s, c, meta, process);
	if (r < 0)
		return r;
	s->state.next_hot++;
	if (c->id >
		s->state.highest_open) { /* opened since the last commit: it was never in claim_open */
		s->state.recorded++;
		return 0;
	}
	b = sql_bind(s, STATEMENT_OPEN_DROP);
	bind_unsigned(&b, c->id);
	r = sql_run(s, STATEMENT_OPEN_DROP);
	if (r == 0 && sqlite3_changes64(s->db) == 0)
		s->state.recorded++;
	return r;
}

void store_number(struct store *s, struct claim *claim)
{
	claim->id = s->next_claim++;
}

int store_put_open(struct store *s, struct claim *claim)
{
	int r = store_begin(s);

	assert(claim->id != 0);
	if (r < 0)
		return r;
	r = put_open(s, claim);
	return r < 0 ? store_fail(s, r) : 0;
}

int store_put_released(struct store *s, struct claim *claim)
{
	int r = store_begin(s);

	assert(claim->id != 0);
	if (r < 0)
		return r;
	r = put_released(s, claim);
	return r < 0 ? store_fail(s, r) : 0;
}

int store_put_coverage(struct store *s, const struct coverage *c, usec_t from_wall)
{
	char ranges[PORT_RANGES_TEXT_MAX];
	struct binder b;
	int r = store_begin(s);

	if (r < 0)
		return r;
	r = store_settle_coverage(s);
	if (r < 0)
		return store_fail(s, r);
	port_ranges_format(&c->ranges, ranges);
	b = sql_bind(s, STATEMENT_COVERAGE_ADD);
	bind_int(&b, s->session);
	bind_time(&b, from_wall);
	bind_int(&b, c->rung);
	bind_time(&b, c->interval_usec);
	bind_text(&b, ranges);
	bind_int(&b, c->ephemeral.low);
	bind_int(&b, c->ephemeral.high);
	bind_int(&b, c->protocols);
	bind_int(&b, c->bound_only);
	bind_int(&b, c->accepted);
	bind_int(&b, c->foreign_processes);
	bind_int(&b, c->netns_all);
	bind_int(&b, c->udp_connect);
	bind_int(&b, c->failures);
	r = sql_run(s, STATEMENT_COVERAGE_ADD);
	if (r < 0)
		return store_fail(s, r);
	s->state.coverage = sqlite3_last_insert_rowid(s->db);
	return 0;
}

int rows_extend_gap(struct store *s, usec_t from_wall, usec_t until_wall, const char *reason,
	uint64_t lost, usec_t most)
{
	struct binder b = sql_bind(s, STATEMENT_GAP_EXTEND);
	int r;

	bind_time(&b, from_wall);
	bind_time(&b, until_wall);
	bind_text(&b, reason);
	bind_unsigned(&b, lost);
	bind_time(&b, most);
	bind_time(&b, LIMIT_TOUCH_USEC);
	r = sql_run(s, STATEMENT_GAP_EXTEND);
	return r < 0 ? r : sqlite3_changes64(s->db) > 0;
}

int rows_add_gap(
	struct store *s, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	struct binder b = sql_bind(s, STATEMENT_GAP_ADD);

	bind_time(&b, from_wall);
	bind_time(&b, until_wall);
	bind_text(&b, reason);
	if (lost == LOST_UNKNOWN)
		bind_null(&b);
	else
		bind_unsigned(&b, lost);
	return sql_run(s, STATEMENT_GAP_ADD);
}

int store_put_gap(
	struct store *s, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	int r = store_begin(s);

	if (r < 0)
		return r;
	if (lost != LOST_UNKNOWN)
		r = rows_extend_gap(s, from_wall, until_wall, reason, lost, LIMIT_GAP_USEC);
	if (r == 0)
		r = rows_add_gap(s, from_wall, until_wall, reason, lost);
	return r < 0 ? store_fail(s, r) : 0;
}

int store_put_clock_step(struct store *s, usec_t at_wall, int64_t by_usec)
{
	struct binder b;
	int r = store_begin(s);

	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_CLOCK_STEP_ADD);
	bind_time(&b, at_wall);
	bind_int(&b, by_usec);
	r = sql_run(s, STATEMENT_CLOCK_STEP_ADD);
	return r < 0 ? store_fail(s, r) : 0;
}

int store_put_netns(struct store *s, const struct netns *n)
{
	int64_t id;
	int r = store_begin(s);

	if (r < 0)
		return r;
	r = intern_netns(s, n->cookie, n, &id);
	return r < 0 ? store_fail(s, r) : 0;
}

/* A process that a failure names is kept as long as the failure, like one of a claim. */
static int put_process(struct store *s, struct process *p, usec_t when, int64_t *ret)
{
	struct binder b;
	int r = intern_process(s, p, when, ret);

	if (r < 0 || *ret == 0)
		return r;
	b = sql_bind(s, STATEMENT_PROCESS_SEEN);
	bind_int(&b, *ret);
	bind_time(&b, when);
	bind_time(&b, when + s->state.process_margin);
	return sql_run(s, STATEMENT_PROCESS_SEEN);
}

static int64_t failure_meta(const struct failure *f, int64_t local)
{
	const struct claim like = {.protocol = f->protocol, .local = f->local};

	return claim_meta(&like, local);
}

static int64_t holder_meta(const struct store_failure *f)
{
	const struct claim like = {.role = f->holder_role, .attribution = f->holder_attribution};

	return claim_meta(&like, 0);
}

static int put_failure(struct store *s, const struct store_failure *f)
{
	const struct failure *told = &f->failure;
	struct binder b;
	int64_t local, process, holder;
	int r = intern_local(s, told->netns, &told->local.address, &local);

	if (r >= 0)
		r = put_process(s, f->process, f->at_wall, &process);
	if (r >= 0)
		r = put_process(s, f->holder, f->at_wall, &holder);
	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_FAILURE_ADD);
	bind_time(&b, f->at_wall);
	bind_row(&b, told->local.port);
	bind_int(&b, failure_meta(told, local));
	bind_int(&b, told->error);
	bind_int(&b, told->call);
	bind_remote(&b, told->call == FAILURE_BIND ? &f->holder_remote : &told->remote);
	bind_row(&b, process);
	bind_row(&b, holder);
	if (f->held) {
		bind_int(&b, holder_meta(f));
		bind_time(&b, f->holder_opened_wall);
	} else {
		bind_null(&b);
		bind_null(&b);
	}
	return sql_run(s, STATEMENT_FAILURE_ADD);
}

int store_put_failure(struct store *s, const struct store_failure *f)
{
	int r = store_begin(s);

	if (r < 0)
		return r;
	r = put_failure(s, f);
	return r < 0 ? store_fail(s, r) : 0;
}

int store_put_failures_left_out(
	struct store *s, usec_t from_wall, usec_t until_wall, uint64_t count)
{
	struct binder b;
	int r = store_begin(s);

	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_LEFT_OUT_ADD);
	bind_time(&b, from_wall);
	bind_time(&b, until_wall);
	bind_unsigned(&b, count);
	r = sql_run(s, STATEMENT_LEFT_OUT_ADD);
	return r < 0 ? store_fail(s, r) : 0;
}
