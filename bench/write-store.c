/* SPDX-License-Identifier: MIT */

/*
 * As the keeper does it: what the ledger says goes into the batch, and every `batch` claims the timer's commit with
 * fsync writes it, and does what housekeeping is due.
 */

#include "bench/writing.h"

#include <stdio.h>

#include "daemon/ledger/batch.h"
#include "daemon/schema.h"

#define STEPS 4 /* MAINTAIN_STEPS of the keeper */

struct run {
	struct store *store;
	struct batch *batch;
	struct ledger_sink sink;
	struct workload *load;
	struct claim *claims; /* of one commit */
	struct drained place; /* generation 0: there is no ring */
};

static int tick(struct run *r)
{
	struct now now = workload_now(r->load);
	int e;

	if (r->place.ring.generation != 0) {
		r->place.ring.position += 1 << 20;
		r->place.at = now.boot;
		r->sink.drained(r->sink.context, &r->place);
	}
	e = batch_commit(r->batch, now, true);

	for (int i = 0; e == 0 && i < STEPS; i++) {
		int more = store_maintain(r->store, now);

		if (more <= 0)
			return more;
	}
	return e;
}

static int begin(const struct writing *w, struct run *r)
{
	const uint8_t boot_id[BOOT_ID_BYTES] = {0xbe, 0x0c};
	const struct settings for_ever = {.max_age_usec = 3650 * USEC_PER_DAY,
		.max_bytes = UINT64_C(1) << 40,
		.user_share_permille = 1000,
		.coalesce_above = UINT64_MAX};
	const struct coverage coverage = {.rung = SOURCE_SWEEP,
		.interval_usec = WORKLOAD_INTERVAL,
		.ranges = {.count = 1, .range = {{WORKLOAD_PORT_FIRST, UINT16_MAX}}},
		.protocols = 3};
	const struct netns netns = {.cookie = WORKLOAD_NETNS, .inode = 4026531840};
	struct store_session before;
	int32_t holder;
	int e;

	r->load = workload_new(w->times, w->claims, w->span);
	r->claims = calloc(w->batch, sizeof(*r->claims));
	if (!r->load || !r->claims)
		return -ENOMEM;
	e = store_open(
		w->directory, boot_id, workload_now(r->load), "bench", &r->store, &before, &holder);
	if (e < 0)
		return e;
	store_settings(r->store, &for_ever);
	r->batch = batch_new(r->store);
	if (!r->batch)
		return -ENOMEM;
	if (w->ring)
		r->place.ring.generation = UINT64_C(0x9e3779b97f4a7c15);
	batch_ring(r->batch, w->ring);
	r->sink = batch_sink(r->batch);
	r->sink.netns(r->sink.context, &netns);
	r->sink.coverage_begins(r->sink.context, &coverage, workload_now(r->load).wall);
	return tick(r);
}

/* Up to `max` claims become known. */
static uint32_t open_claims(struct run *r, uint32_t max)
{
	uint32_t count = 0;

	for (; count < max && workload_next(r->load, &r->claims[count]); count++)
		r->sink.opened(r->sink.context, &r->claims[count]);
	return count;
}

/* Those that outlive a commit, or the others. */
static void release_claims(const struct writing *w, struct run *r, uint32_t count, bool outlive)
{
	for (uint32_t i = 0; i < count; i++) {
		if ((i * 37 % 100 < w->outlive) != outlive)
			continue;
		r->sink.released(r->sink.context, &r->claims[i]);
		claim_done(&r->claims[i]);
	}
}

/* A commit has what was opened and released since the last one, and of what outlives a commit the releases of the claims before
 * and the openings of the next. */
static int write_all(const struct writing *w, struct run *r, struct meter *m)
{
	uint64_t written = 0;
	uint32_t count;
	int e = 0;

	while (e == 0 && (count = open_claims(r, w->batch)) > 0) {
		release_claims(w, r, count, false);
		if (e == 0)
			e = tick(r);
		release_claims(w, r, count, true);
		written += count;
		meter_tick(m, written);
	}
	if (e == 0)
		e = tick(r);
	meter_end(m, written);
	return e;
}

static int finish(struct run *r)
{
	int e = store_stop(r->store, workload_now(r->load));

	report("segments", (double)store_stats(r->store).sealed_segments);
	return e;
}

int write_store(const struct writing *w)
{
	struct run r = {0};
	struct meter m;
	char path[4096];
	int e = begin(w, &r);

	if (e == 0)
		e = meter_begin(&m, w);
	if (e == 0)
		e = write_all(w, &r, &m);
	if (e == 0)
		e = finish(&r);
	r.batch = batch_free(r.batch);
	r.store = store_free(r.store);
	r.load = workload_free(r.load);
	free(r.claims);
	snprintf(path, sizeof(path), "%s/" SCHEMA_FILE, w->path);
	return e < 0 ? e
		     : report_rows(path,
			       "SELECT 'sealed',(SELECT sum(n) FROM segment)+(SELECT count(*) FROM claim_long)"
			       " UNION ALL " SIZES_BY_TABLE);
}
