/* SPDX-License-Identifier: MIT */

#include "daemon/capture/speaker.h"

#include "common/log.h"

struct speaker {
	struct speaker_handler handler;
	struct event_base *base;
	struct channel *channel; /* NULL: no ledger */
	bool ready, behind;
};

static void on_record(void *context, const struct record *r, const void *bytes, size_t size)
{
	struct speaker *s = context;

	(void)bytes;
	(void)size;
	if (r->type == RECORD_READY) {
		s->ready = true;
		s->handler.ready(s->handler.context, r->ready);
	} else if (r->type == RECORD_KEPT) {
		if (s->handler.kept)
			s->handler.kept(s->handler.context, r->kept);
	} else if (r->type == RECORD_WAITS) {
		if (s->handler.waits)
			s->handler.waits(s->handler.context);
	} else if (r->type == RECORD_SYNC) {
		s->handler.sync(s->handler.context, r->sync);
	} else {
		log_error(
			"the ledger sent a record that is not its to send (type %d)", (int)r->type);
	}
}

static void on_end(void *context, int error)
{
	struct speaker *s = context;

	if (error < 0)
		log_warning("the stream to the ledger broke: %s", strerror(-error));
	s->channel = channel_free(s->channel);
	s->ready = s->behind = false;
}

struct speaker *speaker_new(struct event_base *base, const struct speaker_handler *handler)
{
	struct speaker *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->base = base;
	s->handler = *handler;
	return s;
}

struct speaker *speaker_free(struct speaker *s)
{
	if (!s)
		return NULL;
	s->channel = channel_free(s->channel);
	free(s);
	return NULL;
}

int speaker_link(struct speaker *s, int fd)
{
	const struct channel_handler handler = {
		.context = s,
		.record = on_record,
		.end = on_end,
	};

	s->channel = channel_free(s->channel);
	s->ready = s->behind = false;
	return channel_new(s->base, fd, &handler, &s->channel);
}

int speaker_say(struct speaker *s, const struct record *r)
{
	if (!s->channel)
		return 0;
	if (s->behind || channel_queued(s->channel) > LIMIT_STREAM_BACKLOG) {
		s->behind = true;
		return -ENOBUFS;
	}
	return channel_put(s->channel, r);
}

bool speaker_is_ready(const struct speaker *s)
{
	return s->ready;
}

bool speaker_has_room(const struct speaker *s)
{
	return s->ready && !s->behind && channel_queued(s->channel) <= LIMIT_STREAM_BACKLOG / 2;
}

bool speaker_caught_up(struct speaker *s)
{
	if (!s->behind || !s->channel || channel_queued(s->channel) > LIMIT_STREAM_BACKLOG / 2)
		return false;
	s->behind = false;
	return true;
}

void speaker_bye(struct speaker *s, usec_t timeout_usec)
{
	const struct record bye = {.type = RECORD_BYE};

	if (!s->channel)
		return;
	if (channel_put(s->channel, &bye) < 0 || channel_drain(s->channel, timeout_usec) < 0)
		log_error("the ledger did not take the end of the stream");
}
