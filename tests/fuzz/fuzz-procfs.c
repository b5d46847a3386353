/* SPDX-License-Identifier: MIT */

/* Every parser of /proc's texts sees the same bytes: what one of them takes, it must take from within. */

#include "tests/fuzz/fuzz.h"

#include "common/base.h"
#include "daemon/capture/proc_parse.h"
#include "daemon/capture/unit.h"

static void expect_within(const char *part, size_t part_size, const char *text, size_t size)
{
	assert(part >= text && part_size <= size && (size_t)(part - text) <= size - part_size);
}

static void parse_bytes(const char *text, size_t size)
{
	struct proc_stat stat;
	struct proc_status status;
	const char *path;
	size_t path_size;
	uint64_t inode;

	if (proc_parse_stat(text, size, &stat) == 0) {
		expect_within(stat.comm, stat.comm_size, text, size);
		assert(stat.comm[-1] == '(' && stat.comm[stat.comm_size] == ')');
		assert(stat.parent_pid >= 0);
		(void)proc_ticks_to_usec(stat.start_ticks, 100);
	}
	(void)!proc_parse_status(text, size, &status);
	if (proc_parse_cgroup(text, size, &path, &path_size) == 0) {
		expect_within(path, path_size, text, size);
		assert(path_size > 0 && path[0] == '/');
		assert(!memchr(path, '\n', path_size));
	}
	if (proc_parse_socket(text, size, &inode))
		assert(size >= strlen("socket:[0]") && text[size - 1] == ']');
}

/* Those that take strings, or give them. */
static void parse_string(const char *text, size_t size)
{
	_cleanup_(free_p) char *mount = NULL, *unit = NULL;
	int32_t pid;

	if (proc_parse_cgroup2_mount(text, size, &mount) == 0)
		assert(mount && strlen(mount) <= size);
	if (unit_of_cgroup(text, &unit) == 0 && unit)
		assert(strstr(text, unit) && strchr(unit, '.') && !strchr(unit, '/'));
	if (proc_parse_pid(text, &pid))
		assert(pid > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(free_p) char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	parse_bytes((const char *)data, size);
	parse_string(text, size);
	return 0;
}
