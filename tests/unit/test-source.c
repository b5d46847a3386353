/* SPDX-License-Identifier: MIT */

/*
 * The filter by a table; the sources against files of our own, and against real sockets in a
 * network namespace of our own, so that what is on the machine does not matter and nothing is left
 * behind.
 */

#include "common/base.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "daemon/capture/source.h"

#define ALL ((1u << PROTOCOL_COUNT) - 1)

static const struct port_ranges everything = {.range = {{1, UINT16_MAX}}, .count = 1};

/* ---- diag_filter ---- */

static const struct port_ranges filters[] = {
	{.range = {{1, 65535}}, .count = 1},
	{.range = {{49152, 65535}}, .count = 1},
	{.range = {{5000, 5000}}, .count = 1},
	{.range = {{100, 199}, {300, 399}}, .count = 2},
	{.range = {{100, 199}, {200, 200}, {65535, 65535}}, .count = 3},
	{.range = {{1, 1}, {3, 3}, {5, 5}, {7, 7}, {9, 9}, {11, 11}, {13, 13}, {15, 15}, {17, 17},
		 {19, 19}, {21, 21}, {23, 23}, {25, 25}, {27, 27}, {29, 29}, {31, 65535}},
		.count = 16},
};

/* Runs a filter as the kernel does (net/ipv4/inet_diag.c), and holds every step to its audit. */
static bool passes(const uint8_t *code, size_t size, uint16_t port)
{
	size_t at = 0;

	while (at < size) {
		struct inet_diag_bc_op op, operand;
		bool yes = false;

		assert_true(at % 4 == 0 && at + sizeof(op) <= size);
		memcpy(&op, code + at, sizeof(op));
		if (op.code != INET_DIAG_BC_JMP) {
			assert_true(at + 2 * sizeof(op) <= size);
			memcpy(&operand, code + at + sizeof(op), sizeof(operand));
			assert_true(op.code == INET_DIAG_BC_S_GE || op.code == INET_DIAG_BC_S_LE);
			yes = op.code == INET_DIAG_BC_S_GE ? port >= operand.no
							   : port <= operand.no;
		}
		at += yes ? op.yes : op.no;
	}
	assert_true(at == size || at == size + 4);
	return at == size;
}

static void test_filters(void **state)
{
	uint8_t code[DIAG_FILTER_BYTES_MAX];

	(void)state;
	assert_int_equal(diag_filter(&(struct port_ranges){0}, code), 0);
	assert_int_equal(diag_filter(&filters[0], code), 16);
	for (size_t i = 0; i < ELEMENTSOF(filters); i++) {
		size_t size = diag_filter(&filters[i], code);

		for (uint32_t port = 0; port <= UINT16_MAX; port++)
			if (passes(code, size, (uint16_t)port) !=
				port_ranges_contain(&filters[i], (uint16_t)port))
				fail_msg("filter %zu, port %u", i, port);
	}
}

/* ---- a made /proc ---- */

#define TAIL    " 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0"
#define HEADING "  sl  local_address rem_address   st\n"
#define LINE    "   0: 0100007F:C350 00000000:0000 0A" TAIL "\n"
#define OTHER   "   1: 0100007F:C351 0100007F:0050 01" TAIL "\n"

struct rows {
	size_t count;
	struct socket_row row[4096];
	size_t stop_at; /* 0: never */
};

static int collect(void *context, const struct socket_row *row)
{
	struct rows *rows = context;

	assert_true(rows->count < ELEMENTSOF(rows->row));
	rows->row[rows->count++] = *row;
	return rows->count == rows->stop_at ? 7 : 0;
}

static struct rows *rows_new(void)
{
	struct rows *rows = calloc(1, sizeof(*rows));

	assert_non_null(rows);
	return rows;
}

static void write_file(int directory, const char *path, const char *text)
{
	_cleanup_(close_p) int fd =
		openat(directory, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void test_made_files(void **state)
{
	char path[] = "/tmp/test-source-XXXXXX";
	_cleanup_(free_p) struct rows *rows = rows_new();
	_cleanup_(close_p) int fd = -1;
	struct source_facts facts;
	uint32_t protocols = 0;
	void *source = NULL;

	(void)state;
	assert_non_null(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(source_procnet_open(fd, &source, &facts), -ENOENT);
	assert_int_equal(mkdirat(fd, "net", 0700), 0);
	write_file(fd, "net/tcp", HEADING LINE OTHER);
	write_file(fd, "net/udp", HEADING);
	assert_int_equal(source_procnet_open(fd, &source, &facts), 0);
	assert_int_equal(facts.kind, SOURCE_PROCNET);
	assert_int_equal(facts.protocols, 1u << PROTOCOL_TCP | 1u << PROTOCOL_UDP);
	assert_false(facts.bound_only);
	assert_int_equal(
		source_procnet_ops.read(source, &everything, collect, rows, &protocols), 0);
	assert_int_equal(protocols, ALL);
	assert_int_equal(rows->count, 2);
	rows->count = 0;
	assert_int_equal(source_procnet_ops.read(source,
				 &(struct port_ranges){.range = {{50001, 50001}}, .count = 1},
				 collect, rows, &protocols),
		0);
	assert_int_equal(rows->count, 1);
	rows->count = 0;
	assert_int_equal(source_procnet_ops.read_listeners(source, &everything, collect, rows), 0);
	assert_int_equal(rows->count, 1);
	rows->stop_at = 2;
	protocols = 0;
	assert_int_equal(
		source_procnet_ops.read(source, &everything, collect, rows, &protocols), 7);
	assert_int_equal(protocols, 0);
	rows->stop_at = 0;
	/* a line that is none, an end within a line: not read whole; the other rows still count */
	rows->count = 0;
	write_file(fd, "net/tcp", HEADING LINE "garbage\n" OTHER);
	assert_int_equal(
		source_procnet_ops.read(source, &everything, collect, rows, &protocols), 0);
	assert_int_equal(protocols, ALL & ~(1u << PROTOCOL_TCP));
	assert_int_equal(rows->count, 2);
	write_file(fd, "net/tcp", HEADING LINE "   1: 01");
	assert_int_equal(
		source_procnet_ops.read(source, &everything, collect, rows, &protocols), 0);
	assert_int_equal(protocols, ALL & ~(1u << PROTOCOL_TCP));
	source_procnet_ops.free(source);
	assert_int_equal(unlinkat(fd, "net/tcp", 0), 0);
	assert_int_equal(unlinkat(fd, "net/udp", 0), 0);
	assert_int_equal(unlinkat(fd, "net", AT_REMOVEDIR), 0);
	assert_int_equal(rmdir(path), 0);
}

/* ---- real sockets ---- */

/* A socket that was made, and what a source must say of it. */
struct made {
	int fd;
	enum protocol protocol;
	uint8_t state;
	bool mptcp_half;                       /* shown as TCP too: its subflow */
	struct sockaddr_storage local, remote; /* remote: family 0 where there is none */
};

struct live {
	void *source;
	struct source_facts facts;
	struct rows *rows;
	struct made made[64];
	size_t count;
};

static void bring_up_loopback(void)
{
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &r), 0);
}

/* A namespace of our own: as root, or in a user namespace where that is allowed. */
static bool enter_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	bring_up_loopback();
	return true;
}

static int live_setup(void **state)
{
	_cleanup_(free_p) struct live *l = calloc(1, sizeof(*l));
	struct rlimit files;

	/* test_many has more descriptors than the usual soft limit */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	/* in a new namespace for each test */
	if (!l || !enter_namespace())
		return 0;
	l->rows = rows_new();
	assert_int_equal(source_diag_open(&l->source, &l->facts), 0);
	*state = TAKE_PTR(l);
	return 0;
}

static int live_teardown(void **state)
{
	struct live *l = *state;

	if (!l)
		return 0;
	for (size_t i = 0; i < l->count; i++)
		close(l->made[i].fd);
	source_diag_ops.free(l->source);
	free(l->rows);
	free(l);
	return 0;
}

/* Without a namespace of its own a test of real sockets would see those of the machine. */
static struct live *live_of(void **state)
{
	if (!*state) {
		print_message("cannot run here: a network namespace takes CAP_SYS_ADMIN\n");
		skip();
	}
	return *state;
}

static struct sockaddr_storage address_of(const char *text, uint16_t port)
{
	struct sockaddr_storage a = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
	}
	return a;
}

static uint16_t port_of(const struct sockaddr_storage *a)
{
	return ntohs(a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_port
					     : ((const struct sockaddr_in6 *)a)->sin6_port);
}

static struct endpoint endpoint_of(const struct sockaddr_storage *a)
{
	const void *bytes = a->ss_family == AF_INET
				    ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
				    : (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr;

	return (struct endpoint){
		.address = address_from_kernel(a->ss_family, bytes),
		.port = a->ss_family ? port_of(a) : 0,
	};
}

/* Remembers a socket as it is now. */
static struct made *made(struct live *l, int fd, enum protocol protocol, uint8_t state)
{
	struct made *m = &l->made[l->count++];
	socklen_t size = sizeof(m->local), remote = sizeof(m->remote);

	assert_true(fd >= 0 && l->count <= ELEMENTSOF(l->made));
	*m = (struct made){.fd = fd, .protocol = protocol, .state = state};
	assert_int_equal(getsockname(fd, (struct sockaddr *)&m->local, &size), 0);
	(void)getpeername(fd, (struct sockaddr *)&m->remote, &remote);
	m->mptcp_half = protocol == PROTOCOL_MPTCP;
	return m;
}

static int ip_number(enum protocol p)
{
	static const int numbers[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_MPTCP};

	return numbers[p];
}

static int new_socket(int family, enum protocol p)
{
	bool stream = p == PROTOCOL_TCP || p == PROTOCOL_MPTCP;

	return socket(family, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, ip_number(p));
}

static int bound_socket(const char *address, uint16_t port, enum protocol p)
{
	struct sockaddr_storage a = address_of(address, port);
	int fd = new_socket(a.ss_family, p);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static struct made *make_bound(struct live *l, const char *address, enum protocol p, uint8_t state)
{
	return made(l, bound_socket(address, 0, p), p, state);
}

static struct made *make_listener(struct live *l, const char *address, enum protocol p)
{
	int fd = bound_socket(address, 0, p);

	assert_int_equal(listen(fd, 16), 0);
	return made(l, fd, p, TCP_LISTEN);
}

static struct made *make_client(struct live *l, const char *address, uint16_t port, enum protocol p)
{
	struct sockaddr_storage a = address_of(address, port);
	int fd = new_socket(a.ss_family, p);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return made(l, fd, p, TCP_ESTABLISHED);
}

static struct made *make_served(struct live *l, const struct made *listener)
{
	return made(l, accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC), listener->protocol,
		TCP_ESTABLISHED);
}

static size_t read_rows(struct live *l, const struct source_ops *ops, void *source,
	const struct port_ranges *ranges)
{
	uint32_t protocols = 0;

	l->rows->count = 0;
	assert_int_equal(ops->read(source, ranges, collect, l->rows, &protocols), 0);
	assert_int_equal(protocols, ALL);
	return l->rows->count;
}

static bool row_is(const struct socket_row *row, const struct made *m, enum protocol protocol)
{
	struct endpoint local = endpoint_of(&m->local), remote = endpoint_of(&m->remote);

	return row->protocol == protocol && row->local.port == local.port &&
	       address_equal(&row->local.address, &local.address) &&
	       row->remote.port == remote.port &&
	       address_equal(&row->remote.address, &remote.address);
}

/* The one row of a socket, with all that it must say. `cookies`: they are real. */
static void expect_made(struct live *l, const struct made *m, enum protocol protocol, bool cookies)
{
	const struct socket_row *found = NULL;
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);
	struct stat st;

	for (size_t i = 0; i < l->rows->count; i++) {
		if (!row_is(&l->rows->row[i], m, protocol))
			continue;
		assert_null(found);
		found = &l->rows->row[i];
	}
	if (!found) {
		fail_msg("a socket was not shown");
		return;
	}
	assert_int_equal(fstat(m->fd, &st), 0);
	assert_int_equal(getsockopt(m->fd, SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
	assert_int_equal(found->inode, st.st_ino);
	assert_int_equal(found->uid, getuid());
	assert_int_equal(found->state, m->state);
	assert_false(found->minisock);
	if (!cookies)
		assert_int_equal(found->cookie, UINT64_C(1) << 63 | st.st_ino);
	else if (protocol == m->protocol)
		assert_int_equal(found->cookie, cookie);
	else
		assert_int_not_equal(found->cookie, cookie); /* a subflow's own */
}

/* Every kind of socket that both sources show, but TIME_WAIT. */
static void make_every_kind(struct live *l)
{
	const struct made *listener;

	listener = make_listener(l, "127.0.0.1", PROTOCOL_TCP);
	make_client(l, "127.0.0.1", port_of(&listener->local), PROTOCOL_TCP);
	make_served(l, listener);
	listener = make_listener(l, "::1", PROTOCOL_TCP);
	make_client(l, "::1", port_of(&listener->local), PROTOCOL_TCP);
	make_served(l, listener);
	listener = make_listener(l, "::", PROTOCOL_TCP); /* dual stack */
	make_client(l, "::ffff:127.0.0.1", port_of(&listener->local), PROTOCOL_TCP);
	make_served(l, listener);
	make_client(l, "127.0.0.1", port_of(&listener->local), PROTOCOL_TCP);
	make_served(l, listener);
	listener = make_bound(l, "127.0.0.1", PROTOCOL_UDP, TCP_CLOSE);
	make_client(l, "127.0.0.1", port_of(&listener->local), PROTOCOL_UDP);
	make_bound(l, "::1", PROTOCOL_UDP, TCP_CLOSE);
	make_bound(l, "::ffff:127.0.0.1", PROTOCOL_UDP, TCP_CLOSE);
	make_client(l, "::ffff:127.0.0.1", port_of(&listener->local), PROTOCOL_UDP);
	if (l->facts.protocols & 1u << PROTOCOL_UDPLITE) {
		make_bound(l, "127.0.0.1", PROTOCOL_UDPLITE, TCP_CLOSE);
		make_bound(l, "::1", PROTOCOL_UDPLITE, TCP_CLOSE);
	}
}

static void make_mptcp(struct live *l)
{
	const struct made *listener = make_listener(l, "127.0.0.1", PROTOCOL_MPTCP);

	make_client(l, "127.0.0.1", port_of(&listener->local), PROTOCOL_MPTCP);
	make_served(l, listener);
	listener = make_listener(l, "::1", PROTOCOL_MPTCP);
	make_client(l, "::1", port_of(&listener->local), PROTOCOL_MPTCP);
	make_served(l, listener);
}

/* A UDP socket that got its port from sendto(2): bound like any other. */
static void make_autobound(struct live *l)
{
	struct sockaddr_storage to = address_of("127.0.0.1", 9);
	int fd = new_socket(AF_INET, PROTOCOL_UDP);

	assert_int_equal(sendto(fd, "", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	made(l, fd, PROTOCOL_UDP, TCP_CLOSE);
}

static void test_every_kind(void **state)
{
	struct live *l = live_of(state);
	size_t rows;

	assert_int_equal(read_rows(l, &source_diag_ops, l->source, &everything), 0);
	make_autobound(l);
	make_every_kind(l);
	if (l->facts.bound_only) {
		make_bound(l, "127.0.0.1", PROTOCOL_TCP, TCP_CLOSE);
		make_bound(l, "::", PROTOCOL_TCP, TCP_CLOSE);
	}
	rows = l->count;
	if (l->facts.protocols & 1u << PROTOCOL_MPTCP) {
		make_mptcp(l);
		rows += 2 * (l->count - rows);
	}
	assert_int_equal(read_rows(l, &source_diag_ops, l->source, &everything), rows);
	for (size_t i = 0; i < l->count; i++) {
		expect_made(l, &l->made[i], l->made[i].protocol, true);
		if (l->made[i].mptcp_half)
			expect_made(l, &l->made[i], PROTOCOL_TCP, true);
	}
	/* MPTCP comes before TCP, and TCP's listeners before its connections */
	for (size_t i = 1; i < l->rows->count; i++) {
		const struct socket_row *a = &l->rows->row[i - 1], *b = &l->rows->row[i];

		if (b->protocol == PROTOCOL_MPTCP)
			assert_int_equal(a->protocol, PROTOCOL_MPTCP);
		if (b->protocol == PROTOCOL_TCP && b->state == TCP_LISTEN &&
			a->protocol == PROTOCOL_TCP)
			assert_int_equal(a->state, TCP_LISTEN);
	}
}

static void test_every_kind_procnet(void **state)
{
	struct live *l = live_of(state);
	_cleanup_(close_p) int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct source_facts facts;
	void *source = NULL;

	make_every_kind(l);
	assert_int_equal(source_procnet_open(fd, &source, &facts), 0);
	assert_int_equal(facts.protocols, l->facts.protocols & ~(1u << PROTOCOL_MPTCP));
	assert_int_equal(read_rows(l, &source_procnet_ops, source, &everything), l->count);
	for (size_t i = 0; i < l->count; i++)
		expect_made(l, &l->made[i], l->made[i].protocol, false);
	source_procnet_ops.free(source);
}

static void test_bound_only_fact(void **state)
{
	struct live *l = live_of(state);
	const struct made *m = make_bound(l, "127.0.0.1", PROTOCOL_TCP, TCP_CLOSE);

	read_rows(l, &source_diag_ops, l->source, &everything);
	assert_int_equal(l->rows->count, l->facts.bound_only ? 1 : 0);
	if (l->facts.bound_only)
		expect_made(l, m, PROTOCOL_TCP, true);
}

static void test_listeners_only(void **state)
{
	struct live *l = live_of(state);
	const struct made *a = make_listener(l, "127.0.0.1", PROTOCOL_TCP);
	const struct made *b = make_listener(l, "::1", PROTOCOL_TCP);

	make_client(l, "127.0.0.1", port_of(&a->local), PROTOCOL_TCP);
	make_bound(l, "127.0.0.1", PROTOCOL_UDP, TCP_CLOSE);
	assert_int_equal(
		source_diag_ops.read_listeners(l->source, &everything, collect, l->rows), 0);
	assert_int_equal(l->rows->count, 2);
	expect_made(l, a, PROTOCOL_TCP, true);
	expect_made(l, b, PROTOCOL_TCP, true);
}

/* The client closes first; what it leaves keeps its cookie. */
static void test_time_wait(void **state)
{
	struct live *l = live_of(state);
	const struct made *listener = make_listener(l, "127.0.0.1", PROTOCOL_TCP);
	struct made *client = make_client(l, "127.0.0.1", port_of(&listener->local), PROTOCOL_TCP);
	struct made *served = make_served(l, listener);
	uint16_t port = port_of(&client->local);
	const struct port_ranges ranges = {.range = {{port, port}}, .count = 1};
	uint64_t cookie;
	socklen_t size = sizeof(cookie);
	const struct socket_row *row;
	char byte;

	assert_int_equal(getsockopt(client->fd, SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
	close(client->fd);
	client->fd = -1;
	assert_int_equal(read(served->fd, &byte, 1), 0);
	close(served->fd);
	served->fd = -1;
	do /* FIN_WAIT2 until the other's FIN has come through loopback */
		assert_int_equal(read_rows(l, &source_diag_ops, l->source, &ranges), 1);
	while (l->rows->row[0].state != TCP_TIME_WAIT);
	row = &l->rows->row[0];
	assert_true(row->minisock);
	assert_int_equal(row->cookie, cookie);
	assert_int_equal(row->inode, 0);
	assert_in_range(row->expires_msec, 1, 60000);
	assert_true(row_is(row, client, PROTOCOL_TCP));
}

static void test_stopping_a_read(void **state)
{
	struct live *l = live_of(state);
	uint32_t protocols = 0;

	make_every_kind(l);
	l->rows->stop_at = 3;
	assert_int_equal(
		source_diag_ops.read(l->source, &everything, collect, l->rows, &protocols), 7);
	assert_int_equal(l->rows->count, 3);
	assert_int_equal(protocols, 0);
	/* the socket is as good as before */
	l->rows->stop_at = 0;
	assert_int_equal(read_rows(l, &source_diag_ops, l->source, &everything), l->count);
}

/* Ports at, beside and between the ends of the ranges: the kernel's filter against our arithmetic. */
static void test_ranges_live(void **state)
{
	static const uint16_t ports[] = {1, 2, 3, 4, 30, 31, 32, 99, 100, 101, 150, 199, 200, 201,
		299, 300, 301, 398, 399, 400, 4999, 5000, 5001, 32767, 32768, 49151, 49152, 60999,
		65534, 65535};
	struct live *l = live_of(state);

	for (size_t i = 0; i < ELEMENTSOF(ports); i++) {
		enum protocol p = i % 2 ? PROTOCOL_UDP : PROTOCOL_TCP;
		int fd = bound_socket(i % 3 ? "127.0.0.1" : "::1", ports[i], p);

		if (p == PROTOCOL_TCP)
			assert_int_equal(listen(fd, 1), 0);
		made(l, fd, p, p == PROTOCOL_TCP ? TCP_LISTEN : TCP_CLOSE);
	}
	assert_int_equal(read_rows(l, &source_diag_ops, l->source, &(struct port_ranges){0}), 0);
	for (size_t f = 0; f < ELEMENTSOF(filters); f++) {
		size_t inside = 0;

		read_rows(l, &source_diag_ops, l->source, &filters[f]);
		for (size_t i = 0; i < l->count; i++) {
			if (!port_ranges_contain(&filters[f], port_of(&l->made[i].local)))
				continue;
			inside++;
			expect_made(l, &l->made[i], l->made[i].protocol, true);
		}
		assert_int_equal(l->rows->count, inside);
	}
}

/* More than one message buffer: none twice, none lost. */
static void test_many(void **state)
{
	enum { MANY = 2000 };
	struct live *l = live_of(state);
	static int fds[MANY];

	for (size_t i = 0; i < MANY; i++)
		fds[i] = bound_socket(i % 2 ? "127.0.0.1" : "::1", 0, PROTOCOL_UDP);
	assert_int_equal(read_rows(l, &source_diag_ops, l->source, &everything), MANY);
	for (size_t i = 1; i < MANY; i++)
		for (size_t k = 0; k < i; k++)
			if (l->rows->row[i].cookie == l->rows->row[k].cookie)
				fail_msg("a socket was shown twice");
	for (size_t i = 0; i < MANY; i++)
		close(fds[i]);
	assert_int_equal(read_rows(l, &source_diag_ops, l->source, &everything), 0);
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, live_setup, live_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_made_files),
		LIVE(test_every_kind),
		LIVE(test_every_kind_procnet),
		LIVE(test_bound_only_fact),
		LIVE(test_listeners_only),
		LIVE(test_time_wait),
		LIVE(test_stopping_a_read),
		LIVE(test_ranges_live),
		LIVE(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
