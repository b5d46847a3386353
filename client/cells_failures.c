/* SPDX-License-Identifier: MIT */

/* What people see of binds and connects that failed. */

#include "client/cells_failures.h"

#include "client/format.h"

static const struct shape_member members[] = {{"usec", SHAPE_TIME}, {"call", SHAPE_TEXT},
	{"error", SHAPE_TEXT}, {"port", SHAPE_PORT, true}, {"protocol", SHAPE_TEXT},
	{"family", SHAPE_TEXT}, {"netns", SHAPE_INT, true}, {"netns_name", SHAPE_TEXT, true},
	{"local_address", SHAPE_TEXT, true}, {"remote_address", SHAPE_TEXT, true},
	{"remote_port", SHAPE_PORT, true}, {"pid", SHAPE_INT, true}, {"comm", SHAPE_TEXT, true},
	{"exe", SHAPE_TEXT, true}, {"uid", SHAPE_INT, true}, {"user", SHAPE_TEXT, true},
	{"unit", SHAPE_TEXT, true}, {"holder_pid", SHAPE_INT, true},
	{"holder_comm", SHAPE_TEXT, true}, {"holder_exe", SHAPE_TEXT, true},
	{"holder_uid", SHAPE_INT, true}, {"holder_unit", SHAPE_TEXT, true},
	{"holder_role", SHAPE_TEXT, true}, {"holder_opened_usec", SHAPE_TIME, true},
	{"holder_remote_address", SHAPE_TEXT, true}, {"holder_remote_port", SHAPE_PORT, true}};
static const struct shape shape_failure = {members, ELEMENTSOF(members)};

static const struct shape_member reply_members[] = {{"failures", SHAPE_LIST, false, &shape_failure},
	{"cursor", SHAPE_TEXT, true}, {"coverage", SHAPE_OBJECT, true, &shape_coverage}};
const struct shape shape_failures = {reply_members, ELEMENTSOF(reply_members)};

static char *cell_time(const json_t *row, const struct view *v)
{
	char text[FORMAT_TIME_MAX];

	return strdup(format_moment(row_time(row, "usec"), v->now, text));
}

/* "bind: in use" */
static char *cell_what(const json_t *row, _unused_ const struct view *v)
{
	return cell_print("%s: %s", row_text(row, "call"),
		streq(row_text(row, "error"), "in_use") ? "in use" : "not available");
}

static enum tone tone_what(_unused_ const json_t *row)
{
	return TONE_BAD;
}

/* A connect mostly asks for no port. */
static char *cell_asked(const json_t *row, _unused_ const struct view *v)
{
	int64_t port = row_int(row, "port", 0);

	return port ? cell_print("%lld/%s", (long long)port, row_text(row, "protocol"))
		    : cell_print("any/%s", row_text(row, "protocol"));
}

/* "192.0.2.1:443" of a client, and nothing where the holder had no remote end. */
static char *cell_holder_remote(const json_t *row, _unused_ const struct view *v)
{
	const char *address = row_text(row, "holder_remote_address");

	return address ? cell_endpoint(address, row_int(row, "holder_remote_port", 0)) : strdup("");
}

/* "nginx[812], listening since 09:12:01", and nothing where the ledger knew of nobody. */
static char *cell_holder(const json_t *row, const struct view *v)
{
	usec_t since = row_time(row, "holder_opened_usec");
	const char *name = cell_name(row, "holder_comm", "holder_exe"),
		   *role = row_text(row, "holder_role");
	int64_t pid = row_int(row, "holder_pid", 0);
	char text[FORMAT_TIME_MAX], number[32] = "";

	if (since == USEC_UNSET)
		return strdup("");
	if (!name)
		name = row_text(row, "holder_unit");
	if (pid > 0)
		snprintf(number, sizeof(number), "[%lld]", (long long)pid);
	return cell_print("%s%s, %s since %s", name ? name : "unknown", number,
		role ? role : "open", format_moment(since - since % USEC_PER_SEC, v->now, text));
}

static const struct cell failure_cells[] = {{"TIME", .text = cell_time, .right = true},
	{"WHAT", .text = cell_what, .tone = tone_what},
	{"PORT/PROTO", .text = cell_asked, .right = true},
	{"LOCAL", .member = "local_address", .drop = 4}, {"REMOTE", .text = cell_remote, .drop = 3},
	{"PROCESS", .text = cell_process, .tone = tone_process, .cut = true},
	{"UNIT", .member = "unit", .cut = true, .drop = 2}, {"USER", .text = cell_user, .drop = 5},
	{"NETNS", .text = cell_netns, .drop = 6}, {"HELD BY", .text = cell_holder, .cut = true},
	{"TO", .text = cell_holder_remote, .drop = 1}};

/* "08:00:02.511 myapp[911]: bind of 44892/tcp at 0.0.0.0, unit myapp.service, user root, held by curl[655], connected since 07:59:58, to 127.0.0.1:631" */
static char *failure_detail(const json_t *row, const struct view *v)
{
	static const struct cell_part parts[] = {
		{"at", NULL, "local_address"},
		{"to", cell_remote, NULL},
		{"unit", NULL, "unit"},
		{"user", cell_user, NULL},
		{"netns", cell_netns, NULL},
		{"held by", cell_holder, NULL},
		{"to", cell_holder_remote, NULL},
	};
	_cleanup_(free_p) char *process = cell_process(row, v), *asked = cell_asked(row, v),
			       *time = cell_time(row, v), *head = NULL, *what = NULL;

	if (!process || !asked || !time)
		return NULL;
	head = cell_print("%s %s", time, process);
	what = cell_print("%s of %s", row_text(row, "call"), asked);
	return cell_sentence(row, v, head, what, parts, ELEMENTSOF(parts));
}

const struct kind kind_failures = {
	"failures", &shape_failure, failure_cells, ELEMENTSOF(failure_cells), failure_detail};
