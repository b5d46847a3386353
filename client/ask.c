/* SPDX-License-Identifier: MIT */

#include "client/ask.h"

#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "client/near.h"
#include "client/receipt.h"
#include "client/remote.h"
#include "client/shape.h"
#include "common/escape.h"

#define INTERFACE "org.portledger.ledger."

/* Entries of /etc/group may list many members. */
#define ENTRY_BYTES 65536

/* `host` NULL: this one, which goes without saying. */
static void _printf_(2, 0) complain_of(const char *host, const char *format, va_list arguments)
{
	_cleanup_(free_p) char *text = NULL, *safe = NULL;

	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	safe = text ? escape_terminal(text) : NULL;
	fprintf(stderr, "portledger: %s%s%s\n", host ? host : "", host ? ": " : "",
		safe ? safe : "out of memory");
}

void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain_of(NULL, format, arguments);
	va_end(arguments);
}

/* About what a connection leads to. */
static void _printf_(2, 3) complain_there(const struct connection *c, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain_of(c->host, format, arguments);
	va_end(arguments);
}

enum status complain_memory(void)
{
	complain("out of memory");
	return STATUS_ERROR;
}

void complain_no_daemon(const struct options *o)
{
	complain("no daemon answers at %s", o->socket_path);
	if (o->socket_given)
		complain("start it with: portledgerd --socket %s --state DIR", o->socket_path);
	else
		complain("start it with: portledgerd, as root");
}

/* The group of the socket, or of the directory where that hides the socket; -1: not even that can be seen. */
static int64_t group_of(const char *path)
{
	_cleanup_(free_p) char *copy = strdup(path);
	struct stat st;

	if (stat(path, &st) == 0)
		return st.st_mode & S_IWGRP ? (int64_t)st.st_gid : 0;
	if (copy && stat(dirname(copy), &st) == 0)
		return (int64_t)st.st_gid;
	return -1;
}

static bool is_member(const struct group *group, const char *user)
{
	for (char **member = group->gr_mem; *member; member++)
		if (streq(*member, user))
			return true;
	return false;
}

static void complain_denied(const char *path)
{
	int64_t gid = group_of(path);
	const struct passwd *me = getpwuid(geteuid());
	const char *user = me ? me->pw_name : "USER";
	struct group entry, *group = NULL;
	_cleanup_(free_p) char *buffer = malloc(ENTRY_BYTES);

	complain("permission denied: %s", path);
	if (gid <= 0) {
		complain("it is open to its owner and to root only; there is no group to join");
		return;
	}
	if (!buffer || getgrgid_r((gid_t)gid, &entry, buffer, ENTRY_BYTES, &group) != 0 || !group)
		complain("it is open to the group %lld: usermod -aG %lld %s", (long long)gid,
			(long long)gid, user);
	else if (is_member(group, user))
		complain("you are in the group %s, but not in this session: log in again",
			group->gr_name);
	else
		complain("it is open to the group %s: usermod -aG %s %s, then log in again",
			group->gr_name, group->gr_name, user);
}

/* Anybody may listen at a path of his own, and what he says would be believed: only who could be the daemon is asked. */
static enum status check_peer(struct connection *c, const char *path)
{
	const struct passwd *expected;
	uid_t peer = c->peer;

	if (peer == 0 || peer == geteuid())
		return STATUS_FOUND;
	expected = getpwnam("portledger");
	if (expected && expected->pw_uid == peer)
		return STATUS_FOUND;
	connection_done(c);
	complain("who answers at %s is uid %u, neither root nor portledger nor you: not asked",
		path, (unsigned)peer);
	return STATUS_ERROR;
}

static enum status open_host(const char *host, struct connection *ret)
{
	int r = connection_open_host(host, ret);

	if (r == 0)
		return STATUS_FOUND;
	complain("%s: cannot run %s: %s", host, remote_program(), strerror(-r));
	return STATUS_NO_DAEMON;
}

enum status ask_open(const struct options *o, bool quiet, struct connection *ret)
{
	int r;

	if (o->host)
		return open_host(o->host, ret);
	r = connection_open(o->socket_path, ret);
	switch (-r) {
	case 0:
		return check_peer(ret, o->socket_path);
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		if (!quiet)
			complain_no_daemon(o);
		return STATUS_NO_DAEMON;
	case EACCES:
	case EPERM:
		complain_denied(o->socket_path);
		return STATUS_DENIED;
	default:
		complain("%s: %s", o->socket_path, strerror(-r));
		return STATUS_ERROR;
	}
}

/* What it means that the far end of ssh is closed: ssh and env(1) have their exit statuses, and our bridge has ours. */
static enum status complain_cut(struct connection *c)
{
	int status = connection_close(c);

	switch (status) {
	case 255:
		complain_there(c, "%s failed", remote_program());
		return STATUS_NO_DAEMON;
	case 126:
	case 127:
		complain_there(c, "there is no portledger to run there");
		return STATUS_NO_DAEMON;
	case STATUS_NO_DAEMON:
		complain_there(c, "no daemon answers there");
		return STATUS_NO_DAEMON;
	case STATUS_DENIED:
		complain_there(c, "permission denied there");
		return STATUS_DENIED;
	default:
		complain_there(
			c, "the connection was cut (%s: exit status %d)", remote_program(), status);
		return STATUS_ERROR;
	}
}

static enum status complain_failure(struct connection *c, int r)
{
	switch (-r) {
	case ETIMEDOUT:
		complain_there(c, "the daemon does not answer");
		break;
	case ECONNRESET:
	case EPIPE:
		if (c->host)
			return complain_cut(c);
		complain("the daemon closed the connection without an answer");
		break;
	case EBADMSG:
		complain_there(c, "the daemon's answer is not Varlink%s",
			c->host ? "; does something there print when a shell starts?" : "");
		break;
	case EMSGSIZE:
		complain_there(c, "the daemon's answer is longer than %u bytes", LIMIT_REPLY_BYTES);
		break;
	default:
		complain_there(c, "%s", strerror(-r));
	}
	return STATUS_ERROR;
}

/* What the daemon's own errors mean for who asked. */
static const struct {
	const char *name;
	enum status status;
	const char *member; /* of its parameters, that the text is about; NULL: none */
	const char *text;
	const char *of; /* only of this parameter; NULL: of any */
} error_table[] = {
	{"org.varlink.service.PermissionDenied", STATUS_DENIED, NULL, "the daemon denies it"},
	{"org.varlink.service.InvalidParameter", STATUS_USAGE, NULL,
		"that is no cursor of an export", "cursor"},
	{INTERFACE "InvalidRange", STATUS_USAGE, NULL,
		"the cursor is later than the clock there: it is another daemon's, or the clock was set back",
		"cursor"},
	{"org.varlink.service.InvalidParameter", STATUS_USAGE, "parameter",
		"the daemon does not take this value of"},
	{"org.varlink.service.MethodNotFound", STATUS_ERROR, "method",
		"the daemon is of another version: it lacks"},
	{"org.varlink.service.InterfaceNotFound", STATUS_ERROR, "interface",
		"who listens there is no portledgerd: it lacks"},
	{INTERFACE "InvalidRange", STATUS_USAGE, "parameter",
		"no port, a stretch that ends before it begins, or one of the future:"},
	{INTERFACE "StoreUnavailable", STATUS_ERROR, "reason", "the database cannot be read:"},
	{INTERFACE "QueryTooLong", STATUS_ERROR, NULL,
		"the answer takes too long; ask for a shorter window or fewer ports"},
	{INTERFACE "TooManyClients", STATUS_ERROR, NULL,
		"the daemon has as many clients as it may have; try again"},
};

static enum status complain_error(const struct connection *c, const struct varlink_reply *reply)
{
	for (size_t i = 0; i < ELEMENTSOF(error_table); i++) {
		const char *about;

		if (!streq(reply->error, error_table[i].name) ||
			(error_table[i].of && !streq_null(error_table[i].of,
						      row_text(reply->parameters, "parameter"))))
			continue;
		about = error_table[i].member ? row_text(reply->parameters, error_table[i].member)
					      : NULL;
		complain_there(
			c, "%s%s%s", error_table[i].text, about ? " " : "", about ? about : "");
		return error_table[i].status;
	}
	complain_there(c, "the daemon says %s", reply->error);
	return STATUS_ERROR;
}

json_t *ask_about(json_t *parameters, const char *name, const char *text)
{
	if (!text || json_object_set_new(parameters, name, json_string(text)) == 0)
		return parameters;
	json_decref(parameters);
	return NULL;
}

enum status ask_call(struct connection *c, const char *method, json_t *parameters, const char *flag)
{
	char name[64];
	int r;

	if (!parameters)
		return complain_memory();
	snprintf(name, sizeof(name), INTERFACE "%s", method);
	r = connection_call(c, name, parameters, flag);
	json_decref(parameters);
	/* a daemon that has too many clients says so and closes before it reads */
	if (r == -EPIPE || r == -ECONNRESET)
		return STATUS_FOUND;
	return r < 0 ? complain_failure(c, r) : STATUS_FOUND;
}

/* `refusal` as ask_unless() has it, or NULL. */
static enum status read_reply(struct connection *c, const struct shape *shape, const char *refusal,
	json_t **ret, bool *ret_continues)
{
	_cleanup_(varlink_reply_done) struct varlink_reply reply = {0};
	const char *wrong = NULL;
	int r;

	r = connection_reply(c, &reply);
	if (r < 0)
		return complain_failure(c, r);
	if (reply.error && refusal && strncmp(reply.error, INTERFACE, strlen(INTERFACE)) == 0 &&
		streq(reply.error + strlen(INTERFACE), refusal)) {
		*ret = NULL;
		return STATUS_FOUND;
	}
	if (reply.error)
		return complain_error(c, &reply);
	if (shape_check(shape, reply.parameters, &wrong) < 0) {
		complain_there(c, "the daemon's answer is not of this interface: %s", wrong);
		return STATUS_ERROR;
	}
	*ret = TAKE_PTR(reply.parameters);
	*ret_continues = reply.continues;
	return STATUS_FOUND;
}

enum status ask_reply(
	struct connection *c, const struct shape *shape, json_t **ret, bool *ret_continues)
{
	return read_reply(c, shape, NULL, ret, ret_continues);
}

enum status ask_unless(struct connection *c, const char *method, json_t *parameters,
	const struct shape *shape, const char *refusal, json_t **ret)
{
	enum status status = ask_call(c, method, parameters, NULL);
	bool continues;

	return status != STATUS_FOUND ? status : read_reply(c, shape, refusal, ret, &continues);
}

enum status ask(struct connection *c, const char *method, json_t *parameters,
	const struct shape *shape, json_t **ret)
{
	enum status status = ask_call(c, method, parameters, NULL);
	bool continues;

	return status != STATUS_FOUND ? status : ask_reply(c, shape, ret, &continues);
}

enum status ask_pages_of(struct connection *c, const char *method, const struct shape *shape,
	const char *rows, json_t *parameters, ask_page_fn take, void *context, json_t *receipts)
{
	bool more = true;

	while (more && !ferror(stdout)) {
		_cleanup_(json_decrefp) json_t *page = NULL;
		json_t *cursor, *coverage;
		enum status status = ask(c, method, json_incref(parameters), shape, &page);

		if (status == STATUS_FOUND)
			status = take(context, json_object_get(page, rows));
		if (status != STATUS_FOUND)
			return status;
		cursor = json_object_get(page, "cursor");
		coverage = json_object_get(page, "coverage");
		more = json_is_string(cursor);
		if (more && json_object_set(parameters, "cursor", cursor) < 0)
			return complain_memory();
		if (!more && !json_is_object(coverage)) {
			complain_there(c, "the daemon's answer has no receipt");
			return STATUS_ERROR;
		}
		if (!more && json_array_append(receipts, coverage) < 0)
			return complain_memory();
	}
	return STATUS_FOUND;
}

enum status ask_pages(struct connection *c, const char *method, json_t *parameters,
	ask_page_fn take, void *context, json_t *receipts)
{
	return ask_pages_of(
		c, method, &shape_claims, "claims", parameters, take, context, receipts);
}

static enum status complain_column(const char *name, const struct shape *shape)
{
	struct near near = NEAR(name);

	for (size_t i = 0; i < shape->count; i++)
		near_try(&near, shape->members[i].name);
	if (near.best)
		complain("there is no column %s; did you mean %s?", name, near.best);
	else
		complain("there is no column %s; the manual lists them", name);
	return STATUS_USAGE;
}

enum status ask_writer(
	const struct view *v, const struct kind *k, bool unbounded, struct writer **ret)
{
	const char *unknown = writer_unknown_column(v, k);

	if (unknown)
		return complain_column(unknown, k->shape);
	return writer_new(v, k, unbounded, ret) < 0 ? complain_memory() : STATUS_FOUND;
}

enum status write_rows(struct writer *w, const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) if (writer_row(w, row) < 0) return complain_memory();
	return STATUS_FOUND;
}

enum status answer_status(const struct options *o, size_t count, const json_t *receipts)
{
	const json_t *receipt;
	size_t i;

	if (o->strict)
		json_array_foreach(receipts, i,
			receipt) if (!receipt_complete(receipt)) return STATUS_INCOMPLETE;
	return count > 0 ? STATUS_FOUND : STATUS_NOTHING;
}

void say_nothing(const struct view *v, const json_t *receipts)
{
	const json_t *receipt;
	bool watched = false, unwatched_ports = false;
	size_t i;

	if (v->options->output != OUTPUT_TABLE || v->options->no_legend)
		return;
	json_array_foreach(receipts, i, receipt)
	{
		watched = watched || receipt_watched(receipt);
		unwatched_ports = unwatched_ports || receipt_of_unwatched_ports(receipt);
	}
	fputs(watched ? "No claim matched in what was watched.\n"
		: unwatched_ports
			? "Nothing can be said: not among the ports that are watched (portledger status).\n"
			: "Nothing can be said: nobody was watching then.\n",
		v->out);
}
