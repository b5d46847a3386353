/* SPDX-License-Identifier: MIT */

/* The events rung where the program was built without it (meson's feature `bpf`): it cannot be opened, and says so. */

#include "daemon/capture/source_events.h"

#include <stdio.h>

bool source_events_built(void)
{
	return false;
}

int source_events_open(const struct source_events_options *options _unused_,
	struct source_events **ret _unused_, struct events_obstacle *ret_obstacle)
{
	*ret_obstacle = (struct events_obstacle){
		.remedy = "install a portledger that was built with -Dbpf=enabled",
	};
	(void)snprintf(ret_obstacle->reason, sizeof(ret_obstacle->reason),
		"this program was built without kernel events");
	return -ENOSYS;
}

/* Nothing below is ever called with a source: there is none. */

struct source_events *source_events_free(struct source_events *s _unused_)
{
	return NULL;
}

struct events_facts source_events_facts(const struct source_events *s _unused_)
{
	return (struct events_facts){.attached = USEC_UNSET};
}

int source_events_check(const struct source_events *s _unused_)
{
	return 0;
}

size_t source_events_fds(
	const struct source_events *s _unused_, struct events_fd *ret _unused_, size_t max _unused_)
{
	return 0;
}

bool source_events_made(const char *name _unused_)
{
	return false;
}

int source_events_fd(const struct source_events *s _unused_)
{
	return -1;
}

int source_events_read(struct source_events *s _unused_,
	int (*event)(void *context, const struct event_seen *e) _unused_, void *context _unused_)
{
	return 0;
}

uint64_t source_events_position(const struct source_events *s _unused_)
{
	return 0;
}

bool source_events_is_read(const struct source_events *s _unused_)
{
	return true;
}

uint32_t source_events_waiting(const struct source_events *s _unused_)
{
	return 0;
}

void source_events_release(struct source_events *s _unused_, uint64_t position _unused_)
{
}

void source_events_rewind(struct source_events *s _unused_, uint64_t position _unused_)
{
}

struct events_counts source_events_counts(const struct source_events *s _unused_)
{
	return (struct events_counts){0};
}

int source_events_process(struct source_events *s _unused_, uint64_t id _unused_,
	struct process **ret _unused_, struct process_place *ret_place _unused_)
{
	return -ENOENT;
}

int source_events_watch(
	struct source_events *s _unused_, const struct source_events_options *options _unused_)
{
	return -ENOSYS;
}

void source_events_silence(struct source_events *s _unused_)
{
}

int source_events_cgroup(const struct source_events *s _unused_, uint64_t cgroup_id _unused_,
	char path[static EVENTS_CGROUP_BYTES] _unused_)
{
	return -ENOENT;
}

int source_events_snapshot(struct source_events *s _unused_,
	int (*holder)(void *context, const struct holder_seen *h) _unused_, void *context _unused_)
{
	return -ENOSYS;
}
