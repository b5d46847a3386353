/* SPDX-License-Identifier: MIT */

/*
 * A dump costs by the connections that there are, also when all of them are old: 12 ms for 10,000 loopback pairs. These
 * counters cost 17 us. What begins is counted: connect (ActiveOpens), accept (PassiveOpens), both for good, so that an end
 * cannot hide a beginning. What ends leaves the number in use, or that of TIME_WAIT; where nothing began, nothing can make
 * up for that. So when all stay the same, what a dump showed is what it would show now.
 *
 * Not counted: a connection that is only prepared (TCP_FASTOPEN_CONNECT, before it sends) or restored (TCP_REPAIR).
 * These change the number in use, unless in the same interval as many others end that were not established. Listeners
 * are always read, which costs nothing. So are bound-only sockets, of which nothing is counted, and that is a walk over all bound
 * ones (2 to 7 ms for 20,000); unless all TCP sockets of the machine are counted as connected or listening.
 */

#include "daemon/capture/source_signs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#define TEXT_BYTES 4096 /* snmp has 1.3 KiB, the others 0.2 */

static const char *const names[SIGN_COUNT] = {
	[SIGN_ACTIVE_OPENS] = "ActiveOpens",
	[SIGN_PASSIVE_OPENS] = "PassiveOpens",
	[SIGN_ATTEMPT_FAILS] = "AttemptFails",
	[SIGN_ESTAB_RESETS] = "EstabResets",
	[SIGN_CURRENT_ESTABLISHED] = "CurrEstab",
	[SIGN_IN_USE] = "inuse",
	[SIGN_TIME_WAIT] = "tw",
	[SIGN_IN_USE_IPV6] = "inuse",
};

/* The line that begins so, behind that. NULL: none, or no text. */
static const char *find_line(const char *text, const char *begin)
{
	size_t length = strlen(begin);

	while (text && strncmp(text, begin, length) != 0) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return text ? text + length : NULL;
}

/* The next word of a line; returns its length, 0 at the end of the line. */
static size_t next_word(const char **at)
{
	*at += strspn(*at, " ");
	return strcspn(*at, " \n");
}

static bool is_word(const char *at, size_t length, const char *word)
{
	return length == strlen(word) && strncmp(at, word, length) == 0;
}

static int parse_count(const char *at, uint64_t *ret)
{
	/* gauges are signed: summed over processors while they change, one may be below 0 for a moment */
	return sscanf(at, "%" SCNd64, (int64_t *)ret) == 1 ? 0 : -EBADMSG;
}

/* The count under a name, in a line of names and one of counts. */
static int find_below(const char *heading, const char *counts, const char *name, uint64_t *ret)
{
	while (heading && counts) {
		size_t length = next_word(&heading), count = next_word(&counts);

		if (length == 0 || count == 0)
			return -EBADMSG;
		if (is_word(heading, length, name))
			return parse_count(counts, ret);
		heading += length;
		counts += count;
	}
	return -EBADMSG;
}

/* The count behind a name, in a line of such pairs. */
static int find_behind(const char *line, const char *name, uint64_t *ret)
{
	while (line) {
		size_t length = next_word(&line);

		if (length == 0)
			break;
		if (is_word(line, length, name))
			return parse_count(line + length, ret);
		line += length;
	}
	return -EBADMSG;
}

int signs_parse(const char *snmp, const char *sockstat, const char *sockstat6, struct signs *ret)
{
	const char *heading = find_line(snmp, "Tcp:"), *counts = find_line(heading, "Tcp:");
	const char *tcp = find_line(sockstat, "TCP:");
	struct signs s = {0};
	int r = 0;

	for (unsigned i = SIGN_ACTIVE_OPENS; i <= SIGN_CURRENT_ESTABLISHED && r == 0; i++)
		r = find_below(heading, counts, names[i], &s.count[i]);
	for (unsigned i = SIGN_IN_USE; i <= SIGN_TIME_WAIT && r == 0; i++)
		r = find_behind(tcp, names[i], &s.count[i]);
	if (r == 0)
		r = find_behind(tcp, "alloc", &s.allocated);
	if (r == 0 && sockstat6)
		r = find_behind(find_line(sockstat6, "TCP6:"), names[SIGN_IN_USE_IPV6],
			&s.count[SIGN_IN_USE_IPV6]);
	if (r == 0)
		*ret = s;
	return r;
}

void signs_open(struct signs_files *files)
{
	files->snmp = open("/proc/self/net/snmp", O_RDONLY | O_CLOEXEC);
	files->sockstat = open("/proc/self/net/sockstat", O_RDONLY | O_CLOEXEC);
	files->sockstat6 = open("/proc/self/net/sockstat6", O_RDONLY | O_CLOEXEC);
}

void signs_close(struct signs_files *files)
{
	close_p(&files->snmp);
	close_p(&files->sockstat);
	close_p(&files->sockstat6);
}

static int read_text(int fd, char text[static TEXT_BYTES])
{
	ssize_t n = fd < 0 ? -1 : pread(fd, text, TEXT_BYTES - 1, 0);

	if (n <= 0 || n == TEXT_BYTES - 1)
		return -EIO;
	text[n] = '\0';
	return 0;
}

int signs_read(const struct signs_files *files, struct signs *ret)
{
	char snmp[TEXT_BYTES], sockstat[TEXT_BYTES], sockstat6[TEXT_BYTES];
	int r = read_text(files->sockstat, sockstat);

	if (r == 0 && files->sockstat6 >= 0)
		r = read_text(files->sockstat6, sockstat6);
	/* last: what it counts for good vouches for the others */
	if (r == 0)
		r = read_text(files->snmp, snmp);
	if (r < 0)
		return r;
	return signs_parse(snmp, sockstat, files->sockstat6 >= 0 ? sockstat6 : NULL, ret);
}

bool signs_same(const struct signs *a, const struct signs *b)
{
	return memcmp(a->count, b->count, sizeof(a->count)) == 0;
}

bool signs_bound_possible(const struct signs *s)
{
	return s->allocated != s->count[SIGN_IN_USE] + s->count[SIGN_IN_USE_IPV6];
}
