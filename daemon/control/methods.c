/* SPDX-License-Identifier: MIT */

/*
 * The life of a call: parsed and checked; its window fixed; if its answer is about now, it waits for the ledger to
 * look; then it runs inside one read transaction, and either is answered or goes on page by page, each page in a
 * transaction of its own, since a transaction that waits for a slow reader would keep the WAL from shrinking.
 */

#include "daemon/control/methods_private.h"

#include <stdio.h>

#include "common/escape.h"
#include "common/log.h"
#include "daemon/control/interface_idl.h"
#include "daemon/schema.h"

static const char service_idl[] =
	"# What every Varlink service has.\n"
	"interface org.varlink.service\n"
	"\n"
	"method GetInfo() -> (\n"
	"  vendor: string,\n"
	"  product: string,\n"
	"  version: string,\n"
	"  url: string,\n"
	"  interfaces: []string\n"
	")\n"
	"\n"
	"method GetInterfaceDescription(interface: string) -> (description: string)\n"
	"\n"
	"error InterfaceNotFound(interface: string)\n"
	"error MethodNotFound(method: string)\n"
	"error MethodNotImplemented(method: string)\n"
	"error InvalidParameter(parameter: string)\n"
	"error PermissionDenied()\n"
	"error ExpectedMore()\n";

static int get_info(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	int e = buf_append_string(&text,
		"{\"vendor\":\"portledger\",\"product\":\"portledgerd\","
		"\"version\":\"" PORTLEDGER_VERSION "\",\"url\":\"\","
		"\"interfaces\":[\"" SERVICE_INTERFACE "\",\"" LEDGER_INTERFACE "\"]}");

	return e < 0 ? e : request_reply(r, &text, false);
}

static int get_description(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const char *interface = take_string(r, "interface");
	const char *idl = streq(interface, LEDGER_INTERFACE)    ? interface_idl
			  : streq(interface, SERVICE_INTERFACE) ? service_idl
								: NULL;
	int e;

	if (!idl)
		return request_refuse(
			r, SERVICE_INTERFACE ".InterfaceNotFound", "interface", interface);
	e = buf_append_string(&text, "{\"description\":");
	if (e == 0)
		e = escape_json(&text, idl);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

static int sync_reply(struct request *r)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct committed *c = link_last(r->methods->link);
	static const char *const trouble[] = {
		[LOOK_PARTIAL] = "capture did not answer in time",
		[LOOK_LATE] = "daemon did not answer the sync in time",
		[LOOK_NO_LEDGER] = "ledger is restarting",
	};
	int e;

	if (r->look != LOOK_DONE || !c)
		return request_refuse(r, LEDGER_INTERFACE ".StoreUnavailable", "reason",
			c && r->look != LOOK_DONE ? trouble[r->look] : trouble[LOOK_NO_LEDGER]);
	e = buf_append_format(&text, "{\"commit\":%llu,\"until_usec\":%llu}",
		(unsigned long long)c->commit, (unsigned long long)c->until_wall);
	return e < 0 ? e : request_reply(r, &text, false);
}

static const struct parameter no_parameters[] = {{0}};

static const struct method service_methods[] = {
	{"GetInfo", no_parameters, .run = get_info},
	{"GetInterfaceDescription",
		(const struct parameter[]){{"interface", PARAMETER_STRING, true}, {0}},
		.run = get_description},
};

static const struct method method_sync = {
	"Sync", no_parameters, .looks = LOOKS_ALWAYS, .run = sync_reply};

static const struct method *const ledger_methods[] = {
	&method_status,
	&method_explain,
	&method_who,
	&method_claims,
	&method_audit,
	&method_listeners,
	&method_pressure,
	&method_apps,
	&method_activity,
	&method_released,
	&method_annotate,
	&method_receipt,
	&method_occupancy,
	&method_failures,
	&method_follow,
	&method_sync,
	&method_doctor,
};

int request_reply(struct request *r, struct buf *text, bool continues)
{
	int e;

	if (r->call.oneway)
		return 0;
	e = buf_append(text, "", 1);
	if (e == 0)
		e = varlink_put_reply(
			client_output(r->client), (const char *)buf_bytes(text), continues);
	client_sent(r->client);
	return e;
}

int request_reply_page(struct request *r, struct buf *text, bool last)
{
	bool goes_on = !last && r->call.more;
	int e = request_reply(r, text, goes_on);

	if (e < 0 || !goes_on)
		return e;
	client_want_room(r->client);
	return GOES_ON;
}

int request_refuse(struct request *r, const char *error, const char *name, const char *value)
{
	_cleanup_(buf_done) struct buf text = {0};
	int e = buf_append_string(&text, "{");

	if (e == 0 && name)
		e = buf_append_format(&text, "\"%s\":", name);
	if (e == 0 && name)
		e = escape_json(&text, value);
	if (e == 0)
		e = buf_append(&text, "}", sizeof("}"));
	if (e == 0 && !r->call.oneway)
		e = varlink_put_error(
			client_output(r->client), error, (const char *)buf_bytes(&text));
	client_sent(r->client);
	return e < 0 ? e : REFUSED;
}

int refuse_parameter(struct request *r, const char *name)
{
	return request_refuse(r, SERVICE_INTERFACE ".InvalidParameter", "parameter", name);
}

int refuse_range(struct request *r, const char *name)
{
	return request_refuse(r, LEDGER_INTERFACE ".InvalidRange", "parameter", name);
}

static int refuse_too_long(struct request *r)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "{\"limit_usec\":%u}", LIMIT_QUERY_USEC);
	if (r->call.oneway)
		return 0;
	return varlink_put_error(client_output(r->client), LEDGER_INTERFACE ".QueryTooLong", text);
}

static void request_free(struct request *r)
{
	link_forget(r->methods->link, &r->waiter);
	if (r->method && r->method->done)
		r->method->done(r);
	varlink_call_done(&r->call);
	client_set_data(r->client, NULL);
	free(r);
}

/* Ends the call as its last step says. */
static void conclude(struct request *r, int outcome)
{
	struct client *c = r->client;
	int e = 0;

	if (outcome == GOES_ON)
		return;
	if (outcome == -ETIMEDOUT || outcome == -E2BIG)
		e = refuse_too_long(r);
	else if (outcome == -ENOMEM)
		e = outcome;
	else if (outcome < 0)
		e = request_refuse(
			r, LEDGER_INTERFACE ".StoreUnavailable", "reason", store_trouble(outcome));
	request_free(r);
	if (e < 0) {
		log_error("no memory for an answer");
		client_drop(c);
	}
	client_done(c);
}

/* One step of a method, in its own transaction. */
static int run_step(struct request *r, int (*step)(struct request *r))
{
	struct query *q = r->methods->query;
	int e;

	if (r->method->looks == LOOKS_NEVER)
		return step(r);
	e = query_begin(q, clock_now().boot + LIMIT_QUERY_USEC);
	if (e < 0)
		return r->method->without_store ? r->method->without_store(r, e) : e;
	e = step(r);
	query_end(q);
	if (e == -EUCLEAN && query_note_damage(q))
		log_event(LOG_EVENT_DATABASE_DAMAGED, LOG_NO_FIELDS,
			"a question met damage in %s, which is recorded in as before", SCHEMA_FILE);
	return e;
}

static void on_looked(void *context, enum look how)
{
	struct request *r = context;

	r->look = how;
	r->looked = true;
	conclude(r, run_step(r, r->method->run));
}

/* Whether all of the window was in the database before the question. */
static bool is_past(const struct request *r)
{
	const struct committed *c = link_last(r->methods->link);

	return c && r->window.until <= c->until_wall;
}

static bool needs_look(const struct request *r)
{
	return r->method->looks == LOOKS_ALWAYS ||
	       (r->method->looks == LOOKS_UNLESS_PAST && !is_past(r));
}

static int find_method(struct request *r)
{
	_cleanup_(free_p) char *interface = NULL;
	const char *member;
	int e = varlink_split(r->call.method, &interface, &member);

	if (e == -ENOMEM)
		return e;
	if (e == 0 && streq(interface, SERVICE_INTERFACE)) {
		for (size_t i = 0; i < ELEMENTSOF(service_methods); i++)
			if (streq(service_methods[i].name, member))
				r->method = &service_methods[i];
	} else if (e == 0 && streq(interface, LEDGER_INTERFACE)) {
		for (size_t i = 0; i < ELEMENTSOF(ledger_methods); i++)
			if (streq(ledger_methods[i]->name, member))
				r->method = ledger_methods[i];
	} else {
		return request_refuse(r, SERVICE_INTERFACE ".InterfaceNotFound", "interface",
			e == 0 ? interface : r->call.method);
	}
	if (!r->method)
		return request_refuse(
			r, SERVICE_INTERFACE ".MethodNotFound", "method", r->call.method);
	return ANSWERED;
}

static int prepare(struct request *r)
{
	int e = find_method(r);

	if (e != ANSWERED)
		return e;
	if (r->call.upgrade)
		return request_refuse(
			r, SERVICE_INTERFACE ".MethodNotImplemented", "method", r->call.method);
	if (r->method->streams_only && !r->call.more)
		return request_refuse(r, SERVICE_INTERFACE ".ExpectedMore", NULL, NULL);
	e = check_parameters(r);
	if (e == ANSWERED && r->method->parse)
		e = r->method->parse(r);
	return e;
}

static void start(struct request *r)
{
	int e = prepare(r);

	if (e == ANSWERED && needs_look(r)) {
		r->waiter.done = on_looked;
		r->waiter.context = r;
		link_wait(r->methods->link, &r->waiter);
		return;
	}
	conclude(r, e == ANSWERED ? run_step(r, r->method->run) : e);
}

static void on_call(void *context, struct client *c, const char *text, size_t size)
{
	struct request *r = calloc(1, sizeof(*r));
	int e = r ? varlink_parse_call(text, size, &r->call) : -ENOMEM;

	if (e < 0) {
		free(r);
		client_drop(c);
		client_done(c);
		return;
	}
	r->methods = context;
	r->client = c;
	r->asked = clock_now();
	client_set_data(c, r);
	start(r);
}

static void on_room(void *context, struct client *c)
{
	struct request *r = client_data(c);

	(void)context;
	if (r)
		conclude(r, run_step(r, r->method->go_on));
}

static void on_gone(void *context, struct client *c)
{
	struct request *r = client_data(c);

	(void)context;
	if (r)
		request_free(r);
}

static int on_refuse(void *context, unsigned limit, struct buf *out)
{
	char text[64];

	(void)context;
	(void)snprintf(text, sizeof(text), "{\"limit\":%u}", limit);
	return varlink_put_error(out, LEDGER_INTERFACE ".TooManyClients", text);
}

int methods_new(const struct methods_options *options, struct methods **ret)
{
	struct methods *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	TAILQ_INIT(&m->followers);
	m->link = options->link;
	m->query = options->query;
	m->state_path = options->state_path;
	*ret = m;
	return 0;
}

struct methods *methods_free(struct methods *m)
{
	free(m);
	return NULL;
}

struct server_handler methods_handler(struct methods *m)
{
	return (struct server_handler){
		.context = m,
		.call = on_call,
		.room = on_room,
		.gone = on_gone,
		.refuse = on_refuse,
	};
}

void methods_committed(void *context)
{
	struct methods *m = context;
	struct request *r;

	/* Each goes on in a turn of its own. */
	TAILQ_FOREACH (r, &m->followers, follow.entry)
		follow_committed(r);
}
