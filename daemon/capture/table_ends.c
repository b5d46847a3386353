/* SPDX-License-Identifier: MIT */

/*
 * The kernel's word that a socket went says when, exactly, and on which port. It does not say whether a TIME_WAIT
 * remainder is left, nor, where no sweep has seen the socket, who had it, nor whether there was a listener on its port.
 * The sweep after it shows the first, and decides the last: a child of a listener needs a listener, which that sweep
 * shows, or the one before it did, or whose own end was told too. So what is heard waits for the end of the next
 * sweep, and is told there: a socket that no sweep has seen as present and closed at once.
 *
 * The remainder has the socket's cookie only if that had one before it ended, from a dump; what no sweep has seen gets one
 * when its end is told, and its remainder another. They are known to be one by their two endpoints.
 *
 * A connection that was reset leaves the tables at once, and its port is free, but the socket goes only when whoever has it
 * open closes it, perhaps an hour later. Where sweeps have seen it, they have told its end: its cookie is remembered, so
 * that it is not told again. Where none has, the kernel says how long ago it was alive, and that bounds it.
 *
 * A sweep is not one moment. What is heard while one runs waits for the next.
 */

#include "daemon/capture/table_private.h"

/* It may take the kernel so long to tell: mostly less than 0.1 ms; 0.8 s, and more than two, were seen where ten processes
 * wanted two processors. */
#define PROMPT_USEC TABLE_MOMENT_USEC
#define LATE_USEC   (5 * USEC_PER_SEC)
/* Sweeps are remembered so far apart that those of LATE_USEC find room. */
#define LOOKED_USEC (2 * LATE_USEC / TABLE_LOOKED)
/* So soon after a remainder was seen, its two endpoints are hardly anybody else's: tcp_tw_reuse waits for a second. */
#define REUSE_USEC (500 * USEC_PER_MSEC)
/* How exact the kernel is about how long ago something was: a jiffy, 10 ms at most, at both ends. */
#define JIFFIES_USEC (20 * USEC_PER_MSEC)

static bool is_unclear(const struct ended *x)
{
	return x->evidence == END_UNKNOWN && !is_udp(x->entry->s.row.protocol);
}

static int pair(struct table *t, struct entry *e)
{
	e->paired = true;
	return table_fold_add(&t->pairs, e);
}

static void unpair(struct table *t, struct entry *e)
{
	if (e->paired)
		table_fold_remove(&t->pairs, e);
	e->paired = false;
}

static void add(struct table *t, struct ended *x)
{
	x->entry->ended = true;
	*t->ended_last = x;
	t->ended_last = &x->next;
	t->ended_count++;
	t->ended_tcp += !is_udp(x->entry->s.row.protocol);
	t->ended_unclear += is_unclear(x);
}

/* Takes the one that `at` points to out of the list. */
static void drop(struct table *t, struct ended **at)
{
	struct ended *x = *at;

	x->entry->ended = false;
	unpair(t, x->entry);
	*at = x->next;
	if (t->ended_last == &x->next)
		t->ended_last = at;
	t->ended_count--;
	t->ended_tcp -= !is_udp(x->entry->s.row.protocol);
	t->ended_unclear -= is_unclear(x);
	free(x);
}

void table_ends_forget(struct table *t, const struct entry *e)
{
	struct ended **at = &t->ended;

	while (*at && (*at)->entry != e)
		at = &(*at)->next;
	if (*at)
		drop(t, at);
}

/* What the last moment of a remembered socket shows beyond what a sweep saw. Its remote end may have been taken from it
 * before it went, and is kept then. */
static void learn(struct table *t, struct entry *e, const struct socket_row *last, usec_t at)
{
	struct socket_row row = e->s.row;

	if (last->local.port != row.local.port) {
		table_entry_update(t, e, last, at);
		return;
	}
	if (last->remote.port == 0)
		return;
	row.remote = last->remote;
	row.local = last->local;
	row.state = last->state;
	table_entry_update(t, e, &row, at);
}

/* Which ones a sweep tells better: a remainder (its full socket went before, and a sweep saw that), and what is folded
 * with an MPTCP socket, of which the kernel does not tell. */
static bool is_swept(const struct entry *e)
{
	return e->alias || e->mptcp || e->missing || e->s.row.minisock;
}

int table_ends_match(struct table *t, const struct socket_row *row, struct entry **ret)
{
	struct entry *e = table_fold_find(t->pairs, row);
	bool oom = false;

	if (!e || !e->ended)
		return 0;
	unpair(t, e);
	HASH_DELETE(hh, t->sockets, e);
	e->s.row.cookie = row->cookie;
	HASH_ADD(hh, t->sockets, s.row.cookie, sizeof(e->s.row.cookie), e);
	if (oom) { /* the chain that it comes into may be the one that is too long */
		table_ends_forget(t, e);
		free(e);
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

int table_ends_stray(struct table *t, struct entry *e)
{
	return pair(t, e);
}

static struct departed *find_departed(const struct table *t, uint64_t cookie)
{
	struct departed *d;

	HASH_FIND(hh, t->departed, &cookie, sizeof(cookie), d);
	return d;
}

void table_ends_depart(struct table *t, const struct entry *e)
{
	struct departed *d = find_departed(t, e->s.row.cookie);
	bool oom = false;

	if (!t->hears || e->gone || e->s.row.minisock ||
		(e->s.row.protocol != PROTOCOL_TCP && e->s.row.protocol != PROTOCOL_UDP))
		return;
	if (!d && HASH_COUNT(t->departed) >= LIMIT_DEPARTED)
		d = t->departed;
	if (d)
		HASH_DELETE(hh, t->departed, d);
	else
		d = malloc(sizeof(*d));
	if (!d)
		return; /* then it is told twice, at worst */
	*d = (struct departed){.cookie = e->s.row.cookie, .port = e->s.row.local.port};
	HASH_ADD(hh, t->departed, cookie, sizeof(d->cookie), d);
	if (oom)
		free(d);
}

/* It goes at last: have the sweeps told its end? */
static bool had_departed(struct table *t, const struct socket_row *row)
{
	struct departed *d = find_departed(t, row->cookie);
	bool same = d && d->port == row->local.port;

	if (!d)
		return false;
	HASH_DELETE(hh, t->departed, d);
	free(d);
	return same;
}

void table_ends_done(struct table *t)
{
	struct departed *d, *next;

	while (t->ended) {
		struct ended *x = t->ended;

		t->ended = x->next;
		free(x);
	}
	HASH_ITER (hh, t->departed, d, next) {
		HASH_DELETE(hh, t->departed, d);
		free(d);
	}
}

void table_hear(struct table *t)
{
	t->hears = true;
}

/* As a sweep would have shown it: whatever it was, the kernel says TCP_CLOSE. */
static struct socket_row row_before(const struct socket_end *end)
{
	struct socket_row row = end->row;

	if (!is_udp(row.protocol) && row.remote.port != 0)
		row.state = TCP_ESTABLISHED;
	return row;
}

/* Remembers a socket that is gone already. 0 or -ENOMEM. */
static int add_entry(struct table *t, const struct socket_row *row, usec_t at, struct entry **ret)
{
	struct entry *e;
	int r = table_entry_add(t, row, at, &e);

	if (r == 0 && !is_udp(row->protocol)) {
		r = pair(t, e);
		if (r < 0)
			table_entry_free(t, e);
	}
	if (r == 0)
		*ret = e;
	return r;
}

/* It ended before the first sweep began, and so before we watched. */
static bool is_unwatched(const struct table *t, const struct socket_row *row)
{
	return t->whole_begin[row->protocol] == USEC_UNSET && !t->sweeping;
}

/* It was still there at this. */
static usec_t alive_until(const struct socket_end *end, usec_t told_after, bool prompt)
{
	if (end->idle_msec != END_IDLE_UNKNOWN)
		return usec_sub(told_after, end->idle_msec * USEC_PER_MSEC + JIFFIES_USEC);
	return usec_sub(told_after, prompt ? PROMPT_USEC : LATE_USEC);
}

/* Its end, told late, shows who opened what is left as a remainder. */
static void place_stray(struct table *t, struct entry *e, uint8_t evidence)
{
	if ((evidence != END_ACTIVE && evidence != END_PASSIVE) ||
		(e->placed && e->s.role != ROLE_UNKNOWN))
		return;
	e->s.role = evidence == END_ACTIVE ? ROLE_CONNECTED : ROLE_ACCEPTED;
	e->placed = e->changed = true;
	e->fresh = false;
	t->stats.unsettled++; /* the next sweep is to see it again */
}

/* The remainder was seen before the end was told: the sweep has told it. What was alive after that is a later socket of
 * the same two endpoints. */
static bool is_stray(
	struct table *t, const struct socket_end *end, const struct socket_row *row, usec_t alive)
{
	struct entry *e = is_udp(row->protocol) ? NULL : table_fold_find(t->pairs, row);

	if (!e || e->ended || alive > e->first_at + REUSE_USEC)
		return false;
	unpair(t, e);
	place_stray(t, e, end->evidence);
	return true;
}

void table_ends_looked(struct table *t, usec_t end, uint32_t protocols)
{
	const struct looked *last = &t->looked[(t->looked_next + TABLE_LOOKED - 1) % TABLE_LOOKED];

	if (protocols == 0 || (last->end != 0 && t->begin - last->begin < LOOKED_USEC))
		return;
	t->looked[t->looked_next] =
		(struct looked){.begin = t->begin, .end = end, .protocols = protocols};
	t->looked_next = (t->looked_next + 1) % TABLE_LOOKED;
}

/* No sweep has seen it. One that had ended before it went would have, if it was there when that began; one that was running
 * then, or began later, may have come to its place too late, and proves nothing. 0: none proves anything. */
static usec_t opened_after(const struct table *t, const struct ended *x)
{
	const struct entry *e = x->entry;
	usec_t bound = 0;

	for (size_t i = 0; i < TABLE_LOOKED && !x->older && !e->preexisting; i++)
		if (t->looked[i].end != 0 && t->looked[i].end <= x->earliest &&
			(t->looked[i].protocols & BIT(e->s.row.protocol)))
			bound = MAX(bound, t->looked[i].begin);
	return bound;
}

/* Where the other side has acknowledged its FIN, that was its end; whatever else ended may have been silent for long. */
static void date(const struct table *t, struct ended *x, const struct socket_end *end,
	usec_t told_after, bool prompt)
{
	x->earliest = alive_until(end, told_after, prompt);
	x->proven = end->idle_msec != END_IDLE_UNKNOWN;
	x->exact = x->proven && x->at - x->earliest <= 2 * JIFFIES_USEC;
	if (prompt && !end->finished)
		x->exact = true;
	x->opened_after = opened_after(t, x);
}

void table_ends_doubt(struct table *t, usec_t since)
{
	for (struct ended *x = t->ended; x; x = x->next)
		if (x->at >= since && !x->proven) {
			x->exact = false;
			x->earliest = usec_sub(x->at, LATE_USEC);
			x->opened_after = opened_after(t, x);
		}
}

void table_be_patient(struct table *t, bool patient)
{
	t->patient = patient;
}

/* Has it neither sent nor received anything since then? */
static bool was_silent(const struct socket_end *end, usec_t at, usec_t since)
{
	return end->idle_msec != END_IDLE_UNKNOWN &&
	       usec_sub(at + JIFFIES_USEC, end->idle_msec * USEC_PER_MSEC) < since;
}

/* Was it reset, and so out of the tables, before the last sweep began? That sweep has not seen it. */
static bool is_relic(const struct table *t, const struct socket_end *end, usec_t at)
{
	usec_t begin = t->whole_begin[PROTOCOL_TCP];

	return begin != USEC_UNSET && was_silent(end, at, begin);
}

/* It was over when the first sweep after its last sign of life began. */
static void bound_relic(const struct table *t, struct ended *x, const struct socket_end *end)
{
	const usec_t told = x->at;

	x->relic = true;
	x->opened_after = x->earliest >= t->watched_since ? t->watched_since : 0;
	x->exact = false;
	x->at = t->whole_end[PROTOCOL_TCP];
	for (size_t i = 0; i < TABLE_LOOKED; i++)
		if (t->looked[i].end != 0 && (t->looked[i].protocols & BIT(PROTOCOL_TCP)) &&
			was_silent(end, told, t->looked[i].begin))
			x->at = MIN(x->at, t->looked[i].end);
}

/* A socket of which nothing is to be told, though it went. */
static bool is_settled(struct table *t, const struct entry *e, const struct socket_end *end,
	const struct socket_row *row, usec_t at, usec_t alive)
{
	bool departed = had_departed(t, row);

	if (e)
		return e->ended || is_swept(e);
	if (departed || is_unwatched(t, row) || is_stray(t, end, row, alive))
		return true;
	return is_relic(t, end, at) && was_silent(end, at, t->watched_since);
}

static int add_ended(struct table *t, struct entry *e, const struct socket_end *end, usec_t at,
	usec_t told_after, bool prompt)
{
	struct ended *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->entry = e;
	x->at = at;
	x->evidence = end->evidence;
	x->older = end->older;
	x->local_unknown = end->local_unknown && e->seen_begin == USEC_UNSET;
	x->late = t->sweeping;
	date(t, x, end, told_after, prompt);
	if (e->seen_begin == USEC_UNSET && is_relic(t, end, at))
		bound_relic(t, x, end);
	add(t, x);
	return 0;
}

int table_ended(
	struct table *t, const struct socket_end *end, usec_t at, usec_t told_after, bool prompt)
{
	struct socket_row row = row_before(end);
	struct entry *e = NULL;
	bool known;
	int r = 0;

	t->now = MAX(t->now, at);
	HASH_FIND(hh, t->sockets, &end->row.cookie, sizeof(end->row.cookie), e);
	if (end->evidence == END_UNUSED && !(e && e->s.role == ROLE_LISTENING))
		r = table_listeners_note(&t->unused, end->row.local.port, at);
	t->hears = true;
	if (e && is_swept(e))
		e->gone = true;
	if (is_settled(t, e, end, &row, at, alive_until(end, told_after, prompt)) || r < 0)
		return r;
	if (t->ended_count >= LIMIT_ENDS)
		return -ENOBUFS;
	known = e != NULL;
	if (known)
		learn(t, e, &row, at);
	else
		r = add_entry(t, &row, at, &e);
	if (r == 0)
		r = add_ended(t, e, end, at, told_after, prompt);
	if (r < 0 && !known && e)
		table_entry_free(t, e);
	return r;
}

size_t table_ends(const struct table *t)
{
	return t->ended_count;
}

static void tell_present(struct table *t, const struct ended *x, struct telling *l)
{
	const struct entry *e = x->entry;

	if (!e->told && !e->renewed && e->seen_begin != USEC_UNSET)
		table_tell_anew(l, e);
	else
		table_tell(l, e, SIGHTING_PRESENT, x->at,
			e->seen_begin == USEC_UNSET ? x->opened_after : table_entry_bound(t, e));
}

/* It ended since it was last seen, or since it was not there yet; or later, if it says so itself. */
static usec_t closed_after(const struct ended *x)
{
	const struct entry *e = x->entry;
	usec_t swept = e->seen_begin == USEC_UNSET ? x->opened_after : e->seen_begin;

	if (x->exact)
		return USEC_UNSET;
	return x->proven ? MAX(swept, x->earliest) : swept;
}

/* Its end, and before that whatever of it was not told yet. `lingers`: a remainder is left. */
static void tell_ended(struct table *t, struct ended *x, bool lingers, struct telling *l)
{
	struct entry *e = x->entry;
	enum source source = l->source;
	enum role role = table_role_of_ended(t, x);
	bool news = !e->told || e->changed || e->renewed || role != e->s.role;

	e->s.role = (uint8_t)role;
	e->placed = true;
	e->fresh = e->changed = false;
	if (!table_is_of_interest(t, e, role))
		return;
	l->local_unknown = x->local_unknown && !lingers;
	if (e->seen_begin == USEC_UNSET)
		l->source = SOURCE_DESTROY;
	e->told_time_wait = false;
	if (news)
		tell_present(t, x, l);
	e->told = true;
	e->told_time_wait = lingers;
	e->renewed = false;
	table_tell(l, e, SIGHTING_CLOSED, x->at, closed_after(x));
	l->local_unknown = false;
	l->source = source;
}

/* A remainder goes on being remembered, as one that this sweep has told. */
static void end_lingering(struct table *t, struct ended *x, struct telling *l)
{
	struct entry *e = x->entry;

	/* heard after the remainder was read, it went before */
	x->at = MIN(x->at, t->begin + e->seen_offset);
	tell_ended(t, x, true, l);
	e->handled = true;
	e->missing = false;
	e->seen_begin = t->begin;
}

/* Where only the port tells who opened it, and nobody seems to have listened there: a listener's end may be told a moment later. */
static bool is_young(const struct table *t, const struct ended *x)
{
	return is_unclear(x) && t->begin < x->at + PROMPT_USEC && !x->relic && !x->entry->placed &&
	       table_role_of_ended(t, x) == ROLE_CONNECTED;
}

void table_ends_tell(struct table *t, uint32_t protocols, struct telling *l)
{
	struct ended **at = &t->ended;

	while (*at) {
		struct ended *x = *at;
		struct entry *e = x->entry;
		bool lingers = e->seen && e->s.row.minisock;

		x->young = false;
		x->young = is_young(t, x);
		if (e->alias || e->mptcp || (e->seen && !lingers && !x->late)) {
			/* folded since, or the table has it still: the sweeps tell of it */
			drop(t, at);
		} else if (lingers) {
			end_lingering(t, x, l);
			drop(t, at);
		} else if (x->late || (x->young && t->patient) ||
			   !(protocols & BIT(e->s.row.protocol))) {
			x->late = false;
			at = &x->next;
		} else {
			tell_ended(t, x, false, l);
			drop(t, at);
			table_entry_free(t, e);
		}
	}
}
