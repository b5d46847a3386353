/* SPDX-License-Identifier: MIT */

/*
 * Our own reader of the kernel's ring buffer. libbpf's gives the room of each record back as soon as it was shown to the
 * callback; here it is given back when the record is stored, so that the ring is what remains of us when we are killed.
 *
 * The protocol (kernel/bpf/ringbuf.c): a record begins with its length, of which the two highest bits say that it is still
 * being written, or that nobody wants it; then four bytes for the kernel. It is followed by the next at a multiple of 8.
 *
 * The kernel puts all pages of a mapping into the page tables at once. So only what is read is mapped, while it is read: at rest
 * that is a page five times a second, instead of twice the ring all the time.
 */

#include "daemon/capture/events.h"

#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define HEADER_BYTES BPF_RINGBUF_HDR_SZ
#define BUSY         (UINT32_C(1) << 31) /* BPF_RINGBUF_BUSY_BIT, which is no unsigned number everywhere */
#define DISCARDED    (UINT32_C(1) << 30) /* BPF_RINGBUF_DISCARD_BIT */

_Static_assert((int)RECORD_TCP == (int)PROTOCOL_TCP && (int)RECORD_MPTCP == (int)PROTOCOL_MPTCP &&
		       (int)RECORD_UDP == (int)PROTOCOL_UDP &&
		       (int)RECORD_UDPLITE == (int)PROTOCOL_UDPLITE,
	"the kernel side has numbers of its own");
_Static_assert((int)RECORD_CONNECTED == (int)ROLE_CONNECTED &&
		       (int)RECORD_LISTENING == (int)ROLE_LISTENING &&
		       (int)RECORD_BOUND == (int)ROLE_BOUND &&
		       (int)RECORD_ACCEPTED == (int)ROLE_ACCEPTED &&
		       (int)RECORD_ROLE_UNKNOWN == (int)ROLE_UNKNOWN,
	"the kernel side has numbers of its own");

void *events_map(int fd, size_t offset, size_t bytes, int protection)
{
	void *at = mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);
	int e;

	if (at == MAP_FAILED)
		return NULL;
	if (madvise(at, bytes, MADV_DONTFORK) == 0)
		return at;
	e = errno;
	(void)munmap(at, bytes);
	errno = e;
	return NULL;
}

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Addresses without memory: at `at`, or where there are some. */
static void *keep_room(void *at, size_t bytes)
{
	int fixed = at ? MAP_FIXED : 0;
	void *room = mmap(
		at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);

	return room == MAP_FAILED ? NULL : room;
}

int events_ring_map(int fd, uint32_t bytes, struct events_ring *ret)
{
	size_t page = page_bytes();
	struct events_ring ring = {
		.fd = fd,
		.consumer = events_map(fd, 0, page, PROT_READ | PROT_WRITE),
		.producer = events_map(fd, page, page, PROT_READ),
		.data = keep_room(NULL, 2 * (size_t)bytes),
		.bytes = bytes,
	};

	if (!ring.consumer || !ring.producer || !ring.data) {
		int r = -errno;

		events_ring_unmap(&ring);
		return r;
	}
	ring.position = __atomic_load_n(ring.consumer, __ATOMIC_ACQUIRE);
	*ret = ring;
	return 0;
}

void events_ring_unmap(struct events_ring *r)
{
	if (r->consumer)
		(void)munmap(r->consumer, page_bytes());
	if (r->producer)
		(void)munmap((void *)(uintptr_t)r->producer, page_bytes());
	if (r->data)
		(void)munmap(r->data, 2 * (size_t)r->bytes);
	*r = (struct events_ring){0};
}

/* The whole pages that are shown of a stretch: where they begin in the data, and their bytes. */
struct pages {
	size_t first, bytes;
};

/* It goes on at the beginning of the data; the record that is torn there is read whole behind their end. */
static void pages_of(
	const struct events_ring *r, uint64_t from, uint64_t end, struct pages ret[static 2])
{
	size_t page = page_bytes(), at = from & (r->bytes - 1), first = at - at % page;
	size_t last = end > from ? at + (size_t)MIN(end - from, r->bytes) : first;

	last = (last + page - 1) / page * page;
	ret[0] = (struct pages){.first = first, .bytes = last - first};
	ret[1] = (struct pages){.bytes = last > r->bytes ? last - r->bytes : 0};
}

int events_ring_show(const struct events_ring *r, uint64_t from, uint64_t end)
{
	struct pages pages[2];

	pages_of(r, from, end, pages);
	for (size_t i = 0; i < ELEMENTSOF(pages); i++) {
		/* the kernel has the data behind the pages of the two positions, and twice as well */
		off_t offset = (off_t)(2 * page_bytes() + pages[i].first);
		int e;

		if (pages[i].bytes == 0 ||
			mmap(r->data + pages[i].first, pages[i].bytes, PROT_READ,
				MAP_SHARED | MAP_FIXED, r->fd, offset) != MAP_FAILED)
			continue;
		e = errno;
		events_ring_hide(r, from, end);
		return -e;
	}
	return 0;
}

void events_ring_hide(const struct events_ring *r, uint64_t from, uint64_t end)
{
	struct pages pages[2];

	pages_of(r, from, end, pages);
	for (size_t i = 0; i < ELEMENTSOF(pages); i++)
		if (pages[i].bytes > 0)
			(void)keep_room(r->data + pages[i].first, pages[i].bytes);
}

uint64_t events_ring_end(const struct events_ring *r)
{
	uint64_t consumer = __atomic_load_n(r->consumer, __ATOMIC_RELAXED);
	uint64_t producer = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);

	return producer - consumer <= r->bytes ? producer : consumer;
}

/* The record at `position`. 1, 0: it is being written, or -EBADMSG. */
static int look(const uint8_t *data, uint32_t bytes, uint64_t position, uint64_t end,
	uint32_t *ret_length, uint64_t *ret_next)
{
	const uint8_t *at = data + (position & (bytes - 1));
	uint32_t length, size;
	uint64_t next;

	if (position % 8 != 0 || end - position < HEADER_BYTES)
		return -EBADMSG;
	length = __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_ACQUIRE);
	if (length & BUSY)
		return 0;
	size = length & ~DISCARDED;
	next = position + ((uint64_t)size + HEADER_BYTES + 7) / 8 * 8;
	if (next > end)
		return -EBADMSG;
	*ret_length = length;
	*ret_next = next;
	return 1;
}

int events_ring_walk(const uint8_t *data, uint32_t bytes, uint64_t *position, uint64_t end,
	int (*event)(void *context, const struct event_seen *e), void *context)
{
	while (*position < end) {
		struct event_seen e;
		uint32_t length = 0;
		uint64_t next = 0;
		int r = look(data, bytes, *position, end, &length, &next);

		if (r <= 0)
			return r;
		if (!(length & DISCARDED)) {
			r = events_decode(
				data + (*position & (bytes - 1)) + HEADER_BYTES, length, &e);
			if (r == 0)
				r = event(context, &e);
			if (r != 0)
				return r;
		}
		*position = next;
	}
	return 0;
}

bool events_ring_begins(
	const uint8_t *data, uint32_t bytes, uint64_t from, uint64_t end, uint64_t position)
{
	while (from < position && from < end) {
		uint32_t length;

		if (look(data, bytes, from, end, &length, &from) <= 0)
			return false;
	}
	return from == position;
}

/* ---- one record ---- */

static usec_t usec_of(uint64_t nsec)
{
	return (nsec & HEAD_TIME) / 1000;
}

static struct endpoint endpoint_of(int family, const void *address, uint16_t port)
{
	return (struct endpoint){.address = address_from_kernel(family, address), .port = port};
}

static void decode_who(uint64_t who, struct event_seen *e)
{
	uint64_t id = who & WHO_ID;

	e->protocol = (uint8_t)(who >> WHO_PROTOCOL_SHIFT & 3);
	e->role = (uint8_t)((who & WHO_ROLE) >> WHO_ROLE_SHIFT);
	if (who & WHO_CGROUP)
		e->cgroup_id = id;
	else
		e->process = id;
}

/* Both forms of a claim begin alike. */
static int decode_claim(const uint8_t *record, struct event_seen *e)
{
	struct record_claim6 c;
	struct record_claim4 c4;
	bool remote;

	memcpy(&c4, record, sizeof(c4));
	decode_who(c4.who, e);
	e->netns = c4.netns;
	e->netns_inode = c4.netns_inode;
	remote = c4.remote_port != 0;
	if (c4.head & HEAD_IPV6) {
		memcpy(&c, record, sizeof(c));
		e->local = endpoint_of(AF_INET6, c.local, c.local_port);
		if (remote)
			e->remote = endpoint_of(AF_INET6, c.remote, c.remote_port);
	} else {
		e->local = endpoint_of(AF_INET, &c4.local, c4.local_port);
		if (remote)
			e->remote = endpoint_of(AF_INET, &c4.remote, c4.remote_port);
	}
	if (e->role >= ROLE_COUNT || (c4.local_port == 0 && e->kind != EVENT_FAILURE))
		return -EBADMSG;
	if (e->kind == EVENT_FAILURE)
		e->error = c4.who & WHO_NOT_AVAILABLE ? EADDRNOTAVAIL : EADDRINUSE;
	return 0;
}

static size_t size_of(uint64_t head)
{
	bool ipv6 = (head & HEAD_IPV6) != 0;

	switch (head & HEAD_KIND) {
	case RECORD_CLAIM:
	case RECORD_FAILURE:
		return ipv6 ? sizeof(struct record_claim6) : sizeof(struct record_claim4);
	case RECORD_WHOLE:
		return ipv6 ? sizeof(struct record_whole6) : sizeof(struct record_whole4);
	case RECORD_RELEASE:
		return sizeof(struct record_release);
	case RECORD_HOLDER:
		return sizeof(struct record_holder);
	default:
		return 0;
	}
}

int events_decode(const void *record, size_t size, struct event_seen *ret)
{
	const uint8_t *bytes = record;
	struct event_seen e = {.closed = USEC_UNSET};
	struct record_holder h;
	uint64_t closed;
	int r = 0;

	if (size < sizeof(struct record_release))
		return -EBADMSG;
	memcpy(&h, bytes, sizeof(struct record_release));
	if (size != size_of(h.head))
		return -EBADMSG;
	e.kind = (enum event_kind)(h.head & HEAD_KIND);
	e.at = h.head & HEAD_UNDATED ? USEC_UNSET : usec_of(h.head);
	e.cookie = h.cookie;
	if (e.kind == EVENT_RELEASE) {
		e.closed = e.at;
		e.at = USEC_UNSET;
	} else if (e.kind == EVENT_HOLDER) {
		memcpy(&h, bytes, sizeof(h));
		decode_who(h.who, &e);
	} else {
		r = decode_claim(bytes, &e);
	}
	if (e.kind == EVENT_WHOLE) {
		memcpy(&closed, bytes + size - sizeof(closed), sizeof(closed));
		e.closed = usec_of(closed);
	}
	e.lingers = (h.head & HEAD_LINGERS) != 0;
	e.by_then = (h.head & HEAD_BY_THEN) != 0;
	if (r == 0)
		*ret = e;
	return r;
}
