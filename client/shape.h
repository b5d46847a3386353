/* SPDX-License-Identifier: MIT */
#pragma once

/* What a daemon may send us: the replies of the interface as tables, checked before anything reads a member. After
 * shape_check the accessors below cannot meet a wrong type. */

#include <jansson.h>

#include "common/clock.h"

enum shape_type {
	SHAPE_INT,    /* an integer, 0 or more */
	SHAPE_SIGNED, /* an integer */
	SHAPE_TIME,   /* µs since the epoch, up to the year 9999 */
	SHAPE_PORT,   /* 0 to 65535 */
	SHAPE_BOOL,
	SHAPE_TEXT,
	SHAPE_TEXTS,  /* a list of texts */
	SHAPE_INTS,   /* a list of integers, each 0 or more */
	SHAPE_COUNTS, /* texts to integers */
	SHAPE_OBJECT, /* of the shape `of` */
	SHAPE_LIST,   /* of objects of the shape `of` */
};

struct shape;

struct shape_member {
	const char *name;
	enum shape_type type;
	bool nullable; /* may be null or absent */
	const struct shape *of;
};

struct shape {
	const struct shape_member *members; /* in the order in which they are printed */
	size_t count;
};

/* Types of org.portledger.ledger. */
extern const struct shape shape_claim, shape_coverage, shape_program, shape_check_row;
/* Replies of its methods; Who and Claims have the same. */
extern const struct shape shape_status, shape_explain, shape_claims, shape_audit, shape_activity,
	shape_occupancy, shape_follow, shape_annotate, shape_receipt, shape_released, shape_sync,
	shape_doctor;
/* Rows that the client makes: a claim with `event` in front; a program with `change`; a setting; a kind of claim as it was tested. */
extern const struct shape shape_event, shape_change, shape_setting, shape_self_test;

/* Every member has its type; further members are passed over, as Varlink wants it. 0, or -EBADMSG with the name of the
 * first wrong member in *ret_wrong (static). */
int shape_check(const struct shape *s, const json_t *object, const char **ret_wrong) _must_check_;

/* A fresh object with exactly the members of the shape, in its order, null where unknown. NULL: no memory. */
json_t *shape_order(const struct shape *s, const json_t *object);

const struct shape_member *shape_find(const struct shape *s, const char *name);

/* Of checked objects. NULL, USEC_UNSET, `otherwise`, false, or an empty list where the member is null or absent. */
const char *row_text(const json_t *row, const char *name);
usec_t row_time(const json_t *row, const char *name);
int64_t row_int(const json_t *row, const char *name, int64_t otherwise);
bool row_true(const json_t *row, const char *name);
