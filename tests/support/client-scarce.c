/* SPDX-License-Identifier: MIT */

/*
 * The client, on a machine that refuses: `client-scarce VERB ARGUMENTS...` asks as `portledger` does, once as it is, and then again and
 * again, each time with the next allocation or call of the system refused, for every one that there is. Each time it must answer as
 * it did at first, or end with STATUS_ERROR and say why. What is refused while an answer is
 * parsed is test-scarce's to see.
 *
 * SCARCE_WIDTH: on a terminal so wide, with colours. SCARCE_FRESH: a file that is not there before each time. SCARCE_STEP: of what there is, only every n-th;
 * SCARCE_FIRST: from the how manieth on (0). Standard input is read anew each time.
 */

#include <fcntl.h>
#include <jansson.h>
#include <libsmartcols.h>
#include <locale.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "client/ask.h"
#include "client/client.h"
#include "client/users.h"
#include "tests/support/failing_text.h"

#define REFUSABLE(type, failure, name, parameters, arguments)                                      \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return failing_now() ? (failure) : __real_##name arguments;                        \
	}

REFUSABLE(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
REFUSABLE(int, -1, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
REFUSABLE(int, -1, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
	(fd, level, name, value, size))
REFUSABLE(int, -1, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
	(fd, level, name, value, size))
REFUSABLE(ssize_t, -1, send, (int fd, const void *bytes, size_t size, int flags),
	(fd, bytes, size, flags))
REFUSABLE(
	ssize_t, -1, recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
REFUSABLE(FILE *, NULL, fopen64, (const char *path, const char *mode), (path, mode))
REFUSABLE(FILE *, NULL, fdopen, (int fd, const char *mode), (fd, mode))
REFUSABLE(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
REFUSABLE(int, -1, rename, (const char *from, const char *to), (from, to))
REFUSABLE(int, -1, mkostemp64, (char *path, int flags), (path, flags))

/* A disk that has it at once: this is done a thousand times. */
int __wrap_fsync(int fd);

int __wrap_fsync(int fd _unused_)
{
	return failing_now() ? -1 : 0;
}

REFUSABLE(struct libscols_table *, NULL, scols_new_table, (void), ())
REFUSABLE(struct libscols_column *, NULL, scols_table_new_column,
	(struct libscols_table * t, const char *name, double width, int flags),
	(t, name, width, flags))
REFUSABLE(struct libscols_line *, NULL, scols_table_new_line,
	(struct libscols_table * t, struct libscols_line *parent), (t, parent))
REFUSABLE(int, -1, scols_line_set_data, (struct libscols_line * l, size_t n, const char *text),
	(l, n, text))
REFUSABLE(int, -1, scols_cell_set_color, (struct libscols_cell * c, const char *color), (c, color))
REFUSABLE(int, -1, scols_print_table, (struct libscols_table * t), (t))

REFUSABLE(int, SQLITE_NOMEM, sqlite3_prepare_v2,
	(sqlite3 * db, const char *sql, int size, sqlite3_stmt **ret, const char **end),
	(db, sql, size, ret, end))
REFUSABLE(int, SQLITE_NOMEM, sqlite3_exec,
	(sqlite3 * db, const char *sql, int (*row)(void *, int, char **, char **), void *context,
		char **error),
	(db, sql, row, context, error))
REFUSABLE(int, SQLITE_IOERR, sqlite3_step, (sqlite3_stmt * s), (s))
REFUSABLE(int, SQLITE_NOMEM, sqlite3_bind_int64, (sqlite3_stmt * s, int i, sqlite3_int64 value),
	(s, i, value))
REFUSABLE(int, SQLITE_NOMEM, sqlite3_bind_text,
	(sqlite3_stmt * s, int i, const char *text, int size, void (*release)(void *)),
	(s, i, text, size, release))

json_t *__real_json_loadb(const char *text, size_t size, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t size, size_t flags, json_error_t *error);

json_t *__wrap_json_loadb(const char *text, size_t size, size_t flags, json_error_t *error)
{
	unsigned left = failing_in;
	json_t *root;

	failing_in = UINT_MAX;
	root = __real_json_loadb(text, size, flags, error);
	failing_in = left;
	return root;
}

/* As main() of the client has them. */
static enum status (*const verbs[])(const struct options *o, struct view *v) = {
	[VERB_STATUS] = verb_status,
	[VERB_EXPLAIN] = verb_explain,
	[VERB_WHO] = verb_who,
	[VERB_NOW] = verb_now,
	[VERB_HISTORY] = verb_history,
	[VERB_FOLLOW] = verb_follow,
	[VERB_AUDIT] = verb_audit,
	[VERB_FAILURES] = verb_failures,
	[VERB_LISTENERS] = verb_listeners,
	[VERB_ANNOTATE] = verb_annotate,
	[VERB_REPORT] = verb_report,
	[VERB_PRESSURE] = verb_pressure,
	[VERB_EXPORT] = verb_export,
	[VERB_APPS] = verb_apps,
	[VERB_APP] = verb_apps,
	[VERB_DOCTOR] = verb_doctor,
	[VERB_CONFIG] = verb_config,
	[VERB_COUNT] = NULL,
};

struct answer {
	enum status status;
	char *out, *said; /* on standard output and on standard error */
	size_t out_size, said_size;
};

static void answer_done(struct answer *a)
{
	free(a->out);
	free(a->said);
}

static enum status ask_as(int argc, char **argv, usec_t now, size_t width)
{
	_cleanup_(options_done) struct options o = {0};
	_cleanup_(users_free_p) struct users *users = NULL;
	int r = options_parse(argc, argv, now, width > 0, &o);
	struct view v = {
		.options = &o,
		.out = stdout,
		.notes = stderr,
		.now = now,
		.utf8 = true,
		.color = width > 0,
		.width = width,
	};

	if (r < 0) {
		complain("%s", o.error ? o.error : "out of memory");
		return r == -EINVAL ? STATUS_USAGE : STATUS_ERROR;
	}
	users = users_new();
	if (!users)
		return complain_memory();
	v.users = users;
	return verbs[o.verb](&o, &v);
}

/* With the n-th from now on refused; UINT_MAX: none is. */
static struct answer answer_with(unsigned n, int argc, char **argv, usec_t now, size_t width)
{
	const char *fresh = getenv("SCARCE_FRESH");
	FILE *real_out = stdout, *real_err = stderr;
	struct answer a = {0};
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));

	assert(copy);
	memcpy(copy, argv, (size_t)argc * sizeof(*copy)); /* getopt(3) reorders them */
	if (fresh)
		(void)unlink(fresh);
	(void)lseek(STDIN_FILENO, 0, SEEK_SET);
	stdout = open_memstream(&a.out, &a.out_size);
	stderr = open_memstream(&a.said, &a.said_size);
	assert(stdout && stderr);
	failing_hits = 0;
	failing_in = n;
	a.status = ask_as(argc, copy, now, width);
	failing_in = UINT_MAX;
	(void)fclose(stdout);
	(void)fclose(stderr);
	stdout = real_out;
	stderr = real_err;
	free(copy);
	return a;
}

static size_t lines_of(const struct answer *a)
{
	size_t lines = 0;

	for (size_t i = 0; i < a->out_size; i++)
		lines += a->out[i] == '\n';
	return lines;
}

/* A word may be "?", and a user a number: there is no line less for that, but where lines are broken. */
static bool same(const struct answer *a, const struct answer *b, size_t width)
{
	return a->status == b->status && (width > 0 || lines_of(a) == lines_of(b));
}

int main(int argc, char **argv)
{
	const char *width_text = getenv("SCARCE_WIDTH"), *step_text = getenv("SCARCE_STEP"),
		   *first_text = getenv("SCARCE_FIRST");
	unsigned step = step_text ? (unsigned)strtoul(step_text, NULL, 10) : 1;
	size_t width = width_text ? strtoul(width_text, NULL, 10) : 0;
	usec_t now = clock_now().wall;
	struct answer whole, again;
	unsigned n = first_text ? (unsigned)strtoul(first_text, NULL, 10) : 0, wrong = 0;
	unsigned tried = 0;
	bool refused;

	setlocale(LC_ALL, "");
	json_set_alloc_funcs(malloc, free); /* whose malloc() is the one that fails */
	whole = answer_with(UINT_MAX, argc, argv, now, width);
	if (whole.status > STATUS_NOTHING || whole.out_size + whole.said_size == 0) {
		fprintf(stderr, "%s", whole.said);
		return EXIT_FAILURE;
	}
	do {
		again = answer_with(n, argc, argv, now, width);
		refused = failing_hits > 0;
		if (!same(&again, &whole, width) &&
			!(refused && again.status == STATUS_ERROR && again.said_size > 0)) {
			printf("refused %u: %d, %s%s\n", n, (int)again.status, again.out,
				again.said);
			wrong++;
		}
		answer_done(&again);
		n += step;
		tried += refused;
	} while (refused);
	answer_done(&whole);
	printf("%u refused, %u wrong\n", tried, wrong);
	return wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
