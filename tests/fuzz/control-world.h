/* SPDX-License-Identifier: MIT */
#pragma once

/* The real server, methods and queries over a small database, for bytes of clients: what the targets about control share. */

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/varlink.h"
#include "daemon/control/methods.h"
#include "daemon/ledger/store.h"
#include "daemon/schema.h"

#define CLAIMS 300u /* more than a page */

static struct {
	char state[64];
	struct sockaddr_un address;
	socklen_t address_size;
	struct event_base *base;
	struct query *query;
	struct link *link;
	struct methods *methods;
	struct server *server;
	int listen_fd;
} world;

static inline void remove_state(void)
{
	static const char *const files[] = {
		SCHEMA_FILE, SCHEMA_FILE "-wal", SCHEMA_FILE "-shm", "lock", "heartbeat"};
	char path[128];

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", world.state, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(world.state);
}

static inline char *copy(const char *text)
{
	char *fresh = text ? strdup(text) : NULL;

	if (text && !fresh)
		abort();
	return fresh;
}

/* Of several programs, one of which has no name that is known, and one nothing but its owner. NULL: nobody is known. */
static inline struct process *make_process(unsigned i)
{
	static const struct {
		int32_t pid;
		uint32_t uid;
		const char *comm, *exe, *unit;
	} processes[] = {{41, 0, "curl", "/usr/bin/curl", "session-3.scope"},
		{42, 33, "node", "/opt/web/node", "web-api.service"},
		{43, 33, "node", "/usr/bin/node", NULL}, {44, 998, NULL, NULL, "celery@1.service"},
		{0, 1000, NULL, NULL, NULL}};
	struct process *p;

	if (i >= ELEMENTSOF(processes))
		return NULL;
	p = process_new();
	if (!p)
		abort();
	p->pid = processes[i].pid;
	p->uid = processes[i].uid;
	p->start_boot = p->pid ? 500000 : USEC_UNSET;
	p->comm = copy(processes[i].comm);
	p->exe = copy(processes[i].exe);
	p->unit = copy(processes[i].unit);
	return p;
}

static inline void put_claim(struct store *s, unsigned i)
{
	_cleanup_(process_unref_p) struct process *opener = make_process(i % 7);
	struct claim c = {
		.cookie = i + 1,
		.protocol = (uint8_t)(i % PROTOCOL_COUNT),
		.role = (uint8_t)(i % ROLE_COUNT),
		.local = {.address = {.family = FAMILY_IPV4, .bytes = {127, 0, 0, 1}},
			.port = (uint16_t)(60000 + i % 100)},
		.remote = {.address = {.family = i % 4 ? FAMILY_IPV4 : FAMILY_NONE,
				   .bytes = {10, 0, 0, (uint8_t)(i % 4)}},
			.port = i % 4 ? 443 : 0},
		.opener = opener,
		.opened_boot = 1000000 + i * 1000,
		.opened_after_boot = 1000000,
		.opened_wall = 1700000000000000 + i * 1000,
		.closed_boot = i % 3 ? 2000000 + i * 1000 : USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
		.released_boot = i % 3 ? 2000000 + i * 1000 : USEC_UNSET,
	};
	int r;

	store_number(s, &c);
	r = i % 3 ? store_put_released(s, &c) : store_put_open(s, &c);
	assert(r == 0);
}

static inline void make_database(void)
{
	const struct coverage coverage = {.interval_usec = USEC_PER_SEC,
		.ranges = {.range = {{32768, 65535}}, .count = 1},
		.ephemeral = {32768, 60999},
		.protocols = 15};
	const struct now now = {.boot = 1000000, .wall = 1700000000000000};
	const uint8_t boot_id[BOOT_ID_BYTES] = {1};
	struct store_session before;
	struct store *s;
	int32_t holder;
	int fd, r;

	(void)snprintf(world.state, sizeof(world.state), "/tmp/portledger-fuzz.XXXXXX");
	if (!mkdtemp(world.state))
		abort();
	(void)atexit(remove_state);
	fd = open(world.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = store_open(fd, boot_id, now, "fuzz", &s, &before, &holder);
	assert(r == 0);
	r = store_put_coverage(s, &coverage, now.wall);
	assert(r == 0);
	for (unsigned i = 0; i < CLAIMS; i++)
		put_claim(s, i);
	r = store_stop(s, (struct now){.boot = 9000000, .wall = 1700000008000000});
	assert(r == 0);
	store_free(s);
	(void)close(fd);
}

static inline void on_committed(void *context)
{
	(void)context;
	methods_committed(world.methods);
}

static inline void make_server(void)
{
	struct server_handler handler;
	char path[128];
	int r;

	world.base = event_base_new();
	(void)snprintf(path, sizeof(path), "%s/%s", world.state, SCHEMA_FILE);
	r = query_new(path, &world.query);
	assert(r == 0);
	r = link_new(world.base, &(struct link_handler){.committed = on_committed}, &world.link);
	assert(r == 0);
	r = methods_new(
		&(struct methods_options){world.link, world.query, world.state}, &world.methods);
	assert(r == 0);
	world.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	world.address.sun_family = AF_UNIX;
	/* autobind: an abstract name that nobody else has (unix(7)) */
	r = bind(world.listen_fd, (struct sockaddr *)&world.address, sizeof(sa_family_t));
	assert(r == 0);
	world.address_size = sizeof(world.address);
	r = getsockname(world.listen_fd, (struct sockaddr *)&world.address, &world.address_size);
	assert(r == 0);
	r = listen(world.listen_fd, 8);
	assert(r == 0);
	handler = methods_handler(world.methods);
	r = server_new(world.base, world.listen_fd, &handler, &world.server);
	assert(r == 0);
}

/* Once, at the first input. */
static inline void make_world(void)
{
	if (world.base)
		return;
	make_database();
	make_server();
}

static inline int connect_client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&world.address, world.address_size) < 0)
		abort();
	return fd;
}

/* Each is one that our own client takes. */
static inline void check_replies(struct buf *b)
{
	size_t size;

	while (varlink_frame(b, LIMIT_REPLY_BYTES, &size) == 1) {
		struct varlink_reply reply = {0};
		int r = varlink_parse_reply((const char *)buf_bytes(b), size, &reply);

		assert(r == 0);
		varlink_reply_done(&reply);
		buf_consume(b, size + 1);
	}
}
