/* SPDX-License-Identifier: MIT */
#pragma once

/* The parts of the events rung, for each other; what others use is in source_events.h. */

#include "daemon/capture/bpf/claims.h"
#include "daemon/capture/source_events.h"

/* ---- events_ring.c: the ring as bytes ---- */

/* A BPF ring buffer, as mapped: positions count bytes since it was made. */
struct events_ring {
	int fd;                   /* of the kernel's map; the caller's */
	uint64_t *consumer;       /* up to where the kernel may write over it: ours to move */
	const uint64_t *producer; /* up to where the kernel has reserved */
	/* room for `bytes`, and the same again behind it, so that no record is torn; what was shown is there */
	uint8_t *data;
	uint32_t bytes;    /* a power of two */
	uint64_t position; /* up to where we have read */
};

/* A map of the kernel's as memory, from `offset` on: of this process alone, its children do not get it. NULL with errno. */
void *events_map(int fd, size_t offset, size_t bytes, int protection) _must_check_;

/* Maps the two positions of this descriptor's ring, and keeps room for the data. 0 or negative errno. */
int events_ring_map(int fd, uint32_t bytes, struct events_ring *ret) _must_check_;
void events_ring_unmap(struct events_ring *r);

/* Maps what is between `from` and `end`, no more than the ring has, to be read in `data`; hidden again by the same two. 0 or negative
 * errno. Nobody may fork meanwhile. */
int events_ring_show(const struct events_ring *r, uint64_t from, uint64_t end) _must_check_;
void events_ring_hide(const struct events_ring *r, uint64_t from, uint64_t end);

/* How far the kernel is. Never before the consumer, nor more than the ring has beyond it. */
uint64_t events_ring_end(const struct events_ring *r);

/*
 * Reads what is between *position and `end`, and moves *position past what was read; stops before a record that is still
 * being written. Reads nothing but data[0 .. 2 * bytes). 0, what `event` returned, or -EBADMSG.
 */
int events_ring_walk(const uint8_t *data, uint32_t bytes, uint64_t *position, uint64_t end,
	int (*event)(void *context, const struct event_seen *e), void *context);

/* Is there the beginning of a record at `position`, for one who walks from `from`? */
bool events_ring_begins(
	const uint8_t *data, uint32_t bytes, uint64_t from, uint64_t end, uint64_t position);

/* One record. 0 or -EBADMSG. */
int events_decode(const void *record, size_t size, struct event_seen *ret) _must_check_;

/* ---- events_process.c: slots of processes, paths of cgroups ---- */

/* A namespace's range, of low | high << 16. */
struct port_range events_range_of(uint32_t range);

/* `slot` is a copy, whole. `mount_namespace`: inode of the one whose paths need no note; 0: not known. 0 or -ENOMEM. */
int events_process_of(const struct process_slot *slot, uint32_t mount_namespace,
	struct process **ret) _must_check_;

/* `p` is what came out of a map. 0 or -ENOENT. */
int events_cgroup_of(
	const struct cgroup_path *p, char path[static EVENTS_CGROUP_BYTES]) _must_check_;

/* ---- events_attach.c: the kernel side ---- */

#define EVENTS_FDS_MAX 32

enum events_part {
	PART_RING,
	PART_SHARED,
	PART_PROCESSES,
	PART_CGROUPS,
	PART_ENDS, /* the program that tells of TCP's, not its link; left by an older version: not there */
	PART_HOOKS, /* the first of them, one by one */
	PART_SNAPSHOT = PART_HOOKS,
};

struct bpf_object;

/* What the kernel side is made of, as descriptors: it lives as long as they are open somewhere. */
struct events_kernel {
	int fds[EVENTS_FDS_MAX]; /* by part; -1: none */
	size_t count;
	uint32_t ring_bytes, slots;
	unsigned layout; /* CLAIMS_LAYOUT of whoever made it */
	uint64_t hash;   /* of the programs and what was asked of them */
	bool udp_connect, failures;
	bool whole;                /* attached to the root of the host's cgroup tree */
	int root_fd;               /* of the tree that we see, until all is attached; else -1 */
	uint32_t exits;            /* EXITS_*, for the programs to know */
	struct bpf_object *object; /* loaded, not attached yet */
};

/* Makes the maps and loads the programs. 0, or negative errno with *ret_obstacle set. */
int events_load(const struct source_events_options *options, uint32_t ring_bytes,
	struct events_kernel *ret, struct events_obstacle *ret_obstacle) _must_check_;
/* Attaches what was loaded: the maps must be as the programs shall find them. The same. */
int events_attach(struct events_kernel *k, const struct source_events_options *options,
	struct events_obstacle *ret_obstacle) _must_check_;
void events_kernel_done(struct events_kernel *k);
/* The id of a directory of cgroup2's. 0: it cannot be told. */
uint64_t events_cgroup_id(int fd);
/* Are all programs still where they were attached? */
bool events_attached(const struct events_kernel *k);
/* How often the kernel has not run the one that tells of TCP's ends. Some 1 us. */
uint64_t events_skipped(const struct events_kernel *k);
/* How many parts there may be; the name of one, for its descriptor's; may it be missing? */
size_t events_parts(void);
const char *events_part_name(size_t part);
bool events_part_is_optional(size_t part);
/* Of the object that is loaded. */
uint64_t events_object_hash(void);

/* ---- events_adopt.c: what an earlier process left ---- */

#define EVENTS_NAME_BYTES 96

/* Of the programs and of what they were loaded with. */
uint64_t events_settings_hash(const struct source_events_options *options, uint32_t ring_bytes);
void events_name(char text[static EVENTS_NAME_BYTES], const struct events_kernel *k,
	uint64_t generation, size_t part);
/* Takes the descriptors of one ring out of those that were passed, if they fit. */
bool events_adopt(const struct source_events_options *options, uint32_t ring_bytes,
	struct events_kernel *ret, uint64_t *ret_generation);

/* ---- events_snapshot.c ---- */

/* One pass of the iterator behind this link. As source_events_snapshot(). */
int events_snapshot(
	int link_fd, int (*holder)(void *context, const struct holder_seen *h), void *context);

/* ---- events_obstacle.c ---- */

/* Why loading or attaching ended in `error` (negative errno); `said` is what the verifier said, or "". */
struct events_obstacle events_obstacle_of(int error, const char *said);
