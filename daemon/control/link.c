/* SPDX-License-Identifier: MIT */

/*
 * Looks are numbered, upwards. An answer with number n answers every question that waits for n or less: what began
 * after the n-th was asked began after all earlier ones. One look is under way at a time; but one that is not answered
 * in time (a ledger that is not ready yet does not answer at all) no longer holds up the next.
 */

#include "daemon/control/link.h"

#include <event2/event.h>

#include "common/log.h"
#include "daemon/channel.h"

struct link {
	struct event_base *base;
	struct link_handler handler;
	struct channel *channel; /* NULL: no ledger */
	struct event *timer;     /* the first deadline */
	struct event *lost;      /* activated: those who wait are told that there is no ledger */
	uint64_t asked, answered;
	usec_t asked_boot; /* when `asked` was */
	bool following, known;
	struct committed last;               /* if `known`; owns its text */
	TAILQ_HEAD(waiters, waiter) waiters; /* by deadline */
};

static bool is_under_way(const struct link *l, usec_t now)
{
	return l->asked > l->answered && now - l->asked_boot < (usec_t)LIMIT_SYNC_USEC;
}

/* Who waits for the look that could not be asked for is answered without it, as if it were late. */
static void give_up(struct link *l, usec_t now)
{
	struct waiter *w;

	log_error("no memory to ask the ledger");
	l->answered = l->asked;
	TAILQ_FOREACH (w, &l->waiters, entry)
		if (w->look <= l->asked)
			w->deadline = now;
}

static void ask(struct link *l, usec_t now)
{
	const struct record r = {.type = RECORD_SYNC, .sync = ++l->asked};

	l->asked_boot = now;
	if (channel_put(l->channel, &r) < 0)
		give_up(l, now);
}

/* Asks if somebody waits for a look that is not asked for yet, and no other is under way. */
static void ask_next(struct link *l, usec_t now)
{
	const struct waiter *last = TAILQ_LAST(&l->waiters, waiters);

	if (l->channel && last && last->look > l->asked && !is_under_way(l, now))
		ask(l, now);
}

static void arm(struct link *l, usec_t now)
{
	const struct waiter *first = TAILQ_FIRST(&l->waiters);
	usec_t left = first ? usec_sub(first->deadline, now) : 0;
	const struct timeval wait = {.tv_sec = (time_t)(left / USEC_PER_SEC),
		.tv_usec = (suseconds_t)(left % USEC_PER_SEC) + 1};

	if (first)
		(void)event_add(l->timer, &wait);
	else
		(void)event_del(l->timer);
}

static void finish(struct link *l, struct waiter *w, enum look how)
{
	link_forget(l, w);
	w->done(w->context, how);
}

/* Ends the waits for looks up to `look`, whose deadline is not after `deadline`. Their owners may begin new ones, which
 * come behind. */
static void finish_all(struct link *l, uint64_t look, usec_t deadline, enum look how)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&l->waiters)) && w->look <= look && w->deadline <= deadline)
		finish(l, w, how);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct link *l = context;
	usec_t now = clock_now().boot;

	(void)fd;
	(void)what;
	finish_all(l, UINT64_MAX, now, LOOK_LATE);
	ask_next(l, now);
	arm(l, now);
}

static void on_lost(evutil_socket_t fd, short what, void *context)
{
	struct link *l = context;

	(void)fd;
	(void)what;
	if (!l->channel)
		finish_all(l, UINT64_MAX, USEC_UNSET, LOOK_NO_LEDGER);
	arm(l, clock_now().boot);
}

static void keep(struct link *l, const struct committed *c)
{
	char *degraded = c->degraded ? strdup(c->degraded) : NULL;

	free(l->last.degraded);
	l->last = *c;
	l->last.degraded = degraded;
	l->known = true;
}

static void on_record(void *context, const struct record *r, const void *bytes, size_t size)
{
	struct link *l = context;
	const struct committed *c = &r->committed;
	usec_t now = clock_now().boot;

	(void)bytes;
	(void)size;
	if (r->type != RECORD_COMMITTED) {
		log_error(
			"the ledger sent a record that is not its to send (type %d)", (int)r->type);
		return;
	}
	keep(l, c);
	if (c->id > 0 && c->id <= l->asked) {
		l->answered = MAX(l->answered, c->id);
		finish_all(l, c->id, USEC_UNSET, c->capture_answered ? LOOK_DONE : LOOK_PARTIAL);
		ask_next(l, now);
		arm(l, now);
	}
	/* every answer is a commit too */
	if (l->following)
		l->handler.committed(l->handler.context);
}

static void on_end(void *context, int error)
{
	struct link *l = context;

	if (error < 0)
		log_warning("the link to the ledger broke: %s", strerror(-error));
	l->channel = channel_free(l->channel);
	l->answered = l->asked;
	event_active(l->lost, EV_TIMEOUT, 0);
}

int link_new(struct event_base *base, const struct link_handler *handler, struct link **ret)
{
	_cleanup_(link_free_p) struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	TAILQ_INIT(&l->waiters);
	l->base = base;
	l->handler = *handler;
	l->timer = event_new(base, -1, 0, on_timer, l);
	l->lost = event_new(base, -1, 0, on_lost, l);
	if (!l->timer || !l->lost)
		return -ENOMEM;
	*ret = TAKE_PTR(l);
	return 0;
}

struct link *link_free(struct link *l)
{
	if (!l)
		return NULL;
	channel_free(l->channel);
	if (l->lost)
		event_free(l->lost);
	if (l->timer)
		event_free(l->timer);
	free(l->last.degraded);
	free(l);
	return NULL;
}

static void send_follow(struct link *l)
{
	const struct record r = {.type = RECORD_FOLLOW, .follow = l->following};

	if (l->channel && channel_put(l->channel, &r) < 0)
		log_error("no memory to follow the ledger");
}

void link_connect(struct link *l, int fd)
{
	const struct channel_handler handler = {.context = l, .record = on_record, .end = on_end};
	int r;

	l->channel = channel_free(l->channel);
	l->answered = l->asked;
	r = channel_new(l->base, fd, &handler, &l->channel);
	if (r < 0) {
		log_error("cannot link to the ledger: %s", strerror(-r));
		event_active(l->lost, EV_TIMEOUT, 0);
		return;
	}
	if (l->following)
		send_follow(l);
	/* Who still waits was answered by no one: it asks again. */
	if (!TAILQ_EMPTY(&l->waiters)) {
		usec_t now = clock_now().boot;

		l->asked = MAX(l->asked, TAILQ_LAST(&l->waiters, waiters)->look);
		ask(l, now);
		arm(l, now);
	}
}

void link_wait(struct link *l, struct waiter *w)
{
	usec_t now = clock_now().boot;

	assert(!w->waiting);
	w->waiting = true;
	w->deadline = now + LIMIT_SYNC_USEC;
	w->look = l->asked + 1;
	TAILQ_INSERT_TAIL(&l->waiters, w, entry);
	if (l->channel)
		ask_next(l, now);
	else
		event_active(l->lost, EV_TIMEOUT, 0);
	arm(l, now);
}

void link_forget(struct link *l, struct waiter *w)
{
	if (!w->waiting)
		return;
	w->waiting = false;
	TAILQ_REMOVE(&l->waiters, w, entry);
}

void link_follow(struct link *l, bool follow)
{
	if (l->following == follow)
		return;
	l->following = follow;
	send_follow(l);
}

bool link_is_up(const struct link *l)
{
	return l->channel != NULL;
}

const struct committed *link_last(const struct link *l)
{
	return l->known ? &l->last : NULL;
}
