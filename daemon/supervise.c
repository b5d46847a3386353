/* SPDX-License-Identifier: MIT */

/*
 * Children are forked, not executed: they share the program's pages, and there is no path to find. Each gets its
 * descriptors and nothing else: all others are closed, the signal mask is reset, the rights are dropped before the
 * first byte is read. A child knows that its supervisor is gone by the end of its socketpair.
 *
 * capture (the main process) -- sighting stream --> ledger <-- sync --> control. When ledger or control is
 * restarted, a fresh socketpair joins them: one end is inherited, the other is handed to the living sibling.
 *
 * A child that hangs is not for this process to kill: it may hang at the disk, and a process that hangs itself would
 * find nothing. It only asks, and whoever feeds the watchdog looks at who answered.
 */

#include "daemon/supervise.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "common/limits.h"
#include "common/log.h"
#include "daemon/control/control.h"
#include "daemon/handover.h"
#include "daemon/ledger/keeper.h"
#include "daemon/privilege.h"
#include "daemon/state.h"

struct child {
	const char *name;
	pid_t pid; /* 0: not running */
	struct supervisor *owner;
	int supervisor;                  /* our end of its SOCK_SEQPACKET; -1 */
	struct event *answer;            /* something came on it; NULL: not running */
	bool answered;                   /* since it was last asked */
	bool heard;                      /* it has answered at all */
	usec_t restarts[LIMIT_RESTARTS]; /* boottimes, a ring */
	unsigned next_restart;
};

struct supervisor {
	struct supervisor_options options;
	struct child ledger, control;
	int listen_fd; /* of control; -1: control is not wanted yet */
	bool stopping;
};

/* In the child: nothing of the parent but what is in `keep` (and what the log writes to) stays open. */
static void close_others(const int *keep, size_t count)
{
	unsigned from = STDERR_FILENO + 1;

	/* `keep` is small: close the stretches between its members, lowest first. */
	for (;;) {
		unsigned next = UINT32_MAX;

		for (size_t i = 0; i < count; i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		if (next > from)
			(void)close_range(from, next - 1, 0);
		if (next == UINT32_MAX)
			return;
		from = next + 1;
	}
}

static void restrict_self(enum privilege p, int state_fd)
{
	int r = privilege_drop(p, state_fd);

	if (r < 0) {
		log_error("cannot drop the rights that it does not need: %s", strerror(-r));
		_exit(EXIT_FAILURE);
	}
	if (r > 0)
		log_notice("there is no Landlock or no seccomp here: goes on without");
}

static void become_child(const char *name, const int *keep, size_t count)
{
	sigset_t none;

	sigemptyset(&none);
	close_others(keep, count);
	/* Ctrl-C goes to the group; the main process ends us in order */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	/* ... as it does when a service manager sends SIGTERM to all of us */
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a disk that is full */
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_NAME, name, 0, 0, 0);
	log_name(name);
}

/* Only in a build that measures what its tests cover (check --coverage): the counters are written when a process ends in order. */
void __gcov_dump(void) __attribute__((weak));

static _noreturn_ void end_child(int status)
{
	if (__gcov_dump)
		__gcov_dump();
	_exit(status);
}

static _noreturn_ void run_ledger(const struct supervisor *s, int stream, int supervisor)
{
	const struct keeper_options options = {
		.capture_fd = stream,
		.supervisor_fd = supervisor,
		.state_fd = s->options.state_fd,
		.state_path = s->options.state_path,
		.record_fd = s->options.record_fd,
		.replaying = s->options.replaying,
	};
	const int keep[] = {
		stream, supervisor, s->options.state_fd, s->options.record_fd, log_descriptor()};

	become_child("pl-ledger", keep, ELEMENTSOF(keep));
	restrict_self(PRIVILEGE_LEDGER, -1);
	end_child(keeper_run(&options));
}

static _noreturn_ void run_control(const struct supervisor *s, int link, int supervisor)
{
	const struct control_options options = {
		.listen_fd = s->listen_fd,
		.ledger_fd = link,
		.supervisor_fd = supervisor,
		.state_path = s->options.state_path,
	};
	const int keep[] = {s->listen_fd, link, supervisor, s->options.state_fd, log_descriptor()};

	become_child("pl-control", keep, ELEMENTSOF(keep));
	restrict_self(PRIVILEGE_CONTROL, s->options.state_fd);
	(void)close(s->options.state_fd);
	end_child(control_run(&options));
}

/* One that is gone does not answer; its end comes as SIGCHLD. One answer is heard for each time: a child that says more
 * than that, whatever has become of it, does not keep us busy. */
static void ask(struct child *c)
{
	c->answered = false;
	if (c->supervisor < 0)
		return;
	(void)!handover_send(c->supervisor, HANDOVER_TURN, -1);
	(void)event_add(c->answer, NULL);
}

static void on_answer(evutil_socket_t fd, short what, void *context)
{
	struct child *c = context;
	struct supervisor *s = c->owner;

	(void)what;
	if (handover_hear(fd) != HANDOVER_TURN)
		return;
	c->answered = true;
	if (!c->heard && c == &s->control)
		s->options.handler.serving(s->options.handler.context);
	c->heard = true;
}

/* The child runs: takes our end of its socket. */
static int attend(struct supervisor *s, struct child *c, int fd)
{
	c->owner = s;
	c->supervisor = fd;
	c->heard = false;
	c->answer = event_new(s->options.base, fd, EV_READ, on_answer, c);
	if (!c->answer)
		return -ENOMEM;
	ask(c);
	return 0;
}

/* Its end of the socket sees ours close: a child that lives ends in order. */
static void leave(struct child *c)
{
	if (c->answer)
		event_free(c->answer);
	c->answer = NULL;
	close_p(&c->supervisor);
	c->supervisor = -1;
}

static int make_pair(int type, int ret[static 2])
{
	return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

/* The other end of control's link goes to the ledger that runs. */
static int start_control(struct supervisor *s)
{
	int link[2] = {-1, -1}, supervisor[2] = {-1, -1};
	int r = make_pair(SOCK_STREAM, link);

	if (r == 0)
		r = make_pair(SOCK_SEQPACKET, supervisor);
	if (r == 0) {
		s->control.pid = fork();
		if (s->control.pid == 0)
			run_control(s, link[1], supervisor[1]);
		if (s->control.pid < 0) {
			r = -errno;
			s->control.pid = 0;
		}
	}
	if (r == 0)
		r = attend(s, &s->control, TAKE_FD(supervisor[0]));
	/* A ledger that is just dying gets none; its successor will. */
	if (r == 0 && s->ledger.supervisor >= 0)
		(void)!handover_send(s->ledger.supervisor, HANDOVER_CONTROL, link[0]);
	close_p(&link[0]);
	close_p(&link[1]);
	close_p(&supervisor[0]);
	close_p(&supervisor[1]);
	return r;
}

/* A control that runs gets a link to the new ledger. */
static int link_control(struct supervisor *s)
{
	int link[2];
	int r;

	if (s->control.pid == 0)
		return 0;
	r = make_pair(SOCK_STREAM, link);
	if (r < 0)
		return r;
	r = handover_send(s->control.supervisor, HANDOVER_LEDGER, link[1]);
	if (r == 0)
		r = handover_send(s->ledger.supervisor, HANDOVER_CONTROL, link[0]);
	close_p(&link[0]);
	close_p(&link[1]);
	/* one that is just dying gets none; its successor will */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

static int start_ledger(struct supervisor *s)
{
	int stream[2] = {-1, -1}, supervisor[2] = {-1, -1};
	int r = make_pair(SOCK_STREAM, stream);

	if (r == 0)
		r = make_pair(SOCK_SEQPACKET, supervisor);
	if (r == 0) {
		s->ledger.pid = fork();
		if (s->ledger.pid == 0)
			run_ledger(s, stream[1], supervisor[1]);
		if (s->ledger.pid < 0) {
			r = -errno;
			s->ledger.pid = 0;
		}
	}
	if (r == 0)
		r = attend(s, &s->ledger, TAKE_FD(supervisor[0]));
	if (r == 0)
		r = link_control(s);
	if (r == 0)
		r = s->options.handler.ledger_started(
			s->options.handler.context, TAKE_FD(stream[0]));
	close_p(&stream[0]);
	close_p(&stream[1]);
	close_p(&supervisor[0]);
	close_p(&supervisor[1]);
	return r;
}

/* May it be restarted once more? Counts this restart. */
static bool may_restart(struct child *c, usec_t now)
{
	usec_t oldest = c->restarts[c->next_restart];

	c->restarts[c->next_restart] = now;
	c->next_restart = (c->next_restart + 1) % LIMIT_RESTARTS;
	return oldest == 0 || now - oldest > LIMIT_RESTARTS_USEC;
}

static void log_death(const struct child *c, int status)
{
	bool killed = WIFSIGNALED(status);
	int how = killed ? WTERMSIG(status) : WEXITSTATUS(status);

	log_event(LOG_EVENT_CHILD_DIED,
		LOG_FIELDS(LOG_TEXT("CHILD", c->name), LOG_NUMBER("PID", (uint64_t)c->pid),
			LOG_NUMBER(killed ? "SIGNAL" : "STATUS", (uint64_t)how)),
		killed ? "%s (pid %d) was killed by signal %d" : "%s (pid %d) ended with status %d",
		c->name, (int)c->pid, how);
}

/* An end that a restart would only repeat. */
static bool is_final(int status)
{
	return WIFEXITED(status) && (WEXITSTATUS(status) == KEEPER_EXIT_LOCKED ||
					    WEXITSTATUS(status) == KEEPER_EXIT_DAMAGED ||
					    WEXITSTATUS(status) == KEEPER_EXIT_SCHEMA);
}

/* The state directory is not what it was, or has no database any more. What is at its path now takes its place, under the number
 * that all know it by; control, which may read below the old one only, is replaced as well. */
static int reopen_state(struct supervisor *s)
{
	_cleanup_(close_p) int fd = -1;
	struct stat before, now;
	int r = state_open(s->options.state_path, &fd);

	if (r < 0)
		return r;
	if (fstat(s->options.state_fd, &before) < 0 || fstat(fd, &now) < 0)
		return -errno;
	if (before.st_dev == now.st_dev && before.st_ino == now.st_ino)
		return 0;
	if (dup3(fd, s->options.state_fd, O_CLOEXEC) < 0)
		return -errno;
	if (s->control.pid > 0)
		(void)kill(s->control.pid, SIGKILL); /* it has nothing that could be lost */
	return 0;
}

static void on_death(struct supervisor *s, struct child *c, int status)
{
	int r;

	log_death(c, status);
	if (c == &s->ledger && s->options.record_fd >= 0) {
		log_warning("the recording ends here, with the ledger that wrote it");
		s->options.record_fd = -1; /* a second stream would make it unreadable */
	}
	c->pid = 0;
	leave(c);
	if (WIFEXITED(status) && WEXITSTATUS(status) == KEEPER_EXIT_GONE && reopen_state(s) < 0) {
		s->options.handler.failed(s->options.handler.context, EXIT_FAILURE);
		return;
	}
	if (is_final(status)) {
		s->options.handler.failed(s->options.handler.context, WEXITSTATUS(status));
		return;
	}
	if (!may_restart(c, clock_now().boot)) {
		log_event(LOG_EVENT_CHILD_GIVEN_UP, LOG_FIELDS(LOG_TEXT("CHILD", c->name)),
			"%s died %u times within a minute: giving up", c->name, LIMIT_RESTARTS + 1);
		s->options.handler.failed(s->options.handler.context, EXIT_FAILURE);
		return;
	}
	r = c == &s->ledger ? start_ledger(s) : start_control(s);
	if (r < 0) {
		log_error("cannot restart %s: %s", c->name, strerror(-r));
		s->options.handler.failed(s->options.handler.context, EXIT_FAILURE);
	}
}

void supervisor_reap(struct supervisor *s)
{
	struct child *children[] = {&s->ledger, &s->control};

	for (size_t i = 0; i < ELEMENTSOF(children); i++) {
		int status;

		if (children[i]->pid > 0 && !s->stopping &&
			waitpid(children[i]->pid, &status, WNOHANG) == children[i]->pid)
			on_death(s, children[i], status);
	}
}

void supervisor_ask(struct supervisor *s)
{
	ask(&s->ledger);
	ask(&s->control);
}

bool supervisor_answered(const struct supervisor *s)
{
	return s->ledger.pid > 0 && s->ledger.answered && s->control.pid > 0 && s->control.answered;
}

int supervisor_new(const struct supervisor_options *options, struct supervisor **ret)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->ledger = (struct child){.name = "ledger", .supervisor = -1};
	s->control = (struct child){.name = "control", .supervisor = -1};
	s->listen_fd = -1;
	r = start_ledger(s);
	if (r < 0) {
		supervisor_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int supervisor_start_control(struct supervisor *s, int listen_fd)
{
	if (s->control.pid > 0)
		return 0;
	s->listen_fd = listen_fd;
	return start_control(s);
}

/* Waits for the child until `deadline`, then kills it. */
static int wait_or_kill(struct child *c, usec_t deadline)
{
	const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
	int status;

	if (c->pid <= 0)
		return EXIT_FAILURE;
	while (waitpid(c->pid, &status, WNOHANG) == 0) {
		if (clock_now().boot >= deadline) {
			log_error("%s does not end: killed", c->name);
			(void)kill(c->pid, SIGKILL);
			(void)waitpid(c->pid, &status, 0);
			break;
		}
		(void)nanosleep(&pause, NULL);
	}
	c->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int supervisor_stop(struct supervisor *s, usec_t timeout_usec)
{
	usec_t deadline = clock_now().boot + timeout_usec;

	s->stopping = true;
	leave(&s->control);
	(void)wait_or_kill(&s->control, deadline);
	return wait_or_kill(&s->ledger, deadline);
}

struct supervisor *supervisor_free(struct supervisor *s)
{
	if (!s)
		return NULL;
	leave(&s->ledger);
	leave(&s->control);
	free(s);
	return NULL;
}
