/* SPDX-License-Identifier: MIT */
#pragma once

/* Where in somebody else's JSON record the time and the ends of a flow are. */

#include <jansson.h>

#include "common/clock.h"

enum field {
	FIELD_TIME,
	FIELD_START, /* with FIELD_END: the flow's own times, which go before FIELD_TIME */
	FIELD_END,
	FIELD_PROTO,
	FIELD_SRC,
	FIELD_SPORT,
	FIELD_DST,
	FIELD_DPORT,
	FIELD_COUNT,
};

struct fields {
	char *text; /* owned; what `path` points into */
	const char *
		path[FIELD_COUNT]; /* alternatives between |; NULL: the record has no such member */
};

/* Reads "eve", "ek", "zeek", "NAME=PATH,...", or a word and then such a list, which changes what the word says; eve without a
 * word. 0, -ENOMEM, or -EINVAL with the name of what is wrong in *ret_wrong (into `text`). */
int fields_parse(const char *text, struct fields *ret, const char **ret_wrong) _must_check_;
void fields_done(struct fields *f);

/* What a path leads to: the first alternative that is there, of an array its first element. A member's name may have dots
 * itself. NULL: nothing, or null. */
const json_t *fields_find(const struct fields *f, enum field field, const json_t *record);

/* Of the year 2255: the interface knows no later time. */
#define FIELDS_TIME_END (UINT64_C(1) << 53)

/* A flow, as the interface has it. */
struct sighted {
	usec_t at, until;
	const char *protocol;             /* static, or the record's; NULL: any */
	const char *source, *destination; /* the record's */
	uint16_t source_port, destination_port;
};

/* 0, -ENODATA: it has no ends (addresses, ports, TCP or UDP), -ENOTUNIQ: it has no time. */
int fields_sighted(const struct fields *f, const json_t *record, struct sighted *ret) _must_check_;

/* "2026-11-22T03:12:07.114+0100" (without a zone: the local one), or a number: seconds, milliseconds, microseconds or
 * nanoseconds since the epoch, by its size. 0 or -EINVAL. */
int fields_parse_time(const char *text, usec_t *ret) _must_check_;
