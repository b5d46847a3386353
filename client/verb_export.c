/* SPDX-License-Identifier: MIT */

/*
 * export: every released claim once, in the order of release, to be gone on with later. Pages are streamed and each has a
 * cursor; where the daemon cuts a reader that was too slow, we ask again from the last one.
 *
 * What is released before the first of three sweeps is in the database after the third, whatever order things were told in:
 * so three times Sync, and no claim comes later to a place that was passed. The moment is the daemon's to say: the clock of
 * another host may be ahead of ours, or behind.
 */

#include "client/ask.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/export.h"
#include "client/format.h"
#include "client/shape.h"

#define SYNCS         3 /* behind the moment up to which is exported */
#define COMMIT_ROWS   4096
#define PROGRESS_USEC (USEC_PER_SEC / 2)

struct export
{
	const struct options *options;
	struct options shown; /* as the writer is to have them */
	struct view view;
	struct connection *connection;
	struct writer *writer;     /* NULL: into `database` */
	struct exported *database; /* owned; NULL: as text */
	FILE *file;                /* owned, where it is not standard output; NULL */
	char *cursor;              /* owned; NULL: from --since on */
	usec_t since, until;
	uint64_t count, uncommitted;
	bool progress;
	usec_t told; /* boottime of the last progress */
};

static enum status complain_database(const struct export *x)
{
	complain("%s: %s", x->options->output_path, exported_error(x->database));
	return STATUS_ERROR;
}

/* The first line of a file; *ret NULL: there is no such file. 0, -ENOMEM, or what open(2) and read(2) say. */
static int read_cursor(const char *path, char **ret)
{
	FILE *f = fopen(path, "re");
	char text[256] = "";
	int r = 0;

	*ret = NULL;
	if (!f)
		return errno == ENOENT ? 0 : -errno;
	if (!fgets(text, sizeof(text), f) && ferror(f))
		r = -EIO;
	(void)fclose(f);
	text[strcspn(text, "\n")] = '\0';
	if (r == 0 && *text != '\0') {
		*ret = strdup(text);
		r = *ret ? 0 : -ENOMEM;
	}
	return r;
}

/* Whole, or as it was. */
static int write_cursor(const char *path, const char *cursor)
{
	_cleanup_(free_p) char *fresh = NULL;
	FILE *f;
	int r = 0;

	if (asprintf(&fresh, "%s.new", path) < 0) {
		fresh = NULL;
		return -ENOMEM;
	}
	f = fopen(fresh, "we");
	if (!f)
		return -errno;
	if (fprintf(f, "%s\n", cursor) < 0 || fflush(f) == EOF || fsync(fileno(f)) < 0)
		r = -errno;
	if (fclose(f) == EOF && r == 0)
		r = -errno;
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	return r;
}

/* The place is on the disk when it is written, so what is before it has to be. Not every output is a disk. */
static int sync_rows(FILE *f)
{
	return fsync(fileno(f)) == 0 || errno == EINVAL || errno == EROFS ? 0 : -errno;
}

/* What was written is written, and then where to go on. */
static enum status keep_place(struct export *x)
{
	const char *path = x->options->cursor_path;
	int r;

	x->uncommitted = 0;
	if (x->database)
		return exported_commit(x->database, x->cursor) < 0 ? complain_database(x)
								   : STATUS_FOUND;
	if (fflush(x->view.out) == EOF) {
		complain("%s: %s",
			x->options->output_path ? x->options->output_path : "standard output",
			strerror(errno));
		return STATUS_ERROR;
	}
	if (!path || !x->cursor)
		return STATUS_FOUND;
	r = sync_rows(x->view.out);
	if (r < 0)
		path = x->options->output_path ? x->options->output_path : "standard output";
	else
		r = write_cursor(path, x->cursor);
	if (r < 0)
		complain("%s: %s", path, strerror(-r));
	return r < 0 ? STATUS_ERROR : STATUS_FOUND;
}

/* On a terminal: how many, and up to when; in percent of the time, which is what is known. */
static void show_progress(struct export *x, usec_t at)
{
	usec_t now = clock_now().boot, whole = usec_sub(x->until, x->since);
	char count[FORMAT_MAX], time[FORMAT_TIME_MAX];

	if (!x->progress || now < x->told + PROGRESS_USEC)
		return;
	x->told = now;
	fprintf(stderr, "\r%s claims, up to %s", format_count(x->count, count),
		format_moment(at, x->view.now, time));
	if (x->since > 0 && whole > 0)
		fprintf(stderr, " (%u %%)", (unsigned)(usec_sub(at, x->since) * 100 / whole));
	fputs("\033[K", stderr);
}

static void end_progress(const struct export *x)
{
	if (x->progress && x->told > 0)
		fputs("\r\033[K", stderr);
}

static enum status add_claim(struct export *x, const json_t *claim)
{
	_cleanup_(json_decrefp) json_t *row = NULL;

	x->count += (uint64_t)row_int(claim, "count", 1);
	if (!x->database)
		return writer_row(x->writer, claim) < 0 ? complain_memory() : STATUS_FOUND;
	row = shape_order(&shape_claim, claim);
	if (!row || writer_fill_user(&x->view, row) < 0)
		return complain_memory();
	return exported_add(x->database, row) < 0 ? complain_database(x) : STATUS_FOUND;
}

static enum status take_claims(void *context, const json_t *claims)
{
	struct export *x = context;
	enum status status = STATUS_FOUND;
	const json_t *claim;
	size_t i;

	json_array_foreach(claims, i, claim)
	{
		status = add_claim(x, claim);
		if (status != STATUS_FOUND)
			break;
	}
	x->uncommitted += i;
	if (i > 0 && !json_is_null(json_object_get(json_array_get(claims, i - 1), "released_usec")))
		show_progress(x, row_time(json_array_get(claims, i - 1), "released_usec"));
	return status;
}

static enum status take_page(struct export *x, const json_t *page)
{
	enum status status = take_claims(x, json_object_get(page, "claims"));
	char *cursor;

	/* the place is behind this page when it was taken whole */
	if (status != STATUS_FOUND)
		return status;
	cursor = strdup(row_text(page, "cursor"));
	if (!cursor)
		return complain_memory();
	free(x->cursor);
	x->cursor = cursor;
	return x->uncommitted >= COMMIT_ROWS ? keep_place(x) : STATUS_FOUND;
}

/* A moment that is not before now, by the daemon's clock, and three sweeps that begin after it. */
static enum status settle(struct connection *c, usec_t *ret)
{
	for (int i = 0; i <= SYNCS; i++) {
		_cleanup_(json_decrefp) json_t *reply = NULL;
		enum status status = ask(c, "Sync", json_object(), &shape_sync, &reply);

		if (status != STATUS_FOUND)
			return status;
		if (i == 0)
			*ret = row_time(reply, "until_usec");
	}
	return STATUS_FOUND;
}

/* One stream of pages, as far as it goes; *ret_cut: that was the daemon's end of it. */
static enum status stream(struct export *x, json_t *receipts, bool *ret_last, bool *ret_cut)
{
	json_t *parameters = json_pack("{s:I,s:I,s:o}", "since_usec", (json_int_t)x->since,
		"until_usec", (json_int_t)x->until, "filter", options_filter(x->options));
	enum status status = ask_call(
		x->connection, "Released", ask_about(parameters, "cursor", x->cursor), "more");
	bool more = true;

	*ret_last = *ret_cut = false;
	while (status == STATUS_FOUND && more && !ferror(x->view.out)) {
		_cleanup_(json_decrefp) json_t *page = NULL;

		status = ask_reply(x->connection, &shape_released, &page, &more);
		*ret_cut = status == STATUS_ERROR;
		if (status == STATUS_FOUND)
			status = take_page(x, page);
		*ret_last = status == STATUS_FOUND && row_true(page, "last");
		if (*ret_last && json_array_append(receipts, json_object_get(page, "coverage")) < 0)
			return complain_memory();
	}
	return status;
}

static enum status export_open_claims(struct export *x)
{
	_cleanup_(json_decrefp) json_t *receipts = json_array();
	_cleanup_(json_decrefp) json_t *parameters =
		json_pack("{s:b,s:o}", "open", true, "filter", options_filter(x->options));

	if (x->database && exported_drop_open(x->database) < 0)
		return complain_database(x);
	return ask_pages(x->connection, "Claims", parameters, take_claims, x, receipts);
}

static enum status export_all(struct export *x, json_t *receipts)
{
	enum status status = STATUS_FOUND;
	uint64_t before;
	bool last = false, cut;
	usec_t settled = USEC_UNSET;

	status = settle(x->connection, &settled);
	x->until = MIN(x->options->until, settled);
	x->since = x->options->since != USEC_UNSET ? MIN(x->options->since, x->until) : 0;
	while (status == STATUS_FOUND && !last) {
		before = x->count;
		status = stream(x, receipts, &last, &cut);
		/* cut, since we were slow: what we have is whole, up to its cursor */
		if (cut && x->count > before && !ferror(x->view.out)) {
			connection_done(x->connection);
			status = ask_open(x->options, false, x->connection);
		}
	}
	if (status == STATUS_FOUND && x->options->open)
		status = export_open_claims(x);
	end_progress(x);
	return status;
}

static enum status finish(struct export *x, json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *total = json_pack(
		"{s:I,s:s}", "claims", (json_int_t)x->count, "cursor", x->cursor ? x->cursor : "");
	char count[FORMAT_MAX];

	if (!total)
		return complain_memory();
	if (x->database) {
		if (exported_receipt(x->database, json_array_get(receipts, 0)) < 0)
			return complain_database(x);
		if (!x->options->no_legend)
			fprintf(x->view.notes, "%s claim%s added to %s.\n",
				format_count(x->count, count), format_plural(x->count),
				x->options->output_path);
		if (writer_receipts(&x->view, x->view.notes, receipts) < 0)
			return complain_memory();
	} else if (writer_finish(x->writer, total, receipts) < 0) {
		return complain_memory();
	}
	return keep_place(x);
}

/* Where it goes. A file is gone on with, so that a cursor's next part has its place; a header is for its beginning. */
static enum status open_file(struct export *x)
{
	const char *path = x->options->output_path;
	struct stat st;

	if (!path)
		return STATUS_FOUND;
	x->file = fopen(path, "ae");
	if (!x->file || fstat(fileno(x->file), &st) < 0) {
		complain("%s: %s", path, strerror(errno));
		return STATUS_ERROR;
	}
	x->view.out = x->file;
	x->shown.no_legend = x->shown.no_legend || st.st_size > 0;
	return STATUS_FOUND;
}

/* Whoever was killed may have left half a row. What it is of comes again, and is not to be behind it on its line. */
static bool ends_amid_row(FILE *f)
{
	char path[32], last = '\n';
	_cleanup_(close_p) int fd = -1;
	struct stat st;
	off_t end;

	if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	end = fcntl(fileno(f), F_GETFL) & O_APPEND ? st.st_size : lseek(fileno(f), 0, SEEK_CUR);
	snprintf(path, sizeof(path), "/proc/self/fd/%d",
		fileno(f)); /* it may be open for writing only */
	fd = end > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return fd >= 0 && pread(fd, &last, 1, end - 1) == 1 && last != '\n';
}

static enum status open_database(struct export *x)
{
	const char *path = x->options->output_path;
	int r;

	if (!path || *path == '\0' || x->options->column_count > 0) {
		complain(path && *path != '\0'
				 ? "export: a database has all columns: not with --columns"
				 : "export: a database needs a file: --to=FILE");
		return STATUS_USAGE;
	}
	r = exported_open(path, &x->database);
	if (r == -EEXIST) {
		complain("%s: is a database, but not one of an export", path);
		return STATUS_ERROR;
	}
	if (r < 0)
		return complain_database(x);
	if (x->cursor)
		return STATUS_FOUND;
	x->cursor = exported_cursor(x->database);
	if (!x->cursor)
		return complain_memory();
	if (*x->cursor == '\0') {
		free(x->cursor);
		x->cursor = NULL;
	}
	return STATUS_FOUND;
}

/* It is replaced each time: what is there may be no device, and no pipe. */
static bool is_replaceable(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 || S_ISREG(st.st_mode);
}

static enum status open_cursor(struct export *x)
{
	const struct options *o = x->options;
	int r;

	if (o->cursor_path && !is_replaceable(o->cursor_path)) {
		complain("%s: there is something that is no regular file", o->cursor_path);
		return STATUS_ERROR;
	}
	if (o->cursor && o->cursor_path) {
		complain("--cursor and --cursor-file: not both");
		return STATUS_USAGE;
	}
	if (o->cursor)
		x->cursor = strdup(o->cursor);
	if (o->cursor && !x->cursor)
		return complain_memory();
	r = o->cursor_path ? read_cursor(o->cursor_path, &x->cursor) : 0;
	if (r < 0)
		complain("%s: %s", o->cursor_path, strerror(-r));
	return r < 0 ? STATUS_ERROR : STATUS_FOUND;
}

static enum status start(struct export *x)
{
	bool database = x->options->format && streq(x->options->format, "sqlite");
	enum status status;

	x->shown.output = x->options->format && streq(x->options->format, "csv")
				  ? OUTPUT_CSV
				  : OUTPUT_JSON_SHORT;
	status = open_cursor(x);
	if (status == STATUS_FOUND)
		status = database ? open_database(x) : open_file(x);
	if (status == STATUS_FOUND && !database && x->options->cursor_path &&
		ends_amid_row(x->view.out))
		fputc('\n', x->view.out);
	if (status == STATUS_FOUND && !database)
		status = ask_writer(&x->view, &kind_claims, false, &x->writer);
	x->progress =
		isatty(STDERR_FILENO) && !isatty(fileno(x->view.out)) && !x->options->no_legend;
	if (x->options->output_path)
		x->progress = isatty(STDERR_FILENO) && !x->options->no_legend;
	return status;
}

enum status verb_export(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *receipts = json_array();
	struct export x = {.options = o, .shown = *o, .view = *v, .connection = &c};
	enum status status;

	x.view.options = &x.shown;
	status = receipts ? start(&x) : complain_memory();
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = export_all(&x, receipts);
	if (status == STATUS_FOUND)
		status = finish(&x, receipts);
	if (status == STATUS_FOUND)
		status = answer_status(o, (size_t)x.count, receipts);
	writer_free(x.writer);
	exported_free(x.database);
	if (x.file && fclose(x.file) == EOF && status == STATUS_FOUND) {
		complain("%s: %s", o->output_path, strerror(errno));
		status = STATUS_ERROR;
	}
	free(x.cursor);
	return status;
}
