/* SPDX-License-Identifier: MIT */

/* The other end of NOTIFY_SOCKET, and of what systemd passes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "daemon/listen.h"
#include "daemon/service.h"

#define PASSED 3 /* SD_LISTEN_FDS_START */

struct fixture {
	struct event_base *base;
	struct service *service;
	int notified; /* bound where NOTIFY_SOCKET says */
	bool turns;
	unsigned looks, enough; /* the loop ends at so many */
	usec_t grace;
	const char *status;
	char told[1024];
};

static bool on_look(void *context, usec_t grace)
{
	struct fixture *f = context;

	f->grace = grace;
	if (++f->looks == f->enough)
		event_base_loopbreak(f->base);
	return f->turns;
}

static void describe(void *context, char *text, size_t size)
{
	const struct fixture *f = context;

	(void)snprintf(text, size, "%s", f->status);
}

/* The next datagram, "" if there is none. */
static const char *told(struct fixture *f)
{
	ssize_t n = recv(f->notified, f->told, sizeof(f->told) - 1, MSG_DONTWAIT);

	f->told[n > 0 ? n : 0] = '\0';
	return f->told;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int n;

	assert_non_null(f);
	n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "portledger-test-%d",
		(int)getpid());
	f->notified = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		bind(f->notified, (const struct sockaddr *)&address,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
		0);
	address.sun_path[0] = '@';
	assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
	f->base = event_base_new();
	f->turns = true;
	f->status = "well";
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	service_free(f->service);
	event_base_free(f->base);
	close_p(&f->notified);
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	free(f);
	return 0;
}

static void start(struct fixture *f, const char *watchdog_usec)
{
	const struct service_options options = {
		.base = f->base, .context = f, .turns = on_look, .describe = describe};

	if (watchdog_usec)
		assert_int_equal(setenv("WATCHDOG_USEC", watchdog_usec, 1), 0);
	assert_int_equal(service_new(&options, &f->service), 0);
}

static void look(struct fixture *f, unsigned times)
{
	f->enough = f->looks + times;
	assert_int_equal(event_base_dispatch(f->base), 0);
}

static void test_words(void **state)
{
	struct fixture *f = *state;
	usec_t before = clock_monotonic_usec();
	unsigned long long at;

	start(f, NULL);
	service_ready(f->service);
	assert_string_equal(told(f), "READY=1\nSTATUS=well");
	service_reloading(f->service);
	assert_int_equal(sscanf(told(f), "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=well", &at), 1);
	assert_in_range(at, before, clock_monotonic_usec());
	service_stopping(f->service);
	assert_string_equal(told(f), "STOPPING=1\nSTATUS=well");
	assert_string_equal(told(f), "");
}

/* What a configuration file says must not become an assignment. */
static void test_status_is_one_line(void **state)
{
	struct fixture *f = *state;

	start(f, NULL);
	f->status = "line\nMAINPID=1";
	service_ready(f->service);
	assert_string_equal(told(f), "READY=1\nSTATUS=line\\x0aMAINPID=1");
}

/* A round that did not turn feeds nothing; the next one that did does. */
static void test_watchdog(void **state)
{
	struct fixture *f = *state;
	usec_t begun = clock_now().boot;

	start(f, "200000");
	look(f, 3);
	assert_true(clock_now().boot - begun >=
		    120000); /* a quarter each, but for what the timer is coarse */
	assert_int_equal(f->grace, 100000);
	for (unsigned i = 0; i < 3; i++)
		assert_string_equal(told(f), "WATCHDOG=1\nSTATUS=well");
	f->turns = false;
	look(f, 3);
	assert_string_equal(told(f), "");
	f->turns = true;
	look(f, 1);
	assert_string_equal(told(f), "WATCHDOG=1\nSTATUS=well");
	assert_string_equal(told(f), "");
}

/* WATCHDOG_PID names another process: not ours to feed. */
static void test_watchdog_of_another(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(setenv("WATCHDOG_PID", "1", 1), 0);
	start(f, "1000");
	assert_int_equal(
		event_base_loopexit(f->base, &(const struct timeval){.tv_usec = 20000}), 0);
	assert_int_equal(event_base_dispatch(f->base), 0);
	assert_int_equal(f->looks, 0); /* the status alone is told every 15 s */
}

static void test_outside_of_systemd(void **state)
{
	struct fixture *f = *state;

	(void)unsetenv("NOTIFY_SOCKET");
	start(f, "1000");
	service_ready(f->service);
	assert_string_equal(told(f), "");
	assert_int_equal(event_base_dispatch(f->base), 1); /* no event: it would not even wake */
}

static int make_socket(int type, bool listening)
{
	const struct sockaddr_un any = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type, 0);

	if (listening && (bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) < 0 ||
				 listen(fd, 1) < 0))
		_exit(10);
	return fd;
}

/* In a child, with `count` sockets of these names passed: what listen_passed() returns plus 100. The first is of `type`. */
static int hand_over(const char *names, unsigned count, int type, bool listening)
{
	pid_t pid = fork();
	char number[16];
	struct passed handed = {0};
	int status, fd = -1, r;

	if (pid == 0) {
		for (unsigned i = 0; i < count; i++) {
			int made = make_socket(i == 0 ? type : SOCK_STREAM, i > 0 || listening);

			if (dup2(made, PASSED + (int)i) < 0)
				_exit(11);
		}
		(void)snprintf(number, sizeof(number), "%d", count > 0 ? (int)getpid() : 1);
		(void)setenv("LISTEN_PID", number, 1);
		(void)snprintf(number, sizeof(number), "%u", count);
		(void)setenv("LISTEN_FDS", number, 1);
		(void)setenv("LISTEN_FDNAMES", names, 1);
		if (passed_take(&handed) < 0)
			_exit(16);
		r = listen_passed(&handed, &fd);
		passed_done(&handed);
		if (r == 1 &&
			(!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || !(fcntl(fd, F_GETFL) & O_NONBLOCK)))
			_exit(12);
		if (r == 1 && count > 1 && fcntl(fd == PASSED ? PASSED + 1 : PASSED, F_GETFD) != -1)
			_exit(13); /* what is not known is closed */
		if (r != 1 && fd != -1)
			_exit(14);
		if (getenv("LISTEN_FDS"))
			_exit(15); /* no child of ours may take them for its own */
		_exit(100 + r);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_passed(void **state)
{
	(void)state;
	assert_int_equal(hand_over("varlink", 1, SOCK_STREAM, true), 101);
	assert_int_equal(hand_over("other:varlink", 2, SOCK_STREAM, true), 101);
	assert_int_equal(hand_over("varlink:varlink", 2, SOCK_STREAM, true), 101);
	assert_int_equal(hand_over("other", 1, SOCK_STREAM, true), 100);
	assert_int_equal(hand_over("", 0, SOCK_STREAM, true), 100); /* meant for another process */
	assert_int_equal(hand_over("varlink", 1, SOCK_STREAM, false), 100 - EINVAL);
	assert_int_equal(hand_over("varlink", 1, SOCK_DGRAM, false), 100 - EINVAL);
}

static void test_restarted(void **state _unused_)
{
	char pid[32];

	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_int_equal(setenv("SYSTEMD_EXEC_PID", pid, 1), 0);
	assert_true(service_is_restarted());
	/* of whoever started us */
	(void)snprintf(pid, sizeof(pid), "%d", (int)getppid());
	assert_int_equal(setenv("SYSTEMD_EXEC_PID", pid, 1), 0);
	assert_false(service_is_restarted());
	assert_int_equal(unsetenv("SYSTEMD_EXEC_PID"), 0);
	assert_false(service_is_restarted());
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_int_equal(setenv("SYSTEMD_EXEC_PID", pid, 1), 0);
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	assert_false(service_is_restarted());
	assert_int_equal(unsetenv("SYSTEMD_EXEC_PID"), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_words),
		CASE(test_status_is_one_line),
		CASE(test_watchdog),
		CASE(test_watchdog_of_another),
		CASE(test_outside_of_systemd),
		cmocka_unit_test(test_passed),
		CASE(test_restarted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
