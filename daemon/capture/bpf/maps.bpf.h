/* SPDX-License-Identifier: MIT */
#pragma once

/* What all programs have in common: the ring, the section that the reader sees, the marks on sockets. */

#include "daemon/capture/bpf/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "daemon/capture/bpf/claims.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024); /* set when loaded */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16384); /* set when loaded */
	__type(key, __u32);
	__type(value, struct process_slot);
} processes SEC(".maps");

struct claims_shared shared; /* the only one in .bss */

/*
 * On a socket whose opening could not be told when it was made: for want of room in the ring, or because the port of a
 * UDP connect is chosen behind the hook. What it says is told by the end.
 */
struct mark {
	struct record_claim6 claim;
	__u8 told; /* it was told after all: the end is an end */
	__u8 earlier; /* a part of it was told before: no claim is lost where the end finds no room either */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mark);
} marks SEC(".maps");

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}
