/* SPDX-License-Identifier: MIT */

/*
 * What a daemon may send, in every clothes the client has: whatever passes the shape of a reply must be printed without
 * a fault, and without a byte that drives a terminal. The first byte picks the reply, the second the clothes.
 */

#include "tests/fuzz/fuzz.h"

#include <locale.h>
#include <stdio.h>

#include "client/cells_ports.h"
#include "client/explain.h"
#include "client/receipt.h"
#include "client/render.h"
#include "client/shape_ports.h"
#include "client/users.h"
#include "common/limits.h"
#include "common/varlink.h"
#include "tests/fuzz/printed.h"

static const enum output outputs[] = {
	OUTPUT_TABLE, OUTPUT_JSON_SHORT, OUTPUT_JSON_PRETTY, OUTPUT_CSV, OUTPUT_FIELD};

static const struct {
	const struct shape *shape;
	const char *rows;
	const struct kind *kind;
} replies[] = {
	{&shape_claims, "claims", &kind_claims},
	{&shape_claims, "claims", &kind_open_claims},
	{&shape_audit, "programs", &kind_programs},
	{&shape_explain, "now", &kind_open_claims},
	{&shape_claims, "claims", &kind_who},
	{&shape_listeners, "listeners", &kind_listeners},
	{&shape_pressure, "pressure", &kind_pressure},
	{&shape_apps, "apps", &kind_apps},
};

static void print_rows(
	const struct view *v, const struct kind *k, const json_t *rows, json_t *receipts)
{
	_cleanup_(writer_free_p) struct writer *w = NULL;
	const json_t *row;
	size_t i;
	int r;

	assert(!writer_unknown_column(v, k));
	r = writer_new(v, k, false, &w);
	assert(r == 0);
	json_array_foreach(rows, i, row)
	{
		r = writer_row(w, row);
		assert(r == 0);
	}
	r = writer_finish(w, NULL, receipts);
	assert(r == 0);
}

static void print_reply(const struct view *v, size_t which, json_t *reply)
{
	json_t *coverage = json_object_get(reply, "coverage");
	_cleanup_(json_decrefp) json_t *receipts = NULL;
	_cleanup_(buf_done) struct buf b = {0};
	const char *wrong = NULL;
	int r;

	if (shape_check(replies[which].shape, reply, &wrong) < 0) {
		assert(wrong);
		return;
	}
	/* two windows, as at the end of summer time */
	receipts = json_is_object(coverage) ? json_pack("[O,O]", coverage, coverage) : NULL;
	print_rows(v, replies[which].kind, json_object_get(reply, replies[which].rows), receipts);
	if (replies[which].shape == &shape_explain) {
		r = explain_verdict(reply, v, &b);
		assert(r == 0);
		r = explain_class(reply, &b);
		assert(r == 0);
		r = explain_advice(reply, &b);
		assert(r == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_decrefp) json_t *reply = NULL;
	_cleanup_(users_free_p) struct users *users = users_new();
	struct options options = {.field = NULL};
	char *text = NULL;
	size_t length = 0, which;
	struct view v = {.options = &options, .users = users, .now = UINT64_C(1795403527114000)};

	if (size < 2 || json_parse((const char *)data + 2, size - 2, LIMIT_JSON_DEPTH, &reply) < 0)
		return 0;
	(void)setlocale(LC_ALL, "C.UTF-8");
	options.output = outputs[data[1] % ELEMENTSOF(outputs)];
	which = data[0] % ELEMENTSOF(replies);
	if (options.output == OUTPUT_FIELD) {
		const struct shape *shape = replies[which].kind->shape;

		options.field = shape_find(shape, "unit") ? "unit" : shape->members[0].name;
	}
	v.utf8 = data[1] & 0x10;
	v.width = data[1] & 0x20 ? 60 : 0;
	v.out = open_memstream(&text, &length);
	v.notes = v.out;
	v.coverage = json_object_get(reply, "coverage");
	assert(v.out && users);
	print_reply(&v, which, reply);
	fclose(v.out);
	check_printed(text, length, options.output == OUTPUT_CSV);
	free(text);
	return 0;
}
