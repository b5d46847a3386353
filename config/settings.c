/* SPDX-License-Identifier: MIT */

/*
 * Everything that is said of a setting is said in one row: the parser, the messages, `portledger config`, the default file
 * and the check of the manual read the same table. A kind of value knows how to read itself from a whole text and how
 * to print itself exactly; the bounds are the row's.
 */

#include "config/settings.h"

#include <inttypes.h>
#include <strings.h>

#include "common/buf.h"
#include "common/when.h"

#define KIBI UINT64_C(1024)
#define MEBI (KIBI * KIBI)
#define GIBI (KIBI * MEBI)
#define TEBI (KIBI * GIBI)

static int within(uint64_t value, uint64_t low, uint64_t high)
{
	return value >= low && value <= high ? 0 : -ERANGE;
}

/* Decimal digits, at least one: no sign, no blank. Returns 0 and where they end. */
static int parse_digits(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;
	const char *c = text;

	for (; *c >= '0' && *c <= '9'; c++)
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
			__builtin_add_overflow(value, (uint64_t)(*c - '0'), &value))
			return -ERANGE;
	if (c == text)
		return -EINVAL;
	*ret = value;
	*ret_end = c;
	return 0;
}

/* Time spans: usec_t */

static int parse_span(const char *text, uint64_t low, uint64_t high, void *value)
{
	usec_t span;
	int r = when_parse_span(text, &span);

	if (r >= 0)
		r = within(span, low, high);
	if (r >= 0)
		*(usec_t *)value = span;
	return r;
}

static int format_span(const void *value, struct buf *b)
{
	static const struct {
		usec_t usec;
		const char *name;
	} units[] = {{USEC_PER_DAY, "d"}, {USEC_PER_HOUR, "h"}, {USEC_PER_MINUTE, "min"},
		{USEC_PER_SEC, "s"}, {USEC_PER_MSEC, "ms"}, {1, "us"}};
	usec_t left = *(const usec_t *)value;
	const char *gap = "";
	int r = 0;

	for (size_t i = 0; i < ELEMENTSOF(units) && r >= 0; i++)
		if (left >= units[i].usec) {
			r = buf_append_format(
				b, "%s%" PRIu64 "%s", gap, left / units[i].usec, units[i].name);
			left %= units[i].usec;
			gap = " ";
		}
	return r;
}

/* Shares of a whole: uint32_t, in thousandths */

static int parse_percent(const char *text, uint64_t low, uint64_t high, void *value)
{
	uint64_t whole, tenths = 0;
	int r = parse_digits(text, &whole, &text);

	if (r < 0)
		return r;
	if (text[0] == '.' && text[1] >= '0' && text[1] <= '9') {
		tenths = (uint64_t)(text[1] - '0');
		text += 2;
	}
	if (!streq(text, "%"))
		return -EINVAL;
	if (whole > high || within(whole * 10 + tenths, low, high) < 0)
		return -ERANGE;
	*(uint32_t *)value = (uint32_t)(whole * 10 + tenths);
	return 0;
}

static int format_percent(const void *value, struct buf *b)
{
	uint32_t permille = *(const uint32_t *)value;

	if (permille % 10 == 0)
		return buf_append_format(b, "%" PRIu32 "%%", permille / 10);
	return buf_append_format(b, "%" PRIu32 ".%" PRIu32 "%%", permille / 10, permille % 10);
}

/* Sizes in bytes: uint64_t */

static const struct {
	uint64_t bytes;
	char name[2];
} sizes[] = {{TEBI, "T"}, {GIBI, "G"}, {MEBI, "M"}, {KIBI, "K"}, {1, ""}};

static int parse_bytes(const char *text, uint64_t low, uint64_t high, void *value)
{
	uint64_t number, bytes;
	int r = parse_digits(text, &number, &text);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		if (!streq(text, sizes[i].name))
			continue;
		if (__builtin_mul_overflow(number, sizes[i].bytes, &bytes))
			return -ERANGE;
		r = within(bytes, low, high);
		if (r >= 0)
			*(uint64_t *)value = bytes;
		return r;
	}
	return -EINVAL;
}

static int format_bytes(const void *value, struct buf *b)
{
	uint64_t bytes = *(const uint64_t *)value;
	size_t i = 0;

	while (bytes % sizes[i].bytes != 0)
		i++;
	return buf_append_format(b, "%" PRIu64 "%s", bytes / sizes[i].bytes, sizes[i].name);
}

/* Plain numbers: uint64_t */

static int parse_number(const char *text, uint64_t low, uint64_t high, void *value)
{
	uint64_t number;
	int r = parse_digits(text, &number, &text);

	if (r < 0)
		return r;
	if (*text != '\0')
		return -EINVAL;
	r = within(number, low, high);
	if (r >= 0)
		*(uint64_t *)value = number;
	return r;
}

static int format_number(const void *value, struct buf *b)
{
	return buf_append_format(b, "%" PRIu64, *(const uint64_t *)value);
}

/* Booleans, with systemd's words */

static int parse_boolean(const char *text, uint64_t low, uint64_t high, void *value)
{
	static const char *const words[2][6] = {
		{"no", "n", "false", "f", "off", "0"}, {"yes", "y", "true", "t", "on", "1"}};

	(void)low;
	(void)high;
	for (size_t truth = 0; truth < ELEMENTSOF(words); truth++)
		for (size_t i = 0; i < ELEMENTSOF(words[truth]); i++)
			if (strcasecmp(text, words[truth][i]) == 0) {
				*(bool *)value = truth == 1;
				return 0;
			}
	return -EINVAL;
}

static int format_boolean(const void *value, struct buf *b)
{
	return buf_append_string(b, *(const bool *)value ? "yes" : "no");
}

/* What costs more than is asked for: uint8_t, enum extra */

static int parse_extra(const char *text, uint64_t low, uint64_t high, void *value)
{
	bool truth = false;
	int r = strcasecmp(text, "auto") == 0 ? 1 : parse_boolean(text, low, high, &truth);

	if (r >= 0)
		*(uint8_t *)value = r == 1 ? EXTRA_AUTO : truth ? EXTRA_YES : EXTRA_NO;
	return r < 0 ? r : 0;
}

static int format_extra(const void *value, struct buf *b)
{
	static const char *const words[] = {
		[EXTRA_NO] = "no", [EXTRA_AUTO] = "auto", [EXTRA_YES] = "yes"};

	return buf_append_string(b, words[*(const uint8_t *)value]);
}

/* How much of remote addresses is kept: uint8_t, enum remote_addresses */

static const char *const remote_words[REMOTE_ADDRESSES_COUNT] = {
	[REMOTE_ADDRESSES_FULL] = "full",
	[REMOTE_ADDRESSES_TRUNCATED] = "truncated",
	[REMOTE_ADDRESSES_NONE] = "none",
};

static int parse_remote(const char *text, uint64_t low, uint64_t high, void *value)
{
	(void)low;
	(void)high;
	for (size_t i = 0; i < ELEMENTSOF(remote_words); i++)
		if (strcasecmp(text, remote_words[i]) == 0) {
			*(uint8_t *)value = (uint8_t)i;
			return 0;
		}
	return -EINVAL;
}

static int format_remote(const void *value, struct buf *b)
{
	return buf_append_string(b, remote_words[*(const uint8_t *)value]);
}

/* Sets of ports: struct range_choice */

int ranges_add(struct port_ranges *set, struct port_range add)
{
	struct port_ranges sum = {0};
	bool placed = false;

	for (uint32_t i = 0; i < set->count; i++) {
		struct port_range have = set->range[i];

		if (have.low > add.high + 1 && !placed) {
			sum.range[sum.count++] = add;
			placed = true;
		}
		if (have.low > add.high + 1 || have.high + 1 < add.low) {
			if (sum.count == ELEMENTSOF(sum.range))
				return -ERANGE;
			sum.range[sum.count++] = have;
		} else {
			add.low = have.low < add.low ? have.low : add.low;
			add.high = have.high > add.high ? have.high : add.high;
		}
	}
	if (!placed) {
		if (sum.count == ELEMENTSOF(sum.range))
			return -ERANGE;
		sum.range[sum.count++] = add;
	}
	*set = sum;
	return 0;
}

/* "lo-hi" and nothing behind it. */
static int parse_range(const char *text, uint64_t low, uint64_t high, struct port_range *ret)
{
	uint64_t from, until;
	int r = parse_digits(text, &from, &text);

	if (r >= 0 && *text != '-')
		r = -EINVAL;
	if (r >= 0)
		r = parse_digits(text + 1, &until, &text);
	if (r < 0 || *text != '\0')
		return r < 0 ? r : -EINVAL;
	if (from < low || until > high || from > until)
		return -ERANGE;
	*ret = (struct port_range){(uint16_t)from, (uint16_t)until};
	return 0;
}

static int parse_ranges(const char *text, uint64_t low, uint64_t high, void *value)
{
	_cleanup_(free_p) char *copy = strdup(text);
	struct range_choice choice = {0};
	char *rest = NULL, *word;
	struct port_range range;
	int r;

	if (!copy)
		return -ENOMEM;
	word = strtok_r(copy, " \t", &rest);
	if (!word)
		return -EINVAL;
	for (; word; word = strtok_r(NULL, " \t", &rest))
		if (streq(word, "iana"))
			choice.iana = true;
		else if (streq(word, "kernel"))
			choice.kernel = true;
		else {
			r = parse_range(word, low, high, &range);
			if (r >= 0)
				r = ranges_add(&choice.explicit, range);
			if (r < 0)
				return r;
		}
	if (choice.explicit.count > EXPLICIT_RANGES_MAX)
		return -ERANGE;
	*(struct range_choice *)value = choice;
	return 0;
}

static int format_ranges(const void *value, struct buf *b)
{
	const struct range_choice *choice = value;
	const char *gap = choice->iana ? " " : "";
	int r = buf_append_string(b, choice->iana ? "iana" : "");

	if (r >= 0 && choice->kernel) {
		r = buf_append_format(b, "%skernel", gap);
		gap = " ";
	}
	for (uint32_t i = 0; i < choice->explicit.count && r >= 0; i++) {
		const struct port_range *range = &choice->explicit.range[i];

		r = buf_append_format(b, "%s%u-%u", gap, range->low, range->high);
		gap = " ";
	}
	return r;
}

/* The table */

static const struct setting_kind kind_span = {parse_span, format_span, "a time span"};
static const struct setting_kind kind_percent = {
	parse_percent, format_percent, "a percentage with at most one decimal"};
static const struct setting_kind kind_bytes = {
	parse_bytes, format_bytes, "a size in bytes, or with K, M, G or T"};
static const struct setting_kind kind_number = {parse_number, format_number, "a number"};
static const struct setting_kind kind_boolean = {parse_boolean, format_boolean, "a boolean"};
static const struct setting_kind kind_extra = {parse_extra, format_extra, "auto or a boolean"};
static const struct setting_kind kind_remote = {
	parse_remote, format_remote, "full, truncated or none"};
static const struct setting_kind kind_ranges = {
	parse_ranges, format_ranges, "a list of iana, kernel and LOW-HIGH"};

const struct setting settings_table[SETTING_COUNT] = {
	[SETTING_INTERVAL] = {"Capture", "Interval", &kind_span,
		offsetof(struct config, interval_usec), "1s", INTERVAL_MIN_USEC, INTERVAL_MAX_USEC,
		"100ms to 1h", "Time from one sweep over the socket tables to the next."},
	[SETTING_CPU_BUDGET] = {"Capture", "CpuBudget", &kind_percent,
		offsetof(struct config, cpu_budget_permille), "5%", 1, 1000, "0.1% to 100%",
		"Share of one core that sweeps may take; past it the interval doubles."},
	[SETTING_RANGES] = {"Capture", "Ranges", &kind_ranges, offsetof(struct config, ranges),
		"iana kernel", 1, UINT16_MAX, "1 to 65535, at most 14 ranges",
		"Ports to watch: iana (49152-65535), kernel (ip_local_port_range), LOW-HIGH."},
	[SETTING_ACCEPTED] = {"Capture", "Accepted", &kind_boolean,
		offsetof(struct config, accepted), "yes", 0, 0, "yes or no",
		"Record the connections that a listener accepted, too."},
	[SETTING_UDP_CONNECT] = {"Capture", "UdpConnect", &kind_extra,
		offsetof(struct config, udp_connect), "auto", 0, 0, "auto, yes or no",
		"Under events, see UDP connects at once; yes: even if each system call pays for it."},
	[SETTING_FAILURES] = {"Capture", "Failures", &kind_extra, offsetof(struct config, failures),
		"auto", 0, 0, "auto, yes or no",
		"Under events, see binds and connects that fail; yes: even at that price."},
	[SETTING_MAX_AGE] = {"Store", "MaxAge", &kind_span,
		offsetof(struct config, store.max_age_usec), "30d", USEC_PER_HOUR,
		36525 * USEC_PER_DAY, "1h to 100y", "How long a claim is kept."},
	[SETTING_MAX_BYTES] = {"Store", "MaxBytes", &kind_bytes,
		offsetof(struct config, store.max_bytes), "2G", 16 * MEBI, KIBI *TEBI,
		"16M to 1024T", "How large the database may become; the oldest claims go first."},
	[SETTING_REMOTE_ADDRESSES] = {"Store", "RemoteAddresses", &kind_remote,
		offsetof(struct config, store.remote_addresses), "full", 0, 0,
		"full, truncated or none",
		"What is kept of remote addresses once a claim is older than RemoteAddressesAfter."},
	[SETTING_REMOTE_AFTER] = {"Store", "RemoteAddressesAfter", &kind_span,
		offsetof(struct config, store.remote_after_usec), "1d", USEC_PER_HOUR,
		36525 * USEC_PER_DAY, "1h to 100y",
		"How long after a claim's end its remote address is kept whole."},
	[SETTING_ACTIVITY_HOUR] = {"Store", "ActivityHourMaxAge", &kind_span,
		offsetof(struct config, store.activity_hour_usec), "396d", 7 * USEC_PER_DAY,
		36525 * USEC_PER_DAY, "7d to 100y",
		"How long it is kept what each program opened in each hour; at least MaxAge."},
	[SETTING_ACTIVITY_DAY] = {"Store", "ActivityDayMaxAge", &kind_span,
		offsetof(struct config, store.activity_day_usec), "1827d", 7 * USEC_PER_DAY,
		36525 * USEC_PER_DAY, "7d to 100y",
		"How long it is kept what each program opened in each day; at least MaxAge."},
	[SETTING_USER_SHARE] = {"Store", "UserShare", &kind_percent,
		offsetof(struct config, store.user_share_permille), "50%", 10, 1000, "1% to 100%",
		"Share of a full database past which a user's own claims go before those of others."},
	[SETTING_COALESCE_ABOVE] = {"Store", "CoalesceAbove", &kind_number,
		offsetof(struct config, store.coalesce_above), "1000", 10, 1000000, "10 to 1000000",
		"Like claims of one second, above which they become one row with their number."},
};

bool settings_has_section(const char *section)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (streq(settings_table[i].section, section))
			return true;
	return false;
}

int settings_find(const char *section, const char *key, enum setting_id *ret)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (streq(settings_table[i].section, section) &&
			streq(settings_table[i].key, key)) {
			*ret = (enum setting_id)i;
			return 0;
		}
	return -ENOENT;
}

int setting_parse(struct config *c, enum setting_id id, const char *text)
{
	const struct setting *s = &settings_table[id];

	return s->kind->parse(text, s->low, s->high, (char *)c + s->offset);
}

char *setting_format(const struct config *c, enum setting_id id)
{
	const struct setting *s = &settings_table[id];
	struct buf b = {0};

	if (s->kind->format((const char *)c + s->offset, &b) < 0 || buf_put_u8(&b, 0) < 0) {
		buf_done(&b);
		return NULL;
	}
	/* never consumed from: its start is the allocation's */
	return (char *)b.data;
}
