/* SPDX-License-Identifier: MIT */
#pragma once

/* The holders of a wanted inode, in the order of their start: the first is the opener. */

#include "daemon/capture/procfs.h"

/* Adds a reference to `p`, unless that process is there already. Past LIMIT_HOLDERS further holders the one that
 * started last is dropped, and counted. */
void holders_add(struct procfs_wanted *w, struct process *p);

/* Within one tick, and without pidfd inodes, a parent is still older than its child: puts it before. */
void holders_put_parent_first(struct procfs_wanted *w);

/* Makes it one for which nothing was found. */
void holders_forget(struct procfs_wanted *w);
