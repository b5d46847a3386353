/* SPDX-License-Identifier: MIT */

/* A ring that is too small, and readers that are too slow: every claim is told, at the latest by its end, or counted. */

#include "tests/unit/events-script.h"

/* What a run of claims made, by cookie; rings that are too small for it must account for each. */
struct run {
	uint64_t *cookies;
	size_t made;
	int listener;
	int kept[64]; /* still open */
	size_t kept_count;
};

#define RUN 4000

static void made(struct run *r, int fd)
{
	assert_true(r->made < RUN);
	r->cookies[r->made++] = cookie_of(fd);
}

/* To the listener, which takes it, so that its queue does not fill. */
static void connect_and_close(struct run *r, int fd)
{
	int peer;

	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	peer = accept(r->listener, NULL, NULL);
	made(r, fd);
	(void)close(fd);
	close_second(peer);
}

static void make_tcp(struct run *r)
{
	connect_and_close(r, new_socket(AF_INET, SOCK_STREAM, 0));
}

static void make_listener(struct run *r)
{
	int fd = new_listener(AF_INET6, 0, 0);

	made(r, fd);
	(void)close(fd);
}

static void make_bound_connection(struct run *r)
{
	int fd = new_socket(AF_INET, SOCK_STREAM, 0), one = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind_to(fd, AF_INET, 0), 0);
	connect_and_close(r, fd);
}

static void make_sender(struct run *r)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);

	send_to(fd, AF_INET, 9);
	send_to(fd, AF_INET, 9);
	made(r, fd);
	(void)close(fd);
}

static void make_udp_connected(struct run *r)
{
	int fd = new_socket(AF_INET6, SOCK_DGRAM, 0);

	assert_int_equal(connect_to(fd, AF_INET6, 9), 0);
	made(r, fd);
	(void)close(fd);
}

static void make_kept(struct run *r)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);

	if (r->kept_count == ELEMENTSOF(r->kept)) {
		(void)close(fd);
		return;
	}
	assert_int_equal(bind_to(fd, AF_INET, 0), 0);
	made(r, fd);
	r->kept[r->kept_count++] = fd;
}

static int compare(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* How many different sockets of the run were told of as claims. */
static size_t recorded(const struct told *t, const struct run *r)
{
	uint64_t *seen = calloc(t->count + 1, sizeof(*seen));
	size_t count = 0, different = 0;

	assert_non_null(seen);
	for (size_t i = 0; i < t->count; i++) {
		const struct event_seen *e = &t->events[i];

		if (e->kind == EVENT_CLAIM || e->kind == EVENT_WHOLE)
			seen[count++] = e->cookie;
	}
	qsort(seen, count, sizeof(*seen), compare);
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && seen[i] == seen[i - 1])
			continue;
		different++;
		assert_non_null(
			bsearch(&seen[i], r->cookies, r->made, sizeof(*r->cookies), compare));
	}
	free(seen);
	return different;
}

/* Hears until nobody's end is still on its way. `r->cookies` are sorted. */
static struct events_counts hear_all(struct source_events *s, struct told *t, const struct run *r)
{
	const struct timespec pause = {.tv_nsec = 1000 * 1000};
	const usec_t until = clock_boot() + 10 * USEC_PER_SEC;

	for (;;) {
		struct events_counts counts;

		assert_int_equal(source_events_read(s, keep_event, t), 0);
		source_events_release(s, source_events_position(s));
		counts = source_events_counts(s);
		if (recorded(t, r) + counts.lost >= r->made || clock_boot() > until)
			return counts;
		(void)nanosleep(&pause, NULL);
	}
}

static void lose(size_t reader_every)
{
	static void (*const makers[])(struct run * r) = {make_tcp, make_listener,
		make_bound_connection, make_sender, make_udp_connected, make_kept};
	struct run r = {.cookies = calloc(RUN, sizeof(*r.cookies))};
	struct source_events_options o = options_here();
	struct events_counts counts;
	struct source_events *s;
	struct told t = {0};

	assert_non_null(r.cookies);
	o.ring_bytes = SMALL_RING;
	s = open_with(&o);
	r.listener = new_listener(AF_INET, 0, LISTENER);
	made(&r, r.listener);
	for (size_t i = 0; i < RUN - 200; i++) {
		makers[i % ELEMENTSOF(makers)](&r);
		if (reader_every != 0 && i % reader_every == 0) {
			assert_int_equal(source_events_read(s, keep_event, &t), 0);
			source_events_release(s, source_events_position(s));
		}
	}
	/* room again: what is still open is told by its end */
	assert_int_equal(source_events_read(s, keep_event, &t), 0);
	source_events_release(s, source_events_position(s));
	for (size_t i = 0; i < r.kept_count; i++)
		(void)close(r.kept[i]);
	(void)close(r.listener);
	qsort(r.cookies, r.made, sizeof(*r.cookies), compare);
	counts = hear_all(s, &t, &r);
	print_message("made %zu recorded %zu lost %lu deferred %lu lost ends %lu\n", r.made,
		recorded(&t, &r), (unsigned long)counts.lost, (unsigned long)counts.deferred,
		(unsigned long)counts.lost_ends);
	assert_int_equal(r.made, recorded(&t, &r) + counts.lost);
	assert_true(counts.lost > 0 && counts.deferred >= counts.lost);
	told_done(&t);
	free(r.cookies);
	source_events_free(s);
}

static void test_losses_are_counted(void **state _unused_)
{
	lose(0);    /* a reader that stands still */
	lose(1600); /* one that comes now and then */
}

/* An opening without room is told by its end: when, by whom, where. */
static void test_whole_by_its_end(void **state _unused_)
{
	struct source_events_options o = options_here();
	const struct event_seen *e;
	struct source_events *s;
	struct endpoint local;
	struct told t = {0};
	usec_t before;
	uint64_t cookie;
	int fd;

	o.ring_bytes = SMALL_RING;
	s = open_with(&o);
	make_claims(SMALL_RING / 80 + 10);
	before = clock_boot();
	fd = new_listener(AF_INET6, 0, 0);
	cookie = cookie_of(fd);
	local = local_of(fd);
	hear(s, &t);
	source_events_release(s, source_events_position(s));
	assert_null(find_told(&t, EVENT_CLAIM, cookie, 0));
	assert_true(source_events_counts(s).deferred >= 2);
	make_claims(1); /* time goes on */
	(void)close(fd);
	hear(s, &t);
	e = get_told(&t, EVENT_WHOLE, cookie, 0);
	assert_null(find_told(&t, EVENT_RELEASE, cookie, 0));
	assert_int_equal(e->role, ROLE_LISTENING);
	assert_endpoints(e, &local, NULL);
	assert_true(e->at >= before - 1 && e->at < t.events[0].at && e->closed > e->at);
	assert_int_not_equal(e->process, 0);
	told_done(&t);
	source_events_free(s);
}

/* Two claims of one socket, and no room for the first: its end is when the second begins. */
static void test_two_tenures(void **state _unused_)
{
	struct source_events_options o = options_here();
	const struct event_seen *first, *second;
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);
	struct source_events *s;
	struct told t = {0};
	uint64_t cookie, lost;

	o.ring_bytes = SMALL_RING;
	s = open_with(&o);
	make_claims(SMALL_RING / 80 + 10);
	lost = source_events_counts(s).lost;
	assert_int_equal(connect_to(fd, AF_INET, 1), -ECONNREFUSED);
	hear(s, &t);
	source_events_release(s, source_events_position(s));
	cookie = cookie_of(fd);
	assert_null(find_told(&t, EVENT_CLAIM, cookie, 0));
	assert_int_equal(connect_to(fd, AF_INET, 2), -ECONNREFUSED);
	(void)close(fd);
	hear(s, &t);
	second = get_told(&t, EVENT_CLAIM, cookie, 0);
	assert_int_equal(second->remote.port, 2);
	first = find_told(&t, EVENT_WHOLE, cookie, 0);
	/* by chance it may have got the same port: then it is one tenure */
	if (first) {
		assert_int_equal(first->remote.port, 1);
		assert_int_not_equal(first->local.port, second->local.port);
		assert_true(first->at < second->at && first->closed >= second->at);
	}
	(void)get_told(&t, EVENT_RELEASE, cookie, 0);
	assert_int_equal(source_events_counts(s).lost, lost);
	told_done(&t);
	source_events_free(s);
}

/* More UDP connects at once than the kernel side has places for: the others are remembered otherwise, and none is lost. */
static void test_many_udp_connects(void **state _unused_)
{
	enum { MANY = 9000, EACH = 900 };
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct told t = {0};
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (int i = 0; i < MANY / EACH; i++) {
		int ready[2];
		char byte;
		pid_t pid;

		assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
		pid = fork();
		if (pid == 0) {
			(void)close(ends[1]);
			for (int k = 0; k < EACH; k++)
				demand(connect_to(socket(AF_INET, SOCK_DGRAM, 0), AF_INET, 9) == 0);
			demand(write(ready[1], "x", 1) == 1);
			_exit((int)read(ends[0], &byte, 1)); /* all end together */
		}
		(void)close(ready[1]);
		assert_int_equal(read(ready[0], &byte, 1), 1);
		(void)close(ready[0]);
	}
	(void)close(ends[1]);
	for (int i = 0; i < MANY / EACH; i++) {
		int status;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	(void)close(ends[0]);
	hear(s, &t);
	assert_int_equal(t.count, MANY);
	assert_int_equal(count_kind(&t, EVENT_WHOLE), MANY);
	for (size_t i = 0; i < t.count; i++)
		assert_true(t.events[i].process != 0 && t.events[i].remote.port == 9);
	assert_int_equal(source_events_counts(s).lost, 0);
	told_done(&t);
	source_events_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_losses_are_counted),
		cmocka_unit_test(test_whole_by_its_end),
		cmocka_unit_test(test_two_tenures),
		cmocka_unit_test(test_many_udp_connects),
	};

	return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
