/* SPDX-License-Identifier: MIT */

/* What a receipt says, word for word: what was watched of what was asked for, and what was not. */

#include "daemon/control/coverage.h"
#include "tests/unit/query-oracle.h"

#define FLAGS ",\"udp_connect\":false,\"failures\":false"

static const struct {
	const char *rows;
	struct window window;
	const char *expected;
} receipts[] = {
	{"", {10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[],\"lost\":null,\"gaps\":[],"
		"\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1,0,0)", {10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7" FLAGS "}],\"lost\":0,"
		"\"gaps\":[],\"complete\":true,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,30,0,7,'',1,2,1,1,1,1,1,0,0)", {10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":20,\"source\":\"sweep\",\"interval_usec\":7" FLAGS
		"}],\"lost\":null,"
		"\"gaps\":[],\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,19,2,7,'',1,2,1,1,1,1,1,0,0)", {10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":19,\"source\":\"events\",\"interval_usec\":7" FLAGS
		"}],\"lost\":null,"
		"\"gaps\":[],\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,14,2,7,'',1,2,1,1,1,1,1,0,0),"
	 "(2,2,14,30,2,7,'',1,2,1,1,1,1,1,0,0);"
	 "INSERT INTO gap VALUES(1,13,15,'ring-full',3),(2,2,10,'before',1),(3,20,21,'after',1)",
		{10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7" FLAGS "}],\"lost\":3,"
		"\"gaps\":[{\"from_usec\":13,\"until_usec\":15,\"reason\":\"ring-full\","
		"\"lost\":3}],\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,13,2,7,'',1,2,1,1,1,1,1,0,0),"
	 "(2,2,15,30,2,7,'',1,2,1,1,1,1,1,0,0);INSERT INTO gap VALUES(1,13,15,'killed',NULL)",
		{10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":13,\"source\":\"events\",\"interval_usec\":7" FLAGS
		"},{\"from_usec\":15,"
		"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7" FLAGS
		"}],\"lost\":null,"
		"\"gaps\":[{\"from_usec\":13,\"until_usec\":15,\"reason\":\"killed\","
		"\"lost\":null}],\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1,0,0);"
	 "INSERT INTO counter VALUES('expired_until_usec',12)",
		{10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":12,"
		"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7" FLAGS
		"}],\"lost\":null,"
		"\"gaps\":[{\"from_usec\":10,\"until_usec\":12,\"reason\":\"expired\","
		"\"lost\":null}],\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1,0,0);"
	 "INSERT INTO gap VALUES(1,12,12,'a \"b\"',1)",
		{10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7" FLAGS "}],\"lost\":1,"
		"\"gaps\":[{\"from_usec\":12,\"until_usec\":12,\"reason\":\"a \\\"b\\\"\","
		"\"lost\":1}],\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
	/* two ways of watching, of which the second was started anew in between and has missed nothing */
	{"INSERT INTO coverage VALUES(1,1,5,12,2,7,'',1,2,1,1,1,1,1,0,1),"
	 "(2,1,12,15,2,7,'',1,2,1,1,1,1,1,1,0),(3,2,15,30,2,7,'',1,2,1,1,1,1,1,1,0)",
		{10, 20},
		"{\"from_usec\":10,\"until_usec\":20,\"stretches\":[{\"from_usec\":10,"
		"\"until_usec\":12,\"source\":\"events\",\"interval_usec\":7,"
		"\"udp_connect\":false,\"failures\":true},{\"from_usec\":12,"
		"\"until_usec\":20,\"source\":\"events\",\"interval_usec\":7,"
		"\"udp_connect\":true,\"failures\":false}],\"lost\":0,\"gaps\":[],"
		"\"complete\":true,\"coalesced\":[],\"degraded\":[]}"},
	/* a moment */
	{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1,0,0)", {30, 30},
		"{\"from_usec\":30,\"until_usec\":30,\"stretches\":[{\"from_usec\":30,"
		"\"until_usec\":30,\"source\":\"events\",\"interval_usec\":7" FLAGS "}],\"lost\":0,"
		"\"gaps\":[],\"complete\":true,\"coalesced\":[],\"degraded\":[]}"},
	{"INSERT INTO coverage VALUES(1,1,5,30,2,7,'',1,2,1,1,1,1,1,0,0)", {31, 31},
		"{\"from_usec\":31,\"until_usec\":31,\"stretches\":[],\"lost\":null,\"gaps\":[],"
		"\"complete\":false,\"coalesced\":[],\"degraded\":[]}"},
};

/* What a receipt says of a window in which all is asked for. */
static void receipt_of_all(struct fixture *f, struct window window, struct buf *text)
{
	const struct filter any = FILTER_ANY;

	begin(f);
	assert_int_equal(coverage_receipt(f->query,
				 &(struct receipt_of){.asked = &any, .window = window}, text),
		0);
	query_end(f->query);
}

/* Stretches are of the database's only two sessions; times are small so that a case is readable. */
static void test_receipt(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ELEMENTSOF(receipts); i++) {
		_cleanup_(buf_done) struct buf text = {0};

		history_sql(
			&f->history, "DELETE FROM coverage; DELETE FROM gap; DELETE FROM counter");
		history_sql(&f->history, receipts[i].rows);
		receipt_of_all(f, receipts[i].window, &text);
		assert_text(&text, receipts[i].expected);
	}
}

/* What is wrong now matters where something is lacking. */
static void test_receipt_degraded(void **state)
{
	static const struct {
		struct window window;
		const char *expected;
	} cases[] = {
		{{10, 20}, "\"degraded\":[]}"},
		{{15, 15}, "\"degraded\":[]}"},
		{{10, 21}, "\"degraded\":[\"full; make room\"]}"},
		{{5, 20}, "\"degraded\":[\"full; make room\"]}"},
		{{21, 21}, "\"degraded\":[\"full; make room\"]}"},
	};
	const struct filter any = FILTER_ANY;
	struct fixture *f = *state;
	_cleanup_(buf_done) struct buf wrong = {0};

	history_sql(&f->history, "DELETE FROM coverage; DELETE FROM gap; DELETE FROM counter");
	history_sql(&f->history, "INSERT INTO coverage VALUES(1,1,10,20,2,7,'',1,2,1,1,1,1,1,0,0)");
	assert_int_equal(buf_append_string(&wrong, "\"full; make room\""), 0);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		const struct receipt_of of = {
			.asked = &any, .window = cases[i].window, .degraded = &wrong};

		begin(f);
		assert_int_equal(coverage_receipt(f->query, &of, &text), 0);
		query_end(f->query);
		assert_int_equal(buf_put_u8(&text, 0), 0);
		assert_non_null(strstr((const char *)buf_bytes(&text), cases[i].expected));
	}
}

/* A stretch counts for a question where it watched the protocol and some of the ports that were asked for; and where it did not
 * watch all of them, that is a gap. */
static void test_receipt_asked(void **state)
{
	static const struct {
		uint16_t ports[2];
		struct port_range range;
		int protocol;
		bool some, all;
	} cases[] = {
		{{0}, {0}, -1, true, true},
		{{100}, {0}, -1, true, true},
		{{200}, {0}, -1, true, true},
		{{300}, {0}, -1, true, true},
		{{99}, {0}, -1, false, false},
		{{202}, {0}, -1, false, false},
		{{100, 300}, {0}, -1, true, true},
		{{100, 299}, {0}, -1, true, false},
		{{99, 299}, {0}, -1, false, false},
		{{0}, {0}, PROTOCOL_UDP, true, true},
		{{0}, {0}, PROTOCOL_MPTCP, false, false},
		{{100}, {0}, PROTOCOL_MPTCP, false, false},
		{{0}, {100, 201}, -1, true, true}, /* two ranges, one behind the other */
		{{0}, {300, 300}, -1, true, true},
		{{0}, {65535, 65535}, -1, true, true},
		{{0}, {99, 100}, -1, true, false},
		{{0}, {201, 202}, -1, true, false},
		{{0}, {100, 300}, -1, true, false},
		{{0}, {1, 65535}, -1, true, false},
		{{0}, {1, 99}, -1, false, false},
		{{0}, {202, 299}, -1, false, false},
		{{0}, {100, 200}, PROTOCOL_MPTCP, false, false},
	};
	struct fixture *f = *state;

	history_sql(&f->history,
		"INSERT INTO coverage VALUES"
		"(1,1,5,15,2,7,'100-200 201-201 300-300 65535-65535',1,2,3,1,1,1,1,0,0),"
		"(2,1,15,30,2,7,'100-200 201-201 300-300 65535-65535',1,2,3,1,1,1,1,0,0)");
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		struct filter asked = FILTER_ANY;
		const char *receipt;

		asked.protocol = cases[i].protocol;
		asked.range = cases[i].range;
		for (; asked.port_count < 2 && cases[i].ports[asked.port_count]; asked.port_count++)
			asked.ports[asked.port_count] = cases[i].ports[asked.port_count];
		begin(f);
		assert_int_equal(
			coverage_receipt(f->query,
				&(struct receipt_of){.asked = &asked, .window = {10, 20}}, &text),
			0);
		query_end(f->query);
		assert_int_equal(buf_append(&text, "", 1), 0);
		receipt = (const char *)buf_bytes(&text);
		assert_int_equal(strstr(receipt, "\"stretches\":[]") == NULL, cases[i].some);
		assert_int_equal(strstr(receipt, "\"complete\":true") != NULL, cases[i].all);
		assert_int_equal(
			strstr(receipt, "\"gaps\":[{\"from_usec\":10,\"until_usec\":20,"
					"\"reason\":\"unwatched-ports\",\"lost\":null}]") != NULL,
			!cases[i].all && cases[i].protocol != PROTOCOL_MPTCP);
	}
}

/* Who makes the kernel lose events without end does not fill the receipt: what follows one upon the other is one. */
static void test_receipt_touching(void **state)
{
	static const struct {
		struct window window;
		const char *gaps;
	} cases[] = {
		{{0, 9000000},
			"{\"from_usec\":200000,\"until_usec\":6000100,\"reason\":\"a\",\"lost\":58},"
			"{\"from_usec\":200000,\"until_usec\":6000100,\"reason\":\"b\",\"lost\":0},"
			"{\"from_usec\":6002000,\"until_usec\":6003000,\"reason\":\"a\",\"lost\":5},"
			"{\"from_usec\":6003000,\"until_usec\":6004000,\"reason\":\"a\",\"lost\":null},"
			"{\"from_usec\":6004000,\"until_usec\":6005000,\"reason\":\"a\",\"lost\":null}],"},
		/* what only touches the window is not counted */
		{{300100, 500000},
			"{\"from_usec\":300100,\"until_usec\":500000,\"reason\":\"a\",\"lost\":2},"
			"{\"from_usec\":300100,\"until_usec\":500000,\"reason\":\"b\",\"lost\":0}],"},
	};
	struct fixture *f = *state;

	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,0,9000000,2,7,'',1,2,1,1,1,1,1,0,0);"
		"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i+1 FROM n WHERE i<59)"
		" INSERT INTO gap SELECT i,i*100000,(i+1)*100000+100,'a',1 FROM n;"
		"INSERT INTO gap SELECT 100+id,from_usec,until_usec,'b',0 FROM gap;"
		"INSERT INTO gap VALUES(300,6002000,6003000,'a',5),(301,6003000,6004000,'a',NULL),"
		"(302,6004000,6005000,'a',NULL)");
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		const char *gaps;

		receipt_of_all(f, cases[i].window, &text);
		assert_int_equal(buf_append(&text, "", 1), 0);
		gaps = strstr((const char *)buf_bytes(&text), "\"gaps\":[");
		assert_non_null(gaps);
		gaps += strlen("\"gaps\":[");
		if (strncmp(gaps, cases[i].gaps, strlen(cases[i].gaps)) != 0)
			fail_msg("%s", gaps);
	}
}

/* Too many gaps to list: what is not listed is said to be one. */
static void test_receipt_limit(void **state)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct filter any = FILTER_ANY;
	struct fixture *f = *state;
	const char *end;

	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,0,90000,2,7,'',1,2,1,1,1,1,1,0,0);"
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)"
		" INSERT INTO gap SELECT i,i*10,i*10+1,'x'||i,0 FROM n");
	begin(f);
	assert_int_equal(coverage_receipt(f->query,
				 &(struct receipt_of){.asked = &any, .window = {0, 90000}}, &text),
		0);
	query_end(f->query);
	assert_int_equal(buf_append(&text, "", 1), 0);
	end = strstr((const char *)buf_bytes(&text), "{\"from_usec\":10250,");
	assert_non_null(end);
	assert_string_equal(end,
		"{\"from_usec\":10250,\"until_usec\":90000,\"reason\":\"unlisted\",\"lost\":null}],"
		"\"complete\":false,\"coalesced\":[],\"degraded\":[]}");
}

/* Who asks for a peer is told of the time whose peers are not whole; nobody else is. */
static void test_receipt_remotes(void **state)
{
	struct filter peer = FILTER_ANY, port = FILTER_ANY;
	const struct filter any = FILTER_ANY;
	const struct {
		const struct filter *asked;
		struct window window;
		bool told;
	} cases[] = {
		{&any, {10, 20}, false},
		{&peer, {10, 20}, true},
		{&port, {10, 20}, true},
		{&peer, {12, 20}, false},
	};
	struct fixture *f = *state;

	peer.peer = (struct address){FAMILY_IPV4, {192, 0, 2, 1}};
	port.peer_port = 443;
	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,0,90000,2,7,'',1,2,1,1,1,1,1,0,0);"
		"INSERT INTO counter VALUES('remotes_until_usec',12)");
	begin(f);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_(buf_done) struct buf text = {0};
		const char *receipt;

		assert_int_equal(coverage_receipt(f->query,
					 &(struct receipt_of){.asked = cases[i].asked,
						 .window = cases[i].window},
					 &text),
			0);
		assert_int_equal(buf_append(&text, "", 1), 0);
		receipt = (const char *)buf_bytes(&text);
		assert_int_equal(
			strstr(receipt, "{\"from_usec\":10,\"until_usec\":12,"
					"\"reason\":\"remote-addresses\",\"lost\":null}") != NULL,
			cases[i].told);
		assert_int_equal(strstr(receipt, "\"complete\":true") != NULL, !cases[i].told);
	}
	for (unsigned from = 10; from <= 12; from += 2) { /* whoever is asked for */
		_cleanup_(buf_done) struct buf text = {0};

		assert_int_equal(
			coverage_receipt(f->query,
				&(struct receipt_of){
					.asked = &any, .window = {from, 20}, .remotes = true},
				&text),
			0);
		assert_int_equal(buf_append(&text, "", 1), 0);
		assert_int_equal(strstr((const char *)buf_bytes(&text), "remote-addresses") != NULL,
			from < 12);
	}
	query_end(f->query);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_receipt, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_degraded, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_asked, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_touching, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_limit, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_receipt_remotes, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
