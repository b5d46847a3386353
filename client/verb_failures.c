/* SPDX-License-Identifier: MIT */

/* failures: binds and connects that got no port, and who had it. "None" and "not watching" never look alike. */

#include "client/ask.h"
#include "client/cells_failures.h"
#include "client/receipt.h"

static int set_if(json_t *object, const char *name, bool given, json_int_t value)
{
	return given && json_object_set_new(object, name, json_integer(value)) < 0 ? -ENOMEM : 0;
}

/* NULL: no memory. */
static json_t *failures_parameters(const struct options *o)
{
	json_t *parameters = json_pack("{s:o}", "filter", options_filter(o));

	if (!parameters)
		return NULL;
	if (set_if(parameters, "since_usec", o->since != USEC_UNSET, (json_int_t)o->since) < 0 ||
		set_if(parameters, "until_usec", o->until != USEC_UNSET, (json_int_t)o->until) <
			0 ||
		set_if(parameters, "limit", o->limit > 0, o->limit) < 0) {
		json_decref(parameters);
		return NULL;
	}
	return parameters;
}

static enum status take_failures(void *context, const json_t *failures)
{
	return write_rows(context, failures);
}

static bool were_watched(const json_t *receipts)
{
	const json_t *receipt;
	size_t i;

	json_array_foreach(receipts, i, receipt) if (receipt_watched(receipt)) return true;
	return false;
}

#define NOT_WATCHED                                                                                \
	"failures were not watched then; under the rung events Failures=yes in portledger.conf watches them"

/* Whoever reads the answer by a program has it in the receipt; who has no room for that is told beside it. */
static void say_not_watched(const struct view *v)
{
	if (v->options->output == OUTPUT_TABLE && !v->options->no_legend)
		view_wrapped(v, v->out, "Nothing can be said: " NOT_WATCHED ".", 0, 2);
	else if (v->options->output == OUTPUT_CSV || v->options->output == OUTPUT_FIELD)
		complain(NOT_WATCHED);
}

static enum status finish(
	const struct options *o, const struct view *v, struct writer *w, const json_t *receipts)
{
	if (!were_watched(receipts))
		say_not_watched(v);
	else if (writer_count(w) == 0 && o->output == OUTPUT_TABLE && !o->no_legend)
		fputs("No bind or connect failed, in what was watched, that matches.\n", v->out);
	if (writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	return answer_status(o, writer_count(w), receipts);
}

enum status verb_failures(const struct options *o, struct view *v)
{
	_cleanup_(json_decrefp) json_t *receipts = json_array(),
				       *parameters = failures_parameters(o);
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	status = ask_writer(v, &kind_failures, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = ask_pages_of(&c, "Failures", &shape_failures, kind_failures.plural,
			parameters, take_failures, w, receipts);
	return status != STATUS_FOUND ? status : finish(o, v, w, receipts);
}
