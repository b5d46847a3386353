/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who: a process in a claim is a number. Its details stand once, in a slot, where the reader finds them without a system
 * call; so the record of a claim is small, and the path of the executable is walked once per process and not per claim.
 *
 * An identity that was not seen before (or whose slot another process has taken since) gets a new number. It changes with
 * everything that a slot says and that a process can change: by exec, by setuid, by a move to another cgroup, by a
 * new name of the process. The parent is that of the time when the slot was written.
 */

#include "daemon/capture/bpf/cgroup.bpf.h"

/* The namespaces of pids are nested at most so deep (MAX_PID_NS_LEVEL). */
#define PID_LEVELS            33
#define INITIAL_PID_NAMESPACE 0xeffffffcu /* PROC_PID_INIT_INO */
/* Parts of a path, with the mounts that are crossed on the way up. */
#define EXE_STEPS 64

struct identity {
	__u64 start;
	__u64 exec;
	__u64 cgroup_id;
	__u32 tgid;
	__u32 euid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384); /* as many as slots; set when loaded */
	__type(key, struct identity);
	__type(value, __u64);
} identities SEC(".maps");

static __always_inline __u64 cgroup_of_task(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

/* Where a walk up to the root stands. What the verifier must not take for known, since it looks at a step only once, is in the slot. */
struct walk {
	struct process_slot *slot;
	struct dentry *dentry;
	struct mount *mount;
};

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((char *)mnt - bpf_core_field_offset(struct mount, mnt));
}

/* Appends a name. False: no room. */
static __always_inline bool append_name(struct process_slot *slot, struct dentry *dentry)
{
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u64 used = slot->exe_bytes;
	long size;

	/* The verifier wants a size that fits wherever it begins. That of 6.1 forgets what was compared if it is read again. */
	barrier_var(used);
	if (used <= SLOT_EXE_BYTES - 256)
		size = bpf_probe_read_kernel_str(slot->exe + used, 256, name);
	else if (used <= SLOT_EXE_BYTES - 32)
		size = bpf_probe_read_kernel_str(slot->exe + used, 32, name);
	else
		return false;
	if (size <= 1 || size != (long)BPF_CORE_READ(dentry, d_name.len) + 1)
		return false;
	slot->exe_bytes = (__u16)(used + (__u32)size);
	return true;
}

/* One step up, for bpf_loop(): 0 to go on, 1 at the root, or where it cannot be told. */
static long step_up(__u32 step, void *context)
{
	struct walk *w = context;
	struct dentry *dentry = w->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = w->mount, *above;

	(void)step;
	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		above = BPF_CORE_READ(mount, mnt_parent);
		w->slot->exe_whole = above == mount;
		w->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		w->mount = above;
		return above == mount;
	}
	if (!append_name(w->slot, dentry))
		return 1;
	w->slot->exe_whole = parent == dentry; /* memfd: a name below nothing */
	w->dentry = parent;
	return parent == dentry;
}

static __always_inline void write_exe(struct process_slot *slot, struct task_struct *task)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct walk w = {.slot = slot};

	slot->exe_bytes = 0;
	slot->exe_nameless = 0;
	slot->exe_whole = 0;
	if (!file)
		return;
	w.dentry = BPF_CORE_READ(file, f_path.dentry);
	w.mount = mount_of(BPF_CORE_READ(file, f_path.mnt));
	slot->exe_nameless = BPF_CORE_READ(file, f_inode, i_nlink) == 0;
	(void)bpf_loop(EXE_STEPS, step_up, &w, 0);
	if (!slot->exe_whole)
		slot->exe_bytes = 0;
}

/* Where a step of find_pid() puts what it has found: the verifier must not take it for known. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} found_pid SEC(".maps");

struct numbers {
	struct pid *pid;
	__u32 *found;
};

/* For bpf_loop(): is it the number of this level that the reader knows? */
static long find_pid(__u32 level, void *context)
{
	struct numbers *n = context;
	struct pid *pid = n->pid; /* the macro would look for ours in the kernel */
	const char *numbers = (const char *)pid + bpf_core_field_offset(struct pid, numbers);
	const struct upid *number =
		(const void *)(numbers + level * bpf_core_type_size(struct upid));

	if (level > BPF_CORE_READ(pid, level))
		return 1;
	if (BPF_CORE_READ(number, ns, ns.inum) != shared.config.pid_namespace)
		return 0;
	*n->found = (__u32)BPF_CORE_READ(number, nr);
	return 1;
}

/* The pid of a process, by its first thread, in the namespace of who reads; 0: it has none there. */
static __noinline __u32 pid_of(struct task_struct *leader)
{
	struct numbers n = {.pid = BPF_CORE_READ(leader, thread_pid)};
	__u32 index = 0;

	if (shared.config.pid_namespace == INITIAL_PID_NAMESPACE)
		return (__u32)BPF_CORE_READ(leader, tgid);
	n.found = bpf_map_lookup_elem(&found_pid, &index);
	if (!n.found)
		return 0;
	*n.found = 0;
	(void)bpf_loop(PID_LEVELS, find_pid, &n, 0);
	return *n.found;
}

/* What a namespace that the verifier knows hands out: low | high << 16. */
static __always_inline __u32 kernel_range(const struct net *net)
{
	if (bpf_core_field_exists(net->ipv4.ip_local_ports.range)) {
		return net->ipv4.ip_local_ports.range;
	} else {
		const struct net___pair *pair = (const void *)net;

		return (__u32)pair->ipv4.ip_local_ports.range[0] |
		       (__u32)pair->ipv4.ip_local_ports.range[1] << RANGE_HIGH_SHIFT;
	}
}

/* The same of any pointer; 0 where it cannot be read. */
static __always_inline __u32 kernel_range_probed(const struct net *net)
{
	const struct net___pair *pair = (const void *)net;
	__u32 range[2];

	if (bpf_core_field_exists(net->ipv4.ip_local_ports.range))
		return BPF_CORE_READ(net, ipv4.ip_local_ports.range);
	if (bpf_core_read(range, sizeof(range), &pair->ipv4.ip_local_ports.range) < 0)
		return 0;
	return range[0] | range[1] << RANGE_HIGH_SHIFT;
}

/*
 * By guarded reads, although the verifier knows the task: it looks for the name of each type that it is led through in all of the
 * kernel's, and in each program again, which was half of what it cost to start.
 */
static __always_inline void write_slot(
	struct process_slot *slot, struct task_struct *task, const struct identity *key)
{
	struct task_struct *parent = BPF_CORE_READ(task, group_leader, real_parent, group_leader);
	struct nsproxy *namespaces = BPF_CORE_READ(task, nsproxy);
	struct net *net = BPF_CORE_READ(namespaces, net_ns);

	slot->start = key->start;
	slot->cgroup_id = key->cgroup_id;
	slot->pid = pid_of(task->group_leader);
	slot->euid = key->euid;
	slot->parent_pid = pid_of(parent);
	__builtin_memcpy(slot->comm, key->comm, sizeof(slot->comm));
	BPF_CORE_READ_INTO(&slot->parent_comm, parent, comm);
	/* the first thread may have ended before the others: it has neither */
	slot->mount_namespace = BPF_CORE_READ(namespaces, mnt_ns, ns.inum);
	slot->netns = BPF_CORE_READ(net, net_cookie);
	slot->netns_range = kernel_range_probed(net);
	write_exe(slot, task);
}

/*
 * Where the ring is full, who claims now is not told, and must not take the slot of those who wait there: with a reader that
 * stood still for two seconds, 735 of 1,794 claims that were told had lost their process to claims that were not.
 */
static __always_inline bool ring_is_full(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) + sizeof(struct record_whole6) +
		       BPF_RINGBUF_HDR_SZ >
	       4ull * shared.config.ring_quarter;
}

/* A new number for who is not known yet. 0: nobody can be told. */
static __noinline __u64 new_process(const struct identity *key)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process_slot *slot;
	__u32 index;
	__u64 id;

	if (ring_is_full())
		return 0;
	id = __sync_fetch_and_add(&shared.counters.processes, 1) + 1;
	index = (__u32)id & (shared.config.slots - 1);
	slot = bpf_map_lookup_elem(&processes, &index);
	/* Its writer was interrupted for as long as all the others took to be written. */
	if (!slot || __sync_val_compare_and_swap(&slot->writer, 0, id) != 0)
		return 0;
	__sync_lock_test_and_set(&slot->id, 0);
	write_slot(slot, task, key);
	__sync_lock_test_and_set(&slot->id, id);
	__sync_lock_test_and_set(&slot->writer, 0);
	tell_cgroup(BPF_CORE_READ(task, cgroups, dfl_cgrp, kn), key->cgroup_id);
	bpf_map_update_elem(&identities, key, &id, BPF_ANY);
	return id;
}

/* The number of the process that runs. 0: a thread of the kernel. */
__noinline __u64 current_process(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct identity key = {
		.start = leader->start_boottime,
		.exec = leader->self_exec_id,
		.cgroup_id = cgroup_of_task(task),
		.tgid = (__u32)task->tgid,
		.euid = task->cred->euid.val,
	};
	struct process_slot *slot;
	__u64 *id;
	__u32 index;

	if (task->flags & PF_KTHREAD)
		return 0;
	__builtin_memcpy(key.comm, leader->comm, sizeof(key.comm));
	id = bpf_map_lookup_elem(&identities, &key);
	if (id) {
		index = (__u32)*id & (shared.config.slots - 1);
		slot = bpf_map_lookup_elem(&processes, &index);
		if (slot && slot->id == *id)
			return *id;
	}
	return new_process(&key);
}
