/* SPDX-License-Identifier: MIT */

/* The first byte chooses the protocol, the rest is one message of a sock_diag dump. */

#include "tests/fuzz/fuzz.h"

#include "daemon/capture/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct socket_row row;
	enum protocol protocol;
	int r;

	if (size == 0)
		return 0;
	protocol = (enum protocol)(data[0] % PROTOCOL_COUNT);
	r = diag_parse(data + 1, size - 1, protocol, &row);
	if (r != 1) {
		assert(r == 0 || r == -EBADMSG);
		return 0;
	}
	assert(row.cookie != 0);
	assert(row.protocol == protocol);
	assert(row.local.port != 0 && row.local.address.family != FAMILY_NONE);
	assert(row.minisock || row.expires_msec == 0);
	assert(row.remote.address.family != FAMILY_NONE || row.remote.port == 0);
	return 0;
}
