/* SPDX-License-Identifier: MIT */

/*
 * The events rung, put together: the kernel side, which goes on while somebody has its descriptors, and our reading of
 * it. After attaching, or after adopting what an earlier process attached, nothing here needs a capability: the ring, the
 * slots of processes and the section that both sides see are memory. Of what can be mapped, only what is needed is: the kernel
 * maps whole what it maps, and 12 MiB that nobody looks at would be this process's.
 */

#include "daemon/capture/events.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#define NETNS_NONE UINT64_MAX /* no namespace has this cookie */
/* Whoever is restarted within 2 s (RestartSec=), begins to read after 2.5 s: at 10,000 claims a second that is 2 MiB. */
#define RING_BYTES_DEFAULT (4u * 1024 * 1024)
#define SLOTS_SHOWN        128u /* 64 KiB, whole pages everywhere: new processes are beside each other */

struct source_events {
	struct events_kernel kernel;
	struct events_ring ring;
	struct claims_shared *shared;     /* mapped up to what only the programs look at */
	const struct process_slot *slots; /* `shown` of them; NULL: none is mapped */
	uint32_t first_slot, shown;
	int epoll_fd;
	uint32_t mount_namespace;
	uint64_t generation;
	bool adopted;
	uint64_t skipped; /* claims in records that made no sense, at most */
	char names[EVENTS_FDS_MAX][EVENTS_NAME_BYTES];
};

bool source_events_built(void)
{
	return true;
}

/* ---- maps as memory ---- */

static size_t shared_bytes(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (offsetof(struct claims_shared, told) + page - 1) / page * page;
}

static void hide_slots(struct source_events *s)
{
	if (s->slots)
		(void)munmap((void *)(uintptr_t)s->slots, s->shown * sizeof(struct process_slot));
	s->slots = NULL;
}

/* The slot of this number. NULL with errno. */
static const struct process_slot *show_slot(struct source_events *s, uint64_t id)
{
	uint32_t slot = (uint32_t)id & (s->kernel.slots - 1), first;

	s->shown = MIN(SLOTS_SHOWN, s->kernel.slots);
	first = slot - slot % s->shown;
	if (first != s->first_slot)
		hide_slots(s);
	if (!s->slots)
		s->slots = events_map(s->kernel.fds[PART_PROCESSES],
			first * sizeof(struct process_slot), s->shown * sizeof(struct process_slot),
			PROT_READ);
	s->first_slot = first;
	return s->slots ? &s->slots[slot - first] : NULL;
}

static int map_all(struct source_events *s)
{
	int r = events_ring_map(s->kernel.fds[PART_RING], s->kernel.ring_bytes, &s->ring);

	if (r < 0)
		return r;
	s->shared =
		events_map(s->kernel.fds[PART_SHARED], 0, shared_bytes(), PROT_READ | PROT_WRITE);
	return s->shared && show_slot(s, 0) ? 0 : -errno;
}

/* The ring is readable while anything is in it, which is nearly always; what is worth a wake-up is an edge. */
static int watch_edges(struct source_events *s)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLET};

	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0 ||
		epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->kernel.fds[PART_RING], &e) < 0)
		return -errno;
	return 0;
}

static uint32_t mount_namespace(void)
{
	struct stat status;

	if (stat("/proc/1/ns/mnt", &status) < 0 && stat("/proc/self/ns/mnt", &status) < 0)
		return 0;
	return (uint32_t)status.st_ino;
}

/* All but the kernel side. */
static void done(struct source_events *s)
{
	events_ring_unmap(&s->ring);
	if (s->shared)
		(void)munmap(s->shared, shared_bytes());
	s->shared = NULL;
	hide_slots(s);
	close_p(&s->epoll_fd);
	s->epoll_fd = -1;
}

/* ---- open ---- */

static void configure(struct claims_shared *shared, const struct source_events_options *options)
{
	struct claims_config *c = &shared->config;
	uint32_t ports[ELEMENTSOF(c->ports)] = {0};
	struct stat pids;

	if (stat("/proc/self/ns/pid", &pids) == 0)
		__atomic_store_n(&c->pid_namespace, (uint32_t)pids.st_ino, __ATOMIC_RELAXED);

	for (uint32_t i = 0; i < options->ranges.count; i++)
		for (uint32_t p = options->ranges.range[i].low; p <= options->ranges.range[i].high;
			p++)
			ports[p / 32] |= UINT32_C(1) << p % 32;
	for (size_t i = 0; i < ELEMENTSOF(ports); i++)
		__atomic_store_n(&c->ports[i], ports[i], __ATOMIC_RELAXED);
	__atomic_store_n(&c->kernel_range, options->kernel_range, __ATOMIC_RELAXED);
	__atomic_store_n(&c->netns_only, options->netns_only, __ATOMIC_RELAXED);
	__atomic_store_n(&c->accepted, options->accepted, __ATOMIC_RELAXED);
}

static int make_generation(uint64_t *ret)
{
	uint64_t generation = 0;

	/* positive where a database has signed numbers only */
	while (generation == 0) {
		if (getrandom(&generation, sizeof(generation), 0) != sizeof(generation))
			return -errno;
		generation &= INT64_MAX;
	}
	*ret = generation;
	return 0;
}

static void name_all(struct source_events *s)
{
	for (size_t i = 0; i < s->kernel.count; i++)
		if (s->kernel.fds[i] >= 0)
			events_name(s->names[i], &s->kernel, s->generation, i);
}

static int begin(struct source_events *s)
{
	int r = map_all(s);

	if (r == 0)
		r = watch_edges(s);
	s->mount_namespace = mount_namespace();
	return r;
}

static int open_new(struct source_events *s, const struct source_events_options *options,
	uint32_t ring_bytes, struct events_obstacle *ret_obstacle)
{
	usec_t attached;
	int r = make_generation(&s->generation);

	if (r == 0)
		r = events_load(options, ring_bytes, &s->kernel, ret_obstacle);
	if (r < 0)
		return r;
	r = begin(s);
	if (r < 0) {
		*ret_obstacle = events_obstacle_of(r, "");
		return r;
	}
	s->shared->config.ring_quarter = ring_bytes / 4;
	s->shared->config.slots = s->kernel.slots;
	s->shared->config.cgroup_root = events_cgroup_id(s->kernel.root_fd);
	configure(s->shared, options);
	attached = clock_boot();
	r = events_attach(&s->kernel, options, ret_obstacle);
	if (r < 0)
		return r;
	s->kernel.hash = events_settings_hash(options, ring_bytes);
	__atomic_store_n(&s->shared->config.exits, s->kernel.exits, __ATOMIC_RELEASE);
	s->shared->state = (struct claims_state){
		.attached = attached,
		.udp_connect = s->kernel.udp_connect,
		.whole = s->kernel.whole,
		.failures = s->kernel.failures,
	};
	return 0;
}

/* 0 or negative errno; then what was passed stays the caller's. */
static int open_passed(struct source_events *s, const struct source_events_options *options)
{
	int r = begin(s);

	if (r == 0 && !options->drain && s->shared->config.netns_only == NETNS_NONE)
		r = -ESTALE;
	if (r < 0) {
		done(s);
		memset(s->kernel.fds, 0xff, sizeof(s->kernel.fds));
		return r;
	}
	s->adopted = true;
	if (!options->drain)
		configure(s->shared, options);
	return 0;
}

static bool is_ring_size(uint32_t bytes)
{
	return (bytes & (bytes - 1)) == 0 && bytes % (uint32_t)sysconf(_SC_PAGESIZE) == 0;
}

static int open_any(struct source_events *s, const struct source_events_options *options,
	struct events_obstacle *ret_obstacle)
{
	uint32_t bytes = options->ring_bytes ? options->ring_bytes : RING_BYTES_DEFAULT;

	if (events_adopt(options, bytes, &s->kernel, &s->generation) &&
		open_passed(s, options) == 0)
		return 0;
	if (!options->drain && is_ring_size(bytes))
		return open_new(s, options, bytes, ret_obstacle);
	*ret_obstacle = (struct events_obstacle){.reason = "nothing was left to be read"};
	if (options->drain)
		return -ENOENT;
	*ret_obstacle = (struct events_obstacle){
		.reason = "the ring's size is no power of two, or less than a page"};
	return -EINVAL;
}

int source_events_open(const struct source_events_options *options, struct source_events **ret,
	struct events_obstacle *ret_obstacle)
{
	struct source_events *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->epoll_fd = s->kernel.root_fd = -1;
	memset(s->kernel.fds, 0xff, sizeof(s->kernel.fds));
	r = open_any(s, options, ret_obstacle);
	if (r < 0) {
		source_events_free(s);
		return r;
	}
	name_all(s);
	*ret = s;
	return 0;
}

struct source_events *source_events_free(struct source_events *s)
{
	if (!s)
		return NULL;
	done(s);
	events_kernel_done(&s->kernel);
	free(s);
	return NULL;
}

int source_events_watch(struct source_events *s, const struct source_events_options *options)
{
	configure(s->shared, options);
	return 0;
}

void source_events_silence(struct source_events *s)
{
	const struct source_events_options nothing = {.netns_only = NETNS_NONE};

	configure(s->shared, &nothing);
}

/* ---- what it is ---- */

struct events_facts source_events_facts(const struct source_events *s)
{
	return (struct events_facts){
		.generation = s->generation,
		.adopted = s->adopted,
		.attached = s->shared->state.attached,
		.udp_connect = s->shared->state.udp_connect != 0,
		.whole = s->shared->state.whole != 0,
		.failures = s->shared->state.failures != 0,
		.ring_bytes = s->ring.bytes,
	};
}

int source_events_check(const struct source_events *s)
{
	return events_attached(&s->kernel) ? 0 : -ENOLINK;
}

size_t source_events_fds(const struct source_events *s, struct events_fd *ret, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < s->kernel.count && n < max; i++)
		if (s->kernel.fds[i] >= 0)
			ret[n++] = (struct events_fd){.fd = s->kernel.fds[i], .name = s->names[i]};
	return n;
}

int source_events_fd(const struct source_events *s)
{
	return s->epoll_fd;
}

struct events_counts source_events_counts(const struct source_events *s)
{
	const struct claims_counters *c = &s->shared->counters;

	return (struct events_counts){
		.lost = __atomic_load_n(&c->lost, __ATOMIC_RELAXED) + s->skipped,
		.deferred = __atomic_load_n(&c->deferred, __ATOMIC_RELAXED),
		.lost_ends = __atomic_load_n(&c->lost_ends, __ATOMIC_RELAXED),
		.failures_dropped = __atomic_load_n(&c->failures_dropped, __ATOMIC_RELAXED),
		.skipped = events_skipped(&s->kernel),
	};
}

/* ---- reading ---- */

int source_events_read(struct source_events *s,
	int (*event)(void *context, const struct event_seen *e), void *context)
{
	struct epoll_event edge;
	uint64_t from, end;
	int r;

	(void)epoll_wait(s->epoll_fd, &edge, 1, 0); /* it is answered */
	from = s->ring.position;
	end = events_ring_end(&s->ring);
	r = events_ring_show(&s->ring, from, end);
	if (r < 0)
		return r;
	r = events_ring_walk(s->ring.data, s->ring.bytes, &s->ring.position, end, event, context);
	events_ring_hide(&s->ring, from, end);
	if (r == -EBADMSG) {
		s->skipped += (end - s->ring.position) /
			      (sizeof(struct record_claim4) + BPF_RINGBUF_HDR_SZ);
		s->ring.position = end;
	}
	return r;
}

uint64_t source_events_position(const struct source_events *s)
{
	return s->ring.position;
}

bool source_events_is_read(const struct source_events *s)
{
	return s->ring.position >= events_ring_end(&s->ring);
}

static uint64_t released(const struct source_events *s)
{
	return __atomic_load_n(s->ring.consumer, __ATOMIC_RELAXED);
}

uint32_t source_events_waiting(const struct source_events *s)
{
	return (uint32_t)(events_ring_end(&s->ring) - released(s));
}

void source_events_release(struct source_events *s, uint64_t position)
{
	position = MIN(position, s->ring.position);
	if (position > released(s))
		__atomic_store_n(s->ring.consumer, position, __ATOMIC_RELEASE);
}

void source_events_rewind(struct source_events *s, uint64_t position)
{
	uint64_t oldest = released(s), end = events_ring_end(&s->ring);

	/* a number from a database is believed where it can be true */
	s->ring.position = oldest;
	if (position <= oldest || events_ring_show(&s->ring, oldest, end) < 0)
		return;
	if (events_ring_begins(s->ring.data, s->ring.bytes, oldest, end, position))
		s->ring.position = position;
	events_ring_hide(&s->ring, oldest, end);
}

/* ---- who ---- */

int source_events_process(
	struct source_events *s, uint64_t id, struct process **ret, struct process_place *ret_place)
{
	const struct process_slot *slot = id != 0 ? show_slot(s, id) : NULL;
	struct process_slot copy;
	int r;

	if (id != 0 && !slot)
		return -ENOMEM;
	if (id == 0 || __atomic_load_n(&slot->id, __ATOMIC_ACQUIRE) != id)
		return -ENOENT;
	memcpy(&copy, slot, sizeof(copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	/* somebody else's by now: what was copied may be of both */
	if (__atomic_load_n(&slot->id, __ATOMIC_RELAXED) != id)
		return -ENOENT;
	r = events_process_of(&copy, s->mount_namespace, ret);
	if (r == 0)
		*ret_place = (struct process_place){.cgroup_id = copy.cgroup_id,
			.netns = copy.netns,
			.ephemeral = events_range_of(copy.netns_range)};
	return r;
}

int source_events_cgroup(
	const struct source_events *s, uint64_t cgroup_id, char path[static EVENTS_CGROUP_BYTES])
{
	int fd = s->kernel.fds[PART_CGROUPS];
	struct cgroup_path p, again;

	/* It may have made room for another one while it was copied: then it is not there a second time. */
	if (fd < 0 || bpf_map_lookup_elem(fd, &cgroup_id, &p) < 0 ||
		bpf_map_lookup_elem(fd, &cgroup_id, &again) < 0 ||
		memcmp(&p, &again, sizeof(p)) != 0 || p.id != cgroup_id)
		return -ENOENT;
	return events_cgroup_of(&p, path);
}

int source_events_snapshot(struct source_events *s,
	int (*holder)(void *context, const struct holder_seen *h), void *context)
{
	return events_snapshot(s->kernel.fds[PART_SNAPSHOT], holder, context);
}
