/* SPDX-License-Identifier: MIT */

/* What Status and Doctor say of each way in which the daemon may watch, and of what it lacks. */

#include "tests/unit/control-peers.h"

#define ALL_PORTS                                                                                  \
	{                                                                                          \
		{{1, UINT16_MAX}}, 1                                                               \
	}

/* What a way to watch may lack. */
enum {
	BOUND_ONLY = 1,
	FOREIGN = 2,
	NETNS = 4,
	UDP_CONNECT = 8,
	FAILURES = 16,
	EPHEMERAL = 32, /* is not known */
};

static const struct {
	const char *title;
	enum source rung;
	unsigned lacks;
	struct port_ranges ranges;
	const char *degraded; /* as the ledger says it */
	bool silent, blind;   /* capture did not answer; no sweep was whole yet */
	const char *said[3];  /* by Doctor, each in a check of its own */
	const char *unsaid;
	const char *status; /* in Status */
} ways[] = {
	{"all is well", .rung = SOURCE_EVENTS, .ranges = ALL_PORTS,
		.said = {"events: every claim is seen"}, .unsaid = "\"level\":\"warning\"",
		.status = "\"degraded\":[]"},
	{"destroy", .rung = SOURCE_DESTROY, .ranges = ALL_PORTS,
		.said = {"every claim that lasts 2 ms"}, .status = "\"rung\":\"destroy\""},
	{"sweeps", .rung = SOURCE_SWEEP, .ranges = ALL_PORTS, .said = {"looked at every 2 ms"},
		.status = "\"rung\":\"sweep\""},
	{"/proc/net", .rung = SOURCE_PROCNET, .ranges = ALL_PORTS,
		.said = {"no inet_diag", "modprobe"}, .status = "\"rung\":\"procnet\""},
	{"nobody has told yet: as the database says", .rung = SOURCE_EVENTS,
		.unsaid = "every claim is seen", .status = "\"rung\":\"sweep\""},
	{"few rights", .rung = SOURCE_EVENTS, .lacks = FOREIGN, .ranges = ALL_PORTS,
		.said = {"processes of other users cannot be named"}, .status = "only their uid"},
	{"an old kernel", .rung = SOURCE_EVENTS, .lacks = BOUND_ONLY, .ranges = ALL_PORTS,
		.said = {"older than 6.8"}},
	{"what is not asked for", .rung = SOURCE_EVENTS, .lacks = NETNS | UDP_CONNECT | FAILURES,
		.ranges = ALL_PORTS,
		.said = {"UdpConnect=yes", "Failures=yes", "own network namespace"}},
	{"sweeps do not lack what only events have", .rung = SOURCE_SWEEP,
		.lacks = UDP_CONNECT | FAILURES, .ranges = ALL_PORTS, .unsaid = "UdpConnect"},
	{"half of what the kernel hands out", .rung = SOURCE_EVENTS,
		.ranges = {{{32768, 40000}}, 1}, .said = {"not all of it is watched"}},
	{"all of it, in two parts", .rung = SOURCE_EVENTS,
		.ranges = {{{32768, 40000}, {40001, 61000}}, 2},
		.said = {"what the kernel hands out, 32768-60999"}},
	{"all but a port in the middle", .rung = SOURCE_EVENTS,
		.ranges = {{{32768, 40000}, {40002, 61000}}, 2},
		.said = {"not all of it is watched"}},
	{"nothing of it", .rung = SOURCE_EVENTS, .ranges = {{{1, 1000}}, 1},
		.said = {"not all of it is watched"}},
	{"what the kernel hands out is not known", .rung = SOURCE_EVENTS, .lacks = EPHEMERAL,
		.ranges = ALL_PORTS, .unsaid = "hands out"},
	{"several things at once", .rung = SOURCE_SWEEP, .ranges = ALL_PORTS,
		.degraded =
			DEGRADED_OBSTACLE "no BTF; install it; reboot | the disk is full; free it"
					  " | it is odd",
		.said = {"\"fix\":\"reboot\"", "\"text\":\"the disk is full\"", "it is odd"},
		.status = "no BTF"},
	{"capture is silent", .rung = SOURCE_EVENTS, .ranges = ALL_PORTS, .silent = true,
		.said = {"capture did not answer in time"},
		.status = "capture did not answer in time"},
	{"no sweep yet", .rung = SOURCE_EVENTS, .ranges = ALL_PORTS, .blind = true,
		.said = {"no whole sweep yet"}, .status = "\"watching\":false"},
};

static struct coverage coverage_of(size_t way)
{
	const unsigned lacks = ways[way].lacks;

	return (struct coverage){
		.rung = (uint8_t)ways[way].rung,
		.interval_usec = 2000,
		.protocols = 15,
		.ranges = ways[way].ranges,
		.ephemeral = lacks & EPHEMERAL ? (struct port_range){0}
					       : (struct port_range){32768, 60999},
		.bound_only = !(lacks & BOUND_ONLY),
		.foreign_processes = !(lacks & FOREIGN),
		.netns_all = !(lacks & NETNS),
		.udp_connect = !(lacks & UDP_CONNECT),
		.failures = !(lacks & FAILURES),
	};
}

static void answer(struct fixture *f, size_t way)
{
	_cleanup_(buf_done) struct buf out = {0};
	struct record record = {.type = RECORD_COMMITTED,
		.committed = {.id = next_sync(f),
			.commit = ++f->commits,
			.until_wall = clock_now().wall,
			.coverage = coverage_of(way),
			.watching = !ways[way].blind,
			.capture_answered = !ways[way].silent,
			.degraded = ways[way].degraded ? strdup(ways[way].degraded) : NULL}};

	assert_int_equal(stream_put(&out, &record), 0);
	assert_int_equal(
		send(f->link, buf_bytes(&out), buf_size(&out), MSG_NOSIGNAL), buf_size(&out));
	record_done(&record);
}

/* The caller frees it. */
static char *ask(struct fixture *f, struct peer *p, const char *call, size_t way)
{
	struct varlink_reply reply;
	char *text;

	peer_call(p, call);
	answer(f, way);
	reply = peer_reply(p);
	assert_null(reply.error);
	text = json_dumps(reply.parameters, JSON_COMPACT | JSON_SORT_KEYS);
	varlink_reply_done(&reply);
	assert_non_null(text);
	return text;
}

static void assert_says(const char *text, const char *what)
{
	if (what && !strstr(text, what))
		fail_msg("\"%s\" is not in %s", what, text);
}

static void test_ways(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);

	for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
		_cleanup_(free_p) char *doctor = ask(f, &p, "{\"method\":\"" LEDGER "Doctor\"}", i);
		_cleanup_(free_p) char *status = ask(f, &p, "{\"method\":\"" LEDGER "Status\"}", i);

		print_message("  %s\n", ways[i].title);
		for (size_t k = 0; k < ELEMENTSOF(ways[i].said); k++)
			assert_says(doctor, ways[i].said[k]);
		if (ways[i].unsaid && strstr(doctor, ways[i].unsaid))
			fail_msg("\"%s\" is in %s", ways[i].unsaid, doctor);
		assert_says(status, ways[i].status);
	}
	peer_close(&p);
}

/* Without a database both answer, and say so; who asks for claims is told that there is none. */
static void test_no_database(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	_cleanup_(free_p) char *doctor = NULL, *status = NULL;
	struct varlink_reply reply;
	char away[96];

	(void)snprintf(away, sizeof(away), "%s.away", f->history.path);
	assert_int_equal(rename(f->history.path, away), 0);
	doctor = ask(f, &p, "{\"method\":\"" LEDGER "Doctor\"}", 0);
	status = ask(f, &p, "{\"method\":\"" LEDGER "Status\"}", 0);
	peer_call(&p, "{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"open\":true}}");
	answer(f, 0);
	reply = peer_reply(&p);
	assert_int_equal(rename(away, f->history.path), 0);
	assert_says(doctor, "\"level\":\"failure\",\"name\":\"database\"");
	assert_says(status, "\"oldest_usec\":null");
	assert_null(strstr(status, "\"degraded\":[]"));
	assert_non_null(reply.error);
	assert_string_equal(reply.error, LEDGER "StoreUnavailable");
	varlink_reply_done(&reply);
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ways, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_no_database, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
