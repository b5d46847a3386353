/* SPDX-License-Identifier: MIT */
#pragma once

/* Varlink on standard input and output, as $SYSTEMD_VARLINK_LISTEN=- asks for: every byte goes to the daemon's control
 * socket, and back. What is at the far end of ssh when somebody asks about this host. */

#include "client/client.h"

/*
 * Connects, and copies until one side is done. STATUS_FOUND: standard input ended and all was answered, or the reader
 * of standard output went away. STATUS_NO_DAEMON: none answers, or it hung up first; STATUS_DENIED; STATUS_ERROR. Each
 * failure was said on standard error.
 */
enum status bridge(const struct options *o);
