/* SPDX-License-Identifier: MIT */
#pragma once

/* Kinds of rows of the answers about ports and who uses them up. */

#include "client/cells.h"

extern const struct kind kind_listeners, kind_pressure;
