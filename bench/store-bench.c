/* SPDX-License-Identifier: MIT */

/* The measuring half of bench/store, which says what to run and makes the table. */

#include "bench/asking.h"
#include "bench/counting.h"
#include "bench/writing.h"

#include <fcntl.h>
#include <stdio.h>

/* A host with 10 million claims in 30 days; fewer claims are fewer days of it. */
#define USEC_PER_CLAIM (30 * USEC_PER_DAY / 10000000)

static const char usage[] =
	"usage: store-bench store|outlive|ring|undecided|plain|ask|audits|hours DIRECTORY sweep|exact CLAIMS BATCH|PROBES [USEC_PER_CLAIM]\n";

static int run(const char *what, const struct writing *w)
{
	if (streq(what, "store") || w->outlive > 0 || w->ring)
		return write_store(w);
	if (streq(what, "plain"))
		return write_plain(w);
	if (streq(what, "ask"))
		return ask_store(w);
	if (streq(what, "audits"))
		return ask_audits(w);
	if (streq(what, "hours"))
		return ask_hours(w);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct writing w;
	int r;

	if (argc < 6 || argc > 7) {
		fputs(usage, stderr);
		return 2;
	}
	w = (struct writing){
		.path = argv[2],
		.directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.times = streq(argv[3], "exact") ? WORKLOAD_EXACT : WORKLOAD_SWEEP,
		.claims = strtoull(argv[4], NULL, 10),
		.batch = (uint32_t)strtoul(argv[5], NULL, 10),
		.ring = streq(argv[1], "ring") || streq(argv[1], "undecided"),
	};
	if (streq(argv[1], "outlive"))
		w.outlive = 100;
	else if (streq(argv[1], "undecided"))
		w.outlive = 50; /* TCP that closed, half of it */
	w.span = w.claims * (argc == 7 ? strtoull(argv[6], NULL, 10) : USEC_PER_CLAIM);
	if (w.directory < 0 || w.claims == 0 || w.batch == 0 || !counting_start()) {
		fputs(usage, stderr);
		return 2;
	}
	r = run(argv[1], &w);
	if (r < 0)
		fprintf(stderr, "store-bench: %s: %s\n", argv[1], strerror(-r));
	return r < 0;
}
