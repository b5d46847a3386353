/* SPDX-License-Identifier: MIT */

/* What the kernel side tells of every kind of claim, and of who made it, on this kernel. */

#include "tests/unit/events-script.h"

#include <linux/capability.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- kinds ---- */

/* One socket, made and closed; what there is to say of it, from the socket itself. */
struct made {
	uint64_t cookie;
	struct endpoint local, remote;
	bool has_remote;
};

static struct made made_of(int fd)
{
	return (struct made){.cookie = cookie_of(fd), .local = local_of(fd)};
}

/* `fd` goes. */
static struct made made_connected(int fd)
{
	struct made m = made_of(fd);
	union sock_address a = {0};
	socklen_t size = sizeof(a);

	assert_int_equal(getpeername(fd, &a.any, &size), 0);
	m.remote = endpoint_from(&a);
	m.has_remote = true;
	(void)close(fd);
	return m;
}

static struct made made_closed(int fd)
{
	struct made m = made_of(fd);

	(void)close(fd);
	return m;
}

/* To a server that accepts, and closes after us: we are left in TIME_WAIT. */
static struct made tcp_connect(int family, int server_family, int protocol)
{
	int listener = new_listener(server_family, 0, LISTENER), peer;
	int fd = new_socket(family, SOCK_STREAM, protocol);
	union sock_address mapped = {
		.six = {.sin6_family = AF_INET6, .sin6_port = htons(LISTENER)}};
	struct made m;

	assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.six.sin6_addr), 1);
	if (family == server_family)
		assert_int_equal(connect_to(fd, family, LISTENER), 0);
	else
		assert_int_equal(connect(fd, &mapped.any, sizeof(mapped.six)), 0);
	peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	m = made_connected(fd);
	close_second(peer);
	(void)close(listener);
	return m;
}

/* The server closes first: it is left in TIME_WAIT, we are not. */
static struct made make_tcp_closed_by_peer(void)
{
	int listener = new_listener(AF_INET, 0, LISTENER), peer;
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);
	struct made m;

	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	peer = accept(listener, NULL, NULL);
	(void)close(peer);
	m = made_of(fd);
	m.remote = endpoint_from(&(union sock_address){.four = loopback(AF_INET, LISTENER).four});
	m.has_remote = true;
	close_second(fd);
	(void)close(listener);
	return m;
}

static struct made make_tcp4(void)
{
	return tcp_connect(AF_INET, AF_INET, 0);
}

static struct made make_tcp6(void)
{
	return tcp_connect(AF_INET6, AF_INET6, 0);
}

static struct made make_tcp_mapped(void)
{
	return tcp_connect(AF_INET6, AF_INET, 0);
}

static struct made make_tcp_nonblocking(void)
{
	int listener = new_listener(AF_INET, 0, LISTENER), peer;
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct made m;

	assert_int_equal(connect_to(fd, AF_INET, LISTENER), -EINPROGRESS);
	peer = accept(listener, NULL, NULL);
	m = made_connected(fd);
	close_second(peer);
	(void)close(listener);
	return m;
}

/* The port is known before it is refused, by a bind; what a connect got by itself is gone with the refusal. */
static struct made make_tcp_refused(void)
{
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);
	struct made m;

	assert_int_equal(bind_to(fd, AF_INET, 0), 0);
	m = made_of(fd);
	assert_int_equal(connect_to(fd, AF_INET, 1), -ECONNREFUSED);
	m.remote = endpoint_from(&(union sock_address){.four = loopback(AF_INET, 1).four});
	m.has_remote = true;
	(void)close(fd);
	return m;
}

/* Closed with a reset: nothing lingers. */
static struct made make_tcp_reset(void)
{
	int listener = new_listener(AF_INET, 0, LISTENER);
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);
	const struct linger at_once = {.l_onoff = 1};
	struct made m;

	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	m = made_connected(fd);
	(void)close(listener);
	return m;
}

/* The other side resets it: we never sent a FIN. */
static struct made make_tcp_reset_by_peer(void)
{
	int listener = new_listener(AF_INET, 0, LISTENER), peer;
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);
	const struct linger at_once = {.l_onoff = 1};
	struct made m;
	char byte;

	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	m = made_of(fd);
	m.remote = endpoint_from(&(union sock_address){.four = loopback(AF_INET, LISTENER).four});
	m.has_remote = true;
	assert_int_equal(write(fd, "x", 1), 1);
	peer = accept(listener, NULL, NULL);
	assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	(void)close(peer);
	assert_int_equal(read(fd, &byte, 1), -1); /* and the error is fetched */
	(void)close(fd);
	(void)close(listener);
	return m;
}

static struct made make_tcp_bind(void)
{
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind_to(fd, AF_INET, 0), 0);
	return made_closed(fd);
}

static struct made make_tcp_listen(void)
{
	return made_closed(new_listener(AF_INET6, 0, 0));
}

static struct made make_tcp_listen_unbound(void)
{
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(listen(fd, 1), 0);
	return made_closed(fd);
}

static struct made make_mptcp(void)
{
	struct made m = tcp_connect(AF_INET, AF_INET, IPPROTO_MPTCP);

	m.cookie = 0; /* this is the MPTCP socket's: its subflow has another */
	return m;
}

static struct made udp_connect(int family)
{
	int fd = new_socket(family, SOCK_DGRAM, 0);

	assert_int_equal(connect_to(fd, family, 9), 0);
	return made_connected(fd);
}

static struct made make_udp_connect4(void)
{
	return udp_connect(AF_INET);
}

static struct made make_udp_connect6(void)
{
	return udp_connect(AF_INET6);
}

static struct made udp_send(int family)
{
	int fd = new_socket(family, SOCK_DGRAM, 0);

	for (int i = 0; i < 3; i++)
		send_to(fd, family, 9);
	return made_closed(fd);
}

static struct made make_udp_send4(void)
{
	return udp_send(AF_INET);
}

static struct made make_udp_send6(void)
{
	return udp_send(AF_INET6);
}

/* A datagram to IPv4 from a socket of IPv6. */
static struct made make_udp_send_mapped(void)
{
	int fd = new_socket(AF_INET6, SOCK_DGRAM, 0);
	union sock_address a = {.six = {.sin6_family = AF_INET6, .sin6_port = htons(9)}};

	assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.six.sin6_addr), 1);
	assert_int_equal(sendto(fd, "x", 1, 0, &a.any, sizeof(a.six)), 1);
	return made_closed(fd);
}

static struct made bound(int family, int protocol, uint16_t port)
{
	int fd = new_socket(family, SOCK_DGRAM, protocol);

	assert_int_equal(bind_to(fd, family, port), 0);
	send_to(fd, family, 9); /* no second claim */
	return made_closed(fd);
}

static struct made make_udp_bind(void)
{
	return bound(AF_INET, 0, 50000);
}

static struct made make_udp_bind_any_port(void)
{
	return bound(AF_INET6, 0, 0);
}

static struct made make_udplite(void)
{
	return bound(AF_INET, IPPROTO_UDPLITE, 0);
}

/* What a cookie that somebody asks for before must not change. */
static struct made make_udp_send_with_cookie(void)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);

	(void)cookie_of(fd);
	send_to(fd, AF_INET, 9);
	send_to(fd, AF_INET, 9);
	return made_closed(fd);
}

static const struct {
	const char *name;
	struct made (*make)(void);
	enum protocol protocol;
	enum role role; /* at the end */
	size_t claims;  /* how often it is told; 0: by its end, whole */
	bool lingers;
} kinds[] = {
	{"tcp4", make_tcp4, PROTOCOL_TCP, ROLE_CONNECTED, 1, true},
	{"tcp6", make_tcp6, PROTOCOL_TCP, ROLE_CONNECTED, 1, true},
	{"tcp v4-mapped", make_tcp_mapped, PROTOCOL_TCP, ROLE_CONNECTED, 1, true},
	{"tcp non-blocking", make_tcp_nonblocking, PROTOCOL_TCP, ROLE_CONNECTED, 1, true},
	{"tcp closed by peer", make_tcp_closed_by_peer, PROTOCOL_TCP, ROLE_CONNECTED, 1, true},
	{"tcp refused", make_tcp_refused, PROTOCOL_TCP, ROLE_CONNECTED, 2, false},
	{"tcp reset", make_tcp_reset, PROTOCOL_TCP, ROLE_CONNECTED, 1, false},
	{"tcp reset by peer", make_tcp_reset_by_peer, PROTOCOL_TCP, ROLE_CONNECTED, 1, false},
	{"tcp bind", make_tcp_bind, PROTOCOL_TCP, ROLE_BOUND, 1, false},
	{"tcp listen", make_tcp_listen, PROTOCOL_TCP, ROLE_LISTENING, 2, false},
	{"tcp listen unbound", make_tcp_listen_unbound, PROTOCOL_TCP, ROLE_LISTENING, 1, false},
	{"mptcp", make_mptcp, PROTOCOL_MPTCP, ROLE_CONNECTED, 1, true},
	{"udp connect4", make_udp_connect4, PROTOCOL_UDP, ROLE_CONNECTED, 0, false},
	{"udp connect6", make_udp_connect6, PROTOCOL_UDP, ROLE_CONNECTED, 0, false},
	{"udp send4", make_udp_send4, PROTOCOL_UDP, ROLE_BOUND, 1, false},
	{"udp send6", make_udp_send6, PROTOCOL_UDP, ROLE_BOUND, 1, false},
	{"udp send v4-mapped", make_udp_send_mapped, PROTOCOL_UDP, ROLE_BOUND, 1, false},
	{"udp bind", make_udp_bind, PROTOCOL_UDP, ROLE_BOUND, 1, false},
	{"udp bind any", make_udp_bind_any_port, PROTOCOL_UDP, ROLE_BOUND, 1, false},
	{"udplite", make_udplite, PROTOCOL_UDPLITE, ROLE_BOUND, 1, false},
	{"udp send with cookie", make_udp_send_with_cookie, PROTOCOL_UDP, ROLE_BOUND, 1, false},
};

/* The subflow of an MPTCP socket is who has its port. */
static uint64_t cookie_by_port(const struct told *t, uint16_t port)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->events[i].kind == EVENT_CLAIM && t->events[i].local.port == port)
			return t->events[i].cookie;
	return 0;
}

/* Is there a TIME_WAIT (or FIN_WAIT2) that nobody has, on this port? */
static bool remains(uint16_t port)
{
	static const char *const tables[] = {"/proc/self/net/tcp", "/proc/self/net/tcp6"};
	char line[256];
	bool found = false;

	for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
		FILE *table = fopen(tables[i], "re");

		while (table && fgets(line, sizeof(line), table)) {
			unsigned local, state;

			if (sscanf(line, "%*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &local, &state) ==
				2)
				found |= local == port &&
					 (state == TCP_TIME_WAIT || state == TCP_FIN_WAIT2);
		}
		if (table)
			(void)fclose(table);
	}
	return found;
}

static void assert_by_us(struct source_events *s, const struct event_seen *e)
{
	_cleanup_(process_unref_p) struct process *p = process_of(s, e);

	assert_int_equal(p->pid, getpid());
	assert_int_equal(p->parent_pid, getppid());
	assert_int_equal(p->uid, 0);
}

static void check_kind(struct source_events *s, const struct told *t, size_t kind,
	const struct made *m, usec_t before, usec_t after)
{
	uint64_t cookie = m->cookie ? m->cookie : cookie_by_port(t, m->local.port);
	size_t claims = kinds[kind].claims;
	const struct event_seen *end = get_told(t, claims ? EVENT_RELEASE : EVENT_WHOLE, cookie, 0);
	const struct event_seen *e = claims ? get_told(t, EVENT_CLAIM, cookie, claims - 1) : end;

	assert_null(find_told(t, EVENT_CLAIM, cookie, claims));
	assert_null(find_told(t, end->kind, cookie, 1));
	assert_int_equal(e->protocol, kinds[kind].protocol);
	assert_int_equal(e->role, kinds[kind].role);
	assert_endpoints(e, &m->local, m->has_remote ? &m->remote : NULL);
	assert_int_equal(e->netns, netns_cookie());
	assert_true(e->at >= before && e->at <= end->closed && end->closed <= after);
	assert_int_equal(end->lingers, kinds[kind].lingers);
	assert_false(end->by_then);
	assert_true(end->lingers || !remains(m->local.port));
	assert_by_us(s, e);
}

/* MPTCP closes its subflow in a thread of its own. */
static void hear_end(struct source_events *s, struct told *t, size_t kind, const struct made *m)
{
	hear(s, t);
	hear_of(s, t, kinds[kind].claims ? EVENT_RELEASE : EVENT_WHOLE,
		m->cookie ? m->cookie : cookie_by_port(t, m->local.port));
}

static void test_kinds(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	struct told t = {0};

	for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
		usec_t before = clock_boot();
		struct made m = kinds[i].make();

		print_message("%s\n", kinds[i].name);
		hear_end(s, &t, i, &m);
		check_kind(s, &t, i, &m, before - 1, clock_boot());
		source_events_release(s, source_events_position(s));
	}
	assert_int_equal(source_events_counts(s).lost, 0);
	assert_int_equal(source_events_counts(s).lost_ends, 0);
	told_done(&t);
	source_events_free(s);
}

/* ---- several tenures of one socket ---- */

static void disconnect(int fd)
{
	union sock_address nobody = {.any = {.sa_family = AF_UNSPEC}};

	assert_int_equal(connect(fd, &nobody.any, sizeof(nobody.any)), 0);
}

/* A UDP socket that gives its port back by AF_UNSPEC, and sends again: two claims of one cookie. */
static void test_udp_two_ports(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t cookie = cookie_of(fd);
	const struct event_seen *first, *last;
	struct told t = {0};
	struct endpoint local;

	send_to(fd, AF_INET, 9);
	disconnect(fd);
	send_to(fd, AF_INET, 9);
	local = local_of(fd);
	(void)close(fd);
	hear(s, &t);
	/* the same number may be handed out again, and is the same claim then */
	first = get_told(&t, EVENT_CLAIM, cookie, 0);
	last = first->local.port == local.port ? first : get_told(&t, EVENT_CLAIM, cookie, 1);
	assert_int_equal(last->local.port, local.port);
	(void)get_told(&t, EVENT_RELEASE, cookie, 0);
	told_done(&t);
	source_events_free(s);
}

/* What has no port any more when it is closed has ended all the same. */
static void test_udp_disconnected(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t cookie = cookie_of(fd);
	struct told t = {0};

	send_to(fd, AF_INET, 9);
	disconnect(fd);
	(void)close(fd);
	hear(s, &t);
	(void)get_told(&t, EVENT_CLAIM, cookie, 0);
	/* it was the close that showed it */
	assert_true(get_told(&t, EVENT_RELEASE, cookie, 0)->by_then);
	told_done(&t);
	source_events_free(s);
}

/* A connect that was undone is no part of what the socket does next. */
static void test_udp_connect_undone(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s = open_with(&o);
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t cookie = cookie_of(fd);
	const struct event_seen *e;
	struct told t = {0};
	struct endpoint local;
	usec_t before;

	assert_int_equal(connect_to(fd, AF_INET, 10), 0);
	disconnect(fd);
	before = clock_boot();
	send_to(fd, AF_INET, 9);
	local = local_of(fd);
	(void)close(fd);
	hear(s, &t);
	e = get_told(&t, EVENT_CLAIM, cookie, 0);
	assert_int_equal(e->role, ROLE_BOUND);
	assert_endpoints(e, &local, NULL);
	assert_true(e->at >= before - 1);
	(void)get_told(&t, EVENT_RELEASE, cookie, 0);
	assert_int_equal(t.count, 2);
	told_done(&t);
	source_events_free(s);
}

/* ---- accepted connections ---- */

static void test_accepted(void **state _unused_)
{
	struct source_events_options o = options_here();
	int listener = new_listener(AF_INET, 0, LISTENER), peer;
	int fd = new_socket(AF_INET, SOCK_STREAM, 0);
	struct endpoint client, server;
	const struct event_seen *e;
	struct source_events *s;
	struct told t = {0};
	uint64_t cookie;

	o.accepted = true;
	s = open_with(&o);
	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	peer = accept(listener, NULL, NULL);
	cookie = cookie_of(peer);
	client = local_of(fd);
	server = local_of(peer);
	(void)close(peer);
	close_second(fd);
	hear(s, &t);
	hear_of(s, &t, EVENT_RELEASE, cookie);
	e = get_told(&t, EVENT_CLAIM, cookie, 0);
	assert_int_equal(e->role, ROLE_ACCEPTED);
	assert_int_equal(e->process, 0);
	assert_int_not_equal(e->cgroup_id, 0);
	assert_endpoints(e, &server, &client);
	e = get_told(&t, EVENT_HOLDER, cookie, 0);
	assert_by_us(s, e);
	e = get_told(&t, EVENT_RELEASE, cookie, 0);
	assert_true(e->lingers); /* it closed first */
	/* who connected is told as such, and not as a holder */
	assert_int_equal(count_kind(&t, EVENT_HOLDER), 1);

	o.accepted = false;
	assert_int_equal(source_events_watch(s, &o), 0);
	fd = new_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect_to(fd, AF_INET, LISTENER), 0);
	peer = accept(listener, NULL, NULL);
	(void)close(peer);
	(void)close(fd);
	hear(s, &t);
	assert_int_equal(count_kind(&t, EVENT_CLAIM), 1);
	assert_int_equal(count_kind(&t, EVENT_HOLDER), 0);
	told_done(&t);
	source_events_free(s);
	(void)close(listener);
}

/* ---- which ones ---- */

static size_t claims_of_bind(struct source_events *s, uint16_t port)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);
	struct told t = {0};
	size_t n;

	assert_int_equal(bind_to(fd, AF_INET, port), 0);
	(void)close(fd);
	hear(s, &t);
	n = count_kind(&t, EVENT_CLAIM);
	assert_int_equal(count_kind(&t, EVENT_RELEASE), n);
	told_done(&t);
	return n;
}

static void write_range(const char *range)
{
	int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, range, strlen(range)), (ssize_t)strlen(range));
	(void)close(fd);
}

static void test_ranges(void **state _unused_)
{
	struct source_events_options o = options_here();
	struct source_events *s;

	o.ranges = (struct port_ranges){.range = {{50000, 50000}, {60000, 60010}}, .count = 2};
	s = open_with(&o);
	assert_int_equal(claims_of_bind(s, 49999), 0);
	assert_int_equal(claims_of_bind(s, 50000), 1);
	assert_int_equal(claims_of_bind(s, 50001), 0);
	assert_int_equal(claims_of_bind(s, 60010), 1);
	assert_int_equal(claims_of_bind(s, 60011), 0);
	/* what the kernel hands out here, as it is at the moment of the claim */
	o.kernel_range = true;
	assert_int_equal(source_events_watch(s, &o), 0);
	write_range("20000 20100");
	assert_int_equal(claims_of_bind(s, 20100), 1);
	assert_int_equal(claims_of_bind(s, 20101), 0);
	write_range("20000 20200");
	assert_int_equal(claims_of_bind(s, 20101), 1);
	assert_int_equal(claims_of_bind(s, 19999), 0);
	write_range("32768 60999");
	o.ranges.count = 0;
	o.kernel_range = false;
	assert_int_equal(source_events_watch(s, &o), 0);
	assert_int_equal(claims_of_bind(s, 50000), 0);
	source_events_free(s);
}

/* In another namespace, where the same port is another claim. */
static void bind_elsewhere(int report)
{
	uint64_t said[3];
	struct stat status;
	int fd;

	demand(unshare(CLONE_NEWNET) == 0 && lo_up() == 0);
	demand(stat("/proc/self/ns/net", &status) == 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	demand(bind_to(fd, AF_INET, 50000) == 0);
	said[0] = cookie_of(fd);
	said[1] = u64_of(fd, SO_NETNS_COOKIE);
	said[2] = status.st_ino;
	demand(write(report, said, sizeof(said)) == sizeof(said));
	_exit(0);
}

static void test_namespaces(void **state _unused_)
{
	struct source_events_options o = options_here();
	const struct event_seen *e;
	struct source_events *s;
	struct told t = {0};
	uint64_t said[3];
	int ends[2];
	pid_t pid;

	o.ranges = (struct port_ranges){.range = {{50000, 50000}}, .count = 1};
	for (int everywhere = 0; everywhere < 2; everywhere++) {
		if (everywhere)
			o.netns_only = 0;
		s = open_with(&o);
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		pid = fork();
		if (pid == 0)
			bind_elsewhere(ends[1]);
		wait_for(pid, 0);
		assert_int_equal(read(ends[0], said, sizeof(said)), sizeof(said));
		(void)close(ends[0]);
		(void)close(ends[1]);
		hear(s, &t);
		if (everywhere) {
			e = get_told(&t, EVENT_CLAIM, said[0], 0);
			assert_int_equal(e->netns, said[1]);
			assert_int_equal(e->netns_inode, said[2]);
			assert_int_not_equal(e->netns, netns_cookie());
		} else {
			assert_null(find_told(&t, EVENT_CLAIM, said[0], 0));
		}
		source_events_free(s);
	}
	told_done(&t);
}

/* A socket of one namespace, used by a process that is in another by now. */
static void test_socket_of_another_namespace(void **state _unused_)
{
	struct source_events_options o = options_here();
	int fd = new_socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t here = netns_cookie(), cookie = cookie_of(fd);
	const struct event_seen *e;
	struct source_events *s;
	struct told t = {0};
	pid_t pid;

	o.ranges.count = 0;
	o.kernel_range = true;
	s = open_with(&o);
	pid = fork();
	if (pid == 0) {
		demand(unshare(CLONE_NEWNET) == 0);
		demand(bind_to(fd, AF_INET, 50000) == 0);
		_exit(0);
	}
	wait_for(pid, 0);
	(void)close(fd);
	hear(s, &t);
	e = get_told(&t, EVENT_CLAIM, cookie, 0);
	assert_int_equal(e->netns, here);
	(void)get_told(&t, EVENT_RELEASE, cookie, 0);
	told_done(&t);
	source_events_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_udp_two_ports),
		cmocka_unit_test(test_udp_disconnected),
		cmocka_unit_test(test_udp_connect_undone),
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_socket_of_another_namespace),
	};

	return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
