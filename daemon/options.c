/* SPDX-License-Identifier: MIT */

#include "daemon/options.h"

#include "common/log.h"

#define RING_BYTES_MAX (1024u * 1024 * 1024)

bool option_rung(const char *rung, enum capture_rung *ret)
{
	static const struct {
		const char *name;
		enum capture_rung rung;
	} rungs[] = {{"events", CAPTURE_RUNG_EVENTS}, {"destroy", CAPTURE_RUNG_DESTROY},
		{"sweep", CAPTURE_RUNG_SWEEP}};

	for (size_t i = 0; i < ELEMENTSOF(rungs); i++)
		if (streq(rung, rungs[i].name)) {
			*ret = rungs[i].rung;
			return true;
		}
	log_error("--rung wants events, destroy or sweep, not '%s'", rung);
	return false;
}

bool option_netns(const char *netns, bool *ret_self)
{
	*ret_self = streq(netns, "self");
	if (*ret_self || streq(netns, "all"))
		return true;
	log_error("--netns wants all or self, not '%s'", netns);
	return false;
}

bool option_ring_bytes(const char *text, uint32_t *ret)
{
	unsigned long long bytes, page = (unsigned long long)sysconf(_SC_PAGESIZE);
	char *end;

	errno = 0;
	bytes = strtoull(text, &end, 10);
	if (errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && bytes >= page &&
		bytes <= RING_BYTES_MAX && (bytes & (bytes - 1)) == 0) {
		*ret = (uint32_t)bytes;
		return true;
	}
	log_error("--ring-bytes wants a power of two from %llu to %u, not '%s'", page,
		RING_BYTES_MAX, text);
	return false;
}
