/* SPDX-License-Identifier: MIT */

/*
 * Filters, against the real server and a database of claims of many kinds: whatever a client asks for, it is refused by name, or the
 * answer has the claims that are so, all of them and no other, as a look at each claim says. The input is a list of members: which
 * one, of what kind its value is, and the value.
 */

#include "tests/fuzz/fuzz.h"

#include "tests/fuzz/control-world.h"

#include "common/endpoint.h"
#include "common/limits.h"

#define TURNS 1000u

static const char *const members[] = {"ports", "protocol", "app", "unit", "uid", "pid", "address",
	"peer", "peer_port", "netns", "role", "range", "PORTS"};

/* What may be meant. */
static const char *const words[] = {"tcp", "udp", "mptcp", "connected", "listening", "bound",
	"curl", "/usr/bin/curl", "node", "session-3.scope", "web-api.service", "celery@1.service",
	"127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "10.0.0.3", "::1", "iana", "kernel",
	"60000-60010", "60099-65535", "1-1", "%", "*", "", "'"};

struct input {
	const uint8_t *at, *end;
};

static uint8_t take_byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static uint16_t take_short(struct input *in)
{
	uint8_t high = take_byte(in);

	return (uint16_t)(high << 8 | take_byte(in));
}

/* NULL: bytes that no JSON can have. */
static json_t *take_text(struct input *in)
{
	size_t size = MIN((size_t)take_byte(in), (size_t)(in->end - in->at));
	const char *text = (const char *)in->at;

	in->at += size;
	return memchr(text, 0, size) ? NULL : json_stringn(text, size);
}

static json_t *take_list(struct input *in)
{
	size_t count = take_byte(in) % 80; /* more than are allowed, too */
	json_t *list = json_array();

	for (size_t i = 0; i < count && in->at < in->end; i++)
		(void)json_array_append_new(list, json_integer(take_short(in)));
	return list;
}

static json_t *take_value(struct input *in)
{
	switch (take_byte(in) % 8) {
	case 0:
		return take_text(in);
	case 1:
		return json_string(words[take_byte(in) % ELEMENTSOF(words)]);
	case 2:
		return json_integer(take_byte(in));
	case 3:
		return json_integer(take_short(in));
	case 4:
		return json_integer((json_int_t)((UINT64_C(1) << take_byte(in) % 64) - 1));
	case 5:
		return take_list(in);
	case 6:
		return json_null();
	default:
		return json_object();
	}
}

static json_t *take_filter_of(struct input *in)
{
	json_t *filter = json_object();

	while (in->at < in->end) {
		const char *name = members[take_byte(in) % ELEMENTSOF(members)];
		json_t *value = take_value(in);

		if (value && json_object_set_new(filter, name, value) < 0)
			abort();
	}
	return filter;
}

/* Is the member of the row this text, or this number? */
static bool is(const json_t *row, const char *name, const json_t *wanted)
{
	return json_equal(json_object_get(row, name), wanted);
}

static bool has_port(const json_t *ports, const json_t *port)
{
	const json_t *one;
	size_t i;

	json_array_foreach(ports, i, one) if (json_equal(one, port)) return true;
	return json_array_size(ports) == 0;
}

static bool is_app(const json_t *row, const json_t *wanted)
{
	const char *exe = json_string_value(json_object_get(row, "exe"));
	const char *name = json_string_value(wanted), *slash = exe ? strrchr(exe, '/') : NULL;

	return is(row, "comm", wanted) || is(row, "exe", wanted) ||
	       (slash && streq(slash + 1, name));
}

static bool is_address(const json_t *row, const char *name, const json_t *wanted)
{
	const char *text = json_string_value(json_object_get(row, name));
	struct address a, b;

	return text && address_parse(text, &a) == 0 &&
	       address_parse(json_string_value(wanted), &b) == 0 && address_equal(&a, &b);
}

static bool is_in_range(const json_t *row, const json_t *wanted)
{
	json_int_t port = json_integer_value(json_object_get(row, "port"));
	const char *text = json_string_value(wanted);
	char *end;

	if (streq(text, "iana"))
		return port >= 49152;
	if (streq(text, "kernel")) /* as make_database() has it */
		return port >= 32768 && port <= 60999;
	return port >= strtol(text, &end, 10) && port <= strtol(end + 1, NULL, 10);
}

static bool matches(const json_t *row, const char *name, const json_t *wanted)
{
	if (json_is_null(wanted))
		return true;
	if (streq(name, "ports"))
		return has_port(wanted, json_object_get(row, "port"));
	if (streq(name, "app"))
		return is_app(row, wanted);
	if (streq(name, "address"))
		return is_address(row, "local_address", wanted);
	if (streq(name, "peer"))
		return is_address(row, "remote_address", wanted);
	if (streq(name, "peer_port"))
		return is(row, "remote_port", wanted);
	if (streq(name, "range"))
		return is_in_range(row, wanted);
	if (streq(name, "netns")) /* none of the claims' is known */
		return false;
	return is(row, name, wanted);
}

static bool matches_all(const json_t *row, json_t *filter)
{
	const char *name;
	json_t *wanted;

	json_object_foreach(filter, name, wanted) if (!matches(row, name, wanted)) return false;
	return true;
}

/* Takes the replies that are there. Returns whether the last was among them. */
static bool take_replies(struct buf *b, json_t *rows, char **ret_error)
{
	bool last = false;
	size_t size;

	while (varlink_frame(b, LIMIT_REPLY_BYTES, &size) == 1) {
		struct varlink_reply reply = {0};
		int r = varlink_parse_reply((const char *)buf_bytes(b), size, &reply);

		assert(r == 0 && !last);
		r = json_array_extend(rows, json_object_get(reply.parameters, "claims"));
		assert(r == 0 || reply.error);
		*ret_error = TAKE_PTR(reply.error);
		last = !reply.continues;
		varlink_reply_done(&reply);
		buf_consume(b, size + 1);
	}
	return last;
}

/* Asks for all claims that are so. NULL: refused. */
static json_t *ask(json_t *filter)
{
	_cleanup_(json_decrefp) json_t *parameters = json_pack("{s:O}", "filter", filter);
	_cleanup_(free_p) char *error = NULL;
	_cleanup_(close_p) int fd = connect_client();
	struct buf b = {0};
	json_t *rows = json_array();
	bool last = false;
	int r = varlink_put_call(&b, "org.portledger.ledger.Claims", parameters, "more");

	assert(r == 0 && rows);
	if (send(fd, buf_bytes(&b), buf_size(&b), MSG_NOSIGNAL) != (ssize_t)buf_size(&b))
		abort();
	buf_consume(&b, buf_size(&b));
	for (unsigned i = 0; i < TURNS && !last; i++) {
		void *room = buf_reserve(&b, 65536);
		ssize_t n;

		(void)event_base_loop(world.base, EVLOOP_NONBLOCK);
		assert(room);
		n = recv(fd, room, 65536, MSG_DONTWAIT);
		if (n > 0)
			buf_grow(&b, (size_t)n);
		last = take_replies(&b, rows, &error);
	}
	assert(last);
	buf_done(&b);
	if (!error)
		return rows;
	assert(streq(error, "org.varlink.service.InvalidParameter") ||
		streq(error, "org.portledger.ledger.InvalidRange"));
	json_decref(rows);
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static json_t *all;
	struct input in = {data, data + size};
	_cleanup_(json_decrefp) json_t *filter = take_filter_of(&in), *rows = NULL;
	const json_t *row;
	size_t found = 0, i;

	make_world();
	if (!all) {
		_cleanup_(json_decrefp) json_t *any = json_object();

		all = ask(any);
		assert(json_array_size(all) == CLAIMS);
	}
	rows = ask(filter);
	if (rows) {
		json_array_foreach(all, i, row) if (matches_all(row, filter))
		{
			assert(json_equal(json_array_get(rows, found), row));
			found++;
		}
		assert(json_array_size(rows) == found);
	}
	/* the server hears that the client is gone */
	(void)event_base_loop(world.base, EVLOOP_NONBLOCK);
	return 0;
}
