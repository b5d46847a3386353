/* SPDX-License-Identifier: MIT */

/* Each parameter of each method, of another kind than it is, past its range, or null: it is named, and the next call is answered. */

#include "tests/unit/control-peers.h"

#define CALL(m, ...) "{\"method\":\"" LEDGER m "\",\"parameters\":{" __VA_ARGS__ "}}"
#define PAST         "\"since_usec\":5,\"until_usec\":9"
#define STEP         PAST ",\"step_usec\":2"
#define FLOW(...)    CALL("Annotate", "\"flows\":[{" __VA_ARGS__ "}]")
#define FLOW_TIME    "\"at_usec\":7,"
#define FLOW_FROM    "\"source\":\"127.0.0.1\",\"source_port\":1,"
#define FLOW_TO      "\"destination\":\"::1\",\"destination_port\":2"
#define CURSOR       "1.15.1.2.9.0.0.0.0.0."

static const struct {
	const char *call, *parameter;
} invalid[] = {
	{CALL("Status", "\"x\":null"), "x"},
	{CALL("Who", "\"port\":null,\"from_usec\":1,\"until_usec\":2"), "port"},
	{CALL("Who", "\"port\":1,\"from_usec\":1"), "until_usec"},
	{CALL("Who", "\"port\":1,\"from_usec\":1.5,\"until_usec\":2"), "from_usec"},
	{CALL("Who", "\"port\":1,\"from_usec\":1,\"until_usec\":2,\"protocol\":\"sctp\""),
		"protocol"},
	{CALL("Who", "\"port\":1,\"from_usec\":1,\"until_usec\":2,\"protocol\":6"), "protocol"},
	{CALL("Who", "\"port\":1,\"from_usec\":1,\"until_usec\":2,\"cursor\":\"1\""), "cursor"},
	{CALL("Who", "\"port\":1,\"from_usec\":1,\"until_usec\":2,\"filter\":{\"uid\":\"x\"}"),
		"filter.uid"},
	{CALL("Claims", "\"open\":1"), "open"},
	{CALL("Claims", "\"filter\":[]"), "filter"},
	{CALL("Claims", "\"limit\":true"), "limit"},
	{CALL("Claims", "\"filter\":{\"ports\":1}"), "filter.ports"},
	{CALL("Claims", "\"filter\":{\"ports\":[\"1\"]}"), "filter.ports"},
	{CALL("Claims", "\"filter\":{\"protocol\":\"sctp\"}"), "filter.protocol"},
	{CALL("Claims", "\"filter\":{\"protocol\":1}"), "filter.protocol"},
	{CALL("Claims", "\"filter\":{\"role\":\"open\"}"), "filter.role"},
	{CALL("Claims", "\"filter\":{\"role\":1}"), "filter.role"},
	{CALL("Claims", "\"filter\":{\"app\":1}"), "filter.app"},
	{CALL("Claims", "\"filter\":{\"unit\":[]}"), "filter.unit"},
	{CALL("Claims", "\"filter\":{\"netns\":7}"), "filter.netns"},
	{CALL("Claims", "\"filter\":{\"pid\":{}}"), "filter.pid"},
	{CALL("Claims", "\"filter\":{\"peer_port\":\"443\"}"), "filter.peer_port"},
	{CALL("Claims", "\"filter\":{\"address\":1}"), "filter.address"},
	{CALL("Claims", "\"filter\":{\"address\":\"localhost\"}"), "filter.address"},
	{CALL("Claims", "\"filter\":{\"peer\":1}"), "filter.peer"},
	{CALL("Claims", "\"filter\":{\"range\":1}"), "filter.range"},
	{CALL("Claims", "\"filter\":{\"range\":\"1-\"}"), "filter.range"},
	{CALL("Claims", "\"filter\":{\"range\":\"1-2-3\"}"), "filter.range"},
	/* a place is ours, but comes from a client */
	{CALL("Claims", "\"cursor\":\"" CURSOR "x\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"" CURSOR "0-000000\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.15.1.2.9.0.0.0.0.0\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.15.3.2.9.0.0.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.15.1.9999999999999999999.9.0.0.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.15.1.2.9.99999999999.0.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.15.1.2.9.0.-1.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.15.1.2.9.0.9000000000000000000.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.7.1.2.9.0.0.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"cursor\":\"1.8.1.2.9.0.0.0.0.0.\""), "cursor"},
	{CALL("Claims", "\"open\":true,\"cursor\":\"" CURSOR "\""), "cursor"},
	{CALL("Released", "\"cursor\":\"x\""), "cursor"},
	{CALL("Released", "\"cursor\":\"1\""), "cursor"},
	{CALL("Released", "\"cursor\":\"9-1-1-1\""), "cursor"},
	{CALL("Released", "\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Audit", PAST ",\"by\":\"colour\""), "by"},
	{CALL("Audit", PAST ",\"by\":1"), "by"},
	{CALL("Audit", PAST ",\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Listeners", "\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Pressure", "\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Apps", "\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Apps", "\"name\":1"), "name"},
	{CALL("Apps", "\"new\":\"yes\""), "new"},
	{CALL("Activity", STEP ",\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Occupancy", STEP ",\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Receipt", PAST ",\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Failures", "\"filter\":{\"x\":1}"), "filter.x"},
	{CALL("Failures", "\"filter\":{\"role\":\"bound\"}"), "filter.role"},
	{CALL("Failures", "\"cursor\":\"x\""), "cursor"},
	{CALL("Failures", "\"cursor\":\"1-2-3-4\""), "cursor"},
	{CALL("Failures", "\"cursor\":\"1-2-3-4-5-\""), "cursor"},
	{CALL("Failures", "\"cursor\":\"3-2-3-4-5\""), "cursor"},
	{CALL("Failures", "\"cursor\":\"1-9999999999999999999-3-4-5\""), "cursor"},
	{CALL("Explain", "\"port\":1,\"netns\":1"), "netns"},
	{CALL("Annotate", "\"flows\":{}"), "flows"},
	{CALL("Annotate", "\"flows\":[1]"), "flows"},
	{FLOW(FLOW_FROM FLOW_TO), "flows"},
	{FLOW("\"at_usec\":-1," FLOW_FROM FLOW_TO), "flows"},
	{FLOW("\"at_usec\":9007199254740993," FLOW_FROM FLOW_TO), "flows"},
	{FLOW(FLOW_TIME "\"until_usec\":6," FLOW_FROM FLOW_TO), "flows"},
	{FLOW(FLOW_TIME "\"until_usec\":\"8\"," FLOW_FROM FLOW_TO), "flows"},
	{FLOW(FLOW_TIME FLOW_TO), "flows"},
	{FLOW(FLOW_TIME "\"source\":\"x\",\"source_port\":1," FLOW_TO), "flows"},
	{FLOW(FLOW_TIME "\"source\":\"127.0.0.1\",\"source_port\":65536," FLOW_TO), "flows"},
	{FLOW(FLOW_TIME FLOW_FROM "\"destination\":1"), "flows"},
	{FLOW(FLOW_TIME FLOW_FROM FLOW_TO ",\"protocol\":\"sctp\""), "flows"},
	{FLOW(FLOW_TIME FLOW_FROM FLOW_TO ",\"protocol\":6"), "flows"},
};

static const struct {
	const char *call, *parameter;
} out_of_range[] = {
	{CALL("Who", "\"port\":0,\"from_usec\":1,\"until_usec\":2"), "port"},
	{CALL("Who", "\"port\":1,\"from_usec\":-1,\"until_usec\":2"), "from_usec"},
	{CALL("Who", "\"port\":1,\"from_usec\":3,\"until_usec\":2"), "from_usec"},
	{CALL("Claims", "\"limit\":1000000000000"), "limit"},
	{CALL("Claims", "\"since_usec\":-1"), "since_usec"},
	{CALL("Claims", "\"filter\":{\"ports\":[65536]}"), "filter.ports"},
	{CALL("Claims", "\"filter\":{\"uid\":-1}"), "filter.uid"},
	{CALL("Claims", "\"filter\":{\"uid\":4294967295}"), "filter.uid"},
	{CALL("Claims", "\"filter\":{\"pid\":0}"), "filter.pid"},
	{CALL("Claims", "\"filter\":{\"peer_port\":0}"), "filter.peer_port"},
	{CALL("Claims", "\"filter\":{\"range\":\"0-5\"}"), "filter.range"},
	{CALL("Claims", "\"filter\":{\"range\":\"5-65536\"}"), "filter.range"},
	{CALL("Released", "\"since_usec\":-1"), "since_usec"},
	{CALL("Audit", "\"since_usec\":-1,\"until_usec\":1"), "since_usec"},
	{CALL("Listeners", "\"bound_usec\":-1"), "bound_usec"},
	{CALL("Listeners", "\"since_usec\":-1"), "since_usec"},
	{CALL("Pressure", "\"limit\":0"), "limit"},
	{CALL("Pressure", "\"since_usec\":-1"), "since_usec"},
	{CALL("Apps", "\"since_usec\":-1"), "since_usec"},
	{CALL("Activity", "\"since_usec\":-1,\"until_usec\":1,\"step_usec\":1"), "since_usec"},
	{CALL("Activity", STEP ",\"origin_usec\":-1"), "origin_usec"},
	{CALL("Occupancy", PAST ",\"step_usec\":-1"), "step_usec"},
	{CALL("Receipt", "\"since_usec\":9,\"until_usec\":5"), "since_usec"},
	{CALL("Failures", "\"limit\":0"), "limit"},
	{CALL("Failures", "\"until_usec\":-1"), "until_usec"},
	{CALL("Explain", "\"port\":-1"), "port"},
};

static const char *const answered[] = {
	CALL("Who",
		"\"port\":1,\"from_usec\":1,\"until_usec\":2,\"protocol\":null,\"filter\":null"),
	CALL("Claims", "\"filter\":{\"ports\":[],\"app\":null,\"range\":\"iana\"},\"open\":false"),
	CALL("Claims", "\"filter\":{\"range\":\"kernel\"}"),
	CALL("Claims", "\"cursor\":\"" CURSOR "\""),
	CALL("Claims", "\"cursor\":\"" CURSOR "7f000001\""),
	CALL("Claims", "\"cursor\":\"" CURSOR "00000000000000000000000000000001\""),
	CALL("Audit", PAST ",\"by\":null"),
	CALL("Failures", "\"cursor\":\"1-2-3-4-5\",\"limit\":7"),
	FLOW(FLOW_TIME "\"until_usec\":null," FLOW_FROM FLOW_TO ",\"protocol\":null"),
	FLOW(FLOW_TIME "\"until_usec\":7," FLOW_FROM FLOW_TO ",\"protocol\":\"udp\""),
	"{\"method\":\"" LEDGER "Status\"}",
};

/* `call` is answered, whether it needs a look or not. */
static void assert_answered(struct fixture *f, struct peer *p, const char *call)
{
	struct pollfd fds[] = {{.fd = p->fd, .events = POLLIN}, {.fd = f->link, .events = POLLIN}};
	struct varlink_reply reply;

	peer_call(p, call);
	assert_true(poll(fds, 2, PATIENCE) > 0);
	if (fds[1].revents & POLLIN)
		commit(f, next_sync(f));
	reply = peer_reply(p);
	if (reply.error)
		fail_msg("%s: %s", call, reply.error);
	varlink_reply_done(&reply);
}

static void refuse(struct peer *p, const char *call, const char *error, const char *parameter)
{
	char expected[64];

	(void)snprintf(expected, sizeof(expected), "{\"parameter\":\"%s\"}", parameter);
	print_message("  %s\n", call);
	peer_call(p, call);
	assert_error(p, error, expected);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);

	for (size_t i = 0; i < ELEMENTSOF(invalid); i++)
		refuse(&p, invalid[i].call, SERVICE "InvalidParameter", invalid[i].parameter);
	for (size_t i = 0; i < ELEMENTSOF(out_of_range); i++)
		refuse(&p, out_of_range[i].call, LEDGER "InvalidRange", out_of_range[i].parameter);
	assert_quiet(f); /* and the ledger was not troubled */
	for (size_t i = 0; i < ELEMENTSOF(answered); i++)
		assert_answered(f, &p, answered[i]);
	peer_close(&p);
}

/* More than there may be of a thing. */
static void test_too_many(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	_cleanup_(buf_done) struct buf call = {0};

	assert_int_equal(
		buf_append_string(&call, "{\"method\":\"" LEDGER
					 "Claims\",\"parameters\":{\"filter\":{\"ports\":[1"),
		0);
	for (unsigned i = 0; i < LIMIT_FILTER_PORTS; i++)
		assert_int_equal(buf_append_string(&call, ",1"), 0);
	assert_int_equal(buf_append(&call, "]}}}", sizeof("]}}}")), 0);
	refuse(&p, (const char *)buf_bytes(&call), SERVICE "InvalidParameter", "filter.ports");
	buf_done(&call);
	assert_int_equal(buf_append_string(&call,
				 "{\"method\":\"" LEDGER "Annotate\",\"parameters\":{\"flows\":[1"),
		0);
	for (unsigned i = 0; i < LIMIT_FLOWS; i++)
		assert_int_equal(buf_append_string(&call, ",1"), 0);
	assert_int_equal(buf_append(&call, "]}}", sizeof("]}}")), 0);
	refuse(&p, (const char *)buf_bytes(&call), SERVICE "InvalidParameter", "flows");
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refused, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
