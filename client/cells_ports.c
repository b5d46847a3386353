/* SPDX-License-Identifier: MIT */

/* What people see of servers in the range of clients. */

#include "client/cells_ports.h"

#include <math.h>

#include "client/format.h"
#include "client/shape_ports.h"
#include "common/buf.h"

/* Destinations whose ports were this full, in percent, are warned of. */
#define PRESSURE_NEAR 80
/* Of less, in percent, it is not told when it is full: a few ports of a first second would fill any range within the hour. */
#define PRESSURE_TELLS 10
/* Full later than this is no news. */
#define PRESSURE_SOON USEC_PER_DAY

/* "curl, Nov 23 03:12:07": whose the last collision was, and when. */
static char *cell_last(const json_t *row, const struct view *v)
{
	const char *comm = cell_name(row, "collision_comm", "collision_exe"),
		   *unit = row_text(row, "collision_unit");
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

static bool is_destination(const json_t *row)
{
	return streq(row_text(row, "scope"), "destination");
}

static char *cell_source(const json_t *row, _unused_ const struct view *v)
{
	const char *address = row_text(row, "local_address");

	return strdup(is_destination(row) ? address ? address : "?" : "any");
}

/* An address with colons is in brackets where a port follows. */
static char *cell_destination(const json_t *row, _unused_ const struct view *v)
{
	const char *address = row_text(row, "remote_address");

	if (!is_destination(row) || !address)
		return cell_print("any (%s)", row_text(row, "protocol"));
	return cell_print(strchr(address, ':') ? "[%s]:%lld" : "%s:%lld", address,
		(long long)row_int(row, "remote_port", 0));
}

static char *cell_count(const json_t *row, const char *name)
{
	char text[FORMAT_MAX];

	return strdup(format_count((uint64_t)row_int(row, name, 0), text));
}

static char *cell_used(const json_t *row, _unused_ const struct view *v)
{
	return cell_count(row, "used");
}

static char *cell_available(const json_t *row, _unused_ const struct view *v)
{
	return cell_count(row, "available");
}

static char *cell_peak(const json_t *row, const struct view *v)
{
	usec_t at = row_time(row, "peak_usec");
	char count[FORMAT_MAX], time[FORMAT_TIME_MAX];

	return cell_print("%s %s", format_count((uint64_t)row_int(row, "peak", 0), count),
		format_moment(at - at % USEC_PER_SEC, v->now, time));
}

static char *cell_peak_waiting(const json_t *row, _unused_ const struct view *v)
{
	double peak = (double)row_int(row, "peak", 0);
	double waiting = (double)row_int(row, "peak_time_wait", 0);

	return cell_print("%.0f %%", peak > 0 ? floor(waiting * 100 / peak) : 0);
}

static char *cell_openers(const json_t *row, _unused_ const struct view *v)
{
	_cleanup_(buf_done) struct buf b = {0};
	const json_t *opener;
	char count[FORMAT_MAX];
	size_t i;

	json_array_foreach(json_object_get(row, "openers"), i, opener)
	{
		const char *name = cell_name(opener, "comm", "exe");

		if (!name)
			name = row_text(opener, "unit");
		if (buf_append_format(&b, "%s%s %s", i ? ", " : "", name ? name : "unknown",
			    format_count((uint64_t)row_int(opener, "claims", 0), count)) < 0)
			return NULL;
	}
	return strndup((const char *)buf_bytes(&b), buf_size(&b));
}

static bool is_full(const json_t *row, const char *used)
{
	return row_int(row, used, 0) >= row_int(row, "available", 0);
}

/* In floating point: a daemon may say any number, and what it may truly say is exact in it. */
bool pressure_near(const json_t *row)
{
	return (double)row_int(row, "peak", 0) * 100 >=
	       (double)row_int(row, "available", 0) * PRESSURE_NEAR;
}

static bool pressure_tells(const json_t *row)
{
	return (double)row_int(row, "used", 0) * 100 >=
	       (double)row_int(row, "available", 0) * PRESSURE_TELLS;
}

static char *cell_pressure_note(const json_t *row, const struct view *v)
{
	usec_t full = row_time(row, "full_usec");
	const char *bound = row_true(row, "bound_first") ? "bound first" : "";
	char text[FORMAT_MAX];

	if (is_full(row, "used"))
		return cell_print("full%s%s", *bound ? ", " : "", bound);
	if (is_full(row, "peak"))
		return cell_print("was full%s%s", *bound ? ", " : "", bound);
	if (full != USEC_UNSET && full > v->now && full - v->now < PRESSURE_SOON &&
		pressure_tells(row))
		return cell_print("full in %s%s%s", format_span(full - v->now, text),
			*bound ? ", " : "", bound);
	if (pressure_near(row))
		return cell_print("near%s%s", *bound ? ", " : "", bound);
	return strdup(bound);
}

static enum tone tone_pressure(const json_t *row)
{
	if (is_full(row, "used") || is_full(row, "peak"))
		return TONE_BAD;
	return pressure_near(row) ? TONE_WARNING : TONE_PLAIN;
}

static const struct cell pressure_cells[] = {{"NETNS", .text = cell_netns, .drop = 3},
	{"SOURCE", .text = cell_source, .drop = 1}, {"DESTINATION", .text = cell_destination},
	{"USED", .text = cell_used, .tone = tone_pressure, .right = true},
	{"OF", .text = cell_available, .right = true},
	{"PEAK", .text = cell_peak, .tone = tone_pressure, .right = true},
	{"TIME-WAIT", .text = cell_peak_waiting, .right = true, .drop = 2},
	{"NOTE", .text = cell_pressure_note, .tone = tone_pressure},
	{"OPENERS", .text = cell_openers, .cut = true}};
const struct kind kind_pressure = {
	"pressure", &shape_pressure_row, pressure_cells, ELEMENTSOF(pressure_cells)};
