/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <time.h>

#include "client/near.h"
#include "client/options.h"

/* 2026-11-23 03:12:00 UTC */
#define NOW      UINT64_C(1795403520000000)
#define ARGS_MAX 8

/* Parses a command line whose words are separated by '|'. */
static int parse(const char *line, bool terminal, struct options *ret)
{
	static char name[] = "portledger", words[512];
	char *argv[ARGS_MAX + 2] = {name}, *save = NULL;
	int argc = 1;

	assert_true(strlen(line) < sizeof(words));
	strcpy(words, line);
	for (char *word = strtok_r(words, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
		assert_true(argc <= ARGS_MAX);
		argv[argc++] = word;
	}
	return options_parse(argc, argv, NOW, terminal, ret);
}

static void test_verbs(_unused_ void **state)
{
	static const struct {
		const char *line;
		enum verb verb;
		size_t ports;
	} cases[] = {
		{"", VERB_STATUS, 0},
		{"status", VERB_STATUS, 0},
		{"60530", VERB_EXPLAIN, 1},
		{"60530/udp", VERB_EXPLAIN, 1},
		{"explain|1", VERB_EXPLAIN, 1},
		{"--json=short|60530", VERB_EXPLAIN, 1},
		{"who|65535|--at=now", VERB_WHO, 1},
		{"who|--at|now|65535", VERB_WHO, 1},
		{"now", VERB_NOW, 0},
		{"now|1|2|3", VERB_NOW, 3},
		{"history|1|--|2", VERB_HISTORY, 2},
		{"follow", VERB_FOLLOW, 0},
		{"audit|--overnight", VERB_AUDIT, 0},
		{"audit|--by=unit|--diff=yesterday", VERB_AUDIT, 0},
		{"annotate|--fields=ek", VERB_ANNOTATE, 0},
		{"export|--format=csv|--cursor-file=x|--open", VERB_EXPORT, 0},
		{"doctor", VERB_DOCTOR, 0},
		{"doctor|--self-test", VERB_DOCTOR, 0},
		{"doctor|--self-test|7", VERB_DOCTOR, 0},
		{"config|--config=x", VERB_CONFIG, 0},
		{"help", VERB_HELP, 0},
		{"who|--help", VERB_HELP, 0},
		{"--version", VERB_VERSION, 0},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct options o;

		assert_int_equal(parse(cases[i].line, false, &o), 0);
		assert_int_equal(o.verb, cases[i].verb);
		assert_int_equal(o.port_count, cases[i].ports);
		options_done(&o);
	}
}

static void test_times(_unused_ void **state)
{
	static const struct {
		const char *line;
		usec_t since, until;
	} cases[] = {
		{"history", USEC_UNSET, USEC_UNSET},
		{"history|-S|02:00", NOW - 72 * USEC_PER_MINUTE, USEC_UNSET},
		{"history|-U|02:00", USEC_UNSET, NOW - 72 * USEC_PER_MINUTE},
		{"history|-S|-8h|-U|-1h", NOW - 8 * USEC_PER_HOUR, NOW - USEC_PER_HOUR},
		/* 22:00 to 08:00: under way */
		{"history|-S|last night", NOW - 312 * USEC_PER_MINUTE, NOW + 288 * USEC_PER_MINUTE},
		{"history|-S|last night|-U|02:00", NOW - 312 * USEC_PER_MINUTE,
			NOW - 72 * USEC_PER_MINUTE},
		/* 18:00 to 09:00: under way, so it ends now */
		{"audit", NOW - 552 * USEC_PER_MINUTE, NOW},
		{"report|-o|x.html", NOW - 552 * USEC_PER_MINUTE, NOW},
		{"audit|--overnight", NOW - 552 * USEC_PER_MINUTE, NOW},
		{"audit|-S|02:00", NOW - 72 * USEC_PER_MINUTE, USEC_UNSET},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct options o;

		assert_int_equal(parse(cases[i].line, false, &o), 0);
		assert_int_equal(o.since, cases[i].since);
		assert_int_equal(o.until, cases[i].until);
		options_done(&o);
	}
}

/* --diff: the same hours of another day, as long a stretch from a time on, or a stretch. */
static void test_diff(_unused_ void **state)
{
	static const struct {
		const char *line;
		struct window other;
	} cases[] = {
		{"audit|-S|02:00|-U|03:00|--diff|yesterday",
			{NOW - USEC_PER_DAY - 72 * USEC_PER_MINUTE,
				NOW - USEC_PER_DAY - 12 * USEC_PER_MINUTE}},
		{"audit|-S|02:00|-U|03:00|--diff|last week",
			{NOW - 7 * USEC_PER_DAY - 72 * USEC_PER_MINUTE,
				NOW - 7 * USEC_PER_DAY - 12 * USEC_PER_MINUTE}},
		{"audit|-S|02:00|-U|03:00|--diff|-5h",
			{NOW - 5 * USEC_PER_HOUR, NOW - 4 * USEC_PER_HOUR}},
		{"audit|-S|02:00|--diff|-5h",
			{NOW - 5 * USEC_PER_HOUR, NOW - 5 * USEC_PER_HOUR + 72 * USEC_PER_MINUTE}},
		{"audit|-S|02:00|--diff|last night",
			{NOW - 312 * USEC_PER_MINUTE, NOW + 288 * USEC_PER_MINUTE}},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct options o;

		assert_int_equal(parse(cases[i].line, false, &o), 0);
		assert_true(o.diff);
		assert_int_equal(o.other.from, cases[i].other.from);
		assert_int_equal(o.other.until, cases[i].other.until);
		options_done(&o);
	}
}

static void test_at_is_a_window(_unused_ void **state)
{
	struct options o;

	assert_int_equal(parse("who|1|--at|03:12", false, &o), 0);
	assert_int_equal(o.at_count, 1);
	assert_int_equal(o.at[0].from, NOW);
	assert_int_equal(o.at[0].until, NOW + USEC_PER_MINUTE);
	options_done(&o);
}

static void test_outputs(_unused_ void **state)
{
	static const struct {
		const char *line;
		bool terminal;
		enum output output;
	} cases[] = {
		{"now", true, OUTPUT_TABLE},
		{"now|-j", true, OUTPUT_JSON_PRETTY},
		{"now|-j", false, OUTPUT_JSON_SHORT},
		{"now|--json=pretty", false, OUTPUT_JSON_PRETTY},
		{"now|--json=short", true, OUTPUT_JSON_SHORT},
		{"now|--csv|--json=off", true, OUTPUT_TABLE},
		{"now|--csv", true, OUTPUT_CSV},
		{"now|-Fcomm", true, OUTPUT_FIELD},
		{"now|--field|comm", true, OUTPUT_FIELD},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct options o;

		assert_int_equal(parse(cases[i].line, cases[i].terminal, &o), 0);
		assert_int_equal(o.output, cases[i].output);
		options_done(&o);
	}
}

/* The filter as it goes over the wire, keys sorted. */
static void test_filters(_unused_ void **state)
{
	static const struct {
		const char *line, *filter;
	} cases[] = {
		{"now", "{}"},
		{"now|1|2", "{\"ports\":[1,2]}"},
		{"now|1/udp|2/udp", "{\"ports\":[1,2],\"protocol\":\"udp\"}"},
		{"now|--user=0", "{\"uid\":0}"},
		{"now|--user=root", "{\"uid\":0}"},
		{"now|--user=4294967294", "{\"uid\":4294967294}"},
		{"now|--pid=7", "{\"pid\":7}"},
		{"now|--addr=::0:1", "{\"address\":\"::1\"}"},
		{"now|--peer=1.2.3.4", "{\"peer\":\"1.2.3.4\"}"},
		{"now|--peer=1.2.3.4:5", "{\"peer\":\"1.2.3.4\",\"peer_port\":5}"},
		{"now|--peer=::1", "{\"peer\":\"::1\"}"},
		{"now|--peer=[::1]:5", "{\"peer\":\"::1\",\"peer_port\":5}"},
		{"now|--peer=[::1]", "{\"peer\":\"::1\"}"},
		{"now|--range=1-65535", "{\"range\":\"1-65535\"}"},
		/* a name as it is shown stays; raw bytes become as they are stored */
		{"now|--app=a\\x1b", "{\"app\":\"a\\\\x1b\"}"},
		{"now|--app=a\x1b\xff", "{\"app\":\"a\\\\x1b\\\\xff\"}"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct options o;
		json_t *filter;
		char *text;

		assert_int_equal(parse(cases[i].line, false, &o), 0);
		filter = options_filter(&o);
		text = json_dumps(filter, JSON_COMPACT | JSON_SORT_KEYS);
		assert_string_equal(text, cases[i].filter);
		free(text);
		json_decref(filter);
		options_done(&o);
	}
}

/* A command line, its words apart by '|', and what is said of it. */
static const struct {
	const char *line, *says;
} refused[] = {
	{"nonsense", "no verb nonsense"},
	{"0", "not a port"},
	{"65536", "not a port"},
	{"00000000000000001", "not a port"},
	{"1x", "not a port"},
	{"1/", "not a protocol"},
	{"1/icmp", "not a protocol"},
	{"history|1/tcp|2/udp", "one protocol"},
	{"1|2", "too many"},
	{"status|1", "too many"},
	{"who", "which port"},
	{"who|1|-n|5", "does not go with who"},
	{"1|--app=x", "does not go with explain"},
	{"now|--since=today", "does not go with now"},
	{"history|--since=gibberish", "not a time"},
	{"history|-S|today|-U|today", "ends where"},
	{"history|-S|today|-U|yesterday", "ends before"},
	{"who|1|--at=now|-S|today", "not both"},
	{"who|1|--at=03:13", "--at: that is still to come"},
	{"history|-S|tomorrow", "--since: that is still to come"},
	{"audit|-U|today", "needs a --since"},
	{"report|-o|x.svg|-U|today", "report: --until needs a --since"},
	{"report", "to which file"},
	{"report|-o|x.pdf", "neither .html nor .svg"},
	{"report|-o|.svg", "neither .html nor .svg"},
	{"report|-o|x.html|--csv", "HTML or SVG"},
	{"report|-o|x.html|--columns=exe", "--columns does not go with report"},
	{"audit|-o|x.html", "--output does not go with audit"},
	{"audit|--overnight|-U|today", "already"},
	{"audit|--by=time", "--by"},
	{"audit|--by=hour|--diff=yesterday", "--by=hour"},
	{"audit|--diff=never", "--diff"},
	{"audit|--diff=+1h", "still to come"},
	{"now|--by=unit", "--by does not go with now"},
	{"export|--format=xml", "--format"},
	{"export|--csv", "said by --format"},
	{"export|-j", "said by --format"},
	{"export|--json=off", "--json does not go with export"},
	{"version|-j", "-j does not go with version"},
	{"annotate|-F|exe", "the log that it reads"},
	{"history|--fields=eve", "--fields does not go with history"},
	{"history|-n|0", "not a number"},
	{"history|-n|100000001", "not a number"},
	{"now|--peer=1.2.3.4:", "not a port"},
	{"now|--peer=[::1", "not an address"},
	{"now|--peer=[::1]x", "not an address"},
	{"now|--peer=host:5", "not an address"},
	{"now|--pid=0", "not a process id"},
	{"now|--range=2-1", "--range"},
	{"now|--user=4294967295", "no such user"},
	{"now|--json", "needs a value"},
	{"now|-n", "needs a value"},
	{"now|--csv=1", "--csv=1, or it takes no value"},
	{"now|--host=a,b", "one host at a time"},
	{"now|--host=-oProxyCommand=x", "not a host"},
	{"now|--host=a;b", "not a host"},
	{"now|--host=a b", "not a host"},
	{"now|--host=", "not a host"},
	{"now|-H|a|--socket=/b", "not with --host"},
	{"now|--user=root|-H|a", "by number"},
	{"config|-H|a", "does not go with config"},
	{"now|--nonsense", "no option --nonsense, or"},
	{"now|-x", "no option -x"},
	{"adit", "no verb adit; did you mean audit?"},
	{"histroy|1", "did you mean history?"},
	{"help|hwo", "did you mean who?"},
	{"xyz", "no verb xyz"},
	{"now|--sicne=today", "no option --sicne=today; did you mean --since?"},
	{"now|--colour=never", "did you mean --color?"},
};

static void test_refused(_unused_ void **state)
{
	for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
		struct options o;

		assert_int_equal(parse(refused[i].line, false, &o), -EINVAL);
		if (!o.error || !strstr(o.error, refused[i].says))
			fail_msg("%s: %s", refused[i].line, o.error ? o.error : "(nothing)");
		options_done(&o);
	}
}

/* A guess is a third of the word wrong at most; what is longer than any word has none. */
static void test_near(_unused_ void **state)
{
	static const struct {
		const char *text, *word;
		bool near;
	} cases[] = {
		{"audit", "audit", true},
		{"adit", "audit", true},
		{"uadit", "audit", true},
		{"audits", "audit", true},
		{"abcit", "audit", false},
		{"", "now", false},
		{"n", "now", false},
		{"listenersnot-a-word-of-our-own", "listeners", false},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct near n = NEAR(cases[i].text);

		near_try(&n, cases[i].word);
		if ((n.best != NULL) != cases[i].near)
			fail_msg("%s, %s", cases[i].text, cases[i].word);
	}
}

static void test_socket(_unused_ void **state)
{
	struct options o;

	assert_int_equal(parse("now", false, &o), 0);
	assert_string_equal(o.socket_path, SOCKET_DEFAULT);
	assert_false(o.socket_given);
	options_done(&o);
	setenv("PORTLEDGER_SOCKET", "/a", 1);
	assert_int_equal(parse("now", false, &o), 0);
	assert_string_equal(o.socket_path, "/a");
	options_done(&o);
	assert_int_equal(parse("now|--socket=/b", false, &o), 0);
	assert_string_equal(o.socket_path, "/b");
	options_done(&o);
	unsetenv("PORTLEDGER_SOCKET");
}

static void test_host(_unused_ void **state)
{
	static const char *const hosts[] = {
		"web1", "me@web1", "ssh://me@web1.example:22", "[2001:db8::1]", "fe80::1%eth0"};
	struct options o;

	for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
		char line[64];

		snprintf(line, sizeof(line), "now|--host=%s", hosts[i]);
		assert_int_equal(parse(line, false, &o), 0);
		assert_string_equal(o.host, hosts[i]);
		options_done(&o);
	}
	/* a path of this host, and so no part of the question */
	setenv("PORTLEDGER_SOCKET", "/a", 1);
	assert_int_equal(parse("now|-H|web1|--user=33", false, &o), 0);
	assert_int_equal(o.uid, 33);
	options_done(&o);
	unsetenv("PORTLEDGER_SOCKET");
}

/* It is 03:12 on 2026-11-23. */
static void test_overnight(_unused_ void **state)
{
	static const struct {
		const char *hours;
		int from, until; /* minutes before now */
	} cases[] = {
		{"", 9 * 60 + 12, 0},
		{"18:00-09:00", 9 * 60 + 12, 0},
		{"22:30-02:00", 4 * 60 + 42, 72},
		{"00:00-06:00", 192, 0},
		{"01:00-02:00", 132, 72},
		{"04:00-05:00", 23 * 60 + 12, 22 * 60 + 12}, /* of yesterday: it has not begun */
		{"03:00-03:00", 24 * 60 + 12, 12},
	};
	struct options o;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		setenv("PORTLEDGER_OVERNIGHT", cases[i].hours, 1);
		assert_int_equal(parse("audit", false, &o), 0);
		assert_int_equal(o.since, NOW - (usec_t)cases[i].from * USEC_PER_MINUTE);
		assert_int_equal(o.until, NOW - (usec_t)cases[i].until * USEC_PER_MINUTE);
		options_done(&o);
	}
	setenv("PORTLEDGER_OVERNIGHT", "18:00", 1);
	assert_int_equal(parse("audit", false, &o), -EINVAL);
	options_done(&o);
	unsetenv("PORTLEDGER_OVERNIGHT");
}

static void test_listen(_unused_ void **state)
{
	static const struct {
		const char *line, *listen, *says;
	} cases[] = {
		{"", "/run/x", "only -"},
		{"now", "-", "nothing to ask: now"},
		{"60530", "-", "nothing to ask: 60530"},
		{"--strict", "-", "--strict does not go"},
		{"-H|a", "-", "--host does not go"},
		{"--help", "-", "--help does not go"},
	};
	struct options o;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		setenv("SYSTEMD_VARLINK_LISTEN", cases[i].listen, 1);
		assert_int_equal(parse(cases[i].line, false, &o), -EINVAL);
		assert_non_null(strstr(o.error, cases[i].says));
		options_done(&o);
	}
	assert_int_equal(parse("--socket=/b", false, &o), 0);
	assert_true(o.bridge);
	assert_string_equal(o.socket_path, "/b");
	options_done(&o);
	setenv("SYSTEMD_VARLINK_LISTEN", "", 1);
	assert_int_equal(parse("now", false, &o), 0);
	assert_false(o.bridge);
	options_done(&o);
	unsetenv("SYSTEMD_VARLINK_LISTEN");
}

static int utc(_unused_ void **state)
{
	unsetenv("PORTLEDGER_SOCKET");
	unsetenv("SYSTEMD_VARLINK_LISTEN");
	setenv("TZ", "UTC", 1);
	tzset();
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verbs),
		cmocka_unit_test(test_overnight),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_at_is_a_window),
		cmocka_unit_test(test_outputs),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_diff),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_near),
		cmocka_unit_test(test_socket),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_listen),
	};

	return cmocka_run_group_tests(tests, utc, NULL);
}
