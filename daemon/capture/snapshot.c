/* SPDX-License-Identifier: MIT */

/*
 * One pass shows every descriptor of every process that is a socket on a watched port, so what is found is all that there
 * is: nothing is cut off, and a socket that nobody holds is held by nobody. Those of our own namespace are asked for by
 * inode, as the sweep shows them; for those of other namespaces, which no sweep shows, this is the only way to know of
 * one that was open before the first event.
 */

#include "daemon/capture/snapshot.h"

#include "daemon/capture/holders.h"

/* One in another namespace that nobody has told of. */
struct foreign {
	struct event_seen socket;
	struct procfs_wanted holders;
};

struct pass {
	const struct snapshot_options *options;
	struct procfs_wanted *wanted; /* ascending by inode */
	size_t count;
	struct foreign *foreign; /* owned, in the order found */
	size_t foreign_count, foreign_room;
	usec_t begin; /* boottime */
	uint32_t processes;
	int32_t last_pid;
};

static int compare_wanted(const void *a, const void *b)
{
	const struct procfs_wanted *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

/* 0, also where the process has gone; or -ENOMEM. */
static int add_holder(struct pass *p, struct procfs_wanted *w, const struct holder_seen *h)
{
	_cleanup_(process_unref_p) struct process *process = NULL;
	int r = openers_find_pid(p->options->openers, h->pid, h->start_boot, &process);

	if (r == -ENOMEM)
		return r;
	if (r == 0)
		holders_add(w, process);
	return 0;
}

static int found_foreign(struct pass *p, const struct holder_seen *h)
{
	struct foreign *f = NULL;

	if (!p->options->all || table_event_shown(p->options->table, h->socket.cookie, p->begin))
		return 0;
	/* a process has several descriptors of one socket, or its child has the same: not far apart, and few are found at all */
	for (size_t i = p->foreign_count; i > 0 && !f; i--)
		if (p->foreign[i - 1].socket.cookie == h->socket.cookie)
			f = &p->foreign[i - 1];
	if (!f && p->foreign_count == p->foreign_room) {
		size_t room = MAX(2 * p->foreign_room, (size_t)64);

		f = reallocarray(p->foreign, room, sizeof(*f));
		if (!f)
			return -ENOMEM;
		p->foreign = f;
		p->foreign_room = room;
		f = NULL;
	}
	if (!f) {
		f = &p->foreign[p->foreign_count++];
		*f = (struct foreign){.socket = h->socket};
	}
	return add_holder(p, &f->holders, h);
}

static int on_holder(void *context, const struct holder_seen *h)
{
	struct pass *p = context;
	size_t low = 0, high = p->count;

	p->processes += h->pid != p->last_pid;
	p->last_pid = h->pid;
	if (h->socket.netns != p->options->netns)
		return found_foreign(p, h);
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (p->wanted[middle].inode < h->inode)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < p->count && p->wanted[low].inode == h->inode; low++) {
		int r = add_holder(p, &p->wanted[low], h);

		if (r < 0)
			return r;
	}
	return 0;
}

static int ref_of(const struct snapshot_options *o, struct process *p, uint32_t *ret)
{
	int r = refs_get(o->refs, p, ret);

	return r == 1 ? o->introduce(o->context, *ret, p) : r;
}

/* Tells of one. 0, or negative errno. */
static int tell(const struct snapshot_options *o, struct foreign *f, usec_t at)
{
	uint32_t refs[LIMIT_HOLDERS + 1];
	struct table_who who = {.attribution = ATTRIBUTION_NONE};

	holders_put_parent_first(&f->holders);
	for (uint32_t i = 0; i < f->holders.holder_count; i++) {
		int r = ref_of(o, f->holders.holders[i], &refs[i]);

		if (r < 0)
			return r;
	}
	if (f->holders.holder_count > 0)
		who = (struct table_who){
			.attribution = ATTRIBUTION_ITER,
			.opener = refs[0],
			.holders = refs + 1,
			.holder_count = f->holders.holder_count - 1,
			.holders_dropped = f->holders.holders_dropped,
		};
	o->see(o->context, &f->socket,
		f->holders.holder_count > 0 ? f->holders.holders[0]->unit : NULL);
	return table_event_found(o->table, &f->socket, at, o->after, &who, o->emit, o->context);
}

int snapshot_find(void *finder, struct procfs_wanted *wanted, size_t count,
	usec_t budget_usec _unused_, struct procfs_result *ret)
{
	struct pass p = {
		.options = finder, .wanted = wanted, .count = count, .begin = clock_boot()};
	bool told;
	int r;

	for (size_t i = 0; i < count; i++)
		wanted[i] = (struct procfs_wanted){.inode = wanted[i].inode, .uid = wanted[i].uid};
	qsort(wanted, count, sizeof(*wanted), compare_wanted);
	r = source_events_snapshot(p.options->events, on_holder, &p);
	for (size_t i = 0; i < count; i++) {
		holders_put_parent_first(&wanted[i]);
		wanted[i].settled = true;
		if (r < 0)
			holders_forget(&wanted[i]);
	}
	told = r >= 0 && p.options->catch_up(p.options->context);
	for (size_t i = 0; i < p.foreign_count; i++) {
		if (told && r >= 0)
			r = tell(p.options, &p.foreign[i], p.begin);
		holders_forget(&p.foreign[i].holders);
	}
	free(p.foreign);
	if (told && r >= 0)
		r = table_event_missed(p.options->table, p.begin, p.options->untold,
			p.options->emit, p.options->context);
	if (r < 0)
		return r;
	*ret = (struct procfs_result){.processes_read = p.processes, .complete = true};
	return 0;
}

static int remember(void *context, const struct holder_seen *h)
{
	_cleanup_(process_unref_p) struct process *process = NULL;
	int r = openers_find_pid(context, h->pid, h->start_boot, &process);

	return r == -ENOMEM ? r : 0;
}

int snapshot_remember(struct source_events *events, struct openers *openers)
{
	return source_events_snapshot(events, remember, openers);
}
