/* SPDX-License-Identifier: MIT */
#pragma once

/* As failing.h, and of what libc allocates itself the copies of texts and printf() to memory. Include it once, instead. */

#include <stdio.h>

#include "tests/support/failing.h"

/* The second of each is what a build with FORTIFY calls. */
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
int __real_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap___vasprintf_chk(char **ret, int flag, const char *format, va_list arguments);
int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...);

/* What prints to memory itself fails, too; false where an answer is printed number by number. */
static bool failing_prints = true;

char *__wrap_strdup(const char *text)
{
	return failing_memory_now() ? NULL : __real_strdup(text);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
int __wrap_vasprintf(char **ret, const char *format, va_list arguments)
{
	return failing_prints && failing_memory_now() ? -1
						      : __real_vasprintf(ret, format, arguments);
}

int __wrap___vasprintf_chk(char **ret, int flag _unused_, const char *format, va_list arguments)
{
	return __wrap_vasprintf(ret, format, arguments);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = failing_memory_now() ? -1 : __real_vasprintf(ret, format, arguments);
	va_end(arguments);
	return n;
}

int __wrap___asprintf_chk(char **ret, int flag _unused_, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = failing_memory_now() ? -1 : __real_vasprintf(ret, format, arguments);
	va_end(arguments);
	return n;
}
#pragma GCC diagnostic pop
