/* SPDX-License-Identifier: MIT */
#pragma once

/* A VFS for SQLite that counts what is read of the database and the bytes written, by kind of file, and passes everything on. */

#include "common/base.h"

struct counted {
	uint64_t wal, database, other; /* bytes given to xWrite */
	uint64_t syncs;
	uint64_t reads; /* of the database */
	uint64_t
		jumps; /* of these, such as do not begin in the 4 KiB that the one before ended in, or the next: seeks of a disk */
};

/* Becomes the default VFS of this process. False: SQLite refuses. */
bool counting_start(void);
struct counted counting_now(void);
