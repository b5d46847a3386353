/* SPDX-License-Identifier: MIT */
#pragma once

/* Attributes, cleanup and ownership helpers that every file uses. */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(function)   __attribute__((cleanup(function)))
#define _must_check_          __attribute__((warn_unused_result))
#define _printf_(text, first) __attribute__((format(printf, text, first)))
#define _unused_              __attribute__((unused))
#define _noreturn_            __attribute__((noreturn))

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))

#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) _a = (a);                                                            \
		__typeof__(b) _b = (b);                                                            \
		_a < _b ? _a : _b;                                                                 \
	})

#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) _a = (a);                                                            \
		__typeof__(b) _b = (b);                                                            \
		_a > _b ? _a : _b;                                                                 \
	})

/* Hands a pointer over: the variable becomes NULL, its old value is the result. */
#define TAKE_PTR(pointer)                                                                          \
	({                                                                                         \
		__typeof__(pointer) *_p = &(pointer);                                              \
		__typeof__(pointer) _v = *_p;                                                      \
		*_p = NULL;                                                                        \
		_v;                                                                                \
	})

/* Hands a descriptor over: the variable becomes -1, its old value is the result. */
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *_p = &(fd);                                                                   \
		int _v = *_p;                                                                      \
		*_p = -1;                                                                          \
		_v;                                                                                \
	})

/* Defines a cleanup function for `_cleanup_(name_p) type *variable`, from `type *name(type *)`. */
#define DEFINE_CLEANUP(type, name)                                                                 \
	static inline void name##_p(type **variable)                                               \
	{                                                                                          \
		if (*variable)                                                                     \
			name(*variable);                                                           \
	}

/* For `_cleanup_(free_p) char *text = NULL`. */
static inline void free_p(void *variable)
{
	free(*(void **)variable);
}

/* For `_cleanup_(close_p) int fd = -1`. Keeps errno. */
static inline void close_p(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Equality of strings where NULL means "not known" and equals only itself. */
static inline bool streq_null(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}
