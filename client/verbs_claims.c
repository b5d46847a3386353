/* SPDX-License-Identifier: MIT */

/*
 * who, now and history: claims, and the receipt. Pages are pulled one by one with the cursor rather than streamed: a
 * pager may keep us waiting for as long as someone reads, and a daemon cuts whoever takes nothing.
 */

#include "client/ask.h"
#include "client/receipt.h"
#include "client/shape.h"

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

static enum status ask_who(
	const struct options *o, struct connection *c, const struct window *window, json_t **ret)
{
	json_t *parameters = json_pack("{s:i,s:I,s:I,s:o}", "port", o->ports[0], "from_usec",
		(json_int_t)window->from, "until_usec", (json_int_t)window->until, "filter",
		options_filter(o));

	return ask(c, "Who", parameters, &shape_who, ret);
}

/* What was there through both windows is one claim. */
static int append_new(json_t *claims, const json_t *more)
{
	size_t known = json_array_size(claims), i;
	json_t *claim;

	json_array_foreach((json_t *)(uintptr_t)more, i, claim)
	{
		bool found = false;

		for (size_t k = 0; k < known && !found; k++)
			found = json_equal(json_array_get(claims, k), claim);
		if (!found && json_array_append(claims, claim) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Asks each window, gathers the claims and the receipts. */
static enum status gather_who(const struct options *o, usec_t now, json_t *claims, json_t *receipts)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	struct window windows[WHEN_WINDOWS_MAX];
	int count = who_windows(o, now, windows);
	enum status status = ask_open(o, false, &c);

	for (int i = 0; i < count && status == STATUS_FOUND; i++) {
		_cleanup_(json_decrefp) json_t *reply = NULL;

		status = ask_who(o, &c, &windows[i], &reply);
		if (status != STATUS_FOUND)
			return status;
		if (append_new(claims, json_object_get(reply, "claims")) < 0 ||
			json_array_append(receipts, json_object_get(reply, "coverage")) < 0)
			return complain_memory();
	}
	return status;
}

enum status verb_who(const struct options *o, struct view *v)
{
	_cleanup_(json_decrefp) json_t *claims = json_array(), *receipts = json_array();
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	status = ask_writer(v, &kind_claims, false, &w);
	if (status == STATUS_FOUND)
		status = gather_who(o, v->now, claims, receipts);
	if (status == STATUS_FOUND)
		status = write_rows(w, claims);
	if (status != STATUS_FOUND)
		return status;
	if (writer_count(w) == 0)
		say_nothing(v, receipts);
	if (writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	return answer_status(o, writer_count(w), receipts);
}

static int set_if(json_t *object, const char *name, bool given, json_int_t value)
{
	return given && json_object_set_new(object, name, json_integer(value)) < 0 ? -ENOMEM : 0;
}

/* NULL: no memory. */
static json_t *claims_parameters(const struct options *o, const char *cursor)
{
	json_t *parameters =
		json_pack("{s:b,s:o}", "open", o->verb == VERB_NOW, "filter", options_filter(o));

	if (!parameters)
		return NULL;
	if (set_if(parameters, "since_usec", o->since != USEC_UNSET, (json_int_t)o->since) < 0 ||
		set_if(parameters, "until_usec", o->until != USEC_UNSET, (json_int_t)o->until) <
			0 ||
		set_if(parameters, "limit", o->limit > 0, o->limit) < 0 ||
		(cursor && json_object_set_new(parameters, "cursor", json_string(cursor)) < 0)) {
		json_decref(parameters);
		return NULL;
	}
	return parameters;
}

/* All pages; the last one has the receipt. */
static enum status ask_pages(
	const struct options *o, struct connection *c, struct writer *w, json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *reply = NULL;
	const char *cursor = NULL;

	do {
		_cleanup_(json_decrefp) json_t *page = NULL;
		json_t *coverage;
		enum status status;

		status = ask(c, "Claims", claims_parameters(o, cursor), &shape_claims, &page);
		if (status == STATUS_FOUND)
			status = write_rows(w, json_object_get(page, "claims"));
		if (status != STATUS_FOUND)
			return status;
		coverage = json_object_get(page, "coverage");
		if (json_is_object(coverage) && json_array_append(receipts, coverage) < 0)
			return complain_memory();
		json_decref(reply);
		reply = TAKE_PTR(page);
		cursor = row_text(reply, "cursor");
	} while (cursor && !ferror(stdout));
	return STATUS_FOUND;
}

static enum status answer_claims(const struct options *o, struct view *v, const struct kind *k)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *receipts = json_array();
	_cleanup_(writer_free_p) struct writer *w = NULL;
	enum status status;

	status = ask_writer(v, k, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = ask_pages(o, &c, w, receipts);
	if (status != STATUS_FOUND)
		return status;
	if (json_array_size(receipts) != 1) {
		complain("the daemon's answer has no receipt");
		return STATUS_ERROR;
	}
	if (writer_count(w) == 0)
		say_nothing(v, receipts);
	if (writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	return answer_status(o, writer_count(w), receipts);
}

enum status verb_history(const struct options *o, struct view *v)
{
	return answer_claims(o, v, &kind_claims);
}

enum status verb_now(const struct options *o, struct view *v)
{
	return answer_claims(o, v, &kind_open_claims);
}
