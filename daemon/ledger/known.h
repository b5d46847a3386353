/* SPDX-License-Identifier: MIT */
#pragma once

/* The store's memory of what was ever seen: the table `known`. Retention does not touch it. Errors as store.h has them;
 * what writes is part of the store's transaction. */

#include "common/siphash.h"
#include "daemon/ledger/store.h"

#define KNOWN_PROGRAM    (-1) /* protocol of a program's own row */
#define KNOWN_MANY_PORTS 0    /* port of a listener that comes on ever new ones */

struct known_row {
	uint64_t program; /* keyed hash */
	int8_t protocol;  /* enum protocol, or KNOWN_PROGRAM */
	uint16_t port;    /* 0 for a program */
};

/* The key of this database's hashes; a new one where it has none yet, in a transaction of its own. *ret_since: wall time of
 * the sweep that showed what was there before us; USEC_UNSET: there was none yet. */
int known_start(struct store *s, struct siphash_key *ret, usec_t *ret_since) _must_check_;

/* Each row; the first result of `take` that is not 0 ends it and is returned. */
int known_each(struct store *s, int (*take)(void *context, const struct known_row *k),
	void *context) _must_check_;

/* How many ports the program is known to listen on, KNOWN_MANY_PORTS apart. */
int known_ports(struct store *s, const struct known_row *k, int64_t *ret) _must_check_;

/* Adds a row, if it is not there. `name` and `exe_note` are of a program. */
int known_put(struct store *s, const struct known_row *k, const char *name, uint8_t exe_note,
	usec_t seen_wall) _must_check_;

/* Notes for followers that the row is new, and which claim it was seen by. */
int known_announce(struct store *s, const struct known_row *k, uint64_t claim) _must_check_;

/* What was there before us has been shown. */
int known_put_since(struct store *s, usec_t wall) _must_check_;
