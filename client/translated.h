/* SPDX-License-Identifier: MIT */
#pragma once

/* Does this host translate addresses? Then a port that others see may be the translation's, and belong to no socket. */

#include "client/view.h"

/* What shows it ("nftables, chain nat/postrouting"), as far as the caller may see; "": nothing does. Looks at the own network
 * namespace. Fresh; NULL: no memory. */
char *translated_by(void);

/* Says so in one line, where it is so; nothing with --host, since that is another host. */
void translated_say(const struct view *v, FILE *out);
