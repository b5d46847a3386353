/* SPDX-License-Identifier: MIT */
#pragma once

/* A growable byte buffer that is consumed from its front, and a bounded reader over bytes.
 * Integers are written and read little-endian: the sighting stream is also a file format. */

#include "common/base.h"

struct buf {
	uint8_t *data;   /* owned; NULL while nothing was ever appended */
	size_t start;    /* first byte not yet consumed */
	size_t end;      /* one past the last byte */
	size_t capacity; /* bytes allocated */
};

void buf_done(struct buf *b);

static inline size_t buf_size(const struct buf *b)
{
	return b->end - b->start;
}

static inline const uint8_t *buf_bytes(const struct buf *b)
{
	/* NULL while there is nothing: nothing may be added to that, not even 0 */
	return b->start > 0 ? b->data + b->start : b->data;
}

/* Makes room for `size` more bytes and returns where to put them (then buf_grow), or NULL (no memory). */
void *buf_reserve(struct buf *b, size_t size) _must_check_;

/* Counts `size` bytes that were put where buf_reserve said. */
void buf_grow(struct buf *b, size_t size);

/* Drops `size` bytes from the front; `size` is at most buf_size(). O(1). */
void buf_consume(struct buf *b, size_t size);

/* Drops everything after the first `size` bytes (undo of what was appended since). */
void buf_truncate(struct buf *b, size_t size);

/* Each returns 0 or -ENOMEM; on failure the buffer is as before. */
int buf_append(struct buf *b, const void *data, size_t size) _must_check_;
int buf_append_string(struct buf *b, const char *text) _must_check_; /* without its NUL */
int buf_append_format(struct buf *b, const char *format, ...) _printf_(2, 3) _must_check_;
/* The lowest `size` bytes (1 to 8) of `value`, little-endian. */
int buf_put_integer(struct buf *b, uint64_t value, size_t size) _must_check_;
int buf_put_u8(struct buf *b, uint8_t value) _must_check_;
int buf_put_u64(struct buf *b, uint64_t value) _must_check_;

/* Reads from the front; past the end every get returns 0 and `failed` stays set. Never reads outside. */
struct reader {
	const uint8_t *next;
	size_t left;
	bool failed;
};

uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
/* `size` bytes in place (lifetime of the source), or NULL and `failed`. */
const uint8_t *reader_bytes(struct reader *r, size_t size);
