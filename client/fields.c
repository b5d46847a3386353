/* SPDX-License-Identifier: MIT */

/*
 * The formats are those of the tools' own documentation: Suricata's EVE (flow and netflow records have the flow's times; all
 * others the packet's), what tshark -T ek writes (whole packets, or -e fields, which are arrays; all values are strings), and
 * Zeek's JSON logs, whose members have dots in their names.
 */

#include "client/fields.h"

#include <ctype.h>
#include <math.h>
#include <time.h>

#include "common/endpoint.h"

static const char *const field_names[FIELD_COUNT] = {
	[FIELD_TIME] = "time",
	[FIELD_START] = "start",
	[FIELD_END] = "end",
	[FIELD_PROTO] = "proto",
	[FIELD_SRC] = "src",
	[FIELD_SPORT] = "sport",
	[FIELD_DST] = "dst",
	[FIELD_DPORT] = "dport",
};

static const struct {
	const char *name, *path[FIELD_COUNT];
} presets[] = {
	{"eve",
		{
			[FIELD_TIME] = "timestamp",
			[FIELD_START] = "flow.start|netflow.start",
			[FIELD_END] = "flow.end|netflow.end",
			[FIELD_PROTO] = "proto",
			[FIELD_SRC] = "src_ip",
			[FIELD_SPORT] = "src_port",
			[FIELD_DST] = "dest_ip",
			[FIELD_DPORT] = "dest_port",
		}},
	{"ek",
		{
			[FIELD_TIME] =
				"layers.frame.frame_frame_time_epoch|layers.frame_time_epoch|timestamp",
			[FIELD_PROTO] =
				"layers.tcp|layers.udp|layers.udplite|layers.ip.ip_ip_proto|"
				"layers.ipv6.ipv6_ipv6_nxt|layers.ip_proto|layers.ipv6_nxt",
			[FIELD_SRC] = "layers.ip.ip_ip_src|layers.ipv6.ipv6_ipv6_src|layers.ip_src|"
				      "layers.ipv6_src",
			[FIELD_SPORT] = "layers.tcp.tcp_tcp_srcport|layers.udp.udp_udp_srcport|"
					"layers.tcp_srcport|layers.udp_srcport",
			[FIELD_DST] = "layers.ip.ip_ip_dst|layers.ipv6.ipv6_ipv6_dst|layers.ip_dst|"
				      "layers.ipv6_dst",
			[FIELD_DPORT] = "layers.tcp.tcp_tcp_dstport|layers.udp.udp_udp_dstport|"
					"layers.tcp_dstport|layers.udp_dstport",
		}},
	{"zeek",
		{
			[FIELD_TIME] = "ts",
			[FIELD_PROTO] = "proto",
			[FIELD_SRC] = "id.orig_h",
			[FIELD_SPORT] = "id.orig_p",
			[FIELD_DST] = "id.resp_h",
			[FIELD_DPORT] = "id.resp_p",
		}},
};

static bool take_preset(const char *word, struct fields *f)
{
	for (size_t i = 0; i < ELEMENTSOF(presets); i++)
		if (streq(word, presets[i].name)) {
			memcpy(f->path, presets[i].path, sizeof(f->path));
			return true;
		}
	return false;
}

static bool take_field(char *word, struct fields *f)
{
	char *equals = strchr(word, '=');

	if (!equals)
		return false;
	for (size_t i = 0; i < FIELD_COUNT; i++)
		if (strlen(field_names[i]) == (size_t)(equals - word) &&
			strncmp(word, field_names[i], (size_t)(equals - word)) == 0) {
			f->path[i] = equals[1] != '\0' ? equals + 1 : NULL;
			return true;
		}
	return false;
}

int fields_parse(const char *text, struct fields *ret, const char **ret_wrong)
{
	struct fields f = {.text = strdup(text)};
	char *save = NULL, *word = f.text;
	const char *wrong;

	if (!f.text)
		return -ENOMEM;
	(void)take_preset("eve", &f);
	for (word = strtok_r(f.text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if ((word == f.text && take_preset(word, &f)) || take_field(word, &f))
			continue;
		wrong = text + (word - f.text);
		free(f.text);
		*ret_wrong = wrong;
		return -EINVAL;
	}
	*ret = f;
	return 0;
}

void fields_done(struct fields *f)
{
	free(f->text);
	*f = (struct fields){0};
}

/* A member whose name has so many bytes. */
static const json_t *member(const json_t *object, const char *name, size_t length)
{
	char key[128];

	if (length >= sizeof(key))
		return NULL;
	memcpy(key, name, length);
	key[length] = '\0';
	return json_object_get(object, key);
}

/* Follows one path; "id.orig_h" is a member of that name, or a member of a member. */
static const json_t *follow(const json_t *object, const char *path, size_t length)
{
	const json_t *found = member(object, path, length);

	for (size_t dot = 0; dot < length && !found; dot++) {
		const json_t *inner = path[dot] == '.' ? member(object, path, dot) : NULL;

		if (inner)
			found = follow(inner, path + dot + 1, length - dot - 1);
	}
	return found;
}

/* The value, and the alternative that led to it. */
static const json_t *find(
	const char *paths, const json_t *record, const char **ret_path, size_t *ret_length)
{
	for (const char *path = paths; path; path += strcspn(path, "|") + 1) {
		size_t length = strcspn(path, "|");
		const json_t *found = follow(record, path, length);

		if (json_is_array(found))
			found = json_array_get(found, 0);
		if (found && !json_is_null(found)) {
			*ret_path = path;
			*ret_length = length;
			return found;
		}
		if (path[length] == '\0')
			return NULL;
	}
	return NULL;
}

const json_t *fields_find(const struct fields *f, enum field field, const json_t *record)
{
	const char *path;
	size_t length;

	return find(f->path[field], record, &path, &length);
}

/* Exactly so many digits. */
static bool take_digits(const char **text, size_t count, int *ret)
{
	int value = 0;

	for (size_t i = 0; i < count; i++, (*text)++) {
		if (!isdigit((unsigned char)**text))
			return false;
		value = value * 10 + (**text - '0');
	}
	*ret = value;
	return true;
}

/* ".123456789" as microseconds, cut; nothing is 0. */
static usec_t take_fraction(const char **text)
{
	usec_t value = 0, unit = USEC_PER_SEC / 10;

	if (**text != '.' && **text != ',')
		return 0;
	for ((*text)++; isdigit((unsigned char)**text); (*text)++, unit /= 10)
		value += (usec_t)(**text - '0') * unit;
	return value;
}

/* "Z", "+0100", "+01:00", or nothing: *ret_local. */
static bool take_zone(const char *text, int *ret_seconds, bool *ret_local)
{
	int hours, minutes, sign = *text == '-' ? -1 : 1;

	*ret_local = *text == '\0';
	*ret_seconds = 0;
	if (*text == '\0' || streq(text, "Z"))
		return true;
	if (*text != '+' && *text != '-')
		return false;
	text++;
	if (!take_digits(&text, 2, &hours))
		return false;
	if (*text == ':')
		text++;
	if (!take_digits(&text, 2, &minutes) || *text != '\0')
		return false;
	*ret_seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

static int parse_date(const char *text, usec_t *ret)
{
	struct tm tm = {.tm_isdst = -1};
	int zone;
	bool local;
	usec_t fraction;
	time_t seconds;

	if (!take_digits(&text, 4, &tm.tm_year) || *text++ != '-' ||
		!take_digits(&text, 2, &tm.tm_mon) || *text++ != '-' ||
		!take_digits(&text, 2, &tm.tm_mday) || (*text != 'T' && *text != ' '))
		return -EINVAL;
	text++;
	if (!take_digits(&text, 2, &tm.tm_hour) || *text++ != ':' ||
		!take_digits(&text, 2, &tm.tm_min) || *text++ != ':' ||
		!take_digits(&text, 2, &tm.tm_sec))
		return -EINVAL;
	fraction = take_fraction(&text);
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
		tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 ||
		!take_zone(text, &zone, &local))
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	seconds = local ? mktime(&tm) : timegm(&tm) - zone;
	if (seconds < 0)
		return -EINVAL;
	*ret = (usec_t)seconds * USEC_PER_SEC + fraction;
	return 0;
}

/* By its size: 1e11 seconds are 3000 years from now, 1e11 milliseconds are of 1973. */
static int scale(double value, usec_t *ret)
{
	if (!(value >= 0) || value >= 1e20)
		return -EINVAL;
	if (value < 1e11)
		value *= 1e6;
	else if (value < 1e14)
		value *= 1e3;
	else if (value >= 1e17)
		value /= 1e3;
	*ret = (usec_t)value;
	return 0;
}

int fields_parse_time(const char *text, usec_t *ret)
{
	size_t digits = strspn(text, "0123456789");
	const char *rest = text + digits;
	usec_t whole = 0, fraction;

	if (digits == 0 || digits > 19)
		return -EINVAL;
	if (*rest == '-')
		return parse_date(text, ret);
	fraction = take_fraction(&rest);
	if (*rest != '\0')
		return -EINVAL;
	/* not by way of a double, which has no room for nanoseconds */
	for (size_t i = 0; i < digits; i++)
		whole = whole * 10 + (usec_t)(text[i] - '0');
	if (digits <= 11)
		*ret = whole * USEC_PER_SEC + fraction;
	else if (digits <= 14)
		*ret = whole * USEC_PER_MSEC;
	else
		*ret = digits <= 17 ? whole : whole / USEC_PER_MSEC;
	return 0;
}

static int time_of(const json_t *value, usec_t *ret)
{
	usec_t at;
	int r = -EINVAL;

	if (json_is_string(value))
		r = fields_parse_time(json_string_value(value), &at);
	else if (json_is_number(value))
		r = scale(json_number_value(value), &at);
	if (r < 0 || at >= FIELDS_TIME_END)
		return -EINVAL;
	*ret = at;
	return 0;
}

static int port_of(const json_t *value, uint16_t *ret)
{
	double number = json_is_number(value) ? json_number_value(value) : -1;
	const char *text = json_string_value(value);
	char *end = NULL;

	if (text && isdigit((unsigned char)*text)) {
		number = (double)strtoul(text, &end, 10);
		if (*end != '\0')
			return -EINVAL;
	}
	if (!(number >= 0) || number > UINT16_MAX || number != floor(number))
		return -EINVAL;
	*ret = (uint16_t)number;
	return 0;
}

/* A name in any case, a protocol number, or an object of that name. 0 or -EINVAL: it is none that has claims. */
static int protocol_of(const char *path, size_t length, const json_t *value, const char **ret)
{
	static const struct {
		const char *name, *number;
	} protocols[] = {{"tcp", "6"}, {"udp", "17"}, {"udplite", "136"}};
	const char *dot = memrchr(path, '.', length);
	char word[16] = "";
	size_t used;

	if (json_is_object(value)) {
		used = dot ? length - (size_t)(dot + 1 - path) : length;
		snprintf(word, sizeof(word), "%.*s", (int)used, dot ? dot + 1 : path);
	} else if (json_is_string(value)) {
		snprintf(word, sizeof(word), "%s", json_string_value(value));
	} else if (json_is_number(value)) {
		snprintf(word, sizeof(word), "%.0f", json_number_value(value));
	}
	for (size_t i = 0; i < ELEMENTSOF(protocols); i++)
		if (strcasecmp(word, protocols[i].name) == 0 || streq(word, protocols[i].number)) {
			*ret = protocols[i].name;
			return 0;
		}
	return -EINVAL;
}

static bool is_address(const json_t *value)
{
	struct address address;

	return json_is_string(value) && address_parse(json_string_value(value), &address) == 0;
}

static int sighted_ends(const struct fields *f, const json_t *record, struct sighted *ret)
{
	const json_t *source = fields_find(f, FIELD_SRC, record);
	const json_t *destination = fields_find(f, FIELD_DST, record), *protocol;
	const char *path;
	size_t length;

	if (!is_address(source) || !is_address(destination) ||
		port_of(fields_find(f, FIELD_SPORT, record), &ret->source_port) < 0 ||
		port_of(fields_find(f, FIELD_DPORT, record), &ret->destination_port) < 0)
		return -ENODATA;
	ret->source = json_string_value(source);
	ret->destination = json_string_value(destination);
	ret->protocol = NULL;
	protocol = find(f->path[FIELD_PROTO], record, &path, &length);
	if (protocol && protocol_of(path, length, protocol, &ret->protocol) < 0)
		return -ENODATA;
	return 0;
}

int fields_sighted(const struct fields *f, const json_t *record, struct sighted *ret)
{
	usec_t start, end;
	int r = sighted_ends(f, record, ret);

	if (r < 0)
		return r;
	if (time_of(fields_find(f, FIELD_START, record), &start) == 0 &&
		time_of(fields_find(f, FIELD_END, record), &end) == 0 && start <= end) {
		ret->at = start;
		ret->until = end;
		return 0;
	}
	if (time_of(fields_find(f, FIELD_TIME, record), &start) < 0)
		return -ENOTUNIQ;
	ret->at = ret->until = start;
	return 0;
}
