/* SPDX-License-Identifier: MIT */

/*
 * The same table of samples serves every test, and the fuzzer: `test-stream --corpus DIRECTORY` writes each sample
 * and each refusal as one file of tests/fuzz/corpus/stream.
 */

#include "common/stream.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/failing.h"

static char version[] = "0.1.0", netns_name[] = "blue", reason[] = "ring-full",
	    comm[] = "na\\x0ame", exe[] = "/usr/bin/caf\xc3\xa9", unit[] = "ssh.service",
	    empty[] = "", obstacle[] = "no BPF; ", degraded[] = "disk full; no BPF";

static struct process full_process = {
	.references = 1,
	.pid = 4711,
	.parent_pid = 1,
	.start_boot = 1000001,
	.pidfd_inode = 99,
	.uid = 1000,
	.exe_note = EXE_NOTE_OTHER_NAMESPACE,
	.comm = comm,
	.exe = exe,
	.cgroup = empty,
	.unit = unit,
};

static struct process no_process = {
	.references = 1,
	.pid = -1,
	.start_boot = USEC_UNSET,
	.uid = UID_UNSET,
};

#define COVERAGE_SAMPLE                                                                            \
	{                                                                                          \
		.rung = SOURCE_PROCNET, .interval_usec = USEC_PER_SEC,                             \
		.ranges = {.range = {{32768, 60999}, {61000, 65535}}, .count = 2},                 \
		.ephemeral = {32768, 60999}, .protocols = 15, .bound_only = true,                  \
		.netns_all = true, .failures = true,                                               \
	}

#define IPV4(a, b, c, d, p)                                                                        \
	{                                                                                          \
		.address = {.family = FAMILY_IPV4, .bytes = {a, b, c, d}}, .port = p               \
	}

/* Every type of record. `hex` is the body that the description in stream.h gives, a space between members; NULL where
 * another sample of the type has it. */
static const struct sample {
	const char *name, *hex;
	struct record record;
} samples[] = {
	{"hello",
		"0102030405060708090a0b0c0d0e0f10 0500000000000000 0600000000000000 "
		"ffffffff 0500 302e312e30 0700000000000000 0800000000000000",
		{RECORD_HELLO, .hello = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
				       {5, 6}, -1, version, 7, 8}}},
	{"settings",
		"0100000000000000 0000000000000080 02 00a493d600000000 0200000000000000 "
		"0300000000000000 f4010000 e803000000000000",
		{RECORD_SETTINGS, .settings = {1, UINT64_C(1) << 63, REMOTE_ADDRESSES_NONE,
					  USEC_PER_HOUR, 2, 3, 500, 1000}}},
	{"coverage",
		"03 40420f0000000000 02000000 0080 47ee 48ee ffff 0080 47ee 0f000000 01 "
		"00 00 01 00 01",
		{RECORD_COVERAGE, .coverage = COVERAGE_SAMPLE}},
	{"coverage-none", NULL, {RECORD_COVERAGE}},
	{"netns", "0700000000000000 0800000000000000 0400 626c7565 0080 5fea",
		{RECORD_NETNS, .netns = {7, 8, netns_name, {32768, 59999}}}},
	{"netns-unnamed", "0700000000000000 0800000000000000 ffff 0000 0000",
		{RECORD_NETNS, .netns = {7, 8, NULL, {0, 0}}}},
	{"process",
		"09000000 67120000 01000000 41420f0000000000 6300000000000000 e8030000 "
		"03 0800 6e615c7830616d65 0e00 2f7573722f62696e2f636166c3a9 0000 0b00 "
		"7373682e73657276696365 ffff",
		{RECORD_PROCESS, .process = {9, &full_process}}},
	{"process-unknown", NULL, {RECORD_PROCESS, .process = {UINT32_MAX, &no_process}}},
	{"forget", "2a000000", {RECORD_FORGET, .forget = 42}},
	{"sighting",
		"01 00 01 02 03 00 01 00 efcdab8967452301 0300000000000000 04 7f000001 "
		"a3d6 00 0000 0a00000000000000 0900000000000000 ffffffffffffffff "
		"05000000 02000000 06000000 07000000 08000000",
		{RECORD_SIGHTING, .sighting = {.kind = SIGHTING_PRESENT,
					  .source = SOURCE_SWEEP,
					  .protocol = PROTOCOL_UDP,
					  .role = ROLE_BOUND,
					  .attribution = ATTRIBUTION_PROCFD,
					  .preexisting = true,
					  .cookie = 0x0123456789abcdef,
					  .netns = 3,
					  .local = IPV4(127, 0, 0, 1, 54947),
					  .at = 10,
					  .after = 9,
					  .expires = USEC_UNSET,
					  .opener = 5,
					  .holder_count = 2,
					  .holders = {6, 7},
					  .holders_dropped = 8}}},
	{"sighting-most", NULL,
		{RECORD_SIGHTING,
			.sighting = {.kind = SIGHTING_CLOSED,
				.source = SOURCE_COUNT - 1,
				.protocol = PROTOCOL_COUNT - 1,
				.role = ROLE_COUNT - 1,
				.attribution = ATTRIBUTION_COUNT - 1,
				.time_wait = true,
				.local_unknown = true,
				.cookie = UINT64_MAX,
				.local = {{FAMILY_IPV6, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
								14, 15, 16}},
					65535},
				.remote = IPV4(255, 254, 253, 252, 1),
				.at = 1,
				.after = USEC_UNSET,
				.expires = 2,
				.holder_count = LIMIT_HOLDERS,
				.holders = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
				.holders_dropped = UINT32_MAX}}},
	{"sighting-absent", NULL,
		{RECORD_SIGHTING, .sighting = {.kind = SIGHTING_ABSENT, .cookie = 1, .at = 3}}},
	{"sighting-released", NULL,
		{RECORD_SIGHTING, .sighting = {.kind = SIGHTING_RELEASED,
					  .source = SOURCE_EVENTS,
					  .cookie = 1,
					  .at = 3,
					  .after = USEC_UNSET}}},
	{"sweep",
		"0100000000000000 0200000000000000 0300000000000000 0400000000000000 "
		"0500000000000000 06000000 07000000 0800000000000000 09000000 "
		"0a00000000000000",
		{RECORD_SWEEP, .sweep = {1, 2, 3, {4, 5}, 6, 7, 8, 9, 10}}},
	{"gap",
		"0100000000000000 0200000000000000 ffffffffffffffff 0900 "
		"72696e672d66756c6c",
		{RECORD_GAP, .gap = {1, 2, LOST_UNKNOWN, reason}}},
	{"barrier",
		"0100000000000000 02000000 0300000000000000 0400000000000000 "
		"0500000000000000 0600000000000000",
		{RECORD_BARRIER, .barrier = {1, {2, 3, 4}, {5, 6}}}},
	{"resync", "", {RECORD_RESYNC}},
	{"bye", "", {RECORD_BYE}},
	{"drained",
		"0100000000000000 0200000000000000 0300000000000000 0400000000000000 "
		"0500000000000000 0600000000000000 01",
		{RECORD_DRAINED, .drained = {{1, 2}, 3, 4, 5, 6, true}}},
	{"failure", "0100000000000000 0200000000000000 01 02 01 04 7f000001 a3d6 00 0000 03000000",
		{RECORD_FAILURE,
			.failure = {1, 2, PROTOCOL_UDP, FAILURE_NOT_AVAILABLE, FAILURE_BIND,
				IPV4(127, 0, 0, 1, 54947), {{FAMILY_NONE, {0}}, 0}, 3}}},
	{"failure-connect", NULL,
		{RECORD_FAILURE,
			.failure = {UINT64_MAX, 2, PROTOCOL_TCP, FAILURE_IN_USE, FAILURE_CONNECT,
				IPV4(127, 0, 0, 1, 0), IPV4(127, 0, 0, 2, 443), 0}}},
	{"obstacle", "0800 6e6f2042 50463b20", {RECORD_OBSTACLE, .obstacle = obstacle}},
	{"obstacle-none", "ffff", {RECORD_OBSTACLE}},
	{"ready", "0100000000000000 0200000000000000", {RECORD_READY, .ready = {1, 2}}},
	{"ready-none", "0000000000000000 0000000000000000", {RECORD_READY}},
	{"kept", "0100000000000000 ffffffffffffffff", {RECORD_KEPT, .kept = {1, UINT64_MAX}}},
	{"waits", "", {RECORD_WAITS}},
	{"sync", "ffffffffffffffff", {RECORD_SYNC, .sync = UINT64_MAX}},
	{"committed",
		"0100000000000000 0200000000000000 0300000000000000 04000000 "
		"0500000000000000 0600000000000000 07000000 0800000000000000 "
		"0900000000000000 0a00000000000000 0b00000000000000 0c00000000000000 "
		"0d00000000000000 0e00000000000000 0f00000000000000 1000000000000000 "
		"1100000000000000 1200000000000000 03 40420f0000000000 02000000 0080 47ee "
		"48ee ffff 0080 47ee 0f000000 01 00 00 01 00 01 1300000000000000 01 00 1100 "
		"6469736b2066756c6c3b206e6f20425046",
		{RECORD_COMMITTED,
			.committed = {1, 2, 3, {4, 5, 6}, {7, 8, 9}, 10, 11, 12, 13, 14, 15, 16, 17,
				18, COVERAGE_SAMPLE, 19, true, false, degraded}}},
	{"follow", "01", {RECORD_FOLLOW, .follow = true}},
};

static const struct sample *sample_named(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(samples); i++)
		if (streq(samples[i].name, name))
			return &samples[i];
	fail_msg("no sample %s", name);
	return NULL;
}

static void put(struct buf *b, const struct record *r)
{
	assert_int_equal(stream_put(b, r), 0);
}

static void hex_of(const struct buf *b, size_t from, char *ret)
{
	*ret = '\0';
	for (size_t i = from; i < buf_size(b); i++)
		ret += sprintf(ret, "%02x", buf_bytes(b)[i]);
}

static void assert_hex_equal(const char *hex, const char *spaced)
{
	char expected[4096], *to = expected;

	for (; *spaced; spaced++)
		if (*spaced != ' ')
			*to++ = *spaced;
	*to = '\0';
	assert_string_equal(hex, expected);
}

static void test_bytes(void **state)
{
	char hex[4096];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
		_cleanup_(buf_done) struct buf b = {0};
		struct reader header;

		put(&b, &samples[i].record);
		header = (struct reader){.next = buf_bytes(&b), .left = buf_size(&b)};
		assert_int_equal(reader_u32(&header), buf_size(&b));
		assert_int_equal(reader_u16(&header), samples[i].record.type);
		assert_int_equal(reader_u16(&header), 0);
		hex_of(&b, STREAM_HEADER_BYTES, hex);
		if (samples[i].hex)
			assert_hex_equal(hex, samples[i].hex);
	}
}

static void assert_canonical(const struct record *r, const uint8_t *bytes, size_t size)
{
	_cleanup_(buf_done) struct buf b = {0};

	put(&b, r);
	assert_int_equal(buf_size(&b), size);
	assert_memory_equal(buf_bytes(&b), bytes, size);
}

/* All samples one after the other: each comes back, and no part of one is taken for a whole. */
static void test_round_trip(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(samples); i++)
		put(&b, &samples[i].record);
	for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
		_cleanup_(record_done) struct record r = {0};
		size_t used = 0;

		assert_int_equal(stream_get(buf_bytes(&b), buf_size(&b), &r, &used), 1);
		assert_int_equal(r.type, samples[i].record.type);
		assert_canonical(&r, buf_bytes(&b), used);
		for (size_t part = 0; part < used; part++) {
			_cleanup_(free_p) uint8_t *exact = malloc(part ? part : 1);
			struct record none = {0};
			size_t untouched = 12345;

			assert_non_null(exact);
			memcpy(exact, buf_bytes(&b), part);
			assert_int_equal(stream_get(exact, part, &none, &untouched), 0);
			assert_int_equal(untouched, 12345);
			assert_int_equal(none.type, 0);
		}
		buf_consume(&b, used);
	}
	assert_int_equal(buf_size(&b), 0);
}

/* What is read is not only the same bytes but the right members. */
static void test_values(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};
	_cleanup_(record_done) struct record r = {0};
	const struct process *p;
	size_t used;

	(void)state;
	put(&b, &sample_named("process")->record);
	assert_int_equal(stream_get(buf_bytes(&b), buf_size(&b), &r, &used), 1);
	p = r.process.process;
	assert_int_equal(r.process.ref, 9);
	assert_int_equal(p->references, 1);
	assert_int_equal(p->pid, 4711);
	assert_int_equal(p->start_boot, 1000001);
	assert_string_equal(p->comm, comm);
	assert_string_equal(p->exe, exe);
	assert_string_equal(p->cgroup, "");
	assert_null(p->parent_comm);
	assert_int_equal(p->store_id, 0);
	record_done(&r);
	assert_int_equal(r.type, 0);

	buf_consume(&b, used);
	put(&b, &sample_named("sighting-most")->record);
	assert_int_equal(stream_get(buf_bytes(&b), buf_size(&b), &r, &used), 1);
	assert_memory_equal(
		&r.sighting, &sample_named("sighting-most")->record.sighting, sizeof(r.sighting));
}

/* One sample with some bytes replaced. */
struct refusal {
	const char *sample;
	size_t offset; /* in the body, or OF_HEADER() */
	const char *hex;
};
#define OF_HEADER(offset) ((size_t)(offset)-STREAM_HEADER_BYTES)

static const struct refusal refusals[] = {
	/* framing */
	{"bye", OF_HEADER(0), "00000000"},
	{"bye", OF_HEADER(0), "07000000"},
	{"bye", OF_HEADER(0), "01000100"}, /* LIMIT_RECORD_BYTES + 1 */
	{"bye", OF_HEADER(0), "ffffffff"},
	{"bye", OF_HEADER(4), "0000"},
	{"bye", OF_HEADER(4), "0f00"}, /* past the last of capture's */
	{"bye", OF_HEADER(4),
		"2000"
		"0100"},
	{"bye", OF_HEADER(4), "3200"},
	{"bye", OF_HEADER(4), "0c01"},
	{"bye", OF_HEADER(6), "0001"},
	{"sync", OF_HEADER(0), "0f000000"}, /* shorter than its members */
	{"sync", OF_HEADER(0), "08000000"},
	{"sync", OF_HEADER(4), "2000"}, /* shorter than READY's */
	{"gap", OF_HEADER(0), "2a000000"},
	/* bounds */
	{"follow", 0, "02"},
	{"forget", 0, "00000000"},
	{"process", 0, "00000000"},
	{"process", 32, "04"},
	{"sighting", 0, "00"},
	{"sighting", 0, "05"},
	{"sighting", 1, "04"},
	{"sighting", 2, "04"},
	{"sighting", 3, "05"},
	{"sighting", 4, "07"},
	{"sighting", 5, "02"},
	{"sighting", 6, "ff"},
	{"sighting", 7, "02"},
	{"sighting", 24, "05"},
	{"sighting", 24, "06"}, /* then it is too short */
	{"sighting", 31, "04"}, /* and so */
	{"sighting", 62, "11000000"},
	{"sighting", 62, "ffffffff"},
	{"sighting", 62, "01000000"}, /* a ref too many */
	{"sighting", 62, "03000000"}, /* one too few */
	{"sweep", 40, "10000000"},
	{"coverage", 0, "04"},
	{"coverage", 9, "11000000"},
	{"coverage", 9, "03000000"},
	{"coverage", 13, "48ee"}, /* low past high */
	{"coverage", 17, "47ee"}, /* overlaps */
	{"coverage", 17, "0080"}, /* descends */
	{"coverage", 21, "48ee"}, /* the ephemeral range */
	{"coverage", 25, "10000000"},
	{"coverage", 29, "02"},
	{"coverage", 32, "ff"},
	{"coverage", 33, "02"},
	{"coverage", 34, "02"},
	{"drained", 48, "02"},
	{"failure", 16, "04"},
	{"failure", 17, "00"},
	{"failure", 17, "03"},
	{"failure", 18, "00"},
	{"failure", 18, "03"},
	{"failure", 19, "01"},
	{"netns", 22, "60ea"}, /* low past high */
	/* strings */
	{"hello", 36, "ffff"},     /* NULL */
	{"hello", 36, "0600"},     /* longer than the record */
	{"hello", 36, "0400"},     /* shorter */
	{"hello", 38, "30003031"}, /* NUL */
	{"hello", 38, "0a"},       /* a control */
	{"hello", 38, "7f"},       /* DEL */
	{"hello", 38, "1b"},       /* ESC */
	{"hello", 38, "ff"},       /* no UTF-8 */
	{"hello", 38, "c080"},     /* overlong */
	{"hello", 38, "c285"},     /* a C1 control */
	{"hello", 38, "e280ae"},   /* U+202E */
	{"hello", 38, "eda080"},   /* a surrogate */
	{"hello", 42, "c3"},       /* ends within a character */
	{"gap", 24, "ffff"},
	{"netns", 18, "00626c75"},
	{"committed", OF_HEADER(4), "0100"},
};

static int hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void spoil(struct buf *b, const struct refusal *f)
{
	size_t offset = STREAM_HEADER_BYTES + f->offset, count = strlen(f->hex) / 2;

	put(b, &sample_named(f->sample)->record);
	assert_true(offset + count <= buf_size(b));
	for (size_t i = 0; i < count; i++)
		b->data[b->start + offset + i] =
			(uint8_t)(hex_digit(f->hex[2 * i]) << 4 | hex_digit(f->hex[2 * i + 1]));
}

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(refusals); i++) {
		_cleanup_(buf_done) struct buf b = {0};
		struct record r = {0};
		size_t used = 12345;
		int result;

		spoil(&b, &refusals[i]);
		result = stream_get(buf_bytes(&b), buf_size(&b), &r, &used);
		if (result != -EBADMSG)
			fail_msg("%s %zu %s: %d", refusals[i].sample, refusals[i].offset,
				refusals[i].hex, result);
		assert_int_equal(r.type, 0);
		assert_int_equal(used, 12345);
	}
}

/* A header is judged before the rest has come: nobody waits for 4 GiB. */
static void test_refused_early(void **state)
{
	static const uint8_t huge[STREAM_HEADER_BYTES] = {0, 0, 2, 0, RECORD_BYE};
	struct record r = {0};
	size_t used;

	(void)state;
	assert_int_equal(stream_get(huge, sizeof(huge), &r, &used), -EBADMSG);
}

static void test_long_strings(void **state)
{
	static const struct {
		size_t length;     /* of text: 'a' and, from `from` on, two-byte characters */
		size_t from, kept; /* bytes */
	} cases[] = {
		{LIMIT_STRING_BYTES, LIMIT_STRING_BYTES, LIMIT_STRING_BYTES},
		{LIMIT_STRING_BYTES + 1, LIMIT_STRING_BYTES + 1, LIMIT_STRING_BYTES},
		{LIMIT_STRING_BYTES + 1, LIMIT_STRING_BYTES - 1, LIMIT_STRING_BYTES - 1},
		{70000, 70000, LIMIT_STRING_BYTES},
		{LIMIT_STRING_BYTES + 10, 0, LIMIT_STRING_BYTES},
	};
	_cleanup_(buf_done) struct buf no_text = {0};
	_cleanup_(record_done) struct record none = {0};
	char torn[LIMIT_STRING_BYTES + 2] = "";
	struct record record = {RECORD_NETNS, .netns = {.name = torn}};
	size_t size;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(free_p) char *text = calloc(cases[i].length + 1, 1);
		_cleanup_(buf_done) struct buf b = {0};
		_cleanup_(record_done) struct record out = {0};
		struct record in = {RECORD_NETNS, .netns = {.name = text}};
		size_t used;

		assert_non_null(text);
		memset(text, 'a', cases[i].length);
		for (size_t k = cases[i].from; k + 1 < cases[i].length; k += 2)
			memcpy(text + k, "\xc3\xa9", 2);
		put(&b, &in);
		assert_int_equal(stream_get(buf_bytes(&b), buf_size(&b), &out, &used), 1);
		assert_int_equal(strlen(out.netns.name), cases[i].kept);
	}
	/* of what has no character where it might be cut, nothing is left */
	memset(torn, '\x80', sizeof(torn) - 1);
	put(&no_text, &record);
	assert_int_equal(stream_get(buf_bytes(&no_text), buf_size(&no_text), &none, &size), 1);
	assert_string_equal(none.netns.name, "");
}

/* Every sample that says that it is shorter than it is, by any number of bytes. */
static void test_cut_off(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
		_cleanup_(buf_done) struct buf b = {0};

		put(&b, &samples[i].record);
		for (size_t size = STREAM_HEADER_BYTES; size < buf_size(&b); size++) {
			struct record r = {0};
			size_t used = 0;

			for (size_t k = 0; k < sizeof(uint32_t); k++)
				b.data[b.start + k] = (uint8_t)(size >> (8 * k));
			if (stream_get(buf_bytes(&b), size, &r, &used) != -EBADMSG)
				fail_msg("%s of %zu bytes", samples[i].name, size);
		}
	}
}

/* One byte more than a string may have, in a record that is well formed otherwise. */
static void test_string_limit(void **state)
{
	_cleanup_(buf_done) struct buf b = {0};
	char text[LIMIT_STRING_BYTES + 1];
	struct record r = {0};
	size_t used;

	(void)state;
	memset(text, 'a', sizeof(text));
	assert_int_equal(buf_put_integer(&b, STREAM_HEADER_BYTES + 18 + sizeof(text), 4), 0);
	assert_int_equal(buf_put_integer(&b, RECORD_NETNS, 4), 0);
	assert_int_equal(buf_put_u64(&b, 1), 0);
	assert_int_equal(buf_put_u64(&b, 2), 0);
	assert_int_equal(buf_put_integer(&b, sizeof(text), 2), 0);
	assert_int_equal(buf_append(&b, text, sizeof(text)), 0);
	assert_int_equal(stream_get(buf_bytes(&b), buf_size(&b), &r, &used), -EBADMSG);
}

/* Every byte of every sample changed in several ways: refused, incomplete, or canonical. */
static void test_every_byte(void **state)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x10};
	unsigned decoded = 0, refused = 0;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
		_cleanup_(buf_done) struct buf b = {0};

		put(&b, &samples[i].record);
		for (size_t k = 0; k < buf_size(&b) * ELEMENTSOF(masks); k++) {
			_cleanup_(record_done) struct record r = {0};
			uint8_t *byte = b.data + b.start + k / ELEMENTSOF(masks);
			uint8_t mask = masks[k % ELEMENTSOF(masks)];
			size_t used = 0;
			int result;

			*byte ^= mask;
			result = stream_get(buf_bytes(&b), buf_size(&b), &r, &used);
			if (result == 1)
				assert_canonical(&r, buf_bytes(&b), used);
			else
				assert_true(result == 0 || result == -EBADMSG);
			decoded += result == 1;
			refused += result == -EBADMSG;
			*byte ^= mask;
		}
	}
	assert_true(decoded > 1000 && refused > 500);
}

static void test_no_memory(void **state)
{
	(void)state;
	failing_hits = 0;
	for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
		int result = -ENOMEM;

		for (unsigned n = 0; result == -ENOMEM; n++) {
			_cleanup_(buf_done) struct buf b = {0};
			_cleanup_(record_done) struct record r = {0};
			size_t used = 0;

			failing_in = n;
			result = stream_put(&b, &samples[i].record);
			if (result == 0)
				result = stream_get(buf_bytes(&b), buf_size(&b), &r, &used);
			else
				assert_int_equal(buf_size(&b), 0);
			failing_in = UINT_MAX;
			assert_true(result == 1 || (result == -ENOMEM && r.type == 0));
		}
		assert_int_equal(result, 1);
	}
	assert_true(failing_hits > ELEMENTSOF(samples) + 10);
}

/* Where the buffer is to grow within the record, at whichever member that is: nothing of it is left, and what stood before is. */
static void test_no_room(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
		_cleanup_(buf_done) struct buf whole = {0};

		put(&whole, &samples[i].record);
		for (size_t room = 0; room < buf_size(&whole); room++) {
			_cleanup_(buf_done) struct buf b = {0};
			void *filled = buf_reserve(&b, 256);
			size_t capacity = b.capacity, before;

			assert_non_null(filled);
			if (room > capacity)
				break;
			before = capacity - room;
			memset(filled, 'x', before);
			buf_grow(&b, before);
			failing_in = 0;
			assert_int_equal(stream_put(&b, &samples[i].record), -ENOMEM);
			assert_int_equal(failing_in, UINT_MAX);
			assert_int_equal(buf_size(&b), before);
			assert_int_equal(stream_put(&b, &samples[i].record), 0);
			assert_int_equal(buf_size(&b), before + buf_size(&whole));
			assert_memory_equal(
				buf_bytes(&b) + before, buf_bytes(&whole), buf_size(&whole));
		}
	}
}

static int write_seed(int directory, const char *name, const struct buf *b)
{
	_cleanup_(close_p) int fd =
		openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, buf_bytes(b), buf_size(b)) != (ssize_t)buf_size(b))
		return -EIO;
	return 0;
}

static int write_corpus(const char *path)
{
	_cleanup_(close_p) int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(buf_done) struct buf all = {0};
	char name[64];
	int r = directory < 0 ? -errno : 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(samples); i++) {
		_cleanup_(buf_done) struct buf b = {0};

		put(&b, &samples[i].record);
		put(&all, &samples[i].record);
		r = write_seed(directory, samples[i].name, &b);
	}
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(refusals); i++) {
		_cleanup_(buf_done) struct buf b = {0};

		spoil(&b, &refusals[i]);
		snprintf(name, sizeof(name), "refused-%02zu-%s", i, refusals[i].sample);
		r = write_seed(directory, name, &b);
	}
	if (r == 0)
		r = write_seed(directory, "all", &all);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_early),
		cmocka_unit_test(test_long_strings),
		cmocka_unit_test(test_string_limit),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_cut_off),
	};

	if (argc == 3 && streq(argv[1], "--corpus"))
		return write_corpus(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
