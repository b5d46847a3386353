/* SPDX-License-Identifier: MIT */

/*
 * All rows of `known` are in memory, as hashes: at most 32768 of 16 bytes. So a claim never asks the database, and what is
 * not in the set is new. A process is looked up once (process->noted), a listener at each change of its claim.
 *
 * Three limits, since a program chooses its name and its ports: lines an hour (the rest is counted), rows (the rest is
 * counted, never stored), and ports of one program (a service that listens on whatever the kernel gives it, as those
 * of FTP and RPC do, would fill the table by itself: after LIMIT_LISTENER_PORTS it is known to listen on many).
 */

#include "daemon/ledger/notable_private.h"

#define ROW_OF_MANY(row)                                                                           \
	((struct known_row){.program = (row)->program, .protocol = (row)->protocol})

static uint64_t slot(const struct notable *n, struct known_row row)
{
	uint8_t bytes[sizeof(row.program) + sizeof(row.protocol) + sizeof(row.port)];

	memcpy(bytes, &row.program, sizeof(row.program));
	memcpy(bytes + sizeof(row.program), &row.protocol, sizeof(row.protocol));
	memcpy(bytes + sizeof(row.program) + sizeof(row.protocol), &row.port, sizeof(row.port));
	return siphash(&n->key, bytes, sizeof(bytes));
}

/* The hash of a program; of nobody, of what is known instead: the unit and the owner. */
static uint64_t program_of(const struct notable *n, const struct process *p)
{
	const char *name = !p ? NULL : p->pid == 0 ? p->unit : p->exe ? p->exe : p->comm;
	size_t size = name ? strnlen(name, LIMIT_STRING_BYTES) : 0;
	uint8_t bytes[2 + sizeof(p->uid) + LIMIT_STRING_BYTES];

	bytes[0] = !p || p->pid == 0 ? 'n' : p->exe ? 'e' : 'c';
	bytes[1] = p ? p->exe_note : EXE_NOTE_NONE;
	memset(bytes + 2, 0, sizeof(p->uid));
	if (p && p->pid == 0)
		memcpy(bytes + 2, &p->uid, sizeof(p->uid));
	if (size > 0)
		memcpy(bytes + 2 + sizeof(p->uid), name, size);
	return siphash(&n->key, bytes, 2 + sizeof(p->uid) + size);
}

static bool is_program(const struct process *p)
{
	return p && p->pid > 0 && (p->exe || p->comm);
}

/* May one more be stored? */
static bool has_room(struct notable *n, enum news which)
{
	static const uint64_t limits[] = {
		[NEWS_PROGRAM] = LIMIT_KNOWN_PROGRAMS, [NEWS_LISTENER] = LIMIT_KNOWN_LISTENERS};

	if (n->rows[which] < limits[which])
		return true;
	n->unnamed[which]++;
	if (!n->full_said)
		notable_say_full(n, which);
	return false;
}

static void candidate_free(struct candidate *c)
{
	process_unref(c->process);
	free(c);
}

/* Found by the first sweep that was ever looked at for news, or recorded before that (by a version that told none). */
static bool was_there(const struct notable *n, const struct claim *c)
{
	return n->learning && (c->preexisting || c->opened_boot < n->began);
}

/* Whatever is not in the set waits for the next commit. False: there is no place now, look at it again. */
static bool consider(
	struct notable *n, struct known_row row, struct process *p, const struct claim *claim)
{
	enum news which = news_of(&row);
	struct candidate *c;

	if (hash_set_has(&n->known, slot(n, row)) || !has_room(n, which))
		return true;
	if (n->waiting_count >= LIMIT_NEWS_WAITING)
		return false;
	c = calloc(1, sizeof(*c));
	if (!c || hash_set_add(&n->known, slot(n, row)) < 0) {
		free(c);
		return false;
	}
	*c = (struct candidate){
		.row = row,
		.process = p ? process_ref(p) : NULL,
		.local = claim->local,
		.claim_protocol = claim->protocol,
		.role = claim->role,
		.attribution = claim->attribution,
		.opened_wall = claim->opened_wall,
		.claim = claim->id,
		.unsaid = was_there(n, claim),
	};
	TAILQ_INSERT_TAIL(&n->waiting, c, link);
	n->waiting_count++;
	n->rows[which]++;
	return true;
}

static void consider_program(struct notable *n, struct process *p, const struct claim *c)
{
	if (!is_program(p) || p->noted)
		return;
	p->noted = consider(n,
		(struct known_row){.program = program_of(n, p), .protocol = KNOWN_PROGRAM}, p, c);
}

/* Who listens: the opener, or whom PID 1 has passed the socket to. */
static struct process *listener_of(const struct claim *c)
{
	if (c->opener && c->opener->pid == 1)
		for (uint32_t i = 0; i < c->holder_count; i++)
			if (c->holders[i].until_boot == USEC_UNSET)
				return c->holders[i].process;
	return c->opener;
}

static bool is_chosen_by_kernel(const struct notable *n, const struct claim *c)
{
	struct port_range range =
		n->ledger ? ledger_ephemeral(n->ledger, c->netns) : (struct port_range){0};

	if (range.high == 0)
		range = n->ephemeral;
	return c->local.port >= range.low && c->local.port <= range.high;
}

static void consider_listener(struct notable *n, const struct claim *c, bool settled)
{
	bool udp = c->protocol == PROTOCOL_UDP || c->protocol == PROTOCOL_UDPLITE;
	struct process *p;
	struct known_row row;

	if (c->role != ROLE_LISTENING && !(udp && c->role == ROLE_BOUND))
		return;
	p = listener_of(c);
	settled = settled || was_there(n, c);
	if (!settled && (!is_program(p) || (udp && is_chosen_by_kernel(n, c))))
		return;
	row = (struct known_row){.program = program_of(n, p),
		.protocol = (int8_t)c->protocol,
		.port = c->local.port};
	if (!hash_set_has(&n->known, slot(n, ROW_OF_MANY(&row))))
		(void)consider(n, row, p, c); /* it is looked at again */
}

static void look_at(struct notable *n, const struct claim *c)
{
	consider_program(n, c->opener, c);
	for (uint32_t i = 0; i < c->holder_count; i++)
		consider_program(n, c->holders[i].process, c);
	consider_listener(n, c, false);
}

static void on_opened(void *context, struct claim *claim)
{
	struct notable *n = context;

	n->opened++;
	n->next.opened(n->next.context, claim); /* which gives it its number */
	look_at(n, claim);
}

static void on_changed(void *context, struct claim *claim)
{
	struct notable *n = context;

	look_at(n, claim);
	n->next.changed(n->next.context, claim);
}

static void on_released(void *context, struct claim *claim)
{
	struct notable *n = context;

	n->closed++;
	n->next.released(n->next.context, claim);
}

static void on_coverage_begins(void *context, const struct coverage *c, usec_t from_wall)
{
	struct notable *n = context;

	n->swept = true;
	n->next.coverage_begins(n->next.context, c, from_wall);
}

static void on_coverage_extends(void *context, struct now until)
{
	struct notable *n = context;

	n->next.coverage_extends(n->next.context, until);
}

static void on_gap(
	void *context, usec_t from_wall, usec_t until_wall, const char *reason, uint64_t lost)
{
	struct notable *n = context;

	n->next.gap(n->next.context, from_wall, until_wall, reason, lost);
}

static void on_clock_step(void *context, usec_t at_wall, int64_t by_usec)
{
	struct notable *n = context;

	n->next.clock_step(n->next.context, at_wall, by_usec);
}

static void on_netns(void *context, const struct netns *netns)
{
	struct notable *n = context;
	unsigned size = (unsigned)(netns->ephemeral.high - netns->ephemeral.low) + 1;

	if (netns->ephemeral.high != 0)
		n->narrowest = n->narrowest == 0 ? size : MIN(n->narrowest, size);
	n->next.netns(n->next.context, netns);
}

static void on_failed(void *context, const struct ledger_failure *f)
{
	struct notable *n = context;

	n->next.failed(n->next.context, f);
}

static void on_failures_left_out(void *context, usec_t from_wall, usec_t until_wall, uint64_t count)
{
	struct notable *n = context;

	n->next.failures_left_out(n->next.context, from_wall, until_wall, count);
}

static void on_drained(void *context, const struct drained *d)
{
	struct notable *n = context;

	n->next.drained(n->next.context, d);
}

struct ledger_sink notable_sink(struct notable *n)
{
	return (struct ledger_sink){
		.context = n,
		.opened = on_opened,
		.changed = on_changed,
		.released = on_released,
		.coverage_begins = on_coverage_begins,
		.coverage_extends = on_coverage_extends,
		.gap = on_gap,
		.clock_step = on_clock_step,
		.netns = on_netns,
		.failed = on_failed,
		.failures_left_out = on_failures_left_out,
		.drained = on_drained,
	};
}

static int know(void *context, const struct known_row *row)
{
	struct notable *n = context;

	n->rows[news_of(row)]++;
	return hash_set_add(&n->known, slot(n, *row));
}

int notable_new(
	struct store *s, const struct ledger_sink *next, struct now now, struct notable **ret)
{
	_cleanup_(notable_free_p) struct notable *n = calloc(1, sizeof(*n));
	usec_t since = 0;
	int r;

	if (!n)
		return -ENOMEM;
	TAILQ_INIT(&n->waiting);
	n->store = s;
	n->next = *next;
	n->looked = n->began = now.boot;
	n->before.now = now;
	r = known_start(s, &n->key, &since);
	if (r == 0)
		r = known_each(s, know, n);
	if (r < 0)
		return r;
	n->learning = n->since_unwritten = since == USEC_UNSET;
	*ret = TAKE_PTR(n);
	return 0;
}

static void forget_waiting(struct notable *n)
{
	struct candidate *c;

	while ((c = TAILQ_FIRST(&n->waiting))) {
		TAILQ_REMOVE(&n->waiting, c, link);
		candidate_free(c);
	}
	n->waiting_count = 0;
}

struct notable *notable_free(struct notable *n)
{
	if (!n)
		return NULL;
	forget_waiting(n);
	notable_ports_done(n);
	hash_set_done(&n->known);
	free(n);
	return NULL;
}

struct look {
	struct notable *notable;
	usec_t settled; /* boottime: what was open then has settled */
};

static int look_again(void *context, struct claim *c)
{
	const struct look *l = context;

	/* one that had no place when it came, or came with an earlier session */
	consider_program(l->notable, c->opener, c);
	if (c->closed_boot == USEC_UNSET)
		consider_listener(l->notable, c, c->opened_boot <= l->settled);
	return 0;
}

void notable_adopted(struct notable *n, struct ledger *l)
{
	struct look look = {.notable = n, .settled = 0};

	if (n->learning)
		(void)ledger_each(l, look_again, &look);
}

void notable_look(struct notable *n, struct ledger *l, usec_t boot)
{
	struct look look = {.notable = n, .settled = usec_sub(boot, NOTABLE_SETTLED_USEC)};

	if (boot - n->looked < NOTABLE_LOOK_USEC)
		return;
	n->looked = boot;
	(void)ledger_each(l, look_again, &look);
}

bool notable_waits(const struct notable *n)
{
	return n->waiting_count > 0 || (n->since_unwritten && n->swept);
}

/* A program that listens on ever new ports is known for that, from one port too many on. */
static int find_many(struct notable *n, struct candidate *c)
{
	int64_t ports = 0;
	int r;

	if (c->row.protocol == KNOWN_PROGRAM || c->row.port == KNOWN_MANY_PORTS)
		return 0;
	r = known_ports(n->store, &c->row, &ports);
	if (r < 0 || ports < (int64_t)LIMIT_LISTENER_PORTS)
		return r;
	c->row = ROW_OF_MANY(&c->row);
	c->dropped = hash_set_has(&n->known, slot(n, c->row));
	return c->dropped ? 0 : hash_set_add(&n->known, slot(n, c->row));
}

static const char *name_of(const struct process *p)
{
	return !p ? NULL : p->exe ? p->exe : p->comm;
}

static int write_waiting(struct notable *n, struct now until)
{
	struct candidate *c;
	int r = store_begin_question(n->store); /* or what the caller has begun */

	TAILQ_FOREACH (c, &n->waiting, link) {
		if (r == 0)
			r = find_many(n, c);
		if (r == 0 && !c->dropped)
			r = known_put(n->store, &c->row, name_of(c->process),
				c->process ? c->process->exe_note : EXE_NOTE_NONE, c->opened_wall);
		if (r == 0 && !c->dropped && !c->unsaid)
			r = known_announce(n->store, &c->row, c->claim);
		if (r < 0)
			return r;
	}
	n->since_waits = n->since_unwritten && n->swept;
	return r == 0 && n->since_waits ? known_put_since(n->store, until.wall) : r;
}

int notable_write(struct notable *n, struct now until)
{
	int r = notable_waits(n) ? write_waiting(n, until) : 0;

	if (r < 0)
		store_rollback(n->store);
	return r;
}

void notable_committed(struct notable *n)
{
	struct candidate *c;

	TAILQ_FOREACH (c, &n->waiting, link) {
		if (c->dropped)
			n->rows[news_of(&c->row)]--;
		else if (c->unsaid)
			n->learnt[news_of(&c->row)]++;
		else
			notable_say(n, c);
	}
	forget_waiting(n);
	if (!n->since_waits)
		return;
	n->since_waits = n->since_unwritten = false;
	notable_say_learnt(n);
}

void notable_coverage(struct notable *n, const struct coverage *c)
{
	n->ephemeral = c->ephemeral;
}

void notable_settings(struct notable *n, const struct settings *settings)
{
	n->addresses_go = settings->remote_addresses != REMOTE_ADDRESSES_FULL;
}

void notable_ledger(struct notable *n, const struct ledger *ledger)
{
	n->ledger = ledger;
}

void notable_swept(struct notable *n, usec_t cpu_usec)
{
	n->sweeps++;
	n->sweep_cpu_usec += cpu_usec;
}
