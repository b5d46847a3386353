/* SPDX-License-Identifier: MIT */

/*
 * Why the kernel would not have the programs. It says little more than EPERM; what it may have meant is looked up in the
 * order in which it would have refused.
 */

#include "daemon/capture/events.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>

#define CAPABILITY_BPF     39
#define CAPABILITY_PERFMON 38
#define TEXT_BYTES         256

static struct events_obstacle obstacle(const char *remedy, const char *text, ...) _printf_(2, 3);

static struct events_obstacle obstacle(const char *remedy, const char *text, ...)
{
	struct events_obstacle o = {.remedy = remedy};
	va_list arguments;

	va_start(arguments, text);
	(void)vsnprintf(o.reason, sizeof(o.reason), text, arguments);
	va_end(arguments);
	return o;
}

static bool read_text(const char *path, char text[static TEXT_BYTES])
{
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, TEXT_BYTES - 1);

	text[MAX(n, 0)] = '\0';
	return n > 0;
}

/* Of those that are needed, the effective ones; all of them where that cannot be told. */
static uint64_t capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return UINT64_MAX;
	return data[0].effective | (uint64_t)data[1].effective << 32;
}

static bool missing_capabilities(struct events_obstacle *ret)
{
	uint64_t have = capabilities(), admin = UINT64_C(1) << CAP_SYS_ADMIN;
	/* CAP_SYS_ADMIN stands for the two newer ones */
	bool bpf = (have & (UINT64_C(1) << CAPABILITY_BPF | admin)) != 0;
	bool perfmon = (have & (UINT64_C(1) << CAPABILITY_PERFMON | admin)) != 0;
	bool net = (have & UINT64_C(1) << CAP_NET_ADMIN) != 0;

	if (bpf && perfmon && net)
		return false;
	*ret = obstacle("start it as root, or with "
			"AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN in its unit",
		"missing capabilities:%s%s%s", bpf ? "" : " CAP_BPF", perfmon ? "" : " CAP_PERFMON",
		net ? "" : " CAP_NET_ADMIN");
	return true;
}

static bool other_user_namespace(void)
{
	char text[TEXT_BYTES];
	unsigned long inside, outside, count;

	return read_text("/proc/self/uid_map", text) &&
	       (sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3 || inside != 0 ||
		       outside != 0 || count != UINT32_MAX);
}

static bool locked_down(void)
{
	char text[TEXT_BYTES];

	return read_text("/sys/kernel/security/lockdown", text) &&
	       strstr(text, "[confidentiality]");
}

/* The last line that says something: the complaint stands before the figures. */
static void last_line(const char *said, char line[static TEXT_BYTES])
{
	line[0] = '\0';
	while (*said != '\0') {
		size_t size = strcspn(said, "\n");

		if (size > 0 && strncmp(said, "processed ", 10) != 0)
			(void)snprintf(
				line, TEXT_BYTES, "%.*s", (int)MIN(size, TEXT_BYTES - 1u), said);
		said += size + (said[size] == '\n');
	}
}

static struct events_obstacle refused_by_verifier(const char *said)
{
	char line[TEXT_BYTES];

	last_line(said, line);
	return obstacle(NULL, "the kernel's verifier refuses the programs: %s", line);
}

struct events_obstacle events_obstacle_of(int error, const char *said)
{
	struct events_obstacle o;

	if (missing_capabilities(&o))
		return o;
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return obstacle("boot a kernel that was built with CONFIG_DEBUG_INFO_BTF=y",
			"this kernel does not describe its structures: there is no "
			"/sys/kernel/btf/vmlinux");
	if (locked_down())
		return obstacle("boot with lockdown=integrity, or without lockdown",
			"the kernel is locked down (confidentiality): programs may not read its "
			"memory");
	if (error == -ENOSYS)
		return obstacle("boot a kernel that was built with CONFIG_BPF_SYSCALL=y",
			"this kernel has no bpf(2)");
	if (error == -EPERM && other_user_namespace())
		return obstacle("run it on the host, not in a container",
			"it runs in a user namespace, in which no programs can be loaded");
	if (said[0] != '\0')
		return refused_by_verifier(said);
	if (error == -EPERM)
		return obstacle("look for a seccomp filter or a security module on bpf(2): "
				"SystemCallFilter=@system-service bpf perf_event_open",
			"bpf(2) is not permitted here");
	return obstacle(NULL, "the programs cannot be loaded: %s", strerror(-error));
}
