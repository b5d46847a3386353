/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where: a cgroup is a number, too, and may live for less time than the reader waits. So its path is put down beside the
 * first process of it that is (process.bpf.h): that costs nothing to a claim of a process that is known, and what is
 * told of has a path whenever its cgroup was made. The tree is that of cgroup2, where nothing is ever renamed.
 *
 * Why not when it is made (tp_btf/cgroup_mkdir): most cgroups never claim a port, those that were there before would have to be found
 * otherwise, and a program for it hears those of the whole host, also in a container, which has another root.
 */

#include "daemon/capture/bpf/maps.bpf.h"

#define CGROUP_STEPS    64
#define CGROUP_NAME_MAX 256 /* NAME_MAX, with its NUL */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096); /* set when loaded */
	__type(key, __u64);
	__type(value, struct cgroup_path);
} cgroups SEC(".maps");

/* Where one is built, with room for a last name that is too long. */
struct cgroup_bench {
	struct cgroup_path path;
	char beyond[CGROUP_NAME_MAX];
	__u32 busy;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_bench);
} cgroup_benches SEC(".maps");

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	struct kernfs_node___before *before = (void *)node;

	return bpf_core_field_exists(node->__parent) ? BPF_CORE_READ(node, __parent)
						     : BPF_CORE_READ(before, parent);
}

struct ascent {
	struct cgroup_path *path;
	struct kernfs_node *node;
};

/* One step up, for bpf_loop(): 0 to go on, 1 at the root, or where it cannot be told. */
static long ascend(__u32 step, void *context)
{
	struct ascent *a = context;
	struct cgroup_path *path = a->path;
	struct kernfs_node *node = a->node;
	__u64 used = path->bytes;
	long size;

	(void)step;
	if (!node)
		return 1; /* beside the root that the reader sees */
	if (BPF_CORE_READ(node, id) == shared.config.cgroup_root) {
		path->whole = 1;
		return 1;
	}
	barrier_var(used); /* what was compared is what is used */
	if (used >= CGROUP_PATH_BYTES)
		return 1;
	size = bpf_probe_read_kernel_str(
		path->names + used, CGROUP_NAME_MAX, BPF_CORE_READ(node, name));
	if (size <= 1)
		return 1;
	path->bytes = (__u16)(used + (__u32)size);
	a->node = parent_of(node);
	return 0;
}

/* Puts down the path of a cgroup, if it is not there. */
static __noinline void tell_cgroup(struct kernfs_node *node, __u64 id)
{
	struct cgroup_bench *bench;
	struct ascent a = {.node = node};
	__u32 index = 0;

	if (bpf_map_lookup_elem(&cgroups, &id))
		return;
	bench = bpf_map_lookup_elem(&cgroup_benches, &index);
	/* somebody on this processor was interrupted at it: the next process will */
	if (!bench || __sync_val_compare_and_swap(&bench->busy, 0, 1) != 0)
		return;
	bench->path.id = id;
	bench->path.bytes = 0;
	bench->path.whole = 0;
	a.path = &bench->path;
	(void)bpf_loop(CGROUP_STEPS, ascend, &a, 0);
	if (bench->path.bytes > CGROUP_PATH_BYTES)
		bench->path.whole = 0;
	(void)bpf_map_update_elem(&cgroups, &id, &bench->path, BPF_ANY);
	__sync_lock_test_and_set(&bench->busy, 0);
}
