/* SPDX-License-Identifier: MIT */

/*
 * The verdict says what follows from the claims and the ranges, and no more. The most telling open claim decides: a
 * listener, then what was bound, then connections; without an open one, who was last; without any, whether anybody
 * looked.
 */

#include "client/explain.h"

#include "client/cells.h"
#include "client/format.h"
#include "client/receipt.h"
#include "client/shape.h"

int explain_class(const json_t *reply, struct buf *b)
{
	const json_t *range = json_object_get(reply, "ephemeral_range");
	long long low = row_int(range, "low", 0), high = row_int(range, "high", 0);
	bool dynamic = row_true(reply, "dynamic"), ephemeral = row_true(reply, "ephemeral");

	return buf_append_format(b,
		"%sin IANA's dynamic range (49152-65535)%s this kernel's ephemeral range (%lld-%lld)",
		dynamic ? "" : "not ",
		dynamic ? (ephemeral ? " and" : ", not in") : (ephemeral ? ", but in" : ", nor in"),
		low, high);
}

/* The first open claim of the role that still has its socket. */
static const json_t *find_role(const json_t *claims, const char *role)
{
	const json_t *claim;
	size_t i;

	json_array_foreach(claims, i, claim) if (row_time(claim, "closed_usec") == USEC_UNSET &&
						 streq(row_text(claim, "role"), role)) return claim;
	return NULL;
}

static int put_process_first(
	struct buf *b, const json_t *claim, const struct view *v, const char *rest)
{
	_cleanup_(free_p) char *process = cell_process(claim, v);

	return process ? buf_append_format(b, "%s %s", process, rest) : -ENOMEM;
}

static int verdict_on_last(const json_t *reply, const struct view *v, struct buf *b)
{
	const json_t *last = json_array_get(json_object_get(reply, "last"), 0);
	const json_t *coverage = json_object_get(reply, "coverage");
	_cleanup_(free_p) char *process = last ? cell_process(last, v) : NULL;
	char time[FORMAT_TIME_MAX];
	usec_t until;

	if (last && !process)
		return -ENOMEM;
	if (last) {
		until = row_time(last, "closed_usec");
		return buf_append_format(b, "Free now. Last held by %s, until %s.", process,
			until == USEC_UNSET ? "now" : format_time(until, v->now, time));
	}
	if (!row_true(reply, "watched"))
		return buf_append_string(
			b, "Not a port that is watched (Ranges= of portledger.conf(5)).");
	if (!json_is_object(coverage))
		return buf_append_string(b, "Free now.");
	if (!receipt_watched(coverage))
		return buf_append_string(b, "Nothing can be said: nobody was watching.");
	return buf_append_string(b, "Free now, and nobody was seen to hold it.");
}

int explain_verdict(const json_t *reply, const struct view *v, struct buf *b)
{
	const json_t *now = json_object_get(reply, "now");
	const json_t *listening = find_role(now, "listening"), *bound = find_role(now, "bound");
	const json_t *connected = find_role(now, "connected"),
		     *accepted = find_role(now, "accepted");
	bool ephemeral = row_true(reply, "ephemeral");

	if (listening)
		return put_process_first(b, listening, v,
			ephemeral
				? "is a server here; while it is down the kernel may give the port to a client."
				: "is a server here; the kernel never gives this port to a client.");
	if (bound)
		return put_process_first(b, bound, v,
			ephemeral ? "is bound here without a peer; nothing listens."
				  : "bound it on purpose: the kernel never gives this port out.");
	if (connected)
		return put_process_first(b, connected, v,
			ephemeral ? "has an ordinary outgoing connection; nothing listens here."
				  : "has an outgoing connection from a port that it chose itself.");
	if (accepted)
		return put_process_first(b, accepted, v,
			"has a connection that a listener took; the listener is gone.");
	if (json_array_size(now) > 0)
		return buf_append_string(
			b, "The connection is gone; the kernel still keeps the port (TIME_WAIT).");
	return verdict_on_last(reply, v, b);
}
