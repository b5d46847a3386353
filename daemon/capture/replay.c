/* SPDX-License-Identifier: MIT */

/*
 * The recording's own end (BYE) is not said, so that the daemon goes on answering from what was replayed until it is
 * stopped. A question is answered when all has been said.
 */

#include "daemon/capture/replay.h"

#include <event2/event.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/log.h"
#include "daemon/capture/speaker.h"
#include "daemon/cost.h"

#define FILE_BYTES_MAX    (4ull * 1024 * 1024 * 1024)
#define STOP_USEC         (30 * USEC_PER_SEC)
#define RECORDS_PER_TURN  4096u
#define PAUSE_USEC        1000 /* while the ledger is behind */
#define QUESTIONS_AT_ONCE 64u

struct replay {
	struct replay_options options;
	struct speaker *speaker;
	struct event *pump;
	struct buf recording; /* without its magic */
	size_t hello_size;    /* of the first record */
	size_t said;          /* bytes */
	uint64_t questions[QUESTIONS_AT_ONCE];
	size_t question_count;
};

static int read_file(int fd, struct buf *b)
{
	for (;;) {
		void *room = buf_reserve(b, 256 * 1024);
		ssize_t n;

		if (!room)
			return -ENOMEM;
		n = read(fd, room, 256 * 1024);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		buf_grow(b, (size_t)n);
		if (buf_size(b) > FILE_BYTES_MAX)
			return -EFBIG;
	}
}

/* Every record decodes, and the first is a HELLO. A last one that is cut is left out: the recorder was killed. */
static int check(struct replay *r)
{
	const uint8_t *bytes = buf_bytes(&r->recording);
	size_t size = buf_size(&r->recording), at = 0, used;
	struct record record;

	while (at < size) {
		int e = stream_get(bytes + at, size - at, &record, &used);

		if (e == 0) {
			log_warning(
				"the recording is cut off at byte %zu", at + STREAM_MAGIC_BYTES);
			buf_truncate(&r->recording, at);
			break;
		}
		if (e == 1 && at == 0 && record.type == RECORD_HELLO)
			r->hello_size = used;
		if (e == 1)
			record_done(&record);
		if (e < 0 || r->hello_size == 0) {
			log_error("the recording is damaged at byte %zu", at + STREAM_MAGIC_BYTES);
			return -EBADMSG;
		}
		at += used;
	}
	if (r->hello_size == 0) {
		log_error("the recording is empty");
		return -EBADMSG;
	}
	return 0;
}

static void answer(struct replay *r)
{
	struct record barrier = {.type = RECORD_BARRIER};

	barrier.barrier.capture = cost_of_self();
	barrier.barrier.now = clock_now();
	for (size_t i = 0; i < r->question_count; i++) {
		barrier.barrier.id = r->questions[i];
		if (speaker_say(r->speaker, &barrier) < 0)
			log_error("cannot answer a question");
	}
	r->question_count = 0;
}

/* Says the next record. 1: said or left out; 0: the ledger is behind; negative errno. */
static int say_next(struct replay *r)
{
	struct record record;
	size_t used;
	int e = stream_get(buf_bytes(&r->recording) + r->said, buf_size(&r->recording) - r->said,
		&record, &used);

	if (e <= 0)
		return -EBADMSG;
	e = record.type == RECORD_BYE || record.type == RECORD_BARRIER
		    ? 0
		    : speaker_say(r->speaker, &record);
	record_done(&record);
	if (e == -ENOBUFS)
		return 0;
	if (e < 0)
		return e;
	r->said += used;
	return 1;
}

static void on_pump(evutil_socket_t fd, short what, void *context)
{
	struct replay *r = context;
	struct timeval pause = {.tv_usec = 0};

	(void)fd;
	(void)what;
	(void)speaker_caught_up(r->speaker);
	for (unsigned i = 0; i < RECORDS_PER_TURN && r->said < buf_size(&r->recording); i++) {
		int e = say_next(r);

		if (e < 0) {
			log_error("cannot replay: %s", strerror(-e));
			return;
		}
		if (e == 0) {
			pause.tv_usec = PAUSE_USEC;
			break;
		}
	}
	if (r->said < buf_size(&r->recording))
		event_add(r->pump, &pause);
	else
		answer(r);
}

static void on_ready(void *context, struct ring_position kept _unused_)
{
	struct replay *r = context;
	const struct timeval now = {0};

	r->options.ready(r->options.context);
	event_add(r->pump, &now);
}

static void on_sync(void *context, uint64_t id)
{
	struct replay *r = context;

	if (r->question_count == QUESTIONS_AT_ONCE)
		return; /* control's own deadline answers it */
	r->questions[r->question_count++] = id;
	if (r->said == buf_size(&r->recording))
		answer(r);
}

static int replay_start(struct replay *r)
{
	const struct speaker_handler handler = {
		.context = r,
		.ready = on_ready,
		.sync = on_sync,
	};
	int e = read_file(r->options.fd, &r->recording);

	if (e < 0)
		return e;
	if (buf_size(&r->recording) < STREAM_MAGIC_BYTES ||
		memcmp(buf_bytes(&r->recording), STREAM_MAGIC, STREAM_MAGIC_BYTES) != 0) {
		log_error("this is no recording of portledgerd");
		return -EBADMSG;
	}
	buf_consume(&r->recording, STREAM_MAGIC_BYTES);
	e = check(r);
	if (e < 0)
		return e;
	r->speaker = speaker_new(r->options.base, &handler);
	r->pump = event_new(r->options.base, -1, 0, on_pump, r);
	return r->speaker && r->pump ? 0 : -ENOMEM;
}

int replay_new(const struct replay_options *options, struct replay **ret)
{
	struct replay *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->options = *options;
	e = replay_start(r);
	if (e < 0) {
		replay_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

int replay_link(struct replay *r, int fd)
{
	int e;

	if (r->said > 0) { /* nobody knows how much of it was stored, and twice would be wrong */
		(void)close(fd);
		log_error(
			"the ledger died while it was replayed to: replay it anew, with another --state");
		return -ECANCELED;
	}
	e = speaker_link(r->speaker, fd);
	if (e < 0)
		return e;
	e = say_next(r); /* the HELLO; the rest when the ledger is ready */
	return e < 0 ? e : 0;
}

void replay_stop(struct replay *r)
{
	speaker_bye(r->speaker, STOP_USEC);
}

struct replay *replay_free(struct replay *r)
{
	if (!r)
		return NULL;
	if (r->pump)
		event_free(r->pump);
	speaker_free(r->speaker);
	buf_done(&r->recording);
	free(r);
	return NULL;
}
