/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a row of rollup_hour and rollup_day has beside its numbers, as one blob (column `sets`): a database hands out each column
 * by itself, and an audit of a year reads a hundred thousand rows.
 *
 *     end_only, preexisting, not_looked   of the unattributed claims, as an audit's reasons     varints (common/varint.h)
 *     lives_size, remotes_size            of what follows, in bytes                             varints
 *     lives                               whose beginning was seen                              common/lives.h
 *     remotes                             remote addresses                                      common/sketch.h
 *     ports                               local ports; all that is left                         common/port_set.h
 *
 * What is empty takes no bytes.
 */

#include "common/lives.h"
#include "common/port_set.h"
#include "common/sketch.h"
#include "common/varint.h"

#define ROLLUP_SETS_BYTES (5 * VARINT_BYTES + LIVES_BYTES + SKETCH_BYTES + PORT_SET_WRITTEN)

struct rollup_reasons {
	uint64_t end_only, preexisting, not_looked;
};

/* A blob, taken apart: what is in the parts is for lives_read(), sketch_merge() and port_set_merge() to see. */
struct rollup_sets {
	struct rollup_reasons reasons;
	const uint8_t *lives, *remotes, *ports; /* into the blob */
	size_t lives_size, remotes_size, ports_size;
};

/* Returns how many bytes. */
size_t rollup_sets_write(const struct rollup_reasons *reasons, const struct lives *lives,
	const struct sketch *remotes, const struct port_set *ports,
	uint8_t to[static ROLLUP_SETS_BYTES]);

/* -EBADMSG: they are none. */
int rollup_sets_read(const void *data, size_t size, struct rollup_sets *ret) _must_check_;
