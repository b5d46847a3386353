/* SPDX-License-Identifier: MIT */

/* What the client prints as JSON is what it was given, in one line or indented, and nothing in it drives a terminal. */

#include "tests/fuzz/fuzz.h"

#include "client/jsonout.h"
#include "common/limits.h"
#include "common/varlink.h"

/* A real with a whole value is written as an integer. */
static bool same(const json_t *a, const json_t *b)
{
	const json_t *value;
	size_t i;

	if (json_is_number(a) && json_is_number(b))
		return json_is_integer(a) == json_is_integer(b)
			       ? json_equal(a, b)
			       : json_number_value(a) == json_number_value(b);
	if (json_typeof(a) != json_typeof(b))
		return false;
	if (json_is_array(a)) {
		if (json_array_size(a) != json_array_size(b))
			return false;
		json_array_foreach(
			a, i, value) if (!same(value, json_array_get(b, i))) return false;
		return true;
	}
	if (json_is_object(a)) {
		const char *key;

		if (json_object_size(a) != json_object_size(b))
			return false;
		json_object_foreach((json_t *)(uintptr_t)a, key, value)
		{
			const json_t *other = json_object_get(b, key);

			if (!other || !same(value, other))
				return false;
		}
		return true;
	}
	return json_equal(a, b);
}

static void check(const json_t *value, int indent)
{
	_cleanup_(json_decrefp) json_t *again = NULL;
	_cleanup_(buf_done) struct buf b = {0};
	const char *text;
	int r = jsonout_put(&b, value, indent);

	assert(r == 0);
	text = (const char *)buf_bytes(&b);
	for (size_t i = 0; i < buf_size(&b); i++) {
		unsigned char c = (unsigned char)text[i];

		assert(c >= 0x20 || (c == '\n' && indent >= 0));
		assert(c != 0x7f && (c != 0xc2 || (unsigned char)text[i + 1] >= 0xa0));
	}
	r = json_parse(text, buf_size(&b), LIMIT_JSON_DEPTH, &again);
	assert(r == 0);
	assert(same(value, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_decrefp) json_t *value = NULL;

	if (json_parse((const char *)data, size, LIMIT_JSON_DEPTH, &value) < 0)
		return 0;
	check(value, -1);
	check(value, 0);
	return 0;
}
