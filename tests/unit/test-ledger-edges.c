/* SPDX-License-Identifier: MIT */

/* What is rare: told in another order than it happened, told of nobody, on the edge of what is watched. */

#include "tests/support/ledger_failing.h"

static struct process ann = PERSON(101, 1), bob = PERSON(102, 2), cid = PERSON(103, 3),
		      nobody = PERSON(0, 0);

#define EVENTS(...) COVERAGE(.protocols = ALL, .rung = SOURCE_EVENTS, __VA_ARGS__)
#define PEOPLE      PROCESS(1, &ann), PROCESS(2, &bob), PROCESS(3, &cid), PROCESS(4, &nobody)
#define TOLD7       "7 tcp 127.0.0.1:40000 connected =500"

static const struct script order[] = {
	{"an earlier event of the opening names who made the call",
		SCRIPT(START, PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)),
			EVENT(7, 40000, 400, BY(EVENT, 2))),
		"opened " TOLD7 " told event by 101\n"
		"changed 7 tcp 127.0.0.1:40000 connected =400 told event by 102 held 101@500\n"},
	{"the event of the opening knows of others who have it, too",
		SCRIPT(START, PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1)),
			EVENT(7, 40000, 500, BY(EVENT, 2), HELD(2, 1, 3))),
		"opened " NEW " procfd by 101\n"
		"changed " TOLD7 " told event by 102 held 101@1000 held 103@500\n"},
	{"a holder is told twice, or is nobody",
		SCRIPT(START, PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1), HELD(3, 2, 2, 4))),
		"opened " NEW " procfd by 101 held 102@1000\n"},
	{"a remainder's end that is told later than its own",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 9000), EVENT_CLOSED(7, 1500)),
		"opened " NEW " closed(0,1000] none\n"
		"released " NEW " closed(0,1000] released=1500 none\n"},
	{"a release with a bound, of what was not told to be closed",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0),
			SIGHTING(RELEASED, 7, 1500, 1200, .source = SOURCE_EVENTS)),
		OPENED7 "released " NEW " closed(1200,1500] released=1500 none\n"},
	{"an absence without a bound, of what lingers: when it was due says nothing",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 1500), SWEEP(1),
			ABSENT(7, 2010, USEC_UNSET), SWEEP(2), SWEEP(3)),
		"opened " NEW " closed(0,1000] none\n" UNTIL1 UNTIL2 "released " NEW
		" closed(0,1000] released=2010 none\n" UNTIL3},
	{"what was there first, at a time that is exact",
		SCRIPT(START, PRESENT(7, 40000, 1000, USEC_UNSET, .preexisting = true)),
		"opened 7 tcp 127.0.0.1:40000 connected =1000 none preexisting\n"},
};

#define ROLE(at, what) PRESENT(7, 40000, at, 0, .role = ROLE_##what)

static const struct script roles[] = {
	{"that it was accepted stays",
		SCRIPT(START, ROLE(1000, ACCEPTED), ROLE(1100, CONNECTED), ROLE(1200, ACCEPTED),
			ROLE(1300, UNKNOWN)),
		"opened 7 tcp 127.0.0.1:40000 accepted (0,1000] none\n"},
	{"that it was accepted may show late",
		SCRIPT(START, ROLE(1000, CONNECTED), ROLE(1100, ACCEPTED)),
		OPENED7 "changed 7 tcp 127.0.0.1:40000 accepted (0,1000] none\n"},
	{"who was told to have connected has, whatever a sweep takes it for",
		SCRIPT(START, EVENT(7, 40000, 500), ROLE(1000, UNKNOWN), ROLE(1100, ACCEPTED)),
		"opened " TOLD7 " told none\n"},
	{"an event that does not know says nothing",
		SCRIPT(START, EVENT(7, 40000, 500, .role = ROLE_BOUND),
			EVENT(7, 40000, 600, .role = ROLE_UNKNOWN)),
		"opened 7 tcp 127.0.0.1:40000 bound =500 told none\n"},
	{"nor does a remainder",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 9000, .role = ROLE_UNKNOWN),
			TIME_WAIT(7, 40000, 2000, 1000, 9000, .role = ROLE_UNKNOWN)),
		"opened 7 tcp 127.0.0.1:40000 unknown (0,1000] closed(0,1000] none\n"},
	{"an address that is gone when it is asked for is as it was",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0),
			SIGHTING(PRESENT, 7, 1100, 0, .local = {{FAMILY_IPV4, {0}}, 40000},
				.local_unknown = true, .expires = USEC_UNSET)),
		OPENED7},
	{"mptcp may look like tcp, and is no udp",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .protocol = PROTOCOL_MPTCP),
			PRESENT(7, 40000, 1100, 0),
			PRESENT(7, 40000, 1200, 1100, .protocol = PROTOCOL_UDP)),
		"opened 7 mptcp 127.0.0.1:40000 connected (0,1000] none\n"
		"released 7 mptcp 127.0.0.1:40000 connected (0,1000] closed(1100,1200] "
		"released=1200 none\n"
		"opened 7 udp 127.0.0.1:40000 connected (1100,1200] none\n"},
	{"the address that it was bound to, told later",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0),
			SIGHTING(PRESENT, 7, 1100, 0,
				.local = {{FAMILY_IPV4, {127, 0, 0, 2}}, 40000},
				.expires = USEC_UNSET)),
		OPENED7 "changed 7 tcp 127.0.0.2:40000 connected (0,1000] none\n"},
	{"a remote end that changes",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .remote = LOOPBACK(80)),
			PRESENT(7, 40000, 1100, 0, .remote = LOOPBACK(81))),
		"opened 7 tcp 127.0.0.1:40000-127.0.0.1:80 connected (0,1000] none\n"
		"changed 7 tcp 127.0.0.1:40000-127.0.0.1:81 connected (0,1000] none\n"},
};

#define ANY6(p)                                                                                    \
	{                                                                                          \
		{FAMILY_IPV6, {0}}, p                                                              \
	}
#define LOOPBACK6(p)                                                                               \
	{                                                                                          \
		{FAMILY_IPV6, {[15] = 1}}, p                                                       \
	}
#define HAS(c, person, what, when, where, ...)                                                     \
	SIGHTING(PRESENT, c, when, USEC_UNSET, .source = SOURCE_EVENTS, .expires = USEC_UNSET,     \
		.role = ROLE_##what, .local = where, BY(EVENT, person), __VA_ARGS__)
#define FAILED_ON(where, when)                                                                     \
	{                                                                                          \
		RECORD_FAILURE, .failure = {                                                       \
			.call = FAILURE_BIND,                                                      \
			.error = FAILURE_IN_USE,                                                   \
			.local = where,                                                            \
			.at = when                                                                 \
		}                                                                                  \
	}

static const struct script failures[] = {
	{"addresses of two families are in each other's way only where one is every address",
		SCRIPT(START, PEOPLE, HAS(7, 1, LISTENING, 500, LOOPBACK6(40000)),
			FAILED_ON(LOOPBACK(40000), 600), FAILED_ON(LOOPBACK6(40000), 600),
			FAILED_ON(ANY6(40000), 600), HAS(8, 2, LISTENING, 500, LOOPBACK(40001)),
			FAILED_ON(LOOPBACK6(40001), 600), FAILED_ON(ANY6(40001), 600)),
		"opened 7 tcp [::1]:40000 listening =500 told event by 101\n"
		"failed bind 127.0.0.1:40000 in-use at 1000600\n"
		"failed bind [::1]:40000 in-use at 1000600 held by 101 since 500\n"
		"failed bind [::]:40000 in-use at 1000600 held by 101 since 500\n"
		"opened 8 tcp 127.0.0.1:40001 listening =500 told event by 102\n"
		"failed bind [::1]:40001 in-use at 1000600\n"
		"failed bind [::]:40001 in-use at 1000600 held by 102 since 500\n"},
	{"who has an address that is not known may be in the way",
		SCRIPT(START, PEOPLE,
			HAS(7, 1, BOUND, 500, LOOPBACK6(40000), .local_unknown = true),
			FAILED_ON(LOOPBACK(40000), 600)),
		"opened 7 tcp [::1]:40000 bound =500 told event by 101\n"
		"failed bind 127.0.0.1:40000 in-use at 1000600 held by 101 since 500\n"},
	{"of several who have it for themselves, who had it first",
		SCRIPT(START, PEOPLE, HAS(7, 1, LISTENING, 500, LOOPBACK(40000)),
			HAS(8, 2, BOUND, 400, LOOPBACK(40000)),
			HAS(9, 3, BOUND, 450, LOOPBACK(40000)), FAILED_ON(LOOPBACK(40000), 600)),
		"opened 7 tcp 127.0.0.1:40000 listening =500 told event by 101\n"
		"opened 8 tcp 127.0.0.1:40000 bound =400 told event by 102\n"
		"opened 9 tcp 127.0.0.1:40000 bound =450 told event by 103\n"
		"failed bind 127.0.0.1:40000 in-use at 1000600 held by 102 since 400\n"},
	{"no port is nobody's, and what is told late is told all the same",
		SCRIPT(START, FAILED_ON(LOOPBACK(0), 90000600), FAILED_ON(LOOPBACK(0), 500)),
		"failed bind 127.0.0.1:0 in-use at 91000600\n"
		"failed bind 127.0.0.1:0 in-use at 1000500\n"},
};

static const struct script watched[] = {
	{"a namespace is told again, with what was not known",
		SCRIPT(HELLO, {RECORD_NETNS, .netns = {7, 8, NULL, {0, 0}}},
			{RECORD_NETNS, .netns = {7, 8, NULL, {1000, 2000}}}),
		"netns 7 8 -\nnetns 7 8 -\n"},
	{"an absence keeps its bounds when the port is not watched any more",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000),
			COVERAGE_IN(50000, 60000, .protocols = ALL)),
		OPENED7 "released " NEW " closed(1000,1010] released=1010 none\n"},
	{"another namespace's own range is, and what is beside it is not",
		SCRIPT(HELLO, {RECORD_NETNS, .netns = {2, 8, NULL, {0, 0}}},
			EVENTS(.netns_all = true),
			{RECORD_NETNS, .netns = {3, 9, NULL, {40001, 40002}}},
			EVENT(6, 40000, 500, .netns = 3), EVENT(7, 40001, 500, .netns = 3),
			EVENT(8, 40003, 500, .netns = 3),
			COVERAGE_IN(50000, 60000, .protocols = ALL, .rung = SOURCE_EVENTS,
				.netns_all = true)),
		"netns 2 8 -\nnetns 3 9 -\n"
		"opened 6 tcp 127.0.0.1:40000 connected =500 told none\n"
		"opened 7 tcp 127.0.0.1:40001 connected =500 told none\n"
		"opened 8 tcp 127.0.0.1:40003 connected =500 told none\n"
		"released 6 tcp 127.0.0.1:40000 connected =500 closed=500 released=500 told none "
		"end-unseen\n"
		"released 8 tcp 127.0.0.1:40003 connected =500 closed=500 released=500 told none "
		"end-unseen\n"},
	{"what is watched is watched in every namespace",
		SCRIPT(HELLO, {RECORD_NETNS, .netns = {2, 8, NULL, {0, 0}}},
			EVENTS(.netns_all = true), EVENT(7, 40000, 500, .netns = 3),
			EVENT(8, 40000, 500, .netns = 3, .protocol = PROTOCOL_UDP),
			COVERAGE(.protocols = 1, .rung = SOURCE_EVENTS, .netns_all = true)),
		"netns 2 8 -\nopened " TOLD7 " told none\n"
		"opened 8 udp 127.0.0.1:40000 connected =500 told none\n"
		"released 8 udp 127.0.0.1:40000 connected =500 closed=500 released=500 told none "
		"end-unseen\n"},
};

static void run(const struct script *scripts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		run_script(&scripts[i]);
		check_failing(&scripts[i]);
	}
	assert_int_equal(ann.references + bob.references + cid.references + nobody.references, 4);
}

static void test_order(void **state)
{
	(void)state;
	run(order, ELEMENTSOF(order));
}

static void test_roles(void **state)
{
	(void)state;
	run(roles, ELEMENTSOF(roles));
}

static void test_failures(void **state)
{
	(void)state;
	run(failures, ELEMENTSOF(failures));
}

static void test_watched(void **state)
{
	(void)state;
	run(watched, ELEMENTSOF(watched));
}

/* Each is refused, and changes nothing. */
static const struct script refused[] = {
	{"nobody has a name", SCRIPT(START, PROCESS(1, NULL)), ""},
	{"one name for two", SCRIPT(START, PROCESS(1, &ann), PROCESS(1, &bob)), ""},
	{"a ring without a number", SCRIPT(START, DRAINED(0, 10, 500)), ""},
	{"a ring that says not when", SCRIPT(START, DRAINED(9, 10, USEC_UNSET)), ""},
	{"a failure that says not when", SCRIPT(START, FAILED(BIND, IN_USE, 40000, USEC_UNSET)),
		""},
	{"a failure of one who was not named",
		SCRIPT(START, FAILED(BIND, IN_USE, 40000, 600, .process = 1)), ""},
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(refused); i++)
		run_refused(&refused[i]);
}

/* One who was the opener until the event told who it was finds no place among so many holders: he is counted. */
static void test_full(void **state)
{
	static struct process holders[LIMIT_HOLDERS];
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	struct record shown = PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1));

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START, PEOPLE));
	shown.sighting.holder_count = LIMIT_HOLDERS;
	for (uint32_t i = 0; i < LIMIT_HOLDERS; i++) {
		struct record name = PROCESS(10 + i, &holders[i]);

		holders[i] = (struct process)PERSON(200 + (int32_t)i, 5);
		assert_int_equal(ledger_apply(l, &name), 0);
		shown.sighting.holders[i] = 10 + i;
	}
	assert_int_equal(ledger_apply(l, &shown), 0);
	log.text[0] = '\0';
	play(l, SCRIPT(EVENT(7, 40000, 500, BY(EVENT, 2))));
	assert_non_null(strstr(log.text, "changed " TOLD7 " told event by 102 held 200@1000"));
	assert_non_null(strstr(log.text, " and 1\n"));
	assert_null(strstr(log.text, "held 101"));
}

static struct claim left_open(uint64_t netns)
{
	return (struct claim){.id = 1,
		.cookie = 7,
		.netns = netns,
		.local = LOOPBACK(40000),
		.opened_boot = 30,
		.opened_after_boot = USEC_UNSET,
		.closed_boot = USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
		.released_boot = USEC_UNSET,
		.opener = process_ref(&ann)};
}

/* What an earlier session knows is taken over whole, or not at all. */
static void test_adopted_without_memory(void **state)
{
	struct log log = {0}, before, after;
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	struct claim c = left_open(0);
	int r = -ENOMEM;

	(void)state;
	assert_non_null(l);
	assert_null(ledger_free(NULL));
	assert_int_equal(ledger_wall(l, USEC_UNSET), USEC_UNSET);
	describe(l, &before);
	for (unsigned n = 0; r < 0; n++) {
		failing_in = n;
		r = ledger_adopt(l, &c, 90);
		failing_in = UINT_MAX;
		assert_true(r == 0 || r == -ENOMEM);
		describe(l, &after);
		if (r < 0) {
			assert_string_equal(after.text, before.text);
			assert_ptr_equal(c.opener, &ann);
		}
	}
	assert_null(c.opener);
	assert_int_equal(ledger_stats(l).open_claims, 1);
}

static const struct coverage accepting = {
	.protocols = ALL, .ranges = {{{1, UINT16_MAX}}, 1}, .accepted = true};
static const struct coverage not_accepting = {.protocols = ALL, .ranges = {{{1, UINT16_MAX}}, 1}};

/* An earlier session bounds what it would have seen: connections that were accepted only if it looked at them. */
static void test_accepted_before(void **state)
{
	(void)state;
	for (int looked = 0; looked < 2; looked++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

		assert_non_null(l);
		ledger_watched_until(
			l, (struct now){500, 1000500}, looked ? &accepting : &not_accepting);
		play(l, SCRIPT(START, PRESENT(1, 1, 1000, 0, .preexisting = true),
				PRESENT(2, 2, 1000, 0, .role = ROLE_ACCEPTED,
					.preexisting = true)));
		assert_string_equal(log.text,
			looked ? "opened 1 tcp 127.0.0.1:1 connected (500,1000] none preexisting\n"
				 "opened 2 tcp 127.0.0.1:2 accepted (500,1000] none preexisting\n"
			       : "opened 1 tcp 127.0.0.1:1 connected (500,1000] none preexisting\n"
				 "opened 2 tcp 127.0.0.1:2 accepted (0,1000] none preexisting\n");
	}
}

static void adopt(struct ledger *l, uint64_t netns)
{
	struct claim c = left_open(netns);

	assert_int_equal(ledger_adopt(l, &c, 90), 0);
}

/* Nobody has recorded since the earlier session: what an event says of the end's bound counts, else when it was last seen. */
static void test_end_after_a_break(void **state)
{
	(void)state;
	for (int bounded = 0; bounded < 2; bounded++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

		assert_non_null(l);
		adopt(l, 0);
		play(l, SCRIPT(START, SIGHTING(CLOSED, 7, 500, bounded ? 400 : USEC_UNSET,
					      .source = SOURCE_EVENTS, .expires = USEC_UNSET)));
		assert_string_equal(log.text,
			bounded ? "released 7 tcp 127.0.0.1:40000 connected =30 closed(400,500] "
				  "released=500 none by 101\n"
				: "released 7 tcp 127.0.0.1:40000 connected =30 closed(90,500] "
				  "released=500 none by 101\n");
	}
}

/* The ring has gone on, and has not told of an end: what is in another namespace is open, watched or not. */
static void test_beyond(void **state)
{
	static const struct drained stored = {.ring = {9, 10}, .at = 90};

	(void)state;
	for (int goes_on = 0; goes_on < 2; goes_on++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

		assert_non_null(l);
		ledger_ring_before(l, &stored, false, goes_on == 1);
		adopt(l, 3);
		play(l, SCRIPT(HELLO, {RECORD_NETNS, .netns = {2, 8, NULL, {0, 0}}},
				COVERAGE_IN(50000, 60000, .protocols = ALL, .rung = SOURCE_EVENTS,
					.netns_all = true)));
		assert_int_equal(ledger_stats(l).open_claims, goes_on);
		assert_int_equal(ledger_netns_inode(l, 2), 8);
		assert_int_equal(ledger_netns_inode(l, 3), 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_watched),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_adopted_without_memory),
		cmocka_unit_test(test_accepted_before),
		cmocka_unit_test(test_end_after_a_break),
		cmocka_unit_test(test_beyond),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
