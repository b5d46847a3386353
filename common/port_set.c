/* SPDX-License-Identifier: MIT */

#include "common/port_set.h"

#include <ctype.h>
#include <endian.h>

#include "common/varint.h"

/* The first byte of a set that is not empty. */
#define FORM_LIST 0u
#define FORM_BITS 1u
#define BITS_HEAD 3u
_Static_assert(PORT_SET_WRITTEN == BITS_HEAD + PORT_SET_BYTES, "all of the bits");

/* A number up to 65535 and where it ends. */
static int parse_port(const char **text, uint16_t *ret)
{
	unsigned number = 0;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	for (; isdigit((unsigned char)**text); (*text)++) {
		number = number * 10 + (unsigned)(**text - '0');
		if (number > UINT16_MAX)
			return -EINVAL;
	}
	*ret = (uint16_t)number;
	return 0;
}

int port_set_parse(struct port_set *s, const char *text)
{
	while (*text != '\0' && !isspace((unsigned char)*text)) {
		uint16_t low, high;

		if (parse_port(&text, &low) < 0)
			return -EINVAL;
		high = low;
		if (*text == '-') {
			text++;
			if (parse_port(&text, &high) < 0 || high < low)
				return -EINVAL;
		}
		for (unsigned port = low; port <= high; port++)
			port_set_add(s, (uint16_t)port);
		if (*text == ',')
			text++;
		else if (*text != '\0' && !isspace((unsigned char)*text))
			return -EINVAL;
	}
	return text[strspn(text, " \t\n")] == '\0' ? 0 : -EINVAL;
}

int port_set_format(const struct port_set *s, struct buf *out)
{
	const char *between = "";

	for (unsigned port = 0; port <= UINT16_MAX; port++) {
		unsigned last = port;
		int r;

		if (!port_set_has(s, (uint16_t)port))
			continue;
		while (last < UINT16_MAX && port_set_has(s, (uint16_t)(last + 1)))
			last++;
		r = last == port ? buf_append_format(out, "%s%u", between, port)
				 : buf_append_format(out, "%s%u-%u", between, port, last);
		if (r < 0)
			return r;
		between = ",";
		port = last;
	}
	return 0;
}

unsigned port_set_count(const struct port_set *s, uint16_t low, uint16_t high)
{
	unsigned count = 0;

	for (unsigned port = low; port <= high; port++)
		count += port_set_has(s, (uint16_t)port);
	return count;
}

/* 64 ports at once, the lowest as the lowest bit. */
static uint64_t word_at(const struct port_set *s, size_t i)
{
	uint64_t word;

	memcpy(&word, s->bits + 8 * i, sizeof(word));
	return le64toh(word);
}

/* How many bits of it are set. The compiler's own is a call where the machine need not have an instruction for it. */
static unsigned bits_of(uint64_t word)
{
	word -= word >> 1 & UINT64_C(0x5555555555555555);
	word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
	word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return (unsigned)(word * UINT64_C(0x0101010101010101) >> 56);
}

unsigned port_set_size(const struct port_set *s)
{
	unsigned size = 0;

	for (size_t i = 0; i < PORT_SET_BYTES / 8; i += 4) {
		const uint64_t words[] = {
			word_at(s, i), word_at(s, i + 1), word_at(s, i + 2), word_at(s, i + 3)};

		if ((words[0] | words[1] | words[2] | words[3]) != 0)
			for (size_t k = 0; k < ELEMENTSOF(words); k++)
				size += bits_of(words[k]);
	}
	return size;
}

void port_set_unite(struct port_set *to, const struct port_set *from)
{
	for (size_t i = 0; i < PORT_SET_BYTES; i++)
		to->bits[i] |= from->bits[i];
}

/* The bytes of bits[] from the first to the last that is not 0; false: all are. */
static bool used_bytes(const struct port_set *s, size_t *ret_first, size_t *ret_count)
{
	size_t low = 0, high = PORT_SET_BYTES / 8, first;

	while (low < high && word_at(s, low) == 0)
		low++;
	if (low == high)
		return false;
	while (word_at(s, high - 1) == 0)
		high--;
	first = 8 * low + (size_t)__builtin_ctzll(word_at(s, low)) / 8;
	*ret_first = first;
	*ret_count = 8 * high - (size_t)__builtin_clzll(word_at(s, high - 1)) / 8 - first;
	return true;
}

static size_t write_bits(
	const struct port_set *s, size_t first, size_t count, uint8_t to[static PORT_SET_WRITTEN])
{
	to[0] = FORM_BITS;
	to[1] = (uint8_t)first;
	to[2] = (uint8_t)(first >> 8);
	memcpy(to + BITS_HEAD, s->bits + first, count);
	return BITS_HEAD + count;
}

size_t port_set_write(const struct port_set *s, uint8_t to[static PORT_SET_WRITTEN])
{
	size_t first, count, size = 0;
	unsigned next = 0; /* the lowest port that may come */

	if (!used_bytes(s, &first, &count))
		return 0;
	to[size++] = FORM_LIST;
	for (size_t i = first / 8; i <= (first + count - 1) / 8; i++)
		for (uint64_t word = word_at(s, i); word != 0; word &= word - 1) {
			unsigned port = (unsigned)(64 * i) + (unsigned)__builtin_ctzll(word);
			uint8_t gap[VARINT_BYTES];
			size_t bytes = varint_put(gap, port - next);

			if (size + bytes >= BITS_HEAD + count)
				return write_bits(s, first, count, to);
			memcpy(to + size, gap, bytes);
			size += bytes;
			next = port + 1;
		}
	return size;
}

/* Returns how many are new. */
static int merge_bits(struct port_set *s, const uint8_t *bytes, size_t size)
{
	unsigned added = 0;
	size_t first, i;

	if (size <= BITS_HEAD)
		return -EBADMSG;
	first = (size_t)(bytes[1] | bytes[2] << 8);
	bytes += BITS_HEAD;
	size -= BITS_HEAD;
	if (first > PORT_SET_BYTES || size > PORT_SET_BYTES - first || bytes[0] == 0 ||
		bytes[size - 1] == 0)
		return -EBADMSG;
	for (i = 0; i + 8 <= size; i += 8) {
		uint64_t mine, theirs;

		memcpy(&mine, s->bits + first + i, sizeof(mine));
		memcpy(&theirs, bytes + i, sizeof(theirs));
		added += bits_of(theirs & ~mine);
		mine |= theirs;
		memcpy(s->bits + first + i, &mine, sizeof(mine));
	}
	for (; i < size; i++) {
		added += bits_of(bytes[i] & ~s->bits[first + i]);
		s->bits[first + i] |= bytes[i];
	}
	return (int)added;
}

/* A gap of more than one byte, mostly of two. */
static int long_gap(const uint8_t **at, const uint8_t *end, unsigned *ret)
{
	const uint8_t *p = *at;
	uint64_t gap;

	if (end - p >= 2 && p[1] < 0x80 && p[1] > 0) {
		*at = p + 2;
		*ret = (p[0] & 0x7fu) | (unsigned)p[1] << 7;
		return 0;
	}
	if (varint_get(at, end, &gap) < 0 || gap > UINT16_MAX)
		return -EBADMSG;
	*ret = (unsigned)gap;
	return 0;
}

static int merge_list(struct port_set *s, const uint8_t *at, const uint8_t *end)
{
	unsigned added = 0, next = 0;

	while (at < end) {
		unsigned gap = *at, port;

		if (gap < 0x80)
			at++;
		else if (long_gap(&at, end, &gap) < 0)
			return -EBADMSG;
		port = next + gap;
		if (port > UINT16_MAX)
			return -EBADMSG;
		added += !port_set_has(s, (uint16_t)port);
		port_set_add(s, (uint16_t)port);
		next = port + 1;
	}
	return (int)added;
}

int port_set_merge(struct port_set *s, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	if (size == 0)
		return 0;
	if (bytes[0] == FORM_BITS)
		return merge_bits(s, bytes, size);
	return bytes[0] == FORM_LIST && size > 1 ? merge_list(s, bytes + 1, bytes + size)
						 : -EBADMSG;
}
