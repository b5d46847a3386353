/* SPDX-License-Identifier: MIT */

/*
 * A socket names its cgroup by a 64-bit id. Where the path of that is not to be learnt, the owner alone is known. What was
 * learnt is remembered by id, for a unit that stopped is asked for just then: its last sockets outlive its cgroup.
 */

#include "daemon/capture/nobody.h"

#include "common/escape.h"
#include "daemon/capture/cgroup.h"
#include "daemon/capture/unit.h"

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

/* Without padding: it is compared and hashed as bytes. */
struct nobody_key {
	uint64_t cgroup_id;
	uint32_t uid, kernel;
};
_Static_assert(sizeof(struct nobody_key) == 16, "a key has no padding");

struct nobody {
	struct nobody_key key;
	struct process *process; /* one reference */
	UT_hash_handle hh;       /* by key, in the order of arrival */
};

struct nobodies {
	struct cgroups *cgroups; /* owned */
	struct nobody *by_key;
};

struct nobodies *nobodies_new(int proc_fd)
{
	_cleanup_(nobodies_free_p) struct nobodies *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->cgroups = cgroups_new(proc_fd);
	return n->cgroups ? TAKE_PTR(n) : NULL;
}

static void forget(struct nobodies *n, struct nobody *entry)
{
	HASH_DEL(n->by_key, entry);
	process_unref(entry->process);
	free(entry);
}

struct nobodies *nobodies_free(struct nobodies *n)
{
	struct nobody *entry, *next;

	if (!n)
		return NULL;
	HASH_ITER (hh, n->by_key, entry, next)
		forget(n, entry);
	cgroups_free(n->cgroups);
	free(n);
	return NULL;
}

bool nobodies_know_cgroup(const struct nobodies *n, uint64_t cgroup_id)
{
	return cgroups_know(n->cgroups, cgroup_id);
}

int nobodies_learn_cgroup(struct nobodies *n, uint64_t cgroup_id, const char *path)
{
	return cgroups_learn(n->cgroups, cgroup_id, path);
}

int nobodies_set_cgroup(struct nobodies *n, uint64_t cgroup_id, struct process *p)
{
	_cleanup_(free_p) char *unit = NULL;
	const char *cgroup;
	int e = cgroups_path(n->cgroups, cgroup_id, p->pid, &cgroup);

	if (e < 0 || !cgroup)
		return e;
	p->cgroup = escape_store(cgroup, strlen(cgroup), LIMIT_STRING_BYTES);
	if (!p->cgroup)
		return -ENOMEM;
	if (unit_of_cgroup(cgroup, &unit) < 0)
		return -ENOMEM;
	if (!unit)
		return 0;
	p->unit = escape_store(unit, strlen(unit), LIMIT_STRING_BYTES);
	return p->unit ? 0 : -ENOMEM;
}

/* From what is remembered of the cgroup itself, for sockets of several owners. 0 or -ENOMEM. */
static int copy_cgroup(struct nobodies *n, uint64_t cgroup_id, struct process *p)
{
	_cleanup_(process_unref_p) struct process *cgroup = NULL;
	int e = nobodies_find(n, UID_UNSET, cgroup_id, false, &cgroup);

	if (e < 0)
		return e;
	p->cgroup = cgroup->cgroup ? strdup(cgroup->cgroup) : NULL;
	p->unit = cgroup->unit ? strdup(cgroup->unit) : NULL;
	return (cgroup->cgroup && !p->cgroup) || (cgroup->unit && !p->unit) ? -ENOMEM : 0;
}

/* Remembers in place of the oldest. 0 or -ENOMEM. */
static int remember(struct nobodies *n, const struct nobody_key *key, struct process *p)
{
	_cleanup_(free_p) struct nobody *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	if (HASH_COUNT(n->by_key) >= LIMIT_CGROUP_CACHE)
		forget(n, n->by_key);
	entry->key = *key;
	HASH_ADD(hh, n->by_key, key, sizeof(entry->key), entry);
	if (!entry->hh.tbl)
		return -ENOMEM;
	entry->process = process_ref(p);
	TAKE_PTR(entry);
	return 0;
}

int nobodies_find(
	struct nobodies *n, uint32_t uid, uint64_t cgroup_id, bool kernel, struct process **ret)
{
	struct nobody_key key = {.cgroup_id = cgroup_id, .uid = uid, .kernel = kernel};
	_cleanup_(process_unref_p) struct process *p = NULL;
	struct nobody *entry;
	int e;

	HASH_FIND(hh, n->by_key, &key, sizeof(key), entry);
	if (entry) {
		*ret = process_ref(entry->process);
		return 0;
	}
	p = process_new();
	if (!p)
		return -ENOMEM;
	p->uid = uid;
	if (cgroup_id != 0 && !kernel) {
		e = uid == UID_UNSET ? nobodies_set_cgroup(n, cgroup_id, p)
				     : copy_cgroup(n, cgroup_id, p);
		if (e < 0)
			return e;
	}
	e = remember(n, &key, p);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(p);
	return 0;
}
