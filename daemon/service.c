/* SPDX-License-Identifier: MIT */

/*
 * The watchdog is fed at a quarter of its time, so that one round which is late costs nothing. A round that did not turn
 * feeds nothing and tells nothing: what it would say of itself is old. Its status rides with the feeding, in one
 * datagram, so that an idle daemon wakes PID 1 no more often than it must.
 */

#include "daemon/service.h"

#include <event2/event.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "common/escape.h"
#include "common/log.h"

#define STATUS_BYTES   512u
#define STATUS_USEC    (15 * USEC_PER_SEC) /* how often the status is told without a watchdog */
#define FEEDS_PER_TERM 4u
#define LATE_PER_TERM  2u /* what is due may be late by one of so many parts of WatchdogSec= */

struct service {
	struct service_options options;
	struct event *timer; /* NULL: nobody wants to hear anything */
	usec_t watchdog;     /* WatchdogSec=; 0: none */
};

static void tell(const struct service *s, const char *state)
{
	char status[STATUS_BYTES] = "";
	_cleanup_(free_p) char *safe = NULL; /* a line end would begin another assignment */
	int r;

	s->options.describe(s->options.context, status, sizeof(status));
	safe = escape_terminal(status);
	r = sd_notifyf(0, "%s\nSTATUS=%s", state, safe ? safe : "");
	if (r < 0)
		log_debug("cannot notify systemd: %s", strerror(-r));
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct service *s = context;
	usec_t term = s->watchdog > 0 ? s->watchdog : STATUS_USEC;

	(void)fd;
	(void)what;
	if (s->options.turns(s->options.context, term / LATE_PER_TERM))
		tell(s, "WATCHDOG=1");
}

static int start_timer(struct service *s)
{
	usec_t wait = s->watchdog > 0 ? s->watchdog / FEEDS_PER_TERM : STATUS_USEC;
	const struct timeval interval = {
		.tv_sec = (time_t)(wait / USEC_PER_SEC),
		.tv_usec = (suseconds_t)(wait % USEC_PER_SEC),
	};

	s->timer = event_new(s->options.base, -1, EV_PERSIST, on_timer, s);
	return s->timer && event_add(s->timer, &interval) == 0 ? 0 : -ENOMEM;
}

int service_new(const struct service_options *options, struct service **ret)
{
	struct service *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->options = *options;
	r = sd_watchdog_enabled(0, &s->watchdog);
	if (r == 0)
		s->watchdog = 0;
	if (r >= 0)
		r = getenv("NOTIFY_SOCKET") ? start_timer(s) : 0;
	if (r < 0) {
		service_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct service *service_free(struct service *s)
{
	if (!s)
		return NULL;
	if (s->timer)
		event_free(s->timer);
	free(s);
	return NULL;
}

void service_ready(const struct service *s)
{
	tell(s, "READY=1");
}

void service_extend(const struct service *s _unused_, usec_t usec, const char *why)
{
	int r = sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu\nSTATUS=%s", (unsigned long long)usec, why);

	if (r < 0)
		log_debug("cannot notify systemd: %s", strerror(-r));
}

void service_reloading(const struct service *s)
{
	char state[64];

	/* which reload it is that READY=1 will end: systemd.service(5), Type=notify-reload */
	(void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)clock_monotonic_usec());
	tell(s, state);
}

void service_stopping(const struct service *s)
{
	tell(s, "STOPPING=1");
}

int service_keep(const struct service *s _unused_, int fd, const char *name)
{
	char state[320];
	int r;

	(void)snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	r = sd_pid_notify_with_fds(0, 0, state, &fd, 1);
	if (r == 0)
		return -EAGAIN;
	return r < 0 ? r : 0;
}

bool service_is_restarted(void)
{
	const char *pid = getenv("SYSTEMD_EXEC_PID");

	/* both are inherited: by a container's engine they are handed on to who is started by it */
	return getenv("NOTIFY_SOCKET") && pid && strtol(pid, NULL, 10) == getpid();
}

void service_forget(const struct service *s _unused_, const char *name)
{
	int r = sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);

	if (r < 0)
		log_debug("cannot have systemd forget %s: %s", name, strerror(-r));
}
