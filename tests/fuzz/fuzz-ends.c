/* SPDX-License-Identifier: MIT */

/* One destroy notification of sock_diag, without its netlink header. */

#include "tests/fuzz/fuzz.h"

#include "daemon/capture/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct socket_end end;
	int r = diag_parse_end(data, size, &end);

	if (r != 1) {
		assert(r == 0 || r == -EBADMSG);
		return 0;
	}
	assert(end.row.cookie != 0);
	assert(end.row.local.port != 0 && end.row.local.address.family != FAMILY_NONE);
	assert(end.row.protocol == PROTOCOL_TCP || end.row.protocol == PROTOCOL_UDP);
	assert(end.row.protocol == PROTOCOL_TCP || end.evidence == END_UNKNOWN);
	assert(end.evidence <= END_UNUSED);
	assert(!end.local_unknown || address_is_any(&end.row.local.address));
	return 0;
}
