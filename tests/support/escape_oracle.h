/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the escapes promise, checked in other ways than they are made: UTF-8 by the byte ranges of
 * RFC 3629 §4, hidden characters by searching for each one's encoding, CSV by a parser of RFC 4180.
 */

#include "common/buf.h"
#include "common/escape.h"

#include <stdio.h>

/* The ranges of common/escape.h, both ends included. */
static const struct {
	uint32_t from, until;
} oracle_hidden[] = {
	{0x0001, 0x001f},
	{0x007f, 0x009f},
	{0x061c, 0x061c},
	{0x200b, 0x200f},
	{0x2028, 0x202e},
	{0x2060, 0x2069},
	{0xfeff, 0xfeff},
	{0xfff9, 0xfffb},
};

/* Encodes a code point, surrogates too; returns how many bytes. */
static inline size_t oracle_encode(uint32_t code, char to[static 5])
{
	size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	static const uint8_t marks[] = {0, 0x00, 0xc0, 0xe0, 0xf0};

	for (size_t i = size; i-- > 1; code >>= 6)
		to[i] = (char)(0x80 | (code & 0x3f));
	to[0] = (char)(marks[size] | code);
	to[size] = '\0';
	return size;
}

/* The size of the well-formed sequence at `s` (NUL-terminated), 0 if there is none: the table of
 * RFC 3629 §4. */
static inline size_t oracle_sequence(const uint8_t *s)
{
	static const struct {
		uint8_t first, last, second_low, second_high, size;
	} forms[] = {
		{0x01, 0x7f, 0x00, 0xff, 1},
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
		if (s[0] < forms[i].first || s[0] > forms[i].last)
			continue;
		if (forms[i].size > 1 &&
			(s[1] < forms[i].second_low || s[1] > forms[i].second_high))
			return 0;
		for (size_t k = 2; k < forms[i].size; k++)
			if (s[k] < 0x80 || s[k] > 0xbf)
				return 0;
		return forms[i].size;
	}
	return 0;
}

static inline bool oracle_is_utf8(const char *text)
{
	const uint8_t *s = (const uint8_t *)text;

	while (*s) {
		size_t size = oracle_sequence(s);

		if (size == 0)
			return false;
		s += size;
	}
	return true;
}

/* Valid UTF-8 in which nothing hides. */
static inline bool oracle_is_printable(const char *text)
{
	if (!oracle_is_utf8(text))
		return false;
	for (size_t i = 0; i < ELEMENTSOF(oracle_hidden); i++)
		for (uint32_t code = oracle_hidden[i].from; code <= oracle_hidden[i].until;
			code++) {
			char encoded[5];

			oracle_encode(code, encoded);
			if (strstr(text, encoded))
				return false;
		}
	return true;
}

/* The value of a line that is one CSV field; NULL where it is anything else. The caller frees. */
static inline char *oracle_csv(const char *line)
{
	char *value = malloc(strlen(line) + 1), *to = value;
	const char *s = line;

	assert(value);
	if (*s == '"') {
		for (s++; *s && (*s != '"' || s[1] == '"'); s++) {
			s += *s == '"';
			*to++ = *s;
		}
		if (*s++ != '"')
			s = ",";
	} else {
		while (*s && !strchr(",\"\r\n", *s))
			*to++ = *s++;
	}
	*to = '\0';
	if (*s == '\0')
		return value;
	free(value);
	return NULL;
}

static inline const char *oracle_check_store(const void *raw, size_t size, size_t max)
{
	_cleanup_(free_p) char *stored = escape_store(raw, size, SIZE_MAX);
	_cleanup_(free_p) char *cut = escape_store(raw, size, max);
	_cleanup_(free_p) char *shown = NULL, *restored = NULL, *restored_cut = NULL;
	size_t restored_size, cut_size;

	assert(stored && cut);
	if (!oracle_is_printable(stored))
		return "a stored form is printable";
	shown = escape_terminal(stored);
	assert(shown);
	if (!streq(shown, stored))
		return "the terminal shows a stored form as it is";
	restored = escape_restore(stored, &restored_size);
	assert(restored);
	if (restored_size != size || (size > 0 && memcmp(restored, raw, size) != 0))
		return "a stored form gives the raw bytes back";
	if (strlen(cut) > max || strncmp(cut, stored, strlen(cut)) != 0)
		return "a cut form is a beginning of the whole, within its limit";
	if (strlen(cut) < strlen(stored) && max - strlen(cut) >= 16)
		return "a cut leaves less room than the longest character takes";
	restored_cut = escape_restore(cut, &cut_size);
	assert(restored_cut);
	if (cut_size > size || (cut_size > 0 && memcmp(restored_cut, raw, cut_size) != 0))
		return "a cut form gives a beginning of the raw bytes back";
	return NULL;
}

static inline const char *oracle_check_csv(const char *text, const char *shown)
{
	_cleanup_(free_p) char *field = escape_csv(text);
	_cleanup_(free_p) char *value = NULL;
	char escaped[8] = "";

	assert(field);
	value = oracle_csv(field);
	if (!value)
		return "a CSV field is one field";
	if (strchr("=+-@", value[0]) && value[0])
		return "no CSV field begins as a formula";
	if (*shown && strchr("=+-@", *shown))
		snprintf(escaped, sizeof(escaped), "\\x%02x", (uint8_t)*shown++);
	if (strncmp(value, escaped, strlen(escaped)) != 0 || !streq(value + strlen(escaped), shown))
		return "a CSV field holds what the terminal shows";
	return NULL;
}

/* What a parser of HTML makes of the text of an element or of an attribute in quotes: its only markup are the references
 * that it lists here. NULL where there is any other. The caller frees. */
static inline char *oracle_html(const char *html)
{
	static const struct {
		const char *reference;
		char character;
	} references[] = {
		{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
	char *value = malloc(strlen(html) + 1), *to = value;

	assert(value);
	while (*html) {
		size_t i = 0;

		if (!strchr("&<>\"'", *html)) {
			*to++ = *html++;
			continue;
		}
		while (i < ELEMENTSOF(references) && strncmp(html, references[i].reference,
							     strlen(references[i].reference)) != 0)
			i++;
		if (i == ELEMENTSOF(references)) {
			free(value);
			return NULL;
		}
		*to++ = references[i].character;
		html += strlen(references[i].reference);
	}
	*to = '\0';
	return value;
}

static inline const char *oracle_check_html(const char *text, const char *shown)
{
	_cleanup_(free_p) char *html = escape_html(text);
	_cleanup_(free_p) char *value = NULL;

	assert(html);
	if (!oracle_is_printable(html))
		return "text in HTML is printable";
	value = oracle_html(html);
	if (!value)
		return "text in HTML has no markup";
	return streq(value, shown) ? NULL : "text in HTML reads as what the terminal shows";
}

/* What is between the quotes has no bare quote, and nothing hides in it. */
static inline const char *oracle_check_json(const char *text)
{
	struct buf b = {0};
	const char *violation = NULL;
	char *json;

	if (escape_json(&b, text) < 0 || buf_append(&b, "", 1) < 0)
		abort();
	json = (char *)b.data;
	if (!oracle_is_printable(json))
		violation = "a JSON string is printable";
	if (*json++ != '"')
		violation = "a JSON string begins with a quote";
	for (; *json && *json != '"'; json++)
		json += *json == '\\' && json[1];
	if (!streq(json, "\""))
		violation = "a JSON string ends with its only bare quote";
	buf_done(&b);
	return violation;
}

/* The first promise that is broken for these bytes, in words; NULL: all are kept. */
static inline const char *oracle_violation(const void *raw, size_t size, size_t max)
{
	_cleanup_(free_p) char *text = strndup(raw, size);
	_cleanup_(free_p) char *shown = NULL, *restored = NULL;
	const char *violation;
	size_t restored_size;

	assert(text);
	shown = escape_terminal(text);
	restored = escape_restore(text, &restored_size);
	assert(shown && restored);
	if (!oracle_is_printable(shown))
		return "a terminal gets only what is printable";
	if (restored_size > strlen(text))
		return "to restore never makes longer";
	violation = oracle_check_store(raw, size, max);
	if (!violation)
		violation = oracle_check_csv(text, shown);
	if (!violation)
		violation = oracle_check_html(text, shown);
	return violation ? violation : oracle_check_json(text);
}
