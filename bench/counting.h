/* SPDX-License-Identifier: MIT */
#pragma once

/* A VFS for SQLite that counts the bytes written, by kind of file, and passes everything on. */

#include "common/base.h"

struct counted {
	uint64_t wal, database, other; /* bytes given to xWrite */
	uint64_t syncs;
};

/* Becomes the default VFS of this process. False: SQLite refuses. */
bool counting_start(void);
struct counted counting_now(void);
