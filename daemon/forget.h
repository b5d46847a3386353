/* SPDX-License-Identifier: MIT */
#pragma once

/* portledgerd --forget: erases rows of a database that no daemon has open. */

#include "common/clock.h"

/* As given; NULL: not given. */
struct forget_words {
	const char *user;          /* uid:NAME or uid:NUMBER */
	const char *since, *until; /* moments of common/when.h */
};

/* Says on standard output how many rows went, and on the log what is wrong. Returns the exit status. */
int forget_run(const struct forget_words *words, const char *state, usec_t now) _must_check_;
