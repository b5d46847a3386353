/* SPDX-License-Identifier: MIT */
#pragma once

/* The control socket: the one that systemd passes, or our own in the file system. */

#include "daemon/passed.h"

/*
 * The listening socket that systemd passed (FileDescriptorName=varlink).
 * 1: in *ret_fd (the caller's); 0: none was passed; -EINVAL: it is no listening stream socket; or another negative errno.
 */
int listen_passed(struct passed *passed, int *ret_fd) _must_check_;

#define LISTEN_NO_GROUP ((gid_t)-1)

/*
 * Looks up group portledger and makes it the supplementary group of this process where that is allowed: so that the socket can be
 * given to it later, when no capability is left and no library is loaded any more. LISTEN_NO_GROUP: there is no such group.
 */
gid_t listen_group(void);

/*
 * Binds and listens on an AF_UNIX stream socket at `path`, mode 0660 with `group` where there is one and we may give it,
 * else 0600. Makes the last directory of the path (0755) if it is missing. A socket that nobody
 * serves any more is replaced; anything else in its place is left alone.
 * -EADDRINUSE: somebody answers there; -EEXIST: what is there is no socket; -ENAMETOOLONG; or another negative errno.
 */
int listen_at(const char *path, gid_t group, int *ret_fd) _must_check_;

/* What an error of these means, for people. */
const char *listen_trouble(int error);
