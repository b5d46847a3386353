/* SPDX-License-Identifier: MIT */

#include "client/sheet.h"

#include <inttypes.h>
#include <stdarg.h>

#include "client/format.h"
#include "common/escape.h"

void sheet_put(struct sheet *s, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (vfprintf(s->out, format, arguments) < 0)
		s->failed = true;
	va_end(arguments);
}

void sheet_text(struct sheet *s, const char *text)
{
	_cleanup_(free_p) char *html = escape_html(text ? text : "");

	if (!html)
		s->failed = true;
	else
		fputs(html, s->out);
}

/* How wide a character may be in the font that is used, whatever it is: what is not ASCII may come from another font, and
 * pictures of a character are wider than two letters. `text` is printable UTF-8. */
static size_t character_columns(const char *text, size_t *ret_size)
{
	uint8_t first = (uint8_t)*text;
	size_t size = 1;

	while (((uint8_t)text[size] & 0xc0) == 0x80)
		size++;
	*ret_size = size;
	return first < 0x80 ? 1 : first < 0xf0 ? 2 : 3;
}

static size_t text_columns(const char *text)
{
	size_t columns = 0, size;

	for (; *text; text += size)
		columns += character_columns(text, &size);
	return columns;
}

/* How many bytes of the text take at most so many columns. */
static size_t text_fit(const char *text, size_t columns)
{
	size_t used = 0, size;

	while (text[used]) {
		size_t wide = character_columns(text + used, &size);

		if (wide > columns)
			break;
		columns -= wide;
		used += size;
	}
	return used;
}

size_t sheet_cut(struct sheet *s, const char *text, size_t columns)
{
	_cleanup_(free_p) char *plain = escape_terminal(text ? text : "");
	size_t wide = plain ? text_columns(plain) : 0;

	if (!plain) {
		s->failed = true;
		return 0;
	}
	if (wide <= columns) {
		sheet_text(s, plain);
		return wide;
	}
	plain[text_fit(plain, columns - 1)] = '\0';
	sheet_text(s, plain);
	sheet_put(s, "…");
	return columns;
}

void sheet_label(struct sheet *s, int x, int y, const char *css, const char *text)
{
	sheet_put(s, "<text class='%s' x='" PX "' y='" PX "'>", css, PX_OF(x), PX_OF(y));
	sheet_text(s, text);
	sheet_put(s, "</text>\n");
}

void sheet_rect(
	struct sheet *s, int x, int y, int width, int height, const char *css, const char *tip)
{
	sheet_put(s, "<rect class='%s' x='" PX "' y='" PX "' width='" PX "' height='" PX "'", css,
		PX_OF(x), PX_OF(y), PX_OF(width), PX_OF(height));
	if (!tip) {
		sheet_put(s, "/>\n");
		return;
	}
	sheet_put(s, "><title>");
	sheet_text(s, tip);
	sheet_put(s, "</title></rect>\n");
}

/* How many bytes make the next line: up to the last space that fits. */
static size_t line_size(const char *text, size_t columns)
{
	size_t fit = text_fit(text, columns), end = fit;

	if (text[fit] == '\0')
		return fit;
	while (end > 0 && text[end] != ' ')
		end--;
	return end > 0 ? end : MAX(fit, (size_t)1);
}

int sheet_lines(
	struct sheet *s, int x, int y, int line, size_t columns, const char *css, const char *text)
{
	_cleanup_(free_p) char *plain = escape_terminal(text);
	int count = 0;

	if (!plain && s)
		s->failed = true;
	for (char *from = plain; from && *from; count++) {
		size_t size = line_size(from, columns);
		char kept = from[size];

		from[size] = '\0';
		if (s)
			sheet_label(s, x, y + count * line, css, from);
		from[size] = kept;
		from += size;
		while (*from == ' ')
			from++;
	}
	return count;
}

struct levels levels_of(uint64_t most)
{
	static const uint64_t factors[] = {2, 3, 4, 6, 10, 20, 50, 100, 1000};
	struct levels l;
	uint64_t factor = factors[0], edge = 1;

	/* the last level begins at the fifth power */
	for (size_t i = 0; i < ELEMENTSOF(factors); i++) {
		uint64_t power = factors[i];

		factor = factors[i];
		for (int n = 1; n < LEVELS; n++)
			power *= factor;
		if (power > most)
			break;
	}
	for (int i = 0; i < LEVELS; i++, edge *= factor)
		l.edge[i] = edge;
	return l;
}

unsigned level_of(const struct levels *l, uint64_t count)
{
	unsigned level = 0;

	while (level < LEVELS && count >= l->edge[level])
		level++;
	return level;
}

void sheet_legend(
	struct sheet *s, int x, int y, const struct levels *l, uint64_t most, const char *what)
{
	char low[FORMAT_MAX], high[FORMAT_MAX], text[2 * FORMAT_MAX], css[8];

	sheet_label(s, x, y + 115, "muted", what);
	x += (int)text_columns(what) * 62 + 140;
	for (unsigned i = 0; i < LEVELS && l->edge[i] <= MAX(most, (uint64_t)1); i++) {
		uint64_t last = i + 1 < LEVELS ? l->edge[i + 1] - 1 : UINT64_MAX;

		format_count(l->edge[i], low);
		if (last >= most)
			snprintf(text, sizeof(text), l->edge[i] < most ? "%s–%s" : "%s", low,
				format_count(most, high));
		else
			snprintf(text, sizeof(text), l->edge[i] < last ? "%s–%s" : "%s", low,
				format_count(last, high));
		snprintf(css, sizeof(css), "l%u", i + 1);
		sheet_rect(s, x, y, 140, 140, css, NULL);
		sheet_label(s, x + 190, y + 115, "mono muted", text);
		x += 190 + (int)text_columns(text) * 67 + 140;
	}
}

const char *short_count(uint64_t count, char text[static SHORT_COUNT_MAX])
{
	static const char units[] = " kMGTPE";
	size_t unit = 0;
	uint64_t whole = count, tenth = 0;

	for (; whole >= 1000; unit++) {
		tenth = whole % 1000 / 100;
		whole /= 1000;
	}
	if (unit == 0)
		snprintf(text, SHORT_COUNT_MAX, "%" PRIu64, whole);
	else if (whole < 10)
		snprintf(text, SHORT_COUNT_MAX, "%" PRIu64 ".%" PRIu64 "%c", whole, tenth,
			units[unit]);
	else
		snprintf(text, SHORT_COUNT_MAX, "%" PRIu64 "%c", whole, units[unit]);
	return text;
}
