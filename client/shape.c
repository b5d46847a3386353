/* SPDX-License-Identifier: MIT */

/*
 * The tables repeat org.portledger.ledger.varlink on purpose: a daemon is another party, perhaps of another version,
 * and what it sends is believed only as far as it is written here.
 */

#include "client/shape_private.h"

/* 9999-12-31 23:59:59: what localtime_r() can still show in four digits of a year. */
#define TIME_MAX 253402300799999999

SHAPE(shape_holder, {"pid", SHAPE_INT, true}, {"comm", SHAPE_TEXT, true}, {"exe", SHAPE_TEXT, true},
	{"unit", SHAPE_TEXT, true}, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME, true});

SHAPE(shape_claim, CLAIM_MEMBERS);
SHAPE(shape_event, {"event", SHAPE_TEXT}, CLAIM_MEMBERS);

INNER_SHAPE(shape_stretch, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME},
	{"source", SHAPE_TEXT}, {"interval_usec", SHAPE_INT}, {"udp_connect", SHAPE_BOOL},
	{"failures", SHAPE_BOOL});
INNER_SHAPE(shape_gap, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME},
	{"reason", SHAPE_TEXT}, {"lost", SHAPE_INT, true});
INNER_SHAPE(shape_coalesced, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME},
	{"claims", SHAPE_INT}, {"rows", SHAPE_INT});
INNER_SHAPE(
	shape_part, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME}, {"counted", SHAPE_TEXT});
SHAPE(shape_coverage, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME},
	{"stretches", SHAPE_LIST, false, &shape_stretch}, {"lost", SHAPE_INT, true},
	{"gaps", SHAPE_LIST, false, &shape_gap}, {"complete", SHAPE_BOOL},
	{"coalesced", SHAPE_LIST, true, &shape_coalesced}, {"degraded", SHAPE_TEXTS, true},
	{"parts", SHAPE_LIST, true, &shape_part});

INNER_SHAPE(
	shape_slot, {"from_usec", SHAPE_TIME}, {"until_usec", SHAPE_TIME}, {"claims", SHAPE_INT});

/* A list of arguments for SHAPE: a change is a program with a word in front. */
#define PROGRAM_MEMBERS                                                                            \
	{"exe", SHAPE_TEXT, true}, {"comm", SHAPE_TEXT, true}, {"unit", SHAPE_TEXT, true},         \
		{"uid", SHAPE_INT, true}, {"user", SHAPE_TEXT, true}, {"claims", SHAPE_INT},       \
		{"ports", SHAPE_INT}, {"remotes", SHAPE_INT}, {"failures", SHAPE_INT, true},       \
		{"first_usec", SHAPE_TIME}, {"last_usec", SHAPE_TIME}, {"new", SHAPE_BOOL},        \
		{"connected", SHAPE_INT}, {"listening", SHAPE_INT}, {"bound", SHAPE_INT},          \
		{"accepted", SHAPE_INT}, {"shortest_usec", SHAPE_INT, true},                       \
		{"longest_usec", SHAPE_INT, true}, {"busiest_usec", SHAPE_TIME, true},             \
		{"slots", SHAPE_LIST, false, &shape_slot}, {"port", SHAPE_PORT, true},             \
		{"protocol", SHAPE_TEXT, true}, {"netns", SHAPE_INT, true},                        \
		{"netns_name", SHAPE_TEXT, true}, {"hour_usec", SHAPE_TIME, true},                 \
		{"remotes_estimated", SHAPE_BOOL, true},                                           \
	{                                                                                          \
		"lives_estimated", SHAPE_BOOL, true                                                \
	}

SHAPE(shape_program, PROGRAM_MEMBERS);
SHAPE(shape_change, {"change", SHAPE_TEXT}, PROGRAM_MEMBERS);

SHAPE(shape_check_row, {"name", SHAPE_TEXT}, {"level", SHAPE_TEXT}, {"text", SHAPE_TEXT},
	{"fix", SHAPE_TEXT, true});

SHAPE(shape_setting, {"section", SHAPE_TEXT}, {"key", SHAPE_TEXT}, {"value", SHAPE_TEXT},
	{"from", SHAPE_TEXT});

SHAPE(shape_self_test, {"kind", SHAPE_TEXT}, {"protocol", SHAPE_TEXT}, {"made", SHAPE_INT},
	{"caught", SHAPE_INT}, {"attributed", SHAPE_INT}, {"wrong", SHAPE_INT},
	{"promised", SHAPE_TEXT, true});

INNER_SHAPE(shape_process, {"name", SHAPE_TEXT}, {"pid", SHAPE_INT}, {"cpu_usec", SHAPE_INT},
	{"pss_bytes", SHAPE_INT, true});
SHAPE(shape_range, {"low", SHAPE_PORT}, {"high", SHAPE_PORT});

SHAPE(shape_status, {"rung", SHAPE_TEXT}, {"interval_usec", SHAPE_INT}, {"sweeps", SHAPE_INT, true},
	{"sweep_cpu_usec", SHAPE_INT, true}, {"open_claims", SHAPE_INT, true},
	{"recorded", SHAPE_INT, true}, {"lost", SHAPE_INT, true}, {"gaps", SHAPE_INT, true},
	{"unattributed", SHAPE_INT, true}, {"found_only_by_sweep", SHAPE_INT, true},
	{"lost_ends", SHAPE_INT, true}, {"database_bytes", SHAPE_INT},
	{"oldest_usec", SHAPE_TIME, true}, {"degraded", SHAPE_TEXTS},
	{"processes", SHAPE_LIST, false, &shape_process}, {"version", SHAPE_TEXT},
	{"watching", SHAPE_BOOL}, {"udp_connect", SHAPE_BOOL}, {"failures", SHAPE_BOOL},
	{"ranges", SHAPE_LIST, false, &shape_range},
	{"ephemeral", SHAPE_OBJECT, false, &shape_range}, {"used", SHAPE_COUNTS});

SHAPE(shape_explain, {"port", SHAPE_PORT}, {"class", SHAPE_TEXT, true},
	{"service", SHAPE_TEXT, true}, {"dynamic", SHAPE_BOOL}, {"ephemeral", SHAPE_BOOL},
	{"reserved", SHAPE_BOOL, true}, {"watched", SHAPE_BOOL},
	{"ephemeral_range", SHAPE_OBJECT, false, &shape_range},
	{"now", SHAPE_LIST, false, &shape_claim}, {"last", SHAPE_LIST, false, &shape_claim},
	{"listened", SHAPE_LIST, true, &shape_claim}, {"claims_now", SHAPE_INT},
	{"claims_day", SHAPE_INT}, {"programs_day", SHAPE_INT, true}, {"claims_ever", SHAPE_INT},
	{"first_usec", SHAPE_TIME, true}, {"median_usec", SHAPE_INT, true},
	{"coverage", SHAPE_OBJECT, false, &shape_coverage});

SHAPE(shape_claims, {"claims", SHAPE_LIST, false, &shape_claim}, {"cursor", SHAPE_TEXT, true},
	{"coverage", SHAPE_OBJECT, true, &shape_coverage});
SHAPE(shape_audit, {"programs", SHAPE_LIST, false, &shape_program}, {"claims", SHAPE_INT},
	{"ports", SHAPE_INT}, {"unattributed", SHAPE_INT}, {"omitted", SHAPE_INT},
	{"failures", SHAPE_INT, true}, {"reasons", SHAPE_COUNTS},
	{"servers", SHAPE_LIST, false, &shape_claim}, {"servers_omitted", SHAPE_INT},
	{"coverage", SHAPE_OBJECT, false, &shape_coverage});
INNER_SHAPE(shape_program_activity, {"exe", SHAPE_TEXT, true}, {"comm", SHAPE_TEXT, true},
	{"unit", SHAPE_TEXT, true}, {"uid", SHAPE_INT, true}, {"user", SHAPE_TEXT, true},
	{"claims", SHAPE_INT}, {"before", SHAPE_INT}, {"steps", SHAPE_INTS});
SHAPE(shape_activity, {"origin_usec", SHAPE_TIME}, {"step_usec", SHAPE_INT},
	{"programs", SHAPE_LIST, false, &shape_program_activity}, {"omitted", SHAPE_INT},
	{"claims", SHAPE_INT}, {"before", SHAPE_INT}, {"unattributed", SHAPE_INT},
	{"steps", SHAPE_INTS}, {"ports", SHAPE_INT}, {"low", SHAPE_PORT},
	{"port_claims", SHAPE_INTS}, {"elsewhere", SHAPE_INT},
	{"ephemeral", SHAPE_OBJECT, false, &shape_range},
	{"coverage", SHAPE_OBJECT, false, &shape_coverage});
INNER_SHAPE(shape_series, {"netns", SHAPE_INT, true}, {"netns_name", SHAPE_TEXT, true},
	{"protocol", SHAPE_TEXT}, {"range", SHAPE_OBJECT, false, &shape_range}, {"peak", SHAPE_INT},
	{"peak_usec", SHAPE_TIME}, {"used", SHAPE_INTS}, {"time_wait", SHAPE_INTS});
SHAPE(shape_occupancy, {"origin_usec", SHAPE_TIME}, {"step_usec", SHAPE_INT},
	{"series", SHAPE_LIST, false, &shape_series}, {"omitted", SHAPE_INT},
	{"ephemeral", SHAPE_OBJECT, false, &shape_range},
	{"coverage", SHAPE_OBJECT, false, &shape_coverage});
SHAPE(shape_follow, {"event", SHAPE_TEXT}, {"claims", SHAPE_LIST, false, &shape_claim},
	{"lost", SHAPE_INT});
INNER_SHAPE(shape_answer, {"source", SHAPE_OBJECT, true, &shape_claim},
	{"destination", SHAPE_OBJECT, true, &shape_claim}, {"others", SHAPE_INT},
	{"reason", SHAPE_TEXT, true});
SHAPE(shape_annotate, {"answers", SHAPE_LIST, false, &shape_answer});
SHAPE(shape_released, {"claims", SHAPE_LIST, false, &shape_claim}, {"cursor", SHAPE_TEXT},
	{"last", SHAPE_BOOL}, {"coverage", SHAPE_OBJECT, true, &shape_coverage});
SHAPE(shape_sync, {"commit", SHAPE_INT}, {"until_usec", SHAPE_TIME});
SHAPE(shape_receipt, {"coverage", SHAPE_OBJECT, false, &shape_coverage});
SHAPE(shape_doctor, {"checks", SHAPE_LIST, false, &shape_check_row});

static bool is_number(const json_t *value, json_int_t max)
{
	return json_is_integer(value) && json_integer_value(value) >= 0 &&
	       json_integer_value(value) <= max;
}

static bool are_texts(const json_t *list)
{
	const json_t *value;
	size_t i;

	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, value) if (!json_is_string(value)) return false;
	return true;
}

static bool are_ints(const json_t *list)
{
	const json_t *value;
	size_t i;

	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, value) if (!is_number(value, INT64_MAX)) return false;
	return true;
}

static bool are_counts(json_t *object)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return false;
	json_object_foreach(object, key, value) if (!is_number(value, INT64_MAX)) return false;
	return true;
}

static bool are_shaped(const struct shape *of, const json_t *list, const char **ret_wrong)
{
	const json_t *value;
	size_t i;

	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, value) if (shape_check(of, value, ret_wrong) < 0) return false;
	return true;
}

static bool member_holds(const struct shape_member *m, json_t *value, const char **ret_wrong)
{
	if (!value || json_is_null(value))
		return m->nullable;
	switch (m->type) {
	case SHAPE_INT:
		return is_number(value, INT64_MAX);
	case SHAPE_SIGNED:
		return json_is_integer(value);
	case SHAPE_TIME:
		return is_number(value, TIME_MAX);
	case SHAPE_PORT:
		return is_number(value, UINT16_MAX);
	case SHAPE_BOOL:
		return json_is_boolean(value);
	case SHAPE_TEXT:
		return json_is_string(value);
	case SHAPE_TEXTS:
		return are_texts(value);
	case SHAPE_INTS:
		return are_ints(value);
	case SHAPE_COUNTS:
		return are_counts(value);
	case SHAPE_OBJECT:
		return shape_check(m->of, value, ret_wrong) == 0;
	case SHAPE_LIST:
		return are_shaped(m->of, value, ret_wrong);
	}
	return false;
}

int shape_check(const struct shape *s, const json_t *object, const char **ret_wrong)
{
	const char *inner = NULL;

	if (!json_is_object(object)) {
		*ret_wrong = "(no object)";
		return -EBADMSG;
	}
	for (size_t i = 0; i < s->count; i++) {
		const struct shape_member *m = &s->members[i];

		if (!member_holds(m, json_object_get(object, m->name), &inner)) {
			*ret_wrong = inner ? inner : m->name;
			return -EBADMSG;
		}
	}
	return 0;
}

static json_t *order_list(const struct shape *of, const json_t *list)
{
	json_t *ordered = json_array();
	const json_t *value;
	size_t i;

	json_array_foreach(
		list, i, value) if (json_array_append_new(ordered, shape_order(of, value)) < 0)
	{
		json_decref(ordered);
		return NULL;
	}
	return ordered;
}

static json_t *order_member(const struct shape_member *m, json_t *value)
{
	if (!value || json_is_null(value))
		return json_null();
	if (m->type == SHAPE_OBJECT)
		return shape_order(m->of, value);
	if (m->type == SHAPE_LIST)
		return order_list(m->of, value);
	return json_incref(value);
}

json_t *shape_order(const struct shape *s, const json_t *object)
{
	json_t *ordered = json_object();

	for (size_t i = 0; i < s->count; i++) {
		const struct shape_member *m = &s->members[i];

		if (json_object_set_new(ordered, m->name,
			    order_member(m, json_object_get(object, m->name))) < 0) {
			json_decref(ordered);
			return NULL;
		}
	}
	return ordered;
}

const struct shape_member *shape_find(const struct shape *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (streq(s->members[i].name, name))
			return &s->members[i];
	return NULL;
}

const char *row_text(const json_t *row, const char *name)
{
	return json_string_value(json_object_get(row, name));
}

usec_t row_time(const json_t *row, const char *name)
{
	const json_t *value = json_object_get(row, name);

	return json_is_integer(value) ? (usec_t)json_integer_value(value) : USEC_UNSET;
}

int64_t row_int(const json_t *row, const char *name, int64_t otherwise)
{
	const json_t *value = json_object_get(row, name);

	return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool row_true(const json_t *row, const char *name)
{
	return json_is_true(json_object_get(row, name));
}
