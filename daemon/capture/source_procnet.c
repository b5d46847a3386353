/* SPDX-License-Identifier: MIT */

/*
 * The socket tables from /proc/net, where the kernel has no inet_diag. It costs eight times
 * as much or more, and shows less: no cookie, no bound-only TCP, no MPTCP, no cgroup.
 *
 * The cookie is made up, with the top bit set so that it never equals a real one (they count up
 * from 1):
 *	1 0 inode	while somebody has the socket open. Inodes of sockets are 32 bits wide.
 *	1 1 hash	of protocol and both endpoints, without an inode: TIME_WAIT, orphans, unaccepted.
 * So a connection changes its cookie when its last holder closes it, and what follows is a claim of
 * its own.
 *
 * The files are opened once and stay in their namespace; reading from offset 0 makes a new walk.
 */

#include "daemon/capture/source.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define COOKIE_MADE      (UINT64_C(1) << 63)
#define COOKIE_FROM_HASH (UINT64_C(1) << 62)

/* The column "tr" of what TIME_WAIT leaves. */
#define TIMER_TIME_WAIT 3

/* "tm->when" counts in clock ticks for user space, USER_HZ: 100 on every architecture but alpha. */
#define MSEC_PER_TICK 10u

#define READ_BYTES 32768

struct file {
	enum protocol protocol;
	const char *path; /* below /proc */
};

static const struct file files[] = {
	{PROTOCOL_TCP, "net/tcp"},
	{PROTOCOL_TCP, "net/tcp6"},
	{PROTOCOL_UDP, "net/udp"},
	{PROTOCOL_UDP, "net/udp6"},
	{PROTOCOL_UDPLITE, "net/udplite"},
	{PROTOCOL_UDPLITE, "net/udplite6"},
};

/* All protocols in it. */
#define PROTOCOLS (1u << PROTOCOL_TCP | 1u << PROTOCOL_UDP | 1u << PROTOCOL_UDPLITE)

struct source_procnet {
	int fd[ELEMENTSOF(files)]; /* -1: this kernel has no such file */
	char buffer[READ_BYTES];
};

/* What is left of a line. */
struct cursor {
	const char *next, *end;
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static void skip_blanks(struct cursor *c)
{
	while (c->next < c->end && *c->next == ' ')
		c->next++;
}

static bool take_char(struct cursor *c, char wanted)
{
	if (c->next == c->end || *c->next != wanted)
		return false;
	c->next++;
	return true;
}

/* One to `max_digits` hexadecimal digits. */
static bool take_hex(struct cursor *c, size_t max_digits, uint64_t *ret)
{
	uint64_t value = 0;
	size_t digits = 0;

	for (; digits < max_digits && c->next < c->end && hex_digit(*c->next) >= 0; digits++)
		value = value << 4 | (uint64_t)hex_digit(*c->next++);
	*ret = value;
	return digits > 0;
}

/* A decimal number after blanks, at most `max`. */
static bool take_number(struct cursor *c, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;
	const char *start;

	skip_blanks(c);
	start = c->next;
	for (; c->next < c->end && *c->next >= '0' && *c->next <= '9'; c->next++) {
		uint64_t digit = (uint64_t)(*c->next - '0');

		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return c->next > start;
}

/* "0100007F:0277": the address as words in the byte order of this machine, the port as a number. */
static bool take_endpoint(struct cursor *c, struct endpoint *ret)
{
	const char *start;
	uint32_t words[4] = {0};
	uint64_t value;
	size_t count = 0;

	skip_blanks(c);
	for (start = c->next; count < ELEMENTSOF(words) && !take_char(c, ':'); count++) {
		if (!take_hex(c, 8, &value) || (size_t)(c->next - start) != 8 * (count + 1))
			return false;
		words[count] = (uint32_t)value;
	}
	if (count == ELEMENTSOF(words) ? !take_char(c, ':') : count != 1)
		return false;
	if (!take_hex(c, 4, &value))
		return false;
	*ret = (struct endpoint){
		.address = address_from_kernel(count == 1 ? AF_INET : AF_INET6, words),
		.port = (uint16_t)value,
	};
	return true;
}

/* FNV-1a (64 bits). */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ b[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static uint64_t make_cookie(const struct socket_row *row)
{
	const struct endpoint *ends[] = {&row->local, &row->remote};
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	if (row->inode != 0)
		return COOKIE_MADE | row->inode;
	hash = hash_bytes(hash, &row->protocol, sizeof(row->protocol));
	for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
		hash = hash_bytes(hash, &ends[i]->address, sizeof(ends[i]->address));
		hash = hash_bytes(hash, &ends[i]->port, sizeof(ends[i]->port));
	}
	return COOKIE_MADE | COOKIE_FROM_HASH | hash;
}

/* The columns from "st" to "inode": state, queues, timer, retransmissions, uid, timeout, inode. */
static bool take_columns(struct cursor *c, struct socket_row *row)
{
	uint64_t state, ignored, timer, expires, uid, inode;

	skip_blanks(c);
	if (!take_hex(c, 2, &state))
		return false;
	skip_blanks(c);
	if (!take_hex(c, 8, &ignored) || !take_char(c, ':') || !take_hex(c, 8, &ignored))
		return false;
	skip_blanks(c);
	if (!take_hex(c, 2, &timer) || !take_char(c, ':') || !take_hex(c, 16, &expires))
		return false;
	skip_blanks(c);
	if (!take_hex(c, 8, &ignored) || !take_number(c, UINT32_MAX, &uid) ||
		!take_number(c, UINT64_MAX, &ignored) || !take_number(c, UINT32_MAX, &inode))
		return false;
	row->state = (uint8_t)state;
	row->minisock = timer == TIMER_TIME_WAIT && row->protocol == PROTOCOL_TCP;
	if (row->minisock)
		row->expires_msec =
			(uint32_t)MIN(expires, UINT32_MAX / MSEC_PER_TICK) * MSEC_PER_TICK;
	row->uid = (uint32_t)uid;
	row->inode = inode;
	return true;
}

int procnet_parse(const char *line, size_t size, enum protocol protocol, struct socket_row *ret)
{
	struct cursor c = {.next = line, .end = line + size};
	struct socket_row row = {.protocol = (uint8_t)protocol};
	uint64_t slot;

	if (!take_number(&c, UINT64_MAX, &slot) || !take_char(&c, ':') ||
		!take_endpoint(&c, &row.local) || !take_endpoint(&c, &row.remote) ||
		!take_columns(&c, &row))
		return -EBADMSG;
	/* the inode is not the last column: a line that was cut in it must not pass */
	if (c.next == c.end || *c.next != ' ')
		return -EBADMSG;
	if (row.state == TCP_SYN_RECV || row.local.port == 0)
		return 0;
	if (row.remote.port == 0 && address_is_any(&row.remote.address))
		row.remote = (struct endpoint){0};
	row.cookie = make_cookie(&row);
	*ret = row;
	return 1;
}

/* Who gets the rows, and which. */
struct reading {
	const struct port_ranges *ranges;
	source_row_fn row;
	void *context;
	bool listeners_only;
	int stopped; /* what `row` returned when it wanted no more; 0: goes on */
};

/* Hands over the row of one line. 0 or -EBADMSG. */
static int take_line(struct reading *r, enum protocol protocol, const char *line, size_t size)
{
	struct socket_row row;
	int parsed = procnet_parse(line, size, protocol, &row);

	if (parsed > 0 && port_ranges_contain(r->ranges, row.local.port) &&
		(!r->listeners_only || row.state == TCP_LISTEN))
		r->stopped = r->row(r->context, &row);
	return MIN(parsed, 0);
}

/* 0: read to the end, or stopped. -EBADMSG: a line was not understood. Else the errno of read(2). */
static int read_file(struct source_procnet *s, int fd, enum protocol protocol, struct reading *r)
{
	bool heading = true;
	size_t size = 0;
	int result = 0;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, s->buffer + size, sizeof(s->buffer) - size);
		const char *start = s->buffer, *newline;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		/* what is left: the file ended within a line, or a line fills the buffer */
		if (n == 0)
			return size > 0 ? -EBADMSG : result;
		size += (size_t)n;
		while ((newline = memchr(start, '\n', size))) {
			size_t length = (size_t)(newline - start);

			if (!heading && take_line(r, protocol, start, length) < 0)
				result = -EBADMSG;
			if (r->stopped != 0)
				return 0;
			heading = false;
			start = newline + 1;
			size -= length + 1;
		}
		memmove(s->buffer, start, size);
	}
}

/* Reads the files of the protocols in `wanted`. 0 and the mask of those that were read whole; what
 * stopped it; or a negative errno, where none could be read. */
static int read_files(
	struct source_procnet *s, uint32_t wanted, struct reading *reading, uint32_t *ret_whole)
{
	uint32_t failed = 0;
	int error = 0;

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		uint32_t bit = 1u << files[i].protocol;
		int r = 0;

		if (wanted & bit && s->fd[i] >= 0)
			r = read_file(s, s->fd[i], files[i].protocol, reading);
		if (reading->stopped != 0)
			return reading->stopped;
		if (r < 0) {
			failed |= bit;
			error = r;
		}
	}
	if (failed == wanted)
		return error;
	*ret_whole = wanted & ~failed;
	return 0;
}

static int procnet_read(void *source, const struct port_ranges *ranges, source_row_fn row,
	void *context, uint32_t *ret_protocols)
{
	struct reading reading = {.ranges = ranges, .row = row, .context = context};
	uint32_t whole;
	int r = read_files(source, PROTOCOLS, &reading, &whole);

	if (r == 0)
		/* what is not shown here has, as far as can be told, no sockets */
		*ret_protocols = whole | 1u << PROTOCOL_MPTCP;
	return r;
}

static int procnet_read_listeners(
	void *source, const struct port_ranges *ranges, source_row_fn row, void *context)
{
	struct reading reading = {
		.ranges = ranges,
		.row = row,
		.context = context,
		.listeners_only = true,
	};
	uint32_t whole;

	return read_files(source, 1u << PROTOCOL_TCP, &reading, &whole);
}

static void procnet_free(void *source)
{
	struct source_procnet *s = source;

	if (!s)
		return;
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		close_p(&s->fd[i]);
	free(s);
}

static void procnet_free_p(struct source_procnet **s)
{
	procnet_free(*s);
}

int source_procnet_open(int proc_fd, void **ret, struct source_facts *ret_facts)
{
	_cleanup_(procnet_free_p) struct source_procnet *s = calloc(1, sizeof(*s));
	uint32_t protocols = 0;

	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		s->fd[i] = -1;
	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		s->fd[i] = openat(proc_fd, files[i].path, O_RDONLY | O_CLOEXEC);
		if (s->fd[i] >= 0)
			protocols |= 1u << files[i].protocol;
		else if (errno != ENOENT || i == 0)
			return -errno;
	}
	*ret_facts = (struct source_facts){.kind = SOURCE_PROCNET, .protocols = protocols};
	*ret = TAKE_PTR(s);
	return 0;
}

const struct source_ops source_procnet_ops = {
	.read = procnet_read,
	.read_listeners = procnet_read_listeners,
	.free = procnet_free,
};
