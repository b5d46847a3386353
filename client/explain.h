/* SPDX-License-Identifier: MIT */
#pragma once

/* What a port is, in words. Pure, but for what it prints. */

#include <jansson.h>

#include "client/view.h"
#include "common/buf.h"

/* Appends one honest sentence on an Explain reply (checked; `opened_usec` may be null where there was no daemon).
 * Not escaped. 0 or -ENOMEM. */
int explain_verdict(const json_t *reply, const struct view *v, struct buf *b) _must_check_;

/* Appends the class of the port: what IANA and this kernel have it for. */
int explain_class(const json_t *reply, struct buf *b) _must_check_;

/* Appends what to do about it. */
int explain_advice(const json_t *reply, struct buf *b) _must_check_;
