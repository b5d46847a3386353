/* SPDX-License-Identifier: MIT */

#include "common/port_set.h"

#include <ctype.h>
#include <endian.h>

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

size_t port_set_write(const struct port_set *s, uint8_t to[static PORT_SET_BYTES])
{
	size_t size = 0;

	for (size_t i = 0; i < PORT_SET_BYTES / 8; i++)
		for (uint64_t word = word_at(s, i); word != 0; word &= word - 1) {
			size_t port = 64 * i + (size_t)__builtin_ctzll(word);

			if (size + 2 >= PORT_SET_BYTES) {
				memcpy(to, s->bits, PORT_SET_BYTES);
				return PORT_SET_BYTES;
			}
			to[size++] = (uint8_t)port;
			to[size++] = (uint8_t)(port >> 8);
		}
	return size;
}

static uint16_t listed(const uint8_t *bytes, size_t i)
{
	return (uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
}

/* Returns how many are new. */
static int merge_bits(struct port_set *s, const uint8_t bytes[static PORT_SET_BYTES])
{
	unsigned added = 0;

	for (size_t i = 0; i < PORT_SET_BYTES / 8; i++) {
		uint64_t mine, theirs;

		memcpy(&mine, s->bits + 8 * i, sizeof(mine));
		memcpy(&theirs, bytes + 8 * i, sizeof(theirs));
		added += bits_of(theirs & ~mine);
		mine |= theirs;
		memcpy(s->bits + 8 * i, &mine, sizeof(mine));
	}
	return (int)added;
}

int port_set_merge(struct port_set *s, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	unsigned added = 0;

	if (size > PORT_SET_BYTES || size % 2 != 0)
		return -EBADMSG;
	if (size == PORT_SET_BYTES)
		return merge_bits(s, bytes);
	for (size_t i = 1; i < size / 2; i++)
		if (listed(bytes, i) <= listed(bytes, i - 1))
			return -EBADMSG;
	for (size_t i = 0; i < size / 2; i++) {
		uint16_t port = listed(bytes, i);

		added += !port_set_has(s, port);
		port_set_add(s, port);
	}
	return (int)added;
}
