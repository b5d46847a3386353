/* SPDX-License-Identifier: MIT */
#pragma once

/* What the calls of org.varlink.service and org.portledger.ledger do. Between the server, which has the clients, the
 * link, which has the ledger, and the queries, which have the database. */

#include "daemon/control/link.h"
#include "daemon/control/query.h"
#include "daemon/control/server.h"

struct methods;

struct methods_options {
	struct link *link;      /* outlives the methods */
	struct query *query;    /* the same */
	const char *state_path; /* directory of the database; the same */
};

/* -ENOMEM. */
int methods_new(const struct methods_options *options, struct methods **ret) _must_check_;
struct methods *methods_free(struct methods *m); /* after the server */
DEFINE_CLEANUP(struct methods, methods_free)

/* What the server is to call. */
struct server_handler methods_handler(struct methods *m);

/* What the link is to call: something was committed. */
void methods_committed(void *context);
