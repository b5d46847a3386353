/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Varlink (UAPI.20, the core): framing and messages, without any input or output of its own. Bytes in, messages
 * out. A message is one JSON object and one NUL byte.
 */

#include <jansson.h>

#include "common/buf.h"

/* Finds the first whole message in the buffer: its length without the NUL, or 0 and *ret_size = 0 when there is
 * none yet. -EMSGSIZE: more than `max` bytes without a NUL. 1: found. */
int varlink_frame(const struct buf *b, size_t max, size_t *ret_size) _must_check_;

/*
 * Parses strict JSON: one object, no duplicate keys, valid UTF-8, no NUL, depth at most `depth`, nothing after it.
 * -EBADMSG or -ENOMEM. The depth is checked before the parser runs.
 */
int json_parse(const char *text, size_t size, unsigned depth, json_t **ret) _must_check_;

struct varlink_call {
	char *method;               /* "org.portledger.ledger.Who"; owned */
	json_t *parameters;         /* an object, empty where the call has none; owned */
	bool more, oneway, upgrade; /* at most one */
};
void varlink_call_done(struct varlink_call *c);

/* The server's side: -EBADMSG means that the connection must be closed (bad JSON, no object, no method, an unknown
 * member without a dot, a flag that is no boolean, two flags). */
int varlink_parse_call(const char *text, size_t size, struct varlink_call *ret) _must_check_;

/* "org.portledger.ledger" and "Who" of a method or error name; the last dot divides. -EINVAL. */
int varlink_split(const char *name, char **ret_interface, const char **ret_member) _must_check_;

/* Appends a whole reply. `parameters` is JSON text of an object ("{...}"), NULL for {}. */
int varlink_put_reply(struct buf *b, const char *parameters, bool continues) _must_check_;
int varlink_put_error(struct buf *b, const char *error, const char *parameters) _must_check_;

/* The client's side. `flag` is NULL, "more" or "oneway". */
int varlink_put_call(
	struct buf *b, const char *method, const json_t *parameters, const char *flag) _must_check_;

struct varlink_reply {
	json_t *parameters; /* an object; owned */
	char *error;        /* NULL: none; owned */
	bool continues;
};
void varlink_reply_done(struct varlink_reply *r);
int varlink_parse_reply(const char *text, size_t size, struct varlink_reply *ret) _must_check_;
