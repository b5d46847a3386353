/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Lets one call of a function fail that the system (or a library) otherwise grants. For a test that is linked with --wrap of that function
 * (see tests/unit/meson.build). Include it once; failing.h is for memory.
 */

#include "common/base.h"

static const char *refused_call; /* NULL: none is refused */
static unsigned refused_after;   /* so many more calls of it are granted before */
static int refused_error;        /* errno */

/* The call `after` from now on of `call` fails with `error`, once. */
static inline void refuse(const char *call, unsigned after, int error)
{
	refused_call = call;
	refused_after = after;
	refused_error = error;
}

static inline bool refused_now(const char *call)
{
	if (!refused_call || !streq(call, refused_call) || refused_after-- > 0)
		return false;
	refused_call = NULL;
	errno = refused_error;
	return true;
}

/* Whether the call that was to be refused was made, too. */
static inline bool refused_done(void)
{
	return !refused_call;
}

/* Wraps a function: what it returns and by what it says that it failed, its parameters, and these as they are handed on. */
#define REFUSABLE(type, failure, name, parameters, arguments)                                      \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return refused_now(#name) ? (failure) : __real_##name arguments;                   \
	}
