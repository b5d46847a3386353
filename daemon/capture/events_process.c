/* SPDX-License-Identifier: MIT */

/* What the kernel side wrote of a process and of its cgroup, as the values that everything else knows. */

#include "daemon/capture/events.h"

#include "common/escape.h"

/* As /proc/PID/stat counts it, so that both say the same of one process. */
#define TICK_NSEC  UINT64_C(10000000)
#define TICK_USEC  (TICK_NSEC / 1000)
#define MEMFD_NAME "memfd:"

static int store(const char *raw, size_t size, char **ret)
{
	size = strnlen(raw, size);
	if (size == 0)
		return 0;
	*ret = escape_store(raw, size, LIMIT_STRING_BYTES);
	return *ret ? 0 : -ENOMEM;
}

/* "bash\0bin\0usr\0" becomes "/usr/bin/bash". `path` has room for as much, and a byte. Returns its length. */
static size_t turn(const char *names, size_t size, char *path)
{
	size_t used = 0;

	while (size > 0) {
		size_t end = size - 1, begin = end; /* at the NUL of the last name */

		while (begin > 0 && names[begin - 1] != '\0')
			begin--;
		path[used++] = '/';
		memcpy(path + used, names + begin, end - begin);
		used += end - begin;
		size = begin;
	}
	return used;
}

static int store_exe(const struct process_slot *slot, uint32_t mount_namespace, struct process *p)
{
	char path[SLOT_EXE_BYTES + 1];
	size_t size = slot->exe_bytes;

	if (size == 0 || size > sizeof(slot->exe) || slot->exe[size - 1] != '\0')
		return 0;
	size = turn(slot->exe, size, path);
	if (slot->exe_nameless)
		p->exe_note = strncmp(slot->exe, MEMFD_NAME, strlen(MEMFD_NAME)) == 0
				      ? EXE_NOTE_MEMFD
				      : EXE_NOTE_DELETED;
	if (p->exe_note != EXE_NOTE_MEMFD && mount_namespace != 0 && slot->mount_namespace != 0 &&
		slot->mount_namespace != mount_namespace)
		p->exe_note = EXE_NOTE_OTHER_NAMESPACE;
	p->exe = escape_store(path, size, LIMIT_STRING_BYTES);
	return p->exe ? 0 : -ENOMEM;
}

struct port_range events_range_of(uint32_t range)
{
	return (struct port_range){
		.low = (uint16_t)range, .high = (uint16_t)(range >> RANGE_HIGH_SHIFT)};
}

int events_cgroup_of(const struct cgroup_path *p, char path[static EVENTS_CGROUP_BYTES])
{
	size_t size = p->bytes;

	_Static_assert(CGROUP_PATH_BYTES + 2 <= EVENTS_CGROUP_BYTES, "a path has room");
	if (!p->whole || size > sizeof(p->names) || (size > 0 && p->names[size - 1] != '\0'))
		return -ENOENT;
	size = turn(p->names, size, path);
	if (size == 0)
		path[size++] = '/';
	path[size] = '\0';
	return 0;
}

int events_process_of(
	const struct process_slot *slot, uint32_t mount_namespace, struct process **ret)
{
	_cleanup_(process_unref_p) struct process *p = process_new();
	int r;

	if (!p)
		return -ENOMEM;
	p->pid = (int32_t)slot->pid;
	p->parent_pid = (int32_t)slot->parent_pid;
	p->start_boot = slot->start / TICK_NSEC * TICK_USEC;
	p->uid = slot->euid;
	r = store(slot->comm, sizeof(slot->comm), &p->comm);
	if (r == 0)
		r = store(slot->parent_comm, sizeof(slot->parent_comm), &p->parent_comm);
	if (r == 0)
		r = store_exe(slot, mount_namespace, p);
	if (r == 0)
		*ret = TAKE_PTR(p);
	return r;
}
