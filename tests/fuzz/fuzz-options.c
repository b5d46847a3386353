/* SPDX-License-Identifier: MIT */

/* The command line, a word a line: filters, ranges, addresses, times. What is taken makes a filter; what is not is explained. */

#include "tests/fuzz/fuzz.h"

#include <stdio.h>

#include "client/options.h"
#include "common/endpoint.h"

#define WORDS 24

static void check_filter(const struct options *o)
{
	json_t *filter = options_filter(o), *value;
	struct address address;
	int r;

	assert(json_is_object(filter));
	value = json_object_get(filter, "peer");
	if (json_is_string(value)) {
		r = address_parse(json_string_value(value), &address);
		assert(r == 0);
	}
	json_decref(filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(free_p) char *text = strndup((const char *)data, size);
	char *words[WORDS + 1] = {(char[]){"portledger"}}, *rest = text;
	struct options o;
	int count = 1, r;

	assert(text);
	while (count < WORDS && (words[count] = strsep(&rest, "\n")))
		count++;
	words[count] = NULL;
	setenv("TZ", "Europe/Berlin", 1);
	r = options_parse(count, words, UINT64_C(1795403527114000), false, &o);
	assert(r == 0 || (r == -EINVAL && o.error));
	if (r == 0) {
		assert((unsigned)o.verb < VERB_COUNT && o.port_count <= LIMIT_FILTER_PORTS);
		assert(o.at_count >= 0 && o.at_count <= WHEN_WINDOWS_MAX);
		check_filter(&o);
	}
	options_done(&o);
	return 0;
}
