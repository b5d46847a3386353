/* SPDX-License-Identifier: MIT */

/*
 * That a connection was accepted is not in the tables. It is taken to be so if its port has,
 * or had a moment ago, a listener: for a connection that makes its own port, the kernel never
 * chooses one that somebody bound (the two could share it only by binding different addresses
 * explicitly). Who was seen bound or listening before it was connected, connected by itself.
 */

#include "daemon/capture/table_private.h"

enum role table_role(const struct table *t, const struct entry *e)
{
	const struct socket_row *row = &e->s.row;
	bool remote = has_remote(row);
	bool listener = table_listeners_had(&t->listeners, row->local.port, t->now);

	if (is_udp(row->protocol))
		return remote ? ROLE_CONNECTED : ROLE_BOUND;
	if (row->state == TCP_LISTEN)
		return ROLE_LISTENING;
	if (!e->placed && !remote)
		return ROLE_BOUND;
	if (!e->placed)
		return listener ? ROLE_ACCEPTED : ROLE_CONNECTED;
	switch ((enum role)e->s.role) {
	case ROLE_CONNECTED:
		/* the first look may have come before its listener was seen */
		return e->fresh && remote && listener ? ROLE_ACCEPTED : ROLE_CONNECTED;
	case ROLE_ACCEPTED:
		return ROLE_ACCEPTED;
	case ROLE_LISTENING:
	case ROLE_BOUND:
	case ROLE_COUNT:
		break;
	}
	return remote ? ROLE_CONNECTED : ROLE_BOUND;
}

bool table_is_of_interest(const struct table *t, const struct entry *e, enum role role)
{
	return role != ROLE_ACCEPTED || t->accepted || e->told;
}
