/* SPDX-License-Identifier: MIT */
#pragma once

/* JSON as text that a terminal, too, may be shown: jansson's own writer lets DEL, C1 controls and the bidi controls
 * through, so that each string goes through escape_json() here. */

#include <jansson.h>

#include "common/buf.h"

/* Appends the value; members keep their order. `indent` < 0: on one line without spaces; else what the lines after the
 * first are indented by, in steps of two. 0 or -ENOMEM. */
int jsonout_put(struct buf *b, const json_t *value, int indent) _must_check_;
