/* SPDX-License-Identifier: MIT */

/* The lines. Their fields have the names of a claim's columns, in capitals (portledgerd(8), JOURNAL). */

#include "common/log.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/ledger/notable_private.h"

#define NUMBER_UNLESS(unset, field, value)                                                         \
	((struct log_field){.name = (field), .number = (value), .is_number = (value) != (unset)})

/* Is there a line left for this kind in this hour? */
static bool may_say(struct notable *n, enum news which)
{
	if (n->said[which] < LIMIT_NEWS_HOURLY) {
		n->said[which]++;
		return true;
	}
	n->unnamed[which]++;
	return false;
}

/* "/usr/bin/x (x, pid 1, y.service)" or "nobody known". */
static void describe(const struct process *p, char *text, size_t size)
{
	const char *name = !p ? NULL : p->exe ? p->exe : p->comm;

	if (!p || p->pid == 0)
		snprintf(text, size, "a process that is not known%s%s", p && p->unit ? " of " : "",
			p && p->unit ? p->unit : "");
	else
		snprintf(text, size, "%.256s (%s, pid %d%s%s)", name ? name : "?",
			p->comm ? p->comm : "?", (int)p->pid, p->unit ? ", " : "",
			p->unit ? p->unit : "");
}

static enum log_event event_of(const struct candidate *c)
{
	if (c->row.protocol == KNOWN_PROGRAM)
		return LOG_EVENT_PROGRAM_NEW;
	return c->row.port == KNOWN_MANY_PORTS ? LOG_EVENT_LISTENER_VARIES : LOG_EVENT_LISTENER_NEW;
}

void notable_say(struct notable *n, const struct candidate *c)
{
	static const struct process nobody = {.uid = UID_UNSET};
	const struct process *p = c->process ? c->process : &nobody;
	const char *protocol = protocol_name((enum protocol)c->claim_protocol);
	const char *role = role_name((enum role)c->role);
	const struct log_field fields[] = {
		LOG_TEXT("EXE", p->exe),
		LOG_TEXT("EXE_NOTE", exe_note_name((enum exe_note)p->exe_note)),
		LOG_TEXT("COMM", p->comm),
		NUMBER_UNLESS(0, "PID", (uint64_t)p->pid),
		NUMBER_UNLESS(UID_UNSET, "UID", p->uid),
		LOG_TEXT("UNIT", p->unit),
		LOG_TEXT("CGROUP", p->cgroup),
		NUMBER_UNLESS(0, "PARENT_PID", (uint64_t)p->parent_pid),
		LOG_TEXT("PARENT_COMM", p->parent_comm),
		LOG_NUMBER("PORT", c->local.port),
		LOG_TEXT("PROTOCOL", protocol),
		LOG_TEXT("ROLE", role),
		LOG_TEXT("LOCAL_ADDRESS",
			address_format(&c->local.address, (char[ADDRESS_TEXT_MAX]){0})),
		LOG_TEXT("ATTRIBUTION", attribution_name((enum attribution)c->attribution)),
		LOG_NUMBER("OPENED_USEC", c->opened_wall),
		{.name = NULL},
	};
	enum log_event event = event_of(c);
	char who[900];

	if (!may_say(n, news_of(&c->row)))
		return;
	describe(c->process, who, sizeof(who));
	if (event == LOG_EVENT_PROGRAM_NEW)
		log_event(event, fields, "new program: %s has port %u/%s (%s)", who, c->local.port,
			protocol, role);
	else if (event == LOG_EVENT_LISTENER_NEW)
		log_event(event, fields, "new listener: port %u/%s, by %s", c->local.port, protocol,
			who);
	else
		log_event(event, fields,
			"listener on many ports: %u/%s now, by %s; its further ports are not said",
			c->local.port, protocol, who);
}

void notable_say_learnt(const struct notable *n)
{
	log_event(LOG_EVENT_BASELINE,
		LOG_FIELDS(LOG_NUMBER("PROGRAMS", n->learnt[NEWS_PROGRAM]),
			LOG_NUMBER("LISTENERS", n->learnt[NEWS_LISTENER])),
		"found %" PRIu64 " programs and %" PRIu64
		" listeners at the first sweep: from here on, new ones are said",
		n->learnt[NEWS_PROGRAM], n->learnt[NEWS_LISTENER]);
}

static const char *kind_name(enum news which)
{
	static const char *const names[] = {[NEWS_PROGRAM] = "programs",
		[NEWS_LISTENER] = "listeners",
		[NEWS_GAP] = "gaps",
		[NEWS_SHORTAGE] = "shortages"};

	return names[which];
}

void notable_say_full(struct notable *n, enum news which)
{
	n->full_said = true;
	log_event(LOG_EVENT_KNOWN_FULL,
		LOG_FIELDS(LOG_TEXT("KIND", kind_name(which)), LOG_NUMBER("ROWS", n->rows[which])),
		"%" PRIu64 " %s are known, no more fit: new ones are only counted", n->rows[which],
		kind_name(which));
}

void notable_gap(
	void *notable, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	usec_t length = usec_sub(until_wall, from_wall);
	char count[64] = "how many claims were missed cannot be known";

	if (!may_say(notable, NEWS_GAP))
		return;
	if (lost != LOST_UNKNOWN)
		snprintf(count, sizeof(count), "%" PRIu64 " claims were lost", lost);
	log_event(LOG_EVENT_GAP_RECORDED,
		LOG_FIELDS(LOG_TEXT("REASON", reason), LOG_NUMBER("FROM_USEC", from_wall),
			LOG_NUMBER("UNTIL_USEC", until_wall),
			NUMBER_UNLESS(LOST_UNKNOWN, "LOST", lost)),
		"a gap of %" PRIu64 ".%03" PRIu64 " s (%s): %s", length / USEC_PER_SEC,
		length % USEC_PER_SEC / USEC_PER_MSEC, reason, count);
}

/* "203.0.113.9:443"; what is not kept of it is not said either. */
static void describe_destination(const struct notable *n, const struct shortage *s, char *address,
	size_t address_size, char *text, size_t size)
{
	const struct endpoint remote = {s->key.remote, s->key.remote_port};
	char whole[ENDPOINT_TEXT_MAX];

	if (n->addresses_go) {
		snprintf(text, size, "one address, port %u", s->key.remote_port);
		return;
	}
	snprintf(text, size, "%s", endpoint_format(&remote, whole));
	snprintf(address, address_size, "%s",
		address_format(&s->key.remote, (char[ADDRESS_TEXT_MAX]){0}));
}

void notable_say_short(struct notable *n, const struct shortage *s, const struct process *most,
	usec_t full_wall, usec_t wall)
{
	static const struct process nobody = {.uid = UID_UNSET};
	const struct process *p = most ? most : &nobody;
	char local[ADDRESS_TEXT_MAX], remote[ADDRESS_TEXT_MAX] = "", to[64], who[900] = "",
				      when[64] = "";
	uint64_t netns = n->ledger ? ledger_netns_inode(n->ledger, s->key.netns) : 0;

	if (!may_say(n, NEWS_SHORTAGE))
		return;
	describe_destination(n, s, remote, sizeof(remote), to, sizeof(to));
	if (most)
		describe(most, who, sizeof(who));
	if (full_wall != USEC_UNSET)
		snprintf(when, sizeof(when), "; at this rate all are in %" PRIu64 " s",
			usec_sub(full_wall, wall) / USEC_PER_SEC);
	log_event(LOG_EVENT_PORTS_SHORT,
		LOG_FIELDS(NUMBER_UNLESS(0, "NETNS", netns),
			LOG_TEXT("LOCAL_ADDRESS", address_format(&s->key.local, local)),
			LOG_TEXT("REMOTE_ADDRESS", *remote != '\0' ? remote : NULL),
			LOG_NUMBER("REMOTE_PORT", s->key.remote_port),
			LOG_NUMBER("USED", s->is.used), LOG_NUMBER("AVAILABLE", s->is.available),
			NUMBER_UNLESS(USEC_UNSET, "FULL_USEC", full_wall), LOG_TEXT("EXE", p->exe),
			LOG_TEXT("COMM", p->comm), NUMBER_UNLESS(UID_UNSET, "UID", p->uid),
			LOG_TEXT("UNIT", p->unit)),
		"ports run short: %u of %u from %s to %s are taken%s%s%s", s->is.used,
		s->is.available, local, to, most ? ", mostly by " : "", who, when);
}

void notable_say_eased(struct notable *n, const struct shortage *s)
{
	char local[ADDRESS_TEXT_MAX], remote[ADDRESS_TEXT_MAX] = "", to[64];
	uint64_t netns = n->ledger ? ledger_netns_inode(n->ledger, s->key.netns) : 0;

	if (!may_say(n, NEWS_SHORTAGE))
		return;
	describe_destination(n, s, remote, sizeof(remote), to, sizeof(to));
	log_event(LOG_EVENT_PORTS_EASED,
		LOG_FIELDS(NUMBER_UNLESS(0, "NETNS", netns),
			LOG_TEXT("LOCAL_ADDRESS", address_format(&s->key.local, local)),
			LOG_TEXT("REMOTE_ADDRESS", *remote != '\0' ? remote : NULL),
			LOG_NUMBER("REMOTE_PORT", s->key.remote_port),
			LOG_NUMBER("USED", s->is.used), LOG_NUMBER("AVAILABLE", s->is.available),
			LOG_NUMBER("PEAK", s->peak)),
		"ports suffice again: %u of %u from %s to %s are taken, it was %u at most",
		s->is.used, s->is.available, local, to, s->peak);
}

void notable_clock_step(void *notable, usec_t at_wall, int64_t by_usec)
{
	uint64_t by = by_usec < 0 ? 0 - (uint64_t)by_usec : (uint64_t)by_usec;
	char text[24];

	(void)notable;
	snprintf(text, sizeof(text), "%" PRId64, by_usec);
	log_event(LOG_EVENT_CLOCK_STEPPED,
		LOG_FIELDS(LOG_NUMBER("AT_USEC", at_wall), LOG_TEXT("BY_USEC", text)),
		"the clock was set %s by %" PRIu64 ".%03" PRIu64 " s",
		by_usec < 0 ? "back" : "forward", by / USEC_PER_SEC,
		by % USEC_PER_SEC / USEC_PER_MSEC);
}

bool notable_hour_is_over(const struct notable *n, usec_t boot)
{
	return boot - n->before.now.boot >= NOTABLE_HOUR_USEC;
}

static void say_unnamed(const struct notable *n, enum news which)
{
	if (n->unnamed[which] == 0)
		return;
	log_event(LOG_EVENT_NEWS_UNNAMED,
		LOG_FIELDS(
			LOG_TEXT("KIND", kind_name(which)), LOG_NUMBER("COUNT", n->unnamed[which])),
		"%" PRIu64 " more new %s in the last hour were not said one by one",
		n->unnamed[which], kind_name(which));
}

void notable_summary(struct notable *n, const struct notable_facts *f)
{
	const struct notable_facts *b = &n->before;
	uint64_t programs = n->said[NEWS_PROGRAM] + n->unnamed[NEWS_PROGRAM];
	uint64_t listeners = n->said[NEWS_LISTENER] + n->unnamed[NEWS_LISTENER];
	uint64_t lost = f->lost - b->lost, gaps = f->gaps - b->gaps;

	for (enum news which = 0; which < NEWS_COUNT; which++)
		say_unnamed(n, which);
	log_event(LOG_EVENT_SUMMARY,
		LOG_FIELDS(LOG_NUMBER("FROM_USEC", b->now.wall),
			LOG_NUMBER("UNTIL_USEC", f->now.wall), LOG_NUMBER("OPENED", n->opened),
			LOG_NUMBER("CLOSED", n->closed), LOG_NUMBER("OPEN_CLAIMS", f->open_claims),
			LOG_NUMBER("UNATTRIBUTED", f->unattributed),
			LOG_NUMBER("NEW_PROGRAMS", programs),
			LOG_NUMBER("NEW_LISTENERS", listeners), LOG_NUMBER("LOST", lost),
			LOG_NUMBER("GAPS", gaps), LOG_NUMBER("SWEEPS", n->sweeps),
			LOG_NUMBER("SWEEP_CPU_USEC", n->sweep_cpu_usec),
			LOG_NUMBER("LEDGER_CPU_USEC", f->cpu_usec - b->cpu_usec),
			LOG_NUMBER("DATABASE_BYTES", f->database_bytes)),
		"in %" PRIu64 " s: %" PRIu64 " claims opened, %" PRIu64 " closed, %" PRIu64
		" open now; %" PRIu64 " new programs, %" PRIu64 " new listeners; %" PRIu64
		" gaps, %" PRIu64 " claims lost",
		(f->now.boot - b->now.boot) / USEC_PER_SEC, n->opened, n->closed, f->open_claims,
		programs, listeners, gaps, lost);
	n->before = *f;
	n->opened = n->closed = n->sweeps = n->sweep_cpu_usec = 0;
	memset(n->said, 0, sizeof(n->said));
	memset(n->unnamed, 0, sizeof(n->unnamed));
}
