/* SPDX-License-Identifier: MIT */

/* The value of each option, one function an option; the table at the end names them all. */

#include "client/options_private.h"

#include "client/number.h"
#include "client/users.h"
#include "common/claim.h"
#include "common/endpoint.h"

typedef int take_fn(struct options *o, const char *value, bool terminal);

/* `spelt`: the words, for people. */
static int one_of(struct options *o, const char *what, const char *text, const char *spelt,
	const char *const *words, size_t count, size_t *ret)
{
	for (size_t i = 0; i < count; i++)
		if (streq(text, words[i])) {
			*ret = i;
			return 0;
		}
	return options_usage(o, "%s: not %s: %s", what, spelt, text);
}

int options_take_port(struct options *o, const char *text)
{
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);
	char digits[8] = "";
	enum protocol protocol;
	uint64_t port;

	if (length < sizeof(digits))
		memcpy(digits, text, length);
	if (number_parse(digits, 1, UINT16_MAX, &port) < 0)
		return options_usage(o, "not a port (1 to 65535)%s: %s",
			strchr(text, '-') ? "; more of them are a --range" : "", text);
	if (slash) {
		if (protocol_from_name(slash + 1, &protocol) < 0)
			return options_usage(
				o, "not a protocol (tcp, udp, udplite, mptcp): %s", slash + 1);
		if (o->protocol && !streq(o->protocol, protocol_name(protocol)))
			return options_usage(
				o, "one protocol at a time: %s and %s", o->protocol, slash + 1);
		o->protocol = protocol_name(protocol);
	}
	o->ports[o->port_count++] = (uint16_t)port;
	return 0;
}

int options_take_self_test(struct options *o, const char *text)
{
	uint64_t number;

	if (number_parse(text, 1, LIMIT_SELF_TEST, &number) < 0)
		return options_usage(
			o, "--self-test: not a number from 1 to %u: %s", LIMIT_SELF_TEST, text);
	o->self_test = (uint32_t)number;
	return 0;
}

static int parse_address(struct options *o, const char *what, const char *text, char **ret)
{
	char normal[ADDRESS_TEXT_MAX];
	struct address address;
	char *copy;

	if (address_parse(text, &address) < 0)
		return options_usage(o, "%s: not an address: %s", what, text);
	copy = strdup(address_format(&address, normal));
	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

static int take_address(struct options *o, const char *value, _unused_ bool terminal)
{
	return parse_address(o, "--addr", value, &o->address);
}

/* ADDRESS, ADDRESS:PORT (IPv4) or [ADDRESS]:PORT. An IPv6 address has colons of its own, hence the brackets. */
static int take_peer(struct options *o, const char *text, _unused_ bool terminal)
{
	_cleanup_(free_p) char *copy = strdup(text);
	char *address = copy, *port = NULL, *end;
	uint64_t number = 0;

	if (!copy)
		return -ENOMEM;
	if (*copy == '[') {
		address = copy + 1;
		end = strchr(address, ']');
		if (!end || (end[1] != '\0' && end[1] != ':'))
			return options_usage(o, "--peer: not an address: %s", text);
		port = end[1] == ':' ? end + 2 : NULL;
		*end = '\0';
	} else {
		end = strchr(copy, ':');
		if (end && !strchr(end + 1, ':')) {
			port = end + 1;
			*end = '\0';
		}
	}
	if (port && number_parse(port, 1, UINT16_MAX, &number) < 0)
		return options_usage(o, "--peer: not a port: %s", port);
	o->peer_port = (uint16_t)number;
	return parse_address(o, "--peer", address, &o->peer);
}

static int take_range(struct options *o, const char *text, _unused_ bool terminal)
{
	uint64_t low, high;
	char digits[8] = "";
	const char *dash = strchr(text, '-');

	o->range = text;
	if (streq(text, "iana") || streq(text, "kernel"))
		return 0;
	if (dash && (size_t)(dash - text) < sizeof(digits))
		memcpy(digits, text, (size_t)(dash - text));
	if (!dash || number_parse(digits, 1, UINT16_MAX, &low) < 0 ||
		number_parse(dash + 1, low, UINT16_MAX, &high) < 0)
		return options_usage(o, "--range: not iana, kernel or LOW-HIGH: %s", text);
	return 0;
}

static int take_app(struct options *o, const char *value, _unused_ bool terminal)
{
	o->app = value;
	return 0;
}

static int take_unit(struct options *o, const char *value, _unused_ bool terminal)
{
	o->unit = value;
	return 0;
}

static int take_netns(struct options *o, const char *value, _unused_ bool terminal)
{
	o->netns = value;
	return 0;
}

static int take_user(struct options *o, const char *value, _unused_ bool terminal)
{
	uint32_t uid;

	if (users_uid(value, &uid) < 0)
		return options_usage(o, "--user: no such user: %s", value);
	o->uid = uid;
	return 0;
}

static int take_pid(struct options *o, const char *value, _unused_ bool terminal)
{
	uint64_t number;

	if (number_parse(value, 1, INT32_MAX, &number) < 0)
		return options_usage(o, "--pid: not a process id: %s", value);
	o->pid = (int64_t)number;
	return 0;
}

static int take_protocol(struct options *o, const char *value, _unused_ bool terminal)
{
	enum protocol protocol;

	if (protocol_from_name(value, &protocol) < 0)
		return options_usage(o, "--proto: not tcp, udp, udplite or mptcp: %s", value);
	o->protocol = value;
	return 0;
}

static int take_role(struct options *o, const char *value, _unused_ bool terminal)
{
	enum role role;

	if (role_from_name(value, &role) < 0)
		return options_usage(
			o, "--role: not connected, listening, bound or accepted: %s", value);
	o->role = value;
	return 0;
}

static int take_limit(struct options *o, const char *value, _unused_ bool terminal)
{
	uint64_t number;

	if (number_parse(value, 1, LIMIT_CLAIMS, &number) < 0)
		return options_usage(
			o, "--limit: not a number from 1 to %u: %s", LIMIT_CLAIMS, value);
	o->limit = (uint32_t)number;
	return 0;
}

static int take_by(struct options *o, const char *value, _unused_ bool terminal)
{
	static const char *const words[] = {"program", "unit", "user", "port", "hour", "netns"};
	size_t word;

	o->by = value;
	return one_of(o, "--by", value, "program, unit, user, port, hour or netns", words,
		ELEMENTSOF(words), &word);
}

static int take_fields(struct options *o, const char *value, _unused_ bool terminal)
{
	o->fields = value;
	return 0;
}

static int take_format(struct options *o, const char *value, _unused_ bool terminal)
{
	static const char *const words[] = {"ndjson", "csv", "sqlite"};
	size_t word;

	o->format = value;
	return one_of(
		o, "--format", value, "ndjson, csv or sqlite", words, ELEMENTSOF(words), &word);
}

static int take_to(struct options *o, const char *value, _unused_ bool terminal)
{
	o->output_path = value;
	return 0;
}

static int take_cursor(struct options *o, const char *value, _unused_ bool terminal)
{
	o->cursor = value;
	return 0;
}

static int take_cursor_file(struct options *o, const char *value, _unused_ bool terminal)
{
	o->cursor_path = value;
	return 0;
}

static int take_open(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->open = true;
	return 0;
}

static int take_json(struct options *o, const char *value, _unused_ bool terminal)
{
	static const char *const words[] = {"off", "short", "pretty"};
	static const enum output outputs[] = {OUTPUT_TABLE, OUTPUT_JSON_SHORT, OUTPUT_JSON_PRETTY};
	size_t word = 0;
	int r = one_of(o, "--json", value, "pretty, short or off", words, ELEMENTSOF(words), &word);

	if (r == 0)
		o->output = outputs[word];
	return r;
}

static int take_json_auto(struct options *o, _unused_ const char *value, bool terminal)
{
	o->output = terminal ? OUTPUT_JSON_PRETTY : OUTPUT_JSON_SHORT;
	return 0;
}

static int take_csv(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->output = OUTPUT_CSV;
	return 0;
}

static int take_field(struct options *o, const char *value, _unused_ bool terminal)
{
	o->output = OUTPUT_FIELD;
	o->field = value;
	return 0;
}

static int take_color(struct options *o, const char *value, _unused_ bool terminal)
{
	static const char *const words[] = {"auto", "always", "never"};
	size_t word = 0;
	int r = one_of(
		o, "--color", value, "auto, always or never", words, ELEMENTSOF(words), &word);

	if (r == 0)
		o->color = (enum color)word;
	return r;
}

static int take_columns(struct options *o, const char *text, _unused_ bool terminal)
{
	char *save = NULL;

	free(o->columns_text);
	o->column_count = 0;
	o->columns_text = strdup(text);
	if (!o->columns_text)
		return -ENOMEM;
	for (char *name = strtok_r(o->columns_text, ",", &save); name;
		name = strtok_r(NULL, ",", &save)) {
		if (o->column_count == OPTION_COLUMNS_MAX)
			return options_usage(o, "--columns: more than %d", OPTION_COLUMNS_MAX);
		o->columns[o->column_count++] = name;
	}
	return o->column_count > 0 ? 0 : options_usage(o, "--columns: names none");
}

static int take_no_legend(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->no_legend = true;
	return 0;
}

static int take_no_pager(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->no_pager = true;
	return 0;
}

static int take_utc(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->utc = true;
	return 0;
}

static int take_strict(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->strict = true;
	return 0;
}

static int take_socket(struct options *o, const char *value, _unused_ bool terminal)
{
	o->socket_path = value;
	o->socket_given = true;
	return 0;
}

static int take_bound_for(struct options *o, const char *value, _unused_ bool terminal)
{
	if (when_parse_span(value, &o->bound_for) < 0)
		return options_usage(o, "--bound-for: not a span of time: %s", value);
	return 0;
}

static int take_window_span(struct options *o, const char *value, _unused_ bool terminal)
{
	if (when_parse_span(value, &o->window_span) < 0 || o->window_span == 0)
		return options_usage(o, "--window: not a span of time: %s", value);
	return 0;
}

static int take_new(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->only_new = true;
	return 0;
}

static int take_sysctl(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->sysctl = true;
	return 0;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), wanted = strlen(end);

	return length > wanted && streq(text + length - wanted, end);
}

/* The name says in which form. */
static int take_output(struct options *o, const char *value, _unused_ bool terminal)
{
	o->report_path = value;
	o->report_svg = ends_with(value, ".svg");
	return o->report_svg || ends_with(value, ".html") || ends_with(value, ".htm")
		       ? 0
		       : options_usage(o, "--output: neither .html nor .svg: %s", value);
}

static int take_config(struct options *o, const char *value, _unused_ bool terminal)
{
	o->config_path = value;
	return 0;
}

static int take_self_test(struct options *o, _unused_ const char *value, _unused_ bool terminal)
{
	o->self_test = SELF_TEST_DEFAULT;
	return 0;
}

/*
 * A destination of ssh. What is refused is what ssh could take for an option, or ssh_config's commands (%h) could hand to
 * a shell; a comma, since several hosts may come to mean something.
 */
static int take_host(struct options *o, const char *text, _unused_ bool terminal)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-@:/[]%+";

	if (strchr(text, ','))
		return options_usage(o, "--host: one host at a time: %s", text);
	if (*text == '\0' || *text == '-' || text[strspn(text, allowed)] != '\0')
		return options_usage(o, "--host: not a host that ssh may be given: %s", text);
	o->host = text;
	return 0;
}

/* NULL: taken later, or the option only says that it is there. */
static take_fn *const takes[OPTION_COUNT] = {
	/* which daemon */
	[OPTION_SOCKET] = take_socket,
	[OPTION_HOST] = take_host,
	/* which claims */
	[OPTION_APP] = take_app,
	[OPTION_UNIT] = take_unit,
	[OPTION_USER] = take_user,
	[OPTION_PID] = take_pid,
	[OPTION_PROTO] = take_protocol,
	[OPTION_ADDR] = take_address,
	[OPTION_PEER] = take_peer,
	[OPTION_NETNS] = take_netns,
	[OPTION_ROLE] = take_role,
	[OPTION_RANGE] = take_range,
	[OPTION_LIMIT] = take_limit,
	[OPTION_FIELDS] = take_fields,
	[OPTION_FORMAT] = take_format,
	[OPTION_TO] = take_to,
	[OPTION_CURSOR] = take_cursor,
	[OPTION_CURSOR_FILE] = take_cursor_file,
	[OPTION_OPEN] = take_open,
	[OPTION_BY] = take_by,
	/* of single verbs */
	[OPTION_BOUND_FOR] = take_bound_for,
	[OPTION_SYSCTL] = take_sysctl,
	[OPTION_OUTPUT] = take_output,
	[OPTION_WINDOW] = take_window_span,
	[OPTION_NEW] = take_new,
	[OPTION_CONFIG] = take_config,
	[OPTION_SELF_TEST] = take_self_test,
	/* in which form */
	[OPTION_JSON] = take_json,
	[OPTION_JSON_AUTO] = take_json_auto,
	[OPTION_CSV] = take_csv,
	[OPTION_FIELD] = take_field,
	[OPTION_COLUMNS] = take_columns,
	[OPTION_NO_LEGEND] = take_no_legend,
	[OPTION_NO_PAGER] = take_no_pager,
	[OPTION_COLOR] = take_color,
	[OPTION_UTC] = take_utc,
	[OPTION_STRICT] = take_strict,
};

int options_take(struct options *o, enum option_id id, const char *value, bool terminal)
{
	return takes[id] ? takes[id](o, value, terminal) : 0;
}
