/* SPDX-License-Identifier: MIT */

#include "client/grid.h"

#include <ctype.h>
#include <libsmartcols/libsmartcols.h>

#include "client/format.h"
#include "client/jsonout.h"
#include "common/buf.h"

/* What smartcols puts between two columns. */
#define GUTTER 1

/* A cell that may be cut is worth this much before a column of its own is left out. */
#define CUT_MIN 24
/* Where no other column may go it has to do with this much: a heading, and a word. */
#define CUT_LEAST 10

struct grid_column {
	char *heading;                     /* owned */
	const struct cell *cell;           /* NULL: a column asked for by name */
	const struct shape_member *member; /* of that name */
	bool right, cut;
	unsigned drop;
	bool shown;
	size_t width; /* of the widest cell so far, in terminal columns */
	size_t limit; /* cells are cut to this width; 0: not */
	bool said;    /* a cell was not empty */
};

struct grid_cell {
	char *text; /* owned; escaped */
	enum tone tone;
};

struct grid {
	const struct view *view;
	struct grid_column column[OPTION_COLUMNS_MAX];
	size_t column_count;
	struct grid_cell *cells; /* owned; row after row */
	size_t row_count;
	char *(*detail)(const json_t *row, const struct view *v); /* NULL: none */
	char **details; /* owned; of the rows in `cells`; NULL where there are none */
	bool begun;     /* a batch was printed: no second heading, and the columns stay */
	usec_t bound;   /* the largest that was shown */
	bool before;    /* an opening or closing was told as "before" */
};

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
	return m->type == SHAPE_INT || m->type == SHAPE_SIGNED || m->type == SHAPE_TIME ||
	       m->type == SHAPE_PORT;
}

static int add_column(struct grid *g, struct grid_column column)
{
	if (!column.heading)
		return -ENOMEM;
	column.width = view_columns(column.heading);
	g->column[g->column_count++] = column;
	return 0;
}

static int add_columns(struct grid *g, const struct kind *k)
{
	const struct options *o = g->view->options;
	int r = 0;

	for (size_t i = 0; i < o->column_count && r == 0; i++) {
		const struct shape_member *m = shape_find(k->shape, o->columns[i]);

		r = add_column(g, (struct grid_column){.heading = heading_of(m->name),
					  .member = m,
					  .right = is_number(m),
					  .cut = m->type == SHAPE_TEXT});
	}
	for (size_t i = 0; o->column_count == 0 && i < k->cell_count && r == 0; i++) {
		const struct cell *cell = &k->cells[i];
		bool counted_by = cell->by && streq_null(o->by, cell->by);

		r = add_column(g, (struct grid_column){.heading = strdup(cell->heading),
					  .cell = cell,
					  .right = cell->right,
					  .cut = cell->cut,
					  .drop = counted_by ? 0 : cell->drop});
	}
	return r;
}

int grid_new(const struct view *v, const struct kind *k, struct grid **ret)
{
	_cleanup_(grid_free_p) struct grid *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->view = v;
	r = add_columns(g, k);
	if (r < 0)
		return r;
	g->cells = calloc(g->column_count * GRID_BATCH, sizeof(*g->cells));
	/* where there is no terminal, every column has room */
	g->detail = v->width > 0 && v->options->column_count == 0 ? k->detail : NULL;
	if (g->detail)
		g->details = calloc(GRID_BATCH, sizeof(*g->details));
	if (!g->cells || (g->detail && !g->details))
		return -ENOMEM;
	*ret = TAKE_PTR(g);
	return 0;
}

static void forget_rows(struct grid *g)
{
	for (size_t i = 0; g->cells && i < g->row_count * g->column_count; i++) {
		free(g->cells[i].text);
		g->cells[i].text = NULL;
	}
	for (size_t i = 0; g->details && i < g->row_count; i++)
		free(TAKE_PTR(g->details[i]));
	g->row_count = 0;
}

struct grid *grid_free(struct grid *g)
{
	if (!g)
		return NULL;
	forget_rows(g);
	for (size_t i = 0; i < g->column_count; i++)
		free(g->column[i].heading);
	free(g->cells);
	free(g->details);
	free(g);
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

static char *cell_text(const struct grid_column *c, const json_t *row, const struct view *v)
{
	if (!c->cell)
		return named_cell(c->member, row, v);
	return c->cell->member ? cell_member(row, c->cell->member) : c->cell->text(row, v);
}

/* Shows the columns that say something, then leaves out columns until the others fit, as far as there are any that may
 * go. Once for the whole table. */
static void fit(struct grid *g)
{
	for (size_t i = 0; i < g->column_count; i++)
		g->column[i].shown = g->column[i].said;
	for (;;) {
		struct grid_column *least = NULL;
		size_t width = 0;

		for (size_t i = 0; i < g->column_count; i++) {
			struct grid_column *c = &g->column[i];

			if (!c->shown)
				continue;
			width += (c->cut ? MIN(c->width, (size_t)CUT_MIN) : c->width) + GUTTER;
			if (c->drop > 0 && (!least || c->drop > least->drop))
				least = c;
		}
		if (g->view->width == 0 || width <= g->view->width + GUTTER || !least)
			return;
		least->shown = false;
	}
}

/* The widest of those that may be cut; NULL: none is wider than `least`. */
static struct grid_column *widest_to_cut(struct grid *g, size_t least)
{
	struct grid_column *widest = NULL;

	for (size_t i = 0; i < g->column_count; i++) {
		struct grid_column *c = &g->column[i];

		if (c->shown && c->cut && c->width > least && (!widest || c->width > widest->width))
			widest = c;
	}
	return widest;
}

/* What still does not fit is cut, the widest column first. Addresses and times never are: cut they would lie. */
static void limit(struct grid *g)
{
	size_t width = 0;

	for (size_t i = 0; i < g->column_count; i++)
		width += g->column[i].shown ? g->column[i].width + GUTTER : 0;
	while (g->view->width > 0 && width > g->view->width + GUTTER) {
		struct grid_column *widest = widest_to_cut(g, CUT_MIN);

		if (!widest)
			widest = widest_to_cut(g, CUT_LEAST);
		if (!widest)
			return;
		widest->limit = --widest->width;
		width--;
	}
}

/* The part of the text that begins after so many terminal columns, at a character. */
static const char *after_columns(const char *text, size_t columns)
{
	const char *rest = text + view_fit(text, columns);

	if (view_columns(text) - view_columns(rest) < columns && *rest != '\0')
		do /* a wide character does not go by halves */
			rest++;
		while ((*rest & 0xc0) == 0x80);
	return rest;
}

/* The text with a mark where it is cut: at the end; of a path in the middle, since its end tells most. */
static char *cut_text(const struct view *v, const char *text, size_t columns)
{
	const char *mark = v->utf8 ? "…" : "...";
	size_t room = columns - view_columns(mark), tail = *text == '/' ? room * 2 / 3 : 0;
	const char *end = tail > 0 ? after_columns(text, view_columns(text) - tail) : "";
	char *cut = NULL;

	return asprintf(&cut, "%.*s%s%s", (int)view_fit(text, room - tail), text, mark, end) < 0
		       ? NULL
		       : cut;
}

static int cut_cells(struct grid *g)
{
	for (size_t i = 0; i < g->row_count * g->column_count; i++) {
		size_t columns = g->column[i % g->column_count].limit;
		struct grid_cell *cell = &g->cells[i];
		char *cut;

		if (columns == 0 || view_columns(cell->text) <= columns)
			continue;
		cut = cut_text(g->view, cell->text, columns);
		if (!cut)
			return -ENOMEM;
		free(cell->text);
		cell->text = cut;
	}
	return 0;
}

static int fill_line(struct grid *g, struct libscols_line *line, const struct grid_cell *cells)
{
	size_t n = 0;

	for (size_t i = 0; i < g->column_count; i++) {
		struct libscols_cell *cell;

		if (!g->column[i].shown)
			continue;
		if (scols_line_set_data(line, n, cells[i].text) < 0)
			return -ENOMEM;
		cell = scols_line_get_cell(line, n++);
		if (g->view->color && cells[i].tone != TONE_PLAIN &&
			scols_cell_set_color(cell, view_tone(g->view, cells[i].tone)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void unref_table(struct libscols_table **table)
{
	scols_unref_table(*table);
}

/* The cells are escaped and cut already; smartcols' own encoding would escape the backslashes once more, and what it
 * cuts it does not mark. */
static struct libscols_table *new_smartcols(const struct grid *g)
{
	const struct view *v = g->view;
	struct libscols_table *table = scols_new_table();

	if (!table)
		return NULL;
	scols_table_set_stream(table, v->out);
	scols_table_enable_noencoding(table, 1);
	scols_table_enable_noheadings(table, v->options->no_legend || g->begun);
	scols_table_enable_colors(table, v->color);
	/* colours are for terminals only; the width is ours to keep */
	scols_table_set_termforce(table, v->color ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
	scols_table_set_termwidth(table, UINT16_MAX);
	return table;
}

/* Later batches keep the widths of the earlier ones: smartcols has no width that holds without a heading, but a column
 * is never narrower than its widest cell. */
static int pad_first_row(struct grid *g)
{
	for (size_t i = 0; i + 1 < g->column_count; i++) {
		const struct grid_column *c = &g->column[i];
		size_t width = view_columns(g->cells[i].text);
		int pad = (int)(c->width - width);
		char *padded = NULL;

		if (!c->shown || width >= c->width)
			continue;
		if (asprintf(&padded, "%*s%s%*s", c->right ? pad : 0, "", g->cells[i].text,
			    c->right ? 0 : pad, "") < 0)
			return -ENOMEM;
		free(g->cells[i].text);
		g->cells[i].text = padded;
	}
	return 0;
}

/* Has a column that says something no room? */
static bool lacks_room(const struct grid *g)
{
	for (size_t i = 0; i < g->column_count; i++)
		if (g->column[i].said && !g->column[i].shown)
			return true;
	return false;
}

/* What is said of several sockets of one process alike is said once. */
static void print_details(const struct grid *g)
{
	for (size_t i = 0; g->details && i < g->row_count && lacks_room(g); i++)
		if (i == 0 || !streq(g->details[i], g->details[i - 1]))
			view_wrapped(g->view, g->view->out, g->details[i], 0, 2);
}

static int print_batch(struct grid *g)
{
	_cleanup_(unref_table) struct libscols_table *table = new_smartcols(g);

	if (!table)
		return -ENOMEM;
	if (!g->begun) {
		fit(g);
		limit(g);
	}
	if (cut_cells(g) < 0 || (g->begun && pad_first_row(g) < 0))
		return -ENOMEM;
	for (size_t i = 0; i < g->column_count; i++) {
		const struct grid_column *c = &g->column[i];

		if (c->shown && !scols_table_new_column(
					table, c->heading, 0, c->right ? SCOLS_FL_RIGHT : 0))
			return -ENOMEM;
	}
	for (size_t i = 0; i < g->row_count; i++) {
		struct libscols_line *line = scols_table_new_line(table, NULL);

		if (!line || fill_line(g, line, &g->cells[i * g->column_count]) < 0)
			return -ENOMEM;
	}
	if (g->row_count > 0 && scols_print_table(table) < 0)
		return -ENOMEM;
	g->begun = true;
	print_details(g);
	forget_rows(g);
	return 0;
}

int grid_add(struct grid *g, const json_t *row)
{
	struct grid_cell *cells = &g->cells[g->row_count * g->column_count];

	for (size_t i = 0; i < g->column_count; i++) {
		struct grid_column *c = &g->column[i];
		_cleanup_(free_p) char *raw = cell_text(c, row, g->view);
		char *text = raw ? view_escape(g->view, raw) : NULL;

		if (!text) {
			while (i-- > 0)
				free(TAKE_PTR(cells[i].text));
			return -ENOMEM;
		}
		c->said = c->said || *text != '\0';
		if (c->limit == 0)
			c->width = MAX(c->width, view_columns(text));
		cells[i] = (struct grid_cell){
			text, c->cell && c->cell->tone ? c->cell->tone(row) : TONE_PLAIN};
	}
	if (g->detail) {
		g->details[g->row_count] = g->detail(row, g->view);
		if (!g->details[g->row_count]) {
			for (size_t i = 0; i < g->column_count; i++)
				free(TAKE_PTR(cells[i].text));
			return -ENOMEM;
		}
	}
	g->bound = MAX(g->bound, cell_bound(row));
	g->before = g->before || cell_is_before(row);
	g->row_count++;
	if (g->row_count < GRID_BATCH)
		return 0;
	return print_batch(g);
}

/* "No room here for USER, FIRST: see --columns, --json." */
static int print_left_out(const struct grid *g)
{
	_cleanup_(buf_done) struct buf b = {0};
	int r = 0;

	for (size_t i = 0; i < g->column_count && r == 0; i++)
		if (!g->column[i].shown && g->column[i].said)
			r = buf_append_format(&b, "%s%s",
				buf_size(&b) > 0 ? ", " : "No room here for ",
				g->column[i].heading);
	if (r < 0 || buf_size(&b) == 0)
		return r;
	if (buf_append_string(&b, ": see --columns, --json.") < 0 || buf_put_u8(&b, 0) < 0)
		return -ENOMEM;
	view_wrapped(g->view, g->view->out, (const char *)buf_bytes(&b), 0, 2);
	return 0;
}

static int print_notes(const struct grid *g)
{
	const struct view *v = g->view;
	char span[FORMAT_MAX];
	int r;

	fputs(view_tone(v, TONE_FAINT), v->out);
	if (g->bound > 0)
		fprintf(v->out,
			"%s: at that moment or up to %s before it, as far as sweeps can tell.\n",
			v->utf8 ? "≤" : "<=", format_span(g->bound, span));
	if (g->before)
		fputs("before: it was there already when first looked for.\n", v->out);
	r = g->detail ? 0 : print_left_out(g);
	fputs(view_plain(v), v->out);
	return r;
}

int grid_finish(struct grid *g)
{
	int r = 0;

	if (g->row_count > 0)
		r = print_batch(g);
	if (r == 0 && g->begun && !g->view->options->no_legend)
		r = print_notes(g);
	return r;
}
