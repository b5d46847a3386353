/* SPDX-License-Identifier: MIT */

/* The input is a text, cut at its first NUL. What is taken must be what when.h says of a window. */

#include "tests/fuzz/fuzz.h"

#include "common/when.h"

#include <time.h>

#define NOW (UINT64_C(1792900000) * USEC_PER_SEC) /* 2026-10-25, when summer time ends in Berlin */

static void check_windows(const char *text)
{
	struct window windows[WHEN_WINDOWS_MAX];
	usec_t moment;
	int count;

	count = when_parse(text, NOW, windows);
	assert(count == -EINVAL || count == -ERANGE || count == 1 || count == 2);
	if (count > 0) {
		assert(when_parse_moment(text, NOW, &moment) == 0);
		assert(moment == windows[0].from);
	}
	for (int i = 0; i < count; i++)
		assert(windows[i].from < windows[i].until);
	if (count == 2)
		assert(windows[0].from < windows[1].from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(free_p) char *text = size > 0 ? strndup((const char *)data, size) : strdup("");
	usec_t span = 0;

	if (!text)
		return 0;
	setenv("TZ", "Europe/Berlin", 1);
	check_windows(text);
	assert(streq(getenv("TZ"), "Europe/Berlin"));
	if (when_parse_span(text, &span) == 0)
		assert(span != USEC_UNSET);
	return 0;
}
