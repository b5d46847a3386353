/* SPDX-License-Identifier: MIT */
#pragma once

/* What this process costs. */

#include "common/sighting.h"

/* CPU since its start and present PSS (about 0.1 ms: not for every sweep). */
struct cost cost_of_self(void);
