/* SPDX-License-Identifier: MIT */

#include "client/jsonout.h"

#include "common/escape.h"

#define STEP 2

static int put_break(struct buf *b, int indent)
{
	if (indent < 0)
		return 0;
	return buf_append_format(b, "\n%*s", indent, "");
}

static int put_array(struct buf *b, const json_t *array, int indent)
{
	int inner = indent < 0 ? indent : indent + STEP, r;
	const json_t *value;
	size_t i;

	if (json_array_size(array) == 0)
		return buf_append_string(b, "[]");
	json_array_foreach(array, i, value)
	{
		r = buf_append_string(b, i == 0 ? "[" : ",");
		if (r < 0)
			return r;
		r = put_break(b, inner);
		if (r < 0)
			return r;
		r = jsonout_put(b, value, inner);
		if (r < 0)
			return r;
	}
	r = put_break(b, indent);
	return r < 0 ? r : buf_append_string(b, "]");
}

static int put_member(struct buf *b, const char *key, const json_t *value, bool first, int inner)
{
	int r;

	r = buf_append_string(b, first ? "{" : ",");
	if (r < 0)
		return r;
	r = put_break(b, inner);
	if (r < 0)
		return r;
	r = escape_json(b, key);
	if (r < 0)
		return r;
	r = buf_append_string(b, inner < 0 ? ":" : ": ");
	return r < 0 ? r : jsonout_put(b, value, inner);
}

static int put_object(struct buf *b, const json_t *object, int indent)
{
	int inner = indent < 0 ? indent : indent + STEP, r;
	/* jansson has no iterator for what is const; nothing is changed through it */
	json_t *mutable = (json_t *)(uintptr_t)object;
	bool first = true;

	if (json_object_size(object) == 0)
		return buf_append_string(b, "{}");
	for (void *at = json_object_iter(mutable); at; at = json_object_iter_next(mutable, at)) {
		r = put_member(
			b, json_object_iter_key(at), json_object_iter_value(at), first, inner);
		if (r < 0)
			return r;
		first = false;
	}
	r = put_break(b, indent);
	return r < 0 ? r : buf_append_string(b, "}");
}

int jsonout_put(struct buf *b, const json_t *value, int indent)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return put_object(b, value, indent);
	case JSON_ARRAY:
		return put_array(b, value, indent);
	case JSON_STRING:
		return escape_json(b, json_string_value(value));
	case JSON_INTEGER:
		return buf_append_format(b, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	case JSON_REAL:
		return buf_append_format(b, "%.17g", json_real_value(value));
	case JSON_TRUE:
		return buf_append_string(b, "true");
	case JSON_FALSE:
		return buf_append_string(b, "false");
	case JSON_NULL:
		return buf_append_string(b, "null");
	}
	return -ENOMEM;
}
