/* SPDX-License-Identifier: MIT */
#pragma once

/* The control socket: the one that systemd passes, or our own in the file system. */

#include "daemon/passed.h"

/*
 * The listening socket that systemd passed (FileDescriptorName=varlink).
 * 1: in *ret_fd (the caller's); 0: none was passed; -EINVAL: it is no listening stream socket; or another negative errno.
 */
int listen_passed(struct passed *passed, int *ret_fd) _must_check_;

/*
 * Binds and listens on an AF_UNIX stream socket at `path`, mode 0660 with group portledger where there is such a group
 * and we may give it, else 0600. Makes the last directory of the path (0755) if it is missing. A socket that nobody
 * serves any more is replaced; anything else in its place is left alone.
 * -EADDRINUSE: somebody answers there; -EEXIST: what is there is no socket; -ENAMETOOLONG; or another negative errno.
 */
int listen_at(const char *path, int *ret_fd) _must_check_;
