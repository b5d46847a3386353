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

/* RFC 6335, 6. */
static const char *class_text(int64_t port)
{
	if (port < 1024)
		return "system port (0-1023)";
	return port < 49152 ? "user port (1024-49151)"
			    : "dynamic port (49152-65535, never assigned)";
}

int explain_class(const json_t *reply, struct buf *b)
{
	const json_t *range = json_object_get(reply, "ephemeral_range");
	long long low = row_int(range, "low", 0), high = row_int(range, "high", 0);
	bool ephemeral = row_true(reply, "ephemeral"), reserved = row_true(reply, "reserved");
	const char *service = row_text(reply, "service");

	return buf_append_format(b,
		"%s%s%s, an IANA %s, %s this kernel's ephemeral range (%lld-%lld)%s",
		service ? " (" : "", service ? service : "", service ? ")" : "",
		class_text(row_int(reply, "port", 0)), ephemeral ? "in" : "outside", low, high,
		reserved ? ", but reserved"
		: ephemeral && json_object_get(reply, "reserved") &&
				!json_is_null(json_object_get(reply, "reserved"))
			? ", not reserved"
			: "");
}

/* The first open claim of the role (NULL: of any, or of none that is known) that still has its socket. */
static const json_t *find_role(const json_t *claims, const char *role)
{
	const json_t *claim;
	size_t i;

	json_array_foreach(claims, i, claim)
	{
		const char *its = row_text(claim, "role");

		if (row_time(claim, "closed_usec") == USEC_UNSET &&
			(!role || (its && streq(its, role))))
			return claim;
	}
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
		return buf_append_format(b, "Free now. Last held by %s, until %s%s.", process,
			until == USEC_UNSET ? "now" : format_time(until, v->now, time),
			/* of many claims the time is the last one's, which may be on another port */
			claim_count(last) > 1 ? " at the latest" : "");
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
		     *accepted = find_role(now, "accepted"), *any = find_role(now, NULL);
	bool ephemeral = row_true(reply, "ephemeral") && !row_true(reply, "reserved");

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
	if (any)
		return put_process_first(b, any, v, "has it; as what is not known.");
	if (json_array_size(now) > 0)
		return buf_append_string(
			b, "The connection is gone; the kernel still keeps the port (TIME_WAIT).");
	return verdict_on_last(reply, v, b);
}

/* Has somebody served here, as far as is still recorded? */
static bool was_served(const json_t *reply)
{
	return json_array_size(json_object_get(reply, "listened")) > 0;
}

int explain_advice(const json_t *reply, struct buf *b)
{
	const json_t *now = json_object_get(reply, "now");
	bool ephemeral = row_true(reply, "ephemeral"), reserved = row_true(reply, "reserved");
	long long low = row_int(json_object_get(reply, "ephemeral_range"), "low", 0);

	if (!row_true(reply, "watched"))
		return buf_append_string(
			b, "To have it watched, add it to Ranges= in portledger.conf(5).");
	if (ephemeral && reserved)
		return buf_append_string(
			b, "Nothing to do: it is reserved, so that no client is given it.");
	if (ephemeral && (find_role(now, "listening") || was_served(reply)))
		return buf_append_format(b,
			"Reserve it (portledger listeners has the line), or move the server below %lld.",
			low);
	if (ephemeral && find_role(now, "bound"))
		return buf_append_format(b,
			"If it is a server, reserve it (portledger listeners), or move it below %lld.",
			low);
	if (ephemeral)
		return buf_append_format(b,
			"Nothing to do: the next client has it for another end. Who had it at a time: "
			"portledger who %lld --at TIME.",
			(long long)row_int(reply, "port", 0));
	if (json_array_size(now) > 0 || json_array_size(json_object_get(reply, "last")) > 0)
		return buf_append_string(b,
			"Whoever has it chose it: if that program is not known to you, look at it.");
	return buf_append_string(b, "Nothing to do.");
}
