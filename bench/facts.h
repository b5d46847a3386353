/* SPDX-License-Identifier: MIT */
#pragma once

/* What an answer says of a claim, from the database and from the claim itself. */

#include <sqlite3.h>

#include "common/claim.h"
#include "daemon/control/query.h"

/* Wall times in microseconds; INT64_MIN: null. Zeroed before it is filled, since it is compared as bytes. */
struct fact {
	int64_t opened, opened_after, closed, closed_after, released;
	int64_t port, protocol, role, attribution, source, rport, pid;
	uint8_t raddr[16];
	char local[ADDRESS_TEXT_MAX + 2];
};

struct facts {
	struct fact *fact; /* owned */
	size_t count, capacity;
};

/* What the store is to keep of a released claim: bounds in whole milliseconds, rounded outwards. */
struct fact fact_of_claim(const struct claim *c);
/* `db` has the rows that `row` refers to. 0 or a negative errno. */
int fact_of_row(sqlite3 *db, const struct row *row, struct fact *ret) _must_check_;
/* May the claim have had its port in [from, until)? */
bool fact_touches(const struct fact *f, usec_t from, usec_t until);

/* 0 or -ENOMEM. */
int facts_add(struct facts *f, const struct fact *fact) _must_check_;
/* Keeps only the `max` that were opened last. */
int facts_add_newest(struct facts *f, const struct fact *fact, size_t max) _must_check_;
void facts_done(struct facts *f);

/* Are both the same rows? `newest`: `answer` is the `limit` that were opened last, of what is in `expected`. */
bool facts_agree(struct facts *answer, struct facts *expected, bool newest, size_t limit);
