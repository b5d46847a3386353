/* SPDX-License-Identifier: MIT */

/* What is between the kernel side and its reader: room that is given back late, restarts, the snapshot, and no rights. */

#include "tests/unit/events-script.h"

#include <bpf/bpf.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/syscall.h>

#include "daemon/capture/bpf/claims.h"

/* ---- positions ---- */

static size_t claims_told(struct source_events *s)
{
	struct told t = {0};
	size_t n;

	hear(s, &t);
	n = count_kind(&t, EVENT_CLAIM);
	told_done(&t);
	return n;
}

static void test_room_is_given_back_when_told(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	uint64_t begin = source_events_position(s), middle;

	make_claims(3);
	assert_int_equal(claims_told(s), 3);
	assert_int_equal(claims_told(s), 0);
	middle = source_events_position(s);
	assert_true(middle > begin);
	assert_int_equal(source_events_waiting(s), middle - begin);
	make_claims(2);
	source_events_release(s, middle + 1000); /* not more than was read */
	assert_int_equal(source_events_position(s), middle);
	assert_int_equal(source_events_waiting(s), middle - begin - (middle - begin) / 3);
	source_events_release(s, begin); /* nor back */
	assert_int_equal(claims_told(s), 2);
	source_events_free(s);
}

static void test_rewind(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	uint64_t first, second;

	make_claims(1);
	assert_int_equal(claims_told(s), 1);
	first = source_events_position(s);
	make_claims(2);
	assert_int_equal(claims_told(s), 2);
	second = source_events_position(s);
	make_claims(4);
	source_events_rewind(s, second);
	assert_int_equal(claims_told(s), 4);
	source_events_rewind(s, first);
	assert_int_equal(claims_told(s), 6);
	source_events_rewind(s, 0);
	assert_int_equal(claims_told(s), 7);
	/* what no record begins at, or what never was, is not believed */
	source_events_rewind(s, first + 8);
	assert_int_equal(claims_told(s), 7);
	source_events_rewind(s, UINT64_MAX);
	assert_int_equal(claims_told(s), 7);
	/* what was given back is gone */
	source_events_release(s, second);
	source_events_rewind(s, first);
	assert_int_equal(claims_told(s), 4);
	source_events_free(s);
}

static int stop_at_second(void *context, const struct event_seen *e _unused_)
{
	size_t *count = context;

	return ++*count == 2 ? -ENOSPC : 0;
}

static void test_reader_that_stops(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct told t = {0};
	size_t count = 0;

	make_claims(2);
	assert_int_equal(source_events_read(s, stop_at_second, &count), -ENOSPC);
	hear(s, &t);
	assert_int_equal(t.count, 3); /* an end, and another claim */
	told_done(&t);
	source_events_free(s);
}

/* ---- waking ---- */

static bool is_readable(const struct source_events *s)
{
	struct pollfd p = {.fd = source_events_fd(s), .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void test_waking(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s;

	o.ring_bytes = SMALL_RING;
	s = open_with(&o);
	(void)claims_told(s);
	make_claims(10);
	assert_false(is_readable(s));
	make_claims(SMALL_RING / 4 / 80);
	assert_true(is_readable(s));
	/* it is answered, although the room was not given back */
	(void)claims_told(s);
	assert_false(is_readable(s));
	source_events_release(s, source_events_position(s));
	make_claims(10);
	assert_false(is_readable(s));
	make_claims(SMALL_RING / 4 / 80);
	assert_true(is_readable(s));
	source_events_free(s);
}

/* ---- restarts ---- */

/* Of a name that ends so. */
static bool has_part(const struct source_events_options *o, const char *end)
{
	for (size_t i = 0; i < o->passed_count; i++)
		if (streq(strrchr(o->passed[i].name, '-'), end))
			return true;
	return false;
}

static void test_adoption(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct events_facts before = source_events_facts(s), after;
	struct events_fd fds[FDS];
	char names[FDS][96];
	struct told t = {0};
	uint64_t position, cookie;
	int fd;

	assert_false(before.adopted);
	assert_int_not_equal(before.generation, 0);
	assert_true(before.attached <= clock_boot());
	make_claims(1);
	assert_int_equal(claims_told(s), 1);
	position = source_events_position(s);
	make_claims(2);
	o.passed_count = keep_fds(s, fds, names);
	o.passed = fds;
	source_events_free(s);
	assert_true(has_part(&o, "-ends"));

	/* nobody is there, and the kernel goes on */
	fd = new_listener(AF_INET, 0, LISTENER);
	cookie = cookie_of(fd);
	s = open_with(&o);
	after = source_events_facts(s);
	assert_true(after.adopted);
	assert_int_equal(after.generation, before.generation);
	assert_int_equal(after.attached, before.attached);
	assert_int_equal(after.ring_bytes, before.ring_bytes);
	source_events_rewind(s, position);
	hear(s, &t);
	assert_int_equal(count_kind(&t, EVENT_CLAIM), 4);
	process_unref(process_of(s, get_told(&t, EVENT_CLAIM, cookie, 0)));
	/* what was seen of it then ends now */
	(void)close(fd);
	hear(s, &t);
	(void)get_told(&t, EVENT_RELEASE, cookie, 0);
	assert_int_equal(source_events_counts(s).lost, 0);
	told_done(&t);
	source_events_free(s);
}

/* What does not fit is left alone, and its programs go when the caller closes it. */
static void test_no_adoption(void **state _unused_)
{
	struct source_events_options o = options_here(), other;
	struct source_events *s = open_with(&o), *next;
	uint64_t generation = source_events_facts(s).generation;
	struct events_obstacle obstacle;
	struct events_fd fds[FDS];
	char names[FDS][96];

	o.passed_count = keep_fds(s, fds, names);
	o.passed = fds;
	source_events_free(s);

	/* other settings */
	other = o;
	other.ring_bytes = SMALL_RING;
	next = open_with(&other);
	assert_false(source_events_facts(next).adopted);
	assert_int_not_equal(source_events_facts(next).generation, generation);
	source_events_free(next);
	/* not all of it */
	other = o;
	other.passed_count--;
	next = open_with(&other);
	assert_false(source_events_facts(next).adopted);
	source_events_free(next);
	/* what has the names, and is something else */
	for (size_t i = 0; i < o.passed_count; i++) {
		(void)close(fds[i].fd);
		fds[i].fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	next = open_with(&o);
	assert_false(source_events_facts(next).adopted);
	source_events_free(next);
	for (size_t i = 0; i < o.passed_count; i++)
		assert_int_equal(fcntl(fds[i].fd, F_GETFD), FD_CLOEXEC);
	close_fds(fds, o.passed_count);
	/* what somebody has detached, be it a part of it only */
	o.passed_count = 0;
	s = open_with(&o);
	o.passed_count = keep_fds(s, fds, names);
	source_events_free(s);
	for (size_t i = 0; i < o.passed_count; i++)
		if (strstr(fds[i].name, "-sendmsg4"))
			assert_int_equal(bpf_link_detach(fds[i].fd), 0);
	next = open_with(&o);
	assert_false(source_events_facts(next).adopted);
	assert_int_equal(source_events_check(next), 0);
	source_events_free(next);
	other = o;
	other.drain = true;
	assert_int_equal(source_events_open(&other, &next, &obstacle), -ENOENT);
	close_fds(fds, o.passed_count);
	/* names of others */
	fds[0] = (struct events_fd){.fd = -1, .name = "portledger-1-zz"};
	fds[1] = (struct events_fd){.fd = -1, .name = NULL};
	o.passed_count = 2;
	for (size_t i = 0; i < o.passed_count; i++)
		assert_false(source_events_made(fds[i].name));
	o.drain = true;
	assert_int_equal(source_events_open(&o, &next, &obstacle), -ENOENT);
}

/* An upgrade: a new ring is made, and what waits in the old one is read. */
static void test_drain(void **state _unused_)
{
	struct source_events_options o = options_here(), drain;
	struct source_events *old = open_with(&o), *next;
	uint64_t generation = source_events_facts(old).generation;
	struct events_fd fds[FDS];
	char names[FDS][96];

	make_claims(3);
	o.passed_count = keep_fds(old, fds, names);
	o.passed = fds;
	source_events_free(old);
	o.ring_bytes = SMALL_RING; /* any difference will do */
	next = open_with(&o);
	make_claims(2);
	drain = o;
	drain.drain = true;
	old = open_with(&drain);
	assert_int_equal(source_events_facts(old).generation, generation);
	source_events_silence(old);
	make_claims(4);
	assert_false(source_events_is_read(old));
	assert_int_equal(claims_told(old), 5);
	assert_true(source_events_is_read(old));
	source_events_free(old);
	for (size_t i = 0; i < o.passed_count; i++)
		assert_int_equal(fcntl(fds[i].fd, F_GETFD), -1);
	make_claims(1);
	assert_int_equal(claims_told(next), 7);
	source_events_free(next);
}

/* Names as another version gives them: by its layout, and one of a program that we do not have. */
static void rename_fds(const struct events_fd *fds, size_t count, char names[][96], int layout)
{
	for (size_t i = 0; i < count; i++) {
		const char *rest = strchr(strchr(fds[i].name, '-') + 1, '-');
		int length = (int)(strrchr(rest, '-') - rest);
		char name[96];

		if (i < count - 1)
			length = (int)strlen(rest);
		(void)snprintf(name, sizeof(name), "portledger-%d%.*s%s", layout, length, rest,
			i < count - 1 ? "" : "-unknown");
		memcpy(names[i], name, sizeof(name));
	}
}

/* What another version made is not taken over. It is read to its end where its records can be, whatever else it was made of. */
static void test_drain_of_another_version(void **state _unused_)
{
	static const struct {
		int layout;
		bool readable;
	} cases[] = {{CLAIMS_LAYOUT_READABLE - 1, false}, {CLAIMS_LAYOUT_READABLE, true},
		{CLAIMS_LAYOUT - 1, true}, {CLAIMS_LAYOUT + 1, false}};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct source_events_options o = options_here();
		struct source_events *s = open_with(&o);
		struct events_obstacle obstacle;
		struct events_fd fds[FDS], own[FDS], *last;
		char names[FDS][96];
		size_t count, n;

		make_claims(3);
		count = keep_fds(s, fds, names);
		source_events_free(s);
		rename_fds(fds, count, names, cases[i].layout);
		/* the ring, the shared section, the processes and the unknown one */
		for (n = 0; n < count - 1; n++)
			if (n >= 3)
				(void)close(fds[n].fd);
		last = &fds[count - 1];
		fds[3] = *last;
		o.passed = fds;
		o.passed_count = 4;
		s = open_with(&o);
		assert_false(source_events_facts(s).adopted);
		source_events_free(s);
		o.drain = true;
		assert_int_equal(
			source_events_open(&o, &s, &obstacle), cases[i].readable ? 0 : -ENOENT);
		if (!cases[i].readable) {
			close_fds(fds, 4);
			continue;
		}
		assert_int_equal(claims_told(s), 3);
		/* by these names the service manager has them */
		assert_int_equal(source_events_fds(s, own, FDS), 3);
		for (n = 0; n < 3; n++)
			assert_string_equal(own[n].name, names[n]);
		source_events_free(s);
		assert_int_equal(fcntl(fds[3].fd, F_GETFD), FD_CLOEXEC); /* the caller's */
		(void)close(fds[3].fd);
	}
}

/* Nobody takes over what tells of nothing any more: another one is made. */
static void test_silenced(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *old = open_with(&o), *next;
	uint64_t generation = source_events_facts(old).generation;
	struct events_fd fds[FDS];
	char names[FDS][96];

	source_events_silence(old);
	o.passed_count = keep_fds(old, fds, names);
	o.passed = fds;
	source_events_free(old);
	next = open_with(&o);
	assert_int_not_equal(source_events_facts(next).generation, generation);
	make_claims(1);
	assert_int_equal(claims_told(next), 1);
	source_events_free(next);
	for (size_t i = 0; i < o.passed_count; i++)
		assert_int_equal(close(fds[i].fd), 0);
}

/* ---- the snapshot ---- */

struct holders {
	struct holder_seen seen[256];
	size_t count;
};

static int keep_holder(void *context, const struct holder_seen *h)
{
	struct holders *all = context;

	if (all->count < ELEMENTSOF(all->seen))
		all->seen[all->count++] = *h;
	return 0;
}

static const struct holder_seen *holder_by_port(
	const struct holders *all, pid_t pid, uint16_t port, enum protocol protocol)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->seen[i].pid == pid && all->seen[i].socket.local.port == port &&
			all->seen[i].socket.protocol == protocol)
			return &all->seen[i];
	fail_msg("not in the snapshot: pid %d, port %d", pid, port);
	abort();
}

static int stop(void *context _unused_, const struct holder_seen *h _unused_)
{
	return 5;
}

static void test_snapshot(void **state _unused_)
{
	struct source_events_options o = options_here();
	/* older than the hooks */
	int listener = new_listener(AF_INET6, 0, 50000), udp = new_socket(AF_INET, SOCK_DGRAM, 0);
	int mptcp = new_listener(AF_INET, IPPROTO_MPTCP, 50001);
	int outside = new_listener(AF_INET, 0, 1000);
	struct holders all = {.count = 0};
	const struct holder_seen *h;
	struct source_events *s;
	struct told t = {0};
	struct stat status;
	uint64_t cookie;
	int ends[2];
	pid_t child;

	assert_int_equal(connect_to(udp, AF_INET, 9), 0);
	s = open_with(&o);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		char byte;

		(void)close(ends[1]);
		_exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
	}
	assert_int_equal(source_events_snapshot(s, keep_holder, &all), 0);
	(void)close(ends[1]);
	wait_for(child, 0);

	h = holder_by_port(&all, getpid(), 50000, PROTOCOL_TCP);
	assert_int_equal(fstat(listener, &status), 0);
	assert_int_equal(h->inode, status.st_ino);
	assert_int_equal(h->socket.role, ROLE_LISTENING);
	assert_int_equal(h->socket.netns, netns_cookie());
	cookie = h->socket.cookie; /* given by the snapshot: nobody else asked */
	assert_int_equal(cookie, cookie_of(listener));
	assert_true(h->start_boot > 0 && h->start_boot < clock_boot());
	/* inherited */
	h = holder_by_port(&all, child, 50000, PROTOCOL_TCP);
	assert_int_equal(h->socket.cookie, cookie);
	h = holder_by_port(&all, getpid(), local_of(udp).port, PROTOCOL_UDP);
	assert_int_equal(h->socket.role, ROLE_CONNECTED);
	assert_int_equal(h->socket.remote.port, 9);
	h = holder_by_port(&all, getpid(), 50001, PROTOCOL_MPTCP);
	assert_int_equal(h->socket.cookie, cookie_of(mptcp));
	for (size_t i = 0; i < all.count; i++)
		assert_int_not_equal(all.seen[i].socket.local.port, 1000);
	assert_int_equal(source_events_snapshot(s, stop, NULL), 5);

	/* who has a cookie now ends visibly */
	cookie = cookie_of(udp);
	(void)close(udp);
	(void)close(listener);
	(void)close(mptcp);
	(void)close(outside);
	hear(s, &t);
	(void)get_told(&t, EVENT_RELEASE, cookie, 0);
	assert_int_equal(count_kind(&t, EVENT_CLAIM), 0);
	assert_int_equal(count_kind(&t, EVENT_WHOLE), 0);
	told_done(&t);
	source_events_free(s);
}

/* Older than the hooks, and gone before anybody looked; unless somebody else on this machine has looked: then the end is all. */
static void test_unknown_beginning(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s;
	size_t whole = 0;

	for (int i = 0; i < 20; i++) {
		int fd = new_socket(AF_INET, SOCK_DGRAM, 0);
		struct told t = {0};
		uint16_t port;

		assert_int_equal(bind_to(fd, AF_INET, 0), 0);
		port = local_of(fd).port;
		s = open_with(&o);
		(void)close(fd);
		hear(s, &t);
		assert_int_equal(t.count, 1);
		if (t.events[0].kind == EVENT_WHOLE) {
			whole++;
			assert_int_equal(t.events[0].at, USEC_UNSET);
			assert_int_equal(t.events[0].process, 0);
			assert_int_equal(t.events[0].role, ROLE_BOUND);
			assert_int_equal(t.events[0].local.port, port);
			i = 20;
		} else {
			assert_int_equal(t.events[0].kind, EVENT_RELEASE);
		}
		told_done(&t);
		source_events_free(s);
	}
	if (whole == 0)
		print_message("cannot run here: another program gives every socket a cookie\n");
}

/* ---- rights ---- */

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	demand(setresuid(65534, 65534, 65534) == 0);
	demand(syscall(SYS_capset, &header, none) == 0);
}

/* Everything after attaching, and adopting, is done without a right. */
static void test_without_rights(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct events_fd fds[FDS];
	char names[FDS][96];
	pid_t pid;

	o.passed_count = keep_fds(s, fds, names);
	o.passed = fds;
	make_claims(1);
	source_events_free(s);
	pid = fork();
	if (pid == 0) {
		struct events_obstacle obstacle;
		struct holders all = {.count = 0};
		struct told t = {0};

		drop_capabilities();
		demand(source_events_open(&o, &s, &obstacle) == 0);
		demand(source_events_facts(s).adopted);
		demand(source_events_read(s, keep_event, &t) == 0);
		demand(count_kind(&t, EVENT_CLAIM) == 1);
		source_events_release(s, source_events_position(s));
		demand(source_events_waiting(s) == 0);
		demand(source_events_snapshot(s, keep_holder, &all) == 0);
		o.ranges.count = 0;
		demand(source_events_watch(s, &o) == 0);
		make_claims(1);
		demand(source_events_read(s, keep_event, &t) == 0);
		demand(count_kind(&t, EVENT_CLAIM) == 1);
		_exit(0);
	}
	wait_for(pid, 0);
	close_fds(fds, o.passed_count);
}

static void demand_obstacle(const struct source_events_options *o, int error, const char *reason)
{
	struct events_obstacle obstacle = {.reason = ""};
	struct source_events *s = NULL;
	int r = source_events_open(o, &s, &obstacle);

	if (r != error || s || !streq(obstacle.reason, reason)) {
		print_message("%d: %s\n", r, obstacle.reason);
		_exit(97);
	}
}

/* In a mount namespace of its own. */
static void hide_cgroups(void)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[1024], path[512];

	demand(mounts && unshare(CLONE_NEWNS) == 0);
	while (fgets(line, sizeof(line), mounts))
		if (strstr(line, " - cgroup2 ") && sscanf(line, "%*d %*d %*s %*s %511s", path) == 1)
			demand(mount("none", path, "tmpfs", 0, NULL) == 0);
	(void)fclose(mounts);
}

static void test_obstacles(void **state _unused_)
{
	struct source_events_options o = options_here();
	pid_t pid = fork();

	if (pid == 0) {
		drop_capabilities();
		demand_obstacle(
			&o, -EPERM, "missing capabilities: CAP_BPF CAP_PERFMON CAP_NET_ADMIN");
		_exit(0);
	}
	wait_for(pid, 0);
	pid = fork();
	if (pid == 0) {
		hide_cgroups();
		demand_obstacle(&o, -ENOENT, "the cgroup tree is not mounted here (cgroup2)");
		_exit(0);
	}
	wait_for(pid, 0);
	o.ring_bytes = 5000;
	demand_obstacle(&o, -EINVAL, "the ring's size is no power of two, or less than a page");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room_is_given_back_when_told),
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_reader_that_stops),
		cmocka_unit_test(test_waking),
		cmocka_unit_test(test_adoption),
		cmocka_unit_test(test_no_adoption),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_drain_of_another_version),
		cmocka_unit_test(test_silenced),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_unknown_beginning),
		cmocka_unit_test(test_without_rights),
		cmocka_unit_test(test_obstacles),
	};

	return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
