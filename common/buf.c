/* SPDX-License-Identifier: MIT */

#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

void *buf_reserve(struct buf *b, size_t size)
{
	size_t used = buf_size(b), capacity = b->capacity ? b->capacity : 256;
	uint8_t *data;

	if (b->data && b->capacity - b->end >= size)
		return b->data + b->end;
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, used);
		b->start = 0;
		b->end = used;
		if (b->capacity - b->end >= size)
			return b->data + b->end;
	}
	assert(used <= SIZE_MAX / 4);
	if (size > SIZE_MAX / 4)
		return NULL;
	while (capacity < used + size)
		capacity *= 2;
	data = realloc(b->data, capacity);
	if (!data)
		return NULL;
	b->data = data;
	b->capacity = capacity;
	return b->data + b->end;
}

void buf_grow(struct buf *b, size_t size)
{
	assert(size <= b->capacity - b->end);
	b->end += size;
}

void buf_consume(struct buf *b, size_t size)
{
	assert(size <= buf_size(b));
	b->start += size;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void buf_truncate(struct buf *b, size_t size)
{
	assert(size <= buf_size(b));
	b->end = b->start + size;
}

int buf_append(struct buf *b, const void *data, size_t size)
{
	void *room = buf_reserve(b, size);

	if (!room)
		return -ENOMEM;
	if (size > 0)
		memcpy(room, data, size);
	buf_grow(b, size);
	return 0;
}

int buf_append_string(struct buf *b, const char *text)
{
	return buf_append(b, text, strlen(text));
}

int buf_append_format(struct buf *b, const char *format, ...)
{
	_cleanup_(free_p) char *text = NULL;
	va_list arguments;
	int r;

	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (r < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return buf_append(b, text, (size_t)r);
}

int buf_put_integer(struct buf *b, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	assert(size <= sizeof(bytes));
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	return buf_append(b, bytes, size);
}

int buf_put_u8(struct buf *b, uint8_t value)
{
	return buf_put_integer(b, value, 1);
}

int buf_put_u64(struct buf *b, uint64_t value)
{
	return buf_put_integer(b, value, 8);
}

const uint8_t *reader_bytes(struct reader *r, size_t size)
{
	const uint8_t *bytes = r->next;

	if (r->failed || size > r->left) {
		r->failed = true;
		return NULL;
	}
	r->next += size;
	r->left -= size;
	return bytes;
}

static uint64_t get_little_endian(struct reader *r, size_t size)
{
	const uint8_t *bytes = reader_bytes(r, size);
	uint64_t value = 0;

	if (!bytes)
		return 0;
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << (8 * i);
	return value;
}

uint8_t reader_u8(struct reader *r)
{
	return (uint8_t)get_little_endian(r, 1);
}

uint16_t reader_u16(struct reader *r)
{
	return (uint16_t)get_little_endian(r, 2);
}

uint32_t reader_u32(struct reader *r)
{
	return (uint32_t)get_little_endian(r, 4);
}

uint64_t reader_u64(struct reader *r)
{
	return get_little_endian(r, 8);
}
