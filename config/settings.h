/* SPDX-License-Identifier: MIT */
#pragma once

/* The table of settings: what each is called, and how its text becomes a value and back. */

#include "config/config.h"

struct buf;

/* A kind of value; `value` points at the member of struct config. */
struct setting_kind {
	/* Strict: the whole text. 0, -EINVAL, -ERANGE or -ENOMEM; *value is untouched on failure. */
	int (*parse)(const char *text, uint64_t low, uint64_t high, void *value);
	/* Appends the text that parses to the same value. 0 or -ENOMEM. */
	int (*format)(const void *value, struct buf *b);
	const char *expects; /* for messages: "a time span" */
};

struct setting {
	const char *section, *key;
	const struct setting_kind *kind;
	size_t offset;       /* of its member in struct config */
	const char *initial; /* the default, as setting_format() prints it */
	/* both included, in the unit of the member; 0 and 0 where its values have no order */
	uint64_t low, high;
	const char *range; /* the same for people: "100ms to 1h" */
	const char *doc;   /* one sentence */
};

/* Indexed by enum setting_id; the settings of a section stand together. */
extern const struct setting settings_table[SETTING_COUNT];

bool settings_has_section(const char *section);

/* 0 and *ret, or -ENOENT. Names are case-sensitive. */
int settings_find(const char *section, const char *key, enum setting_id *ret) _must_check_;

/* Sets the value of one setting, not its origin. 0, -EINVAL (no such value), -ERANGE or -ENOMEM; then `c` is as before. */
int setting_parse(struct config *c, enum setting_id id, const char *text) _must_check_;

/* The value of one setting as text, owned by the caller. NULL: no memory. */
char *setting_format(const struct config *c, enum setting_id id);

/* Unites `add` (its low end at most its high end) with an ascending, disjoint set; neighbours become one. 0, or
 * -ERANGE: it would have more than PORT_RANGES_MAX ranges, and is as before. */
int ranges_add(struct port_ranges *set, struct port_range add) _must_check_;
