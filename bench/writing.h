/* SPDX-License-Identifier: MIT */
#pragma once

/* The writing side of the bench of the store. What is measured goes to standard output, a line "name value" each. */

#include "bench/workload.h"

struct writing {
	int directory;
	const char *path; /* of the directory */
	enum workload_times times;
	uint64_t claims;
	uint32_t batch; /* claims in one transaction */
	usec_t span;
	unsigned
		outlive; /* percent of the claims that are opened in one commit and released in the next */
	bool ring; /* each commit has the place in an events' ring, too */
};

/* The daemon's own way: batch, store, sealing, checkpoints. 0 or a negative errno. */
int write_store(const struct writing *w) _must_check_;

/* The same claims in one table with an index on (port, opened) and one on (opened). */
int write_plain(const struct writing *w) _must_check_;

/* CPU time of this process, user and system, in microseconds. */
double cpu_usec(void);

/* Prints one result. */
void report(const char *name, double value);

/*
 * Measures a run: CPU and bytes written, in all and for each million of claims, less what making the claims costs (measured
 * before, on a workload of its own).
 */
struct meter {
	double generator;   /* CPU usec per claim */
	double begun, last; /* CPU usec */
	double disk;        /* bytes */
	uint64_t claims, last_claims;
};
int meter_begin(struct meter *m, const struct writing *w) _must_check_;
void meter_tick(struct meter *m, uint64_t claims); /* after a commit */
void meter_end(struct meter *m, uint64_t claims);

/* Reports what a query gives, rows of a name and a number. */
int report_rows(const char *path, const char *sql) _must_check_;
#define SIZES_BY_TABLE "SELECT 'size_'||name,sum(pgsize) FROM dbstat('main',1) GROUP BY name"
