/* SPDX-License-Identifier: MIT */

/* Who, when: programs from top to bottom, time from left to right, how many claims each opened in each step. */

#include <inttypes.h>

#include "client/format.h"
#include "client/report.h"
#include "client/shape.h"

#define ROWS_MAX    30u /* programs drawn; the table has all that the daemon lists */
#define ROW         220
#define NAMES       28u  /* columns of a name */
#define BEFORE      2320 /* right end of what was open before */
#define NUMBER_ROOM 240  /* a cell so wide has its number in it */

struct heat {
	struct axis axis;
	struct levels levels;
	uint64_t most; /* of a cell */
	usec_t origin, step;
	size_t rows;
};

static uint64_t step_count(const json_t *row, size_t i)
{
	return (uint64_t)json_integer_value(json_array_get(json_object_get(row, "steps"), i));
}

static size_t program_count(const struct report *r)
{
	return json_array_size(json_object_get(r->activity, "programs"));
}

static const json_t *program(const struct report *r, size_t i)
{
	return json_array_get(json_object_get(r->activity, "programs"), i);
}

/* What the programs that are not drawn did in a step. */
static uint64_t rest_of_step(const struct figure *f, size_t i)
{
	const struct heat *h = f->data;
	uint64_t rest = step_count(f->report->activity, i);

	for (size_t n = 0; n < h->rows; n++)
		rest -= MIN(rest, step_count(program(f->report, n), i));
	return rest;
}

static struct window step_window(const struct figure *f, size_t i)
{
	const struct heat *h = f->data;
	usec_t from = h->origin + i * h->step;

	return (struct window){
		MAX(from, f->report->window.from), MIN(from + h->step, f->report->window.until)};
}

static void draw_cell(
	struct sheet *s, const struct figure *f, size_t i, int y, uint64_t count, const char *name)
{
	const struct heat *h = f->data;
	struct window w = step_window(f, i);
	int left = axis_x(&h->axis, w.from), right = axis_x(&h->axis, w.until);
	char begin[FORMAT_TIME_MAX], end[FORMAT_TIME_MAX], claims[FORMAT_MAX],
		number[SHORT_COUNT_MAX];
	unsigned level = level_of(&h->levels, count);

	if (count == 0 || right <= left)
		return;
	sheet_put(s, "<g><rect class='l%u' x='" PX "' y='" PX "' width='" PX "' height='" PX "'/>",
		level, PX_OF(left + 5), PX_OF(y + 10), PX_OF(MAX(right - left - 10, 5)),
		PX_OF(ROW - 20));
	if (right - left >= NUMBER_ROOM)
		sheet_put(s, "<text class='number n%u' x='" PX "' y='" PX "'>%s</text>", level,
			PX_OF(left + (right - left) / 2), PX_OF(y + 150),
			short_count(count, number));
	sheet_put(s, "<title>");
	sheet_text(s, name);
	sheet_put(s, ", %s–%s: %s</title></g>\n",
		format_moment(w.from, f->report->window.from, begin),
		format_moment(w.until, w.from, end), format_count(count, claims));
}

/* A name, and after it, fainter, the unit as far as there is room. */
static void draw_name(struct sheet *s, const json_t *row, const char *name, int y)
{
	const char *base = strrchr(name, '/');
	const char *unit = row_text(row, "unit");
	size_t used;

	/* the whole path is in the table; "name (path)" begins with what tells programs of one interpreter apart */
	if (*name == '/' && base[1] != '\0')
		name = base + 1;
	sheet_put(s, "<text class='name' x='0' y='" PX "'>", PX_OF(y + 150));
	used = sheet_cut(s, name, NAMES);
	if (unit && used + 6 < NAMES) {
		sheet_put(s, "<tspan class='muted' dx='7'>");
		sheet_cut(s, unit, NAMES - used - 1);
		sheet_put(s, "</tspan>");
	}
	sheet_put(s, "</text>\n");
}

static void draw_sums(struct sheet *s, int y, uint64_t before, uint64_t claims)
{
	char text[FORMAT_MAX];

	if (before > 0)
		sheet_label(s, BEFORE, y + 150, "end muted", short_count(before, text));
	sheet_label(s, PICTURE_WIDTH - 10, y + 150, "end", format_count(claims, text));
}

static void draw_program(struct sheet *s, const struct figure *f, const json_t *row, int y)
{
	_cleanup_(free_p) char *name = report_program(f->report, row);
	size_t steps = json_array_size(json_object_get(f->report->activity, "steps"));

	if (!name) {
		s->failed = true;
		return;
	}
	draw_name(s, row, name, y);
	for (size_t i = 0; i < steps; i++)
		draw_cell(s, f, i, y, step_count(row, i), name);
	draw_sums(s, y, (uint64_t)row_int(row, "before", 0), (uint64_t)row_int(row, "claims", 0));
}

/* The programs that have no row of their own, as one. */
static void draw_rest(struct sheet *s, const struct figure *f, int y)
{
	const struct heat *h = f->data;
	const json_t *a = f->report->activity;
	uint64_t others = program_count(f->report) - h->rows + (uint64_t)row_int(a, "omitted", 0);
	uint64_t claims = (uint64_t)row_int(a, "claims", 0),
		 before = (uint64_t)row_int(a, "before", 0);
	char text[64], count[FORMAT_MAX];

	for (size_t n = 0; n < h->rows; n++) {
		claims -= MIN(claims, (uint64_t)row_int(program(f->report, n), "claims", 0));
		before -= MIN(before, (uint64_t)row_int(program(f->report, n), "before", 0));
	}
	snprintf(text, sizeof(text), "%s more program%s", format_count(others, count),
		format_plural(others));
	sheet_label(s, 0, y + 150, "name muted", text);
	for (size_t i = 0; i < json_array_size(json_object_get(a, "steps")); i++)
		draw_cell(s, f, i, y, rest_of_step(f, i), text);
	draw_sums(s, y, before, claims);
}

static bool has_rest(const struct figure *f)
{
	const struct heat *h = f->data;

	return program_count(f->report) > h->rows || row_int(f->report->activity, "omitted", 0) > 0;
}

static void draw_heat(struct sheet *s, const struct figure *f)
{
	const struct heat *h = f->data;
	int rows = (int)h->rows + has_rest(f), bottom = PICTURE_TOP + rows * ROW;
	char what[FORMAT_MAX + 32], span[FORMAT_MAX];

	if (h->rows == 0) {
		sheet_label(s, PICTURE_LEFT, 300, "muted", "No claim matched.");
		return;
	}
	axis_draw(s, &h->axis, PICTURE_TOP, bottom);
	axis_unwatched(
		s, &h->axis, json_object_get(f->report->activity, "coverage"), PICTURE_TOP, bottom);
	if (row_int(f->report->activity, "before", 0) > 0)
		sheet_label(s, BEFORE, PICTURE_TOP - 60, "end muted", "before");
	sheet_label(s, PICTURE_WIDTH - 10, PICTURE_TOP - 60, "end muted", "claims");
	for (size_t n = 0; n < h->rows; n++)
		draw_program(s, f, program(f->report, n), PICTURE_TOP + (int)n * ROW);
	if (has_rest(f))
		draw_rest(s, f, PICTURE_TOP + (int)h->rows * ROW);
	snprintf(what, sizeof(what), "opened in %s", format_span(h->step, span));
	sheet_legend(s, PICTURE_LEFT, bottom + 120, &h->levels, h->most, what);
}

static void table_row(struct sheet *s, const struct figure *f, const json_t *row)
{
	_cleanup_(free_p) char *name = report_program(f->report, row),
			       *user = report_user(f->report, row);
	size_t steps = json_array_size(json_object_get(f->report->activity, "steps"));

	if (!name) {
		s->failed = true;
		return;
	}
	sheet_put(s, "<tr>");
	sheet_cell(s, name);
	sheet_cell(s, row_text(row, "unit"));
	sheet_cell(s, user);
	sheet_count(s, (uint64_t)row_int(row, "claims", 0));
	sheet_count(s, (uint64_t)row_int(row, "before", 0));
	for (size_t i = 0; i < steps; i++)
		sheet_count(s, step_count(row, i));
	sheet_put(s, "</tr>\n");
}

static void table_heat(struct sheet *s, const struct figure *f)
{
	const json_t *a = f->report->activity;
	size_t steps = json_array_size(json_object_get(a, "steps"));

	sheet_table(s, "Claims per program, and how many it opened in each step");
	sheet_heading(s, "Program");
	sheet_heading(s, "Unit");
	sheet_heading(s, "User");
	sheet_heading(s, "Claims");
	sheet_heading(s, "Open before");
	for (size_t i = 0; i < steps; i++) {
		char text[FORMAT_TIME_MAX];

		sheet_heading(
			s, format_moment(step_window(f, i).from, f->report->window.from, text));
	}
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	for (size_t n = 0; n < program_count(f->report); n++)
		table_row(s, f, program(f->report, n));
	sheet_put(s, "</tbody>\n<tfoot><tr><th colspan='3'>All%s</th>",
		row_int(a, "omitted", 0) > 0 ? ", with programs that are not listed" : "");
	sheet_count(s, (uint64_t)row_int(a, "claims", 0));
	sheet_count(s, (uint64_t)row_int(a, "before", 0));
	for (size_t i = 0; i < steps; i++)
		sheet_count(s, step_count(a, i));
	sheet_put(s, "</tr></tfoot></table>\n");
}

int report_programs(const struct report *r, struct figure *ret)
{
	struct heat *h = calloc(1, sizeof(*h));
	struct figure f = {.id = "programs",
		.title = "Who, when",
		.report = r,
		.data = h,
		.draw = draw_heat,
		.table = table_heat};
	size_t steps = json_array_size(json_object_get(r->activity, "steps"));

	if (!h)
		return -ENOMEM;
	h->axis = (struct axis){r->window, PICTURE_LEFT, PICTURE_RIGHT};
	h->origin = row_time(r->activity, "origin_usec");
	h->step = MAX((usec_t)row_int(r->activity, "step_usec", 1), (usec_t)1);
	h->rows = MIN(program_count(r), (size_t)ROWS_MAX);
	for (size_t n = 0; n < h->rows; n++)
		for (size_t i = 0; i < steps; i++)
			h->most = MAX(h->most, step_count(program(r, n), i));
	for (size_t i = 0; i < steps; i++)
		h->most = MAX(h->most, rest_of_step(&f, i));
	h->levels = levels_of(h->most);
	f.height = h->rows ? PICTURE_TOP + ((int)h->rows + has_rest(&f)) * ROW + 300 : 400;
	f.note = strdup(
		"Claims that each program opened, those with most of them first. Hatched: nobody was watching.");
	if (!f.note) {
		free(h);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}
