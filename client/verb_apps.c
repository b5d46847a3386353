/* SPDX-License-Identifier: MIT */

/* apps: every program that is known. app NAME: one of them, with what it did last. */

#include "client/ask.h"
#include "client/cells_ports.h"
#include "client/format.h"
#include "client/receipt.h"
#include "client/shape_ports.h"

#define LAST_CLAIMS 10
#define LABEL       9 /* columns */

/* NULL: no memory. */
static json_t *make_parameters(const struct options *o)
{
	json_t *parameters =
		json_pack("{s:b,s:o}", "new", o->only_new, "filter", options_filter(o));
	const struct {
		const char *name;
		usec_t value; /* USEC_UNSET: the daemon's own */
	} times[] = {{"since_usec", o->since}, {"until_usec", o->until}};
	json_t *name = o->name ? json_string(o->name) : json_null();

	if (json_object_set_new(parameters, "name", name) < 0) {
		json_decref(parameters);
		return NULL;
	}
	for (size_t i = 0; i < ELEMENTSOF(times); i++)
		if (times[i].value != USEC_UNSET &&
			json_object_set_new(parameters, times[i].name,
				json_integer((json_int_t)times[i].value)) < 0) {
			json_decref(parameters);
			return NULL;
		}
	return parameters;
}

static void say_none(const struct view *v, const json_t *reply)
{
	const struct options *o = v->options;

	if (o->output != OUTPUT_TABLE || o->no_legend)
		return;
	if (o->name)
		fputs("No program of that name was ever seen.\n", v->out);
	else if (!receipt_watched(json_object_get(reply, "coverage")))
		fputs("Nothing can be said: nobody was watching then.\n", v->out);
	else
		fputs(o->only_new ? "No program was seen for the first time.\n"
				  : "No program was seen yet.\n",
			v->out);
}

static enum status print_rows(
	const struct options *o, const struct view *v, const json_t *reply, const json_t *receipts)
{
	const json_t *rows = json_object_get(reply, "apps");
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status = ask_writer(v, &kind_apps, false, &w);
	int64_t omitted = row_int(reply, "omitted", 0);

	if (status != STATUS_FOUND)
		return status;
	if (json_array_size(rows) == 0)
		say_none(v, reply);
	status = write_rows(w, rows);
	if (status != STATUS_FOUND)
		return status;
	if (omitted > 0)
		complain("%lld more programs did not fit into the answer", (long long)omitted);
	if (writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	return answer_status(o, json_array_size(rows), receipts);
}

/* Takes `text`; NULL: no memory. */
static int print_line(const struct view *v, const char *label, char *text)
{
	if (!text)
		return -ENOMEM;
	fprintf(v->out, "%s%-*s%s", view_tone(v, TONE_FAINT), LABEL, label, view_plain(v));
	view_wrapped(v, v->out, text, LABEL, LABEL);
	free(text);
	return 0;
}

/* "3,240, 2.3 an hour, on 2,911 ports (32768-60999): connected 3,200, bound 40"; how many an hour only of whole hours. */
static char *claims_text(const json_t *app, const json_t *coverage)
{
	static const char *const roles[] = {"connected", "listening", "bound", "accepted"};
	usec_t from = MAX(row_time(coverage, "from_usec"), row_time(app, "first_usec"));
	usec_t length = usec_sub(row_time(coverage, "until_usec"), from);
	int64_t claims = row_int(app, "claims", 0);
	_cleanup_(buf_done) struct buf b = {0};
	char count[FORMAT_MAX], ports[FORMAT_MAX];
	const char *between = ": ";

	if (buf_append_format(&b, "%s", format_count((uint64_t)claims, count)) < 0)
		return NULL;
	if (claims > 0 && length >= USEC_PER_HOUR &&
		buf_append_format(&b, ", %.1f an hour",
			(double)claims * (double)USEC_PER_HOUR / (double)length) < 0)
		return NULL;
	if (claims > 0 &&
		buf_append_format(&b, ", on %s port%s (%lld-%lld)",
			format_count((uint64_t)row_int(app, "ports", 0), ports),
			format_plural((uint64_t)row_int(app, "ports", 0)),
			(long long)row_int(app, "low", 0), (long long)row_int(app, "high", 0)) < 0)
		return NULL;
	for (size_t i = 0; i < ELEMENTSOF(roles); i++) {
		int64_t of = row_int(app, roles[i], 0);

		if (of == 0)
			continue;
		if (buf_append_format(&b, "%s%s %s", between, roles[i],
			    format_count((uint64_t)of, count)) < 0)
			return NULL;
		between = ", ";
	}
	return strndup((const char *)buf_bytes(&b), buf_size(&b));
}

static char *seen_text(const json_t *app, const struct view *v)
{
	usec_t first = row_time(app, "first_usec");
	_cleanup_(free_p) char *last = cell_app_last(app, v);
	char text[FORMAT_TIME_MAX];

	return last ? cell_print("first %s%s, last %s",
			      format_moment(first - first % USEC_PER_SEC, v->now, text),
			      row_true(app, "new") ? " (new)" : "", last)
		    : NULL;
}

static int print_profile(const struct view *v, const json_t *app, const json_t *coverage)
{
	int r = print_line(v, "program", cell_member(app, "name"));

	if (r == 0)
		r = print_line(v, "seen", seen_text(app, v));
	if (r == 0)
		r = print_line(v, "claims", claims_text(app, coverage));
	if (r == 0)
		r = print_line(v, "mostly", cell_app_preferred(app, v));
	if (r == 0)
		r = print_line(v, "serves", cell_app_serves(app, v));
	if (r == 0)
		r = print_line(v, "units", cell_app_units(app, v));
	return r == 0 ? print_line(v, "users", cell_app_users(app, v)) : r;
}

static enum status print_last(const struct view *v, const json_t *claims)
{
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	if (json_array_size(claims) == 0)
		return STATUS_FOUND;
	fputs("\nLast\n", v->out);
	status = ask_writer(v, &kind_claims, false, &w);
	if (status == STATUS_FOUND)
		status = write_rows(w, claims);
	if (status == STATUS_FOUND && writer_finish(w, NULL, NULL) < 0)
		return complain_memory();
	fputc('\n', v->out);
	return status;
}

static enum status print_profiles(const struct options *o, const struct view *v,
	const json_t *reply, const json_t *claims, const json_t *receipts)
{
	const json_t *apps = json_object_get(reply, "apps"), *app;
	enum status status;
	size_t i;

	if (json_array_size(apps) == 0)
		say_none(v, reply);
	json_array_foreach(apps, i, app)
	{
		if (i > 0)
			fputc('\n', v->out);
		if (print_profile(v, app, json_object_get(reply, "coverage")) < 0)
			return complain_memory();
	}
	status = print_last(v, claims);
	if (status != STATUS_FOUND)
		return status;
	if (writer_receipts(v, v->out, receipts) < 0)
		return complain_memory();
	return answer_status(o, json_array_size(apps), receipts);
}

/* The newest claims of whatever is called so. */
static enum status ask_last(
	const struct options *o, struct connection *c, const json_t *reply, json_t **ret)
{
	_cleanup_(json_decrefp) json_t *page = NULL;
	json_t *filter = options_filter(o);
	enum status status;

	if (!filter || json_object_set_new(filter, "app", json_string(o->name)) < 0) {
		json_decref(filter);
		return complain_memory();
	}
	if (json_array_size(json_object_get(reply, "apps")) == 0) {
		json_decref(filter);
		*ret = json_array();
		return *ret ? STATUS_FOUND : complain_memory();
	}
	status = ask(c, "Claims", json_pack("{s:o,s:i}", "filter", filter, "limit", LAST_CLAIMS),
		&shape_claims, &page);
	if (status == STATUS_FOUND)
		*ret = json_incref(json_object_get(page, "claims"));
	return status;
}

enum status verb_apps(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *reply = NULL, *receipts = NULL, *last = NULL;
	enum status status = ask_open(o, false, &c);

	if (status == STATUS_FOUND)
		status = ask(&c, "Apps", make_parameters(o), &shape_apps, &reply);
	if (status != STATUS_FOUND)
		return status;
	receipts = json_pack("[O]", json_object_get(reply, "coverage"));
	if (!receipts)
		return complain_memory();
	if (!o->name || o->output != OUTPUT_TABLE || o->column_count > 0)
		return print_rows(o, v, reply, receipts);
	status = ask_last(o, &c, reply, &last);
	return status != STATUS_FOUND ? status : print_profiles(o, v, reply, last, receipts);
}
