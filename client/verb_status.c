/* SPDX-License-Identifier: MIT */

/* Is it recording, and how: what is wrong comes first. */

#include "client/ask.h"
#include "client/format.h"
#include "client/jsonout.h"
#include "client/render.h"
#include "client/shape.h"

#define LABEL 13 /* columns */

/* "  claims     182,113 recorded, ..." begins with this. */
static void print_label(const struct view *v, const char *label)
{
	fprintf(v->out, "  %s%-10s%s ", view_tone(v, TONE_FAINT), label, view_plain(v));
}

/* "?" until the ledger has answered once. */
static const char *count(const json_t *reply, const char *name, char text[static FORMAT_MAX])
{
	int64_t number = row_int(reply, name, -1);

	return number < 0 ? "?" : format_count((uint64_t)number, text);
}

static void print_head(const struct view *v, const json_t *reply)
{
	bool watching = row_true(reply, "watching");
	const char *rung = row_text(reply, "rung"), *version = row_text(reply, "version");
	const char *state = watching ? "recording" : "not recording";
	char way[FORMAT_WAY_MAX], rest[FORMAT_WAY_MAX + 8];

	writer_degraded(v, v->out, json_object_get(reply, "degraded"));
	fputs("portledgerd ", v->out);
	view_text(v, version);
	fprintf(v->out, " is %s%s%s", view_tone(v, watching ? TONE_GOOD : TONE_BAD), state,
		view_plain(v));
	if (!watching) {
		fputc('\n', v->out);
		return;
	}
	fputs(", ", v->out);
	snprintf(rest, sizeof(rest), "by %s",
		format_way(rung, (usec_t)row_int(reply, "interval_usec", 0), way));
	view_wrapped(v, v->out, rest,
		strlen("portledgerd  is , ") + view_columns(version) + strlen(state), 2);
}

static const char *plural(const json_t *reply, const char *name)
{
	return format_plural((uint64_t)row_int(reply, name, 0));
}

static void print_history(const struct view *v, const json_t *reply)
{
	usec_t oldest = row_time(reply, "oldest_usec");
	char time[FORMAT_TIME_MAX], span[FORMAT_MAX], bytes[FORMAT_MAX], text[256];

	format_bytes((uint64_t)row_int(reply, "database_bytes", 0), bytes);
	if (oldest == USEC_UNSET)
		snprintf(text, sizeof(text), "none yet, %s", bytes);
	else
		snprintf(text, sizeof(text), "since %s (%s), %s",
			format_moment(oldest - oldest % USEC_PER_SEC, v->now, time),
			format_span(usec_sub(v->now, oldest), span), bytes);
	print_label(v, "history");
	view_wrapped(v, v->out, text, LABEL, LABEL);
}

/* What costs where it cannot be had for nothing, and so may be off. */
static void print_extras(const struct view *v, const json_t *reply)
{
	char text[160];

	snprintf(text, sizeof(text), "%s; %s",
		row_true(reply, "udp_connect")
			? "UDP connects are told at once"
			: "UDP connects are known only from their end (UdpConnect=)",
		row_true(reply, "failures") ? "failures are watched"
					    : "failures are not watched (Failures=)");
	print_label(v, "extras");
	view_wrapped(v, v->out, text, LABEL, LABEL);
}

/* Where it cannot be counted, it can be measured (decision 0033). */
static void print_gaps(const struct view *v, const json_t *reply)
{
	char gaps[FORMAT_MAX], lost[FORMAT_MAX], ends[FORMAT_MAX], found[FORMAT_MAX], text[256];
	bool events = streq(row_text(reply, "rung"), "events");
	bool told = streq(row_text(reply, "rung"), "destroy");
	int length = snprintf(text, sizeof(text), "%s since then; ", count(reply, "gaps", gaps));
	char *rest = text + length;
	size_t room = sizeof(text) - (size_t)length;

	if (events)
		snprintf(rest, room, "%s claim%s lost, %s end%s lost; %s found only by sweep",
			count(reply, "lost", lost), plural(reply, "lost"),
			count(reply, "lost_ends", ends), plural(reply, "lost_ends"),
			count(reply, "found_only_by_sweep", found));
	else if (row_int(reply, "lost", -1) >= 0)
		snprintf(rest, room, "%s claim%s lost", count(reply, "lost", lost),
			plural(reply, "lost"));
	else
		snprintf(rest, room,
			"what lives shorter than the interval is %s (doctor --self-test measures how much)",
			told ? "without a process, or missing" : "not seen, nor counted");
	print_label(v, "gaps");
	view_wrapped(v, v->out, text, LABEL, LABEL);
}

static void print_counts(const struct view *v, const json_t *reply)
{
	char a[FORMAT_MAX], b[FORMAT_MAX], c[FORMAT_MAX], text[256];

	snprintf(text, sizeof(text),
		"%s recorded since its start; %s open now, %s of them without a process",
		count(reply, "recorded", a), count(reply, "open_claims", b),
		count(reply, "unattributed", c));
	print_label(v, "claims");
	view_wrapped(v, v->out, text, LABEL, LABEL);
	print_gaps(v, reply);
	if (streq(row_text(reply, "rung"), "events"))
		print_extras(v, reply);
}

static int put_range(struct buf *b, const json_t *range)
{
	return buf_append_format(b, "%lld-%lld", (long long)row_int(range, "low", 0),
		(long long)row_int(range, "high", 0));
}

/* "tcp 1,204 used (4.3 %)" */
static int put_used(struct buf *b, const char *protocol, int64_t ports, int64_t size)
{
	double percent = 100.0 * (double)ports / (double)size;
	char text[FORMAT_MAX];
	int r = buf_append_format(b, "%s %s used (", protocol, format_count((uint64_t)ports, text));

	if (r < 0)
		return r;
	return percent < 0.05 ? buf_append_string(b, "< 0.1 %)") /* would be shown as 0.0 */
			      : buf_append_format(b, "%.1f %%)", percent);
}

/* How full: ports of the ephemeral range in use, by protocol. */
static int put_ephemeral(struct buf *b, const json_t *reply)
{
	const json_t *ephemeral = json_object_get(reply, "ephemeral");
	int64_t size = row_int(ephemeral, "high", 0) - row_int(ephemeral, "low", 0) + 1;
	json_t *used = json_object_get(reply, "used"), *value;
	const char *protocol, *between = ": ";
	int r = put_range(b, ephemeral);

	json_object_foreach(used, protocol, value)
	{
		int64_t ports = json_integer_value(value);

		if (ports == 0 || size <= 0)
			continue;
		if (r == 0)
			r = buf_append_string(b, between);
		if (r == 0)
			r = put_used(b, protocol, ports, size);
		between = ", ";
	}
	return r == 0 && *between == ':' ? buf_append_string(b, ": all free") : r;
}

static enum status print_part(const struct view *v, const char *label, struct buf *b, int r)
{
	if (r < 0 || buf_put_u8(b, 0) < 0)
		return complain_memory();
	print_label(v, label);
	view_wrapped(v, v->out, (const char *)buf_bytes(b), LABEL, LABEL);
	return STATUS_FOUND;
}

static enum status print_ranges(const struct view *v, const json_t *reply)
{
	_cleanup_(buf_done) struct buf watched = {0}, ephemeral = {0};
	enum status status;
	const json_t *range;
	size_t i;
	int r = 0;

	json_array_foreach(json_object_get(reply, "ranges"), i, range)
	{
		if (r == 0 && i > 0)
			r = buf_append_string(&watched, ", ");
		if (r == 0)
			r = put_range(&watched, range);
	}
	status = print_part(v, "watched", &watched, r);
	if (status != STATUS_FOUND)
		return status;
	r = put_ephemeral(&ephemeral, reply);
	return print_part(v, "ephemeral", &ephemeral, r);
}

static enum status print_cost(const struct view *v, const json_t *reply)
{
	const json_t *processes = json_object_get(reply, "processes"), *process;
	_cleanup_(buf_done) struct buf cost = {0};
	char span[FORMAT_MAX], text[FORMAT_MAX], sweeps[2 * FORMAT_MAX + 32];
	size_t i;
	int r = 0;

	snprintf(sweeps, sizeof(sweeps), "%s", count(reply, "sweeps", text));
	if (row_int(reply, "sweeps", 0) > 0)
		snprintf(sweeps, sizeof(sweeps), "%s, the last took %s of CPU", text,
			format_span((usec_t)row_int(reply, "sweep_cpu_usec", 0), span));
	print_label(v, "sweeps");
	view_wrapped(v, v->out, sweeps, LABEL, LABEL);
	json_array_foreach(processes, i, process)
	{
		int64_t bytes = row_int(process, "pss_bytes", -1);

		if (r == 0)
			r = buf_append_format(&cost, "%s%s %s", i > 0 ? ", " : "",
				row_text(process, "name"),
				format_span((usec_t)row_int(process, "cpu_usec", 0), span));
		if (r == 0 && bytes >= 0)
			r = buf_append_format(&cost, " %s", format_bytes((uint64_t)bytes, text));
	}
	if (r == 0)
		r = buf_append_string(&cost, " (CPU, memory)");
	return print_part(v, "processes", &cost, r);
}

static enum status print_status(const struct view *v, const json_t *reply)
{
	static const struct kind kind = {"status", &shape_status, NULL, 0};
	_cleanup_(json_decrefp) json_t *ordered = shape_order(&shape_status, reply);
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	if (!ordered)
		return complain_memory();
	switch (v->options->output) {
	case OUTPUT_JSON_SHORT:
	case OUTPUT_JSON_PRETTY:
		return writer_object(v, ordered) < 0 ? complain_memory() : STATUS_FOUND;
	case OUTPUT_CSV:
	case OUTPUT_FIELD:
		status = ask_writer(v, &kind, false, &w);
		if (status != STATUS_FOUND)
			return status;
		return writer_row(w, ordered) < 0 || writer_finish(w, NULL, NULL) < 0
			       ? complain_memory()
			       : STATUS_FOUND;
	case OUTPUT_TABLE:
		break;
	}
	print_head(v, reply);
	print_history(v, reply);
	print_counts(v, reply);
	status = print_ranges(v, reply);
	return status == STATUS_FOUND ? print_cost(v, reply) : status;
}

enum status verb_status(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *reply = NULL;
	enum status status;

	status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = ask(&c, "Status", json_object(), &shape_status, &reply);
	if (status == STATUS_FOUND)
		status = print_status(v, reply);
	if (status != STATUS_FOUND)
		return status;
	return o->strict && !row_true(reply, "watching") ? STATUS_INCOMPLETE : STATUS_FOUND;
}
