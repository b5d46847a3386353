/* SPDX-License-Identifier: MIT */

/*
 * The bytes of a connection: each message is read as a call and as a reply, and what is accepted
 * must survive being written and read again. Messages are copied to allocations of their own, so
 * that a read past one is seen.
 */

#include "tests/fuzz/fuzz.h"

#include "common/limits.h"
#include "common/varlink.h"

/* The only message in the buffer, without its NUL. */
static size_t only_message(const struct buf *b)
{
	size_t size;
	int r = varlink_frame(b, LIMIT_REPLY_BYTES, &size);

	assert(r == 1);
	assert(size + 1 == buf_size(b));
	return size;
}

static void try_call(const char *text, size_t size)
{
	_cleanup_(varlink_call_done) struct varlink_call call = {0}, again = {0};
	_cleanup_(buf_done) struct buf b = {0};
	int r;

	if (varlink_parse_call(text, size, &call) < 0)
		return;
	assert(call.method && json_is_object(call.parameters));
	assert(call.more + call.oneway + call.upgrade <= 1);
	r = varlink_put_call(&b, call.method, call.parameters,
		call.more     ? "more"
		: call.oneway ? "oneway"
			      : NULL);
	assert(r == 0);
	size = only_message(&b);
	r = varlink_parse_call((const char *)buf_bytes(&b), size, &again);
	assert(r == 0);
	assert(streq(again.method, call.method) && json_equal(again.parameters, call.parameters));
	assert(again.more == call.more && again.oneway == call.oneway && !again.upgrade);
}

static void try_reply(const char *text, size_t size)
{
	_cleanup_(varlink_reply_done) struct varlink_reply reply = {0}, again = {0};
	_cleanup_(free_p) char *parameters = NULL;
	_cleanup_(buf_done) struct buf b = {0};
	int r;

	if (varlink_parse_reply(text, size, &reply) < 0)
		return;
	assert(json_is_object(reply.parameters) && !(reply.error && reply.continues));
	parameters = json_dumps(reply.parameters, JSON_COMPACT);
	assert(parameters);
	if (reply.error)
		r = varlink_put_error(&b, reply.error, parameters);
	else
		r = varlink_put_reply(&b, parameters, reply.continues);
	assert(r == 0);
	size = only_message(&b);
	r = varlink_parse_reply((const char *)buf_bytes(&b), size, &again);
	assert(r == 0);
	assert(streq_null(again.error, reply.error) && again.continues == reply.continues);
	assert(json_equal(again.parameters, reply.parameters));
}

static void try_message(const uint8_t *bytes, size_t size)
{
	_cleanup_(free_p) char *text = malloc(size > 0 ? size : 1);

	assert(text);
	if (size > 0)
		memcpy(text, bytes, size);
	try_call(text, size);
	try_reply(text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(buf_done) struct buf b = {0};
	size_t message;

	if (buf_append(&b, data, size) < 0)
		abort();
	while (varlink_frame(&b, LIMIT_FRAME_BYTES, &message) == 1) {
		assert(message < buf_size(&b) && message <= LIMIT_FRAME_BYTES);
		try_message(buf_bytes(&b), message);
		buf_consume(&b, message + 1);
	}
	if (buf_size(&b) > 0)
		try_message(buf_bytes(&b), buf_size(&b));
	return 0;
}
