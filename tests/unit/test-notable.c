/* SPDX-License-Identifier: MIT */

/* What is said, and what not, over a store of its own. What is written to standard error is read back. */

#include "common/stream.h"
#include "tests/unit/notable-script.h"

static void test_a_program_is_said_once(void **state)
{
	struct scene *s = *state;

	connects(s, "/usr/bin/curl", 7);
	assert_said(s, ""); /* it is not stored yet */
	assert_true(notable_waits(s->notable));
	commit_all(s);
	assert_said(s,
		"<5>test: new program: /usr/bin/curl (worker, pid 7, user@1000.service) has port "
		"40000/tcp (connected)\n");
	connects(s, "/usr/bin/curl", 8);
	assert_false(notable_waits(s->notable));
	connects(s, "/usr/bin/curl2", 8);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "\n"), 1);
	end(s);
	begin(s); /* neither after a restart */
	connects(s, "/usr/bin/curl", 9);
	connects(s, "/usr/bin/curl2", 9);
	assert_false(notable_waits(s->notable));
	assert_rows(&s->f,
		"SELECT name,exe_note,protocol,port,first_seen_usec FROM known ORDER BY name",
		"/usr/bin/curl|0|-1|0|1700000000123456|\n/usr/bin/curl2|0|-1|0|1700000000123456|\n");
	assert_int_equal(s->heard, 1 + 5);
}

static void test_what_makes_a_program(void **state)
{
	struct scene *s = *state;
	struct process *p = program("/usr/bin/x", 1), *by_name = program(NULL, 2);
	struct process *same_name = program(NULL, 3), *nobody = program(NULL, 0);

	p->exe_note = EXE_NOTE_DELETED;
	connects(s, "/usr/bin/x", 4);
	tell(s, p, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	tell(s, by_name, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	tell(s, same_name, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	tell(s, nobody, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	tell(s, NULL, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	connects(s, "worker", 5); /* an exe of the same text is another program */
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new program: "), 4);
	assert_rows(&s->f, "SELECT name,exe_note FROM known ORDER BY name,exe_note",
		"/usr/bin/x|0|\n/usr/bin/x|1|\nworker|0|\nworker|0|\n");
}

static void test_a_holder_is_a_program(void **state)
{
	struct scene *s = *state;
	struct claim c = fixture_claim(&s->f, PORT);

	c.opener = program("/usr/lib/systemd/systemd", 1);
	c.role = ROLE_LISTENING;
	c.closed_boot = USEC_UNSET;
	s->sink.opened(s->sink.context, &c);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "/usr/lib/systemd/systemd"), 2);
	/* the socket is passed to the service: it is the service that listens from here on */
	c.holders = calloc(1, sizeof(*c.holders));
	assert_non_null(c.holders);
	c.holders[0] = (struct holder){.process = program("/usr/sbin/daemon", 20),
		.from_boot = c.opened_boot,
		.until_boot = USEC_UNSET};
	c.holder_count = 1;
	s->sink.changed(s->sink.context, &c);
	s->sink.changed(s->sink.context, &c);
	commit_all(s);
	assert_said(s,
		"<5>test: new program: /usr/sbin/daemon (worker, pid 20, user@1000.service) has port "
		"40000/tcp (listening)\n"
		"<5>test: new listener: port 40000/tcp, by /usr/sbin/daemon (worker, pid 20, "
		"user@1000.service)\n");
	s->sink.released(s->sink.context, &c);
	assert_int_equal(s->heard, 1 + 4);
	claim_done(&c);
}

/* A commit that fails says nothing and loses nothing. */
static void test_a_commit_that_fails(void **state)
{
	struct scene *s = *state;

	connects(s, "/usr/bin/curl", 7);
	assert_int_equal(store_begin(s->f.store), 0);
	assert_int_equal(notable_write(s->notable, s->f.now), 0);
	store_rollback(s->f.store);
	assert_true(notable_waits(s->notable));
	assert_said(s, "");
	connects(s, "/usr/bin/curl", 8);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new program: /usr/bin/curl "), 1);
	assert_rows(&s->f, "SELECT count(*) FROM known", "1|\n");
}

static void test_a_new_database_learns(void **state)
{
	struct scene *s = *state;
	struct process *late = program("/usr/bin/late", 12);

	tell(s, program("/usr/bin/old", 10), PROTOCOL_TCP, ROLE_LISTENING, PORT, true);
	tell(s, program("/usr/bin/old", 10), PROTOCOL_UDP, ROLE_BOUND, PORT, true);
	commit_all(s); /* a question, in the middle of the first sweep */
	assert_said(s, "");
	tell(s, program("/usr/bin/older", 11), PROTOCOL_TCP, ROLE_CONNECTED, PORT, true);
	tell(s, program("/usr/bin/new", 13), PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	sweep(s);
	commit_all(s);
	assert_said(s,
		"<5>test: new program: /usr/bin/new (worker, pid 13, user@1000.service) has port "
		"40000/tcp (connected)\n"
		"<5>test: found 2 programs and 2 listeners at the first sweep: from here on, new "
		"ones are said\n");
	/* whose holder was found only later was there, too */
	tell(s, late, PROTOCOL_TCP, ROLE_CONNECTED, PORT, true);
	commit_all(s);
	assert_said(s, "");
	end(s);
	begin(s);
	sweep(s);
	assert_false(notable_waits(s->notable));
	tell(s, program("/usr/bin/old", 10), PROTOCOL_TCP, ROLE_LISTENING, PORT, true);
	assert_false(notable_waits(s->notable));
	/* a session that knows what was there before it says what it finds */
	tell(s, program("/usr/bin/meanwhile", 14), PROTOCOL_TCP, ROLE_LISTENING, PORT, true);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "/usr/bin/meanwhile"), 2);
}

/* Killed before its first whole sweep was stored, it learns once more. */
static void test_a_new_database_learns_again(void **state)
{
	struct scene *s = *state;

	tell(s, program("/usr/bin/old", 10), PROTOCOL_TCP, ROLE_LISTENING, PORT, true);
	commit_all(s);
	end(s);
	begin(s);
	tell(s, program("/usr/bin/old", 10), PROTOCOL_TCP, ROLE_LISTENING, PORT, true);
	tell(s, program("/usr/bin/old2", 10), PROTOCOL_TCP, ROLE_LISTENING, PORT, true);
	sweep(s);
	commit_all(s);
	assert_said(s,
		"<5>test: found 1 programs and 1 listeners at the first sweep: from here on, new "
		"ones are said\n");
}

static void test_who_listens(void **state)
{
	static const struct {
		enum protocol protocol;
		enum role role;
		uint16_t port;
		unsigned said;
	} cases[] = {
		{PROTOCOL_TCP, ROLE_LISTENING, PORT, 1},
		{PROTOCOL_MPTCP, ROLE_LISTENING, PORT, 1},
		{PROTOCOL_TCP, ROLE_LISTENING, CHOSEN_PORT, 1},
		{PROTOCOL_TCP, ROLE_LISTENING, PORT, 0}, /* again */
		{PROTOCOL_TCP, ROLE_BOUND, PORT + 1, 0},
		{PROTOCOL_TCP, ROLE_CONNECTED, PORT + 1, 0},
		{PROTOCOL_TCP, ROLE_ACCEPTED, PORT + 1, 0},
		{PROTOCOL_UDP, ROLE_BOUND, PORT, 0},
		{PROTOCOL_UDP, ROLE_BOUND, CHOSEN_PORT, 1},
		{PROTOCOL_UDPLITE, ROLE_BOUND, CHOSEN_PORT, 1},
		{PROTOCOL_UDP, ROLE_CONNECTED, CHOSEN_PORT + 1, 0},
	};
	struct scene *s = *state;

	connects(s, "/usr/bin/server", 1);
	commit_all(s);
	(void)said(s);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		tell(s, program("/usr/bin/server", 1), cases[i].protocol, cases[i].role,
			cases[i].port, false);
		commit_all(s);
		assert_int_equal(count_lines(said(s), "new listener: "), cases[i].said);
	}
}

static void ignore(void *context, const struct coverage *c, usec_t from)
{
	(void)context;
	(void)c;
	(void)from;
}

static void ignore_netns(void *context, const struct netns *netns)
{
	(void)context;
	(void)netns;
}

static void adopt(struct scene *s, struct ledger *l, struct process *p, enum role role,
	uint16_t port, usec_t opened_boot)
{
	struct claim c = fixture_claim(&s->f, port);

	c.protocol = PROTOCOL_UDP;
	c.role = (uint8_t)role;
	if (role == ROLE_LISTENING)
		c.protocol = PROTOCOL_TCP;
	c.opened_boot = opened_boot;
	c.closed_boot = USEC_UNSET;
	c.opener = p;
	assert_int_equal(ledger_adopt(l, &c, opened_boot), 0);
}

/* What the kernel may have chosen, or nobody holds, is a listener when it stays. */
static void test_what_stays_is_a_listener(void **state)
{
	const struct ledger_sink nowhere = {.coverage_begins = ignore};
	struct scene *s = *state;
	struct ledger *l = ledger_new(&nowhere);
	usec_t start = s->f.now.boot, opened = start + USEC_PER_MINUTE;

	assert_non_null(l);
	adopt(s, l, program("/usr/sbin/avahi", 1), ROLE_BOUND, PORT, opened);
	adopt(s, l, program("/usr/bin/dig", 2), ROLE_CONNECTED, PORT + 1, opened);
	adopt(s, l, program("/usr/bin/young", 3), ROLE_BOUND, PORT + 2, opened + USEC_PER_HOUR);
	adopt(s, l, NULL, ROLE_LISTENING, PORT + 3, opened);
	notable_look(s->notable, l, opened + NOTABLE_SETTLED_USEC - 1);
	commit_all(s); /* programs that came with an earlier session; no listener yet */
	assert_int_equal(s->notable->said[NEWS_PROGRAM], 3);
	assert_int_equal(count_lines(said(s), "new program: "), 3);
	assert_int_equal(s->notable->said[NEWS_LISTENER], 0);
	notable_look(s->notable, l, opened + NOTABLE_SETTLED_USEC); /* too soon to look again */
	assert_false(notable_waits(s->notable));
	notable_look(s->notable, l, opened + NOTABLE_SETTLED_USEC + NOTABLE_LOOK_USEC);
	commit_all(s);
	assert_said(s, "<5>test: new listener: port 40000/udp, by /usr/sbin/avahi (worker, pid 1, "
		       "user@1000.service)\n"
		       "<5>test: new listener: port 40003/tcp, by a process that is not known\n");
	notable_look(s->notable, l, opened + 2 * NOTABLE_SETTLED_USEC + NOTABLE_LOOK_USEC);
	assert_false(notable_waits(s->notable));
	ledger_free(l);
}

/* What a kernel may have chosen is for the range of the claim's own namespace to say. */
static void test_each_namespace_has_its_range(void **state)
{
	const struct ledger_sink nowhere = {.netns = ignore_netns};
	const struct record hello = {.type = RECORD_HELLO};
	const struct record netns = {.type = RECORD_NETNS,
		.netns = {.cookie = FIXTURE_NETNS, .ephemeral = {CHOSEN_PORT, CHOSEN_PORT + 9}}};
	struct scene *s = *state;
	struct ledger *l = ledger_new(&nowhere);

	assert_non_null(l);
	connects(s, "/usr/bin/server", 1);
	commit_all(s);
	(void)said(s);
	assert_int_equal(ledger_apply(l, &hello), 0);
	notable_ledger(s->notable, l); /* nothing is known of it: the daemon's own range */
	tell(s, program("/usr/bin/server", 1), PROTOCOL_UDP, ROLE_BOUND, PORT, false);
	assert_int_equal(ledger_apply(l, &netns), 0);
	tell(s, program("/usr/bin/server", 1), PROTOCOL_UDP, ROLE_BOUND, CHOSEN_PORT, false);
	assert_false(notable_waits(s->notable));
	tell(s, program("/usr/bin/server", 1), PROTOCOL_UDP, ROLE_BOUND, PORT, false);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new listener: port 40000/udp"), 1);
	ledger_free(l);
}

/* A database that a version without news has written: what it left open is no news, now or when it is looked at again. */
static void test_what_was_open_before_there_were_news(void **state)
{
	const struct ledger_sink nowhere = {.coverage_begins = ignore};
	struct scene *s = *state;
	struct ledger *l = ledger_new(&nowhere);
	usec_t start = s->f.now.boot;

	assert_non_null(l);
	adopt(s, l, program("/usr/bin/old", 1), ROLE_LISTENING, PORT, start - USEC_PER_SEC);
	adopt(s, l, program("/usr/bin/older", 2), ROLE_CONNECTED, PORT + 1, start - USEC_PER_HOUR);
	notable_adopted(s->notable, l);
	sweep(s);
	commit_all(s);
	assert_said(s,
		"<5>test: found 2 programs and 1 listeners at the first sweep: from here on, new "
		"ones are said\n");
	adopt(s, l, program("/usr/bin/late", 3), ROLE_LISTENING, PORT + 2, start - USEC_PER_SEC);
	adopt(s, l, program("/usr/bin/new", 4), ROLE_LISTENING, PORT + 3, start);
	notable_look(s->notable, l, start + NOTABLE_SETTLED_USEC);
	commit_all(s);
	assert_said(s,
		"<5>test: new program: /usr/bin/new (worker, pid 4, user@1000.service) has port "
		"40003/tcp (listening)\n"
		"<5>test: new listener: port 40003/tcp, by /usr/bin/new (worker, pid 4, "
		"user@1000.service)\n");
	ledger_free(l);
}

/* Whoever listens on whatever port it gets does not fill the table. */
static void test_many_ports(void **state)
{
	struct scene *s = *state;

	for (uint16_t i = 0; i < 20; i++)
		tell(s, program("/usr/sbin/ftpd", 1), PROTOCOL_TCP, ROLE_LISTENING, PORT + i,
			false);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new listener: "), LIMIT_LISTENER_PORTS);
	for (uint16_t i = 20; i < 40; i++)
		tell(s, program("/usr/sbin/ftpd", 1), PROTOCOL_TCP, ROLE_LISTENING, PORT + i,
			false);
	assert_false(notable_waits(s->notable));
	assert_int_equal(s->notable->rows[NEWS_LISTENER], LIMIT_LISTENER_PORTS + 1);
	end(s);
	begin(s);
	tell(s, program("/usr/sbin/ftpd", 1), PROTOCOL_TCP, ROLE_LISTENING, PORT + 50, false);
	assert_false(notable_waits(s->notable));
	/* another protocol and another program are others */
	tell(s, program("/usr/sbin/ftpd", 1), PROTOCOL_MPTCP, ROLE_LISTENING, PORT + 50, false);
	tell(s, program("/usr/sbin/ftpd2", 1), PROTOCOL_TCP, ROLE_LISTENING, PORT + 50, false);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new listener: "), 2);
	assert_rows(&s->f, "SELECT count(*) FROM known WHERE protocol=0 AND port=0", "1|\n");
}

static void test_the_seventeenth_port_is_said(void **state)
{
	struct scene *s = *state;

	for (uint16_t i = 0; i < LIMIT_LISTENER_PORTS + 2; i++)
		tell(s, program("/usr/sbin/ftpd", 1), PROTOCOL_TCP, ROLE_LISTENING, PORT + i,
			false);
	commit_all(s);
	assert_int_equal(
		count_lines(said(s),
			"<5>test: listener on many ports: 40016/tcp now, by /usr/sbin/ftpd"),
		1);
}

static struct notable_facts facts(const struct scene *s, usec_t later)
{
	return (struct notable_facts){
		.now = {.boot = s->f.now.boot + later, .wall = s->f.now.wall + later}};
}

static void test_a_flood_of_names_is_counted(void **state)
{
	struct scene *s = *state;
	struct notable_facts hour = facts(s, USEC_PER_HOUR);
	char exe[32];
	const char *text;

	for (int i = 0; i < 100; i++) {
		snprintf(exe, sizeof(exe), "/tmp/%d", i);
		connects(s, exe, 1 + i);
	}
	tell(s, program("/tmp/1", 1), PROTOCOL_TCP, ROLE_LISTENING, PORT, false);
	commit_all(s);
	text = said(s);
	assert_int_equal(count_lines(text, "new program: "), LIMIT_NEWS_HOURLY);
	assert_int_equal(
		count_lines(text, "new listener: "), 1); /* which a flood of names does not hide */
	notable_summary(s->notable, &hour);
	text = said(s);
	assert_int_equal(
		count_lines(text,
			"<4>test: 40 more new programs in the last hour were not said one by one\n"),
		1);
	assert_int_equal(count_lines(text, " 100 new programs, 1 new listeners;"), 1);
	connects(s, "/tmp/next", 1);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new program: /tmp/next"), 1);
	assert_rows(&s->f, "SELECT count(*) FROM known WHERE protocol=-1", "101|\n");
}

/* More than wait for one commit: what has no place is looked at again. */
static void test_a_flood_between_two_commits(void **state)
{
	struct scene *s = *state;
	struct process *p = program("/tmp/victim", 1);
	char exe[32];

	for (int i = 0; i < (int)LIMIT_NEWS_WAITING; i++) {
		snprintf(exe, sizeof(exe), "/tmp/%d", i);
		connects(s, exe, 2 + i);
	}
	tell(s, process_ref(p), PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	commit_all(s);
	tell(s, p, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	commit_all(s);
	assert_rows(&s->f, "SELECT count(*) FROM known WHERE name='/tmp/victim'", "1|\n");
}

/* The table is full: counted, and said once. */
static void test_a_full_table(void **state)
{
	struct scene *s = *state;
	struct notable_facts hour = facts(s, USEC_PER_HOUR);
	char sql[256];

	snprintf(sql, sizeof(sql),
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%u)"
		" INSERT INTO known SELECT i,-1,0,'x',0,1 FROM n",
		LIMIT_KNOWN_PROGRAMS);
	assert_int_equal(sql_exec(s->f.store, sql), 0);
	commit(&s->f);
	end(s);
	begin(s);
	connects(s, "/tmp/1", 1);
	connects(s, "/tmp/2", 2);
	tell(s, program("/tmp/2", 2), PROTOCOL_TCP, ROLE_LISTENING, PORT, false);
	commit_all(s);
	assert_said(s,
		"<4>test: 16384 programs are known, no more fit: new ones are only counted\n"
		"<5>test: new listener: port 40000/tcp, by /tmp/2 (worker, pid 2, user@1000.service)\n");
	notable_summary(s->notable, &hour);
	assert_int_equal(count_lines(said(s), "<4>test: 3 more new programs "), 1);
	assert_rows(&s->f, "SELECT count(*) FROM known", "16385|\n");
}

/* Retention takes the claims, the processes and the programs; what is known stays. */
static void test_retention_leaves_it_alone(void **state)
{
	struct scene *s = *state;
	struct claim c = fixture_claim(&s->f, PORT);
	struct settings settings = {
		.max_age_usec = USEC_PER_DAY, .max_bytes = 4096, OTHER_SETTINGS};

	c.opener = program("/usr/bin/curl", 7);
	assert_int_equal(store_put_released(s->f.store, &c), 0);
	s->sink.opened(s->sink.context, &c);
	claim_done(&c);
	commit_all(s);
	assert_int_equal(count_lines(said(s), "new program"), 1);
	seal_all(&s->f);
	store_settings(s->f.store, &settings); /* too large whatever goes: programs go, too */
	s->f.now.boot += 10 * USEC_PER_DAY;
	s->f.now.wall += 10 * USEC_PER_DAY;
	maintain(&s->f);
	assert_rows(&s->f, "SELECT (SELECT count(*) FROM claims)+(SELECT count(*) FROM process)",
		"0|\n");
	assert_rows(&s->f, "SELECT count(*) FROM app", "0|\n");
	end(s);
	begin(s);
	connects(s, "/usr/bin/curl", 8);
	assert_false(notable_waits(s->notable));
	assert_rows(&s->f, "SELECT name FROM known", "/usr/bin/curl|\n");
}

static void test_an_hour(void **state)
{
	struct scene *s = *state;
	struct notable_facts f = facts(s, USEC_PER_HOUR);
	usec_t start = s->f.now.boot;
	struct claim c = fixture_claim(&s->f, PORT);

	s->sink.opened(s->sink.context, &c);
	s->sink.opened(s->sink.context, &c);
	s->sink.released(s->sink.context, &c);
	notable_swept(s->notable, 1000);
	assert_false(notable_hour_is_over(s->notable, start + USEC_PER_HOUR - 1));
	assert_true(notable_hour_is_over(s->notable, start + USEC_PER_HOUR));
	f.lost = 5;
	f.gaps = 2;
	f.open_claims = 3;
	notable_summary(s->notable, &f);
	assert_said(s,
		"<6>test: in 3600 s: 2 claims opened, 1 closed, 3 open now; 0 new programs, 0 new "
		"listeners; 2 gaps, 5 claims lost\n");
	assert_false(notable_hour_is_over(s->notable, start + 2 * USEC_PER_HOUR - 1));
	f.now.boot += USEC_PER_HOUR;
	f.lost = 6;
	notable_summary(s->notable, &f);
	assert_said(s,
		"<6>test: in 3600 s: 0 claims opened, 0 closed, 3 open now; 0 new programs, 0 new "
		"listeners; 0 gaps, 1 claims lost\n");
}

static void test_gaps_and_steps(void **state)
{
	struct scene *s = *state;
	struct notable_facts hour = facts(s, USEC_PER_HOUR);

	notable_gap(s->notable, 1000000, 3500000, "killed", LOST_UNKNOWN);
	notable_gap(s->notable, 1000000, 1000000, "disk-full", 7);
	notable_clock_step(s->notable, 1, -1500000);
	notable_clock_step(s->notable, 1, INT64_MIN);
	assert_said(s,
		"<4>test: a gap of 2.500 s (killed): how many claims were missed cannot be known\n"
		"<4>test: a gap of 0.000 s (disk-full): 7 claims were lost\n"
		"<5>test: the clock was set back by 1.500 s\n"
		"<5>test: the clock was set back by 9223372036854.775 s\n");
	for (unsigned i = 0; i < 2 * LIMIT_NEWS_HOURLY; i++)
		notable_gap(s->notable, 1, 2, "ledger-behind", LOST_UNKNOWN);
	assert_int_equal(count_lines(said(s), "\n"), LIMIT_NEWS_HOURLY - 2);
	notable_summary(s->notable, &hour);
	assert_int_equal(count_lines(said(s), "62 more new gaps"), 1);
}

static void test_hostile_names(void **state)
{
	struct scene *s = *state;
	_cleanup_(free_p) char *stored = escape_store("/tmp/\x1b[2J\n<0>x\xff", 15, SIZE_MAX);
	struct process *p = program(stored, 1);

	/* the stored form is printable; were it not, the log's own edge would escape it */
	free(p->unit);
	p->unit = strdup("a\x1b]0;b\n<0>c");
	tell(s, p, PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
	commit_all(s);
	assert_said(s,
		"<5>test: new program: /tmp/\\x1b[2J\\x0a<0>x\\xff (worker, pid 1, a\\x1b]0;b\\x0a<0>c) "
		"has port 40000/tcp (connected)\n");
}

#define WATCHED(test) cmocka_unit_test_setup_teardown(test, set_up_watched, tear_down)
#define FRESH(test)   cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WATCHED(test_a_program_is_said_once),
		WATCHED(test_what_makes_a_program),
		WATCHED(test_a_holder_is_a_program),
		WATCHED(test_a_commit_that_fails),
		FRESH(test_a_new_database_learns),
		FRESH(test_a_new_database_learns_again),
		FRESH(test_what_was_open_before_there_were_news),
		WATCHED(test_who_listens),
		WATCHED(test_what_stays_is_a_listener),
		WATCHED(test_each_namespace_has_its_range),
		WATCHED(test_many_ports),
		WATCHED(test_the_seventeenth_port_is_said),
		WATCHED(test_a_flood_of_names_is_counted),
		WATCHED(test_a_flood_between_two_commits),
		WATCHED(test_a_full_table),
		WATCHED(test_retention_leaves_it_alone),
		WATCHED(test_an_hour),
		WATCHED(test_gaps_and_steps),
		WATCHED(test_hostile_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
