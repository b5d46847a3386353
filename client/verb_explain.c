/* SPDX-License-Identifier: MIT */

/* portledger PORT: the question in one number. Without a daemon it looks for itself, and says what it cannot know. */

#include <arpa/inet.h>
#include <netdb.h>

#include "client/ask.h"
#include "client/cells.h"
#include "client/explain.h"
#include "client/format.h"
#include "client/local_now.h"
#include "client/receipt.h"
#include "client/shape.h"

#define LABEL 9 /* columns */

static void print_line(const struct view *v, const char *label, struct buf *text)
{
	if (buf_put_u8(text, 0) < 0)
		return;
	fprintf(v->out, "%s%-*s%s", view_tone(v, TONE_FAINT), LABEL, label, view_plain(v));
	view_wrapped(v, v->out, (const char *)buf_bytes(text), LABEL, LABEL);
}

static enum status print_claims(
	const struct view *v, const char *heading, const struct kind *k, const json_t *claims)
{
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	if (json_array_size(claims) == 0)
		return STATUS_FOUND;
	fprintf(v->out, "\n%s\n", heading);
	status = ask_writer(v, k, false, &w);
	if (status == STATUS_FOUND)
		status = write_rows(w, claims);
	if (status == STATUS_FOUND && writer_finish(w, NULL, NULL) < 0)
		return complain_memory();
	return status;
}

/* Not without a daemon: then there is no history to count. */
static int print_counts(const struct view *v, const json_t *reply)
{
	char day[FORMAT_MAX], ever[FORMAT_MAX], span[FORMAT_MAX], first[FORMAT_TIME_MAX];
	usec_t at = row_time(reply, "first_usec"), median = row_time(reply, "median_usec");
	long long programs = row_int(reply, "programs_day", 0);
	_cleanup_(buf_done) struct buf b = {0};
	int r;

	if (!json_is_object(json_object_get(reply, "coverage")))
		return 0;
	r = buf_append_format(&b, "%s in the last day",
		format_count((uint64_t)row_int(reply, "claims_day", 0), day));
	if (r == 0 && programs > 0)
		r = buf_append_format(
			&b, " by %lld program%s", programs, format_plural((uint64_t)programs));
	if (r == 0)
		r = buf_append_format(&b, ", %s ever",
			format_count((uint64_t)row_int(reply, "claims_ever", 0), ever));
	if (r == 0 && median != USEC_UNSET)
		r = buf_append_format(&b, "; median life %s", format_span(median, span));
	if (r == 0 && at != USEC_UNSET)
		r = buf_append_format(&b, "; first seen %s", format_time(at, v->now, first));
	if (r == 0)
		print_line(v, "claims", &b);
	return r;
}

/* "upd[702] upd.service, 03:12:07.902 to 03:20:00.000": the last that served here. */
static int print_served(const struct view *v, const json_t *reply)
{
	const json_t *claim = json_array_get(json_object_get(reply, "listened"), 0);
	_cleanup_(free_p) char *process = claim ? cell_process(claim, v) : NULL;
	const char *unit = claim ? row_text(claim, "unit") : NULL;
	char opened[FORMAT_TIME_MAX], closed[FORMAT_TIME_MAX];
	_cleanup_(buf_done) struct buf b = {0};
	usec_t until;

	if (!claim)
		return 0;
	if (!process)
		return -ENOMEM;
	until = row_time(claim, "closed_usec");
	if (buf_append_format(&b, "%s%s%s, %s %s%s", process, unit ? " " : "", unit ? unit : "",
		    until == USEC_UNSET ? "since" : "from",
		    format_moment(row_time(claim, "opened_usec"), v->now, opened),
		    until == USEC_UNSET ? "" : " to ") < 0 ||
		(until != USEC_UNSET &&
			buf_append_string(&b,
				format_moment(until, row_time(claim, "opened_usec"), closed)) < 0))
		return -ENOMEM;
	print_line(v, "served", &b);
	return 0;
}

/* A busy listener has more accepted connections than an answer lists. */
static void print_rest(const struct view *v, const json_t *reply)
{
	uint64_t count = (uint64_t)row_int(reply, "claims_now", 0);
	size_t listed = json_array_size(json_object_get(reply, "now"));
	_cleanup_(buf_done) struct buf b = {0};
	char all[FORMAT_MAX];

	if (count > listed &&
		buf_append_format(&b,
			"%s open claims, the first %zu are listed: see portledger now %lld",
			format_count(count, all), listed,
			(long long)row_int(reply, "port", 0)) == 0)
		print_line(v, "now", &b);
}

static enum status print_people(const struct options *o, const struct view *v, const json_t *reply)
{
	_cleanup_(buf_done) struct buf class = {0}, verdict = {0}, advice = {0};
	const json_t *now = json_object_get(reply, "now"), *last = json_object_get(reply, "last");
	enum status status;

	if (buf_append_format(&class, "%u%s%s", o->ports[0], o->protocol ? "/" : "",
		    o->protocol ? o->protocol : "") < 0 ||
		explain_class(reply, &class) < 0 || explain_verdict(reply, v, &verdict) < 0 ||
		explain_advice(reply, &advice) < 0)
		return complain_memory();
	print_line(v, "port", &class);
	print_line(v, "verdict", &verdict);
	print_line(v, "advice", &advice);
	if (print_counts(v, reply) < 0 || print_served(v, reply) < 0)
		return complain_memory();
	print_rest(v, reply);
	status = print_claims(v, "Now", &kind_open_claims, now);
	if (status == STATUS_FOUND)
		status = print_claims(v, "Before", &kind_claims, last);
	if (status == STATUS_FOUND && json_array_size(now) + json_array_size(last) > 0)
		fputc('\n', v->out);
	return status;
}

static enum status print_rows(const struct view *v, const json_t *reply, const json_t *receipts)
{
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status = ask_writer(v, &kind_claims, false, &w);

	if (status == STATUS_FOUND)
		status = write_rows(w, json_object_get(reply, "now"));
	if (status == STATUS_FOUND)
		status = write_rows(w, json_object_get(reply, "last"));
	if (status == STATUS_FOUND && writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	return status;
}

static int fill_users(const struct view *v, json_t *reply, const char *name)
{
	json_t *claims = json_object_get(reply, name);

	for (size_t i = 0; i < json_array_size(claims); i++)
		if (writer_fill_user(v, json_array_get(claims, i)) < 0)
			return -ENOMEM;
	return 0;
}

static enum status print_object(const struct view *v, const json_t *reply)
{
	_cleanup_(json_decrefp) json_t *ordered = shape_order(&shape_explain, reply);

	if (!ordered || fill_users(v, ordered, "now") < 0 || fill_users(v, ordered, "last") < 0 ||
		fill_users(v, ordered, "listened") < 0 || writer_object(v, ordered) < 0)
		return complain_memory();
	return STATUS_FOUND;
}

/* The registered name, of the protocol asked for or of the first that has one. */
static int fill_service(const struct options *o, json_t *reply)
{
	static const char *const protocols[] = {"tcp", "udp"};
	const struct servent *entry = NULL;

	for (size_t i = 0; i < ELEMENTSOF(protocols) && !entry; i++)
		if (!o->protocol || streq(o->protocol, protocols[i]))
			entry = getservbyport(htons(o->ports[0]), protocols[i]);
	return json_object_set_new(
		       reply, "service", entry ? json_string(entry->s_name) : json_null()) < 0
		       ? -ENOMEM
		       : 0;
}

/* `receipts` is NULL where there was no daemon. */
static enum status print_answer(
	const struct options *o, const struct view *v, json_t *reply, const json_t *receipts)
{
	enum status status;

	if (fill_service(o, reply) < 0)
		return complain_memory();
	switch (o->output) {
	case OUTPUT_JSON_SHORT:
	case OUTPUT_JSON_PRETTY:
		return print_object(v, reply);
	case OUTPUT_CSV:
	case OUTPUT_FIELD:
		return print_rows(v, reply, receipts);
	case OUTPUT_TABLE:
		break;
	}
	status = print_people(o, v, reply);
	if (status == STATUS_FOUND && receipts && writer_receipts(v, v->out, receipts) < 0)
		return complain_memory();
	return status;
}

static size_t found(const json_t *reply)
{
	return json_array_size(json_object_get(reply, "now")) +
	       json_array_size(json_object_get(reply, "last"));
}

/* The receipt of a look of our own: there is no history. */
static void say_no_history(const struct options *o, const struct view *v)
{
	fflush(v->out);
	if (o->output == OUTPUT_TABLE) {
		_cleanup_(free_p) char *text = NULL;

		if (asprintf(&text,
			    "Coverage: only this moment, in this network namespace%s; history is missing: "
			    "no daemon answers at %s",
			    geteuid() == 0 ? "" : ", processes of other users unnamed",
			    o->socket_path) < 0)
			text = NULL;
		view_wrapped(v, v->out, text ? text : "Coverage: only this moment", 0, 2);
		return;
	}
	complain("history is missing: no daemon answers at %s", o->socket_path);
}

static enum status explain_alone(const struct options *o, const struct view *v)
{
	_cleanup_(json_decrefp) json_t *reply = NULL;
	enum status status;
	int r;

	r = local_now(o->ports[0], o->protocol, &reply);
	if (r < 0) {
		complain("the kernel's sockets cannot be read: %s", strerror(-r));
		complain_no_daemon(o);
		return STATUS_ERROR;
	}
	status = print_answer(o, v, reply, NULL);
	if (status != STATUS_FOUND)
		return status;
	say_no_history(o, v);
	if (o->strict)
		return STATUS_INCOMPLETE;
	return found(reply) > 0 ? STATUS_FOUND : STATUS_NOTHING;
}

enum status verb_explain(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *reply = NULL, *receipts = NULL;
	enum status status;

	status = ask_open(o, true, &c);
	if (status == STATUS_NO_DAEMON && !o->host && !o->netns)
		return explain_alone(o, v);
	if (status == STATUS_NO_DAEMON && !o->host)
		complain_no_daemon(o);
	if (status == STATUS_FOUND)
		status = ask(&c, "Explain",
			ask_about(ask_about(json_pack("{s:i}", "port", o->ports[0]), "protocol",
					  o->protocol),
				"netns", o->netns),
			&shape_explain, &reply);
	if (status != STATUS_FOUND)
		return status;
	receipts = json_pack("[O]", json_object_get(reply, "coverage"));
	if (!receipts)
		return complain_memory();
	status = print_answer(o, v, reply, receipts);
	return status != STATUS_FOUND ? status : answer_status(o, found(reply), receipts);
}
