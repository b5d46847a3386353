/* SPDX-License-Identifier: MIT */

/* What the kernel counts of TCP: its texts by a table, and that every change shows, with real sockets in a network
 * namespace of our own. */

#include "common/base.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <cmocka.h>

#include "daemon/capture/source.h"
#include "daemon/capture/source_signs.h"

/* ---- the texts ---- */

#define SNMP                                                                                       \
	"Ip: Forwarding DefaultTTL\nIp: 2 64\n"                                                    \
	"Tcp: RtoAlgorithm RtoMin MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets "      \
	"CurrEstab InSegs\nTcp: 1 200 -1 20 2 3 4 5 1167\nUdp: InDatagrams\nUdp: 7\n"
#define SOCKSTAT                                                                                   \
	"sockets: used 13\nTCP: inuse 6 orphan 1 tw 7 alloc 165 mem 1\nUDP: inuse 9 mem 0\n"
#define SOCKSTAT6 "TCP6: inuse 8\nUDP6: inuse 9\n"

static void test_texts(void **state)
{
	static const uint64_t expected[SIGN_COUNT] = {20, 2, 3, 4, 5, 6, 7, 8};
	struct signs s, other;

	(void)state;
	assert_int_equal(signs_parse(SNMP, SOCKSTAT, SOCKSTAT6, &s), 0);
	assert_memory_equal(s.count, expected, sizeof(expected));
	assert_int_equal(s.allocated, 165);
	assert_true(signs_bound_possible(&s));
	s.allocated = 14;
	assert_false(signs_bound_possible(&s));
	for (size_t i = 0; i < SIGN_COUNT; i++) {
		other = s;
		assert_true(signs_same(&s, &other));
		other.count[i]++;
		assert_false(signs_same(&s, &other));
	}
	assert_int_equal(signs_parse(SNMP, SOCKSTAT, NULL, &s), 0);
	assert_int_equal(s.count[SIGN_IN_USE_IPV6], 0);
}

static void test_bad_texts(void **state)
{
	static const struct {
		const char *snmp, *sockstat, *sockstat6;
	} cases[] = {
		{"", SOCKSTAT, SOCKSTAT6},
		{SNMP, "", SOCKSTAT6},
		{SNMP, SOCKSTAT, ""},
		{"Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab", SOCKSTAT,
			SOCKSTAT6},
		{"Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab\nTcp: 1 2 3 4\n",
			SOCKSTAT, SOCKSTAT6},
		{"Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets\nTcp: 1 2 3 4 5\n",
			SOCKSTAT, SOCKSTAT6},
		{"Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab\nTcp: 1 2 x 4 5\n",
			SOCKSTAT, SOCKSTAT6},
		{SNMP, "TCP: inuse 6 orphan 1 alloc 165\nUDP: tw 7\n", SOCKSTAT6},
		{SNMP, "TCP: inuse 6 tw 7 mem 1\n", SOCKSTAT6},
		{SNMP, "TCP: inuse 6 tw", SOCKSTAT6},
		{SNMP, SOCKSTAT, "TCP6: \n inuse 8\n"},
	};
	struct signs s = {.allocated = 4711};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		if (signs_parse(cases[i].snmp, cases[i].sockstat, cases[i].sockstat6, &s) !=
			-EBADMSG)
			fail_msg("case %zu", i);
	assert_int_equal(s.allocated, 4711);
}

/* ---- real sockets ---- */

static const struct port_ranges everything = {.range = {{1, UINT16_MAX}}, .count = 1};

struct seen {
	unsigned listening, bound, connected, udp;
};

static int see(void *context, const struct socket_row *row)
{
	struct seen *seen = context;

	if (row->protocol == PROTOCOL_UDP)
		seen->udp++;
	else if (row->state == TCP_LISTEN)
		seen->listening++;
	else if (row->state == TCP_CLOSE)
		seen->bound++;
	else
		seen->connected++;
	return 0;
}

static struct seen read_by(void *source,
	int (*read)(void *, const struct port_ranges *, source_row_fn, void *, uint32_t *))
{
	struct seen seen = {0};
	uint32_t protocols = 0;

	assert_int_equal(read(source, &everything, see, &seen, &protocols), 0);
	assert_int_equal(protocols, (1u << PROTOCOL_COUNT) - 1);
	return seen;
}

/* What has just been done is to be seen; and after a reading, all is the same, as soon as the kernel is done with it (a FIN
 * may wait 40 ms for its ACK). */
static void expect_change(void *source)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	assert_false(source_diag_ops.connections_same(source));
	for (unsigned i = 0; i < 500; i++) {
		(void)read_by(source, source_diag_ops.read);
		if (source_diag_ops.connections_same(source))
			return;
		(void)nanosleep(&pause, NULL);
	}
	fail_msg("it never is the same");
}

static int setup(void **state)
{
	_cleanup_(close_p) int fd = -1;
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct source_facts facts;
	void *source;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return 0;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &up), 0);
	assert_int_equal(source_diag_open(&source, &facts), 0);
	*state = source;
	return 0;
}

static int teardown(void **state)
{
	if (*state)
		source_diag_ops.free(*state);
	return 0;
}

static void *source_of(void **state)
{
	if (!*state) {
		print_message("cannot run here: a network namespace takes CAP_SYS_ADMIN\n");
		skip();
	}
	return *state;
}

static int new_bound(
	int family, int type, int protocol, struct sockaddr_in6 *ret, socklen_t *ret_size)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	assert_true(fd >= 0);
	assert_int_equal(family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
					   : bind(fd, (struct sockaddr *)&v6, sizeof(v6)),
		0);
	*ret_size = sizeof(*ret);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret, ret_size), 0);
	return fd;
}

static void test_every_change_of_a_connection(void **state)
{
	void *source = source_of(state);
	static const int families[] = {AF_INET, AF_INET6};

	assert_false(source_diag_ops.connections_same(source)); /* nothing was read yet */
	(void)read_by(source, source_diag_ops.read);
	assert_true(source_diag_ops.connections_same(source));
	for (size_t i = 0; i < ELEMENTSOF(families); i++) {
		struct sockaddr_in6 at;
		socklen_t size;
		int listener = new_bound(families[i], SOCK_STREAM, 0, &at, &size), served, client;

		assert_int_equal(listen(listener, 8), 0);
		expect_change(source);
		client = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&at, size), 0);
		expect_change(source);
		served = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		close(client); /* FIN_WAIT2, CLOSE_WAIT */
		expect_change(source);
		close(served); /* TIME_WAIT */
		expect_change(source);
		/* one comes and one goes: the number in use is the same */
		client = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&at, size), 0);
		expect_change(source);
		close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		close(client);
		client = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&at, size), 0);
		expect_change(source);
		close(listener); /* resets what nobody accepted */
		expect_change(source);
		close(client);
		/* refused: the port was had for a moment */
		client = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&at, size), -1);
		expect_change(source);
		close(client);
	}
}

static void test_others_are_read(void **state)
{
	void *source = source_of(state);
	struct sockaddr_in6 at, other;
	socklen_t size;
	int listener = new_bound(AF_INET, SOCK_STREAM, 0, &at, &size), client, bound, udp;
	struct seen all, others;

	assert_int_equal(listen(listener, 8), 0);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, size), 0);
	all = read_by(source, source_diag_ops.read);
	assert_int_equal(all.listening, 1);
	assert_int_equal(all.connected, 2);
	bound = new_bound(AF_INET6, SOCK_STREAM, 0, &other, &size);
	udp = new_bound(AF_INET, SOCK_DGRAM, 0, &other, &size);
	assert_true(source_diag_ops.connections_same(source));
	all = read_by(source, source_diag_ops.read);
	assert_true(source_diag_ops.connections_same(source));
	others = read_by(source, source_diag_ops.read_others);
	assert_int_equal(others.connected, 0);
	assert_int_equal(others.listening, 1);
	assert_int_equal(others.bound, all.bound);
	assert_int_equal(others.udp, 1);
	close(bound);
	close(udp);
	close(client);
	close(listener);
}

/* It has counters of its own: as long as there is such a socket, all is read. */
static void test_mptcp_is_always_read(void **state)
{
	void *source = source_of(state);
	struct sockaddr_in6 at;
	socklen_t size;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd < 0) {
		print_message("cannot run here: this kernel has no MPTCP\n");
		skip();
	}
	close(fd);
	fd = new_bound(AF_INET, SOCK_STREAM, IPPROTO_MPTCP, &at, &size);
	assert_int_equal(listen(fd, 8), 0);
	(void)read_by(source, source_diag_ops.read);
	assert_false(source_diag_ops.connections_same(source));
	close(fd);
	expect_change(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_bad_texts),
		cmocka_unit_test_setup_teardown(test_every_change_of_a_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others_are_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mptcp_is_always_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
