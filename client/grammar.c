/* SPDX-License-Identifier: MIT */

#include "client/grammar.h"

#define HELP_WIDTH   80u
#define HELP_LEFT    26 /* of options and verbs */
#define EXAMPLE_LEFT 42u

const struct grammar_option grammar_options[OPTION_COUNT] = {
	[OPTION_SOCKET] = {"socket", 0, "PATH", GROUP_DAEMON, "ask the daemon there"},
	[OPTION_HOST] = {"host", 'H', "[USER@]HOST", GROUP_DAEMON,
		"ask the daemon of that host, through ssh"},
	[OPTION_AT] = {"at", 0, "TIME", GROUP_AT,
		"the moment; to the minute means the whole minute"},
	[OPTION_SINCE] = {"since", 'S', "TIME", GROUP_WINDOW | GROUP_SINCE,
		"from here on, or a stretch like \"last night\""},
	[OPTION_UNTIL] = {"until", 'U', "TIME", GROUP_WINDOW, "before this"},
	[OPTION_OVERNIGHT] = {"overnight", 0, NULL, GROUP_OVERNIGHT,
		"the last 18:00 to 09:00 (the default)"},
	[OPTION_FIELDS] = {"fields", 0, "LIST", GROUP_FIELDS,
		"eve, ek, zeek, or time=PATH,src=PATH,..."},
	[OPTION_FORMAT] = {"format", 0, "FORMAT", GROUP_EXPORT,
		"ndjson (the default), csv or sqlite"},
	[OPTION_TO] = {"to", 0, "FILE", GROUP_EXPORT, "into this file, behind what it has"},
	[OPTION_CURSOR] = {"cursor", 0, "CURSOR", GROUP_EXPORT, "go on behind it"},
	[OPTION_CURSOR_FILE] = {"cursor-file", 0, "FILE", GROUP_EXPORT,
		"go on behind the cursor in it; keep the new one"},
	[OPTION_OPEN] = {"open", 0, NULL, GROUP_EXPORT, "then the claims that are open now"},
	[OPTION_BY] = {"by", 0, "WHAT", GROUP_AUDIT, "program, unit, user, port, hour or netns"},
	[OPTION_DIFF] = {"diff", 0, "TIME", GROUP_AUDIT,
		"what is new or gone since yesterday or then"},
	[OPTION_LIMIT] = {"limit", 'n', "N", GROUP_LIMIT,
		"only the newest N (pressure: the N fullest)"},
	[OPTION_APP] = {"app", 0, "NAME", GROUP_FILTER, "name or path of the program"},
	[OPTION_UNIT] = {"unit", 0, "NAME", GROUP_FILTER, "systemd unit"},
	[OPTION_USER] = {"user", 0, "NAME|UID", GROUP_FILTER,
		"user of the process, or owner of the socket"},
	[OPTION_PID] = {"pid", 0, "PID", GROUP_FILTER, "process"},
	[OPTION_PROTO] = {"proto", 0, "NAME", GROUP_FILTER | GROUP_PROTOCOL,
		"tcp, udp, udplite or mptcp"},
	[OPTION_ADDR] = {"addr", 0, "ADDRESS", GROUP_FILTER | GROUP_PLACE, "local address"},
	[OPTION_PEER] = {"peer", 0, "ADDRESS[:PORT]", GROUP_FILTER | GROUP_PLACE,
		"the other end; [ADDRESS]:PORT for IPv6"},
	[OPTION_NETNS] = {"netns", 0, "NAME|INODE", GROUP_FILTER | GROUP_NETNS,
		"network namespace"},
	[OPTION_ROLE] = {"role", 0, "NAME", GROUP_FILTER,
		"connected, listening, bound or accepted"},
	[OPTION_RANGE] = {"range", 0, "RANGE", GROUP_FILTER, "iana, kernel or LOW-HIGH"},
	[OPTION_BOUND_FOR] = {"bound-for", 0, "SPAN", GROUP_LISTENERS,
		"UDP sockets that were bound so long (10min)"},
	[OPTION_SYSCTL] = {"sysctl", 0, NULL, GROUP_LISTENERS,
		"a drop-in for sysctl.d that reserves their ports"},
	[OPTION_OUTPUT] = {"output", 'o', "FILE", GROUP_OUTPUT, "the file to write: .html or .svg"},
	[OPTION_WINDOW] = {"window", 0, "SPAN", GROUP_PRESSURE,
		"from --at on, or up to now, for so long (10min)"},
	[OPTION_NEW] = {"new", 0, NULL, GROUP_APPS, "only what was never seen before"},
	[OPTION_CONFIG] = {"config", 0, "FILE", GROUP_CONFIG,
		"this file and FILE.d/*.conf, not the installed ones"},
	[OPTION_SELF_TEST] = {"self-test", 0, NULL, GROUP_SELF_TEST,
		"make N (100) short claims, see what is recorded"},
	[OPTION_JSON] = {"json", 0, "MODE", GROUP_JSON,
		"pretty: one document; short: an object a line; off"},
	[OPTION_JSON_AUTO] = {NULL, 'j', NULL, GROUP_JSON,
		"--json=pretty on a terminal, --json=short elsewhere"},
	[OPTION_CSV] = {"csv", 0, NULL, GROUP_CSV,
		"comma-separated values (RFC 4180) with a header"},
	[OPTION_FIELD] = {"field", 'F', "COLUMN", GROUP_CSV,
		"the distinct values of a column, one a line"},
	[OPTION_COLUMNS] = {"columns", 0, "LIST", GROUP_COLUMNS,
		"these columns, in this order, by their JSON names"},
	[OPTION_NO_LEGEND] = {"no-legend", 0, NULL, GROUP_COMMON,
		"no headings and no notes; the receipt stays"},
	[OPTION_NO_PAGER] = {"no-pager", 0, NULL, GROUP_COMMON, "never start a pager"},
	[OPTION_COLOR] = {"color", 0, "WHEN", GROUP_COMMON, "auto, always or never"},
	[OPTION_UTC] = {"utc", 0, NULL, GROUP_COMMON, "read and show times in UTC"},
	[OPTION_STRICT] = {"strict", 0, NULL, GROUP_STRICT,
		"exit 6 where the answer may be incomplete"},
	[OPTION_HELP] = {"help", 'h', NULL, GROUP_COMMON, "this help"},
	[OPTION_VERSION] = {"version", 0, NULL, GROUP_COMMON, "the version"},
};

/* Of verbs whose answers are rows. */
#define GROUPS_COMMON (GROUP_COMMON | GROUP_JSON | GROUP_CSV)
#define GROUPS_PAST   (GROUPS_COMMON | GROUP_DAEMON | GROUP_STRICT | GROUP_FILTER | GROUP_COLUMNS)

const struct grammar_verb grammar_verbs[VERB_COUNT] = {
	[VERB_STATUS] = {"status", "", GROUPS_COMMON | GROUP_DAEMON | GROUP_STRICT, 0, 0,
		"is it recording, how, how full are the ranges",
		"portledger\tis it recording, and how\n"
		"portledger status --json=short | jq .lost\tone figure\n"},
	[VERB_EXPLAIN] = {"explain", "PORT[/PROTO]",
		GROUPS_COMMON | GROUP_DAEMON | GROUP_STRICT | GROUP_PROTOCOL | GROUP_NETNS, 1, 1,
		"what is this port: class, who has it, who had it",
		"portledger 60530\twhat is port 60530\n"
		"portledger 51820/udp\tthe same, of UDP only\n"},
	[VERB_WHO] = {"who", "PORT[/PROTO]", GROUPS_PAST | GROUP_AT | GROUP_WINDOW, 1, 1,
		"everyone who had it then (--at)",
		"portledger who 60530 --at 03:12\teveryone who had it in that minute\n"
		"portledger who 60530 --at 03:12 --peer 203.0.113.9:443\tof these, who talked to that end\n"
		"portledger who 40112 --at -5m --netns web-1\tin that network namespace\n"},
	[VERB_NOW] = {"now", "[PORT...]", GROUPS_PAST | GROUP_LIMIT, 0, LIMIT_FILTER_PORTS,
		"claims that are open now",
		"portledger now --role listening\tservers\n"
		"portledger now --unit nginx.service\twhat a unit has open\n"},
	[VERB_HISTORY] = {"history", "[PORT...]", GROUPS_PAST | GROUP_WINDOW | GROUP_LIMIT, 0,
		LIMIT_FILTER_PORTS, "claims in a window, newest last",
		"portledger history -S \"last night\" --app curl\twhat curl did\n"
		"portledger history 60530 -n 20\tthe last 20 of a port\n"},
	[VERB_FOLLOW] = {"follow", "[PORT...]",
		GROUPS_COMMON | GROUP_COLUMNS | GROUP_DAEMON | GROUP_FILTER | GROUP_APPS, 0,
		LIMIT_FILTER_PORTS, "claims as they come and go",
		"portledger follow --role listening\tservers, as they come and go\n"
		"portledger follow --new\tprograms and servers that were never seen before\n"},
	[VERB_AUDIT] = {"audit", "", GROUPS_PAST | GROUP_WINDOW | GROUP_OVERNIGHT | GROUP_AUDIT, 0,
		0, "which programs claimed ports, per program",
		"portledger audit\twhat happened overnight\n"
		"portledger audit --diff yesterday\twhat is new, or gone\n"
		"portledger audit --by unit --overnight\tthe same per unit\n"
		"portledger audit -S -1h --user www-data\tof one user, the last hour\n"},
	[VERB_FAILURES] = {"failures", "[PORT...]", GROUPS_PAST | GROUP_WINDOW | GROUP_LIMIT, 0,
		LIMIT_FILTER_PORTS, "what failed for want of a port, and who had it",
		"portledger failures -S today\twhat failed for want of a port\n"
		"portledger failures 8080\twho could not have that port, and who had it\n"},
	[VERB_LISTENERS] = {"listeners", "", GROUPS_PAST | GROUP_SINCE | GROUP_LISTENERS, 0, 0,
		"servers whose port a client may get, and the fix",
		"portledger listeners\twho may lose his port to a client\n"
		"portledger listeners --bound-for 1d\tUDP sockets only if a day old\n"
		"portledger listeners --sysctl >/etc/sysctl.d/60-portledger.conf\tand sysctl --system applies it\n"},
	[VERB_ANNOTATE] = {"annotate", "<LOG",
		GROUP_COMMON | GROUP_JSON | GROUP_DAEMON | GROUP_STRICT | GROUP_COLUMNS |
			GROUP_FIELDS,
		0, 0, "adds the process to each record of a log",
		"portledger annotate <eve.json >eve-who.json\tSuricata's log\n"
		"tail -F eve.json | portledger annotate | jq .portledger\tas it grows\n"
		"tshark -r x.pcap -T ek | portledger annotate --fields ek\tpackets\n"},
	[VERB_REPORT] = {"report", "-o FILE [PORT...]",
		GROUP_COMMON | GROUP_DAEMON | GROUP_STRICT | GROUP_FILTER | GROUP_WINDOW |
			GROUP_OVERNIGHT | GROUP_OUTPUT,
		0, LIMIT_FILTER_PORTS, "the audit as pictures, in one file",
		"portledger report -o night.html\twhat happened overnight\n"
		"portledger report -o curl.html --app curl -S -24h\tone program, claim by claim\n"
		"portledger report -o port.svg 60530 -S yesterday\tone port, as one picture\n"},
	[VERB_PRESSURE] = {"pressure", "",
		GROUPS_COMMON | GROUP_COLUMNS | GROUP_DAEMON | GROUP_STRICT | GROUP_AT |
			GROUP_LIMIT | GROUP_PROTOCOL | GROUP_NETNS | GROUP_PLACE | GROUP_PRESSURE,
		0, 0, "how near exhaustion, where to, and through whom",
		"portledger pressure\tnow, with the peak of the last 10 min\n"
		"portledger pressure --at 03:00 --window 1h\tthen, for an hour\n"
		"portledger pressure --peer 10.0.9.7:5432\tof one destination\n"},
	[VERB_EXPORT] = {"export", "",
		GROUP_COMMON | GROUP_COLUMNS | GROUP_DAEMON | GROUP_STRICT | GROUP_FILTER |
			GROUP_WINDOW | GROUP_EXPORT,
		0, 0, "released claims, to be gone on with later",
		"portledger export -S yesterday >claims.ndjson\tas JSON, an object a line\n"
		"portledger export --cursor-file=c >>claims.ndjson\twhat came since the last time\n"
		"portledger export --format=sqlite --to=claims.db\tinto an indexed table\n"},
	[VERB_APPS] = {"apps", "", GROUPS_PAST | GROUP_WINDOW | GROUP_APPS, 0, 0,
		"programs ever seen, and how they use ports",
		"portledger apps\tall, with their last day\n"
		"portledger apps --new -S \"last night\"\twhich came last night\n"},
	[VERB_APP] = {"app", "NAME", GROUPS_PAST | GROUP_WINDOW, 0, 0,
		"one program: since when, as whom, which ports",
		"portledger app curl\tits last day, and its last claims\n"
		"portledger app /usr/sbin/chronyd -S -7d\tits week\n"},
	[VERB_DOCTOR] = {"doctor", "[--self-test [N]]",
		GROUPS_COMMON | GROUP_COLUMNS | GROUP_DAEMON | GROUP_SELF_TEST, 0, 0,
		"what is missing, and the command that mends it",
		"portledger doctor\twhat is missing, and the command that mends it\n"
		"portledger doctor --self-test 1000\thow many of short claims are recorded, and with the process\n"},
	[VERB_CONFIG] = {"config", "", GROUPS_COMMON | GROUP_COLUMNS | GROUP_CONFIG, 0, 0,
		"the settings, and where each comes from",
		"portledger config --columns=key,value,from\twhere does each value come from\n"},
	[VERB_HELP] = {"help", "[VERB]", GROUP_COMMON, 0, 0, "this help"},
	[VERB_VERSION] = {"version", "", GROUP_COMMON, 0, 0, "the version"},
};

int grammar_find_verb(const char *name, enum verb *ret)
{
	for (int i = 0; i < VERB_COUNT; i++)
		if (streq(grammar_verbs[i].name, name)) {
			*ret = (enum verb)i;
			return 0;
		}
	return -ENOENT;
}

/* Prints `text` where the cursor is at `column`, in lines of 80 columns, the next ones from `indent` on. */
static void help_text(FILE *out, const char *text, size_t column, size_t indent)
{
	while (column + strlen(text) > HELP_WIDTH) {
		const char *cut = text + (HELP_WIDTH - column);

		while (cut > text && *cut != ' ')
			cut--;
		if (cut == text)
			break; /* a word that is longer than a line */
		fprintf(out, "%.*s\n%*s", (int)(cut - text), text, (int)indent, "");
		text = cut + 1;
		column = indent;
	}
	fprintf(out, "%s\n", text);
}

static void help_options(FILE *out, unsigned groups)
{
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct grammar_option *row = &grammar_options[i];
		char left[48];
		int length = 0;

		if (!(row->groups & groups))
			continue;
		length = row->letter ? snprintf(left, sizeof(left), "-%c", row->letter)
				     : snprintf(left, sizeof(left), "   ");
		if (row->name)
			snprintf(left + length, sizeof(left) - (size_t)length, "%s--%s%s%s",
				row->letter ? " " : "", row->name, row->argument ? "=" : "",
				row->argument ? row->argument : "");
		fprintf(out, "  %-*s ", HELP_LEFT, left);
		help_text(out, row->help, MAX((size_t)HELP_LEFT, strlen(left)) + 3, HELP_LEFT + 3);
	}
}

/* The command, and beside it what it asks; below it where there is no room. */
static void help_examples(FILE *out, const char *examples)
{
	while (*examples != '\0') {
		size_t command = strcspn(examples, "\t"), left = MAX(command, EXAMPLE_LEFT);
		const char *says = examples + command + 1;
		size_t length = strcspn(says, "\n");

		if (left + length + 4 > HELP_WIDTH)
			fprintf(out, "  %.*s\n%*s%.*s\n", (int)command, examples, 8, "",
				(int)length, says);
		else
			fprintf(out, "  %-*.*s  %.*s\n", (int)EXAMPLE_LEFT, (int)command, examples,
				(int)length, says);
		examples = says + length + 1;
	}
}

void options_help(FILE *out, enum verb verb)
{
	if (verb != VERB_COUNT) {
		const struct grammar_verb *row = &grammar_verbs[verb];

		fprintf(out, "portledger %s%s%s [OPTION...]\n", row->name,
			*row->arguments ? " " : "", row->arguments);
		help_text(out, row->help, 0, 0);
		fputc('\n', out);
		help_options(out, row->groups);
		if (row->examples) {
			fputs("\nExamples:\n", out);
			help_examples(out, row->examples);
		}
		return;
	}
	fputs("portledger [VERB] [OPTION...]: which process had which port, and when.\n\n", out);
	fputs("  portledger PORT[/PROTO]    as explain\n", out);
	for (size_t i = 0; i < VERB_COUNT; i++) {
		char left[48];

		snprintf(left, sizeof(left), "%s %s", grammar_verbs[i].name,
			grammar_verbs[i].arguments);
		fprintf(out, "  %-*s ", HELP_LEFT, left);
		help_text(out, grammar_verbs[i].help, MAX((size_t)HELP_LEFT, strlen(left)) + 3,
			HELP_LEFT + 3);
	}
	fputs("\n", out);
	help_options(out, ~0u);
	fputs("\nTimes: 03:12, \"yesterday 22:00\", \"2026-11-22 03:12:07\", -8h, \"last night\",\n       @EPOCH.\n"
	      "Exit: 0 found, 1 nothing matched, 2 usage, 3 no daemon, 4 permission denied,\n"
	      "      5 error, 6 incomplete (--strict). The manual is portledger(1).\n",
		out);
}
