/* SPDX-License-Identifier: MIT */

/* Each case runs in a child of its own: what is dropped does not come back. The same acts go right with the rights of
 * the ledger, so that what refuses them is what control has lost and the ledger has not. Landlock is tried by itself, too: as
 * control, most of what it refuses is not even left to be asked (test-syscalls). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <cap-ng.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "daemon/landlock.h"
#include "daemon/privilege.h"
#include "daemon/syscalls.h"

#define NO_LANDLOCK 77 /* the child's exit status */

struct place {
	char directory[64], *database, *other; /* paths */
	int fd;                                /* of the directory */
};

static int setup(void **state)
{
	static struct place place;
	struct place *p = &place;
	int fd;

	(void)snprintf(p->directory, sizeof(p->directory), "/tmp/portledger-privilege.XXXXXX");
	assert_non_null(mkdtemp(p->directory));
	assert_true(asprintf(&p->database, "%s/portledger.db", p->directory) > 0);
	assert_true(asprintf(&p->other, "%s/other", p->directory) > 0);
	fd = open(p->database, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
	assert_int_equal(write(fd, "rows", 4), 4);
	assert_int_equal(close(fd), 0);
	p->fd = open(p->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	close_p(&p->fd);
	(void)unlink(p->other);
	(void)unlink(p->database);
	free(p->other);
	free(p->database);
	return rmdir(p->directory);
}

/* The errno of opening, 0 if it went right. */
static int try_open(const char *path, int flags)
{
	_cleanup_(close_p) int fd = open(path, flags | O_CLOEXEC, 0600);

	return fd < 0 ? errno : 0;
}

static int error_of(int result)
{
	return result < 0 ? errno : 0;
}

static int try_tcp(void)
{
	const struct sockaddr_in nobody = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(1)};
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return error_of(connect(fd, (const struct sockaddr *)&nobody, sizeof(nobody)));
}

/* What must be so, else the child says where and ends with 1. */
#define EXPECT(what, wanted)                                                                       \
	do {                                                                                       \
		int _got = (what);                                                                 \
		if (_got != (wanted)) {                                                            \
			(void)fprintf(stderr, "line %d: %s gives %d, not %d\n", __LINE__, #what,   \
				_got, (wanted));                                                   \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void drop(enum privilege privilege, int state_fd)
{
	int r = privilege_drop(privilege, state_fd);

	if (r == 1)
		_exit(NO_LANDLOCK);
	EXPECT(r, 0);
}

static void drop_as_control(const struct place *p)
{
	drop(PRIVILEGE_CONTROL, p->fd);
}

static void confine_with_landlock(const struct place *p)
{
	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (landlock_read_only(&p->fd, 1) == 0)
		_exit(NO_LANDLOCK);
}

static void control_reads(const struct place *p)
{
	char text[5] = "";
	int fd;

	drop_as_control(p);
	fd = open(p->database, O_RDONLY | O_CLOEXEC);
	EXPECT(fd >= 0, 1);
	EXPECT((int)read(fd, text, 4), 4);
	EXPECT(streq(text, "rows"), 1);
	EXPECT(try_open(p->directory, O_RDONLY | O_DIRECTORY), 0);
	EXPECT(try_open("/proc/self/smaps_rollup", O_RDONLY), 0);
	EXPECT(try_open("/proc/sys/net/ipv4/ip_local_reserved_ports", O_RDONLY), 0);
	EXPECT(try_open("/etc/passwd", O_RDONLY), EACCES);
	EXPECT(try_open("/proc/version", O_RDONLY), EACCES);
	EXPECT(try_open("/proc/sys/net/core/somaxconn", O_RDONLY), EACCES);
}

static void landlock_writes_nothing(const struct place *p)
{
	confine_with_landlock(p);
	EXPECT(try_open(p->database, O_RDWR), EACCES);
	EXPECT(try_open(p->database, O_WRONLY), EACCES);
	EXPECT(try_open(p->database, O_RDONLY | O_TRUNC), EACCES);
	EXPECT(try_open(p->other, O_WRONLY | O_CREAT), EACCES);
	EXPECT(try_open("/tmp/portledger-privilege", O_WRONLY | O_CREAT), EACCES);
	EXPECT(error_of(mkdir(p->other, 0700)), EACCES);
	EXPECT(error_of(rename(p->database, p->other)), EACCES);
	EXPECT(error_of(link(p->database, p->other)), EACCES);
	EXPECT(error_of(symlink("x", p->other)), EACCES);
	EXPECT(error_of(unlink(p->database)), EACCES);
}

static void control_writes_nothing(const struct place *p)
{
	drop_as_control(p);
	EXPECT(try_open(p->database, O_RDWR), EACCES);
	EXPECT(try_open(p->database, O_RDONLY | O_TRUNC), EACCES);
	EXPECT(try_open(p->other, O_WRONLY | O_CREAT), EACCES);
	EXPECT(try_open("/proc/sys/net/ipv4/ip_local_reserved_ports", O_WRONLY), EACCES);
	EXPECT(error_of(mkdir(p->other, 0700)), ENOSYS);
	EXPECT(error_of(rename(p->database, p->other)), ENOSYS);
	EXPECT(error_of(link(p->database, p->other)), ENOSYS);
	EXPECT(error_of(unlink(p->database)), ENOSYS);
	EXPECT(error_of(truncate(p->database, 0)), ENOSYS);
	if (!SYSCALLS_SANITIZED)
		EXPECT(error_of(kill(getppid(), 0)), ENOSYS);
	EXPECT(try_tcp(), ENOSYS); /* nor a socket for it */
}

/* Its user owns the files: with chmod(2) alone it could let the world write them. */
static void control_opens_nothing_to_others(const struct place *p)
{
	const struct timespec times[2] = {0};
	struct stat st;

	drop_as_control(p);
	EXPECT(error_of(chmod(p->directory, 0777)), ENOSYS);
	EXPECT(error_of(fchmod(p->fd, 0777)), ENOSYS);
	EXPECT(error_of(fchmodat(AT_FDCWD, p->database, 0666, 0)), ENOSYS);
	EXPECT(error_of((int)syscall(452, AT_FDCWD, p->database, 0666, 0)), ENOSYS); /* fchmodat2 */
	EXPECT(error_of(chown(p->database, geteuid(), getegid())), ENOSYS);
	EXPECT(error_of(utimensat(AT_FDCWD, p->database, times, 0)), ENOSYS);
	EXPECT(error_of(setxattr(p->database, "user.x", "x", 1, 0)), ENOSYS);
	EXPECT(error_of(removexattr(p->database, "user.x")), ENOSYS);
	EXPECT(stat(p->database, &st), 0);
	EXPECT((int)st.st_mode & 07777, 0640);
}

/* Linux 6.2 (version 3), 6.7 (4), 6.12 (6). */
static void landlock_later_versions(const struct place *p)
{
	if (syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, 1) < 6)
		_exit(NO_LANDLOCK);
	confine_with_landlock(p);
	EXPECT(error_of(truncate(p->database, 0)), EACCES);
	EXPECT(try_tcp(), EACCES);
	EXPECT(error_of(kill(getppid(), 0)), EPERM);
}

static void ledger_writes(const struct place *p)
{
	drop(PRIVILEGE_LEDGER, -1);
	EXPECT(try_open(p->database, O_RDWR), 0);
	EXPECT(try_open(p->database, O_RDONLY | O_TRUNC), 0);
	EXPECT(try_open(p->other, O_WRONLY | O_CREAT), 0);
	EXPECT(try_open("/etc/passwd", O_RDONLY), 0);
	EXPECT(try_open("/proc/version", O_RDONLY), 0);
	EXPECT(error_of(fchmod(p->fd, 0700)), 0);
	EXPECT(error_of(rename(p->other, p->database)), 0);
	EXPECT(error_of(mkdir(p->other, 0700)), 0);
	EXPECT(error_of(unlinkat(AT_FDCWD, p->other, AT_REMOVEDIR)), 0);
	if (!SYSCALLS_SANITIZED)
		EXPECT(error_of(kill(getppid(), 0)), ENOSYS);
	EXPECT(try_tcp(), ENOSYS);
}

/* "CapEff:\t0000000000000000" of proc(5). */
static uint64_t own_status(const char *name)
{
	_cleanup_(close_p) int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	char text[4096], wanted[32];
	ssize_t n = read(fd, text, sizeof(text) - 1);
	const char *line;

	EXPECT(n > 0, 1);
	text[n] = '\0';
	(void)snprintf(wanted, sizeof(wanted), "\n%s:\t", name);
	line = strstr(text, wanted);
	EXPECT(line != NULL, 1);
	return strtoull(line + strlen(wanted), NULL, 16);
}

/* As systemd starts a unit with User= and AmbientCapabilities=. */
static void raise_ambient(void)
{
	const unsigned kept[] = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};

	EXPECT(capng_get_caps_process(), 0);
	for (size_t i = 0; i < ELEMENTSOF(kept); i++)
		EXPECT(capng_update(CAPNG_ADD, CAPNG_INHERITABLE, kept[i]), 0);
	EXPECT(capng_apply(CAPNG_SELECT_CAPS), 0);
	for (size_t i = 0; i < ELEMENTSOF(kept); i++)
		EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0), 0);
	EXPECT(own_status("CapAmb") != 0, 1);
}

static void expect_capabilities(uint64_t wanted)
{
	EXPECT(own_status("CapEff") == wanted, 1);
	EXPECT(own_status("CapPrm") == wanted, 1);
	EXPECT(own_status("CapInh") == 0, 1);
	EXPECT(own_status("CapAmb") == 0, 1);
	EXPECT(own_status("CapBnd") == 0, 1);
	EXPECT((int)own_status("NoNewPrivs"), 1);
}

static void ledger_has_no_capability(const struct place *p)
{
	(void)p;
	raise_ambient();
	drop(PRIVILEGE_LEDGER, -1);
	expect_capabilities(0);
}

static void control_has_no_capability(const struct place *p)
{
	raise_ambient();
	EXPECT(privilege_drop(PRIVILEGE_CONTROL, p->fd) >= 0, 1);
	expect_capabilities(0);
}

static void capture_has_two(const struct place *p)
{
	(void)p;
	raise_ambient();
	drop(PRIVILEGE_CAPTURE, -1);
	expect_capabilities(UINT64_C(1) << CAP_SYS_PTRACE | UINT64_C(1) << CAP_DAC_READ_SEARCH);
}

/* capng_apply() that says it did, and did not. */
static bool nothing_applied;

int __real_capng_apply(capng_select_t set);
int __wrap_capng_apply(capng_select_t set);

int __wrap_capng_apply(capng_select_t set)
{
	return nothing_applied ? 0 : __real_capng_apply(set);
}

static void more_than_allowed_is_refused(const struct place *p)
{
	static const enum privilege all[] = {
		PRIVILEGE_CAPTURE, PRIVILEGE_EVENTS, PRIVILEGE_LEDGER, PRIVILEGE_CONTROL};

	nothing_applied = true;
	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		EXPECT(privilege_drop(all[i], p->fd), -EPERM);
}

/* What somebody of its own uid may read of it. */
static int look_into(pid_t pid)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	return try_open(path, O_RDONLY);
}

static void own_uid_does_not_look_into(const struct place *p)
{
	int ready[2], end[2], status;
	char byte = 0;
	pid_t pid;

	(void)p;
	EXPECT(setresgid(65534, 65534, 65534), 0);
	EXPECT(setresuid(65534, 65534, 65534), 0);
	EXPECT(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0); /* setresuid() took it */
	EXPECT(pipe(ready) == 0 && pipe(end) == 0, 1);
	pid = fork();
	(void)close(pid == 0 ? end[1] : ready[1]);
	if (pid == 0) {
		EXPECT((int)write(ready[1], "a", 1), 1);
		EXPECT((int)read(end[0], &byte, 1), 1);
		drop(PRIVILEGE_LEDGER, -1);
		EXPECT((int)write(ready[1], "b", 1), 1);
		_exit((int)read(end[0], &byte, 1)); /* 0: the other end is closed */
	}
	EXPECT((int)read(ready[0], &byte, 1), 1);
	EXPECT(look_into(pid), 0);
	EXPECT((int)write(end[1], "a", 1), 1);
	if (read(ready[0], &byte, 1) != 1) { /* it has ended, and said why */
		EXPECT((int)waitpid(pid, &status, 0), (int)pid);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	EXPECT(look_into(pid), EACCES);
	(void)close(end[1]);
	EXPECT((int)waitpid(pid, NULL, 0), (int)pid);
}

/* A child that is started again has capture's filter before it gets its own. */
static void children_of_capture(const struct place *p)
{
	static const enum privilege children[] = {PRIVILEGE_LEDGER, PRIVILEGE_CONTROL};

	drop(PRIVILEGE_CAPTURE, -1);
	for (size_t i = 0; i < ELEMENTSOF(children); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			int r = privilege_drop(children[i], p->fd);

			_exit(r == 1 ? NO_LANDLOCK : r == 0 ? 0 : 1);
		}
		EXPECT((int)waitpid(pid, &status, 0), (int)pid);
		EXPECT(WIFEXITED(status) != 0, 1);
		if (WEXITSTATUS(status) != 0)
			_exit(WEXITSTATUS(status));
	}
}

static void in_child(void **state, void (*body)(const struct place *p))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		body(*state);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_LANDLOCK) {
		print_message("cannot run here: this kernel has no Landlock, or an older one\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void as_root(void **state, void (*body)(const struct place *p))
{
	if (geteuid() != 0) {
		print_message("cannot run here: only root has capabilities to drop\n");
		skip();
	}
	in_child(state, body);
}

static void test_control_reads(void **state)
{
	in_child(state, control_reads);
}

static void test_control_writes_nothing(void **state)
{
	in_child(state, control_writes_nothing);
}

static void test_control_opens_nothing_to_others(void **state)
{
	in_child(state, control_opens_nothing_to_others);
}

static void test_landlock_writes_nothing(void **state)
{
	in_child(state, landlock_writes_nothing);
}

static void test_landlock_later_versions(void **state)
{
	in_child(state, landlock_later_versions);
}

static void test_children_of_capture(void **state)
{
	in_child(state, children_of_capture);
}

static void test_more_than_allowed_is_refused(void **state)
{
	as_root(state, more_than_allowed_is_refused);
}

static void test_own_uid_does_not_look_into(void **state)
{
	as_root(state, own_uid_does_not_look_into);
}

static void test_ledger_writes(void **state)
{
	in_child(state, ledger_writes);
}

static void test_ledger_has_no_capability(void **state)
{
	as_root(state, ledger_has_no_capability);
}

static void test_control_has_no_capability(void **state)
{
	as_root(state, control_has_no_capability);
}

static void test_capture_has_two(void **state)
{
	as_root(state, capture_has_two);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_control_reads),
		CASE(test_control_writes_nothing),
		CASE(test_control_opens_nothing_to_others),
		CASE(test_landlock_writes_nothing),
		CASE(test_landlock_later_versions),
		CASE(test_children_of_capture),
		CASE(test_more_than_allowed_is_refused),
		CASE(test_own_uid_does_not_look_into),
		CASE(test_ledger_writes),
		CASE(test_ledger_has_no_capability),
		CASE(test_control_has_no_capability),
		CASE(test_capture_has_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
