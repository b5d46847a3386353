/* SPDX-License-Identifier: MIT */
#pragma once

/* What systemd hands over at the start, by name: the sockets of a socket unit, and what an earlier process of the service left in
 * its descriptor store (sd_listen_fds_with_names(3), FileDescriptorStoreMax= in systemd.service(5)). */

#include "common/base.h"

struct passed_fd {
	int fd;     /* -1: somebody has taken it */
	char *name; /* owned */
};

struct passed {
	struct passed_fd *fds; /* owned; in the order in which they came */
	size_t count;
};

/* To be called once: the environment that tells of them is forgotten. 0 or negative errno; none passed is 0 with none. */
int passed_take(struct passed *ret) _must_check_;

/* The first of this name, which is the caller's from then on. -1: there is none. */
int passed_find(struct passed *p, const char *name);

/* Is it one of these? Then it is the caller's from then on. */
bool passed_let_go(struct passed *p, int fd);

/* Closes what nobody has taken. */
void passed_done(struct passed *p);
