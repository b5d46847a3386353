/* SPDX-License-Identifier: MIT */

/* The bytes are a stream without its magic. What decodes must encode to the very same bytes again, and nothing less
 * than a whole record may decode. */

#include "tests/fuzz/fuzz.h"

#include "common/stream.h"

static void check_canonical(const struct record *r, const uint8_t *bytes, size_t size)
{
	_cleanup_(buf_done) struct buf b = {0};
	int result = stream_put(&b, r);

	assert(result == 0);
	assert(buf_size(&b) == size);
	assert(memcmp(buf_bytes(&b), bytes, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t used = 0;

	for (size_t at = 0; at <= size; at += used) {
		_cleanup_(record_done) struct record r = {0}, part = {0};
		int result = stream_get(data + at, size - at, &r, &used);

		if (result != 1)
			break;
		assert(used >= STREAM_HEADER_BYTES && used <= size - at);
		result = stream_get(data + at, used - 1, &part, &used);
		assert(result == 0);
		check_canonical(&r, data + at, used);
	}
	return 0;
}
