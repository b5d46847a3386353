/* SPDX-License-Identifier: MIT */

/*
 * The ledger process as it is, from its sockets to its files, one turn of its loop at a time. Its clock is ours (the linker takes
 * these instead of common/clock.c), and its timer runs when we say so.
 */

#include "tests/simulation/sim.h"

#include <event2/event.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "daemon/cost.h"
#include "daemon/handover.h"
#include "daemon/schema.h"
#include "tests/support/disk.h"

static struct now the_clock;

struct now clock_now(void)
{
	return the_clock;
}

usec_t clock_boot(void)
{
	return the_clock.boot;
}

usec_t clock_monotonic_usec(void)
{
	return the_clock.boot;
}

usec_t clock_cpu_usec(void)
{
	return 0;
}

struct cost cost_of_self(void)
{
	return (struct cost){.pid = 1};
}

/* What a commit has, it has for good. */
static void note_commit(struct sim *s)
{
	uint64_t commits = store_stats(s->keeper.store).commits;
	bool durable = !s->keeper.undurable;

	if (commits == s->commits)
		return;
	trace(s, "commit%s, %llu operations of the disk", durable ? ", durable" : "",
		(unsigned long long)disk_operations());
	s->count.commits += commits - s->commits;
	s->commits = commits;
	if (s->keeper.store_error != 0)
		return; /* one of several in this turn */
	s->lost_committed = s->lost_told;
	if (durable) {
		s->lost_durable = s->lost_committed;
		s->lost_least += s->lost_pending;
		s->lost_pending = 0;
	}
	s->watched |= durable && s->whole_begin != 0;
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		t->committed |= t->told;
		t->durable |= durable && t->committed;
	}
}

static void on_committed(struct sim *s, const struct committed *c)
{
	bool refuses = c->degraded && strstr(c->degraded, "refuses");

	if (c->id == 0)
		return;
	s->answered = c->id;
	s->degraded = refuses;
	if (refuses != (s->keeper.store_error != 0))
		wrong(s, "the answer says \"%s\", and the last commit %d",
			c->degraded ? c->degraded : "", s->keeper.store_error);
}

/* The store is open, and has what the ring told before a place; of another generation that says nothing. */
static void on_ready(struct sim *s, const struct ring_position *stored)
{
	const struct ring *r = &s->ring;

	s->running = true;
	if (r->generation == 0)
		return;
	s->read = stored->generation == r->generation ? stored->position : 0;
	if (s->read < r->kept || s->read > r->head)
		wrong(s, "the ring has [%llu, %llu), the ledger is at %llu",
			(unsigned long long)r->kept, (unsigned long long)r->head,
			(unsigned long long)s->read);
	s->count.replayed += r->head - s->read;
}

static void on_kept(struct sim *s, const struct ring_position *kept)
{
	if (kept->generation != s->ring.generation)
		return;
	if (kept->position > s->read)
		wrong(s, "KEPT of what was not told");
	s->ring.kept = MAX(s->ring.kept, kept->position);
}

static void on_capture_record(struct sim *s, const struct record *r)
{
	if (r->type == RECORD_READY)
		on_ready(s, &r->ready);
	else if (r->type == RECORD_KEPT)
		on_kept(s, &r->kept);
	else if (r->type == RECORD_SYNC)
		s->barrier = r->sync;
	else if (r->type != RECORD_WAITS)
		wrong(s, "a record that capture does not take (type %d)", (int)r->type);
}

static void hear(struct sim *s, int fd, struct buf *in)
{
	for (;;) {
		void *room = buf_reserve(in, 65536);
		ssize_t n = room ? recv(fd, room, 65536, MSG_DONTWAIT) : -1;
		struct record r;
		size_t size;

		if (n <= 0)
			return;
		buf_grow(in, (size_t)n);
		while (stream_get(buf_bytes(in), buf_size(in), &r, &size) > 0) {
			if (disk_is_stopped())
				; /* who says it is dead */
			else if (fd == s->capture_fd)
				on_capture_record(s, &r);
			else if (r.type == RECORD_COMMITTED)
				on_committed(s, &r.committed);
			record_done(&r);
			buf_consume(in, size);
		}
	}
}

static void turn(struct sim *s)
{
	the_clock = s->clock;
	(void)event_base_loop(s->keeper.base, EVLOOP_NONBLOCK);
	if (s->keeper.store && !disk_is_stopped())
		note_commit(s);
}

void session_pump(struct sim *s)
{
	while (buf_size(&s->out) > 0 && !event_base_got_break(s->keeper.base)) {
		ssize_t n = send(s->capture_fd, buf_bytes(&s->out), buf_size(&s->out),
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			buf_consume(&s->out, (size_t)n);
		turn(s);
	}
	turn(s);
	hear(s, s->capture_fd, &s->in);
	hear(s, s->control_fd, &s->control_in);
	if (s->keeper.aside > 0 || s->keeper.damaged)
		wrong(s, "the database is damaged");
	if (event_base_got_break(s->keeper.base) && !s->keeper.stopped && !disk_is_stopped() &&
		s->disk_fails_until == 0)
		wrong(s, "the ledger has ended with status %d", s->keeper.status);
}

void session_tick(struct sim *s)
{
	session_pump(s);
	if (s->running && !disk_is_stopped()) {
		event_active(s->keeper.tick, EV_TIMEOUT, 1);
		session_pump(s);
	}
}

static void close_keeper(struct sim *s)
{
	keeper_close(&s->keeper);
	close_p(&s->capture_fd);
	close_p(&s->supervisor_fd);
	close_p(&s->control_fd);
	buf_done(&s->out);
	buf_done(&s->in);
	buf_done(&s->control_in);
	s->running = false;
	s->keeper = (struct keeper){0};
	s->commits = 0;
	s->barrier = 0;
	s->lost_told = s->lost_committed;
}

static void open_keeper(struct sim *s)
{
	int capture[2], supervisor[2], control[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, capture) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, supervisor) <
			0)
		wrong(s, "socketpair: %s", strerror(errno));
	s->options = (struct keeper_options){
		.capture_fd = capture[0],
		.supervisor_fd = supervisor[0],
		.state_fd = s->state_fd,
		.state_path = s->path,
		.record_fd = -1,
	};
	s->capture_fd = capture[1];
	s->supervisor_fd = supervisor[1];
	s->control_fd = control[1];
	the_clock = s->clock;
	if (keeper_open(&s->keeper, &s->options) < 0)
		wrong(s, "the ledger does not start");
	event_del(s->keeper.tick);
	if (handover_send(s->supervisor_fd, HANDOVER_CONTROL, control[0]) < 0)
		wrong(s, "handover: %s", strerror(errno));
	close(control[0]);
}

/* The disk may not let it open the books yet: then it tries again with each second. Of many attempts that fail alike some
 * are enough: each costs as much as a start. */
static void await_ready(struct sim *s)
{
	usec_t pause = USEC_PER_SEC;

	session_pump(s);
	for (unsigned healthy = 0; !s->running && !disk_is_stopped();
		healthy += s->disk_fails_until == 0) {
		if (healthy > 1)
			wrong(s, "no READY");
		world_pass(s, pause);
		pause = MIN(3 * pause, 16 * USEC_PER_SEC);
		if (s->clock.boot >= s->disk_fails_until)
			heal_disk(s);
		event_active(s->keeper.tick, EV_TIMEOUT, 1);
		session_pump(s);
	}
}

void session_start(struct sim *s)
{
	if (s->ring.generation == 0 && s->events)
		ring_begin(s);
	open_keeper(s);
	capture_hello(s);
	await_ready(s);
	if (disk_is_stopped())
		return;
	capture_begin(s);
	world_pass(s, 1 + draw(s, 1000));
	capture_look(s);
	session_pump(s);
}

static void tell_ledger(struct sim *s, const struct record *r)
{
	struct buf b = {0};

	if (stream_put(&b, r) < 0 || send(s->control_fd, buf_bytes(&b), buf_size(&b),
					     MSG_NOSIGNAL) != (ssize_t)buf_size(&b))
		wrong(s, "control cannot speak to the ledger");
	buf_done(&b);
	session_pump(s);
}

void session_follow(struct sim *s)
{
	session_pump(s); /* what was told before */
	tell_ledger(s, &(struct record){RECORD_FOLLOW, .follow = true});
	tell_ledger(s, &(struct record){RECORD_FOLLOW, .follow = false});
}

void session_ask(struct sim *s)
{
	tell_ledger(s, &(struct record){RECORD_SYNC, .sync = ++s->asked});
	if (disk_is_stopped())
		return;
	if (s->barrier != s->asked)
		wrong(s, "question %llu did not reach capture", (unsigned long long)s->asked);
	capture_look(s);
	capture_say(s,
		&(struct record){RECORD_BARRIER, .barrier = {.id = s->barrier, .now = s->clock}});
	session_pump(s);
	if (disk_is_stopped())
		return;
	if (s->answered != s->asked)
		wrong(s, "question %llu was not answered", (unsigned long long)s->asked);
	s->count.answers++;
	if (!s->degraded)
		prove_answer(s);
}

void session_stop(struct sim *s)
{
	bool committed;

	capture_look(s);
	if (disk_is_stopped())
		return;
	capture_say(s, &(struct record){RECORD_BYE});
	session_pump(s);
	if (disk_is_stopped())
		return;
	if (!s->keeper.stopped)
		wrong(s, "a goodbye without an end");
	committed = s->keeper.store_error == 0;
	if (!committed && s->disk_fails_until == 0)
		wrong(s, "a clean stop that is none: %s", strerror(-s->keeper.store_error));
	close_keeper(s);
	absence_begin(s);
	ring_end(s, false);
}

/* What it has in memory is gone. What it wrote is with the kernel. */
static void die(struct sim *s)
{
	if (!disk_is_stopped())
		disk_stop_at(disk_operations());
	if (s->keeper.store)
		s->keeper.store->accepted = false; /* nor does it tidy up */
	close_keeper(s);
}

void session_kill(struct sim *s, bool all)
{
	die(s);
	disk_revive();
	s->count.kills++;
	if (s->events && (!all || s->outlives))
		return;
	absence_begin(s);
	if (all)
		ring_end(s, false);
}

/* The heartbeat is never synced. */
static void hurt_heartbeat(struct sim *s)
{
	int fd = openat(s->state_fd, HEARTBEAT_FILE, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && chance(s, 30))
		(void)!ftruncate(fd, (off_t)draw(s, 56));
	if (fd >= 0 && chance(s, 30))
		(void)!pwrite(fd, "?", 1, (off_t)draw(s, 56));
	if (fd >= 0)
		close(fd);
}

/* Loses at most what the timer had not committed yet. */
static void check_patience(struct sim *s)
{
	usec_t since = MAX(s->disk_healed_at, s->woken_at);

	for (uint32_t i = 0; i < s->tenure_count && s->disk_fails_until == 0; i++) {
		const struct tenure *t = &s->tenures[i];

		if (t->boot == s->boot && t->told && !t->durable &&
			s->clock.boot > MAX(t->told_at, since) + 35 * USEC_PER_SEC)
			wrong(s,
				"claim %u was told at %llu, and the power went before it was durable",
				(unsigned)i, (unsigned long long)t->told_at);
	}
}

void session_cut(struct sim *s)
{
	check_patience(s);
	heal_disk(s);
	s->disk_healed_at = s->woken_at = 0;
	die(s);
	disk_power_back(chance(s, 20) ? DISK_KEPT_NOTHING : DISK_KEPT_SOME);
	hurt_heartbeat(s);
	s->count.cuts++;
	for (uint32_t i = 0; i < s->tenure_count; i++) {
		struct tenure *t = &s->tenures[i];

		t->committed = t->durable;
		if (t->boot == s->boot && !t->durable)
			t->excused = true;
	}
	s->lost_committed = s->lost_durable;
	s->lost_pending = 0;
	absence_begin(s);
	world_reboot(s);
}
