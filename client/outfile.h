/* SPDX-License-Identifier: MIT */
#pragma once

/* A file that is there whole or not at all: written beside its name, and renamed when it is done. */

#include <stdio.h>

#include "common/base.h"

struct outfile {
	FILE *file;             /* what to write to */
	char *path, *temporary; /* owned */
};
#define OUTFILE_NONE                                                                               \
	{                                                                                          \
		NULL, NULL, NULL                                                                   \
	}

/* Begins a file that will be at `path`. 0; -EEXIST: there is something that is no regular file (a link is none); or what open(2)
 * says. */
int outfile_open(const char *path, struct outfile *ret) _must_check_;

/* Puts it in place: after a power cut it is the old one or the new one. 0 or negative errno, and then nothing has changed. */
int outfile_commit(struct outfile *f) _must_check_;

/* Drops what was not committed. */
void outfile_done(struct outfile *f);
