/* SPDX-License-Identifier: MIT */

#include "daemon/capture/table_listeners.h"

/* How long a port is remembered to have had a listener. TIME_WAIT, the longest that a connection is
 * first seen after its listener went, lasts one minute. */
#define MEMORY_USEC (2 * USEC_PER_MINUTE)

int table_listeners_note(struct table_listeners *l, uint16_t port, usec_t at)
{
	usec_t **page = &l->pages[port / TABLE_PORTS_PER_PAGE];

	if (!*page)
		*page = calloc(TABLE_PORTS_PER_PAGE, sizeof(**page));
	if (!*page)
		return -ENOMEM;
	(*page)[port % TABLE_PORTS_PER_PAGE] = at;
	return 0;
}

bool table_listeners_had(const struct table_listeners *l, uint16_t port, usec_t now)
{
	const usec_t *page = l->pages[port / TABLE_PORTS_PER_PAGE];
	usec_t seen = page ? page[port % TABLE_PORTS_PER_PAGE] : 0;

	return seen > 0 && usec_sub(now, seen) <= MEMORY_USEC;
}

void table_listeners_done(struct table_listeners *l)
{
	for (size_t i = 0; i < ELEMENTSOF(l->pages); i++)
		free(l->pages[i]);
	*l = (struct table_listeners){0};
}
