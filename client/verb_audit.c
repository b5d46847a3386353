/* SPDX-License-Identifier: MIT */

/* audit: a window's claims, per program or what else --by says; with --diff only what another window does not have, or
 * what it had and this one has not. */

#include "client/ask.h"

#include <inttypes.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#include "client/format.h"
#include "client/receipt.h"
#include "client/shape.h"
#include "common/json.h"

/* Servers that people are told of; JSON has all that the daemon lists. */
#define SERVERS_SHOWN 10

/* How many have claims. Claims without a process have a row too, and who only failed to get a port. */
static size_t named_rows(const json_t *reply)
{
	static const char *const names[] = {
		"exe", "comm", "unit", "uid", "port", "netns", "hour_usec"};
	size_t i, count = (size_t)row_int(reply, "omitted", 0);
	const json_t *row;

	json_array_foreach(json_object_get(reply, "programs"), i, row)
	{
		bool named = false;

		for (size_t n = 0; n < ELEMENTSOF(names); n++)
			named = named || row_text(row, names[n]) || row_int(row, names[n], -1) >= 0;
		count += named && row_int(row, "claims", 0) > 0;
	}
	return count;
}

/* What the rows are: "program", or in a count "programs". */
static const char *noun(const struct options *o, size_t count)
{
	static const char *const nouns[][3] = {{"program", "program", "programs"},
		{"unit", "unit", "units"}, {"user", "user", "users"}, {"port", "port", "ports"},
		{"hour", "hour", "hours"}, {"netns", "namespace", "namespaces"}};

	for (size_t i = 0; o->by && i < ELEMENTSOF(nouns); i++)
		if (streq(nouns[i][0], o->by))
			return nouns[i][count == 1 ? 1 : 2];
	return nouns[0][count == 1 ? 1 : 2];
}

/* Then the ports are counted already; and hours claim nothing. */
static bool is_by_port(const struct options *o)
{
	return o->by && (streq(o->by, "port") || streq(o->by, "hour"));
}

/* Prints what a buffer holds, as a line for people. */
static int print_line(const struct view *v, struct buf *b)
{
	if (buf_put_u8(b, 0) < 0)
		return -ENOMEM;
	view_wrapped(v, v->out, (const char *)buf_bytes(b), 0, 2);
	return 0;
}

/* "28 of which only the end was told, 3 there before": why there is no process. */
static int put_reasons(struct buf *b, const json_t *reply)
{
	static const struct {
		const char *name, *text;
	} reasons[] = {
		{"end-only", "shorter than a sweep sees"},
		{"before", "there before we watched"},
		{"no-holder", "that nobody had open when looked at"},
		{"not-looked", "not looked at yet"},
	};
	const json_t *counts = json_object_get(reply, "reasons");
	const char *between = " (";
	int r = 0;

	for (size_t i = 0; i < ELEMENTSOF(reasons) && r == 0; i++) {
		int64_t count = row_int(counts, reasons[i].name, 0);
		char text[FORMAT_MAX];

		if (count == 0)
			continue;
		r = buf_append_format(b, "%s%s %s", between, format_count((uint64_t)count, text),
			reasons[i].text);
		between = ", ";
	}
	return r == 0 && *between == ',' ? buf_append_string(b, ")") : r;
}

/* Where nobody watched for failures, nothing is said of them. */
static int put_failures(struct buf *b, const json_t *reply)
{
	int64_t failures = row_int(reply, "failures", -1);
	char count[FORMAT_MAX];

	return failures < 0 ? 0
			    : buf_append_format(b, "; %s failure%s",
				      format_count((uint64_t)failures, count),
				      format_plural((uint64_t)failures));
}

/* What the table is about, and its sums. */
static int print_heading(const struct view *v, const json_t *reply)
{
	size_t rows = named_rows(reply);
	const json_t *coverage = json_object_get(reply, "coverage");
	_cleanup_(buf_done) struct buf b = {0};
	uint64_t claims = (uint64_t)row_int(reply, "claims", 0);
	uint64_t ports = (uint64_t)row_int(reply, "ports", 0);
	char claims_text[FORMAT_MAX], ports_text[FORMAT_MAX], unknown[FORMAT_MAX];

	if (receipt_window(&b, row_time(coverage, "from_usec"), row_time(coverage, "until_usec")) <
			0 ||
		buf_append_format(&b, ": %s claim%s of %s port%s",
			format_count(claims, claims_text), format_plural(claims),
			format_count(ports, ports_text), format_plural(ports)) < 0 ||
		(rows > 0 && !is_by_port(v->options) &&
			buf_append_format(&b, " by %zu %s", rows, noun(v->options, rows)) < 0) ||
		buf_append_format(&b, "; %s without a process",
			format_count((uint64_t)row_int(reply, "unattributed", 0), unknown)) < 0 ||
		put_reasons(&b, reply) < 0 || put_failures(&b, reply) < 0)
		return -ENOMEM;
	return print_line(v, &b);
}

static void print_omitted(const struct options *o, const struct view *v, const json_t *reply)
{
	int64_t omitted = row_int(reply, "omitted", 0);
	char count[FORMAT_MAX];

	if (omitted == 0)
		return;
	format_count((uint64_t)omitted, count);
	if (o->output == OUTPUT_TABLE)
		fprintf(v->out, "%s more %s, with fewer claims, did not fit into the answer.\n",
			count, noun(o, (size_t)omitted));
	else if (o->output == OUTPUT_CSV || o->output == OUTPUT_FIELD)
		complain("%s more %s, with fewer claims, did not fit into the answer", count,
			noun(o, (size_t)omitted));
}

/* "  60530/tcp upd[702] upd.service: came 03:12:07.114, went 03:20:11.000" */
static int print_server(const struct view *v, const json_t *server, struct window w)
{
	_cleanup_(free_p) char *port = cell_port(server, v), *process = cell_process(server, v);
	_cleanup_(buf_done) struct buf b = {0};
	const char *unit = row_text(server, "unit");
	usec_t opened = row_time(server, "opened_usec"), closed = row_time(server, "closed_usec");
	char came[FORMAT_TIME_MAX], went[FORMAT_TIME_MAX];

	if (!port || !process)
		return -ENOMEM;
	if (buf_append_format(&b, "%s %s%s%s: ", port, process, unit ? " " : "", unit ? unit : "") <
			0 ||
		buf_append_format(&b, "%s %s", opened >= w.from ? "came" : "there since",
			format_time(opened, w.from, came)) < 0)
		return -ENOMEM;
	if (closed < w.until &&
		buf_append_format(&b, ", went %s", format_time(closed, opened, went)) < 0)
		return -ENOMEM;
	if (buf_put_u8(&b, 0) < 0)
		return -ENOMEM;
	fputs("  ", v->out);
	view_wrapped(v, v->out, (const char *)buf_bytes(&b), 2, 4);
	return 0;
}

/* And the question that lists them: those that only lasted through the window are in its answer, too. */
static int print_more_servers(const struct view *v, size_t more, struct window w)
{
	_cleanup_(buf_done) struct buf b = {0};
	char text[FORMAT_MAX];

	if (buf_append_format(&b, "and %s more: see portledger history --role listening",
		    format_count(more, text)) < 0 ||
		buf_append_format(&b, " -S @%" PRIu64 " -U @%" PRIu64, w.from / USEC_PER_SEC,
			(w.until + USEC_PER_SEC - 1) / USEC_PER_SEC) < 0 ||
		buf_put_u8(&b, 0) < 0)
		return -ENOMEM;
	fputs("  ", v->out);
	view_wrapped(v, v->out, (const char *)buf_bytes(&b), 2, 4);
	return 0;
}

/* For people, behind the table. */
static int print_servers(const struct view *v, const json_t *reply)
{
	const json_t *servers = json_object_get(reply, "servers"), *server;
	const json_t *coverage = json_object_get(reply, "coverage");
	const struct window w = {row_time(coverage, "from_usec"), row_time(coverage, "until_usec")};
	size_t count = json_array_size(servers) + (size_t)row_int(reply, "servers_omitted", 0), i;
	char text[FORMAT_MAX];

	if (count == 0)
		return 0;
	fprintf(v->out, "%s%s server%s came or went:%s\n", view_tone(v, TONE_WARNING),
		format_count(count, text), format_plural(count), view_plain(v));
	json_array_foreach(servers, i, server)
	{
		if (i == SERVERS_SHOWN)
			break;
		if (print_server(v, server, w) < 0)
			return -ENOMEM;
	}
	return count > i ? print_more_servers(v, count - i, w) : 0;
}

/* A member that may not be there: null. */
static json_t *member_of(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	return value ? json_incref(value) : json_null();
}

/* The sums, and what is no row. NULL: no memory. */
static json_t *total_of(const struct view *v, const json_t *reply)
{
	static const char *const sums[] = {"claims", "ports", "unattributed", "omitted", "failures",
		"reasons", "servers_omitted"};
	json_t *total = json_object(), *servers = json_array();
	const json_t *server;
	size_t i;

	for (i = 0; i < ELEMENTSOF(sums); i++)
		if (json_object_set_new(total, sums[i], member_of(reply, sums[i])) < 0)
			goto failed;
	json_array_foreach(json_object_get(reply, "servers"), i, server)
	{
		json_t *row = shape_order(&shape_claim, server);

		if (!row || writer_fill_user(v, row) < 0 || json_array_append_new(servers, row) < 0)
			goto failed;
	}
	if (json_object_set_new(total, "servers", servers) == 0)
		return total;
	servers = NULL;
failed:
	json_decref(total);
	json_decref(servers);
	return NULL;
}

/* Whole hours are counted from sums, which are of programs: what asks for more is read claim by claim. */
static enum status complain_too_long(const struct options *o)
{
	bool rows = streq_null(o->by, "port") || streq_null(o->by, "netns") || o->port_count > 0 ||
		    o->range || o->protocol || o->role || o->pid >= 0 || o->address || o->peer ||
		    o->peer_port > 0;

	complain("this audit takes longer than the daemon may work for one answer");
	if (rows) {
		complain("it reads each claim, to count by port or netns, or of one range,");
		complain("protocol, role, address or process: ask without, or for less time");
	} else {
		complain("it reads each claim of the hours that its window cuts: ask for whole");
		complain("hours (-S 02:00 -U 09:00), or for a shorter window");
	}
	return STATUS_ERROR;
}

/* Asks one window. */
static enum status ask_audit(
	const struct options *o, struct connection *c, struct window window, json_t **ret)
{
	enum status status;
	json_t *parameters = json_pack("{s:I,s:I,s:o}", "since_usec", (json_int_t)window.from,
		"until_usec", (json_int_t)window.until, "filter", options_filter(o));

	status = ask_unless(
		c, "Audit", ask_about(parameters, "by", o->by), &shape_audit, "QueryTooLong", ret);
	return status == STATUS_FOUND && !*ret ? complain_too_long(o) : status;
}

static enum status print_audit(
	const struct options *o, struct view *v, struct writer *w, const json_t *reply)
{
	_cleanup_(json_decrefp) json_t *total = total_of(v, reply);
	_cleanup_(json_decrefp) json_t *receipts =
		json_pack("[O]", json_object_get(reply, "coverage"));
	const json_t *programs = json_object_get(reply, "programs");
	bool told = o->output == OUTPUT_TABLE && !o->no_legend;
	enum status status;

	if (!receipts || !total)
		return complain_memory();
	v->coverage = json_object_get(reply, "coverage");
	if (json_array_size(programs) == 0)
		say_nothing(v, receipts);
	else if (told && print_heading(v, reply) < 0)
		return complain_memory();
	print_omitted(o, v, reply);
	status = write_rows(w, programs);
	if (status != STATUS_FOUND)
		return status;
	if (writer_end_rows(w) < 0 || (told && print_servers(v, reply) < 0) ||
		writer_finish(w, total, receipts) < 0)
		return complain_memory();
	return answer_status(o, json_array_size(programs), receipts);
}

/* What a row is of, as a key. */
struct known {
	UT_hash_handle hh;
	char text[];
};

static int key_of(const json_t *row, struct known **ret)
{
	_cleanup_(json_decrefp) json_t *key = json_pack("[O?,O?,O?,O?,O?,O?,O?,O?]",
		json_object_get(row, "exe"), json_object_get(row, "comm"),
		json_object_get(row, "unit"), json_object_get(row, "uid"),
		json_object_get(row, "port"), json_object_get(row, "protocol"),
		json_object_get(row, "netns"), json_object_get(row, "netns_name"));
	_cleanup_(free_p) char *text = NULL;
	struct known *known;
	size_t size;

	if (!key || json_write(key, JSON_COMPACT, &text) < 0)
		return -ENOMEM;
	size = strlen(text) + 1;
	known = calloc(1, sizeof(*known) + size);
	if (!known)
		return -ENOMEM;
	memcpy(known->text, text, size);
	*ret = known;
	return 0;
}

static void forget(struct known **all)
{
	struct known *known, *next;

	HASH_ITER (hh, *all, known, next) {
		HASH_DEL(*all, known);
		free(known);
	}
}

static int know_all(struct known **all, const json_t *reply)
{
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(reply, "programs"), i, row)
	{
		struct known *known;

		if (key_of(row, &known) < 0)
			return -ENOMEM;
		HASH_ADD_STR(*all, text, known);
		if (!known->hh.tbl) {
			free(known);
			return -ENOMEM;
		}
	}
	return 0;
}

/* Writes the rows of `reply` that `other` does not have, with this word. Adds the others to *same. */
static int write_changes(struct writer *w, const json_t *reply, const json_t *other,
	const char *change, size_t *same)
{
	_cleanup_(forget) struct known *all = NULL;
	const json_t *row;
	int r = know_all(&all, other);
	size_t i;

	json_array_foreach(json_object_get(reply, "programs"), i, row)
	{
		_cleanup_(json_decrefp) json_t *changed = NULL;
		_cleanup_(free_p) struct known *key = NULL;
		struct known *found;

		r = r < 0 ? r : key_of(row, &key);
		if (r < 0)
			return r;
		HASH_FIND_STR(all, key->text, found);
		if (found) {
			(*same)++;
			continue;
		}
		changed = json_pack("{s:s}", "change", change);
		if (json_object_update(changed, (json_t *)(uintptr_t)row) < 0 ||
			writer_row(w, changed) < 0)
			return -ENOMEM;
	}
	return r;
}

/* For people: what was compared. */
static int print_compared(
	const struct view *v, const json_t *reply, const json_t *other, size_t same, size_t changed)
{
	const json_t *a = json_object_get(reply, "coverage"),
		     *b = json_object_get(other, "coverage");
	_cleanup_(buf_done) struct buf line = {0};
	int r = receipt_window(&line, row_time(a, "from_usec"), row_time(a, "until_usec"));

	if (r == 0)
		r = buf_append_string(&line, " against ");
	if (r == 0)
		r = receipt_window(&line, row_time(b, "from_usec"), row_time(b, "until_usec"));
	if (r == 0 && !(receipt_watched(a) && receipt_watched(b)))
		r = buf_append_string(
			&line, ": nothing can be compared, since nobody was watching ");
	if (r == 0 && !(receipt_watched(a) && receipt_watched(b)))
		r = buf_append_string(&line, receipt_watched(a) ? "the other time." : "then.");
	else if (r == 0)
		r = buf_append_format(&line, ": %zu changed, %zu %s in both", changed, same,
			noun(v->options, same));
	return r == 0 ? print_line(v, &line) : r;
}

/* Rows that one of both has not room for would look new or gone. */
static void complain_omitted(const struct options *o, const json_t *reply)
{
	if (row_int(reply, "omitted", 0) > 0)
		complain("%lld %s, with fewer claims, could not be compared",
			(long long)row_int(reply, "omitted", 0), noun(o, 2));
}

static enum status print_diff(const struct options *o, struct view *v, struct writer *w,
	const json_t *reply, const json_t *other)
{
	_cleanup_(json_decrefp) json_t *total = total_of(v, reply);
	_cleanup_(json_decrefp) json_t *receipts = json_pack(
		"[O,O]", json_object_get(other, "coverage"), json_object_get(reply, "coverage"));
	bool both = receipt_watched(json_object_get(reply, "coverage")) &&
		    receipt_watched(json_object_get(other, "coverage"));
	size_t same = 0, gone = 0;
	int r = 0;

	if (!receipts || !total)
		return complain_memory();
	v->coverage = json_object_get(reply, "coverage");
	if (both)
		r = write_changes(w, reply, other, "new", &same);
	if (r == 0 && both)
		r = write_changes(w, other, reply, "gone", &gone);
	complain_omitted(o, reply);
	complain_omitted(o, other);
	if (r == 0 && o->output == OUTPUT_TABLE && !o->no_legend)
		r = print_compared(v, reply, other, same, writer_count(w));
	if (r == 0)
		r = writer_finish(w, total, receipts);
	if (r < 0)
		return complain_memory();
	if (o->strict && !both)
		return STATUS_INCOMPLETE;
	return answer_status(o, writer_count(w), receipts);
}

enum status verb_audit(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	_cleanup_(json_decrefp) json_t *reply = NULL, *other = NULL;
	struct window window = {o->since, o->until != USEC_UNSET ? o->until : v->now + 1};
	enum status status;

	status = ask_writer(v, o->diff ? &kind_changes : &kind_programs, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = ask_audit(o, &c, window, &reply);
	if (status == STATUS_FOUND && o->diff)
		status = ask_audit(o, &c, o->other, &other);
	if (status != STATUS_FOUND)
		return status;
	return o->diff ? print_diff(o, v, w, reply, other) : print_audit(o, v, w, reply);
}
