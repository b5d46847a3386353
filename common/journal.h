/* SPDX-License-Identifier: MIT */
#pragma once

/* journald's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram of fields. */

#include "common/base.h"

struct buf;

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* Is `fd` the stream to the journal that `stream` names: "device:inode" in decimal, as systemd.exec(5) puts it into
 * $JOURNAL_STREAM? `stream` NULL: no. */
bool journal_is_stream(int fd, const char *stream);

/* Appends a field. `name` is of A-Z, 0-9 and _; the value is any bytes, its length goes before it. 0 or -ENOMEM. */
int journal_put(struct buf *b, const char *name, const void *value, size_t size) _must_check_;

/* A socket for journal_send(): non-blocking, CLOEXEC. The descriptor or a negative errno. */
int journal_open(void) _must_check_;

/* Sends an entry to the journal that listens at `path`. Never waits and raises no signal. 0, or a negative errno:
 * -EAGAIN it does not read; -ENOENT, -ECONNREFUSED there is none; -EMSGSIZE. */
int journal_send(int fd, const char *path, const struct buf *entry) _must_check_;
