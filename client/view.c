/* SPDX-License-Identifier: MIT */

#include "client/view.h"

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
