/* SPDX-License-Identifier: MIT */

/* What people see of programs as they are known. */

#include "client/cells_ports.h"
#include "client/format.h"
#include "client/shape_ports.h"
#include "client/users.h"
#include "common/buf.h"

/* A text of a list's elements, with a mark where there are more. */
typedef int put_fn(struct buf *b, const json_t *element, const struct view *v);

static char *cell_list(const json_t *row, const char *name, put_fn *put, const struct view *v)
{
	_cleanup_(buf_done) struct buf b = {0};
	const json_t *element;
	char more[32];
	size_t i;

	json_array_foreach(json_object_get(row, name), i,
		element) if ((i > 0 && buf_append_string(&b, ", ") < 0) ||
			     put(&b, element, v) < 0) return NULL;
	(void)snprintf(more, sizeof(more), "%s_more", name);
	if (row_true(row, more) && buf_append_string(&b, ", ...") < 0)
		return NULL;
	return buf_size(&b) > 0 ? strndup((const char *)buf_bytes(&b), buf_size(&b)) : strdup("-");
}

static int put_text(struct buf *b, const json_t *element, _unused_ const struct view *v)
{
	return buf_append_string(b, json_string_value(element));
}

static int put_user(struct buf *b, const json_t *element, const struct view *v)
{
	uint32_t uid = (uint32_t)json_integer_value(element);
	const char *name = v->users ? users_name(v->users, uid) : NULL;

	return name ? buf_append_string(b, name) : buf_append_format(b, "%u", uid);
}

static int put_preferred(struct buf *b, const json_t *element, _unused_ const struct view *v)
{
	char count[FORMAT_MAX];

	return buf_append_format(b, "%lld (%s)", (long long)row_int(element, "port", 0),
		format_count((uint64_t)row_int(element, "claims", 0), count));
}

static int put_served(struct buf *b, const json_t *element, _unused_ const struct view *v)
{
	int64_t port = row_int(element, "port", 0);

	return port > 0 ? buf_append_format(
				  b, "%lld/%s", (long long)port, row_text(element, "protocol"))
			: buf_append_format(b, "many/%s", row_text(element, "protocol"));
}

char *cell_app_units(const json_t *app, const struct view *v)
{
	return cell_list(app, "units", put_text, v);
}

char *cell_app_users(const json_t *app, const struct view *v)
{
	return cell_list(app, "uids", put_user, v);
}

char *cell_app_preferred(const json_t *app, const struct view *v)
{
	return cell_list(app, "preferred", put_preferred, v);
}

char *cell_app_serves(const json_t *app, const struct view *v)
{
	return cell_list(app, "serves", put_served, v);
}

static char *cell_first(const json_t *row, const struct view *v)
{
	usec_t at = row_time(row, "first_usec");
	char text[FORMAT_TIME_MAX];

	return strdup(format_moment(at - at % USEC_PER_SEC, v->now, text));
}

char *cell_app_last(const json_t *app, const struct view *v)
{
	usec_t at = row_time(app, "last_usec"), before = row_time(app, "last_before_usec");
	char text[FORMAT_TIME_MAX];

	if (at != USEC_UNSET)
		return strdup(format_moment(at - at % USEC_PER_SEC, v->now, text));
	if (before == USEC_UNSET)
		return strdup("-");
	return cell_print("before %s", format_moment(before - before % USEC_PER_SEC, v->now, text));
}

static char *cell_new(const json_t *row, _unused_ const struct view *v)
{
	return strdup(row_true(row, "new") ? "new" : "");
}

static enum tone tone_new(_unused_ const json_t *row)
{
	return TONE_WARNING;
}

static const struct cell app_cells[] = {{"PROGRAM", .member = "name", .cut = true},
	{"UNITS", .text = cell_app_units, .cut = true, .drop = 4},
	{"USERS", .text = cell_app_users, .cut = true, .drop = 5},
	{"FIRST", .text = cell_first, .right = true},
	{"LAST", .text = cell_app_last, .right = true},
	{"CLAIMS", .member = "claims", .right = true},
	{"PORTS", .member = "ports", .right = true, .drop = 1},
	{"MOSTLY", .text = cell_app_preferred, .cut = true, .drop = 6},
	{"SERVES", .text = cell_app_serves, .cut = true, .drop = 3},
	{"NOTE", .text = cell_new, .tone = tone_new}};
const struct kind kind_apps = {"apps", &shape_app, app_cells, ELEMENTSOF(app_cells)};
