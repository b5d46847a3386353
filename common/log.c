/* SPDX-License-Identifier: MIT */

#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/escape.h"

/* The log target: the one mutable global of the program. */
static struct {
	const char *process;
	enum log_level max;
	bool terminal;
} target = {.process = "portledger", .max = LOG_LEVEL_INFO};

void log_open(const char *process, enum log_level max)
{
	target.process = process;
	target.max = max;
	target.terminal = isatty(STDERR_FILENO);
}

void log_name(const char *process)
{
	target.process = process;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[1024], line[sizeof(text) * 4 + 64];
	_cleanup_(free_p) char *safe = NULL;
	int saved = errno, n;
	va_list arguments;

	if (level > target.max)
		return;
	va_start(arguments, format);
	n = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (n < 0)
		return;
	safe = escape_terminal(text);
	if (target.terminal)
		n = snprintf(line, sizeof(line), "%s: %s\n", target.process,
			safe ? safe : "(no memory)");
	else
		n = snprintf(line, sizeof(line), "<%d>%s: %s\n", (int)level, target.process,
			safe ? safe : "(no memory)");
	if (n > 0) {
		size_t size = MIN((size_t)n, sizeof(line) - 1);
		_unused_ ssize_t written = write(STDERR_FILENO, line, size);
	}
	errno = saved;
}
