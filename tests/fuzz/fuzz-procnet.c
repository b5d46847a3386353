/* SPDX-License-Identifier: MIT */

/* The bytes are lines of /proc/net/tcp6 and its like. */

#include "tests/fuzz/fuzz.h"

#include "daemon/capture/source.h"

static void check_line(const char *line, size_t size, enum protocol protocol)
{
	struct socket_row row, again;
	int r = procnet_parse(line, size, protocol, &row);

	if (r != 1) {
		assert(r == 0 || r == -EBADMSG);
		return;
	}
	assert(row.cookie >> 63 == 1);
	assert(row.protocol == protocol);
	assert(row.local.port != 0 && row.local.address.family != FAMILY_NONE);
	assert(row.minisock || row.expires_msec == 0);
	/* the cookie stands for the socket: the same line has the same */
	r = procnet_parse(line, size, protocol, &again);
	assert(r == 1 && again.cookie == row.cookie);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = (const char *)data, *end = line + size;

	while (line < end) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		size_t length = (size_t)((newline ? newline : end) - line);

		check_line(line, length, PROTOCOL_TCP);
		check_line(line, length, PROTOCOL_UDP);
		line += length + 1;
	}
	return 0;
}
