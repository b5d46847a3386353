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
 * A sweep is not one moment. What is heard while one runs waits for the next.
 */

#include "daemon/capture/table_private.h"

/* It may take the kernel so long to tell: mostly less than 0.1 ms; 0.5 s, and more than two, were seen where ten processes
 * wanted two processors. */
#define PROMPT_USEC TABLE_MOMENT_USEC
#define LATE_USEC   (5 * USEC_PER_SEC)
/* What counts in jiffies is off by one of them, 10 ms at most, at both ends. */
#define JIFFIES_USEC (20 * USEC_PER_MSEC)
/* Sweeps are remembered so far apart that those of LATE_USEC find room. */
#define LOOKED_USEC (2 * LATE_USEC / TABLE_LOOKED)

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

struct entry *table_ends_match(struct table *t, const struct socket_row *row)
{
	struct entry *e = table_fold_find(t->pairs, row);
	bool oom = false;

	if (!e || !e->ended)
		return NULL;
	unpair(t, e);
	HASH_DELETE(hh, t->sockets, e);
	e->s.row.cookie = row->cookie;
	HASH_ADD(hh, t->sockets, s.row.cookie, sizeof(e->s.row.cookie), e);
	assert(!oom); /* nothing is allocated for one in place of another */
	return e;
}

int table_ends_stray(struct table *t, struct entry *e)
{
	return pair(t, e);
}

bool table_ends_expected(const struct table *t, const struct entry *e)
{
	return t->hears && !e->alias && !e->mptcp && t->begin - e->seen_begin <= LATE_USEC;
}

void table_ends_begin(struct table *t)
{
	struct fold *f, *next;

	HASH_ITER (hh, t->pairs, f, next) {
		if (!f->entry->ended && t->begin - f->entry->first_at > LATE_USEC)
			unpair(t, f->entry);
	}
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

/* The remainder was seen before the end was told: the sweep has told it. */
static bool is_stray(struct table *t, const struct socket_row *row)
{
	struct entry *e = is_udp(row->protocol) ? NULL : table_fold_find(t->pairs, row);

	if (!e || e->ended)
		return false;
	unpair(t, e);
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

static void date(struct ended *x, const struct socket_end *end, bool prompt)
{
	usec_t age = end->age_msec * USEC_PER_MSEC;

	x->proven = end->age_msec != END_AGE_UNKNOWN;
	x->exact = prompt || (x->proven && age <= JIFFIES_USEC);
	if (x->proven)
		x->earliest = usec_sub(x->at, age + JIFFIES_USEC);
	else
		x->earliest = usec_sub(x->at, prompt ? PROMPT_USEC : LATE_USEC);
}

void table_hear(struct table *t)
{
	t->hears = true;
}

int table_ended(struct table *t, const struct socket_end *end, usec_t at, bool prompt)
{
	_cleanup_(free_p) struct ended *x = NULL;
	struct socket_row row = row_before(end);
	struct entry *e = NULL;
	int r = 0;

	t->now = MAX(t->now, at);
	HASH_FIND(hh, t->sockets, &end->row.cookie, sizeof(end->row.cookie), e);
	if (end->evidence == END_UNUSED && !(e && e->s.role == ROLE_LISTENING))
		r = table_listeners_note(&t->unused, end->row.local.port, at);
	if (r < 0 || (e ? e->ended || is_swept(e) : is_unwatched(t, &row) || is_stray(t, &row)))
		return r;
	if (t->ended_count >= LIMIT_ENDS)
		return -ENOBUFS;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	if (e)
		learn(t, e, &row, at);
	else
		r = add_entry(t, &row, at, &e);
	if (r < 0)
		return r;
	x->entry = e;
	x->at = at;
	date(x, end, prompt);
	x->evidence = end->evidence;
	x->local_unknown = end->local_unknown && e->seen_begin == USEC_UNSET;
	x->older = end->older;
	x->late = t->sweeping;
	add(t, TAKE_PTR(x));
	return 0;
}

void table_be_patient(struct table *t, bool patient)
{
	t->patient = patient;
}

void table_ends_doubt(struct table *t, usec_t since)
{
	for (struct ended *x = t->ended; x; x = x->next)
		if (x->at >= since && !x->proven) {
			x->exact = false;
			x->earliest = usec_sub(x->at, LATE_USEC);
		}
}

size_t table_ends(const struct table *t)
{
	return t->ended_count;
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

static void tell_present(struct table *t, const struct ended *x, struct telling *l)
{
	const struct entry *e = x->entry;

	if (!e->told && !e->renewed && e->seen_begin != USEC_UNSET)
		table_tell_anew(l, e);
	else
		table_tell(l, e, SIGHTING_PRESENT, x->at,
			e->seen_begin == USEC_UNSET ? opened_after(t, x) : table_entry_bound(t, e));
}

/* It ended since it was last seen, or since it was not there yet; or later, if it says so itself. */
static usec_t closed_after(const struct table *t, const struct ended *x)
{
	const struct entry *e = x->entry;
	usec_t swept = e->seen_begin == USEC_UNSET ? opened_after(t, x) : e->seen_begin;

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
	table_tell(l, e, SIGHTING_CLOSED, x->at, closed_after(t, x));
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
	return is_unclear(x) && t->begin < x->at + PROMPT_USEC &&
	       table_role_of_ended(t, x) == ROLE_CONNECTED && !x->entry->placed;
}

void table_ends_tell(struct table *t, uint32_t protocols, struct telling *l)
{
	struct ended **at = &t->ended;

	while (*at) {
		struct ended *x = *at;
		struct entry *e = x->entry;
		bool lingers = e->seen && e->s.row.minisock;

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
