/* SPDX-License-Identifier: MIT */

/* A window in steps, held against a look at each claim, and for Occupancy at each moment at which anything happened. */

#include "daemon/control/query_ports.h"
#include "tests/unit/query-oracle.h"

#define STEPS_MAX 20u
#define LOW       32768
#define PORTS     (UINT16_MAX + 1 - LOW)
#define FEW       300u /* claims; with more of them, looking at each moment takes too long */

/* Half of them begin before the window. */
static struct steps random_steps(struct history *h, struct window w)
{
	usec_t length = (w.until - w.from - 1) / (1 + history_random(h, STEPS_MAX)) + 1;
	usec_t before = history_random(h, (uint32_t)MIN(length, (usec_t)UINT32_MAX));

	return (struct steps){w.from - (history_random(h, 2) ? before : 0), length};
}

struct done {
	const char *identity;
	unsigned rank;
	uint64_t claims, before, opened[STEPS_MAX + 2];
};

static int compare_done(const void *left, const void *right)
{
	const struct done *a = left, *b = right;

	if (a->claims != b->claims)
		return a->claims > b->claims ? -1 : 1;
	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static void append_numbers(struct buf *b, const char *name, const uint64_t *number, size_t count)
{
	assert_int_equal(buf_append_format(b, ",\"%s\":[", name), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(
			buf_append_format(b, "%s%llu", i ? "," : "", (unsigned long long)number[i]),
			0);
	assert_int_equal(buf_append_string(b, "]"), 0);
}

static void done_add(
	struct done *d, const struct past *p, const struct question *q, struct steps step)
{
	usec_t last = q->window.until - 1, opened = MIN((usec_t)p->opened, last);

	d->claims++;
	if (opened < q->window.from)
		d->before++;
	else
		d->opened[(opened - step.origin) / step.length]++;
}

/* What Activity should say of these claims. */
static void expect_activity(const struct past *found, size_t count, const struct question *q,
	struct steps step, struct buf *b)
{
	struct done done[] = {
		{.identity = "\"exe\":\"/bin/b\",\"comm\":\"b\",\"unit\":\"u\",\"uid\":7",
			.rank = 3},
		{.identity = "\"exe\":\"/bin/a\",\"comm\":\"a\",\"unit\":null,\"uid\":7",
			.rank = 2},
		{.identity = "\"exe\":null,\"comm\":null,\"unit\":\"k\",\"uid\":9", .rank = 1},
		{.identity = "\"exe\":null,\"comm\":null,\"unit\":null,\"uid\":null"},
	};
	size_t steps = steps_count(step, q->window);
	uint64_t *on_port = calloc(PORTS, sizeof(*on_port)), ports = 0, nobody = 0;
	struct done all = {0};

	assert_non_null(on_port);
	for (size_t i = 0; i < count; i++) {
		unsigned index = program_index(found[i].id);

		done_add(&done[index], &found[i], q, step);
		done_add(&all, &found[i], q, step);
		nobody += index >= 2;
		ports += on_port[found[i].port - LOW]++ == 0;
	}
	qsort(done, ELEMENTSOF(done), sizeof(*done), compare_done);
	assert_int_equal(buf_append_string(b, "\"programs\":["), 0);
	for (size_t i = 0; i < ELEMENTSOF(done) && done[i].claims; i++) {
		assert_int_equal(
			buf_append_format(b, "%s{%s,\"user\":null,\"claims\":%llu,\"before\":%llu",
				i ? "," : "", done[i].identity, (unsigned long long)done[i].claims,
				(unsigned long long)done[i].before),
			0);
		append_numbers(b, "steps", done[i].opened, steps);
		assert_int_equal(buf_append_string(b, "}"), 0);
	}
	assert_int_equal(
		buf_append_format(b,
			"],\"omitted\":0,\"claims\":%zu,\"before\":%llu,\"unattributed\":%llu",
			count, (unsigned long long)all.before, (unsigned long long)nobody),
		0);
	append_numbers(b, "steps", all.opened, steps);
	assert_int_equal(buf_append_format(b, ",\"ports\":%llu,\"elsewhere\":0,\"low\":%d",
				 (unsigned long long)ports, LOW),
		0);
	append_numbers(b, "port_claims", on_port, PORTS);
	free(on_port);
}

static void test_activity(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	size_t most = 0;

	assert_non_null(found);
	fill_programs(f);
	for (unsigned i = 0; i < 60; i++) {
		_cleanup_(buf_done) struct buf text = {0}, expected = {0};
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		struct steps step;

		if (q.window.from == q.window.until)
			continue;
		step = random_steps(&f->history, q.window);
		most = MAX(most, count);
		expect_activity(found, count, &q, step, &expected);
		assert_int_equal(buf_append(&expected, "", 1), 0);
		begin(f);
		assert_int_equal(query_activity(f->query, &q, step, LOW, &text), 0);
		query_end(f->query);
		assert_text(&text, (const char *)buf_bytes(&expected));
	}
	assert_true(most > CLAIMS / 4);
	free(found);
}

/* What lies below the first port that is listed is counted, too. */
static void test_activity_elsewhere(void **state)
{
	_cleanup_(buf_done) struct buf text = {0};
	struct fixture *f = *state;
	const struct question q = {.filter = FILTER_ANY, .window = {100, 200}, .rows = ROWS_ALL};

	history_sql(&f->history,
		"INSERT INTO claim_open VALUES(5,1,1,65533,90,0,NULL,NULL,NULL,8,NULL,NULL,NULL),"
		"(6,1,2,65535,199,0,NULL,NULL,NULL,8,NULL,NULL,NULL),"
		"(7,1,3,65535,150,0,NULL,NULL,NULL,8,NULL,NULL,NULL)");
	begin(f);
	assert_int_equal(query_activity(f->query, &q, (struct steps){100, 50}, 65534, &text), 0);
	query_end(f->query);
	assert_text(&text,
		"\"programs\":[{\"exe\":null,\"comm\":null,\"unit\":null,\"uid\":null,\"user\":null,"
		"\"claims\":3,\"before\":1,\"steps\":[0,2]}],\"omitted\":0,\"claims\":3,\"before\":1,"
		"\"unattributed\":3,\"steps\":[0,2],\"ports\":2,\"elsewhere\":1,\"low\":65534,"
		"\"port_claims\":[0,2]");
}

/* Of one series, by looking. */
struct seen {
	int64_t netns;
	int protocol;
	bool any; /* has a claim */
	uint64_t used[STEPS_MAX + 2], time_wait[STEPS_MAX + 2], peak;
	usec_t peak_at;
};

static int64_t netns_of(const struct past *p)
{
	return p->meta >> META_LOCAL_SHIFT <= 2 ? 1 : 2;
}

/* The second namespace hands out other ports than the daemon's own one. */
static struct port_range range_of(int64_t netns)
{
	return netns == 1 ? (struct port_range){LOW, 60999} : (struct port_range){LOW + 1, 32999};
}

static usec_t closed_of(const struct past *p)
{
	return p->in == IN_OPEN ? WALL_FOREVER : (usec_t)(p->opened + p->dur);
}

/* As far as it matters: at the latest at the window's end. */
static usec_t opened_of(const struct past *p, const struct question *q)
{
	return MIN((usec_t)p->opened, q->window.until - 1);
}

static void look(const struct past *found, size_t count, const struct question *q,
	struct steps step, usec_t at, struct seen *s)
{
	size_t i = (at - step.origin) / step.length;
	uint8_t on_port[512] = {0};
	uint64_t used = 0, time_wait = 0;

	for (size_t k = 0; k < count; k++) {
		const struct past *p = &found[k];
		uint8_t *port = &on_port[p->port - LOW];

		if (netns_of(p) != s->netns || (p->meta & 3) != s->protocol ||
			p->port < range_of(s->netns).low || p->port > range_of(s->netns).high)
			continue;
		s->any = true;
		if (opened_of(p, q) <= at && at < closed_of(p))
			*port = 2;
		else if (opened_of(p, q) <= at && at < (usec_t)past_released(p) && *port == 0)
			*port = 1;
	}
	for (size_t k = 0; k < sizeof(on_port); k++) {
		used += on_port[k] > 0;
		time_wait += on_port[k] == 1;
	}
	if (used > s->used[i]) {
		s->used[i] = used;
		s->time_wait[i] = time_wait;
	}
	if (used > s->peak) {
		s->peak = used;
		s->peak_at = at;
	}
}

static int compare_times(const void *left, const void *right)
{
	usec_t a = *(const usec_t *)left, b = *(const usec_t *)right;

	return a < b ? -1 : a > b;
}

/* All moments of the window at which anything may change, in their order. */
static size_t moments(const struct past *found, size_t count, const struct question *q,
	struct steps step, usec_t *at)
{
	size_t all = 0, kept = 0;

	for (size_t i = 0; i < steps_count(step, q->window); i++)
		at[all++] = MAX(q->window.from, step.origin + i * step.length);
	for (size_t i = 0; i < count; i++) {
		at[all++] = opened_of(&found[i], q);
		at[all++] = closed_of(&found[i]);
		at[all++] = (usec_t)past_released(&found[i]);
	}
	for (size_t i = 0; i < all; i++)
		if (at[i] >= q->window.from && at[i] < q->window.until)
			at[kept++] = at[i];
	qsort(at, kept, sizeof(*at), compare_times);
	return kept;
}

static int compare_seen(const void *left, const void *right)
{
	const struct seen *a = left, *b = right;

	if (a->peak != b->peak)
		return a->peak > b->peak ? -1 : 1;
	return (int)(a->netns - b->netns) * 4 + a->protocol - b->protocol;
}

static void expect_occupancy(const struct past *found, size_t count, const struct question *q,
	struct steps step, struct buf *b)
{
	static usec_t at[3 * FEW + STEPS_MAX + 2];
	struct seen seen[] = {{.netns = 1, .protocol = PROTOCOL_TCP},
		{.netns = 1, .protocol = PROTOCOL_UDP}, {.netns = 2, .protocol = PROTOCOL_TCP},
		{.netns = 2, .protocol = PROTOCOL_UDP}};
	size_t all = moments(found, count, q, step, at);
	const char *between = "";

	for (size_t i = 0; i < ELEMENTSOF(seen); i++) {
		seen[i].peak_at = q->window.from;
		for (size_t k = 0; k < all; k++)
			look(found, count, q, step, at[k], &seen[i]);
	}
	qsort(seen, ELEMENTSOF(seen), sizeof(*seen), compare_seen);
	assert_int_equal(buf_append_string(b, "\"series\":["), 0);
	for (size_t i = 0; i < ELEMENTSOF(seen); i++) {
		const struct seen *s = &seen[i];

		if (!s->any)
			continue;
		assert_int_equal(
			buf_append_format(b,
				"%s{\"netns\":%lld,\"netns_name\":%s,\"protocol\":\"%s\","
				"\"range\":{\"low\":%u,\"high\":%u},\"peak\":%llu,\"peak_usec\":%llu",
				between, (long long)s->netns * 7,
				s->netns == 2 ? "\"blue\"" : "null",
				s->protocol == PROTOCOL_TCP ? "tcp" : "udp", range_of(s->netns).low,
				range_of(s->netns).high, (unsigned long long)s->peak,
				(unsigned long long)s->peak_at),
			0);
		append_numbers(b, "used", s->used, steps_count(step, q->window));
		append_numbers(b, "time_wait", s->time_wait, steps_count(step, q->window));
		assert_int_equal(buf_append_string(b, "}"), 0);
		between = ",";
	}
	assert_int_equal(buf_append(b, "],\"omitted\":0", sizeof("],\"omitted\":0")), 0);
}

/* Moves the window so that a step begins where a claim ends: what is over then is of the step before alone. */
static void align(struct history *h, const struct past *found, size_t count, struct steps *step,
	struct question *q)
{
	const struct past *p = &found[history_random(h, (uint32_t)count)];
	usec_t at = history_random(h, 2) ? closed_of(p) : (usec_t)past_released(p);

	if (at > q->window.from && at < q->window.until)
		q->window.from = at - (at - q->window.from) / step->length * step->length;
	step->origin = MIN(step->origin, q->window.from);
	while (step->origin + step->length <= q->window.from)
		step->origin += step->length;
	if (history_random(h, 2))
		step->origin = q->window.from;
}

static void test_occupancy(void **state)
{
	struct fixture *f = *state;
	struct past *found = calloc(CLAIMS, sizeof(*found));
	const struct kernel_ports known = {.netns = 7, .range = range_of(1)};
	unsigned looked = 0, rounds = 0;

	assert_non_null(found);
	/* a later session of the daemon saw the first one, too */
	history_sql(&f->history,
		"INSERT INTO netns VALUES(1,1,1,7,NULL,0,0),(2,1,2,14,'blue',32769,32999),"
		"(3,2,1,7,NULL,0,0);"
		"INSERT INTO local VALUES(1,1,'10.0.0.1'),(2,3,'10.0.0.2'),(3,2,'10.0.0.3')");
	while (looked < 150) {
		_cleanup_(buf_done) struct buf text = {0}, expected = {0};
		struct question q = random_question(&f->history);
		size_t count = oracle(&f->history, &q, found);
		struct steps step;

		assert_true(++rounds < 2000);
		if (q.window.from == q.window.until || count < 2 || count > FEW)
			continue;
		looked++;
		step = random_steps(&f->history, q.window);
		align(&f->history, found, count, &step, &q);
		count = oracle(&f->history, &q, found);
		expect_occupancy(found, count, &q, step, &expected);
		begin(f);
		assert_int_equal(query_occupancy(f->query, &q, step, &known, &text), 0);
		query_end(f->query);
		assert_text(&text, (const char *)buf_bytes(&expected));
	}
	free(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_activity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_activity_elsewhere, setup_empty, teardown),
		cmocka_unit_test_setup_teardown(test_occupancy, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
