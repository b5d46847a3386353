/* SPDX-License-Identifier: MIT */
#pragma once

/* A blocking Varlink client over a Unix-domain socket, or through ssh: a call out, replies in, one at a time. */

#include <sys/types.h>

#include "common/varlink.h"

struct connection {
	int fd;           /* owned; -1: none */
	struct buf in;    /* bytes of replies not yet read */
	uid_t peer;       /* who listens there (SO_PEERCRED); not through ssh */
	const char *host; /* through ssh: to whom; the caller's. NULL: the daemon of this host */
	pid_t ssh;        /* its process, ours to wait for; 0: none */
};
#define CONNECTION_NONE                                                                            \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* 0, or what socket(2) and connect(2) say; -ENAMETOOLONG. *ret is CONNECTION_NONE on failure. */
int connection_open(const char *path, struct connection *ret) _must_check_;

/* Starts ssh to `host`, which lives as long as *ret. 0, or what remote_start() says; whether anybody is there shows with the
 * first reply. */
int connection_open_host(const char *host, struct connection *ret) _must_check_;

/* Closes. Through ssh: waits for it, and returns its exit status (128 and the signal where one ended it); else 0. */
int connection_close(struct connection *c);
void connection_done(struct connection *c);

/* Replies may come as late as they like from here on: for Follow. */
int connection_wait_forever(struct connection *c) _must_check_;

/* Sends a call; `flag` is NULL or "more". 0, -ENOMEM, or what send(2) says. */
int connection_call(struct connection *c, const char *method, const json_t *parameters,
	const char *flag) _must_check_;

/* The next reply. 0; -ECONNRESET: the daemon closed; -ETIMEDOUT: nothing for LIMIT_ANSWER_USEC (through ssh:
 * LIMIT_HOST_ANSWER_USEC); -EMSGSIZE: above LIMIT_REPLY_BYTES; -EBADMSG: no reply; -ENOMEM. The caller releases with varlink_reply_done(). */
int connection_reply(struct connection *c, struct varlink_reply *ret) _must_check_;
