/* SPDX-License-Identifier: MIT */
#pragma once

/* A blocking Varlink client over a Unix-domain socket: a call out, replies in, one at a time. */

#include <sys/types.h>

#include "common/varlink.h"

struct connection {
	int fd;        /* owned; -1: none */
	struct buf in; /* bytes of replies not yet read */
	uid_t peer;    /* who listens there (SO_PEERCRED) */
};
#define CONNECTION_NONE                                                                            \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* 0, or what socket(2) and connect(2) say; -ENAMETOOLONG. *ret is CONNECTION_NONE on failure. */
int connection_open(const char *path, struct connection *ret) _must_check_;
void connection_done(struct connection *c);

/* Replies may come as late as they like from here on: for Follow. */
int connection_wait_forever(struct connection *c) _must_check_;

/* Sends a call; `flag` is NULL or "more". 0, -ENOMEM, or what send(2) says. */
int connection_call(struct connection *c, const char *method, const json_t *parameters,
	const char *flag) _must_check_;

/* The next reply. 0; -ECONNRESET: the daemon closed; -ETIMEDOUT: nothing for LIMIT_ANSWER_USEC; -EMSGSIZE: above
 * LIMIT_REPLY_BYTES; -EBADMSG: no reply; -ENOMEM. The caller releases with varlink_reply_done(). */
int connection_reply(struct connection *c, struct varlink_reply *ret) _must_check_;
