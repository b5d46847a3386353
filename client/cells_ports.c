/* SPDX-License-Identifier: MIT */

/* What people see of servers in the range of clients. */

#include "client/cells_ports.h"

#include "client/format.h"
#include "client/shape_ports.h"

/* "curl, Nov 23 03:12:07": whose the last collision was, and when. */
static char *cell_last(const json_t *row, const struct view *v)
{
	const char *comm = row_text(row, "collision_comm"), *unit = row_text(row, "collision_unit");
	usec_t at = row_time(row, "collision_usec");
	char text[FORMAT_TIME_MAX];

	if (at == USEC_UNSET)
		return strdup("");
	return cell_print("%s, %s",
		comm   ? comm
		: unit ? unit
		       : "unknown",
		format_moment(at - at % USEC_PER_SEC, v->now, text));
}

static enum tone tone_collisions(const json_t *row)
{
	return row_int(row, "collisions", 0) > 0 ? TONE_BAD : TONE_PLAIN;
}

static char *cell_note(const json_t *row, _unused_ const struct view *v)
{
	return strdup(row_true(row, "reserved") ? "reserved" : "");
}

static enum tone tone_note(_unused_ const json_t *row)
{
	return TONE_GOOD;
}

static const struct cell listener_cells[] = {{"PORT/PROTO", .text = cell_port, .right = true},
	{"PROCESS", .text = cell_process, .tone = tone_process, .cut = true},
	{"UNIT", .member = "unit", .cut = true, .drop = 2}, {"USER", .text = cell_user, .drop = 4},
	{"LOCAL", .member = "local_address", .drop = 3},
	{"SINCE", .text = cell_opened, .right = true, .drop = 1},
	{"COLLISIONS", .member = "collisions", .tone = tone_collisions, .right = true},
	{"LAST BY", .text = cell_last}, {"NETNS", .text = cell_netns, .drop = 5},
	{"NOTE", .text = cell_note, .tone = tone_note}};
const struct kind kind_listeners = {
	"listeners", &shape_listener, listener_cells, ELEMENTSOF(listener_cells)};
