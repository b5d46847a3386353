/* SPDX-License-Identifier: MIT */

/*
 * Four writers behind one small table of functions. All but the table stream: a history may be longer than memory, and
 * a reader such as `head` may stop at any row. Escaping happens here and nowhere before: each writer has the one
 * encoder of its syntax.
 */

#include "client/render.h"

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#include "client/jsonout.h"
#include "client/receipt.h"
#include "client/grid.h"
#include "client/users.h"
#include "common/buf.h"
#include "common/escape.h"

struct value {
	UT_hash_handle hh;
	char text[];
};

struct writer {
	const struct writer_ops *ops;
	const struct view *view;
	const struct kind *kind;
	struct shape shape; /* what a row is printed with: the kind's, or the columns asked for */
	struct shape_member members[OPTION_COLUMNS_MAX];
	size_t count;
	struct grid *grid;    /* OUTPUT_TABLE; owned. NULL: printed already */
	struct value *values; /* OUTPUT_FIELD: those printed; owned */
};

struct writer_ops {
	int (*row)(struct writer *w, const json_t *row);
	int (*finish)(struct writer *w, const json_t *total, const json_t *receipts);
};

/* Prints the buffer and forgets it. */
static void flush_buf(FILE *out, struct buf *b)
{
	if (buf_size(b) > 0)
		(void)fwrite(buf_bytes(b), 1, buf_size(b), out); /* main() looks at ferror() */
	buf_consume(b, buf_size(b));
}

static int print_json(
	FILE *out, const char *before, const json_t *value, int indent, const char *after)
{
	_cleanup_(buf_done) struct buf b = {0};
	int r;

	r = buf_append_string(&b, before);
	if (r == 0)
		r = jsonout_put(&b, value, indent);
	if (r == 0)
		r = buf_append_string(&b, after);
	if (r == 0)
		flush_buf(out, &b);
	return r;
}

void writer_degraded(const struct view *v, FILE *out, const json_t *reasons)
{
	const json_t *reason;
	size_t i;

	json_array_foreach(reasons, i, reason)
	{
		fprintf(out, "%sdegraded:%s ", out == v->out ? view_tone(v, TONE_WARNING) : "",
			out == v->out ? view_plain(v) : "");
		view_wrapped(v, out, json_string_value(reason), 10, 10);
	}
}

int writer_receipts(const struct view *v, FILE *out, const json_t *receipts)
{
	const json_t *receipt, *degraded = NULL;
	size_t i;

	json_array_foreach(receipts, i, receipt)
	{
		_cleanup_(buf_done) struct buf b = {0};
		bool watched = receipt_watched(receipt);

		if (receipt_text(receipt, v, &b) < 0 || buf_put_u8(&b, 0) < 0)
			return -ENOMEM;
		fputs(watched || out != v->out ? "" : view_tone(v, TONE_WARNING), out);
		view_wrapped(v, out, (const char *)buf_bytes(&b), 0, 2);
		fputs(watched || out != v->out ? "" : view_plain(v), out);
		if (json_array_size(json_object_get(receipt, "degraded")) > 0)
			degraded = json_object_get(receipt, "degraded");
	}
	writer_degraded(v, out, degraded); /* now is once */
	return 0;
}

static int table_writer_row(struct writer *w, const json_t *row)
{
	return grid_add(w->grid, row);
}

int writer_end_rows(struct writer *w)
{
	int r = w->grid ? grid_finish(w->grid) : 0;

	w->grid = grid_free(w->grid);
	return r;
}

static int table_writer_finish(
	struct writer *w, _unused_ const json_t *total, const json_t *receipts)
{
	int r = writer_end_rows(w);

	return r < 0 ? r : writer_receipts(w->view, w->view->out, receipts);
}

static const struct writer_ops table_ops = {table_writer_row, table_writer_finish};

static int short_row(struct writer *w, const json_t *row)
{
	return print_json(w->view->out, "", row, -1, "\n");
}

static int short_finish(struct writer *w, const json_t *total, const json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *receipt = receipts ? receipt_merge(receipts) : NULL;
	int r;

	if (receipts && !receipt)
		return -ENOMEM;
	if (!receipt)
		return 0;
	r = print_json(w->view->out, "{\"coverage\":", receipt, -1, "");
	if (r == 0 && total)
		r = print_json(w->view->out, ",\"total\":", total, -1, "");
	fputs("}\n", w->view->out);
	return r;
}

static const struct writer_ops short_ops = {short_row, short_finish};

/* One document, row after row: {"claims": [...], "coverage": {...}}. */
static int pretty_row(struct writer *w, const json_t *row)
{
	if (w->count == 1)
		fprintf(w->view->out, "{\n  \"%s\": [", w->kind->plural);
	return print_json(w->view->out, w->count == 1 ? "\n    " : ",\n    ", row, 4, "");
}

static int pretty_finish(struct writer *w, const json_t *total, const json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *receipt = receipts ? receipt_merge(receipts) : NULL;
	FILE *out = w->view->out;
	int r = 0;

	if (receipts && !receipt)
		return -ENOMEM;
	if (w->count == 0)
		fprintf(out, "{\n  \"%s\": []", w->kind->plural);
	else
		fputs("\n  ]", out);
	if (receipt)
		r = print_json(out, ",\n  \"coverage\": ", receipt, 2, "");
	if (r == 0 && total)
		r = print_json(out, ",\n  \"total\": ", total, 2, "");
	fputs("\n}\n", out);
	return r;
}

static const struct writer_ops pretty_ops = {pretty_row, pretty_finish};

static int put_csv(struct buf *b, const json_t *value)
{
	_cleanup_(buf_done) struct buf json = {0};
	_cleanup_(free_p) char *field = NULL;
	int r;

	if (json_is_null(value))
		return 0;
	if (json_is_string(value)) {
		field = escape_csv(json_string_value(value));
		return field ? buf_append_string(b, field) : -ENOMEM;
	}
	r = jsonout_put(&json, value, -1);
	if (r == 0)
		r = buf_put_u8(&json, 0);
	if (r < 0)
		return r;
	field = escape_csv((const char *)buf_bytes(&json));
	return field ? buf_append_string(b, field) : -ENOMEM;
}

static void csv_header(const struct writer *w)
{
	for (size_t i = 0; i < w->shape.count; i++)
		fprintf(w->view->out, "%s%s", i == 0 ? "" : ",", w->shape.members[i].name);
	fputs("\r\n", w->view->out);
}

static int csv_row(struct writer *w, const json_t *row)
{
	_cleanup_(buf_done) struct buf b = {0};
	int r = 0;

	if (w->count == 1 && !w->view->options->no_legend)
		csv_header(w);
	for (size_t i = 0; i < w->shape.count && r == 0; i++) {
		if (i > 0)
			r = buf_append_string(&b, ",");
		if (r == 0)
			r = put_csv(&b, json_object_get(row, w->shape.members[i].name));
	}
	if (r == 0)
		r = buf_append_string(&b, "\r\n");
	if (r == 0)
		flush_buf(w->view->out, &b);
	return r;
}

static int csv_finish(struct writer *w, _unused_ const json_t *total, const json_t *receipts)
{
	if (w->count == 0 && !w->view->options->no_legend)
		csv_header(w);
	return writer_receipts(w->view, w->view->notes, receipts);
}

static const struct writer_ops csv_ops = {csv_row, csv_finish};

/* The value as people type it into a filter; NULL: not known, which is no value, or no memory. */
static int field_text(const json_t *value, char **ret)
{
	_cleanup_(buf_done) struct buf b = {0};

	if (json_is_string(value)) {
		*ret = strdup(json_string_value(value));
		return *ret ? 0 : -ENOMEM;
	}
	if (jsonout_put(&b, value, -1) < 0)
		return -ENOMEM;
	*ret = strndup((const char *)buf_bytes(&b), buf_size(&b));
	return *ret ? 0 : -ENOMEM;
}

static int field_row(struct writer *w, const json_t *row)
{
	const json_t *field = json_object_get(row, w->view->options->field);
	_cleanup_(free_p) char *text = NULL;
	struct value *value;
	size_t length;
	int r;

	if (json_is_null(field))
		return 0;
	r = field_text(field, &text);
	if (r < 0)
		return r;
	length = strlen(text);
	HASH_FIND(hh, w->values, text, length, value);
	if (value)
		return 0;
	value = calloc(1, sizeof(*value) + length + 1);
	if (!value)
		return -ENOMEM;
	memcpy(value->text, text, length + 1);
	HASH_ADD(hh, w->values, text, length, value);
	if (!value->hh.tbl) {
		free(value);
		return -ENOMEM;
	}
	view_text(w->view, text);
	fputc('\n', w->view->out);
	return 0;
}

static int field_finish(struct writer *w, _unused_ const json_t *total, const json_t *receipts)
{
	return writer_receipts(w->view, w->view->notes, receipts);
}

static const struct writer_ops field_ops = {field_row, field_finish};

static const struct writer_ops *ops_of(enum output output, bool unbounded)
{
	switch (output) {
	case OUTPUT_TABLE:
		return &table_ops;
	case OUTPUT_JSON_SHORT:
		return &short_ops;
	case OUTPUT_JSON_PRETTY:
		return unbounded ? &short_ops : &pretty_ops;
	case OUTPUT_CSV:
		return &csv_ops;
	case OUTPUT_FIELD:
		return &field_ops;
	}
	return NULL;
}

const char *writer_unknown_column(const struct view *v, const struct kind *k)
{
	const struct options *o = v->options;

	if (o->field && !shape_find(k->shape, o->field))
		return o->field;
	for (size_t i = 0; i < o->column_count; i++)
		if (!shape_find(k->shape, o->columns[i]))
			return o->columns[i];
	return NULL;
}

int writer_new(const struct view *v, const struct kind *k, bool unbounded, struct writer **ret)
{
	_cleanup_(writer_free_p) struct writer *w = calloc(1, sizeof(*w));
	const struct options *o = v->options;
	int r;

	if (!w)
		return -ENOMEM;
	w->ops = ops_of(o->output, unbounded);
	w->view = v;
	w->kind = k;
	w->shape = *k->shape;
	if (o->column_count > 0 && o->output != OUTPUT_TABLE && o->output != OUTPUT_FIELD) {
		for (size_t i = 0; i < o->column_count; i++)
			w->members[i] = *shape_find(k->shape, o->columns[i]);
		w->shape = (struct shape){w->members, o->column_count};
	}
	if (o->output == OUTPUT_TABLE) {
		r = grid_new(v, k, &w->grid);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(w);
	return 0;
}

struct writer *writer_free(struct writer *w)
{
	struct value *value, *next;

	if (!w)
		return NULL;
	HASH_ITER (hh, w->values, value, next) {
		HASH_DEL(w->values, value);
		free(value);
	}
	grid_free(w->grid);
	free(w);
	return NULL;
}

int writer_fill_user(const struct view *v, json_t *row)
{
	int64_t uid = row_int(row, "uid", -1);
	const char *name;
	json_t *user;

	if (uid < 0 || uid >= UINT32_MAX || !v->users || !json_object_get(row, "user"))
		return 0;
	name = users_name(v->users, (uint32_t)uid);
	user = name ? json_string(name) : NULL; /* NULL, too, where the name is not UTF-8 */
	if (!user)
		return 0;
	return json_object_set_new(row, "user", user) < 0 ? -ENOMEM : 0;
}

int writer_row(struct writer *w, const json_t *row)
{
	_cleanup_(json_decrefp) json_t *whole = shape_order(w->kind->shape, row), *printed = NULL;
	int r;

	if (!whole)
		return -ENOMEM;
	r = writer_fill_user(w->view, whole);
	if (r < 0)
		return r;
	printed =
		w->shape.members == w->members ? shape_order(&w->shape, whole) : json_incref(whole);
	if (!printed)
		return -ENOMEM;
	w->count++;
	return w->ops->row(w, printed);
}

size_t writer_count(const struct writer *w)
{
	return w->count;
}

int writer_finish(struct writer *w, const json_t *total, const json_t *receipts)
{
	return w->ops->finish(w, total, receipts);
}

int writer_object(const struct view *v, json_t *o)
{
	_cleanup_(json_decrefp) json_t *coverage = NULL;
	int r;

	if (v->options->output == OUTPUT_JSON_PRETTY)
		return print_json(v->out, "", o, 0, "\n");
	coverage = json_incref(json_object_get(o, "coverage"));
	(void)json_object_del(o, "coverage");
	r = print_json(v->out, "", o, -1, "\n");
	if (r == 0 && coverage)
		r = print_json(v->out, "{\"coverage\":", coverage, -1, "}\n");
	return r;
}
