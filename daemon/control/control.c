/* SPDX-License-Identifier: MIT */

/*
 * Puts the parts together, and no more: the server has the clients, the methods have the calls, the link has the
 * ledger, the queries have the database. Nothing that ends here is a gap: while control is away, nobody is answered,
 * and nothing is missed.
 */

#include "daemon/control/control.h"

#include <event2/event.h>
#include <stdio.h>

#include "common/log.h"
#include "daemon/control/methods.h"
#include "daemon/handover.h"
#include "daemon/schema.h"

struct control {
	const struct control_options *options;
	struct event_base *base;
	struct event *supervisor;
	struct query *query;
	struct link *link;
	struct methods *methods;
	struct server *server;
};

/* A (re)started ledger process: its link comes from the supervisor. */
static void on_supervisor(evutil_socket_t fd, short what, void *context)
{
	struct control *c = context;
	_cleanup_(close_p) int ledger = -1;
	int r = handover_receive(fd, &ledger);

	(void)what;
	if (r == 0) {
		event_base_loopbreak(c->base);
		return;
	}
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r == HANDOVER_TURN) {
		(void)!handover_send(fd, HANDOVER_TURN, -1);
		return;
	}
	if (r != HANDOVER_LEDGER || ledger < 0) {
		log_warning("a handover that makes no sense");
		return;
	}
	link_connect(c->link, TAKE_FD(ledger));
}

static void on_committed(void *context)
{
	struct control *c = context;

	methods_committed(c->methods);
}

static int open_query(struct control *c)
{
	_cleanup_(free_p) char *path = NULL;

	if (asprintf(&path, "%s/%s", c->options->state_path, SCHEMA_FILE) < 0)
		return -ENOMEM;
	return query_new(path, &c->query);
}

/* However many clients ask for however much, the supervisor is heard after each callback that took long: it must not
 * take a busy loop for one that hangs. */
static struct event_base *make_base(void)
{
	const struct timeval turn = {.tv_usec = LIMIT_TURN_USEC};
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config && event_config_set_max_dispatch_interval(config, &turn, -1, 1) == 0)
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	if (base && event_base_priority_init(base, 2) < 0) {
		event_base_free(base);
		return NULL;
	}
	return base;
}

static int watch_supervisor(struct control *c)
{
	c->supervisor = event_new(
		c->base, c->options->supervisor_fd, EV_READ | EV_PERSIST, on_supervisor, c);
	return c->supervisor && event_priority_set(c->supervisor, 0) == 0 &&
			       event_add(c->supervisor, NULL) == 0
		       ? 0
		       : -ENOMEM;
}

static int control_start(struct control *c)
{
	struct server_handler handler;
	int r;

	c->base = make_base();
	if (!c->base)
		return -ENOMEM;
	r = watch_supervisor(c);
	if (r == 0)
		r = open_query(c);
	if (r == 0)
		r = link_new(c->base,
			&(struct link_handler){.context = c, .committed = on_committed}, &c->link);
	if (r == 0)
		r = methods_new(
			&(struct methods_options){c->link, c->query, c->options->state_path},
			&c->methods);
	if (r < 0)
		return r;
	if (c->options->ledger_fd >= 0)
		link_connect(c->link, c->options->ledger_fd);
	handler = methods_handler(c->methods);
	return server_new(c->base, c->options->listen_fd, &handler, &c->server);
}

static void control_done(struct control *c)
{
	c->server = server_free(c->server);
	c->methods = methods_free(c->methods);
	c->link = link_free(c->link);
	c->query = query_free(c->query);
	if (c->supervisor)
		event_free(c->supervisor);
	if (c->base)
		event_base_free(c->base);
	(void)close(c->options->supervisor_fd);
	(void)close(c->options->listen_fd);
}

int control_run(const struct control_options *options)
{
	struct control c = {.options = options};
	int r = control_start(&c);

	if (r < 0)
		log_error("cannot start: %s", strerror(-r));
	else
		event_base_dispatch(c.base);
	control_done(&c);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
