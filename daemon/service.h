/* SPDX-License-Identifier: MIT */
#pragma once

/* What systemd wants to hear of a service of Type=notify (sd_notify(3)), and its watchdog. Outside of systemd all of it
 * does nothing. */

#include "common/clock.h"

struct event_base;
struct service;

struct service_options {
	struct event_base *base;
	void *context;
	/* Everything turned since the last call: only then the watchdog is fed. What should have happened may be `grace`
	 * late. */
	bool (*turns)(void *context, usec_t grace);
	/* Writes the line that `systemctl status` shows; at most `size` bytes with its NUL. */
	void (*describe)(void *context, char *text, size_t size);
};

/* Looks every quarter of WatchdogSec=, or now and then where only the status is wanted; not at all outside of systemd.
 * 0, -ENOMEM or what sd_watchdog_enabled(3) says. */
int service_new(const struct service_options *options, struct service **ret) _must_check_;
struct service *service_free(struct service *s);

/* Started, or reloaded. Tells the status too. */
void service_ready(const struct service *s);

/* The start takes longer than one does, and up to so long: systemd is not to end it after TimeoutStartSec=. `why` is its status. */
void service_extend(const struct service *s, usec_t usec, const char *why);

/* A reload begins; service_ready() ends it. */
void service_reloading(const struct service *s);

/* The end begins. */
void service_stopping(const struct service *s);

/*
 * Has systemd keep a copy of a descriptor for the next process of this service (FileDescriptorStoreMax=), which gets it by this
 * name: at most 255 printable ASCII characters without a colon. It is not polled: a ring that fills would wake PID 1 with every record.
 * 0, -EAGAIN outside of systemd, or what sd_pid_notify_with_fds(3) says.
 */
int service_keep(const struct service *s, int fd, const char *name) _must_check_;

/* Is this the main process of a service, which systemd started itself, and starts again if it ends with a failure (Restart=)? */
bool service_is_restarted(void);

/* Has it forget what it keeps by this name. */
void service_forget(const struct service *s, const char *name);
