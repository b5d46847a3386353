/* SPDX-License-Identifier: MIT */

/* One dear sweep is weather (a walk over /proc for a burst of new sockets); three in a row are climate. To come back
 * takes longer, and a quarter of the budget, so that the interval does not swing. */

#include "daemon/capture/budget.h"

#define DEAR_SWEEPS  3u
#define CHEAP_SWEEPS 10u

void budget_init(struct budget *b, usec_t configured_usec, unsigned permille)
{
	*b = (struct budget){
		.configured_usec = configured_usec,
		.interval_usec = configured_usec,
		.permille = permille,
	};
}

bool budget_spend(struct budget *b, usec_t cpu_usec)
{
	usec_t allowed = b->interval_usec / 1000 * b->permille;

	b->dear = cpu_usec > allowed ? b->dear + 1 : 0;
	b->cheap = cpu_usec * 4 < allowed ? b->cheap + 1 : 0;
	if (b->dear >= DEAR_SWEEPS && b->interval_usec < INTERVAL_MAX_USEC) {
		b->interval_usec = MIN(b->interval_usec * 2, INTERVAL_MAX_USEC);
		b->dear = b->cheap = 0;
		return true;
	}
	if (b->cheap >= CHEAP_SWEEPS && b->interval_usec > b->configured_usec) {
		b->interval_usec = MAX(b->interval_usec / 2, b->configured_usec);
		b->dear = b->cheap = 0;
		return true;
	}
	return false;
}
