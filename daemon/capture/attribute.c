/* SPDX-License-Identifier: MIT */

/*
 * One walk over /proc serves all sockets that were seen for the first time in a sweep. What a whole walk has not found
 * is held by nobody that we may see: its owner and cgroup place it. Where the walk did not get through within its
 * budget, what it found so far is told, and the socket is asked for again at the next sweep.
 */

#include "daemon/capture/attribute.h"

#define SOCKETS_AT_ONCE 4096u

static int ref_of(struct attributor *a, struct process *p, uint32_t *ret)
{
	int r = refs_get(a->refs, p, ret);

	return r == 1 ? a->introduce(a->context, *ret, p) : r;
}

static int set_holders(struct attributor *a, struct table_socket *s, const struct procfs_wanted *w)
{
	uint32_t refs[LIMIT_HOLDERS + 1];

	for (uint32_t i = 0; i < w->holder_count; i++) {
		int r = ref_of(a, w->holders[i], &refs[i]);

		if (r < 0)
			return r;
	}
	return table_attribute(a->table, s, ATTRIBUTION_PROCFD, refs[0], refs + 1,
		w->holder_count - 1, w->holders_dropped, w->settled);
}

/* Nobody has it open that we may see. */
static int set_nobody(struct attributor *a, struct table_socket *s)
{
	_cleanup_(process_unref_p) struct process *nobody = NULL;
	uint8_t attribution;
	uint32_t ref;
	int r = procfs_nobody(a->procfs, s->row.uid, s->row.cgroup_id, false, &nobody);

	if (r < 0)
		return r;
	attribution = nobody->cgroup ? ATTRIBUTION_CGROUP : ATTRIBUTION_UID;
	if (kernel_sockets_is_one(a->kernel_sockets, &s->row, nobody->cgroup)) {
		attribution = ATTRIBUTION_KERNEL;
		nobody = process_unref(nobody);
		r = procfs_nobody(a->procfs, s->row.uid, s->row.cgroup_id, true, &nobody);
	}
	if (r == 0)
		r = ref_of(a, nobody, &ref);
	if (r < 0)
		return r;
	return table_attribute(a->table, s, attribution, ref, NULL, 0, 0, true);
}

static void drop_holders(struct procfs_wanted *wanted, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (uint32_t h = 0; h < wanted[i].holder_count; h++)
			process_unref(wanted[i].holders[h]);
}

static const struct procfs_wanted *find_wanted(
	const struct procfs_wanted *wanted, size_t count, uint64_t inode)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (wanted[middle].inode == inode)
			return &wanted[middle];
		if (wanted[middle].inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static int settle(struct attributor *a, struct table_socket **sockets, size_t count,
	const struct procfs_wanted *wanted)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		const struct procfs_wanted *w = find_wanted(wanted, count, sockets[i]->row.inode);

		if (w && w->holder_count > 0)
			r = set_holders(a, sockets[i], w);
		else if (w && w->settled)
			r = set_nobody(a, sockets[i]);
	}
	return r;
}

int attribute(struct attributor *a)
{
	_cleanup_(free_p) struct table_socket **sockets = NULL;
	_cleanup_(free_p) struct procfs_wanted *wanted = NULL;
	struct procfs_result result = {0};
	size_t count;
	int r;

	sockets = reallocarray(NULL, SOCKETS_AT_ONCE, sizeof(struct table_socket *));
	if (!sockets)
		return -ENOMEM;
	count = table_attributable(a->table, sockets, SOCKETS_AT_ONCE);
	if (count == 0)
		return 0;
	wanted = calloc(count, sizeof(*wanted));
	if (!wanted)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		wanted[i].inode = sockets[i]->row.inode;
		wanted[i].uid = sockets[i]->row.uid;
	}
	kernel_sockets_renew(a->kernel_sockets);
	r = procfs_find(a->procfs, wanted, count, a->budget_usec, &result);
	if (r == 0)
		r = settle(a, sockets, count, wanted);
	drop_holders(wanted, count);
	return r;
}
