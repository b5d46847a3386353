/* SPDX-License-Identifier: MIT */

/*
 * That a connection was accepted is not in the tables. It is taken to be so if its port has,
 * or had since the sweep before the last, a listener (what is first seen now came after the last sweep began, or is told
 * after the next): for a connection that makes its own port, the kernel never
 * chooses one that somebody bound (the two could share it only by binding different addresses
 * explicitly). Who was seen bound or listening before it was connected, connected by itself.
 *
 * A listener may be too short for any sweep. Where a socket went on that port that never sent anything (what a listener
 * looks like when it goes, but so does a socket that was only bound), a connection's role is unknown until its own
 * end shows who opened it.
 */

#include "daemon/capture/table_private.h"

/* Who took what is seen now for the first time was there at this or later. What was there when its port was first looked at
 * may be of any age. */
static usec_t taken_since(const struct table *t, const struct entry *e)
{
	usec_t since = t->whole_before[PROTOCOL_TCP];

	return e->preexisting || since == USEC_UNSET ? 0 : since;
}

/* A remainder whose socket's end was not told yet: that will show who opened it. */
static bool is_owed(const struct entry *e)
{
	return e->paired && !e->ended && e->s.row.minisock && !e->preexisting;
}

enum role table_role(const struct table *t, const struct entry *e)
{
	const struct socket_row *row = &e->s.row;
	bool remote = has_remote(row);
	usec_t since = taken_since(t, e);
	bool listener = table_listeners_had(&t->listeners, row->local.port, since);
	bool perhaps = table_listeners_had(&t->unused, row->local.port, since);

	if (is_udp(row->protocol))
		return remote ? ROLE_CONNECTED : ROLE_BOUND;
	if (row->state == TCP_LISTEN)
		return ROLE_LISTENING;
	if (!e->placed && !remote)
		return ROLE_BOUND;
	if (!e->placed && !listener && is_owed(e))
		return ROLE_UNKNOWN;
	if (!e->placed)
		return listener ? ROLE_ACCEPTED : perhaps ? ROLE_UNKNOWN : ROLE_CONNECTED;
	switch ((enum role)e->s.role) {
	case ROLE_CONNECTED:
		/* the first look may have come before its listener was seen, or its end was told */
		if (!e->fresh || !remote)
			return ROLE_CONNECTED;
		return listener ? ROLE_ACCEPTED : perhaps ? ROLE_UNKNOWN : ROLE_CONNECTED;
	case ROLE_UNKNOWN:
		return e->fresh && remote && listener ? ROLE_ACCEPTED : ROLE_UNKNOWN;
	case ROLE_ACCEPTED:
		return ROLE_ACCEPTED;
	case ROLE_LISTENING:
	case ROLE_BOUND:
	case ROLE_COUNT:
		break;
	}
	return remote ? ROLE_CONNECTED : ROLE_BOUND;
}

/* Its end does not show who opened it: what is known of its port does. */
static enum role role_by_port(const struct table *t, const struct ended *x)
{
	usec_t since = MIN(x->opened_after, taken_since(t, x->entry));
	uint16_t port = x->entry->s.row.local.port;

	if (table_listeners_had(&t->listeners, port, since))
		return ROLE_ACCEPTED;
	return table_listeners_had(&t->unused, port, since) ? ROLE_UNKNOWN : ROLE_CONNECTED;
}

enum role table_role_of_ended(const struct table *t, const struct ended *x)
{
	const struct entry *e = x->entry;
	enum role known = e->placed ? (enum role)e->s.role : ROLE_UNKNOWN;

	if (is_udp(e->s.row.protocol))
		return has_remote(&e->s.row) ? ROLE_CONNECTED : ROLE_BOUND;
	switch ((enum end_evidence)x->evidence) {
	case END_ACTIVE:
	case END_ATTEMPT:
		return known == ROLE_ACCEPTED ? ROLE_ACCEPTED : ROLE_CONNECTED;
	case END_PASSIVE:
		return ROLE_ACCEPTED;
	case END_UNUSED:
		return known;
	case END_UNKNOWN:
		break;
	}
	if (known == ROLE_LISTENING || known == ROLE_BOUND)
		return ROLE_CONNECTED;
	/* what is known of its port now says nothing of when an old one was made */
	if (e->placed || x->relic)
		return known;
	return x->young ? ROLE_UNKNOWN : role_by_port(t, x);
}

bool table_is_of_interest(const struct table *t, const struct entry *e, enum role role)
{
	return role != ROLE_ACCEPTED || t->accepted || e->told;
}
