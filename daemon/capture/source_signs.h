/* SPDX-License-Identifier: MIT */
#pragma once

/* What the kernel counts of TCP in our namespace: as long as all of it stays the same, no connection came, went or changed
 * its state. source_signs.c says why, and where that ends. */

#include "common/base.h"

enum sign {
	/* /proc/net/snmp (RFC 4022), up only but for the last */
	SIGN_ACTIVE_OPENS,
	SIGN_PASSIVE_OPENS,
	SIGN_ATTEMPT_FAILS,
	SIGN_ESTAB_RESETS,
	SIGN_CURRENT_ESTABLISHED,
	/* /proc/net/sockstat, sockstat6: sockets that listen or are connected; TIME_WAIT remainders of both families */
	SIGN_IN_USE,
	SIGN_TIME_WAIT,
	SIGN_IN_USE_IPV6,
	SIGN_COUNT,
};

struct signs {
	uint64_t count[SIGN_COUNT];
	/* TCP sockets of the whole machine, all families and namespaces; those in TIME_WAIT are none */
	uint64_t allocated;
};

/* Has nothing come, gone or changed between the two? */
bool signs_same(const struct signs *a, const struct signs *b);

/* May there be a bound-only TCP socket in our namespace? Not where all there are on the machine are connected or listen, in
 * ours. Exact where the reading before was the same (signs_same): nothing changed while it was made. */
bool signs_bound_possible(const struct signs *s);

/* Descriptors of our namespace's files; -1: not there. */
struct signs_files {
	int snmp, sockstat, sockstat6;
};

void signs_open(struct signs_files *files);
void signs_close(struct signs_files *files);

/* 0, or a negative errno where one of them cannot be read or says too little. A kernel without IPv6 counts none of it. */
int signs_read(const struct signs_files *files, struct signs *ret) _must_check_;

/* The texts of the three files (`sockstat6` NULL: there is none). 0 or -EBADMSG. Pure. */
int signs_parse(const char *snmp, const char *sockstat, const char *sockstat6,
	struct signs *ret) _must_check_;
