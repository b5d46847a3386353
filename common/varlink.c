/* SPDX-License-Identifier: MIT */

/*
 * What a peer may send is decided here, in one place and before anyone acts on it: a message either
 * is exactly a call (a reply) as UAPI.20 has it, or -EBADMSG. There is no well-defined answer to a
 * malformed one, so its connection is closed, and nothing above this file ever sees half of a
 * message.
 *
 * jansson does the parsing because it refused every bad input that was tried (duplicate keys, bytes
 * that are not UTF-8, \u0000, lone surrogates, numbers out of range, text after the end). It
 * recurses, up to 2048 levels deep by its own limit; ours is far lower, so that a scanner without
 * recursion looks at the brackets first.
 */

#include "common/varlink.h"

#include "common/escape.h"
#include "common/json.h"
#include "common/limits.h"

int varlink_frame(const struct buf *b, size_t max, size_t *ret_size)
{
	size_t size = buf_size(b);
	const uint8_t *nul = NULL;

	if (size > 0) {
		size_t looked_at = size > max ? max + 1 : size;

		nul = memchr(buf_bytes(b), '\0', looked_at);
	}
	if (!nul && size > max)
		return -EMSGSIZE;
	*ret_size = nul ? (size_t)(nul - buf_bytes(b)) : 0;
	return nul != NULL;
}

/* Whether brackets outside of strings are never nested deeper than `depth`. On text that is not
 * JSON the answer may be either: the parser, which comes next, refuses that by itself. */
static bool is_shallow(const char *text, size_t size, unsigned depth)
{
	unsigned open = 0;
	bool in_string = false;

	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (open == depth)
				return false;
			open++;
		} else if ((c == '}' || c == ']') && open > 0) {
			open--;
		}
	}
	return true;
}

int json_parse(const char *text, size_t size, unsigned depth, json_t **ret)
{
	_cleanup_(json_decrefp) json_t *root = NULL;
	int r;

	if (!is_shallow(text, size, depth))
		return -EBADMSG;
	r = json_read(text, size, JSON_REJECT_DUPLICATES, &root);
	if (r < 0)
		return r;
	if (r == 0 || json_typeof(root) != JSON_OBJECT)
		return -EBADMSG;
	*ret = TAKE_PTR(root);
	return 0;
}

static int take_string(const json_t *value, char **ret)
{
	char *text;

	if (json_typeof(value) != JSON_STRING)
		return -EBADMSG;
	text = strdup(json_string_value(value));
	if (!text)
		return -ENOMEM;
	*ret = text;
	return 0;
}

static int take_flag(const json_t *value, bool *ret)
{
	json_type type = json_typeof(value);

	if (type != JSON_TRUE && type != JSON_FALSE)
		return -EBADMSG;
	*ret = type == JSON_TRUE;
	return 0;
}

/* Absent, null and {} mean the same; the caller fills in the absent one. */
static int take_parameters(json_t *value, json_t **ret)
{
	json_type type = json_typeof(value);
	json_t *parameters;

	if (type != JSON_NULL && type != JSON_OBJECT)
		return -EBADMSG;
	parameters = type == JSON_OBJECT ? json_incref(value) : json_object();
	if (!parameters)
		return -ENOMEM;
	*ret = parameters;
	return 0;
}

/* Vendors may add an object under a name with a dot; anything else is unknown. */
static int ignore_vendor_member(const char *key, const json_t *value)
{
	return strchr(key, '.') && json_typeof(value) == JSON_OBJECT ? 0 : -EBADMSG;
}

void varlink_call_done(struct varlink_call *c)
{
	free(c->method);
	json_decref(c->parameters);
	*c = (struct varlink_call){0};
}

static int take_call_member(struct varlink_call *call, const char *key, json_t *value)
{
	if (streq(key, "method"))
		return take_string(value, &call->method);
	if (streq(key, "parameters"))
		return take_parameters(value, &call->parameters);
	if (streq(key, "more"))
		return take_flag(value, &call->more);
	if (streq(key, "oneway"))
		return take_flag(value, &call->oneway);
	if (streq(key, "upgrade"))
		return take_flag(value, &call->upgrade);
	return ignore_vendor_member(key, value);
}

int varlink_parse_call(const char *text, size_t size, struct varlink_call *ret)
{
	_cleanup_(varlink_call_done) struct varlink_call call = {0};
	_cleanup_(json_decrefp) json_t *root = NULL;
	int r;

	r = json_parse(text, size, LIMIT_JSON_DEPTH, &root);
	if (r < 0)
		return r;
	for (void *i = json_object_iter(root); i; i = json_object_iter_next(root, i)) {
		r = take_call_member(&call, json_object_iter_key(i), json_object_iter_value(i));
		if (r < 0)
			return r;
	}
	if (!call.method || call.more + call.oneway + call.upgrade > 1)
		return -EBADMSG;
	if (!call.parameters)
		call.parameters = json_object();
	if (!call.parameters)
		return -ENOMEM;
	*ret = call;
	call = (struct varlink_call){0};
	return 0;
}

void varlink_reply_done(struct varlink_reply *r)
{
	free(r->error);
	json_decref(r->parameters);
	*r = (struct varlink_reply){0};
}

static int take_reply_member(struct varlink_reply *reply, const char *key, json_t *value)
{
	if (streq(key, "parameters"))
		return take_parameters(value, &reply->parameters);
	if (streq(key, "error"))
		return take_string(value, &reply->error);
	if (streq(key, "continues"))
		return take_flag(value, &reply->continues);
	return ignore_vendor_member(key, value);
}

int varlink_parse_reply(const char *text, size_t size, struct varlink_reply *ret)
{
	_cleanup_(varlink_reply_done) struct varlink_reply reply = {0};
	_cleanup_(json_decrefp) json_t *root = NULL;
	int r;

	r = json_parse(text, size, LIMIT_JSON_DEPTH, &root);
	if (r < 0)
		return r;
	for (void *i = json_object_iter(root); i; i = json_object_iter_next(root, i)) {
		r = take_reply_member(&reply, json_object_iter_key(i), json_object_iter_value(i));
		if (r < 0)
			return r;
	}
	if (reply.error && reply.continues)
		return -EBADMSG;
	if (!reply.parameters)
		reply.parameters = json_object();
	if (!reply.parameters)
		return -ENOMEM;
	*ret = reply;
	reply = (struct varlink_reply){0};
	return 0;
}

int varlink_split(const char *name, char **ret_interface, const char **ret_member)
{
	const char *dot = strrchr(name, '.');
	char *interface;

	if (!dot || dot == name || dot[1] == '\0')
		return -EINVAL;
	interface = strndup(name, (size_t)(dot - name));
	if (!interface)
		return -ENOMEM;
	*ret_interface = interface;
	*ret_member = dot + 1;
	return 0;
}

/* {"KIND":"NAME","parameters":PARAMETERS,"FLAG":true} and a NUL; without a kind (a plain reply) its
 * member is left out, and so is the flag. */
static int append_message(
	struct buf *b, const char *kind, const char *name, const char *parameters, const char *flag)
{
	int r;

	r = buf_append_string(b, "{");
	if (r >= 0 && kind)
		r = buf_append_format(b, "\"%s\":", kind);
	if (r >= 0 && kind)
		r = escape_json(b, name);
	if (r >= 0)
		r = buf_append_string(b, kind ? ",\"parameters\":" : "\"parameters\":");
	if (r >= 0)
		r = buf_append_string(b, parameters ? parameters : "{}");
	if (r >= 0 && flag)
		r = buf_append_format(b, ",\"%s\":true", flag);
	if (r >= 0)
		r = buf_append(b, "}", sizeof("}"));
	return r;
}

/* A whole message or nothing: half of one would be read together with the next. */
static int put_message(
	struct buf *b, const char *kind, const char *name, const char *parameters, const char *flag)
{
	size_t before = buf_size(b);
	int r;

	r = append_message(b, kind, name, parameters, flag);
	if (r < 0)
		buf_truncate(b, before);
	return r;
}

int varlink_put_reply(struct buf *b, const char *parameters, bool continues)
{
	return put_message(b, NULL, NULL, parameters, continues ? "continues" : NULL);
}

int varlink_put_error(struct buf *b, const char *error, const char *parameters)
{
	return put_message(b, "error", error, parameters, NULL);
}

int varlink_put_call(struct buf *b, const char *method, const json_t *parameters, const char *flag)
{
	_cleanup_(free_p) char *text = NULL;
	int r = parameters ? json_write(parameters, JSON_COMPACT, &text) : 0;

	if (r < 0)
		return r;
	return put_message(b, "method", method, text, flag);
}
