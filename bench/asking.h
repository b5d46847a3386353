/* SPDX-License-Identifier: MIT */
#pragma once

#include "bench/writing.h"

/*
 * Asks the database that write_store() made, by control's own code, and compares each answer with a look at every claim
 * of the workload. `batch` is the number of questions of each kind. -EBADMSG: an answer was wrong (said on stderr).
 */
int ask_store(const struct writing *w) _must_check_;

/* Audits of nights, `batch` of them, and of a year. -EBADMSG: a night by rollups was another than by rows. */
int ask_audits(const struct writing *w) _must_check_;

/* Audits of `batch` hours: of DIRECTORY/store, by rows and by rollups, and of DIRECTORY/plain, which has the same claims. */
int ask_hours(const struct writing *w) _must_check_;
