/* SPDX-License-Identifier: MIT */
#pragma once

/* How the supervisor hands a child the link to a sibling that it (re)started: one message of one byte with a
 * descriptor (SCM_RIGHTS, unix(7)) on a SOCK_SEQPACKET socket. */

#include "common/base.h"

enum handover {
	HANDOVER_LEDGER = 'L',  /* for control: the other end is the ledger */
	HANDOVER_CONTROL = 'C', /* for the ledger: the other end is control */
};

/* 0 or negative errno. Does not take `fd`. Never blocks. */
int handover_send(int socket, enum handover what, int fd) _must_check_;

/* What came, with its descriptor in *ret_fd (the caller's; CLOEXEC); 0: the supervisor is gone; negative errno. */
int handover_receive(int socket, int *ret_fd) _must_check_;
