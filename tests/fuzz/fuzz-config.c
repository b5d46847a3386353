/* SPDX-License-Identifier: MIT */

/* The input is a file. What loads must be within its bounds, and load again to the same values from what it prints. */

#include "tests/fuzz/fuzz.h"

#include "config/config.h"
#include "config/settings.h"

static void check_bounds(const struct config *c)
{
	static const struct port_range kernel = {32768, 60999};
	struct port_ranges ranges;

	assert(c->interval_usec >= settings_table[SETTING_INTERVAL].low);
	assert(c->interval_usec <= settings_table[SETTING_INTERVAL].high);
	assert(c->cpu_budget_permille >= 1 && c->cpu_budget_permille <= 1000);
	assert(c->store.max_age_usec >= USEC_PER_HOUR);
	assert(c->store.max_bytes >= settings_table[SETTING_MAX_BYTES].low);
	assert(config_ranges(c, kernel, &ranges) == 0);
	assert(ranges.count > 0 && ranges.count <= PORT_RANGES_MAX);
	for (uint32_t i = 0; i < ranges.count; i++) {
		assert(ranges.range[i].low > 0 && ranges.range[i].low <= ranges.range[i].high);
		assert(i == 0 || ranges.range[i - 1].high + 1 < ranges.range[i].low);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(config_done) struct config c = {0}, again = {0};
	_cleanup_(free_p) char *error = NULL, *printed = NULL, *none = NULL;
	int r;

	r = config_parse("FILE", data, size, &c, &error);
	assert(r == 0 || r == -EINVAL || r == -EFBIG);
	assert((r == 0) == (error == NULL));
	if (r < 0)
		return 0;
	check_bounds(&c);
	printed = config_format(&c);
	assert(printed);
	assert(config_parse("PRINTED", printed, strlen(printed), &again, &none) == 0);
	assert(memcmp(&c, &again, offsetof(struct config, origin)) == 0);
	return 0;
}
