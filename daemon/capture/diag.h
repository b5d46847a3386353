/* SPDX-License-Identifier: MIT */
#pragma once

/* What the readers of sock_diag's messages share. */

#include "daemon/capture/source.h"

/* Copies at most `room` bytes of the last attribute of this type, among `size` bytes of attributes (struct nlattr), with
 * no alignment assumed. Returns how many bytes it has; 0: there is none; -EBADMSG: inconsistent. */
int diag_attribute(
	const uint8_t *bytes, size_t size, unsigned type, void *ret, size_t room) _must_check_;
