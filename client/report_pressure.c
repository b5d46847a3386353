/* SPDX-License-Identifier: MIT */

/* Pressure: how many ports of the kernel's range were in use at once, over time; what is only left in TIME_WAIT on top. A panel
 * for each namespace and protocol, the fullest first. */

#include <inttypes.h>

#include "client/format.h"
#include "client/report.h"
#include "client/shape.h"

#define PANELS_MAX 6u
#define PANEL      1300 /* high, and PANEL_GAP below it */
#define PANEL_GAP  240
#define WORDS      180
#define TOP        (PICTURE_TOP + 100)

struct pressure {
	struct axis axis;
	size_t panels;
	usec_t origin, step;
};

static const json_t *series(const struct figure *f, size_t i)
{
	return json_array_get(json_object_get(f->report->occupancy, "series"), i);
}

static uint64_t at_step(const json_t *row, const char *name, size_t i)
{
	return (uint64_t)json_integer_value(json_array_get(json_object_get(row, name), i));
}

static uint64_t available(const json_t *row)
{
	const json_t *range = json_object_get(row, "range");
	int64_t low = row_int(range, "low", 0), high = row_int(range, "high", 0);

	return high >= low ? (uint64_t)(high - low) + 1 : 1;
}

/* A round number that is not below, and even. */
static uint64_t round_up(uint64_t n)
{
	static const uint64_t steps[] = {2, 4, 6, 8, 10};
	uint64_t power = 1;

	while (power * 10 < n)
		power *= 10;
	for (size_t i = 0; i < ELEMENTSOF(steps); i++)
		if (power * steps[i] >= n)
			return power * steps[i];
	return n;
}

/* The top of a panel: near exhaustion the whole range, so that it is seen how near. */
static uint64_t ceiling(const json_t *row)
{
	uint64_t peak = (uint64_t)row_int(row, "peak", 0);

	return peak * 2 > available(row) ? MAX(available(row), peak)
					 : MAX(round_up(peak), (uint64_t)4);
}

static size_t step_total(const struct figure *f)
{
	return json_array_size(json_object_get(series(f, 0), "used"));
}

static int x_of_step(const struct figure *f, size_t i)
{
	const struct pressure *p = f->data;

	return axis_x(&p->axis, p->origin + i * p->step);
}

static int y_of(uint64_t count, uint64_t top, int y)
{
	return y + PANEL - (int)((double)MIN(count, top) / (double)top * PANEL);
}

/* The area between nothing and `name`, less `less`, as steps. */
static void draw_area(struct sheet *s, const struct figure *f, const json_t *row, int y,
	bool time_wait, const char *css)
{
	uint64_t top = ceiling(row);
	size_t steps = step_total(f);

	sheet_put(s, "<path class='%s' d='M" PX " " PX, css, PX_OF(PICTURE_LEFT), PX_OF(y + PANEL));
	for (size_t i = 0; i < steps; i++) {
		uint64_t used = at_step(row, "used", i);
		uint64_t waits = MIN(at_step(row, "time_wait", i), used);

		sheet_put(s, "V" PX "H" PX, PX_OF(y_of(time_wait ? used : used - waits, top, y)),
			PX_OF(x_of_step(f, i + 1)));
	}
	sheet_put(s, "V" PX "z'/>\n", PX_OF(y + PANEL));
}

/* "4 %", "0.3 %" of all. */
static const char *percent(uint64_t count, uint64_t all, char text[static FORMAT_MAX])
{
	uint64_t permille = count * 1000 / MAX(all, (uint64_t)1);

	if (permille == 0 && count > 0)
		snprintf(text, FORMAT_MAX, "<0.1 %%");
	else if (permille < 100 && permille % 10 != 0)
		snprintf(text, FORMAT_MAX, "%" PRIu64 ".%" PRIu64 " %%", permille / 10,
			permille % 10);
	else
		snprintf(text, FORMAT_MAX, "%" PRIu64 " %%", permille / 10);
	return text;
}

static void draw_scale(struct sheet *s, const json_t *row, int y)
{
	uint64_t top = ceiling(row);

	for (uint64_t i = 0; i <= 2; i++) {
		uint64_t count = top * i / 2;
		int line = y_of(count, top, y);
		char text[FORMAT_MAX];

		sheet_put(s, "<path class='grid' d='M" PX " " PX "H" PX "'/>\n",
			PX_OF(PICTURE_LEFT), PX_OF(line), PX_OF(PICTURE_RIGHT));
		sheet_label(s, PICTURE_LEFT - 60, line + 40, "end mono muted",
			format_count(count, text));
		sheet_label(s, PICTURE_RIGHT + 60, line + 40, "mono muted",
			percent(count, available(row), text));
	}
	if (top >= available(row))
		sheet_put(s, "<path class='mark' d='M" PX " " PX "H" PX "'/>\n",
			PX_OF(PICTURE_LEFT), PX_OF(y_of(available(row), top, y)),
			PX_OF(PICTURE_RIGHT));
}

/* What the panel is of, in the margin. */
static void draw_words(struct sheet *s, const struct figure *f, const json_t *row, int y)
{
	const char *name = row_text(row, "netns_name");
	int64_t inode = row_int(row, "netns", 0);
	uint64_t peak = (uint64_t)row_int(row, "peak", 0);
	char first[FORMAT_MAX], second[FORMAT_MAX], text[160];

	sheet_put(s, "<text class='strong' x='0' y='" PX "'>", PX_OF(y + 180));
	sheet_text(s, row_text(row, "protocol"));
	sheet_put(s, "</text>\n");
	if (name || (inode != 0 && (uint64_t)inode != f->report->view->netns)) {
		sheet_put(s, "<text class='name muted' x='0' y='" PX "'>", PX_OF(y + 180 + WORDS));
		snprintf(text, sizeof(text), "netns %lld", (long long)inode);
		sheet_cut(s, name ? name : text, 24);
		sheet_put(s, "</text>\n");
		y += WORDS;
	}
	snprintf(text, sizeof(text), "peak %s (%s)", format_count(peak, first),
		percent(peak, available(row), second));
	sheet_label(s, 0, y + 180 + WORDS, "muted", text);
	if (peak > 0) {
		usec_t at = row_time(row, "peak_usec");
		char moment[FORMAT_TIME_MAX];

		snprintf(text, sizeof(text), "at %s",
			format_moment(at - at % USEC_PER_SEC, f->report->window.from, moment));
		sheet_label(s, 0, y + 180 + 2 * WORDS, "muted", text);
	}
}

/* Each step says what it was where the mouse rests on it. */
static void draw_tips(struct sheet *s, const struct figure *f, const json_t *row, int y)
{
	const struct pressure *p = f->data;

	for (size_t i = 0; i < step_total(f); i++) {
		usec_t from = MAX(p->origin + i * p->step, f->report->window.from);
		uint64_t used = at_step(row, "used", i), waits = at_step(row, "time_wait", i);
		char moment[FORMAT_TIME_MAX], first[FORMAT_MAX], second[FORMAT_MAX], text[160];

		if (used == 0)
			continue;
		snprintf(text, sizeof(text), "%s: %s in use, %s of them in TIME_WAIT",
			format_moment(from, f->report->window.from, moment),
			format_count(used, first), format_count(waits, second));
		sheet_rect(s, x_of_step(f, i), y, MAX(x_of_step(f, i + 1) - x_of_step(f, i), 1),
			PANEL, "clear", text);
	}
}

static void draw_pressure(struct sheet *s, const struct figure *f)
{
	const struct pressure *p = f->data;
	int bottom = TOP + (int)p->panels * (PANEL + PANEL_GAP) - PANEL_GAP;

	if (p->panels == 0) {
		sheet_label(s, PICTURE_LEFT, 300, "muted",
			f->report->occupancy
				? "No port of the kernel's range was in use."
				: "The window is too long for this picture; ask for a shorter one.");
		return;
	}
	axis_draw(s, &p->axis, PICTURE_TOP, bottom);
	for (size_t i = 0; i < p->panels; i++) {
		int y = TOP + (int)i * (PANEL + PANEL_GAP);

		draw_scale(s, series(f, i), y);
		draw_area(s, f, series(f, i), y, true, "waits");
		draw_area(s, f, series(f, i), y, false, "used");
		axis_unwatched(s, &p->axis, json_object_get(f->report->occupancy, "coverage"), y,
			y + PANEL);
		draw_words(s, f, series(f, i), y);
		draw_tips(s, f, series(f, i), y);
	}
	sheet_rect(s, PICTURE_LEFT, bottom + 130, 140, 140, "used", NULL);
	sheet_label(s, PICTURE_LEFT + 190, bottom + 245, "muted", "in use");
	sheet_rect(s, PICTURE_LEFT + 900, bottom + 130, 140, 140, "waits", NULL);
	sheet_label(s, PICTURE_LEFT + 1090, bottom + 245, "muted", "left in TIME_WAIT");
}

static void table_series(struct sheet *s, const struct figure *f, const json_t *row)
{
	const struct pressure *p = f->data;
	const json_t *range = json_object_get(row, "range");
	char caption[160];

	snprintf(caption, sizeof(caption),
		"%.16s, network namespace %lld: ports of %lld–%lld in use at once, the most in each step",
		row_text(row, "protocol"), (long long)row_int(row, "netns", 0),
		(long long)row_int(range, "low", 0), (long long)row_int(range, "high", 0));
	sheet_table(s, caption);
	sheet_heading(s, "From");
	sheet_heading(s, "In use");
	sheet_heading(s, "Of these in TIME_WAIT");
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < json_array_size(json_object_get(row, "used")); i++) {
		sheet_put(s, "<tr>");
		sheet_time(s, MAX(p->origin + i * p->step, f->report->window.from));
		sheet_count(s, at_step(row, "used", i));
		sheet_count(s, at_step(row, "time_wait", i));
		sheet_put(s, "</tr>\n");
	}
	sheet_put(s, "</tbody></table>\n");
}

static void table_pressure(struct sheet *s, const struct figure *f)
{
	const struct pressure *p = f->data;

	for (size_t i = 0; i < p->panels; i++)
		table_series(s, f, series(f, i));
}

static char *note_pressure(const struct report *r)
{
	const json_t *range = json_object_get(r->activity, "ephemeral");
	char *note = NULL;
	int64_t low = row_int(range, "low", 0), high = row_int(range, "high", 0);
	char count[FORMAT_MAX];

	if (asprintf(&note,
		    "Ports in use at once, the most in each step, of those that the kernel hands out, for each network"
		    " namespace and protocol; in the daemon's own namespace these are %s (%lld to %lld).",
		    format_count((uint64_t)(high - low) + 1, count), (long long)low,
		    (long long)high) < 0)
		return NULL;
	return note;
}

int report_pressure(const struct report *r, struct figure *ret)
{
	struct pressure *p = calloc(1, sizeof(*p));
	struct figure f = {.id = "pressure",
		.title = "How full",
		.report = r,
		.data = p,
		.draw = draw_pressure,
		.table = table_pressure};
	const json_t *list = json_object_get(r->occupancy, "series");

	if (!p)
		return -ENOMEM;
	p->axis = (struct axis){r->window, PICTURE_LEFT, PICTURE_RIGHT};
	if (r->occupancy) {
		p->origin = row_time(r->occupancy, "origin_usec");
		p->step = MAX((usec_t)row_int(r->occupancy, "step_usec", 1), (usec_t)1);
	}
	while (p->panels < MIN(json_array_size(list), (size_t)PANELS_MAX) &&
		row_int(json_array_get(list, p->panels), "peak", 0) > 0)
		p->panels++;
	f.height = p->panels ? TOP + (int)p->panels * (PANEL + PANEL_GAP) + 100 : 400;
	f.note = note_pressure(r);
	if (!f.note) {
		free(p);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}
