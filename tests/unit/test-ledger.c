/* SPDX-License-Identifier: MIT */

/*
 * Scripts of records, and what the sink is told. A line is an event and its claim:
 *     opened 7 tcp 40000 connected (900,1000] none
 * (900,1000] is a time with its bound, =1000 one that is exact. Wall time is boottime plus 1,000,000.
 * The random world is in test-ledger-random.c.
 */

#include "daemon/ledger/ledger.h"

#include "common/stream.h"

#include <inttypes.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/failing.h"

#define LOG_BYTES 8192

struct log {
	char text[LOG_BYTES];
	uint64_t next_id;
	unsigned released;
};

static void say(struct log *log, const char *format, ...) _printf_(2, 3);

static void say(struct log *log, const char *format, ...)
{
	size_t used = strlen(log->text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(log->text + used, LOG_BYTES - used, format, arguments);
	va_end(arguments);
}

static void say_time(struct log *log, const char *what, usec_t at, usec_t after)
{
	if (at == USEC_UNSET)
		return;
	if (after == USEC_UNSET)
		say(log, "%s=%" PRIu64, what, at);
	else
		say(log, "%s(%" PRIu64 ",%" PRIu64 "]", what, after, at);
}

static void say_claim(struct log *log, const char *event, const struct claim *c)
{
	char local[ENDPOINT_TEXT_MAX], remote[ENDPOINT_TEXT_MAX];

	say(log, "%s %" PRIu64 " %s %s", event, c->cookie,
		protocol_name((enum protocol)c->protocol), endpoint_format(&c->local, local));
	if (c->remote.port != 0)
		say(log, "-%s", endpoint_format(&c->remote, remote));
	say(log, " %s", role_name((enum role)c->role));
	say_time(log, " ", c->opened_boot, c->opened_after_boot);
	say_time(log, " closed", c->closed_boot, c->closed_after_boot);
	say_time(log, " released", c->released_boot, USEC_UNSET);
	say(log, " %s", attribution_name((enum attribution)c->attribution));
	if (c->opener)
		say(log, " by %" PRId32, c->opener->pid);
	for (uint32_t i = 0; i < c->holder_count; i++) {
		say(log, " held %" PRId32 "@%" PRIu64, c->holders[i].process->pid,
			c->holders[i].from_boot);
		if (c->holders[i].until_boot != USEC_UNSET)
			say(log, "-%" PRIu64, c->holders[i].until_boot);
	}
	if (c->holders_dropped > 0)
		say(log, " and %" PRIu32, c->holders_dropped);
	say(log, "%s%s\n", c->preexisting ? " preexisting" : "",
		c->end_unseen ? " end-unseen" : "");
}

static void on_opened(void *context, struct claim *claim)
{
	struct log *log = context;

	claim->id = ++log->next_id;
	say_claim(log, "opened", claim);
}

static void on_changed(void *context, struct claim *claim)
{
	say_claim(context, "changed", claim);
}

static void on_released(void *context, struct claim *claim)
{
	struct log *log = context;

	assert_true(claim->id > 0);
	assert_true(claim->opened_boot <= claim->closed_boot);
	assert_true(claim->closed_boot <= claim->released_boot);
	log->released++;
	say_claim(log, "released", claim);
}

static void on_coverage_begins(void *context, const struct coverage *c, usec_t from_wall)
{
	say(context, "covers %" PRIu32 " from %" PRIu64 "\n", c->protocols, from_wall);
}

static void on_coverage_extends(void *context, struct now until)
{
	say(context, "until %" PRIu64 "/%" PRIu64 "\n", until.boot, until.wall);
}

static void on_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	say(context, "gap %" PRIu64 "-%" PRIu64 " %s %" PRId64 "\n", from_wall, until_wall, reason,
		(int64_t)lost);
}

static void on_clock_step(void *context, usec_t at_wall, int64_t by_usec)
{
	say(context, "clock %" PRIu64 " by %" PRId64 "\n", at_wall, by_usec);
}

static void on_netns(void *context, const struct netns *n)
{
	say(context, "netns %" PRIu64 " %" PRIu64 " %s\n", n->cookie, n->inode,
		n->name ? n->name : "-");
}

static struct ledger_sink sink_of(struct log *log)
{
	return (struct ledger_sink){
		.context = log,
		.opened = on_opened,
		.changed = on_changed,
		.released = on_released,
		.coverage_begins = on_coverage_begins,
		.coverage_extends = on_coverage_extends,
		.gap = on_gap,
		.clock_step = on_clock_step,
		.netns = on_netns,
	};
}

/* The processes of the scripts; the last two have the same pid. The ledger only borrows them here. */
#define PERSON(number, started)                                                                    \
	{                                                                                          \
		.references = 1, .pid = number, .start_boot = started                              \
	}
static struct process ann = PERSON(101, 1), bob = PERSON(102, 2), cid = PERSON(103, 3),
		      ann_again = PERSON(101, 1), other_ann = PERSON(101, 9), nobody = PERSON(0, 0);
static char reason[] = "ring-full", netns_name[] = "blue";

#define ALL 15 /* protocols */

#define LOOPBACK(p)                                                                                \
	{                                                                                          \
		{FAMILY_IPV4, {127, 0, 0, 1}}, p                                                   \
	}

/* Records. What a PRESENT has besides follows as designated members. */
#define HELLO                                                                                      \
	{                                                                                          \
		RECORD_HELLO, .hello = {.at = {100, 1000100} }                                     \
	}
#define COVERAGE(...)                                                                              \
	{                                                                                          \
		RECORD_COVERAGE, .coverage = { __VA_ARGS__ }                                       \
	}
#define START HELLO, COVERAGE(.protocols = ALL)
#define PROCESS(r, p)                                                                              \
	{                                                                                          \
		RECORD_PROCESS, .process = { r, p }                                                \
	}
#define SIGHTING(k, c, when, since, ...)                                                           \
	{                                                                                          \
		RECORD_SIGHTING, .sighting = {                                                     \
			.kind = SIGHTING_##k,                                                      \
			.cookie = c,                                                               \
			.at = when,                                                                \
			.after = since,                                                            \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define PRESENT(c, port, at, after, ...)                                                           \
	SIGHTING(PRESENT, c, at, after, .local = LOOPBACK(port), .expires = USEC_UNSET, __VA_ARGS__)
#define TIME_WAIT(c, port, at, after, due, ...)                                                    \
	SIGHTING(PRESENT, c, at, after, .local = LOOPBACK(port), .time_wait = true,                \
		.expires = due, __VA_ARGS__)
#define ABSENT(c, at, after) SIGHTING(ABSENT, c, at, after, .expires = USEC_UNSET)
#define CLOSED(c, at, ...)   SIGHTING(CLOSED, c, at, USEC_UNSET, __VA_ARGS__)
#define BY(learnt, ref)      .attribution = ATTRIBUTION_##learnt, .opener = ref
#define HELD(count, ...)     .holder_count = count, .holders = {__VA_ARGS__}
#define PARTIAL(n, mask, b, e)                                                                     \
	{                                                                                          \
		RECORD_SWEEP, .sweep = {                                                           \
			.number = n,                                                               \
			.begin = b,                                                                \
			.end = e,                                                                  \
			.now = {e, 1000000 + (e)},                                                 \
			.protocols = mask,                                                         \
			.cpu_usec = n                                                              \
		}                                                                                  \
	}
#define SWEEP(n) PARTIAL(n, ALL, (n)*1000, (n)*1000 + 10)

#define SCRIPT(...)                                                                                \
	(const struct record[])                                                                    \
	{                                                                                          \
		__VA_ARGS__,                                                                       \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}

/* What the sweep n says, with nothing else. */
#define UNTIL1  "covers 15 from 1001000\nuntil 1010/1001010\n"
#define UNTIL2  "until 2010/1002010\n"
#define UNTIL3  "until 3010/1003010\n"
#define UNTIL4  "until 4010/1004010\n"
#define NEW     "7 tcp 127.0.0.1:40000 connected (0,1000]"
#define OPENED7 "opened " NEW " none\n"

struct script {
	const char *title;
	const struct record *records;
	const char *log;
};

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
	{"an aborted sweep proves nothing, one of another protocol neither",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), SWEEP(1),
			PARTIAL(2, 0, 2000, 2010), PARTIAL(3, ALL & ~1u, 3000, 3010),
			PARTIAL(4, 1, 4000, 4010)),
		OPENED7 UNTIL1 "released " NEW " closed(1000,1010] released=1010 none\n"},
	{"an mptcp claim is ended by a sweep of mptcp",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), SWEEP(1),
			PRESENT(7, 40000, 1500, 0, .protocol = PROTOCOL_MPTCP),
			ABSENT(7, 2010, 1000), SWEEP(2), PARTIAL(3, 7, 3000, 3010),
			PARTIAL(4, 8, 4000, 4010)),
		OPENED7 UNTIL1 "changed 7 mptcp 127.0.0.1:40000 connected (0,1000] none\n" UNTIL2
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
		SCRIPT(HELLO, {RECORD_NETNS, .netns = {7, 8, netns_name}},
			{RECORD_NETNS, .netns = {9, 8, NULL}}),
		"netns 7 8 blue\nnetns 9 8 -\n"},
	{"a clock that is set is a step, one that is slewed is none",
		SCRIPT(START, {RECORD_SWEEP, .sweep = {1, 1000, 1010, {1010, 1501010}, 0}},
			{RECORD_SWEEP, .sweep = {2, 2000, 2010, {2010, 2002011}, 0}},
			{RECORD_SWEEP, .sweep = {3, 3000, 3010, {3010, 1003010}, 0}},
			PRESENT(7, 40000, 3500, 3000)),
		"clock 2002011 by 500001\nclock 1003010 by -996991\n"
		"opened 7 tcp 127.0.0.1:40000 connected (3000,3500] none\n"},
	{"after a resync, what nobody shows is over",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(8, 40000, 900, 0), SWEEP(1),
			{RECORD_RESYNC}, PRESENT(9, 40000, 1500, 0), PRESENT(7, 40000, 1500, 0),
			PARTIAL(2, ALL & ~1u, 2000, 2010), SWEEP(3), SWEEP(4)),
		OPENED7 "opened 8 tcp 127.0.0.1:40000 connected (0,900] none\n" UNTIL1
			"opened 9 tcp 127.0.0.1:40000 connected (0,1500] none\n"
			"released 8 tcp 127.0.0.1:40000 connected (0,900] closed(1000,3000] "
			"released=3000 none\n" UNTIL3 UNTIL4},
	{"after a resync, a whole sweep ends even what is not watched any more",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), COVERAGE(.protocols = 2), {RECORD_RESYNC},
			PARTIAL(1, 2, 2000, 2010)),
		OPENED7 "released " NEW " closed(0,2000] released=2000 none\n"
			"covers 2 from 1002000\n" UNTIL2},
	{"an absence told before the resync keeps its bounds",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), ABSENT(7, 1010, 1000), {RECORD_RESYNC},
			SWEEP(2)),
		OPENED7 "released " NEW " closed(1000,1010] released=1010 none\n"
			"covers 15 from 1002000\n" UNTIL2},
};

/* Each must be refused after what is before it, and leave everything as it was. */
static const struct script contradictions[] = {
	{"before the hello", SCRIPT(COVERAGE(.protocols = ALL)), ""},
	{"a sighting before the hello", SCRIPT(PRESENT(7, 40000, 1000, 0)), ""},
	{"a resync before the hello", SCRIPT({RECORD_RESYNC}), ""},
	{"a second hello", SCRIPT(HELLO, HELLO), ""},
	{"an unknown opener", SCRIPT(START, PRESENT(7, 40000, 1000, 0, BY(EVENT, 1))), ""},
	{"an unknown holder",
		SCRIPT(START, PROCESS(1, &ann), PRESENT(7, 40000, 1000, 0, HELD(2, 1, 2))), ""},
	{"an unknown holder of a known claim",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(7, 40000, 2000, 0, HELD(1, 2))),
		OPENED7},
	{"an unknown holder of a claim on another port",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0), PRESENT(7, 40001, 2000, 0, HELD(1, 2))),
		OPENED7},
	{"a forgotten opener",
		SCRIPT(START, PROCESS(1, &ann), {RECORD_FORGET, .forget = 1},
			PRESENT(7, 40000, 1000, 0, BY(EVENT, 1))),
		""},
	{"forgetting nobody", SCRIPT(START, {RECORD_FORGET, .forget = 1}), ""},
	{"a ref for another process", SCRIPT(START, PROCESS(1, &ann), PROCESS(1, &other_ann)), ""},
	{"a process with no ref", SCRIPT(START, PROCESS(0, &ann)), ""},
	{"more holders than there can be",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .holder_count = LIMIT_HOLDERS + 1)), ""},
	{"a socket without a port", SCRIPT(START, PRESENT(7, 0, 1000, 0)), ""},
	{"a socket without an address",
		SCRIPT(START, SIGHTING(PRESENT, 7, 1000, 0, .local = {.port = 1})), ""},
	{"a socket without a cookie", SCRIPT(START, PRESENT(0, 40000, 1000, 0)), ""},
	{"a bound past its time", SCRIPT(START, PRESENT(7, 40000, 1000, 1001)), ""},
	{"an absence with a bound past its time", SCRIPT(START, ABSENT(7, 1000, 1001)), ""},
	{"no time", SCRIPT(START, CLOSED(7, USEC_UNSET)), ""},
	{"no kind", SCRIPT(START, {RECORD_SIGHTING, .sighting = {.after = USEC_UNSET}}), ""},
	{"a sweep that ends before it begins", SCRIPT(START, PARTIAL(1, ALL, 1000, 999)), ""},
	{"a sweep told twice", SCRIPT(START, SWEEP(1), PARTIAL(1, ALL, 2000, 2010)), UNTIL1},
	{"a gap that ends before it begins", SCRIPT(START, {RECORD_GAP, .gap = {2, 1, 0, reason}}),
		""},
	{"a gap without a reason", SCRIPT(START, {RECORD_GAP, .gap = {1, 2, 0, NULL}}), ""},
};

static int say_each(void *context, struct claim *claim)
{
	say_claim(context, "open", claim);
	return 0;
}

/* All that can be seen of a ledger from outside. */
static void describe(struct ledger *l, struct log *log)
{
	struct ledger_stats s = ledger_stats(l);

	*log = (struct log){0};
	assert_int_equal(ledger_each(l, say_each, log), 0);
	say(log, "%" PRIu64 " open %" PRIu64 " sweeps %" PRIu64 " usec %" PRIu64 " unattributed ",
		s.open_claims, s.sweeps, s.sweep_cpu_usec, s.unattributed);
	say(log, "%" PRIu64 " gaps %" PRIu64 " lost %" PRIu64 " only by sweep, %d, wall %" PRIu64,
		s.gaps, s.lost, s.found_only_by_sweep, s.watching, ledger_wall(l, 0));
}

static void play(struct ledger *l, const struct record *records)
{
	for (; records->type != 0; records++)
		assert_int_equal(ledger_apply(l, records), 0);
}

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

static void test_contradictions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(contradictions); i++) {
		struct log log = {0}, before, after;
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		const struct record *r = contradictions[i].records;

		print_message("  %s\n", contradictions[i].title);
		assert_non_null(l);
		for (; r[1].type != 0; r++)
			assert_int_equal(ledger_apply(l, r), 0);
		describe(l, &before);
		assert_int_equal(ledger_apply(l, r), -EBADMSG);
		describe(l, &after);
		assert_string_equal(after.text, before.text);
		assert_string_equal(log.text, contradictions[i].log);
	}
}

static void test_not_for_the_ledger(void **state)
{
	static const enum record_type types[] = {RECORD_SETTINGS, RECORD_BARRIER, RECORD_BYE,
		RECORD_READY, RECORD_SYNC, RECORD_COMMITTED, RECORD_FOLLOW};
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START));
	for (size_t i = 0; i < ELEMENTSOF(types); i++)
		assert_int_equal(ledger_apply(l, &(struct record){types[i]}), -EINVAL);
	assert_string_equal(log.text, "");
}

static struct claim adoptable(uint64_t cookie, uint16_t port, uint8_t protocol)
{
	struct claim c = {
		.id = cookie,
		.cookie = cookie,
		.protocol = protocol,
		.local = LOOPBACK(port),
		.opened_boot = 30,
		.opened_after_boot = 20,
		.opened_wall = 1000030,
		.closed_boot = USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
		.released_boot = USEC_UNSET,
		.attribution = ATTRIBUTION_EVENT,
		.opener = process_ref(&ann),
	};

	c.holders = calloc(1, sizeof(*c.holders));
	assert_non_null(c.holders);
	c.holders[0] = (struct holder){process_ref(&bob), 40, USEC_UNSET};
	c.holder_count = 1;
	return c;
}

#define ADOPTED(c) c " tcp 127.0.0.1:40000 connected (20,30]"
#define BY_BOTH    " event by 101 held 102@40"

static const struct {
	struct script script;
	bool lingers; /* the adopted claim is in TIME_WAIT since 35 */
} adoptions[] = {
	{{"seen again: it goes on, and nobody is said to have let go of it",
		SCRIPT(START, PRESENT(7, 40000, 1000, 0, .preexisting = true), SWEEP(1), SWEEP(2)),
		UNTIL1 UNTIL2}},
	{{"seen again with a holder who was not known, without one who was",
		SCRIPT(START, PROCESS(1, &ann_again), PROCESS(3, &cid),
			PRESENT(7, 40000, 1000, 0, BY(PROCFD, 3), .preexisting = true)),
		"changed " ADOPTED("7") " event by 101 held 102@40-1000 held 103@1000\n"}},
	{{"not seen by the first sweep of its protocol",
		SCRIPT(START, PARTIAL(1, ALL & ~1u, 1000, 1010), PARTIAL(2, 1, 2000, 2010)),
		"released " ADOPTED("7") " closed=90 released=90" BY_BOTH " end-unseen\n"}},
	{{"seen on another port: that is a new one",
		SCRIPT(START, PRESENT(7, 40001, 1000, 0, .preexisting = true), SWEEP(1)),
		"released " ADOPTED(
			"7") " closed(20,1000] released=1000" BY_BOTH "\n"
			     "opened 7 tcp 127.0.0.1:40001 connected (90,1000] none preexisting\n" UNTIL1}},
	{{"told by events before the first sweep", SCRIPT(START, CLOSED(7, 500)),
		"released " ADOPTED("7") " closed=500 released=500" BY_BOTH "\n"}},
	{{"in TIME_WAIT now: nobody holds it, and the opener stays",
		SCRIPT(START, TIME_WAIT(7, 40000, 1000, 0, 1500, .preexisting = true), SWEEP(1)),
		"changed " ADOPTED("7") " closed(20,1000] event by 101 held 102@40-1000\n" UNTIL1}},
	{{"resynced before it was seen", SCRIPT(START, {RECORD_RESYNC}, SWEEP(1)),
		"released " ADOPTED("7") " closed=90 released=90" BY_BOTH " end-unseen\n" UNTIL1}},
	{{"what lingered and is gone was closed before, not unseen", SCRIPT(START, SWEEP(1)),
		 "released " ADOPTED("7") " closed(30,35] released=90" BY_BOTH "\n" UNTIL1},
		true},
};

static void test_adopted(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(adoptions); i++) {
		struct log log = {0};
		struct ledger_sink sink = sink_of(&log);
		_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
		struct claim claim = adoptable(7, 40000, PROTOCOL_TCP);

		print_message("  %s\n", adoptions[i].script.title);
		assert_non_null(l);
		if (adoptions[i].lingers) {
			claim.closed_boot = 35;
			claim.closed_after_boot = 30;
		}
		ledger_watched_until(l, 90);
		assert_int_equal(ledger_adopt(l, &claim, 90), 0);
		assert_int_equal(ledger_stats(l).open_claims, 1);
		assert_int_equal(ledger_stats(l).unattributed, 0);
		play(l, adoptions[i].script.records);
		assert_string_equal(log.text, adoptions[i].script.log);
	}
	assert_int_equal(ann.references + bob.references + cid.references, 3);
}

static void test_adopted_twice(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	struct claim first = adoptable(7, 40000, PROTOCOL_TCP);
	_cleanup_(claim_done) struct claim second = adoptable(7, 40001, PROTOCOL_UDP);

	(void)state;
	assert_non_null(l);
	assert_int_equal(ledger_adopt(l, &first, 90), 0);
	assert_int_equal(ledger_adopt(l, &second, 90), -EEXIST);
	assert_ptr_equal(second.opener, &ann);
	assert_int_equal(ledger_stats(l).open_claims, 1);
}

/* A first sweep after an earlier session bounds what it finds, but never past its own time. */
static void test_watched_until(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	ledger_watched_until(l, 500);
	play(l, SCRIPT(START, PRESENT(1, 1, 1000, 0, .preexisting = true),
			PRESENT(2, 2, 1000, 600, .preexisting = true),
			PRESENT(3, 3, 400, 0, .preexisting = true), PRESENT(4, 4, 1000, 0)));
	assert_string_equal(log.text,
		"opened 1 tcp 127.0.0.1:1 connected (500,1000] none preexisting\n"
		"opened 2 tcp 127.0.0.1:2 connected (600,1000] none preexisting\n"
		"opened 3 tcp 127.0.0.1:3 connected (400,400] none preexisting\n"
		"opened 4 tcp 127.0.0.1:4 connected (0,1000] none\n");
}

static void test_stats(void **state)
{
	struct log log = {0}, seen;
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(HELLO, PROCESS(1, &ann), PROCESS(3, &nobody),
			COVERAGE(.protocols = ALL, .rung = SOURCE_EVENTS),
			PRESENT(1, 1, 1000, 0, .preexisting = true), PRESENT(2, 2, 1000, 0),
			PRESENT(3, 3, 1000, USEC_UNSET, .source = SOURCE_EVENTS, BY(EVENT, 1)),
			PRESENT(4, 4, 1000, 0, BY(KERNEL, 0)), PRESENT(5, 5, 1000, 0, BY(UID, 3)),
			PARTIAL(1, 1, 1000, 1010)));
	describe(l, &seen);
	assert_non_null(strstr(seen.text,
		"5 open 0 sweeps 0 usec 3 unattributed 0 gaps 0 lost 3 only by sweep, 0, wall"));
	play(l, SCRIPT(SWEEP(2), PRESENT(2, 2, 1500, 0, BY(PROCFD, 1)), CLOSED(1, 1600),
			COVERAGE(.protocols = ALL, .rung = SOURCE_SWEEP), PRESENT(6, 6, 1700, 0),
			{RECORD_GAP, .gap = {1, 2, 5, reason}},
			{RECORD_GAP, .gap = {1, 2, LOST_UNKNOWN, reason}}));
	describe(l, &seen);
	assert_non_null(strstr(seen.text,
		"5 open 1 sweeps 2 usec 2 unattributed 2 gaps 5 lost 3 only by sweep, 1, wall"));
}

static int stop_at_two(void *context, struct claim *claim)
{
	say(context, "%" PRIu64 " ", claim->cookie);
	return claim->cookie == 2 ? -ECANCELED : 0;
}

static void test_each_in_order(void **state)
{
	struct log log = {0}, visited = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START, PRESENT(9, 9, 1000, 0), PRESENT(5, 5, 1000, 0),
			PRESENT(7, 7, 1000, 0), CLOSED(5, 1100), PRESENT(9, 8, 1200, 0),
			PRESENT(2, 2, 1000, 0), PRESENT(4, 4, 1000, 0)));
	assert_int_equal(ledger_each(l, stop_at_two, &visited), -ECANCELED);
	assert_string_equal(visited.text, "7 9 2 ");
}

/* What 50,000 open claims cost on the heap, holders apart: a promise of DESIGN. */
static void test_memory(void **state)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);
	size_t before = mallinfo2().uordblks, each;
	struct record r = PRESENT(1, 40000, 1000, 0);

	(void)state;
	assert_non_null(l);
	play(l, SCRIPT(START));
	for (r.sighting.cookie = 1; r.sighting.cookie <= 50000; r.sighting.cookie++)
		assert_int_equal(ledger_apply(l, &r), 0);
	each = (mallinfo2().uordblks - before) / 50000; /* 0 under a sanitizer's allocator */
	print_message("  %zu bytes for each open claim\n", each);
	assert_true(each < 300);
	assert_int_equal(ledger_stats(l).open_claims, 50000);
}

/* Every record of every script with every allocation failing once: it changes nothing, and works when repeated. */
static void apply_failing(struct ledger *l, const struct record *r)
{
	struct log before, after;
	int result = -ENOMEM;

	describe(l, &before);
	for (unsigned n = 0; result == -ENOMEM; n++) {
		failing_in = n;
		result = ledger_apply(l, r);
		failing_in = UINT_MAX;
		if (result == 0)
			break;
		assert_int_equal(result, -ENOMEM);
		describe(l, &after);
		assert_string_equal(after.text, before.text);
	}
}

static void check_failing(const struct script *s)
{
	struct log log = {0};
	struct ledger_sink sink = sink_of(&log);
	_cleanup_(ledger_free_p) struct ledger *l = ledger_new(&sink);

	assert_non_null(l);
	for (const struct record *r = s->records; r->type != 0; r++)
		apply_failing(l, r);
	assert_string_equal(log.text, s->log);
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
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_not_for_the_ledger),
		cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_adopted_twice),
		cmocka_unit_test(test_watched_until),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_each_in_order),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
