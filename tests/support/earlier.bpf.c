/* SPDX-License-Identifier: MIT */

/* The kernel side of another version of this program, for the test of upgrades: it has a program more, which the present one does not
 * know. */

#include "daemon/capture/bpf/claims.bpf.c"

SEC("cgroup/getpeername4")
int on_getpeername4(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return 1;
}
