/* SPDX-License-Identifier: MIT */

/*
 * An event says who made a claim, when, and when it ended. So it is told at once, and what is left to the sweeps is what no
 * event says: that a connection is MPTCP's, and whether a TIME_WAIT remainder holds the port still.
 *
 * Sweeps and events meet in one table, by cookie. Either may be first: an event that a sweep was too late to miss
 * makes a claim of what was seen and not told yet; a row that no event explains waits for a second sweep, since the kernel
 * shows a socket a moment before it tells of it. A row of a socket whose end was told is an old one: it was read before, or in
 * the moment between the kernel's word and its deed. So what ended is remembered a little longer.
 *
 * Sockets of other network namespaces are in the table too. No sweep sees them, so only an event ends them, and
 * whether a remainder lingers there is not known: their ports count as free at the close.
 */

#include "daemon/capture/table_private.h"

/* So long after it told of an end, the kernel may still show the socket: some microseconds, or as long as whoever closes it
 * has to wait for a processor. */
#define SHOWN_USEC USEC_PER_SEC

static struct entry *find(const struct table *t, uint64_t cookie)
{
	struct entry *e;

	HASH_FIND(hh, t->sockets, &cookie, sizeof(cookie), e);
	return e;
}

static int push(struct waitings *w, uint64_t cookie, usec_t at)
{
	struct waiting *new = malloc(sizeof(*new));

	if (!new)
		return -ENOMEM;
	*new = (struct waiting){.cookie = cookie, .at = at};
	*w->last = new;
	w->last = &new->next;
	w->count++;
	return 0;
}

/* Takes the one that `at` points to out of the list. */
static void drop(struct waitings *w, struct waiting **at)
{
	struct waiting *gone = *at;

	*at = gone->next;
	if (w->last == &gone->next)
		w->last = at;
	w->count--;
	free(gone);
}

void table_events_done(struct table *t)
{
	while (t->lingering.first)
		drop(&t->lingering, &t->lingering.first);
	while (t->ended_now.first)
		drop(&t->ended_now, &t->ended_now.first);
}

void table_expect(struct table *t, const struct table_expectation *expectation)
{
	t->expects = true;
	t->expectation = *expectation;
}

bool table_events_awaits(const struct table *t, const struct entry *e)
{
	const struct socket_row *row = &e->s.row;
	/* its subflow ended between the two tables' turns, and is what events told of */
	bool halved = row->protocol == PROTOCOL_MPTCP && e->aliases == 0;

	if (!t->expects || e->event || e->told || e->seen_begin != USEC_UNSET ||
		(e->preexisting && !halved))
		return false;
	return t->expectation.udp_connect || !is_udp(row->protocol) || !has_remote(row);
}

/*
 * There was a socket with a descriptor before, and events tell of all of those: it has ended already (MPTCP's own lives longer
 * than the one that the events name), or it had no room in the ring, and its end neither, so that the kernel side has
 * counted it. A claim of what is left of it would be one too many, and nobody's.
 */
bool table_events_disowns(const struct table *t, const struct entry *e)
{
	if (!t->expects || e->event || e->told)
		return false;
	if (e->preexisting)
		return t->expectation.goes_on && e->s.row.protocol == PROTOCOL_MPTCP &&
		       e->aliases == 0 && e->s.row.inode == 0;
	return !e->full || e->s.row.inode == 0;
}

/* What a sweep would show of it where it shows bound-only TCP. */
static bool is_only_bound(const struct entry *e)
{
	return e->s.row.protocol == PROTOCOL_TCP && e->s.row.state == TCP_CLOSE;
}

bool table_events_hides(const struct table *t, const struct entry *e)
{
	if (!t->expects || e->alias)
		return false;
	if (e->over || e->netns != 0)
		return true;
	/* made while the sweep was running, it may have come to its place too late */
	return e->event &&
	       (e->first_at >= t->begin || !(t->expectation.protocols & BIT(e->s.row.protocol)) ||
		       (is_only_bound(e) && !t->expectation.bound_only));
}

/* As a sweep would show it. */
static struct socket_row row_of(const struct event_seen *seen)
{
	struct socket_row row = {
		.cookie = seen->cookie,
		.cgroup_id = seen->cgroup_id,
		/* the cookie is that of the subflow */
		.protocol = seen->protocol == PROTOCOL_MPTCP ? PROTOCOL_TCP : seen->protocol,
		.state = seen->role == ROLE_LISTENING ? TCP_LISTEN
			 : seen->role == ROLE_BOUND   ? TCP_CLOSE
						      : TCP_ESTABLISHED,
		.local = seen->local,
		.remote = seen->remote,
	};

	return row;
}

/* Takes over what it shows, and keeps what only a sweep does. An MPTCP socket is not the one that the event names. */
static void take_row(struct entry *e, const struct event_seen *seen)
{
	struct socket_row row = row_of(seen), *old = &e->s.row;

	if (old->protocol == PROTOCOL_MPTCP)
		return;
	row.inode = old->inode;
	row.uid = old->uid;
	row.cgroup_id = old->cgroup_id ? old->cgroup_id : row.cgroup_id;
	*old = row;
	e->mptcp |= seen->protocol == PROTOCOL_MPTCP;
}

/* A tenure that an event tells of begins. */
static void begin_tenure(struct table *t, struct entry *e, const struct event_seen *seen, usec_t at)
{
	take_row(e, seen);
	e->netns = seen->netns == t->expectation.netns ? 0 : seen->netns;
	e->first_at = at;
	e->first_span_msec = 0;
	e->s.role = seen->role;
	e->event = e->placed = true;
	e->over = e->preexisting = e->awaited = e->missing = e->fresh = false;
	e->told_time_wait = false;
}

static int set_who(struct table *t, struct entry *e, const struct table_who *who)
{
	if (who->opener == 0 && e->s.opener != 0)
		return 0;
	return table_attribute(t, &e->s, who->attribution, who->opener, who->holders,
		who->holder_count, who->holders_dropped, who->opener != 0);
}

/* When it was there, and when it was not yet, or USEC_UNSET: it was made just then. */
static usec_t opening(const struct table *t, const struct event_seen *seen, usec_t *ret_after)
{
	uint8_t protocol = row_of(seen).protocol;
	bool own = seen->netns == t->expectation.netns;

	*ret_after = USEC_UNSET;
	if (seen->at != USEC_UNSET)
		return seen->at;
	/* only its end is known: the last sweep that ended before has not seen it */
	*ret_after = own && t->whole_end[protocol] != USEC_UNSET &&
				     t->whole_end[protocol] <= seen->closed
			     ? t->whole_begin[protocol]
			     : 0;
	return seen->closed;
}

static void tell_present(
	struct table *t, struct entry *e, struct telling *l, usec_t at, usec_t after)
{
	e->changed = e->renewed = false;
	if (!table_is_of_interest(t, e, (enum role)e->s.role))
		return;
	e->told = true;
	e->told_mptcp = e->mptcp;
	table_tell(l, e, SIGHTING_PRESENT, at, after);
}

/* The second hook that the kernel called for one tenure may show more than the first, never less. */
static int tell_more(struct table *t, struct entry *e, const struct event_seen *seen,
	const struct table_who *who, usec_t at, struct telling *l)
{
	bool less = seen->role == ROLE_BOUND && e->s.role != ROLE_BOUND;
	bool same = seen->role == e->s.role && endpoint_equal(&seen->remote, &e->s.row.remote) &&
		    endpoint_equal(&seen->local, &e->s.row.local);
	bool named = e->s.opener == 0 && who->opener != 0;
	int r = named ? set_who(t, e, who) : 0;

	if (r < 0 || (!named && (less || same)))
		return r;
	if (!less) {
		take_row(e, seen);
		e->s.role = seen->role;
	}
	tell_present(t, e, l, at, USEC_UNSET);
	return l->result;
}

/* A sweep has seen its MPTCP socket first, and told nothing yet: the one that the event names stands for both. */
static struct entry *lead(struct entry *e)
{
	struct entry *m = e->canonical;

	if (m->told || m->aliases > 1)
		return m;
	m->aliases--;
	e->alias = false;
	e->mptcp = m->alias = true;
	m->canonical = e;
	m->s.wants_holder = false;
	e->aliases++;
	return e;
}

static int add(struct table *t, const struct event_seen *seen, usec_t at, struct entry **ret)
{
	struct socket_row row = row_of(seen);

	return table_entry_add(t, &row, at, ret);
}

int table_event_claim(struct table *t, const struct event_seen *seen, const struct table_who *who,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = SOURCE_EVENTS};
	struct entry *e = find(t, seen->cookie);
	usec_t after, at = opening(t, seen, &after);
	bool fresh = !e, undated = seen->at == USEC_UNSET;
	int r = 0;

	if (!fresh && undated && !e->over)
		return 0; /* more is known of its opening */
	if (fresh)
		r = add(t, seen, at, &e);
	if (r < 0)
		return r;
	if (e->alias)
		e = lead(e);
	if (e->over && at <= e->closed)
		return 0; /* told before its end, by one of two processors */
	if (e->event && !e->over && seen->local.port == e->s.row.local.port)
		return tell_more(t, e, seen, who, at, &l);
	r = set_who(t, e, who);
	if (r < 0) {
		if (fresh)
			table_entry_free(t, e);
		return r;
	}
	begin_tenure(t, e, seen, at);
	e->preexisting = undated; /* older than the hooks */
	tell_present(t, e, &l, at, after);
	return l.result;
}

/* Of a socket of which only its cookie is known. */
static void tell_unknown(struct telling *l, struct sighting s)
{
	s.source = SOURCE_EVENTS;
	s.role = ROLE_UNKNOWN;
	s.expires = USEC_UNSET;
	if (l->result == 0)
		l->result = l->emit(l->context, &s);
}

/* Before the first whole sweep, nobody but the ledger knows what was open. */
static int end_unknown(struct table *t, const struct event_seen *seen, struct telling *l)
{
	bool lingers = seen->lingers && (seen->netns == 0 || seen->netns == t->expectation.netns);
	int r;

	if (t->settled)
		return 0;
	r = lingers ? push(&t->lingering, seen->cookie, seen->closed) : 0;
	if (r < 0)
		return r;
	tell_unknown(l, (struct sighting){
				.kind = SIGHTING_CLOSED,
				.cookie = seen->cookie,
				.time_wait = lingers,
				.at = seen->closed,
				.after = seen->by_then ? 0 : USEC_UNSET,
			});
	return l->result;
}

/* When it was there for certain. */
static usec_t last_known(const struct entry *e)
{
	return e->seen_begin == USEC_UNSET ? e->first_at : MAX(e->first_at, e->seen_begin);
}

int table_event_end(struct table *t, const struct event_seen *seen,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = SOURCE_EVENTS};
	struct entry *e = find(t, seen->cookie);
	bool lingers;
	int r;

	if (!e)
		return end_unknown(t, seen, &l);
	/* a subflow whose MPTCP socket a sweep has told: the sweeps tell of both */
	if (e->over || e->alias)
		return 0;
	lingers = seen->lingers && e->netns == 0;
	r = push(lingers ? &t->lingering : &t->ended_now, seen->cookie, seen->closed);
	if (r < 0)
		return r;
	e->over = true;
	e->closed = seen->closed;
	e->awaited = e->s.wants_holder = false;
	e->told_time_wait = lingers;
	if (e->told)
		table_tell(&l, e, SIGHTING_CLOSED, e->closed,
			seen->by_then ? last_known(e) : USEC_UNSET);
	return l.result;
}

int table_event_holder(struct table *t, const struct event_seen *seen, uint32_t ref,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = SOURCE_EVENTS};
	struct entry *e = find(t, seen->cookie);
	uint32_t holders[LIMIT_HOLDERS];
	uint32_t count;
	int r;

	if (!e || e->over)
		return 0;
	e = canonical_of(e);
	if (e->s.opener == 0) {
		r = table_attribute(t, &e->s, ATTRIBUTION_EVENT, ref, NULL, 0, 0, true);
	} else {
		count = e->s.holder_count;
		for (uint32_t i = 0; i < count; i++)
			if (e->s.holders[i] == ref)
				return 0;
		if (e->s.opener == ref || count == LIMIT_HOLDERS)
			return 0;
		if (count > 0)
			memcpy(holders, e->s.holders, count * sizeof(holders[0]));
		holders[count++] = ref;
		r = table_attribute(t, &e->s, e->s.attribution, e->s.opener, holders, count,
			e->s.holders_dropped, true);
	}
	if (r < 0 || !e->told)
		return r;
	tell_present(t, e, &l, seen->at, USEC_UNSET);
	return l.result;
}

bool table_event_is_past(const struct table *t, const struct event_seen *seen)
{
	usec_t at = seen->closed != USEC_UNSET ? seen->closed : seen->at;
	const struct entry *e = find(t, seen->cookie);

	return e && e->event && (at < e->first_at || (e->over && at <= e->closed));
}

static void shown(struct entry *e, usec_t at)
{
	e->seen_begin = at;
	e->unshown = false;
}

/* Has an event told of the TCP socket that this MPTCP socket connects by? Rare, and there are few: all are looked at. Whoever has the
 * one has the other. */
static bool is_led(struct table *t, const struct event_seen *seen, usec_t at)
{
	if (seen->protocol != PROTOCOL_MPTCP)
		return false;
	for (struct entry *e = t->sockets; e; e = e->hh.next) {
		if (!e->mptcp || e->netns != seen->netns ||
			!endpoint_equal(&e->s.row.local, &seen->local) ||
			!endpoint_equal(&e->s.row.remote, &seen->remote))
			continue;
		shown(e, at);
		return true;
	}
	return false;
}

int table_event_found(struct table *t, const struct event_seen *seen, usec_t at, usec_t after,
	const struct table_who *who, int (*emit)(void *context, const struct sighting *s),
	void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = SOURCE_SWEEP};
	struct entry *e = NULL;
	int r;

	if (find(t, seen->cookie) || is_led(t, seen, at))
		return 0;
	r = add(t, seen, at, &e);
	if (r < 0)
		return r;
	r = set_who(t, e, who);
	if (r < 0) {
		table_entry_free(t, e);
		return r;
	}
	begin_tenure(t, e, seen, at);
	e->event = false;
	e->seen_begin = at;
	e->first_span_msec = SPAN_UNKNOWN;
	e->preexisting = after == 0;
	tell_present(t, e, &l, at, after);
	return l.result;
}

bool table_event_knows(const struct table *t, uint64_t cookie)
{
	return find(t, cookie) != NULL;
}

bool table_event_shown(struct table *t, uint64_t cookie, usec_t at)
{
	struct entry *e = find(t, cookie);

	if (e && e->netns != 0)
		shown(e, at);
	return e != NULL;
}

/* Of one that a snapshot has not shown. */
static bool has_ended(struct entry *e, enum table_untold untold)
{
	bool again = e->unshown;

	if (!e->event)
		return true;
	e->unshown = untold == TABLE_UNTOLD_SOME && e->s.row.protocol == PROTOCOL_TCP;
	return untold == TABLE_UNTOLD_LOST || (e->unshown && again);
}

int table_event_missed(struct table *t, usec_t at, enum table_untold untold,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = SOURCE_SWEEP};
	struct entry *e, *next;

	HASH_ITER (hh, t->sockets, e, next) {
		bool is_shown = e->seen_begin != USEC_UNSET && e->seen_begin >= at;

		if (e->netns == 0 || e->over || is_shown || e->first_at >= at ||
			!has_ended(e, untold))
			continue;
		if (e->told)
			table_tell(&l, e, SIGHTING_CLOSED, at, last_known(e));
		table_entry_free(t, e);
	}
	return l.result;
}

/* The entry that a waiting end is of; NULL: it was forgotten, or has another tenure by now. */
static struct entry *entry_of(const struct table *t, const struct waiting *w)
{
	struct entry *e = find(t, w->cookie);

	return e && e->over && e->closed == w->at ? e : NULL;
}

void table_event_forget(struct table *t, usec_t now)
{
	size_t count = t->ended_now.count;

	while (!t->sweeping && count-- > 0) {
		struct waiting *w = t->ended_now.first;
		struct entry *e = entry_of(t, w);

		if (w->at + SHOWN_USEC > now && t->ended_now.count <= LIMIT_ENDS)
			return;
		/* its MPTCP socket is there still, and must not become a claim of its own */
		if (e && e->aliases > 0 && push(&t->ended_now, w->cookie, w->at) == 0)
			e = NULL;
		if (e && e->aliases == 0)
			table_entry_free(t, e);
		drop(&t->ended_now, &t->ended_now.first);
	}
}

size_t table_event_lingering(const struct table *t)
{
	return t->lingering.count;
}

/* What this sweep says of what may be left. False: nothing yet. */
static bool settle(struct table *t, const struct waiting *w, struct telling *l)
{
	struct entry *e = entry_of(t, w);

	if (!e) {
		if (!find(t, w->cookie))
			tell_unknown(l, (struct sighting){
						.kind = SIGHTING_RELEASED,
						.cookie = w->cookie,
						.at = w->at,
						.after = USEC_UNSET,
					});
		return true;
	}
	if (e->seen && e->s.row.minisock) {
		e->over = false; /* a remainder as any other, of which the sweeps tell */
		e->changed = true;
		return true;
	}
	if (e->present || e->aliases > 0)
		return false;
	e->told_time_wait = false;
	if (e->told)
		table_tell(l, e, SIGHTING_RELEASED, e->closed, USEC_UNSET);
	table_entry_free(t, e);
	return true;
}

void table_events_swept(struct table *t, uint32_t protocols, struct telling *l)
{
	struct waiting **at = &t->lingering.first;
	enum source source = l->source;

	if (t->kept || !(protocols & BIT(PROTOCOL_TCP)))
		return;
	l->source = SOURCE_EVENTS;
	while (*at) {
		if ((*at)->at < t->begin && settle(t, *at, l))
			drop(&t->lingering, at);
		else
			at = &(*at)->next;
	}
	l->source = source;
}
