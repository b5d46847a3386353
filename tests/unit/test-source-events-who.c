/* SPDX-License-Identifier: MIT */

/* Who made a claim, also when nobody can be asked any more; and what failed. */

#include "tests/unit/events-script.h"

#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- programs that make one claim and are gone ---- */

#define CLAIM_AND_END "--claim-and-end" /* this test's own binary, started so */

static int claim_and_end(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	demand(bind_to(fd, AF_INET, 0) == 0);
	return 0;
}

/* Our own binary once more, by this path; in a mount namespace of its own. */
static void run_copy(const char *path, bool apart)
{
	pid_t pid = fork();

	if (pid == 0) {
		demand(!apart || unshare(CLONE_NEWNS) == 0);
		execl(path, "a name of its own", CLAIM_AND_END, NULL);
		_exit(98);
	}
	wait_for(pid, 0);
}

static void copy_self(int to)
{
	_cleanup_(close_p) int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char bytes[65536];
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) > 0)
		assert_int_equal(write(to, bytes, (size_t)n), n);
	assert_int_equal(n, 0);
	assert_int_equal(fchmod(to, 0755), 0);
}

/* A directory of our own on a file system of its own, so that a mount is crossed. */
#define DIRECTORY "/tmp/portledger-events"

static void make_directory(void)
{
	(void)mkdir(DIRECTORY, 0755);
	assert_int_equal(mount("none", DIRECTORY, "tmpfs", 0, NULL), 0);
}

static void remove_directory(void)
{
	assert_int_equal(umount2(DIRECTORY, MNT_DETACH), 0);
	(void)rmdir(DIRECTORY);
}

/* The one that was told last. */
static struct process *last_process(struct source_events *s)
{
	struct told t = {0};
	struct process *p = NULL;

	hear(s, &t);
	for (size_t i = t.count; i-- > 0 && !p;)
		if (t.events[i].kind == EVENT_CLAIM)
			p = process_of(s, &t.events[i]);
	told_done(&t);
	if (!p) {
		fail_msg("no claim was told");
		abort();
	}
	return p;
}

static void check_exe(struct source_events *s, const char *exe, enum exe_note note)
{
	_cleanup_(process_unref_p) struct process *p = last_process(s);

	assert_non_null(p->exe);
	assert_string_equal(p->exe, exe);
	assert_int_equal(p->exe_note, note);
	assert_int_equal(p->parent_pid, getpid());
	assert_string_equal(p->parent_comm, "test-source-eve");
	assert_int_equal(kill(p->pid, 0), -1); /* it is gone */
}

static void test_exe_of_who_is_gone(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s;
	char path[64], long_path[512] = DIRECTORY;
	int fd;

	make_directory();
	s = open_with(&o);
	fd = open(DIRECTORY "/claimer \x01", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	copy_self(fd);
	(void)close(fd);
	run_copy(DIRECTORY "/claimer \x01", true);
	check_exe(s, DIRECTORY "/claimer \\x01", EXE_NOTE_OTHER_NAMESPACE);

	fd = memfd_create("secret", 0);
	copy_self(fd);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	{
		_cleanup_(close_p) int other = open(path, O_RDONLY | O_CLOEXEC);

		(void)close(fd);
		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), other);
		run_copy(path, true);
	}
	check_exe(s, "/memfd:secret", EXE_NOTE_MEMFD);

	/* deeper than there is room: nothing is better than half of it */
	for (int i = 0; i < 5; i++) {
		size_t used = strlen(long_path);

		long_path[used] = '/';
		memset(long_path + used + 1, 'd', 90);
		long_path[used + 91] = '\0';
		assert_int_equal(mkdir(long_path, 0755), 0);
	}
	strcat(long_path, "/x");
	fd = open(long_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	copy_self(fd);
	(void)close(fd);
	run_copy(long_path, false);
	{
		_cleanup_(process_unref_p) struct process *p = last_process(s);

		assert_null(p->exe);
		assert_string_equal(p->comm, "x");
	}
	source_events_free(s);
	remove_directory();
}

/* In pid 1's mount namespace there is no note, but of what was removed; where pid 1 is not ours to look at, in ours. */
static void test_exe_that_was_removed(void **state _unused_)
{
	_cleanup_(close_p) int home = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
	_cleanup_(close_p) int here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	struct source_events_options o = options_here();
	struct source_events *s;
	char path[64];
	int fd;
	pid_t pid;

	if (home >= 0)
		assert_int_equal(setns(home, CLONE_NEWNS), 0);
	s = open_with(&o);
	(void)snprintf(path, sizeof(path), "/tmp/portledger-claimer-%d", getpid());
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	copy_self(fd);
	(void)close(fd);
	run_copy(path, false);
	check_exe(s, path, EXE_NOTE_NONE);
	/* executed by a descriptor, when the name is gone */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(unlink(path), 0);
	pid = fork();
	if (pid == 0) {
		char *arguments[] = {(char[]){"x"}, (char[]){CLAIM_AND_END}, NULL};

		(void)fexecve(fd, arguments, environ);
		_exit(98);
	}
	wait_for(pid, 0);
	(void)close(fd);
	check_exe(s, path, EXE_NOTE_DELETED);
	source_events_free(s);
	assert_int_equal(setns(here, CLONE_NEWNS), 0);
}

/* ---- one process, and what it changes ---- */

static void test_what_changes_a_process(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct told t = {0};
	uint64_t first;
	pid_t pid;

	make_claims(2);
	hear(s, &t);
	assert_int_equal(count_kind(&t, EVENT_CLAIM), 2);
	first = t.events[0].process;
	assert_int_equal(t.events[2].process, first); /* one number */

	pid = fork();
	if (pid == 0) {
		make_claims(1);
		demand(prctl(PR_SET_NAME, "renamed") == 0);
		make_claims(1);
		demand(setresuid(12345, 12345, 12345) == 0);
		make_claims(1);
		_exit(0);
	}
	wait_for(pid, 0);
	hear(s, &t);
	assert_int_equal(count_kind(&t, EVENT_CLAIM), 3);
	for (size_t i = 0, n = 0; i < t.count; i++) {
		_cleanup_(process_unref_p) struct process *p = NULL;

		if (t.events[i].kind != EVENT_CLAIM)
			continue;
		p = process_of(s, &t.events[i]);
		assert_int_equal(p->pid, pid);
		assert_string_equal(p->comm, n == 0 ? "test-source-eve" : "renamed");
		assert_int_equal(p->uid, n == 2 ? 12345 : 0);
		assert_int_not_equal(t.events[i].process, first);
		first = t.events[i].process;
		n++;
	}
	told_done(&t);
	source_events_free(s);
}

/* More processes than there are slots: of who was overwritten nothing is said, and least of all what is another's. */
static void test_more_processes_than_slots(void **state _unused_)
{
	enum { SLOTS = 1024 };
	struct source_events_options o = options_here();
	struct source_events *s;
	size_t known = 0, unknown = 0;
	struct told t = {0};

	o.ring_bytes = 4 * SMALL_RING;
	s = open_with(&o);
	for (int i = 0; i < SLOTS + 100; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "name %d", i);
		assert_int_equal(prctl(PR_SET_NAME, name), 0);
		make_claims(1);
	}
	assert_int_equal(prctl(PR_SET_NAME, "test-source-eve"), 0);
	hear(s, &t);
	assert_int_equal(count_kind(&t, EVENT_CLAIM), SLOTS + 100);
	for (size_t i = 0, n = 0; i < t.count; i++) {
		_cleanup_(process_unref_p) struct process *p = NULL;
		struct process_place place;
		char name[16];
		int r;

		if (t.events[i].kind != EVENT_CLAIM)
			continue;
		(void)snprintf(name, sizeof(name), "name %zu", n++);
		r = source_events_process(s, t.events[i].process, &p, &place);
		assert_true(r == 0 || r == -ENOENT);
		known += r == 0;
		unknown += r == -ENOENT;
		if (r == 0)
			assert_string_equal(p->comm, name);
	}
	assert_true(known >= SLOTS - 100 && unknown >= 100);
	told_done(&t);
	source_events_free(s);
}

/* Who goes on to claim while others come by the hundred: his slot is another's by and by, and then he gets another number. */
static void test_slot_taken_from_who_goes_on(void **state _unused_)
{
	enum { SLOTS = 1024, EVERY = 50, RELEASED = 500 };
	struct source_events_options o = options_here();
	struct process_place place;
	struct source_events *s;

	o.ring_bytes = 4 * SMALL_RING;
	s = open_with(&o);
	for (int i = 0; i <= 3 * SLOTS; i++) {
		_cleanup_(process_unref_p) struct process *p = NULL;
		struct told t = {0};
		char name[16];

		(void)snprintf(name, sizeof(name), i % EVERY == 0 ? "again" : "name %d", i);
		assert_int_equal(prctl(PR_SET_NAME, name), 0);
		make_claims(1);
		if (i % RELEASED != 0)
			continue;
		hear(s, &t);
		source_events_release(s, source_events_position(s));
		assert_true(t.count >= 2);
		assert_int_equal(t.events[t.count - 2].kind, EVENT_CLAIM);
		assert_int_equal(
			source_events_process(s, t.events[t.count - 2].process, &p, &place), 0);
		assert_string_equal(p->comm, "again");
		told_done(&t);
	}
	assert_int_equal(prctl(PR_SET_NAME, "test-source-eve"), 0);
	source_events_free(s);
}

/* A child with the pid that is asked for (0: any) makes a claim and ends: as whom it was told. NULL: that may not be. */
static struct process *claim_as(struct source_events *s, pid_t wanted)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	pid_t pid;

	if (wanted != 0) {
		args.set_tid = (uintptr_t)&wanted;
		args.set_tid_size = 1;
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return NULL;
	if (pid == 0)
		_exit(claim_and_end());
	wait_for(pid, 0);
	return last_process(s);
}

/* One pid for two, of one name, of one program, one after the other: only when they began tells them apart. It is told in ticks, as
 * /proc has it: the second begins in another one. */
static void test_same_pid_again(void **state _unused_)
{
	const usec_t tick = USEC_PER_SEC / (usec_t)sysconf(_SC_CLK_TCK);
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	_cleanup_(process_unref_p) struct process *first = claim_as(s, 0), *second = NULL;

	assert_non_null(first);
	while (clock_boot() < first->start_boot + 2 * tick)
		(void)usleep((useconds_t)tick);
	second = claim_as(s, first->pid);
	if (!second) {
		source_events_free(s);
		print_message("cannot run here: to choose a pid takes CAP_SYS_ADMIN\n");
		skip();
	}
	assert_int_equal(second->pid, first->pid);
	assert_string_equal(second->comm, first->comm);
	assert_true(second->start_boot > first->start_boot);
	source_events_free(s);
}

/* A thread, when the first one has ended already. */
static void *claim_alone(void *context)
{
	int fd;

	(void)context;
	while (kill(getpid(), 0) == 0) {
		char path[64], state = 0;
		FILE *f;

		(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", getpid(), getpid());
		f = fopen(path, "re");
		if (f) {
			if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
				state = 0;
			(void)fclose(f);
		}
		if (state == 'Z')
			break;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	demand(bind_to(fd, AF_INET, 0) == 0);
	_exit(0);
}

static void test_thread_alone(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	_cleanup_(process_unref_p) struct process *p = NULL;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t thread;

		demand(pthread_create(&thread, NULL, claim_alone, NULL) == 0);
		pthread_exit(NULL);
	}
	wait_for(pid, 0);
	p = last_process(s);
	assert_int_equal(p->pid, pid);
	assert_non_null(p->exe);
	source_events_free(s);
}

/* ---- what the exits of system calls tell ---- */

static struct source_events *open_extras(struct source_events_options *o)
{
	/* some machines have none; ours goes with our mount namespace */
	if (access("/sys/kernel/tracing/events/syscalls", F_OK) < 0)
		assert_int_equal(mount("none", "/sys/kernel/tracing", "tracefs", 0, NULL), 0);
	*o = options_here();
	o->udp_connect = o->failures = EVENTS_EXTRA_YES;
	return open_with(o);
}

static void test_udp_connect_at_once(void **state _unused_)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct source_events_options o;
	struct source_events *s = open_extras(&o);
	struct told t = {0};

	assert_true(source_events_facts(s).udp_connect);
	for (size_t i = 0; i < ELEMENTSOF(families); i++) {
		int fd = new_socket(families[i], SOCK_DGRAM, 0);
		uint64_t cookie = cookie_of(fd);
		union sock_address nobody = {.any = {.sa_family = AF_UNSPEC}};
		const struct event_seen *e;
		struct endpoint local, remote;
		union sock_address a = loopback(families[i], 9);

		assert_int_equal(connect_to(fd, families[i], 9), 0);
		local = local_of(fd);
		remote = endpoint_from(&a);
		hear(s, &t);
		e = get_told(&t, EVENT_CLAIM, cookie, 0);
		assert_int_equal(e->role, ROLE_CONNECTED);
		assert_endpoints(e, &local, &remote);
		/* another address, another port: another claim */
		assert_int_equal(connect(fd, &nobody.any, sizeof(nobody.any)), 0);
		assert_int_equal(connect_to(fd, families[i], 10), 0);
		local = local_of(fd);
		hear(s, &t);
		(void)get_told(&t, EVENT_RELEASE, cookie, 0);
		e = get_told(&t, EVENT_CLAIM, cookie, 0);
		remote.port = 10;
		assert_endpoints(e, &local, &remote);
		assert_int_equal(connect(fd, &nobody.any, sizeof(nobody.any)), 0);
		(void)close(fd);
		hear(s, &t);
		(void)get_told(&t, EVENT_RELEASE, cookie, 0);
		assert_int_equal(count_kind(&t, EVENT_WHOLE), 0);
	}
	told_done(&t);
	source_events_free(s);
}

static const struct event_seen *only_failure(struct source_events *s, struct told *t)
{
	hear(s, t);
	for (size_t i = 0; i < t->count; i++)
		if (t->events[i].kind == EVENT_FAILURE) {
			assert_int_equal(count_kind(t, EVENT_FAILURE), 1);
			return &t->events[i];
		}
	fail_msg("no failure was told");
	abort();
}

static void test_failures(void **state _unused_)
{
	struct source_events_options o;
	struct source_events *s = open_extras(&o);
	int holder = new_listener(AF_INET, 0, LISTENER), fd = new_socket(AF_INET, SOCK_STREAM, 0);
	_cleanup_(process_unref_p) struct process *p = NULL;
	union sock_address a = {
		.four = {.sin_family = AF_INET, .sin_port = htons(50000), .sin_addr = {1}}};
	const struct event_seen *e;
	struct endpoint local;
	struct told t = {0};
	int out;

	assert_true(source_events_facts(s).failures);
	hear(s, &t);
	assert_int_equal(bind_to(fd, AF_INET, LISTENER), -EADDRINUSE);
	e = only_failure(s, &t);
	local = local_of(holder);
	assert_int_equal(e->error, EADDRINUSE);
	assert_int_equal(e->role, ROLE_BOUND);
	assert_int_equal(e->protocol, PROTOCOL_TCP);
	assert_int_equal(e->netns, netns_cookie());
	assert_endpoints(e, &local, NULL);
	p = process_of(s, e);
	assert_int_equal(p->pid, getpid());

	assert_int_equal(bind(fd, &a.any, sizeof(a.four)), -1);
	assert_int_equal(errno, EADDRNOTAVAIL);
	e = only_failure(s, &t);
	assert_int_equal(e->error, EADDRNOTAVAIL);
	assert_int_equal(e->local.port, 50000);

	/* no port is left: one of one is taken */
	out = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(out, "45000 45000", 11), 11);
	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	{
		int second = new_socket(AF_INET, SOCK_STREAM, 0);

		hear(s, &t);
		assert_int_equal(connect_to(second, AF_INET, LISTENER), -EADDRNOTAVAIL);
		(void)close(second);
	}
	assert_int_equal(write(out, "32768 60999", 11), 11);
	(void)close(out);
	e = only_failure(s, &t);
	assert_int_equal(e->error, EADDRNOTAVAIL);
	assert_int_equal(e->role, ROLE_CONNECTED);
	assert_int_equal(e->local.port, 0);
	assert_endpoints(&(struct event_seen){.local = e->remote}, &local, NULL);

	/* what is none of ours, and what is refused, is none */
	(void)close(fd);
	fd = new_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect_to(fd, AF_INET, 1), -ECONNREFUSED);
	hear(s, &t);
	assert_int_equal(count_kind(&t, EVENT_FAILURE), 0);
	(void)close(fd);
	(void)close(holder);
	told_done(&t);
	source_events_free(s);
}

static void test_failures_in_plenty(void **state _unused_)
{
	struct source_events_options o;
	struct source_events *s = open_extras(&o);
	int holder = new_listener(AF_INET, 0, LISTENER), fd = new_socket(AF_INET, SOCK_STREAM, 0);
	enum { TRIES = 3000 };
	struct told t = {0};
	size_t told;

	for (int i = 0; i < TRIES; i++)
		assert_int_equal(bind_to(fd, AF_INET, LISTENER), -EADDRINUSE);
	hear(s, &t);
	told = count_kind(&t, EVENT_FAILURE);
	assert_true(told > 0 && told < TRIES);
	assert_int_equal(told + source_events_counts(s).failures_dropped, TRIES);
	(void)close(fd);
	(void)close(holder);
	told_done(&t);
	source_events_free(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exe_of_who_is_gone),
		cmocka_unit_test(test_exe_that_was_removed),
		cmocka_unit_test(test_what_changes_a_process),
		cmocka_unit_test(test_more_processes_than_slots),
		cmocka_unit_test(test_slot_taken_from_who_goes_on),
		cmocka_unit_test(test_same_pid_again),
		cmocka_unit_test(test_thread_alone),
		cmocka_unit_test(test_udp_connect_at_once),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_failures_in_plenty),
	};

	if (argc == 2 && streq(argv[1], CLAIM_AND_END))
		return claim_and_end();
	return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
