/* SPDX-License-Identifier: MIT */

/* portledger: the command line becomes options, the terminal a view, and the verb answers. */

#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "client/ask.h"
#include "client/bridge.h"
#include "client/client.h"
#include "client/grammar.h"
#include "client/pager.h"
#include "client/users.h"
#include "common/standard.h"

static const struct {
	enum status (*run)(const struct options *o, struct view *v);
	bool paged; /* its table may be long */
} verbs[] = {
	[VERB_STATUS] = {verb_status, false},
	[VERB_EXPLAIN] = {verb_explain, true},
	[VERB_WHO] = {verb_who, true},
	[VERB_NOW] = {verb_now, true},
	[VERB_HISTORY] = {verb_history, true},
	[VERB_FOLLOW] = {verb_follow, false},
	[VERB_AUDIT] = {verb_audit, true},
	[VERB_FAILURES] = {verb_failures, true},
	[VERB_LISTENERS] = {verb_listeners, true},
	[VERB_ANNOTATE] = {verb_annotate, false},
	[VERB_REPORT] = {verb_report, false},
	[VERB_PRESSURE] = {verb_pressure, true},
	[VERB_EXPORT] = {verb_export, false},
	[VERB_APPS] = {verb_apps, true},
	[VERB_APP] = {verb_apps, true},
	[VERB_DOCTOR] = {verb_doctor, false},
	[VERB_CONFIG] = {verb_config, false},
};

/* https://no-color.org: set and not empty. */
static bool wants_color(const struct options *o, bool terminal)
{
	const char *none = getenv("NO_COLOR"), *term = getenv("TERM");

	switch (o->color) {
	case COLOR_ALWAYS:
		return true;
	case COLOR_NEVER:
		return false;
	case COLOR_AUTO:
		break;
	}
	return terminal && !(none && *none != '\0') && term && !streq(term, "dumb");
}

static size_t terminal_width(int descriptor)
{
	struct winsize size;

	return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static uint64_t own_netns(void)
{
	struct stat st;

	return stat("/proc/self/ns/net", &st) == 0 ? st.st_ino : 0;
}

/* What could not be written must not look like an answer. */
static enum status finish(enum status status)
{
	if (fflush(stdout) == EOF || ferror(stdout)) {
		complain("standard output: %s", strerror(errno));
		return STATUS_ERROR;
	}
	return status;
}

static enum status run(const struct options *o, usec_t now, bool terminal)
{
	bool for_people = terminal && o->output == OUTPUT_TABLE;
	_cleanup_(users_free_p) struct users *users = users_new();
	bool here = !o->host; /* our users and our namespace are not another host's */
	struct pager pager = {0};
	enum status status;
	struct view v = {
		.options = o,
		.out = stdout,
		.notes = stderr,
		.now = now,
		.utf8 = streq(nl_langinfo(CODESET), "UTF-8"),
		.color = wants_color(o, terminal),
		.width = for_people ? terminal_width(STDOUT_FILENO) : 0,
		.notes_width = isatty(STDERR_FILENO) ? terminal_width(STDERR_FILENO) : 0,
		.users = here ? users : NULL,
		.netns = here ? own_netns() : 0,
	};

	if (!users)
		return complain_memory();
	/* ssh may have something to ask, and a pager would take its answer from the terminal */
	if (for_people && verbs[o->verb].paged && !o->no_pager && here)
		pager_open(&pager);
	status = finish(verbs[o->verb].run(o, &v));
	pager_close(&pager);
	return status;
}

int main(int argc, char **argv)
{
	_cleanup_(options_done) struct options o = {0};
	bool terminal;
	usec_t now = clock_now().wall;
	int r;

	standard_hold();
	terminal = isatty(STDOUT_FILENO);
	/* a file that may not grow is an error, like a disk that is full */
	(void)signal(SIGXFSZ, SIG_IGN);
	setlocale(LC_ALL, "");
	r = options_parse(argc, argv, now, terminal, &o);
	if (r < 0) {
		const char *verb = o.help_on < VERB_COUNT ? grammar_verbs[o.help_on].name : "";

		complain("%s", o.error ? o.error : "out of memory");
		if (r == -EINVAL)
			fprintf(stderr, "Try: portledger %s%s--help\n", verb, *verb ? " " : "");
		return (int)(r == -EINVAL ? STATUS_USAGE : STATUS_ERROR);
	}
	if (o.verb == VERB_HELP) {
		options_help(stdout, o.help_on);
		return (int)finish(STATUS_FOUND);
	}
	if (o.verb == VERB_VERSION) {
		puts("portledger " PORTLEDGER_VERSION);
		return (int)finish(STATUS_FOUND);
	}
	if (o.bridge)
		return (int)bridge(&o);
	return (int)run(&o, now, terminal);
}
