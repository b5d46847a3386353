/* SPDX-License-Identifier: MIT */

/* The ring as bytes: records of every kind, records that make no sense, and the marks that the kernel sets on them. */

#include "common/base.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <linux/memfd.h>
#include <sys/mman.h>

#include "daemon/capture/events.h"
#include "tests/support/refused.h"

REFUSABLE(void *, MAP_FAILED, mmap64,
	(void *at, size_t size, int protection, int flags, int fd, off_t offset),
	(at, size, protection, flags, fd, offset))
REFUSABLE(int, -1, madvise, (void *at, size_t size, int advice), (at, size, advice))

#define RING      256u
#define BUSY      (UINT32_C(1) << 31)
#define DISCARDED (UINT32_C(1) << 30)
#define AT        UINT64_C(0x1122334455667700) /* ns; the low byte is the kind */

static uint64_t who_of(uint64_t id, enum protocol protocol, enum role role)
{
	return id | (uint64_t)protocol << WHO_PROTOCOL_SHIFT | (uint64_t)role << WHO_ROLE_SHIFT;
}

static struct record_claim4 claim4(enum record_kind kind)
{
	return (struct record_claim4){
		.head = AT | kind,
		.cookie = 77,
		.who = who_of(5, PROTOCOL_UDPLITE, ROLE_CONNECTED),
		.netns = 9,
		.netns_inode = 4026531840,
		.local_port = 50000,
		.remote_port = 443,
		.local = htonl(0x7f000001),
		.remote = htonl(0x0a000001),
	};
}

static struct record_claim6 claim6(enum record_kind kind)
{
	return (struct record_claim6){
		.head = AT | kind | HEAD_IPV6,
		.cookie = 78,
		.who = who_of(6, PROTOCOL_TCP, ROLE_LISTENING),
		.netns = 9,
		.netns_inode = 4026531840,
		.local_port = 50001,
		.local = {htonl(0x20010db8), 0, 0, htonl(1)},
	};
}

static void assert_endpoint(const struct endpoint *e, const char *expected)
{
	char text[ENDPOINT_TEXT_MAX];

	assert_string_equal(endpoint_format(e, text), expected);
}

static void test_claims(void **state _unused_)
{
	struct record_claim4 four = claim4(RECORD_CLAIM);
	struct record_claim6 six = claim6(RECORD_CLAIM);
	struct event_seen e;

	assert_int_equal(events_decode(&four, sizeof(four), &e), 0);
	assert_int_equal(e.kind, EVENT_CLAIM);
	assert_int_equal(e.at, AT / 1000);
	assert_int_equal(e.closed, USEC_UNSET);
	assert_int_equal(e.cookie, 77);
	assert_int_equal(e.netns, 9);
	assert_int_equal(e.netns_inode, 4026531840);
	assert_int_equal(e.protocol, PROTOCOL_UDPLITE);
	assert_int_equal(e.role, ROLE_CONNECTED);
	assert_int_equal(e.process, 5);
	assert_int_equal(e.cgroup_id, 0);
	assert_endpoint(&e.local, "127.0.0.1:50000");
	assert_endpoint(&e.remote, "10.0.0.1:443");

	four.who |= WHO_CGROUP;
	assert_int_equal(events_decode(&four, sizeof(four), &e), 0);
	assert_int_equal(e.process, 0);
	assert_int_equal(e.cgroup_id, 5);

	assert_int_equal(events_decode(&six, sizeof(six), &e), 0);
	assert_int_equal(e.role, ROLE_LISTENING);
	assert_endpoint(&e.local, "[2001:db8::1]:50001");
	assert_int_equal(e.remote.address.family, FAMILY_NONE);

	/* a socket of IPv6 that speaks IPv4 */
	six.local[0] = 0;
	six.local[2] = htonl(0xffff);
	six.local[3] = htonl(0x7f000001);
	assert_int_equal(events_decode(&six, sizeof(six), &e), 0);
	assert_endpoint(&e.local, "127.0.0.1:50001");
}

static void test_ends(void **state _unused_)
{
	struct record_release release = {.head = AT | RECORD_RELEASE | HEAD_LINGERS, .cookie = 3};
	struct record_whole4 four = {.claim = claim4(RECORD_WHOLE), .closed = AT + 5000};
	struct record_whole6 six = {.claim = claim6(RECORD_WHOLE), .closed = AT + 5000};
	struct record_holder holder = {.head = AT | RECORD_HOLDER,
		.cookie = 4,
		.who = who_of(8, PROTOCOL_TCP, ROLE_ACCEPTED)};
	struct event_seen e;

	assert_int_equal(events_decode(&release, sizeof(release), &e), 0);
	assert_int_equal(e.kind, EVENT_RELEASE);
	assert_int_equal(e.closed, AT / 1000);
	assert_int_equal(e.at, USEC_UNSET);
	assert_int_equal(e.cookie, 3);
	assert_true(e.lingers);
	assert_false(e.by_then);
	release.head |= HEAD_BY_THEN;
	assert_int_equal(events_decode(&release, sizeof(release), &e), 0);
	assert_true(e.by_then);

	assert_int_equal(events_decode(&four, sizeof(four), &e), 0);
	assert_int_equal(e.kind, EVENT_WHOLE);
	assert_int_equal(e.at, AT / 1000);
	assert_int_equal(e.closed, ((AT + 5000) & HEAD_TIME) / 1000);
	assert_false(e.lingers);
	assert_endpoint(&e.remote, "10.0.0.1:443");

	six.claim.head |= HEAD_UNDATED;
	assert_int_equal(events_decode(&six, sizeof(six), &e), 0);
	assert_int_equal(e.at, USEC_UNSET);
	assert_int_equal(e.closed, ((AT + 5000) & HEAD_TIME) / 1000);

	assert_int_equal(events_decode(&holder, sizeof(holder), &e), 0);
	assert_int_equal(e.kind, EVENT_HOLDER);
	assert_int_equal(e.cookie, 4);
	assert_int_equal(e.process, 8);
	assert_int_equal(e.at, AT / 1000);
}

static void test_failures(void **state _unused_)
{
	struct record_claim4 four = claim4(RECORD_FAILURE);
	struct event_seen e;

	four.local_port = 0;
	assert_int_equal(events_decode(&four, sizeof(four), &e), 0);
	assert_int_equal(e.kind, EVENT_FAILURE);
	assert_int_equal(e.error, EADDRINUSE);
	four.who |= WHO_NOT_AVAILABLE;
	assert_int_equal(events_decode(&four, sizeof(four), &e), 0);
	assert_int_equal(e.error, EADDRNOTAVAIL);
}

static void test_nonsense(void **state _unused_)
{
	struct record_claim4 four = claim4(RECORD_CLAIM), wrong;
	struct event_seen e = {.cookie = 1234};

	for (size_t size = 0; size < sizeof(four); size++)
		assert_int_equal(events_decode(&four, size, &e), -EBADMSG);
	for (uint64_t kind = 0; kind < 8; kind++) {
		wrong = four;
		wrong.head = AT | kind;
		if (kind != RECORD_CLAIM && kind != RECORD_FAILURE)
			assert_int_equal(events_decode(&wrong, sizeof(wrong), &e), -EBADMSG);
	}
	wrong = four;
	wrong.head |= HEAD_IPV6;
	assert_int_equal(events_decode(&wrong, sizeof(wrong), &e), -EBADMSG);
	wrong = four;
	wrong.local_port = 0;
	assert_int_equal(events_decode(&wrong, sizeof(wrong), &e), -EBADMSG);
	wrong = four;
	wrong.who |= WHO_ROLE;
	assert_int_equal(events_decode(&wrong, sizeof(wrong), &e), -EBADMSG);
	assert_int_equal(e.cookie, 1234); /* nothing was said */
}

/* ---- a ring, mapped twice as the kernel does ---- */

struct ring {
	_Alignas(8) uint8_t data[2 * RING];
	uint64_t end;
};

/* With a header of the kernel's making. Returns where it began. */
static uint64_t put(struct ring *r, const void *record, size_t size, uint32_t marks)
{
	uint64_t begin = r->end;
	uint32_t header[2] = {(uint32_t)size | marks, 0};
	uint8_t bytes[sizeof(header) + sizeof(struct record_whole6)];

	memcpy(bytes, header, sizeof(header));
	memcpy(bytes + sizeof(header), record, size);
	for (size_t i = 0; i < sizeof(header) + size; i++) {
		r->data[(begin + i) % RING] = bytes[i];
		r->data[(begin + i) % RING + RING] = bytes[i];
	}
	r->end += (sizeof(header) + size + 7) / 8 * 8;
	return begin;
}

static uint64_t put_release(struct ring *r, uint64_t cookie, uint32_t marks)
{
	struct record_release record = {.head = AT | RECORD_RELEASE, .cookie = cookie};

	return put(r, &record, sizeof(record), marks);
}

struct heard {
	uint64_t cookies[32];
	size_t count, stop_at;
};

static int hear(void *context, const struct event_seen *e)
{
	struct heard *h = context;

	if (h->stop_at != 0 && h->count == h->stop_at)
		return 17;
	assert_true(h->count < ELEMENTSOF(h->cookies));
	h->cookies[h->count++] = e->cookie;
	return 0;
}

static void test_ring_goes_round(void **state _unused_)
{
	struct ring r = {.end = UINT64_C(1) << 40};
	uint64_t position = r.end;

	/* 24 bytes each, so that they meet the end of the ring in every way */
	for (uint64_t cookie = 1; cookie < 100; cookie += 4) {
		struct heard h = {0};

		for (uint64_t i = 0; i < 4; i++)
			put_release(&r, cookie + i, 0);
		assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), 0);
		assert_int_equal(position, r.end);
		assert_int_equal(h.count, 4);
		for (size_t i = 0; i < 4; i++)
			assert_int_equal(h.cookies[i], cookie + i);
	}
}

static void test_ring_marks(void **state _unused_)
{
	struct ring r = {0};
	struct heard h = {0};
	uint64_t position = 0, busy;

	put_release(&r, 1, 0);
	put_release(&r, 2, DISCARDED);
	put_release(&r, 3, 0);
	busy = put_release(&r, 4, BUSY);
	put_release(&r, 5, 0);
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), 0);
	assert_int_equal(h.count, 2);
	assert_int_equal(h.cookies[1], 3);
	assert_int_equal(position, busy);
	/* it is still being written */
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), 0);
	assert_int_equal(position, busy);
}

static void test_ring_stops_where_asked(void **state _unused_)
{
	struct ring r = {0};
	struct heard h = {.stop_at = 1};
	uint64_t position = 0;

	put_release(&r, 1, 0);
	put_release(&r, 2, 0);
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), 17);
	assert_int_equal(position, 24);
	h.stop_at = 0;
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), 0);
	assert_int_equal(h.count, 2);
	assert_int_equal(h.cookies[1], 2);
}

static void test_ring_that_lies(void **state _unused_)
{
	struct record_release record = {.head = AT | RECORD_RELEASE};
	struct ring r = {0};
	struct heard h = {0};
	uint64_t position = 0;

	/* longer than what was reserved */
	put(&r, &record, sizeof(record), 4096);
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), -EBADMSG);
	assert_int_equal(position, 0);
	/* begins where none does, and has no room for a header */
	position = 4;
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), -EBADMSG);
	position = r.end - 4;
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), -EBADMSG);
	position = 0;
	assert_int_equal(events_ring_walk(r.data, RING, &position, 4, hear, &h), -EBADMSG);
	position = 0;
	r = (struct ring){0};
	put(&r, "what is this?", 13, 0);
	assert_int_equal(events_ring_walk(r.data, RING, &position, r.end, hear, &h), -EBADMSG);
	assert_int_equal(h.count, 0);
}

static void test_beginnings(void **state _unused_)
{
	struct record_claim4 four = claim4(RECORD_CLAIM);
	struct ring r = {0};
	uint64_t second, third;

	put_release(&r, 1, 0);
	second = put(&r, &four, sizeof(four), DISCARDED);
	third = put_release(&r, 2, 0);
	assert_true(events_ring_begins(r.data, RING, 0, r.end, 0));
	assert_true(events_ring_begins(r.data, RING, 0, r.end, second));
	assert_true(events_ring_begins(r.data, RING, 0, r.end, third));
	assert_true(events_ring_begins(r.data, RING, 0, r.end, r.end));
	assert_false(events_ring_begins(r.data, RING, 0, r.end, second + 8));
	assert_false(events_ring_begins(r.data, RING, 0, r.end, r.end + 24));
	assert_false(events_ring_begins(r.data, RING, second, r.end, 0));
	/* what is being written has no end yet */
	r = (struct ring){0};
	put_release(&r, 1, BUSY);
	assert_false(events_ring_begins(r.data, RING, 0, r.end, r.end));
}

/* ---- a file laid out as the kernel lays out a ring: two pages with a position each, and its data twice ---- */

struct file {
	int fd;
	size_t page;
	uint32_t bytes;
	uint64_t *consumer, *producer;
	uint8_t *data;
};

static int file_setup(void **state)
{
	static struct file f;

	f.page = (size_t)sysconf(_SC_PAGESIZE);
	f.bytes = (uint32_t)(2 * f.page);
	f.fd = memfd_create("ring", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f.fd, (off_t)(2 * f.page + 2 * f.bytes)), 0);
	f.consumer =
		mmap(NULL, 2 * f.page + 2 * f.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	assert_ptr_not_equal(f.consumer, MAP_FAILED);
	f.data = (uint8_t *)f.consumer + 2 * f.page;
	f.producer = (void *)((uint8_t *)f.consumer + f.page);
	*state = &f;
	return 0;
}

static int file_teardown(void **state)
{
	struct file *f = *state;

	return munmap(f->consumer, 2 * f->page + 2 * f->bytes) | close(f->fd);
}

/* A record that begins `before` bytes before the end of the data, so that it goes on at their beginning. */
static void file_put(struct file *f, uint64_t position, uint64_t cookie)
{
	const struct record_release record = {.head = AT | RECORD_RELEASE, .cookie = cookie};
	uint8_t bytes[24] = {sizeof(record)};

	memcpy(bytes + 8, &record, sizeof(record));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		f->data[(position + i) % f->bytes] = bytes[i];
		f->data[(position + i) % f->bytes + f->bytes] = bytes[i];
	}
}

/* Whatever of it cannot be mapped, that is said, and nothing stays mapped. */
static void test_map_is_refused(void **state)
{
	static const struct {
		const char *call;
		unsigned after;
	} calls[] = {{"mmap64", 0}, {"mmap64", 1}, {"mmap64", 2}, {"madvise", 0}, {"madvise", 1}};
	struct file *f = *state;

	for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
		struct events_ring ring = {.bytes = 7};

		refuse(calls[i].call, calls[i].after, EPERM);
		assert_int_equal(events_ring_map(f->fd, f->bytes, &ring), -EPERM);
		assert_true(refused_done());
		assert_int_equal(ring.bytes, 7);
	}
}

static void test_shown_over_the_end(void **state)
{
	struct file *f = *state;
	struct events_ring ring;
	struct heard h = {0};
	uint64_t position = f->bytes - 8, end = position + 24;

	file_put(f, position, 99);
	*f->consumer = position;
	*f->producer = end;
	assert_int_equal(events_ring_map(f->fd, f->bytes, &ring), 0);
	assert_int_equal(ring.position, position);
	assert_int_equal(events_ring_end(&ring), end);
	/* neither half is shown where one is refused */
	for (unsigned half = 0; half < 2; half++) {
		refuse("mmap64", half, ENOMEM);
		assert_int_equal(events_ring_show(&ring, position, end), -ENOMEM);
		assert_true(refused_done());
	}
	assert_int_equal(events_ring_show(&ring, position, end), 0);
	assert_int_equal(events_ring_walk(ring.data, ring.bytes, &position, end, hear, &h), 0);
	assert_int_equal(h.count, 1);
	assert_int_equal(h.cookies[0], 99);
	events_ring_hide(&ring, position, end);
	events_ring_unmap(&ring);
}

/* A kernel that would have written more than there is room for: nothing of it is believed. */
static void test_positions_that_lie(void **state)
{
	struct file *f = *state;
	struct events_ring ring;

	*f->consumer = 64;
	*f->producer = 64 + f->bytes;
	assert_int_equal(events_ring_map(f->fd, f->bytes, &ring), 0);
	assert_int_equal(events_ring_end(&ring), 64 + f->bytes);
	*f->producer = 64 + f->bytes + 8;
	assert_int_equal(events_ring_end(&ring), 64);
	*f->producer = 0;
	assert_int_equal(events_ring_end(&ring), 64);
	events_ring_unmap(&ring);
}

/* ---- slots ---- */

static struct process_slot slot_of(const char *names, size_t size)
{
	struct process_slot s = {
		.id = 1,
		.start = UINT64_C(123456789012),
		.cgroup_id = 5,
		.pid = 100,
		.parent_pid = 1,
		.euid = 1000,
		.mount_namespace = 7,
		.comm = "ba\x01sh",
		.parent_comm = "0123456789abcde", /* as long as it may be */
		.exe_bytes = (uint16_t)size,
	};

	memcpy(s.exe, names, size);
	return s;
}

static void test_process(void **state _unused_)
{
	struct process_slot slot = slot_of("bash\0bin\0usr", sizeof("bash\0bin\0usr"));
	_cleanup_(process_unref_p) struct process *p = NULL;

	memset(slot.parent_comm, 'x', sizeof(slot.parent_comm)); /* no NUL at all */
	assert_int_equal(events_process_of(&slot, 7, &p), 0);
	assert_int_equal(p->pid, 100);
	assert_int_equal(p->parent_pid, 1);
	assert_int_equal(p->uid, 1000);
	assert_int_equal(p->start_boot, 123450000); /* as /proc/PID/stat has it */
	assert_string_equal(p->comm, "ba\\x01sh");
	assert_string_equal(p->parent_comm, "xxxxxxxxxxxxxxxx");
	assert_string_equal(p->exe, "/usr/bin/bash");
	assert_int_equal(p->exe_note, EXE_NOTE_NONE);
	assert_null(p->cgroup);
	assert_null(p->unit);
}

static void test_exe(void **state _unused_)
{
	static const struct {
		const char *names;
		size_t size;
		uint32_t mount_namespace;
		bool nameless;
		const char *exe;
		enum exe_note note;
	} cases[] = {
		{"a", 2, 7, false, "/a", EXE_NOTE_NONE},
		{"a\0b", 4, 7, true, "/b/a", EXE_NOTE_DELETED},
		{"a\0b", 4, 0, false, "/b/a", EXE_NOTE_NONE},
		{"a\0b", 4, 8, false, "/b/a", EXE_NOTE_OTHER_NAMESPACE},
		{"a\0b", 4, 8, true, "/b/a", EXE_NOTE_OTHER_NAMESPACE},
		{"memfd:x", 8, 8, true, "/memfd:x", EXE_NOTE_MEMFD},
		{"memfd:x\0bin", 12, 7, false, "/bin/memfd:x", EXE_NOTE_NONE},
		{"", 0, 7, false, NULL, EXE_NOTE_NONE},
		{"ab", 2, 7, false, NULL, EXE_NOTE_NONE}, /* no NUL at its end */
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct process_slot slot = slot_of(cases[i].names, cases[i].size);
		_cleanup_(process_unref_p) struct process *p = NULL;

		slot.exe_nameless = cases[i].nameless;
		assert_int_equal(events_process_of(&slot, cases[i].mount_namespace, &p), 0);
		assert_true(streq_null(p->exe, cases[i].exe));
		assert_int_equal(p->exe_note, cases[i].note);
	}
}

static void test_longest_exe(void **state _unused_)
{
	struct process_slot slot = slot_of("", 0);
	_cleanup_(process_unref_p) struct process *p = NULL;

	memset(slot.exe, 'x', sizeof(slot.exe) - 1);
	slot.exe_bytes = sizeof(slot.exe);
	assert_int_equal(events_process_of(&slot, 7, &p), 0);
	assert_int_equal(strlen(p->exe), sizeof(slot.exe));
	process_unref(TAKE_PTR(p));
	slot.exe_bytes = sizeof(slot.exe) + 1;
	assert_int_equal(events_process_of(&slot, 7, &p), 0);
	assert_null(p->exe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_ring_goes_round),
		cmocka_unit_test(test_ring_marks),
		cmocka_unit_test(test_ring_stops_where_asked),
		cmocka_unit_test(test_ring_that_lies),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test_setup_teardown(test_map_is_refused, file_setup, file_teardown),
		cmocka_unit_test_setup_teardown(test_shown_over_the_end, file_setup, file_teardown),
		cmocka_unit_test_setup_teardown(test_positions_that_lie, file_setup, file_teardown),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_exe),
		cmocka_unit_test(test_longest_exe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
