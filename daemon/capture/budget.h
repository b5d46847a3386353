/* SPDX-License-Identifier: MIT */
#pragma once

/* The interval between sweeps: what is configured, doubled while sweeps cost more than their share of a core, and
 * halved again when they are cheap. Pure. */

#include "config/config.h"

struct budget {
	usec_t configured_usec; /* the interval asked for */
	usec_t interval_usec;   /* the interval in force: configured, times a power of two */
	unsigned permille;      /* share of one core that sweeps may take, in thousandths */
	unsigned dear, cheap;   /* sweeps in a row past the budget, and below a quarter of it */
};

void budget_init(struct budget *b, usec_t configured_usec, unsigned permille);

/* Counts a sweep on the timer that took `cpu_usec`. True: interval_usec has changed. */
bool budget_spend(struct budget *b, usec_t cpu_usec);
