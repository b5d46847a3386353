/* SPDX-License-Identifier: MIT */
#pragma once

/* The state directory. */

#include "common/base.h"

/*
 * Opens it, and makes it (0750) where it is not there. Refused is one that everybody may write, or that is neither
 * root's nor ours: whoever may put files there says what is in the database. 0; -EPERM: refused; else a negative errno;
 * both were logged.
 */
int state_open(const char *path, int *ret_fd) _must_check_;

/*
 * Is the database in it of an earlier version, so that the ledger rewrites some of it before anything else? What its file has of it: a
 * version that is in the WAL alone is not seen. No: also where there is none, or none of ours.
 */
bool state_is_older(int fd);
