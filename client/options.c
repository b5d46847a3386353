/* SPDX-License-Identifier: MIT */

/*
 * The parser over the tables of client/grammar.c. An option that a verb cannot heed is refused, never ignored: an
 * answer to another question than the one asked is a wrong answer.
 */

#include "client/options_private.h"

#include <getopt.h>
#include <stdarg.h>
#include <time.h>

#include "client/near.h"
#include "client/number.h"

int options_usage(struct options *o, const char *format, ...)
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

static int complain_verb(struct options *o, const char *word)
{
	struct near near = NEAR(word);

	for (int i = 0; i < VERB_COUNT; i++)
		near_try(&near, grammar_verbs[i].name);
	return options_usage(o, "there is no verb %s%s%s%s", word,
		near.best ? "; did you mean " : "", near.best ? near.best : "",
		near.best ? "?" : "");
}

/* "--csv=1" is an option that takes no value; "--sicne=1" is none. */
static int complain_long(struct options *o, const char *word)
{
	_cleanup_(free_p) char *name = strndup(word, strcspn(word, "="));
	struct near near;

	if (!name)
		return -ENOMEM;
	near = NEAR(name + strspn(name, "-"));
	for (int i = 0; i < OPTION_COUNT; i++)
		if (grammar_options[i].name)
			near_try(&near, grammar_options[i].name);
	return options_usage(o, "there is no option %s%s%s%s", word,
		near.best && near.distance > 0 ? "; did you mean --" : ", or it takes no value",
		near.best && near.distance > 0 ? near.best : "",
		near.best && near.distance > 0 ? "?" : "");
}

static int complain_getopt(struct options *o, int code, char **argv)
{
	if (code == ':')
		return options_usage(o, "%s needs a value", argv[optind - 1]);
	if (optopt > 0 && optopt < 256 && optopt >= OPTION_COUNT)
		return options_usage(o, "there is no option -%c", optopt);
	return complain_long(o, argv[optind - 1]);
}

/* Letters are above OPTION_COUNT, so that both can be the code that getopt_long returns. */
_Static_assert(OPTION_COUNT < 'A', "an option's number is never a letter");

static int scan(struct options *o, int argc, char **argv, bool terminal, struct given *ret)
{
	struct option longs[OPTION_COUNT + 1] = {0};
	char shorts[2 * OPTION_COUNT + 2] = ":";
	size_t long_count = 0, short_length = 1;
	int code, r = 0;

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

		if (r < 0)
			continue; /* the verb is still to be found: its help is named */
		if (code == '?' || code == ':') {
			r = complain_getopt(o, code, argv);
			continue;
		}
		for (int i = 0; code >= OPTION_COUNT && i < OPTION_COUNT; i++)
			if (grammar_options[i].letter == (char)code)
				id = i;
		ret->is[id] = true;
		ret->value[id] = optarg;
		r = options_take(o, (enum option_id)id, optarg, terminal);
	}
	return r;
}

/* The verb that the words begin with, and *ret_words, how many of them say it: a port is one that it takes. 0 or -ENOENT. */
static int find_verb(int argc, char **argv, enum verb *ret, int *ret_words)
{
	*ret_words = 0;
	*ret = VERB_STATUS;
	if (optind == argc)
		return 0;
	*ret = VERB_EXPLAIN;
	if (argv[optind][0] >= '0' && argv[optind][0] <= '9')
		return 0;
	*ret_words = 1;
	return grammar_find_verb(argv[optind], ret);
}

/* Whose help says how it is done. */
static void choose_help(struct options *o, int argc, char **argv)
{
	enum verb verb;
	int words;

	if (optind < argc && find_verb(argc, argv, &verb, &words) == 0 && verb != VERB_HELP)
		o->help_on = verb;
}

/* The words that are no options: a verb or a port first, then what the verb takes. */
static int parse_words(struct options *o, int argc, char **argv)
{
	const struct grammar_verb *verb;
	int next = optind, words, r;

	if (find_verb(argc, argv, &o->verb, &words) < 0)
		return complain_verb(o, argv[next]);
	next += words;
	verb = &grammar_verbs[o->verb];
	if (o->verb == VERB_HELP && next < argc)
		return grammar_find_verb(argv[next], &o->help_on) < 0 ? complain_verb(o, argv[next])
								      : 0;
	if (o->verb == VERB_DOCTOR && o->self_test > 0 && next < argc) {
		r = options_take_self_test(o, argv[next++]);
		if (r < 0)
			return r;
	}
	if (o->verb == VERB_APP && next < argc)
		o->name = argv[next++];
	for (; next < argc; next++) {
		if (o->port_count == verb->ports_max)
			return options_usage(
				o, "%s: one argument too many: %s", verb->name, argv[next]);
		r = options_take_port(o, argv[next]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_groups(struct options *o, const struct given *given)
{
	const struct grammar_verb *verb = &grammar_verbs[o->verb];

	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct grammar_option *row = &grammar_options[i];

		if (given->is[i] && !(row->groups & verb->groups))
			return options_usage(o, "%s%s does not go with %s", row->name ? "--" : "-",
				row->name ? row->name : (char[]){row->letter, '\0'}, verb->name);
	}
	if (o->port_count < verb->ports_min)
		return options_usage(o, "%s: which port?", verb->name);
	if (o->verb == VERB_APP && !o->name)
		return options_usage(o, "app: which program?");
	return 0;
}

/* Some have a form of their own: that says more than that the option does not go with them. */
static int check_form(struct options *o)
{
	if (o->output == OUTPUT_TABLE)
		return 0;
	if (o->verb == VERB_REPORT)
		return options_usage(o, "a report is HTML or SVG: for other forms there is audit");
	if (o->verb == VERB_EXPORT)
		return options_usage(o, "export: its form is said by --format");
	if (o->verb == VERB_ANNOTATE && (o->output == OUTPUT_CSV || o->output == OUTPUT_FIELD))
		return options_usage(o, "annotate writes the log that it reads, not CSV or values");
	return 0;
}

/* A report has a place. */
static int check_report(struct options *o)
{
	if (o->verb == VERB_REPORT && !o->report_path)
		return options_usage(o, "report: to which file? -o FILE.html or FILE.svg");
	return 0;
}

/* What another host cannot heed: our path, and our names of users. */
static int check_host(struct options *o, const struct given *given)
{
	uint64_t uid;

	if (!o->host)
		return 0;
	if (given->is[OPTION_SOCKET])
		return options_usage(o, "--socket is a path of this host: not with --host");
	if (given->is[OPTION_SELF_TEST])
		return options_usage(
			o, "--self-test makes its claims on this host: not with --host");
	if (given->is[OPTION_USER] &&
		number_parse(given->value[OPTION_USER], 0, UINT32_MAX - 1, &uid) < 0)
		return options_usage(o,
			"--user: with --host by number, since names are of this host: %s",
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
		return options_usage(o,
			"SYSTEMD_VARLINK_LISTEN: only - (standard input and output) is served: %s",
			listen);
	if (optind < argc)
		return options_usage(
			o, "with SYSTEMD_VARLINK_LISTEN there is nothing to ask: %s", argv[optind]);
	for (int i = 0; i < OPTION_COUNT; i++)
		if (given->is[i] && i != OPTION_SOCKET)
			return options_usage(o, "--%s does not go with SYSTEMD_VARLINK_LISTEN",
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
		.bound_for = USEC_UNSET,
		.window_span = USEC_UNSET,
		.uid = -1,
		.pid = -1,
	};
	if (from_environment && *from_environment != '\0') {
		ret->socket_path = from_environment;
		ret->socket_given = true;
	}
	r = scan(ret, argc, argv, terminal, &given);
	choose_help(ret, argc, argv);
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
		ret->verb = given.is[OPTION_HELP] ? VERB_HELP : VERB_VERSION;
		return 0;
	}
	r = check_form(ret);
	if (r == 0)
		r = check_groups(ret, &given);
	if (r == 0)
		r = check_report(ret);
	if (r == 0)
		r = check_host(ret, &given);
	return r < 0 ? r : options_take_times(ret, &given, now);
}

void options_done(struct options *o)
{
	free(o->address);
	free(o->peer);
	free(o->columns_text);
	free(o->error);
	*o = (struct options){0};
}
