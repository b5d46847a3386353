/* SPDX-License-Identifier: MIT */
#pragma once

/* By what an MPTCP socket and its subflow are known to belong together. Pure. */

#include "daemon/capture/source.h"

#define FOLD_KEY_BYTES (sizeof(uint64_t) + 2 * (sizeof(struct address) + sizeof(uint16_t)))

static inline bool is_udp(uint8_t protocol)
{
	return protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE;
}

/* A connection that has ended keeps no remote end, whatever the kernel left in its bytes. */
bool has_remote(const struct socket_row *row);

/* Inode and port, or both endpoints where there is no inode. False: nothing to tell it by. */
bool fold_key(const struct socket_row *row, uint8_t key[static FOLD_KEY_BYTES]);

bool fold_same(const struct socket_row *a, const struct socket_row *b);
