/* SPDX-License-Identifier: MIT */

#include "daemon/control/query_pressure.h"

#define OPENERS_MAX  3u /* that are told of a group */
#define BOUND_CLAIMS 8u /* from so many on, their parity is no chance: 2^-8 */
#define BOUND_TENTHS 9u /* of the claims of a destination */

static int by_claims(struct opener *a, struct opener *b)
{
	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return a->app < b->app ? -1 : a->app > b->app;
}

static int append_openers(struct group *g, sqlite3_stmt *app, struct buf *out)
{
	struct opener *o, *next;
	unsigned count = 0;
	int r = buf_append_string(out, ",\"openers\":[");

	HASH_SORT(g->openers, by_claims);
	HASH_ITER (hh, g->openers, o, next) {
		const char *text;

		if (r < 0 || count == OPENERS_MAX)
			break;
		(void)sqlite3_reset(app);
		query_bind(app, ":app", o->app);
		query_bind(app, ":claims", (int64_t)o->claims);
		r = query_step(app);
		if (r < 0)
			return r;
		text = (const char *)sqlite3_column_text(app, 0);
		if (!text)
			return -ENOMEM;
		r = buf_append_format(out, "%s%s", count++ ? "," : "", text);
	}
	return r == 0 ? buf_append_string(out, "]}") : r;
}

/* When it is full at the rate of the window; USEC_UNSET: it is, or not within a year, or the window is too short to tell. */
static usec_t full_at(const struct pressure *p, const struct group *g, usec_t since)
{
	uint64_t grown = g->used > g->at_start ? g->used - g->at_start : 0;
	uint64_t left = g->available > g->used ? g->available - g->used : 0;
	usec_t length = usec_sub(p->window.until, since);
	double wait;

	if (grown == 0 || left == 0 || length < USEC_PER_SEC)
		return USEC_UNSET;
	wait = (double)length / (double)grown * (double)left;
	return wait < (double)(365 * USEC_PER_DAY) ? p->window.until + (usec_t)wait : USEC_UNSET;
}

static int append_numbers(
	const struct pressure *p, const struct group *g, usec_t since, struct buf *out)
{
	usec_t full = full_at(p, g, since);
	uint64_t parities = g->own_parity + g->other_parity;
	bool bound = g->key.destination && g->other_parity >= BOUND_CLAIMS &&
		     g->other_parity * 10 >= parities * BOUND_TENTHS;
	int r = buf_append_format(out,
		",\"low\":%u,\"high\":%u,\"available\":%u,\"used\":%llu,\"time_wait\":%llu,"
		"\"peak\":%llu,\"peak_usec\":%llu,\"peak_time_wait\":%llu,\"claims\":%llu,"
		"\"grown\":%lld,\"bound_first\":%s,\"full_usec\":",
		g->range.low, g->range.high, g->available, (unsigned long long)g->used,
		(unsigned long long)g->waiting, (unsigned long long)g->peak,
		(unsigned long long)g->peak_at, (unsigned long long)g->peak_waiting,
		(unsigned long long)g->claims, (long long)g->used - (long long)g->at_start,
		bound ? "true" : "false");

	if (r < 0)
		return r;
	return full == USEC_UNSET ? buf_append_string(out, "null")
				  : buf_append_format(out, "%llu", (unsigned long long)full);
}

/* Which namespace, source and destination: the head of an object. */
static int append_place(const struct group *g, sqlite3_stmt *place, struct buf *out)
{
	const char *text;
	int r;

	(void)sqlite3_reset(place);
	query_bind(place, ":netns", g->netns);
	query_bind(place, ":local", g->key.destination ? g->key.place : 0);
	query_bind_text(place, ":scope", g->key.destination ? "destination" : "namespace");
	query_bind_text(place, ":protocol", protocol_name((enum protocol)g->key.protocol));
	query_bind_blob(place, ":remote", g->key.remote, g->key.remote_size);
	query_bind(place, ":remote_port", g->key.remote_port);
	r = query_step(place);
	if (r < 0)
		return r;
	text = (const char *)sqlite3_column_text(place, 0);
	if (!text)
		return -ENOMEM;
	r = buf_append_string(out, text);
	if (r == 0)
		buf_truncate(out, buf_size(out) - 1); /* the object goes on */
	return r;
}

#define PLACE_JSON                                                                                 \
	"SELECT json_object('scope',:scope,'protocol',:protocol,'netns',nullif(n.inode,0),"        \
	"'netns_name',n.name,'local_address',nullif(l.address,''),'remote_address',"               \
	"address_text(:remote),'remote_port',nullif(:remote_port,-1))"                             \
	" FROM (SELECT 1) LEFT JOIN netns n ON n.id=:netns LEFT JOIN local l ON l.id=:local"
#define OPENER_JSON                                                                                \
	"SELECT json_object('comm',a.comm,'exe',a.exe,'unit',a.unit,'uid',a.uid,'claims',:claims)" \
	" FROM (SELECT 1) LEFT JOIN app a ON a.id=:app"

int pressure_tell(struct pressure *p, struct query *q, usec_t since, struct buf *out)
{
	_cleanup_(stmt_p) sqlite3_stmt *place = NULL, *opener = NULL;
	int r = query_prepare(q, PLACE_JSON, &place);

	if (r == 0)
		r = query_prepare(q, OPENER_JSON, &opener);
	if (r == 0)
		r = buf_append_string(out, "\"pressure\":[");
	for (size_t i = 0; i < p->listed_count && r == 0; i++) {
		struct group *g = p->listed[i];

		if (i > 0)
			r = buf_append_string(out, ",");
		if (r == 0)
			r = append_place(g, place, out);
		if (r == 0)
			r = append_numbers(p, g, since, out);
		if (r == 0)
			r = append_openers(g, opener, out);
	}
	if (r == 0)
		r = buf_append_format(out, "],\"omitted\":%llu,\"least_peak\":",
			(unsigned long long)(p->omitted + p->dropped));
	if (r < 0)
		return r;
	return p->dropped > 0 ? buf_append_format(out, "%llu", (unsigned long long)p->least)
			      : buf_append_string(out, "null");
}
