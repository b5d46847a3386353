/* SPDX-License-Identifier: MIT */
#pragma once

/* What the supervisor and a child say to each other: messages of one byte on a SOCK_SEQPACKET socket. With a descriptor
 * (SCM_RIGHTS, unix(7)) it is the link to a sibling that was (re)started; without, whether the child's loop turns. */

#include "common/base.h"

enum handover {
	HANDOVER_LEDGER = 'L',  /* for control: the other end is the ledger */
	HANDOVER_CONTROL = 'C', /* for the ledger: the other end is control */
	HANDOVER_TURN = 'T',    /* no descriptor; the child sends it back from its loop */
};

/* 0 or negative errno. Does not take `fd`; -1: none. Never blocks. */
int handover_send(int socket, enum handover what, int fd) _must_check_;

/* What came, with its descriptor, if it has one, in *ret_fd (the caller's; CLOEXEC); 0: the supervisor is gone; negative errno. */
int handover_receive(int socket, int *ret_fd) _must_check_;
