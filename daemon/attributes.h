/* SPDX-License-Identifier: MIT */
#pragma once

/* What Landlock does not know of: the mode, the owner, the times and the extended attributes of a file. */

#include "common/base.h"

/*
 * From here on, for good, this process changes none of them, not even of its own files: such system calls fail with
 * EPERM, all calls of another ABI too. Wants no_new_privs. 1: done; 0: this kernel or this architecture has
 * no such filter; negative errno.
 */
int attributes_freeze(void) _must_check_;
