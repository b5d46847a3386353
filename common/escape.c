/* SPDX-License-Identifier: MIT */

/*
 * A process chooses its own name, and a name is any bytes: terminal sequences, a newline that
 * forges a row, a right-to-left override that shows "gpj.exe" as "exe.jpg", bytes that break every
 * UTF-8 parser downstream. So the text is made harmless once, before it is stored, and in a way
 * that gives the raw bytes back; and again at each output edge, which trusts nobody. All edges
 * share one walk over the text and one answer to "may this be seen?".
 *
 * A byte takes at most 4 bytes in the stored form ("\xHH") and 6 in JSON ("\u00HH").
 */

#include "common/escape.h"

#include "common/buf.h"

/* One step through arbitrary bytes. */
struct character {
	uint32_t code; /* code point; meaningless where not `valid` */
	size_t size;   /* bytes it takes, 1 to 4; 1 where not `valid` */
	bool valid;    /* the bytes here are a character in UTF-8 as RFC 3629 §4 has it */
};

static bool is_continuation(uint8_t byte)
{
	return (byte & 0xc0) == 0x80;
}

/* The character at `bytes`, of which there is at least one. */
static struct character character_at(const uint8_t *bytes, size_t left)
{
	/* the first code point that needs this many bytes: a lower one has a shorter form */
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	struct character invalid = {.size = 1}, c = {.valid = true};

	if (bytes[0] < 0x80)
		return (struct character){.code = bytes[0], .size = 1, .valid = true};
	if ((bytes[0] & 0xe0) == 0xc0)
		c.size = 2;
	else if ((bytes[0] & 0xf0) == 0xe0)
		c.size = 3;
	else if ((bytes[0] & 0xf8) == 0xf0)
		c.size = 4;
	else
		return invalid;
	if (c.size > left)
		return invalid;
	c.code = bytes[0] & (0x7fu >> c.size);
	for (size_t i = 1; i < c.size; i++) {
		if (!is_continuation(bytes[i]))
			return invalid;
		c.code = c.code << 6 | (bytes[i] & 0x3f);
	}
	if (c.code < lowest[c.size] || c.code > 0x10ffff || (c.code >= 0xd800 && c.code <= 0xdfff))
		return invalid;
	return c;
}

/* Controls, and the format characters that hide, join, break or reorder what stands around them. */
static bool is_hidden(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x061c ||
	       (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2060 && code <= 0x2069) || code == 0xfeff ||
	       (code >= 0xfff9 && code <= 0xfffb);
}

static char *put_hex_byte(char *to, uint8_t byte)
{
	static const char digits[] = "0123456789abcdef";

	*to++ = '\\';
	*to++ = 'x';
	*to++ = digits[byte >> 4];
	*to++ = digits[byte & 0xf];
	return to;
}

/* Writes the escaped form of the first bytes of `raw` to `to` (NULL: only measures), at most `max`
 * bytes and whole characters only. Returns the bytes written. */
static size_t escape_into(
	char *to, const uint8_t *raw, size_t size, size_t max, bool double_backslash)
{
	size_t used = 0;

	for (size_t i = 0; i < size;) {
		struct character c = character_at(raw + i, size - i);
		bool escaped = !c.valid || is_hidden(c.code);
		bool doubled = double_backslash && c.valid && c.code == '\\';
		size_t needed = escaped ? 4 * c.size : c.size + doubled;

		if (needed > max - used)
			break;
		if (to && escaped) {
			for (size_t k = 0; k < c.size; k++)
				to = put_hex_byte(to, raw[i + k]);
		} else if (to) {
			if (doubled)
				*to++ = '\\';
			memcpy(to, raw + i, c.size);
			to += c.size;
		}
		used += needed;
		i += c.size;
	}
	return used;
}

/* Measured first: thousands of these are kept, and the worst case is four times the usual one. */
static char *escape(const uint8_t *raw, size_t size, size_t max, bool double_backslash)
{
	size_t length = escape_into(NULL, raw, size, max, double_backslash);
	char *escaped = malloc(length + 1);

	if (!escaped)
		return NULL;
	escape_into(escaped, raw, size, length, double_backslash);
	escaped[length] = '\0';
	return escaped;
}

char *escape_store(const void *raw, size_t size, size_t max)
{
	return escape(raw, size, MIN(max, SIZE_MAX - 1), true);
}

char *escape_terminal(const char *text)
{
	return escape((const uint8_t *)text, strlen(text), SIZE_MAX - 1, false);
}

/* The value of a digit that put_hex_byte() writes, or -1. */
static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return -1;
}

/* The byte that the escape at `text` stands for, and how many characters it takes; any other text
 * is itself. */
static uint8_t restore_byte(const char *text, size_t *ret_used)
{
	*ret_used = 1;
	if (text[0] != '\\')
		return (uint8_t)text[0];
	if (text[1] == '\\') {
		*ret_used = 2;
	} else if (text[1] == 'x' && hex_value(text[2]) >= 0 && hex_value(text[3]) >= 0) {
		*ret_used = 4;
		return (uint8_t)(hex_value(text[2]) << 4 | hex_value(text[3]));
	}
	return '\\';
}

char *escape_restore(const char *stored, size_t *ret_size)
{
	char *raw = malloc(strlen(stored) + 1);
	size_t size = 0, used;

	if (!raw)
		return NULL;
	for (const char *s = stored; *s; s += used)
		raw[size++] = (char)restore_byte(s, &used);
	raw[size] = '\0';
	*ret_size = size;
	return raw;
}

/* `text` is escaped already: no line break is left in it that would need quotes. */
static bool csv_needs_quotes(const char *text)
{
	size_t size = strlen(text);

	return size > 0 && (text[0] == ' ' || text[size - 1] == ' ' || strpbrk(text, ",\""));
}

char *escape_csv(const char *text)
{
	_cleanup_(free_p) char *plain = escape_terminal(text);
	const char *from = plain;
	char *field, *to;
	bool quoted;

	if (!plain)
		return NULL;
	/* all may be quotes to double; the first may grow by 3; two quotes and the NUL */
	to = field = malloc(2 * strlen(plain) + 3 + 3);
	if (!field)
		return NULL;
	quoted = csv_needs_quotes(plain);
	if (quoted)
		*to++ = '"';
	if (*from && strchr("=+-@", *from))
		to = put_hex_byte(to, (uint8_t)*from++);
	for (; *from; from++) {
		if (*from == '"')
			*to++ = '"';
		*to++ = *from;
	}
	if (quoted)
		*to++ = '"';
	*to = '\0';
	return field;
}

/* What HTML could take for its own, and how to say it so that it does not: in XML, and so in SVG, the same holds. NULL: any
 * other character is itself. */
static const char *html_reference(char character)
{
	switch (character) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	}
	return NULL;
}

char *escape_html(const char *text)
{
	_cleanup_(free_p) char *plain = escape_terminal(text);
	size_t size = 1;
	char *html, *to;

	if (!plain)
		return NULL;
	for (const char *from = plain; *from; from++)
		size += html_reference(*from) ? strlen(html_reference(*from)) : 1;
	to = html = malloc(size);
	if (!html)
		return NULL;
	for (const char *from = plain; *from; from++) {
		const char *reference = html_reference(*from);

		if (reference)
			to = stpcpy(to, reference);
		else
			*to++ = *from;
	}
	*to = '\0';
	return html;
}

/* Writes one character of a JSON string and returns the place after it. */
static char *put_json_character(char *to, struct character c, const uint8_t *bytes)
{
	static const char digits[] = "0123456789abcdef";

	if (!c.valid)
		return mempcpy(to, "\xef\xbf\xbd", 3);
	if (is_hidden(c.code)) {
		*to++ = '\\';
		*to++ = 'u';
		for (int shift = 12; shift >= 0; shift -= 4)
			*to++ = digits[c.code >> shift & 0xf];
		return to;
	}
	if (c.code == '"' || c.code == '\\')
		*to++ = '\\';
	return mempcpy(to, bytes, c.size);
}

int escape_json(struct buf *b, const char *text)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t size = strlen(text);
	char *room, *to;

	assert(size <= SIZE_MAX / 8);
	room = buf_reserve(b, 6 * size + 2);
	if (!room)
		return -ENOMEM;
	to = room;
	*to++ = '"';
	for (size_t i = 0; i < size;) {
		struct character c = character_at(bytes + i, size - i);

		to = put_json_character(to, c, bytes + i);
		i += c.size;
	}
	*to++ = '"';
	buf_grow(b, (size_t)(to - room));
	return 0;
}
