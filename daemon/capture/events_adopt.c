/* SPDX-License-Identifier: MIT */

/*
 * What an earlier process left with the service manager: descriptors with names. A name says which layout the records
 * have, which programs with which settings made them, and which ring it is, so that nothing is adopted that is not what
 * this program would have made itself, and no position is taken for one of another ring. What somebody has detached meanwhile is
 * not adopted, nor read to its end: nobody knows since when it has told nothing, so there is a gap.
 */

#include "daemon/capture/events.h"

#include "common/siphash.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>

struct name {
	unsigned layout;
	uint64_t hash, generation;
	size_t part;
};

uint64_t events_settings_hash(const struct source_events_options *options, uint32_t ring_bytes)
{
	const struct siphash_key key = {{events_object_hash(),
		(uint64_t)ring_bytes << 32 | (uint64_t)options->udp_connect << 8 |
			(uint64_t)options->failures}};

	return siphash(&key, NULL, 0);
}

void events_name(char text[static EVENTS_NAME_BYTES], const struct events_kernel *k,
	uint64_t generation, size_t part)
{
	(void)snprintf(text, EVENTS_NAME_BYTES, "portledger-%u-%016llx-%016llx-%s", k->layout,
		(unsigned long long)k->hash, (unsigned long long)generation,
		events_part_name(part));
}

/* A part that we do not know is none of ours: events_parts(). */
static bool parse_name(const char *text, struct name *ret)
{
	unsigned long long hash, generation;
	struct name n = {0};
	int used = 0;

	if (!text ||
		sscanf(text, "portledger-%u-%16llx-%16llx-%n", &n.layout, &hash, &generation,
			&used) != 3 ||
		used == 0)
		return false;
	for (n.part = 0; n.part < events_parts(); n.part++)
		if (streq(text + used, events_part_name(n.part)))
			break;
	n.hash = hash;
	n.generation = generation;
	*ret = n;
	return generation != 0;
}

bool source_events_made(const char *name)
{
	struct name n;

	return parse_name(name, &n);
}

/* Another version may have had other programs: to read what they left takes only what they wrote to. */
static bool is_needed(const struct source_events_options *options, size_t part)
{
	return options->drain ? part <= PART_PROCESSES : !events_part_is_optional(part);
}

/* All that belongs to one ring. True where no part is missing that every ring has. */
static bool gather(const struct source_events_options *options, const struct name *first,
	struct events_kernel *k)
{
	memset(k, 0, sizeof(*k));
	memset(k->fds, 0xff, sizeof(k->fds));
	k->root_fd = -1;
	k->layout = first->layout;
	k->hash = first->hash;
	k->count = events_parts();
	for (size_t i = 0; i < options->passed_count; i++) {
		struct name n;

		if (parse_name(options->passed[i].name, &n) && n.layout == first->layout &&
			n.hash == first->hash && n.generation == first->generation &&
			n.part < k->count && k->fds[n.part] < 0)
			k->fds[n.part] = options->passed[i].fd;
	}
	for (size_t i = 0; i < k->count; i++)
		if (k->fds[i] < 0 && is_needed(options, i))
			return false;
	return true;
}

static bool map_info(int fd, struct bpf_map_info *ret)
{
	uint32_t size = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return bpf_obj_get_info_by_fd(fd, ret, &size) == 0;
}

/* Are these the maps that their names say? What is mapped must have the size that it is mapped with. */
static bool fits(struct events_kernel *k)
{
	struct bpf_map_info ring, shared, processes;

	if (!map_info(k->fds[PART_RING], &ring) || !map_info(k->fds[PART_SHARED], &shared) ||
		!map_info(k->fds[PART_PROCESSES], &processes))
		return false;
	k->ring_bytes = ring.max_entries;
	k->slots = processes.max_entries;
	return ring.type == BPF_MAP_TYPE_RINGBUF && shared.type == BPF_MAP_TYPE_ARRAY &&
	       shared.value_size == sizeof(struct claims_shared) &&
	       processes.type == BPF_MAP_TYPE_ARRAY &&
	       processes.value_size == sizeof(struct process_slot) &&
	       (k->slots & (k->slots - 1)) == 0;
}

/* What this very program made, with these settings; or any whose records can be read. */
static bool is_wanted(
	const struct source_events_options *options, const struct name *n, uint64_t hash)
{
	if (options->drain)
		return n->layout >= CLAIMS_LAYOUT_READABLE && n->layout <= CLAIMS_LAYOUT;
	return n->layout == CLAIMS_LAYOUT && n->hash == hash;
}

bool events_adopt(const struct source_events_options *options, uint32_t ring_bytes,
	struct events_kernel *ret, uint64_t *ret_generation)
{
	uint64_t hash = events_settings_hash(options, ring_bytes);

	for (size_t i = 0; i < options->passed_count; i++) {
		struct events_kernel k;
		struct name n;

		if (!parse_name(options->passed[i].name, &n) || !is_wanted(options, &n, hash) ||
			!gather(options, &n, &k) || !fits(&k) || !events_attached(&k))
			continue;
		for (size_t p = 0; p < k.count; p++)
			if (k.fds[p] >= 0)
				(void)fcntl(k.fds[p], F_SETFD, FD_CLOEXEC);
		*ret = k;
		*ret_generation = n.generation;
		return true;
	}
	return false;
}
