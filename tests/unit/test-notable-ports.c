/* SPDX-License-Identifier: MIT */

/* Ports that run short: when it is said, when it is over, and of which destination. */

#include "tests/unit/notable-script.h"

#include "common/stream.h"

#define INODE 4026531840u
#define OTHER 9u /* the net cookie of another namespace */

static void ignore_netns(void *context, const struct netns *netns)
{
	(void)context;
	(void)netns;
}

/* A namespace, and what it hands out. */
static void hands_out(
	struct ledger *l, uint64_t cookie, uint64_t inode, uint16_t low, uint16_t high)
{
	const struct record netns = {.type = RECORD_NETNS,
		.netns = {.cookie = cookie, .inode = inode, .ephemeral = {low, high}}};

	assert_int_equal(ledger_apply(l, &netns), 0);
}

/* An empty ledger in a namespace of ten ports. */
static struct ledger *ten_ports(struct scene *s)
{
	const struct record hello = {.type = RECORD_HELLO};
	struct ledger_sink sink;
	struct ledger *l;

	s->notable->next.netns = ignore_netns;
	sink = notable_sink(s->notable);
	l = ledger_new(&sink);
	assert_non_null(l);
	assert_int_equal(ledger_apply(l, &hello), 0);
	hands_out(l, FIXTURE_NETNS, INODE, PORT, PORT + 9);
	notable_ledger(s->notable, l);
	return l;
}

static void add(struct ledger *l, struct claim *c)
{
	static uint64_t cookie = 1000;

	c->cookie = cookie++;
	c->closed_boot = c->released_boot = USEC_UNSET;
	assert_int_equal(ledger_adopt(l, c, c->opened_boot), 0);
}

/* `count` connections to 192.0.2.1:`to`, each from the next port. */
static void connects_to(
	struct scene *s, struct ledger *l, unsigned count, uint16_t to, struct process *p)
{
	for (unsigned i = 0; i < count; i++) {
		struct claim c = fixture_claim(&s->f, (uint16_t)(PORT + i));

		c.remote.port = to;
		c.opener = p ? process_ref(p) : NULL;
		add(l, &c);
	}
}

static void look(struct scene *s, struct ledger *l)
{
	s->f.now.boot += USEC_PER_SEC;
	s->f.now.wall += USEC_PER_SEC;
	notable_look_at_ports(s->notable, l, s->f.now);
}

/* What is said where so many are taken to port 443. */
static const char *with(struct scene *s, unsigned count)
{
	struct ledger *l = ten_ports(s);

	connects_to(s, l, count, 443, NULL);
	look(s, l);
	notable_ledger(s->notable, NULL);
	ledger_free(l);
	return said(s);
}

#define SHORT(used, rest)                                                                          \
	"<4>test: ports run short: " used " of 10 from 127.0.0.1 to 192.0.2.1:443 are taken" rest  \
	"\n"
#define EASED(used, most)                                                                          \
	"<5>test: ports suffice again: " used                                                      \
	" of 10 from 127.0.0.1 to 192.0.2.1:443 are taken, it was " most " at most\n"

static void test_said_once_and_again_when_it_was_over(void **state)
{
	static const struct {
		unsigned used;
		const char *said;
	} steps[] = {
		{0, ""},
		{7, ""},
		{8, SHORT("8", "; at this rate all are in 2 s")}, /* 7 a second ago */
		{9, ""},
		{10, ""},
		{6, ""}, /* 60 % */
		{8, ""},
		{5, EASED("5", "10")},
		{7, ""},
		{8, SHORT("8", "; at this rate all are in 16 s")}, /* 7 eight seconds ago */
		{3, EASED("3", "8")},
		{10, SHORT("10", "")},
		{0, EASED("0", "10")},
		{0, ""},
	};
	struct scene *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(steps); i++)
		assert_string_equal(with(s, steps[i].used), steps[i].said);
	assert_null(s->notable->shortages);
}

/* Only where it could be at all. */
static void test_nothing_is_looked_at_where_few_are_open(void **state)
{
	const struct coverage wide = {.ephemeral = {32768, 60999}};
	struct scene *s = *state;
	struct ledger *l = ten_ports(s);

	connects_to(s, l, 3, 443, NULL);
	look(s, l);
	assert_int_equal(s->notable->ports_next, 0);
	connects_to(s, l, 1, 80, NULL);
	look(s, l);
	assert_int_equal(s->notable->ports_next, s->f.now.boot + USEC_PER_SEC);
	/* the daemon's own range goes for a namespace of which nothing is known */
	notable_coverage(s->notable, &wide);
	assert_string_equal(said(s), "");
	notable_ledger(s->notable, NULL);
	ledger_free(l);
}

static void test_what_is_reserved_or_bound_is_not_available(void **state)
{
	struct scene *s = *state;
	struct ledger *l = ten_ports(s);
	struct port_set reserved = {0};
	const enum role blocking[] = {ROLE_LISTENING, ROLE_BOUND, ROLE_ACCEPTED};

	connects_to(s, l, 5, 443, NULL);
	for (unsigned i = 0; i < ELEMENTSOF(blocking); i++) {
		struct claim c = fixture_claim(&s->f, (uint16_t)(PORT + 7 + i));

		c.role = (uint8_t)blocking[i];
		add(l, &c);
	}
	look(s, l);
	assert_string_equal(said(s), ""); /* 5 of 7 */
	port_set_add(&reserved, PORT + 5);
	port_set_add(&reserved, 50000);
	notable_reserved(s->notable, &reserved, INODE + 1);
	look(s, l);
	assert_string_equal(said(s), ""); /* of another namespace */
	notable_reserved(s->notable, &reserved, INODE);
	look(s, l);
	assert_int_equal(count_lines(said(s), "ports run short: 5 of 6 "), 1);
	notable_ledger(s->notable, NULL);
	ledger_free(l);
}

static void test_each_destination_for_itself(void **state)
{
	struct scene *s = *state;
	struct ledger *l = ten_ports(s);
	struct claim c;
	const char *text;

	hands_out(l, OTHER, INODE + 1, PORT, PORT + 9);
	connects_to(s, l, 7, 443, NULL);
	connects_to(s, l, 8, 80, NULL);
	/* the eighth of 443: in another namespace, from another address, to another one, by UDP, accepted, and outside the range */
	c = fixture_claim(&s->f, PORT + 7);
	c.netns = OTHER;
	add(l, &c);
	c = fixture_claim(&s->f, PORT + 7);
	c.local.address.bytes[3] = 2;
	add(l, &c);
	c = fixture_claim(&s->f, PORT + 7);
	c.remote.address.bytes[3] = 2;
	add(l, &c);
	c = fixture_claim(&s->f, PORT + 7);
	c.protocol = PROTOCOL_UDP;
	add(l, &c);
	c = fixture_claim(&s->f, PORT + 10);
	add(l, &c);
	/* a port counts once: MPTCP's first subflow is on the port of its connection */
	c = fixture_claim(&s->f, PORT);
	c.protocol = PROTOCOL_MPTCP;
	add(l, &c);
	look(s, l);
	text = said(s);
	assert_int_equal(count_lines(text, "\n"), 1);
	assert_int_equal(count_lines(text, "8 of 10 from 127.0.0.1 to 192.0.2.1:80 are taken"), 1);
	c = fixture_claim(&s->f, PORT + 7);
	add(l, &c);
	look(s, l);
	assert_string_equal(said(s), SHORT("8", "; at this rate all are in 2 s"));
	notable_ledger(s->notable, NULL);
	ledger_free(l);
}

/* Whose they are mostly; and no address where none is kept. */
static void test_of_whom_and_how_much_of_it(void **state)
{
	const struct settings settings = {.remote_addresses = REMOTE_ADDRESSES_TRUNCATED};
	struct scene *s = *state;
	struct ledger *l = ten_ports(s);
	struct process *worker = program("/usr/bin/worker", 7), *curl = program("/usr/bin/curl", 8);

	connects_to(s, l, 5, 443, worker);
	for (unsigned i = 5; i < 9; i++) {
		struct claim c = fixture_claim(&s->f, (uint16_t)(PORT + i));

		c.opener = process_ref(curl);
		add(l, &c);
	}
	connects_to(s, l, 4, 80, worker);
	for (unsigned i = 4; i < 8; i++) {
		struct claim c = fixture_claim(&s->f, (uint16_t)(PORT + i));

		c.remote.port = 80;
		c.opener = process_ref(curl);
		add(l, &c);
	}
	look(s, l);
	{
		const char *text = said(s);

		assert_non_null(
			strstr(text, SHORT("9", ", mostly by /usr/bin/worker (worker, pid 7, "
						"user@1000.service)")));
		assert_non_null(strstr(text, "8 of 10 from 127.0.0.1 to 192.0.2.1:80 are taken\n"));
	}
	notable_settings(s->notable, &settings);
	connects_to(s, l, 8, 25, NULL);
	look(s, l);
	assert_string_equal(said(s),
		"<4>test: ports run short: 8 of 10 from 127.0.0.1 to one address, port "
		"25 are taken\n");
	process_unref(worker);
	process_unref(curl);
	notable_ledger(s->notable, NULL);
	ledger_free(l);
}

/* More lines than an hour has, and more destinations than are told apart. */
static void test_many(void **state)
{
	struct scene *s = *state;
	struct ledger *l = ten_ports(s);
	struct notable_facts hour = {.now = s->f.now};

	for (uint16_t to = 1; to <= LIMIT_CROWDS + 50; to++)
		connects_to(s, l, 8, to, NULL);
	look(s, l);
	assert_int_equal(count_lines(said(s), "ports run short"), LIMIT_NEWS_HOURLY);
	assert_int_equal(HASH_COUNT(s->notable->shortages), LIMIT_CROWDS);
	hour.now.boot += USEC_PER_HOUR;
	notable_summary(s->notable, &hour);
	assert_int_equal(count_lines(said(s), "196 more new shortages in the last hour"), 1);
	notable_ledger(s->notable, NULL);
	ledger_free(l);
}

/* Random numbers of connections to many destinations, of which a bucket holds several, against the numbers themselves. */
static void test_against_the_numbers(void **state)
{
	struct scene *s = *state;
	struct ledger *l = ten_ports(s);
	unsigned expected = 0;

	hands_out(l, FIXTURE_NETNS, INODE, PORT, PORT + 99);
	for (uint16_t to = 1; to <= 2000; to++) {
		bool crowded = fixture_random(&s->f, 30) == 0;
		unsigned count = (unsigned)(crowded ? 70 + fixture_random(&s->f, 20)
						    : fixture_random(&s->f, 5));

		connects_to(s, l, count, to, NULL);
		expected += count >= 80;
	}
	look(s, l);
	assert_in_range(expected, 10, LIMIT_NEWS_HOURLY);
	assert_int_equal(count_lines(said(s), "ports run short"), expected);
	notable_ledger(s->notable, NULL);
	ledger_free(l);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up_watched, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_said_once_and_again_when_it_was_over),
		CASE(test_nothing_is_looked_at_where_few_are_open),
		CASE(test_what_is_reserved_or_bound_is_not_available),
		CASE(test_each_destination_for_itself),
		CASE(test_of_whom_and_how_much_of_it),
		CASE(test_many),
		CASE(test_against_the_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
