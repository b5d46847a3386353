/* SPDX-License-Identifier: MIT */

#include "daemon/capture/holders.h"

void holders_forget(struct procfs_wanted *w)
{
	for (uint32_t i = 0; i < w->holder_count; i++)
		w->holders[i] = process_unref(w->holders[i]);
	w->holder_count = w->holders_dropped = 0;
	w->settled = false;
}

/* Start times are ticks of 10 ms; where they are equal, the inode of a pidfd counts up, and a pid usually. */
static bool started_before(const struct process *a, const struct process *b)
{
	if (a->start_boot != b->start_boot)
		return a->start_boot < b->start_boot;
	if (a->pidfd_inode != b->pidfd_inode)
		return a->pidfd_inode < b->pidfd_inode;
	return a->pid < b->pid;
}

static bool is_same(const struct process *a, const struct process *b)
{
	return a->pid == b->pid && a->start_boot == b->start_boot &&
	       a->pidfd_inode == b->pidfd_inode;
}

void holders_add(struct procfs_wanted *w, struct process *p)
{
	uint32_t at = w->holder_count;

	for (uint32_t i = 0; i < w->holder_count; i++)
		if (is_same(w->holders[i], p))
			return;
	if (at == ELEMENTSOF(w->holders)) {
		w->holders_dropped++;
		at--;
		if (!started_before(p, w->holders[at]))
			return;
		process_unref(w->holders[at]);
	} else {
		w->holder_count++;
	}
	for (; at > 0 && started_before(p, w->holders[at - 1]); at--)
		w->holders[at] = w->holders[at - 1];
	w->holders[at] = process_ref(p);
}

void holders_put_parent_first(struct procfs_wanted *w)
{
	for (uint32_t i = 1; i < w->holder_count; i++) {
		struct process *first = w->holders[0], *p = w->holders[i];

		if (p->start_boot != first->start_boot)
			return;
		if (first->parent_pid == p->pid) {
			memmove(w->holders + 1, w->holders, i * sizeof(struct process *));
			w->holders[0] = p;
			i = 0; /* its own parent may be among them: a line of ancestors has no circle */
		}
	}
}
