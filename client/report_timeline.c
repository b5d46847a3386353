/* SPDX-License-Identifier: MIT */

/* The claims of one program or of one port, each as a bar from its opening to its closing, and thinner while it waits in
 * TIME_WAIT. A row for each port (of a port: for each process) while these are few; else as tightly as they go. */

#include <inttypes.h>

#include "client/cells.h"
#include "client/format.h"
#include "client/report.h"
#include "client/shape.h"

#define ROW        190
#define BAR        110
#define WAIT       40
#define NAMED_ROWS 40u
#define LANES      60u
#define NAME       30u /* columns of a row's name */

struct bar {
	const json_t *claim;
	unsigned row;
};

struct timeline {
	struct axis axis;
	struct bar *bar; /* owned */
	size_t count;
	char *name[NAMED_ROWS]; /* owned */
	unsigned rows;
	bool named;
};

static usec_t end_of(const struct timeline *t, const json_t *claim)
{
	usec_t released = row_time(claim, "released_usec");

	return released == USEC_UNSET ? t->axis.window.until : released;
}

/* What a claim's row is called: of a port its process, else its port. Fresh or NULL. */
static char *row_name(const struct report *r, const json_t *claim)
{
	return r->view->options->port_count > 0 ? cell_process(claim, r->view)
						: cell_port(claim, r->view);
}

/* Puts each claim in the row of its name. 1: done; 0: there are more names than rows; -ENOMEM. */
static int name_rows(const struct report *r, struct timeline *t)
{
	for (size_t i = 0; i < t->count; i++) {
		_cleanup_(free_p) char *name = row_name(r, t->bar[i].claim);
		unsigned row = 0;

		if (!name)
			return -ENOMEM;
		while (row < t->rows && !streq(t->name[row], name))
			row++;
		if (row == NAMED_ROWS)
			return 0;
		if (row == t->rows)
			t->name[t->rows++] = TAKE_PTR(name);
		t->bar[i].row = row;
	}
	t->named = true;
	return 1;
}

/* The rows in the order of their names: ports by their number. */
static void sort_rows(struct timeline *t)
{
	unsigned order[NAMED_ROWS], rank[NAMED_ROWS];
	char *name[NAMED_ROWS];

	for (unsigned i = 0; i < t->rows; i++) {
		unsigned at = i;

		for (; at > 0 && strverscmp(t->name[order[at - 1]], t->name[i]) > 0; at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
	for (unsigned i = 0; i < t->rows; i++) {
		rank[order[i]] = i;
		name[i] = t->name[order[i]];
	}
	memcpy(t->name, name, t->rows * sizeof(name[0]));
	for (size_t i = 0; i < t->count; i++)
		t->bar[i].row = rank[t->bar[i].row];
}

/* Puts each claim in the first lane that is free; what finds none shares the last. */
static void pack_rows(struct timeline *t)
{
	usec_t free_from[LANES] = {0};

	t->rows = 0;
	for (size_t i = 0; i < t->count; i++) {
		unsigned lane = 0;

		while (lane < LANES - 1 &&
			free_from[lane] > row_time(t->bar[i].claim, "opened_usec"))
			lane++;
		free_from[lane] = MAX(free_from[lane], end_of(t, t->bar[i].claim));
		t->bar[i].row = lane;
		t->rows = MAX(t->rows, lane + 1);
	}
}

/* A style of its own for each role, and a word. */
static const struct {
	const char *role, *css;
} roles[] = {{"connected", "role-connected"}, {"accepted", "role-accepted"},
	{"listening", "role-listening"}, {"bound", "role-bound"}};

static const char *css_of(const json_t *claim)
{
	const char *role = row_text(claim, "role");

	for (size_t i = 0; role && i < ELEMENTSOF(roles); i++)
		if (streq(roles[i].role, role))
			return roles[i].css;
	return "role-unknown";
}

static void draw_tip(struct sheet *s, const struct figure *f, const json_t *claim)
{
	const struct view *v = f->report->view;
	_cleanup_(free_p) char *process = cell_process(claim, v), *port = cell_port(claim, v);
	_cleanup_(free_p) char *remote = cell_remote(claim, v);
	char opened[FORMAT_TIME_MAX], closed[FORMAT_TIME_MAX];
	usec_t at = row_time(claim, "opened_usec"), end = row_time(claim, "closed_usec");

	sheet_put(s, "<title>");
	sheet_text(s, port);
	sheet_put(s, " ");
	sheet_text(s, process);
	sheet_put(s, ", %s", format_time(at, f->report->window.from, opened));
	sheet_put(s, end == USEC_UNSET ? ", open" : "–%s", format_time(end, at, closed));
	if (row_text(claim, "remote_address")) {
		sheet_put(s, ", to ");
		sheet_text(s, remote);
	}
	sheet_put(s, "</title>");
	s->failed = s->failed || !process || !port || !remote;
}

static void draw_bar(struct sheet *s, const struct figure *f, const struct bar *b)
{
	const struct timeline *t = f->data;
	usec_t opened = row_time(b->claim, "opened_usec"),
	       closed = row_time(b->claim, "closed_usec");
	usec_t after = row_time(b->claim, "opened_after_usec");
	int left = axis_x(&t->axis, opened), y = PICTURE_TOP + (int)b->row * ROW + (ROW - BAR) / 2;
	int right = axis_x(&t->axis, closed == USEC_UNSET ? t->axis.window.until : closed);
	int last = axis_x(&t->axis, end_of(t, b->claim)),
	    first = after == USEC_UNSET ? left : axis_x(&t->axis, after);

	sheet_put(s, "<g class='%s'>", css_of(b->claim));
	draw_tip(s, f, b->claim);
	if (first < left)
		sheet_put(s,
			"<rect class='bound' x='" PX "' y='" PX "' width='" PX "' height='" PX
			"'/>",
			PX_OF(first), PX_OF(y + (BAR - WAIT) / 2), PX_OF(left - first),
			PX_OF(WAIT));
	if (last > right)
		sheet_put(s,
			"<rect class='wait' x='" PX "' y='" PX "' width='" PX "' height='" PX "'/>",
			PX_OF(right), PX_OF(y + (BAR - WAIT) / 2), PX_OF(last - right),
			PX_OF(WAIT));
	/* what is short is still to be seen */
	sheet_put(s, "<rect x='" PX "' y='" PX "' width='" PX "' height='" PX "' rx='1'/></g>\n",
		PX_OF(MIN(left, PICTURE_RIGHT - 20)), PX_OF(y), PX_OF(MAX(right - left, 20)),
		PX_OF(BAR));
}

static void draw_legend(struct sheet *s, int y)
{
	int x = PICTURE_LEFT;

	for (size_t i = 0; i < ELEMENTSOF(roles); i++) {
		sheet_put(s, "<g class='%s'>", roles[i].css);
		sheet_rect(s, x, y, 140, 140, "", NULL);
		sheet_put(s, "</g>");
		sheet_label(s, x + 190, y + 115, "muted", roles[i].role);
		x += 1000;
	}
	sheet_put(s, "<g class='role-unknown'>");
	sheet_rect(s, x, y, 140, 140, "", NULL);
	sheet_put(s, "</g>");
	sheet_label(s, x + 190, y + 115, "muted", "role unknown");
	x += 1200;
	sheet_put(s, "<g class='role-connected'>");
	sheet_rect(s, x, y + 50, 200, WAIT, "wait", NULL);
	sheet_put(s, "</g>");
	sheet_label(s, x + 250, y + 115, "muted", "TIME_WAIT");
}

static void draw_timeline(struct sheet *s, const struct figure *f)
{
	const struct timeline *t = f->data;
	int bottom = PICTURE_TOP + (int)t->rows * ROW;

	if (t->count == 0) {
		sheet_label(s, PICTURE_LEFT, 300, "muted", "No claim matched.");
		return;
	}
	axis_draw(s, &t->axis, PICTURE_TOP, bottom);
	axis_unwatched(
		s, &t->axis, json_object_get(f->report->activity, "coverage"), PICTURE_TOP, bottom);
	for (unsigned i = 0; t->named && i < t->rows; i++) {
		sheet_put(s, "<text class='name end' x='" PX "' y='" PX "'>",
			PX_OF(PICTURE_LEFT - 80), PX_OF(PICTURE_TOP + (int)i * ROW + 135));
		sheet_cut(s, t->name[i], NAME);
		sheet_put(s, "</text>\n");
	}
	for (size_t i = 0; i < t->count; i++)
		draw_bar(s, f, &t->bar[i]);
	draw_legend(s, bottom + 120);
}

static void table_timeline(struct sheet *s, const struct figure *f)
{
	static const char *const heads[] = {"Port", "Role", "Opened", "Closed", "Released",
		"Process", "User", "Unit", "Remote"};
	const struct timeline *t = f->data;
	const struct view *v = f->report->view;

	sheet_table(s, "Claims");
	for (size_t i = 0; i < ELEMENTSOF(heads); i++)
		sheet_heading(s, heads[i]);
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < t->count; i++) {
		const json_t *claim = t->bar[i].claim;
		_cleanup_(free_p) char *process = cell_process(claim, v),
				       *port = cell_port(claim, v);
		_cleanup_(free_p) char *remote = cell_remote(claim, v),
				       *user = report_user(f->report, claim);

		s->failed = s->failed || !process || !port || !remote;
		sheet_put(s, "<tr>");
		sheet_cell(s, port);
		sheet_cell(s, row_text(claim, "role"));
		sheet_time(s, row_time(claim, "opened_usec"));
		sheet_time(s, row_time(claim, "closed_usec"));
		sheet_time(s, row_time(claim, "released_usec"));
		sheet_cell(s, process);
		sheet_cell(s, user);
		sheet_cell(s, row_text(claim, "unit"));
		sheet_cell(s, remote);
		sheet_put(s, "</tr>\n");
	}
	sheet_put(s, "</tbody></table>\n");
}

static char *note_timeline(const struct report *r, const struct timeline *t)
{
	uint64_t claims = (uint64_t)row_int(r->activity, "claims", 0);
	char all[FORMAT_MAX], drawn[FORMAT_MAX],
		which[2 * FORMAT_MAX + 64] = "Each claim as a bar.";
	char *note = NULL;

	if (claims > t->count)
		snprintf(which, sizeof(which), "The newest %s of %s claims, each as a bar.",
			format_count(t->count, drawn), format_count(claims, all));
	if (asprintf(&note, "%s %s", which,
		    !t->named ? "There are too many for a row each; the height means nothing."
		    : r->view->options->port_count > 0 ? "A row for each process."
						       : "A row for each port.") < 0)
		return NULL;
	return note;
}

static void timeline_free(void *data)
{
	struct timeline *t = data;

	for (size_t i = 0; i < NAMED_ROWS; i++)
		free(t->name[i]);
	free(t->bar);
	free(t);
}

int report_timeline(const struct report *r, struct figure *ret)
{
	struct timeline *t = calloc(1, sizeof(*t));
	const json_t *claim;
	size_t i;
	int named;

	if (!t)
		return -ENOMEM;
	t->axis = (struct axis){r->window, PICTURE_LEFT, PICTURE_RIGHT};
	t->bar = calloc(json_array_size(r->claims) + 1, sizeof(*t->bar));
	if (!t->bar) {
		timeline_free(t);
		return -ENOMEM;
	}
	json_array_foreach(r->claims, i, claim) t->bar[t->count++].claim = claim;
	named = name_rows(r, t);
	if (named == 0)
		pack_rows(t);
	else if (named == 1)
		sort_rows(t);
	*ret = (struct figure){.id = "timeline",
		.title = "Claim by claim",
		.report = r,
		.data = t,
		.height = t->count ? PICTURE_TOP + (int)t->rows * ROW + 300 : 400,
		.note = note_timeline(r, t),
		.draw = draw_timeline,
		.table = table_timeline,

		.free = timeline_free};
	if (named >= 0 && ret->note)
		return 0;
	figure_done(ret);
	return -ENOMEM;
}
