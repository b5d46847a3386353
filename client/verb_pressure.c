/* SPDX-License-Identifier: MIT */

/* How near exhaustion, and what to do about the destination that is worst. */

#include "client/ask.h"
#include "client/cells_ports.h"
#include "client/format.h"
#include "client/shape_ports.h"

#define SPAN_DEFAULT (10 * USEC_PER_MINUTE)

/* The windows to ask: from --at on, or the last while. A moment without a span is the end of a while. */
static int pressure_windows(
	const struct options *o, usec_t now, struct window ret[static WHEN_WINDOWS_MAX])
{
	usec_t span = o->window_span != USEC_UNSET ? o->window_span : SPAN_DEFAULT;

	for (int i = 0; i < o->at_count; i++) {
		ret[i] = o->at[i];
		if (o->window_span != USEC_UNSET)
			ret[i].until = MIN(ret[i].from + span, now);
		else if (ret[i].until - ret[i].from < USEC_PER_SEC)
			ret[i].from = usec_sub(ret[i].until, span);
	}
	if (o->at_count > 0)
		return o->at_count;
	ret[0] = (struct window){usec_sub(now, span), USEC_UNSET};
	return 1;
}

/* The first destination whose ports ran out, or nearly so: rows are the fullest first. */
static const json_t *worst(const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) if (streq(row_text(row, "scope"), "destination") &&
					     pressure_near(row)) return row;
	return NULL;
}

static int print_advice(const struct view *v, const json_t *rows)
{
	const json_t *row = worst(rows), *opener;
	const char *who, *unit;
	_cleanup_(buf_done) struct buf b = {0};
	int64_t peak;
	int r;

	if (!row)
		return 0;
	opener = json_array_get(json_object_get(row, "openers"), 0);
	who = opener ? cell_name(opener, "comm", "exe") : NULL;
	unit = opener ? row_text(opener, "unit") : NULL;
	peak = row_int(row, "peak", 0);
	r = buf_append_format(&b, "Advice: %s",
		row_int(row, "peak_time_wait", 0) > peak / 2
			? "most of these ports only wait (TIME_WAIT), since this end closes first: "
			: "");
	if (r == 0)
		r = buf_append_format(&b, "keep and reuse connections in %s%s%s%s",
			who ? who : "the program", unit ? " (" : "", unit ? unit : "",
			unit ? ")" : "");
	if (r == 0 && row_true(row, "bound_first"))
		r = buf_append_string(&b,
			"; its sockets look bound before they are connected, which takes a port from every "
			"destination: set IP_BIND_ADDRESS_NO_PORT");
	if (r == 0)
		r = buf_append_string(&b,
			"; else more addresses at either end, or a wider net.ipv4.ip_local_port_range.");
	if (r == 0)
		r = buf_put_u8(&b, 0);
	if (r == 0)
		view_wrapped(v, v->out, (const char *)buf_bytes(&b), 0, 8);
	return r;
}

static void print_omitted(const struct view *v, const json_t *reply)
{
	int64_t omitted = row_int(reply, "omitted", 0), least = row_int(reply, "least_peak", -1);
	char text[128];

	if (omitted > 0) {
		snprintf(text, sizeof(text), "%lld further destination%s less full: see -n.",
			(long long)omitted, omitted == 1 ? " is" : "s are");
		view_wrapped(v, v->out, text, 0, 2);
	}
	if (least < 0)
		return;
	snprintf(text, sizeof(text),
		"They were more than can be told apart; those left out had at most %lld port%s at once.",
		(long long)least, format_plural((uint64_t)least));
	view_wrapped(v, v->out, text, 0, 2);
}

/* NULL: no memory. */
static json_t *make_parameters(const struct options *o, struct window window)
{
	json_t *parameters = json_pack(
		"{s:I,s:o}", "since_usec", (json_int_t)window.from, "filter", options_filter(o));

	if (parameters && ((window.until != USEC_UNSET &&
				   json_object_set_new(parameters, "until_usec",
					   json_integer((json_int_t)window.until)) < 0) ||
				  (o->limit > 0 && json_object_set_new(parameters, "limit",
							   json_integer(o->limit)) < 0))) {
		json_decref(parameters);
		return NULL;
	}
	return parameters;
}

static enum status ask_window(const struct options *o, struct connection *c, struct window window,
	struct writer *w, json_t *replies)
{
	_cleanup_(json_decrefp) json_t *reply = NULL;
	enum status status =
		ask(c, "Pressure", make_parameters(o, window), &shape_pressure, &reply);

	if (status == STATUS_FOUND)
		status = write_rows(w, json_object_get(reply, "pressure"));
	if (status == STATUS_FOUND && json_array_append(replies, reply) < 0)
		return complain_memory();
	return status;
}

static enum status finish(
	const struct options *o, const struct view *v, struct writer *w, const json_t *replies)
{
	_cleanup_(json_decrefp) json_t *receipts = json_array();
	const json_t *reply;
	size_t i;

	json_array_foreach(replies, i,
		reply) if (json_array_append(receipts, json_object_get(reply, "coverage")) <
			   0) return complain_memory();
	if (writer_count(w) == 0)
		say_nothing(v, receipts);
	if (o->output != OUTPUT_TABLE) {
		if (writer_finish(w, NULL, receipts) < 0)
			return complain_memory();
		return answer_status(o, writer_count(w), receipts);
	}
	if (writer_finish(w, NULL, NULL) < 0)
		return complain_memory();
	json_array_foreach(replies, i, reply)
	{
		if (o->no_legend)
			break;
		print_omitted(v, reply);
		if (print_advice(v, json_object_get(reply, "pressure")) < 0)
			return complain_memory();
	}
	if (writer_receipts(v, v->out, receipts) < 0)
		return complain_memory();
	return answer_status(o, writer_count(w), receipts);
}

enum status verb_pressure(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *replies = json_array();
	_cleanup_(writer_free_p) struct writer *w = NULL;
	struct window windows[WHEN_WINDOWS_MAX];
	int count = pressure_windows(o, v->now, windows);
	enum status status;

	if (o->limit > LIMIT_PRESSURE_ROWS) {
		complain("--limit: at most %u destinations", LIMIT_PRESSURE_ROWS);
		return STATUS_USAGE;
	}
	status = ask_writer(v, &kind_pressure, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	for (int i = 0; i < count && status == STATUS_FOUND; i++)
		status = ask_window(o, &c, windows[i], w, replies);
	return status != STATUS_FOUND ? status : finish(o, v, w, replies);
}
