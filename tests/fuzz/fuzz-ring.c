/* SPDX-License-Identifier: MIT */

/* What is in the ring, from any position to any end; and a slot of a process. */

#include "tests/fuzz/fuzz.h"

#include "daemon/capture/events.h"

#define RING 1024u

static int hear(void *context, const struct event_seen *e)
{
	uint64_t *heard = context;

	assert(e->kind >= EVENT_CLAIM && e->kind <= EVENT_HOLDER);
	assert(e->protocol < PROTOCOL_COUNT);
	assert(e->process == 0 || e->cgroup_id == 0);
	if (e->kind == EVENT_CLAIM || e->kind == EVENT_WHOLE) {
		assert(e->role < ROLE_COUNT);
		assert(e->local.port != 0 && e->local.address.family != FAMILY_NONE);
	}
	assert((e->remote.port != 0) == (e->remote.address.family != FAMILY_NONE));
	assert((e->kind == EVENT_FAILURE) == (e->error != 0));
	*heard += 1;
	return 0;
}

static void walk(const uint8_t *data, size_t size, uint64_t from, uint64_t length)
{
	/* the records of the kernel begin at a multiple of 8 */
	_Alignas(8) uint8_t ring[2 * RING] = {0};
	uint64_t position = from, heard = 0, end = from + MIN(length, (uint64_t)RING);
	int r;

	memcpy(ring, data, MIN(size, (size_t)RING));
	memcpy(ring + RING, ring, RING);
	r = events_ring_walk(ring, RING, &position, end, hear, &heard);
	assert(r == 0 || r == -EBADMSG);
	assert(position >= from && position <= end);
	assert(heard <= (position - from) / 24);
	if (r == 0 && position == end)
		assert(events_ring_begins(ring, RING, from, end, end));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct process_slot slot = {0};
	struct process *p = NULL;
	uint16_t from, length;

	if (size < 2 * sizeof(uint16_t))
		return 0;
	memcpy(&from, data, sizeof(from));
	memcpy(&length, data + sizeof(from), sizeof(length));
	walk(data + 4, size - 4, from, length);
	memcpy(&slot, data + 4, MIN(size - 4, sizeof(slot)));
	if (events_process_of(&slot, 1, &p) == 0)
		assert(!p->exe || p->exe[0] == '/');
	process_unref(p);
	return 0;
}
