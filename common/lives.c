/* SPDX-License-Identifier: MIT */

#include "common/lives.h"

/* The first byte: how many steps of `early`, and these flags. */
#define ENDED   0x80u
#define THINNED 0x80u /* of the second byte, which counts `quick` */
#define COUNT   0x7fu

_Static_assert(LIVES_MAX <= COUNT, "a count and a flag share a byte");

void lives_init(struct lives *l)
{
	l->shortest = INT64_MAX;
	l->longest = -1;
	l->early.count = l->quick.count = 0;
	l->ended = l->thinned = false;
}

/* Drops every second step; the first and the last stay. */
static void thin(struct lives_stair *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->count; i++)
		if (i % 2 == 0 || i == s->count - 1)
			s->step[kept++] = s->step[i];
	s->count = kept;
}

/* True: it was thinned for it. */
static bool stair_add(struct lives_stair *s, int64_t x, int64_t y)
{
	size_t from = s->count, to;
	bool full = false;

	while (from > 0 && s->step[from - 1].x > x)
		from--;
	if (from > 0 && s->step[from - 1].y <= y)
		return false;
	if (s->count == LIVES_MAX) {
		thin(s);
		full = true;
		for (from = s->count; from > 0 && s->step[from - 1].x > x;)
			from--;
	}
	if (from > 0 && s->step[from - 1].x == x)
		from--;
	for (to = from; to < s->count && s->step[to].y >= y;)
		to++;
	memmove(&s->step[from + 1], &s->step[to], (s->count - to) * sizeof(s->step[0]));
	s->step[from] = (struct lives_step){x, y};
	s->count = s->count - to + from + 1;
	return full;
}

static void add_ended(struct lives *l, int64_t shortest, int64_t longest)
{
	l->shortest = MIN(l->shortest, shortest);
	l->longest = MAX(l->longest, longest);
	l->ended = true;
}

void lives_add(struct lives *l, int64_t end, int64_t began, int64_t ended)
{
	if (ended <= end) {
		add_ended(l, ended - began, ended - began);
		return;
	}
	l->thinned |= stair_add(&l->early, began, -ended);
	l->thinned |= stair_add(&l->quick, ended, ended - began);
}

void lives_merge(struct lives *to, int64_t end, const struct lives *from)
{
	if (from->ended)
		add_ended(to, from->shortest, from->longest);
	for (size_t i = 0; i < from->early.count; i++) {
		const struct lives_step *s = &from->early.step[i];

		if (-s->y <= end)
			add_ended(to, -s->y - s->x, -s->y - s->x);
		else
			to->thinned |= stair_add(&to->early, s->x, s->y);
	}
	for (size_t i = 0; i < from->quick.count; i++) {
		const struct lives_step *s = &from->quick.step[i];

		if (s->x <= end)
			add_ended(to, s->y, s->y);
		else
			to->thinned |= stair_add(&to->quick, s->x, s->y);
	}
	to->thinned |= from->thinned;
}

void lives_at(const struct lives *l, int64_t until, int64_t *ret_shortest, int64_t *ret_longest)
{
	int64_t shortest = l->shortest, longest = l->longest;

	for (size_t i = 0; i < l->early.count; i++) {
		const struct lives_step *s = &l->early.step[i];
		int64_t life = MIN(-s->y, until) - s->x;

		longest = MAX(longest, life);
	}
	for (size_t i = 0; i < l->quick.count && l->quick.step[i].x <= until; i++)
		shortest = MIN(shortest, l->quick.step[i].y);
	*ret_shortest = shortest;
	*ret_longest = longest;
}

static size_t put(uint8_t *to, int64_t number)
{
	for (size_t k = 0; k < sizeof(number); k++)
		to[k] = (uint8_t)((uint64_t)number >> 8 * k);
	return sizeof(number);
}

static int64_t get(const uint8_t *from)
{
	uint64_t number = 0;

	for (size_t k = 0; k < sizeof(number); k++)
		number |= (uint64_t)from[k] << 8 * k;
	return (int64_t)number;
}

size_t lives_size(const struct lives *l)
{
	size_t steps = l->early.count + l->quick.count;

	return !l->ended && !l->thinned && steps == 0 ? 0 : 2 + (l->ended ? 16u : 0) + 16 * steps;
}

size_t lives_write(const struct lives *l, uint8_t to[static LIVES_BYTES])
{
	const struct lives_stair *const stairs[] = {&l->early, &l->quick};
	size_t size = 2;

	if (lives_size(l) == 0)
		return 0;
	to[0] = (uint8_t)(l->early.count | (l->ended ? ENDED : 0));
	to[1] = (uint8_t)(l->quick.count | (l->thinned ? THINNED : 0));
	if (l->ended) {
		size += put(to + size, l->shortest);
		size += put(to + size, l->longest);
	}
	for (size_t k = 0; k < ELEMENTSOF(stairs); k++)
		for (size_t i = 0; i < stairs[k]->count; i++) {
			size += put(to + size, stairs[k]->step[i].x);
			size += put(to + size, stairs[k]->step[i].y);
		}
	return size;
}

static int read_stair(const uint8_t *from, size_t count, struct lives_stair *ret)
{
	for (size_t i = 0; i < count; i++) {
		struct lives_step *s = &ret->step[i];

		*s = (struct lives_step){get(from + 16 * i), get(from + 16 * i + 8)};
		if (i > 0 && (s->x <= s[-1].x || s->y >= s[-1].y))
			return -EBADMSG;
	}
	ret->count = count;
	return 0;
}

int lives_read(const void *data, size_t size, struct lives *ret)
{
	const uint8_t *bytes = data;
	size_t early, quick, at = 2;
	int r;

	lives_init(ret);
	if (size == 0)
		return 0;
	if (size < 2)
		return -EBADMSG;
	early = bytes[0] & COUNT;
	quick = bytes[1] & COUNT;
	if (early > LIVES_MAX || quick > LIVES_MAX ||
		size != 2 + (bytes[0] & ENDED ? 16u : 0u) + 16 * (early + quick))
		return -EBADMSG;
	ret->thinned = bytes[1] & THINNED;
	if (bytes[0] & ENDED) {
		add_ended(ret, get(bytes + at), get(bytes + at + 8));
		at += 16;
	}
	r = read_stair(bytes + at, early, &ret->early);
	return r < 0 ? r : read_stair(bytes + at + 16 * early, quick, &ret->quick);
}
