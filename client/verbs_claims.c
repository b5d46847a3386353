/* SPDX-License-Identifier: MIT */

/* who, now and history: claims, and the receipt. */

#include "client/ask.h"
#include "client/cells.h"
#include "client/translated.h"

#define TOGETHER_MAX 8u /* sentences about rows that stand for many */

/* The windows to ask: --at, else --since and --until, else this moment. Returns how many. */
static int who_windows(
	const struct options *o, usec_t now, struct window ret[static WHEN_WINDOWS_MAX])
{
	if (o->at_count > 0) {
		memcpy(ret, o->at, (size_t)o->at_count * sizeof(*ret));
		return o->at_count;
	}
	ret[0] = (struct window){now, now + 1};
	if (o->since != USEC_UNSET || o->until != USEC_UNSET)
		ret[0] = (struct window){o->since != USEC_UNSET ? o->since : 0,
			o->until != USEC_UNSET ? o->until : now + 1};
	return 1;
}

/* Where the claims of who go. A local time that happens twice has two windows; what was there through both is one
 * claim. */
struct who {
	struct writer *writer;
	const struct view *view;
	json_t *together; /* a sentence for each row that stands for many claims */
	json_t *known;    /* claims of the first window, where there is a second */
	bool keep;        /* this is the first of two */
};

/* What stands for many must not look like one. */
static int note_together(struct who *who, const json_t *claim)
{
	_cleanup_(free_p) char *text = NULL;

	if (claim_count(claim) <= 1 || json_array_size(who->together) >= TOGETHER_MAX)
		return 0;
	text = claim_together(claim, who->view);
	return text ? json_array_append_new(who->together, json_string(text)) : -ENOMEM;
}

static void say_together(const struct options *o, const struct view *v, const json_t *together)
{
	const json_t *text;
	size_t i;

	if (o->output != OUTPUT_TABLE || o->no_legend)
		return;
	json_array_foreach(together, i, text)
		view_wrapped(v, v->out, json_string_value(text), 0, 2);
}

static enum status take_who(void *context, const json_t *claims)
{
	struct who *who = context;

	for (size_t i = 0; i < json_array_size(claims); i++) {
		json_t *claim = json_array_get(claims, i);
		bool found = false;

		for (size_t k = 0; k < json_array_size(who->known) && !who->keep && !found; k++)
			found = json_equal(json_array_get(who->known, k), claim);
		if (found)
			continue;
		if (writer_row(who->writer, claim) < 0 ||
			(who->keep && json_array_append(who->known, claim) < 0) ||
			note_together(who, claim) < 0)
			return complain_memory();
	}
	return STATUS_FOUND;
}

static enum status ask_who(const struct options *o, struct connection *c, struct window window,
	struct who *who, json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *parameters = json_pack("{s:i,s:I,s:I,s:o}", "port",
		o->ports[0], "from_usec", (json_int_t)window.from, "until_usec",
		(json_int_t)window.until, "filter", options_filter(o));

	return ask_pages(c, "Who", parameters, take_who, who, receipts);
}

/* Ends an answer about the past. */
static enum status finish_claims(
	const struct options *o, const struct view *v, struct writer *w, const json_t *receipts)
{
	if (writer_count(w) == 0)
		say_nothing(v, receipts);
	if (writer_count(w) == 0 && o->verb == VERB_WHO && o->output == OUTPUT_TABLE &&
		!o->no_legend)
		translated_say(v, v->out);
	if (writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	return answer_status(o, writer_count(w), receipts);
}

enum status verb_who(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *receipts = json_array(), *known = json_array(),
				       *together = json_array();
	_cleanup_(writer_free_p) struct writer *w = NULL;
	struct window windows[WHEN_WINDOWS_MAX];
	int count = who_windows(o, v->now, windows);
	enum status status;

	status = ask_writer(v, &kind_who, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	for (int i = 0; i < count && status == STATUS_FOUND; i++) {
		struct who who = {.writer = w,
			.view = v,
			.together = together,
			.known = known,
			.keep = i + 1 < count};

		status = ask_who(o, &c, windows[i], &who, receipts);
	}
	if (status != STATUS_FOUND)
		return status;
	status = finish_claims(o, v, w, receipts);
	say_together(o, v, together);
	return status;
}

static int set_if(json_t *object, const char *name, bool given, json_int_t value)
{
	return given && json_object_set_new(object, name, json_integer(value)) < 0 ? -ENOMEM : 0;
}

/* NULL: no memory. */
static json_t *claims_parameters(const struct options *o)
{
	json_t *parameters =
		json_pack("{s:b,s:o}", "open", o->verb == VERB_NOW, "filter", options_filter(o));

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

static enum status take_claims(void *context, const json_t *claims)
{
	return write_rows(context, claims);
}

static enum status answer_claims(
	const struct options *o, const struct view *v, const struct kind *k)
{
	_cleanup_(json_decrefp) json_t *receipts = json_array(), *parameters = claims_parameters(o);
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	status = ask_writer(v, k, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = ask_pages(&c, "Claims", parameters, take_claims, w, receipts);
	return status != STATUS_FOUND ? status : finish_claims(o, v, w, receipts);
}

enum status verb_history(const struct options *o, struct view *v)
{
	return answer_claims(o, v, &kind_claims);
}

enum status verb_now(const struct options *o, struct view *v)
{
	return answer_claims(o, v, &kind_open_claims);
}
