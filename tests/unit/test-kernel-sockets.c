/* SPDX-License-Identifier: MIT */

/*
 * Which sockets are the kernel's: the rules against real vxlan devices and real sockets in flight, in namespaces of our
 * own, and against the root cgroup as a made /proc and a made list show it.
 */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "daemon/capture/kernel_sockets.h"

#define MESSAGE_BYTES 1024

/* ---- real devices and sockets ---- */

struct live {
	int proc_fd;
	int home;   /* the namespace that the test came from */
	bool moved; /* out of it */
	struct kernel_sockets *kernel;
};

static void close_socket_p(struct mnl_socket **s)
{
	if (*s)
		(void)mnl_socket_close(*s);
}

/* Asks the kernel for a change. 0 or negative errno. */
static int change(struct nlmsghdr *h)
{
	_Alignas(struct nlmsghdr) char answer[MESSAGE_BYTES];
	_cleanup_(close_socket_p) struct mnl_socket *s =
		mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	ssize_t n;

	assert_non_null(s);
	h->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	assert_true(mnl_socket_sendto(s, h, h->nlmsg_len) > 0);
	n = mnl_socket_recvfrom(s, answer, sizeof(answer));
	assert_true(n > 0);
	return mnl_cb_run(answer, (size_t)n, 0, 0, NULL, NULL) < 0 ? -errno : 0;
}

static void set_up(const char *name, bool up)
{
	_Alignas(struct nlmsghdr) char room[MESSAGE_BYTES];
	struct nlmsghdr *h = mnl_nlmsg_put_header(room);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(h, sizeof(*link));

	h->nlmsg_type = RTM_NEWLINK;
	link->ifi_index = (int)if_nametoindex(name);
	link->ifi_flags = up ? IFF_UP : 0;
	link->ifi_change = IFF_UP;
	assert_int_equal(change(h), 0);
}

static void move_to(const char *name, int namespace_fd)
{
	_Alignas(struct nlmsghdr) char room[MESSAGE_BYTES];
	struct nlmsghdr *h = mnl_nlmsg_put_header(room);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(h, sizeof(*link));

	h->nlmsg_type = RTM_NEWLINK;
	link->ifi_index = (int)if_nametoindex(name);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)namespace_fd);
	assert_int_equal(change(h), 0);
}

/* A vxlan device that is down. `local`: NULL: "external". */
static int make_vxlan(const char *name, uint16_t port, const char *local)
{
	_Alignas(struct nlmsghdr) char room[MESSAGE_BYTES];
	struct nlmsghdr *h = mnl_nlmsg_put_header(room);
	struct nlattr *info, *data;
	struct in6_addr address;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	h->nlmsg_type = RTM_NEWLINK;
	h->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "vxlan");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	mnl_attr_put_u16(h, IFLA_VXLAN_PORT, htons(port));
	if (!local)
		mnl_attr_put_u8(h, IFLA_VXLAN_COLLECT_METADATA, 1);
	else
		mnl_attr_put_u32(h, IFLA_VXLAN_ID, port);
	if (local && inet_pton(AF_INET, local, &address) == 1)
		mnl_attr_put(h, IFLA_VXLAN_LOCAL, 4, &address);
	else if (local && inet_pton(AF_INET6, local, &address) == 1)
		mnl_attr_put(h, IFLA_VXLAN_LOCAL6, 16, &address);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return change(h);
}

static void make_vxlan_up(const char *name, uint16_t port, const char *local)
{
	assert_int_equal(make_vxlan(name, port, local), 0);
	set_up(name, true);
}

static int live_setup(void **state)
{
	struct live *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	l->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	l->kernel = kernel_sockets_new(l->proc_fd);
	assert_true(l->proc_fd >= 0 && l->home >= 0 && l->kernel);
	*state = l;
	return 0;
}

static int live_teardown(void **state)
{
	struct live *l = *state;

	if (l->moved)
		assert_int_equal(setns(l->home, CLONE_NEWNET), 0);
	kernel_sockets_free(l->kernel);
	close(l->home);
	close(l->proc_fd);
	free(l);
	return 0;
}

/* Goes into a new namespace, or skips the test. */
static void enter_namespace(struct live *l)
{
	int r;

	if (unshare(CLONE_NEWNET) < 0) {
		print_message("cannot run here: a network namespace takes CAP_SYS_ADMIN\n");
		skip();
	}
	l->moved = true;
	set_up("lo", true);
	r = make_vxlan("probe", 1, "127.0.0.1");
	if (r == -EOPNOTSUPP) {
		print_message("cannot run here: this kernel has no vxlan\n");
		skip();
	}
	assert_int_equal(r, 0);
}

/* A socket of root's that nobody has open: it is on its way. */
struct flight {
	int ends[2];
};

static void flight_end(struct flight *f)
{
	close(f->ends[0]);
	close(f->ends[1]);
}

static struct flight put_in_flight(int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec byte = {.iov_base = (char[]){'x'}, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &byte,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct flight f;

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f.ends), 0);
	assert_int_equal(sendmsg(f.ends[0], &message, 0), 1);
	close(fd);
	return f;
}

static int bound_socket(const char *address, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool ipv4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
	int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (ipv4) {
		assert_int_equal(bind(fd, (struct sockaddr *)&v4, sizeof(v4)), 0);
		return fd;
	}
	assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&v6, sizeof(v6)), 0);
	return fd;
}

struct search {
	uint8_t family;
	struct socket_row row;
	unsigned found;
};

static int match(void *context, const struct socket_row *row)
{
	struct search *s = context;

	if (row->local.address.family != s->family)
		return 0;
	s->row = *row;
	s->found++;
	return 0;
}

/* The one UDP socket on a port of the namespace that we are in. */
static struct socket_row row_on(uint16_t port, enum family family)
{
	const struct port_ranges ranges = {.range = {{port, port}}, .count = 1};
	struct search s = {.family = (uint8_t)family};
	struct source_facts facts;
	uint32_t protocols;
	void *source;

	assert_int_equal(source_diag_open(&source, &facts), 0);
	assert_int_equal(source_diag_ops.read(source, &ranges, match, &s, &protocols), 0);
	source_diag_ops.free(source);
	assert_int_equal(s.found, 1);
	assert_int_equal(s.row.uid, 0);
	assert_int_not_equal(s.row.inode, 0);
	return s.row;
}

/* As a new sweep would ask. */
static bool is_kernels(struct live *l, uint16_t port, enum family family)
{
	struct socket_row row = row_on(port, family);

	kernel_sockets_renew(l->kernel);
	return kernel_sockets_is_one(l->kernel, &row, NULL);
}

static void test_vxlan(void **state)
{
	struct live *l = *state;

	enter_namespace(l);
	make_vxlan_up("four", 50000, "127.0.0.1");
	make_vxlan_up("six", 50001, "::1");
	make_vxlan_up("any", 50002, NULL);
	assert_true(is_kernels(l, 50000, FAMILY_IPV4));
	assert_true(is_kernels(l, 50001, FAMILY_IPV6));
	assert_true(is_kernels(l, 50002, FAMILY_IPV4));
	assert_true(is_kernels(l, 50002, FAMILY_IPV6));
}

/* Beside tunnels, at each place where a process's socket fits in. */
static void test_in_flight(void **state)
{
	struct live *l = *state;
	struct flight flights[5];

	enter_namespace(l);
	make_vxlan_up("four", 50000, "127.0.0.1");
	make_vxlan_up("six", 50001, "::1");
	assert_int_equal(make_vxlan("down", 50002, "127.0.0.1"), 0);
	flights[0] = put_in_flight(bound_socket("::", 50000));
	flights[1] = put_in_flight(bound_socket("0.0.0.0", 50001));
	flights[2] = put_in_flight(bound_socket("0.0.0.0", 50002));
	flights[3] = put_in_flight(bound_socket("0.0.0.0", 50003));
	flights[4] = put_in_flight(bound_socket("127.0.0.1", 50004));
	assert_false(is_kernels(l, 50000, FAMILY_IPV6));
	assert_false(is_kernels(l, 50001, FAMILY_IPV4));
	assert_false(is_kernels(l, 50002, FAMILY_IPV4));
	assert_false(is_kernels(l, 50003, FAMILY_IPV4));
	assert_false(is_kernels(l, 50004, FAMILY_IPV4));
	/* and the kernel's own beside them */
	assert_true(is_kernels(l, 50000, FAMILY_IPV4));
	assert_true(is_kernels(l, 50001, FAMILY_IPV6));
	for (size_t i = 0; i < ELEMENTSOF(flights); i++)
		flight_end(&flights[i]);
}

/* What the kernel would not let a process have beside the tunnel, so that it must be told from the row. */
static void test_rows_that_differ(void **state)
{
	struct live *l = *state;
	struct socket_row row, other;

	enter_namespace(l);
	make_vxlan_up("four", 50000, "127.0.0.1");
	row = row_on(50000, FAMILY_IPV4);
	assert_int_equal(row.interface, 0);
	assert_true(kernel_sockets_is_one(l->kernel, &row, NULL));
#define REFUSED(member, value)                                                                     \
	do {                                                                                       \
		other = row;                                                                       \
		other.member = value;                                                              \
		assert_false(kernel_sockets_is_one(l->kernel, &other, NULL));                      \
	} while (0)
	REFUSED(inode, 0);
	REFUSED(uid, 1000);
	REFUSED(protocol, PROTOCOL_TCP);
	REFUSED(protocol, PROTOCOL_UDPLITE);
	REFUSED(state, TCP_ESTABLISHED);
	REFUSED(interface, 1);
	REFUSED(local.address.bytes[0], 127);
	REFUSED(local.port, 50001);
	REFUSED(remote, row.local);
#undef REFUSED
}

/* The socket stays where the device was made. */
static void test_moved(void **state)
{
	struct live *l = *state;
	_cleanup_(close_p) int made = -1, other = -1;
	struct flight flight;

	enter_namespace(l);
	other = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	enter_namespace(l);
	made = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(make_vxlan("four", 50000, "127.0.0.1"), 0);
	move_to("four", other);
	assert_int_equal(setns(other, CLONE_NEWNET), 0);
	set_up("four", true);
	flight = put_in_flight(bound_socket("0.0.0.0", 50000));
	assert_false(is_kernels(l, 50000, FAMILY_IPV4));
	assert_int_equal(setns(made, CLONE_NEWNET), 0);
	/* it is the kernel's, but that cannot be seen from here */
	assert_false(is_kernels(l, 50000, FAMILY_IPV4));
	flight_end(&flight);
}

static void test_renewal(void **state)
{
	struct live *l = *state;
	struct socket_row row;
	struct flight flight;

	enter_namespace(l);
	make_vxlan_up("four", 50000, "127.0.0.1");
	row = row_on(50000, FAMILY_IPV4);
	assert_true(kernel_sockets_is_one(l->kernel, &row, NULL));
	set_up("four", false);
	flight = put_in_flight(bound_socket("0.0.0.0", 50000));
	/* one look for all of a sweep's questions */
	assert_true(kernel_sockets_is_one(l->kernel, &row, NULL));
	assert_false(is_kernels(l, 50000, FAMILY_IPV4));
	flight_end(&flight);
	set_up("four", true);
	assert_true(is_kernels(l, 50000, FAMILY_IPV4));
}

/* ---- the root cgroup ---- */

struct tree {
	char path[64];
	int fd;
	struct kernel_sockets *kernel;
};

static void write_file(const struct tree *t, const char *name, const char *text)
{
	_cleanup_(close_p) int fd =
		openat(t->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void make_process(
	const struct tree *t, int32_t pid, const char *comm, int32_t parent, unsigned flags)
{
	char name[32], text[256];

	(void)snprintf(name, sizeof(name), "%d", pid);
	assert_int_equal(mkdirat(t->fd, name, 0700), 0);
	(void)snprintf(name, sizeof(name), "%d/stat", pid);
	(void)snprintf(text, sizeof(text),
		"%d (%s) S %d 0 0 0 -1 %u 0 0 0 0 0 0 0 0 20 0 1 0 99 0\n", pid, comm, parent,
		flags);
	write_file(t, name, text);
}

static int tree_setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));
	char mountinfo[256];

	assert_non_null(t);
	(void)snprintf(t->path, sizeof(t->path), "/tmp/test-kernel-sockets-XXXXXX");
	assert_non_null(mkdtemp(t->path));
	t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(t->fd >= 0);
	assert_int_equal(mkdirat(t->fd, "self", 0700), 0);
	(void)snprintf(
		mountinfo, sizeof(mountinfo), "30 20 0:27 / %s rw - cgroup2 cgroup2 rw\n", t->path);
	write_file(t, "self/mountinfo", mountinfo);
	make_process(t, 1, "systemd", 0, 0x400100);
	make_process(t, 2, "kthreadd", 0, 0x208040);
	make_process(t, 12, "kworker/0:1-xprtiod", 2, 0x4208060);
	/* started by the kernel, but with a program of its own */
	make_process(t, 34, "modprobe", 2, 0x400100);
	make_process(t, 56, "kworker) S 2 0 0 0 -1 2129984 0", 1, 0x400100);
	make_process(t, 78, "kthread/78", 2, 0x208040);
	t->kernel = kernel_sockets_new(t->fd);
	assert_non_null(t->kernel);
	*state = t;
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int tree_teardown(void **state)
{
	struct tree *t = *state;

	kernel_sockets_free(t->kernel);
	(void)close(t->fd);
	assert_int_equal(nftw(t->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(t);
	return 0;
}

/* NFS: a connection of root's, which nobody has open. */
static const struct socket_row nfs = {
	.cookie = 7,
	.inode = 4711,
	.cgroup_id = 1,
	.protocol = PROTOCOL_TCP,
	.state = TCP_ESTABLISHED,
	.local = {{FAMILY_IPV4, {127, 0, 0, 1}}, 50000},
	.remote = {{FAMILY_IPV4, {127, 0, 0, 1}}, 2049},
};

static void test_root_cgroup(void **state)
{
	static const struct {
		const char *pids;
		bool ret;
	} cases[] = {
		{"2\n12\n78\n", true},
		{"12\n2", true},
		/* gone: a worker that ended */
		{"2\n12\n90\n", true},
		{"1\n2\n12\n78\n", false},
		{"2\n12\n78\n1\n", false},
		{"2\n12\n34\n", false},
		{"2\n12\n56\n", false},
		/* not of our pid namespace */
		{"2\n12\n0\n", false},
		/* no kthreadd: it is not the root */
		{"", false},
		{"12\n78\n", false},
		{"0\n", false},
		{"90\n", false},
		{"2\n12\nx\n", false},
	};
	const struct tree *t = *state;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		write_file(t, "cgroup.procs", cases[i].pids);
		kernel_sockets_renew(t->kernel);
		if (kernel_sockets_is_one(t->kernel, &nfs, "/") != cases[i].ret)
			fail_msg("case %zu", i);
	}
}

static void test_other_cgroups(void **state)
{
	static const char *const others[] = {
		NULL, "", "/init.scope", "/system.slice/a.service", "//"};
	const struct tree *t = *state;
	struct socket_row row = nfs;

	write_file(t, "cgroup.procs", "2\n12\n");
	for (size_t i = 0; i < ELEMENTSOF(others); i++)
		assert_false(kernel_sockets_is_one(t->kernel, &nfs, others[i]));
	assert_true(kernel_sockets_is_one(t->kernel, &nfs, "/"));
	row.uid = 1000;
	assert_false(kernel_sockets_is_one(t->kernel, &row, "/"));
	row = nfs;
	row.inode = 0;
	assert_false(kernel_sockets_is_one(t->kernel, &row, "/"));
	/* one look for all of a sweep's questions */
	write_file(t, "cgroup.procs", "1\n2\n12\n");
	assert_true(kernel_sockets_is_one(t->kernel, &nfs, "/"));
	kernel_sockets_renew(t->kernel);
	assert_false(kernel_sockets_is_one(t->kernel, &nfs, "/"));
}

static void test_no_cgroup2(void **state)
{
	const struct tree *t = *state;

	assert_false(kernel_sockets_is_one(t->kernel, &nfs, "/")); /* no cgroup.procs */
	write_file(t, "cgroup.procs", "2\n12\n");
	write_file(t, "self/mountinfo", "30 20 0:27 / /sys/fs/cgroup rw - cgroup cgroup rw\n");
	kernel_sockets_renew(t->kernel);
	assert_false(kernel_sockets_is_one(t->kernel, &nfs, "/"));
	assert_int_equal(unlinkat(t->fd, "self/mountinfo", 0), 0);
	kernel_sockets_renew(t->kernel);
	assert_false(kernel_sockets_is_one(t->kernel, &nfs, "/"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vxlan, live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(test_in_flight, live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(test_rows_that_differ, live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(test_moved, live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(test_renewal, live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(test_root_cgroup, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(test_other_cgroups, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(test_no_cgroup2, tree_setup, tree_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
