/* SPDX-License-Identifier: MIT */

/*
 * Who uses the ports up. The kernel gives a client's connection any port that is not taken to the same destination, so what
 * runs out is a destination's: (namespace, source, destination, its port). Beside these there is a row for each namespace
 * and protocol, where a port counts once however many claims are on it.
 *
 * Of more destinations than LIMIT_PRESSURE_GROUPS those that had the fewest ports are dropped (query_pressure_room.c), and what is
 * remembered at the end is walked once more, so that it is exact.
 *
 * Two walks. The first one, in the order of opening, keeps what is taken at each moment: claims that are under way wait in a
 * heap for their release, and a port of a group is free when the last of its claims is. It finds the peaks. The second one
 * counts whose the ports were at the peaks of those groups that are told.
 *
 * Bound before connected: a socket that binds to port 0 and connects then takes a port from every destination. It shows in
 * the numbers: connect(2) takes ports of the parity of the range's lower end while there are any, bind(2) the others
 * (__inet_hash_connect and inet_csk_find_open_port in the kernel's net/ipv4; so since Linux 4.2).
 */

#include "daemon/control/query_pressure.h"

#include <stdlib.h>

#include "daemon/control/query_ports.h"
#include "daemon/schema.h"

static void free_group(struct group *g)
{
	struct opener *o, *next;

	HASH_ITER (hh, g->openers, o, next) {
		HASH_DELETE(hh, g->openers, o);
		free(o);
	}
	free(g->blocked);
	free(g->live);
	free(g);
}

static void pressure_done(struct pressure *p)
{
	struct group *g, *next;

	pressure_clear(p);
	HASH_ITER (hh, p->groups, g, next) {
		HASH_DELETE(hh, p->groups, g);
		free_group(g);
	}
	free(p->heap);
	free(p->listed);
	p->places = places_free(p->places);
}

static int heap_push(struct pressure *p, struct end end)
{
	size_t i = p->ends;

	if (p->ends == p->capacity) {
		size_t capacity = p->capacity ? p->capacity * 2 : 1024;
		struct end *more;

		if (p->ends >= LIMIT_PRESSURE_HELD)
			return -E2BIG;
		more = reallocarray(p->heap, capacity, sizeof(*more));
		if (!more)
			return -ENOMEM;
		p->heap = more;
		p->capacity = capacity;
	}
	p->ends++;
	for (; i > 0 && p->heap[(i - 1) / 2].at > end.at; i = (i - 1) / 2)
		p->heap[i] = p->heap[(i - 1) / 2];
	p->heap[i] = end;
	return 0;
}

static struct end heap_pop(struct pressure *p)
{
	struct end first = p->heap[0], last = p->heap[--p->ends];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= p->ends)
			break;
		if (child + 1 < p->ends && p->heap[child + 1].at < p->heap[child].at)
			child++;
		if (p->heap[child].at >= last.at)
			break;
		p->heap[i] = p->heap[child];
		i = child;
	}
	p->heap[i] = last;
	return first;
}

static int find_group(struct pressure *p, const struct group_key *key,
	const struct fold_place *place, bool make, struct group **ret)
{
	struct group *g;

	HASH_FIND(hh, p->groups, key, sizeof(*key), g);
	*ret = g;
	if (g || !make || (p->again && key->destination))
		return 0;
	if (HASH_COUNT(p->groups) >= LIMIT_PRESSURE_GROUPS) {
		int r = pressure_make_room(p);

		if (r < 0)
			return r;
	}
	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->key = *key;
	g->floor = p->floor;
	g->netns = place->netns;
	g->inode = place->inode;
	g->range = place_range(place, p->known);
	g->peak_at = USEC_UNSET;
	HASH_ADD(hh, p->groups, key, sizeof(g->key), g);
	if (!g->hh.tbl) {
		free(g);
		return -ENOMEM;
	}
	*ret = g;
	return 0;
}

static int find_pair(struct pressure *p, struct group *g, uint16_t port, struct pair **ret)
{
	const struct pair_key key = {(uint64_t)(uintptr_t)g, port};
	struct pair *pair;

	HASH_FIND(hh, p->pairs, &key, sizeof(key), pair);
	if (!pair) {
		pair = calloc(1, sizeof(*pair));
		if (!pair)
			return -ENOMEM;
		pair->key = key;
		pair->group = g;
		HASH_ADD(hh, p->pairs, key, sizeof(pair->key), pair);
		if (!pair->hh.tbl) {
			free(pair);
			return -ENOMEM;
		}
	}
	*ret = pair;
	return 0;
}

static void give_back(struct pressure *p, const struct end *end)
{
	struct pair *pair = end->pair;

	pair->blocking -= end->blocking;
	if (--pair->held > 0)
		return;
	pair->group->used--;
	if (!pair->orphan)
		HASH_DELETE(hh, p->pairs, pair);
	free(pair);
}

static void give_back_until(struct pressure *p, usec_t at)
{
	while (p->ends > 0 && p->heap[0].at <= at) {
		const struct end end = heap_pop(p);

		give_back(p, &end);
	}
}

/* What is taken now was taken when the window began. */
static void start(struct pressure *p)
{
	struct group *g, *next;

	give_back_until(p, p->window.from);
	HASH_ITER (hh, p->groups, g, next) {
		g->at_start = g->peak = g->used;
		g->peak_at = g->used > 0 ? p->window.from : USEC_UNSET;
	}
	p->started = true;
}

/* Does it keep its port from every client? A port that was bound is never shared with a connect(2). */
static bool blocks(const struct fold_row *row)
{
	return row->role == ROLE_LISTENING || row->role == ROLE_BOUND || row->role == ROLE_ACCEPTED;
}

static int take_port(struct pressure *p, struct group *g, const struct fold_row *row)
{
	struct end end = {.at = row->released, .blocking = blocks(row)};
	int r = find_pair(p, g, row->port, &end.pair);

	if (r < 0)
		return r;
	if (end.pair->held++ == 0) {
		g->used++;
		g->at_start += p->started && row->preexisting;
	}
	end.pair->blocking += end.blocking;
	r = heap_push(p, end);
	if (r < 0) {
		give_back(p, &end);
		return r;
	}
	if (p->started && g->used > g->peak) {
		g->peak = g->used;
		g->peak_at = row->opened;
	}
	return 0;
}

static struct group_key namespace_key(const struct fold_row *row, const struct fold_place *place)
{
	return (struct group_key){.place = place->netns,
		.remote_port = -1,
		.protocol = row->protocol == PROTOCOL_UDP || row->protocol == PROTOCOL_UDPLITE
				    ? PROTOCOL_UDP
				    : PROTOCOL_TCP};
}

/* Of a TCP connection that its owner opened; of some that no sweep saw that is not known, but what was taken is. */
static bool destination_key(
	const struct fold_row *row, const struct fold_place *place, struct group_key *ret)
{
	if ((row->protocol != PROTOCOL_TCP && row->protocol != PROTOCOL_MPTCP) || blocks(row) ||
		row->remote_size == 0 || row->remote_port < 0)
		return false;
	*ret = (struct group_key){.place = place->id,
		.remote_port = row->remote_port,
		.destination = 1,
		.protocol = PROTOCOL_TCP,
		.remote_size = row->remote_size};
	memcpy(ret->remote, row->remote, sizeof(ret->remote));
	return true;
}

static void note_parity(struct group *g, const struct fold_row *row)
{
	if ((row->port ^ g->range.low) & 1)
		g->other_parity++;
	else
		g->own_parity++;
}

/* Does its namespace hand the port out? */
static bool is_handed_out(
	const struct pressure *p, const struct fold_row *row, const struct fold_place *place)
{
	struct port_range range = place_range(place, p->known);

	return row->port >= range.low && row->port <= range.high;
}

static bool is_wanted(const struct group_key *key, const struct filter *f)
{
	if (!key->destination)
		return true;
	if (f->peer_port >= 0 && key->remote_port != f->peer_port)
		return false;
	return f->peer.family == FAMILY_NONE ||
	       (key->remote_size == address_size(&f->peer) &&
		       memcmp(key->remote, f->peer.bytes, key->remote_size) == 0);
}

/* It may be in the window by the earlier bound of its opening alone: then it was there at the end. */
static struct fold_row into_window(const struct pressure *p, const struct fold_row *row)
{
	struct fold_row inside = *row;

	inside.opened = MIN(row->opened, p->window.until);
	return inside;
}

static int take_claim(void *context, const struct fold_row *found)
{
	struct pressure *p = context;
	const struct fold_row inside = into_window(p, found), *row = &inside;
	struct group_key keys[2];
	struct fold_place place;
	size_t count = 1;
	int r = places_find(p->places, row->local, &place);

	if (r < 0)
		return r;
	if (!p->started && row->opened > p->window.from)
		start(p);
	give_back_until(p, row->opened);
	if (!is_handed_out(p, row, &place))
		return 0;
	keys[0] = namespace_key(row, &place);
	count += destination_key(row, &place, &keys[1]);
	for (size_t i = 0; i < count; i++) {
		struct group *g = NULL;

		if (!is_wanted(&keys[i], p->wanted))
			continue;
		r = find_group(p, &keys[i], &place, true, &g);
		if (r < 0)
			return r;
		if (!g)
			continue;
		g->claims += row->opened >= p->window.from && !row->preexisting;
		note_parity(g, row);
		if (row->released != USEC_UNSET && row->released <= row->opened)
			continue;
		r = take_port(p, g, row);
		if (r < 0)
			return r;
	}
	return 0;
}

static unsigned count_free(const struct group *g, const struct port_set *taken)
{
	return (unsigned)(g->range.high - g->range.low + 1) -
	       port_set_count(taken, g->range.low, g->range.high);
}

/* What a client can be given at all in a namespace: less what is reserved; to a destination, less what is bound, too. */
static int note_blocked(struct pressure *p)
{
	struct pair *pair, *next;
	struct group *g, *after;

	HASH_ITER (hh, p->groups, g, after) {
		if (g->key.destination)
			continue;
		g->blocked = calloc(1, sizeof(*g->blocked));
		if (!g->blocked)
			return -ENOMEM;
		if (p->known->reserved && g->inode == p->known->netns)
			*g->blocked = *p->known->reserved;
		g->available = count_free(g, g->blocked);
	}
	HASH_ITER (hh, p->pairs, pair, next)
		if (pair->group->blocked && pair->group->key.protocol == PROTOCOL_TCP &&
			pair->blocking > 0)
			port_set_add(pair->group->blocked, (uint16_t)pair->key.port);
	return 0;
}

static void note_available(struct pressure *p)
{
	static const struct port_set none;
	struct group *g, *next;

	HASH_ITER (hh, p->groups, g, next) {
		const struct group_key of = {
			.place = g->netns, .remote_port = -1, .protocol = g->key.protocol};
		struct group *whole;

		if (!g->key.destination)
			continue;
		HASH_FIND(hh, p->groups, &of, sizeof(of), whole);
		g->available = count_free(g, whole ? whole->blocked : &none);
	}
}

/* The fullest first, namespaces before destinations; then an order that stays the same. */
static int compare_groups(const void *left, const void *right)
{
	const struct group *const *a = left, *const *b = right;
	const struct group *x = *a, *y = *b;
	uint64_t x_full = x->peak * (y->available ? y->available : 1);
	uint64_t y_full = y->peak * (x->available ? x->available : 1);

	if (x->key.destination != y->key.destination)
		return x->key.destination ? 1 : -1;
	if (x_full != y_full)
		return x_full > y_full ? -1 : 1;
	if (x->claims != y->claims)
		return x->claims > y->claims ? -1 : 1;
	if (x->key.remote_port != y->key.remote_port)
		return x->key.remote_port < y->key.remote_port ? -1 : 1;
	return memcmp(&x->key, &y->key, sizeof(x->key));
}

/* Those that are told, in their order. */
static int list_groups(struct pressure *p, size_t limit)
{
	struct group *g, *next;
	size_t whole = 0;

	p->listed = calloc(HASH_COUNT(p->groups) + 1, sizeof(*p->listed));
	if (!p->listed)
		return -ENOMEM;
	HASH_ITER (hh, p->groups, g, next) {
		if (g->peak == 0)
			continue;
		p->listed[p->listed_count++] = g;
		whole += !g->key.destination;
	}
	if (p->listed_count > 0)
		qsort(p->listed, p->listed_count, sizeof(struct group *), compare_groups);
	if (p->listed_count > whole + limit) {
		p->omitted = p->listed_count - whole - limit;
		p->listed_count = whole + limit;
	}
	for (size_t i = 0; i < p->listed_count; i++)
		p->listed[i]->listed = true;
	return 0;
}

static int add_opener(struct group *g, int64_t app)
{
	struct opener *o;

	HASH_FIND(hh, g->openers, &app, sizeof(app), o);
	if (!o && HASH_COUNT(g->openers) >= LIMIT_PRESSURE_OPENERS)
		return 0; /* not among the first, by all that is known */
	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o)
			return -ENOMEM;
		o->app = app;
		HASH_ADD(hh, g->openers, app, sizeof(o->app), o);
		if (!o->hh.tbl) {
			free(o);
			return -ENOMEM;
		}
	}
	o->claims++;
	return 0;
}

static bool was_under_way(const struct fold_row *row, usec_t at)
{
	return row->opened <= at && (row->released == USEC_UNSET || row->released > at);
}

static bool was_waiting(const struct fold_row *row, usec_t at)
{
	return row->closed != USEC_UNSET && row->closed <= at;
}

/* A destination has a port once; in a namespace others may have it too, and then it does not only wait. */
static int note_waiting(struct group *g, const struct fold_row *row, usec_t until)
{
	const usec_t at[] = {until, g->peak_at};
	uint64_t *waiting[] = {&g->waiting, &g->peak_waiting};

	for (size_t i = 0; i < ELEMENTSOF(at); i++) {
		if (!was_under_way(row, at[i]))
			continue;
		if (g->key.destination) {
			*waiting[i] += was_waiting(row, at[i]);
			continue;
		}
		if (was_waiting(row, at[i]))
			continue;
		if (!g->live)
			g->live = calloc(ELEMENTSOF(at), sizeof(*g->live));
		if (!g->live)
			return -ENOMEM;
		port_set_add(&g->live[i], row->port);
	}
	return 0;
}

/* What is taken and is not live waits. */
static void count_waiting(struct pressure *p)
{
	for (size_t i = 0; i < p->listed_count; i++) {
		struct group *g = p->listed[i];
		uint64_t live = g->live ? port_set_size(&g->live[0]) : 0;
		uint64_t live_at_peak = g->live ? port_set_size(&g->live[1]) : 0;

		if (g->key.destination)
			continue;
		g->waiting = g->used - MIN(live, g->used);
		g->peak_waiting = g->peak - MIN(live_at_peak, g->peak);
	}
}

/* The second walk. */
static int take_peak(void *context, const struct fold_row *found)
{
	struct pressure *p = context;
	const struct fold_row inside = into_window(p, found), *row = &inside;
	struct group_key keys[2];
	struct fold_place place;
	size_t count = 1;
	int r = places_find(p->places, row->local, &place);

	if (r < 0 || !is_handed_out(p, row, &place))
		return r;
	keys[0] = namespace_key(row, &place);
	count += destination_key(row, &place, &keys[1]);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct group *g = NULL;

		r = find_group(p, &keys[i], &place, false, &g);
		if (r < 0 || !g || !g->listed)
			continue;
		r = note_waiting(g, row, p->window.until);
		if (r == 0 && was_under_way(row, g->peak_at))
			r = add_opener(g, row->app);
	}
	return r;
}

/* From when on the window was watched. */
static int watched_since(struct query *q, struct window window, usec_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT min(c.from_usec) FROM coverage c WHERE " SQL_WATCHED_UNTIL ">=:from",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":from", (int64_t)window.from);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret = query_column(statement, 0) == ROW_NULL
		       ? window.from
		       : MAX((usec_t)sqlite3_column_int64(statement, 0), window.from);
	return 0;
}

static int walk_once(struct pressure *p, struct query *q, const struct question *question)
{
	int r = query_fold(q, question, true, take_claim, p);

	if (r == 0 && !p->started)
		start(p);
	return r;
}

/* The first walk; and where there was no room for all destinations, once more for those that may be among the fullest. */
static int walk(struct pressure *p, struct query *q, const struct question *question)
{
	struct group *g, *next;
	int r = walk_once(p, q, question);

	if (r < 0 || p->dropped == 0)
		return r;
	pressure_clear(p);
	HASH_ITER (hh, p->groups, g, next) {
		g->used = g->at_start = g->peak = g->claims = g->own_parity = g->other_parity = 0;
		g->peak_at = USEC_UNSET;
	}
	p->started = false;
	p->again = true;
	return walk_once(p, q, question);
}

int query_pressure(struct query *q, const struct filter *filter, struct window window,
	const struct kernel_ports *known, size_t limit, struct buf *out)
{
	_cleanup_(pressure_done) struct pressure p = {
		.window = window, .known = known, .wanted = filter};
	struct question question = {.filter = *filter, .window = window, .rows = ROWS_ALL};
	size_t before = buf_size(out);
	usec_t since = window.from;
	int r = places_new(q, &p.places);

	question.filter.peer_port = -1;
	question.filter.peer = (struct address){0};
	if (r == 0)
		r = query_hull(q, known, &question.filter.range);
	if (r == 0)
		r = walk(&p, q, &question);
	if (r == 0) {
		give_back_until(&p, window.until);
		r = note_blocked(&p);
	}
	if (r == 0) {
		note_available(&p);
		pressure_clear(&p); /* the last walk needs none */
		r = list_groups(&p, limit);
	}
	if (r == 0)
		r = query_fold(q, &question, false, take_peak, &p);
	count_waiting(&p);
	if (r == 0)
		r = watched_since(q, window, &since);
	if (r == 0)
		r = pressure_tell(&p, q, since, out);
	if (r < 0)
		buf_truncate(out, before);
	return r;
}
