/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The sighting stream: typed records between the three processes, and the format of --record files.
 *
 * A record is u32 size (header included), u16 type, u16 zero, then its members in the order of its struct, each
 * little-endian; a string is u16 length and bytes, 0xffff for NULL; an address is u8 family and its 0, 4 or 16
 * bytes; a bool is a u8 that is 0 or 1. A file starts with the 8 bytes "PLSTRM\x03\n". The decoder takes
 * nothing on trust: sizes, enums, counts, UTF-8 and trailing bytes are checked.
 */

#include "common/buf.h"
#include "common/sighting.h"

#define STREAM_MAGIC        "PLSTRM\x03\n"
#define STREAM_MAGIC_BYTES  8
#define STREAM_HEADER_BYTES 8

enum record_type {
	/* capture -> ledger */
	RECORD_HELLO = 1,
	RECORD_SETTINGS = 2,
	RECORD_COVERAGE = 3,
	RECORD_NETNS = 4,
	RECORD_PROCESS = 5,
	RECORD_FORGET = 6, /* u32 ref: no later record names this process */
	RECORD_SIGHTING = 7,
	RECORD_SWEEP = 8,
	RECORD_GAP = 9,
	RECORD_BARRIER = 10,
	/* empty: all that is open follows as PRESENT, whether sent before or not */
	RECORD_RESYNC = 11,
	RECORD_BYE = 12, /* empty: a clean stop; the stream ends here */
	RECORD_DRAINED = 13,
	RECORD_FAILURE = 14,
	/* string: why there is no better rung, and what mends it; NULL: there is none, or none is wanted */
	RECORD_OBSTACLE = 15,
	/* ledger -> capture */
	RECORD_READY = 32, /* the store is open, and has what this ring told before this position */
	RECORD_SYNC = 33,  /* u64 id: sweep, then answer with a BARRIER. Also control -> ledger */
	RECORD_KEPT = 34,  /* committed: what the ring told before this position */
	RECORD_WAITS =
		35, /* empty: the store cannot be opened now; it is tried again, then comes READY */
	/* ledger -> control */
	RECORD_COMMITTED = 48,
	/* control -> ledger; u8: 1 send COMMITTED for every commit and commit every sweep, 0 no more */
	RECORD_FOLLOW = 49,
};

/* One decoded record. Owns what its member owns. */
struct record {
	enum record_type type;
	union {
		struct hello hello;
		struct settings settings;
		struct coverage coverage;
		struct netns netns;
		struct process_entry process;
		uint32_t forget;
		struct sighting sighting;
		struct sweep sweep;
		struct gap gap;
		struct barrier barrier;
		struct drained drained;
		struct failure failure;
		char *obstacle; /* owned */
		struct ring_position ready, kept;
		uint64_t sync;
		struct committed committed;
		bool follow;
	};
};

/* Frees what the record owns and empties it (type 0). */
void record_done(struct record *r);

/* Appends the record; a string past LIMIT_STRING_BYTES is cut at a character. 0, or -ENOMEM: then nothing was
 * appended. */
int stream_put(struct buf *b, const struct record *r) _must_check_;

/*
 * Decodes the first record in `data`. 1: *ret is set and *ret_size bytes are used; 0: the record is not complete
 * yet; -EBADMSG: this is no stream (drop it); -ENOMEM. The caller releases *ret with record_done().
 */
int stream_get(const void *data, size_t size, struct record *ret, size_t *ret_size) _must_check_;
