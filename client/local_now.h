/* SPDX-License-Identifier: MIT */
#pragma once

/* A look of our own at one port, for when no daemon answers: this moment, this network namespace, and of the processes
 * those that we may see. */

#include <jansson.h>

#include "common/base.h"

/*
 * Makes what Explain would reply, as far as one look can tell: `last` empty, `opened_usec` null, the counts and the
 * `coverage` null. `protocol` NULL: any. 0, -ENOMEM, or what the kernel says when its sockets cannot be read.
 */
int local_now(uint16_t port, const char *protocol, json_t **ret) _must_check_;
