/* SPDX-License-Identifier: MIT */

/*
 * The whole protocol, with all that can come between: several clients at once whose bytes come in pieces, who stop reading, who go in
 * the middle of a call or of an answer, and a ledger at the other side that says what it wants, comes and goes; while time passes in
 * leaps, and the clock on the wall is set. The input is a list of steps: a byte that says what happens and to whom, then, where bytes
 * come, their number and they.
 */

#include "tests/fuzz/fuzz.h"

#include "tests/fuzz/control-world.h"

#include <sys/syscall.h>
#include <time.h>

#define CLIENTS 4u
#define ROOM    16384u

enum step {
	STEP_SEND,
	STEP_READ,
	STEP_CLOSE,
	STEP_SHUT,         /* no more calls, but the answers are read */
	STEP_LEDGER_SAYS,  /* bytes of the stream between ledger and control */
	STEP_LEDGER_COMES, /* in place of the one that there was */
	STEP_LEDGER_GOES,
	STEP_TURN,
	STEP_COUNT,
};
#define STEP_CLOCK 0xf0 /* and above: a byte follows, as leap() has it */

/* Our clocks: the boottime and libevent's clock are ahead of the kernel's by as much as has passed, which is never taken back. */
static struct {
	usec_t passed, wall;
} clocks;
#define WALL_FIRST UINT64_C(1700000009000000) /* just after the database's claims */

struct now __wrap_clock_now(void);
struct now __real_clock_now(void);

struct now __wrap_clock_now(void)
{
	return (struct now){.boot = __real_clock_now().boot + clocks.passed, .wall = clocks.wall};
}

/* In place of libc's, for libevent; of the other clocks libFuzzer has use. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, id, ret);

	if (r == 0 && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE))
		ret->tv_sec += (time_t)(clocks.passed / USEC_PER_SEC);
	return r;
}

struct input {
	const uint8_t *at, *end;
};

struct session {
	int fd; /* -1: not connected */
	struct buf replies;
};

static size_t take_size(struct input *in)
{
	size_t size = in->at < in->end ? *in->at++ : 0;

	/* the upper half of the byte's values are longer pieces */
	size = size < 128 ? size : (size - 127) * 64;
	return MIN(size, (size_t)(in->end - in->at));
}

/* A power of two of microseconds, up to 35 years: passes, or is what the clock on the wall is set forward or back by. */
static void leap(struct input *in)
{
	uint8_t how = in->at < in->end ? *in->at++ : 0;
	usec_t by = UINT64_C(1) << (how & 0x3f) % 51;

	if (how & 0x80)
		clocks.passed += MIN(by, USEC_PER_DAY);
	clocks.wall = how & 0x40 ? usec_sub(clocks.wall, by) : clocks.wall + by;
}

static void turn(void)
{
	(void)event_base_loop(world.base, EVLOOP_NONBLOCK);
}

static void end_session(struct session *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
	buf_done(&s->replies);
	s->replies = (struct buf){0};
}

static void read_some(struct session *s)
{
	void *room = buf_reserve(&s->replies, ROOM);
	ssize_t n;

	assert(room);
	n = s->fd < 0 ? -1 : recv(s->fd, room, ROOM, MSG_DONTWAIT);
	if (n > 0) {
		buf_grow(&s->replies, (size_t)n);
		check_replies(&s->replies);
	} else if (n == 0) {
		end_session(s);
	}
}

static void send_some(struct session *s, struct input *in)
{
	size_t size = take_size(in);

	if (s->fd < 0)
		s->fd = connect_client();
	(void)!send(s->fd, in->at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	in->at += size;
}

static void connect_ledger(int *ledger)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	if (*ledger >= 0)
		(void)close(*ledger);
	*ledger = pair[0];
	link_connect(world.link, pair[1]);
}

static void ledger_says(int ledger, struct input *in)
{
	size_t size = take_size(in);
	char heard[256];

	if (ledger >= 0) {
		(void)!send(ledger, in->at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (recv(ledger, heard, sizeof(heard), MSG_DONTWAIT) > 0)
			;
	}
	in->at += size;
}

static void do_step(struct session *sessions, int *ledger, struct input *in)
{
	uint8_t what = *in->at++;
	struct session *s = &sessions[what / STEP_COUNT % CLIENTS];

	if (what >= STEP_CLOCK) {
		leap(in);
		turn();
		return;
	}
	switch ((enum step)(what % STEP_COUNT)) {
	case STEP_SEND:
		send_some(s, in);
		break;
	case STEP_READ:
		read_some(s);
		break;
	case STEP_CLOSE:
		end_session(s);
		break;
	case STEP_SHUT:
		if (s->fd >= 0)
			(void)shutdown(s->fd, SHUT_WR);
		break;
	case STEP_LEDGER_SAYS:
		ledger_says(*ledger, in);
		break;
	case STEP_LEDGER_COMES:
		connect_ledger(ledger);
		break;
	case STEP_LEDGER_GOES:
		if (*ledger >= 0)
			(void)close(*ledger);
		*ledger = -1;
		break;
	case STEP_TURN:
	case STEP_COUNT:
		break;
	}
	turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct session sessions[CLIENTS] = {{-1, {0}}, {-1, {0}}, {-1, {0}}, {-1, {0}}};
	struct input in = {data, data + size};
	int ledger = -1;

	clocks.wall = WALL_FIRST;
	make_world();
	while (in.at < in.end)
		do_step(sessions, &ledger, &in);
	for (unsigned i = 0; i < CLIENTS; i++) {
		read_some(&sessions[i]);
		end_session(&sessions[i]);
	}
	if (ledger >= 0)
		(void)close(ledger);
	/* the next input begins with nobody there */
	for (unsigned i = 0; i < 2 * CLIENTS; i++)
		turn();
	return 0;
}
