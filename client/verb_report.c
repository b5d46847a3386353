/* SPDX-License-Identifier: MIT */

/* All is asked before the file is begun, so that no answer leaves no file. */

#include <limits.h>

#include "client/ask.h"
#include "client/format.h"
#include "client/outfile.h"
#include "client/receipt.h"
#include "client/render.h"
#include "client/report.h"
#include "client/shape.h"

/* Columns of the heat map: so many have room for numbers. Steps of the pressure: two pixels each. */
#define HEAT_STEPS     26u
#define PRESSURE_STEPS 320u

struct answers {
	json_t *activity, *occupancy, *claims, *receipts; /* owned */
};

static void answers_done(struct answers *a)
{
	json_decref(a->activity);
	json_decref(a->occupancy);
	json_decref(a->claims);
	json_decref(a->receipts);
}

static json_t *stepped(const struct options *o, struct window w, unsigned steps)
{
	usec_t step = axis_step(w, steps);

	return json_pack("{s:I,s:I,s:I,s:I,s:o}", "since_usec", (json_int_t)w.from, "until_usec",
		(json_int_t)w.until, "step_usec", (json_int_t)step, "origin_usec",
		(json_int_t)axis_origin(w.from, step), "filter", options_filter(o));
}

static enum status take_claims(void *context, const json_t *claims)
{
	for (size_t i = 0; i < json_array_size(claims); i++)
		if (json_array_append(context, json_array_get(claims, i)) < 0)
			return complain_memory();
	return STATUS_FOUND;
}

/* A program, a user or a port is worth to be seen claim by claim. */
static bool wants_timeline(const struct options *o)
{
	return o->app || o->unit || o->pid >= 0 || o->uid >= 0 || o->port_count > 0 || o->peer;
}

static enum status ask_claims(
	struct connection *c, const struct options *o, struct window w, struct answers *a)
{
	_cleanup_(json_decrefp) json_t *parameters = json_pack("{s:I,s:I,s:I,s:o}", "since_usec",
		(json_int_t)w.from, "until_usec", (json_int_t)w.until, "limit",
		(json_int_t)REPORT_CLAIMS, "filter", options_filter(o));

	a->claims = json_array();
	return ask_pages(c, "Claims", parameters, take_claims, a->claims, a->receipts);
}

static enum status ask_all(
	struct connection *c, const struct options *o, struct window w, struct answers *a)
{
	enum status status =
		ask(c, "Activity", stepped(o, w, HEAT_STEPS), &shape_activity, &a->activity);

	a->receipts = json_array();
	if (status == STATUS_FOUND)
		status = ask_unless(c, "Occupancy", stepped(o, w, PRESSURE_STEPS), &shape_occupancy,
			"QueryTooLong", &a->occupancy);
	if (status == STATUS_FOUND && wants_timeline(o))
		status = ask_claims(c, o, w, a);
	if (status == STATUS_FOUND &&
		json_array_append(a->receipts, json_object_get(a->activity, "coverage")) < 0)
		return complain_memory();
	return status;
}

static enum status complain_file(const char *path, int r)
{
	if (r == -EEXIST)
		complain("%s: there is something that is no regular file", path);
	else
		complain("%s: %s", path, strerror(-r));
	return STATUS_ERROR;
}

/* What was made of how much, and the receipt. */
static enum status say(const struct options *o, const struct view *v, const struct answers *a)
{
	const json_t *coverage = json_object_get(a->activity, "coverage");
	_cleanup_(buf_done) struct buf b = {0};
	uint64_t claims = (uint64_t)row_int(a->activity, "claims", 0);
	char text[FORMAT_MAX];

	if (o->no_legend)
		return STATUS_FOUND;
	view_text(v, o->report_path);
	fprintf(v->out, ": %s claim%s\n", format_count(claims, text), format_plural(claims));
	if (receipt_text(coverage, v, &b) < 0 || buf_put_u8(&b, 0) < 0)
		return complain_memory();
	view_wrapped(v, v->out, (const char *)buf_bytes(&b), 0, 2);
	writer_degraded(v, v->out, json_object_get(coverage, "degraded"));
	return STATUS_FOUND;
}

/* Why a picture could not be made: what the file took no more of is still waiting for it. */
static enum status complain_report(const char *path, FILE *f)
{
	if (!ferror(f))
		return complain_memory();
	return complain_file(path, fflush(f) == EOF ? -errno : -EIO);
}

static enum status write_file(const struct options *o, const struct report *r)
{
	_cleanup_(outfile_done) struct outfile file = OUTFILE_NONE;
	int e = outfile_open(o->report_path, &file);

	if (e < 0)
		return complain_file(o->report_path, e);
	e = report_write(r, o->report_svg ? REPORT_SVG : REPORT_HTML, file.file);
	if (e < 0)
		return complain_report(o->report_path, file.file);
	e = outfile_commit(&file);
	return e < 0 ? complain_file(o->report_path, e) : STATUS_FOUND;
}

enum status verb_report(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(answers_done) struct answers a = {0};
	struct window w = {o->since, o->until != USEC_UNSET ? o->until : v->now + 1};
	char host[HOST_NAME_MAX + 1] = "";
	enum status status = ask_open(o, false, &c);

	if (status == STATUS_FOUND)
		status = ask_all(&c, o, w, &a);
	if (status != STATUS_FOUND)
		return status;
	(void)gethostname(host, sizeof(host) - 1);
	status = write_file(o, &(struct report){
				       .view = v,
				       .host = o->host ? o->host
					       : *host ? host
						       : NULL,
				       .window = w,
				       .activity = a.activity,
				       .occupancy = a.occupancy,
				       .claims = a.claims,
			       });
	if (status == STATUS_FOUND)
		status = say(o, v, &a);
	return status != STATUS_FOUND
		       ? status
		       : answer_status(o, (size_t)row_int(a.activity, "claims", 0), a.receipts);
}
