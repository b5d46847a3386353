/* SPDX-License-Identifier: MIT */

/*
 * What people see of a row of an audit. What it is counted by comes first; a column that says nothing in every row is left
 * out by the grid, so that one list of cells serves each --by. The picture of the hours tells an hour without a claim
 * from one that nobody watched.
 */

#include "client/cells.h"

#include "client/format.h"
#include "client/receipt.h"
#include "common/buf.h"

/* Marks of one picture; a longer window has several slots in a mark. */
#define MARKS_MAX 24

static bool is_by(const struct view *v, const char *what)
{
	return streq(v->options->by ? v->options->by : "program", what);
}

/* A name that the file's does not begin with tells programs of one interpreter apart, and comes first: what is cut is
 * the end. */
char *cell_program(const json_t *row, const struct view *v)
{
	const char *exe = row_text(row, "exe"), *comm = row_text(row, "comm"), *slash;
	char *text = NULL;

	if (!is_by(v, "program"))
		return strdup("");
	if (!exe || !comm)
		return strdup(exe ? exe : comm ? comm : "(no process)");
	slash = strrchr(exe, '/');
	/* the kernel cuts comm to 15 bytes */
	if (strncmp(slash ? slash + 1 : exe, comm, strlen(comm)) == 0)
		return strdup(exe);
	return asprintf(&text, "%s (%s)", comm, exe) < 0 ? NULL : text;
}

static enum tone tone_program(const json_t *row)
{
	return row_text(row, "exe") || row_text(row, "comm") ? TONE_PLAIN : TONE_WARNING;
}

static char *cell_audit_unit(const json_t *row, const struct view *v)
{
	if (is_by(v, "unit"))
		return cell_member(row, "unit");
	/* on many hosts no program that claims has one: then it is no column */
	return strdup(is_by(v, "program") && row_text(row, "unit") ? row_text(row, "unit") : "");
}

static char *cell_audit_user(const json_t *row, const struct view *v)
{
	bool shown = is_by(v, "program") || is_by(v, "user");

	return shown ? cell_user(row, v) : strdup("");
}

static char *cell_audit_port(const json_t *row, const struct view *v)
{
	if (row_text(row, "protocol") && row_int(row, "port", 0) == 0)
		return strdup("(none)"); /* of a connect that failed for want of one */
	return row_text(row, "protocol") ? cell_port(row, v) : strdup("");
}

static char *cell_audit_netns(const json_t *row, const struct view *v)
{
	if (!is_by(v, "netns"))
		return strdup("");
	return cell_member(row, row_text(row, "netns_name") ? "netns_name" : "netns");
}

/* An hour, or a day, by its begin. */
static char *cell_hour(const json_t *row, const struct view *v)
{
	usec_t hour = row_time(row, "hour_usec");
	char text[FORMAT_TIME_MAX];

	if (!is_by(v, "hour"))
		return strdup("");
	return strdup(hour == USEC_UNSET ? "before" : format_minute(hour, v->now, text));
}

/* A number that is worth its column only where it is not 0 everywhere. */
static char *count_cell(const json_t *row, const char *name)
{
	int64_t count = row_int(row, name, 0);

	return count == 0 ? strdup("") : cell_member(row, name);
}

static char *cell_listening(const json_t *row, _unused_ const struct view *v)
{
	return count_cell(row, "listening");
}

static char *cell_accepted(const json_t *row, _unused_ const struct view *v)
{
	return count_cell(row, "accepted");
}

static char *cell_bound_claims(const json_t *row, _unused_ const struct view *v)
{
	return count_cell(row, "bound");
}

static char *cell_failures(const json_t *row, _unused_ const struct view *v)
{
	return count_cell(row, "failures");
}

static char *span_cell(const json_t *row, const char *name)
{
	int64_t span = row_int(row, name, -1);
	char text[FORMAT_MAX];

	if (span < 0)
		return strdup("-");
	return cell_print("%s%s", row_true(row, "lives_estimated") ? "~" : "",
		format_span((usec_t)span, text));
}

static char *cell_shortest(const json_t *row, _unused_ const struct view *v)
{
	return span_cell(row, "shortest_usec");
}

static char *cell_longest(const json_t *row, _unused_ const struct view *v)
{
	return span_cell(row, "longest_usec");
}

static char *cell_busiest(const json_t *row, const struct view *v)
{
	usec_t busiest = row_time(row, "busiest_usec");
	char text[FORMAT_TIME_MAX];

	if (is_by(v, "hour"))
		return strdup("");
	/* the heading has the date of a night */
	return strdup(busiest == USEC_UNSET
			      ? "-"
			      : format_minute(busiest, row_time(row, "first_usec"), text));
}

/* The window in marks: where it begins, how long a mark is, how many there are. */
struct marks {
	usec_t from, step;
	size_t count;
};

static bool marks_of(const json_t *coverage, const json_t *slots, struct marks *ret)
{
	const json_t *slot = json_array_get(slots, 0);
	usec_t width, begin, end;
	size_t count;

	if (!coverage || !slot)
		return false;
	width = usec_sub(row_time(slot, "until_usec"), row_time(slot, "from_usec"));
	begin = row_time(coverage, "from_usec");
	end = row_time(coverage, "until_usec");
	if (width == 0 || end <= begin)
		return false;
	begin -= begin % width;
	count = (size_t)((end - begin + width - 1) / width);
	ret->step = width * ((count + MARKS_MAX - 1) / MARKS_MAX);
	ret->from = begin;
	ret->count = (size_t)((end - begin + ret->step - 1) / ret->step);
	return true;
}

static bool watched(const json_t *coverage, usec_t from, usec_t until)
{
	const json_t *stretch;
	size_t i;

	json_array_foreach(json_object_get(coverage, "stretches"), i, stretch)
	{
		if (row_time(stretch, "from_usec") < until &&
			row_time(stretch, "until_usec") > from)
			return true;
	}
	return false;
}

/* A mark for each step: how many claims of the most in any, none, or blank where nobody watched. */
static char *cell_hours(const json_t *row, const struct view *v)
{
	static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const plain[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
	const json_t *slots = json_object_get(row, "slots"), *slot;
	uint64_t claims[MARKS_MAX + 1] = {0}, most = 0;
	_cleanup_(buf_done) struct buf b = {0};
	struct marks m;
	size_t i;

	if (is_by(v, "hour") || !marks_of(v->coverage, slots, &m))
		return strdup("");
	json_array_foreach(slots, i, slot)
	{
		size_t at = (size_t)(usec_sub(row_time(slot, "from_usec"), m.from) / m.step);

		if (at < ELEMENTSOF(claims)) {
			claims[at] += (uint64_t)row_int(slot, "claims", 0);
			most = MAX(most, claims[at]);
		}
	}
	for (i = 0; i < m.count && i < ELEMENTSOF(claims); i++) {
		usec_t from = m.from + i * m.step;
		/* any claim at all is one above the floor */
		size_t level =
			claims[i] == 0 ? 0 : 1 + (size_t)(6.0 * (double)claims[i] / (double)most);
		const char *mark = v->utf8 ? bars[level] : plain[level];

		if (claims[i] == 0 && !watched(v->coverage, from, from + m.step))
			mark = " ";
		if (buf_append_string(&b, mark) < 0)
			return NULL;
	}
	return strndup((const char *)buf_bytes(&b), buf_size(&b));
}

static char *cell_first(const json_t *row, const struct view *v)
{
	char text[FORMAT_TIME_MAX];

	return strdup(format_time(row_time(row, "first_usec"), v->now, text));
}

static char *cell_last(const json_t *row, _unused_ const struct view *v)
{
	char text[FORMAT_TIME_MAX];

	return strdup(format_time(row_time(row, "last_usec"), row_time(row, "first_usec"), text));
}

/* "~4211" where rows or sums can only tell about how many. */
static char *cell_remotes(const json_t *row, _unused_ const struct view *v)
{
	return cell_print("%s%lld", row_true(row, "remotes_estimated") ? "~" : "",
		(long long)row_int(row, "remotes", 0));
}

static char *cell_note(const json_t *row, _unused_ const struct view *v)
{
	return strdup(row_true(row, "new") ? "new" : "");
}

static enum tone tone_note(const json_t *row)
{
	return row_true(row, "new") ? TONE_WARNING : TONE_PLAIN;
}

/* A list of elements: a change has a word in front. */
#define PROGRAM_CELLS                                                                              \
	{"HOUR", .text = cell_hour, .right = true},                                                \
		{"PORT/PROTO", .text = cell_audit_port, .right = true},                            \
		{"NETNS", .text = cell_audit_netns},                                               \
		{"PROGRAM", .text = cell_program, .tone = tone_program, .cut = true},              \
		{"UNIT", .text = cell_audit_unit, .cut = true, .drop = 5, .by = "unit"},           \
		{"USER", .text = cell_audit_user, .drop = 8, .by = "user"},                        \
		{"CLAIMS", .member = "claims", .right = true},                                     \
		{"PORTS", .member = "ports", .right = true},                                       \
		{"REMOTES", .text = cell_remotes, .right = true, .drop = 3},                       \
		{"LISTENED", .text = cell_listening, .right = true, .drop = 7},                    \
		{"ACCEPTED", .text = cell_accepted, .right = true, .drop = 9},                     \
		{"BOUND", .text = cell_bound_claims, .right = true, .drop = 12},                   \
		{"FAILED", .text = cell_failures, .right = true, .drop = 2},                       \
		{"SHORTEST", .text = cell_shortest, .right = true, .drop = 10},                    \
		{"LONGEST", .text = cell_longest, .right = true, .drop = 11},                      \
		{"BUSIEST", .text = cell_busiest, .right = true, .drop = 6},                       \
		{"HOURS", .text = cell_hours, .drop = 4},                                          \
		{"FIRST", .text = cell_first, .right = true, .drop = 14},                          \
		{"LAST", .text = cell_last, .right = true, .drop = 13},                            \
	{                                                                                          \
		"NOTE", .text = cell_note, .tone = tone_note                                       \
	}

static const struct cell program_cells[] = {PROGRAM_CELLS};
const struct kind kind_programs = {
	"programs", &shape_program, program_cells, ELEMENTSOF(program_cells)};

static const struct cell change_cells[] = {{"CHANGE", .member = "change"}, PROGRAM_CELLS};
const struct kind kind_changes = {
	"programs", &shape_change, change_cells, ELEMENTSOF(change_cells)};
