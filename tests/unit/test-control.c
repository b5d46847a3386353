/* SPDX-License-Identifier: MIT */

/* Calls that are refused, broken or shared, a ledger that restarts, and clients or descriptors at their limit. */

#include <sys/pidfd.h>

#include "daemon/handover.h"
#include "tests/unit/control-peers.h"

static int setup_few_descriptors(void **state)
{
	struct fixture *f = new_fixture(0);

	start_control(f, 24);
	*state = f;
	return 0;
}

static const struct {
	const char *call, *error, *parameters;
} errors[] = {
	{"{\"method\":\"foo\"}", SERVICE "InterfaceNotFound", "{\"interface\":\"foo\"}"},
	{"{\"method\":\"a.b.C\"}", SERVICE "InterfaceNotFound", "{\"interface\":\"a.b\"}"},
	{"{\"method\":\"" LEDGER "Nope\"}", SERVICE "MethodNotFound",
		"{\"method\":\"" LEDGER "Nope\"}"},
	{"{\"method\":\"" LEDGER "Status\",\"upgrade\":true}", SERVICE "MethodNotImplemented",
		"{\"method\":\"" LEDGER "Status\"}"},
	{"{\"method\":\"" LEDGER "Status\",\"parameters\":{\"x\":1}}", SERVICE "InvalidParameter",
		"{\"parameter\":\"x\"}"},
	{"{\"method\":\"" LEDGER "Follow\"}", SERVICE "ExpectedMore", "{}"},
	{"{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"interface\"}"},
	{"{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{\"interface\":\"x\"}}",
		SERVICE "InterfaceNotFound", "{\"interface\":\"x\"}"},
	{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":0}}", LEDGER "InvalidRange",
		"{\"parameter\":\"port\"}"},
	{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":65536}}",
		LEDGER "InvalidRange", "{\"parameter\":\"port\"}"},
	{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":\"1\"}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"port\"}"},
	{"{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":1,\"protocol\":\"ip\"}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"protocol\"}"},
	{"{\"method\":\"" LEDGER "Audit\",\"parameters\":{\"since_usec\":2,\"until_usec\":1}}",
		LEDGER "InvalidRange", "{\"parameter\":\"since_usec\"}"},
	{"{\"method\":\"" LEDGER "Activity\",\"parameters\":{\"since_usec\":1,\"until_usec\":2}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"step_usec\"}"},
	{"{\"method\":\"" LEDGER
	 "Activity\",\"parameters\":{\"since_usec\":1,\"until_usec\":2,\"step_usec\":0}}",
		LEDGER "InvalidRange", "{\"parameter\":\"step_usec\"}"},
	{"{\"method\":\"" LEDGER
	 "Activity\",\"parameters\":{\"since_usec\":9,\"until_usec\":20,\"step_usec\":5,"
	 "\"origin_usec\":4}}",
		LEDGER "InvalidRange", "{\"parameter\":\"origin_usec\"}"},
	{"{\"method\":\"" LEDGER
	 "Activity\",\"parameters\":{\"since_usec\":9,\"until_usec\":20,\"step_usec\":5,"
	 "\"origin_usec\":10}}",
		LEDGER "InvalidRange", "{\"parameter\":\"origin_usec\"}"},
	/* 512 steps are the most, and none is no window */
	{"{\"method\":\"" LEDGER
	 "Occupancy\",\"parameters\":{\"since_usec\":0,\"until_usec\":513,\"step_usec\":1}}",
		LEDGER "InvalidRange", "{\"parameter\":\"step_usec\"}"},
	{"{\"method\":\"" LEDGER
	 "Occupancy\",\"parameters\":{\"since_usec\":5,\"until_usec\":5,\"step_usec\":1}}",
		LEDGER "InvalidRange", "{\"parameter\":\"until_usec\"}"},
	/* the future */
	{"{\"method\":\"" LEDGER
	 "Who\",\"parameters\":{\"port\":50000,\"from_usec\":9007199254740990,"
	 "\"until_usec\":9007199254740991}}",
		LEDGER "InvalidRange", "{\"parameter\":\"from_usec\"}"},
	{"{\"method\":\"" LEDGER
	 "Audit\",\"parameters\":{\"since_usec\":0,\"until_usec\":9007199254740993}}",
		LEDGER "InvalidRange", "{\"parameter\":\"until_usec\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"limit\":0}}", LEDGER "InvalidRange",
		"{\"parameter\":\"limit\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"x\":1}}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"filter.x\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"ports\":[1,0]}}}",
		LEDGER "InvalidRange", "{\"parameter\":\"filter.ports\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"range\":\"9-8\"}}}",
		LEDGER "InvalidRange", "{\"parameter\":\"filter.range\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"range\":\"1- 8\"}}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"filter.range\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"filter\":{\"peer\":\"::g\"}}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"filter.peer\"}"},
	{"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"cursor\":\"1.15.0\"}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"cursor\"}"},
	{"{\"method\":\"" LEDGER
	 "Claims\",\"parameters\":{\"cursor\":\"1.15.0.9.1.0.0.0.0.0.012\"}}",
		SERVICE "InvalidParameter", "{\"parameter\":\"cursor\"}"},
};

static void test_errors(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);

	for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
		peer_call(&p, errors[i].call);
		assert_error(&p, errors[i].error, errors[i].parameters);
	}
	assert_quiet(f); /* and the ledger was not troubled */
	peer_close(&p);
}

static void test_frames(void **state)
{
	static const char call[] = "{\"method\":\"" SERVICE "GetInfo\"}";
	static const char oneway[] = "{\"method\":\"" SERVICE "GetInfo\",\"oneway\":true}";
	static const char *const broken[] = {"x", "[]", "{}", "{\"method\":\"a.B\",\"x\":1}",
		"{\"method\":\"a.B\",\"more\":true,\"oneway\":true}"};
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	char *big = calloc(1, LIMIT_FRAME_BYTES + 1);

	/* more than one turn serves, in one write; those without a reply among them */
	for (unsigned i = 0; i < 3 * LIMIT_CALLS_PER_TURN; i++) {
		memcpy(big + i * (sizeof(call) + sizeof(oneway)), call, sizeof(call));
		memcpy(big + i * (sizeof(call) + sizeof(oneway)) + sizeof(call), oneway,
			sizeof(oneway));
	}
	peer_send(&p, big, 3 * LIMIT_CALLS_PER_TURN * (sizeof(call) + sizeof(oneway)));
	assert_int_equal(shutdown(p.fd, SHUT_WR), 0); /* what was asked is answered all the same */
	for (unsigned i = 0; i < 3 * LIMIT_CALLS_PER_TURN; i++) {
		struct varlink_reply reply = peer_reply(&p);

		assert_null(reply.error);
		varlink_reply_done(&reply);
	}
	assert_true(peer_is_closed(&p));
	peer_close(&p);

	/* as large as a frame may be, and one byte more */
	for (unsigned extra = 0; extra <= 1; extra++) {
		p = peer_connect(f);
		memset(big, ' ', LIMIT_FRAME_BYTES + 1);
		memcpy(big, call, sizeof(call) - 1);
		big[LIMIT_FRAME_BYTES - 1 + extra] = '\0';
		peer_send(&p, big, LIMIT_FRAME_BYTES + extra);
		assert_int_equal(peer_is_closed(&p), extra);
		peer_close(&p);
	}
	free(big);

	for (size_t i = 0; i < ELEMENTSOF(broken); i++) {
		p = peer_connect(f);
		peer_call(&p, broken[i]);
		assert_true(peer_is_closed(&p));
		peer_close(&p);
	}
}

/* What control sends is taken at once from here on, all of it. */
static void take_at_once(const struct fixture *f)
{
	const int room = 32 << 20;
	int pidfd = pidfd_open(f->pid, 0), widened = 0;

	assert_true(pidfd >= 0);
	for (int theirs = STDERR_FILENO + 1; theirs < 64; theirs++) {
		int fd = pidfd_getfd(pidfd, theirs, 0);

		if (fd < 0)
			continue;
		widened += setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0;
		(void)close(fd);
	}
	(void)close(pidfd);
	assert_true(widened > 0);
}

/* So many calls that their answers may not all wait, from one who asks no more: when all that waits is taken at once, the rest of the
 * calls is still to be answered. */
static void test_more_calls_than_may_wait(void **state)
{
	static const char call[] =
		"{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{\"interface\":"
		"\"org.portledger.ledger\"}}";
	enum { CALLS = 140, TAKEN = 12 };
	char calls[CALLS * sizeof(call)];
	struct fixture *f = *state;
	int pidfd = pidfd_open(f->pid, 0);
	size_t bytes = 0;
	struct peer p;

	if (pidfd < 0 && errno == ENOSYS) {
		print_message("cannot run here: valgrind knows no pidfd_open\n");
		skip();
	}
	(void)close(pidfd);
	p = peer_connect(f);
	for (size_t i = 0; i < CALLS; i++)
		memcpy(calls + i * sizeof(call), call, sizeof(call));
	assert_int_equal(kill(f->pid, SIGSTOP), 0);
	peer_send(&p, calls, sizeof(calls));
	assert_int_equal(shutdown(p.fd, SHUT_WR), 0);
	assert_int_equal(kill(f->pid, SIGCONT), 0);
	for (size_t i = 0; i < CALLS; i++) {
		struct varlink_reply reply;

		/* no more may wait; when some of it is taken, that no more is asked is read, and all waits again */
		for (size_t turn = 0; i <= TAKEN && i % TAKEN == 0 && turn < 20; turn++)
			barrier(f);
		if (i == TAKEN)
			take_at_once(f);
		reply = peer_reply(&p);
		assert_null(reply.error);
		bytes +=
			strlen(json_string_value(json_object_get(reply.parameters, "description")));
		varlink_reply_done(&reply);
	}
	assert_true(bytes > 2 * LIMIT_OUTPUT_BYTES);
	assert_true(peer_is_closed(&p));
	peer_close(&p);
}

/* Questions that come while a look is under way share the next one; that one does not count for them. */
static void test_shared_look(void **state)
{
	struct fixture *f = *state;
	struct peer p[4];
	char expected[96];
	uint64_t first, second;

	for (size_t i = 0; i < ELEMENTSOF(p); i++)
		p[i] = peer_connect(f);
	peer_call(&p[0], "{\"method\":\"" LEDGER "Sync\"}");
	first = next_sync(f);
	for (size_t i = 1; i < ELEMENTSOF(p); i++)
		peer_call(&p[i], "{\"method\":\"" LEDGER "Sync\"}");
	assert_quiet(f);
	commit_until(f, first, 1000, true);
	assert_reply(&p[0], "{\"commit\":1,\"until_usec\":1000}");
	second = next_sync(f);
	assert_true(second > first);
	assert_quiet(f);
	commit_until(f, second, 2000, true);
	(void)snprintf(expected, sizeof(expected), "{\"commit\":2,\"until_usec\":2000}");
	for (size_t i = 1; i < ELEMENTSOF(p); i++)
		assert_reply(&p[i], expected);
	/* capture did not answer: no look */
	peer_call(&p[0], "{\"method\":\"" LEDGER "Sync\"}");
	commit_until(f, next_sync(f), 3000, false);
	assert_error(&p[0], LEDGER "StoreUnavailable",
		"{\"reason\":\"capture did not answer in time\"}");
	/* what is all in the past needs none */
	peer_call(&p[0],
		"{\"method\":\"" LEDGER
		"Who\",\"parameters\":{\"port\":50000,\"from_usec\":1,\"until_usec\":3000}}");
	assert_reply(&p[0],
		"{\"claims\":[],\"coverage\":{\"coalesced\":[],\"complete\":false,\"degraded\":[],"
		"\"from_usec\":1,\"gaps\":[],"
		"\"lost\":null,\"stretches\":[{\"failures\":false,\"from_usec\":5,\"interval_usec\":1000000,"
		"\"source\":\"sweep\",\"udp_connect\":false,\"until_usec\":3000}],\"until_usec\":3000}}");
	assert_quiet(f);
	peer_call(&p[0],
		"{\"method\":\"" LEDGER
		"Who\",\"parameters\":{\"port\":50000,\"from_usec\":1,\"until_usec\":3001}}");
	commit(f, next_sync(f));
	assert_false(peer_is_closed(&p[0]));
	for (size_t i = 0; i < ELEMENTSOF(p); i++)
		peer_close(&p[i]);
}

static void assert_status(struct peer *p, const char *degraded, bool watching)
{
	struct varlink_reply reply = peer_reply(p);
	const json_t *list = json_object_get(reply.parameters, "degraded");

	assert_null(reply.error);
	assert_int_equal(json_array_size(list), degraded != NULL);
	if (degraded)
		assert_string_equal(json_string_value(json_array_get(list, 0)), degraded);
	assert_int_equal(json_is_true(json_object_get(reply.parameters, "watching")), watching);
	varlink_reply_done(&reply);
}

static void assert_degraded_receipt(struct peer *p, const char *expected)
{
	struct varlink_reply reply = peer_reply(p);
	const json_t *list =
		json_object_get(json_object_get(reply.parameters, "coverage"), "degraded");

	assert_null(reply.error);
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_array_get(list, 0)), expected);
	varlink_reply_done(&reply);
}

static void test_ledger_restarts(void **state)
{
	static const char until_now[] =
		"{\"method\":\"" LEDGER
		"Who\",\"parameters\":{\"port\":50000,\"from_usec\":1,\"until_usec\":1900000000000000}}";
	static const char status[] = "{\"method\":\"" LEDGER "Status\"}";
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	int link[2];

	peer_call(&p, status);
	commit(f, next_sync(f));
	assert_status(&p, NULL, true);
	/* it dies with a question in hand; the answer still comes, and says what it is worth */
	peer_call(&p, status);
	(void)next_sync(f);
	(void)close(f->link);
	assert_status(&p, "ledger is restarting", false);
	peer_call(&p, status);
	assert_status(&p, "ledger is restarting", false);
	peer_call(&p, until_now);
	assert_degraded_receipt(&p, "ledger is restarting");
	peer_call(&p, "{\"method\":\"" LEDGER "Sync\"}");
	assert_error(&p, LEDGER "StoreUnavailable", "{\"reason\":\"ledger is restarting\"}");
	/* a new one */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, link), 0);
	assert_int_equal(handover_send(f->supervisor, HANDOVER_LEDGER, link[1]), 0);
	(void)close(link[1]);
	f->link = link[0];
	barrier(f);
	peer_call(&p, status);
	commit(f, next_sync(f));
	assert_status(&p, NULL, true);
	peer_close(&p);
}

static void test_too_many_clients(void **state)
{
	struct fixture *f = *state;
	unsigned limit = geteuid() == 0 ? LIMIT_CLIENTS : LIMIT_CLIENTS_PER_UID;
	struct peer *p = calloc(limit + 1, sizeof(*p));
	char expected[32];

	for (unsigned i = 0; i < limit; i++) {
		struct varlink_reply reply;

		p[i] = peer_connect(f);
		peer_call(&p[i], "{\"method\":\"" SERVICE "GetInfo\"}");
		reply = peer_reply(&p[i]);
		assert_null(reply.error);
		varlink_reply_done(&reply);
	}
	p[limit] = peer_connect(f);
	(void)snprintf(expected, sizeof(expected), "{\"limit\":%u}", limit);
	assert_error(&p[limit], LEDGER "TooManyClients", expected);
	assert_true(peer_is_closed(&p[limit]));
	for (unsigned i = 0; i <= limit; i++)
		peer_close(&p[i]);
	free(p);
}

/* Out of descriptors, it turns clients away instead of spinning or leaving them hanging, and recovers. */
static void test_few_descriptors(void **state)
{
	struct fixture *f = *state;
	const char *preload = getenv("LD_PRELOAD");
	struct peer p[32];
	unsigned served = 0;

	if (preload && strstr(preload, "vgpreload")) {
		print_message("cannot run here: valgrind keeps no limit of descriptors\n");
		skip();
	}
	for (size_t i = 0; i < ELEMENTSOF(p); i++) {
		struct varlink_reply reply;

		p[i] = peer_connect(f);
		peer_call(&p[i], "{\"method\":\"" SERVICE "GetInfo\"}");
		if (!peer_receive(&p[i], &reply))
			break;
		varlink_reply_done(&reply);
		served++;
	}
	assert_true(served > 2 && served < 24);
	for (size_t i = 0; i <= served; i++)
		peer_close(&p[i]);
	barrier(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_errors, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_frames, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(
			test_more_calls_than_may_wait, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_shared_look, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_ledger_restarts, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_clients, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(
			test_few_descriptors, setup_few_descriptors, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
