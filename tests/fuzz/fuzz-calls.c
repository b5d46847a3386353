/* SPDX-License-Identifier: MIT */

/* Bytes as a client of the control socket sends them, against the real server, methods and queries over a small
 * database. Whatever comes, every reply is a message that our own client takes. */

#include "tests/fuzz/fuzz.h"

#include "tests/fuzz/control-world.h"

#define IDLE_TURNS 64u /* a follower hears nothing for ever: then we go */

/* Lets the server work, and takes what it sends, until it closes the connection or has nothing to say. */
static void take_replies(int fd)
{
	struct buf replies = {0};

	for (unsigned idle = 0; idle < IDLE_TURNS; idle++) {
		void *room;
		ssize_t n;

		(void)event_base_loop(world.base, EVLOOP_NONBLOCK);
		room = buf_reserve(&replies, 65536);
		assert(room);
		n = recv(fd, room, 65536, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0) {
			idle = 0;
			buf_grow(&replies, (size_t)n);
		}
		check_replies(&replies);
	}
	buf_done(&replies);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd;

	make_world();
	fd = connect_client();
	(void)!send(
		fd, data, MIN(size, (size_t)LIMIT_FRAME_BYTES * 2), MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	take_replies(fd);
	(void)close(fd);
	return 0;
}
