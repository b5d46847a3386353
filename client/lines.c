/* SPDX-License-Identifier: MIT */

#include "client/lines.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

int lines_init(struct lines *l, int fd)
{
	*l = (struct lines){.fd = fd, .capacity = LIMIT_LINE_BYTES};
	l->data = malloc(l->capacity);
	return l->data ? 0 : -ENOMEM;
}

void lines_done(struct lines *l)
{
	free(l->data);
}

enum lines_is lines_next(struct lines *l, bool in_part, const char **ret, size_t *ret_size)
{
	size_t left = l->end - l->begin;
	const char *at = l->data + l->begin, *end = memchr(at, '\n', left);
	bool full = l->begin == 0 && left == l->capacity;

	if (left == 0)
		return l->eof ? LINES_END : LINES_WAIT;
	if (!end && !l->eof && !full && !in_part)
		return LINES_WAIT;
	*ret = at;
	*ret_size = end ? (size_t)(end + 1 - at) : left;
	l->begin += *ret_size;
	return end || l->eof ? LINES_LINE : LINES_PART;
}

int lines_read(struct lines *l, int timeout)
{
	struct pollfd ready = {.fd = l->fd, .events = POLLIN};
	ssize_t size;
	int r;

	if (l->begin > 0)
		memmove(l->data, l->data + l->begin, l->end - l->begin);
	l->end -= l->begin;
	l->begin = 0;
	do
		r = poll(&ready, 1, timeout);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : 0;
	do
		size = read(l->fd, l->data + l->end, l->capacity - l->end);
	while (size < 0 && errno == EINTR);
	if (size < 0)
		return errno == EAGAIN ? 0 : -errno;
	l->eof = size == 0;
	l->end += (size_t)size;
	return 1;
}
