/* SPDX-License-Identifier: MIT */

/*
 * The flows of a batch are near each other in time, so one look at the claims of all their ports, over all their time,
 * costs hardly more than the look for one of them; each claim is then held against the flows.
 *
 * What fits: the claim has the flow's local port and protocol, its tenure touches the flow, and what the claim knows of
 * addresses is not another. The claim that names both ends goes before one that names less (a listener, an unconnected
 * socket), which goes before none. Clocks of two programs are not one, and a last packet comes after the close: a claim
 * that names both ends may miss the flow by FLOW_SLACK; another would be a guess.
 */

#include "daemon/control/query_flows.h"

#include <stdlib.h>

#include "daemon/control/query_internal.h"
#include "daemon/schema.h"

#define FLOW_SLACK USEC_PER_SEC

const char *flow_reason_name(enum flow_reason reason)
{
	static const char *const names[FLOW_REASON_COUNT] = {
		[FLOW_FOUND] = NULL,
		[FLOW_NOBODY] = "nobody",
		[FLOW_UNWATCHED] = "unwatched-port",
		[FLOW_NOT_WATCHING] = "not-watching",
		[FLOW_EXPIRED] = "expired",
	};

	return names[reason];
}

struct stretch {
	usec_t from, until;
	struct port_ranges ranges;
	unsigned protocols;
};

struct look {
	struct flow *flows;
	size_t count;
	struct window window; /* that all of them are in */
	usec_t expired;
	usec_t remotes_until;    /* before it, remote addresses may be only networks */
	struct stretch *stretch; /* owned */
	size_t stretches;
	uint16_t *port; /* owned; ascending: those that were watched at some time */
	size_t ports;
	sqlite3_stmt *local; /* owned; an address by its id */
};

static void look_done(struct look *l)
{
	free(l->stretch);
	free(l->port);
	(void)sqlite3_finalize(l->local);
}

static void find_window(struct look *l)
{
	l->window = (struct window){WALL_FOREVER, 0};
	for (size_t i = 0; i < l->count; i++) {
		usec_t from = usec_sub(l->flows[i].from, FLOW_SLACK);

		l->window.from = MIN(l->window.from, from);
		l->window.until = MAX(l->window.until, l->flows[i].until + FLOW_SLACK + 1);
	}
}

static int read_expired(struct look *l, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(
		q, "SELECT value FROM counter WHERE name='expired_until_usec'", &statement);

	if (r == 1)
		l->expired = (usec_t)sqlite3_column_int64(statement, 0);
	return r < 0 ? r : 0;
}

static int read_stretches(struct look *l, struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT c.from_usec," SQL_WATCHED_UNTIL
		" AS watched_until,c.ranges,c.protocols FROM coverage c"
		" WHERE watched_until>=:from AND c.from_usec<:until ORDER BY c.id DESC LIMIT :max",
		&statement);

	if (r < 0)
		return r;
	l->stretch = calloc(LIMIT_RECEIPT_ROWS, sizeof(*l->stretch));
	if (!l->stretch)
		return -ENOMEM;
	query_bind(statement, ":from", (int64_t)l->window.from);
	query_bind(statement, ":until", (int64_t)l->window.until);
	query_bind(statement, ":max", LIMIT_RECEIPT_ROWS);
	while ((r = query_step(statement)) == 1)
		l->stretch[l->stretches++] = (struct stretch){
			.from = (usec_t)sqlite3_column_int64(statement, 0),
			.until = (usec_t)sqlite3_column_int64(statement, 1),
			.ranges =
				query_parse_ranges((const char *)sqlite3_column_text(statement, 2)),
			.protocols = (unsigned)sqlite3_column_int(statement, 3),
		};
	return r;
}

/* What is said of a flow that no claim fits; and whether it is worth a look. */
static enum flow_reason reason_without(const struct look *l, const struct flow *f)
{
	bool watching = false;

	if (f->until < l->expired)
		return FLOW_EXPIRED;
	for (size_t i = 0; i < l->stretches; i++) {
		const struct stretch *s = &l->stretch[i];

		if (s->from > f->until || s->until < f->from)
			continue;
		watching = true;
		for (int end = 0; end < FLOW_ENDS; end++)
			if ((s->protocols & f->protocols) &&
				port_ranges_contain(&s->ranges, f->end[end].port))
				return FLOW_NOBODY;
	}
	return watching ? FLOW_UNWATCHED : FLOW_NOT_WATCHING;
}

static int compare_ports(const void *left, const void *right)
{
	return *(const uint16_t *)left - *(const uint16_t *)right;
}

static bool ever_watched(const struct look *l, uint16_t port)
{
	for (size_t i = 0; i < l->stretches; i++)
		if (port_ranges_contain(&l->stretch[i].ranges, port))
			return true;
	return false;
}

static int collect_ports(struct look *l)
{
	size_t kept = 0;

	l->port = calloc(l->count * FLOW_ENDS, sizeof(*l->port));
	if (!l->port)
		return -ENOMEM;
	for (size_t i = 0; i < l->count * FLOW_ENDS; i++) {
		uint16_t port = l->flows[i / FLOW_ENDS].end[i % FLOW_ENDS].port;

		if (ever_watched(l, port))
			l->port[l->ports++] = port;
	}
	if (l->ports == 0)
		return 0;
	qsort(l->port, l->ports, sizeof(*l->port), compare_ports);
	for (size_t i = 0; i < l->ports; i++)
		if (kept == 0 || l->port[kept - 1] != l->port[i])
			l->port[kept++] = l->port[i];
	l->ports = kept;
	return 0;
}

/* How far the flow is from the claim's tenure; 0: it touches it. */
static usec_t distance(const struct row *row, const struct flow *f)
{
	usec_t opened = (usec_t)row->column[ROW_OPENED_USEC];
	usec_t released = row->column[ROW_RELEASED_USEC] == ROW_NULL
				  ? WALL_FOREVER
				  : (usec_t)row->column[ROW_RELEASED_USEC];
	int64_t slack = row->column[ROW_OPENED_SLACK];

	if (slack != ROW_NULL && !(row->column[ROW_META] >> META_PREEXISTING_SHIFT & 1))
		opened = usec_sub(opened, (usec_t)slack * USEC_PER_MSEC);
	if (f->until < opened)
		return opened - f->until;
	return usec_sub(f->from, released);
}

static int local_address(struct look *l, const struct row *row, struct address *ret)
{
	const char *text;
	int r;

	*ret = (struct address){0};
	(void)sqlite3_reset(l->local);
	query_bind(l->local, ":id", row->column[ROW_META] >> META_LOCAL_SHIFT & META_LOCAL_MASK);
	r = query_step(l->local);
	text = r == 1 ? (const char *)sqlite3_column_text(l->local, 0) : NULL;
	if (text && *text != '\0' && address_parse(text, ret) < 0)
		return -EUCLEAN;
	return r < 0 ? r : 0;
}

/* Of an older claim it may be that only the network is left ([Store] RemoteAddresses=): 24 or 48 bits, and zeros. */
static bool is_remote(const struct look *l, const struct row *row, const struct endpoint *e)
{
	static const uint8_t zeros[sizeof(row->raddr)];
	size_t size = row->raddr_size, network = size == 4 ? 3 : 6;
	int64_t released = row->column[ROW_RELEASED_USEC];

	if (size != address_size(&e->address) || row->column[ROW_RPORT] != e->port)
		return false;
	if (memcmp(row->raddr, e->address.bytes, size) == 0)
		return true;
	return released != ROW_NULL && (usec_t)released < l->remotes_until &&
	       memcmp(row->raddr, e->address.bytes, network) == 0 &&
	       memcmp(row->raddr + network, zeros, size - network) == 0;
}

/* Is the candidate a better fit than what is there? */
static bool fits_better(
	const struct flow *f, int end, bool exact, bool local, usec_t far, const struct row *row)
{
	if (!f->found[end] || exact != f->fit[end].exact)
		return !f->found[end] || exact;
	if (local != f->fit[end].local)
		return local;
	if (far != f->fit[end].distance)
		return far < f->fit[end].distance;
	return row->column[ROW_OPENED_USEC] > f->row[end].column[ROW_OPENED_USEC];
}

static void keep(struct flow *f, int end, bool exact, bool local, usec_t far, const struct row *row)
{
	bool better = fits_better(f, end, exact, local, far, row);
	bool as_well = f->found[end] && exact == f->fit[end].exact && local == f->fit[end].local &&
		       far == 0 && f->fit[end].distance == 0 &&
		       row->column[ROW_PROCESS] != f->row[end].column[ROW_PROCESS];

	if (as_well)
		f->others++;
	else if (better)
		f->others = 0;
	if (!better)
		return;
	f->found[end] = true;
	f->row[end] = *row;
	f->fit[end].exact = exact;
	f->fit[end].local = local;
	f->fit[end].distance = far;
}

/* Holds one claim against one end of a flow. */
static int consider(struct look *l, struct flow *f, int end, const struct row *row)
{
	const struct endpoint *here = &f->end[end], *there = &f->end[!end];
	unsigned protocol =
		(unsigned)(row->column[ROW_META] >> META_PROTOCOL_SHIFT & META_PROTOCOL_MASK);
	struct address address;
	usec_t far;
	bool exact, local;
	int r;

	if (row->column[ROW_PORT] != here->port || !(f->protocols >> protocol & 1))
		return 0;
	exact = row->raddr_size > 0;
	if (exact && !is_remote(l, row, there))
		return 0;
	far = distance(row, f);
	if (far > (exact ? FLOW_SLACK : 0))
		return 0;
	r = local_address(l, row, &address);
	if (r < 0)
		return r;
	local = address_equal(&address, &here->address);
	if (!local && address.family != FAMILY_NONE && !address_is_any(&address))
		return 0;
	keep(f, end, exact, local, far, row);
	return 0;
}

static int consider_row(struct look *l, const struct row *row)
{
	for (size_t i = 0; i < l->count; i++)
		for (int end = 0; end < FLOW_ENDS; end++) {
			int r = consider(l, &l->flows[i], end, row);

			if (r < 0)
				return r;
		}
	return 0;
}

/* The claims of some of the ports. */
static int look_at(struct look *l, struct query *q, const uint16_t *port, size_t count)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	struct question question = {.filter = FILTER_ANY, .window = l->window, .rows = ROWS_ALL};
	char *sql;
	int r;

	memcpy(question.filter.ports, port, count * sizeof(*port));
	question.filter.port_count = (unsigned)count;
	sql = sql_question(&question, SQL_UNORDERED);
	r = query_prepare(q, sql, &statement);
	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_question(statement, &question, 0, WALL_FOREVER, &PLACE_START);
	while ((r = query_step(statement)) == 1) {
		_cleanup_(rows_done) struct rows rows = {0};

		r = rows_append(&rows, statement);
		if (r == 0)
			r = consider_row(l, &rows.row[0]);
		if (r < 0)
			return r;
	}
	return r;
}

int query_flows(struct query *q, struct flow *flows, size_t count)
{
	_cleanup_(look_done) struct look l = {.flows = flows, .count = count};
	int r;

	if (count == 0)
		return 0;
	find_window(&l);
	r = read_expired(&l, q);
	if (r == 0)
		r = query_remotes_until(q, &l.remotes_until);
	if (r == 0)
		r = read_stretches(&l, q);
	if (r == 0)
		r = collect_ports(&l);
	if (r == 0)
		r = query_prepare(q, "SELECT address FROM local WHERE id=:id", &l.local);
	for (size_t i = 0; r == 0 && i < l.ports; i += LIMIT_FILTER_PORTS)
		r = look_at(&l, q, l.port + i, MIN(l.ports - i, (size_t)LIMIT_FILTER_PORTS));
	for (size_t i = 0; r == 0 && i < count; i++)
		flows[i].reason = flows[i].found[FLOW_SOURCE] || flows[i].found[FLOW_DESTINATION]
					  ? FLOW_FOUND
					  : reason_without(&l, &flows[i]);
	return r;
}
