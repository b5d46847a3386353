/* SPDX-License-Identifier: MIT */

#include "client/table.h"

#include <ctype.h>
#include <libsmartcols/libsmartcols.h>
#include <wchar.h>

#include "client/format.h"
#include "client/jsonout.h"
#include "common/buf.h"

/* What smartcols puts between two columns. */
#define GUTTER 1

struct table_column {
	char *heading;                     /* owned */
	const struct cell *cell;           /* NULL: a column asked for by name */
	const struct shape_member *member; /* of that name */
	bool right, cut;
	unsigned drop;
	bool shown;
	size_t width; /* of the widest cell so far, in terminal columns */
	bool said;    /* a cell was not empty */
};

struct table_cell {
	char *text; /* owned; escaped */
	enum tone tone;
};

struct table {
	const struct view *view;
	struct table_column column[MAX(OPTION_COLUMNS_MAX, 16)];
	size_t column_count;
	struct table_cell *cells; /* owned; row after row */
	size_t row_count;
	bool begun;   /* a batch was printed: no second heading, and the columns stay */
	usec_t bound; /* the largest that was shown */
	bool before;  /* an opening or closing was told as "before" */
};

/* In terminal columns. A byte that is no character of the locale counts as what it is printed as: \xHH. */
static size_t text_width(const char *text)
{
	size_t left = strlen(text), width = 0;
	mbstate_t state = {0};
	wchar_t wide;

	while (left > 0) {
		size_t used = mbrtowc(&wide, text, left, &state);
		int columns;

		if (used == 0 || used > left) {
			state = (mbstate_t){0};
			used = 1;
			columns = 4;
		} else {
			columns = wcwidth(wide);
		}
		width += columns > 0 ? (size_t)columns : 0;
		text += used;
		left -= used;
	}
	return width;
}

/* "opened_usec" is headed OPENED: people see a clock, not a number. */
static char *heading_of(const char *name)
{
	char *heading = strdup(name), *suffix;

	if (!heading)
		return NULL;
	suffix = strstr(heading, "_usec");
	if (suffix)
		*suffix = '\0';
	for (char *c = heading; *c != '\0'; c++)
		*c = (char)toupper((unsigned char)*c);
	return heading;
}

static bool is_number(const struct shape_member *m)
{
	return m->type == SHAPE_INT || m->type == SHAPE_TIME || m->type == SHAPE_PORT;
}

static int add_column(struct table *t, struct table_column column)
{
	if (!column.heading)
		return -ENOMEM;
	column.width = text_width(column.heading);
	t->column[t->column_count++] = column;
	return 0;
}

static int add_columns(struct table *t, const struct kind *k)
{
	const struct options *o = t->view->options;
	int r = 0;

	for (size_t i = 0; i < o->column_count && r == 0; i++) {
		const struct shape_member *m = shape_find(k->shape, o->columns[i]);

		r = add_column(t, (struct table_column){.heading = heading_of(m->name),
					  .member = m,
					  .right = is_number(m),
					  .cut = m->type == SHAPE_TEXT});
	}
	for (size_t i = 0; o->column_count == 0 && i < k->cell_count && r == 0; i++) {
		const struct cell *cell = &k->cells[i];

		r = add_column(t, (struct table_column){.heading = strdup(cell->heading),
					  .cell = cell,
					  .right = cell->right,
					  .cut = cell->cut,
					  .drop = cell->drop});
	}
	return r;
}

int table_new(const struct view *v, const struct kind *k, struct table **ret)
{
	_cleanup_(table_free_p) struct table *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->view = v;
	r = add_columns(t, k);
	if (r < 0)
		return r;
	t->cells = calloc(t->column_count * TABLE_BATCH, sizeof(*t->cells));
	if (!t->cells)
		return -ENOMEM;
	*ret = TAKE_PTR(t);
	return 0;
}

static void forget_rows(struct table *t)
{
	for (size_t i = 0; t->cells && i < t->row_count * t->column_count; i++) {
		free(t->cells[i].text);
		t->cells[i].text = NULL;
	}
	t->row_count = 0;
}

struct table *table_free(struct table *t)
{
	if (!t)
		return NULL;
	forget_rows(t);
	for (size_t i = 0; i < t->column_count; i++)
		free(t->column[i].heading);
	free(t->cells);
	free(t);
	return NULL;
}

static char *json_cell(const json_t *value)
{
	_cleanup_(buf_done) struct buf b = {0};

	if (jsonout_put(&b, value, -1) < 0)
		return NULL;
	return strndup((const char *)buf_bytes(&b), buf_size(&b));
}

/* The cell of a column asked for by its name. */
static char *named_cell(const struct shape_member *m, const json_t *row, const struct view *v)
{
	const json_t *value = json_object_get(row, m->name);
	char text[FORMAT_TIME_MAX];

	if (json_is_array(value) || json_is_object(value) || json_is_boolean(value))
		return json_cell(value);
	if (m->type == SHAPE_TIME && json_is_integer(value))
		return strdup(format_time(row_time(row, m->name), v->now, text));
	return cell_member(row, m->name);
}

static char *cell_text(const struct table_column *c, const json_t *row, const struct view *v)
{
	if (!c->cell)
		return named_cell(c->member, row, v);
	return c->cell->member ? cell_member(row, c->cell->member) : c->cell->text(row, v);
}

/* Shows the columns that say something, then leaves out columns until the others fit, as far as there are any that may
 * go. Once for the whole table. */
static void fit(struct table *t)
{
	for (size_t i = 0; i < t->column_count; i++)
		t->column[i].shown = t->column[i].said;
	for (;;) {
		struct table_column *least = NULL;
		size_t width = 0;

		for (size_t i = 0; i < t->column_count; i++) {
			struct table_column *c = &t->column[i];

			if (!c->shown)
				continue;
			width += c->width + GUTTER;
			if (c->drop > 0 && (!least || c->drop > least->drop))
				least = c;
		}
		if (t->view->width == 0 || width <= t->view->width + GUTTER || !least)
			return;
		least->shown = false;
	}
}

static const char *color_name(enum tone tone)
{
	switch (tone) {
	case TONE_PLAIN:
		return NULL;
	case TONE_GOOD:
		return "green";
	case TONE_WARNING:
		return "yellow";
	case TONE_BAD:
		return "red";
	case TONE_FAINT:
		return "halfbright";
	}
	return NULL;
}

static int fill_line(struct table *t, struct libscols_line *line, const struct table_cell *cells)
{
	size_t n = 0;

	for (size_t i = 0; i < t->column_count; i++) {
		struct libscols_cell *cell;

		if (!t->column[i].shown)
			continue;
		if (scols_line_set_data(line, n, cells[i].text) < 0)
			return -ENOMEM;
		cell = scols_line_get_cell(line, n++);
		if (cells[i].tone != TONE_PLAIN &&
			scols_cell_set_color(cell, color_name(cells[i].tone)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void unref_table(struct libscols_table **table)
{
	scols_unref_table(*table);
}

/* The cells are escaped already; smartcols' own encoding would escape the backslashes once more. */
static struct libscols_table *new_smartcols(const struct table *t)
{
	const struct view *v = t->view;
	struct libscols_table *table = scols_new_table();

	if (!table)
		return NULL;
	scols_table_set_stream(table, v->out);
	scols_table_enable_noencoding(table, 1);
	scols_table_enable_noheadings(table, v->options->no_legend || t->begun);
	scols_table_enable_colors(table, v->color);
	scols_table_set_termforce(
		table, v->width > 0 ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
	if (v->width > 0)
		scols_table_set_termwidth(table, v->width);
	return table;
}

/* Later batches keep the columns and the widths of the earlier ones. */
static int print_batch(struct table *t)
{
	_cleanup_(unref_table) struct libscols_table *table = new_smartcols(t);

	if (!table)
		return -ENOMEM;
	if (!t->begun)
		fit(t);
	for (size_t i = 0; i < t->column_count; i++) {
		const struct table_column *c = &t->column[i];
		int flags = (c->right ? SCOLS_FL_RIGHT : 0) | (c->cut ? SCOLS_FL_TRUNC : 0) |
			    (c->cut ? 0 : SCOLS_FL_STRICTWIDTH);

		if (c->shown && !scols_table_new_column(table, c->heading, (double)c->width, flags))
			return -ENOMEM;
	}
	for (size_t i = 0; i < t->row_count; i++) {
		struct libscols_line *line = scols_table_new_line(table, NULL);

		if (!line || fill_line(t, line, &t->cells[i * t->column_count]) < 0)
			return -ENOMEM;
	}
	if (t->row_count > 0 && scols_print_table(table) < 0)
		return -ENOMEM;
	t->begun = true;
	forget_rows(t);
	return 0;
}

int table_add(struct table *t, const json_t *row)
{
	struct table_cell *cells = &t->cells[t->row_count * t->column_count];

	for (size_t i = 0; i < t->column_count; i++) {
		struct table_column *c = &t->column[i];
		_cleanup_(free_p) char *raw = cell_text(c, row, t->view);
		char *text = raw ? view_escape(t->view, raw) : NULL;

		if (!text) {
			while (i-- > 0)
				free(TAKE_PTR(cells[i].text));
			return -ENOMEM;
		}
		c->said = c->said || *text != '\0';
		c->width = MAX(c->width, text_width(text));
		cells[i] = (struct table_cell){
			text, c->cell && c->cell->tone ? c->cell->tone(row) : TONE_PLAIN};
	}
	t->bound = MAX(t->bound, cell_bound(row));
	t->before = t->before || cell_is_before(row);
	t->row_count++;
	if (t->row_count < TABLE_BATCH)
		return 0;
	return print_batch(t);
}

static void print_notes(const struct table *t)
{
	const struct view *v = t->view;
	char span[FORMAT_MAX];
	bool first = true;

	fputs(view_tone(v, TONE_FAINT), v->out);
	if (t->bound > 0)
		fprintf(v->out,
			"%s: at that moment or up to %s before it, as far as sweeps can tell.\n",
			v->utf8 ? "≤" : "<=", format_span(t->bound, span));
	if (t->before)
		fputs("before: it was there already when first looked for.\n", v->out);
	for (size_t i = 0; i < t->column_count; i++) {
		if (t->column[i].shown || !t->column[i].said)
			continue;
		fprintf(v->out, "%s%s", first ? "No room here for " : ", ", t->column[i].heading);
		first = false;
	}
	fputs(first ? "" : ": see --columns, --json.\n", v->out);
	fputs(view_plain(v), v->out);
}

int table_finish(struct table *t)
{
	int r = 0;

	if (t->row_count > 0)
		r = print_batch(t);
	if (r == 0 && t->begun && !t->view->options->no_legend)
		print_notes(t);
	return r;
}
