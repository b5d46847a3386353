/* SPDX-License-Identifier: MIT */

/*
 * The first page of this process is on_record(): sightings fold into the ledger, the ledger's news collects in the
 * batch, and the batch is committed when somebody asks (at once, without fsync: other processes see a WAL commit),
 * or when the timer says so (with fsync: every second when much happens, every half minute when little does).
 *
 * `until` is the beginning of the last whole sweep. A commit holds all that happened before it, so it is the one moment
 * from which an unclean end of ours has a gap. While nothing waits, it moves on in the heartbeat file alone.
 *
 * With an events' ring there is no such gap: a commit brings the place up to which the ring was told, and what was not
 * committed is told again, whoever was killed. Capture hears of each (KEPT), and gives the kernel its room back. Commits then
 * come right after a sweep where they can: it decides which closed sockets have a remainder in TIME_WAIT, and a claim that
 * is not decided would be written twice.
 */

#include "daemon/ledger/keeper_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/log.h"
#include "daemon/cost.h"
#include "daemon/handover.h"
#include "daemon/reserved.h"
#include "daemon/schema.h"

#define TICK_USEC           USEC_PER_SEC
#define RESERVED_USEC       USEC_PER_MINUTE /* between two looks at the ports that are reserved */
#define COMMIT_BUSY_CHANGES 100u            /* in one second: commit every second */
#define COMMIT_QUIET_USEC   (30 * USEC_PER_SEC)
#define COMMIT_SWEPT_USEC   (900 * USEC_PER_MSEC)      /* with a ring, when busy: after a sweep */
#define COMMIT_LATE_USEC    (2 * USEC_PER_SEC)         /* ... and without one, at the latest */
#define COMMIT_FULL_CLAIMS  (LIMIT_PENDING_CLAIMS / 4) /* closed claims that wait: commit at once */
#define MAINTAIN_STEPS      4u /* bounded steps of sealing and pruning at once */

static void stop(struct keeper *k, int status)
{
	k->status = status;
	event_base_loopbreak(k->base);
}

static void tell_control(struct keeper *k, uint64_t id, bool answered)
{
	/* without a database there is nothing to tell but that */
	struct ledger_stats l = k->ledger ? ledger_stats(k->ledger) : (struct ledger_stats){0};
	struct store_stats s = k->store ? store_stats(k->store) : (struct store_stats){0};
	struct batch_stats b = k->batch ? batch_stats(k->batch) : (struct batch_stats){0};
	struct record r = {
		.type = RECORD_COMMITTED,
		.committed =
			{
				.id = id,
				.commit = s.commits,
				.until_wall = k->committed_wall,
				.capture = k->capture_cost,
				.ledger = cost_of_self(),
				.sweeps = l.sweeps,
				.sweep_cpu_usec = l.sweep_cpu_usec,
				.open_claims = l.open_claims,
				.recorded = s.recorded,
				.lost = l.lost + b.lost,
				.gaps = b.gaps,
				.unattributed = l.unattributed,
				.found_only_by_sweep = l.found_only_by_sweep,
				.lost_ends = l.lost_ends,
				.coverage = k->coverage,
				.waiting = b.waiting,
				.capture_answered = answered,
				.watching = l.watching,
				.degraded = keeper_degraded(k),
			},
	};

	if (k->control && channel_put(k->control, &r) < 0)
		log_error("no memory for an answer to control");
	free(r.committed.degraded);
}

/* One transaction: what is known from now on, and what the ledger learnt. */
static int write_books(struct keeper *k, bool durable)
{
	int r = durable ? store_begin(k->store) : store_begin_question(k->store);

	if (r == 0 && k->notable)
		r = notable_write(k->notable, k->until);
	return r < 0 ? r : batch_commit(k->batch, k->until, durable);
}

/* What is committed of the ring needs not be kept there any more. */
static void tell_kept(struct keeper *k)
{
	struct record kept = {.type = RECORD_KEPT, .kept = batch_ring_committed(k->batch)};

	if (k->options->replaying || kept.kept.generation != k->generation ||
		(kept.kept.generation == k->kept.generation &&
			kept.kept.position == k->kept.position))
		return;
	if (channel_put(k->capture, &kept) < 0)
		log_error("no memory to tell capture what is stored");
	else
		k->kept = kept.kept;
}

/* A commit has ended so. One without fsync says nothing of one with, which has failed: that stays until one has not. */
static void set_store_error(struct keeper *k, int error, bool durable)
{
	if (durable)
		k->durable_error = error;
	else if (error == 0)
		error = k->durable_error;
	if (error < 0 && error != k->store_error)
		log_event(LOG_EVENT_DATABASE_REFUSES,
			LOG_FIELDS(LOG_NUMBER("WAITING", batch_stats(k->batch).waiting),
				LOG_NUMBER("ERRNO", (uint64_t)-error)),
			"cannot write the database, %llu closed claims wait: %s",
			(unsigned long long)batch_stats(k->batch).waiting, strerror(-error));
	if (error == 0 && k->store_error < 0)
		log_event(LOG_EVENT_DATABASE_ACCEPTS, LOG_NO_FIELDS,
			"the database takes writes again");
	k->store_error = error;
}

static void commit(struct keeper *k, bool durable)
{
	int r = write_books(k, durable);

	if (r == -ENOSPC && keeper_makes_room(k))
		r = write_books(k, durable);
	set_store_error(k, r, durable);
	if (r == -EUCLEAN) { /* it stays so: a new one, and who is told of it begins anew */
		k->damaged = true;
		stop(k, EXIT_FAILURE);
	}
	if (r < 0) {
		k->refused_boot = clock_now().boot;
		return;
	}
	k->committed_wall = k->until.wall;
	if (k->notable)
		notable_committed(k->notable);
	tell_kept(k);
	k->swept = false;
	k->undurable = !durable;
	if (durable)
		k->committed_boot = clock_now().boot;
}

static void answer(struct keeper *k, uint64_t id)
{
	struct question *q, *found = NULL;

	TAILQ_FOREACH (q, &k->questions, link)
		if (q->id == id)
			found = q;
	if (!found)
		return; /* answered without capture, which took too long */
	commit(k, false);
	tell_control(k, id, true);
	TAILQ_REMOVE(&k->questions, found, link);
	free(found);
}

/* Capture does not answer: control must not wait for ever. */
static void answer_overdue(struct keeper *k, usec_t now)
{
	struct question *q;

	while ((q = TAILQ_FIRST(&k->questions)) && q->deadline <= now) {
		commit(k, false);
		tell_control(k, q->id, false);
		TAILQ_REMOVE(&k->questions, q, link);
		free(q);
	}
}

static void maintain(struct keeper *k)
{
	for (unsigned i = 0; i < MAINTAIN_STEPS; i++)
		if (store_maintain(k->store, k->until) <= 0)
			break;
}

static uint64_t database_bytes(const struct keeper *k)
{
	struct stat st;

	if (fstatat(k->options->state_fd, SCHEMA_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return store_stats(k->store).wal_bytes;
	return (uint64_t)st.st_size + store_stats(k->store).wal_bytes;
}

static void summarize(struct keeper *k, struct now now)
{
	struct ledger_stats l = ledger_stats(k->ledger);
	struct batch_stats b = batch_stats(k->batch);
	const struct notable_facts facts = {
		.now = now,
		.lost = l.lost + b.lost,
		.gaps = b.gaps,
		.cpu_usec = clock_cpu_usec(),
		.open_claims = l.open_claims,
		.unattributed = l.unattributed,
		.database_bytes = database_bytes(k),
	};

	notable_summary(k->notable, &facts);
}

/* Is there something to be said that only waits for a commit? It is rare and it is news: it does not wait for long. */
static bool note(struct keeper *k, struct now now)
{
	if (now.boot >= k->reserved_next) {
		struct port_set reserved;

		k->reserved_next = now.boot + RESERVED_USEC;
		notable_reserved(k->notable, reserved_read(&reserved) == 0 ? &reserved : NULL,
			reserved_netns());
	}
	notable_look(k->notable, k->ledger, now.boot);
	notable_look_at_ports(k->notable, k->ledger, now);
	if (notable_hour_is_over(k->notable, now.boot))
		summarize(k, now);
	return notable_waits(k->notable);
}

static bool is_busy(const struct keeper *k)
{
	return batch_stats(k->batch).changes >= COMMIT_BUSY_CHANGES || k->store_error < 0;
}

/* How long what waits may wait for the tick. */
static usec_t patience(const struct keeper *k, bool in_a_hurry)
{
	if (!in_a_hurry)
		return COMMIT_QUIET_USEC;
	return k->generation != 0 ? COMMIT_LATE_USEC : 0;
}

static void try_again(struct keeper *k);

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct keeper *k = context;
	struct now now = clock_now();
	bool waits, news;

	(void)fd;
	(void)what;
	if (!k->store) {
		if (k->open_error != 0)
			try_again(k);
		return;
	}
	if (!keeper_looks_after(k, now.boot)) {
		commit(k, true);
		stop(k, KEEPER_EXIT_GONE);
		return;
	}
	answer_overdue(k, now.boot);
	news = k->notable && note(k, now);
	waits = !batch_is_empty(k->batch) || k->undurable || news;
	if (waits && now.boot - k->committed_boot >= patience(k, news || is_busy(k)))
		commit(k, true);
	else if (!waits && store_heartbeat(k->store, k->until) < 0)
		log_debug("cannot move the heartbeat");
	maintain(k);
}

/* All that waits is written again by each attempt: where the database refuses, what comes meanwhile would find no time between them. */
static bool may_commit(const struct keeper *k)
{
	return k->store_error == 0 || clock_now().boot - k->refused_boot >= COMMIT_SWEPT_USEC;
}

static void follow(struct keeper *k)
{
	if (!k->following || !may_commit(k) || batch_stats(k->batch).changes == 0 ||
		batch_is_told_partly(k->batch))
		return;
	commit(k, false);
	tell_control(k, 0, true);
}

/* With a ring, this is when a commit writes least. */
static void commit_swept(struct keeper *k)
{
	if (k->generation != 0 && k->swept && is_busy(k) && !batch_is_told_partly(k->batch) &&
		may_commit(k) && clock_now().boot - k->committed_boot >= COMMIT_SWEPT_USEC)
		commit(k, true);
}

/* Of a claim whose opening found no room, the ring tells with its end; until then a sweep must find it. That there was none shows now,
 * or when the ring was last read: what is committed in between makes room. */
static void note_crowd(struct keeper *k, const struct drained *d)
{
	if (d->urgent || k->urgent)
		k->crowded_at = d->at;
	k->urgent = d->urgent;
}

static void on_drained(struct keeper *k, const struct drained *d)
{
	struct ledger_stats stats = ledger_stats(k->ledger);

	note_crowd(k, d);
	/* All is known up to there, unless a sweep must find what events tell late, or what has ended without a word. */
	if (stats.watching && k->coverage.rung == SOURCE_EVENTS && k->coverage.udp_connect &&
		stats.lost_ends == k->lost_ends && !stats.absent && k->crowded_at == 0 &&
		d->at > k->until.boot)
		k->until = (struct now){.boot = d->at, .wall = ledger_wall(k->ledger, d->at)};
	if (d->urgent && may_commit(k))
		commit(k, false);
	commit_swept(k);
	follow(k);
}

static void on_swept(struct keeper *k, const struct sweep *sweep)
{
	/* By the clock as it is now: where it was set, that is told with the sweep, and would be told again by who finds this moment
	 * stored by the clock as it was. */
	k->until.wall = ledger_wall(k->ledger, k->until.boot);
	if ((sweep->protocols & k->coverage.protocols) != k->coverage.protocols)
		return;
	k->lost_ends = ledger_stats(k->ledger).lost_ends;
	if (sweep->begin >= k->crowded_at)
		k->crowded_at = 0;
	/* Not its end: what was opened during it may stand where it had been already. */
	if (sweep->begin > k->until.boot)
		k->until = (struct now){
			.boot = sweep->begin, .wall = ledger_wall(k->ledger, sweep->begin)};
	k->swept = true;
	commit_swept(k);
	follow(k);
}

static void on_bye(struct keeper *k)
{
	commit(k, true);
	if (k->store_error == 0 && store_stop(k->store, k->until) < 0)
		log_error("cannot mark the session as ended in order");
	if (k->notable)
		summarize(k, clock_now());
	k->stopped = true;
	stop(k, k->store_error == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* The present stretch ends where it is now; another one begins. */
static void on_coverage(struct keeper *k, const struct coverage *c)
{
	bool watching = ledger_stats(k->ledger).watching;

	if (watching)
		commit(k, false);
	if (watching && keeper_watches_the_same(&k->coverage, c))
		batch_continue(k->batch, k->until.wall);
	keeper_covers(k, c);
	k->coverage = *c;
	if (c->rung != SOURCE_EVENTS && k->generation != 0) {
		k->generation = 0; /* it is not read any more */
		batch_ring(k->batch, false);
	}
	if (k->notable)
		notable_coverage(k->notable, c);
}

static void fold(struct keeper *k, const struct record *r)
{
	struct batch_stats waiting;
	int e;

	if (r->type == RECORD_COVERAGE)
		on_coverage(k, &r->coverage);
	e = ledger_apply(k->ledger, r);

	if (e < 0) {
		log_error("the sighting stream contradicts itself (record type %d): %s",
			(int)r->type, strerror(-e));
		stop(k, KEEPER_EXIT_STREAM);
		return;
	}
	if (r->type == RECORD_SWEEP && k->notable)
		notable_swept(k->notable, r->sweep.cpu_usec);
	if (r->type == RECORD_SWEEP)
		on_swept(k, &r->sweep);
	if (r->type == RECORD_DRAINED)
		on_drained(k, &r->drained);
	/* What waits is limited for the sake of a disk that refuses; one that does not is to get it in time. */
	waiting = batch_stats(k->batch);
	if (k->store_error == 0 && waiting.waiting - waiting.held >= COMMIT_FULL_CLAIMS) {
		commit(k, false);
		maintain(k); /* as fast as they come, so that the database keeps its size */
	}
}

static void try_again(struct keeper *k)
{
	int r = keeper_tries_again(k);

	if (r < 0)
		stop(k, keeper_start_status(r));
	else if (k->store) /* it has waited for that */
		fold(k, &(struct record){.type = RECORD_HELLO, .hello = k->hello});
}

static void record_bytes(const struct keeper *k, const void *bytes, size_t size)
{
	if (k->options->record_fd >= 0 &&
		write(k->options->record_fd, bytes, size) != (ssize_t)size)
		log_warning("the recording is incomplete: %s", strerror(errno));
}

static void on_record(void *context, const struct record *r, const void *bytes, size_t size)
{
	struct keeper *k = context;
	int e;

	if (k->stopped || event_base_got_break(k->base))
		return;
	record_bytes(k, bytes, size);
	if (r->type == RECORD_HELLO && !k->store) {
		e = keeper_start_session(k, &r->hello);
		if (e < 0 && keeper_waits(k, e, &r->hello))
			return;
		if (e < 0) {
			stop(k, keeper_start_status(e));
			return;
		}
	}
	if (!k->store) {
		stop(k, KEEPER_EXIT_STREAM);
		return;
	}
	if (r->type == RECORD_SETTINGS) {
		store_settings(k->store, &r->settings);
		if (k->notable)
			notable_settings(k->notable, &r->settings);
	} else if (r->type == RECORD_BARRIER) {
		k->capture_cost = r->barrier.capture;
		answer(k, r->barrier.id);
	} else if (r->type == RECORD_OBSTACLE) {
		free(k->obstacle);
		k->obstacle = r->obstacle ? strdup(r->obstacle) : NULL;
	} else if (r->type == RECORD_BYE) {
		on_bye(k);
	} else {
		fold(k, r);
	}
}

/* Capture is gone without a goodbye: keep what it said. */
static void on_capture_end(void *context, int error)
{
	struct keeper *k = context;

	if (error < 0)
		log_error("the sighting stream broke: %s", strerror(-error));
	if (k->store)
		commit(k, true);
	stop(k, EXIT_FAILURE);
}

/* A question that comes before the database is open waits in capture's socket, behind its own HELLO. */
static void ask_capture(struct keeper *k, uint64_t id)
{
	struct record r = {.type = RECORD_SYNC, .sync = id};
	struct question *q = calloc(1, sizeof(*q));

	if (!q || channel_put(k->capture, &r) < 0) {
		free(q);
		log_error("no memory for a question");
		return;
	}
	q->id = id;
	q->deadline = clock_now().boot + LIMIT_SYNC_USEC / 2;
	TAILQ_INSERT_TAIL(&k->questions, q, link);
}

static void on_control_record(void *context, const struct record *r, const void *bytes, size_t size)
{
	struct keeper *k = context;

	(void)bytes;
	(void)size;
	if (r->type == RECORD_SYNC && k->open_error != 0) {
		tell_control(k, r->sync, true);
	} else if (r->type == RECORD_SYNC) {
		ask_capture(k, r->sync);
	} else if (r->type == RECORD_FOLLOW) {
		k->following = r->follow;
		if (r->follow && k->store)
			commit(k, false);
	} else {
		log_error("control sent a record that is not its to send (type %d)", (int)r->type);
	}
}

static void forget_questions(struct keeper *k)
{
	struct question *q;

	while ((q = TAILQ_FIRST(&k->questions))) {
		TAILQ_REMOVE(&k->questions, q, link);
		free(q);
	}
}

static void on_control_end(void *context, int error)
{
	struct keeper *k = context;

	if (error < 0)
		log_warning("the link to control broke: %s", strerror(-error));
	k->control = channel_free(k->control);
	k->following = false;
	forget_questions(k);
}

/* A (re)started control process: its link comes from the supervisor. */
static void on_supervisor(evutil_socket_t fd, short what, void *context)
{
	struct keeper *k = context;
	_cleanup_(close_p) int link = -1;
	int r = handover_receive(fd, &link);

	(void)what;
	if (r == 0) { /* the supervisor is gone; the stream's end says the rest */
		event_del(k->supervisor);
		return;
	}
	if (r == HANDOVER_TURN) {
		(void)!handover_send(fd, HANDOVER_TURN, -1);
		return;
	}
	if (r != HANDOVER_CONTROL || link < 0) {
		log_warning("a handover that makes no sense");
		return;
	}
	k->control = channel_free(k->control);
	forget_questions(k);
	if (channel_new(k->base, TAKE_FD(link),
		    &(struct channel_handler){
			    .context = k, .record = on_control_record, .end = on_control_end},
		    &k->control) < 0)
		log_error("no memory for the link to control");
}

int keeper_open(struct keeper *k, const struct keeper_options *options)
{
	const struct timeval tick = {.tv_sec = TICK_USEC / USEC_PER_SEC};
	int r;

	*k = (struct keeper){.options = options, .status = EXIT_FAILURE};
	TAILQ_INIT(&k->questions);
	k->base = event_base_new();
	if (!k->base)
		return -ENOMEM;
	r = channel_new(k->base, k->options->capture_fd,
		&(struct channel_handler){.context = k, .record = on_record, .end = on_capture_end},
		&k->capture);
	if (r < 0)
		return r;
	k->tick = event_new(k->base, -1, EV_PERSIST, on_tick, k);
	k->supervisor = event_new(
		k->base, k->options->supervisor_fd, EV_READ | EV_PERSIST, on_supervisor, k);
	if (!k->tick || !k->supervisor || event_add(k->tick, &tick) < 0 ||
		event_add(k->supervisor, NULL) < 0)
		return -ENOMEM;
	if (k->options->record_fd >= 0)
		record_bytes(k, STREAM_MAGIC, STREAM_MAGIC_BYTES);
	return 0;
}

void keeper_close(struct keeper *k)
{
	forget_questions(k);
	k->control = channel_free(k->control);
	k->capture = channel_free(k->capture);
	keeper_close_books(k);
	free(k->hello.version);
	free(k->obstacle);
	if (k->supervisor)
		event_free(k->supervisor);
	if (k->tick)
		event_free(k->tick);
	if (k->base)
		event_base_free(k->base);
	close(k->options->supervisor_fd);
}

int keeper_run(const struct keeper_options *options)
{
	struct keeper k;
	int r = keeper_open(&k, options);

	if (r < 0)
		log_error("cannot start: %s", strerror(-r));
	else
		event_base_dispatch(k.base);
	if (k.damaged)
		(void)keeper_sets_aside(&k);
	keeper_close(&k);
	return k.status;
}
