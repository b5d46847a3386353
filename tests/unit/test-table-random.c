/* SPDX-License-Identifier: MIT */

/* A seeded random world: after every whole sweep, a reader of the sightings believes what is true. */

#include "tests/unit/table-script.h"

#define SOCKETS_MAX 64
#define STEPS       150

enum kind { KIND_CLIENT, KIND_LISTENER, KIND_SERVED, KIND_BOUND, KIND_UDP, KIND_UDPLITE };

/* A socket as it truly is. */
struct truth {
	enum kind kind;
	bool mptcp;             /* a pair: `cookie` in MPTCP's table, `cookie` + 1 in TCP's */
	bool hidden;            /* the kernel's walk skips it, once */
	bool whole;             /* of a pair: a whole sweep has seen both halves */
	bool ending, half_gone; /* TIME_WAIT; of a pair: the MPTCP socket went first */
	uint64_t cookie;        /* 0: no socket */
	uint64_t inode;
	uint16_t port, peer;
};

struct random_world {
	struct world *w;
	uint64_t seed, next_cookie;
	uint16_t next_port;
	struct truth sockets[SOCKETS_MAX];
	/* what a reader of the sightings believes: the open ones, by cookie */
	struct sighting open[4 * SOCKETS_MAX];
	size_t open_count;
};

static uint32_t roll(struct random_world *r, uint32_t sides)
{
	r->seed ^= r->seed << 13;
	r->seed ^= r->seed >> 7;
	r->seed ^= r->seed << 17;
	return (uint32_t)(r->seed >> 20) % sides;
}

static const struct truth *any_listener(struct random_world *r, bool is_mptcp)
{
	for (size_t i = roll(r, SOCKETS_MAX), n = 0; n < SOCKETS_MAX; n++, i++) {
		const struct truth *t = &r->sockets[i % SOCKETS_MAX];

		if (t->cookie != 0 && t->kind == KIND_LISTENER && t->mptcp == is_mptcp)
			return t;
	}
	return NULL;
}

static void be_born(struct random_world *r, struct truth *t)
{
	const struct truth *l;

	*t = (struct truth){.kind = (enum kind)roll(r, KIND_UDPLITE + 1), .cookie = r->next_cookie};
	t->mptcp = t->kind <= KIND_SERVED && roll(r, 3) == 0;
	t->inode = 10000 + r->next_cookie;
	t->port = r->next_port++;
	t->peer = t->kind == KIND_CLIENT || t->kind == KIND_SERVED || roll(r, 2) ? SERVER_PORT : 0;
	if (t->kind == KIND_BOUND || t->kind == KIND_LISTENER)
		t->peer = 0;
	if (t->kind == KIND_SERVED) {
		l = any_listener(r, t->mptcp);
		if (!l) {
			t->cookie = 0;
			return;
		}
		t->inode *= roll(r, 2); /* perhaps nobody has accepted it yet */
		t->peer = t->port;
		t->port = l->port;
	}
	r->next_cookie += 2;
}

static void change(struct random_world *r, struct truth *t)
{
	bool stream = t->kind == KIND_CLIENT || t->kind == KIND_SERVED;

	if (t->mptcp && !t->whole)
		return;
	if (t->kind == KIND_UDP || t->kind == KIND_UDPLITE) {
		t->peer = roll(r, 2) ? (uint16_t)(1 + roll(r, 3)) : 0;
		if (roll(r, 3) == 0)
			t->port = r->next_port++;
	} else if (t->kind == KIND_BOUND) {
		t->kind = roll(r, 2) ? KIND_CLIENT : KIND_LISTENER;
		t->peer = t->kind == KIND_CLIENT ? SERVER_PORT : 0;
	} else if (stream && t->inode == 0 && !t->ending) {
		t->inode = 10000 + t->cookie;
	} else if (stream && !t->ending && t->mptcp && !t->half_gone) {
		t->half_gone = true;
	} else if (stream && !t->ending) {
		t->ending = true;
		t->inode = 0;
	}
}

static void live(struct random_world *r)
{
	for (size_t i = 0; i < SOCKETS_MAX; i++) {
		struct truth *t = &r->sockets[i];

		if (t->cookie != 0 && roll(r, 8) == 0)
			change(r, t);
		else if (t->cookie != 0 && roll(r, 12) == 0)
			t->cookie = 0;
	}
	for (size_t i = 0; i < SOCKETS_MAX; i++)
		if (r->sockets[i].cookie == 0 && roll(r, 6) == 0)
			be_born(r, &r->sockets[i]);
}

static enum protocol protocol_of(const struct truth *t)
{
	return t->kind == KIND_UDP       ? PROTOCOL_UDP
	       : t->kind == KIND_UDPLITE ? PROTOCOL_UDPLITE
	       : t->mptcp                ? PROTOCOL_MPTCP
					 : PROTOCOL_TCP;
}

static enum role truth_role(const struct truth *t)
{
	switch (t->kind) {
	case KIND_CLIENT:
		return ROLE_CONNECTED;
	case KIND_LISTENER:
		return ROLE_LISTENING;
	case KIND_SERVED:
		return ROLE_ACCEPTED;
	case KIND_BOUND:
		return ROLE_BOUND;
	case KIND_UDP:
	case KIND_UDPLITE:
		return t->peer ? ROLE_CONNECTED : ROLE_BOUND;
	}
	return ROLE_COUNT;
}

/* Its row in the table of a protocol; false: it is not in that table. */
static bool truth_row(const struct truth *t, enum protocol p, struct socket_row *ret)
{
	bool half = t->mptcp && p == PROTOCOL_TCP;
	uint8_t state = t->kind == KIND_LISTENER ? TCP_LISTEN
			: t->peer                ? TCP_ESTABLISHED
						 : TCP_CLOSE;

	if (t->cookie == 0 || t->hidden || (protocol_of(t) != p && !half) ||
		(p == PROTOCOL_MPTCP && (t->half_gone || t->ending)))
		return false;
	*ret = with_inode(row_of(p, t->cookie + half, state, t->port, t->peer), t->inode);
	if (t->ending)
		*ret = remainder_of(*ret);
	return true;
}

/* Reads a table as the kernel gives it, listeners first; not read whole, it loses rows, but no listeners. */
static void feed_table(struct random_world *r, enum protocol p, bool whole)
{
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < SOCKETS_MAX; i++) {
			struct socket_row row;

			if (!truth_row(&r->sockets[i], p, &row) ||
				(row.state == TCP_LISTEN) != (pass == 0) ||
				(pass == 1 && !whole && roll(r, 2)))
				continue;
			feed(r->w, row);
		}
	}
}

static struct sighting *believed(struct random_world *r, uint64_t cookie)
{
	for (size_t i = 0; i < r->open_count; i++)
		if (r->open[i].cookie == cookie)
			return &r->open[i];
	return NULL;
}

static void believe(struct random_world *r)
{
	for (size_t i = 0; i < r->w->count; i++) {
		const struct sighting *s = &r->w->got[i];
		struct sighting *known = believed(r, s->cookie);

		if (s->kind == SIGHTING_ABSENT) {
			assert_non_null(known);
			assert_int_equal(s->at, r->w->end);
			assert_in_range(s->after, START, r->w->begin);
			*known = r->open[--r->open_count];
			continue;
		}
		assert_int_equal(s->kind, SIGHTING_PRESENT);
		assert_in_range(s->at, r->w->begin, r->w->end);
		assert_true(s->after < r->w->begin);
		assert_true(s->after != 0 || s->preexisting);
		if (!known) {
			assert_true(r->open_count < ELEMENTSOF(r->open));
			known = &r->open[r->open_count++];
		}
		*known = *s;
	}
}

/* After a whole sweep every socket is believed in once, as it is, and no other is. */
static void compare(struct random_world *r)
{
	size_t sockets = 0;

	for (size_t i = 0; i < SOCKETS_MAX; i++) {
		struct truth *t = &r->sockets[i];
		const struct sighting *s, *half;

		if (t->cookie == 0 || t->hidden)
			continue;
		t->whole = true;
		sockets++;
		s = believed(r, t->cookie);
		half = believed(r, t->cookie + 1);
		assert_true(!s != !half);
		s = s ? s : half;
		expect(s, SIGHTING_PRESENT, s->cookie, protocol_of(t), truth_role(t), t->ending);
		assert_int_equal(s->local.port, t->port);
		assert_int_equal(s->remote.port, t->peer);
	}
	assert_int_equal(r->open_count, sockets);
	assert_int_equal(table_stats(r->w->table).sockets, sockets);
}

static void random_sweep(struct random_world *r, uint32_t protocols)
{
	static const enum protocol order[] = {
		PROTOCOL_MPTCP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_UDPLITE};

	begin(r->w);
	for (size_t i = 0; i < ELEMENTSOF(order); i++)
		feed_table(r, order[i], protocols & BIT(order[i]));
	assert_int_equal(end(r->w, protocols), 0);
	believe(r);
}

static void test_random_worlds(void **state)
{
	size_t told = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		WORLD(w, true);
		struct random_world r = {
			.w = w,
			.seed = seed * UINT64_C(0x9e3779b97f4a7c15),
			.next_cookie = 2,
			.next_port = 1024,
		};

		live(&r);
		random_sweep(&r, ALL);
		for (int step = 0; step < STEPS; step++) {
			live(&r);
			if (roll(&r, 3) == 0)
				random_sweep(&r, roll(&r, ALL));
			random_sweep(&r, ALL);
			told += w->count;
			compare(&r);
			for (size_t i = 0; i < SOCKETS_MAX; i++)
				r.sockets[i].hidden = roll(&r, 10) == 0;
			random_sweep(&r, ALL);
			compare(&r);
			for (size_t i = 0; i < SOCKETS_MAX; i++)
				r.sockets[i].hidden = false;
			random_sweep(&r, ALL);
			compare(&r);
			/* the same again is no news */
			random_sweep(&r, ALL);
			assert_int_equal(w->count, 0);
		}
	}
	assert_true(told > 20 * STEPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_worlds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
