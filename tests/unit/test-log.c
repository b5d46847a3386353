/* SPDX-License-Identifier: MIT */

/* The log, with a socket of ours in the place of journald's and a pipe or a socket in that of standard error. */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/buf.h"
#include "common/journal.h"
#include "common/log.h"
#include "common/limits.h"

static struct {
	char directory[64], path[96], stream[64];
	int journal;        /* the socket at `path`; -1: there is none */
	int standard_error; /* what our descriptor 2 was */
	int error[2];       /* its stand-in: what is written to [1], which is 2, is read at [0] */
} world = {.journal = -1, .standard_error = -1};

/* journald comes (back): a new socket at the same path. */
static void start_journal(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	world.journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(world.journal >= 0);
	memcpy(address.sun_path, world.path, strlen(world.path));
	assert_int_equal(bind(world.journal, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void stop_journal(void)
{
	close(world.journal);
	world.journal = -1;
	assert_int_equal(unlink(world.path), 0);
}

/* Standard error is a socket, as under systemd, until restore_error(). */
static void replace_error(void)
{
	struct stat st;

	world.standard_error = dup(STDERR_FILENO);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, world.error), 0);
	assert_true(dup2(world.error[1], STDERR_FILENO) >= 0);
	assert_int_equal(fcntl(world.error[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(world.stream, sizeof(world.stream), "%ju:%ju", (uintmax_t)st.st_dev,
		(uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", world.stream, 1);
}

static void restore_error(void)
{
	dup2(world.standard_error, STDERR_FILENO);
	close(world.standard_error);
	close(world.error[0]);
	close(world.error[1]);
}

/* What standard error got, as text. */
static const char *read_error(char text[static 8192])
{
	ssize_t n = read(world.error[0], text, 8191);

	text[MAX(n, (ssize_t)0)] = '\0';
	return text;
}

/* An entry, as journald reads it. */
struct entry {
	char bytes[65536];
	size_t size;
};

static bool receive(struct entry *e)
{
	ssize_t n = recv(world.journal, e->bytes, sizeof(e->bytes), 0);

	e->size = (size_t)MAX(n, (ssize_t)0);
	return n >= 0;
}

/* The value of a field in `ret`, NUL-terminated, and its size; -1: it is not there. Reads the whole entry, by the rules of
 * the protocol. */
static ssize_t field(const struct entry *e, const char *name, char ret[static 8192])
{
	struct reader r = {.next = (const uint8_t *)e->bytes, .left = e->size};
	ssize_t found = -1;

	while (r.left > 0) {
		const uint8_t *line = r.next, *end = memchr(r.next, '\n', r.left), *value;
		size_t length, size;

		assert_non_null(end);
		length = (size_t)(end - line);
		assert_null(memchr(line, '=', length));
		(void)reader_bytes(&r, length + 1);
		size = reader_u64(&r);
		value = reader_bytes(&r, size);
		assert_int_equal(reader_u8(&r), '\n');
		assert_false(r.failed);
		if (length != strlen(name) || memcmp(line, name, length) != 0)
			continue;
		assert_int_equal(found, -1); /* once */
		found = (ssize_t)size;
		memcpy(ret, value, size);
		ret[size] = '\0';
	}
	return found;
}

static void assert_field(const struct entry *e, const char *name, const char *value)
{
	char text[8192];

	assert_int_equal(field(e, name, text), strlen(value));
	assert_string_equal(text, value);
}

static void test_the_stream_is_recognised(void **state)
{
	struct stat st;
	char text[64];

	(void)state;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	assert_true(journal_is_stream(STDERR_FILENO, text));
	strcat(text, "0");
	assert_false(journal_is_stream(STDERR_FILENO, text));
	assert_false(journal_is_stream(STDERR_FILENO, NULL));
	assert_false(journal_is_stream(STDERR_FILENO, ""));
	assert_false(journal_is_stream(STDERR_FILENO, "8"));
	assert_false(journal_is_stream(STDERR_FILENO, "x:y"));
	assert_false(journal_is_stream(-1, "8:1"));
}

static void test_a_value_is_any_bytes(void **state)
{
	static const char value[] = "a\nMESSAGE=forged\n\0\xff\x1b[2J=";
	_cleanup_(buf_done) struct buf b = {0};
	struct entry e;
	char text[8192];
	int fd = journal_open();

	(void)state;
	start_journal();
	assert_true(fd >= 0);
	assert_int_equal(journal_put(&b, "MESSAGE", "", 0), 0);
	assert_int_equal(journal_put(&b, "X_Y", value, sizeof(value)), 0);
	assert_int_equal(journal_send(fd, world.path, &b), 0);
	assert_true(receive(&e));
	assert_field(&e, "MESSAGE", "");
	assert_int_equal(field(&e, "X_Y", text), sizeof(value));
	assert_memory_equal(text, value, sizeof(value));
	stop_journal();
	assert_int_equal(journal_send(fd, world.path, &b), -ENOENT);
	close(fd);
}

static void test_without_a_journal_lines_go_to_standard_error(void **state)
{
	char text[8192];

	(void)state;
	replace_error();
	start_journal();
	setenv("JOURNAL_STREAM", "1:1", 1); /* of somebody else */
	log_open("test", LOG_LEVEL_INFO);
	log_to_journal(world.path);
	assert_int_equal(log_descriptor(), -1);
	log_notice("what %s\nis", "it");
	log_debug("not this");
	log_event(LOG_EVENT_CONFIG_RELOADED, LOG_FIELDS(LOG_NUMBER("X", 1)), "reloaded");
	read_error(text);
	stop_journal();
	restore_error();
	assert_string_equal(text, "<5>test: what it\\x0ais\n<5>test: reloaded\n");
}

static void test_an_event_goes_to_the_journal(void **state)
{
	struct entry e;
	char text[8192];
	int saved;

	(void)state;
	replace_error();
	start_journal();
	log_to_journal(world.path);
	errno = EXDEV;
	log_event(LOG_EVENT_CHILD_DIED,
		LOG_FIELDS(LOG_TEXT("CHILD", "e\x1b[31mvil\nPRIORITY=0\n\x80\u202e\\x41"),
			LOG_TEXT("NOTHING", NULL), LOG_NUMBER("PID", UINT64_MAX)),
		"%s died", "e\x1bvil");
	saved = errno;
	read_error(text);
	restore_error();
	assert_int_equal(saved, EXDEV);
	assert_string_equal(text, "");
	assert_true(receive(&e));
	assert_field(&e, "MESSAGE", "e\\x1bvil died");
	assert_field(&e, "PRIORITY", "3");
	assert_field(&e, "SYSLOG_IDENTIFIER", "portledgerd");
	assert_field(&e, "PORTLEDGER_PROCESS", "test");
	assert_field(&e, "PORTLEDGER_EVENT", "child-died");
	assert_field(&e, "MESSAGE_ID", "ab295ed56f3844e685d6dc7ff4b3d36e");
	assert_field(&e, "PORTLEDGER_CHILD",
		"e\\x1b[31mvil\\x0aPRIORITY=0\\x0a\\x80\\xe2\\x80\\xae\\x41");
	assert_field(&e, "PORTLEDGER_PID", "18446744073709551615");
	assert_int_equal(field(&e, "PORTLEDGER_NOTHING", text), -1);
	log_warning("plain");
	assert_true(receive(&e));
	assert_field(&e, "MESSAGE", "plain");
	assert_field(&e, "PRIORITY", "4");
	assert_int_equal(field(&e, "MESSAGE_ID", text), -1);
	stop_journal();
}

/* From here on the log writes to the journal: see the order in main(). */

static void test_a_long_value_is_cut(void **state)
{
	char *name = calloc(1, 100001), text[8192];
	struct entry e;

	(void)state;
	start_journal();
	memset(name, 'x', 100000);
	log_event(LOG_EVENT_PROGRAM_NEW, LOG_FIELDS(LOG_TEXT("EXE", name), LOG_TEXT("COMM", name)),
		"new: %s", name);
	free(name);
	assert_true(receive(&e));
	assert_int_equal(field(&e, "PORTLEDGER_EXE", text), LIMIT_STRING_BYTES);
	assert_int_equal(field(&e, "MESSAGE", text), 1023);
	stop_journal();
}

/* A child that closes all but what it keeps still reaches the journal, and nothing else. */
static void test_a_child_that_closes_what_it_does_not_need(void **state)
{
	int keep = log_descriptor(), status;
	struct entry e;
	pid_t pid;

	(void)state;
	assert_true(keep > STDERR_FILENO);
	start_journal();
	pid = fork();
	if (pid == 0) {
		(void)close_range(STDERR_FILENO + 1, (unsigned)keep - 1, 0);
		(void)close_range((unsigned)keep + 1, UINT32_MAX, 0);
		log_name("child");
		log_error("alive");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(receive(&e));
	assert_field(&e, "MESSAGE", "alive");
	assert_field(&e, "PORTLEDGER_PROCESS", "child");
	stop_journal();
}

static void test_a_journal_that_comes_back(void **state)
{
	struct entry e;
	char text[8192];

	(void)state;
	replace_error();
	log_error("nobody there");
	read_error(text);
	restore_error();
	assert_string_equal(text, "<3>test: nobody there\n");
	start_journal();
	log_error("again");
	assert_true(receive(&e));
	assert_field(&e, "MESSAGE", "again");
	assert_false(receive(&e)); /* standard error took it: nothing was lost */
	stop_journal();
}

/* A journal that reads nothing, and a standard error that nobody reads: no line waits, all are counted. */
static void count_lost(const char *line, uint64_t *ret_journal, uint64_t *ret_error)
{
	struct entry e;
	char text[8192], last[8192] = "";
	size_t bytes = 0;

	for (unsigned i = 0; i < 20000; i++)
		log_notice("%s", line);
	for (*ret_journal = 0; receive(&e);)
		++*ret_journal;
	while (*read_error(text)) {
		bytes += strlen(text);
		strcpy(last, text);
	}
	assert_true(*last == '\0' || last[strlen(last) - 1] == '\n');
	*ret_error = bytes / (strlen("<5>test: \n") + strlen(line));
}

static void test_nobody_reads(void **state)
{
	uint64_t journal, error;
	struct entry e;
	char text[8192];

	(void)state;
	replace_error();
	start_journal();
	count_lost("a line that nobody reads", &journal, &error);
	log_notice("now somebody does");
	restore_error();
	assert_in_range(journal, 1, 19999);
	assert_in_range(error, 1, 19999);
	assert_true(receive(&e));
	assert_field(&e, "MESSAGE", "now somebody does");
	assert_true(receive(&e));
	assert_field(&e, "PORTLEDGER_EVENT", "lines-lost");
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(20000 - journal - error));
	assert_field(&e, "PORTLEDGER_LOST", text);
	log_notice("it is said once");
	assert_true(receive(&e));
	assert_false(receive(&e));
	stop_journal();
}

/* The other end of standard error is gone: EPIPE, and no signal. */
static void test_standard_error_is_closed(void **state)
{
	struct entry e;

	(void)state;
	replace_error();
	shutdown(world.error[0], SHUT_RDWR);
	log_error("lost");
	log_error("lost");
	start_journal();
	log_error("not lost");
	restore_error();
	assert_true(receive(&e));
	assert_true(receive(&e));
	assert_field(&e, "PORTLEDGER_LOST", "2");
	stop_journal();
}

/* A pipe that is full: neither waits, nor is a line torn. */
static void test_standard_error_is_a_full_pipe(void **state)
{
	static char text[1 << 20];
	int ends[2], saved = dup(STDERR_FILENO);
	char line[1001];
	struct entry e;
	ssize_t n;

	(void)state;
	memset(line, 'y', 1000);
	line[1000] = '\0';
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	for (unsigned i = 0; i < 1000; i++)
		log_error("%s", line);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(ends[1]);
	n = read(ends[0], text, sizeof(text));
	close(ends[0]);
	assert_in_range(n, 1, 999 * 1010);
	assert_int_equal(n % (1000 + (ssize_t)strlen("<3>test: \n")), 0);
	start_journal();
	log_error("again");
	assert_true(receive(&e));
	assert_true(receive(&e));
	assert_field(&e, "PORTLEDGER_EVENT", "lines-lost");
	stop_journal();
}

static int set_up(void **state)
{
	(void)state;
	strcpy(world.directory, "/tmp/portledger-log.XXXXXX");
	assert_non_null(mkdtemp(world.directory));
	snprintf(world.path, sizeof(world.path), "%s/socket", world.directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (world.journal >= 0)
		stop_journal();
	return rmdir(world.directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_stream_is_recognised),
		cmocka_unit_test(test_a_value_is_any_bytes),
		cmocka_unit_test(test_without_a_journal_lines_go_to_standard_error),
		cmocka_unit_test(test_an_event_goes_to_the_journal),
		cmocka_unit_test(test_a_long_value_is_cut),
		cmocka_unit_test(test_a_child_that_closes_what_it_does_not_need),
		cmocka_unit_test(test_a_journal_that_comes_back),
		cmocka_unit_test(test_nobody_reads),
		cmocka_unit_test(test_standard_error_is_closed),
		cmocka_unit_test(test_standard_error_is_a_full_pipe),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
