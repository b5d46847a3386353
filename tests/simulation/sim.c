/* SPDX-License-Identifier: MIT */

/*
 * sim [OPTION...]: plays lives of the ledger process, each from a seed, with faults, and holds each against the truth.
 *
 *   --seed N      that one, and what happens in it (standard error)
 *   --count N     so many, from --from on (200)
 *   --from N      the first (1)
 *   --some N      only so many of these, others each time; all of them where $PORTLEDGER_FULL says yes
 *   --seconds N   as many as fit into that, from a random one on; each is named before it is played
 *   --jobs N      in so many processes at once (1)
 *
 * The last line (of each process) says how many and what happened in them; a failure says how to see it again, and the exit status is 1.
 *
 * A seed is the same life with every compiler, on every machine: so each draw has its statement (the order in which those of
 * one expression are made is the compiler's choice).
 */

#include "tests/simulation/sim.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "common/log.h"
#include "tests/support/disk.h"

#define STEPS 150

uint64_t draw(struct sim *s, uint64_t below)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (s->random * UINT64_C(2685821657736338717) >> 33) % below;
}

bool chance(struct sim *s, unsigned percent)
{
	return draw(s, 100) < percent;
}

void wrong(struct sim *s, const char *format, ...)
{
	va_list arguments;

	printf("seed %" PRIu64 ": ", s->seed);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n  again: %s --seed %" PRIu64 " (its files are in %s)\n", program_invocation_name,
		s->seed, s->path);
	fflush(stdout);
	_exit(1);
}

void trace(struct sim *s, const char *format, ...)
{
	va_list arguments;

	if (!s->trace)
		return;
	fprintf(stderr, "%10.6f %s", (double)s->clock.boot / 1e6, s->running ? "" : "(down) ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

/* What happens */

void heal_disk(struct sim *s)
{
	if (s->disk_fails_until == 0)
		return;
	disk_fail(0, 0, 0, 0);
	s->disk_fails_until = 0;
	s->disk_healed_at = s->clock.boot;
	trace(s, "the disk works again");
}

static void heal(struct sim *s)
{
	if (s->clock.boot >= s->disk_fails_until)
		heal_disk(s);
}

/* The process goes by when somebody stops the disk, too: whoever has written that much is dead. */
static bool is_dead(struct sim *s)
{
	return s->running && disk_is_stopped();
}

static void pass(struct sim *s, usec_t usec)
{
	while (usec > 0 && !is_dead(s)) {
		usec_t next = MIN(usec, USEC_PER_SEC - s->clock.boot % USEC_PER_SEC);

		world_pass(s, next);
		usec -= next;
		heal(s);
		if (s->clock.boot % USEC_PER_SEC == 0)
			session_tick(s);
	}
}

static void pass_some(struct sim *s)
{
	static const usec_t lengths[] = {1000, 1000, 100000, 100000, 3000000, 40000000};

	pass(s, 1 + draw(s, lengths[draw(s, ELEMENTSOF(lengths))]));
}

static void suspend(struct sim *s)
{
	trace(s, "suspend");
	world_pass(s, USEC_PER_MINUTE + draw(s, 12 * USEC_PER_HOUR));
	s->woken_at = s->clock.boot;
	heal(s);
	session_tick(s);
}

static void set_clock(struct sim *s)
{
	static const int64_t lengths[] = {1000000, 3600000000, 86400000000};
	int64_t by = (int64_t)draw(s, (uint64_t)lengths[draw(s, 3)]);

	if (!s->steps)
		return;
	trace(s, "the clock is set");
	world_set_clock(s, chance(s, 50) ? by : -by);
}

static void fail_disk(struct sim *s)
{
	static const unsigned kinds[] = {
		DISK_CHANGES, DISK_WRITE, DISK_SYNC, DISK_WRITE | DISK_SYNC};
	static const int errors[] = {ENOSPC, EIO};
	uint64_t first = disk_operations() + 1 + draw(s, 40), count = UINT64_MAX - first;
	bool brief = chance(s, 40);
	unsigned kind;
	int error;

	if (s->disk_fails_until != 0 || !s->running)
		return;
	trace(s, "the disk fails%s", brief ? " once" : "");
	if (brief)
		count = 1 + draw(s, 3);
	kind = kinds[draw(s, 4)];
	error = errors[draw(s, 2)];
	disk_fail(first, count, kind, error);
	s->disk_fails_until = s->clock.boot + (1 + draw(s, 50)) * USEC_PER_SEC;
	s->count.faults++;
}

/* Down for a while, in which things happen. */
static void be_away(struct sim *s)
{
	unsigned events = (unsigned)draw(s, 12);

	for (unsigned i = 0; i < events; i++) {
		uint32_t open = world_pick_open(s);

		world_pass(s, 1 + draw(s, USEC_PER_SEC));
		if (open != NOBODY && chance(s, 50))
			world_close(s, open);
		else
			world_open(s);
	}
	heal(s);
}

static void end_somehow(struct sim *s)
{
	uint64_t fate = draw(s, 100);

	if (!is_dead(s) && fate < 10) {
		trace(s, "a clean stop");
		session_stop(s);
		if (!is_dead(s))
			return;
	}
	if (fate < 75) {
		trace(s, "killed");
		session_kill(s, fate < 45);
	} else {
		trace(s, "the power is gone");
		session_cut(s);
	}
}

/* Now, or within the next operations of the disk. */
static void end_soon(struct sim *s)
{
	if (chance(s, 50))
		disk_stop_at(disk_operations() + 1 + draw(s, 60));
	else
		end_somehow(s);
}

static void start(struct sim *s)
{
	trace(s, "start");
	/* the power may go while it starts; or it is killed */
	if (chance(s, 15))
		disk_stop_at(disk_operations() + 1 + draw(s, 30));
	session_start(s);
}

static void live(struct sim *s)
{
	uint64_t what = draw(s, 100);
	uint32_t open = world_pick_open(s);

	if (what < 30) {
		world_open(s);
	} else if (what < 50 && open != NOBODY) {
		world_close(s, open);
	} else if (what < 62) {
		capture_drain(s, chance(s, 60));
		if (chance(s, 30))
			session_follow(s);
	} else if (what < 72) {
		capture_sweep(s, chance(s, 85));
	} else if (what < 78) {
		session_ask(s);
	} else if (what < 90) {
		pass_some(s);
	} else if (what < 92) {
		set_clock(s);
	} else if (what < 93) {
		suspend(s);
	} else if (what < 95) {
		fail_disk(s);
	} else if (what < 97) {
		capture_resync(s, chance(s, 50));
	} else {
		end_soon(s);
	}
	if (s->running && !disk_is_stopped())
		session_pump(s);
}

static void restart_if_dead(struct sim *s)
{
	if (disk_is_stopped() && !s->running)
		disk_revive(); /* killed at the end of a clean stop: all was said and done */
	else if (disk_is_stopped())
		end_somehow(s);
	while (!s->running) {
		be_away(s);
		start(s);
		if (disk_is_stopped()) {
			s->running = true;
			end_somehow(s);
		}
	}
}

/* All ends in order: no fault is left, all sockets are gone, and capture has looked often enough to know. */
static void conclude(struct sim *s)
{
	uint32_t open;

	heal_disk(s);
	disk_stop_at(0);
	while ((open = world_pick_open(s)) != NOBODY)
		world_close(s, open);
	pass(s, 61 * USEC_PER_SEC);
	for (unsigned i = 0; i < 4; i++) {
		capture_look(s);
		pass(s, USEC_PER_SEC);
	}
	session_ask(s);
	if (s->degraded)
		wrong(s, "the disk works, and the ledger says that it does not");
	s->lost_least += s->ring.generation != 0 ? s->ring.lost : 0;
	s->lost_most += s->ring.generation != 0 ? s->ring.lost : 0;
	s->ring.generation = 0;
	session_stop(s);
}

/* In memory, where that is possible. One for all seeds. */
static void make_directory(struct sim *s)
{
	const char *tmp = getenv("TMPDIR");
	struct stat st;

	if (!tmp)
		tmp = stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp";
	snprintf(s->path, sizeof(s->path), "%s/sim-XXXXXX", tmp);
	if (!mkdtemp(s->path))
		wrong(s, "%s: %s", s->path, strerror(errno));
	s->state_fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* But the ballast: no seed fills the real disk, and to make its pages takes longer than all else of some. */
static void empty_directory(struct sim *s, bool whole)
{
	DIR *dir = opendir(s->path);
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.' && (whole || !streq(e->d_name, "ballast")))
			(void)unlinkat(s->state_fd, e->d_name, 0);
	if (dir)
		closedir(dir);
}

static void remove_directory(struct sim *s)
{
	empty_directory(s, true);
	close(s->state_fd);
	(void)rmdir(s->path);
}

static void begin(struct sim *s, uint64_t seed, bool tracing, const struct sim *total)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->path, total->path, sizeof(s->path));
	s->state_fd = total->state_fd;
	s->seed = seed;
	s->random = seed * 2 + 1;
	s->trace = tracing;
	s->capture_fd = s->supervisor_fd = s->control_fd = -1;
	for (unsigned i = 0; i < 20; i++)
		draw(s, 2);
	s->events = chance(s, 75);
	s->outlives = chance(s, 60);
	s->steps = chance(s, 35);
	disk_reset(seed);
	world_begin(s);
}

static void play(struct sim *total, uint64_t seed, bool tracing)
{
	static struct sim s;

	begin(&s, seed, tracing, total);
	session_start(&s);
	for (unsigned i = 0; i < STEPS; i++) {
		restart_if_dead(&s);
		live(&s);
	}
	disk_stop_at(disk_is_stopped() ? disk_operations() : 0);
	restart_if_dead(&s);
	conclude(&s);
	prove_all(&s);
	empty_directory(&s, false);
	for (size_t i = 0; i < sizeof(s.count) / sizeof(uint64_t); i++)
		((uint64_t *)&total->count)[i] += ((uint64_t *)&s.count)[i];
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t fresh_seed(void)
{
	uint32_t seed = 0;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		perror("getrandom");
	return seed;
}

static void sum_up(const struct sim *total, uint64_t seeds, double took)
{
	printf("%" PRIu64 " seeds in %.1f s (%.0f a minute): %" PRIu64 " claims made, %" PRIu64
	       " recorded, %" PRIu64 " lost by count, %" PRIu64 " unseen; %" PRIu64
	       " kills, %" PRIu64 " power cuts, %" PRIu64 " disk faults, %" PRIu64
	       " clock steps, %" PRIu64 " commits, %" PRIu64 " answers, %" PRIu64
	       " records told again\n",
		seeds, took, (double)seeds * 60 / took, total->count.made, total->count.recorded,
		total->count.lost, total->count.excused, total->count.kills, total->count.cuts,
		total->count.faults, total->count.steps, total->count.commits, total->count.answers,
		total->count.replayed);
}

/* There is one thread, and nobody asks SQLite how much memory it has. What a seed frees the next one takes. */
static void make_haste(void)
{
	(void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	(void)sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 512, 512);
	(void)mallopt(M_MXFAST, 0);
	(void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
	(void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
}

struct plan {
	uint64_t from, count;
	double seconds; /* 0: `count` says how many */
	bool one;
};

static void run(const struct plan *plan)
{
	static struct sim total;
	uint64_t from = plan->from, seeds = 0;
	double begun = seconds_now();

	make_haste();
	disk_install();
	make_directory(&total);
	if (plan->seconds > 0) {
		from = fresh_seed();
		for (; seconds_now() - begun < plan->seconds; seeds++) {
			/* nobody would know it after a crash */
			printf("seed %" PRIu64 "\n", from + seeds);
			fflush(stdout);
			play(&total, from + seeds, false);
		}
	} else {
		for (; seeds < plan->count; seeds++)
			play(&total, from + seeds, plan->one);
	}
	remove_directory(&total);
	sum_up(&total, seeds, seconds_now() - begun);
}

/* Each process has its part of the seeds. Returns the exit status. */
static int run_all(const struct plan *plan, uint64_t jobs)
{
	int status, failed = 0;

	for (uint64_t i = 0; i < jobs; i++) {
		struct plan part = *plan;
		pid_t child = fork();

		if (child < 0)
			perror("fork");
		failed |= child < 0;
		if (child != 0)
			continue;
		part.from += plan->count * i / jobs;
		part.count = plan->count * (i + 1) / jobs - plan->count * i / jobs;
		run(&part);
		exit(0);
	}
	while (wait(&status) > 0)
		failed |= status != 0;
	return failed;
}

static void choose_some(struct plan *plan, uint64_t some)
{
	const char *full = getenv("PORTLEDGER_FULL");

	if (some >= plan->count || (full && streq(full, "yes")))
		return;
	plan->from += fresh_seed() % (plan->count - some + 1);
	plan->count = some;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {{"seed", required_argument, NULL, 's'},
		{"count", required_argument, NULL, 'c'}, {"from", required_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 't'}, {"jobs", required_argument, NULL, 'j'},
		{"some", required_argument, NULL, 'm'}, {0}};
	struct plan plan = {.from = 1, .count = 200};
	uint64_t jobs = 1, some = UINT64_MAX;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 's' || o == 'f')
			plan.from = strtoull(optarg, NULL, 10);
		plan.one |= o == 's';
		if (o == 'c')
			plan.count = strtoull(optarg, NULL, 10);
		if (o == 't')
			plan.seconds = strtod(optarg, NULL);
		if (o == 'j')
			jobs = strtoull(optarg, NULL, 10);
		if (o == 'm')
			some = strtoull(optarg, NULL, 10);
		if (o == '?')
			return 2;
	}
	if (plan.one)
		plan.count = jobs = 1;
	choose_some(&plan, some);
	umask(0);
	log_open("sim", plan.one ? LOG_LEVEL_INFO : (enum log_level)0);
	if (jobs > 1)
		return run_all(&plan, jobs);
	run(&plan);
	return 0;
}
