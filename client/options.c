/* SPDX-License-Identifier: MIT */

/*
 * The parser over the tables of client/grammar.c. An option that a verb cannot heed is refused, never ignored: an
 * answer to another question than the one asked is a wrong answer.
 */

#include "client/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <strings.h>
#include <time.h>

#include "client/grammar.h"
#include "client/number.h"
#include "client/users.h"
#include "common/claim.h"
#include "common/endpoint.h"
#include "common/escape.h"

/* Keeps the complaint for the caller to print. */
static int _printf_(2, 3) usage(struct options *o, const char *format, ...)
{
	va_list arguments;
	int r;

	free(o->error);
	va_start(arguments, format);
	r = vasprintf(&o->error, format, arguments);
	va_end(arguments);
	if (r < 0) {
		o->error = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

static int one_of(struct options *o, const char *what, const char *text, const char *const *words,
	size_t count, size_t *ret)
{
	for (size_t i = 0; i < count; i++)
		if (streq(text, words[i])) {
			*ret = i;
			return 0;
		}
	return usage(o, "%s: not one of its words: %s", what, text);
}

static int parse_port(struct options *o, const char *text)
{
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);
	char digits[8] = "";
	enum protocol protocol;
	uint64_t port;

	if (length < sizeof(digits))
		memcpy(digits, text, length);
	if (number_parse(digits, 1, UINT16_MAX, &port) < 0)
		return usage(o, "not a port (1 to 65535): %s", text);
	if (slash) {
		if (protocol_from_name(slash + 1, &protocol) < 0)
			return usage(o, "not a protocol (tcp, udp, udplite, mptcp): %s", slash + 1);
		if (o->protocol && !streq(o->protocol, protocol_name(protocol)))
			return usage(
				o, "one protocol at a time: %s and %s", o->protocol, slash + 1);
		o->protocol = protocol_name(protocol);
	}
	o->ports[o->port_count++] = (uint16_t)port;
	return 0;
}

static int parse_address(struct options *o, const char *what, const char *text, char **ret)
{
	char normal[ADDRESS_TEXT_MAX];
	struct address address;
	char *copy;

	if (address_parse(text, &address) < 0)
		return usage(o, "%s: not an address: %s", what, text);
	copy = strdup(address_format(&address, normal));
	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

/* ADDRESS, ADDRESS:PORT (IPv4) or [ADDRESS]:PORT. An IPv6 address has colons of its own, hence the brackets. */
static int parse_peer(struct options *o, const char *text)
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
			return usage(o, "--peer: not an address: %s", text);
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
		return usage(o, "--peer: not a port: %s", port);
	o->peer_port = (uint16_t)number;
	return parse_address(o, "--peer", address, &o->peer);
}

static int parse_since(struct options *o, const char *text, usec_t now)
{
	struct window stretch;

	if (when_parse_stretch(text, now, &stretch) == 0) {
		o->since = stretch.from;
		if (o->until == USEC_UNSET)
			o->until = stretch.until;
		return 0;
	}
	return when_parse_moment(text, now, &o->since) < 0
		       ? usage(o, "--since: not a time: %s", text)
		       : 0;
}

static int parse_columns(struct options *o, const char *text)
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
			return usage(o, "--columns: more than %d", OPTION_COLUMNS_MAX);
		o->columns[o->column_count++] = name;
	}
	return o->column_count > 0 ? 0 : usage(o, "--columns: names none");
}

static int parse_range(struct options *o, const char *text)
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
		return usage(o, "--range: not iana, kernel or LOW-HIGH: %s", text);
	return 0;
}

static int parse_filter(struct options *o, enum option_id id, const char *value)
{
	enum protocol protocol;
	enum role role;
	uint64_t number;
	uint32_t uid;

	switch ((int)id) {
	case OPTION_APP:
		o->app = value;
		return 0;
	case OPTION_UNIT:
		o->unit = value;
		return 0;
	case OPTION_NETNS:
		o->netns = value;
		return 0;
	case OPTION_RANGE:
		return parse_range(o, value);
	case OPTION_ADDR:
		return parse_address(o, "--addr", value, &o->address);
	case OPTION_PEER:
		return parse_peer(o, value);
	case OPTION_USER:
		if (users_uid(value, &uid) < 0)
			return usage(o, "--user: no such user: %s", value);
		o->uid = uid;
		return 0;
	case OPTION_PID:
		if (number_parse(value, 1, INT32_MAX, &number) < 0)
			return usage(o, "--pid: not a process id: %s", value);
		o->pid = (int64_t)number;
		return 0;
	case OPTION_PROTO:
		if (protocol_from_name(value, &protocol) < 0)
			return usage(o, "--proto: not tcp, udp, udplite or mptcp: %s", value);
		o->protocol = value;
		return 0;
	case OPTION_ROLE:
		if (role_from_name(value, &role) < 0)
			return usage(o, "--role: not connected, listening, bound or accepted: %s",
				value);
		o->role = value;
		return 0;
	default:
		return usage(o, "--%s is no filter", grammar_options[id].name);
	}
}

static int parse_output(struct options *o, enum option_id id, const char *value, bool terminal)
{
	static const char *const json_words[] = {"off", "short", "pretty"};
	static const enum output json_outputs[] = {
		OUTPUT_TABLE, OUTPUT_JSON_SHORT, OUTPUT_JSON_PRETTY};
	static const char *const color_words[] = {"auto", "always", "never"};
	size_t word = 0;
	int r;

	switch ((int)id) {
	case OPTION_JSON:
		r = one_of(o, "--json", value, json_words, ELEMENTSOF(json_words), &word);
		if (r == 0)
			o->output = json_outputs[word];
		return r;
	case OPTION_JSON_AUTO:
		o->output = terminal ? OUTPUT_JSON_PRETTY : OUTPUT_JSON_SHORT;
		return 0;
	case OPTION_CSV:
		o->output = OUTPUT_CSV;
		return 0;
	case OPTION_FIELD:
		o->output = OUTPUT_FIELD;
		o->field = value;
		return 0;
	case OPTION_COLOR:
		r = one_of(o, "--color", value, color_words, ELEMENTSOF(color_words), &word);
		if (r == 0)
			o->color = (enum color)word;
		return r;
	default:
		return usage(o, "--%s is no output", grammar_options[id].name);
	}
}

/*
 * A destination of ssh. What is refused is what ssh could take for an option, or ssh_config's commands (%h) could hand to
 * a shell; a comma, since several hosts may come to mean something.
 */
static int parse_host(struct options *o, const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-@:/[]%+";

	if (strchr(text, ','))
		return usage(o, "--host: one host at a time: %s", text);
	if (*text == '\0' || *text == '-' || text[strspn(text, allowed)] != '\0')
		return usage(o, "--host: not a host that ssh may be given: %s", text);
	o->host = text;
	return 0;
}

/* Of times, only what does not depend on another option: --utc may come last and changes what a time means. */
static int parse_option(struct options *o, enum option_id id, const char *value, bool terminal)
{
	uint64_t number;

	switch (id) {
	case OPTION_SOCKET:
		o->socket_path = value;
		o->socket_given = true;
		return 0;
	case OPTION_HOST:
		return parse_host(o, value);
	case OPTION_LIMIT:
		if (number_parse(value, 1, LIMIT_CLAIMS, &number) < 0)
			return usage(
				o, "--limit: not a number from 1 to %u: %s", LIMIT_CLAIMS, value);
		o->limit = (uint32_t)number;
		return 0;
	case OPTION_APP:
	case OPTION_UNIT:
	case OPTION_USER:
	case OPTION_PID:
	case OPTION_PROTO:
	case OPTION_ADDR:
	case OPTION_PEER:
	case OPTION_NETNS:
	case OPTION_ROLE:
	case OPTION_RANGE:
		return parse_filter(o, id, value);
	case OPTION_CONFIG:
		o->config_path = value;
		return 0;
	case OPTION_JSON:
	case OPTION_JSON_AUTO:
	case OPTION_CSV:
	case OPTION_FIELD:
	case OPTION_COLOR:
		return parse_output(o, id, value, terminal);
	case OPTION_COLUMNS:
		return parse_columns(o, value);
	case OPTION_NO_LEGEND:
		o->no_legend = true;
		return 0;
	case OPTION_NO_PAGER:
		o->no_pager = true;
		return 0;
	case OPTION_UTC:
		o->utc = true;
		return 0;
	case OPTION_STRICT:
		o->strict = true;
		return 0;
	case OPTION_AT:
	case OPTION_SINCE:
	case OPTION_UNTIL:
	case OPTION_OVERNIGHT:
	case OPTION_HELP:
	case OPTION_VERSION:
	case OPTION_COUNT:
		return 0;
	}
	return 0;
}

/* What getopt_long found: for each option whether it was given, and its last value. */
struct given {
	bool is[OPTION_COUNT];
	const char *value[OPTION_COUNT];
};

static int complain_getopt(struct options *o, int code, char **argv)
{
	if (code == ':')
		return usage(o, "%s needs a value", argv[optind - 1]);
	if (optopt > 0 && optopt < 256 && optopt >= OPTION_COUNT)
		return usage(o, "there is no option -%c", optopt);
	return usage(o, "there is no option %s, or it takes no value", argv[optind - 1]);
}

/* Letters are above OPTION_COUNT, so that both can be the code that getopt_long returns. */
_Static_assert(OPTION_COUNT < 'A', "an option's number is never a letter");

static int scan(struct options *o, int argc, char **argv, bool terminal, struct given *ret)
{
	struct option longs[OPTION_COUNT + 1] = {0};
	char shorts[2 * OPTION_COUNT + 2] = ":";
	size_t long_count = 0, short_length = 1;
	int code, r;

	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct grammar_option *row = &grammar_options[i];

		if (row->name)
			longs[long_count++] =
				(struct option){row->name, row->argument != NULL, NULL, i};
		if (row->letter) {
			shorts[short_length++] = row->letter;
			if (row->argument)
				shorts[short_length++] = ':';
		}
	}
	opterr = 0;
	optind = 0;
	while ((code = getopt_long(argc, argv, shorts, longs, NULL)) >= 0) {
		int id = code;

		if (code == '?' || code == ':')
			return complain_getopt(o, code, argv);
		for (int i = 0; code >= OPTION_COUNT && i < OPTION_COUNT; i++)
			if (grammar_options[i].letter == (char)code)
				id = i;
		ret->is[id] = true;
		ret->value[id] = optarg;
		r = parse_option(o, (enum option_id)id, optarg, terminal);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The words that are no options: a verb or a port first, then what the verb takes. */
static int parse_words(struct options *o, int argc, char **argv)
{
	const struct grammar_verb *verb;
	int next = optind, r;

	o->verb = VERB_STATUS;
	if (next < argc && argv[next][0] >= '0' && argv[next][0] <= '9')
		o->verb = VERB_EXPLAIN;
	else if (next < argc && grammar_find_verb(argv[next], &o->verb) == 0)
		next++;
	else if (next < argc)
		return usage(o, "there is no verb %s", argv[next]);

	verb = &grammar_verbs[o->verb];
	if (o->verb == VERB_HELP && next < argc)
		return grammar_find_verb(argv[next], &o->help_on) < 0
			       ? usage(o, "there is no verb %s", argv[next])
			       : 0;
	for (; next < argc; next++) {
		if (o->port_count == verb->ports_max)
			return usage(o, "%s: one argument too many: %s", verb->name, argv[next]);
		r = parse_port(o, argv[next]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The last 18:00 to 09:00; under way before 09:00, and then it ends now. */
static int overnight(struct options *o, usec_t now)
{
	usec_t from, until;

	if (when_parse_moment("yesterday 18:00", now, &from) < 0 ||
		when_parse_moment("today 09:00", now, &until) < 0)
		return usage(o,
			"--overnight: the clock is changed at 18:00 or 09:00; use --since and --until");
	o->since = from;
	o->until = MIN(until, now);
	return 0;
}

static int parse_times(struct options *o, const struct given *given, usec_t now)
{
	int r;

	if (given->is[OPTION_AT] && (given->is[OPTION_SINCE] || given->is[OPTION_UNTIL]))
		return usage(o, "--at is one moment, --since and --until are a stretch: not both");
	if (given->is[OPTION_OVERNIGHT] && (given->is[OPTION_SINCE] || given->is[OPTION_UNTIL]))
		return usage(o, "--overnight is a stretch already: not with --since or --until");
	if (given->is[OPTION_AT]) {
		o->at_count = when_parse(given->value[OPTION_AT], now, o->at);
		if (o->at_count < 0)
			return usage(o, "--at: not a time: %s", given->value[OPTION_AT]);
	}
	if (given->is[OPTION_UNTIL] &&
		when_parse_moment(given->value[OPTION_UNTIL], now, &o->until) < 0)
		return usage(o, "--until: not a time: %s", given->value[OPTION_UNTIL]);
	if (given->is[OPTION_SINCE]) {
		r = parse_since(o, given->value[OPTION_SINCE], now);
		if (r < 0)
			return r;
	}
	if (o->verb == VERB_AUDIT && o->since == USEC_UNSET && o->until == USEC_UNSET) {
		r = overnight(o, now);
		if (r < 0)
			return r;
	}
	/* of a local time that happens twice, the second may still be to come */
	if (o->at_count == 2 && o->at[1].from > now)
		o->at_count = 1;
	if (o->at_count > 0 && o->at[0].from > now)
		return usage(o, "--at: that is still to come: %s", given->value[OPTION_AT]);
	if (o->since != USEC_UNSET && o->since > now)
		return usage(o, "--since: that is still to come: %s", given->value[OPTION_SINCE]);
	if (o->since != USEC_UNSET && o->until != USEC_UNSET && o->since >= o->until)
		return usage(o, "the stretch ends before it begins");
	if (o->verb == VERB_AUDIT && o->since == USEC_UNSET)
		return usage(o, "audit: --until needs a --since");
	return 0;
}

static int check_groups(struct options *o, const struct given *given)
{
	const struct grammar_verb *verb = &grammar_verbs[o->verb];

	for (int i = 0; i < OPTION_COUNT; i++)
		if (given->is[i] && !(grammar_options[i].groups & verb->groups))
			return usage(
				o, "--%s does not go with %s", grammar_options[i].name, verb->name);
	if (o->port_count < verb->ports_min)
		return usage(o, "%s: which port?", verb->name);
	return 0;
}

/* What another host cannot heed: our path, and our names of users. */
static int check_host(struct options *o, const struct given *given)
{
	uint64_t uid;

	if (!o->host)
		return 0;
	if (given->is[OPTION_SOCKET])
		return usage(o, "--socket is a path of this host: not with --host");
	if (given->is[OPTION_USER] &&
		number_parse(given->value[OPTION_USER], 0, UINT32_MAX - 1, &uid) < 0)
		return usage(o, "--user: with --host by number, since names are of this host: %s",
			given->value[OPTION_USER]);
	if (given->is[OPTION_USER])
		o->uid = (int64_t)uid;
	return 0;
}

/* With $SYSTEMD_VARLINK_LISTEN we are asked to serve: that is no question, and takes no other option. */
static int parse_listen(
	struct options *o, const char *listen, int argc, char **argv, const struct given *given)
{
	if (!streq(listen, "-"))
		return usage(o,
			"SYSTEMD_VARLINK_LISTEN: only - (standard input and output) is served: %s",
			listen);
	if (optind < argc)
		return usage(
			o, "with SYSTEMD_VARLINK_LISTEN there is nothing to ask: %s", argv[optind]);
	for (int i = 0; i < OPTION_COUNT; i++)
		if (given->is[i] && i != OPTION_SOCKET)
			return usage(o, "--%s does not go with SYSTEMD_VARLINK_LISTEN",
				grammar_options[i].name);
	o->bridge = true;
	return 0;
}

int options_parse(int argc, char **argv, usec_t now, bool terminal, struct options *ret)
{
	const char *from_environment = getenv("PORTLEDGER_SOCKET");
	const char *listen = getenv("SYSTEMD_VARLINK_LISTEN");
	struct given given = {0};
	int r;

	*ret = (struct options){
		.help_on = VERB_COUNT,
		.socket_path = SOCKET_DEFAULT,
		.since = USEC_UNSET,
		.until = USEC_UNSET,
		.uid = -1,
		.pid = -1,
	};
	if (from_environment && *from_environment != '\0') {
		ret->socket_path = from_environment;
		ret->socket_given = true;
	}
	r = scan(ret, argc, argv, terminal, &given);
	if (r < 0)
		return r;
	if (listen && *listen != '\0')
		return parse_listen(ret, listen, argc, argv, &given);
	if (ret->utc) {
		if (setenv("TZ", "UTC", 1) < 0)
			return -ENOMEM;
		tzset();
	}
	r = parse_words(ret, argc, argv);
	if (r < 0)
		return r;
	if (given.is[OPTION_HELP] || given.is[OPTION_VERSION]) {
		if (given.is[OPTION_HELP] && optind < argc)
			ret->help_on = ret->verb;
		ret->verb = given.is[OPTION_HELP] ? VERB_HELP : VERB_VERSION;
		return 0;
	}
	r = check_groups(ret, &given);
	if (r == 0)
		r = check_host(ret, &given);
	return r < 0 ? r : parse_times(ret, &given, now);
}

void options_done(struct options *o)
{
	free(o->address);
	free(o->peer);
	free(o->columns_text);
	free(o->error);
	*o = (struct options){0};
}

/* Sets a member, but for a value that the option does not have. Takes `value`; -ENOMEM. */
static int filter_set(json_t *filter, const char *name, bool given, json_t *value)
{
	if (!given) {
		json_decref(value);
		return 0;
	}
	return json_object_set_new(filter, name, value) < 0 ? -ENOMEM : 0;
}

/* A name as the ledger stores it: as it is shown, or as raw bytes. NULL: not given, or no memory. */
static json_t *stored_name(const char *text)
{
	_cleanup_(free_p) char *stored = text ? escape_terminal(text) : NULL;

	return json_string(stored);
}

json_t *options_filter(const struct options *o)
{
	json_t *filter = json_object(), *ports = json_array();

	for (size_t i = 0; i < o->port_count; i++)
		if (json_array_append_new(ports, json_integer(o->ports[i])) < 0) {
			json_decref(ports);
			ports = NULL;
		}
	if (filter_set(filter, "ports", o->port_count > 0 || !ports, ports) < 0 ||
		filter_set(filter, "protocol", o->protocol, json_string(o->protocol)) < 0 ||
		filter_set(filter, "app", o->app, stored_name(o->app)) < 0 ||
		filter_set(filter, "unit", o->unit, stored_name(o->unit)) < 0 ||
		filter_set(filter, "uid", o->uid >= 0, json_integer(o->uid)) < 0 ||
		filter_set(filter, "pid", o->pid >= 0, json_integer(o->pid)) < 0 ||
		filter_set(filter, "address", o->address, json_string(o->address)) < 0 ||
		filter_set(filter, "peer", o->peer, json_string(o->peer)) < 0 ||
		filter_set(filter, "peer_port", o->peer_port, json_integer(o->peer_port)) < 0 ||
		filter_set(filter, "netns", o->netns, stored_name(o->netns)) < 0 ||
		filter_set(filter, "role", o->role, json_string(o->role)) < 0 ||
		filter_set(filter, "range", o->range, json_string(o->range)) < 0) {
		json_decref(filter);
		return NULL;
	}
	return filter;
}
