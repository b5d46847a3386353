/* SPDX-License-Identifier: MIT */

/*
 * What capture remembers of each socket.
 *
 * Sockets are remembered by cookie and never by their endpoints or inode, which are reused. What
 * was told of each is not kept beside what was seen: a row is compared with the one it replaces,
 * and the difference is a mark (`changed`). So a remembered socket takes 200 bytes, 10 MB for
 * 50,000.
 *
 * A sweep strings the entries that it sees on a list, in their order. Nothing is decided before the
 * end of the sweep, since a listener may be seen after a connection that it took, and MPTCP's two
 * halves come from two tables.
 *
 * Roles. That a connection was accepted is not in the tables. It is taken to be so if its port has,
 * or had a moment ago, a listener: for a connection that makes its own port, the kernel never
 * chooses one that somebody bound (the two could share it only by binding different addresses
 * explicitly). Who was seen bound or listening before it was connected, connected by itself.
 *
 * MPTCP. A connection is in two tables: the MPTCP socket and its first subflow, with two cookies
 * but the same inode and port. As long as nobody accepted it, neither has an inode; then they have
 * the same two endpoints. They are folded into the one that was remembered first (the canonical
 * one; the MPTCP socket, where both are new). The other is an alias: it keeps the canonical one
 * present, and is itself never told.
 */

#include "daemon/capture/table.h"

#include "daemon/capture/table_fold.h"
#include "daemon/capture/table_listeners.h"

#include <netinet/tcp.h>

/* An allocation that fails is an error to return, not the end of the process. */
static void note_oom(bool *failed)
{
	*failed = true;
}
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) note_oom(&oom)
#include <uthash.h>

#define BIT(protocol) (1u << (protocol))

struct entry {
	struct table_socket s; /* first member: what the caller holds is the entry */
	UT_hash_handle hh;     /* in table.sockets, by s.row.cookie */
	struct entry *next;    /* seen next in this sweep; NULL: the last, or not seen */
	union {
		usec_t first_at; /* not an alias: when this tenure of the port was first seen */
		struct entry *canonical; /* an alias: of whom */
	};
	usec_t seen_begin; /* begin of the last sweep that saw it; USEC_UNSET: this is the first */
	uint32_t seen_offset; /* when its row was read, in microseconds after the sweep's begin */
	uint32_t first_span_msec; /* first_at minus its earlier bound, rounded up; SPAN_UNKNOWN */
	uint16_t aliases;         /* remembered ones of this */
	bool seen : 1;            /* in this sweep */
	bool present : 1;         /* it or an alias was seen in this sweep */
	bool full : 1;            /* ... and more of it than a TIME_WAIT remainder */
	bool handled : 1;         /* this sweep's telling is done */
	bool missing : 1;         /* a whole sweep has missed it */
	bool alias : 1;
	bool mptcp : 1;       /* an MPTCP socket, or folded with one */
	bool preexisting : 1; /* there at the very first sweep */
	bool placed : 1;      /* has a role */
	bool fresh : 1;       /* was first placed, as connected, in the sweep before */
	bool renewed : 1;     /* another local port than before: a new tenure */
	bool changed : 1;     /* something to tell */
	bool final : 1;       /* attributed for good */
	bool told : 1;
	bool told_time_wait : 1, told_mptcp : 1;
};
#define SPAN_UNKNOWN UINT32_MAX
_Static_assert(sizeof(struct entry) <= 200, "50,000 sockets in 10 MB");

/* Where an MPTCP socket's other half will look for it. */
struct fold {
	uint8_t key[FOLD_KEY_BYTES];
	struct entry *mptcp;
	UT_hash_handle hh;
};

struct table {
	struct entry *sockets;
	struct fold *folds; /* all remembered MPTCP sockets that have a key */
	struct table_listeners listeners;
	usec_t whole_begin[PROTOCOL_COUNT]; /* of the last whole sweep; USEC_UNSET: none yet */
	usec_t begin, now;                  /* of this sweep; when its last row was read */
	/* seen in this sweep, in order; `last`: the end to append at */
	struct entry *first, **last;
	struct port_ranges ranges, before; /* that are watched, and that were until table_watch() */
	uint32_t changed; /* protocols of which no whole sweep has shown `ranges` yet: a mask */
	bool accepted;    /* accepted connections are told */
	bool new_connections;
	bool kept; /* this sweep does not read TCP's connections: they are as they were */
	struct table_stats stats;
};

static struct entry *canonical_of(struct entry *e)
{
	return e->alias ? e->canonical : e;
}

/* ---- folding MPTCP with its subflow ---- */

static struct fold *fold_find(struct table *t, const struct socket_row *row)
{
	uint8_t key[FOLD_KEY_BYTES];
	struct fold *f = NULL;

	if (t->folds && fold_key(row, key))
		HASH_FIND(hh, t->folds, key, sizeof(key), f);
	return f;
}

static void fold_remove(struct table *t, const struct entry *e)
{
	struct fold *f = fold_find(t, &e->s.row);

	if (!f || f->mptcp != e)
		return;
	HASH_DELETE(hh, t->folds, f);
	free(f);
}

/* Makes an MPTCP socket findable by its present row. The newest wins: an inode is reused. */
static int fold_add(struct table *t, struct entry *e)
{
	_cleanup_(free_p) struct fold *new = NULL;
	struct fold *f = fold_find(t, &e->s.row);
	bool oom = false;

	if (f) {
		f->mptcp = e;
		return 0;
	}
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	if (!fold_key(&e->s.row, new->key))
		return 0;
	new->mptcp = e;
	HASH_ADD(hh, t->folds, key, sizeof(new->key), new);
	if (oom)
		return -ENOMEM;
	TAKE_PTR(new);
	return 0;
}

static void fold_into(struct entry *alias, struct entry *canonical)
{
	if (canonical->aliases == UINT16_MAX)
		return;
	alias->alias = true;
	alias->canonical = canonical;
	alias->s.wants_holder = false;
	canonical->aliases++;
	canonical->mptcp = true;
}

/* A TCP row was seen: is it the subflow of an MPTCP socket that this sweep has shown? */
static void fold_subflow(struct table *t, struct entry *e)
{
	struct fold *f = fold_find(t, &e->s.row);
	struct entry *m = f ? f->mptcp : NULL;

	if (!m || !m->seen || e->alias || e->aliases > 0)
		return;
	if (!m->alias && m->aliases == 0 && e->first_at < m->first_at)
		fold_into(m, e);
	else
		fold_into(e, canonical_of(m));
}

/* ---- rows ---- */

static void entry_free(struct table *t, struct entry *e)
{
	if (e->alias)
		e->canonical->aliases--;
	if (e->s.row.protocol == PROTOCOL_MPTCP)
		fold_remove(t, e);
	HASH_DELETE(hh, t->sockets, e);
	free(e->s.holders);
	free(e);
}

/* The earlier bound of what is seen now for the first time. */
static usec_t bound_of(const struct table *t, const struct entry *e)
{
	usec_t whole = t->whole_begin[e->s.row.protocol];

	if (e->seen_begin == USEC_UNSET)
		return e->preexisting ? 0 : whole;
	return e->missing ? whole : e->seen_begin;
}

/* A tenure of the port begins: remembers from when. */
static void entry_begin(const struct table *t, struct entry *e, usec_t at)
{
	usec_t bound = bound_of(t, e);
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

static int entry_add(struct table *t, const struct socket_row *row, usec_t at, struct entry **ret)
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

/* Takes over a row of a socket that is remembered, and marks what is to be told of it. */
static void entry_update(struct table *t, struct entry *e, const struct socket_row *row, usec_t at)
{
	const struct socket_row *old = &e->s.row;

	if (row->local.port != old->local.port) {
		e->renewed = true;
		e->preexisting = false;
		e->placed = false;
		entry_begin(t, e, at);
	}
	if (!endpoint_equal(&row->local, &old->local) ||
		!endpoint_equal(&row->remote, &old->remote) || (row->inode != 0 && old->inode == 0))
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
	if (e) {
		if (mptcp && !fold_same(&e->s.row, row))
			fold_remove(t, e);
		entry_update(t, e, row, at);
	} else {
		r = entry_add(t, row, at, &e);
		if (r < 0)
			return r;
		t->new_connections |= (tcp || mptcp) && has_remote(row);
	}
	entry_see(t, e, at);
	e->s.wants_holder = row->inode != 0 && !e->final && !e->alias;
	if (mptcp) {
		r = fold_add(t, e);
		if (r < 0)
			return r;
	} else if (tcp) {
		fold_subflow(t, e);
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
}

void table_keep_connections(struct table *t)
{
	assert(t->stats.unsettled == 0);
	t->kept = true;
}

bool table_has_new_connections(const struct table *t)
{
	return t->new_connections;
}

/* ---- roles and holders ---- */

static enum role role_of(const struct table *t, const struct entry *e)
{
	const struct socket_row *row = &e->s.row;
	bool remote = has_remote(row);
	bool listener = table_listeners_had(&t->listeners, row->local.port, t->now);

	if (is_udp(row->protocol))
		return remote ? ROLE_CONNECTED : ROLE_BOUND;
	if (row->state == TCP_LISTEN)
		return ROLE_LISTENING;
	if (!e->placed && !remote)
		return ROLE_BOUND;
	if (!e->placed)
		return listener ? ROLE_ACCEPTED : ROLE_CONNECTED;
	switch ((enum role)e->s.role) {
	case ROLE_CONNECTED:
		/* the first look may have come before its listener was seen */
		return e->fresh && remote && listener ? ROLE_ACCEPTED : ROLE_CONNECTED;
	case ROLE_ACCEPTED:
		return ROLE_ACCEPTED;
	case ROLE_LISTENING:
	case ROLE_BOUND:
	case ROLE_COUNT:
		break;
	}
	return remote ? ROLE_CONNECTED : ROLE_BOUND;
}

/* Accepted connections may be of no interest; but what was told once is told to its end. */
static bool is_of_interest(const struct table *t, const struct entry *e, enum role role)
{
	return role != ROLE_ACCEPTED || t->accepted || e->told;
}

size_t table_attributable(struct table *t, struct table_socket **ret, size_t max)
{
	size_t count = 0;

	for (struct entry *e = t->first; e && count < max; e = e->next)
		if (e->s.wants_holder && is_of_interest(t, e, role_of(t, e)))
			ret[count++] = &e->s;
	return count;
}

size_t table_unheld(struct table *t, struct table_socket **ret, size_t max)
{
	size_t count = 0;

	for (struct entry *e = t->first; e && count < max; e = e->next)
		if (e->s.row.inode == 0 && e->s.row.cgroup_id != 0 &&
			e->s.attribution == ATTRIBUTION_NONE && is_of_interest(t, e, role_of(t, e)))
			ret[count++] = &e->s;
	return count;
}

size_t table_shared(struct table *t, struct table_socket **ret, size_t max)
{
	size_t count = 0;

	for (struct entry *e = t->first; e && count < max; e = e->next)
		if (e->final && e->s.opener != 0 && e->s.row.inode != 0 &&
			e->s.attribution == ATTRIBUTION_PROCFD &&
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

struct telling {
	int (*emit)(void *context, const struct sighting *s);
	void *context;
	enum source source;
	int result; /* of the first emit that failed; nothing is emitted after it */
};

static void tell(
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
		.local = e->s.row.local,
		.remote = e->s.row.remote,
		.at = at,
		.after = after,
		.expires = USEC_UNSET,
		.opener = e->s.opener,
		.holder_count = e->s.holder_count,
		.holders_dropped = e->s.holders_dropped,
	};

	if (l->result != 0)
		return;
	if (e->s.holder_count > 0)
		memcpy(s.holders, e->s.holders, e->s.holder_count * sizeof(s.holders[0]));
	if (kind == SIGHTING_PRESENT && e->told_time_wait)
		s.expires = at + e->s.row.expires_msec * USEC_PER_MSEC;
	l->result = l->emit(l->context, &s);
}

/* Tells from the beginning what was seen before: not as of now, but as of its first time. */
static void tell_anew(struct telling *l, const struct entry *e)
{
	usec_t span = e->first_span_msec * USEC_PER_MSEC, at = e->first_at;

	/* what is told now was not so when it was first seen, but when it was last seen */
	if (e->told_time_wait)
		at = e->seen_begin + e->seen_offset;
	tell(l, e, SIGHTING_PRESENT, at,
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
	enum role role = role_of(t, e);
	usec_t after = bound_of(t, e);
	bool late = !e->told && !e->renewed && e->seen_begin != USEC_UNSET;
	bool news = !e->told || e->changed || e->renewed || e->missing || role != e->s.role ||
		    e->told_time_wait == e->full || e->told_mptcp != e->mptcp;

	e->handled = true;
	e->fresh = !e->placed && role == ROLE_CONNECTED;
	e->placed = true;
	e->s.role = (uint8_t)role;
	e->told_time_wait = !e->full;
	e->told_mptcp = e->mptcp;
	e->changed = e->renewed = e->missing = false;
	e->seen_begin = t->begin;
	if (!news || !is_of_interest(t, e, role))
		return;
	e->told = true;
	if (late)
		tell_anew(l, e);
	else
		tell(l, e, SIGHTING_PRESENT, t->begin + e->seen_offset, after);
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
		entry_free(t, e);
		return;
	}
	e->missing = true;
	if (e->told && !e->alias)
		tell(l, e, SIGHTING_ABSENT, end, e->seen_begin);
}

static bool is_connection(const struct entry *e)
{
	return !is_udp(e->s.row.protocol) && e->s.row.state != TCP_LISTEN &&
	       e->s.row.state != TCP_CLOSE;
}

/* Can what is told of a connection change without the kernel counting it? */
static bool is_settled(const struct table *t, const struct entry *e)
{
	return !e->missing && !e->fresh && !e->mptcp && !e->alias &&
	       (e->final || e->s.row.minisock || !is_of_interest(t, e, (enum role)e->s.role));
}

static void end_count(struct table *t)
{
	t->stats = (struct table_stats){0};
	for (const struct entry *e = t->sockets; e; e = e->hh.next) {
		t->stats.unsettled += is_connection(e) && !is_settled(t, e);
		if (e->alias || e->missing)
			continue;
		t->stats.sockets++;
		if (e->s.row.inode != 0 && e->s.opener == 0 &&
			is_of_interest(t, e, (enum role)e->s.role))
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
			tell(&l, e, SIGHTING_ABSENT, end, e->seen_begin);
			e->told = false;
		}
		e->seen = e->present = e->full = e->handled = false;
		if (!here && t->kept && is_connection(e)) {
			e->seen_begin = t->begin;
			e->seen_offset = 0;
		} else if (!here)
			end_absent(t, e, end, protocols, &l);
	}
	t->first = NULL;
	t->last = &t->first;
	for (unsigned p = 0; p < PROTOCOL_COUNT; p++)
		if (protocols & BIT(p))
			t->whole_begin[p] = t->begin;
	t->changed &= ~protocols;
	end_count(t);
	return l.result;
}

int table_resync(struct table *t, enum source source,
	int (*emit)(void *context, const struct sighting *s), void *context)
{
	struct telling l = {.emit = emit, .context = context, .source = source};

	assert(!t->first);
	for (const struct entry *e = t->sockets; e && l.result == 0; e = e->hh.next) {
		if (!e->alias && e->told && !e->missing)
			tell_anew(&l, e);
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

/* Those that are folded into another first: they name it. */
static void forget_unwatched(struct table *t, bool aliases)
{
	struct entry *e, *next;

	HASH_ITER (hh, t->sockets, e, next) {
		if (e->alias == aliases &&
			!port_ranges_contain(&t->ranges, canonical_of(e)->s.row.local.port))
			entry_free(t, e);
	}
}

void table_watch(struct table *t, const struct port_ranges *ranges, bool accepted)
{
	assert(!t->first);
	/* changed again before anybody looked: none of them is known */
	t->before = t->changed == 0 ? t->ranges : (struct port_ranges){0};
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
	for (size_t p = 0; p < ELEMENTSOF(t->whole_begin); p++)
		t->whole_begin[p] = USEC_UNSET;
	return t;
}

struct table *table_free(struct table *t)
{
	struct entry *e, *next;
	struct fold *f, *next_fold;

	if (!t)
		return NULL;
	HASH_ITER (hh, t->folds, f, next_fold) {
		HASH_DELETE(hh, t->folds, f);
		free(f);
	}
	HASH_ITER (hh, t->sockets, e, next) {
		HASH_DELETE(hh, t->sockets, e);
		free(e->s.holders);
		free(e);
	}
	table_listeners_done(&t->listeners);
	free(t);
	return NULL;
}
