/* SPDX-License-Identifier: MIT */

/* How events fold into claims, alone and with sweeps; what the ring tells of itself; who held a port that was asked for. */

#include "tests/support/ledger_failing.h"

static struct process ann = PERSON(101, 1), bob = PERSON(102, 2), cid = PERSON(103, 3);

#define EVENTS(...) COVERAGE(.protocols = ALL, .rung = SOURCE_EVENTS, __VA_ARGS__)
#define PEOPLE      HELLO, EVENTS(), PROCESS(1, &ann), PROCESS(2, &bob), PROCESS(3, &cid)
#define TOLD7       "7 tcp 127.0.0.1:40000 connected =500"

static const struct script claims[] = {
	{"an event opens and ends exactly",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)), EVENT_CLOSED(7, 510)),
		"opened " TOLD7 " told event by 101\n"
		"released " TOLD7 " closed=510 released=510 told event by 101\n"},
	{"a remainder may hold the port until its release is told",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)),
			EVENT_CLOSED(7, 510, .time_wait = true), SWEEP(1), EVENT_RELEASED(7, 510)),
		"opened " TOLD7 " told event by 101\n"
		"changed " TOLD7 " closed=510 told event by 101\n" UNTIL1 "released " TOLD7
		" closed=510 released=510 told event by 101\n"},
	{"a remainder that a sweep sees changes nothing but the release",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)),
			EVENT_CLOSED(7, 510, .time_wait = true),
			TIME_WAIT(7, 40000, 1000, 510, 2000), SWEEP(1), EVENT_RELEASED(7, 2000)),
		"opened " TOLD7 " told event by 101\n"
		"changed " TOLD7 " closed=510 told event by 101\n" UNTIL1 "released " TOLD7
		" closed=510 released=2000 told event by 101\n"},
	{"an end of which only the release was told is bounded",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)), SWEEP(1),
			EVENT_RELEASED(7, 1700)),
		"opened " TOLD7 " told event by 101\n" UNTIL1 "released " TOLD7
		" closed(1000,1700] released=1700 told event by 101\n"},
	{"the end of what nobody has opened is no news",
		SCRIPT(PEOPLE, EVENT_CLOSED(7, 510), EVENT_RELEASED(7, 510), SWEEP(1)), UNTIL1},
	{"the end of an earlier tenure does not end this one",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500), EVENT_CLOSED(7, 499), EVENT_RELEASED(7, 499)),
		"opened " TOLD7 " told none\n"},
	{"a second tenure of the same port is another claim",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500), EVENT_CLOSED(7, 510, .time_wait = true),
			EVENT(7, 40000, 520)),
		"opened " TOLD7 " told none\n"
		"changed " TOLD7 " closed=510 told none\n"
		"released " TOLD7 " closed=510 released=520 told none\n"
		"opened 7 tcp 127.0.0.1:40000 connected =520 told none\n"},
	{"told again after a restart: nothing new, and an end stays an end",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)),
			EVENT_CLOSED(7, 510, .time_wait = true),
			EVENT(7, 40000, 500, BY(EVENT, 1))),
		"opened " TOLD7 " told event by 101\n"
		"changed " TOLD7 " closed=510 told event by 101\n"},
	{"a sweep after the end does not open it again",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500), EVENT_CLOSED(7, 1005, .time_wait = true),
			PRESENT(7, 40000, 1002, 0), PRESENT(7, 40000, 1008, 0), SWEEP(1)),
		"opened " TOLD7 " told none\n"
		"changed " TOLD7 " closed=1005 told none\n" UNTIL1},
};

static const struct script merging[] = {
	{"the event of an opening that a sweep had found: exact, and who it was",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 2)),
			EVENT(7, 40000, 500, BY(EVENT, 1))),
		"opened " NEW " procfd by 102\n"
		"changed " TOLD7 " told event by 101 held 102@1000\n"},
	{"... the same process",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1), .preexisting = true),
			EVENT(7, 40000, 500, BY(EVENT, 1))),
		"opened " NEW " procfd by 101 preexisting\n"
		"changed " TOLD7 " told event by 101\n"},
	{"... one that the sweep took for a further holder",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 2), HELD(2, 3, 1)),
			EVENT(7, 40000, 500, BY(EVENT, 1))),
		"opened " NEW " procfd by 102 held 103@1000 held 101@1000\n"
		"changed " TOLD7 " told event by 101 held 103@1000 held 102@1000\n"},
	{"... of which only the unit was known",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0, .attribution = ATTRIBUTION_CGROUP),
			EVENT(7, 40000, 500, BY(EVENT, 1))),
		"opened " NEW " cgroup\n"
		"changed " TOLD7 " told event by 101\n"},
	{"... and no process is known to the event",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 2)), EVENT(7, 40000, 500)),
		"opened " NEW " procfd by 102\n"
		"changed " TOLD7 " told procfd by 102\n"},
	{"an event of later is not the opening: who acts is a further holder",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0, BY(PROCFD, 2), .role = ROLE_BOUND),
			EVENT(7, 40000, 1500, BY(EVENT, 1))),
		"opened 7 tcp 127.0.0.1:40000 bound (0,1000] procfd by 102\n"
		"changed " NEW " procfd by 102 held 101@1500\n"},
	{"a sweep never replaces what an event knows",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1)),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 2), .role = ROLE_ACCEPTED), SWEEP(1)),
		"opened " TOLD7 " told event by 101\n"
		"changed " TOLD7 " told event by 101 held 102@1000\n" UNTIL1},
	{"but it may know what an event does not",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, .role = ROLE_UNKNOWN),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 2), .role = ROLE_ACCEPTED,
				.protocol = PROTOCOL_MPTCP),
			EVENT(7, 40000, 1500, BY(EVENT, 2), .role = ROLE_ACCEPTED)),
		"opened 7 tcp 127.0.0.1:40000 unknown =500 told none\n"
		"changed 7 mptcp 127.0.0.1:40000 accepted =500 told procfd by 102\n"},
	{"an event names who acts, and not who else has it open",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1), .role = ROLE_BOUND),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 1), .role = ROLE_BOUND, HELD(1, 2)),
			EVENT(7, 40000, 1500, BY(EVENT, 3), .role = ROLE_LISTENING),
			PRESENT(7, 40000, 2000, 0, BY(PROCFD, 1), .role = ROLE_LISTENING,
				HELD(1, 3))),
		"opened 7 tcp 127.0.0.1:40000 bound =500 told event by 101\n"
		"changed 7 tcp 127.0.0.1:40000 bound =500 told event by 101 held 102@1000\n"
		"changed 7 tcp 127.0.0.1:40000 listening =500 told event by 101 held 102@1000 "
		"held 103@1500\n"
		"changed 7 tcp 127.0.0.1:40000 listening =500 told event by 101 "
		"held 102@1000-2000 held 103@1500\n"},
	{"a row that was read before the event tells of holders only",
		SCRIPT(PEOPLE, EVENT(7, 40000, 500, BY(EVENT, 1), .role = ROLE_BOUND),
			EVENT(7, 40000, 1005, BY(EVENT, 1), .role = ROLE_LISTENING),
			PRESENT(7, 40000, 1002, 0, BY(PROCFD, 1), .role = ROLE_BOUND, HELD(1, 2))),
		"opened 7 tcp 127.0.0.1:40000 bound =500 told event by 101\n"
		"changed 7 tcp 127.0.0.1:40000 listening =500 told event by 101\n"
		"changed 7 tcp 127.0.0.1:40000 listening =500 told event by 101 held 102@1002\n"},
	{"the exact end of what a sweep saw lingering",
		SCRIPT(PEOPLE, PRESENT(7, 40000, 1000, 0), SWEEP(1),
			TIME_WAIT(7, 40000, 2000, 1000, 9000), SWEEP(2),
			EVENT_CLOSED(7, 1500, .time_wait = true), EVENT_RELEASED(7, 9000)),
		OPENED7 UNTIL1 "changed " NEW " closed(1000,2000] none\n" UNTIL2 "changed " NEW
			       " closed=1500 none\nreleased " NEW
			       " closed=1500 released=9000 none\n"},
};

static const struct script ring[] = {
	{"a loss is a gap since the ring last told of itself, once",
		SCRIPT(HELLO, EVENTS(), DRAINED(9, 10, 500, .lost = 3),
			DRAINED(9, 20, 700, .lost = 3),
			DRAINED(9, 30, 900, .lost = 5, .lost_ends = 2)),
		"gap 1000100-1000500 events-lost 3\ndrained 9 to 10\ndrained 9 to 20\n"
		"gap 1000700-1000900 events-lost 2\ngap 1000700-1000900 ends-lost 0\ndrained 9 to 30\n"},
	{"a new ring counts from nothing",
		SCRIPT(HELLO, EVENTS(), DRAINED(9, 10, 500, .lost = 3),
			DRAINED(8, 5, 700, .lost = 1)),
		"gap 1000100-1000500 events-lost 3\ndrained 9 to 10\n"
		"gap 1000500-1000700 events-lost 1\ndrained 8 to 5\n"},
	{"what was stored is not unsaid",
		SCRIPT(HELLO, EVENTS(), DRAINED(9, 10, 500, .lost = 3),
			DRAINED(9, 5, 700, .lost = 1), DRAINED(9, 30, 900, .lost = 3)),
		"gap 1000100-1000500 events-lost 3\ndrained 9 to 10\ndrained 9 to 10\ndrained 9 to 30\n"},
	{"failures that were left out are counted",
		SCRIPT(HELLO, EVENTS(), DRAINED(9, 10, 500, .failures_dropped = 4)),
		"left out 1000100-1000500 4\ndrained 9 to 10\n"},
};

#define ANY(p)                                                                                     \
	{                                                                                          \
		{FAMILY_IPV4, {0}}, p                                                              \
	}
#define ANY6(p)                                                                                    \
	{                                                                                          \
		{FAMILY_IPV6, {0}}, p                                                              \
	}
#define LISTENS(c, person, where, when, ...)                                                       \
	SIGHTING(PRESENT, c, when, USEC_UNSET, .source = SOURCE_EVENTS, .expires = USEC_UNSET,     \
		.role = ROLE_LISTENING, .local = where, BY(EVENT, person), __VA_ARGS__)
#define IN_USE "failed bind 127.0.0.1:40000 in-use at 1000600"

static const struct script failures[] = {
	{"who holds the port",
		SCRIPT(PEOPLE, LISTENS(7, 1, LOOPBACK(40000), 500),
			FAILED(BIND, IN_USE, 40000, 600, .process = 2)),
		"opened 7 tcp 127.0.0.1:40000 listening =500 told event by 101\n" IN_USE
		" by 102 held by 101 since 500\n"},
	{"nobody, who had it before or after, or has another one",
		SCRIPT(PEOPLE, LISTENS(6, 1, LOOPBACK(40000), 500), EVENT_CLOSED(6, 550),
			LISTENS(5, 1, LOOPBACK(40001), 500), LISTENS(4, 1, LOOPBACK(41024), 500),
			MARK, FAILED(BIND, IN_USE, 40000, 600), LISTENS(7, 1, LOOPBACK(40000), 700),
			FAILED(BIND, IN_USE, 40000, 600)),
		"opened 6 tcp 127.0.0.1:40000 listening =500 told event by 101\n"
		"released 6 tcp 127.0.0.1:40000 listening =500 closed=550 released=550 told event by 101\n"
		"opened 5 tcp 127.0.0.1:40001 listening =500 told event by 101\n"
		"opened 4 tcp 127.0.0.1:41024 listening =500 told event by 101\n"
		"netns 1 2 -\n" IN_USE "\n"
		"opened 7 tcp 127.0.0.1:40000 listening =700 told event by 101\n" IN_USE "\n"},
	{"of the same protocol, namespace and address",
		SCRIPT(PEOPLE, LISTENS(4, 1, LOOPBACK(40000), 500, .protocol = PROTOCOL_UDP),
			LISTENS(5, 1, LOOPBACK(40000), 500, .netns = 3),
			SIGHTING(PRESENT, 6, 500, USEC_UNSET, .source = SOURCE_EVENTS,
				.expires = USEC_UNSET, .role = ROLE_LISTENING,
				.local = {{FAMILY_IPV4, {10, 0, 0, 1}}, 40000}),
			FAILED(BIND, IN_USE, 40000, 600, .process = 2)),
		"opened 4 udp 127.0.0.1:40000 listening =500 told event by 101\n"
		"opened 5 tcp 127.0.0.1:40000 listening =500 told event by 101\n"
		"opened 6 tcp 10.0.0.1:40000 listening =500 told none\n" IN_USE " by 102\n"},
	{"the IPv4 wildcard, and the one of IPv6, are in the way",
		SCRIPT(PEOPLE, LISTENS(7, 1, ANY(40000), 500), FAILED(BIND, IN_USE, 40000, 600),
			EVENT_CLOSED(7, 610),
			LISTENS(8, 3, ANY6(40000), 500, .protocol = PROTOCOL_MPTCP),
			FAILED(BIND, IN_USE, 40000, 600)),
		"opened 7 tcp 0.0.0.0:40000 listening =500 told event by 101\n" IN_USE
		" held by 101 since 500\n"
		"released 7 tcp 0.0.0.0:40000 listening =500 closed=610 released=610 told event by 101\n"
		"opened 8 mptcp [::]:40000 listening =500 told event by 103\n" IN_USE
		" held by 103 since 500\n"},
	{"the listener rather than its connections",
		SCRIPT(PEOPLE, EVENT(6, 40000, 400, BY(EVENT, 2), .role = ROLE_ACCEPTED),
			LISTENS(7, 1, LOOPBACK(40000), 500),
			EVENT(8, 40000, 550, BY(EVENT, 2), .role = ROLE_ACCEPTED),
			FAILED(BIND, IN_USE, 40000, 600)),
		"opened 6 tcp 127.0.0.1:40000 accepted =400 told event by 102\n"
		"opened 7 tcp 127.0.0.1:40000 listening =500 told event by 101\n"
		"opened 8 tcp 127.0.0.1:40000 accepted =550 told event by 102\n" IN_USE
		" held by 101 since 500\n"},
	{"what is left in TIME_WAIT holds it, too",
		SCRIPT(PEOPLE, EVENT(7, 40000, 400, BY(EVENT, 1)),
			EVENT_CLOSED(7, 510, .time_wait = true), FAILED(BIND, IN_USE, 40000, 600)),
		"opened 7 tcp 127.0.0.1:40000 connected =400 told event by 101\n"
		"changed 7 tcp 127.0.0.1:40000 connected =400 closed=510 told event by 101\n" IN_USE
		" held by 101 since 400\n"},
	{"who has it open, rather than what may be left of an older connection",
		SCRIPT(PEOPLE, EVENT(7, 40000, 400, BY(EVENT, 1), .role = ROLE_ACCEPTED),
			EVENT_CLOSED(7, 510, .time_wait = true), EVENT(8, 40000, 550, BY(EVENT, 2)),
			FAILED(BIND, IN_USE, 40000, 600)),
		"opened 7 tcp 127.0.0.1:40000 accepted =400 told event by 101\n"
		"changed 7 tcp 127.0.0.1:40000 accepted =400 closed=510 told event by 101\n"
		"opened 8 tcp 127.0.0.1:40000 connected =550 told event by 102\n" IN_USE
		" held by 102 since 550\n"},
	{"an address that is not there is nobody's, and a connect without a port neither",
		SCRIPT(PEOPLE, LISTENS(7, 1, LOOPBACK(40000), 500),
			FAILED(BIND, NOT_AVAILABLE, 40000, 600),
			FAILED(CONNECT, NOT_AVAILABLE, 0, 600)),
		"opened 7 tcp 127.0.0.1:40000 listening =500 told event by 101\n"
		"failed bind 127.0.0.1:40000 not-available at 1000600\n"
		"failed connect 127.0.0.1:0 not-available at 1000600\n"},
};

static void run(const struct script *scripts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		run_script(&scripts[i]);
	assert_int_equal(ann.references, 1);
	assert_int_equal(bob.references, 1);
	assert_int_equal(cid.references, 1);
}

static void test_claims(void **state)
{
	(void)state;
	run(claims, ELEMENTSOF(claims));
}

static void test_merging(void **state)
{
	(void)state;
	run(merging, ELEMENTSOF(merging));
}

static void test_ring(void **state)
{
	(void)state;
	run(ring, ELEMENTSOF(ring));
}

static void test_failures(void **state)
{
	(void)state;
	run(failures, ELEMENTSOF(failures));
}

/* Past so many a minute they are counted, and the count is told with the ring's next word. */
static void test_failures_limit(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	struct record r = FAILED(BIND, IN_USE, 40000, 600);
	const struct record minute_later[] = {
		FAILED(BIND, IN_USE, 40000, 600 + USEC_PER_MINUTE), {0}};

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(HELLO, EVENTS()));
	for (unsigned i = 0; i < LIMIT_FAILURES_MINUTE + 7; i++) {
		log.text[0] = '\0';
		assert_int_equal(ledger_apply(l, &r), 0);
		assert_string_equal(log.text, i < LIMIT_FAILURES_MINUTE ? IN_USE "\n" : "");
	}
	play(l, SCRIPT(DRAINED(9, 10, 700, .failures_dropped = 3)));
	assert_string_equal(log.text, "left out 1000100-1000700 10\ndrained 9 to 10\n");
	log.text[0] = '\0';
	play(l, minute_later);
	assert_string_equal(log.text, "failed bind 127.0.0.1:40000 in-use at 61000600\n");
}

/* What only a sweep finds is counted, if events would have told of it. */
static void test_found_only_by_sweep(void **state)
{
	static const struct {
		struct coverage coverage;
		struct sighting sighting;
		unsigned found;
	} cases[] = {
		{{.rung = SOURCE_EVENTS}, {.role = ROLE_BOUND}, 1},
		{{.rung = SOURCE_EVENTS}, {.role = ROLE_BOUND, .preexisting = true}, 0},
		{{.rung = SOURCE_EVENTS}, {.role = ROLE_BOUND, .source = SOURCE_EVENTS}, 0},
		{{.rung = SOURCE_DESTROY}, {.role = ROLE_BOUND}, 0},
		{{.rung = SOURCE_EVENTS}, {.protocol = PROTOCOL_UDP}, 0},
		{{.rung = SOURCE_EVENTS}, {.protocol = PROTOCOL_UDPLITE}, 0},
		{{.rung = SOURCE_EVENTS, .udp_connect = true}, {.protocol = PROTOCOL_UDP}, 1},
		{{.rung = SOURCE_EVENTS}, {.protocol = PROTOCOL_UDP, .role = ROLE_BOUND}, 1},
		{{.rung = SOURCE_EVENTS}, {.protocol = PROTOCOL_MPTCP}, 1},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		struct record records[] = {HELLO, EVENTS(), PRESENT(7, 40000, 1000, 0), {0}};

		assert_non_null(l);
		records[1].coverage.rung = cases[i].coverage.rung;
		records[1].coverage.udp_connect = cases[i].coverage.udp_connect;
		records[2].sighting.role = cases[i].sighting.role;
		records[2].sighting.source = cases[i].sighting.source;
		records[2].sighting.protocol = cases[i].sighting.protocol;
		records[2].sighting.preexisting = cases[i].sighting.preexisting;
		play(l, records);
		assert_int_equal(ledger_stats(l).found_only_by_sweep, cases[i].found);
	}
}

#define HOME 3 /* the namespace that is swept */

static struct claim left_open(uint64_t cookie, uint16_t port, uint64_t netns)
{
	struct claim c = {
		.id = cookie,
		.cookie = cookie,
		.netns = netns,
		.source = SOURCE_EVENTS,
		.local = LOOPBACK(port),
		.opened_boot = 30,
		.opened_after_boot = USEC_UNSET,
		.opened_wall = 1000030,
		.closed_boot = USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
		.released_boot = USEC_UNSET,
	};

	return c;
}

/* An earlier session left open: one of here, two of another namespace, and one of there of which a remainder was left. */
static void adopt_all(struct ledger *l, bool goes_on)
{
	struct claim left[] = {left_open(1, 40001, HOME), left_open(2, 40002, 5),
		left_open(3, 40003, 5), left_open(4, 40004, 5)};
	const struct drained stored = {.ring = {9, 10}, .lost = 2, .at = 90};

	left[3].closed_boot = 70;
	for (size_t i = 0; i < ELEMENTSOF(left); i++)
		assert_int_equal(ledger_adopt(l, &left[i], 90), 0);
	ledger_ring_before(l, &stored, goes_on, goes_on);
}

#define ABROAD(number) number " tcp 127.0.0.1:4000" number " connected =30"

static void test_adopted(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	adopt_all(l, true);
	/* the ring tells one end; no sweep shows the claim of here; and of a loss only what is new is told */
	play(l, SCRIPT(HELLO, {RECORD_NETNS, .netns = {HOME, 2, NULL, {0, 0}}},
			EVENTS(.netns_all = true), EVENT_CLOSED(3, 95),
			DRAINED(9, 20, 105, .lost = 3), SWEPT(1, HOME), {RECORD_RESYNC},
			SWEPT(2, HOME)));
	assert_string_equal(log.text,
		"netns 3 2 -\n"
		"released " ABROAD(
			"3") " closed=95 released=95 told none\n"
			     "gap 1000090-1000105 events-lost 1\ndrained 9 to 20\n"
			     "released " ABROAD(
				     "1") " closed=90 released=90 told none end-unseen\n"
					  "released " ABROAD(
						  "4") " closed=70 released=90 told none\n" UNTIL1
						  UNTIL2);
	assert_int_equal(ledger_stats(l).open_claims, 1);
	/* it is as open as ever: its end comes as an event */
	log.text[0] = '\0';
	play(l, SCRIPT(EVENT_CLOSED(2, 2500)));
	assert_string_equal(
		log.text, "released " ABROAD("2") " closed=2500 released=2500 told none\n");
}

/* With another ring nobody knows what became of them; and nobody will where only our own namespace is watched. */
static void test_not_adopted(void **state)
{
	static const struct {
		bool goes_on;
		struct record coverage;
	} cases[] = {
		{false, EVENTS(.netns_all = true)},
		{true, COVERAGE(.protocols = ALL, .rung = SOURCE_DESTROY)},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		const struct record records[] = {HELLO,
			{RECORD_NETNS, .netns = {HOME, 2, NULL, {0, 0}}}, cases[i].coverage,
			SWEPT(1, HOME), {0}};

		assert_non_null(l);
		adopt_all(l, cases[i].goes_on);
		play(l, records);
		assert_int_equal(ledger_stats(l).open_claims, 0);
		assert_non_null(strstr(log.text,
			"released " ABROAD("2") " closed=90 released=90 told none end-unseen\n"));
	}
}

/* The end that the ring tells of what an earlier session left open. */
static const struct {
	bool goes_on, closed; /* closed: its end was told to the earlier session */
	struct script script;
} ends_of_adopted[] = {
	{true, false,
		{"the ring has recorded all the while: exact",
			SCRIPT(HELLO, EVENTS(.netns_all = true), EVENT_CLOSED(1, 500)),
			"released " ABROAD("1") " closed=500 released=500 told none\n"}},
	{false, false,
		{"it has not, and the socket may have had the port twice",
			SCRIPT(HELLO, EVENTS(.netns_all = true), EVENT_CLOSED(1, 500)),
			"released " ABROAD("1") " closed(90,500] released=500 told none\n"}},
	{false, false,
		{"... of which something is left",
			SCRIPT(HELLO, EVENTS(.netns_all = true),
				EVENT_CLOSED(1, 500, .time_wait = true)),
			"changed " ABROAD("1") " closed(90,500] told none\n"}},
	{false, false,
		{"... but it was shown since",
			SCRIPT(HELLO, EVENTS(.netns_all = true), PRESENT(1, 40001, 400, 0),
				EVENT_CLOSED(1, 500)),
			"released " ABROAD("1") " closed=500 released=500 told none\n"}},
	{false, true,
		{"... and the end that was told is told again",
			SCRIPT(HELLO, EVENTS(.netns_all = true), EVENT_CLOSED(1, 70)),
			"released " ABROAD("1") " closed=70 released=70 told none\n"}},
};

static void test_ends_of_adopted(void **state)
{
	const struct drained stored = {.ring = {9, 10}, .at = 90};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(ends_of_adopted); i++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		struct claim claim = left_open(1, 40001, HOME);
		bool goes_on = ends_of_adopted[i].goes_on;

		print_message("  %s\n", ends_of_adopted[i].script.title);
		assert_non_null(l);
		if (ends_of_adopted[i].closed)
			claim.closed_boot = 70;
		assert_int_equal(ledger_adopt(l, &claim, 90), 0);
		ledger_ring_before(l, &stored, goes_on, goes_on);
		play(l, ends_of_adopted[i].script.records);
		assert_non_null(strstr(log.text, ends_of_adopted[i].script.log));
	}
}

/* Each namespace has a range of its own; what is outside of it and of ours is not watched any more. It was open as long as the
 * ring has told, if that has told all ends. */
static void test_ranges_elsewhere(void **state)
{
	static const struct {
		uint64_t lost_ends;
		const char *closed;
	} cases[] = {{0, "1500"}, {1, "500"}};
	const struct record elsewhere = {RECORD_NETNS, .netns = {5, 6, NULL, {10000, 20000}}};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct log log = {0}, expected = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

		assert_non_null(l);
		play(l, SCRIPT(HELLO, {RECORD_NETNS, .netns = {HOME, 2, NULL, {32768, 60999}}},
				EVENTS(.netns_all = true), elsewhere,
				EVENT(1, 15000, 500, .netns = 5), EVENT(2, 25000, 500, .netns = 5),
				EVENT(3, 15000, 500, .netns = HOME), SWEPT(1, HOME),
				DRAINED(9, 10, 1500, .lost_ends = cases[i].lost_ends)));
		log.text[0] = '\0';
		play(l, SCRIPT(COVERAGE_IN(32768, 60999, .protocols = ALL, .rung = SOURCE_EVENTS,
				.netns_all = true)));
		say(&expected,
			"released 2 tcp 127.0.0.1:25000 connected =500 closed=%s released=%s told none "
			"end-unseen\n"
			"released 3 tcp 127.0.0.1:15000 connected =500 closed=1000 released=1000 told "
			"none end-unseen\n",
			cases[i].closed, cases[i].closed);
		assert_string_equal(log.text, expected.text);
	}
}

static void fail_all(const struct script *scripts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check_failing(&scripts[i]);
}

static void test_no_memory(void **state)
{
	(void)state;
	failing_hits = 0;
	fail_all(claims, ELEMENTSOF(claims));
	fail_all(merging, ELEMENTSOF(merging));
	fail_all(ring, ELEMENTSOF(ring));
	fail_all(failures, ELEMENTSOF(failures));
	assert_true(failing_hits > 100);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_merging),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_failures_limit),
		cmocka_unit_test(test_found_only_by_sweep),
		cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_not_adopted),
		cmocka_unit_test(test_ends_of_adopted),
		cmocka_unit_test(test_ranges_elsewhere),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
