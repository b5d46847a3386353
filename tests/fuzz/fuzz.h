/* SPDX-License-Identifier: MIT */
#pragma once

/* What every fuzz target is: a plain function over bytes, called by libFuzzer or by replay.c. */

#include <stddef.h>
#include <stdint.h>

/* Returns 0 and has freed all it allocated; a broken promise ends the process (assert). `data` is
 * not NUL-terminated, and there is nothing to read behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
