/* SPDX-License-Identifier: MIT */

/* Prints the table of settings for scripts/config-docs: section, key, default, range and sentence, with tabs between. */

#include "config/settings.h"

#include <stdio.h>

int main(void)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
		printf("%s\t%s\t%s\t%s\t%s\n", settings_table[i].section, settings_table[i].key,
			settings_table[i].initial, settings_table[i].range, settings_table[i].doc);
	return EXIT_SUCCESS;
}
