/* SPDX-License-Identifier: MIT */

/* The input is a list of fields, a line break, and a line of a log. What is taken as a flow must be one that the daemon takes. */

#include "tests/fuzz/fuzz.h"

#include "client/fields.h"
#include "common/endpoint.h"

static void check_sighted(const struct fields *f, const json_t *record)
{
	struct sighted s;
	struct address address;
	int r = fields_sighted(f, record, &s);

	assert(r == 0 || r == -ENODATA || r == -ENOTUNIQ);
	if (r < 0)
		return;
	assert(s.at <= s.until && s.until < FIELDS_TIME_END);
	r = address_parse(s.source, &address);
	assert(r == 0);
	r = address_parse(s.destination, &address);
	assert(r == 0);
	assert(!s.protocol || streq(s.protocol, "tcp") || streq(s.protocol, "udp") ||
		streq(s.protocol, "udplite"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = memchr(data, '\n', size);
	_cleanup_(free_p) char *list = NULL;
	const char *wrong = NULL;
	struct fields fields;
	json_t *record;

	if (!line)
		return 0;
	list = strndup((const char *)data, (size_t)(line - data));
	if (!list)
		return 0;
	if (fields_parse(list, &fields, &wrong) < 0) {
		assert(wrong && wrong >= list && wrong <= list + strlen(list));
		return 0;
	}
	setenv("TZ", "Europe/Berlin", 1);
	line++;
	record = json_loadb((const char *)line, size - (size_t)(line - data),
		JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
	if (json_is_object(record))
		check_sighted(&fields, record);
	json_decref(record);
	fields_done(&fields);
	return 0;
}
