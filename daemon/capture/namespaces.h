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

/*
 * An event has named one. `unit`: of a process in it, as a stored form;
 * NULL where not known. `now`: boottime. True: tell the stream of *ret (its
 * name stays n's until the next call), since it is new, or has a name or a better one by now.
 */
bool namespaces_see(struct namespaces *n, uint64_t cookie, uint64_t inode, const char *unit,
	usec_t now, struct netns *ret);
/* All that are remembered, the oldest first. */
void namespaces_each(const struct namespaces *n,
	void (*visit)(void *context, const struct netns *netns), void *context);
