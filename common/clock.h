/* SPDX-License-Identifier: MIT */
#pragma once

/* Times and durations in microseconds; the only place that reads a clock. */

#include "common/base.h"

typedef uint64_t usec_t;

#define USEC_PER_MSEC   UINT64_C(1000)
#define USEC_PER_SEC    UINT64_C(1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR   (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY    (24 * USEC_PER_HOUR)

/* "Not known" for every usec_t member that can be unknown. Never 0. */
#define USEC_UNSET UINT64_MAX

/* The same instant on both clocks, read once per callback and passed down. */
struct now {
	usec_t boot; /* CLOCK_BOOTTIME: durations and order; goes on during suspend, never steps */
	usec_t wall; /* CLOCK_REALTIME since the epoch: for people; can step */
};

/* A half-open stretch of wall time: [from, until). */
struct window {
	usec_t from, until;
};

struct now clock_now(void);

/* CLOCK_MONOTONIC, which stands still during suspend as timers of libevent and of systemd do: only to be compared with
 * those. */
usec_t clock_monotonic_usec(void);
/* The boottime alone, for half the price. */
usec_t clock_boot(void);

/* CPU time used by this process so far, in microseconds (CLOCK_PROCESS_CPUTIME_ID). */
usec_t clock_cpu_usec(void);

/* a - b, but 0 where b is later. */
static inline usec_t usec_sub(usec_t a, usec_t b)
{
	return a > b ? a - b : 0;
}
