/* SPDX-License-Identifier: MIT */

#include "daemon/capture/table_fold.h"

#include <netinet/tcp.h>

bool has_remote(const struct socket_row *row)
{
	return row->remote.address.family != FAMILY_NONE &&
	       (row->state != TCP_CLOSE || is_udp(row->protocol));
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t size)
{
	memcpy(at, bytes, size);
	return at + size;
}

bool fold_key(const struct socket_row *row, uint8_t key[static FOLD_KEY_BYTES])
{
	uint8_t *at = put_bytes(key, &row->inode, sizeof(row->inode));

	memset(at, 0, FOLD_KEY_BYTES - sizeof(row->inode));
	at = put_bytes(at, &row->local.port, sizeof(row->local.port));
	if (row->inode != 0)
		return true;
	at = put_bytes(at, &row->remote.port, sizeof(row->remote.port));
	at = put_bytes(at, &row->local.address, sizeof(row->local.address));
	(void)put_bytes(at, &row->remote.address, sizeof(row->remote.address));
	return has_remote(row);
}

bool fold_same(const struct socket_row *a, const struct socket_row *b)
{
	uint8_t key_a[FOLD_KEY_BYTES], key_b[FOLD_KEY_BYTES];

	return fold_key(a, key_a) == fold_key(b, key_b) &&
	       memcmp(key_a, key_b, FOLD_KEY_BYTES) == 0;
}
