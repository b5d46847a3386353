/* SPDX-License-Identifier: MIT */
#pragma once

/* The control process: meets the clients. It holds no capability, and can write nothing. */

struct control_options {
	int listen_fd; /* listening AF_UNIX stream socket */
	int ledger_fd; /* connected AF_UNIX stream socket that speaks common/stream records with the ledger; -1: none yet */
	int supervisor_fd; /* SOCK_SEQPACKET: brings links to a new ledger (daemon/handover.h); EOF: stop */
	const char *state_path; /* directory of the database; it need not be there yet */
};

/* Runs until the supervisor is gone. Takes all descriptors. Returns the exit status. */
int control_run(const struct control_options *options);
