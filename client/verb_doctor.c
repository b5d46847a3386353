/* SPDX-License-Identifier: MIT */

/* doctor answers without a daemon, too: that none answers is what is missing then. */

#include "client/ask.h"
#include "client/shape.h"

static enum tone tone_of(const char *level)
{
	if (streq(level, "ok"))
		return TONE_GOOD;
	return streq(level, "warning") ? TONE_WARNING : TONE_BAD;
}

#define CHECK_LEVEL 8 /* columns that a level takes */

/* "before: after", broken where it does not fit. 0 or -ENOMEM. */
static int print_pair(
	const struct view *v, const char *before, const char *after, size_t column, size_t indent)
{
	_cleanup_(free_p) char *text = NULL;

	if (asprintf(&text, "%s: %s", before, after) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	view_wrapped(v, v->out, text, column, indent);
	return 0;
}

static int print_check(const struct view *v, const json_t *check)
{
	const char *level = row_text(check, "level"), *fix = row_text(check, "fix");
	size_t pad = strlen(level) < CHECK_LEVEL ? CHECK_LEVEL - strlen(level) : 1;
	int r;

	fputs(view_tone(v, tone_of(level)), v->out);
	view_text(v, level);
	fprintf(v->out, "%s%*s", view_plain(v), (int)pad, "");
	r = print_pair(v, row_text(check, "name"), row_text(check, "text"), strlen(level) + pad,
		CHECK_LEVEL + 2);
	if (r < 0 || !fix)
		return r;
	fprintf(v->out, "%*s", CHECK_LEVEL + 2, "");
	return print_pair(v, "fix", fix, CHECK_LEVEL + 2, CHECK_LEVEL + 7);
}

static json_t *no_daemon(const struct options *o)
{
	/* what to do there, standard error said */
	if (o->host)
		return json_pack("{s:[{s:s,s:s,s:s+}]}", "checks", "name", "daemon", "level",
			"failure", "text", "no daemon answers at ", o->host);
	return json_pack("{s:[{s:s,s:s,s:s+,s:s+++}]}", "checks", "name", "daemon", "level",
		"failure", "text", "no daemon answers at ", o->socket_path, "fix", "portledgerd",
		o->socket_given ? " --socket " : "", o->socket_given ? o->socket_path : "",
		o->socket_given ? " --state DIR" : "");
}

static bool all_ok(const json_t *checks)
{
	const json_t *check;
	size_t i;

	json_array_foreach(
		checks, i, check) if (!streq(row_text(check, "level"), "ok")) return false;
	return true;
}

static enum status print_checks(const struct view *v, const json_t *reply)
{
	const json_t *checks = json_object_get(reply, "checks"), *check;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;
	size_t i;

	if (v->options->output == OUTPUT_TABLE && v->options->column_count == 0) {
		json_array_foreach(
			checks, i, check) if (print_check(v, check) < 0) return complain_memory();
		return STATUS_FOUND;
	}
	status = ask_writer(v, &kind_checks, false, &w);
	if (status == STATUS_FOUND)
		status = write_rows(w, checks);
	if (status == STATUS_FOUND && writer_finish(w, NULL, NULL) < 0)
		return complain_memory();
	return status;
}

enum status verb_doctor(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *reply = NULL;
	enum status open, status;

	if (o->self_test > 0)
		return verb_self_test(o, v);
	open = ask_open(o, true, &c);
	if (open != STATUS_FOUND && open != STATUS_NO_DAEMON)
		return open;
	if (open == STATUS_FOUND)
		open = ask(&c, "Doctor", json_object(), &shape_doctor, &reply);
	if (open == STATUS_NO_DAEMON)
		reply = no_daemon(o);
	else if (open != STATUS_FOUND)
		return open;
	if (!reply)
		return complain_memory();
	status = print_checks(v, reply);
	if (status != STATUS_FOUND || open == STATUS_NO_DAEMON)
		return status != STATUS_FOUND ? status : open;
	return all_ok(json_object_get(reply, "checks")) ? STATUS_FOUND : STATUS_NOTHING;
}
