/* SPDX-License-Identifier: MIT */

/* How records fold into claims. The random world is in test-ledger-random.c. */

#include "tests/support/ledger_script.h"

#include "tests/support/ledger_failing.h"

/* The last two have the same pid. */
static struct process ann = PERSON(101, 1), bob = PERSON(102, 2), cid = PERSON(103, 3),
		      ann_again = PERSON(101, 1), other_ann = PERSON(101, 9), nobody = PERSON(0, 0);
static char reason[] = "ring-full", netns_name[] = "blue";

static const struct script claims[] = {
	{"two sweeps without it end a claim",
		SCRIPT(START, PRESENT(7, 40000, 1000, 900), SWEEP(1), ABSENT(7, 2010, 1000),
			SWEEP(2), SWEEP(3)),
		"opened 7 tcp 127.0.0.1:40000 connected (900,1000] none\n" UNTIL1 UNTIL2
		"released 7 tcp 127.0.0.1:40000 connected (900,1000] closed(1000,2010] "
		"released=2010 none\n" UNTIL3},
	{"one missed row is no end",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), SWEEP(1), ABSENT(7, 2010, 1000), SWEEP(2),
			PRESENT(7, 40000, 3005, 2010), SWEEP(3), SWEEP(4)),
		OPENED7 UNTIL1 UNTIL2 UNTIL3 UNTIL4},
	{"missed twice, with a row between: the second time counts",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), SWEEP(1),
			PRESENT(7, 40000, 2005, 1010), ABSENT(7, 2010, 2005), SWEEP(2), SWEEP(3)),
		OPENED7 UNTIL1 UNTIL2 "released " NEW
				      " closed(2005,2010] released=2010 none\n" UNTIL3},
	{"told absent twice: the first bounds are the tighter ones",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), SWEEP(1),
			ABSENT(7, 2010, 2005), SWEEP(2)),
		OPENED7 UNTIL1 "released " NEW " closed(1000,1010] released=1010 none\n" UNTIL2},
	{"an aborted sweep proves nothing, one of other protocols neither",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), SWEEP(1),
			PARTIAL(2, 0, 2000, 2010), PARTIAL(3, ALL & ~1u, 3000, 3010), MARK,
			PARTIAL(4, 1, 4000, 4010)),
		OPENED7 UNTIL1 "netns 1 2 -\nreleased " NEW
			       " closed(1000,1010] released=1010 none\n"},
	{"an mptcp claim is ended by a sweep of mptcp",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), SWEEP(1),
			PRESENT(7, 40000, 1500, 0, .protocol = PROTOCOL_MPTCP),
			ABSENT(7, 2010, 1000), SWEEP(2), PARTIAL(3, 7, 3000, 3010), MARK,
			PARTIAL(4, 8, 4000, 4010)),
		OPENED7 UNTIL1 "changed 7 mptcp 127.0.0.1:40000 connected (0,1000] none\n" UNTIL2
			       "netns 1 2 -\n"
			       "released 7 mptcp 127.0.0.1:40000 connected (0,1000] "
			       "closed(1000,2010] released=2010 none\n"},
	{"the absence of an unknown socket is no news",
		SCRIPT(START, ABSENT(7, 1010, 1000), SWEEP(1), CLOSED(7, 1500), SWEEP(2)),
		UNTIL1 UNTIL2},
	{"exact times stay exact",
		SCRIPT(START, PRESENT(7, 40000, 500, USEC_UNSET), CLOSED(7, 600)),
		"opened 7 tcp 127.0.0.1:40000 connected =500 none\n"
		"released 7 tcp 127.0.0.1:40000 connected =500 closed=600 released=600 none\n"},
	{"nothing ends before it was exactly opened",
		SCRIPT(START, PRESENT(7, 40000, 500, USEC_UNSET), ABSENT(7, 1010, 0), SWEEP(1),
			SWEEP(2)),
		"opened 7 tcp 127.0.0.1:40000 connected =500 none\n" UNTIL1
		"released 7 tcp 127.0.0.1:40000 connected =500 closed(500,1010] released=1010 "
		"none\n" UNTIL2},
	{"an end told before the sighting's own time is bounded by it",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), CLOSED(7, 998)),
		OPENED7 "released " NEW " closed(998,1000] released=1000 none\n"},
	{"role and endpoints follow the socket",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .role = ROLE_BOUND),
			PRESENT(7, 40000, 2000, 1000, .role = ROLE_LISTENING),
			PRESENT(7, 40000, 2500, 1000, .role = ROLE_LISTENING),
			PRESENT(7, 40000, 3000, 1000, .remote = LOOPBACK(80))),
		"opened 7 tcp 127.0.0.1:40000 bound (0,1000] none\n"
		"changed 7 tcp 127.0.0.1:40000 listening (0,1000] none\n"
		"changed 7 tcp 127.0.0.1:40000-127.0.0.1:80 connected (0,1000] none\n"},
	{"another port is another claim",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), SWEEP(1), PRESENT(7, 40001, 2005, 1005)),
		OPENED7 UNTIL1 "released " NEW " closed(1005,2005] released=2005 none\n"
			       "opened 7 tcp 127.0.0.1:40001 connected (1005,2005] none\n"},
	{"another port after an absence: the old end has its own bounds",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), SWEEP(1),
			PRESENT(7, 40001, 2005, 1010)),
		OPENED7 UNTIL1 "released " NEW " closed(1000,1010] released=1010 none\n"
			       "opened 7 tcp 127.0.0.1:40001 connected (1010,2005] none\n"},
	{"another port at an exact time: the old one was there at the last whole sweep",
		SCRIPT(START, PRESENT(7, 40000, 900, 0), SWEEP(1),
			PRESENT(7, 40001, 1700, USEC_UNSET)),
		"opened 7 tcp 127.0.0.1:40000 connected (0,900] none\n" UNTIL1
		"released 7 tcp 127.0.0.1:40000 connected (0,900] closed(1000,1700] "
		"released=1700 none\n"
		"opened 7 tcp 127.0.0.1:40001 connected =1700 none\n"},
	{"another protocol on the same port is another claim, too",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0),
			PRESENT(7, 40000, 2000, 1000, .protocol = PROTOCOL_UDP)),
		OPENED7 "released " NEW " closed(1000,2000] released=2000 none\n"
			"opened 7 udp 127.0.0.1:40000 connected (1000,2000] none\n"},
	{"what was there first is preexisting",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .preexisting = true)),
		"opened " NEW " none preexisting\n"},
};

static const struct script time_wait[] = {
	{"closed when first seen so, released when it was due",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), SWEEP(1),
			TIME_WAIT(7, 40000, 2005, 1005, 2900), SWEEP(2), ABSENT(7, 3010, 2005),
			SWEEP(3), SWEEP(4)),
		OPENED7 UNTIL1 "changed " NEW " closed(1005,2005] none\n" UNTIL2 UNTIL3
			       "released " NEW " closed(1005,2005] released=2900 none\n" UNTIL4},
	{"due before it was last seen, or after it was missed: the sweep's time holds",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 1500),
			TIME_WAIT(8, 40000, 1000, 0, 3500), SWEEP(1), ABSENT(7, 2010, 1600),
			ABSENT(8, 2010, 1000), SWEEP(2), SWEEP(3)),
		"opened " NEW " closed(0,1000] none\n"
		"opened 8 tcp 127.0.0.1:40000 connected (0,1000] closed(0,1000] none\n" UNTIL1
			UNTIL2 "released " NEW " closed(0,1000] released=2010 none\n"
		"released 8 tcp 127.0.0.1:40000 connected (0,1000] closed(0,1000] released=2010 "
		"none\n" UNTIL3},
	{"the last word on when it is due counts",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 1500),
			TIME_WAIT(7, 40000, 2000, 1000, 2500), SWEEP(2), ABSENT(7, 3010, 2000),
			SWEEP(3), SWEEP(4)),
		"opened " NEW " closed(0,1000] none\ncovers 15 from 1002000\n" UNTIL2 UNTIL3
		"released " NEW " closed(0,1000] released=2500 none\n" UNTIL4},
	{"it keeps opener, role and remote",
		SCRIPT(START, PROCESS(1, &ann),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1), .role = ROLE_ACCEPTED,
				.remote = LOOPBACK(80)),
			TIME_WAIT(7, 40000, 2005, 1005, 2900)),
		"opened 7 tcp 127.0.0.1:40000-127.0.0.1:80 accepted (0,1000] procfd by 101\n"
		"changed 7 tcp 127.0.0.1:40000-127.0.0.1:80 accepted (0,1000] closed(1005,2005] "
		"procfd by 101\n"},
	{"the kernel's word on the full socket; the remainder lingers",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0),
			CLOSED(7, 1500, .time_wait = true, .expires = 1900), SWEEP(2),
			ABSENT(7, 3010, 1500), SWEEP(3), SWEEP(4)),
		OPENED7 "changed " NEW " closed=1500 none\ncovers 15 from 1002000\n" UNTIL2 UNTIL3
			"released " NEW " closed=1500 released=1900 none\n" UNTIL4},
	{"the kernel's word comes late: the end is exact now, and goes on lingering",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), TIME_WAIT(7, 40000, 2005, 1005, 2900),
			CLOSED(7, 1700, .expires = USEC_UNSET)),
		OPENED7 "changed " NEW " closed(1005,2005] none\nchanged " NEW
			" closed=1700 none\n"},
	{"the kernel's word after that is the remainder's own end",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), TIME_WAIT(7, 40000, 2005, 1005, 9000),
			CLOSED(7, 2500, .expires = USEC_UNSET)),
		OPENED7 "changed " NEW " closed(1005,2005] none\nreleased " NEW
			" closed(1005,2005] released=2500 none\n"},
	{"who opened what is left may be told later, and then stays",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 9000, .role = ROLE_UNKNOWN),
			TIME_WAIT(7, 40000, 2000, 1000, 9000, .role = ROLE_ACCEPTED),
			TIME_WAIT(7, 40000, 3000, 2000, 9000, .role = ROLE_CONNECTED)),
		"opened 7 tcp 127.0.0.1:40000 unknown (0,1000] closed(0,1000] none\n"
		"changed 7 tcp 127.0.0.1:40000 accepted (0,1000] closed(0,1000] none\n"},
	{"that a listener may have been there is told late, too",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0),
			PRESENT(7, 40000, 2000, 1000, .role = ROLE_UNKNOWN)),
		OPENED7 "changed 7 tcp 127.0.0.1:40000 unknown (0,1000] none\n"},
	{"a full socket after all was not closed",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 1500), PRESENT(7, 40000, 2000, 1000)),
		"opened " NEW " closed(0,1000] none\nchanged " NEW " none\n"},
};

static const struct script holders[] = {
	{"better replaces worse, and nothing else does",
		SCRIPT(START, PROCESS(1, &ann), PROCESS(2, &bob), PROCESS(3, &nobody),
			PRESENT(7, 40000, 1000, 0), PRESENT(7, 40000, 1100, 0, BY(UID, 3)),
			PRESENT(7, 40000, 1200, 0, BY(NONE, 0)),
			PRESENT(7, 40000, 1300, 0, BY(CGROUP, 3)),
			PRESENT(7, 40000, 1400, 0, BY(UID, 3)),
			PRESENT(7, 40000, 1500, 0, BY(PROCFD, 1)),
			PRESENT(7, 40000, 1600, 0, BY(EVENT, 1)),
			PRESENT(7, 40000, 1700, 0, BY(CGROUP, 3)),
			PRESENT(7, 40000, 1800, 0, BY(NONE, 0))),
		OPENED7 "changed " NEW " uid by 0\nchanged " NEW " cgroup by 0\nchanged " NEW
			" procfd by 101\n"},
	{"who has it instead of the opener is a holder, not the opener",
		SCRIPT(START, PROCESS(1, &ann), PROCESS(2, &bob),
			PRESENT(7, 40000, 1000, 0, BY(EVENT, 1)),
			PRESENT(7, 40000, 1500, 0, BY(PROCFD, 2))),
		"opened " NEW " event by 101\nchanged " NEW " event by 101 held 102@1500\n"},
	{"holders come and go, and come again",
		SCRIPT(START, PROCESS(1, &ann), PROCESS(2, &bob), PROCESS(3, &cid),
			PRESENT(7, 40000, 1000, 0, BY(EVENT, 1), HELD(1, 2)),
			PRESENT(7, 40000, 2000, 0, BY(EVENT, 1), HELD(2, 3, 2)),
			PRESENT(7, 40000, 3000, 0, BY(EVENT, 1), HELD(1, 3)),
			PRESENT(7, 40000, 4000, 0, BY(EVENT, 1), HELD(2, 2, 3)),
			PRESENT(7, 40000, 5000, 0)),
		"opened " NEW " event by 101 held 102@1000\n"
		"changed " NEW " event by 101 held 102@1000 held 103@2000\n"
		"changed " NEW " event by 101 held 102@1000-3000 held 103@2000\n"
		"changed " NEW " event by 101 held 102@1000-3000 held 103@2000 held 102@4000\n"
		"changed " NEW
		" event by 101 held 102@1000-3000 held 103@2000-5000 held 102@4000-5000\n"},
	{"one process by two refs is one holder; a reused pid is another",
		SCRIPT(START, PROCESS(1, &ann), PROCESS(2, &ann_again), PROCESS(3, &other_ann),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1), HELD(3, 1, 2, 2)),
			PRESENT(7, 40000, 2000, 0, BY(PROCFD, 2), HELD(1, 3))),
		"opened " NEW " procfd by 101\nchanged " NEW " procfd by 101 held 101@2000\n"},
	{"holders past the limit are counted",
		SCRIPT(START, PROCESS(1, &ann), PROCESS(2, &bob),
			PRESENT(7, 40000, 1000, 0, HELD(1, 1), .holders_dropped = 4),
			PRESENT(7, 40000, 2000, 0, HELD(2, 1, 2), .holders_dropped = 2)),
		"opened " NEW " none held 101@1000 and 4\n"
		"changed " NEW " none held 101@1000 held 102@2000 and 4\n"},
	{"a process stays known to its claims when the stream forgets it",
		SCRIPT(START, PROCESS(1, &ann), PROCESS(1, &ann_again),
			PRESENT(7, 40000, 1000, 0, BY(EVENT, 1)), {RECORD_FORGET, .forget = 1},
			CLOSED(7, 1500)),
		"opened " NEW " event by 101\n"
		"released " NEW " closed=1500 released=1500 event by 101\n"},
};

static const struct script marks[] = {
	{"coverage begins with the first whole sweep after it was told",
		SCRIPT(HELLO, PARTIAL(1, ALL, 1000, 1010), COVERAGE(.protocols = 3),
			PARTIAL(2, 1, 2000, 2010), PARTIAL(3, 7, 3000, 3010),
			PARTIAL(4, 3, 4000, 4010), COVERAGE(.protocols = 1),
			PARTIAL(5, 1, 5000, 5010)),
		"covers 3 from 1003000\n" UNTIL3 UNTIL4
		"covers 1 from 1005000\nuntil 5010/1005010\n"},
	{"a coverage of nothing never begins", SCRIPT(HELLO, COVERAGE(.protocols = 0), SWEEP(1)),
		""},
	{"gaps in wall time",
		SCRIPT(START, {RECORD_GAP, .gap = {50, 250, LOST_UNKNOWN, reason}},
			{RECORD_GAP, .gap = {250, 250, 3, reason}}),
		"gap 1000050-1000250 ring-full -1\ngap 1000250-1000250 ring-full 3\n"},
	{"namespaces pass through",
		SCRIPT(HELLO, {RECORD_NETNS, .netns = {7, 8, netns_name, {0, 0}}},
			{RECORD_NETNS, .netns = {9, 8, NULL, {0, 0}}}),
		"netns 7 8 blue\nnetns 9 8 -\n"},
	{"a clock that is set is a step, one that is slewed is none",
		SCRIPT(START, {RECORD_SWEEP, .sweep = {1, 1000, 1010, {1010, 1501010}, 0}},
			{RECORD_SWEEP, .sweep = {2, 2000, 2010, {2010, 2002011}, 0}},
			{RECORD_SWEEP, .sweep = {3, 3000, 3010, {3010, 1003010}, 0}},
			PRESENT(7, 40000, 3500, 3000)),
		"clock 2002011 by 500001\nclock 1003010 by -1000001\n"
		"opened 7 tcp 127.0.0.1:40000 connected (3000,3500] none\n"},
	{"after a resync, what nobody shows is over",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(8, 40000, 900, 0), SWEEP(1),
			{RECORD_RESYNC}, PRESENT(9, 40000, 1500, 0), PRESENT(7, 40000, 1500, 0),
			PARTIAL(2, ALL & ~1u, 2000, 2010), MARK, SWEEP(3), SWEEP(4)),
		OPENED7 "opened 8 tcp 127.0.0.1:40000 connected (0,900] none\n" UNTIL1
			"opened 9 tcp 127.0.0.1:40000 connected (0,1500] none\n"
			"netns 1 2 -\n"
			"released 8 tcp 127.0.0.1:40000 connected (0,900] closed(1000,3000] "
			"released=3000 none\n" UNTIL3 UNTIL4},
	{"a protocol that is not watched any more: nobody saw an end",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), SWEEP(1), COVERAGE(.protocols = 2),
			PARTIAL(2, 2, 2000, 2010)),
		OPENED7 UNTIL1 "released " NEW " closed=1000 released=1000 none end-unseen\n"
			       "covers 2 from 1002000\n" UNTIL2},
	{"nor of a port that is not watched any more, and those that are go on",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(8, 50000, 1000, 0), SWEEP(1),
			SWEEP(2), COVERAGE_IN(49152, 65535, .protocols = ALL), SWEEP(3)),
		OPENED7 "opened 8 tcp 127.0.0.1:50000 connected (0,1000] none\n" UNTIL1 UNTIL2
			"released " NEW " closed=2000 released=2000 none end-unseen\n"
			"covers 15 from 1003000\n" UNTIL3},
	{"an absence told before the resync keeps its bounds",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), {RECORD_RESYNC},
			SWEEP(2)),
		OPENED7 "released " NEW " closed(1000,1010] released=1010 none\n"
			"covers 15 from 1002000\n" UNTIL2},
};

static void check_script(const struct script *s)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	print_message("  %s\n", s->title);
	assert_non_null(l);
	play(l, s->records);
	assert_string_equal(log.text, s->log);
	assert_int_equal(ledger_stats(l).open_claims, log.next_id - log.released);
}

static void test_claims(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(claims); i++)
		check_script(&claims[i]);
}

static void test_time_wait(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(time_wait); i++)
		check_script(&time_wait[i]);
}

static void test_holders(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(holders); i++)
		check_script(&holders[i]);
	assert_int_equal(ann.references + ann_again.references + bob.references, 3);
}

static void test_marks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(marks); i++)
		check_script(&marks[i]);
}

static void test_no_memory(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);

	(void)state;
	failing_hits = 0;
	for (size_t i = 0; i < ELEMENTSOF(claims); i++)
		check_failing(&claims[i]);
	for (size_t i = 0; i < ELEMENTSOF(holders); i++)
		check_failing(&holders[i]);
	assert_true(failing_hits > 50);
	failing_in = 0;
	assert_null(ledger_new(&sink));
	failing_in = UINT_MAX;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_time_wait),
		cmocka_unit_test(test_holders),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
