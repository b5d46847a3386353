/* SPDX-License-Identifier: MIT */

/*
 * snapshot-bench ROUNDS: who has which socket open, asked of the kernel's task iterator and found by a walk over /proc, in
 * turns, of all watched sockets that processes of this machine have open. Prints descriptors, those of which the walk found nobody, the median
 * milliseconds of CPU of each way, and the ratio.
 */

#include <fcntl.h>
#include <stdio.h>

#include "daemon/capture/procfs.h"
#include "daemon/capture/source_events.h"

#define ROUNDS_MAX 100u
#define WALK_USEC  (60 * USEC_PER_SEC) /* whole */

struct found {
	struct procfs_wanted *wanted;
	size_t count, capacity;
};

static int on_holder(void *context, const struct holder_seen *h)
{
	struct found *f = context;

	if (f->count == f->capacity) {
		size_t capacity = f->capacity > 0 ? 2 * f->capacity : 1024;
		struct procfs_wanted *more = reallocarray(f->wanted, capacity, sizeof(*f->wanted));

		if (!more)
			return -ENOMEM;
		f->wanted = more;
		f->capacity = capacity;
	}
	f->wanted[f->count++] = (struct procfs_wanted){.inode = h->inode, .uid = UID_UNSET};
	return 0;
}

/* A new reader each time: what it has not seen before it reads. Returns the sockets of which nobody was found. */
static size_t walk(int proc_fd, const struct found *f)
{
	struct procfs *p = procfs_new(proc_fd, true);
	struct procfs_result result;
	size_t missing = 0;

	if (!p || procfs_find(p, f->wanted, f->count, WALK_USEC, &result) < 0 || !result.complete) {
		fprintf(stderr, "snapshot-bench: the walk did not get through\n");
		exit(EXIT_FAILURE);
	}
	for (size_t i = 0; i < f->count; i++) {
		missing += f->wanted[i].holder_count == 0;
		for (uint32_t h = 0; h < f->wanted[i].holder_count; h++)
			process_unref(f->wanted[i].holders[h]);
		f->wanted[i].holder_count = 0;
	}
	procfs_free(p);
	return missing;
}

static int compare(const void *a, const void *b)
{
	const usec_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double median_msec(usec_t *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return (double)values[count / 2] / USEC_PER_MSEC;
}

static void measure(struct source_events *s, int proc_fd, unsigned rounds)
{
	usec_t iterator[ROUNDS_MAX], walked[ROUNDS_MAX];
	struct found f = {0};
	size_t missing = 0;

	for (unsigned i = 0; i < rounds; i++) {
		usec_t begin = clock_cpu_usec();
		int r;

		f.count = 0;
		r = source_events_snapshot(s, on_holder, &f);
		iterator[i] = clock_cpu_usec() - begin;
		if (r < 0) {
			fprintf(stderr, "snapshot-bench: %s\n", strerror(-r));
			exit(EXIT_FAILURE);
		}
		begin = clock_cpu_usec();
		missing += walk(proc_fd, &f);
		walked[i] = clock_cpu_usec() - begin;
	}
	printf("%zu %zu %.2f %.2f %.4f\n", f.count, missing, median_msec(iterator, rounds),
		median_msec(walked, rounds),
		median_msec(iterator, rounds) / median_msec(walked, rounds));
	free(f.wanted);
}

int main(int argc, char **argv)
{
	const struct source_events_options options = {
		.ranges = {.count = 1, .range = {{.low = 32768, .high = 65535}}},
		.kernel_range = true,
	};
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct events_obstacle obstacle;
	struct source_events *s;

	if (rounds < 1 || rounds > ROUNDS_MAX || proc_fd < 0) {
		fprintf(stderr, "snapshot-bench: how many rounds, 1 to %u?\n", ROUNDS_MAX);
		return 2;
	}
	if (source_events_open(&options, &s, &obstacle) < 0) {
		fprintf(stderr, "snapshot-bench: %s\n", obstacle.reason);
		return EXIT_FAILURE;
	}
	measure(s, proc_fd, (unsigned)rounds);
	source_events_free(s);
	close(proc_fd);
	return EXIT_SUCCESS;
}
