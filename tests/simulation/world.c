/* SPDX-License-Identifier: MIT */

/* What is true: sockets, their processes, two clocks, and the ring into which the kernel's programs record. */

#include "tests/simulation/sim.h"

#define WALL UINT64_C(1700000000000000)

static void note_offset(struct sim *s)
{
	int64_t offset = (int64_t)(s->clock.wall - s->clock.boot);

	for (size_t i = 0; i < s->offset_count; i++)
		if (s->offsets[i].boot == s->boot && s->offsets[i].offset == offset)
			return;
	if (s->offset_count == OFFSETS)
		wrong(s, "too many clocks");
	s->offsets[s->offset_count].boot = s->boot;
	s->offsets[s->offset_count++].offset = offset;
}

void world_begin(struct sim *s)
{
	s->clock = (struct now){.boot = 100 * USEC_PER_SEC, .wall = WALL};
	s->next_cookie = 1;
	note_offset(s);
}

void world_pass(struct sim *s, usec_t usec)
{
	s->clock.boot += usec;
	s->clock.wall += usec;
}

void world_set_clock(struct sim *s, int64_t by_usec)
{
	s->clock.wall += (usec_t)by_usec;
	s->count.steps++;
	note_offset(s);
}

/* The ring */

void ring_begin(struct sim *s)
{
	static const uint64_t rooms[] = {8, 24, 64, RING_MAX};
	uint64_t generation = 1 + draw(s, UINT32_MAX), room = rooms[draw(s, 4)];

	s->ring = (struct ring){.generation = generation, .room = room, .begun = s->clock.boot};
	s->lost_told = s->lost_committed = s->lost_durable = 0;
}

/* What it lost and nobody has stored, nobody will. */
void ring_end(struct sim *s, bool power)
{
	if (s->ring.generation == 0)
		return;
	s->lost_least += s->lost_durable;
	if (!power)
		s->lost_pending += s->lost_committed - s->lost_durable;
	s->lost_most += s->ring.lost;
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		if (t->boot != s->boot || t->committed)
			continue;
		t->excused = true;
		if (t->before == NOBODY)
			continue;
		/* nobody knows any more that it is not still the one before */
		s->tenures[t->before].excused = true;
		s->tenures[t->before].committed = s->tenures[t->before].durable = false;
	}
	s->ring.generation = 0;
}

static bool ring_put(struct sim *s, enum ring_kind kind, uint32_t tenure)
{
	struct ring *r = &s->ring;

	if (r->head - r->kept >= r->room)
		return false;
	r->records[r->head++ % RING_MAX] =
		(struct ring_record){.kind = kind, .tenure = tenure, .at = s->clock.boot};
	return true;
}

static void tell_opened(struct sim *s, uint32_t i)
{
	struct tenure *t = &s->tenures[i];

	if (s->ring.generation == 0)
		return;
	t->in_ring = ring_put(s, RING_OPENED, i);
	t->marked = !t->in_ring;
	/* the table of what was told may forget: then it is told twice */
	if (t->in_ring && chance(s, 5))
		(void)ring_put(s, RING_OPENED, i);
}

static void tell_closed(struct sim *s, uint32_t i)
{
	struct tenure *t = &s->tenures[i];

	if (s->ring.generation == 0)
		return;
	if (ring_put(s, t->marked ? RING_WHOLE : RING_CLOSED, i)) {
		t->in_ring |= t->marked;
		return;
	}
	if (t->marked) {
		t->lost = true;
		s->ring.lost++;
	} else {
		t->end_lost = true;
		s->ring.lost_ends++;
	}
}

/* Sockets */

static uint32_t pick_person(struct sim *s)
{
	struct person *p;

	if (s->people_count > 0 && (s->people_count == PEOPLE || chance(s, 60)))
		return s->people_count - 1 - (uint32_t)draw(s, MIN(s->people_count, 6u));
	p = &s->people[s->people_count];
	*p = (struct person){
		.pid = 100 + (int32_t)(s->people_count % PIDS), .start = s->clock.boot};
	return s->people_count++;
}

static struct tenure make_tenure(struct sim *s, bool udp)
{
	struct tenure t = {
		.cookie = s->next_cookie,
		.boot = s->boot,
		.protocol = udp ? PROTOCOL_UDP : PROTOCOL_TCP,
		.role = ROLE_BOUND,
		.heir = NOBODY,
		.before = NOBODY,
		.opened = s->clock.boot,
		.closed = USEC_UNSET,
		.released = USEC_UNSET,
		.told_at = USEC_UNSET,
		.missed_at = USEC_UNSET,
	};

	t.port = (uint16_t)(40000 + draw(s, PORTS));
	if (!udp)
		t.role = chance(s, 20) ? ROLE_LISTENING : ROLE_CONNECTED;
	t.abroad = chance(s, 25);
	t.ipv6 = chance(s, 30);
	t.opener = pick_person(s);
	if (chance(s, 15))
		t.heir = pick_person(s);
	return t;
}

void world_open(struct sim *s)
{
	uint32_t i = s->tenure_count;
	struct tenure *t = &s->tenures[i];
	uint32_t again = world_pick_open(s);
	bool udp = chance(s, 40);

	if (i == TENURES)
		return;
	*t = make_tenure(s, udp);
	s->tenure_count++;
	/* a UDP socket that gives its port back and takes another one, or the same; not where the ring may go: an end says which
	 * socket it is of, not which tenure */
	if (again != NOBODY && s->tenures[again].protocol == PROTOCOL_UDP && s->events &&
		s->outlives && s->ring.generation != 0 && chance(s, 30)) {
		struct tenure *before = &s->tenures[again];

		world_close(s, again);
		world_pass(s, 1 + draw(s, 1000));
		t->cookie = before->cookie;
		t->abroad = before->abroad;
		t->protocol = PROTOCOL_UDP;
		t->role = ROLE_BOUND;
		t->opened = s->clock.boot;
		/* where the word of its end, or of all of it, is lost, nobody can tell the same port again from the same
		 * tenure: that there is a gap, is all */
		if (chance(s, 50) && !before->end_lost && !before->lost) {
			t->port = before->port;
			t->before = again;
		} else { /* none that it ever had */
			t->port = (uint16_t)(before->port + PORTS);
		}
	} else {
		s->next_cookie++;
	}
	tell_opened(s, i);
	trace(s, "claim %u: cookie %llu, port %u/%s%s", i, (unsigned long long)t->cookie, t->port,
		t->protocol == PROTOCOL_UDP ? "udp" : "tcp",
		t->in_ring ? "" : ", of which the ring does not tell");
	s->count.made++;
}

uint32_t world_pick_open(struct sim *s)
{
	uint32_t found = NOBODY, seen = 0;

	for (uint32_t i = 0; i < s->tenure_count; i++)
		if (s->tenures[i].boot == s->boot && s->tenures[i].closed == USEC_UNSET &&
			draw(s, ++seen) == 0)
			found = i;
	return found;
}

void world_close(struct sim *s, uint32_t i)
{
	struct tenure *t = &s->tenures[i];

	t->closed = t->released = s->clock.boot;
	if (t->protocol == PROTOCOL_TCP && t->role == ROLE_CONNECTED && chance(s, 50))
		t->released = t->closed + 1 + draw(s, 60 * USEC_PER_SEC);
	tell_closed(s, i);
	trace(s, "claim %u is over%s", i,
		t->lost || t->end_lost ? ", of which the ring does not tell" : "");
	capture_hear(s, i);
}

void world_reboot(struct sim *s)
{
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		if (t->boot == s->boot && t->closed == USEC_UNSET)
			t->closed = t->released = s->clock.boot;
	}
	ring_end(s, true);
	s->boot++;
	s->clock.boot = (10 + draw(s, 50)) * USEC_PER_SEC;
	s->clock.wall += USEC_PER_MINUTE;
	s->next_cookie = 1 + draw(s, 3);
	note_offset(s);
}

/* Nothing can be said of a time before the first that the disk knows of; and one that goes on is one. */
void absence_begin(struct sim *s)
{
	const struct absence *last =
		s->absence_count > 0 ? &s->absences[s->absence_count - 1] : NULL;

	if (s->watched && s->absence_count < ABSENCES && !(last && last->until == USEC_UNSET))
		s->absences[s->absence_count++] =
			(struct absence){.from = s->clock.wall, .until = USEC_UNSET};
}

void absence_end(struct sim *s, usec_t boot)
{
	struct absence *a = s->absence_count > 0 ? &s->absences[s->absence_count - 1] : NULL;

	if (a && a->until == USEC_UNSET)
		a->until = s->clock.wall - (s->clock.boot - boot);
}
