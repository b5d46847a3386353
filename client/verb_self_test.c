/* SPDX-License-Identifier: MIT */

/*
 * doctor --self-test: makes claims that are too short for a sweep, and looks what became of them in the ledger. What is found
 * is told from others' claims by protocol, port and time, and never by the process: that is what is tested.
 */

#include "client/ask.h"
#include "client/own_claims.h"

/* Within this a row's time is the claim's: what the kernel's own clock of 100 Hz is coarse by. */
#define SLACK_USEC (10 * USEC_PER_MSEC)

/* Under destroy the kernel tells in its own time, where it is busy: then it is asked again, so often and so far apart. */
#define LOOKS      50
#define LOOKS_USEC (100 * USEC_PER_MSEC)

struct result {
	const struct own_claim *claim;
	bool caught, attributed;
	uint32_t wrong; /* rows that name another process, or tell the claim again */
};

struct self_test {
	struct result *results; /* by protocol and port, then in the order of time */
	size_t count;
	uint64_t netns; /* inode of ours; 0: not known */
};

/* What a rung promises of a claim that is too short for a sweep. */
static const char *promise(const char *rung, enum own_kind kind)
{
	enum protocol protocol = own_kind_protocol(kind);

	if (streq(rung, source_name(SOURCE_EVENTS)))
		return "process";
	if (streq(rung, source_name(SOURCE_DESTROY)) &&
		(protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP))
		return "claim";
	return NULL;
}

static bool is_kept(const char *promised, uint32_t made, uint32_t caught, uint32_t attributed)
{
	if (!promised)
		return true;
	return caught == made && (!streq(promised, "process") || attributed == made);
}

static uint32_t key_of(enum protocol protocol, int64_t port)
{
	return (uint32_t)protocol << 16 | (uint32_t)port;
}

static uint32_t key(const struct result *r)
{
	return key_of(own_kind_protocol(r->claim->kind), r->claim->port);
}

static int compare(const void *a, const void *b)
{
	const struct result *x = a, *y = b;

	if (key(x) != key(y))
		return key(x) < key(y) ? -1 : 1;
	return x->claim->before < y->claim->before ? -1 : x->claim->before > y->claim->before;
}

/* The first that is not before these; `count` where all are. */
static size_t first_of(const struct self_test *t, uint32_t wanted)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key(&t->results[middle]) < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool overlaps(const struct own_claim *c, const json_t *row)
{
	usec_t from = row_time(row, "opened_after_usec"), until = row_time(row, "closed_usec");

	if (from == USEC_UNSET)
		from = row_time(row, "opened_usec");
	return from <= c->after + SLACK_USEC &&
	       (until == USEC_UNSET || until + SLACK_USEC >= c->before);
}

/* Not, where the role is known: the listeners that connections need, and what these accept, may have had the port, too. */
static bool may_be(const struct own_claim *c, const json_t *row)
{
	const char *role = row_text(row, "role");

	if (!role)
		return true;
	return streq(role, role_name(ROLE_LISTENING)) ? c->kind == OWN_LISTENING
						      : !streq(role, role_name(ROLE_ACCEPTED));
}

/* The result that the row is about: one that has none yet, if there is one. NULL: the row is of somebody else. */
static struct result *find(const struct self_test *t, const json_t *row)
{
	int64_t port = row_int(row, "port", 0), netns = row_int(row, "netns", 0);
	enum protocol protocol;
	struct result *found = NULL;
	uint32_t wanted;

	if (protocol_from_name(row_text(row, "protocol"), &protocol) < 0 ||
		(netns != 0 && t->netns != 0 && (uint64_t)netns != t->netns))
		return NULL;
	wanted = key_of(protocol, port);
	for (size_t i = first_of(t, wanted); i < t->count && key(&t->results[i]) == wanted; i++) {
		if (!overlaps(t->results[i].claim, row) || !may_be(t->results[i].claim, row))
			continue;
		found = &t->results[i];
		if (!found->caught)
			break;
	}
	return found;
}

static enum status take(void *context, const json_t *rows)
{
	const struct self_test *t = context;
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		struct result *r = find(t, row);
		int64_t pid = row_int(row, "pid", 0);
		bool other = pid != 0 && pid != getpid();

		if (!r)
			continue;
		/* where only a bound is known, another's claim of the port, or another of ours (a listener), may be meant */
		if ((r->caught || other) && row_time(row, "opened_after_usec") != USEC_UNSET)
			continue;
		r->wrong += r->caught || other;
		r->caught = true;
		r->attributed = r->attributed || pid == getpid();
	}
	return STATUS_FOUND;
}

/* Asks what is recorded since `from`, from the beginning. */
static enum status look(struct connection *c, struct self_test *t, usec_t from, json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *parameters =
		json_pack("{s:I}", "since_usec", (json_int_t)from);

	for (size_t i = 0; i < t->count; i++)
		t->results[i] = (struct result){.claim = t->results[i].claim};
	json_array_clear(receipts);
	return ask_pages(c, "Claims", parameters, take, t, receipts);
}

static bool all_caught(const struct self_test *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (!t->results[i].caught && promise("destroy", t->results[i].claim->kind))
			return false;
	return true;
}

static enum status look_until_told(
	struct connection *c, struct self_test *t, usec_t from, const char *rung, json_t *receipts)
{
	enum status status = look(c, t, from, receipts);

	for (int i = 1;
		i < LOOKS && status == STATUS_FOUND && streq(rung, "destroy") && !all_caught(t);
		i++) {
		usleep(LOOKS_USEC);
		status = look(c, t, from, receipts);
	}
	return status;
}

/* Is the port one that is watched, as Status says? */
static bool is_watched(const json_t *status, uint16_t port)
{
	const json_t *ranges = json_object_get(status, "ranges"), *range;
	size_t i;

	json_array_foreach(ranges, i, range) if (row_int(range, "low", 0) <= port &&
						 port <= row_int(range, "high", 0)) return true;
	return false;
}

/* Makes the claims, and takes those for the test whose ports are watched. */
static enum status prepare(const struct options *o, const struct view *v, const json_t *status,
	struct own_claim **ret_claims, struct self_test *ret)
{
	struct own_claim *claims = NULL;
	size_t count = 0;
	int r = own_claims_make(o->self_test, &claims, &count);

	if (r < 0) {
		complain("cannot make claims to test with: %s", strerror(-r));
		return STATUS_ERROR;
	}
	*ret_claims = claims;
	*ret = (struct self_test){.netns = v->netns};
	ret->results = calloc(count + 1, sizeof(*ret->results));
	if (!ret->results)
		return complain_memory();
	for (size_t i = 0; i < count; i++)
		if (is_watched(status, claims[i].port))
			ret->results[ret->count++].claim = &claims[i];
	if (ret->count == 0) {
		complain(
			"the ports that this host hands out are not watched: see portledger status");
		return STATUS_ERROR;
	}
	qsort(ret->results, ret->count, sizeof(*ret->results), compare);
	return STATUS_FOUND;
}

struct sum {
	uint32_t made, caught, attributed, wrong;
	bool kept; /* what the rung promises */
};

static void add(struct sum *s, const struct sum *one)
{
	s->made += one->made;
	s->caught += one->caught;
	s->attributed += one->attributed;
	s->wrong += one->wrong;
	s->kept = s->kept && one->kept;
}

static struct sum sum_of(const struct self_test *t, enum own_kind kind, const char *rung)
{
	struct sum s = {0};

	for (size_t i = 0; i < t->count; i++) {
		const struct result *r = &t->results[i];

		if (r->claim->kind == kind)
			add(&s, &(struct sum){1, r->caught, r->attributed, r->wrong, true});
	}
	s.kept = is_kept(promise(rung, kind), s.made, s.caught, s.attributed);
	return s;
}

static int write_sum(struct writer *w, enum own_kind kind, const struct sum *s, const char *rung)
{
	_cleanup_(json_decrefp) json_t *row =
		json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:s?}", "kind", own_kind_name(kind), "protocol",
			protocol_name(own_kind_protocol(kind)), "made", (json_int_t)s->made,
			"caught", (json_int_t)s->caught, "attributed", (json_int_t)s->attributed,
			"wrong", (json_int_t)s->wrong, "promised", promise(rung, kind));

	return row ? writer_row(w, row) : -ENOMEM;
}

static void print_verdict(const struct view *v, const struct sum *all, const char *rung)
{
	bool good = all->kept && all->wrong == 0;
	_cleanup_(free_p) char *text = NULL;

	if (v->options->output != OUTPUT_TABLE || v->options->no_legend)
		return;
	if (asprintf(&text,
		    "By the rung %s, %u of %u claims were caught, %u with the process, %u wrongly: %s.",
		    rung, all->caught, all->made, all->attributed, all->wrong,
		    all->wrong > 0 ? "a fault, please report it"
		    : all->kept    ? "as it promises"
		    : all->caught == 0
			    ? "less than it promises, unless it watches another network namespace: see portledger doctor"
			    : "less than it promises") < 0) {
		text = NULL;
		return;
	}
	fprintf(v->out, "\n%s", view_tone(v, good ? TONE_GOOD : TONE_BAD));
	view_wrapped(v, v->out, text, 0, 2);
	fputs(view_plain(v), v->out);
}

static enum status print_results(
	const struct view *v, const struct self_test *t, const char *rung, const json_t *receipts)
{
	_cleanup_(writer_free_p) struct writer *w = NULL;
	struct sum all = {.kept = true};
	enum status status = ask_writer(v, &kind_self_test, false, &w);

	if (status != STATUS_FOUND)
		return status;
	for (int kind = 0; kind < OWN_KIND_COUNT; kind++) {
		struct sum s = sum_of(t, (enum own_kind)kind, rung);

		add(&all, &s);
		if (s.made > 0 && write_sum(w, (enum own_kind)kind, &s, rung) < 0)
			return complain_memory();
	}
	if (writer_finish(w, NULL, receipts) < 0)
		return complain_memory();
	print_verdict(v, &all, rung);
	if (all.wrong > 0)
		return STATUS_ERROR;
	return all.kept ? STATUS_FOUND : STATUS_INCOMPLETE;
}

enum status verb_self_test(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	_cleanup_(json_decrefp) json_t *state = NULL, *receipts = json_array();
	_cleanup_(free_p) struct own_claim *claims = NULL;
	struct self_test t = {0};
	enum status status = ask_open(o, false, &c);
	const char *rung = NULL;

	if (status == STATUS_FOUND)
		status = ask(&c, "Status", json_object(), &shape_status, &state);
	if (status == STATUS_FOUND && !row_true(state, "watching")) {
		complain("the daemon does not watch at the moment: see portledger doctor");
		return STATUS_INCOMPLETE;
	}
	if (status == STATUS_FOUND)
		status = prepare(o, v, state, &claims, &t);
	if (status == STATUS_FOUND) {
		rung = row_text(state, "rung");
		status = look_until_told(&c, &t, claims[0].before, rung, receipts);
	}
	if (status == STATUS_FOUND)
		status = print_results(v, &t, rung, receipts);
	free(t.results);
	return status;
}
