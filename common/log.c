/* SPDX-License-Identifier: MIT */

/*
 * Standard error is the journal's stream under systemd, and a line on it is an entry without fields. So where it is
 * ($JOURNAL_STREAM), entries go to journald's own socket instead, and to standard error only when that takes none.
 * Nothing here may wait: a journald that is stopped, or a reader that does not read, must not stop a sweep. Hence a
 * line is at most PIPE_BUF bytes, which a pipe that is writable takes whole, also from three processes at once.
 */

#include "common/log.h"

#include <linux/limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/escape.h"
#include "common/journal.h"
#include "common/limits.h"

#define IDENTIFIER "portledgerd"

/* The log target: the one mutable global of the program. */
static struct {
	const char *process;
	const char *journal_path;
	uint64_t lost; /* lines that nobody took, not said yet */
	int journal_fd;
	enum log_level max;
	bool terminal;
} target = {.process = "portledger", .journal_fd = -1, .max = LOG_LEVEL_INFO};

static const struct {
	const char *name, *id;
	enum log_level level;
} events[] = {
#define EVENT_ROW(constant, event_name, event_level, event_id)                                     \
	[LOG_EVENT_##constant] = {                                                                 \
		.name = event_name, .id = event_id, .level = LOG_LEVEL_##event_level},
	LOG_EVENTS(EVENT_ROW)
#undef EVENT_ROW
};

/* What is to be said. */
struct message {
	enum log_level level;
	enum log_event event; /* LOG_EVENT_COUNT: a plain line */
	const struct log_field *fields;
	const char *text; /* escaped */
};

void log_open(const char *process, enum log_level max)
{
	target.process = process;
	target.max = max;
	target.terminal = isatty(STDERR_FILENO);
}

void log_to_journal(const char *path)
{
	if (target.journal_fd >= 0 || !journal_is_stream(STDERR_FILENO, getenv("JOURNAL_STREAM")))
		return;
	target.journal_path = path;
	target.journal_fd = journal_open(); /* without it: standard error, as ever */
}

int log_descriptor(void)
{
	return target.journal_fd;
}

void log_name(const char *process)
{
	target.process = process;
}

static int put_text(struct buf *b, const char *name, const char *text)
{
	return journal_put(b, name, text, MIN(strlen(text), (size_t)LIMIT_STRING_BYTES));
}

static int put_number(struct buf *b, const char *name, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	return put_text(b, name, text);
}

static int put_field(struct buf *b, const struct log_field *f)
{
	_cleanup_(free_p) char *safe = NULL;
	char name[64];

	snprintf(name, sizeof(name), "PORTLEDGER_%s", f->name);
	if (f->is_number)
		return put_number(b, name, f->number);
	if (!f->text)
		return 0;
	safe = escape_terminal(f->text);
	return safe ? put_text(b, name, safe) : -ENOMEM;
}

static int fill_entry(struct buf *b, const struct message *m)
{
	int r = put_text(b, "MESSAGE", m->text);

	if (r == 0)
		r = put_number(b, "PRIORITY", m->level);
	if (r == 0)
		r = put_text(b, "SYSLOG_IDENTIFIER", IDENTIFIER);
	if (r == 0)
		r = put_text(b, "PORTLEDGER_PROCESS", target.process);
	if (r < 0 || m->event == LOG_EVENT_COUNT)
		return r;
	r = put_text(b, "MESSAGE_ID", events[m->event].id);
	if (r == 0)
		r = put_text(b, "PORTLEDGER_EVENT", events[m->event].name);
	for (const struct log_field *f = m->fields; r == 0 && f->name; f++)
		r = put_field(b, f);
	return r;
}

static bool tell_journal(const struct message *m)
{
	_cleanup_(buf_done) struct buf entry = {0};

	return target.journal_fd >= 0 && fill_entry(&entry, m) == 0 &&
	       journal_send(target.journal_fd, target.journal_path, &entry) == 0;
}

static bool write_line(const char *line, size_t size)
{
	struct pollfd standard_error = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t n = send(STDERR_FILENO, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK && poll(&standard_error, 1, 0) == 1 &&
		(standard_error.revents & POLLOUT))
		n = write(STDERR_FILENO, line, size);
	return n == (ssize_t)size;
}

static bool tell_standard_error(const struct message *m)
{
	char line[PIPE_BUF], prefix[8] = "";
	int n;

	if (!target.terminal)
		snprintf(prefix, sizeof(prefix), "<%d>", (int)m->level);
	n = snprintf(line, sizeof(line), "%s%s: %s\n", prefix, target.process, m->text);
	if (n < 0)
		return false;
	if ((size_t)n >= sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	return write_line(line, (size_t)n);
}

static bool tell(const struct message *m)
{
	return tell_journal(m) || tell_standard_error(m);
}

/* Somebody takes lines again: how many nobody took. */
static void tell_lost(void)
{
	const struct log_field fields[] = {LOG_NUMBER("LOST", target.lost), {.name = NULL}};
	char text[64];
	const struct message m = {
		.level = events[LOG_EVENT_LINES_LOST].level,
		.event = LOG_EVENT_LINES_LOST,
		.fields = fields,
		.text = text,
	};

	snprintf(text, sizeof(text), "%llu lines were lost: nobody took them",
		(unsigned long long)target.lost);
	if (tell(&m))
		target.lost = 0;
}

static void say(struct message *m, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

static void say(struct message *m, const char *format, va_list arguments)
{
	_cleanup_(free_p) char *safe = NULL;
	char text[1024];
	int saved = errno;

	if (m->level <= target.max && vsnprintf(text, sizeof(text), format, arguments) >= 0) {
		safe = escape_terminal(text);
		m->text = safe ? safe : "(no memory)";
		if (!tell(m))
			target.lost++;
		else if (target.lost > 0)
			tell_lost();
	}
	errno = saved;
}

void log_line(enum log_level level, const char *format, ...)
{
	struct message m = {.level = level, .event = LOG_EVENT_COUNT};
	va_list arguments;

	va_start(arguments, format);
	say(&m, format, arguments);
	va_end(arguments);
}

void log_event(enum log_event event, const struct log_field *fields, const char *format, ...)
{
	struct message m = {.level = events[event].level, .event = event, .fields = fields};
	va_list arguments;

	va_start(arguments, format);
	say(&m, format, arguments);
	va_end(arguments);
}
