/* SPDX-License-Identifier: MIT */

/*
 * What capture remembers of each socket.
 *
 * Sockets are remembered by cookie and never by their endpoints or inode, which are reused. What
 * was told of each is not kept beside what was seen: a row is compared with the one it replaces,
 * and the difference is a mark (`changed`). So a remembered socket takes 216 bytes, 11 MB for
 * 50,000.
 *
 * A sweep strings the entries that it sees on a list, in their order. Nothing is decided before the
 * end of the sweep, since a listener may be seen after a connection that it took, and MPTCP's two
 * halves come from two tables.
 */

#include "daemon/capture/table_private.h"

/* So long, and for one sweep more at least, a connection may still turn out to be accepted: sweeps that are asked for follow each
 * other within milliseconds, and the kernel tells late of the end of a short listener. */
#define FRESH_USEC (500 * USEC_PER_MSEC)

/* ---- rows ---- */

void table_entry_free(struct table *t, struct entry *e)
{
	if (e->alias)
		e->canonical->aliases--;
	if (e->s.row.protocol == PROTOCOL_MPTCP)
		table_fold_remove(&t->folds, e);
	if (e->paired)
		table_fold_remove(&t->pairs, e);
	if (e->ended)
		table_ends_forget(t, e);
	HASH_DELETE(hh, t->sockets, e);
	free(e->s.holders);
	free(e);
}

usec_t table_entry_bound(const struct table *t, const struct entry *e)
{
	usec_t whole = t->whole_begin[e->s.row.protocol];

	if (e->seen_begin == USEC_UNSET)
		return e->preexisting ? 0 : whole;
	return e->missing ? whole : e->seen_begin;
}

/* A tenure of the port begins: remembers from when. */
static void entry_begin(const struct table *t, struct entry *e, usec_t at)
{
	usec_t bound = table_entry_bound(t, e);
	usec_t span = (usec_sub(at, bound) + USEC_PER_MSEC - 1) / USEC_PER_MSEC;

	e->first_span_msec = bound > 0 && span < SPAN_UNKNOWN ? (uint32_t)span : SPAN_UNKNOWN;
	if (!e->alias)
		e->first_at = at;
}

/* Has no whole sweep looked at this port yet? */
static bool is_first_look(const struct table *t, const struct socket_row *row)
{
	return t->whole_begin[row->protocol] == USEC_UNSET ||
	       ((t->changed & BIT(row->protocol)) &&
		       !port_ranges_contain(&t->before, row->local.port));
}

int table_entry_add(struct table *t, const struct socket_row *row, usec_t at, struct entry **ret)
{
	_cleanup_(free_p) struct entry *e = calloc(1, sizeof(*e));
	bool oom = false;

	if (!e)
		return -ENOMEM;
	e->s.row = *row;
	e->seen_begin = USEC_UNSET;
	e->mptcp = row->protocol == PROTOCOL_MPTCP;
	e->preexisting = is_first_look(t, row);
	entry_begin(t, e, at);
	HASH_ADD(hh, t->sockets, s.row.cookie, sizeof(e->s.row.cookie), e);
	if (oom)
		return -ENOMEM;
	*ret = TAKE_PTR(e);
	return 0;
}

void table_entry_update(struct table *t, struct entry *e, const struct socket_row *row, usec_t at)
{
	const struct socket_row *old = &e->s.row;

	if (row->local.port != old->local.port) {
		e->renewed = true;
		e->preexisting = false;
		e->placed = false;
		entry_begin(t, e, at);
	}
	if (!endpoint_equal(&row->local, &old->local) ||
		!endpoint_equal(&row->remote, &old->remote) ||
		(row->inode != 0 && old->inode == 0 && !e->event))
		e->changed = true;
	e->s.row = *row;
}

/* Strings it on the list of what this sweep saw. Read twice, it stays at its first place. */
static void entry_see(struct table *t, struct entry *e, usec_t at)
{
	e->seen_offset = (uint32_t)MIN(usec_sub(at, t->begin), (usec_t)UINT32_MAX);
	if (e->seen)
		return;
	e->seen = true;
	e->next = NULL;
	*t->last = e;
	t->last = &e->next;
}

int table_row(struct table *t, const struct socket_row *row, usec_t at)
{
	bool mptcp = row->protocol == PROTOCOL_MPTCP, tcp = row->protocol == PROTOCOL_TCP;
	struct entry *e = NULL;
	int r;

	t->now = MAX(t->now, at);
	HASH_FIND(hh, t->sockets, &row->cookie, sizeof(row->cookie), e);
	if (!e && row->minisock && t->hears) {
		r = table_ends_match(t, row, &e);
		if (r < 0)
			return r;
	}
	if (e) {
		if (mptcp && !table_fold_same(&e->s.row, row))
			table_fold_remove(&t->folds, e);
		table_entry_update(t, e, row, at);
	} else {
		r = table_entry_add(t, row, at, &e);
		if (r == 0 && row->minisock && t->hears)
			r = table_ends_stray(t, e);
		if (r < 0)
			return r;
		t->new_connections |= (tcp || mptcp) && has_remote(row);
	}
	entry_see(t, e, at);
	e->s.wants_holder = row->inode != 0 && !e->final && !e->alias;
	if (mptcp) {
		r = table_fold_add(&t->folds, e);
		if (r < 0)
			return r;
	} else if (tcp) {
		table_fold_subflow(t, e);
	}
	return row->state == TCP_LISTEN && !is_udp(row->protocol)
		       ? table_listeners_note(&t->listeners, row->local.port, at)
		       : 0;
}

void table_begin(struct table *t, usec_t begin)
{
	assert(!t->first);
	t->begin = begin;
	t->now = begin;
	t->new_connections = false;
	t->kept = false;
	t->sweeping = true;
}

void table_keep_connections(struct table *t)
{
	assert(table_can_keep(t));
	t->kept = true;
}

bool table_can_keep(const struct table *t)
{
	return t->stats.unsettled == 0 && t->ended_tcp == 0 && t->lingering.count == 0;
}

bool table_has_new_connections(const struct table *t)
{
	return t->new_connections || t->ended_unclear > 0;
}

/* ---- holders ---- */

size_t table_attributable(struct table *t, struct table_socket **ret, size_t max)
{
	size_t count = 0;

	for (struct entry *e = t->first; e && count < max; e = e->next)
		if (e->s.wants_holder && !e->over && !table_events_awaits(t, e) &&
			table_is_of_interest(t, e, table_role(t, e)))
			ret[count++] = &e->s;
	return count;
}

size_t table_unheld(struct table *t, struct table_socket **ret, size_t max)
{
	size_t count = 0;

	for (struct entry *e = t->first; e && count < max; e = e->next)
		if (e->s.row.inode == 0 && e->s.row.cgroup_id != 0 &&
			e->s.attribution == ATTRIBUTION_NONE &&
			table_is_of_interest(t, e, table_role(t, e)))
			ret[count++] = &e->s;
	return count;
}

size_t table_shared(struct table *t, struct table_socket **ret, size_t max)
{
	size_t count = 0;

	for (struct entry *e = t->first; e && count < max; e = e->next)
		if (e->final && e->s.opener != 0 && e->s.row.inode != 0 &&
			(e->s.attribution == ATTRIBUTION_PROCFD ||
				e->s.attribution == ATTRIBUTION_ITER ||
				e->s.attribution == ATTRIBUTION_EVENT) &&
			(e->s.role == ROLE_LISTENING || e->s.role == ROLE_BOUND))
			ret[count++] = &e->s;
	return count;
}

int table_attribute(struct table *t _unused_, struct table_socket *s, uint8_t attribution,
	uint32_t opener, const uint32_t *holders, uint32_t holder_count, uint32_t holders_dropped,
	bool final)
{
	struct entry *e = (struct entry *)s;
	size_t size = holder_count * sizeof(*holders);
	uint32_t *copy = NULL;

	assert(holder_count <= LIMIT_HOLDERS);
	e->final = final;
	s->wants_holder = !final && s->row.inode != 0;
	if (s->attribution == attribution && s->opener == opener &&
		s->holder_count == holder_count && s->holders_dropped == holders_dropped &&
		(size == 0 || memcmp(s->holders, holders, size) == 0))
		return 0;
	if (size > 0) {
		copy = malloc(size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, holders, size);
	}
	free(s->holders);
	s->holders = copy;
	s->holder_count = holder_count;
	s->holders_dropped = holders_dropped;
	s->attribution = attribution;
	s->opener = opener;
	e->changed = true;
	return 0;
}

/* ---- telling ---- */

void table_tell(
	struct telling *l, const struct entry *e, enum sighting_kind kind, usec_t at, usec_t after)
{
	struct sighting s = {
		.kind = (uint8_t)kind,
		.source = (uint8_t)l->source,
		.protocol = e->told_mptcp ? PROTOCOL_MPTCP : e->s.row.protocol,
		.role = e->s.role,
		.attribution = e->s.attribution,
		.time_wait = e->told_time_wait,
		.preexisting = e->preexisting,
		.cookie = e->s.row.cookie,
		.netns = e->netns,
		.local = e->s.row.local,
		.remote = e->s.row.remote,
		.at = at,
		.after = after,
		.expires = USEC_UNSET,
		.opener = e->s.opener,
		.holder_count = e->s.holder_count,
		.holders_dropped = e->s.holders_dropped,
		.local_unknown = l->local_unknown,
	};

	if (l->result != 0)
		return;
	if (e->s.holder_count > 0)
		memcpy(s.holders, e->s.holders, e->s.holder_count * sizeof(s.holders[0]));
	if (kind != SIGHTING_ABSENT && e->told_time_wait && !e->over)
		s.expires = at + e->s.row.expires_msec * USEC_PER_MSEC;
	l->result = l->emit(l->context, &s);
}

void table_tell_anew(struct telling *l, const struct entry *e)
{
	usec_t span = e->first_span_msec * USEC_PER_MSEC, at = e->first_at;
	enum source source = l->source;

	if (e->event && !e->told_time_wait) {
		l->source = SOURCE_EVENTS;
		table_tell(l, e, SIGHTING_PRESENT, at, USEC_UNSET);
		l->source = source;
		return;
	}
	/* what is told now was not so when it was first seen, but when it was last seen */
	if (e->told_time_wait)
		at = e->seen_begin + e->seen_offset;
	table_tell(l, e, SIGHTING_PRESENT, at,
		e->first_span_msec == SPAN_UNKNOWN ? 0 : usec_sub(e->first_at, span));
}

/* Gathers what this sweep saw of each claim, in whichever table. */
static void end_gather(struct table *t)
{
	for (struct entry *e = t->first; e; e = e->next) {
		struct entry *c = canonical_of(e);

		c->present = true;
		c->full |= !e->s.row.minisock;
		if (c->seen)
			continue;
		/* only the alias is left */
		c->seen_offset = e->seen_offset;
		c->s.row.expires_msec = e->s.row.expires_msec;
	}
}

static void end_present(struct table *t, struct entry *e, struct telling *l)
{
	enum role role = table_role(t, e);
	usec_t after = table_entry_bound(t, e);
	bool late = !e->told && !e->renewed && e->seen_begin != USEC_UNSET;
	bool news = !e->told || e->changed || e->renewed || e->missing || role != e->s.role ||
		    e->told_time_wait == e->full || e->told_mptcp != e->mptcp;
	bool awaited = table_events_awaits(t, e);

	e->handled = true;
	if (e->over)
		return;
	e->fresh = (role == ROLE_CONNECTED || role == ROLE_UNKNOWN) &&
		   (!e->placed || (e->fresh && t->begin < e->first_at + FRESH_USEC));
	e->placed = true;
	e->s.role = (uint8_t)role;
	e->told_time_wait = !e->full;
	e->told_mptcp = e->mptcp;
	e->changed = e->renewed = e->missing = false;
	e->seen_begin = t->begin;
	e->awaited = awaited;
	if (awaited || !news || !table_is_of_interest(t, e, role) || table_events_disowns(t, e))
		return;
	e->told = true;
	if (late)
		table_tell_anew(l, e);
	else
		table_tell(l, e, SIGHTING_PRESENT, t->begin + e->seen_offset, after);
}

/* When it was last known to be there: a sweep saw it, or an event told of its opening. */
static usec_t last_known(const struct entry *e)
{
	return e->seen_begin == USEC_UNSET || (e->event && e->first_at > e->seen_begin)
		       ? e->first_at
		       : e->seen_begin;
}

/* A socket that this sweep has not seen. Frees it at the second time. */
static void end_absent(
	struct table *t, struct entry *e, usec_t end, uint32_t protocols, struct telling *l)
{
	uint32_t needed = BIT(e->s.row.protocol);

	/* a folded one may have been in either table */
	if (e->mptcp)
		needed |= BIT(PROTOCOL_TCP) | BIT(PROTOCOL_MPTCP);
	if (needed & ~protocols)
		return;
	if (e->missing && e->aliases > 0)
		return;
	if (e->missing) {
		table_ends_depart(t, e);
		table_entry_free(t, e);
		return;
	}
	e->missing = true;
	if (e->told && !e->alias)
		table_tell(l, e, SIGHTING_ABSENT, end, last_known(e));
}

static bool is_connection(const struct entry *e)
{
	return !is_udp(e->s.row.protocol) && e->s.row.state != TCP_LISTEN &&
	       e->s.row.state != TCP_CLOSE;
}

/* Has this sweep, which did not read it, seen it again as it was? */
static bool is_kept(const struct table *t, const struct entry *e)
{
	return t->kept && is_connection(e);
}

static void end_unseen(
	struct table *t, struct entry *e, usec_t end, uint32_t protocols, struct telling *l)
{
	if (table_events_hides(t, e))
		return;
	if (!is_kept(t, e)) {
		end_absent(t, e, end, protocols, l);
		return;
	}
	e->seen_begin = t->begin;
	e->seen_offset = 0;
}

/* Can what is told of a connection change without the kernel counting it? */
static bool is_settled(const struct table *t, const struct entry *e)
{
	return !e->missing && !e->fresh && !e->mptcp && !e->alias && !e->awaited &&
	       (e->final || e->s.row.minisock || !table_is_of_interest(t, e, (enum role)e->s.role));
}

static void end_count(struct table *t)
{
	t->stats = (struct table_stats){0};
	for (const struct entry *e = t->sockets; e; e = e->hh.next) {
		t->stats.unsettled +=
			is_connection(e) && !e->over && e->netns == 0 && !is_settled(t, e);
		t->stats.awaited += e->awaited && !e->missing;
		if (e->alias || e->missing || e->ended || e->over)
			continue;
		t->stats.sockets++;
		if (e->s.row.inode != 0 && e->s.opener == 0 &&
			table_is_of_interest(t, e, (enum role)e->s.role))
			t->stats.unattributed++;
	}
}

int table_end(struct table *t, usec_t end, uint32_t protocols, enum source source,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = source};
	struct entry *e, *next;

	t->now = MAX(t->now, end);
	end_gather(t);
	table_ends_tell(t, protocols, &l);
	table_events_swept(t, protocols, &l);
	for (e = t->first; e; e = e->next)
		if (!canonical_of(e)->handled)
			end_present(t, canonical_of(e), &l);
	HASH_ITER (hh, t->sockets, e, next) {
		bool here = e->alias ? e->seen : e->present;

		if (e->alias && e->seen) {
			e->missing = false;
			e->seen_begin = t->begin;
		}
		/* it was told before its other half was found: that one speaks for both now */
		if (e->alias && e->told) {
			table_tell(&l, e, SIGHTING_ABSENT, end, e->seen_begin);
			e->told = false;
		}
		e->seen = e->present = e->full = e->handled = false;
		if (!here && !e->ended)
			end_unseen(t, e, end, protocols, &l);
	}
	t->sweeping = false;
	t->first = NULL;
	t->last = &t->first;
	for (unsigned p = 0; p < PROTOCOL_COUNT; p++)
		if (protocols & BIT(p)) {
			t->whole_before[p] = t->whole_begin[p];
			t->whole_begin[p] = t->begin;
			t->whole_end[p] = end;
		}
	table_ends_looked(t, end, protocols);
	if ((protocols & BIT(PROTOCOL_TCP)) && t->watched_since == USEC_UNSET)
		t->watched_since = t->begin;
	t->changed &= ~protocols;
	t->settled |= (t->expectation.protocols & ~protocols) == 0;
	end_count(t);
	return l.result;
}

int table_resync(struct table *t, enum source source,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = source};

	assert(!t->first);
	for (const struct entry *e = t->sockets; e && l.result == 0; e = e->hh.next) {
		if (!e->alias && e->told && !e->missing && !e->over)
			table_tell_anew(&l, e);
	}
	return l.result;
}

struct table_stats table_stats(const struct table *t)
{
	return t->stats;
}

void table_refs(const struct table *t, void (*visit)(void *context, uint32_t ref), void *context)
{
	for (const struct entry *e = t->sockets; e; e = e->hh.next) {
		if (e->s.opener != 0)
			visit(context, e->s.opener);
		for (uint32_t i = 0; i < e->s.holder_count; i++)
			visit(context, e->s.holders[i]);
	}
}

/* Those that are folded into another first: they name it. Not what ended before and was not told yet. */
static void forget_unwatched(struct table *t, bool aliases)
{
	struct entry *e, *next;

	HASH_ITER (hh, t->sockets, e, next) {
		if (e->alias == aliases && !(e->ended && e->seen_begin == USEC_UNSET) &&
			!port_ranges_contain(&t->ranges, canonical_of(e)->s.row.local.port))
			table_entry_free(t, e);
	}
}

void table_watch(struct table *t, const struct port_ranges *ranges, bool accepted)
{
	assert(!t->first);
	/* changed again before anybody looked: none of them is known */
	t->before = t->changed == 0 ? t->ranges : (struct port_ranges){0};
	if (memcmp(&t->ranges, ranges, sizeof(*ranges)) != 0)
		t->watched_since = USEC_UNSET;
	t->ranges = *ranges;
	t->changed = BIT(PROTOCOL_COUNT) - 1;
	t->accepted = accepted;
	forget_unwatched(t, true);
	forget_unwatched(t, false);
}

struct table *table_new(bool accepted)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->accepted = accepted;
	t->last = &t->first;
	t->ended_last = &t->ended;
	t->lingering.last = &t->lingering.first;
	t->ended_now.last = &t->ended_now.first;
	t->watched_since = USEC_UNSET;
	for (size_t p = 0; p < ELEMENTSOF(t->whole_begin); p++)
		t->whole_begin[p] = t->whole_end[p] = t->whole_before[p] = USEC_UNSET;
	return t;
}

struct table *table_free(struct table *t)
{
	struct entry *e, *next;

	if (!t)
		return NULL;
	table_fold_done(&t->folds);
	table_fold_done(&t->pairs);
	HASH_ITER (hh, t->sockets, e, next) {
		HASH_DELETE(hh, t->sockets, e);
		free(e->s.holders);
		free(e);
	}
	table_ends_done(t);
	table_events_done(t);
	table_listeners_done(&t->unused);
	table_listeners_done(&t->listeners);
	free(t);
	return NULL;
}
