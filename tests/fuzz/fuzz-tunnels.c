/* SPDX-License-Identifier: MIT */

/* One RTM_NEWLINK message of rtnetlink. */

#include "tests/fuzz/fuzz.h"

#include "daemon/capture/tunnels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_Alignas(8) uint8_t message[4096];
	struct tunnel tunnel;

	if (size > sizeof(message))
		return 0;
	memcpy(message, data, size);
	if (tunnel_parse(message, size, &tunnel))
		assert(tunnel.port != 0 && (tunnel.ipv4 || tunnel.ipv6));
	return 0;
}
