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

/*
 * The marks of UDP connects, where one has the place that its cookie leads to: storage on the socket takes longer to be made and
 * to be freed than everything else together. A place is given back by the end of its socket.
 */
#define CONNECTED_PLACES 8192u

struct connected {
	__u64 cookie; /* 0: nobody's */
	struct mark mark;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CONNECTED_PLACES);
	__type(key, __u32);
	__type(value, struct connected);
} connected SEC(".maps");

/* A bind or connect that is under way, by thread; for the exit of the system call. */
struct attempt {
	struct record_claim6 claim;
	struct sock *sk; /* may be gone by then */
	__u32 role;      /* which of the two */
	__u32 claims;    /* if it succeeds it is a claim that was not told: UDP gets a port by it */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); /* the exit is not seen where io_uring made the call */
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct attempt);
} attempts SEC(".maps");

/* UDP connects that were told at the exit of the system call, where no mark can be found: cookie to port. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u16);
} connects SEC(".maps");

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}
