/* SPDX-License-Identifier: MIT */
#pragma once

/* Which ports had a TCP listener a moment ago. Pure. Part of the table. */

#include "common/clock.h"

#define TABLE_PORTS_PER_PAGE 256

/* All zero is empty. */
struct table_listeners {
	/* boottime at which one was last seen on a port; 0: never. Pages are made when needed. */
	usec_t *pages[(UINT16_MAX + 1) / TABLE_PORTS_PER_PAGE];
};

/* There is one at `at` (boottime). 0 or -ENOMEM. */
int table_listeners_note(struct table_listeners *l, uint16_t port, usec_t at) _must_check_;
/* Was there one at `since` (boottime) or later? */
bool table_listeners_had(const struct table_listeners *l, uint16_t port, usec_t since);
void table_listeners_done(struct table_listeners *l);
