/* SPDX-License-Identifier: MIT */
#pragma once

/* Shapes of the answers about ports and who uses them up. */

#include "client/shape.h"

/* Types of org.portledger.ledger. */
extern const struct shape shape_listener, shape_pressure_row, shape_app;
/* Replies of its methods. */
extern const struct shape shape_listeners, shape_pressure, shape_apps;
