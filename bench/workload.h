/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A made-up host for the bench of the store: its claims in the order of release, the same ones on every run.
 * 200 programs (Zipf 1.2), three in ten of them short-lived (a new process for every 4 claims); 11 % of the claims on 20
 * hot ports, the rest on 16,384; 500,000 remote addresses (Zipf 1.05), a fifth of them IPv6; a sixth UDP; half of
 * the TCP connections linger a minute; 60 % last about 0.2 s, 30 % 5 s, 8 % 2 min, 1.9 % 1 h, 0.1 % 1 day.
 */

#include "common/claim.h"

#define WORKLOAD_PORT_FIRST 49152u
#define WORKLOAD_PORTS      16384u
#define WORKLOAD_HOT_PORTS  20u
#define WORKLOAD_WALL       UINT64_C(1790000000123456) /* wall time of boottime WORKLOAD_BOOT */
#define WORKLOAD_BOOT       (400 * USEC_PER_DAY)
#define WORKLOAD_NETNS      1u
#define WORKLOAD_INTERVAL   USEC_PER_SEC

/* How the claims were seen. */
enum workload_times {
	WORKLOAD_SWEEP, /* by sweeps of an interval of 1 s: both ends bounded */
	WORKLOAD_EXACT, /* by events: both ends exact */
};

struct workload;

/* `count` claims released evenly over `span`. NULL: no memory. */
struct workload *workload_new(enum workload_times times, uint64_t count, usec_t span);
struct workload *workload_free(struct workload *w);
DEFINE_CLEANUP(struct workload, workload_free)

/* The next claim, without a number; the caller owns its parts. False: there are no more (or no memory). */
bool workload_next(struct workload *w, struct claim *ret);

/* When the last one was released. */
struct now workload_now(const struct workload *w);

/* xorshift64*. */
uint64_t workload_random(uint64_t *state);
/* The i-th hot port; they are spread over the range. */
uint16_t workload_hot_port(uint32_t i);
