/* SPDX-License-Identifier: MIT */

/*
 * Runs a fuzz target over every file of its corpus, without libFuzzer: what was found once stays
 * found, with any compiler and in every check. Arguments are files and directories. An empty corpus
 * is a failure, for it would prove nothing.
 */

#include "tests/fuzz/fuzz.h"

#include "common/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* One file's bytes in an allocation of their size: a sanitizer sees a read past the end. */
static int run_file(int fd, const struct stat *status)
{
	size_t size = (size_t)status->st_size, filled = 0;
	_cleanup_(free_p) uint8_t *data = malloc(size > 0 ? size : 1);

	if (!data)
		return -ENOMEM;
	while (filled < size) {
		ssize_t n = read(fd, data + filled, size - filled);

		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		filled += (size_t)n;
	}
	LLVMFuzzerTestOneInput(data, size);
	return 0;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int run_path(int parent, const char *path, unsigned *inputs);

/* In the order of names, so that two runs do the same. */
static int run_directory(int fd, unsigned *inputs)
{
	struct dirent **entries;
	int count, r = 0;

	count = scandirat(fd, ".", &entries, is_visible, alphasort);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		if (r >= 0)
			r = run_path(fd, entries[i]->d_name, inputs);
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int run_path(int parent, const char *path, unsigned *inputs)
{
	_cleanup_(close_p) int fd = -1;
	struct stat status;
	int r;

	fd = openat(parent, path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 || fstat(fd, &status) < 0 ? -errno : 0;
	if (r >= 0 && S_ISDIR(status.st_mode))
		return run_directory(fd, inputs);
	if (r >= 0)
		r = run_file(fd, &status);
	if (r >= 0)
		(*inputs)++;
	else
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
	return r;
}

int main(int argc, char *argv[])
{
	unsigned inputs = 0;
	bool failed = false;

	for (int i = 1; i < argc; i++)
		failed = run_path(AT_FDCWD, argv[i], &inputs) < 0 || failed;
	printf("%u inputs\n", inputs);
	return failed || inputs == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
