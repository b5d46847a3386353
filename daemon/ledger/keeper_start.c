/* SPDX-License-Identifier: MIT */

/* How a session begins: the database is opened, what an earlier session left is taken over, and capture is told. */

#include "daemon/ledger/keeper_private.h"

#include "common/log.h"
#include "daemon/schema.h"

/* What an earlier session of this boot left open. */
static int take_adopted(void *context, struct claim *claim)
{
	struct keeper *k = context;
	int r = ledger_adopt(k->ledger, claim, k->until.boot);

	/* The earlier one was released after the stored place in the ring, which tells of the later one again. */
	return r == -EEXIST ? batch_left_open(k->batch, claim) : r;
}

static const char *absence_reason(const struct store_session *before)
{
	if (before->clean)
		return "stopped";
	return before->same_boot ? "killed" : "host-down";
}

static void log_refusal(int error, int32_t holder)
{
	if (error == -EAGAIN)
		log_event(LOG_EVENT_DATABASE_LOCKED,
			LOG_FIELDS(LOG_NUMBER("PID", (uint64_t)holder)),
			"another daemon (pid %d) has this state directory", (int)holder);
	else if (error == -EPROTO)
		log_event(LOG_EVENT_DATABASE_NEWER, LOG_NO_FIELDS,
			"the database was made by a newer portledger or another program; "
			"it is left untouched");
	else if (error == -EUCLEAN)
		log_event(LOG_EVENT_DATABASE_DAMAGED, LOG_NO_FIELDS,
			"%s in the state directory is damaged or no database: "
			"move it away, with its -wal and -shm, to begin a new one",
			SCHEMA_FILE);
	else
		log_error("cannot open the database: %s", strerror(-error));
}

/* Whoever does something about it says so. */
static bool is_mended(const struct keeper *k, int error)
{
	return !k->options->replaying && (error == -EUCLEAN || keeper_may_pass(error));
}

/* What is new is to be said: notable stands between the ledger and its sink from here on. */
static int announce(struct keeper *k, struct now now, struct ledger_sink *sink)
{
	struct batch_told told = {.gap = notable_gap, .clock_step = notable_clock_step};
	int r = notable_new(k->store, sink, now, &k->notable);

	if (r < 0) {
		log_error("cannot read what is known: %s", strerror(-r));
		return r;
	}
	*sink = notable_sink(k->notable);
	told.context = k->notable;
	batch_tell(k->batch, &told);
	return 0;
}

void keeper_close_books(struct keeper *k)
{
	k->ledger = ledger_free(k->ledger);
	k->batch = batch_free(k->batch);
	k->notable = notable_free(k->notable);
	k->store = store_free(k->store);
}

static int open_books(struct keeper *k, const struct hello *hello, struct store_session *ret_before)
{
	struct ledger_sink sink;
	int32_t holder = 0;
	int r = store_open(k->options->state_fd, hello->boot_id, hello->at, hello->version,
		&k->store, ret_before, &holder);

	if (r < 0 && !is_mended(k, r))
		log_refusal(r, holder);
	if (r < 0)
		return r;
	k->batch = batch_new(k->store);
	if (!k->batch)
		return -ENOMEM;
	sink = batch_sink(k->batch);
	r = k->options->replaying ? 0 : announce(k, hello->at, &sink);
	if (r < 0)
		return r;
	k->ledger = ledger_new(&sink);
	if (!k->ledger)
		return -ENOMEM;
	if (k->notable)
		notable_ledger(k->notable, k->ledger);
	return 0;
}

/* The database has what the ring told before a place. If it is the same ring, or one that this one has replaced without a
 * break and that is read to its end first, it tells the rest again. If it is the one that recorded when somebody watched last,
 * too, then the kernel has recorded since: no claim was missed, and nobody needs to have been there. (A session that was killed
 * before its first sweep may have stored a place in a ring that began with it.) */
static void open_ring(struct keeper *k, const struct hello *hello)
{
	const struct drained *stored = &k->before.ring;
	uint64_t generation = hello->generation;
	bool again =
		generation != 0 && stored->ring.generation != 0 &&
		(stored->ring.generation == generation || stored->ring.generation == hello->before);

	k->generation = generation;
	k->kept = stored->ring;
	k->goes_on = again && k->before.known && k->before.same_boot &&
		     k->before.generation == stored->ring.generation;
	batch_ring_before(k->batch, stored);
	batch_ring(k->batch, generation != 0);
	ledger_ring_before(k->ledger, stored, again, k->goes_on);
}

static int start_session(struct keeper *k, const struct hello *hello)
{
	const struct store_session *before = &k->before;
	struct record ready = {.type = RECORD_READY};
	int r = open_books(k, hello, &k->before);

	if (r < 0)
		return r;
	ready.ready = before->ring.ring;
	open_ring(k, hello);
	if (before->known && !k->goes_on)
		batch_absence(k->batch, before->last_seen_wall, absence_reason(before));
	/* The last that saw something may have been of another boot, while what is adopted is of a later one, which saw no sweep. */
	k->until = (struct now){.boot = before->same_boot ? before->last_seen_boot : 0,
		.wall = before->last_seen_wall};
	if (before->known && before->same_boot)
		ledger_watched_until(k->ledger, k->until, &before->how);
	r = store_adopt(k->store, take_adopted, k);
	if (r < 0) {
		log_error("cannot take over what an earlier session left open: %s", strerror(-r));
		return r;
	}
	if (k->notable)
		notable_adopted(k->notable, k->ledger);
	k->until = hello->at;
	k->committed_wall = before->known ? before->last_seen_wall : 0;
	k->committed_boot = hello->at.boot;
	keeper_looks_first(k);
	return channel_put(k->capture, &ready);
}

int keeper_start_session(struct keeper *k, const struct hello *hello)
{
	int r = start_session(k, hello);

	if (r == -ENOSPC && keeper_makes_room(k)) {
		keeper_close_books(k);
		r = start_session(k, hello);
	}
	if (r == -EUCLEAN && !k->options->replaying && keeper_sets_aside(k))
		r = start_session(k, hello);
	return r;
}

int keeper_start_status(int error)
{
	if (error == -EAGAIN)
		return KEEPER_EXIT_LOCKED;
	if (error == -EPROTO)
		return KEEPER_EXIT_SCHEMA;
	if (error == -EUCLEAN)
		return KEEPER_EXIT_DAMAGED;
	return EXIT_FAILURE;
}

bool keeper_watches_the_same(const struct coverage *a, const struct coverage *b)
{
	return a->rung == b->rung && a->protocols == b->protocols &&
	       a->bound_only == b->bound_only && a->accepted == b->accepted &&
	       a->netns_all == b->netns_all && a->udp_connect == b->udp_connect &&
	       a->failures == b->failures && a->ranges.count == b->ranges.count &&
	       memcmp(a->ranges.range, b->ranges.range,
		       a->ranges.count * sizeof(a->ranges.range[0])) == 0;
}

void keeper_covers(struct keeper *k, const struct coverage *c)
{
	const struct store_session *before = &k->before;
	bool goes_on = k->goes_on;

	k->goes_on = false;
	if (!goes_on)
		return;
	/* What was recorded in between was recorded as before: where that is another way, the receipt says less. */
	if (keeper_watches_the_same(&before->how, c))
		batch_continue(k->batch, before->last_seen_wall);
	else
		batch_absence(k->batch, before->last_seen_wall, absence_reason(before));
}
