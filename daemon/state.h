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
