/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Lets the n-th allocation of a piece of work fail, for every n. For a test that is linked with --wrap (see
 * tests/unit/meson.build); what libc allocates for itself is not reached. Include it once.
 */

#include <limits.h>

#include "common/base.h"

/* How many allocations are still to succeed before one fails; UINT_MAX: none fails. Volatile: a compiler that sees both sides
 * (LTO) knows that malloc() touches no variable of ours. */
static volatile unsigned failing_in = UINT_MAX;
static volatile unsigned failing_hits;      /* allocations that failed */
static volatile bool failing_memory = true; /* false: only what else a test lets fail is counted */

static bool failing_now(void)
{
	if (failing_in == UINT_MAX || failing_in-- > 0)
		return false;
	failing_in = UINT_MAX;
	failing_hits++;
	errno = ENOMEM;
	return true;
}

static bool failing_memory_now(void)
{
	return failing_memory && failing_now();
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
char *__real_strndup(const char *text, size_t size);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
char *__wrap_strndup(const char *text, size_t size);

void *__wrap_malloc(size_t size)
{
	return failing_memory_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return failing_memory_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return failing_memory_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	return failing_memory_now() ? NULL : __real_reallocarray(old, count, size);
}

char *__wrap_strndup(const char *text, size_t size)
{
	return failing_memory_now() ? NULL : __real_strndup(text, size);
}
