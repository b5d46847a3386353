/* SPDX-License-Identifier: MIT */

/*
 * Servers on ports that the kernel gives to clients, and the line that keeps these from it. The line has what is reserved
 * already, since writing the setting replaces it; where that is not known, no line is better than one that would free
 * somebody else's ports. Nothing is applied.
 */

#include "client/ask.h"
#include "client/cells_ports.h"
#include "client/receipt.h"
#include "client/shape_ports.h"
#include "common/port_set.h"

#define SETTING "net.ipv4.ip_local_reserved_ports"

/* Would this server be helped by the line of this host's namespace? */
static bool wants_reservation(const json_t *reply, const json_t *row)
{
	int64_t own = row_int(reply, "netns", 0);

	return own > 0 && row_int(row, "netns", 0) == own && !row_true(row, "reserved");
}

/* What is reserved, with the ports of these servers: *ret_added is how many are new. -ENODATA: what is reserved is not
 * known. */
static int merge(const json_t *reply, struct port_set *ret, size_t *ret_added)
{
	const char *reserved = row_text(reply, "reserved");
	const json_t *row;
	size_t i;

	*ret = (struct port_set){{0}};
	*ret_added = 0;
	if (!reserved || port_set_parse(ret, reserved) < 0)
		return -ENODATA;
	json_array_foreach(json_object_get(reply, "listeners"), i, row)
	{
		uint16_t port = (uint16_t)row_int(row, "port", 0);

		if (!wants_reservation(reply, row) || port_set_has(ret, port))
			continue;
		port_set_add(ret, port);
		(*ret_added)++;
	}
	return 0;
}

/* "net.ipv4.ip_local_reserved_ports = 8080,44892" */
static int put_setting(const struct port_set *set, struct buf *b)
{
	int r = buf_append_string(b, SETTING " = ");

	return r == 0 ? port_set_format(set, b) : r;
}

static int print_fix(const struct view *v, const json_t *reply)
{
	const json_t *range = json_object_get(reply, "ephemeral_range");
	const char *reserved = row_text(reply, "reserved");
	_cleanup_(buf_done) struct buf b = {0};
	struct port_set set;
	size_t added;
	int r = merge(reply, &set, &added);

	if (r == -ENODATA)
		r = buf_append_format(&b,
			"Fix: move the servers below %lld. (What is reserved on that host is not known.)",
			(long long)row_int(range, "low", 0));
	else if (r == 0 && added == 0)
		return 0;
	else if (r == 0) {
		r = buf_append_string(&b, "Fix: ");
		if (r == 0)
			r = put_setting(&set, &b);
		if (r == 0)
			r = buf_append_format(&b,
				" (now: %s), or move the servers below %lld. A server may still bind a "
				"reserved port. To keep it: portledger listeners --sysctl "
				">/etc/sysctl.d/60-portledger.conf && sysctl --system",
				*reserved ? reserved : "none", (long long)row_int(range, "low", 0));
	}
	if (r == 0)
		r = buf_put_u8(&b, 0);
	if (r == 0)
		view_wrapped(v, v->out, (const char *)buf_bytes(&b), 0, 5);
	return r;
}

static void print_server(const struct view *v, const json_t *row)
{
	const char *unit = row_text(row, "unit");
	_cleanup_(free_p) char *process = cell_process(row, v);

	fprintf(v->out, "# %lld/", (long long)row_int(row, "port", 0));
	view_text(v, row_text(row, "protocol"));
	fputc(' ', v->out);
	view_text(v, process ? process : "?");
	if (unit) {
		fputs(", ", v->out);
		view_text(v, unit);
	}
	fprintf(v->out, "; collisions: %lld\n", (long long)row_int(row, "collisions", 0));
}

/* The drop-in for sysctl.d(5). */
static enum status print_sysctl(const struct view *v, const json_t *reply)
{
	const json_t *range = json_object_get(reply, "ephemeral_range"), *row;
	_cleanup_(buf_done) struct buf b = {0};
	struct port_set set;
	size_t added, i;
	int r = merge(reply, &set, &added);

	if (r == -ENODATA) {
		complain(
			"what is reserved on that host is not known, so there is no line that keeps it");
		return STATUS_ERROR;
	}
	if (r == 0)
		r = put_setting(&set, &b);
	if (r == 0)
		r = buf_put_u8(&b, 0);
	if (r < 0)
		return complain_memory();
	fprintf(v->out,
		"# portledger: servers in %lld-%lld, which the kernel hands out to clients, and\n"
		"# what was reserved already. Binding a reserved port on purpose stays allowed.\n",
		(long long)row_int(range, "low", 0), (long long)row_int(range, "high", 0));
	json_array_foreach(json_object_get(reply, "listeners"), i,
		row) if (wants_reservation(reply, row)) print_server(v, row);
	fprintf(v->out, "%s\n", (const char *)buf_bytes(&b));
	return added > 0 ? STATUS_FOUND : STATUS_NOTHING;
}

static void say_none(const struct view *v, const json_t *reply)
{
	const json_t *range = json_object_get(reply, "ephemeral_range");

	if (v->options->output != OUTPUT_TABLE || v->options->no_legend)
		return;
	if (!receipt_watched(json_object_get(reply, "coverage")))
		fputs("Nothing can be said: nobody was watching then.\n", v->out);
	else
		fprintf(v->out, "No server is on a port that the kernel hands out (%lld-%lld).\n",
			(long long)row_int(range, "low", 0), (long long)row_int(range, "high", 0));
}

static enum status print_listeners(
	const struct options *o, const struct view *v, struct writer *w, const json_t *reply)
{
	const json_t *rows = json_object_get(reply, "listeners");
	_cleanup_(json_decrefp) json_t *receipts =
		json_pack("[O]", json_object_get(reply, "coverage"));
	_cleanup_(json_decrefp) json_t *total = json_pack("{s:O,s:O,s:O,s:O}", "ephemeral_range",
		json_object_get(reply, "ephemeral_range"), "netns", json_object_get(reply, "netns"),
		"reserved", json_object_get(reply, "reserved"), "omitted",
		json_object_get(reply, "omitted"));
	enum status status;

	if (!receipts || !total)
		return complain_memory();
	if (json_array_size(rows) == 0)
		say_none(v, reply);
	status = write_rows(w, rows);
	if (status != STATUS_FOUND)
		return status;
	if (o->output != OUTPUT_TABLE) {
		if (writer_finish(w, total, receipts) < 0)
			return complain_memory();
	} else if (writer_finish(w, NULL, NULL) < 0 ||
		   (!o->no_legend && json_array_size(rows) > 0 && print_fix(v, reply) < 0) ||
		   writer_receipts(v, v->out, receipts) < 0) {
		return complain_memory();
	}
	return answer_status(o, json_array_size(rows), receipts);
}

/* NULL: no memory. */
static json_t *make_parameters(const struct options *o)
{
	const struct {
		const char *name;
		usec_t value; /* USEC_UNSET: the daemon's own */
	} members[] = {
		{"since_usec", o->since}, {"until_usec", o->until}, {"bound_usec", o->bound_for}};
	json_t *parameters = json_pack("{s:o}", "filter", options_filter(o));

	for (size_t i = 0; i < ELEMENTSOF(members) && parameters; i++)
		if (members[i].value != USEC_UNSET &&
			json_object_set_new(parameters, members[i].name,
				json_integer((json_int_t)members[i].value)) < 0) {
			json_decref(parameters);
			return NULL;
		}
	return parameters;
}

enum status verb_listeners(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(writer_free_p) struct writer *w = NULL;
	_cleanup_(json_decrefp) json_t *reply = NULL;
	enum status status;

	status = ask_writer(v, &kind_listeners, false, &w);
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = ask(&c, "Listeners", make_parameters(o), &shape_listeners, &reply);
	if (status != STATUS_FOUND)
		return status;
	if (o->sysctl && o->output != OUTPUT_TABLE) {
		complain("--sysctl is a form of its own: not with --json, --csv or -F");
		return STATUS_USAGE;
	}
	return o->sysctl ? print_sysctl(v, reply) : print_listeners(o, v, w, reply);
}
