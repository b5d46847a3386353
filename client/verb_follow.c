/* SPDX-License-Identifier: MIT */

/*
 * Claims as they come and go, a line each. Every reply is flushed at once; a reader that goes away ends us by SIGPIPE.
 * For people the sign in front says what happened: `=` was open when we began, `+` opened, `-` released, `~` its process became known,
 * `*` was never seen before.
 */

#include "client/ask.h"
#include "client/format.h"
#include "client/shape.h"

static const struct {
	const char *event;
	char sign;
	const char *time, *word;
} events[] = {
	{"open", '=', "opened_usec"},
	{"opened", '+', "opened_usec"},
	{"attributed", '~', "opened_usec"},
	{"released", '-', "released_usec"},
	{"program", '*', "opened_usec", "new program "},
	{"listener", '*', "opened_usec", "new server "},
};

/* A time of today; a sign and two blanks; a port. */
#define TIME_WIDTH 12
#define SIGN_WIDTH 3
#define PORT_WIDTH 9

/* Which way a connection went; of a claim of unknown role not even that. */
static char sign_of(const char *role)
{
	if (!role)
		return '-';
	return streq(role, "accepted") ? '<' : '>';
}

/* "node[9120] web-api.service connected > 10.2.0.9:5432" */
static int put_claim(struct buf *b, const json_t *claim, const struct view *v)
{
	_cleanup_(free_p) char *process = cell_process(claim, v), *remote = cell_remote(claim, v);
	const char *unit = row_text(claim, "unit"), *role = row_text(claim, "role");
	int r;

	if (!process || !remote)
		return -ENOMEM;
	r = buf_append_string(b, process);
	/* of an unknown process the unit is told in its place */
	if (r == 0 && unit && row_int(claim, "pid", 0) > 0)
		r = buf_append_format(b, " %s", unit);
	if (r == 0)
		r = buf_append_format(b, " %s", role ? role : "?");
	if (r == 0 && row_text(claim, "remote_address"))
		r = buf_append_format(b, " %c %s", sign_of(role), remote);
	return r < 0 ? r : buf_put_u8(b, 0);
}

/* What does not fit a terminal goes on below the port. */
static int print_line(const struct view *v, size_t event, const json_t *claim)
{
	_cleanup_(free_p) char *raw = cell_port(claim, v), *port = raw ? view_escape(v, raw) : NULL;
	_cleanup_(buf_done) struct buf b = {0};
	const char *word = events[event].word ? events[event].word : "";
	usec_t at = row_time(claim, events[event].time);
	char time[FORMAT_TIME_MAX] = "-";
	size_t indent;

	if (!port || put_claim(&b, claim, v) < 0)
		return -ENOMEM;
	if (at != USEC_UNSET)
		format_time(at, v->now, time);
	fprintf(v->out, "%*s %s%c%s %s%-*s ", TIME_WIDTH, time,
		view_tone(v, event == 1 ? TONE_GOOD : TONE_FAINT), events[event].sign,
		view_plain(v), word, PORT_WIDTH, port);
	indent = MAX(strlen(time), (size_t)TIME_WIDTH) + SIGN_WIDTH;
	view_wrapped(v, v->out, (const char *)buf_bytes(&b),
		indent + strlen(word) + MAX(view_columns(port), (size_t)PORT_WIDTH) + 1, indent);
	return 0;
}

static enum status print_event(
	const struct view *v, struct writer *w, const char *event, json_t *claim)
{
	size_t i;

	if (v->options->output != OUTPUT_TABLE) {
		if (json_object_set_new(claim, "event", json_string(event)) < 0 ||
			writer_row(w, claim) < 0)
			return complain_memory();
		return STATUS_FOUND;
	}
	for (i = 0; i < ELEMENTSOF(events); i++)
		if (streq(event, events[i].event))
			return print_line(v, i, claim) < 0 ? complain_memory() : STATUS_FOUND;
	complain("the daemon tells of an event that is none: %s", event);
	return STATUS_ERROR;
}

static void print_lost(const struct view *v, int64_t lost)
{
	char count[FORMAT_MAX];

	if (lost == 0)
		return;
	format_count((uint64_t)lost, count);
	switch (v->options->output) {
	case OUTPUT_TABLE:
		fprintf(v->out, "%s... %s lost, reader too slow%s\n", view_tone(v, TONE_WARNING),
			count, view_plain(v));
		return;
	case OUTPUT_JSON_SHORT:
	case OUTPUT_JSON_PRETTY:
		fprintf(v->out, "{\"lost\":%lld}\n", (long long)lost);
		return;
	case OUTPUT_CSV:
	case OUTPUT_FIELD:
		complain("%s lost, reader too slow", count);
		return;
	}
}

/* One reply: what was lost before it, then its claims. */
static enum status print_reply(const struct view *v, struct writer *w, const json_t *reply)
{
	const json_t *claims = json_object_get(reply, "claims");
	enum status status = STATUS_FOUND;

	print_lost(v, row_int(reply, "lost", 0));
	for (size_t i = 0; i < json_array_size(claims) && status == STATUS_FOUND; i++)
		status = print_event(v, w, row_text(reply, "event"), json_array_get(claims, i));
	if (fflush(v->out) == EOF && status == STATUS_FOUND)
		return STATUS_ERROR;
	return status;
}

enum status verb_follow(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	bool continues = true;
	enum status status;

	if (o->output == OUTPUT_TABLE && o->column_count > 0) {
		complain("follow: --columns is for JSON and CSV");
		return STATUS_USAGE;
	}
	status = ask_writer(v, &kind_events, true, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status != STATUS_FOUND)
		return status;
	if (connection_wait_forever(&c) < 0)
		return complain_memory();
	status = ask_call(&c, "Follow",
		json_pack("{s:o,s:b}", "filter", options_filter(o), "new", o->only_new), "more");
	while (status == STATUS_FOUND && continues) {
		_cleanup_(json_decrefp) json_t *reply = NULL;

		status = ask_reply(&c, &shape_follow, &reply, &continues);
		if (status == STATUS_FOUND)
			status = print_reply(v, w, reply);
	}
	return status;
}
