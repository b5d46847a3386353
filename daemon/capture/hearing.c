/* SPDX-License-Identifier: MIT */

/*
 * A notification has no time of its own: it is when it was read. So it is read whenever the loop is idle, and before and
 * after whatever takes long. It counts as prompt, and its time as exact, where nothing speaks against it: we were not
 * busy, nor waiting for a processor (/proc/self/schedstat), nor stopped or frozen (a tick was due); there were not more
 * processes that wanted to run than processors (/proc/loadavg), which would have kept the kernel's worker waiting, as it
 * may have been where it tells much at once.
 *
 * What the kernel could not keep for us, or we in the table, is lost without a number: a gap, and the next sweep soon.
 */

#include "daemon/capture/hearing.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/log.h"

/* What was heard at most so long after the kernel said it counts as exact. */
#define EXACT_USEC (5 * USEC_PER_MSEC)
#define TICK_USEC  (250 * USEC_PER_MSEC)
/* More than this many at once, and the kernel's worker may have been behind: then they tell of what went before. */
#define CROWD      100u
#define CROWD_USEC (10 * USEC_PER_MSEC)
/* So long before it was lost it may have happened. */
#define LATE_USEC (100 * USEC_PER_MSEC)
/* More ends than this do not wait for the timer. */
#define MANY (LIMIT_ENDS / 16)

struct hearing {
	struct hearing_options options;
	struct source_destroy *source;
	struct event *readable, *tick;
	int loadavg_fd; /* /proc/loadavg; -1: not readable */
	unsigned processors;
	int schedstat_fd;             /* /proc/self/schedstat; -1: this kernel has none */
	uint64_t waited_nsec;         /* for a processor, up to the last reading */
	usec_t awake;                 /* when we last ran */
	usec_t began;                 /* when the present reading did */
	bool own;                     /* what it reads has just come to us */
	bool prompt;                  /* and nothing speaks against that it has just happened */
	usec_t crowd_from;            /* when those of the present crowd began to come */
	unsigned crowd;               /* how many they are */
	usec_t heard;                 /* when nothing waited any more, the last time */
	usec_t lost_from, lost_until; /* lost_until 0: nothing was */
	bool full;                    /* the table takes no more of what is being read */
};

/* Counts what comes at once. What came with a crowd may be late, all of it. */
static bool is_crowd(struct hearing *h, usec_t at)
{
	if (at - h->crowd_from > CROWD_USEC) {
		h->crowd_from = at;
		h->crowd = 0;
	}
	if (++h->crowd == CROWD)
		table_ends_doubt(h->options.table, usec_sub(h->crowd_from, CROWD_USEC));
	return h->crowd >= CROWD;
}

static int on_end(void *context, const struct socket_end *end)
{
	struct hearing *h = context;
	struct socket_end e = *end;
	usec_t at = clock_boot();
	/* more comes during a long reading */
	bool own = h->own && at - h->began <= EXACT_USEC;
	bool prompt = !is_crowd(h, at) && h->prompt && own;
	int r;

	if (source_diag_is_probe(&end->row.local.address))
		return 0;
	e.older = e.evidence == END_UNUSED && !h->options.bound_only;
	r = table_ended(
		h->options.table, &e, at, own ? usec_sub(at, EXACT_USEC) : h->heard, prompt);
	if (r < 0)
		h->full = true;
	return 0; /* the rest is read all the same: the next sweep makes room */
}

static void note_lost(struct hearing *h, usec_t now)
{
	table_ends_doubt(h->options.table, usec_sub(h->heard, LATE_USEC));
	if (h->lost_until == 0)
		h->lost_from = usec_sub(h->heard, LATE_USEC);
	h->lost_until = now;
}

/* How long this process had to wait for a processor since the last question; 0 where that is not told. */
static usec_t waited(struct hearing *h)
{
	unsigned long long ran, wait;
	uint64_t before = h->waited_nsec;
	char text[64];
	ssize_t n = h->schedstat_fd < 0 ? -1 : pread(h->schedstat_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu", &ran, &wait) != 2 || wait < before)
		return 0;
	h->waited_nsec = wait;
	return (wait - before) / 1000;
}

/* Do more want to run than there are processors, beside us and the kernel's worker? */
static bool is_crowded(const struct hearing *h)
{
	unsigned running;
	char text[64];
	ssize_t n = h->loadavg_fd < 0 ? -1 : pread(h->loadavg_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return true;
	text[n] = '\0';
	return sscanf(text, "%*f %*f %*f %u", &running) != 1 || running > h->processors + 1;
}

/* Has what is read at `now` just come to us? Not if we did other things `since`, waited for a processor or did not run. */
static bool is_own(struct hearing *h, usec_t now, usec_t since)
{
	return waited(h) <= EXACT_USEC && now - h->awake <= TICK_USEC + EXACT_USEC &&
	       (since == USEC_UNSET || now - since <= EXACT_USEC);
}

void hearing_read(struct hearing *h, usec_t since)
{
	usec_t now = clock_boot();
	int r;

	h->began = now;
	h->own = is_own(h, now, since);
	h->prompt = h->own && !is_crowded(h);
	h->awake = now;
	h->full = false;
	r = source_destroy_read(h->source, on_end, h);
	if (r < 0 && r != -ENOBUFS)
		log_error("cannot read the kernel's notifications: %s", strerror(-r));
	if (r < 0 || h->full)
		note_lost(h, clock_boot());
	else
		h->heard = now;
	if (h->lost_until != 0 || table_ends(h->options.table) >= MANY)
		h->options.sweep_wanted(h->options.context);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	hearing_read(context, USEC_UNSET);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct hearing *h = context;
	usec_t now = clock_boot();

	(void)fd;
	(void)what;
	if (now - h->awake > TICK_USEC + EXACT_USEC)
		hearing_read(h, USEC_UNSET); /* what waits by now has waited */
	h->awake = now;
}

bool hearing_take_lost(struct hearing *h, usec_t *ret_from, usec_t *ret_until)
{
	if (h->lost_until == 0)
		return false;
	*ret_from = h->lost_from;
	*ret_until = h->lost_until;
	h->heard = h->lost_until;
	h->lost_until = 0;
	return true;
}

int hearing_watch(struct hearing *h, const struct port_ranges *ranges)
{
	return source_destroy_watch(h->source, ranges);
}

static int hearing_start(struct hearing *h)
{
	const struct timeval tick = {.tv_usec = TICK_USEC};

	h->readable = event_new(h->options.base, source_destroy_fd(h->source), EV_READ | EV_PERSIST,
		on_readable, h);
	h->tick = event_new(h->options.base, -1, EV_PERSIST, on_tick, h);
	if (!h->readable || !h->tick || event_add(h->readable, NULL) < 0 ||
		event_add(h->tick, &tick) < 0)
		return -ENOMEM;
	return 0;
}

int hearing_new(const struct hearing_options *options, struct hearing **ret)
{
	struct hearing *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->options = *options;
	h->heard = h->awake = clock_boot();
	h->schedstat_fd = openat(options->proc_fd, "self/schedstat", O_RDONLY | O_CLOEXEC);
	h->loadavg_fd = openat(options->proc_fd, "loadavg", O_RDONLY | O_CLOEXEC);
	h->processors = (unsigned)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	r = source_destroy_open(options->ranges, &h->source);
	if (r == 0)
		r = hearing_start(h);
	if (r == 0)
		table_hear(options->table);
	if (r < 0) {
		hearing_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

struct hearing *hearing_free(struct hearing *h)
{
	if (!h)
		return NULL;
	if (h->readable)
		event_free(h->readable);
	if (h->tick)
		event_free(h->tick);
	close_p(&h->schedstat_fd);
	close_p(&h->loadavg_fd);
	source_destroy_free(h->source);
	free(h);
	return NULL;
}
