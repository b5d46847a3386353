/* SPDX-License-Identifier: MIT */
#pragma once

/* Short claims of our own, on loopback, to be looked for in the ledger: which we made is known exactly. Needs no privilege. */

#include "common/claim.h"
#include "common/clock.h"

/* The ways to make one. */
enum own_kind {
	OWN_TCP,   /* connects to a listener of ours, closes */
	OWN_TCP6,  /* the same over IPv6 */
	OWN_RESET, /* the same, closed with a reset */
	OWN_LISTENING,
	OWN_BOUND, /* TCP, bound and no more */
	OWN_UDP_SENT,
	OWN_UDP_CONNECTED,
	OWN_UDP_BOUND,
	OWN_UDPLITE,
	OWN_MPTCP,
	OWN_KIND_COUNT,
};

/* "tcp connected" */
const char *own_kind_name(enum own_kind kind);
enum protocol own_kind_protocol(enum own_kind kind);

struct own_claim {
	enum own_kind kind;
	uint16_t port;
	/* wall clock, microseconds: the port was claimed after `before` and given back before `after` */
	usec_t before, after;
};

/*
 * Makes `count` claims of each kind, one after the other, each closed at once. *ret is an array of *ret_count, the caller's to
 * free, in the order in which they were made; a kind that this host does not have (IPv6, UDPLITE, MPTCP) has none in it. 0, -ENOMEM,
 * or what the kernel says. Connections leave TIME_WAIT behind.
 */
int own_claims_make(uint32_t count, struct own_claim **ret, size_t *ret_count) _must_check_;
