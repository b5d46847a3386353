/* SPDX-License-Identifier: MIT */

/*
 * Each record is a table of its members in the order of its struct, and the C type of a member says how it is
 * written: one walk over the table encodes, one decodes, one frees. So the two directions cannot drift apart, and
 * a member that is added to a table without a known type does not compile.
 *
 * The encoding is canonical: what decodes encodes to the same bytes again (tests/fuzz/fuzz-stream.c). What a
 * record means (a ref that nobody introduced, a sweep that ends before it begins) is the ledger's to judge.
 */

#include "common/stream.h"

#include "common/escape.h"

#define STRING_NULL UINT16_MAX

enum kind {
	KIND_INTEGER,  /* of 1, 4 or 8 bytes, within [low, high]; signed ones as two's complement */
	KIND_BYTES,    /* as they are */
	KIND_STRING,   /* a stored form or NULL */
	KIND_ENDPOINT, /* struct endpoint */
	KIND_RANGE,    /* struct port_range */
	KIND_RANGES,   /* struct port_ranges: u32 count and the ranges */
	KIND_HOLDERS,  /* holders of a struct sighting; the count is the member before */
	KIND_PROCESS,  /* a struct process by its own table */
};

struct member {
	uint8_t kind;
	uint8_t size;       /* of the member, for integers and bytes */
	uint16_t offset;    /* in its struct */
	uint64_t low, high; /* of an integer, inclusive; for a string low 1 means never NULL */
};

#define KIND_OF(m)                                                                                 \
	_Generic((m),                                                                              \
		bool: KIND_INTEGER,                                                                \
		uint8_t: KIND_INTEGER,                                                             \
		uint32_t: KIND_INTEGER,                                                            \
		int32_t: KIND_INTEGER,                                                             \
		uint64_t: KIND_INTEGER,                                                            \
		uint8_t *: KIND_BYTES,                                                             \
		char *: KIND_STRING,                                                               \
		struct endpoint: KIND_ENDPOINT,                                                    \
		struct port_range: KIND_RANGE,                                                     \
		struct port_ranges: KIND_RANGES,                                                   \
		uint32_t *: KIND_HOLDERS,                                                          \
		struct process *: KIND_PROCESS)

#define SAMPLE(type, m) (((struct type *)NULL)->m)
#define FIELD(type, m, lowest, highest)                                                            \
	{                                                                                          \
		.kind = KIND_OF(SAMPLE(type, m)), .size = (uint8_t)sizeof(SAMPLE(type, m)),        \
		.offset = offsetof(struct type, m), .low = lowest, .high = highest,                \
	}
#define HIGHEST(m) _Generic((m), bool : 1, default : UINT64_MAX)

/* A member of struct record; one with bounds; an enum that ends in _COUNT; a mask of such; a string never NULL. */
#define MEMBER(m)            FIELD(record, m, 0, HIGHEST(SAMPLE(record, m)))
#define WITHIN(m, low, high) FIELD(record, m, low, high)
#define ENUM(m, count)       FIELD(record, m, 0, (count)-1)
#define MASK(m, count)       FIELD(record, m, 0, (UINT64_C(1) << (count)) - 1)
#define NEVER_NULL(m)        FIELD(record, m, 1, 0)
#define OF_PROCESS(m)        FIELD(process, m, 0, UINT64_MAX)

#define NOW_MEMBERS(m)  MEMBER(m.boot), MEMBER(m.wall)
#define COST_MEMBERS(m) MEMBER(m.pid), MEMBER(m.cpu_usec), MEMBER(m.pss_bytes)
#define COVERAGE_MEMBERS(m)                                                                        \
	ENUM(m.rung, SOURCE_COUNT), MEMBER(m.interval_usec), MEMBER(m.ranges),                     \
		MEMBER(m.ephemeral), MASK(m.protocols, PROTOCOL_COUNT), MEMBER(m.bound_only),      \
		MEMBER(m.accepted), MEMBER(m.foreign_processes), MEMBER(m.netns_all),              \
		MEMBER(m.udp_connect), MEMBER(m.failures)
#define RING_MEMBERS(m) MEMBER(m.generation), MEMBER(m.position)

static const struct member hello_members[] = {MEMBER(hello.boot_id), NOW_MEMBERS(hello.at),
	MEMBER(hello.capture_pid), NEVER_NULL(hello.version), MEMBER(hello.generation),
	MEMBER(hello.before)};

static const struct member settings_members[] = {MEMBER(settings.max_age_usec),
	MEMBER(settings.max_bytes), ENUM(settings.remote_addresses, REMOTE_ADDRESSES_COUNT),
	MEMBER(settings.remote_after_usec), MEMBER(settings.activity_hour_usec),
	MEMBER(settings.activity_day_usec), MEMBER(settings.user_share_permille),
	MEMBER(settings.coalesce_above)};

static const struct member coverage_members[] = {
	COVERAGE_MEMBERS(coverage),
};

static const struct member netns_members[] = {
	MEMBER(netns.cookie),
	MEMBER(netns.inode),
	MEMBER(netns.name),
	MEMBER(netns.ephemeral),
};

static const struct member process_entry_members[] = {
	WITHIN(process.ref, 1, UINT32_MAX),
	MEMBER(process.process),
};

/* Of struct process: without its references and its store_id, which mean nothing to another process. */
static const struct member process_members[] = {
	OF_PROCESS(pid),
	OF_PROCESS(parent_pid),
	OF_PROCESS(start_boot),
	OF_PROCESS(pidfd_inode),
	OF_PROCESS(uid),
	FIELD(process, exe_note, EXE_NOTE_NONE, EXE_NOTE_OTHER_NAMESPACE),
	OF_PROCESS(comm),
	OF_PROCESS(exe),
	OF_PROCESS(cgroup),
	OF_PROCESS(unit),
	OF_PROCESS(parent_comm),
};

static const struct member forget_members[] = {WITHIN(forget, 1, UINT32_MAX)};

static const struct member sighting_members[] = {
	WITHIN(sighting.kind, SIGHTING_PRESENT, SIGHTING_RELEASED),
	ENUM(sighting.source, SOURCE_COUNT),
	ENUM(sighting.protocol, PROTOCOL_COUNT),
	ENUM(sighting.role, ROLE_COUNT),
	ENUM(sighting.attribution, ATTRIBUTION_COUNT),
	MEMBER(sighting.time_wait),
	MEMBER(sighting.preexisting),
	MEMBER(sighting.local_unknown),
	MEMBER(sighting.cookie),
	MEMBER(sighting.netns),
	MEMBER(sighting.local),
	MEMBER(sighting.remote),
	MEMBER(sighting.at),
	MEMBER(sighting.after),
	MEMBER(sighting.expires),
	MEMBER(sighting.opener),
	WITHIN(sighting.holder_count, 0, LIMIT_HOLDERS),
	MEMBER(sighting.holders),
	MEMBER(sighting.holders_dropped),
};

static const struct member sweep_members[] = {
	MEMBER(sweep.number),
	MEMBER(sweep.begin),
	MEMBER(sweep.end),
	NOW_MEMBERS(sweep.now),
	MASK(sweep.protocols, PROTOCOL_COUNT),
	MEMBER(sweep.sockets),
	MEMBER(sweep.cpu_usec),
	MEMBER(sweep.unattributed),
	MEMBER(sweep.netns),
};

static const struct member gap_members[] = {
	MEMBER(gap.from),
	MEMBER(gap.until),
	MEMBER(gap.lost),
	NEVER_NULL(gap.reason),
};

static const struct member barrier_members[] = {
	MEMBER(barrier.id),
	COST_MEMBERS(barrier.capture),
	NOW_MEMBERS(barrier.now),
};

static const struct member drained_members[] = {
	RING_MEMBERS(drained.ring),
	MEMBER(drained.lost),
	MEMBER(drained.lost_ends),
	MEMBER(drained.failures_dropped),
	MEMBER(drained.at),
	MEMBER(drained.urgent),
};

static const struct member failure_members[] = {
	MEMBER(failure.at),
	MEMBER(failure.netns),
	ENUM(failure.protocol, PROTOCOL_COUNT),
	WITHIN(failure.error, FAILURE_IN_USE, FAILURE_NOT_AVAILABLE),
	WITHIN(failure.call, FAILURE_BIND, FAILURE_CONNECT),
	MEMBER(failure.local),
	MEMBER(failure.remote),
	MEMBER(failure.process),
};

static const struct member obstacle_members[] = {
	MEMBER(obstacle),
};

static const struct member ready_members[] = {
	RING_MEMBERS(ready),
};

static const struct member kept_members[] = {
	RING_MEMBERS(kept),
};

static const struct member sync_members[] = {
	MEMBER(sync),
};

static const struct member committed_members[] = {
	MEMBER(committed.id),
	MEMBER(committed.commit),
	MEMBER(committed.until_wall),
	COST_MEMBERS(committed.capture),
	COST_MEMBERS(committed.ledger),
	MEMBER(committed.sweeps),
	MEMBER(committed.sweep_cpu_usec),
	MEMBER(committed.open_claims),
	MEMBER(committed.recorded),
	MEMBER(committed.lost),
	MEMBER(committed.gaps),
	MEMBER(committed.unattributed),
	MEMBER(committed.found_only_by_sweep),
	MEMBER(committed.lost_ends),
	COVERAGE_MEMBERS(committed.coverage),
	MEMBER(committed.waiting),
	MEMBER(committed.capture_answered),
	MEMBER(committed.watching),
	MEMBER(committed.degraded),
};

static const struct member follow_members[] = {
	MEMBER(follow),
};

struct layout {
	const struct member *members;
	size_t count;
	bool known;
};

#define LAYOUT(table)                                                                              \
	{                                                                                          \
		.members = table, .count = ELEMENTSOF(table), .known = true                        \
	}
#define LAYOUT_EMPTY                                                                               \
	{                                                                                          \
		.known = true                                                                      \
	}

static const struct layout layouts[] = {
	[RECORD_HELLO] = LAYOUT(hello_members),
	[RECORD_SETTINGS] = LAYOUT(settings_members),
	[RECORD_COVERAGE] = LAYOUT(coverage_members),
	[RECORD_NETNS] = LAYOUT(netns_members),
	[RECORD_PROCESS] = LAYOUT(process_entry_members),
	[RECORD_FORGET] = LAYOUT(forget_members),
	[RECORD_SIGHTING] = LAYOUT(sighting_members),
	[RECORD_SWEEP] = LAYOUT(sweep_members),
	[RECORD_GAP] = LAYOUT(gap_members),
	[RECORD_BARRIER] = LAYOUT(barrier_members),
	[RECORD_RESYNC] = LAYOUT_EMPTY,
	[RECORD_BYE] = LAYOUT_EMPTY,
	[RECORD_DRAINED] = LAYOUT(drained_members),
	[RECORD_FAILURE] = LAYOUT(failure_members),
	[RECORD_OBSTACLE] = LAYOUT(obstacle_members),
	[RECORD_READY] = LAYOUT(ready_members),
	[RECORD_SYNC] = LAYOUT(sync_members),
	[RECORD_KEPT] = LAYOUT(kept_members),
	[RECORD_WAITS] = LAYOUT_EMPTY,
	[RECORD_COMMITTED] = LAYOUT(committed_members),
	[RECORD_FOLLOW] = LAYOUT(follow_members),
};

static const struct layout *layout_of(unsigned type)
{
	return type < ELEMENTSOF(layouts) && layouts[type].known ? &layouts[type] : NULL;
}

/* Pointers and integers are read and written in place, whatever the type of the struct around them. */

static void *pointer_at(const void *object, const struct member *m)
{
	void *pointer;

	memcpy(&pointer, (const uint8_t *)object + m->offset, sizeof(pointer));
	return pointer;
}

static void set_bytes(void *object, const struct member *m, const void *value, size_t size)
{
	memcpy((uint8_t *)object + m->offset, value, size);
}

static uint64_t integer_at(const void *object, const struct member *m)
{
	const uint8_t *at = (const uint8_t *)object + m->offset;
	uint32_t u32;
	uint64_t u64;

	switch (m->size) {
	case 1:
		return *at;
	case 4:
		memcpy(&u32, at, sizeof(u32));
		return u32;
	default:
		assert(m->size == sizeof(u64));
		memcpy(&u64, at, sizeof(u64));
		return u64;
	}
}

static void set_integer(void *object, const struct member *m, uint64_t value)
{
	uint8_t u8 = (uint8_t)value;
	uint32_t u32 = (uint32_t)value;

	switch (m->size) {
	case 1:
		set_bytes(object, m, &u8, sizeof(u8));
		break;
	case 4:
		set_bytes(object, m, &u32, sizeof(u32));
		break;
	default:
		assert(m->size == sizeof(value));
		set_bytes(object, m, &value, sizeof(value));
	}
}

static void members_done(void *object, const struct member *members, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct member *m = &members[i];

		if (m->kind == KIND_STRING)
			free(pointer_at(object, m));
		else if (m->kind == KIND_PROCESS)
			process_unref(pointer_at(object, m));
	}
}

void record_done(struct record *r)
{
	const struct layout *layout = layout_of(r->type);

	if (layout)
		members_done(r, layout->members, layout->count);
	*r = (struct record){0};
}

/* Encoding. The values are ours: one out of its bounds is our own bug. As with a reader, what follows a failure does nothing. */

struct writer {
	struct buf *to;
	bool failed; /* there was no memory */
};

static void put(struct writer *w, const void *bytes, size_t size)
{
	w->failed = w->failed || buf_append(w->to, bytes, size) < 0;
}

static void put_integer(struct writer *w, uint64_t value, size_t size)
{
	w->failed = w->failed || buf_put_integer(w->to, value, size) < 0;
}

/* The length of the text within LIMIT_STRING_BYTES, cut at a character. */
static size_t cut_length(const char *text)
{
	size_t length = strnlen(text, LIMIT_STRING_BYTES + 1);

	if (length <= LIMIT_STRING_BYTES)
		return length;
	length = LIMIT_STRING_BYTES;
	while (length > 0 && ((uint8_t)text[length] & 0xc0) == 0x80)
		length--;
	return length;
}

static void put_string(struct writer *w, const char *text)
{
	size_t length = text ? cut_length(text) : 0;

	put_integer(w, text ? length : STRING_NULL, sizeof(uint16_t));
	put(w, text, length);
}

static void put_endpoint(struct writer *w, const struct endpoint *e)
{
	assert(e->address.family == FAMILY_NONE || address_size(&e->address) > 0);
	put_integer(w, e->address.family, sizeof(e->address.family));
	put(w, e->address.bytes, address_size(&e->address));
	put_integer(w, e->port, sizeof(e->port));
}

static void put_range(struct writer *w, const struct port_range *range)
{
	put_integer(w, range->low, sizeof(range->low));
	put_integer(w, range->high, sizeof(range->high));
}

static void put_ranges(struct writer *w, const struct port_ranges *ranges)
{
	assert(ranges->count <= PORT_RANGES_MAX);
	put_integer(w, ranges->count, sizeof(ranges->count));
	for (uint32_t i = 0; i < ranges->count; i++)
		put_range(w, &ranges->range[i]);
}

static void put_holders(struct writer *w, const struct sighting *s)
{
	for (uint32_t i = 0; i < s->holder_count; i++)
		put_integer(w, s->holders[i], sizeof(s->holders[i]));
}

static void put_members(
	struct writer *w, const void *object, const struct member *members, size_t count);

static void put_member(struct writer *w, const void *object, const struct member *m)
{
	const void *at = (const uint8_t *)object + m->offset;
	uint64_t value;

	switch ((enum kind)m->kind) {
	case KIND_INTEGER:
		value = integer_at(object, m);
		assert(value >= m->low && value <= m->high);
		put_integer(w, value, m->size);
		return;
	case KIND_BYTES:
		put(w, at, m->size);
		return;
	case KIND_STRING:
		assert(m->low == 0 || pointer_at(object, m));
		put_string(w, pointer_at(object, m));
		return;
	case KIND_ENDPOINT:
		put_endpoint(w, at);
		return;
	case KIND_RANGE:
		put_range(w, at);
		return;
	case KIND_RANGES:
		put_ranges(w, at);
		return;
	case KIND_HOLDERS:
		put_holders(w, &((const struct record *)object)->sighting);
		return;
	case KIND_PROCESS:
	default:
		assert(m->kind == KIND_PROCESS);
		put_members(w, pointer_at(object, m), process_members, ELEMENTSOF(process_members));
	}
}

static void put_members(
	struct writer *w, const void *object, const struct member *members, size_t count)
{
	for (size_t i = 0; i < count; i++)
		put_member(w, object, &members[i]);
}

int stream_put(struct buf *b, const struct record *r)
{
	const struct layout *layout = layout_of(r->type);
	struct writer w = {.to = b};
	size_t before = buf_size(b), size;

	assert(layout);
	put_integer(&w, 0, sizeof(uint32_t)); /* the size, when it is known */
	put_integer(&w, r->type, sizeof(uint16_t));
	put_integer(&w, 0, sizeof(uint16_t));
	put_members(&w, r, layout->members, layout->count);
	if (w.failed) {
		buf_truncate(b, before);
		return -ENOMEM;
	}
	size = buf_size(b) - before;
	assert(size <= LIMIT_RECORD_BYTES); /* its strings and counts have limits of their own */
	for (size_t i = 0; i < sizeof(uint32_t); i++)
		b->data[b->start + before + i] = (uint8_t)(size >> (8 * i));
	return 0;
}

/* Decoding. Each takes from the reader; 0, -EBADMSG or -ENOMEM. */

static int get_integer(struct reader *in, void *object, const struct member *m)
{
	uint64_t value;

	switch (m->size) {
	case 1:
		value = reader_u8(in);
		break;
	case 4:
		value = reader_u32(in);
		break;
	default:
		assert(m->size == sizeof(value));
		value = reader_u64(in);
	}
	if (in->failed || value < m->low || value > m->high)
		return -EBADMSG;
	set_integer(object, m, value);
	return 0;
}

/* A stored form is what the terminal's edge leaves alone: valid UTF-8 that controls nothing. */
static int check_stored(const char *text)
{
	_cleanup_(free_p) char *escaped = escape_terminal(text);

	if (!escaped)
		return -ENOMEM;
	return streq(escaped, text) ? 0 : -EBADMSG;
}

static int get_string(struct reader *in, void *object, const struct member *m)
{
	_cleanup_(free_p) char *text = NULL;
	uint16_t length = reader_u16(in);
	const uint8_t *bytes;
	int r;

	if (length == STRING_NULL)
		return m->low == 1 ? -EBADMSG : 0;
	bytes = reader_bytes(in, length);
	if (!bytes || length > LIMIT_STRING_BYTES || memchr(bytes, 0, length))
		return -EBADMSG;
	text = strndup((const char *)bytes, length);
	if (!text)
		return -ENOMEM;
	r = check_stored(text);
	if (r < 0)
		return r;
	set_bytes(object, m, &text, sizeof(text));
	text = NULL;
	return 0;
}

static int get_bytes(struct reader *in, void *ret, size_t size)
{
	const uint8_t *bytes = reader_bytes(in, size);

	if (!bytes)
		return -EBADMSG;
	memcpy(ret, bytes, size);
	return 0;
}

static int get_endpoint(struct reader *in, struct endpoint *ret)
{
	uint8_t family = reader_u8(in);
	int r;

	if (family != FAMILY_NONE && family != FAMILY_IPV4 && family != FAMILY_IPV6)
		return -EBADMSG;
	ret->address.family = family;
	r = get_bytes(in, ret->address.bytes, address_size(&ret->address));
	if (r < 0)
		return r;
	ret->port = reader_u16(in);
	return in->failed ? -EBADMSG : 0;
}

static int get_range(struct reader *in, struct port_range *ret)
{
	ret->low = reader_u16(in);
	ret->high = reader_u16(in);
	return in->failed || ret->low > ret->high ? -EBADMSG : 0;
}

static int get_ranges(struct reader *in, struct port_ranges *ret)
{
	ret->count = reader_u32(in);
	if (in->failed || ret->count > PORT_RANGES_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < ret->count; i++) {
		int r = get_range(in, &ret->range[i]);

		if (r < 0)
			return r;
		if (i > 0 && ret->range[i].low <= ret->range[i - 1].high)
			return -EBADMSG;
	}
	return 0;
}

static int get_holders(struct reader *in, struct sighting *s)
{
	for (uint32_t i = 0; i < s->holder_count; i++)
		s->holders[i] = reader_u32(in);
	return in->failed ? -EBADMSG : 0;
}

static int get_members(struct reader *in, void *object, const struct member *members, size_t count);

static int get_process(struct reader *in, void *object, const struct member *m)
{
	_cleanup_(process_unref_p) struct process *p = process_new();
	int r;

	if (!p)
		return -ENOMEM;
	r = get_members(in, p, process_members, ELEMENTSOF(process_members));
	if (r < 0)
		return r;
	set_bytes(object, m, &p, sizeof(p));
	p = NULL;
	return 0;
}

static int get_member(struct reader *in, void *object, const struct member *m)
{
	void *at = (uint8_t *)object + m->offset;

	switch ((enum kind)m->kind) {
	case KIND_INTEGER:
		return get_integer(in, object, m);
	case KIND_BYTES:
		return get_bytes(in, at, m->size);
	case KIND_STRING:
		return get_string(in, object, m);
	case KIND_ENDPOINT:
		return get_endpoint(in, at);
	case KIND_RANGE:
		return get_range(in, at);
	case KIND_RANGES:
		return get_ranges(in, at);
	case KIND_HOLDERS:
		return get_holders(in, &((struct record *)object)->sighting);
	case KIND_PROCESS:
	default:
		assert(m->kind == KIND_PROCESS);
		return get_process(in, object, m);
	}
}

static int get_members(struct reader *in, void *object, const struct member *members, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = get_member(in, object, &members[i]);
	return r;
}

int stream_get(const void *data, size_t size, struct record *ret, size_t *ret_size)
{
	struct reader in = {.next = data, .left = size};
	_cleanup_(record_done) struct record record = {0};
	const struct layout *layout;
	uint32_t record_size;
	uint16_t type, zero;
	int r;

	if (size < STREAM_HEADER_BYTES)
		return 0;
	record_size = reader_u32(&in);
	type = reader_u16(&in);
	zero = reader_u16(&in);
	layout = layout_of(type);
	if (record_size < STREAM_HEADER_BYTES || record_size > LIMIT_RECORD_BYTES || !layout ||
		zero != 0)
		return -EBADMSG;
	if (size < record_size)
		return 0;
	in.left = record_size - STREAM_HEADER_BYTES;
	record.type = (enum record_type)type;
	r = get_members(&in, &record, layout->members, layout->count);
	if (r < 0)
		return r;
	if (in.left > 0)
		return -EBADMSG;
	*ret = record;
	record = (struct record){0};
	*ret_size = record_size;
	return 1;
}
