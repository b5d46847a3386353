/* SPDX-License-Identifier: MIT */

/*
 * What people see of a row. A time that a sweep learnt is shown as a bound, never as if it were known; a claim whose
 * process is not known says what is known in its place. Dates: the leftmost time of a row has one unless it is of
 * today; a time to its right has one unless it is of the same day.
 */

#include "client/cells.h"

#include <stdarg.h>

#include "client/format.h"
#include "common/buf.h"

char *cell_print(const char *format, ...)
{
	va_list arguments;
	char *text = NULL;
	int r;

	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	return r < 0 ? NULL : text;
}

char *cell_member(const json_t *row, const char *member)
{
	const json_t *value = json_object_get(row, member);

	if (json_is_integer(value))
		return cell_print("%lld", (long long)json_integer_value(value));
	return strdup(json_is_string(value) ? json_string_value(value) : "-");
}

/* The distance to the earlier bound; 0: exact. */
static usec_t slack(const json_t *claim, const char *name, const char *after)
{
	usec_t at = row_time(claim, name), earliest = row_time(claim, after);

	return at == USEC_UNSET || earliest == USEC_UNSET ? 0 : usec_sub(at, earliest);
}

usec_t cell_bound(const json_t *claim)
{
	usec_t opened = slack(claim, "opened_usec", "opened_after_usec");
	usec_t closed = slack(claim, "closed_usec", "closed_after_usec");

	return MAX(opened <= CELL_BOUND_MAX ? opened : 0, closed <= CELL_BOUND_MAX ? closed : 0);
}

bool cell_is_before(const json_t *claim)
{
	return slack(claim, "opened_usec", "opened_after_usec") > CELL_BOUND_MAX ||
	       slack(claim, "closed_usec", "closed_after_usec") > CELL_BOUND_MAX;
}

static char *bounded(
	const json_t *claim, const char *name, const char *after, usec_t day, const struct view *v)
{
	usec_t bound = slack(claim, name, after);
	char text[FORMAT_TIME_MAX];
	const char *sign = "";

	if (bound > CELL_BOUND_MAX)
		sign = "before ";
	else if (bound > 0)
		sign = v->utf8 ? "≤" : "<=";
	return cell_print("%s%s", sign, format_time(row_time(claim, name), day, text));
}

int64_t claim_count(const json_t *claim)
{
	return row_int(claim, "count", 1);
}

/* Of a row that stands for many: one end of the time in which they were. */
static char *cell_edge(const char *word, const json_t *claim, const char *name, usec_t day)
{
	char text[FORMAT_TIME_MAX];

	return cell_print("%s %s", word, format_time(row_time(claim, name), day, text));
}

char *cell_opened(const json_t *claim, const struct view *v)
{
	if (claim_count(claim) > 1)
		return cell_edge("from", claim, "opened_usec", v->now);
	if (row_time(claim, "opened_usec") == USEC_UNSET)
		return strdup(""); /* seen by a look of our own, which cannot know */
	return bounded(claim, "opened_usec", "opened_after_usec", v->now, v);
}

static char *cell_closed(const json_t *claim, const struct view *v)
{
	if (row_time(claim, "closed_usec") == USEC_UNSET)
		return strdup("open");
	if (claim_count(claim) > 1)
		return cell_edge("to", claim, "closed_usec", row_time(claim, "opened_usec"));
	if (row_time(claim, "released_usec") == USEC_UNSET)
		return strdup("time-wait");
	return bounded(
		claim, "closed_usec", "closed_after_usec", row_time(claim, "opened_usec"), v);
}

/* Of open claims only what is not plain: the connection went, and the port waits. */
static char *cell_waiting(const json_t *claim, _unused_ const struct view *v)
{
	return strdup(row_time(claim, "closed_usec") == USEC_UNSET ? "" : "time-wait");
}

char *cell_port(const json_t *claim, _unused_ const struct view *v)
{
	bool others = json_array_size(json_object_get(claim, "ports")) > 1;

	return cell_print("%lld%s/%s", (long long)row_int(claim, "port", 0), others ? "+" : "",
		row_text(claim, "protocol"));
}

const char *cell_name(const json_t *row, const char *comm, const char *exe)
{
	const char *name = row_text(row, comm), *file = row_text(row, exe), *slash;

	if (name && *name != '\0')
		return name;
	slash = file ? strrchr(file, '/') : NULL;
	return slash ? slash + 1 : file;
}

/* "curl[48211]", or as much of a process as is known. */
static int put_process(struct buf *b, const json_t *process)
{
	const char *name = cell_name(process, "comm", "exe");
	int64_t pid = row_int(process, "pid", 0);

	if (!name)
		name = "?";
	return pid > 0 ? buf_append_format(b, "%s[%lld]", name, (long long)pid)
		       : buf_append_string(b, name);
}

static int put_unknown(struct buf *b, const json_t *claim)
{
	const json_t *uid = json_object_get(claim, "uid");
	const char *unit = row_text(claim, "unit");
	int r;

	if (row_text(claim, "attribution") && streq(row_text(claim, "attribution"), "kernel"))
		return buf_append_string(b, "the kernel");
	r = buf_append_string(b, "unknown");
	if (r == 0 && (json_is_integer(uid) || unit))
		r = buf_append_string(b, " (");
	if (r == 0 && json_is_integer(uid))
		r = buf_append_format(b, "uid %lld", (long long)json_integer_value(uid));
	if (r == 0 && unit)
		r = buf_append_format(b, "%sunit %s", json_is_integer(uid) ? ", " : "", unit);
	if (r == 0 && (json_is_integer(uid) || unit))
		r = buf_append_string(b, ")");
	return r;
}

/* The opener, its file's fate, and up to two further holders. */
static int put_holders(struct buf *b, const json_t *claim)
{
	const json_t *holders = json_object_get(claim, "holders"), *holder;
	const char *note = row_text(claim, "exe_note");
	char count[FORMAT_MAX];
	size_t i;
	int r;

	r = row_int(claim, "pid", 0) > 0 ? put_process(b, claim) : put_unknown(b, claim);
	if (r == 0 && note)
		r = buf_append_format(b, " (%s)", note);
	if (r == 0 && claim_count(claim) > 1)
		r = buf_append_format(
			b, " (%s claims)", format_count((uint64_t)claim_count(claim), count));
	json_array_foreach(holders, i, holder)
	{
		if (r < 0)
			return r;
		if (i == 2)
			return buf_append_format(b, " +%zu more", json_array_size(holders) - i);
		r = buf_append_string(b, " +");
		if (r == 0)
			r = put_process(b, holder);
	}
	return r;
}

char *cell_process(const json_t *claim, _unused_ const struct view *v)
{
	_cleanup_(buf_done) struct buf b = {0};

	if (put_holders(&b, claim) < 0)
		return NULL;
	return strndup((const char *)buf_bytes(&b), buf_size(&b));
}

enum tone tone_process(const json_t *claim)
{
	return row_int(claim, "pid", 0) > 0 ? TONE_PLAIN : TONE_WARNING;
}

char *cell_user(const json_t *row, _unused_ const struct view *v)
{
	int64_t uid = row_int(row, "uid", -1);

	if (row_text(row, "user"))
		return strdup(row_text(row, "user"));
	return uid >= 0 ? cell_print("%lld", (long long)uid) : strdup("-");
}

char *cell_endpoint(const char *address, int64_t port)
{
	return cell_print(strchr(address, ':') ? "[%s]:%lld" : "%s:%lld", address, (long long)port);
}

char *cell_remote(const json_t *claim, _unused_ const struct view *v)
{
	const char *address = row_text(claim, "remote_address");

	return address ? cell_endpoint(address, row_int(claim, "remote_port", 0)) : strdup("-");
}

/* Only of another namespace than ours: on most machines there is one. */
char *cell_netns(const json_t *claim, const struct view *v)
{
	int64_t inode = row_int(claim, "netns", 0);
	const char *name = row_text(claim, "netns_name");

	if (inode == 0 || (uint64_t)inode == v->netns)
		return strdup("");
	return name ? strdup(name) : cell_print("%lld", (long long)inode);
}

#define CLAIM_CELLS_OF_OPENER                                                                      \
	{"PORT/PROTO", .text = cell_port, .right = true}, {"ROLE", .member = "role", .drop = 2},   \
		{"PROCESS", .text = cell_process, .tone = tone_process, .cut = true},              \
		{"USER", .text = cell_user, .drop = 5},                                            \
		{"UNIT", .member = "unit", .cut = true, .drop = 3},                                \
		{"LOCAL", .member = "local_address", .drop = 6}, {"REMOTE", .text = cell_remote},  \
	{                                                                                          \
		"NETNS", .text = cell_netns, .drop = 4                                             \
	}

static const struct cell claim_cells[] = {{"OPENED", .text = cell_opened, .right = true},
	{"CLOSED", .text = cell_closed, .right = true}, CLAIM_CELLS_OF_OPENER};
const struct kind kind_claims = {"claims", &shape_claim, claim_cells, ELEMENTSOF(claim_cells)};

/* Until when TIME_WAIT kept the port, where it did. */
static char *cell_released(const json_t *claim, _unused_ const struct view *v)
{
	usec_t closed = row_time(claim, "closed_usec"), at = row_time(claim, "released_usec");
	char text[FORMAT_TIME_MAX];

	if (closed == USEC_UNSET || at == USEC_UNSET || at <= closed)
		return strdup("");
	return strdup(format_moment(at - at % USEC_PER_MSEC, closed, text));
}

static char *cell_parent(const json_t *claim, _unused_ const struct view *v)
{
	const char *comm = row_text(claim, "parent_comm");
	int64_t pid = row_int(claim, "parent_pid", 0);

	if (!comm && pid == 0)
		return strdup("");
	return cell_print("%s[%lld]", comm ? comm : "?", (long long)pid);
}

#define PORTS_SHOWN 8u /* stretches of ports in one sentence */

/* "40000-40002, 40010 and 5 more" */
static int put_ports(struct buf *b, const json_t *ports)
{
	size_t count = json_array_size(ports), shown = 0, i = 0;
	int r = 0;

	for (; r == 0 && i < count && shown < PORTS_SHOWN; shown++) {
		json_int_t first = json_integer_value(json_array_get(ports, i)), last = first;

		while (++i < count && json_integer_value(json_array_get(ports, i)) == last + 1)
			last++;
		r = buf_append_format(b, "%s%lld", shown > 0 ? ", " : "", (long long)first);
		if (r == 0 && last > first)
			r = buf_append_format(b, "-%lld", (long long)last);
	}
	return r == 0 && i < count ? buf_append_format(b, " and %zu more", count - i) : r;
}

char *claim_together(const json_t *claim, const struct view *v)
{
	const json_t *ports = json_object_get(claim, "ports");
	usec_t from = row_time(claim, "opened_usec"), until = row_time(claim, "released_usec");
	char number[FORMAT_MAX], opened[FORMAT_TIME_MAX], released[FORMAT_TIME_MAX];
	_cleanup_(buf_done) struct buf b = {0};
	int r = buf_append_format(&b, "%lld: one of %s claims by ",
		(long long)row_int(claim, "port", 0),
		format_count((uint64_t)claim_count(claim), number));

	if (r == 0)
		r = row_int(claim, "pid", 0) > 0 ? put_process(&b, claim) : put_unknown(&b, claim);
	if (r == 0)
		r = buf_append_format(
			&b, " of %s (", json_array_size(ports) == 1 ? "this port" : "these ports");
	if (r == 0)
		r = put_ports(&b, ports);
	if (r == 0)
		r = buf_append_format(&b, ") between %s and %s; when each of them was is not kept",
			format_time(from, v->now, opened), format_time(until, from, released));
	return r < 0 ? NULL : strndup((const char *)buf_bytes(&b), buf_size(&b));
}

static const struct cell who_cells[] = {{"OPENED", .text = cell_opened, .right = true},
	{"CLOSED", .text = cell_closed, .right = true},
	{"FREE", .text = cell_released, .right = true, .drop = 4},
	{"PORT/PROTO", .text = cell_port, .right = true, .drop = 7},
	{"ROLE", .member = "role", .drop = 1},
	{"PROCESS", .text = cell_process, .tone = tone_process, .cut = true},
	{"PARENT", .text = cell_parent, .cut = true, .drop = 5},
	{"USER", .text = cell_user, .drop = 6}, {"UNIT", .member = "unit", .cut = true, .drop = 3},
	{"LOCAL", .member = "local_address", .drop = 8}, {"REMOTE", .text = cell_remote},
	{"NETNS", .text = cell_netns, .drop = 2}};

char *cell_sentence(const json_t *row, const struct view *v, const char *head,
	const char *second_head, const struct cell_part parts[], size_t count)
{
	_cleanup_(buf_done) struct buf b = {0};

	if (!head || !second_head || buf_append_format(&b, "%s: %s", head, second_head) < 0)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		_cleanup_(free_p) char *text =
			parts[i].text ? parts[i].text(row, v) : cell_member(row, parts[i].member);

		if (!text)
			return NULL;
		if (*text == '\0' || streq(text, "-"))
			continue;
		if (buf_append_format(&b, "%s %s %s", i > 0 ? "," : "", parts[i].what, text) < 0)
			return NULL;
	}
	return strndup((const char *)buf_bytes(&b), buf_size(&b));
}

/* "curl[48211]: 60530/tcp at 10.0.0.5, parent bash[48000], unit cron.service, user root, port free at 03:13:09.414" */
static char *who_detail(const json_t *claim, const struct view *v)
{
	static const struct cell_part parts[] = {
		{"at", NULL, "local_address"},
		{"parent", cell_parent, NULL},
		{"unit", NULL, "unit"},
		{"user", cell_user, NULL},
		{"netns", cell_netns, NULL},
		{"port free at", cell_released, NULL},
	};
	_cleanup_(free_p) char *process = cell_process(claim, v), *port = cell_port(claim, v);

	return cell_sentence(claim, v, process, port, parts, ELEMENTSOF(parts));
}

const struct kind kind_who = {"claims", &shape_claim, who_cells, ELEMENTSOF(who_cells), who_detail};

static const struct cell open_cells[] = {{"OPENED", .text = cell_opened, .right = true},
	{"STATE", .text = cell_waiting}, CLAIM_CELLS_OF_OPENER};
const struct kind kind_open_claims = {"claims", &shape_claim, open_cells, ELEMENTSOF(open_cells)};

/* Followed claims are lines for people, not a table: its width would have to be known beforehand. */
const struct kind kind_events = {"events", &shape_event, NULL, 0};

static const struct cell check_cells[] = {
	{"LEVEL", .member = "level"}, {"NAME", .member = "name"}, {"CHECK", .member = "text"}};
const struct kind kind_checks = {"checks", &shape_check_row, check_cells, ELEMENTSOF(check_cells)};

static const struct cell setting_cells[] = {{"SECTION", .member = "section"},
	{"KEY", .member = "key"}, {"VALUE", .member = "value", .cut = true},
	{"FROM", .member = "from", .cut = true}};
const struct kind kind_settings = {
	"settings", &shape_setting, setting_cells, ELEMENTSOF(setting_cells)};

/* How many of those that were made; rounded down, so that only all of them are 100 %. */
static char *cell_rate(const json_t *row, const char *member)
{
	int64_t made = row_int(row, "made", 0), got = row_int(row, member, 0);

	return made > 0 ? cell_print("%lld %%", (long long)(got * 100 / made)) : strdup("-");
}

static char *cell_catch_rate(const json_t *row, _unused_ const struct view *v)
{
	return cell_rate(row, "caught");
}

static char *cell_attribution_rate(const json_t *row, _unused_ const struct view *v)
{
	return cell_rate(row, "attributed");
}

static const struct cell self_test_cells[] = {{"KIND", .member = "kind"},
	{"MADE", .member = "made", .right = true}, {"CAUGHT", .member = "caught", .right = true},
	{"RATE", .text = cell_catch_rate, .right = true},
	{"PROCESS", .member = "attributed", .right = true},
	{"RATE", .text = cell_attribution_rate, .right = true},
	{"WRONG", .member = "wrong", .right = true}};
const struct kind kind_self_test = {
	"kinds", &shape_self_test, self_test_cells, ELEMENTSOF(self_test_cells)};
