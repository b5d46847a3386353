/* SPDX-License-Identifier: MIT */

#include "common/sighting.h"

#include <stdio.h>

const char *port_ranges_format(
	const struct port_ranges *ranges, char text[static PORT_RANGES_TEXT_MAX])
{
	size_t size = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < ranges->count && i < PORT_RANGES_MAX; i++)
		size += (size_t)snprintf(text + size, PORT_RANGES_TEXT_MAX - size, "%s%u-%u",
			i > 0 ? " " : "", ranges->range[i].low, ranges->range[i].high);
	return text;
}
