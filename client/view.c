/* SPDX-License-Identifier: MIT */

#include "client/view.h"

#include <wchar.h>

#include "common/buf.h"
#include "common/escape.h"

const char *view_tone(const struct view *v, enum tone tone)
{
	if (!v->color)
		return "";
	switch (tone) {
	case TONE_PLAIN:
		return "";
	case TONE_GOOD:
		return "\033[32m";
	case TONE_WARNING:
		return "\033[33m";
	case TONE_BAD:
		return "\033[31m";
	case TONE_FAINT:
		return "\033[2m";
	}
	return "";
}

const char *view_plain(const struct view *v)
{
	return v->color ? "\033[0m" : "";
}

/* A terminal that is no UTF-8 terminal takes some bytes above 0x7f for C1 controls. */
static char *escape_high(const char *text)
{
	_cleanup_(buf_done) struct buf b = {0};
	int r = 0;

	for (; *text != '\0' && r == 0; text++)
		r = (unsigned char)*text < 0x80
			    ? buf_put_u8(&b, (uint8_t)*text)
			    : buf_append_format(&b, "\\x%02x", (unsigned char)*text);
	if (r < 0 || buf_put_u8(&b, 0) < 0)
		return NULL;
	return strdup((const char *)buf_bytes(&b));
}

char *view_escape(const struct view *v, const char *text)
{
	_cleanup_(free_p) char *safe = escape_terminal(text);

	if (!safe || v->utf8)
		return TAKE_PTR(safe);
	return escape_high(safe);
}

void view_text(const struct view *v, const char *text)
{
	_cleanup_(free_p) char *safe = view_escape(v, text);

	fputs(safe ? safe : "?", v->out);
}

/* The next character: how many bytes, and in *ret how many terminal columns. */
static size_t next_character(const char *text, size_t left, size_t *ret)
{
	mbstate_t state = {0};
	wchar_t wide;
	size_t used = mbrtowc(&wide, text, left, &state);
	int columns;

	if (used == 0 || used > left) {
		*ret = 4; /* printed as \xHH */
		return 1;
	}
	columns = wcwidth(wide);
	*ret = columns > 0 ? (size_t)columns : 0;
	return used;
}

size_t view_fit(const char *text, size_t columns)
{
	size_t left = strlen(text), fits = 0, width, used;

	while (left > 0) {
		used = next_character(text + fits, left, &width);
		if (width > columns)
			break;
		columns -= width;
		fits += used;
		left -= used;
	}
	return fits;
}

size_t view_columns(const char *text)
{
	size_t left = strlen(text), columns = 0, width, used;

	for (; left > 0; text += used, left -= used) {
		used = next_character(text, left, &width);
		columns += width;
	}
	return columns;
}

/* Cut off at the last space that fits; a word wider than the terminal goes as it is. */
void view_wrapped(const struct view *v, FILE *out, const char *text, size_t column, size_t indent)
{
	_cleanup_(free_p) char *safe = view_escape(v, text);
	size_t width = out == v->notes ? v->notes_width : v->width;
	char *save = NULL;
	bool first = true;

	if (!safe || width == 0) {
		fprintf(out, "%s\n", safe ? safe : "?");
		return;
	}
	for (char *word = strtok_r(safe, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		size_t columns = view_columns(word);

		if (!first && column + 1 + columns > width) {
			fprintf(out, "\n%*s", (int)indent, "");
			column = indent;
			first = true;
		}
		fprintf(out, "%s%s", first ? "" : " ", word);
		column += columns + (first ? 0 : 1);
		first = false;
	}
	fputc('\n', out);
}
