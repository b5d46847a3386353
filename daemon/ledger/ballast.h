/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * DIR/ballast: room on the disk that is kept for the day on which there is none. With a full disk SQLite can neither
 * commit nor delete nor move its WAL, so nothing that the database itself could do makes room. Giving this back does:
 * what waits is written, and retention goes on.
 */

#include "common/base.h"

/* As much as the WAL may be before it is moved into the database (maintain.c). */
#define BALLAST_BYTES (UINT64_C(8) << 20)

/* Makes it, if it is not there whole. It is not made of a disk's last bytes: as much again stays free. 0: it is there; -ENOSPC:
 * not that much is free; -EOPNOTSUPP: this file system cannot keep room; else a negative errno. */
int ballast_hold(int dir_fd) _must_check_;

/* Gives it back. True: there was some. */
bool ballast_release(int dir_fd);
