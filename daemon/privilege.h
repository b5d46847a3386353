/* SPDX-License-Identifier: MIT */
#pragma once

/* Each process keeps no right that it does not use. */

#include "common/base.h"

enum privilege {
	/* CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, as far as they are there: to read /proc/PID/fd */
	PRIVILEGE_CAPTURE,
	/* ledger and control */
	PRIVILEGE_NONE,
};

/* Drops all other capabilities, from the bounding set too where that is allowed, and any way to get new ones
 * (no_new_privs). Fails if more than `p` allows is left: 0 or negative errno. */
int privilege_drop(enum privilege p) _must_check_;
