/* SPDX-License-Identifier: MIT */

/*
 * A right that the rules do not give is refused only if the ruleset handles it, and a kernel refuses a ruleset that
 * handles what it does not know. So each version of the interface has its own set; the masks below are the kernel's
 * (linux/landlock.h), by number, since Debian 12's header ends at version 2.
 */

#include "daemon/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>

#define READ_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

/* struct landlock_ruleset_attr of version 6. */
struct ruleset {
	uint64_t fs, net, scoped;
};

/* What a version added. */
static const struct {
	int version;
	struct ruleset adds;
} VERSIONS[] = {
	{1, {.fs = 0x1fff}},  /* EXECUTE to MAKE_SYM */
	{2, {.fs = 0x2000}},  /* REFER */
	{3, {.fs = 0x4000}},  /* TRUNCATE */
	{4, {.net = 0x3}},    /* BIND_TCP, CONNECT_TCP */
	{5, {.fs = 0x8000}},  /* IOCTL_DEV */
	{6, {.scoped = 0x3}}, /* ABSTRACT_UNIX_SOCKET, SIGNAL */
};

static struct ruleset ruleset_of(int version)
{
	struct ruleset r = {0};

	for (size_t i = 0; i < ELEMENTSOF(VERSIONS); i++) {
		if (VERSIONS[i].version > version)
			break;
		r.fs |= VERSIONS[i].adds.fs;
		r.net |= VERSIONS[i].adds.net;
		r.scoped |= VERSIONS[i].adds.scoped;
	}
	return r;
}

/* As much of the structure as the version knows. */
static size_t ruleset_size(int version)
{
	if (version < 4)
		return sizeof(uint64_t);
	return version < 6 ? 2 * sizeof(uint64_t) : sizeof(struct ruleset);
}

int landlock_read_only(const int *directories, size_t count)
{
	long version = syscall(
		SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
	_cleanup_(close_p) int fd = -1;
	struct ruleset ruleset;

	if (version < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -errno;
	ruleset = ruleset_of((int)version);
	fd = (int)syscall(
		SYS_landlock_create_ruleset, &ruleset, ruleset_size((int)version), (uint32_t)0);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < count; i++) {
		const struct landlock_path_beneath_attr rule = {
			.allowed_access = READ_RIGHTS, .parent_fd = directories[i]};

		if (syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule,
			    (uint32_t)0) < 0)
			return -errno;
	}
	return syscall(SYS_landlock_restrict_self, fd, (uint32_t)0) < 0 ? -errno : 1;
}
