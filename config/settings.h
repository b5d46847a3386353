/* SPDX-License-Identifier: MIT */
#pragma once

/* The table of settings: what each is called, how its text becomes a value and back. */

#include "config/config.h"

struct buf;

/* A kind of value. `value` points at the member of struct config. */
struct setting_kind {
	/* Strict: the whole text. 0; or -EINVAL, -ERANGE. *value is untouched on failure. */
	int (*parse)(const char *text, uint64_t low, uint64_t high, void *value);
	/* Appends text that parses to the same value. 0 or -ENOMEM. */
	int (*format)(const void *value, struct buf *b);
	const char *expects; /* "a time span": for messages */
};

struct setting {
	const char *section, *key;
	const struct setting_kind *kind;
	size_t offset;       /* of its member in struct config */
	const char *initial; /* the default, as text */
	uint64_t low,
		high; /* both included, in the unit of the member; 0 and 0 where there is no order */
	const char *range; /* the same for people: "100ms to 1h" */
	const char *doc;   /* one line */
};

/* Indexed by enum setting_id. */
extern const struct setting settings_table[SETTING_COUNT];

bool settings_has_section(const char *section);

/* 0 and *ret, or -ENOENT. */
int settings_find(const char *section, const char *key, enum setting_id *ret) _must_check_;

/* Sets one setting of `c` from text. 0, -EINVAL or -ERANGE. */
int setting_parse(struct config *c, enum setting_id id, const char *text) _must_check_;

/* The value of one setting as text; owned by the caller. NULL: no memory. */
char *setting_format(const struct config *c, enum setting_id id);
