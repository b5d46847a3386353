/* SPDX-License-Identifier: MIT */

/*
 * Ports that run short, said when it begins and when it is over, by what is open. The kernel gives a client any port that is not
 * taken to the same destination: so it is a destination's ports that run out (query_pressure.c counts the same for answers).
 *
 * Nothing is kept per claim and nothing is counted as claims come and go: it is looked at once a second, and only where so many claims are
 * open that the narrowest range could be used up, which is hardly ever. Then all open claims are counted into a table of BUCKETS
 * numbers, whatever their destination; only those of a bucket that is full enough are told apart. The longer a look takes, the
 * seldomer it is made. What is between two looks is not seen: ports that were taken mostly wait for a minute.
 */

#include "daemon/ledger/notable_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"

#define BUCKETS 16384u

/* Of what is available: from here on it is watched how they grow, it is said, and it is over. */
#define WATCHED_TENTHS 4u
#define SHORT_TENTHS   8u
#define EASED_TENTHS   6u

#define SAMPLE_USEC (5 * USEC_PER_MINUTE) /* the rate is that of the last one to two of these */
/* Measured: a look takes 0.25 us a claim of 28,000, and 0.13 us a claim of a million. So it is 0.5 % of a core at most, and nothing where
 * fewer are open than matter. */
#define LOOK_USEC(claims) MAX(USEC_PER_SEC, (claims)*50)

/* A namespace, while it is looked at. */
struct spot {
	uint64_t netns;
	struct port_range range;
	uint32_t blockers;        /* claims that keep their port from every client */
	struct port_set *blocked; /* owned; ports that no client is given; NULL: nobody has asked */
	UT_hash_handle hh;        /* by netns */
};

/* A destination of which many ports may be taken, while it is looked at. */
struct crowd {
	struct crowd_key key;
	struct spot *spot;
	struct port_set ports; /* those that are taken */
	UT_hash_handle hh;     /* by key */
};

struct look {
	struct notable *notable;
	uint32_t *counts; /* BUCKETS of them: claims by their destination's hash */
	struct spot *spots;
	struct crowd *crowds;
};

static void look_done(struct look *l)
{
	struct spot *s, *next;
	struct crowd *c, *after;

	HASH_ITER (hh, l->spots, s, next) {
		HASH_DELETE(hh, l->spots, s);
		free(s->blocked);
		free(s);
	}
	HASH_ITER (hh, l->crowds, c, after) {
		HASH_DELETE(hh, l->crowds, c);
		free(c);
	}
	free(l->counts);
}

static struct crowd_key key_of(const struct claim *c)
{
	return (struct crowd_key){
		.netns = c->netns,
		.local = c->local.address,
		.remote = c->remote.address,
		.remote_port = c->remote.port,
	};
}

static bool blocks(const struct claim *c)
{
	return c->role == ROLE_LISTENING || c->role == ROLE_BOUND || c->role == ROLE_ACCEPTED;
}

static unsigned size_of(struct port_range range)
{
	return (unsigned)(range.high - range.low) + 1;
}

static struct port_range range_of(const struct notable *n, uint64_t netns)
{
	struct port_range range =
		n->ledger ? ledger_ephemeral(n->ledger, netns) : (struct port_range){0};

	return range.high == 0 ? n->ephemeral : range;
}

/* What no client is given, whoever is open, as far as that is known. */
static const struct port_set *reserved_of(const struct notable *n, uint64_t netns)
{
	bool own = n->reserved && n->ledger && n->reserved_netns != 0 &&
		   ledger_netns_inode(n->ledger, netns) == n->reserved_netns;

	return own ? n->reserved : NULL;
}

static int find_spot(struct look *l, uint64_t netns, struct spot **ret)
{
	struct spot *s;

	HASH_FIND(hh, l->spots, &netns, sizeof(netns), s);
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		s->netns = netns;
		s->range = range_of(l->notable, netns);
		HASH_ADD(hh, l->spots, netns, sizeof(s->netns), s);
		if (!s->hh.tbl) {
			free(s);
			return -ENOMEM;
		}
	}
	*ret = s;
	return 0;
}

/* TCP's, on a port that its namespace hands out. 1: *ret is its namespace; 0: it is none. */
static int take(struct look *l, const struct claim *c, struct spot **ret)
{
	int r;

	if (c->protocol != PROTOCOL_TCP && c->protocol != PROTOCOL_MPTCP)
		return 0;
	r = find_spot(l, c->netns, ret);
	if (r < 0)
		return r;
	return c->local.port >= (*ret)->range.low && c->local.port <= (*ret)->range.high;
}

static bool is_client(const struct claim *c)
{
	return !blocks(c) && c->remote.address.family != FAMILY_NONE && c->remote.port != 0;
}

static uint32_t *count_of(struct look *l, const struct crowd_key *key)
{
	return &l->counts[siphash(&l->notable->key, key, sizeof(*key)) % BUCKETS];
}

static int count_claim(void *context, struct claim *c)
{
	struct look *l = context;
	struct spot *spot;
	struct crowd_key key;
	int r = take(l, c, &spot);

	if (r <= 0)
		return r;
	spot->blockers += blocks(c);
	if (is_client(c)) {
		key = key_of(c);
		++*count_of(l, &key);
	}
	return 0;
}

/* Fewer than these are available at no destination of the namespace; 0: that cannot be told yet. */
static unsigned available_at_least(const struct look *l, const struct spot *s)
{
	const struct port_set *reserved = reserved_of(l->notable, s->netns);
	unsigned size = size_of(s->range),
		 taken = reserved ? port_set_count(reserved, s->range.low, s->range.high) : 0;

	taken += MIN(s->blockers, size);
	return taken < size ? size - taken : 0;
}

static int add_crowd(
	struct look *l, const struct crowd_key *key, struct spot *spot, struct crowd **ret)
{
	struct crowd *c;

	if (!spot->blocked) {
		const struct port_set *reserved = reserved_of(l->notable, spot->netns);

		spot->blocked = calloc(1, sizeof(*spot->blocked));
		if (!spot->blocked)
			return -ENOMEM;
		if (reserved)
			*spot->blocked = *reserved;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->key = *key;
	c->spot = spot;
	HASH_ADD(hh, l->crowds, key, sizeof(c->key), c);
	if (!c->hh.tbl) {
		free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

static int gather_claim(void *context, struct claim *claim)
{
	struct look *l = context;
	struct crowd_key key;
	struct crowd *c;
	struct spot *spot;
	int r = is_client(claim) ? take(l, claim, &spot) : 0;

	if (r <= 0)
		return r;
	key = key_of(claim);
	if (*count_of(l, &key) * 10 < available_at_least(l, spot) * WATCHED_TENTHS)
		return 0;
	HASH_FIND(hh, l->crowds, &key, sizeof(key), c);
	if (!c && HASH_COUNT(l->crowds) >= LIMIT_CROWDS)
		return 0;
	r = c ? 0 : add_crowd(l, &key, spot, &c);
	if (r == 0)
		port_set_add(&c->ports, claim->local.port);
	return r;
}

static int block_claim(void *context, struct claim *claim)
{
	struct look *l = context;
	struct spot *spot;
	int r = blocks(claim) ? take(l, claim, &spot) : 0;

	if (r == 1 && spot->blocked)
		port_set_add(spot->blocked, claim->local.port);
	return r < 0 ? r : 0;
}

/* Whose most of a crowd's claims are, if they are anybody's: the one that is left when claims of two programs cancel each other. */
struct vote {
	struct crowd_key key;
	const struct process *most;
	uint64_t lead, all, theirs;
	bool counting;
};

static bool is_same(const char *a, const char *b)
{
	return a == b || (a && b && streq(a, b));
}

static bool is_same_program(const struct process *a, const struct process *b)
{
	return a == b || (a && b && a->uid == b->uid && is_same(a->exe, b->exe) &&
				 is_same(a->comm, b->comm) && is_same(a->unit, b->unit));
}

static int vote_claim(void *context, struct claim *c)
{
	struct vote *v = context;
	struct crowd_key key = key_of(c);

	if (memcmp(&key, &v->key, sizeof(key)) != 0 || blocks(c))
		return 0;
	if (v->counting) {
		v->all++;
		v->theirs += is_same_program(v->most, c->opener);
	} else if (v->lead == 0) {
		v->most = c->opener;
		v->lead = 1;
	} else {
		v->lead += is_same_program(v->most, c->opener) ? 1u : UINT64_MAX;
	}
	return 0;
}

static const struct process *find_most(struct ledger *ledger, const struct crowd_key *key)
{
	struct vote v = {.key = *key};

	(void)ledger_each(ledger, vote_claim, &v);
	v.counting = true;
	(void)ledger_each(ledger, vote_claim, &v);
	return v.theirs * 2 > v.all && v.most && v.most->pid > 0 ? v.most : NULL;
}

/* When all are taken at the present rate, from now; USEC_UNSET: they do not grow, or not within a day. */
static usec_t full_in(const struct shortage *s, struct shortage_now is, usec_t boot)
{
	usec_t elapsed = usec_sub(boot, s->before.at), wait;
	uint64_t left = is.available > is.used ? is.available - is.used : 0;

	if (is.used <= s->before.used || elapsed < USEC_PER_SEC || left == 0)
		return USEC_UNSET;
	wait = elapsed * left / (is.used - s->before.used);
	return wait < USEC_PER_DAY ? wait : USEC_UNSET;
}

static void note_sample(struct shortage *s, unsigned used, usec_t boot)
{
	if (usec_sub(boot, s->latest.at) < SAMPLE_USEC)
		return;
	s->before = s->latest;
	s->latest = (struct shortage_sample){boot, used};
}

static int find_shortage(struct notable *n, const struct crowd_key *key, unsigned used, usec_t boot,
	struct shortage **ret)
{
	struct shortage *s;

	HASH_FIND(hh, n->shortages, key, sizeof(*key), s);
	*ret = s;
	if (s || HASH_COUNT(n->shortages) >= LIMIT_CROWDS)
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->key = *key;
	s->before = s->latest = (struct shortage_sample){boot, used};
	HASH_ADD(hh, n->shortages, key, sizeof(s->key), s);
	if (!s->hh.tbl) {
		free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

static void judge(struct notable *n, struct ledger *ledger, struct shortage *s,
	struct shortage_now is, struct now now)
{
	s->seen = true;
	s->is = is;
	s->peak = MAX(s->peak, is.used);
	note_sample(s, is.used, now.boot);
	if (!s->said && is.used * 10 >= is.available * SHORT_TENTHS) {
		usec_t wait = full_in(s, is, now.boot);

		s->said = true;
		notable_say_short(n, s, find_most(ledger, &s->key),
			wait == USEC_UNSET ? USEC_UNSET : now.wall + wait, now.wall);
	} else if (s->said && is.used * 10 < is.available * EASED_TENTHS) {
		s->said = false;
		notable_say_eased(n, s);
		s->peak = is.used;
	}
}

struct recount {
	struct crowd_key key;
	struct port_set ports;
};

static int recount_claim(void *context, struct claim *c)
{
	struct recount *r = context;
	struct crowd_key key = key_of(c);

	if (memcmp(&key, &r->key, sizeof(key)) == 0 && !blocks(c))
		port_set_add(&r->ports, c->local.port);
	return 0;
}

/* Those that this look has not found are not crowded any more. */
static void forget_others(struct notable *n, struct ledger *ledger)
{
	struct shortage *s, *next;

	HASH_ITER (hh, n->shortages, s, next) {
		struct recount now = {.key = s->key};

		if (s->seen) {
			s->seen = false;
			continue;
		}
		if (s->said) {
			(void)ledger_each(ledger, recount_claim, &now);
			s->is.used = port_set_size(&now.ports);
			notable_say_eased(n, s);
		}
		HASH_DELETE(hh, n->shortages, s);
		free(s);
	}
}

static int judge_all(struct look *l, struct ledger *ledger, struct now now)
{
	struct crowd *c, *next;
	int r = 0;

	HASH_ITER (hh, l->crowds, c, next) {
		const struct port_range range = c->spot->range;
		struct shortage_now is = {.used = port_set_size(&c->ports),
			.available = size_of(range) -
				     port_set_count(c->spot->blocked, range.low, range.high)};
		struct shortage *s = NULL;

		if (is.used * 10 < is.available * WATCHED_TENTHS)
			continue;
		r = find_shortage(l->notable, &c->key, is.used, now.boot, &s);
		if (r < 0)
			return r;
		if (s)
			judge(l->notable, ledger, s, is, now);
	}
	forget_others(l->notable, ledger);
	return 0;
}

static bool may_be_short(const struct notable *n, uint64_t open_claims)
{
	unsigned size = n->ephemeral.high ? size_of(n->ephemeral) : UINT16_MAX;
	unsigned taken = n->reserved ? port_set_size(n->reserved) : 0;

	if (n->narrowest != 0)
		size = MIN(size, n->narrowest);
	size = taken < size ? size - taken : 1;
	return open_claims * 10 >= size * WATCHED_TENTHS;
}

/* Without memory for it, nothing is said this time. */
void notable_look_at_ports(struct notable *n, struct ledger *ledger, struct now now)
{
	uint64_t open_claims = ledger_stats(ledger).open_claims;
	struct look l = {.notable = n};
	int r = 0;

	if (now.boot < n->ports_next || (!n->shortages && !may_be_short(n, open_claims)))
		return;
	n->ports_next = now.boot + LOOK_USEC(open_claims);
	l.counts = calloc(BUCKETS, sizeof(*l.counts));
	if (l.counts)
		r = ledger_each(ledger, count_claim, &l);
	if (l.counts && r == 0)
		r = ledger_each(ledger, gather_claim, &l);
	if (l.counts && r == 0 && l.crowds)
		r = ledger_each(ledger, block_claim, &l);
	if (!l.counts || r < 0 || judge_all(&l, ledger, now) < 0)
		log_debug("no memory to look for ports that run short");
	look_done(&l);
}

void notable_reserved(struct notable *n, const struct port_set *reserved, uint64_t netns)
{
	free(TAKE_PTR(n->reserved));
	n->reserved_netns = netns;
	if (!reserved || port_set_size(reserved) == 0)
		return;
	n->reserved = malloc(sizeof(*n->reserved));
	if (n->reserved)
		*n->reserved = *reserved;
}

void notable_ports_done(struct notable *n)
{
	struct shortage *s, *next;

	HASH_ITER (hh, n->shortages, s, next) {
		HASH_DELETE(hh, n->shortages, s);
		free(s);
	}
	free(TAKE_PTR(n->reserved));
}
