/* SPDX-License-Identifier: MIT */
#pragma once

/* The ledger process: reads the sighting stream, keeps the ledger, writes the store, answers sync. */

#include "common/base.h"

/* Exit statuses of the ledger process that mean something to the supervisor (sysexits.h). */
#define KEEPER_EXIT_DAMAGED                                                                        \
	65 /* EX_DATAERR: the database is damaged, or none, and cannot be set aside */
#define KEEPER_EXIT_GONE   72 /* EX_OSFILE: the database is not where it was */
#define KEEPER_EXIT_LOCKED 75 /* EX_TEMPFAIL: another daemon has this state directory */
#define KEEPER_EXIT_SCHEMA 78 /* EX_CONFIG: the database is newer, or not ours: untouched */
#define KEEPER_EXIT_STREAM 76 /* EX_PROTOCOL: the stream contradicted itself */

struct keeper_options {
	int capture_fd; /* the sighting stream, a connected AF_UNIX stream socket */
	int supervisor_fd; /* SOCK_SEQPACKET: brings a link to control ('C' with a descriptor); EOF: stop */
	int state_fd;           /* directory of the database */
	const char *state_path; /* the same */
	int record_fd;          /* where --record writes; -1: nowhere */
	bool replaying;         /* nothing of the stream is news */
};

/* Runs until the stream ends. Takes all descriptors. Returns the exit status. */
int keeper_run(const struct keeper_options *options);
