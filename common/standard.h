/* SPDX-License-Identifier: MIT */
#pragma once

/* Standard input, output and error, for who was started without them. */

#include "common/base.h"

/* Takes the place of those of the three that are closed, so that nothing that is opened later gets their number. What is there
 * then can be neither read nor written: each attempt is EBADF, as if it were closed. Before anything else is opened. */
void standard_hold(void);

/* Was it closed when standard_hold() came, or is it closed now? */
bool standard_is_closed(int fd);
