/* SPDX-License-Identifier: MIT */

/*
 * What a daemon may send to whoever asks it: bytes that are no messages, errors, replies of another shape, pages without end, a
 * connection that is cut; to each verb. Whatever comes, nothing that is printed drives a terminal, and what failed is said.
 * The first byte picks the question, the second the clothes of the answer; the rest is the daemon's. Where a connection is cut
 * and the client asks again, the next begins behind a byte 0xff.
 */

#include "tests/fuzz/fuzz.h"

#include <locale.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "client/ask.h"
#include "client/users.h"
#include "tests/fuzz/printed.h"

#define NOW       UINT64_C(1795403527114000) /* 2026-11-23 03:12:07.114 UTC */
#define WORDS_MAX 8
#define NEXT      0xff /* no byte of UTF-8 */

#define DIRECTORY "/dev/shm/portledger-fuzz.XXXXXX"

static char directory[] = DIRECTORY;
static char report[sizeof(DIRECTORY) + sizeof("/x.html")];

static const struct {
	enum status (*run)(const struct options *o, struct view *v);
	bool own_form; /* it is not told by --json and --csv */
	const char *words[WORDS_MAX];
} questions[] = {
	{verb_status, false, {"status"}},
	{verb_explain, false, {"explain", "60530"}},
	{verb_who, false, {"who", "60530", "--at", "2026-11-23 03:12"}},
	{verb_who, false, {"who", "60530", "--at", "2026-10-25 02:30"}}, /* twice */
	{verb_now, false, {"now"}},
	{verb_history, false, {"history", "60530", "-n", "20"}},
	{verb_follow, false, {"follow"}},
	{verb_audit, false, {"audit"}},
	{verb_audit, false, {"audit", "--diff", "yesterday"}},
	{verb_audit, false, {"audit", "--by", "hour"}},
	{verb_failures, false, {"failures"}},
	{verb_listeners, false, {"listeners"}},
	{verb_listeners, true, {"listeners", "--sysctl"}},
	{verb_annotate, true, {"annotate"}},
	{verb_report, true, {"report", "-o", report, "--app", "curl"}},
	{verb_pressure, false, {"pressure"}},
	{verb_export, true, {"export", "--open"}},
	{verb_export, true, {"export", "--format", "csv"}},
	{verb_export, true, {"export", "--format", "sqlite", "--to", ":memory:"}},
	{verb_apps, false, {"apps"}},
	{verb_apps, false, {"app", "curl"}},
	{verb_doctor, false, {"doctor"}},
};

static const char *const forms[] = {NULL, "--json=short", "--json=pretty", "--csv"};

static const char log_lines[] =
	"{\"timestamp\":\"2026-11-23T03:12:07.114000+0000\",\"proto\":\"TCP\",\"src_ip\":\"10.0.0.5\","
	"\"src_port\":60530,\"dest_ip\":\"93.184.216.34\",\"dest_port\":443}\n"
	"no record\n"
	"{\"timestamp\":\"2026-11-23T03:12:09.000000+0000\",\"proto\":\"UDP\",\"src_ip\":\"10.0.0.5\","
	"\"src_port\":40000,\"dest_ip\":\"10.0.0.1\",\"dest_port\":53}\n";

/* What is left to be sent, and the end of the connection at which it was. */
static struct {
	const uint8_t *at, *end;
	int fd; /* -1: none */
} daemon_side = {.fd = -1};

int __wrap_connection_open(const char *path, struct connection *ret);

/* A daemon that has sent all it will ever send before it was asked. */
int __wrap_connection_open(const char *path, struct connection *ret)
{
	/* it reads nothing, so calls without end must not wait */
	const struct timeval patience = {.tv_usec = 1000};
	const uint8_t *next =
		memchr(daemon_side.at, NEXT, (size_t)(daemon_side.end - daemon_side.at));
	int ends[2];

	(void)path;
	if (!next)
		next = daemon_side.end;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	(void)setsockopt(ends[1], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	(void)!send(ends[0], daemon_side.at, (size_t)(next - daemon_side.at),
		MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)shutdown(ends[0], SHUT_WR);
	close_p(&daemon_side.fd);
	daemon_side.fd = ends[0];
	daemon_side.at = MIN(next + 1, daemon_side.end);
	*ret = (struct connection){.fd = ends[1], .peer = geteuid()};
	return 0;
}

static void leave(void)
{
	(void)unlink(report);
	(void)rmdir(directory);
}

/* Once, at the first input: a log to annotate, and a place for the report. */
static void settle(void)
{
	static bool settled;
	int fd;

	if (settled)
		return;
	settled = true;
	(void)setenv("TZ", "Europe/Berlin", 1);
	(void)setlocale(LC_ALL, "C.UTF-8");
	fd = memfd_create("log", MFD_CLOEXEC);
	if (fd < 0 || write(fd, log_lines, strlen(log_lines)) < 0 || dup2(fd, STDIN_FILENO) < 0)
		abort();
	(void)close(fd);
	if (!mkdtemp(directory))
		abort();
	(void)snprintf(report, sizeof(report), "%s/x.html", directory);
	(void)atexit(leave);
}

static void read_options(size_t which, uint8_t clothes, struct options *ret)
{
	char *words[WORDS_MAX + 4] = {(char[]){"portledger"}};
	const char *form = questions[which].own_form ? NULL : forms[clothes % ELEMENTSOF(forms)];
	int count = 1, r;

	for (size_t i = 0; i < WORDS_MAX && questions[which].words[i]; i++)
		words[count++] = (char *)(uintptr_t)questions[which].words[i];
	if (form)
		words[count++] = (char *)(uintptr_t)form;
	r = options_parse(count, words, NOW, false, ret);
	assert(r == 0);
	ret->strict = clothes & 0x40;
}

/* Asks, with what is said on standard error in a text of its own. */
static enum status ask_it(size_t which, struct view *v, char **ret_said, size_t *ret_size)
{
	FILE *standard = stderr, *said = open_memstream(ret_said, ret_size);
	enum status status;

	assert(said);
	stderr = v->notes = said;
	status = questions[which].run(v->options, v);
	stderr = standard;
	(void)fclose(said);
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(users_free_p) struct users *users = users_new();
	_cleanup_(options_done) struct options options = {0};
	_cleanup_(free_p) char *printed = NULL, *said = NULL;
	struct view v = {.options = &options, .users = users, .now = NOW};
	size_t printed_size = 0, said_size = 0, which;
	enum status status;

	if (size < 2)
		return 0;
	settle();
	which = data[0] % ELEMENTSOF(questions);
	read_options(which, data[1], &options);
	daemon_side.at = data + 2;
	daemon_side.end = data + size;
	(void)lseek(STDIN_FILENO, 0, SEEK_SET);
	v.utf8 = data[1] & 0x10;
	v.width = data[1] & 0x20 ? 60 : 0;
	v.out = open_memstream(&printed, &printed_size);
	assert(v.out && users);
	status = ask_it(which, &v, &said, &said_size);
	(void)fclose(v.out);
	close_p(&daemon_side.fd);
	daemon_side.fd = -1;
	assert((unsigned)status <= STATUS_INCOMPLETE);
	assert(status != STATUS_ERROR || said_size > 0);
	check_printed(printed, printed_size, true);
	check_printed(said, said_size, false);
	return 0;
}
