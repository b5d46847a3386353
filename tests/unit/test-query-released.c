/* SPDX-License-Identifier: MIT */

/* Released claims in the order of release, in pages of any size, against a sort of all of them; and flows, against a look at each
 * claim. */

#include "tests/unit/query-oracle.h"

#include "daemon/control/query_flows.h"

static int compare_released(const void *left, const void *right)
{
	const struct past *a = left, *b = right;
	int64_t ra = past_released(a), rb = past_released(b);

	if (ra != rb)
		return ra < rb ? -1 : 1;
	return compare_order(left, right);
}

static size_t released_oracle(const struct history *h, const struct filter *f, int64_t from,
	int64_t until, struct past *found)
{
	const struct question q = {
		.filter = *f, .rows = ROWS_RELEASED, .window = {0, WALL_FOREVER}};
	size_t all = oracle(h, &q, found), count = 0;

	for (size_t i = 0; i < all; i++)
		if (past_released(&found[i]) >= from && past_released(&found[i]) < until)
			found[count++] = found[i];
	qsort(found, count, sizeof(*found), compare_released);
	return count;
}

static void test_pages(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));

	for (unsigned i = 0; i < 40; i++) {
		const struct question q = random_question(&f->history);
		usec_t until = i % 4 ? q.window.until : WALL_FOREVER;
		struct release_place place = {.released = i % 3 ? q.window.from : 0};
		size_t count = released_oracle(
			&f->history, &q.filter, (int64_t)place.released, (int64_t)until, found);
		size_t given = 0, max, got;

		begin(f);
		do { /* each page as if the reader had gone and come again */
			_cleanup_(rows_done) struct rows rows = {0};

			max = 1 + history_random(&f->history, 300);
			assert_int_equal(
				query_released(f->query, &q.filter, until, max, &place, &rows), 0);
			got = rows.count;
			for (size_t k = 0; k < got; k++, given++) {
				assert_true(given < count);
				assert_int_equal(rows.row[k].column[ROW_RELEASED_USEC],
					past_released(&found[given]));
				assert_int_equal(
					rows.row[k].column[ROW_OPENED_USEC], found[given].opened);
				assert_int_equal(rows.row[k].column[ROW_PORT], found[given].port);
			}
		} while (got == max);
		query_end(f->query);
		assert_int_equal(given, count);
		assert_true(place.released >= until);
	}
	free(found);
}

/* The ties of a place may be pruned: then nothing is passed over for them. */
static void test_pruned_ties(void **state)
{
	_cleanup_(rows_done) struct rows rows = {0};
	struct fixture *f = *state;
	const struct filter any = FILTER_ANY;
	struct release_place place = {.released = 100, .skip = 2};

	history_sql(&f->history,
		"INSERT INTO claim_hot VALUES(1,1,0,40000,50,50,NULL,NULL,NULL,0,NULL,NULL,1),"
		"(2,2,0,40001,50,60,NULL,NULL,NULL,0,NULL,NULL,1),"
		"(3,3,0,40002,50,60,NULL,NULL,NULL,0,NULL,NULL,1)");
	begin(f);
	/* one of two is left */
	assert_int_equal(query_released(f->query, &any, 1000, 10, &place, &rows), 0);
	query_end(f->query);
	assert_int_equal(rows.count, 2);
	assert_int_equal(rows.row[0].column[ROW_PORT], 40001);
}

/* How well a claim fits one end of a flow, by a look at it alone; -1: not at all. */
static int64_t fit_of(const struct past *p, const struct flow *f, int end, int64_t *ret_far)
{
	const struct endpoint *there = &f->end[!end];
	int64_t opened = past_opened_after(p), released = past_released(p);
	int64_t far = MAX(opened - (int64_t)f->until, (int64_t)f->from - released);
	bool exact = p->raddr != 0;
	uint32_t address = htobe32(p->raddr);

	*ret_far = MAX(far, INT64_C(0));
	if (p->port != f->end[end].port || !(f->protocols >> (p->meta & META_PROTOCOL_MASK) & 1))
		return -1;
	if (exact && (memcmp(&address, there->address.bytes, 4) != 0 || p->rport != there->port))
		return -1;
	if (*ret_far > (exact ? 1000000 : 0))
		return -1;
	return exact;
}

static void check_end(const struct history *h, const struct flow *f, int end)
{
	int64_t best = -1, best_far = 0, far, fit;

	for (size_t i = 0; i < h->count; i++) {
		fit = fit_of(&h->past[i], f, end, &far);
		if (fit > best || (fit >= 0 && fit == best && far < best_far)) {
			best = fit;
			best_far = far;
		}
	}
	assert_int_equal(f->found[end], best >= 0);
	if (best < 0)
		return;
	/* of several that fit as well, any opened last */
	assert_int_equal(f->fit[end].exact, best);
	assert_int_equal(f->fit[end].distance, best_far);
}

/* Where only the network is left, it stands for its addresses: before the time of which that is so, and not after. */
static void test_flows_of_networks(void **state)
{
	struct fixture *f = *state;
	const struct {
		struct address peer;
		usec_t at;
		bool found;
	} cases[] = {
		{{FAMILY_IPV4, {198, 51, 100, 77}}, 120, true},
		{{FAMILY_IPV4, {198, 51, 101, 77}}, 120, false},
		{{FAMILY_IPV4, {198, 51, 100, 77}}, 3000000, false},
		{{FAMILY_IPV4, {198, 51, 100, 0}}, 3000000, true},
	};

	history_sql(&f->history,
		"INSERT INTO coverage VALUES(1,1,0,9000000,2,7,'32768-65535',1,2,15,1,1,1,1,0,0);"
		"INSERT INTO counter VALUES('remotes_until_usec',1000);"
		"INSERT INTO claim_hot VALUES"
		"(1,1,0,40000,100,50,NULL,NULL,NULL,0,443,x'c6336400',1),"
		"(2,2,0,40000,3000000,50,NULL,NULL,NULL,0,443,x'c6336400',1)");
	begin(f);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct flow flow = {
			.end = {{{FAMILY_IPV4, {192, 0, 2, 9}}, 40000}, {cases[i].peer, 443}},
			.protocols = 1,
			.from = cases[i].at,
			.until = cases[i].at,
		};

		assert_int_equal(query_flows(f->query, &flow, 1), 0);
		assert_int_equal(flow.found[0], cases[i].found);
	}
	query_end(f->query);
}

static void random_flow(struct history *h, struct flow *f)
{
	const struct past *p = &h->past[history_random(h, (uint32_t)h->count)];
	int end = (int)history_random(h, 2);
	uint32_t remote = htobe32(p->raddr ? p->raddr : 0xc0000201);
	int64_t port;

	*f = (struct flow){.protocols = history_random(h, 3) ? 15 : 1u << (p->meta & 3)};
	f->from = random_time(h, &port);
	if (history_random(h, 2)) /* of that claim */
		f->from = (usec_t)p->opened + history_random(h, 4000000);
	f->until = f->from + (history_random(h, 3) ? 0 : history_random(h, 5000000));
	f->end[end].port = (uint16_t)p->port;
	f->end[end].address = (struct address){.family = FAMILY_IPV4, .bytes = {10, 0, 0, 5}};
	f->end[!end].port = (uint16_t)(p->rport > 0 ? p->rport : 9);
	f->end[!end].address = (struct address){.family = FAMILY_IPV4};
	memcpy(f->end[!end].address.bytes, &remote, sizeof(remote));
	if (history_random(h, 4) == 0)
		f->end[!end].port++;
}

static void test_flows(void **state)
{
	struct fixture *f = *state;
	unsigned found = 0, none = 0;

	history_sql(&f->history,
		"INSERT INTO session VALUES(1,x'',0,0,9000000000000000,0,0,'',NULL,NULL,NULL,NULL,NULL,NULL);"
		"INSERT INTO coverage VALUES(1,1,0,9000000000000000,0,1000000,'32768-65535',32768,60999,15,1,1,1,1,0,0)");
	for (unsigned i = 0; i < 8; i++) {
		struct flow flows[128];

		for (size_t k = 0; k < ELEMENTSOF(flows); k++)
			random_flow(&f->history, &flows[k]);
		begin(f);
		assert_int_equal(query_flows(f->query, flows, ELEMENTSOF(flows)), 0);
		query_end(f->query);
		for (size_t k = 0; k < ELEMENTSOF(flows); k++) {
			bool any = flows[k].found[FLOW_SOURCE] || flows[k].found[FLOW_DESTINATION];

			check_end(&f->history, &flows[k], FLOW_SOURCE);
			check_end(&f->history, &flows[k], FLOW_DESTINATION);
			assert_int_equal(flows[k].reason, any ? FLOW_FOUND : FLOW_NOBODY);
			found += any;
			none += !any;
		}
	}
	assert_true(found > 200 && none > 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pruned_ties, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_flows_of_networks, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_flows, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
