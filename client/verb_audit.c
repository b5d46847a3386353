/* SPDX-License-Identifier: MIT */

#include "client/ask.h"
#include "client/format.h"
#include "client/receipt.h"
#include "client/shape.h"

/* Claims without a process have a row too, and the last programs may have none. */
static size_t named_programs(const json_t *reply)
{
	const json_t *row;
	size_t i, count = (size_t)row_int(reply, "omitted", 0);

	json_array_foreach(json_object_get(reply, "programs"), i, row) count +=
		row_text(row, "exe") || row_text(row, "comm");
	return count;
}

/* What the table is about, and its sums. */
static int print_heading(const struct view *v, const json_t *reply)
{
	size_t programs = named_programs(reply);
	const json_t *coverage = json_object_get(reply, "coverage");
	_cleanup_(buf_done) struct buf b = {0};
	char claims[FORMAT_MAX], ports[FORMAT_MAX], unknown[FORMAT_MAX];

	if (receipt_window(&b, row_time(coverage, "from_usec"), row_time(coverage, "until_usec")) <
			0 ||
		buf_append_format(&b,
			": %s claims of %s ports by %zu program%s; %s without a process",
			format_count((uint64_t)row_int(reply, "claims", 0), claims),
			format_count((uint64_t)row_int(reply, "ports", 0), ports), programs,
			programs == 1 ? "" : "s",
			format_count((uint64_t)row_int(reply, "unattributed", 0), unknown)) < 0 ||
		buf_put_u8(&b, 0) < 0)
		return -ENOMEM;
	view_wrapped(v, v->out, (const char *)buf_bytes(&b), 0, 2);
	return 0;
}

static void print_omitted(const struct options *o, const struct view *v, const json_t *reply)
{
	int64_t omitted = row_int(reply, "omitted", 0);
	char count[FORMAT_MAX];

	if (omitted == 0)
		return;
	format_count((uint64_t)omitted, count);
	if (o->output == OUTPUT_TABLE)
		fprintf(v->out,
			"%s more programs, with fewer claims, did not fit into the answer.\n",
			count);
	else if (o->output == OUTPUT_CSV || o->output == OUTPUT_FIELD)
		complain("%s more programs, with fewer claims, did not fit into the answer", count);
}

static enum status print_audit(
	const struct options *o, const struct view *v, struct writer *w, const json_t *reply)
{
	_cleanup_(json_decrefp) json_t *receipts =
		json_pack("[O]", json_object_get(reply, "coverage"));
	_cleanup_(json_decrefp) json_t *total = json_pack("{s:O,s:O,s:O,s:O}", "claims",
		json_object_get(reply, "claims"), "ports", json_object_get(reply, "ports"),
		"unattributed", json_object_get(reply, "unattributed"), "omitted",
		json_object_get(reply, "omitted"));
	const json_t *programs = json_object_get(reply, "programs");
	enum status status;

	if (!receipts || !total)
		return complain_memory();
	if (json_array_size(programs) == 0)
		say_nothing(v, receipts);
	else if (o->output == OUTPUT_TABLE && !o->no_legend && print_heading(v, reply) < 0)
		return complain_memory();
	print_omitted(o, v, reply);
	status = write_rows(w, programs);
	if (status != STATUS_FOUND)
		return status;
	if (writer_finish(w, total, receipts) < 0)
		return complain_memory();
	return answer_status(o, json_array_size(programs), receipts);
}

enum status verb_audit(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	_cleanup_(json_decrefp) json_t *reply = NULL;
	json_t *parameters;
	enum status status;

	status = ask_writer(v, &kind_programs, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status != STATUS_FOUND)
		return status;
	parameters = json_pack("{s:I,s:I,s:o}", "since_usec", (json_int_t)o->since, "until_usec",
		(json_int_t)(o->until != USEC_UNSET ? o->until : v->now + 1), "filter",
		options_filter(o));
	status = ask(&c, "Audit", parameters, &shape_audit, &reply);
	return status != STATUS_FOUND ? status : print_audit(o, v, w, reply);
}
