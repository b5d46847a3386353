/* SPDX-License-Identifier: MIT */

#include "daemon/capture/table_listeners.h"

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

bool table_listeners_had(const struct table_listeners *l, uint16_t port, usec_t since)
{
	const usec_t *page = l->pages[port / TABLE_PORTS_PER_PAGE];
	usec_t seen = page ? page[port % TABLE_PORTS_PER_PAGE] : 0;

	return seen > 0 && seen >= since;
}

void table_listeners_done(struct table_listeners *l)
{
	for (size_t i = 0; i < ELEMENTSOF(l->pages); i++)
		free(l->pages[i]);
	*l = (struct table_listeners){0};
}
