/* SPDX-License-Identifier: MIT */
#pragma once

/* The client of another host: ssh, and on its far end a portledger that serves Varlink on its standard input and output
 * (client/bridge.h). */

#include <sys/types.h>

#include "common/base.h"

/* The program that is run: $PORTLEDGER_SSH, $SYSTEMD_SSH, or ssh. One word: a name for $PATH, or a path. */
const char *remote_program(void);

/*
 * Starts ssh to `host`, which must not begin with a dash. 0: *ret_fd is a stream socket to the far end, *ret_pid the
 * child, both the caller's. Else what socketpair(2), fork(2) or execvp(3) say. The child ends with us.
 */
int remote_start(const char *host, int *ret_fd, pid_t *ret_pid) _must_check_;

/* After our end of its socket was closed: waits for ssh, for a few seconds in good faith, then with a signal. Its exit
 * status, or 128 and the signal that ended it. */
int remote_end(pid_t pid);
