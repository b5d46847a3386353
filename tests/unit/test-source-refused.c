/* SPDX-License-Identifier: MIT */

/*
 * sock_diag where the system refuses, one thing after the other, and where the kernel's answers are other than they should be. A table
 * that was not read whole is never said to be: what it lacks would be taken for closed.
 */

#include "common/base.h"

#include <dirent.h>
#include <libmnl/libmnl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <cmocka.h>

#include "daemon/capture/source.h"
#include "tests/support/failing.h"

#define REFUSABLE(type, failure, name, parameters, arguments)                                      \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return failing_now() ? (failure) : __real_##name arguments;                        \
	}

REFUSABLE(struct mnl_socket *, NULL, mnl_socket_open2, (int bus, int flags), (bus, flags))
REFUSABLE(int, -1, mnl_socket_bind, (struct mnl_socket * s, unsigned groups, pid_t pid),
	(s, groups, pid))
REFUSABLE(ssize_t, -1, mnl_socket_sendto,
	(const struct mnl_socket *s, const void *bytes, size_t size), (s, bytes, size))
REFUSABLE(int, -1, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
	(fd, level, name, value, size))
REFUSABLE(int, -1, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
	(fd, level, name, value, size))
REFUSABLE(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
REFUSABLE(int, -1, bind, (int fd, const struct sockaddr *a, socklen_t size), (fd, a, size))
REFUSABLE(int, -1, listen, (int fd, int backlog), (fd, backlog))
REFUSABLE(int, -1, uname, (struct utsname * u), (u))

/* One read of a file of /proc gives no more than the kernel has made for it, a page; here it is less. */
static size_t piece = SIZE_MAX;
REFUSABLE(ssize_t, -1, pread64, (int fd, void *bytes, size_t size, off_t at),
	(fd, bytes, MIN(size, piece), at))

/* What becomes of the first answers that come, or of the first that ends a dump. */
enum spoiled {
	AS_IT_IS,
	INTERRUPTED, /* by a signal: EINTR */
	OVERRUN,     /* messages were dropped: ENOBUFS */
	TOO_LONG,    /* one was longer than the buffer: ENOSPC */
	SILENT,      /* EAGAIN: the end does not come */
	RESET,       /* another error */
	EMPTY,       /* no bytes */
	CUT,         /* with half a message at its end */
	CHANGED,     /* NLM_F_DUMP_INTR: the table changed while it was read */
	OF_EARLIER,  /* an answer to an earlier question before it */
	NO_CODE,     /* NLMSG_DONE without its number */
	NO_ERROR,    /* NLMSG_ERROR without its number */
	UNSUPPORTED, /* NLMSG_ERROR with EOPNOTSUPP */
	NO_SUCH,     /* NLMSG_ERROR with ENOENT */
	SPOILED_COUNT
};
static enum spoiled spoiled;
static bool spoils_always;    /* not once only */
static unsigned spoils_after; /* so many more come as they are before */

ssize_t __real_mnl_socket_recvfrom(const struct mnl_socket *s, void *room, size_t size);
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *room, size_t size);

static ssize_t fail_with(int error)
{
	errno = error;
	return -1;
}

/* A message of this type instead of all that came, to the same question. */
static ssize_t instead(void *room, uint16_t type, size_t payload, int code)
{
	struct nlmsghdr *h = room;

	h->nlmsg_type = type;
	h->nlmsg_len = (uint32_t)(sizeof(*h) + payload);
	memcpy(h + 1, &code, sizeof(code));
	return (ssize_t)h->nlmsg_len;
}

static ssize_t spoil(const struct mnl_socket *s, void *room, size_t size, enum spoiled how)
{
	ssize_t n = __real_mnl_socket_recvfrom(s, room, size);
	struct nlmsghdr *h = room;

	assert_true(n >= (ssize_t)sizeof(*h));
	switch ((int)how) {
	case CHANGED:
		h->nlmsg_flags |= NLM_F_DUMP_INTR;
		return n;
	case OF_EARLIER:
		assert_true((size_t)n + 20 <= size);
		memmove((char *)room + 20, room, (size_t)n);
		h->nlmsg_len = 20;
		h->nlmsg_type = NLMSG_DONE;
		h->nlmsg_seq--;
		return n + 20;
	case NO_CODE:
		return instead(room, NLMSG_DONE, 0, 0);
	case NO_ERROR:
		return instead(room, NLMSG_ERROR, 0, 0);
	case UNSUPPORTED:
		return instead(room, NLMSG_ERROR, sizeof(int), -EOPNOTSUPP);
	case NO_SUCH:
		return instead(room, NLMSG_ERROR, sizeof(int), -ENOENT);
	default:
		return n;
	}
}

ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *room, size_t size)
{
	static const int errors[SPOILED_COUNT] = {[INTERRUPTED] = EINTR,
		[OVERRUN] = ENOBUFS,
		[TOO_LONG] = ENOSPC,
		[SILENT] = EAGAIN,
		[RESET] = EIO};
	enum spoiled how = spoiled;

	if (failing_now())
		return -1;
	if (how != AS_IT_IS && spoils_after > 0) {
		spoils_after--;
		return __real_mnl_socket_recvfrom(s, room, size);
	}
	if (!spoils_always)
		spoiled = AS_IT_IS;
	if (how == EMPTY)
		return 0;
	if (how == CUT) {
		const struct nlmsghdr half = {.nlmsg_len = 64};

		memcpy(room, &half, sizeof(half));
		return 32;
	}
	return errors[how] ? fail_with(errors[how]) : spoil(s, room, size, how);
}

static const struct port_ranges everything = {.range = {{1, UINT16_MAX}}, .count = 1};

static int count_row(void *context, const struct socket_row *row)
{
	assert_true(row->cookie != 0);
	(*(unsigned *)context)++;
	return 0;
}

static unsigned count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(d);
	while (readdir(d))
		count++;
	(void)closedir(d);
	return count;
}

/* Opens, reads and closes. 0, or what went wrong; *ret_protocols: what was read whole. */
static int whole_life(uint32_t *ret_protocols, bool *ret_bound_only)
{
	struct source_facts facts;
	unsigned rows = 0;
	void *source;
	int r = source_diag_open(&source, &facts);

	*ret_protocols = 0;
	*ret_bound_only = false;
	if (r < 0)
		return r;
	*ret_bound_only = facts.bound_only;
	r = source_diag_ops.read(source, &everything, count_row, &rows, ret_protocols);
	if (r == 0)
		r = source_diag_ops.read_listeners(source, &everything, count_row, &rows);
	if (r == 0 && source_diag_ops.connections_same(source))
		r = source_diag_ops.read_others(
			source, &everything, count_row, &rows, ret_protocols);
	source_diag_ops.free(source);
	return r;
}

/* Whatever is refused: an error, or less is known and that is said; and no descriptor stays open. */
static void test_each_call_is_refused(void **state)
{
	unsigned n = 0, descriptors = count_descriptors(), errors = 0, less = 0;
	uint32_t all, protocols;
	bool bound_only, all_bound_only;

	(void)state;
	assert_int_equal(whole_life(&all, &all_bound_only), 0);
	do {
		int r;

		failing_hits = 0;
		failing_in = n++;
		r = whole_life(&protocols, &bound_only);
		failing_in = UINT_MAX;
		assert_int_equal(count_descriptors(), descriptors);
		assert_int_equal(protocols & ~all, 0);
		assert_true(all_bound_only || !bound_only);
		errors += r < 0;
		less += r == 0 && (protocols != all || bound_only != all_bound_only);
	} while (failing_hits > 0);
	assert_int_equal(protocols, all);
	assert_true(n > 30 && errors > 5 && less > 5);
}

static void test_answers_are_spoiled(void **state)
{
	static const struct {
		enum spoiled how;
		bool whole; /* TCP was read whole all the same */
	} cases[] = {
		{INTERRUPTED, true},
		{OVERRUN, false},
		{TOO_LONG, false},
		{SILENT, false},
		{RESET, false},
		{EMPTY, true},
		{CUT, false},
		{CHANGED, false},
		{OF_EARLIER, true},
		{NO_CODE, true},
		{NO_ERROR, false},
		{UNSUPPORTED, false},
	};
	struct source_facts facts;
	void *source;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		uint32_t protocols = 0;
		unsigned rows = 0;

		assert_int_equal(source_diag_open(&source, &facts), 0);
		/* the first of all tables is spoiled: MPTCP's, where it is read, else TCP's */
		spoiled = cases[i].how;
		assert_int_equal(
			source_diag_ops.read(source, &everything, count_row, &rows, &protocols), 0);
		assert_int_equal(spoiled, AS_IT_IS);
		if ((protocols == facts.protocols) != cases[i].whole)
			fail_msg("spoiled %d: %x of %x", (int)cases[i].how, protocols,
				facts.protocols);
		source_diag_ops.free(source);
	}
}

/* A kernel that always answers so. */
static void test_kernels_without(void **state)
{
	static const struct {
		enum spoiled how;
		int r;
	} cases[] = {{NO_SUCH, -ENOENT}, {RESET, -EIO}, {SILENT, -ETIMEDOUT}};

	(void)state;
	spoils_always = true;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct source_facts facts = {.protocols = 99};
		void *source = NULL;

		spoiled = cases[i].how;
		assert_int_equal(source_diag_open(&source, &facts), cases[i].r);
		assert_null(source);
		assert_int_equal(facts.protocols, 99);
	}
	spoiled = AS_IT_IS;
	spoils_always = false;
}

/* How the old request, which only TCP is asked with, is told that there is nobody to ask. */
static void test_kernel_without_tcp(void **state)
{
	unsigned lacking = 0;

	(void)state;
	for (unsigned after = 0; after < 8; after++) {
		struct source_facts facts;
		void *source = NULL;
		int r;

		spoiled = UNSUPPORTED;
		spoils_after = after;
		r = source_diag_open(&source, &facts);
		spoiled = AS_IT_IS;
		lacking += r == -ENOENT;
		assert_int_equal(r == 0, source != NULL);
		source_diag_ops.free(source);
	}
	spoils_after = 0;
	assert_true(lacking > 0);
}

static int count_mptcp(void *context, const struct socket_row *row)
{
	*(unsigned *)context += row->protocol == PROTOCOL_MPTCP;
	return 0;
}

/* As after somebody has loaded so many protocols that a page has no room for MPTCP's line any more. */
static void test_more_protocols_than_a_page_has(void **state)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct source_facts facts;
	uint32_t protocols;
	unsigned found = 0;
	void *source;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	(void)state;
	if (fd < 0) {
		print_message("cannot run here: this kernel has no MPTCP\n");
		skip();
	}
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(source_diag_open(&source, &facts), 0);
	piece = 200;
	assert_int_equal(
		source_diag_ops.read(source, &everything, count_mptcp, &found, &protocols), 0);
	piece = SIZE_MAX;
	assert_int_equal(found, 1);
	source_diag_ops.free(source);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_call_is_refused),
		cmocka_unit_test(test_answers_are_spoiled),
		cmocka_unit_test(test_kernels_without),
		cmocka_unit_test(test_kernel_without_tcp),
		cmocka_unit_test(test_more_protocols_than_a_page_has),
	};

	/* where it may be: without the sockets of others */
	if (unshare(CLONE_NEWNET) < 0)
		(void)unshare(CLONE_NEWUSER | CLONE_NEWNET);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
