/* SPDX-License-Identifier: MIT */

/*
 * One walk over /proc, or one snapshot, serves all sockets that were seen for the first time in a sweep. What a whole walk has not found
 * is held by nobody that we may see: its owner and cgroup place it. Where the walk did not get through within its
 * budget, what it found so far is told, and the socket is asked for again at the next sweep.
 *
 * While at it, the walk also tells who has the listening and bound sockets open by now that are known already: a server
 * forks its workers after it listens. No walk is made for that alone.
 */

#include "daemon/capture/attribute.h"

/* A walk costs by the descriptors that there are, not by those that are wanted: better one for all. 10 MB while it
 * lasts; with 4096 at once, 49,500 new sockets took 13 walks and half a minute, with all at once two. */
#define SOCKETS_AT_ONCE 65536u
#define UNHELD_AT_ONCE  512u
#define SHARED_AT_ONCE  256u /* known sockets whose holders are looked at again in the same walk */

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
	return table_attribute(a->table, s, a->find ? ATTRIBUTION_ITER : ATTRIBUTION_PROCFD,
		refs[0], refs + 1, w->holder_count - 1, w->holders_dropped, w->settled);
}

/* Its opener is known and stays; who else has it open now? */
static int set_further(struct attributor *a, struct table_socket *s, const struct procfs_wanted *w)
{
	uint32_t refs[LIMIT_HOLDERS], count = 0, dropped = w->holders_dropped;

	for (uint32_t i = 0; i < w->holder_count; i++) {
		uint32_t ref;
		int r = ref_of(a, w->holders[i], &ref);

		if (r < 0)
			return r;
		if (ref != s->opener && count < LIMIT_HOLDERS)
			refs[count++] = ref;
		else if (ref != s->opener)
			dropped++;
	}
	return table_attribute(a->table, s, s->attribution, s->opener, refs, count, dropped, true);
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

/* It has no inode, thus no owner to read; its cgroup is where it was made. An accepted one gets its holder later. */
static int place(struct attributor *a, struct table_socket *s)
{
	_cleanup_(process_unref_p) struct process *nobody = NULL;
	uint32_t ref;
	int r = procfs_nobody(a->procfs, UID_UNSET, s->row.cgroup_id, false, &nobody);

	if (r < 0 || !nobody->cgroup)
		return r;
	r = ref_of(a, nobody, &ref);
	return r < 0 ? r : table_attribute(a->table, s, ATTRIBUTION_CGROUP, ref, NULL, 0, 0, false);
}

static int place_unheld(struct attributor *a)
{
	struct table_socket *sockets[UNHELD_AT_ONCE];
	size_t count = table_unheld(a->table, sockets, ELEMENTSOF(sockets));
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = place(a, sockets[i]);
	return r;
}

static void drop_holders(struct procfs_wanted *wanted, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (uint32_t h = 0; h < wanted[i].holder_count; h++)
			process_unref(wanted[i].holders[h]);
}

static int compare_wanted(const void *a, const void *b)
{
	const struct procfs_wanted *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* 0: settled, 1: ask again, or negative errno. */
static int settle(struct attributor *a, struct table_socket *s, const struct procfs_wanted *w)
{
	int r = 0;

	if (w->holder_count > 0)
		r = s->opener != 0 && !s->wants_holder ? set_further(a, s, w)
						       : set_holders(a, s, w);
	else if (w->settled && s->wants_holder)
		r = set_nobody(a, s);
	return r < 0 ? r : !w->settled && s->wants_holder;
}

static int settle_all(struct attributor *a, struct table_socket **sockets, size_t count,
	const struct procfs_wanted *wanted)
{
	int again = 0;

	for (size_t i = 0; i < count; i++) {
		const struct procfs_wanted key = {.inode = sockets[i]->row.inode};
		const struct procfs_wanted *w =
			bsearch(&key, wanted, count, sizeof(*wanted), compare_wanted);
		int r = w ? settle(a, sockets[i], w) : 0;

		if (r < 0)
			return r;
		again |= r;
	}
	return again;
}

static int find(const struct attributor *a, struct procfs_wanted *wanted, size_t count)
{
	struct procfs_result result = {0};

	return a->find ? a->find(a->finder, wanted, count, a->budget_usec, &result)
		       : procfs_find(a->procfs, wanted, count, a->budget_usec, &result);
}

int attribute(struct attributor *a)
{
	_cleanup_(free_p) struct table_socket **sockets = NULL;
	_cleanup_(free_p) struct procfs_wanted *wanted = NULL;
	size_t count;
	bool more;
	int r = place_unheld(a);

	if (r < 0)
		return r;
	sockets = reallocarray(NULL, SOCKETS_AT_ONCE + SHARED_AT_ONCE, sizeof(*sockets));
	if (!sockets)
		return -ENOMEM;
	count = table_attributable(a->table, sockets, SOCKETS_AT_ONCE);
	if (count == 0 && !a->always)
		return 0;
	more = count == SOCKETS_AT_ONCE;
	count += table_shared(a->table, sockets + count, SHARED_AT_ONCE);
	wanted = calloc(count + 1, sizeof(*wanted));
	if (!wanted)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		wanted[i].inode = sockets[i]->row.inode;
		wanted[i].uid = sockets[i]->row.uid;
	}
	kernel_sockets_renew(a->kernel_sockets);
	r = find(a, wanted, count);
	if (r == 0)
		r = settle_all(a, sockets, count, wanted);
	drop_holders(wanted, count);
	return r == 0 ? more : r;
}
