/* SPDX-License-Identifier: MIT */

/* Answers about a history and what follows it: streams, pages, Explain, Follow. */

#include "tests/unit/control-peers.h"

#define CLAIMS 3000u

static int setup_history(void **state)
{
	struct fixture *f = new_fixture(CLAIMS);

	start_control(f, 0);
	*state = f;
	return 0;
}

/* Rows of one answer, and where each began. */
struct collected {
	size_t count;
	json_int_t opened[CLAIMS];
};

static void collect(struct collected *c, const struct varlink_reply *reply)
{
	const json_t *claims = json_object_get(reply->parameters, "claims");

	assert_null(reply->error);
	assert_true(json_array_size(claims) <= LIMIT_PAGE_ROWS);
	for (size_t i = 0; i < json_array_size(claims); i++) {
		assert_true(c->count < CLAIMS);
		c->opened[c->count++] = json_integer_value(
			json_object_get(json_array_get(claims, i), "opened_usec"));
	}
}

static bool has_coverage(const struct varlink_reply *reply)
{
	return json_is_object(json_object_get(reply->parameters, "coverage"));
}

/* A reader who takes nothing at first holds up nobody, and gets all of it. */
static void test_stream(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	struct collected *all = calloc(1, sizeof(*all)), *newest = calloc(1, sizeof(*newest));
	struct varlink_reply reply;
	bool continues;

	peer_call(&p, "{\"method\":\"" LEDGER "Claims\",\"more\":true}");
	commit(f, next_sync(f));
	barrier(f);
	do {
		reply = peer_reply(&p);
		continues = reply.continues;
		collect(all, &reply);
		assert_int_equal(has_coverage(&reply), !continues);
		varlink_reply_done(&reply);
	} while (continues);
	assert_int_equal(all->count, CLAIMS);
	for (size_t i = 1; i < all->count; i++)
		assert_true(all->opened[i - 1] <= all->opened[i]);
	peer_call(&p,
		"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"limit\":777},\"more\":true}");
	commit(f, next_sync(f));
	do {
		reply = peer_reply(&p);
		continues = reply.continues;
		collect(newest, &reply);
		varlink_reply_done(&reply);
	} while (continues);
	assert_int_equal(newest->count, 777);
	assert_memory_equal(newest->opened, all->opened + CLAIMS - 777, 777 * sizeof(json_int_t));
	free(newest);
	free(all);
	peer_close(&p);
}

/* The same, a page at a time. What was hot is sealed on the way. */
static void test_cursor(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	struct collected *c = calloc(1, sizeof(*c));
	char call[512], *cursor = NULL;
	unsigned pages = 0;

	(void)snprintf(call, sizeof(call),
		"{\"method\":\"" LEDGER "Claims\",\"parameters\":{\"limit\":1000,\"filter\":{}}}");
	do {
		struct varlink_reply reply;
		const char *text;

		peer_call(&p, call);
		if (pages++ == 0)
			commit(f, next_sync(f));
		reply = peer_reply(&p);
		collect(c, &reply);
		assert_true(has_coverage(&reply));
		free(cursor);
		text = json_string_value(json_object_get(reply.parameters, "cursor"));
		cursor = text ? strdup(text) : NULL;
		varlink_reply_done(&reply);
		if (cursor)
			(void)snprintf(call, sizeof(call),
				"{\"method\":\"" LEDGER
				"Claims\",\"parameters\":{\"limit\":1000,\"filter\":{},\"cursor\":\"%s\"}}",
				cursor);
		if (pages == 2)
			history_seal(&f->history);
	} while (cursor);
	assert_int_equal(c->count, 1000);
	assert_int_equal(pages, 4);
	for (size_t i = 1; i < c->count; i++)
		assert_true(c->opened[i - 1] <= c->opened[i]);
	assert_quiet(f); /* the window was fixed when asked: no page needed another look */
	free(c);
	peer_close(&p);
}

static int compare_numbers(const void *a, const void *b)
{
	const int64_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* The life in the middle of the closed claims of a port. */
static int64_t median_life(const struct history *h, int64_t port)
{
	int64_t *lives = calloc(h->count, sizeof(*lives)), median;
	size_t count = 0;

	assert_non_null(lives);
	for (size_t i = 0; i < h->count; i++)
		if (h->past[i].port == port && h->past[i].in != IN_OPEN)
			lives[count++] = h->past[i].dur;
	assert_true(count > 0);
	qsort(lives, count, sizeof(*lives), compare_numbers);
	median = lives[(count - 1) / 2];
	free(lives);
	return median;
}

/* What Explain says of a busy port, against a count by hand. */
static void test_explain(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);
	struct varlink_reply reply;
	json_int_t before = INT64_MAX;
	const json_t *last;
	size_t now = 0, ever = 0;
	int64_t median, told;

	for (size_t i = 0; i < f->history.count; i++) {
		ever += f->history.past[i].port == 32768;
		now += f->history.past[i].port == 32768 && f->history.past[i].in == IN_OPEN;
	}
	assert_true(now > 0 && ever > 100);
	peer_call(&p, "{\"method\":\"" LEDGER "Explain\",\"parameters\":{\"port\":32768}}");
	commit(f, next_sync(f));
	reply = peer_reply(&p);
	assert_null(reply.error);
	assert_int_equal(
		json_integer_value(json_object_get(reply.parameters, "claims_ever")), ever);
	assert_int_equal(json_integer_value(json_object_get(reply.parameters, "claims_now")), now);
	median = median_life(&f->history, 32768);
	told = json_integer_value(json_object_get(reply.parameters, "median_usec"));
	assert_true(told * 100 >= median * 97 && told * 100 <= median * 103);
	assert_int_equal(json_array_size(json_object_get(reply.parameters, "now")), now);
	assert_true(json_is_true(json_object_get(reply.parameters, "ephemeral")));
	assert_true(json_is_true(json_object_get(reply.parameters, "watched")));
	assert_true(json_is_false(json_object_get(reply.parameters, "dynamic")));
	last = json_object_get(reply.parameters, "last");
	assert_int_equal(json_array_size(last), 10);
	for (size_t i = 0; i < 10; i++) {
		const json_t *claim = json_array_get(last, i);
		json_int_t opened = json_integer_value(json_object_get(claim, "opened_usec"));

		assert_true(json_is_integer(json_object_get(claim, "released_usec")));
		assert_true(opened <= before);
		before = opened;
	}
	varlink_reply_done(&reply);
	peer_close(&p);
}

static void assert_event(struct peer *p, const char *event, const char *ports, int lost)
{
	struct varlink_reply reply = peer_reply(p);
	const json_t *claims = json_object_get(reply.parameters, "claims");
	char got[256] = "";

	assert_null(reply.error);
	assert_true(reply.continues);
	assert_string_equal(json_string_value(json_object_get(reply.parameters, "event")), event);
	for (size_t i = 0; i < json_array_size(claims); i++)
		(void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%d", i ? " " : "",
			(int)json_integer_value(
				json_object_get(json_array_get(claims, i), "port")));
	assert_string_equal(got, ports);
	assert_int_equal(json_integer_value(json_object_get(reply.parameters, "lost")), lost);
	varlink_reply_done(&reply);
}

#define OPEN_ROW(claim, port)                                                                      \
	"INSERT INTO claim_open VALUES(" #claim ",1," #claim "," #port                             \
	",1,0,NULL,NULL,NULL,0,NULL,NULL,NULL);"
#define HOT_ROW(id, claim, port)                                                                   \
	"DELETE FROM claim_open WHERE claim=" #claim ";INSERT INTO claim_hot VALUES(" #id          \
	"," #claim ",0," #port ",1,1,NULL,NULL,NULL,0,NULL,NULL,NULL);"                            \
	"INSERT OR REPLACE INTO counter VALUES('next_hot'," #id "+1);"

/* As the ledger writes: all of it is seen at once, or none. A follower may look at any moment. */
static void write_at_once(struct fixture *f, const char *sql)
{
	history_sql(&f->history, "BEGIN");
	history_sql(&f->history, sql);
	history_sql(&f->history, "COMMIT");
}

static void test_follow(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f), other = peer_connect(f);
	struct record record;

	write_at_once(f, OPEN_ROW(1, 40001) OPEN_ROW(2, 40002) HOT_ROW(1, 9, 40009));
	peer_call(&p, "{\"method\":\"" LEDGER "Follow\",\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&p, "open", "40001 40002", 0);
	record = next_record(f);
	assert_int_equal(record.type, RECORD_FOLLOW);
	assert_true(record.follow);
	/* one that matches nothing still gets a first reply */
	peer_call(&other, "{\"method\":\"" LEDGER
			  "Follow\",\"parameters\":{\"filter\":{\"ports\":[1]}},\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&other, "open", "", 0);
	peer_close(&other);

	write_at_once(f, OPEN_ROW(10, 40010) HOT_ROW(2, 1, 40001));
	commit(f, 0);
	assert_event(&p, "opened", "40010", 0);
	assert_event(&p, "released", "40001", 0);
	/* came and went between two looks */
	write_at_once(f, HOT_ROW(3, 11, 40011) HOT_ROW(4, 2, 40002));
	commit(f, 0);
	assert_event(&p, "opened", "40011", 0);
	assert_event(&p, "released", "40002 40011", 0);
	/* sealed before it was read */
	write_at_once(f, "DELETE FROM claim_hot;" HOT_ROW(8, 10, 40010));
	commit(f, 0);
	assert_event(&p, "released", "40010", 3);
	peer_close(&p);
	record = next_record(f);
	assert_int_equal(record.type, RECORD_FOLLOW);
	assert_false(record.follow);
}

/* At a time, of a process or (attribution cgroup) of none. */
#define OPEN_AT(claim, port, opened, of)                                                           \
	"INSERT OR REPLACE INTO claim_open VALUES(" #claim ",1," #claim "," #port "," #opened      \
	",0,NULL,NULL,NULL," of ");"
#define HOT_AT(id, claim, port, opened, dur, of)                                                   \
	"DELETE FROM claim_open WHERE claim=" #claim ";INSERT INTO claim_hot VALUES(" #id          \
	"," #claim ",0," #port "," #opened "," #dur ",NULL,NULL,NULL," of ");"                     \
	"INSERT OR REPLACE INTO counter VALUES('next_hot'," #id "+1);"
#define NOBODY "4<<5,NULL,NULL,NULL"
#define CURL   "3<<5,NULL,NULL,1"
#define NGINX  "3<<5,NULL,NULL,2"

/* What one look found, in the order of its times, however it lies in the database. */
static void test_follow_in_order(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);

	write_at_once(f, OPEN_AT(1, 40001, 10, CURL));
	peer_call(&p, "{\"method\":\"" LEDGER "Follow\",\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&p, "open", "40001", 0);
	write_at_once(f, HOT_AT(1, 3, 40003, 200, 1, CURL) HOT_AT(2, 1, 40001, 10, 110, CURL)
				 OPEN_AT(2, 40002, 100, CURL) OPEN_AT(4, 40004, 200, CURL)
					 HOT_AT(3, 5, 40005, 202, 0, CURL));
	commit(f, 0);
	assert_event(&p, "opened", "40002", 0);
	assert_event(&p, "released", "40001", 0);
	assert_event(&p, "opened", "40003 40004", 0);
	assert_event(&p, "released", "40003", 0);
	assert_event(&p, "opened", "40005", 0);
	assert_event(&p, "released", "40005", 0);
	peer_close(&p);
}

/* Who accepted a connection is known later: it is told when it is, and to him who asked for that program only then. */
static void test_follow_names(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f), curl = peer_connect(f);

	write_at_once(f,
		"INSERT INTO app VALUES(1,'/bin/curl',1,'curl',0,NULL,NULL,0),(2,'/bin/nginx',1,'nginx',0,NULL,NULL,0);"
		"INSERT INTO process VALUES(1,1,1,101,1,NULL,1,'sh',1),(2,2,1,102,1,NULL,1,'sh',2);" OPEN_AT(
			1, 40001, 1, NOBODY));
	peer_call(&p, "{\"method\":\"" LEDGER "Follow\",\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&p, "open", "40001", 0);
	assert_int_equal(next_record(f).type, RECORD_FOLLOW);
	peer_call(&curl, "{\"method\":\"" LEDGER
			 "Follow\",\"parameters\":{\"filter\":{\"app\":\"curl\"}},\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&curl, "open", "", 0);

	write_at_once(f, OPEN_AT(2, 40002, 2, NOBODY) OPEN_AT(3, 40003, 3, NOBODY)
				 OPEN_AT(4, 40004, 4, NOBODY) OPEN_AT(5, 40005, 5, NOBODY));
	commit(f, 0);
	assert_event(&p, "opened", "40002 40003 40004 40005", 0);
	/* whether he has looked at those four already or not */
	write_at_once(f, OPEN_AT(1, 40001, 1, CURL) OPEN_AT(3, 40003, 3, NGINX));
	commit(f, 0);
	assert_event(&p, "attributed", "40001 40003", 0);
	assert_event(&curl, "opened", "40001", 0);
	write_at_once(f, OPEN_AT(2, 40002, 2, CURL));
	commit(f, 0);
	assert_event(&p, "attributed", "40002", 0);
	assert_event(&curl, "opened", "40002", 0);
	/* known with its end alone */
	write_at_once(f, HOT_AT(1, 4, 40004, 4, 9, CURL) HOT_AT(2, 2, 40002, 2, 20, CURL));
	commit(f, 0);
	assert_event(&p, "released", "40004 40002", 0);
	assert_event(&curl, "opened", "40004", 0);
	assert_event(&curl, "released", "40004 40002", 0);
	/* once */
	write_at_once(f, OPEN_AT(5, 40005, 5, CURL) OPEN_AT(1, 40001, 1, CURL));
	commit(f, 0);
	assert_event(&p, "attributed", "40005", 0);
	assert_event(&curl, "opened", "40005", 0);
	peer_close(&p);
	peer_close(&curl);
}

/* However many have no process, so many numbers are kept: the newest. */
static void test_follow_names_the_newest(void **state)
{
	struct fixture *f = *state;
	struct peer p = peer_connect(f);

	history_sql(&f->history, "INSERT INTO app VALUES(1,'/bin/curl',1,'curl',0,NULL,NULL,0);"
				 "INSERT INTO process VALUES(1,1,1,101,1,NULL,1,'sh',1)");
	peer_call(&p, "{\"method\":\"" LEDGER
		      "Follow\",\"parameters\":{\"filter\":{\"app\":\"curl\"}},\"more\":true}");
	commit(f, next_sync(f));
	assert_event(&p, "open", "", 0);
	write_at_once(f, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<600)"
			 " INSERT INTO claim_open SELECT i,1,i,40000+i,i,0,NULL,NULL,NULL," NOBODY
			 " FROM n");
	commit(f, 0);
	write_at_once(f, OPEN_AT(601, 40601, 601, CURL));
	commit(f, 0);
	assert_event(&p, "opened", "40601", 0);
	write_at_once(f, OPEN_AT(88, 40088, 88, CURL) OPEN_AT(89, 40089, 89, CURL)
				 OPEN_AT(600, 40600, 600, CURL));
	commit(f, 0);
	assert_event(&p, "opened", "40089 40600", 0);
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stream, setup_history, teardown),
		cmocka_unit_test_setup_teardown(test_cursor, setup_history, teardown),
		cmocka_unit_test_setup_teardown(test_explain, setup_history, teardown),
		cmocka_unit_test_setup_teardown(test_follow, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_follow_in_order, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_follow_names, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(
			test_follow_names_the_newest, setup_empty, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
