/* SPDX-License-Identifier: MIT */

#include "daemon/capture/openers.h"

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

/* Without padding: it is compared and hashed as bytes. */
struct pid_key {
	usec_t start_boot;
	int64_t pid;
};

struct opener {
	uint64_t id; /* of the events; 0: only a snapshot has named it */
	struct pid_key pid;
	struct process *process; /* one reference */
	uint64_t netns;          /* net cookie of where it was, and what is handed out there; */
	struct port_range range; /* high 0: not known */
	struct opener *next;     /* the one remembered after this */
	UT_hash_handle by_id, by_pid;
};

struct openers {
	struct source_events *events;
	struct procfs *procfs;
	struct opener *by_id, *by_pid;
	struct opener *oldest, **newest;
	size_t count;
};

struct openers *openers_new(struct source_events *events, struct procfs *procfs)
{
	struct openers *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->events = events;
	o->procfs = procfs;
	o->newest = &o->oldest;
	return o;
}

static struct opener *find_pid(const struct openers *o, struct pid_key key)
{
	struct opener *p;

	HASH_FIND(by_pid, o->by_pid, &key, sizeof(key), p);
	return p;
}

static void forget_oldest(struct openers *o)
{
	struct opener *p = o->oldest;

	o->oldest = p->next;
	if (!o->oldest)
		o->newest = &o->oldest;
	if (p->id != 0)
		HASH_DELETE(by_id, o->by_id, p);
	if (find_pid(o, p->pid) == p)
		HASH_DELETE(by_pid, o->by_pid, p);
	o->count--;
	process_unref(p->process);
	free(p);
}

struct openers *openers_free(struct openers *o)
{
	if (!o)
		return NULL;
	while (o->oldest)
		forget_oldest(o);
	free(o);
	return NULL;
}

/* Remembers in place of the oldest; the newest of one process is what it runs now. Without memory nothing is remembered. */
static void remember(
	struct openers *o, uint64_t id, const struct process_place *place, struct process *process)
{
	struct opener *p = calloc(1, sizeof(*p)), *before;

	if (!p)
		return;
	p->id = id;
	p->netns = place->netns;
	p->range = place->ephemeral;
	p->pid = (struct pid_key){.start_boot = process->start_boot, .pid = process->pid};
	if (id != 0) {
		HASH_ADD(by_id, o->by_id, id, sizeof(p->id), p);
		if (!p->by_id.tbl) {
			free(p);
			return;
		}
	}
	before = find_pid(o, p->pid);
	if (before)
		HASH_DELETE(by_pid, o->by_pid, before);
	HASH_ADD(by_pid, o->by_pid, pid, sizeof(p->pid), p);
	p->process = process_ref(process);
	*o->newest = p;
	o->newest = &p->next;
	o->count++;
	if (o->count > LIMIT_PROCESS_CACHE)
		forget_oldest(o);
}

/* Before it is asked for elsewhere, where it may be gone. 0 or -ENOMEM. */
static int learn_cgroup(struct openers *o, uint64_t id)
{
	char path[EVENTS_CGROUP_BYTES];

	if (procfs_knows_cgroup(o->procfs, id) || source_events_cgroup(o->events, id, path) < 0)
		return 0;
	return procfs_learn_cgroup(o->procfs, id, path);
}

int openers_find(struct openers *o, uint64_t id, struct process **ret)
{
	_cleanup_(process_unref_p) struct process *process = NULL;
	struct process_place place = {0};
	struct opener *p;
	int r;

	HASH_FIND(by_id, o->by_id, &id, sizeof(id), p);
	if (p) {
		*ret = process_ref(p->process);
		return 0;
	}
	r = source_events_process(o->events, id, &process, &place);
	if (r == 0)
		r = learn_cgroup(o, place.cgroup_id);
	if (r == 0)
		r = procfs_set_cgroup(o->procfs, place.cgroup_id, process);
	if (r < 0)
		return r;
	remember(o, id, &place, process);
	*ret = TAKE_PTR(process);
	return 0;
}

struct port_range openers_range(const struct openers *o, uint64_t id, uint64_t netns)
{
	const struct opener *p;

	HASH_FIND(by_id, o->by_id, &id, sizeof(id), p);
	return p && p->netns == netns ? p->range : (struct port_range){0};
}

int openers_find_pid(struct openers *o, int32_t pid, usec_t start_boot, struct process **ret)
{
	struct opener *p = find_pid(o, (struct pid_key){.start_boot = start_boot, .pid = pid});
	int r;

	if (p) {
		*ret = process_ref(p->process);
		return 0;
	}
	r = procfs_process(o->procfs, pid, start_boot, ret);
	if (r == 0)
		remember(o, 0, &(struct process_place){0}, *ret);
	return r;
}
