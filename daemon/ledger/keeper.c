/* SPDX-License-Identifier: MIT */

/*
 * The first page of this process is on_record(): sightings fold into the ledger, the ledger's news collects in the
 * batch, and the batch is committed when somebody asks (at once, without fsync: other processes see a WAL commit),
 * or when the timer says so (with fsync: every second when much happens, every half minute when little does).
 *
 * `until` is the beginning of the last whole sweep. A commit holds all that happened before it, so it is the one moment
 * from which an unclean end of ours has a gap. While nothing waits, it moves on in the heartbeat file alone.
 */

#include "daemon/ledger/keeper.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "common/log.h"
#include "daemon/channel.h"
#include "daemon/cost.h"
#include "daemon/handover.h"
#include "daemon/ledger/batch.h"
#include "daemon/ledger/notable.h"
#include "daemon/schema.h"

#define TICK_USEC           USEC_PER_SEC
#define COMMIT_BUSY_CHANGES 100u /* in one second: commit every second */
#define COMMIT_QUIET_USEC   (30 * USEC_PER_SEC)
#define COMMIT_FULL_CLAIMS  (LIMIT_PENDING_CLAIMS / 4) /* closed claims that wait: commit at once */
#define MAINTAIN_STEPS      4u /* bounded steps of sealing and pruning at once */

/* A question that waits for its barrier. */
struct question {
	TAILQ_ENTRY(question) link;
	uint64_t id;
	usec_t deadline; /* boottime */
};

struct keeper {
	const struct keeper_options *options;
	struct event_base *base;
	struct event *tick, *supervisor;
	struct channel *capture, *control;
	struct store *store;
	struct ledger *ledger;
	struct batch *batch;
	struct notable *notable; /* NULL while replaying */
	TAILQ_HEAD(questions, question) questions;
	struct coverage coverage;
	struct cost capture_cost;
	struct now until;      /* beginning of the last whole sweep */
	usec_t committed_boot; /* when the last durable commit was made */
	bool undurable;        /* committed since then without fsync */
	bool following, stopped;
	int store_error; /* of the last commit; 0: it worked */
	int status;      /* exit status */
};

static void stop(struct keeper *k, int status)
{
	k->status = status;
	event_base_loopbreak(k->base);
}

/* The states in which an answer is worth less than it looks; NULL: none (or no memory to say so). */
static char *degraded(const struct keeper *k)
{
	char *text = NULL;

	if (k->store_error == 0)
		return NULL;
	if (asprintf(&text, "the database refuses writes (%s); %llu closed claims wait in memory",
		    strerror(-k->store_error),
		    (unsigned long long)batch_stats(k->batch).waiting) < 0)
		return NULL;
	return text;
}

static void tell_control(struct keeper *k, uint64_t id, bool answered)
{
	struct ledger_stats l = ledger_stats(k->ledger);
	struct store_stats s = store_stats(k->store);
	struct batch_stats b = batch_stats(k->batch);
	struct record r = {
		.type = RECORD_COMMITTED,
		.committed =
			{
				.id = id,
				.commit = s.commits,
				.until_wall = k->until.wall,
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
				.coverage = k->coverage,
				.waiting = b.waiting,
				.capture_answered = answered,
				.watching = l.watching,
				.degraded = degraded(k),
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

static void commit(struct keeper *k, bool durable)
{
	int r = write_books(k, durable);

	if (r < 0 && r != k->store_error)
		log_event(LOG_EVENT_DATABASE_REFUSES,
			LOG_FIELDS(LOG_NUMBER("WAITING", batch_stats(k->batch).waiting),
				LOG_NUMBER("ERRNO", (uint64_t)-r)),
			"cannot write the database, %llu closed claims wait: %s",
			(unsigned long long)batch_stats(k->batch).waiting, strerror(-r));
	if (r == 0 && k->store_error < 0)
		log_event(LOG_EVENT_DATABASE_ACCEPTS, LOG_NO_FIELDS,
			"the database takes writes again");
	k->store_error = r;
	if (r < 0)
		return;
	if (k->notable)
		notable_committed(k->notable);
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
	notable_look(k->notable, k->ledger, now.boot);
	if (notable_hour_is_over(k->notable, now.boot))
		summarize(k, now);
	return notable_waits(k->notable);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct keeper *k = context;
	struct now now = clock_now();
	bool waits, news, busy;

	(void)fd;
	(void)what;
	if (!k->store)
		return;
	answer_overdue(k, now.boot);
	news = k->notable && note(k, now);
	waits = !batch_is_empty(k->batch) || k->undurable || news;
	busy = batch_stats(k->batch).changes >= COMMIT_BUSY_CHANGES || k->store_error < 0 || news;
	if (waits && (busy || now.boot - k->committed_boot >= COMMIT_QUIET_USEC))
		commit(k, true);
	else if (!waits && store_heartbeat(k->store, k->until) < 0)
		log_debug("cannot move the heartbeat");
	maintain(k);
}

/* What an earlier session of this boot left open. */
static int take_adopted(void *context, struct claim *claim)
{
	struct keeper *k = context;
	int r = ledger_adopt(k->ledger, claim, k->until.boot);

	if (r == -EEXIST) {
		log_warning(
			"two open claims of cookie %llu in the database, the later one is dropped",
			(unsigned long long)claim->cookie);
		claim_done(claim);
		return 0;
	}
	return r;
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

static int open_books(struct keeper *k, const struct hello *hello, struct store_session *ret_before)
{
	struct ledger_sink sink;
	int32_t holder = 0;
	int r = store_open(k->options->state_fd, hello->boot_id, hello->at, hello->version,
		&k->store, ret_before, &holder);

	if (r < 0)
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
	return k->ledger ? 0 : -ENOMEM;
}

static int start_session(struct keeper *k, const struct hello *hello)
{
	struct store_session before;
	struct record ready = {.type = RECORD_READY};
	int r = open_books(k, hello, &before);

	if (r < 0)
		return r;
	if (before.known)
		batch_absence(k->batch, before.last_seen_wall, absence_reason(&before));
	k->until = (struct now){.boot = before.last_seen_boot, .wall = before.last_seen_wall};
	if (before.known && before.same_boot)
		ledger_watched_until(k->ledger, before.last_seen_boot, &before.how);
	r = store_adopt(k->store, take_adopted, k);
	if (r < 0) {
		log_error("cannot take over what an earlier session left open: %s", strerror(-r));
		return r;
	}
	if (k->notable)
		notable_adopted(k->notable, k->ledger);
	k->until = hello->at;
	k->committed_boot = hello->at.boot;
	return channel_put(k->capture, &ready);
}

static int start_status(int error)
{
	if (error == -EAGAIN)
		return KEEPER_EXIT_LOCKED;
	if (error == -EPROTO)
		return KEEPER_EXIT_SCHEMA;
	if (error == -EUCLEAN)
		return KEEPER_EXIT_DAMAGED;
	return EXIT_FAILURE;
}

static void on_swept(struct keeper *k, const struct sweep *sweep)
{
	if ((sweep->protocols & k->coverage.protocols) != k->coverage.protocols)
		return;
	/* Not its end: what was opened during it may stand where it had been already. */
	k->until = (struct now){.boot = sweep->begin, .wall = ledger_wall(k->ledger, sweep->begin)};
	if (k->following && batch_stats(k->batch).changes > 0) {
		commit(k, false);
		tell_control(k, 0, true);
	}
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

/* Do both watch the same, if not as often? */
static bool watches_the_same(const struct coverage *a, const struct coverage *b)
{
	return a->rung == b->rung && a->protocols == b->protocols &&
	       a->bound_only == b->bound_only && a->accepted == b->accepted &&
	       a->netns_all == b->netns_all && a->ranges.count == b->ranges.count &&
	       memcmp(a->ranges.range, b->ranges.range,
		       a->ranges.count * sizeof(a->ranges.range[0])) == 0;
}

/* The present stretch ends where it is now; another one begins. */
static void on_coverage(struct keeper *k, const struct coverage *c)
{
	bool watching = ledger_stats(k->ledger).watching;

	if (watching)
		commit(k, false);
	if (watching && watches_the_same(&k->coverage, c))
		batch_continue(k->batch, k->until.wall);
	k->coverage = *c;
	if (k->notable)
		notable_coverage(k->notable, c);
}

static void fold(struct keeper *k, const struct record *r)
{
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
	/* What waits is limited for the sake of a disk that refuses; one that does not is to get it in time. */
	if (k->store_error == 0 && batch_stats(k->batch).waiting >= COMMIT_FULL_CLAIMS) {
		commit(k, false);
		maintain(k); /* as fast as they come, so that the database keeps its size */
	}
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
		e = start_session(k, &r->hello);
		if (e < 0) {
			stop(k, start_status(e));
			return;
		}
	}
	if (!k->store) {
		stop(k, KEEPER_EXIT_STREAM);
		return;
	}
	if (r->type == RECORD_SETTINGS) {
		store_settings(k->store, &r->settings);
	} else if (r->type == RECORD_BARRIER) {
		k->capture_cost = r->barrier.capture;
		answer(k, r->barrier.id);
	} else if (r->type == RECORD_BYE) {
		on_bye(k);
	} else if (r->type != RECORD_DRAINED && r->type != RECORD_FAILURE) {
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
	if (r->type == RECORD_SYNC) {
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

static int keeper_start(struct keeper *k)
{
	const struct timeval tick = {.tv_sec = TICK_USEC / USEC_PER_SEC};
	int r;

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

static void keeper_done(struct keeper *k)
{
	forget_questions(k);
	k->control = channel_free(k->control);
	k->capture = channel_free(k->capture);
	k->ledger = ledger_free(k->ledger);
	k->batch = batch_free(k->batch);
	k->notable = notable_free(k->notable);
	k->store = store_free(k->store);
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
	struct keeper k = {.options = options, .status = EXIT_FAILURE};
	int r;

	TAILQ_INIT(&k.questions);
	r = keeper_start(&k);
	if (r < 0)
		log_error("cannot start: %s", strerror(-r));
	else
		event_base_dispatch(k.base);
	keeper_done(&k);
	return k.status;
}
