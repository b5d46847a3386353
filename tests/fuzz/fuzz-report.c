/* SPDX-License-Identifier: MIT */

/*
 * What a daemon may send for a report: {"Activity":.., "Occupancy":.., "claims":..}, each as far as it passes its shape. The
 * report is made without a fault, and no text of it is markup: as many elements begin as we begin, whatever it says.
 * The first byte picks the form, and the length of the window.
 */

#include "tests/fuzz/fuzz.h"

#include <stdio.h>

#include "client/report.h"
#include "client/shape.h"
#include "client/users.h"
#include "common/limits.h"
#include "common/varlink.h"

/* Nothing but lines, and elements that are ours. */
static void check_markup(const char *text, size_t size)
{
	static const char *const ours[] = {"!doctype", "?xml", "html", "head", "meta", "title",
		"style", "body", "svg", "defs", "pattern", "path", "header", "h1", "h2", "p", "bdi",
		"dl", "div", "dt", "dd", "main", "figure", "figcaption", "g", "rect", "text",
		"tspan", "circle", "details", "summary", "table", "caption", "thead", "tbody",
		"tfoot", "tr", "th", "td"};

	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];
		const char *name = text + i + 1;
		bool known = c != '<';

		assert(c >= 0x20 || c == '\n');
		if (*name == '/')
			name++;
		for (size_t n = 0; !known && n < ELEMENTSOF(ours); n++)
			known = strncmp(name, ours[n], strlen(ours[n])) == 0 &&
				strchr(" />\n", name[strlen(ours[n])]);
		assert(known);
	}
}

static const json_t *shaped(const json_t *from, const char *name, const struct shape *shape)
{
	const json_t *value = json_object_get(from, name);
	const char *wrong = NULL;

	return shape_check(shape, value, &wrong) == 0 ? value : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_decrefp) json_t *said = NULL;
	_cleanup_(users_free_p) struct users *users = users_new();
	const struct options options = {.app = "x", .uid = -1, .pid = -1};
	const usec_t from = UINT64_C(1795370400000000);
	const struct view v = {.options = &options, .users = users, .now = from, .utf8 = true};
	const json_t *claims;
	char *text = NULL;
	size_t length = 0;
	FILE *out;
	int r;

	assert(users);
	if (size < 1 || json_parse((const char *)data + 1, size - 1, LIMIT_JSON_DEPTH, &said) < 0)
		return 0;
	claims = shaped(said, "claims", &shape_claims);
	const struct report report = {
		.view = &v,
		.host = "<host>",
		.window = {from, from + (UINT64_C(1) << (data[0] & 0x3f) % 51)},
		.activity = shaped(said, "Activity", &shape_activity),
		.occupancy = shaped(said, "Occupancy", &shape_occupancy),
		.claims = claims ? json_object_get(claims, "claims") : NULL,
	};
	if (!report.activity)
		return 0;
	out = open_memstream(&text, &length);
	assert(out);
	r = report_write(&report, data[0] & 0x40 ? REPORT_SVG : REPORT_HTML, out);
	assert(r == 0);
	fclose(out);
	check_markup(text, length);
	free(text);
	return 0;
}
