/* SPDX-License-Identifier: MIT */

/*
 * The words and the ownership of claims. A process is shared: one that opens ten thousand sockets
 * is in memory once, and the claims, the capture cache and the ledger each hold a reference. It
 * never changes once it is shared, so nobody needs a copy.
 *
 * The names are a contract with every reader of the wire and of the views. The values come from
 * decoders that have checked them (stream, store), so one without a name is a bug of ours.
 */

#include "common/claim.h"

static const char *const protocol_names[PROTOCOL_COUNT] = {
	[PROTOCOL_TCP] = "tcp",
	[PROTOCOL_UDP] = "udp",
	[PROTOCOL_UDPLITE] = "udplite",
	[PROTOCOL_MPTCP] = "mptcp",
};

static const char *const role_names[ROLE_COUNT] = {
	[ROLE_CONNECTED] = "connected",
	[ROLE_LISTENING] = "listening",
	[ROLE_BOUND] = "bound",
	[ROLE_ACCEPTED] = "accepted",
};

static const char *const attribution_names[ATTRIBUTION_COUNT] = {
	[ATTRIBUTION_NONE] = "none",
	[ATTRIBUTION_EVENT] = "event",
	[ATTRIBUTION_ITER] = "iter",
	[ATTRIBUTION_PROCFD] = "procfd",
	[ATTRIBUTION_CGROUP] = "cgroup",
	[ATTRIBUTION_UID] = "uid",
	[ATTRIBUTION_KERNEL] = "kernel",
};

static const char *const source_names[SOURCE_COUNT] = {
	[SOURCE_SWEEP] = "sweep",
	[SOURCE_DESTROY] = "destroy",
	[SOURCE_EVENTS] = "events",
	[SOURCE_PROCNET] = "procnet",
};

static const char *name_of(const char *const names[], size_t count, size_t value)
{
	assert(value < count);
	return names[value];
}

/* The index of `name`, or -EINVAL. */
static int value_of(const char *const names[], size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (names[i] && streq(names[i], name))
			return (int)i;
	return -EINVAL;
}

const char *protocol_name(enum protocol p)
{
	return name_of(protocol_names, ELEMENTSOF(protocol_names), p);
}

const char *role_name(enum role r)
{
	return name_of(role_names, ELEMENTSOF(role_names), r);
}

const char *attribution_name(enum attribution a)
{
	return name_of(attribution_names, ELEMENTSOF(attribution_names), a);
}

const char *source_name(enum source s)
{
	return name_of(source_names, ELEMENTSOF(source_names), s);
}

int protocol_from_name(const char *name, enum protocol *ret)
{
	int value = value_of(protocol_names, ELEMENTSOF(protocol_names), name);

	if (value < 0)
		return value;
	*ret = (enum protocol)value;
	return 0;
}

int role_from_name(const char *name, enum role *ret)
{
	int value = value_of(role_names, ELEMENTSOF(role_names), name);

	if (value < 0)
		return value;
	*ret = (enum role)value;
	return 0;
}

const char *exe_note_name(enum exe_note n)
{
	switch (n) {
	case EXE_NOTE_NONE:
		return NULL;
	case EXE_NOTE_DELETED:
		return "deleted";
	case EXE_NOTE_MEMFD:
		return "memfd";
	case EXE_NOTE_OTHER_NAMESPACE:
		return "other-mount-namespace";
	}
	return NULL;
}

struct process *process_new(void)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->references = 1;
	p->start_boot = USEC_UNSET;
	p->uid = UID_UNSET;
	return p;
}

struct process *process_ref(struct process *p)
{
	assert(p->references > 0 && p->references < UINT32_MAX);
	p->references++;
	return p;
}

struct process *process_unref(struct process *p)
{
	if (!p)
		return NULL;
	assert(p->references > 0);
	if (--p->references > 0)
		return NULL;
	free(p->comm);
	free(p->exe);
	free(p->cgroup);
	free(p->unit);
	free(p->parent_comm);
	free(p);
	return NULL;
}

void claim_done(struct claim *c)
{
	for (uint32_t i = 0; i < c->holder_count; i++)
		process_unref(c->holders[i].process);
	free(c->holders);
	c->holders = NULL;
	c->holder_count = 0;
	c->opener = process_unref(c->opener);
}
