/* SPDX-License-Identifier: MIT */
#pragma once

/* The network namespaces that events name, and their names: what `ip netns` calls them, else the unit (or the scope of the
 * container) of a process in them. */

#include "common/sighting.h"

struct namespaces;

/* `directory`: where each named namespace has a file of its inode (ip-netns(8)); must outlive the result. NULL: no memory. */
struct namespaces *namespaces_new(const char *directory);
struct namespaces *namespaces_free(struct namespaces *n);
DEFINE_CLEANUP(struct namespaces, namespaces_free)

/* What an event, or a snapshot, shows of one. */
struct namespace_seen {
	uint64_t cookie, inode;
	const char *unit;            /* of a process in it, as a stored form; NULL: not known */
	struct port_range ephemeral; /* that it hands out; high 0: not known */
	uint64_t
		by; /* of the process that it is known by; later ones have greater numbers. 0: it is as of now */
};

/* `now`: boottime. True: tell the stream of *ret (its name stays n's until the next call), since it is new, or has a name, a
 * better one or another range by now. */
bool namespaces_see(
	struct namespaces *n, const struct namespace_seen *seen, usec_t now, struct netns *ret);
/* All that are remembered, the oldest first. */
void namespaces_each(const struct namespaces *n,
	void (*visit)(void *context, const struct netns *netns), void *context);
