/* SPDX-License-Identifier: MIT */

#include "common/rollup_sets.h"

size_t rollup_sets_write(const struct rollup_reasons *reasons, const struct lives *lives,
	const struct sketch *remotes, const struct port_set *ports,
	uint8_t to[static ROLLUP_SETS_BYTES])
{
	const uint64_t numbers[] = {reasons->end_only, reasons->preexisting, reasons->not_looked,
		lives_size(lives), sketch_size(remotes)};
	size_t size = 0;

	for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
		size += varint_put(to + size, numbers[i]);
	size += lives_write(lives, to + size);
	size += sketch_write(remotes, to + size);
	return size + port_set_write(ports, to + size);
}

int rollup_sets_read(const void *data, size_t size, struct rollup_sets *ret)
{
	const uint8_t *at = data, *end;
	uint64_t numbers[5];

	if (size == 0) /* there may be no data either */
		return -EBADMSG;
	end = at + size;
	for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
		if (varint_get(&at, end, &numbers[i]) < 0)
			return -EBADMSG;
	size = (size_t)(end - at);
	if (numbers[3] > size || numbers[4] > size - numbers[3])
		return -EBADMSG;
	*ret = (struct rollup_sets){
		.reasons = {numbers[0], numbers[1], numbers[2]},
		.lives = at,
		.lives_size = numbers[3],
		.remotes = at + numbers[3],
		.remotes_size = numbers[4],
		.ports = at + numbers[3] + numbers[4],
		.ports_size = size - numbers[3] - numbers[4],
	};
	return 0;
}
