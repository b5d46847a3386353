/* SPDX-License-Identifier: MIT */
#pragma once

/* Records into the ring: each as long as it must be. All return false where there is no room. */

#include "daemon/capture/bpf/maps.bpf.h"

/* So long the reader is woken with each record, since one may be overtaken by that of another processor. */
#define WAKE_BYTES 1024u

/*
 * What costs is not the record but waking the reader: so nobody is woken below a quarter full (a timer drains), and
 * beyond only about where another quarter begins, since a reader that waits for the disk leaves everything where it is.
 */
static __always_inline __u64 wake(void)
{
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	__u32 quarter = shared.config.ring_quarter;

	return waiting >= quarter && (waiting & (quarter - 1)) < WAKE_BYTES ? BPF_RB_FORCE_WAKEUP
									    : BPF_RB_NO_WAKEUP;
}

static __always_inline bool put_release(__u64 head, __u64 cookie)
{
	struct record_release *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r)
		return false;
	r->head = head;
	r->cookie = cookie;
	bpf_ringbuf_submit(r, wake());
	return true;
}

static __always_inline bool put_holder(__u64 head, __u64 cookie, __u64 who)
{
	struct record_holder *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r)
		return false;
	r->head = head;
	r->cookie = cookie;
	r->who = who;
	bpf_ringbuf_submit(r, wake());
	return true;
}

static __always_inline void copy4(struct record_claim4 *to, const struct record_claim6 *c)
{
	to->head = c->head;
	to->cookie = c->cookie;
	to->who = c->who;
	to->netns = c->netns;
	to->netns_inode = c->netns_inode;
	to->local_port = c->local_port;
	to->remote_port = c->remote_port;
	to->local = c->local[0];
	to->remote = c->remote[0];
}

static __noinline bool put_claim(const struct record_claim6 *c)
{
	if (c->head & HEAD_IPV6) {
		struct record_claim6 *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

		if (!r)
			return false;
		*r = *c;
		bpf_ringbuf_submit(r, wake());
	} else {
		struct record_claim4 *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

		if (!r)
			return false;
		copy4(r, c);
		bpf_ringbuf_submit(r, wake());
	}
	return true;
}

static __noinline bool put_whole(const struct record_claim6 *c, __u64 closed)
{
	__u64 head = (c->head & ~(__u64)HEAD_KIND) | RECORD_WHOLE;

	if (c->head & HEAD_IPV6) {
		struct record_whole6 *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

		if (!r)
			return false;
		r->claim = *c;
		r->claim.head = head;
		r->closed = closed;
		bpf_ringbuf_submit(r, wake());
	} else {
		struct record_whole4 *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

		if (!r)
			return false;
		copy4(&r->claim, c);
		r->claim.head = head;
		r->closed = closed;
		bpf_ringbuf_submit(r, wake());
	}
	return true;
}
