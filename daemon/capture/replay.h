/* SPDX-License-Identifier: MIT */
#pragma once

/* Speaks a recording (--record) instead of watching: what was said is said again, as fast as the ledger takes it. */

#include "common/base.h"

struct event_base;
struct replay;

struct replay_options {
	struct event_base *base;
	int fd; /* of the recording; the caller's */
	void *context;
	void (*ready)(void *context); /* the ledger took up its work */
};

/* Reads the whole recording. 0; -EBADMSG: it is none, or damaged (logged with its offset); else negative errno. */
int replay_new(const struct replay_options *options, struct replay **ret) _must_check_;

/* A ledger process waits for its stream at `fd` (taken). -ECANCELED: there was one before, which has some of it. */
int replay_link(struct replay *r, int fd) _must_check_;

/* Ends the stream. */
void replay_stop(struct replay *r);

struct replay *replay_free(struct replay *r);
