/* SPDX-License-Identifier: MIT */
#pragma once

/* The values of options of the command line, from their texts. False: it is none, and what it should be is logged. */

#include "daemon/capture/capture.h"

/* One that cannot be attached fails the start, it never falls back. */
bool option_rung(const char *rung, enum capture_rung *ret) _must_check_;
/* "self" or "all". */
bool option_netns(const char *netns, bool *ret_self) _must_check_;
/* As the kernel wants a ring: a power of two, and whole pages. */
bool option_ring_bytes(const char *text, uint32_t *ret) _must_check_;
