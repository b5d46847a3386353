/* SPDX-License-Identifier: MIT */

/* Which ports: all of them from the first dynamic one on, 256 in a row. Where the kernel's range ends, a line; what is beyond it
 * was bound on purpose. A row is one path a level, in runs, since 16,384 rectangles would be a megabyte. */

#include <inttypes.h>

#include "client/format.h"
#include "client/report.h"
#include "client/shape.h"
#include "common/sighting.h"

#define ACROSS    256u
#define CELL      25     /* wide */
#define IANA_LOW  49152u /* RFC 6335 */
#define TOP       260
#define LISTED    200u /* ports outside of the kernel's range in the table */
#define RINGS_MAX 64u
#define MARKS_MAX 3u

struct map {
	struct levels levels;
	uint64_t most;
	unsigned low, rows;
	int row; /* height of one */
	struct port_range ephemeral;
};

static uint64_t claims_of(const struct figure *f, unsigned port)
{
	const struct map *m = f->data;

	return (uint64_t)json_integer_value(
		json_array_get(json_object_get(f->report->activity, "port_claims"), port - m->low));
}

static bool is_outside(const struct map *m, unsigned port)
{
	return port < m->ephemeral.low || port > m->ephemeral.high;
}

static unsigned level_at(const struct figure *f, unsigned port)
{
	const struct map *m = f->data;

	return level_of(&m->levels, claims_of(f, port));
}

/* The runs of a level in a row; *ret_any: there was one, and the path's beginning is written. */
static void draw_runs(
	struct sheet *s, const struct figure *f, unsigned row, unsigned level, bool *ret_any)
{
	const struct map *m = f->data;
	unsigned first = m->low + row * ACROSS;
	int y = (int)row * m->row;

	for (unsigned i = 0, end; i < ACROSS; i = end) {
		end = i + 1;
		if (level_at(f, first + i) != level)
			continue;
		while (end < ACROSS && level_at(f, first + end) == level)
			end++;
		if (!*ret_any)
			sheet_put(s, "<path class='l%u' d='", level);
		*ret_any = true;
		sheet_put(s, "M%d %dh%dv%dh-%dz", (int)i * CELL, y, (int)(end - i) * CELL, m->row,
			(int)(end - i) * CELL);
	}
}

static void draw_levels(struct sheet *s, const struct figure *f)
{
	const struct map *m = f->data;

	sheet_put(s, "<g transform='translate(" PX " " PX ") scale(.1)'>\n", PX_OF(PICTURE_LEFT),
		PX_OF(TOP));
	for (unsigned level = 1; level <= LEVELS; level++) {
		bool any = false;

		for (unsigned row = 0; row < m->rows; row++)
			draw_runs(s, f, row, level, &any);
		if (any)
			sheet_put(s, "'/>\n");
	}
	sheet_put(s, "</g>\n");
}

/* What a row holds: ports that were claimed, claims, and the port with most of them (0: none). */
struct row_sum {
	uint64_t ports, claims;
	unsigned busiest;
};

static struct row_sum sum_row(const struct figure *f, unsigned row)
{
	const struct map *m = f->data;
	struct row_sum sum = {0};

	for (unsigned port = m->low + row * ACROSS; port < m->low + (row + 1) * ACROSS; port++) {
		uint64_t claims = claims_of(f, port);

		sum.ports += claims > 0;
		sum.claims += claims;
		if (claims > 0 && (sum.busiest == 0 || claims > claims_of(f, sum.busiest)))
			sum.busiest = port;
	}
	return sum;
}

/* Each row says what is in it where the mouse rests on it. */
static void draw_tips(struct sheet *s, const struct figure *f)
{
	const struct map *m = f->data;

	for (unsigned row = 0; row < m->rows; row++) {
		struct row_sum sum = sum_row(f, row);
		char text[128];

		if (sum.ports == 0)
			continue;
		snprintf(text, sizeof(text),
			"%u–%u: %" PRIu64 " claims of %" PRIu64 " ports, most of %u (%" PRIu64 ")",
			m->low + row * ACROSS, m->low + (row + 1) * ACROSS - 1, sum.claims,
			sum.ports, sum.busiest, claims_of(f, sum.busiest));
		sheet_rect(s, PICTURE_LEFT, TOP + (int)row * m->row, ACROSS * CELL, m->row, "clear",
			text);
	}
}

/* A line before `port`, as rows are read, and its words in the left margin. *ret_y keeps words from running into each other. */
static void draw_mark(struct sheet *s, const struct figure *f, unsigned port, const char *words,
	const char *css, int *ret_y)
{
	const struct map *m = f->data;
	int row = (int)((port - m->low) / ACROSS),
	    x = PICTURE_LEFT + (int)((port - m->low) % ACROSS) * CELL;
	int y = TOP + row * m->row, end = PICTURE_LEFT + (int)ACROSS * CELL;

	/* the ports of its row that are before it are above the line */
	sheet_put(s, "<path class='%s' d='M" PX " " PX "H" PX "V" PX "H" PX "'/>\n", css,
		PX_OF(PICTURE_LEFT - 60), PX_OF(y + (x > PICTURE_LEFT ? m->row : 0)), PX_OF(x),
		PX_OF(y), PX_OF(end));
	*ret_y = MAX(*ret_y + 150, y + 40);
	sheet_label(s, PICTURE_LEFT - 560, *ret_y, "end strong", words);
}

static void draw_marks(struct sheet *s, const struct figure *f)
{
	const struct map *m = f->data;
	char words[MARKS_MAX][64];
	int y = 0;

	if (m->ephemeral.low > m->low) {
		snprintf(words[0], sizeof(words[0]), "kernel from %u", m->ephemeral.low);
		draw_mark(s, f, m->ephemeral.low, words[0], "mark", &y);
	}
	if (m->low < IANA_LOW)
		draw_mark(s, f, IANA_LOW, "IANA dynamic from 49152", "mark faint", &y);
	if (m->ephemeral.high >= m->low && m->ephemeral.high < UINT16_MAX) {
		snprintf(words[2], sizeof(words[2]), "kernel up to %u", m->ephemeral.high);
		draw_mark(s, f, m->ephemeral.high + 1u, words[2], "mark", &y);
	}
}

/* How many ports were claimed that the kernel does not hand out. */
static uint64_t count_outside(const struct figure *f)
{
	const struct map *m = f->data;
	uint64_t ports = 0;

	for (unsigned port = m->low; port <= UINT16_MAX; port++)
		ports += is_outside(m, port) && claims_of(f, port) > 0;
	return ports;
}

/* What was bound on purpose is small, and where it is few, each has a ring. */
static void draw_outside(struct sheet *s, const struct figure *f)
{
	const struct map *m = f->data;

	for (unsigned port = m->low; port <= UINT16_MAX; port++) {
		unsigned row = (port - m->low) / ACROSS, column = (port - m->low) % ACROSS;
		char claims[FORMAT_MAX];

		if (!is_outside(m, port) || claims_of(f, port) == 0)
			continue;
		sheet_put(s,
			"<circle class='ring' cx='" PX "' cy='" PX
			"' r='4'><title>%u: %s claim%s, outside of the kernel's range</title></circle>\n",
			PX_OF(PICTURE_LEFT + (int)column * CELL + CELL / 2),
			PX_OF(TOP + (int)row * m->row + m->row / 2), port,
			format_count(claims_of(f, port), claims),
			format_plural(claims_of(f, port)));
	}
}

static void draw_map(struct sheet *s, const struct figure *f)
{
	const struct map *m = f->data;
	int bottom = TOP + (int)m->rows * m->row;
	char text[16];

	sheet_rect(s, PICTURE_LEFT, TOP, ACROSS * CELL, (int)m->rows * m->row, "ground", NULL);
	draw_levels(s, f);
	for (unsigned row = 0; row < m->rows; row += 2048 / ACROSS) {
		snprintf(text, sizeof(text), "%u", m->low + row * ACROSS);
		sheet_label(
			s, PICTURE_LEFT - 80, TOP + (int)row * m->row + 80, "end mono muted", text);
	}
	for (unsigned column = 0; column < ACROSS; column += 64) {
		snprintf(text, sizeof(text), "+%u", column);
		sheet_label(s, PICTURE_LEFT + (int)column * CELL, TOP - 60, "mono muted", text);
	}
	draw_tips(s, f);
	draw_marks(s, f);
	if (count_outside(f) <= RINGS_MAX)
		draw_outside(s, f);
	sheet_legend(s, PICTURE_LEFT, bottom + 120, &m->levels, m->most, "claims of a port");
}

static void table_map(struct sheet *s, const struct figure *f)
{
	const struct map *m = f->data;
	char text[32];

	sheet_table(s, "Claims by port, 256 ports a line");
	sheet_heading(s, "Ports");
	sheet_heading(s, "Claimed");
	sheet_heading(s, "Claims");
	sheet_heading(s, "Most of");
	sheet_heading(s, "Claims of it");
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	for (unsigned row = 0; row < m->rows; row++) {
		struct row_sum sum = sum_row(f, row);

		if (sum.ports == 0)
			continue;
		snprintf(text, sizeof(text), "%u–%u", m->low + row * ACROSS,
			m->low + (row + 1) * ACROSS - 1);
		sheet_put(s, "<tr>");
		sheet_cell(s, text);
		sheet_count(s, sum.ports);
		sheet_count(s, sum.claims);
		snprintf(text, sizeof(text), "%u", sum.busiest);
		sheet_cell(s, text);
		sheet_count(s, claims_of(f, sum.busiest));
		sheet_put(s, "</tr>\n");
	}
	sheet_put(s, "</tbody></table>\n");
}

static void table_outside(struct sheet *s, const struct figure *f, uint64_t ports)
{
	const struct map *m = f->data;
	unsigned listed = 0;
	char text[64];

	sheet_table(s, "Ports that the kernel does not hand out");
	sheet_heading(s, "Port");
	sheet_heading(s, "Claims");
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	for (unsigned port = m->low; port <= UINT16_MAX && listed < LISTED; port++) {
		if (!is_outside(m, port) || claims_of(f, port) == 0)
			continue;
		snprintf(text, sizeof(text), "%u", port);
		sheet_put(s, "<tr>");
		sheet_cell(s, text);
		sheet_count(s, claims_of(f, port));
		sheet_put(s, "</tr>\n");
		listed++;
	}
	sheet_put(s, "</tbody></table>\n");
	if (ports > listed) {
		snprintf(text, sizeof(text), "%" PRIu64 " more are not listed.", ports - listed);
		sheet_put(s, "<p>%s</p>\n", text);
	}
}

static void table_ports(struct sheet *s, const struct figure *f)
{
	uint64_t outside = count_outside(f);

	table_map(s, f);
	if (outside > 0)
		table_outside(s, f, outside);
}

static char *note_ports(const struct figure *f)
{
	const struct map *m = f->data;
	char outside[FORMAT_MAX], elsewhere[FORMAT_MAX];
	int64_t below = row_int(f->report->activity, "elsewhere", 0);
	char *note = NULL;
	uint64_t ports = count_outside(f);
	int r = asprintf(&note,
		"Each port from %u to 65535, 256 in a row. This kernel hands out %u to %u; %s port%s that %s claimed %s"
		" outside of that, asked for by number.%s%s%s",
		m->low, m->ephemeral.low, m->ephemeral.high, format_count(ports, outside),
		format_plural(ports), ports == 1 ? "was" : "were", ports == 1 ? "is" : "are",
		below > 0 ? " Not drawn: " : "",
		below > 0 ? format_count((uint64_t)below, elsewhere) : "",
		below > 0 ? " claims of lower ports." : "");

	return r < 0 ? NULL : note;
}

int report_ports(const struct report *r, struct figure *ret)
{
	struct map *m = calloc(1, sizeof(*m));
	const json_t *range = json_object_get(r->activity, "ephemeral");
	struct figure f = {.id = "ports",
		.title = "Which ports",
		.report = r,
		.data = m,
		.draw = draw_map,
		.table = table_ports};

	if (!m)
		return -ENOMEM;
	m->low = (unsigned)row_int(r->activity, "low", IANA_LOW) & ~(ACROSS - 1);
	m->rows = (UINT16_MAX + 1 - m->low) / ACROSS;
	m->row = m->rows <= 64 ? 60 : m->rows <= 128 ? 40 : 25;
	m->ephemeral = (struct port_range){
		(uint16_t)row_int(range, "low", 0), (uint16_t)row_int(range, "high", 0)};
	for (unsigned port = m->low; port <= UINT16_MAX; port++)
		m->most = MAX(m->most, claims_of(&f, port));
	m->levels = levels_of(m->most);
	f.height = TOP + (int)m->rows * m->row + 300;
	f.note = note_ports(&f);
	if (!f.note) {
		free(m);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}
