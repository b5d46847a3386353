/* SPDX-License-Identifier: MIT */
#pragma once

/* Rows of binds and connects that failed. */

#include "client/cells.h"

/* The reply of Failures. */
extern const struct shape shape_failures;
extern const struct kind kind_failures;
